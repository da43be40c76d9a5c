"""PrivacyPlan: what example-level DP costs, in numbers that are all public.

Every number of a plan is chosen by the server and the same on every device: the sampling rate, the steps, the noise
multiplier, the clip norm and delta. None is computed from a diary, not even from its length, so neither the plan nor
the form of an update says anything about one (deriving the sampling rate from the number of entries, as is common,
would tell it).

Accounting is the PRV accountant's upper bound (Gopi, Lee & Wutschitz 2021, arXiv 2106.02848) for the Poisson-subsampled
Gaussian mechanism under adding or removing one entry. Its cost grows with epsilon and with the steps, so a hostile order
could hold a device for minutes and take all its memory: the Rényi bound (Mironov, Talwar & Zhang 2019, arXiv 1908.10530), an
upper bound too and found in a fraction of a second, comes first and is the answer where epsilon is hopeless anyway.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from model.refusal import Refusal
from model.settings import RunSettings

Mechanism = tuple[float, float]
"""Noise multiplier and sampling rate of one step."""

MOST_STEPS = 10_000
"""Accounting for a million steps takes half a minute: no server may ask a device for that."""

HOPELESS = 50.0
"""An epsilon above this is told by the Rényi bound alone."""

LEAST_NOISE = 0.01
"""Less of it hides nothing: epsilon is infinite. The Rényi bound's series has no end for the least of numbers, nor for none."""

FINEST_ERROR, COARSEST_ERROR = 0.01, 0.5
"""By how much the PRV accountant's bound may lie above what it bounds."""

MOST_POINTS = 5_000_000
"""Points of all mechanisms' grids together: some ten seconds and 900 MB; for more the bound is coarser (see FINEST_ERROR)."""

MOST_MECHANISMS = 30
"""The PRV accountant takes a grid for each kind of step, and 100 took 71 s: more kinds have the Rényi bound alone."""

ORDERS = RDPAccountant.DEFAULT_ALPHAS

LABEL_SHARE = 0.02
"""How much of the squared signal-to-noise ratio a run spends on counting labels, if it does: enough to tell a class of a
twentieth from one of a half among 100 entries, and one hundredth more noise on every step."""


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
    label_noise: float = 0.0
    """Standard deviation of the noise on a device's label counts, drawn once a run; 0: none are drawn (``privacy.label_counts``)."""

    def __post_init__(self) -> None:
        for name in ("noise_multiplier", "sampling_rate", "clip_norm", "delta", "steps_per_round"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise Refusal(f"{name.replace('_', '-')} is {value}; a private plan needs a positive number")
        if not (math.isfinite(self.label_noise) and self.label_noise >= 0):
            raise Refusal(f"label-noise is {self.label_noise}; it is a positive number, or 0 where no label is counted")
        if not isinstance(self.steps_per_round, int) or self.steps_per_round > MOST_STEPS:
            raise Refusal(f"steps-per-round is {self.steps_per_round}; steps are whole, and at most {MOST_STEPS} of them a round")
        if self.sampling_rate > 1 or self.delta >= 1:
            raise Refusal(f"sampling-rate {self.sampling_rate} and delta {self.delta} are probabilities; give numbers up to 1")

    def epsilon(self, rounds: int) -> float:
        """Epsilon of ``rounds`` rounds at this plan's delta; 0 for none."""
        steps = [((self.noise_multiplier, self.sampling_rate), rounds * self.steps_per_round)]
        if self.label_noise and rounds:
            steps.append((self.label_counting, 1))
        return composed_epsilon(total_steps(steps), delta=self.delta)

    @property
    def label_counting(self) -> Mechanism:
        """The mechanism that counts a device's labels: one entry more or less moves one count by one."""
        return (self.label_noise, 1.0)

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
        settings.epsilon,
        settings.delta,
        settings.sampling_rate,
        settings.clip_norm,
        settings.steps_per_round,
        settings.rounds,
        settings.class_weights == "balanced",
    )


@lru_cache(maxsize=32)
def _calibrated(epsilon: float, delta: float, rate: float, clip_norm: float, steps: int, rounds: int, counts_labels: bool) -> PrivacyPlan:
    def plan(noise: float) -> PrivacyPlan:
        # All whole-diary steps together are one with noise / sqrt(steps): counting costs LABEL_SHARE of that, squared.
        label_noise = round(noise / (rate * math.sqrt(LABEL_SHARE * steps * rounds)), 3) if counts_labels else 0.0
        return PrivacyPlan(
            noise_multiplier=noise, sampling_rate=rate, clip_norm=clip_norm, delta=delta, steps_per_round=steps, label_noise=label_noise
        )

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
    """Epsilon of all ``steps`` together (any order), an upper bound; 0 for no step, infinite if one had next to no noise."""
    return _composed_epsilon(tuple(sorted(item for item in steps.items() if item[1] > 0)), delta)


@lru_cache(maxsize=4096)
def _composed_epsilon(steps: tuple[tuple[Mechanism, int], ...], delta: float) -> float:
    if not steps:
        return 0.0
    if any(not (noise >= LEAST_NOISE and rate <= 1) for (noise, rate), _ in steps):
        return math.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # log(1 - q) of a full batch, q = 1, which Opacus masks afterwards
        warnings.filterwarnings("ignore", message="Optimal order is")  # of the rough bound from which the grid is laid out
        rough = _renyi_epsilon(steps, delta)
        if not rough <= HOPELESS or len(steps) > MOST_MECHANISMS:
            return rough
        error = _prv_error(steps, delta)
        if not error <= COARSEST_ERROR:
            return rough
        accountant = PRVAccountant()
        accountant.history = [(noise, rate, count) for (noise, rate), count in steps]
        return max(0.0, float(accountant.get_epsilon(delta, eps_error=error)))


def _renyi_epsilon(steps: tuple[tuple[Mechanism, int], ...], delta: float) -> float:
    losses = [count * _renyi_loss(noise, rate) for (noise, rate), count in steps]
    epsilon, _ = get_privacy_spent(orders=ORDERS, rdp=np.sum(losses, axis=0), delta=delta)
    return max(float(epsilon), 0.0)  # in this order: what is no number stays none, and fits into no budget


@lru_cache(maxsize=1024)
def _renyi_loss(noise: float, rate: float) -> npt.NDArray[np.float64]:
    """Of one step, at each of :data:`ORDERS`."""
    loss: npt.NDArray[np.float64] = np.asarray(compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=ORDERS))
    return loss


def _prv_error(steps: tuple[tuple[Mechanism, int], ...], delta: float) -> float:
    """The finest error for which the PRV accountant's grids have at most :data:`MOST_POINTS` points together.

    A grid reaches as far as the Rényi bound at a delta some thousand times smaller, either way, and is the finer the more
    steps there are (Gopi, Lee & Wutschitz 2021, remark 5.6 and theorem 5.5; Opacus' constants).
    """
    count = sum(count for _, count in steps)
    reach = _renyi_epsilon(steps, delta / (8000 * count)) + 3
    points = len(steps) * 2 * reach * math.sqrt(count * math.log(12_000 / delta) / 2) / FINEST_ERROR
    return FINEST_ERROR * max(1.0, points / MOST_POINTS)


def total_steps(charges: Iterable[tuple[Mechanism, int]]) -> dict[Mechanism, int]:
    """Steps by mechanism; composition does not depend on their order, so a ledger of any age stays short."""
    totals: dict[Mechanism, int] = {}
    for mechanism, steps in charges:
        totals[mechanism] = totals.get(mechanism, 0) + steps
    return totals
