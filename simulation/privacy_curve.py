"""What privacy costs in utility: the same federated run at several epsilons, for every unit of privacy that is asked.

A sweep is a :class:`~simulation.compare.Comparison` whose contestants differ in nothing but privacy and epsilon, so it is
trained, kept and continued as one. ``inf`` is the run without privacy, one row that both units share.

| unit | setting | what is swept | whose ledger tells what was spent |
|---|---|---|---|
| ``example`` | ``--privacy example`` | ``epsilon``, at ``--delta`` | the largest of any person's own |
| ``user`` | ``--privacy user`` | ``user_epsilon``, at ``--user-delta`` | the population's |

Two epsilons of different units are different promises: equal numbers do not make them comparable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from model.refusal import Refusal
from model.settings import RunSettings
from privacy.agreement import user_plan
from privacy.plan import calibrated
from simulation.compare import FEDERATED, Comparison, Standing, contestants_of, splits_of
from simulation.run import prepare
from simulation.standings import Row, rows_of

Unit = Literal["example", "user"]
DEFAULT_EPSILONS, DEFAULT_UNITS = "inf,16,8,4,2,1", "example,user"

PROMISED = 8.0
GOAL = 0.95
"""At this epsilon a private run is to keep this share of the macro-F1 of the run without privacy."""


@dataclass(frozen=True)
class Point:
    """One row of the curve: a unit of privacy (None: without) at an epsilon, over its finished seeds."""

    unit: Unit | None
    row: Row
    plain: Row | None
    """The run without privacy; None if it is not there."""

    @property
    def asked(self) -> float:
        """The epsilon that was asked for; infinite without privacy."""
        return math.inf if self.unit is None else self._settings.epsilon if self.unit == "example" else self._settings.user_epsilon

    @property
    def delta(self) -> float | None:
        """That goes with it."""
        return None if self.unit is None else self._settings.delta if self.unit == "example" else self._settings.user_delta

    @property
    def noise_multiplier(self) -> float | None:
        """Standard deviation over clip norm: of the noise in every step on a device, or on the sum of a round's updates."""
        if self.unit is None:
            return None
        return calibrated(self._settings).noise_multiplier if self.unit == "example" else user_plan(self._settings).noise_multiplier

    @property
    def share(self) -> float | None:
        """Of the macro-F1 without privacy, mean by mean; None where nothing is there to compare with."""
        return self.row.macro_f1 / self.plain.macro_f1 if self.plain is not None and self.plain.macro_f1 else None

    @property
    def keeps(self) -> bool:
        """Whether it keeps the goal's share; exactly the goal is enough."""
        return self.share is not None and self.share >= GOAL - 1e-9

    @property
    def worst_person(self) -> float | None:
        """The lowest accuracy of any person at any seed."""
        return min((one for accuracies in self._by_seed for one in accuracies), default=None)

    @property
    def tenth_percentile(self) -> float | None:
        """Of the people's accuracies: nine in ten have more. The mean over the seeds."""
        return float(np.mean([np.percentile(accuracies, 10) for accuracies in self._by_seed])) if self._by_seed else None

    @property
    def _by_seed(self) -> list[list[float]]:
        return [cell.result.accuracy_by_person for cell in self.row.cells if cell.result.accuracy_by_person]

    @property
    def _settings(self) -> RunSettings:
        return self.row.contestant.settings


def prepare_sweep(
    settings: RunSettings,
    *,
    epsilons: str = DEFAULT_EPSILONS,
    units: str = DEFAULT_UNITS,
    seeds: int = 3,
) -> Comparison:
    """Every run that is asked for, checked; its privacy and epsilons win over the settings'. Nothing is on disk yet.

    No one learning rate suits both plain steps and AdamW's: where some runs take the one and some the other, a rate that is given
    is that of the plain steps, and the others have their own.
    """
    asked, asked_units = _epsilons(epsilons), _units(units)
    shared = replace(settings, privacy="none")
    splits = splits_of(shared, seeds)
    [plain] = contestants_of(shared.model, (FEDERATED,), (shared.dropout,), shared)
    swept = [plain.settings] if math.inf in asked else []
    swept += [_private(plain.settings, unit, epsilon) for unit in asked_units for epsilon in asked if math.isfinite(epsilon)]
    if any(one.plain_descent for one in swept):
        swept = [one if one.plain_descent else replace(one, learning_rate=0.0) for one in swept]
    for one in swept:
        prepare(one)  # whether so small an epsilon can be had, and whether the plan covers the largest diary
    for seed in list(splits)[1:]:
        prepare(replace(swept[-1], seed=seed))  # others hold other entries
    return Comparison(shared, tuple(splits), tuple(replace(plain, settings=one) for one in swept), splits, {})


def points_of(standing: Standing) -> list[Point]:
    """The rows that have finished at least one seed, in the order in which they were asked for."""
    rows = rows_of(standing)
    plain = next((row for row in rows if row.contestant.settings.privacy == "none"), None)
    return [Point(_unit_of(row.contestant.settings), row, plain) for row in rows]


def verdicts(points: list[Point]) -> list[str]:
    """In words, for each unit: whether the promised epsilon keeps the goal's share."""
    units = dict.fromkeys(point.unit for point in points if point.unit is not None)
    return [_verdict(unit, [point for point in points if point.unit == unit]) for unit in units]


def _verdict(unit: Unit, points: list[Point]) -> str:
    [*found] = [point for point in points if point.asked == PROMISED]
    if not found:
        return f"{unit}: epsilon {PROMISED:g} was not asked for, so whether it keeps {GOAL:.0%} is not known"
    [point] = found
    if point.share is None or point.plain is None:
        return f"{unit}: there is no finished run without privacy, so whether epsilon {PROMISED:g} keeps {GOAL:.0%} is not known"
    said = "keeps" if point.keeps else "does not keep"
    seeds = (len(point.row.cells), len(point.plain.cells))
    so_far = "" if seeds[0] == seeds[1] else f", so far ({seeds[0]} of its seeds against {seeds[1]})"
    return (
        f"{unit}: epsilon {PROMISED:g} {said} {GOAL:.0%} of the macro-F1 without privacy{so_far}: "
        f"{point.row.macro_f1:.3f} of {point.plain.macro_f1:.3f} are {percent(point.share)}"
    )


def percent(share: float) -> str:
    """Rounded down, so that no share is shown as a goal that it misses."""
    return f"{math.floor(1000 * share + 1e-6) / 10:.1f} %"


def _private(settings: RunSettings, unit: Unit, epsilon: float) -> RunSettings:
    if unit == "example":
        return replace(settings, privacy="example", epsilon=epsilon)
    return replace(settings, privacy="user", user_epsilon=epsilon)


def _unit_of(settings: RunSettings) -> Unit | None:
    return next((unit for unit in get_args(Unit) if unit == settings.privacy), None)


def _epsilons(named: str) -> list[float]:
    """As they were asked for; :class:`Refusal` in one sentence for what is no epsilon, or stands there twice."""
    words = [word.strip() for word in named.split(",") if word.strip()]
    asked = [_epsilon(named, word) for word in words]
    if not asked:
        raise Refusal(f"epsilon is '{named}'; write one or several with commas, such as {DEFAULT_EPSILONS}")
    if len(set(asked)) < len(asked):
        twice = next(word for word, epsilon in zip(words, asked, strict=True) if asked.count(epsilon) > 1)
        raise Refusal(f"epsilon is '{named}', which names {twice} twice; name each once")
    return asked


def _epsilon(named: str, word: str) -> float:
    try:
        epsilon = float(word)
    except ValueError:
        epsilon = math.nan
    if not epsilon > 0:
        raise Refusal(f"epsilon is '{named}' and '{word}' is no number above 0; write such as {DEFAULT_EPSILONS}, inf without privacy")
    return epsilon


def _units(named: str) -> list[Unit]:
    words = [word.strip() for word in named.split(",") if word.strip()]
    units: list[Unit] = [unit for unit in get_args(Unit) if unit in words]
    if not words or len(units) < len(words):
        wrong = next((word for word in words if word not in units), "")
        which = f"'{wrong}' is none" if wrong else "each may stand there once"
        raise Refusal(f"units is '{named}' and {which}; write {' or '.join(get_args(Unit))}, or both of them with a comma")
    return sorted(units, key=words.index)
