"""Jukebox: one device's songs, the playlists it has made lately, and what feedback has taught it.

Songs are the bundled ones and the person's own, which lie in Home. Taste and playlists are documents in the encrypted diary,
read anew in each call, since an import may have brought others, and written before it returns, so that feedback to a playlist
of yesterday is understood today. What is damaged is set aside and told of: no song is worth a diary that cannot be opened.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from client.diary.diary import Diary, Entry, NoEntry
from client.diary.made_playlists import DOCUMENT as PLAYLISTS
from client.diary.made_playlists import EVEN, Made, document_of, made_of, without_entry
from client.music.gentle_songs import gentle_songs, recommended
from client.music.listens import heard_in_emotions, read_listens
from client.music.own_songs import OwnSongs
from client.music.playlist import Playlist, Song
from client.music.recommender import Event, Mode, Recommendation, Recommender, Taste
from client.reading.insights import feeling
from model.emotions import EMOTIONS, Emotion
from model.refusal import Refusal

__all__ = ["EVEN", "Jukebox", "Made", "NoSuchPlaylist", "NoSuchSong", "felt", "music_faults", "only"]

MOST_PLAYLISTS = 50
TASTE = "taste"

_Meaning = TypeVar("_Meaning")


class NoSuchSong(Refusal):
    """No song of this device has that key."""


class NoSuchPlaylist(Refusal):
    """The playlist was never made, or is older than those that are kept."""


class Jukebox:
    """Recommends, learns, remembers its playlists, takes in songs and listens; one call at a time."""

    def __init__(self, diary: Diary, songs: Sequence[Song], folder: Path) -> None:
        self._diary = diary
        self._gentle = gentle_songs()
        self._bundled = {song.key: song for song in songs}
        self._own = OwnSongs(folder)
        self._own.sweep()
        self._rng = np.random.default_rng()
        self._turn = threading.RLock()
        self._known: tuple[str, Taste] = ("", Taste())  # a document, and what it says
        self._songs: dict[str, Song] = {}
        self._set_aside = _set_aside(diary)
        with self._turn:
            self._look_again()
            self._read_playlists()

    @property
    def faults(self) -> tuple[str, ...]:
        """One sentence for each thing of the person's music that cannot be used."""
        return (*self._own.faults, *self._set_aside)

    def find(self, words: str, limit: int) -> tuple[list[Song], int]:
        """Songs whose title, artist or tag holds the words, and how many there are in all."""
        with self._turn:
            self._look_for_songs()
        wanted = words.casefold().split()
        found = [song for song in self._songs.values() if all(word in _described(song) for word in wanted)]
        return found[:limit], len(found)

    def recommend(self, mood: Sequence[float], *, mode: str, count: int, entry: int | None = None) -> tuple[str, list[Recommendation]]:
        """Songs for a mood, and the id of the playlist that they make; ``entry`` if the mood is an entry's."""
        with self._turn:
            self._look_again()
            chosen = self._recommender.recommend(mood, mode=Mode(mode), count=count, rng=self._rng)
            made = self._make(chosen, mode, mood, entry)
            if entry is not None:
                self._require_not_forgotten(entry)
        return made.id, chosen

    def gentle(self, count: int) -> tuple[str, list[Recommendation]]:
        """Up to ``count`` of the gentle songs, whatever the mood, and their playlist's id; none that the person dislikes."""
        with self._turn:
            self._look_again()
            heard = self._recommender.taste.songs
            liked = [song for song in self._gentle if song.key not in heard or not heard[song.key].disliked]
            chosen = [recommended(song) for song in liked[:count]]
            return self._make(chosen, Mode.CALM.value, EVEN, None).id, chosen

    def _make(self, chosen: Sequence[Recommendation], mode: str, mood: Sequence[float], entry: int | None) -> Made:
        """Remember a playlist."""
        made = Made(id=secrets.token_urlsafe(9), mode=mode, mood=tuple(mood), songs=tuple(one.song.key for one in chosen), entry=entry)
        self._read_playlists()
        self._diary.revise(PLAYLISTS, lambda document: document_of([*made_of(document), made][-MOST_PLAYLISTS:]))
        return made

    def made(self, id: str) -> Made:
        """The playlist of this id; :class:`NoSuchPlaylist` if it is not kept."""
        with self._turn:
            for made in self._read_playlists():
                if made.id == id:
                    return made
        raise NoSuchPlaylist(f"there is no playlist of that id among the last {MOST_PLAYLISTS}; ask for recommendations anew")

    def playlist(self, id: str) -> Playlist:
        """The same with its songs, for export; songs that have left the catalogue are left out."""
        made = self.made(id)
        return Playlist(f"FeelingHealing ({made.mode})", tuple(self._songs[key] for key in made.songs if key in self._songs))

    def learn(self, song: str, event: str, mood: Sequence[float]) -> None:
        """Take in what became of a song, heard in this mood."""
        with self._turn:
            self._look_again()
            if song not in self._songs:
                raise NoSuchSong("no song of this device has that key; look it up with GET /v1/songs")
            self._teach(lambda: self._recommender.learn(song, Event(event), mood))

    def take_back_like(self, song: str) -> None:
        """Unlearn that a song was liked; :class:`NoSuchLike` if it was not, or too long ago."""
        with self._turn:
            self._look_again()
            self._teach(lambda: self._recommender.take_back_like(song))

    def hear(self, file: BinaryIO) -> tuple[int, int]:
        """Take in a listening history: how many listens were of songs known here, and how many were not."""
        listens = read_listens(file, now=datetime.now(UTC))
        heard = heard_in_emotions(listens, tuple(self._songs.values()), _moods_by_day(self._diary))
        with self._turn:
            self._look_again()
            self._teach(lambda: self._recommender.remember(heard.songs))
        return heard.matched, heard.listens - heard.matched

    def take_in(self, file: BinaryIO) -> tuple[int, int]:
        """Keep a person's own catalogue (CSV, JSPF, XSPF or M3U8); how many songs it holds, and how many rows were left out."""
        catalogue = self._own.take_in(file)  # without the turn: a file arrives as slowly as it likes
        with self._turn:
            self._look_for_songs()
        return len(catalogue.songs), len(catalogue.bad_rows)

    def _look_again(self) -> None:
        """See what others have changed: the files of songs, and the taste."""
        self._look_for_songs()
        self._recommender.taste = self._read(TASTE, self._taste_in)

    def _look_for_songs(self) -> None:
        if self._own.look() or not self._songs:
            own = {song.key: _completed(song, self._bundled.get(song.key)) for song in self._own.songs}
            self._songs = {**self._bundled, **own}
            self._recommender = Recommender(tuple(self._songs.values()), self._known[1])

    def _teach(self, lesson: Callable[[], None]) -> None:
        """One transaction from the taste that is kept to the next, or none if the lesson is refused."""
        self._diary.revise(TASTE, lambda document: self._taught(document, lesson))

    def _taught(self, document: str | None, lesson: Callable[[], None]) -> str:
        self._recommender.taste = self._taste_in(document)
        lesson()
        self._known = self._recommender.taste.to_json(), self._recommender.taste
        return self._known[0]

    def _taste_in(self, document: str | None) -> Taste:
        """What a document says; the last one is not read twice, which would take longer than all else."""
        if document is None:
            return Taste()
        if document != self._known[0]:
            self._known = document, Taste.from_json(document)
        return self._known[1]

    def _read_playlists(self) -> list[Made]:
        return self._read(PLAYLISTS, made_of)

    def _read(self, name: str, meaning: Callable[[str | None], _Meaning]) -> _Meaning:
        """What the document of this name means; a damaged one is set aside, and all begins anew."""
        document = self._diary.kept(name)
        try:
            return meaning(document)
        except Refusal:
            self._diary.set_aside(name)
            self._set_aside = _set_aside(self._diary)
            return meaning(None)

    def _require_not_forgotten(self, entry: int) -> None:
        """An entry that was forgotten before its playlist was written takes the mood along."""
        try:
            self._diary.entry(entry)
        except NoEntry:
            self._diary.revise(PLAYLISTS, lambda document: without_entry(document or "[]", entry))
            raise


def music_faults(diary: Diary, folder: Path) -> tuple[str, ...]:
    """What :attr:`Jukebox.faults` says, for who has no jukebox at hand; changes nothing."""
    own = OwnSongs(folder)
    own.look()
    return (*own.faults, *_set_aside(diary))


def _set_aside(diary: Diary) -> tuple[str, ...]:
    return tuple(
        f"the diary's document `{old}` could not be read, so a new one was begun; look for the old one as `{name}` in an export as JSON"
        for old in (TASTE, PLAYLISTS)
        for name in diary.documents()
        if name.startswith(f"{old}-damaged-")
    )


def _completed(own: Song, bundled: Song | None) -> Song:
    """A person's own song, with what is known of it here wherever their catalogue says nothing."""
    if bundled is None:
        return own
    return replace(
        own,
        tempo=own.tempo or bundled.tempo,
        tags=own.tags or bundled.tags,
        genre=own.genre or bundled.genre,
        year=own.year or bundled.year,
        ids={**bundled.ids, **own.ids},
        attribution=own.attribution or bundled.attribution,
        url=own.url or bundled.url,
    )


def felt(entry: Entry) -> tuple[float, ...]:
    """The mood of an entry, even if nobody has read it yet."""
    return feeling(entry) or EVEN


def only(emotion: Emotion) -> tuple[float, ...]:
    """The mood that is nothing but this emotion."""
    return tuple(float(one is emotion) for one in EMOTIONS)


def _moods_by_day(diary: Diary) -> dict[date, tuple[float, ...]]:
    """The mean mood of each day's entries."""
    days: dict[date, list[tuple[float, ...]]] = {}
    for record in diary.records():
        days.setdefault(record.entry.day, []).append(felt(record.entry))
    return {day: tuple(float(share) for share in np.mean(moods, axis=0)) for day, moods in days.items()}


def _described(song: Song) -> str:
    return " ".join((song.title, song.artist, song.genre, *song.tags)).casefold()
