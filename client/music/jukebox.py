"""Jukebox: one device's songs, the playlists it has made lately, and what feedback has taught it.

Songs are the bundled ones and the person's own, which lie in Home. Taste and playlists are documents in the encrypted diary,
written before a call returns, so that feedback to a playlist of yesterday is understood today.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np

from client.diary.diary import Diary, Entry
from client.music.catalogue import read_catalogue
from client.music.listens import heard_in_emotions, read_listens
from client.music.playlist import Playlist, Song, read_songs
from client.music.recommender import Event, Mode, Recommendation, Recommender, Taste
from client.reading.insights import feeling
from model.emotions import EMOTIONS, Emotion
from model.refusal import Refusal

MOST_PLAYLISTS = 50
MOST_CATALOGUES = 20
EVEN = tuple(1 / len(EMOTIONS) for _ in EMOTIONS)
"""The mood of which nothing is known."""

_TASTE, _PLAYLISTS = "taste", "playlists"


class NoSuchSong(Refusal):
    """No song of this device has that key."""


class NoSuchPlaylist(Refusal):
    """The playlist was never made, or is older than those that are kept."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A playlist as it is remembered: for which mood, and which songs."""

    id: str
    mode: str
    mood: tuple[float, ...]
    songs: tuple[str, ...]


class Jukebox:
    """Recommends, learns, remembers its playlists, takes in songs and listens; one call at a time."""

    def __init__(self, diary: Diary, songs: Sequence[Song], folder: Path) -> None:
        self._diary = diary
        self._bundled = tuple(songs)
        self._folder = folder
        self._rng = np.random.default_rng()
        self._turn = threading.RLock()
        self._made = {one.id: one for one in _playlists(diary.kept(_PLAYLISTS))}
        taste = diary.kept(_TASTE)
        self._recommender = self._with_all_songs(Taste.from_json(taste) if taste else Taste())

    def find(self, words: str, limit: int) -> tuple[list[Song], int]:
        """Songs whose title, artist or tag holds the words, and how many there are in all."""
        wanted = words.casefold().split()
        found = [song for song in self._songs.values() if all(word in _described(song) for word in wanted)]
        return found[:limit], len(found)

    def recommend(self, mood: Sequence[float], *, mode: str, count: int) -> tuple[str, list[Recommendation]]:
        """Songs for a mood, and the id of the playlist that they make."""
        with self._turn:
            chosen = self._recommender.recommend(mood, mode=Mode(mode), count=count, rng=self._rng)
            made = Made(id=secrets.token_urlsafe(9), mode=mode, mood=tuple(mood), songs=tuple(one.song.key for one in chosen))
            self._made = dict([*self._made.items(), (made.id, made)][-MOST_PLAYLISTS:])
            self._diary.keep(_PLAYLISTS, json.dumps([asdict(one) for one in self._made.values()]))
        return made.id, chosen

    def made(self, id: str) -> Made:
        """The playlist of this id; :class:`NoSuchPlaylist` if it is not kept."""
        try:
            return self._made[id]
        except KeyError:
            raise NoSuchPlaylist(f"there is no playlist of that id among the last {MOST_PLAYLISTS}; ask for recommendations anew") from None

    def playlist(self, id: str) -> Playlist:
        """The same with its songs, for export; songs that have left the catalogue are left out."""
        made = self.made(id)
        return Playlist(f"FeelingHealing ({made.mode})", tuple(self._songs[key] for key in made.songs if key in self._songs))

    def learn(self, song: str, event: str, mood: Sequence[float]) -> None:
        """Take in what became of a song, heard in this mood."""
        with self._turn:
            if song not in self._songs:
                raise NoSuchSong("no song of this device has that key; look it up with GET /v1/songs")
            self._recommender.learn(song, Event(event), mood)
            self._diary.keep(_TASTE, self._recommender.taste.to_json())

    def take_back_like(self, song: str) -> None:
        """Unlearn that a song was liked; :class:`NoSuchLike` if it was not, or too long ago."""
        with self._turn:
            self._recommender.take_back_like(song)
            self._diary.keep(_TASTE, self._recommender.taste.to_json())

    def hear(self, file: BinaryIO) -> tuple[int, int]:
        """Take in a listening history: how many listens were of songs known here, and how many were not."""
        listens = read_listens(file, now=datetime.now(UTC))
        heard = heard_in_emotions(listens, tuple(self._songs.values()), _moods_by_day(self._diary))
        with self._turn:
            self._recommender.remember(heard.songs)
            self._diary.keep(_TASTE, self._recommender.taste.to_json())
        return heard.matched, heard.listens - heard.matched

    def take_in(self, file: BinaryIO) -> tuple[int, int]:
        """Keep a person's own catalogue (CSV, JSPF, XSPF or M3U8); how many songs it holds, and how many rows were left out."""
        with self._turn:
            if len(list(self._folder.glob("own-*"))) >= MOST_CATALOGUES:
                raise Refusal(f"there are {MOST_CATALOGUES} catalogues already; remove one from '{self._folder}' first")
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            arrived = _written(file, self._folder)
            try:
                catalogue = read_catalogue(arrived)
                arrived.replace(self._folder / f"own-{_digest(arrived)}{arrived.suffix}")
            finally:
                arrived.unlink(missing_ok=True)
            self._recommender = self._with_all_songs(self._recommender.taste)
        return len(catalogue.songs), len(catalogue.bad_rows)

    def _with_all_songs(self, taste: Taste) -> Recommender:
        own = [song for path in sorted(self._folder.glob("own-*")) for song in read_songs(path)]
        self._songs = {song.key: song for song in (*own, *self._bundled)}
        return Recommender(tuple(self._songs.values()), taste)


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


def _written(file: BinaryIO, folder: Path) -> Path:
    """The file, copied piece by piece to a name whose ending says what its first bytes are."""
    piece = file.read(64 * 1024)
    path = folder / f"import{_ending(piece)}"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
        while piece:
            copy.write(piece)
            piece = file.read(64 * 1024)
    return path


def _ending(start: bytes) -> str:
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for sign, ending in ((b"#EXTM3U", ".m3u8"), (b"{", ".jspf"), (b"<", ".xspf")):
        if first.startswith(sign):
            return ending
    return ".csv"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _described(song: Song) -> str:
    return " ".join((song.title, song.artist, song.genre, *song.tags)).casefold()


def _playlists(document: str | None) -> list[Made]:
    if document is None:
        return []
    try:
        return [Made(**{**one, "mood": tuple(one["mood"]), "songs": tuple(one["songs"])}) for one in json.loads(document)]
    except (ValueError, KeyError, TypeError):
        raise Refusal("the diary's document `playlists` is damaged; restore the diary from a backup") from None
