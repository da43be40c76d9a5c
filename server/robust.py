"""Robust aggregation: a round's mean that no minority of the devices can move at will.

**Promise.** Of n updates up to f may be anything that is finite, and made by devices that know all the others. Median and
trimmed mean then stay, in every coordinate, between the smallest and the largest value that an honest device sent.
Multi-Krum gives a mean of honest updates alone if attackers keep apart: if the squared distance between attacker and honest
is everywhere more than (n - f - 2) / (n - 2f - 1) times that between two honest ones. How many f each rule bears is its
``withstands(n)``; fewer updates than its promise needs are refused (:class:`TooFewUpdates`).
**For whom**: everybody who uses the shared model. **Against whom**: devices that follow no protocol, and collude.
**Assumptions**: the server is honest, one device sends one update, and honest updates resemble each other: what only a few
people write looks like an attack to every rule here, and counts for little. An attack that hides inside the honest spread
("a little is enough", Baruch et al. 2019, arXiv 1902.06156) stays inside it, and can still do harm there over many rounds;
Multi-Krum may even choose it.
**Privacy**: a rule compares single updates, so it excludes masking and encryption. After example-level DP on the device it
is post-processing and costs nothing. One person may move these results by more than clip norm / n, so noise that user-level DP
has measured for a mean does not cover them.
**Cost**: all updates are held at once, n copies of the trained parameters (100 updates of 15 million: 6 GB), where a running
mean needs two; beside them the result and at most 30 MB. On one core those 100 take about 10 s where coordinates are sorted,
and a minute for Multi-Krum's n (n - 1) / 2 distances (20 of them: 3 s); both are linear in the number of parameters.
**Papers**: Yin et al. 2018, arXiv 1803.01498 (median, trimmed mean); Blanchard et al. 2017, arXiv 1703.02757 (Krum,
Multi-Krum). **Shapes**: updates of the same names and shapes in, one of them out; inside, blocks (n, C) of C coordinates.

Every update counts the same: the number of entries that a device claims would be a lever for whoever lies about it. No
result depends on the order in which updates came, to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from model.refusal import Refusal
from model.weights import Array, Weights

BLOCK_VALUES = 2**20
"""Values of all updates together that are worked on at a time: 4 MB in float32, which a processor's cache can hold."""

Doubles = npt.NDArray[np.float64]


class TooFewUpdates(Refusal):
    """Fewer updates came than the rule's promise needs; the round changes nothing."""


@dataclass(frozen=True)
class Aggregate:
    """What a rule made of a round, and the positions of the updates that it left out altogether, for the journal."""

    value: Weights
    left_out: tuple[int, ...] = ()


class RobustRule(Protocol):
    """One update from many, of which some may be anything."""

    @property
    def name(self) -> str:
        """As settings and refusals call it."""

    def withstands(self, updates: int) -> int:
        """How many of so many updates may be anything."""

    def aggregate(self, updates: Sequence[Weights]) -> Aggregate:
        """Raises :class:`TooFewUpdates`, or :class:`Refusal` for updates of different shapes or not finite."""


class Aggregation(Protocol):
    """What a round's updates are added to one by one: :class:`model.weights.RunningMean`, or :class:`HeldUpdates`."""

    def add(self, update: Weights, weight: float, /) -> None:
        """Take one checked update, and the weight that its device claims."""

    def value(self) -> Weights:
        """What all of them come to; call it once, at the end."""


class HeldUpdates:
    """A robust rule where a running mean could stand. Holds every update until :meth:`value`, since all are compared."""

    def __init__(self, rule: RobustRule) -> None:
        self.left_out: tuple[int, ...] = ()
        self._rule = rule
        self._updates: list[Weights] = []

    def add(self, update: Weights, weight: float, /) -> None:
        """Take one update; its claimed weight is not used."""
        self._updates.append(update)

    def value(self) -> Weights:
        """The rule's aggregate; ``left_out`` then tells which updates (by the order they were added in) had no part in it."""
        result = self._rule.aggregate(self._updates)
        self.left_out = result.left_out
        return result.value


@dataclass(frozen=True)
class Median:
    """The median of every coordinate; of an even number, the mean of the middle two. Bears just under half."""

    name: ClassVar[str] = "median"

    def withstands(self, updates: int) -> int:
        return max(0, (updates - 1) // 2)

    def aggregate(self, updates: Sequence[Weights]) -> Aggregate:
        _require(updates, at_least=3, rule=self.name, otherwise="let more clients train, or use the mean")
        return Aggregate(_trimmed_mean(updates, each_side=self.withstands(len(updates))))


@dataclass(frozen=True)
class TrimmedMean:
    """The mean of every coordinate without the share of largest and the share of smallest values. Bears that share.

    A share of 0 is the plain mean of equal weights, and bears nobody.
    """

    share: float
    name: ClassVar[str] = "trimmed-mean"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 0.5:
            raise Refusal(f"trimmed-mean is to leave out a share of {self.share} on each side; it must be at least 0 and below 0.5")

    def withstands(self, updates: int) -> int:
        return math.floor(self.share * updates * (1 + 1e-9))  # 0.29 * 100 is a little less than 29

    def aggregate(self, updates: Sequence[Weights]) -> Aggregate:
        fewest = math.ceil(1 / self.share * (1 - 1e-9)) if self.share else 1
        _require(updates, at_least=fewest, rule=self.name, otherwise="let more clients train, raise the share, or use median")
        return Aggregate(_trimmed_mean(updates, each_side=self.withstands(len(updates))))


@dataclass(frozen=True)
class MultiKrum:
    """The mean of the ``kept`` updates that lie closest to their n - ``attackers`` - 2 nearest others.

    Needs n >= 2 ``attackers`` + 3. ``kept`` 1 is Krum; "most" is n - ``attackers``, beyond which an attacker would be kept.
    """

    attackers: int
    kept: int | Literal["most"] = "most"
    name: ClassVar[str] = "multi-krum"

    def __post_init__(self) -> None:
        if self.attackers < 0:
            raise Refusal(f"multi-krum is to bear {self.attackers} attackers; give 0 or more")
        if self.kept != "most" and self.kept < 1:
            raise Refusal(f"multi-krum is to keep {self.kept} updates; keep 1 or more, or most")

    def withstands(self, updates: int) -> int:
        return self.attackers if updates >= 2 * self.attackers + 3 else 0

    def aggregate(self, updates: Sequence[Weights]) -> Aggregate:
        fewest = 2 * self.attackers + 3
        if self.kept != "most":
            fewest = max(fewest, self.kept + self.attackers)
        _require(updates, at_least=fewest, rule=self.name, otherwise="let more clients train, expect fewer attackers, or keep fewer")
        kept = self._closest(updates)
        mean = _coordinate_wise([updates[row] for row in kept], lambda block: block.mean(axis=0, dtype=np.float64))
        return Aggregate(mean, tuple(sorted(set(range(len(updates))) - set(kept))))

    def _closest(self, updates: Sequence[Weights]) -> list[int]:
        """Positions of the updates to keep, best score first; equal scores go by digest, not by who came first."""
        scores = krum_scores(squared_distances(updates), attackers=self.attackers)
        kept = len(updates) - self.attackers if self.kept == "most" else self.kept
        return sorted(range(len(updates)), key=lambda row: _Ranked(float(scores[row]), updates[row]))[:kept]


@dataclass(frozen=True)
class _Ranked:
    """An update's place in the order; hashes it only where another has the very same score."""

    score: float
    update: Weights = field(compare=False)

    def __lt__(self, other: _Ranked) -> bool:
        return self.score < other.score or (self.score == other.score and self.update.digest < other.update.digest)


def krum_scores(squared: Doubles, *, attackers: int) -> Doubles:
    """Of squared distances (n, n): each row's sum of its n - ``attackers`` - 2 smallest to others, (n,)."""
    nearest = len(squared) - attackers - 2
    to_others = np.sort(squared + np.diag(np.full(len(squared), np.inf)), axis=1)
    scores: Doubles = to_others[:, :nearest].sum(axis=1)
    return scores


def squared_distances(updates: Sequence[Weights]) -> Doubles:
    """Squared L2 distances between all pairs, (n, n), in float64 from the differences themselves.

    The shorter way by inner products, ``|a|^2 + |b|^2 - 2ab``, loses the distance between two updates that are far from
    zero and close to each other, which is what attackers who collude send; it even comes out below zero.
    """
    count = len(updates)
    squared = np.zeros((count, count))
    for name in updates[0]:
        for _, block in _blocks(updates, name):
            rows = block.astype(np.float64)
            differences = np.empty_like(rows)
            for row in range(count - 1):
                apart = np.subtract(rows[row + 1 :], rows[row], out=differences[row + 1 :])
                squared[row, row + 1 :] += np.vecdot(apart, apart)
    return squared + squared.T


def _trimmed_mean(updates: Sequence[Weights], *, each_side: int) -> Weights:
    def combine(block: Array) -> Doubles:
        block.sort(axis=0)
        inner: Doubles = block[each_side : len(block) - each_side].mean(axis=0, dtype=np.float64)
        return inner

    return _coordinate_wise(updates, combine)


def _coordinate_wise(updates: Sequence[Weights], combine: Callable[[Array], Doubles]) -> Weights:
    """Every coordinate by ``combine``, (n, C) -> (C,), which may overwrite its block."""
    arrays: dict[str, Array] = {}
    for name, shape in updates[0].shapes.items():
        values = np.empty(math.prod(shape), dtype=np.float32)
        for part, block in _blocks(updates, name):
            values[part] = combine(block)
        arrays[name] = values.reshape(shape)
    return Weights(arrays)


def _blocks(updates: Sequence[Weights], name: str) -> Iterator[tuple[slice, Array]]:
    """One array of all updates, some coordinates at a time: where they stand in it, and a copy (n, C) of them."""
    flat = [update[name].reshape(-1) for update in updates]
    width = max(1, BLOCK_VALUES // len(updates))
    for start in range(0, flat[0].size, width):
        part = slice(start, start + width)
        yield part, np.stack([values[part] for values in flat])


def _require(updates: Sequence[Weights], *, at_least: int, rule: str, otherwise: str) -> None:
    """Refuse too few updates, updates of different shapes, and values that are not finite."""
    if len(updates) < at_least:
        raise TooFewUpdates(f"{len(updates)} updates came and {rule} as it is set needs {at_least}; {otherwise}")
    for position, update in enumerate(updates):
        update.require_shapes(updates[0].shapes)
        if not update.is_finite():
            raise Refusal(f"update {position} of {len(updates)} holds a value that is not finite; refuse it before {rule} compares it")
