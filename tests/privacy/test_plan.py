"""Tests of privacy.plan: against Opacus' pinned value, Google's PLD accountant and the Gaussian mechanism's closed form."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from dp_accounting import dp_event  # type: ignore[import-untyped]
from dp_accounting.pld import pld_privacy_accountant  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_ndtr  # type: ignore[import-untyped]
from scipy.stats import norm  # type: ignore[import-untyped]

from model.refusal import Refusal
from model.settings import RunSettings
from privacy.plan import Mechanism, PrivacyPlan, calibrated, composed_epsilon, total_steps

GOOD: dict[str, float] = {"noise_multiplier": 1.1, "sampling_rate": 0.25, "clip_norm": 1.0, "delta": 1e-4, "steps_per_round": 4}


def plan(**values: float) -> PrivacyPlan:
    return PrivacyPlan(**(GOOD | values))  # type: ignore[arg-type]


def pld_epsilon(steps: Mapping[Mechanism, int], delta: float) -> float:
    """The same composition by Google's accountant, which counts adding and removing an entry and takes the worse."""
    accountant = pld_privacy_accountant.PLDAccountant(value_discretization_interval=1e-3)
    for (noise, rate), count in steps.items():
        accountant.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise)), count)
    return float(accountant.get_epsilon(delta))


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The exact delta of a Gaussian mechanism whose two outputs lie ``mu`` standard deviations apart (Balle & Wang 2018)."""
    return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon + log_ndtr(-mu / 2 - epsilon / mu)))


def test_epsilon_is_the_value_that_opacus_pins_for_its_prv_accountant() -> None:
    assert composed_epsilon({(1.5, 0.04): 2250}, delta=1e-5) == pytest.approx(6.777395712150674, abs=0.02)


@pytest.mark.parametrize(
    ("noise", "rate", "steps", "delta"),
    [
        (1.124, 0.25, 40, 1e-4),
        (2.0, 0.25, 400, 1e-4),
        (0.6, 0.01, 100, 1e-5),
        (0.5, 0.5, 1, 1e-3),
        (1.3, 0.999, 2, 1e-4),
        (1.0, 1.0, 3, 1e-4),
        (4.0, 1.0, 40, 1e-6),
        (0.4, 0.001, 400, 1e-4),
    ],
)
def test_epsilon_agrees_with_the_pld_accountant(noise: float, rate: float, steps: int, delta: float) -> None:
    ours, theirs = composed_epsilon({(noise, rate): steps}, delta=delta), pld_epsilon({(noise, rate): steps}, delta)
    assert theirs - 0.003 <= ours <= theirs + 0.03


@pytest.mark.parametrize(("noise", "steps", "delta"), [(1.0, 1, 1e-4), (2.5, 30, 1e-5), (0.3, 1, 1e-4)])
def test_epsilon_of_full_batches_is_an_upper_bound_and_a_tight_one_by_the_closed_form(noise: float, steps: int, delta: float) -> None:
    epsilon, mu = composed_epsilon({(noise, 1.0): steps}, delta=delta), math.sqrt(steps) / noise
    assert gaussian_delta(epsilon, mu) <= delta < gaussian_delta(epsilon - 0.03, mu)


@pytest.mark.parametrize(
    "steps",
    [
        {(1.1, 0.25): 40, (2.0, 0.1): 100},
        {(1.0, 1.0): 1, (1.2, 0.25): 20},
        {(0.5, 0.01): 10, (5.0, 0.5): 80, (1.5, 0.25): 4},
        {(6.0, 1.0): 5, (0.7, 0.05): 5, (3.0, 0.25): 40, (1.0, 0.125): 8},
    ],
)
def test_different_mechanisms_compose_as_in_the_pld_accountant(steps: dict[Mechanism, int]) -> None:
    ours, theirs = composed_epsilon(steps, delta=1e-4), pld_epsilon(steps, 1e-4)
    assert theirs - 0.003 <= ours <= theirs + 0.03


def test_rounds_are_composed_and_not_counted_one_by_one() -> None:
    assert plan().epsilon(10) == pytest.approx(pld_epsilon({(1.1, 0.25): 40}, 1e-4), abs=0.03)
    assert plan().epsilon(10) > 2 * plan().epsilon(1)


def test_nothing_costs_nothing_and_no_noise_costs_everything() -> None:
    assert plan().epsilon(0) == 0.0
    assert composed_epsilon({(1.0, 0.5): 0}, delta=1e-4) == 0.0
    assert composed_epsilon({(1.0, 0.5): 4, (0.0, 0.5): 1}, delta=1e-4) == math.inf


@pytest.mark.parametrize(("steps", "delta"), [({(1.0, 0.25): 1}, 0.1), ({(1.0, 0.5): 4}, 0.9), ({(1.0, 0.01): 1}, 0.1)])
def test_no_cost_is_negative_however_large_delta_is(steps: dict[Mechanism, int], delta: float) -> None:
    assert composed_epsilon(steps, delta=delta) >= 0.0


@pytest.mark.parametrize(("noise", "rate", "steps"), [(0.15, 1.0, 1), (0.2, 0.25, 4), (0.2, 1e-5, 100), (1.0, 1 - 1e-12, 4)])
def test_a_mechanism_at_the_edge_never_costs_less_than_the_pld_accountant_says(noise: float, rate: float, steps: int) -> None:
    assert composed_epsilon({(noise, rate): steps}, delta=1e-4) >= pld_epsilon({(noise, rate): steps}, 1e-4) - 0.003


# hostile orders

PRICING = """
import resource, sys
from pathlib import Path
from privacy.plan import composed_epsilon

mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 1536 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
for steps in eval(sys.argv[1]):
    print(composed_epsilon(steps, delta=1e-4))
"""
"""The kernel refuses it more than 1.5 GB beside the libraries, and ends it after two minutes of processor time."""


def priced_within_limits(*orders: Mapping[Mechanism, int]) -> list[float]:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", PRICING, repr([dict(steps) for steps in orders])]
    environment = os.environ | {"PYTHONPATH": str(root)}
    priced = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert priced.returncode == 0, priced.stderr
    return [float(line) for line in priced.stdout.split()]


def test_no_order_takes_a_device_s_memory_or_its_time_however_much_it_would_cost() -> None:
    """The exact accountant took 60 s and 9 GiB for the first, 167 s for the second, and comes to no end with the fourth."""
    hostile = {
        ((1.0, 1.0), 10_000): 5000.0,
        ((0.1, 0.5), 100): 2000.0,
        ((0.01, 1.0), 1): 5000.0,
        ((1e-160, 0.3), 3): math.inf,
        ((0.0999, 0.25), 10_000): 2000.0,
    }
    costs = priced_within_limits(*({mechanism: steps} for mechanism, steps in hostile))
    assert all(cost >= least for cost, least in zip(costs, hostile.values(), strict=True))


@pytest.mark.slow
def test_many_kinds_of_steps_take_no_more_than_one_kind_may() -> None:
    """Twenty rounds of 10,000 steps, each of another kind: exactly priced, they would have grids of 60 million points."""
    (cost,) = priced_within_limits({(40.0 + kind, 0.25): 10_000 for kind in range(20)})
    gaussian = composed_epsilon({(40.0, 0.25): 200_000}, delta=1e-4)
    assert 8.0 < cost < gaussian + 0.5


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 10_000), (0.5, 30), (0.1, 1), (3.0, 2000)])
def test_a_hopeless_cost_is_an_upper_bound_by_the_closed_form_and_no_wild_one(noise: float, steps: int) -> None:
    epsilon, mu = composed_epsilon({(noise, 1.0): steps}, delta=1e-4), math.sqrt(steps) / noise
    assert epsilon > 50
    assert gaussian_delta(epsilon, mu) <= 1e-4 < gaussian_delta(0.9 * epsilon, mu)


def test_a_hopeless_cost_is_more_than_the_pld_accountant_says_where_rounds_are_sampled() -> None:
    exact = pld_epsilon({(0.2, 0.25): 8}, 1e-4)
    assert exact <= composed_epsilon({(0.2, 0.25): 8}, delta=1e-4) <= 1.2 * exact


@pytest.mark.slow
def test_a_million_steps_cost_an_upper_bound_on_a_coarser_grid() -> None:
    epsilon, mu = composed_epsilon({(200.0, 1.0): 1_000_000}, delta=1e-4), 5.0
    assert gaussian_delta(epsilon, mu) <= 1e-4 < gaussian_delta(epsilon - 0.15, mu)


def test_what_is_no_number_fits_into_no_budget() -> None:
    for steps, delta in (({(math.nan, 0.5): 1}, 1e-4), ({(1.0, math.nan): 1}, 1e-4), ({(1.0, 0.5): 1}, math.nan)):
        assert not composed_epsilon(steps, delta=delta) <= 1e9


@given(st.lists(st.tuples(st.tuples(st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.1, 1.0])), st.integers(1, 9))))
def test_total_steps_adds_up_by_mechanism_and_loses_none(charges: list[tuple[Mechanism, int]]) -> None:
    assert total_steps(charges) == Counter([mechanism for mechanism, steps in charges for _ in range(steps)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        RunSettings(rounds=10, epsilon=8.0),
        RunSettings(rounds=2, epsilon=6.0, sampling_rate=1.0, local_epochs=2, delta=1e-5),
        RunSettings(rounds=5, epsilon=4.0, sampling_rate=1.0),
        RunSettings(rounds=4, epsilon=1.0, sampling_rate=1.0),
    ],
)
def test_a_calibrated_plan_costs_at_most_its_target_and_nearly_all_of_it_over_all_rounds_together(settings: RunSettings) -> None:
    chosen = calibrated(settings)
    steps = settings.rounds * max(1, round(settings.local_epochs / settings.sampling_rate))
    cost = pld_epsilon({(chosen.noise_multiplier, settings.sampling_rate): steps}, settings.delta)
    assert 0.97 * settings.epsilon <= cost <= settings.epsilon
    assert (chosen.sampling_rate, chosen.clip_norm, chosen.delta) == (settings.sampling_rate, settings.clip_norm, settings.delta)
    assert chosen.steps_per_round * settings.rounds == steps
    assert chosen.epsilon(settings.rounds) <= settings.epsilon


@pytest.mark.parametrize(("noise", "rate", "steps"), [(30.0, 0.1, 4), (100.0, 1.0, 1)])
def test_a_strict_plan_is_priced_without_a_warning_that_means_nothing_to_a_person(noise: float, rate: float, steps: int) -> None:
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        composed_epsilon({(noise, rate): steps}, delta=1.1e-4)
    assert [str(warning.message) for warning in raised] == []


@pytest.mark.filterwarnings("ignore:Optimal order")
def test_a_calibrated_plan_refuses_an_epsilon_that_no_noise_can_reach() -> None:
    with pytest.raises(Refusal, match="raise epsilon"):
        calibrated(RunSettings(epsilon=1e-5, sampling_rate=1.0, rounds=1))


def test_the_plan_is_the_same_whatever_lies_in_the_diaries_and_whoever_takes_part() -> None:
    common = {"sampling_rate": 1.0, "rounds": 2}
    first = calibrated(RunSettings(**common, data="a.csv", clients=2, batch_size=4, partition="iid"))  # type: ignore[arg-type]
    second = calibrated(RunSettings(**common, data="b.csv", clients=900, batch_size=64, fraction=0.1))  # type: ignore[arg-type]
    assert first == second


@pytest.mark.parametrize("budget", [0.5, 3.0, 8.0])
def test_affordable_rounds_is_the_last_round_that_fits(budget: float) -> None:
    private = plan(noise_multiplier=2.5, sampling_rate=1.0, steps_per_round=1)
    affordable = private.affordable_rounds(budget)
    costs = [0.0] + [pld_epsilon({(2.5, 1.0): rounds}, 1e-4) for rounds in range(1, 25)]
    assert costs[affordable] <= budget < costs[affordable + 1] + 0.03


@pytest.mark.slow
def test_the_planned_rounds_are_all_affordable() -> None:
    settings = RunSettings(rounds=6, sampling_rate=1.0)
    assert calibrated(settings).affordable_rounds(settings.epsilon) >= settings.rounds


@given(st.floats(min_value=1e-12, max_value=0.5))
def test_most_entries_is_the_largest_diary_whose_delta_is_at_most_n_to_the_minus_one_and_a_half(delta: float) -> None:
    most = plan(delta=delta).most_entries
    assert delta <= most**-1.5 * (1 + 1e-8)
    assert delta > (most + 1) ** -1.5 * (1 - 1e-8)


@pytest.mark.parametrize(("delta", "most"), [(1e-3, 100), (1e-6, 10_000), (1 / 8, 4), (1e-4, 464)])
def test_most_entries_is_exact_where_the_power_is(delta: float, most: int) -> None:
    assert plan(delta=delta).most_entries == most


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_positive_and_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(Refusal, match=name.replace("_", "-")):
        plan(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("sampling_rate", 1.0000001), ("delta", 1.0), ("delta", 2.0)])
def test_a_probability_above_one_is_refused(name: str, value: float) -> None:
    with pytest.raises(Refusal, match="probabilit"):
        plan(**{name: value})


@pytest.mark.parametrize("steps", [0.5, 1.5, 3.5, 4.000001])
def test_a_fraction_of_a_step_is_refused(steps: float) -> None:
    """The accountant raises a spectrum to the number of steps: 1.5 of them cost less than nothing (epsilon -1.65)."""
    with pytest.raises(Refusal, match="steps-per-round"):
        plan(steps_per_round=steps)
