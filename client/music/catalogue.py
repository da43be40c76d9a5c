"""Catalogues: a person's own songs from CSV, JSPF, XSPF, M3U8 or a folder of audio files, and the bundled ones.

Whatever is read is a stranger's file: its size, its nesting and its addresses are bounded, and a row that cannot be read
is listed by its number and left out. A song without a mood gets the bundled catalogue's, if that knows it; else the mean of
its tags, else a neutral one.
"""

from __future__ import annotations

import json
import os
import re
import struct
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mutagen

from client.music.song import GENRES, LONGEST, MOST_TAGS, TAGS, Song, Tempo, cleaned, identity, is_address, mood_of_tags, song_key
from client.tables import Landmark, decoded, read_table
from model.refusal import Refusal

LONGEST_FILE = 20 * 2**20
MOST_SONGS = 50_000

AUDIO = {".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".wma", ".wav", ".aiff", ".aif", ".ape", ".wv", ".mpc"}

COLUMNS: dict[str, tuple[str, ...]] = {
    "title": ("title", "songtitle", "tracktitle", "trackname", "songname", "제목", "곡명", "곡제목", "노래제목", "노래명", "트랙명",
              "song", "name", "노래", "곡", "track"),
    "artist": ("artist", "artistname", "artistnames", "artists", "trackartist", "trackartists", "songartist", "가수", "가수명", "아티스트",
               "아티스트명", "아티스트이름", "singer", "performer", "creator", "albumartist", "albumartistname", "albumartistnames",
               "composer", "작곡가"),
    "genre": ("genre", "genres", "장르"),
    "year": ("year", "releaseyear", "albumyear", "연도", "발매연도", "발매", "releasedate", "albumreleasedate", "released",
             "발매일", "date"),
    "bpm": ("bpm", "tempo", "빠르기"),
    "valence": ("valence",),
    "arousal": ("arousal", "energy"),
    "tension": ("tension",),
    "tags": ("tags", "feels", "moods", "mood", "분위기", "태그"),
    "isrc": ("isrc",),
    "url": ("url", "link", "address", "songurl", "trackurl", "주소", "노래url"),
    "attribution": ("attribution",),
    "licence": ("licence", "license"),
}  # fmt: skip
"""What a column may be called, without case, spaces and signs; the first of these names that a table has is the one."""
_SPOTIFYS = frozenset({"danceability", "energy", "valence"})
"""Where all of these stand, valence and energy are Spotify's, from 0 to 1."""

_TAG_OF = {
    **{ko: tag for tag, (ko, *_) in TAGS.items()},
    "dark": "dark", "grooving": "groovy", "groove": "groovy", "relaxed": "calm", "relaxing": "calm", "calming": "calm", "bouncy": "playful",
    "humorous": "playful", "funny": "playful", "driving": "energetic", "action": "energetic", "happy": "bright", "cheerful": "bright",
    "eerie": "tense", "unnerving": "tense", "suspenseful": "tense", "anxious": "tense", "mystical": "dreamy", "angry": "aggressive",
    "melancholic": "lonely", "melancholy": "lonely", "peaceful": "calm", "chill": "calm", "love": "romantic",
}  # fmt: skip
_GENRE_OF = {
    **{ko: genre for genre, ko in GENRES.items()},
    "hip hop": "hip-hop", "hiphop": "hip-hop", "rap": "hip-hop", "랩": "hip-hop", "rnb": "r&b", "soul": "r&b", "rhythm and blues": "r&b",
    "funk": "r&b", "electronica": "electronic", "edm": "electronic", "soundtrack": "instrumental", "contemporary": "instrumental",
    "new age": "instrumental", "silent film score": "instrumental", "horror": "instrumental", "blues": "jazz", "disco": "dance",
    "k-pop": "pop", "kpop": "pop", "indie rock": "indie", "metal": "rock", "punk": "rock", "folk rock": "folk", "latin": "world",
    "african": "world", "reggae": "world", "ska": "world", "polka": "world", "classic": "classical",
}  # fmt: skip

Row = tuple[int, dict[str, Any] | str]
"""A row's number, and its values by the names of :data:`COLUMNS`, or why it cannot be read."""


@dataclass(frozen=True)
class Catalogue:
    """What was read, and an account of every row that is not among it."""

    songs: tuple[Song, ...]
    source: str
    bad_rows: tuple[tuple[int, str], ...] = ()
    """Number (a line of a CSV or M3U8 file, else a track or a file in order) and reason of each."""

    def account(self) -> str:
        """One line for a person."""
        first = "; ".join(f"{number}: {reason}" for number, reason in self.bad_rows[:3])
        rest = "; ..." if len(self.bad_rows) > 3 else ""
        bad = f", {len(self.bad_rows)} rows left out ({first}{rest})" if self.bad_rows else ""
        return f"{len(self.songs)} songs from {self.source}{bad}"


@cache
def bundled_songs() -> tuple[Song, ...]:
    """The catalogue written for this project (``client/music/assets/songs.jsonl``)."""
    with (resources.files("client.music") / "assets" / "songs.jsonl").open(encoding="utf-8") as lines:
        return tuple(Song.from_row(json.loads(line)) for line in lines)


def read_catalogue(path: Path) -> Catalogue:
    """Read a person's own songs; :class:`Refusal` if the file cannot be used or holds no song at all."""
    tables = {".csv": _csv_rows, ".tsv": _csv_rows}
    readers = {**tables, ".jspf": _jspf_rows, ".json": _jspf_rows, ".xspf": _xspf_rows, ".m3u8": _m3u_rows, ".m3u": _m3u_rows}
    if path.is_dir():
        return _catalogue(_folder_rows(path), path.name)
    if path.suffix.lower() not in readers:
        raise Refusal(f"'{path.name}' is no catalogue that can be read; give .csv, .tsv, .jspf, .xspf, .m3u8, or a folder of music")
    text = _text_of(path, decoded if path.suffix.lower() in tables else _in_utf8)
    return _catalogue(readers[path.suffix.lower()](text), path.name)


def _catalogue(rows: Iterator[Row], source: str) -> Catalogue:
    songs: dict[str, Song] = {}
    bad: list[tuple[int, str]] = []
    for number, row in rows:
        try:
            song = _song(row) if isinstance(row, dict) else None
        except Refusal as refusal:
            bad.append((number, str(refusal)))
            continue
        if song is None:
            bad.append((number, str(row)))
        elif song.key in songs:
            bad.append((number, "the same title and artist stand in an earlier row"))
        else:
            songs[song.key] = song
        if len(songs) > MOST_SONGS:
            raise Refusal(f"'{source}' holds more than {MOST_SONGS} songs; split it and import the part you listen to")
    catalogue = Catalogue(tuple(songs.values()), source, tuple(bad))
    if not songs:
        raise Refusal(f"no song could be read from '{source}' ({catalogue.account()}); each needs a title and an artist")
    return catalogue


def _in_utf8(content: bytes, name: str) -> str:
    return content.decode("utf-8-sig")


def _text_of(path: Path, read: Callable[[bytes, str], str] = _in_utf8) -> str:
    try:
        size = path.stat().st_size
        if size > LONGEST_FILE:
            raise Refusal(f"'{path.name}' has {size / 2**20:.0f} MB and a catalogue may have {LONGEST_FILE // 2**20}; split it")
        return read(path.read_bytes(), path.name)
    except FileNotFoundError:
        raise Refusal(f"there is no file '{path.name}'; name a .csv, .jspf, .xspf or .m3u8 file, or a folder of music") from None
    except UnicodeDecodeError as error:
        convert = f"iconv -f cp949 -t utf-8 '{path.name}' > 'utf8-{path.name}'"
        raise Refusal(f"'{path.name}' is not UTF-8 (byte {error.start}); convert it, for example: {convert}") from None


def _csv_rows(text: str) -> Iterator[Row]:
    table = read_table(text, _knows)
    if table is None:
        raise Refusal("the first line names no title and no artist column; write a header such as title,artist,genre,year,tags")
    at = _columns(table.names)
    spotifys = {_key(name) for name in table.names} >= _SPOTIFYS
    for row in table.rows(Landmark(max(at["title"], at["artist"]), lambda cell: bool(cell.strip()))):
        if row.fault:
            yield row.line, row.fault
            continue
        values = {name: row.cells[column] for name, column in at.items()}
        yield row.line, _from_spotify(values) if spotifys else values


def _columns(names: Sequence[str]) -> dict[str, int]:
    """The column of each value: the most exact of its names that stands there, the first of two of one name."""
    keys = [_key(name) for name in names]
    return {value: keys.index(found) for value, called in COLUMNS.items() if (found := next((one for one in called if one in keys), None))}


def _knows(names: Sequence[str]) -> bool:
    return {"title", "artist"} <= set(_columns(names))


def _key(name: str) -> str:
    """A column's name without case, spaces and signs: `Artist Name(s)` is artistnames."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", name).casefold() if letter.isalnum())


def _from_spotify(values: dict[str, Any]) -> dict[str, Any]:
    """Spotify's valence and energy, from 0 to 1, as ours from -1 to 1; what is no number is left out."""
    ours = {}
    for name in ("valence", "arousal"):
        try:
            ours[name] = f"{2 * float(values[name]) - 1:.3f}"
        except (KeyError, ValueError):
            ours[name] = ""
    return {**values, **ours}


def _jspf_rows(text: str) -> Iterator[Row]:
    try:
        tracks = json.loads(text)["playlist"]["track"]
        if not isinstance(tracks, list):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refusal('this is no JSPF; its JSON must read {"playlist": {"track": [{"title": ..., "creator": ...}]}}') from None
    for number, track in enumerate(tracks, 1):
        yield number, _track_row(track) if isinstance(track, dict) else "is no track"


def _track_row(track: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a JSPF or XSPF track; its first location, else the page about it."""
    address = track.get("location") or track.get("info")
    first = address[0] if isinstance(address, list) and address else address
    return {"title": track.get("title"), "artist": track.get("creator"), "attribution": track.get("annotation"), "url": first}


def _xspf_rows(text: str) -> Iterator[Row]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise Refusal("this XSPF declares a document type or entities, which may be a trap; export it again as plain XSPF")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 -- no entities, and a string's encoding is its own
    except ElementTree.ParseError as error:
        raise Refusal(f"line {error.position[0]} is no XML; export the playlist again as XSPF") from None
    for number, track in enumerate(root.iterfind("{*}trackList/{*}track"), 1):
        found = {child.tag.rpartition("}")[2]: child.text or "" for child in reversed(track)}
        yield number, _track_row(found)


_EXTINF = re.compile(r"#EXTINF:\s*-?[\d.]*[^,]*,(.*)")


def _m3u_rows(text: str) -> Iterator[Row]:
    named = ""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        line = line.strip()
        if found := _EXTINF.match(line):
            named = found[1]
        elif line and not line.startswith("#"):
            artist, dash, title = (named or _stem(line)).partition(" - ")
            yield number, {"title": title, "artist": artist, "url": _location(line)} if dash else "names no artist (write 'artist - title')"
            named = ""


def _stem(address: str) -> str:
    return Path(unquote(address).replace("\\", "/")).stem


def _location(line: str) -> str:
    return Path(line).as_uri() if line.startswith("/") else line


def _folder_rows(folder: Path) -> Iterator[Row]:
    files = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
    for number, file in enumerate(sorted(file for file in files if file.suffix.lower() in AUDIO and not file.is_symlink()), 1):
        yield number, _audio_row(file)


def _audio_row(file: Path) -> dict[str, Any] | str:
    """The tags of one audio file; a file that makes the parser stumble is named, and the others are read."""
    try:
        tags = mutagen.File(file, easy=True)
    except (mutagen.MutagenError, ValueError, TypeError, LookupError, EOFError, OverflowError, RecursionError, struct.error) as error:
        return f"{cleaned(file.name, 60)} cannot be read as audio ({type(error).__name__})"
    if tags is None:
        return f"{cleaned(file.name, 60)} is no audio"
    first = {name: str(tags[called][0]) for name, called in _AUDIO_TAGS.items() if tags.tags and tags.get(called)}
    if not {"title", "artist"} <= set(first):
        artist, dash, title = file.stem.partition(" - ")
        first = {"artist": artist, "title": title} | first if dash else first
    return first | {"url": file.resolve().as_uri()}


_AUDIO_TAGS = {"title": "title", "artist": "artist", "genre": "genre", "year": "date", "bpm": "bpm", "isrc": "isrc"}


def _song(row: Mapping[str, Any]) -> Song:
    """A song from a row's values; :class:`Refusal` if title or artist are missing or a number is none."""
    text = {name: cleaned(value) if isinstance(value, str) else "" for name, value in row.items()}
    title, artist = text.get("title", ""), text.get("artist", "")
    if not title or not artist:
        raise Refusal(f"the row has no {'title' if not title else 'artist'}")
    url = row["url"] if isinstance(row.get("url"), str) and is_address(row["url"]) else ""
    tags = _tags(text.get("tags", ""))
    key = song_key(title, artist)
    genre = re.split(r"\s*[,;|]", text.get("genre", ""))[0].casefold()
    valence, arousal, tension = _mood(text, tags, identity(title, artist))
    return Song(
        key=key, title=title, artist=artist, valence=valence, arousal=arousal, tension=tension,
        tempo=_tempo(text.get("bpm", "")), tags=tags, genre=_GENRE_OF.get(genre, genre),
        year=int(found[0]) if (found := re.match(r"[12]\d{3}", text.get("year", ""))) else None,
        ids={"isrc": isrc} if (isrc := _isrc(text.get("isrc", ""))) else {},
        attribution=_attribution(text, title, artist, url), url=url,
    )  # fmt: skip


def _mood(text: Mapping[str, str], tags: tuple[str, ...], named: tuple[str, str]) -> tuple[float, float, float]:
    given = {name: _number(text.get(name, ""), name) for name in ("valence", "arousal", "tension")}
    valence, arousal, tension = given["valence"], given["arousal"], given["tension"]
    if valence is not None and arousal is not None:
        if tension is None:
            tension = mood_of_tags(tags)[2] if any(tag in TAGS for tag in tags) else min(1.0, max(0.0, 0.4 - 0.3 * valence + 0.2 * arousal))
        return valence, arousal, tension
    known = _bundled_moods().get(named)
    return known if known and not tags else mood_of_tags(tags)


@cache
def _bundled_moods() -> dict[tuple[str, str], tuple[float, float, float]]:
    return {identity(song.title, song.artist): (song.valence, song.arousal, song.tension) for song in bundled_songs()}


def _number(text: str, name: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise Refusal(f"its {name} is no number") from None


def _tempo(text: str) -> Tempo | None:
    if text.casefold() in list(Tempo):
        return Tempo(text.casefold())
    beats = _number(text, "bpm")
    return Tempo.of(beats) if beats is not None and 20 <= beats <= 400 else None


def _tags(text: str) -> tuple[str, ...]:
    words = (word.strip().casefold() for word in re.split(r"[|;,]", text))
    return tuple(dict.fromkeys(_TAG_OF.get(word, word)[:40] for word in words if word))[:MOST_TAGS]


def _isrc(text: str) -> str:
    code = text.replace("-", "").upper()
    return code if re.fullmatch(r"[A-Z]{2}[A-Z0-9]{3}[0-9]{7}", code) else ""


def _attribution(text: Mapping[str, str], title: str, artist: str, url: str) -> str:
    """What is shown with the song: the row's own words, or work, author, licence and source, as CC BY asks."""
    if text.get("attribution") or not text.get("licence"):
        return text.get("attribution", "")
    site = urlsplit(url).netloc
    return cleaned(f"'{title}' by {artist}{f' ({site})' if site else ''}, {text['licence']}", LONGEST)
