"""PrivacyPlan: what example-level DP costs, in numbers that are all public.

Every number of a plan is chosen by the server and the same on every device: the sampling rate, the steps, the noise
multiplier, the clip norm and delta. None is computed from a diary, not even from its length, so neither the plan nor
the form of an update says anything about one (deriving the sampling rate from the number of entries, as is common,
would tell it).

Accounting is the PRV accountant's upper bound (Gopi, Lee & Wutschitz 2021, arXiv 2106.02848) for the Poisson-subsampled
Gaussian mechanism under adding or removing one entry.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from opacus.accountants import PRVAccountant

from model.refusal import Refusal
from model.settings import RunSettings

Mechanism = tuple[float, float]
"""Noise multiplier and sampling rate of one step."""

MOST_STEPS = 10_000
"""Accounting for a million steps takes half a minute: no server may ask a device for that."""


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """Example-level DP as it is run: ``steps_per_round`` Poisson-sampled, clipped and noised steps in each round.

    ``noise_multiplier`` is the noise's standard deviation over ``clip_norm``. Raises :class:`Refusal` for values under
    which the promise would be empty.
    """

    noise_multiplier: float
    sampling_rate: float
    clip_norm: float
    delta: float
    steps_per_round: int

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "sampling_rate", "clip_norm", "delta", "steps_per_round"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise Refusal(f"{name.replace('_', '-')} is {value}; a private plan needs a positive number")
        if not isinstance(self.steps_per_round, int) or self.steps_per_round > MOST_STEPS:
            raise Refusal(f"steps-per-round is {self.steps_per_round}; steps are whole, and at most {MOST_STEPS} of them a round")
        if self.sampling_rate > 1 or self.delta >= 1:
            raise Refusal(f"sampling-rate {self.sampling_rate} and delta {self.delta} are probabilities; give numbers up to 1")

    def epsilon(self, rounds: int) -> float:
        """Epsilon of ``rounds`` rounds at this plan's delta; 0 for none."""
        return composed_epsilon({(self.noise_multiplier, self.sampling_rate): rounds * self.steps_per_round}, delta=self.delta)

    @property
    def most_entries(self) -> int:
        """The largest diary for which delta still means something: delta <= n^-1.5."""
        return math.floor(float(self.delta ** (-2 / 3)) * (1 + 1e-9))

    def affordable_rounds(self, budget: float) -> int:
        """The most rounds whose composed epsilon stays within ``budget``."""
        if self.epsilon(1) > budget:
            return 0
        low, high = 1, 2
        while self.epsilon(high) <= budget:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.epsilon(middle) <= budget else (low, middle)
        return low


def calibrated(settings: RunSettings) -> PrivacyPlan:
    """The plan with the least noise whose planned rounds *together* cost at most the settings' epsilon."""
    return _calibrated(
        settings.epsilon, settings.delta, settings.sampling_rate, settings.clip_norm, settings.steps_per_round, settings.rounds
    )


@lru_cache(maxsize=32)
def _calibrated(epsilon: float, delta: float, rate: float, clip_norm: float, steps: int, rounds: int) -> PrivacyPlan:
    def plan(noise: float) -> PrivacyPlan:
        return PrivacyPlan(noise_multiplier=noise, sampling_rate=rate, clip_norm=clip_norm, delta=delta, steps_per_round=steps)

    low, high = 0.3, 1.0
    while plan(high).epsilon(rounds) > epsilon:
        low, high = high, 2 * high
        if high > 4096:
            raise Refusal(f"epsilon {epsilon:g} over {rounds} rounds needs more than 4096 times the clip norm in noise; raise epsilon")
    if plan(low).epsilon(rounds) <= epsilon:
        return plan(low)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if plan(middle).epsilon(rounds) <= epsilon else (middle, high)
    return plan(round(high + 5e-4, 3))


def composed_epsilon(steps: Mapping[Mechanism, int], *, delta: float) -> float:
    """Epsilon of all ``steps`` together (any order), an upper bound; 0 for no step, infinite if one had no noise."""
    return _composed_epsilon(tuple(sorted(item for item in steps.items() if item[1] > 0)), delta)


@lru_cache(maxsize=4096)
def _composed_epsilon(steps: tuple[tuple[Mechanism, int], ...], delta: float) -> float:
    if not steps:
        return 0.0
    if any(noise <= 0 for (noise, _), _ in steps):
        return math.inf
    accountant = PRVAccountant()
    accountant.history = [(noise, rate, count) for (noise, rate), count in steps]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # log(1 - q) of a full batch, q = 1, which Opacus masks afterwards
        warnings.filterwarnings("ignore", message="Optimal order is")  # of the rough bound from which the grid is laid out
        return max(0.0, float(accountant.get_epsilon(delta)))


def total_steps(charges: Iterable[tuple[Mechanism, int]]) -> dict[Mechanism, int]:
    """Steps by mechanism; composition does not depend on their order, so a ledger of any age stays short."""
    totals: dict[Mechanism, int] = {}
    for mechanism, steps in charges:
        totals[mechanism] = totals.get(mechanism, 0) + steps
    return totals
