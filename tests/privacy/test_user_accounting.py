"""Tests of privacy.user_accounting: against the Gaussian's closed form, PRV, Rényi DP and sums over all samples.

The damage that a population's ledger must survive or refuse is in test_charge_file.py.
"""

from __future__ import annotations

import itertools
import math
import resource
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from dp_accounting import dp_event  # type: ignore[import-untyped]
from dp_accounting.privacy_accountant import NeighboringRelation  # type: ignore[import-untyped]
from dp_accounting.rdp.rdp_privacy_accountant import RdpAccountant  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_ndtr  # type: ignore[import-untyped]
from scipy.stats import norm  # type: ignore[import-untyped]

from model.refusal import Refusal
from privacy.ledger import ChargeFile, LedgerDamaged, PrivacyBudgetSpent
from privacy.plan import Mechanism, composed_epsilon
from privacy.user_accounting import MOST_KINDS, UserCharge, UserLedger, UserPlan, calibrated_user_plan, composed_user_epsilon

AtOnce = Callable[[str, Iterable[Iterable[str]]], AbstractContextManager[list[subprocess.Popen[str]]]]


def plan(**values: Any) -> UserPlan:
    """Ten clients, all of them in every round."""
    full: dict[str, Any] = {"noise_multiplier": 8.0, "clip_norm": 1.0, "delta": 1e-4, "clients": 10, "clients_per_round": 10}
    return UserPlan(**(full | {"sampling": "full"} | values))


def sampled(sampling: str, *, noise: float = 1.0, clients: int = 50, asked: int = 10, delta: float = 1e-4) -> UserPlan:
    return plan(noise_multiplier=noise, sampling=sampling, clients=clients, clients_per_round=asked, delta=delta)


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The exact delta of a Gaussian mechanism whose two outputs lie ``mu`` standard deviations apart (Balle & Wang 2018)."""
    return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)))


def renyi_epsilon(event: dp_event.DpEvent, rounds: int, delta: float, *, replace: bool) -> float:
    relation = NeighboringRelation.REPLACE_ONE if replace else NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = RdpAccountant(orders=range(2, 65), neighboring_relation=relation)
    return float(accountant.compose(event, rounds).get_epsilon(delta))


# full rounds


@pytest.mark.parametrize(
    ("noise", "rounds", "delta"), [(1.0, 1, 1e-4), (2.1478, 20, 1e-3), (40.0, 1000, 1e-6), (0.3, 1, 1e-2), (1.0, 7, 10**-1.1)]
)
def test_full_rounds_cost_what_the_closed_form_of_the_gaussian_mechanism_says(noise: float, rounds: int, delta: float) -> None:
    epsilon, mu = plan(noise_multiplier=noise, delta=delta).epsilon(rounds), math.sqrt(rounds) / noise
    assert gaussian_delta(epsilon, mu) <= delta < gaussian_delta(epsilon - 0.005, mu)


@given(st.lists(st.tuples(st.floats(1.0, 50.0), st.integers(1, 30)), min_size=1, max_size=6))
@settings(max_examples=15, deadline=None)
def test_full_rounds_of_different_noise_compose_as_the_closed_form_of_all_together(rounds: list[tuple[float, int]]) -> None:
    """Rounds in which other numbers of devices survived: distances add up in squares."""
    totals: dict[Mechanism, int] = {}
    for noise, count in rounds:
        totals[noise, 1.0] = totals.get((noise, 1.0), 0) + count
    epsilon, mu = composed_user_epsilon(totals, delta=1e-4), math.sqrt(sum(count / noise**2 for noise, count in rounds))
    assert gaussian_delta(epsilon, mu) <= 1e-4 * (1 + 1e-9)
    assert epsilon < 0.01 or gaussian_delta(epsilon - 0.01, mu) > 1e-4


def test_rounds_are_composed_and_not_counted_one_by_one() -> None:
    alone = plan(noise_multiplier=4.0)
    assert alone.epsilon(16) == pytest.approx(plan(noise_multiplier=1.0).epsilon(1), abs=0.005)
    assert alone.epsilon(0) == 0.0


# sampled rounds


@pytest.mark.parametrize(
    ("noise", "clients", "asked", "rounds", "delta"),
    [(1.0, 50, 10, 20, 50**-1.1), (0.7, 1000, 10, 100, 1e-5), (2.0, 8, 7, 4, 1e-3), (1.5, 100, 4, 2250, 1e-5)],
)
def test_poisson_rounds_cost_what_the_prv_accountant_says(noise: float, clients: int, asked: int, rounds: int, delta: float) -> None:
    ours = sampled("poisson", noise=noise, clients=clients, asked=asked, delta=delta).epsilon(rounds)
    theirs = composed_epsilon({(noise, asked / clients): rounds}, delta=delta)
    assert theirs - 0.03 <= ours <= theirs + 0.003


@pytest.mark.parametrize(
    "rounds", [{(1.0, 0.2): 20, (0.8, 0.2): 3}, {(2.0, 1.0): 4, (3.0, 1.0): 2, (1.0, 0.1): 30}, {(6.0, 1.0): 5, (0.7, 0.05): 5}]
)
def test_rounds_of_different_kinds_compose_as_in_the_prv_accountant(rounds: Mapping[Mechanism, int]) -> None:
    theirs = composed_epsilon(rounds, delta=1e-4)
    assert theirs - 0.03 <= composed_user_epsilon(rounds, delta=1e-4) <= theirs + 0.003


def test_fixed_samples_cost_far_more_than_poisson_accounting_says() -> None:
    """50 clients, 10 a round, 20 rounds. That 6.9 stands against 2.8 is Rényi accounting of *replacing* a person with noise over
    the sensitivity of one; two people's sums differ by twice the clip norm then, and noise of one clip norm costs 36.5."""
    delta, event = 50**-1.1, dp_event.SampledWithoutReplacementDpEvent
    poisson = sampled("poisson", delta=delta).epsilon(20)
    replaced = renyi_epsilon(event(50, 10, dp_event.GaussianDpEvent(1.0)), 20, delta, replace=True)
    at_one_clip_norm = renyi_epsilon(event(50, 10, dp_event.GaussianDpEvent(0.5)), 20, delta, replace=True)
    assert (poisson, replaced, at_one_clip_norm) == pytest.approx((2.8, 6.9, 36.5), abs=0.06)
    assert sampled("fixed", delta=delta).epsilon(20) == pytest.approx(12.0, abs=0.05)
    assert sampled("fixed", noise=2.0, delta=delta).epsilon(20) == pytest.approx(poisson, abs=1e-9)


GRID = np.linspace(-14.0, 14.0, 7_001)


def sum_density(values: Sequence[float], asked: int, noise: float) -> npt.NDArray[np.float64]:
    """Density of the noised sum of ``asked`` of the values, all samples of that size being as likely as any other."""
    sums = [sum(sample) for sample in itertools.combinations(values, asked)]
    return np.asarray(np.mean([norm.pdf(GRID, loc=total, scale=noise) for total in sums], axis=0))


def exact_delta(values: Sequence[float], asked: int, noise: float, epsilon: float) -> float:
    """Of one round with and without the first person, the worse direction: an integral over every sample there is."""
    one, other = sum_density(values, asked, noise), sum_density(values[1:], asked, noise)
    step = float(GRID[1] - GRID[0])
    return max(float(np.maximum(p - math.exp(epsilon) * q, 0).sum()) * step for p, q in ((one, other), (other, one)))


@pytest.mark.parametrize(("clients", "asked", "noise"), [(4, 2, 1.0), (5, 1, 0.8), (4, 3, 1.5)])
def test_a_fixed_sample_s_epsilon_holds_for_all_populations_and_is_reached_by_the_worst(clients: int, asked: int, noise: float) -> None:
    delta = 1e-2
    epsilon = sampled("fixed", noise=noise, clients=clients, asked=asked, delta=delta).epsilon(1)
    deltas = [
        exact_delta((person, *others), asked, noise, epsilon)
        for person in (-1.0, -0.3, 1.0)
        for others in itertools.combinations_with_replacement((-1.0, 0.0, 0.6, 1.0), clients - 1)
    ]
    assert max(deltas) <= delta * (1 + 1e-4)  # of the integral
    assert exact_delta((1.0, *[-1.0] * (clients - 1)), asked, noise, epsilon - 0.01) > delta


def test_poisson_s_epsilon_is_broken_by_a_fixed_sample() -> None:
    claimed = sampled("poisson", clients=4, asked=2, delta=1e-2).epsilon(1)
    assert exact_delta((1.0, -1.0, -1.0, -1.0), 2, 1.0, claimed) > 5e-2


@pytest.mark.parametrize("noise", [100.0, 4096.0])
def test_the_grid_is_fine_enough_for_a_small_epsilon_over_many_rounds(noise: float) -> None:
    """Many rounds of much noise are nearly one Gaussian mechanism whose outputs lie rate * sqrt(rounds) / noise apart."""
    epsilon, mu = sampled("poisson", noise=noise, clients=2, asked=1).epsilon(10_000), 0.5 * 100 / noise
    assert gaussian_delta(epsilon, mu * 0.995) <= 1e-4 <= gaussian_delta(epsilon, mu * 1.03)


# the count of adaptive clipping


@pytest.mark.parametrize(("noise", "count_noise"), [(1.0, 0.6), (1.0, 5.0), (3.0, 2.0), (0.5, 100.0)])
def test_update_and_count_together_cost_the_plan_s_noise_and_no_more(noise: float, count_noise: float) -> None:
    """Andrew et al. 2021, Theorem 1, by composing both mechanisms; the count's sensitivity is 1/2."""
    adaptive = plan(noise_multiplier=noise, count_noise=count_noise)
    both = composed_user_epsilon({(adaptive.update_noise, 1.0): 3, (2 * count_noise, 1.0): 3}, delta=1e-4)
    assert adaptive.update_noise > noise
    assert both == pytest.approx(adaptive.epsilon(3), abs=1e-6)
    assert plan(noise_multiplier=noise, count_noise=math.inf).update_noise == pytest.approx(noise, rel=1e-12)


@pytest.mark.parametrize("count_noise", [0.0, 0.5, 0.3, -1.0, math.nan])
def test_a_count_that_would_cost_more_than_the_round_is_refused(count_noise: float) -> None:
    with pytest.raises(Refusal, match="count-noise"):
        plan(noise_multiplier=1.0, count_noise=count_noise)


# edges


def test_nothing_costs_nothing_and_no_noise_costs_everything() -> None:
    assert composed_user_epsilon({}, delta=1e-4) == composed_user_epsilon({(1.0, 1.0): 0, (0.0, 1.0): 0}, delta=1e-4) == 0.0
    for noise in (0.0, -1.0, math.nan):
        assert composed_user_epsilon({(4.0, 1.0): 4, (noise, 0.5): 1}, delta=1e-4) == math.inf


@pytest.mark.parametrize("rounds", [{(100.0, 1.0): 1}, {(1.0, 0.01): 1}, {(1000.0, 0.5): 3}])
def test_no_cost_is_negative_however_large_delta_is(rounds: Mapping[Mechanism, int]) -> None:
    assert composed_user_epsilon(rounds, delta=0.5) == 0.0


@pytest.mark.parametrize("rounds", [{(0.1, 1.0): 10_000}, {(0.05, 0.2): 20}, {(0.1, 0.5): 10_000}])
def test_a_hopeless_plan_is_priced_too_high_and_not_in_minutes_and_gigabytes(rounds: Mapping[Mechanism, int]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    assert 404.0 < composed_user_epsilon(rounds, delta=1e-4) < math.inf
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 5.0
    assert after.ru_maxrss - before.ru_maxrss < 200_000


@pytest.mark.parametrize("name", ["noise_multiplier", "clip_norm", "delta", "clients", "clients_per_round"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_positive_and_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(Refusal, match=name.replace("_", "-")):
        plan(**{name: value})


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"sampling": "Full"}, "sampling"),
        ({"sampling": "poisson"}, "full is for all"),
        ({"sampling": "fixed"}, "full is for all"),
        ({"clients_per_round": 9}, "full is for all"),
        ({"clients_per_round": 11}, "clients-per-round"),
        ({"clients": 10.0}, "clients"),
        ({"clients_per_round": True, "clients": 1}, "clients-per-round"),
        ({"delta": 1.0}, "probability"),
        ({"noise_multiplier": 0.09}, "noise-multiplier"),
        ({"clip_norm": 1e-7}, "clip-norm"),
    ],
)
def test_a_plan_that_would_promise_nothing_or_something_else_is_refused(values: dict[str, Any], names: str) -> None:
    with pytest.raises(Refusal, match=names):
        plan(**values)


@pytest.mark.parametrize("rounds", [-1, 0.5, 10_001, 10**12, True])
def test_more_rounds_than_can_be_priced_are_refused(rounds: Any) -> None:
    with pytest.raises(Refusal, match="rounds"):
        plan().epsilon(rounds)


# calibration


def calibrated(
    sampling: str, *, epsilon: float = 8.0, rounds: int = 20, clients: int = 50, asked: int = 10, delta: float = 1e-3
) -> UserPlan:
    return calibrated_user_plan(
        epsilon=epsilon,
        delta=delta,
        rounds=rounds,
        clip_norm=0.5,
        clients=clients,
        clients_per_round=10,
        sampling=sampling,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("epsilon", "rounds", "delta"), [(8.0, 20, 1e-3), (1.0, 100, 1e-5), (0.1, 1, 1e-6)])
def test_a_calibrated_full_plan_spends_its_target_and_hardly_less_by_the_closed_form(epsilon: float, rounds: int, delta: float) -> None:
    chosen = calibrated("full", epsilon=epsilon, rounds=rounds, clients=10, delta=delta)
    assert gaussian_delta(epsilon, math.sqrt(rounds) / chosen.noise_multiplier) <= delta
    assert gaussian_delta(epsilon, math.sqrt(rounds) / (0.995 * chosen.noise_multiplier)) > delta
    assert (chosen.clip_norm, chosen.delta, chosen.clients, chosen.clients_per_round) == (0.5, delta, 10, 10)


@pytest.mark.slow
def test_a_calibrated_sampled_plan_spends_its_target_and_hardly_less_by_the_prv_accountant() -> None:
    chosen = calibrated("poisson", epsilon=4.0, clients=50)
    cost = composed_epsilon({(chosen.noise_multiplier, 0.2): 20}, delta=1e-3)
    assert 3.97 <= cost <= 4.03
    assert calibrated("fixed", epsilon=4.0, clients=50).noise_multiplier == pytest.approx(2 * chosen.noise_multiplier, rel=0.002)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"epsilon": 1e-7, "delta": 1e-6}, "raise epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"rounds": 0}, "rounds"),
        ({"rounds": 10**9}, "rounds"),
        ({"delta": 0.0}, "delta"),
        ({"clients": 11}, "full is for all"),
    ],
)
def test_a_target_that_no_noise_reaches_or_that_is_none_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        calibrated("full", **({"epsilon": 8.0, "clients": 10} | values))


# the ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server" / "population.json"


@pytest.fixture
def ledger(path: Path) -> UserLedger:
    ledger = UserLedger(path, limit=8.0, delta=1e-4)
    ledger.begin()
    return ledger


def full_epsilon(*noises: float, delta: float = 1e-4) -> float:
    """The closed form of full rounds with these noises, by bisection."""
    mu, low, high = math.sqrt(sum(noise**-2 for noise in noises)), 0.0, 100.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(middle, mu) <= delta else (middle, high)
    return high


def test_a_new_ledger_has_spent_nothing_and_a_second_beginning_does_not_forget(ledger: UserLedger) -> None:
    assert (ledger.spent(), ledger.charges()) == (0.0, ())
    ledger.charge(plan(), run="run", round=1)
    with pytest.raises(Refusal, match="already"):
        ledger.begin()
    assert len(ledger.charges()) == 1


def test_a_ledger_that_is_gone_is_no_new_one(path: Path, ledger: UserLedger) -> None:
    path.unlink()
    for ask in (ledger.spent, ledger.charges, lambda: ledger.require_affordable(plan()), lambda: ledger.charge(plan(), run="run", round=1)):
        with pytest.raises(LedgerDamaged, match="there is no ledger"):
            ask()
    assert not path.exists()


def test_all_rounds_of_all_runs_compose_over_restarts_whatever_their_noise(path: Path, ledger: UserLedger) -> None:
    ledger.charge(plan(noise_multiplier=8.0), run="first", round=1)
    UserLedger(path, limit=8.0, delta=1e-4).charge(plan(noise_multiplier=5.0, delta=1e-6), run="second", round=1)
    spent = UserLedger(path, limit=8.0, delta=1e-4).charge(plan(noise_multiplier=8.0), run="first", round=1)
    assert spent == ledger.spent() == pytest.approx(full_epsilon(8.0, 5.0, 8.0), abs=0.005)
    assert ledger.charges()[1] == UserCharge("second", 1, 5.0, "full", 10, 10)


def test_sampled_rounds_are_charged_as_what_they_are(ledger: UserLedger) -> None:
    ledger.charge(sampled("fixed", noise=4.0), run="run", round=1)
    spent = ledger.charge(sampled("poisson", noise=1.0), run="run", round=2)
    assert spent == pytest.approx(composed_epsilon({(2.0, 0.2): 1, (1.0, 0.2): 1}, delta=1e-4), abs=0.03)
    assert [charge.sampling for charge in ledger.charges()] == ["fixed", "poisson"]


def test_exactly_the_affordable_rounds_are_charged_and_the_next_one_is_refused_with_nothing_written(path: Path, ledger: UserLedger) -> None:
    wanted = plan(noise_multiplier=1.5)
    affordable = max(rounds for rounds in range(1, 30) if full_epsilon(*[1.5] * rounds) <= 8.0)
    for round in range(affordable):
        ledger.require_affordable(wanted)
        ledger.charge(wanted, run="run", round=round)
    charged, before = len(ledger.charges()), path.read_bytes()
    assert charged == affordable > 3
    with pytest.raises(PrivacyBudgetSpent, match=r"of 8\.00 is left"):
        ledger.charge(wanted, run="run", round=charged)
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {"population.json", "population.lock"}


def test_asking_whether_a_round_is_affordable_writes_nothing(path: Path, ledger: UserLedger) -> None:
    before = path.read_bytes()
    ledger.require_affordable(plan())
    with pytest.raises(PrivacyBudgetSpent):
        ledger.require_affordable(plan(noise_multiplier=0.3))
    assert path.read_bytes() == before


def test_a_round_with_a_larger_delta_than_was_promised_is_refused(ledger: UserLedger) -> None:
    with pytest.raises(Refusal, match=r"promised 0\.0001"):
        ledger.charge(plan(delta=1.01e-4), run="run", round=1)
    assert ledger.charges() == ()


@pytest.mark.parametrize(("limit", "delta"), [(math.nan, 1e-4), (8.0, math.nan)])
def test_a_population_whose_limits_are_no_numbers_spends_nothing(path: Path, ledger: UserLedger, limit: float, delta: float) -> None:
    with pytest.raises(Refusal):
        UserLedger(path, limit=limit, delta=delta).charge(plan(), run="run", round=1)
    assert ledger.charges() == ()


def test_full_rounds_of_any_noise_keep_the_ledger_fast_and_kinds_of_sampled_rounds_are_bounded(path: Path, ledger: UserLedger) -> None:
    for survivors in range(20):
        ledger.charge(plan(noise_multiplier=30.0 + survivors), run="shared", round=survivors)
    charges = [UserCharge("run", kind, 50.0 + kind, "poisson", 50, 10) for kind in range(MOST_KINDS)]
    ChargeFile(path, UserCharge, called="", mend="").write(ledger.charges() + tuple(charges))
    with pytest.raises(Refusal, match=f"{MOST_KINDS + 1}th kind"):
        ledger.charge(sampled("poisson", noise=100.0), run="run", round=MOST_KINDS)


# kill -9

RELEASING = """
import sys
from pathlib import Path
from privacy.randomness import SecureRandom
from privacy.user_accounting import UserLedger, UserPlan
from privacy.user_level import UserLevelSum

path, run = Path(sys.argv[1]), sys.argv[2]
plan = UserPlan(noise_multiplier=8.0, clip_norm=1.0, delta=1e-4, clients=10, clients_per_round=10, sampling="full")
ledger = UserLedger(path, limit=1e6, delta=1e-4)
print("ready", flush=True)
sys.stdin.readline()
for round in range(int(sys.argv[3])):
    UserLevelSum(plan, {"w": (3,)}, range(10)).release(ledger, run=run, round=round, randomness=SecureRandom())
    print("released", flush=True)
"""


@pytest.mark.slow
def test_whatever_two_servers_released_before_kill_9_is_in_the_ledger(path: Path, processes_at_once: AtOnce) -> None:
    ledger = UserLedger(path, limit=1e6, delta=1e-4)
    ledger.begin()
    with processes_at_once(RELEASING, [(str(path), run, "10000") for run in ("one", "two")]) as processes:
        released = {"one": 0, "two": 0}
        for run, process in zip(released, processes, strict=True):
            assert process.stdout is not None
            released[run] = sum(process.stdout.readline() == "released\n" for _ in range(4))
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            released[run] += process.stdout.read().count("released\n")
    charges = ledger.charges()
    for run, count in released.items():
        assert count >= 4
        assert sum(charge.run == run for charge in charges) - count in (0, 1)  # the kill may fall between charge and release
    assert ledger.spent() == pytest.approx(full_epsilon(*[8.0] * len(charges)), abs=0.005)
    ledger.charge(plan(), run="restarted", round=1)  # the dead hold no lock
