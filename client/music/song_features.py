"""What the recommender sees of a song in a mood: one row of numbers, the same names in every catalogue.

A mood is the classifier's whole probability vector: every feature that depends on it is a mean over the four emotions,
weighted by their probabilities, so that nothing jumps where two emotions are equally likely.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from client.music.song import GENRES, TAGS, Song, Tempo
from model.emotions import EMOTIONS
from model.refusal import Refusal

Array = NDArray[np.float64]

NO_EMOTION = (0.0,) * len(EMOTIONS)

TENSION = {"joy": 0.15, "sadness": 0.35, "anger": 0.75, "anxiety": 0.8}
"""Tension of music in each emotion, in [0, 1]: our judgement, beside the valence and arousal of ``model.emotions``."""

PLACES: Array = np.array([[emotion.valence, emotion.arousal, TENSION[emotion.en]] for emotion in EMOTIONS])
"""Where each emotion lies: valence, arousal, tension."""

REACH = 0.6
"""Distance from a mood at which a song fits it by 61 % (one standard deviation of a bell curve)."""

FORGOTTEN_AFTER = 24
"""Events after which a song that was offered counts as half new again."""

_ERAS = {"before 1990": (0, 1990), "1990s": (1990, 2000), "2000s": (2000, 2010), "since 2010": (2010, 9999)}

_PRIOR: dict[str, tuple[float, float]] = {
    "base": (0.0, 0.3),
    "fit": (0.8, 0.3),
    "new": (0.5, 0.3),
    "known": (0.6, 0.3),
    "artist": (0.4, 0.3),
    "heard": (0.3, 0.2),
    **{f"tempo {tempo}": (0.0, 0.1) for tempo in Tempo},
    **{f"era {era}": (0.0, 0.2) for era in _ERAS},
    **{f"tag {tag}": (0.0, 0.2) for tag in TAGS},
    **{f"genre {genre}": (0.0, 0.25) for genre in GENRES},
    **{f"{emotion.en} {axis}": (0.0, 0.3) for emotion in EMOTIONS for axis in ("valence", "arousal", "tension")},
}

FEATURES: tuple[str, ...] = tuple(_PRIOR)
"""The names of a row's numbers."""

PRIOR_MEAN: Array = np.array([mean for mean, _ in _PRIOR.values()])
PRIOR_SD: Array = np.array([sd for _, sd in _PRIOR.values()])
"""What a taste is before the first event: songs that fit the mood, songs liked before and their artists, a little new."""


@dataclass(frozen=True)
class Memory:
    """What one person and one song have been through."""

    events: int = 0
    reward: float = 0.0
    """Sum of the rewards of its events."""
    last: int = 0
    """Which of all events was its last, counted from 1."""
    heard: tuple[float, ...] = NO_EMOTION
    """How often it was played or liked in each emotion, by the probabilities."""
    imported: tuple[float, ...] = NO_EMOTION
    """The same from an imported history."""
    liked: bool = False
    disliked: bool = False
    played: int = 0
    """How often it was heard to the end; 0 of a time when opening a link was counted as that."""

    @property
    def enjoyed(self) -> bool:
        """Whether the person has said or shown that they like it; opening a link is neither."""
        return self.liked or self.played > 0


def checked_mood(probabilities: Sequence[float]) -> Array:
    """The four probabilities as an array; :class:`Refusal` if they are not a distribution."""
    mood = np.asarray(probabilities, dtype=np.float64)
    if mood.shape != (len(EMOTIONS),) or not np.all(mood >= 0) or abs(float(mood.sum()) - 1) > 1e-3:
        raise Refusal(f"a mood has {mood.size} probabilities; it needs {len(EMOTIONS)} of at least 0 that sum to 1")
    return np.asarray(mood / mood.sum())


def fit(places: Array, mood: Array, targets: Array) -> Array:
    """How well songs at ``places`` (S, 3) fit: a bell curve around each emotion's target (4, 3), weighted by the mood; (S,)."""
    squared = (places**2).sum(axis=1)[:, None] - 2 * places @ targets.T + (targets**2).sum(axis=1)
    return np.asarray(np.exp(-squared / (2 * REACH**2)) @ mood)


class SongFeatures:
    """The rows of one catalogue."""

    def __init__(self, songs: Sequence[Song]) -> None:
        self.places: Array = np.array([[song.valence, song.arousal, song.tension] for song in songs])
        self._number = {song.key: number for number, song in enumerate(songs)}
        names = {artist: number for number, artist in enumerate(dict.fromkeys(song.artist.casefold() for song in songs))}
        self.artists: NDArray[np.intp] = np.array([names[song.artist.casefold()] for song in songs], dtype=np.intp)
        self._fixed = np.array([_fixed_row(song) for song in songs])
        looks = np.concatenate([self._fixed, self.places * 1.5], axis=1)
        self.looks: Array = looks / np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-9)
        """Unit vectors of what a song is, in any mood: their products say how alike two songs are."""

    def of(self, mood: Array, memories: Mapping[str, Memory], events: int) -> Array:
        """One row per song, in the order of :data:`FEATURES`, after ``events`` events."""
        history = self._history(mood, memories, events)
        crossed = (mood[None, :, None] * self.places[:, None, :]).reshape(len(self.places), -1)
        ones = np.ones((len(self.places), 1))
        return np.concatenate([ones, fit(self.places, mood, PLACES)[:, None], history, self._fixed, crossed], axis=1)

    def _history(self, mood: Array, memories: Mapping[str, Memory], events: int) -> Array:
        """Columns new, known, artist, heard."""
        columns = np.zeros((len(self.places), 4))
        columns[:, 0] = 1.0
        here = [(number, memory) for key, memory in memories.items() if (number := self._number.get(key)) is not None]
        if not here:
            return columns
        at = np.array([number for number, _ in here])
        count, reward, last = np.array([(memory.events, memory.reward, memory.last) for _, memory in here]).T
        heard = np.array([memory.heard + memory.imported for _, memory in here]) @ np.concatenate([mood, mood])
        columns[at, 0] = np.where(last > 0, 1 - 0.5 ** ((events - last) / FORGOTTEN_AFTER), 1.0)
        columns[at, 1] = reward / (count + 1)
        columns[at, 3] = np.minimum(1.0, np.log1p(heard) / np.log(11))
        rewards, counts = (np.bincount(self.artists[at], values, minlength=int(self.artists.max()) + 1) for values in (reward, count))
        columns[:, 2] = (rewards / (counts + 2))[self.artists]
        return columns


def _fixed_row(song: Song) -> list[float]:
    """Columns tempo, era, tag, genre."""
    tempo = [float(song.tempo == tempo) for tempo in Tempo]
    era = [float(song.year is not None and first <= song.year < last) for first, last in _ERAS.values()]
    return tempo + era + [float(tag in song.tags) for tag in TAGS] + [float(song.genre == genre) for genre in GENRES]
