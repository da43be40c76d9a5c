"""Song: what this device knows of one piece of music. The moods are judgements, not measurements."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlsplit

from model.refusal import Refusal

TAGS: dict[str, tuple[str, float, float, float]] = {
    "calm": ("차분한", 0.3, -0.6, 0.1),
    "warm": ("따뜻한", 0.6, -0.2, 0.1),
    "bright": ("밝은", 0.7, 0.4, 0.1),
    "playful": ("장난스러운", 0.6, 0.5, 0.15),
    "energetic": ("신나는", 0.7, 0.8, 0.3),
    "groovy": ("리듬을 타는", 0.5, 0.4, 0.2),
    "uplifting": ("기운을 주는", 0.7, 0.5, 0.2),
    "hopeful": ("희망을 노래하는", 0.6, 0.2, 0.2),
    "comforting": ("다독이는", 0.3, -0.4, 0.2),
    "romantic": ("설레는", 0.6, 0.1, 0.2),
    "nostalgic": ("옛날이 그리운", 0.0, -0.3, 0.25),
    "lonely": ("쓸쓸한", -0.5, -0.5, 0.35),
    "sad": ("슬픈", -0.7, -0.3, 0.4),
    "somber": ("무거운", -0.5, -0.4, 0.45),
    "dreamy": ("몽환적인", 0.2, -0.4, 0.25),
    "mysterious": ("신비로운", -0.1, -0.1, 0.5),
    "dark": ("어두운", -0.5, 0.1, 0.65),
    "tense": ("긴장감 도는", -0.5, 0.4, 0.85),
    "intense": ("강렬한", -0.1, 0.7, 0.65),
    "aggressive": ("거친", -0.4, 0.8, 0.75),
    "defiant": ("당당한", 0.3, 0.7, 0.45),
    "epic": ("웅장한", 0.2, 0.6, 0.5),
    "cathartic": ("속 시원한", 0.1, 0.8, 0.5),
}
"""The moods that the recommender knows: the Korean word, and where the mood lies (valence, arousal, tension)."""

GENRES: dict[str, str] = {
    "ballad": "발라드",
    "dance": "댄스",
    "folk": "포크",
    "trot": "트로트",
    "indie": "인디",
    "rock": "록",
    "hip-hop": "힙합",
    "r&b": "알앤비",
    "ost": "드라마·영화 음악",
    "pop": "팝",
    "classical": "클래식",
    "instrumental": "연주곡",
    "jazz": "재즈",
    "electronic": "전자 음악",
    "world": "월드 뮤직",
}
"""The genres that the recommender knows, with their Korean names; a song of another genre has none."""

LONGEST = 300
"""Characters of a title, an artist or an attribution."""

MOST_TAGS = 12
_ADDRESS = {"http", "https", "file"}
_YEARS = range(1000, 2101)
_CONTROL = {"Cc", "Cs", "Cn", "Zl", "Zp"}
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


class Tempo(StrEnum):
    """How fast a song feels, in three classes."""

    SLOW = "slow"
    MEDIUM = "medium"
    FAST = "fast"

    @classmethod
    def of(cls, beats_per_minute: float) -> Tempo:
        """Slow under 85 beats a minute, fast from 118."""
        return cls.SLOW if beats_per_minute < 85 else cls.FAST if beats_per_minute >= 118 else cls.MEDIUM


@dataclass(frozen=True)
class Song:
    """One song. ``valence`` and ``arousal`` lie in [-1, 1], ``tension`` in [0, 1]: somebody's judgement of its mood.

    ``key`` follows from title and artist (:func:`song_key`), so the same song has one key in every catalogue.
    ``attribution`` is shown wherever the song is; ``url`` is a page or a file of the song itself.
    """

    key: str
    title: str
    artist: str
    valence: float = 0.0
    arousal: float = 0.0
    tension: float = 0.4
    tempo: Tempo | None = None
    tags: tuple[str, ...] = ()
    genre: str = ""
    year: int | None = None
    ids: Mapping[str, str] = field(default_factory=dict, hash=False)
    attribution: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        for name, text in (("title", self.title), ("artist", self.artist)):
            if not 0 < len(text) <= LONGEST:
                raise Refusal(f"a song's {name} has {len(text)} characters; write 1 to {LONGEST}")
        if not _is_line(self.title + self.artist + self.attribution) or len(self.attribution) > LONGEST:
            raise Refusal("a song's title, artist or attribution holds control characters or is too long; write one short line of text")
        for name, value, least in (("valence", self.valence, -1), ("arousal", self.arousal, -1), ("tension", self.tension, 0)):
            if not least <= value <= 1:  # not a number fails here too
                raise Refusal(f"a song's {name} is {value:g}; it must lie from {least} to 1")
        if len(self.tags) > MOST_TAGS:
            raise Refusal(f"a song has {len(self.tags)} tags; keep the {MOST_TAGS} that say most")
        if self.year is not None and self.year not in _YEARS:
            raise Refusal(f"a song's year is {self.year}; write one from {_YEARS[0]} to {_YEARS[-1]}, or none")
        if self.url and not is_address(self.url):
            raise Refusal("a song's address is neither http, https nor file; leave it out")
        if not all(_NAME.fullmatch(part) for pair in self.ids.items() for part in pair):
            raise Refusal("a song's id holds something other than letters, digits and dashes; leave it out")

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Song:
        """The song that :meth:`as_row` wrote; :class:`Refusal` if a value is missing or has another type."""
        try:
            year = row.get("year")
            return cls(
                key=song_key(_text(row["title"]), _text(row["artist"])),
                title=_text(row["title"]),
                artist=_text(row["artist"]),
                valence=float(row["valence"]),
                arousal=float(row["arousal"]),
                tension=float(row["tension"]),
                tempo=Tempo(row["tempo"]) if row.get("tempo") else None,
                tags=tuple(_text(tag) for tag in row.get("tags", ())),
                genre=_text(row.get("genre", "")),
                year=int(year) if year is not None else None,
                ids={_text(kind): _text(id) for kind, id in row.get("ids", {}).items()},
                attribution=_text(row.get("attribution", "")),
                url=_text(row.get("url", "")),
            )
        except Refusal:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Refusal(f"a song cannot be read ({type(error).__name__}); write title, artist, valence, arousal and tension") from None

    def as_row(self) -> dict[str, Any]:
        """This song as JSON holds it: without its key, which follows from title and artist, and without what is empty."""
        row = {name: value for name, value in asdict(self).items() if name != "key" and value not in (None, "", (), {})}
        return row | {"tags": list(self.tags)} if self.tags else row

    def links(self) -> dict[str, str]:
        """Search addresses of four services: no account, no key; they name the song and nothing of the person."""
        words = quote(f"{self.title} {self.artist}", safe="")
        return {
            "youtube_music": f"https://music.youtube.com/search?q={words}",
            "spotify": f"https://open.spotify.com/search/{words}",
            "melon": f"https://www.melon.com/search/total/index.htm?q={words}",
            "apple_music": f"https://music.apple.com/kr/search?term={words}",
        }


def song_key(title: str, artist: str) -> str:
    """Twelve hexadecimal digits that follow from title and artist, without case, signs and spaces."""
    return hashlib.sha256(f"{_letters(title)}\n{_letters(artist)}".encode()).hexdigest()[:12]


_BRACKETS = re.compile(r"\s*[(\[（【][^()\[\]（）【】]*[)\]）】]")
_ADDED = re.compile(r"\s+-\s+(?:\d{4}\s+)?(?:remaster|live|single version|album version|radio edit|inst).*$", re.IGNORECASE)
_GUEST = re.compile(r"\s*(?:\bfeat(?:uring)?\b|\bft\b|\bprod\b)\.?.*$", re.IGNORECASE)


def identity(title: str, artist: str) -> tuple[str, str]:
    """Title and artist as they are compared across services: also without brackets, guests, and notes on the edition."""
    return _letters(_bare(_ADDED.sub("", title)), title), _letters(_bare(artist), artist)


def _bare(text: str) -> str:
    return _GUEST.sub("", _BRACKETS.sub("", text))


def _letters(*texts: str) -> str:
    """The letters and digits of the first text that has any, in lower case."""
    for text in texts:
        folded = unicodedata.normalize("NFKC", text).casefold()
        letters = "".join(letter for letter in folded if letter.isalnum())
        if letters:
            return letters
    return texts[-1].strip()


def cleaned(text: str, longest: int = LONGEST) -> str:
    """One line in NFC without control characters, lone surrogates and non-characters; cut after ``longest`` characters."""
    kept = "".join(letter if _is_line(letter) else " " for letter in text[: 4 * longest])
    return " ".join(unicodedata.normalize("NFC", kept).split())[:longest].strip()


def _is_line(text: str) -> bool:
    return not any(unicodedata.category(letter) in _CONTROL for letter in text)


def is_address(url: str) -> bool:
    """Whether a page may link to it, or a player open it: http, https or file, in printable ASCII."""
    try:
        return url.isascii() and url.isprintable() and " " not in url and urlsplit(url).scheme in _ADDRESS and len(url) <= 2000
    except ValueError:
        return False


def mood_of_tags(tags: tuple[str, ...]) -> tuple[float, float, float]:
    """Valence, arousal and tension where only tags are known: the mean of those that are in :data:`TAGS`, else neutral."""
    known = [TAGS[tag][1:] for tag in tags if tag in TAGS]
    if not known:
        return 0.0, 0.0, 0.4
    means = [math.fsum(column) / len(known) for column in zip(*known, strict=True)]
    return means[0], means[1], means[2]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
