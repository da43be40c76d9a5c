"""Tests of privacy.ledger: composition against two other accountants, the limit, and other processes.

The damage that a ledger must survive or refuse is in test_charge_file.py.
"""

from __future__ import annotations

import math
import signal
import subprocess
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from dp_accounting import dp_event  # type: ignore[import-untyped]
from dp_accounting.pld import pld_privacy_accountant  # type: ignore[import-untyped]
from opacus.accountants import PRVAccountant, RDPAccountant

from model.refusal import Refusal
from privacy.ledger import NEW_KINDS_A_WEEK, WEEK, Charge, Ledger, PrivacyBudgetSpent
from privacy.plan import PrivacyPlan

AtOnce = Callable[[str, Iterable[Iterable[str]]], AbstractContextManager[list[subprocess.Popen[str]]]]
CHEAP = PrivacyPlan(noise_multiplier=8.0, sampling_rate=1.0, clip_norm=1.0, delta=1e-4, steps_per_round=1)


def plan(*, noise: float = 1.0, rate: float = 0.25, steps: int = 4, delta: float = 1e-4) -> PrivacyPlan:
    return PrivacyPlan(noise_multiplier=noise, sampling_rate=rate, clip_norm=1.0, delta=delta, steps_per_round=steps)


def pld_epsilon(*mechanisms: tuple[float, float, int], delta: float = 1e-4) -> float:
    """Google's accountant over (noise, rate, steps)."""
    accountant = pld_privacy_accountant.PLDAccountant(value_discretization_interval=1e-3)
    for noise, rate, steps in mechanisms:
        accountant.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise)), steps)
    return float(accountant.get_epsilon(delta))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.json"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return Ledger(path, limit=8.0, delta=1e-4)


# what was spent


def test_a_new_ledger_has_spent_nothing_and_asking_writes_nothing(ledger: Ledger, path: Path) -> None:
    assert (ledger.spent(), ledger.charges(), path.exists()) == (0.0, (), False)


@pytest.mark.slow
def test_ten_rounds_cost_their_composition_and_not_what_an_accountant_that_is_reset_every_round_reports(path: Path) -> None:
    """The reset trap: 100 entries, noise 1, 5 epochs a round. A fresh accountant says 4.88 every time; the truth is 15.5."""
    rate, steps, delta = 1 / 7, 35, 1e-3
    for round in range(10):
        spent = Ledger(path, limit=100.0, delta=delta).charge(plan(rate=rate, steps=steps, delta=delta), run="run", round=round)
    reset, kept, one = RDPAccountant(), RDPAccountant(), PRVAccountant()
    reset.history, kept.history, one.history = [(1.0, rate, steps)], [(1.0, rate, 10 * steps)], [(1.0, rate, 10 * steps)]
    assert reset.get_epsilon(delta) == pytest.approx(4.88, abs=0.01)
    assert kept.get_epsilon(delta) == pytest.approx(17.42, abs=0.01)
    assert spent == pytest.approx(float(one.get_epsilon(delta)), abs=1e-6)
    assert spent == pytest.approx(pld_epsilon((1.0, rate, 10 * steps), delta=delta), abs=0.03)
    assert reset.get_epsilon(delta) + 10 < spent < kept.get_epsilon(delta)  # the reset accountant hides two thirds of it


def test_a_restart_and_another_run_go_on_where_the_last_one_stopped(path: Path) -> None:
    Ledger(path, limit=8.0, delta=1e-4).charge(plan(noise=2.0), run="first", round=1)
    Ledger(path, limit=8.0, delta=1e-4).charge(plan(noise=2.0), run="second", round=1)
    again = Ledger(path, limit=8.0, delta=1e-4)
    assert again.charges() == (Charge("first", 1, 2.0, 0.25, 4), Charge("second", 1, 2.0, 0.25, 4))
    assert again.spent() == pytest.approx(pld_epsilon((2.0, 0.25, 8)), abs=0.03)


def test_different_mechanisms_compose(ledger: Ledger) -> None:
    ledger.charge(plan(noise=2.0), run="a", round=1)
    ledger.charge(plan(noise=3.0, rate=0.5, steps=10), run="b", round=1)
    spent = ledger.charge(plan(noise=2.0), run="a", round=2)
    assert spent == ledger.spent() == pytest.approx(pld_epsilon((2.0, 0.25, 8), (3.0, 0.5, 10)), abs=0.03)


def test_the_same_round_charged_twice_counts_twice(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.charge(plan(noise=2.0), run="run", round=1)
    assert ledger.charges() == 2 * (Charge("run", 1, 2.0, 0.25, 4),)
    assert ledger.spent() == pytest.approx(pld_epsilon((2.0, 0.25, 8)), abs=0.03)


def test_what_was_spent_is_told_at_the_device_s_delta_and_not_at_the_round_s(path: Path) -> None:
    spent = Ledger(path, limit=8.0, delta=1e-3).charge(plan(noise=2.0, delta=1e-6), run="run", round=1)
    assert spent == pytest.approx(pld_epsilon((2.0, 0.25, 4), delta=1e-3), abs=0.03)


@pytest.mark.parametrize("run", ["", '일기 "따옴표"\\\n\t', "\x00\u2028😀"])
@pytest.mark.parametrize("noise", [4 / 3, math.nextafter(2.0, 3.0)])
def test_a_charge_reads_back_exactly_as_it_was_written(ledger: Ledger, path: Path, run: str, noise: float) -> None:
    ledger.charge(plan(noise=noise, rate=2 / 3, steps=3), run=run, round=10**9)
    assert Ledger(path, limit=8.0, delta=1e-4).charges() == (Charge(run, 10**9, noise, 2 / 3, 3),)


# the limit


def charge_until_refused(ledger: Ledger, wanted: PrivacyPlan, *, most: int, between: Callable[[], None] = lambda: None) -> int:
    """How many rounds the ledger lets through, at most ``most``; ``between`` is done after each."""
    for round in range(most):
        try:
            ledger.charge(wanted, run="run", round=round)
        except PrivacyBudgetSpent:
            return round
        between()
    return most


def test_exactly_the_affordable_rounds_are_charged_and_the_next_one_is_refused_with_nothing_written(ledger: Ledger, path: Path) -> None:
    wanted = plan(noise=3.0, rate=1.0, steps=2)
    charged = charge_until_refused(ledger, wanted, most=60)
    before = path.read_bytes()
    assert pld_epsilon((3.0, 1.0, 2 * charged)) <= 8.0 < pld_epsilon((3.0, 1.0, 2 * charged + 2)) + 0.03
    with pytest.raises(PrivacyBudgetSpent, match=r"of 8\.00 is left"):
        ledger.charge(wanted, run="run", round=charged)
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {"ledger.json", "ledger.lock"}


def test_a_first_round_over_the_limit_leaves_no_ledger_behind(path: Path) -> None:
    with pytest.raises(PrivacyBudgetSpent):
        Ledger(path, limit=1.0, delta=1e-4).charge(plan(), run="run", round=1)
    assert not path.exists()


def test_a_cheaper_round_still_fits_after_a_dear_one_was_refused(ledger: Ledger) -> None:
    with pytest.raises(PrivacyBudgetSpent):
        ledger.charge(plan(noise=0.5), run="run", round=1)
    assert ledger.charge(CHEAP, run="run", round=2) < 1.0


def test_a_round_with_a_larger_delta_than_the_device_accepts_is_refused_and_not_charged(ledger: Ledger, path: Path) -> None:
    with pytest.raises(Refusal, match=r"accepts at most 0\.0001"):
        ledger.charge(plan(delta=1.01e-4), run="run", round=1)
    assert not path.exists()


def test_an_order_for_part_of_a_step_cannot_make_the_rounds_after_it_free(ledger: Ledger) -> None:
    """A hostile server's plan of 1.5 steps may be refused or overcharged; ten rounds (epsilon 27) must still not fit into 8."""
    with suppress(Refusal, TypeError):
        ledger.charge(plan(noise=2.0, rate=1.0, steps=1.5), run="run", round=0)  # type: ignore[arg-type]
    charged = charge_until_refused(ledger, plan(noise=2.0, rate=1.0, steps=10), most=10)
    assert pld_epsilon((2.0, 1.0, 10 * charged)) <= 8.0


@pytest.mark.parametrize(("limit", "delta"), [(math.nan, 1e-4), (8.0, math.nan)])
def test_a_device_whose_limits_are_no_numbers_spends_nothing(path: Path, limit: float, delta: float) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever stops it; a Refusal is one
        Ledger(path, limit=limit, delta=delta).charge(plan(noise=0.5), run="run", round=1)
    assert not path.exists()


# a run and a week


@dataclass
class Clock:
    """Time, as a test sets it."""

    now: float = 2e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def paced(path: Path, clock: Clock) -> Ledger:
    return Ledger(path, limit=8.0, run_limit=4.0, week_limit=3.0, delta=1e-4, clock=clock)


DAY = 24 * 3600
DEAR = PrivacyPlan(noise_multiplier=2.0, sampling_rate=1.0, clip_norm=1.0, delta=1e-4, steps_per_round=1)
"""Epsilon 1.74 a round, 2.58 for two, 3.26 for three, 3.85 for four and 4.39 for five."""


def test_a_week_costs_its_limit_and_no_more_whatever_the_runs_are_called(paced: Ledger, clock: Clock, path: Path) -> None:
    for name in ("one", "two"):
        paced.charge(DEAR, run=name, round=1)
        clock.now += DAY
    before = path.read_bytes()
    with pytest.raises(PrivacyBudgetSpent, match=r"the last seven days would cost epsilon 3\.\d\d of 3\.00"):
        paced.charge(DEAR, run="three", round=1)
    assert path.read_bytes() == before
    clock.now += 5 * DAY  # the first is seven days old now, the second six
    paced.charge(DEAR, run="three", round=1)
    with pytest.raises(PrivacyBudgetSpent):
        paced.charge(DEAR, run="four", round=1)
    this_week = [charge for charge in paced.charges() if charge.at > clock.now - WEEK]
    assert pld_epsilon((2.0, 1.0, len(this_week))) <= 3.0 < pld_epsilon((2.0, 1.0, len(this_week) + 1))


def test_a_run_costs_its_limit_and_no_more_however_long_it_takes(paced: Ledger, clock: Clock) -> None:
    charged = charge_until_refused(paced, DEAR, most=20, between=lambda: setattr(clock, "now", clock.now + 8 * DAY))
    with pytest.raises(PrivacyBudgetSpent, match=r"this run would cost epsilon 4\.\d\d of 4\.00"):
        paced.charge(DEAR, run="run", round=charged)
    assert pld_epsilon((2.0, 1.0, charged)) <= 4.0 < pld_epsilon((2.0, 1.0, charged + 1))
    paced.charge(DEAR, run="another", round=1)


def test_a_clock_that_is_set_back_frees_nothing(paced: Ledger, clock: Clock) -> None:
    for name in ("one", "two"):
        paced.charge(DEAR, run=name, round=1)
    clock.now -= 400 * DAY
    with pytest.raises(PrivacyBudgetSpent, match="the last seven days"):
        paced.charge(DEAR, run="three", round=1)


def test_a_clock_that_runs_wild_frees_weeks_and_never_a_life(paced: Ledger, clock: Clock) -> None:
    for number in range(60):
        with suppress(PrivacyBudgetSpent):
            paced.charge(DEAR, run=str(number), round=1)
        clock.now += 8 * DAY
    charged = len(paced.charges())
    assert pld_epsilon((2.0, 1.0, charged)) <= 8.0 < pld_epsilon((2.0, 1.0, charged + 1)) + 0.03


def test_a_week_takes_so_many_new_kinds_of_step_and_known_ones_go_on(path: Path, clock: Clock) -> None:
    ledger = Ledger(path, limit=8.0, delta=1e-4, clock=clock)
    ledger.charge(plan(noise=100.0), run="known", round=1)
    clock.now += 8 * DAY
    for number in range(40):
        with suppress(PrivacyBudgetSpent):
            ledger.charge(plan(noise=1000.0 + number), run="odd", round=number)
    assert len(ledger.charges()) == 1 + NEW_KINDS_A_WEEK
    ledger.charge(plan(noise=100.0), run="known", round=2)
    ledger.charge(plan(noise=1000.0), run="odd", round=41)
    with pytest.raises(PrivacyBudgetSpent, match="new kind of step within a week"):
        ledger.charge(plan(noise=99.0), run="new", round=1)
    clock.now += 8 * DAY
    ledger.charge(plan(noise=99.0), run="new", round=1)


def test_a_ledger_of_many_kinds_still_bounds_what_was_spent_and_takes_an_honest_run(path: Path, clock: Clock) -> None:
    """A lying server that is patient: new kinds, week after week. No life is blocked, and the bound stays above the truth."""
    ledger = Ledger(path, limit=8.0, delta=1e-4, clock=clock)
    ledger._file.write(tuple(Charge("odd", number, 500.0 + number, 1.0, 1, at=int(clock.now) - 8 * DAY) for number in range(48)))
    honest = [ledger.charge(DEAR, run="honest", round=round) for round in range(5)]
    exact = pld_epsilon((2.0, 1.0, 5), *((500.0 + number, 1.0, 1) for number in range(48)))
    assert exact <= honest[-1] <= 1.25 * exact


# other processes

CHARGING = """
import sys
from pathlib import Path
from privacy.ledger import Ledger
from privacy.plan import PrivacyPlan

path, rounds, run = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
plan = PrivacyPlan(noise_multiplier=8.0, sampling_rate=1.0, clip_norm=1.0, delta=1e-4, steps_per_round=1)
ledger = Ledger(path, limit=1e6, delta=1e-4)
print("ready", flush=True)
sys.stdin.readline()
for round in range(rounds):
    ledger.charge(plan, run=run, round=round)
    print("charged", flush=True)
"""


@pytest.mark.slow
def test_what_a_process_charged_before_kill_9_is_counted_after_the_restart_although_nothing_was_released(
    path: Path, processes_at_once: AtOnce
) -> None:
    with processes_at_once(CHARGING, [(str(path), "10000", "killed")]) as (process,):
        assert process.stdout is not None
        acknowledged = sum(process.stdout.readline() == "charged\n" for _ in range(5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        acknowledged += process.stdout.read().count("charged\n")
    after = Ledger(path, limit=1e6, delta=1e-4)
    assert acknowledged >= 5
    assert len(after.charges()) - acknowledged in (0, 1)  # the kill may fall between the charge and its acknowledgement
    assert after.spent() == pytest.approx(pld_epsilon((8.0, 1.0, len(after.charges()))), abs=0.03)
    after.charge(CHEAP, run="restarted", round=1)  # the dead process holds no lock


@pytest.mark.slow
def test_two_processes_that_charge_at_once_lose_no_charge(path: Path, processes_at_once: AtOnce) -> None:
    with processes_at_once(CHARGING, [(str(path), "8", run) for run in ("one", "two")]) as processes:
        for process in processes:
            assert process.wait() == 0
    charges = Ledger(path, limit=1e6, delta=1e-4).charges()
    assert sorted((charge.run, charge.round) for charge in charges) == [(run, round) for run in ("one", "two") for round in range(8)]
