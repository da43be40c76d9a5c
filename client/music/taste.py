"""Taste: what one person's plays have taught, as a Bayesian linear regression that forgets.

The reward of an event is a linear function of the features plus noise, with a Gaussian prior on the weights. After
events 1..n with rows x and rewards r, and forgetting f, the posterior is Gaussian with

    precision  A = P + sum_i f^(n-i) x_i x_i' / s^2        mean  A^-1 (P m + sum_i f^(n-i) r_i x_i / s^2)

where m and P are the prior's mean and precision and s the noise. Old events fade and the prior does not, so what has
not been heard for long becomes uncertain again, up to the prior and no further. Thompson sampling draws the weights
from that posterior (Agrawal & Goyal 2013, "Thompson Sampling for Contextual Bandits with Linear Payoffs").

A taste is as private as the diary: it lives in Home's encrypted database, and no part of it is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from client.music.song_features import FEATURES, NO_EMOTION, PRIOR_MEAN, PRIOR_SD, Array, Memory
from model.refusal import Refusal

FORMAT = 1

NOISE = 0.5
"""Standard deviation of a reward around what the features say of it."""

CURIOSITY = 0.25
"""Share of the posterior's spread with which weights are drawn (Agrawal and Goyal's v over the noise): 1 explores more."""

FORGETTING = 0.997
"""Weight that an event keeps when another comes: half of it after 231 events."""

MOST_LIKES = 20
"""Likes that can be taken back, the latest of them."""

MOST_SONGS = 5000
"""Songs that a taste remembers one by one; the one not heard for longest goes first."""

LONGEST_DOCUMENT = 4_000_000


class Event(StrEnum):
    """What a person did with a song. Played and skipped follow :func:`client.music.listens.counts_as_heard`."""

    PLAYED = "played"
    OPENED = "opened"
    """A link to the song was followed: a weak sign, since nobody knows whether a note of it has sounded."""
    SKIPPED = "skipped"
    LIKED = "liked"
    DISLIKED = "disliked"


REWARD = {Event.LIKED: 1.0, Event.PLAYED: 0.6, Event.OPENED: 0.15, Event.SKIPPED: -0.6, Event.DISLIKED: -1.0}


class NoSuchLike(Refusal):
    """The song was not liked, or too long ago for that to be taken back."""


@dataclass(frozen=True, eq=False)
class Like:
    """What a like has added to a taste, so that it can be taken away again."""

    at: int
    """Which of all events it was, counted from 1."""
    row: Array
    mood: Array
    was: tuple[bool, bool]
    """Whether the song was liked and disliked before."""


@dataclass(frozen=True, eq=False)
class Taste:
    """One person's taste; :meth:`after` gives the next one."""

    events: int = 0
    moments: Array = field(default_factory=lambda: np.zeros((len(FEATURES), len(FEATURES))), repr=False)
    """Sum of the faded outer products of the events' rows."""
    rewards: Array = field(default_factory=lambda: np.zeros(len(FEATURES)), repr=False)
    """Sum of the faded rows, each times its reward."""
    songs: Mapping[str, Memory] = field(default_factory=dict, repr=False)
    likes: Mapping[str, Like] = field(default_factory=dict, repr=False)
    """The last likes by song, oldest first."""

    def after(self, row: Array, event: Event, key: str, mood: Array) -> Taste:
        """The taste once ``event`` has befallen the song ``key``, whose features were ``row``, in ``mood``."""
        reward, memory, likes = REWARD[event], self.songs.get(key, Memory()), dict(self.likes)
        if event in (Event.LIKED, Event.DISLIKED):
            likes.pop(key, None)  # there is nothing older to take back behind what the person has said since
        if event is Event.LIKED:
            likes[key] = Like(self.events + 1, row, mood, (memory.liked, memory.disliked))
        return Taste(
            self.events + 1,
            FORGETTING * self.moments + np.outer(row, row),
            FORGETTING * self.rewards + reward * row,
            _bounded({**self.songs, key: _remembered(memory, event, self.events + 1, mood)}),
            dict(list(likes.items())[-MOST_LIKES:]),
        )

    def without_like(self, key: str) -> Taste:
        """The taste as if the song's last like had taught nothing; :class:`NoSuchLike` if there is none to take back.

        That something happened then stays: what came before it has faded by one event, and the song is no longer new.
        """
        if key not in self.likes or key not in self.songs:
            raise NoSuchLike(f"this song is not among the last {MOST_LIKES} that were liked; say `disliked` if it should not come again")
        like, memory = self.likes[key], self.songs[key]
        faded = FORGETTING ** (self.events - like.at)
        liked, disliked = like.was
        corrected = replace(
            memory,
            events=memory.events - 1,
            reward=memory.reward - REWARD[Event.LIKED],
            heard=tuple(float(count) for count in np.maximum(0.0, np.subtract(memory.heard, like.mood))),
            liked=liked,
            disliked=disliked,
        )
        return replace(
            self,
            moments=self.moments - faded * np.outer(like.row, like.row),
            rewards=self.rewards - faded * REWARD[Event.LIKED] * like.row,
            songs={**self.songs, key: corrected},
            likes={other: one for other, one in self.likes.items() if other != key},
        )

    def having_heard(self, heard: Mapping[str, Sequence[float]]) -> Taste:
        """The taste with an imported history: per song, listens in each emotion.

        The larger of the old and the new count stays, so that importing the same file twice changes nothing.
        """
        songs = dict(self.songs)
        for key, counts in heard.items():
            memory = songs.get(key, Memory())
            songs[key] = replace(memory, imported=tuple(float(max(pair)) for pair in zip(memory.imported, counts, strict=True)))
        return replace(self, songs=_bounded(songs))

    def posterior(self) -> tuple[Array, Array]:
        """Mean of the weights, and the lower Cholesky factor of their precision."""
        prior = 1 / PRIOR_SD**2
        factor = np.linalg.cholesky(np.diag(prior) + self.moments / NOISE**2)
        half = np.linalg.solve(factor, prior * PRIOR_MEAN + self.rewards / NOISE**2)
        return np.linalg.solve(factor.T, half).astype(np.float64), factor.astype(np.float64)

    def draw(self, rng: np.random.Generator) -> Array:
        """Weights drawn from the posterior, its spread times :data:`CURIOSITY`."""
        mean, factor = self.posterior()
        return np.asarray(mean + CURIOSITY * np.linalg.solve(factor.T, rng.standard_normal(len(mean))))

    def to_json(self) -> str:
        """Everything, as JSON that :meth:`from_json` reads back to the last bit."""
        lower = np.tril_indices(len(FEATURES))
        document = {
            "format": FORMAT,
            "features": FEATURES,
            "events": self.events,
            "moments": self.moments[lower].tolist(),
            "rewards": self.rewards.tolist(),
            "songs": {key: _short(memory) for key, memory in self.songs.items()},
            "likes": {key: _written(like) for key, like in self.likes.items()},
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, document: str) -> Taste:
        """The taste that was written; :class:`Refusal` for a damaged, hostile or foreign document."""
        if len(document) > LONGEST_DOCUMENT:
            raise Refusal(f"a taste of {len(document)} characters is longer than {LONGEST_DOCUMENT}; start a new one")
        try:
            content = json.loads(document, parse_constant=_no_number)
            found = content["format"]
            if found == FORMAT:
                return cls._read(content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, np.linalg.LinAlgError) as error:
            raise Refusal(f"the taste is damaged ({type(error).__name__}); restore it from a backup, or start a new one") from None
        shown = found if isinstance(found, int) and abs(found) < 10**6 else "another"
        raise Refusal(f"the taste has format {shown} and this program reads {FORMAT}; use the program that wrote it, or start a new one")

    @classmethod
    def _read(cls, content: Mapping[str, Any]) -> Taste:
        size = len(FEATURES)
        lower = np.zeros((size, size))
        lower[np.tril_indices(size)] = _numbers(content["moments"], size * (size + 1) // 2)
        songs = {_key(key): _memory(values) for key, values in content["songs"].items()}
        events = content["events"]
        if tuple(content["features"]) != FEATURES or type(events) is not int or not 0 <= events < 2**53 or len(songs) > MOST_SONGS:
            raise ValueError
        if len(content.get("likes", {})) > MOST_LIKES:
            raise ValueError
        if any(memory.last > events for memory in songs.values()):
            raise ValueError
        likes = {_key(key): _like(values, events) for key, values in content.get("likes", {}).items()}
        taste = cls(events, lower + np.tril(lower, -1).T, _numbers(content["rewards"], size), songs, likes)
        taste.posterior()  # a matrix that is no sum of squares fails here
        return taste


def _remembered(memory: Memory, event: Event, now: int, mood: Array) -> Memory:
    heard = tuple(float(count) for count in np.add(memory.heard, mood)) if event in (Event.PLAYED, Event.LIKED) else memory.heard
    named = event in (Event.LIKED, Event.DISLIKED)
    return replace(
        memory,
        events=memory.events + 1,
        reward=memory.reward + REWARD[event],
        last=now,
        heard=heard,
        played=memory.played + (event is Event.PLAYED),
        liked=event is Event.LIKED if named else memory.liked,
        disliked=event is Event.DISLIKED if named else memory.disliked,
    )


def _bounded(songs: dict[str, Memory]) -> dict[str, Memory]:
    """The songs that fit: what the person has named is kept longest, then what was heard last, then most."""
    if len(songs) <= MOST_SONGS:
        return songs
    worth = sorted(songs, key=lambda key: (songs[key].disliked or songs[key].liked, songs[key].last, sum(songs[key].imported)))
    return {key: songs[key] for key in worth[-MOST_SONGS:]}


_NOTHING = Memory()


def _short(memory: Memory) -> dict[str, Any]:
    """What differs from a song that nothing has befallen."""
    return {name: value for name, value in vars(memory).items() if value != getattr(_NOTHING, name)}


def _memory(values: Mapping[str, Any]) -> Memory:
    heard = {name: tuple(_numbers(values.get(name, NO_EMOTION), len(NO_EMOTION)).tolist()) for name in ("heard", "imported")}
    memory = Memory(**{**values, **heard})
    counts = (memory.events, memory.last, memory.played)
    sound = all(type(count) is int and 0 <= count < 2**53 for count in counts) and type(memory.liked) is type(memory.disliked) is bool
    if (
        not sound
        or memory.played > memory.events
        or min(*memory.heard, *memory.imported) < 0
        or not abs(float(memory.reward)) <= memory.events
    ):
        raise ValueError
    return memory


def _written(like: Like) -> dict[str, Any]:
    return {"at": like.at, "row": like.row.tolist(), "mood": like.mood.tolist(), "was": like.was}


def _like(values: Mapping[str, Any], events: int) -> Like:
    liked, disliked = values["was"]
    if type(values["at"]) is not int or not 1 <= values["at"] <= events or not type(liked) is type(disliked) is bool:
        raise ValueError
    return Like(values["at"], _numbers(values["row"], len(FEATURES)), _numbers(values["mood"], len(NO_EMOTION)), (liked, disliked))


def _numbers(values: Sequence[float], count: int) -> Array:
    numbers = np.array([float(value) for value in values])
    if numbers.shape != (count,) or not np.all(np.abs(numbers) < 1e9):
        raise ValueError
    return numbers


def _key(key: str) -> str:
    if not 0 < len(key) <= 64:
        raise ValueError
    return key


def _no_number(constant: str) -> float:
    raise ValueError(constant)
