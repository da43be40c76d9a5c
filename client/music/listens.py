"""Listens: what a person has heard elsewhere, from ListenBrainz or Spotify, read as a stream and stripped on the way.

Read are an array of objects, or objects one after another (JSONL): ListenBrainz exports and API pages, and the files of
Spotify's extended streaming history. Of each only title, artist, time and whether it was heard stay; address, user
name, country and device are never bound to a name of ours. Memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, BinaryIO

import numpy as np

from client.music.song import Song, cleaned, identity
from client.music.song_features import NO_EMOTION, checked_mood
from model.refusal import Refusal

CHUNK = 64 * 1024
LONGEST_VALUE = 4 * 2**20
"""Characters of one object; ListenBrainz puts up to a thousand listens into one."""

_FIRST = datetime(2000, 1, 1, tzinfo=UTC)

ALSO_CALLED = {
    "iu": "아이유", "bts": "방탄소년단", "bigbang": "빅뱅", "girls' generation": "소녀시대", "psy": "싸이", "epik high": "에픽하이",
    "akmu": "악동뮤지션", "zico": "지코", "taeyeon": "태연", "busker busker": "버스커 버스커", "jannabi": "잔나비", "hyukoh": "혁오",
    "bol4": "볼빨간사춘기", "zion.t": "자이언티", "crush": "크러쉬", "heize": "헤이즈", "lee hi": "이하이", "park hyo shin": "박효신",
    "sung si kyung": "성시경", "younha": "윤하", "twice": "트와이스", "red velvet": "레드벨벳", "(g)i-dle": "(여자)아이들",
    "seventeen": "세븐틴", "wonder girls": "원더걸스", "mamamoo": "마마무", "gfriend": "여자친구", "oh my girl": "오마이걸",
    "apink": "에이핑크",
    "sistar": "씨스타", "jung kook": "정국", "jennie": "제니", "rosé": "로제", "taeyang": "태양", "jaurim": "자우림", "nell": "넬",
    "crying nut": "크라잉넛", "cherry filter": "체리필터", "guckkasten": "국카스텐", "cho yong pil": "조용필", "lee moon sae": "이문세",
    "kim kwang seok": "김광석", "yiruma": "이루마", "lim young woong": "임영웅", "paul kim": "폴킴", "melomance": "멜로망스", "boa": "보아",
    "rain": "비", "lee hyori": "이효리", "sunmi": "선미", "chung ha": "청하", "hwa sa": "화사", "shinee": "샤이니", "tvxq!": "동방신기",
    "super junior": "슈퍼주니어", "infinite": "인피니트", "cnblue": "씨엔블루", "george winston": "조지 윈스턴",
    "joe hisaishi": "히사이시 조",
    "ryuichi sakamoto": "류이치 사카모토", "ludovico einaudi": "루도비코 에이나우디", "hans zimmer": "한스 치머",
}  # fmt: skip
"""How other services spell some artists of the bundled catalogue."""


@dataclass(frozen=True)
class Listen:
    """One song that was put on, when, and whether it was heard as :func:`counts_as_heard` says."""

    title: str
    artist: str
    at: datetime
    heard: bool


@dataclass(frozen=True)
class Heard:
    """A history matched with a catalogue and a diary."""

    songs: Mapping[str, tuple[float, ...]]
    """By song key: listens in each emotion."""
    listens: int = 0
    matched: int = 0
    """Listens of songs in the catalogue."""
    felt: int = 0
    """Of these, those on a day with an entry."""


def counts_as_heard(seconds: float, length: float | None = None, *, ended: bool = False) -> bool:
    """Last.fm's rule: a song longer than half a minute counts after half its length or four minutes, whichever is first.

    Where the length is unknown, a song that ended by itself was as long as it was played.
    """
    if length is None and ended:
        length = seconds
    if length is None:
        return seconds >= 240
    return length > 30 and seconds >= min(length / 2, 240)


def read_listens(file: BinaryIO, *, now: datetime) -> Iterator[Listen]:
    """The listens of a file, one by one; what is no song, or lies in the future, is left out.

    :class:`Refusal` if it is no JSON, ends in the middle, nests without end, or is of another form: of which, and what to ask for.
    """
    met, known = 0, False
    for value in _objects(file):
        for one in _unpacked(value):
            met += 1
            known = known or _is_spotifys(one) or "track_metadata" in one
            if not known and (other := _other_form(one)):
                raise Refusal(other)
            listen = _spotify(one) if "ts" in one else _listenbrainz(one)
            if listen and _FIRST <= listen.at <= now + timedelta(days=1):
                yield listen
    if met and not known:
        raise Refusal(f"this is JSON of an unknown form and no listening history; {_READ_HERE}")


_READ_HERE = "give ListenBrainz's export, or Spotify's extended streaming history (Streaming_History_Audio_*.json)"
_LISTENBRAINZ_TAKES = "import it at listenbrainz.org, which reads it, and give ListenBrainz's export here"
_SPOTIFY_SENDS = "at spotify.com/account/privacy ask for the 'Extended streaming history', and give Streaming_History_Audio_*.json"
_OTHERS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("endTime", "msPlayed"), f"this is Spotify's account data, of one year and without the ends of songs; {_SPOTIFY_SENDS}"),
    (("searchQuery",), f"this is what was searched for on Spotify, and no listening history; {_SPOTIFY_SENDS}"),
    (("playlists",), f"this is a list of playlists, and no listening history; {_SPOTIFY_SENDS}"),
    (("tracks", "albums"), f"this is Spotify's library, and no listening history; {_SPOTIFY_SENDS}"),
    (("header", "title", "time"), f"this is YouTube's history from Google Takeout, which says no lengths; {_READ_HERE}"),
    (("track", "@attr"), f"this is a page of Last.fm's listens; {_LISTENBRAINZ_TAKES}"),
    (("recenttracks",), f"this is a page of Last.fm's listens; {_LISTENBRAINZ_TAKES}"),
    (("track",), f"these are Last.fm's listens; {_LISTENBRAINZ_TAKES}"),
    (("artist", "name", "date"), f"these are Last.fm's listens; {_LISTENBRAINZ_TAKES}"),
    (("user_id",), "this is the part of ListenBrainz's export that names the account; give the files of its folder listens/"),
    (("recording_mbid", "score"), "this is the feedback of ListenBrainz's export; give the files of its folder listens/"),
    (("playlist",), "this is a playlist and no listening history; take it in as songs (POST /v1/songs/import)"),
    (("program", "entries"), "this is a diary that this program exported; bring it in by `healing client import`"),
)
"""Histories of other forms, by the names that all stand in one of their objects, and what to do instead."""


def _is_spotifys(row: Mapping[str, Any]) -> bool:
    return "ts" in row and ("ms_played" in row or "master_metadata_track_name" in row)


def _other_form(row: Mapping[str, Any]) -> str:
    return next((told for names, told in _OTHERS if all(name in row for name in names)), "")


def heard_in_emotions(
    listens: Iterable[Listen], songs: Sequence[Song], moods: Mapping[date, Sequence[float]], *, zone: tzinfo | None = None
) -> Heard:
    """How often each song was heard in each emotion: on a day (in ``zone``, else this device's) whose entries read as ``moods``.

    Songs are matched by their title and artist without case, signs, brackets and guests.
    """
    keys = {identity(song.title, song.artist): song.key for song in reversed(songs)}
    counts: dict[str, np.ndarray[Any, np.dtype[np.float64]]] = defaultdict(lambda: np.array(NO_EMOTION))
    read = matched = felt = 0
    for listen in listens:
        read += 1
        key = keys.get(identity(listen.title, ALSO_CALLED.get(listen.artist.casefold(), listen.artist))) if listen.heard else None
        if key is None:
            continue
        matched += 1
        mood = moods.get(listen.at.astimezone(zone).date())
        if mood is not None:
            felt += 1
            counts[key] += checked_mood(mood)
    return Heard({key: tuple(float(count) for count in row) for key, row in counts.items()}, read, matched, felt)


def _spotify(row: Mapping[str, Any]) -> Listen | None:
    title, artist = row.get("master_metadata_track_name"), row.get("master_metadata_album_artist_name")
    played = row.get("ms_played")
    if not isinstance(played, int | float):
        return None
    heard = counts_as_heard(played / 1000, ended=row.get("reason_end") == "trackdone")
    return _listen(title, artist, _iso(row.get("ts")), heard)


def _listenbrainz(row: Mapping[str, Any]) -> Listen | None:
    """A ListenBrainz listen: what is submitted there has been heard by Last.fm's rule already."""
    about = row.get("track_metadata")
    if not isinstance(about, dict):
        return None
    return _listen(about.get("track_name"), about.get("artist_name"), _epoch(row.get("listened_at")), heard=True)


def _listen(title: object, artist: object, at: datetime | None, heard: bool) -> Listen | None:
    if not isinstance(title, str) or not isinstance(artist, str) or at is None:
        return None
    title, artist = cleaned(title), cleaned(artist)
    return Listen(title, artist, at, heard) if title and artist else None


def _iso(text: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _epoch(seconds: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(seconds), UTC) if isinstance(seconds, int | float) else None
    except (ValueError, OverflowError, OSError):
        return None


def _unpacked(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A listen, or those in a page of the ListenBrainz API."""
    payload = value.get("payload")
    rows = payload.get("listens") if isinstance(payload, dict) else [value]
    yield from (row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()


def _objects(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The objects of an array, or of a file of one after another; never more of it in memory than one object and a chunk."""
    text = _Text(file)
    opened = closed = False
    while letter := text.next_letter():
        if letter == "[" and not opened:
            opened = True
            text.at += 1
        elif letter == "]" and opened and not closed:
            closed = True
            text.at += 1
        elif letter == "{" and not closed:
            yield text.take_object()
        else:
            raise Refusal("this is no listening history; give the JSON file as ListenBrainz or Spotify exported it")
    if opened and not closed:
        raise Refusal("the listening history ends in the middle; export or upload it again")


class _Text:
    """A window that moves forward over a file's text."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = codecs.getincrementaldecoder("utf-8-sig")()
        self._decode = json.JSONDecoder().raw_decode
        self.buffer = ""
        self.at = 0

    def next_letter(self) -> str:
        """The next letter that neither separates nor is white space; empty at the end."""
        while True:
            while self.at < len(self.buffer):
                if self.buffer[self.at] not in ", \t\r\n":
                    return self.buffer[self.at]
                self.at += 1
            if not self._more():
                return ""

    def take_object(self) -> dict[str, Any]:
        """The object that begins here; reads on until it is whole."""
        while True:
            try:
                value, self.at = self._decode(self.buffer, self.at)
            except RecursionError:
                raise Refusal("the listening history nests without end; give the file as it was exported") from None
            except ValueError:
                if len(self.buffer) - self.at > LONGEST_VALUE or not self._more():
                    raise Refusal("the listening history is damaged or ends in the middle; export or upload it again") from None
            else:
                return dict(value)

    def _more(self) -> bool:
        """Read on, twice as far for an object that goes on; False at the end."""
        self.buffer, self.at = self.buffer[self.at :], 0
        content = self._file.read(max(CHUNK, len(self.buffer)))
        try:
            self.buffer += self._bytes.decode(content, final=not content)
        except UnicodeDecodeError:
            raise Refusal("the listening history is not UTF-8; give the file as it was exported, not packed") from None
        return bool(content)
