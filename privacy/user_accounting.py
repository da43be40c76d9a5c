"""UserPlan and UserLedger: what user-level DP costs, in public numbers, and what a population has spent of it.

**The relation.** Two populations are neighbours if one has one person more. In a full round that is the same as replacing
the person's update by zero, as the divisor of the sum is public and does not move. One relation for all three kinds of
round, so that rounds of different kinds compose. Each round is a Gaussian mechanism, perhaps subsampled, and is written
as (noise over sensitivity, rate); C is the clip norm, z the noise's standard deviation over C, m of N clients are asked:

- ``full``, m = N: the person's update comes or goes, the sensitivity is C: (z, 1).
- ``poisson``, each with probability q = m / N by itself: (z, q).
- ``fixed``, m of N without replacement: a person who is asked takes the place of another, so two sums differ by up to
  2C: (z / 2, m / N). For draw m of the others; with probability m / N one of them, chosen at random, makes room for the person;
  the rest is joint convexity (Zhu, Dong & Wang 2022, arXiv 2106.08567, Theorem 11). Poisson's figure for such a round is
  false: 50 clients, m 10, 20 rounds, z 1, delta 50^-1.1 cost 12.0 where it says 2.8.

Sampling helps only against those who cannot know who was asked: readers of the model. It does nothing against the server.

Rounds are composed by privacy loss distributions (Koskela et al. 2020, arXiv 1906.03049; Doroshenko et al. 2022,
arXiv 2207.04380), pessimistically; all full rounds together are one Gaussian mechanism, exactly. What the published fraction
of clipped updates costs is inside z (see :attr:`UserPlan.update_noise`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from dp_accounting import dp_event  # type: ignore[import-untyped]
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant  # type: ignore[import-untyped]
from dp_accounting.rdp.rdp_privacy_accountant import RdpAccountant  # type: ignore[import-untyped]

from model.refusal import Refusal
from privacy.ledger import ChargeFile, LedgerDamaged, PrivacyBudgetSpent
from privacy.plan import Mechanism, total_steps

Sampling = Literal["full", "fixed", "poisson"]

LEAST_NOISE, MOST_NOISE = 0.1, 4096.0
"""Below, one round costs an epsilon of 50 or more; above, nothing but noise is left."""

SMALLEST_CLIP, LARGEST_CLIP = 1e-6, 1e6
"""Between these a clipped update's norm survives the rounding to float32."""

MOST_CLIENTS, MOST_ROUNDS = 10**9, 10_000

MOST_KINDS = 30
"""Kinds of subsampled rounds in one ledger: each takes up to a second to compose, in every round that follows."""

HOPELESS = 200.0
"""An epsilon above this is told by the coarser Rényi bound: exact composition would take minutes and gigabytes."""


@dataclass(frozen=True, kw_only=True)
class UserPlan:
    """User-level DP as it is run; see the module for what each kind of round costs.

    ``noise_multiplier`` z is what is accounted for, over ``clip_norm``. ``clients`` is the whole registered population N,
    those who are offline too, and ``clients_per_round`` m the public divisor of every sum. ``count_noise`` is the noise on
    the number of updates within the clip norm (adaptive clipping); infinite where no such number is released. Raises
    :class:`Refusal` for values under which the promise would be empty.
    """

    noise_multiplier: float
    clip_norm: float
    delta: float
    clients: int
    clients_per_round: int
    sampling: Sampling
    count_noise: float = math.inf

    def __post_init__(self) -> None:
        _within("noise-multiplier", self.noise_multiplier, low=LEAST_NOISE, high=MOST_NOISE)
        _within("clip-norm", self.clip_norm, low=SMALLEST_CLIP, high=LARGEST_CLIP)
        _require_delta(self.delta)
        _require_sampling(self.sampling, self.clients, self.clients_per_round)
        if not self.count_noise > self.noise_multiplier / 2:
            raise Refusal(
                f"count-noise is {self.count_noise:g} and noise-multiplier {self.noise_multiplier:g}; the count alone would cost the "
                "whole round, raise count-noise above half the noise multiplier"
            )

    @property
    def mechanism(self) -> Mechanism:
        """Noise over sensitivity, and rate: what one round costs."""
        return _mechanism(self.noise_multiplier, self.sampling, self.clients, self.clients_per_round)

    @property
    def update_noise(self) -> float:
        """The updates' own noise over the clip norm, z_delta = (z^-2 - (2 count_noise)^-2)^-1/2: with a count released beside
        them they bear more, so that both together cost z (Andrew et al. 2021, Theorem 1; the count's sensitivity is 1/2)."""
        return float((self.noise_multiplier**-2 - (2 * self.count_noise) ** -2) ** -0.5)

    def epsilon(self, rounds: int) -> float:
        """Epsilon of ``rounds`` rounds together at this plan's delta; 0 for none."""
        _require_whole("rounds", rounds, low=0, high=MOST_ROUNDS)
        return composed_user_epsilon({self.mechanism: rounds}, delta=self.delta)


def calibrated_user_plan(
    *,
    epsilon: float,
    delta: float,
    rounds: int,
    clip_norm: float,
    clients: int,
    clients_per_round: int,
    sampling: Sampling,
    count_noise: float = math.inf,
) -> UserPlan:
    """The plan with the least noise (to a thousandth) whose planned rounds *together* cost at most ``epsilon``."""
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise Refusal(f"epsilon is {epsilon}; it must be positive and finite")
    _require_whole("rounds", rounds, low=1, high=MOST_ROUNDS)
    _require_delta(delta)
    _require_sampling(sampling, clients, clients_per_round)
    return UserPlan(
        noise_multiplier=_least_noise(epsilon, delta, rounds, sampling, clients, clients_per_round),
        clip_norm=clip_norm,
        delta=delta,
        clients=clients,
        clients_per_round=clients_per_round,
        sampling=sampling,
        count_noise=count_noise,
    )


@lru_cache(maxsize=32)
def _least_noise(epsilon: float, delta: float, rounds: int, sampling: Sampling, clients: int, clients_per_round: int) -> float:
    def fits(noise: float) -> bool:
        mechanism = _mechanism(noise, sampling, clients, clients_per_round)
        return composed_user_epsilon({mechanism: rounds}, delta=delta) <= epsilon

    low, high = LEAST_NOISE, LEAST_NOISE
    while not fits(high):
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise Refusal(f"epsilon {epsilon:g} over {rounds} rounds needs more than {low:g} times the clip norm in noise; raise epsilon")
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def composed_user_epsilon(rounds: Mapping[Mechanism, int], *, delta: float) -> float:
    """Epsilon of all ``rounds`` together (any order), an upper bound; 0 for none, infinite if one had no noise."""
    done = {mechanism: count for mechanism, count in rounds.items() if count > 0}
    if any(not noise > 0 for noise, _ in done):
        return math.inf
    return _composed(tuple(sorted(_gathered(done).items())), delta) if done else 0.0


def _gathered(rounds: Mapping[Mechanism, int]) -> dict[Mechanism, int]:
    """The same rounds, with all Gaussian ones as the one they compose to: precisions (1 / noise^2) add up."""
    precision = math.fsum(count / noise**2 for (noise, rate), count in rounds.items() if rate == 1.0)
    subsampled = {mechanism: count for mechanism, count in rounds.items() if mechanism[1] != 1.0}
    return subsampled | ({(precision**-0.5, 1.0): 1} if precision else {})


@lru_cache(maxsize=4096)
def _composed(rounds: tuple[tuple[Mechanism, int], ...], delta: float) -> float:
    rough = _epsilon(RdpAccountant(orders=range(2, 65)), rounds, delta)
    if rough > HOPELESS:
        return rough
    return min(rough, _epsilon(PLDAccountant(value_discretization_interval=_grid(rounds, rough)), rounds, delta))


def _grid(rounds: tuple[tuple[Mechanism, int], ...], rough: float) -> float:
    """The grid of privacy losses: fine for a small epsilon over many rounds, in which its rounding adds up; never so fine that
    one mechanism takes more than some 100,000 points."""
    widest = max(0.5 / noise**2 + 8 / noise for (noise, _), _ in rounds)
    coarsest = 1e-3 if sum(count for _, count in rounds) > 1 else 1e-2
    return min(coarsest, max(1e-5, rough / 1000, widest / 1e5))


def _epsilon(accountant: PLDAccountant | RdpAccountant, rounds: tuple[tuple[Mechanism, int], ...], delta: float) -> float:
    for (noise, rate), count in rounds:
        accountant.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise)), count)
    return max(0.0, float(accountant.get_epsilon(delta)))


@dataclass(frozen=True)
class UserCharge:
    """One round's cost to everybody in the population: which run and round, and the numbers from which it follows."""

    run: str
    round: int
    noise_multiplier: float
    sampling: Sampling
    clients: int
    clients_per_round: int

    def __post_init__(self) -> None:
        _require_sampling(self.sampling, self.clients, self.clients_per_round)

    @property
    def mechanism(self) -> Mechanism:
        """As of :class:`UserPlan`."""
        return _mechanism(self.noise_multiplier, self.sampling, self.clients, self.clients_per_round)


class UserLedger:
    """What one population has spent in all rounds of all runs, on disk before the result of a round is released.

    Promise: the sum of the ledger is never less than what was released; a crash can only over-count. Kept by the server;
    ``limit`` and ``delta`` are what its people were promised. Whoever joined late has spent less than it says. The file is
    replaced whole, as a device's ledger is (:mod:`privacy.ledger`): one that is gone or does not verify is refused.
    """

    def __init__(self, path: Path, *, limit: float, delta: float) -> None:
        self._file = ChargeFile(path, UserCharge, called="the population's ledger", mend="restore it from a backup")
        self.limit = limit
        self.delta = delta

    def begin(self) -> None:
        """Write the empty ledger of a new population; refused where there is one."""
        with self._file.lock():
            if self._file.path.exists():
                raise Refusal(
                    f"'{self._file.path}' is a population's ledger already; go on with it, or give the new population another folder"
                )
            self._file.write(())

    def charges(self) -> tuple[UserCharge, ...]:
        """Every charge so far; raises :class:`LedgerDamaged` if the file is gone or does not verify."""
        try:
            return self._file.read()
        except FileNotFoundError:
            raise LedgerDamaged(
                f"there is no ledger '{self._file.path}', so what was spent is unknown; restore it, or begin one for a new population"
            ) from None

    def spent(self) -> float:
        """Epsilon of all charges together at the population's delta."""
        return self._epsilon(self.charges())

    def require_affordable(self, plan: UserPlan) -> None:
        """Raise what :meth:`charge` would raise; ask before the devices are asked to train in vain."""
        self._with(self.charges(), plan, run="", round=0)

    def charge(self, plan: UserPlan, *, run: str, round: int) -> float:
        """Write one round's cost to disk and give the epsilon spent with it; call it before anything is released.

        Raises :class:`PrivacyBudgetSpent`, and writes nothing, if the total would pass the limit. A round charged twice
        (a server that crashed and aggregated again) costs twice: its first result may have been seen.
        """
        with self._file.lock():
            charges, spent = self._with(self.charges(), plan, run=run, round=round)
            self._file.write(charges)
        return spent

    def _with(self, before: tuple[UserCharge, ...], plan: UserPlan, *, run: str, round: int) -> tuple[tuple[UserCharge, ...], float]:
        if not plan.delta <= self.delta * (1 + 1e-9):
            raise Refusal(f"the round's delta is {plan.delta:g} and this population was promised {self.delta:g}; lower the run's delta")
        charge = UserCharge(run, round, plan.noise_multiplier, plan.sampling, plan.clients, plan.clients_per_round)
        after = (*before, charge)
        kinds = sum(rate != 1.0 for _, rate in _totals(after))
        if kinds > MOST_KINDS:
            raise Refusal(f"this would be the ledger's {kinds}th kind of sampled round; keep noise multiplier, clients and fraction")
        spent = self._epsilon(after)
        if not spent <= self.limit:
            left = max(0.0, self.limit - self._epsilon(before))
            raise PrivacyBudgetSpent(
                f"with this round the population's epsilon would be {spent:.2f} and {left:.2f} of {self.limit:.2f} is left; "
                "the model stays as it is, end the run here"
            )
        return after, spent

    def _epsilon(self, charges: tuple[UserCharge, ...]) -> float:
        return composed_user_epsilon(_totals(charges), delta=self.delta)


def _totals(charges: tuple[UserCharge, ...]) -> dict[Mechanism, int]:
    return total_steps((charge.mechanism, 1) for charge in charges)


def _mechanism(noise: float, sampling: Sampling, clients: int, clients_per_round: int) -> Mechanism:
    if sampling == "full":
        return noise, 1.0
    return (noise / 2 if sampling == "fixed" else noise), clients_per_round / clients


def _require_sampling(sampling: Sampling, clients: int, clients_per_round: int) -> None:
    if sampling not in get_args(Sampling):
        raise Refusal(f"sampling is '{sampling}'; choose one of {', '.join(get_args(Sampling))}")
    _require_whole("clients", clients, low=1, high=MOST_CLIENTS)
    _require_whole("clients-per-round", clients_per_round, low=1, high=clients)
    if (sampling == "full") != (clients_per_round == clients):
        raise Refusal(
            f"sampling is '{sampling}' and {clients_per_round} of {clients} clients are asked in a round; "
            "full is for all of them, fixed and poisson for fewer"
        )


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise Refusal(f"delta is {delta}; it is a probability above 0 and below 1, well below one in the number of clients")


def _require_whole(name: str, value: int, *, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Refusal(f"{name} is {value}; it must be a whole number, at least {low} and at most {high}")


def _within(name: str, value: float, *, low: float, high: float) -> None:
    if not low <= value <= high:
        raise Refusal(f"{name} is {value:g}; it must be at least {low:g} and at most {high:g}")
