"""Recommender: one person's taste over songs and moods, and playlists that stay with a mood or lead out of it.

One linear model is shared by all songs and all emotions, so that a like for one song speaks for others of its kind, and a
new catalogue does not start from nothing. Weights are drawn by Thompson sampling (:mod:`client.music.taste`), once a playlist.

The person chooses what a playlist does with the mood:

- *stay*: songs that fit the mood.
- *shift*: begins where the person is and leads in equal steps to a better place; valence never falls along the list. This is the
  iso principle of music therapy (Altshuler 1948). The evidence that it changes a mood is small and mixed, and nothing here
  promises healing: it is an order of songs that a person may like.
- *calm*: arousal never rises along the list, and tension falls.

The mode decides among which songs each step chooses, the taste which of those it is; no artist comes twice while another
has not come, and a list is spread out by maximal marginal relevance (Carbonell & Goldstein 1998).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from client.music.reasons import Reasons
from client.music.song import Song
from client.music.song_features import PLACES, Array, SongFeatures, checked_mood, fit
from client.music.taste import Event, Taste
from model.refusal import Refusal

__all__ = ["Event", "Mode", "Recommendation", "Recommender", "Taste", "diverse"]

LONGEST_LIST = 100

RELEVANCE = 0.8
"""Share of the score in maximal marginal relevance; the rest is distance from the songs already chosen."""

BETTER: Array = np.array([0.7, 0.35, 0.15])
"""Where *shift* leads: valence, arousal, tension."""

CALMER: Array = np.array([0.3, -0.65, 0.08])
"""Where *calm* leads."""


class Mode(StrEnum):
    """What a playlist does with the mood."""

    STAY = "stay"
    SHIFT = "shift"
    CALM = "calm"


NEAREST = {Mode.STAY: 0.3, Mode.SHIFT: 0.03, Mode.CALM: 0.03}
"""Share of the catalogue, nearest to a step's place, among which the step may choose."""


@dataclass(frozen=True)
class Recommendation:
    """A song, and in one sentence what spoke for it."""

    song: Song
    why: str
    why_en: str
    score: float


class Recommender:
    """Recommends from one catalogue and learns from what the person does; of songs with the same key the first counts."""

    def __init__(self, songs: Sequence[Song], taste: Taste | None = None) -> None:
        if not songs:
            raise Refusal("there are no songs to choose from; import a catalogue, or use the bundled one")
        self._songs = tuple({song.key: song for song in reversed(songs)}.values())[::-1]
        self._number = {song.key: number for number, song in enumerate(self._songs)}
        self._features = SongFeatures(self._songs)
        self._taste = taste or Taste()

    @property
    def taste(self) -> Taste:
        """What has been learned so far; another takes its place where somebody else has taught it."""
        return self._taste

    @taste.setter
    def taste(self, taste: Taste) -> None:
        self._taste = taste

    def recommend(self, probabilities: Sequence[float], *, mode: Mode, count: int = 12, rng: np.random.Generator) -> list[Recommendation]:
        """Up to ``count`` songs for a mood; never one that the person dislikes. The same ``rng`` gives the same list."""
        if not 1 <= count <= LONGEST_LIST:
            raise Refusal(f"a playlist of {count} songs cannot be made; ask for 1 to {LONGEST_LIST}")
        mood, mode = checked_mood(probabilities), Mode(mode)
        rows = self._features.of(mood, self._taste.songs, self._taste.events)
        weights = self._taste.draw(rng)
        scores = rows @ weights
        steps = self._steps(mood, mode, count)
        chosen = diverse(scores, self._features.looks, steps, self._features.artists)
        chosen = _in_order(chosen, self._features.places, mode)
        reasons = Reasons(self._songs, self._taste, rows, weights, mood=mood, mode=mode.value)
        return [
            Recommendation(self._songs[number], *reasons.of(number, step, len(chosen)), float(scores[number]))
            for step, number in enumerate(chosen)
        ]

    def learn(self, song_key: str, event: Event, probabilities: Sequence[float]) -> None:
        """Take in what the person did with a song in a mood."""
        if song_key not in self._number:
            raise Refusal("this song is not in the catalogue; import it first, or name it by a key from GET /v1/songs")
        mood = checked_mood(probabilities)
        rows = self._features.of(mood, self._taste.songs, self._taste.events)
        self._taste = self._taste.after(rows[self._number[song_key]], Event(event), song_key, mood)

    def take_back_like(self, song_key: str) -> None:
        """Unlearn the last like of a song; :class:`client.music.taste.NoSuchLike` if there is none."""
        self._taste = self._taste.without_like(song_key)

    def remember(self, heard: Mapping[str, Sequence[float]]) -> None:
        """Take in an imported history: listens per song key and emotion (:func:`client.music.listens.heard_in_emotions`)."""
        self._taste = self._taste.having_heard({key: counts for key, counts in heard.items() if key in self._number})

    def _steps(self, mood: Array, mode: Mode, count: int) -> list[NDArray[np.bool_]]:
        """For each place in the list, the songs among which it chooses: those that fit its step, the disliked left out."""
        allowed = np.array([key not in self._taste.songs or not self._taste.songs[key].disliked for key in self._number])
        size = max(2 * count, round(NEAREST[mode] * len(allowed)))
        places = self._features.places
        if mode is Mode.STAY:
            return [allowed & _nearest(fit(places, mood, PLACES), allowed, size)] * count
        return [allowed & _nearest(fit(places, mood, targets), allowed, size) for targets in _path(mode, count)]


def diverse(scores: Array, looks: Array, steps: Sequence[NDArray[np.bool_]], artists: NDArray[np.intp]) -> list[int]:
    """Maximal marginal relevance (Carbonell & Goldstein 1998), one song for each of ``steps``, fewer where none is left.

    Of the songs that a step allows and nobody has chosen, those whose artist was chosen least often remain; of these the one
    with the largest ``RELEVANCE * score - (1 - RELEVANCE) * likeness`` to the most alike song chosen (``looks``: unit vectors).
    """
    chosen: list[int] = []
    likeness = np.zeros(len(scores))
    free = np.ones(len(scores), dtype=bool)
    times = np.zeros(int(artists.max()) + 1, dtype=int)
    for step in steps:
        left = step & free
        if not left.any():
            continue
        left &= times[artists] == times[artists[left]].min()
        best = int(np.argmax(np.where(left, RELEVANCE * scores - (1 - RELEVANCE) * likeness, -np.inf)))
        chosen.append(best)
        free[best] = False
        times[artists[best]] += 1
        likeness = np.maximum(likeness, looks @ looks[best])
    return chosen


def _path(mode: Mode, count: int) -> list[Array]:
    """The targets (4, 3) of each step: from every emotion's own place to where the mode leads, in equal steps."""
    way = _goal(mode) - PLACES
    return [PLACES + share * way for share in np.linspace(0, 1, max(count, 2))[:count]]


def _goal(mode: Mode) -> Array:
    """Where each emotion is led (4, 3): *shift* lowers nobody's valence, *calm* raises nobody's arousal or tension."""
    if mode is Mode.SHIFT:
        return np.column_stack([np.maximum(PLACES[:, 0], BETTER[0]), np.tile(BETTER[1:], (len(PLACES), 1))])
    return np.column_stack([np.full(len(PLACES), CALMER[0]), np.minimum(PLACES[:, 1:], CALMER[1:])])


def _nearest(fits: Array, allowed: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """The ``size`` songs that fit best; rounded, so that a hair's breadth does not part songs that fit alike."""
    order = np.argsort(np.where(allowed, -np.round(fits, 6), np.inf), kind="stable")
    nearest = np.zeros(len(fits), dtype=bool)
    nearest[order[:size]] = True
    return nearest


def _in_order(chosen: list[int], places: Array, mode: Mode) -> list[int]:
    """*shift* by rising valence, *calm* by falling arousal, *stay* as chosen."""
    if mode is Mode.SHIFT:
        return sorted(chosen, key=lambda number: places[number, 0])
    if mode is Mode.CALM:
        return sorted(chosen, key=lambda number: -places[number, 1])
    return chosen
