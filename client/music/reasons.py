"""Why this song: one Korean and one English sentence that say only what is true of the song and of its score.

A song's score is a sum of features times weights. A reason is a feature that the song has and that raised its score above
the catalogue's mean; the sentence names the largest. What it says of the past ("you liked it before") is looked up, and
"you tend to like" stands only where the plays, and not a draw of chance, put the weight above zero, and some such song was
played or liked: links that were opened do not say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from client.music.song import GENRES, TAGS, Song, Tempo
from client.music.song_features import FEATURES, PRIOR_MEAN, Array, Memory
from client.music.taste import Taste

_TEMPO = {
    Tempo.SLOW.value: ("느린", "slow"),
    Tempo.MEDIUM.value: ("걷는 빠르기의", "of a walking pace"),
    Tempo.FAST.value: ("빠른", "fast"),
}
_ERA = {"before 1990": "1990년 이전의", "1990s": "1990년대의", "2000s": "2000년대의", "since 2010": "2010년 이후의"}
_ERA_EN = {"before 1990": "from before 1990", "1990s": "from the 1990s", "2000s": "from the 2000s", "since 2010": "from 2010 or later"}

_TOWARDS = {"shift": ("밝은", "brighter"), "calm": ("차분한", "calmer")}

_CROSSED = ("joy ", "sadness ", "anger ", "anxiety ")
"""Features of the mood's place: they speak for the same thing as ``fit`` and are counted with it."""

SURELY = 1.0
"""Posterior standard deviations above zero from which a weight is called something the person tends to like."""


@dataclass(frozen=True)
class Clause:
    """Half a sentence: what is said of the song, in Korean ready for "-고" or "-요", and in English."""

    ko: str
    en: str


class Reasons:
    """The reasons of one playlist."""

    def __init__(self, songs: Sequence[Song], taste: Taste, rows: Array, weights: Array, *, mood: Array, mode: str) -> None:
        self._songs = songs
        self._taste = taste
        self._rows = rows
        self._gains = (rows - rows.mean(axis=0)) * weights
        self._mood = mood
        self._mode = mode
        mean, factor = taste.posterior()
        spread = np.sqrt((np.linalg.inv(factor) ** 2).sum(axis=0))
        enjoyed = [number for number, song in enumerate(songs) if taste.songs.get(song.key, Memory()).enjoyed]
        self._enjoyed_artists = {songs[number].artist.casefold() for number in enjoyed}
        self._surely = (mean - PRIOR_MEAN > SURELY * spread) & (rows[enjoyed] > 0).any(axis=0)
        self._at = {name: number for number, name in enumerate(FEATURES)}

    def of(self, number: int, step: int, count: int) -> tuple[str, str]:
        """The sentences for the song ``number`` at place ``step`` of ``count``."""
        clauses = self._step(step, count) + [self._clause(number, feature) for feature in self._largest(number)]
        return _sentence(clauses[:2])

    def _largest(self, number: int) -> list[str]:
        """Features that the song has and that spoke for it, the strongest first; at least what it is, if none did."""
        gains = {name: float(self._gains[number, at]) for name, at in self._at.items() if name != "base"}
        crossed = [name for name in gains if name.startswith(_CROSSED)]
        gains["fit"] += sum(gains.pop(name) for name in crossed)
        spoke = [name for name, gain in gains.items() if gain > 0 and self._true(number, name)]
        return sorted(spoke, key=lambda name: -gains[name]) or ["only"]

    def _true(self, number: int, name: str) -> bool:
        """Whether the song has the feature, so that a person would agree with the sentence."""
        value, memory = self._rows[number, self._at[name]], self._memory(number)
        if name == "fit":
            return bool(value >= np.median(self._rows[:, self._at["fit"]]))
        if name == "new":
            return memory.events == 0 and not any(memory.imported)
        if name == "known":
            return memory.reward > 0
        if name == "artist":
            return bool(value > 0) and self._songs[number].artist.casefold() in self._enjoyed_artists
        if name == "heard":
            return bool(self._mood @ np.add(memory.heard, memory.imported) >= 0.5)
        return bool(value > 0)

    def _memory(self, number: int) -> Memory:
        return self._taste.songs.get(self._songs[number].key, Memory())

    def _step(self, step: int, count: int) -> list[Clause]:
        if self._mode not in _TOWARDS:
            return []
        ko, en = _TOWARDS[self._mode]
        place = f"{step + 1}번째" if step else "첫 번째"
        return [Clause(f"{ko} 쪽으로 가는 {count}걸음 가운데 {place}", f"it is step {step + 1} of {count} towards something {en}")]

    def _clause(self, number: int, name: str) -> Clause:
        kind, _, what = name.partition(" ")
        often = name in self._at and self._surely[self._at[name]]
        liked_ko, liked_en = ("즐겨 들으신 결의 ", ", as you tend to like") if often else ("", "")
        if kind == "tag":
            return Clause(f"{liked_ko}{TAGS[what][0]} 노래", f"it is {what}{liked_en}")
        if kind == "genre":
            return Clause(f"{liked_ko}{GENRES[what]}", f"it is {_ENGLISH.get(what, what)}{liked_en}")
        if kind == "tempo":
            return Clause(f"{liked_ko}{_TEMPO[what][0]} 곡", f"it is {_TEMPO[what][1]}{liked_en}")
        if kind == "era":
            return Clause(f"{liked_ko}{_ERA[what]} 노래", f"it is {_ERA_EN[what]}{liked_en}")
        return self._said(number, name)

    def _said(self, number: int, name: str) -> Clause:
        if name == "known" and self._memory(number).liked:
            return Clause("전에 좋다고 하신 곡", "you liked it before")
        if name == "known" and not self._memory(number).enjoyed:
            return Clause("전에 열어 보신 곡", "you have opened it before")
        return {
            "fit": Clause("지금 마음과 결이 가까운 곡", "it lies close to this mood"),
            "new": Clause("아직 함께 듣지 않은 곡", "you have not heard it here yet"),
            "known": Clause("전에 끝까지 들으신 곡", "you have played it to the end before"),
            "artist": Clause(f"좋게 들으신 {self._songs[number].artist}의 곡", f"you have enjoyed {self._songs[number].artist} before"),
            "heard": Clause("비슷한 마음일 때 들으신 곡", "you have listened to it in a mood like this"),
            "only": Clause("조금 다르게 골라 본 곡", "it is something a little different"),
        }[name]


_ENGLISH = {"ballad": "a ballad", "dance": "dance music", "trot": "trot", "ost": "music of a film or drama", "instrumental": "instrumental"}


def _sentence(clauses: Sequence[Clause]) -> tuple[str, str]:
    *before, last = clauses
    ko = "".join(f"{clause.ko}{_after(clause.ko, '이고', '고')}, " for clause in before) + last.ko + _after(last.ko, "이에요", "예요") + "."
    en = " and ".join(clause.en for clause in clauses)
    return ko, en[0].upper() + en[1:] + "."


def _after(word: str, closed: str, opened: str) -> str:
    """The ending that follows a closed or an open syllable."""
    code = ord(word[-1]) - ord("가")
    return closed if 0 <= code < 11172 and code % 28 else opened
