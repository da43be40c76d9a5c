"""The privacy report: its figures are the ledgers', a second library agrees, and it says in words whom it protects from whom."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dp_accounting import dp_event  # type: ignore[import-untyped]
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant  # type: ignore[import-untyped]
from dp_accounting.privacy_accountant import NeighboringRelation  # type: ignore[import-untyped]
from dp_accounting.rdp.rdp_privacy_accountant import RdpAccountant  # type: ignore[import-untyped]
from scipy.signal import fftconvolve  # type: ignore[import-untyped]
from scipy.stats import norm  # type: ignore[import-untyped]

from model.refusal import Refusal
from model.settings import RunSettings
from privacy.user_accounting import UserLedger
from server.journal import Journal
from simulation.privacy_report import privacy_report, second_opinion, sentences, write_report
from simulation.run import prepare, run_experiment
from simulation.virtual_clients import largest_epsilon

Small = Callable[..., RunSettings]


@pytest.fixture
def finished(small: Small, tmp_path: Path) -> Callable[..., Path]:
    def run(**more: object) -> Path:
        run_experiment(prepare(small(**({"fraction_evaluate": 0.0} | more))), tmp_path / "run")
        return tmp_path / "run"

    return run


def test_the_figures_for_entries_are_those_of_the_largest_ledger_and_a_second_library_agrees(finished: Callable[..., Path]) -> None:
    folder = finished(privacy="example", rounds=2, sampling_rate=0.25)
    [promise] = privacy_report(folder).promises
    assert promise.spent == largest_epsilon(folder.with_name("run.people"), 3)
    assert promise.steps == 2 * 4
    assert promise.second_opinion == pytest.approx(promise.spent, rel=0.01)
    assert promise.left == pytest.approx(8.0 - promise.spent)


def test_counted_labels_are_in_the_report_and_in_the_second_opinion(finished: Callable[..., Path]) -> None:
    folder = finished(class_weights="balanced")
    [promise] = privacy_report(folder).promises
    assert promise.spent == largest_epsilon(folder.with_name("run.people"), 3)
    assert "one count of labels" in promise.mechanism
    assert promise.second_opinion == pytest.approx(promise.spent, rel=0.01)


@pytest.mark.parametrize("aggregation", ["plain", "masked", "encrypted"])
def test_the_figures_for_people_are_those_of_the_populations_ledger(finished: Callable[..., Path], aggregation: str) -> None:
    folder = finished(privacy="both", aggregation=aggregation, clients=4, rounds=2, user_delta=1e-2)
    entries, people = privacy_report(folder).promises
    assert (entries.unit, people.steps) == ("any single diary entry", 2)
    assert 0 < people.spent <= people.limit == 8.0
    if aggregation == "plain":
        assert people.second_opinion == pytest.approx(people.spent, rel=0.01)
    else:
        assert people.spent < 6  # four shares came where three carry the promise
    told = " ".join(sentences(privacy_report(folder)))
    assert ("but not the server" in told) == (aggregation == "plain")
    assert ("could open no single one" in told) == (aggregation != "plain")
    assert ("none of them works with the server" in told) == (aggregation == "encrypted")


SAMPLED = {"privacy": "user", "clients": 8, "fraction": 0.5, "rounds": 3, "user_epsilon": 6.0, "user_delta": 1e-2}


def convolved_delta(epsilon: float, *, noise: float, rate: float, rounds: int) -> float:
    """Delta of a Gaussian on a Poisson sample, ``rounds`` times: the privacy loss on a grid, convolved with itself; the worse direction."""
    step, reach = 2e-4, 60.0
    x = np.linspace(-14 * noise, 1 + 14 * noise, 400_001)
    with_one = (1 - rate) * norm.pdf(x, scale=noise) + rate * norm.pdf(x, loc=1, scale=noise)
    without = norm.pdf(x, scale=noise)
    losses = np.arange(-round(reach / step), round(reach / step) + 1) * step
    worst = 0.0
    for p, q in ((with_one, without), (without, with_one)):
        mass, loss = p * (x[1] - x[0]), np.log(p / q)
        once, _ = np.histogram(loss, bins=np.append(losses - step / 2, losses[-1] + step / 2), weights=mass)
        total = once
        for _ in range(rounds - 1):
            total = fftconvolve(total, once, mode="same")
        worst = max(worst, float(np.sum(total * np.maximum(0.0, -np.expm1(np.minimum(0.0, epsilon - losses))))))
    return worst


@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
def test_sampled_rounds_cost_people_what_other_accountants_say_of_what_was_really_done(
    finished: Callable[..., Path], sampling: str
) -> None:
    """Ledger and report against a convolution by hand; Poisson besides against Google's PLD, a fixed size against its Rényi DP of
    replacing one person, which bounds it from above (the noise is half as large against twice the clip norm)."""
    folder = finished(client_sampling=sampling, **SAMPLED)
    ledger = UserLedger(folder / "population-ledger.json", limit=6.0, delta=1e-2)
    charges = ledger.charges()
    assert [(charge.round, charge.sampling, charge.clients, charge.clients_per_round) for charge in charges] == [
        (round, sampling, 8, 4) for round in (1, 2, 3)
    ]
    [noise] = {charge.noise_multiplier for charge in charges}
    against = noise / 2 if sampling == "fixed" else noise
    spent = ledger.spent()
    assert convolved_delta(spent, noise=against, rate=0.5, rounds=3) <= 1e-2 * (1 + 1e-3)
    assert convolved_delta(spent - 0.02, noise=against, rate=0.5, rounds=3) > 1e-2

    [people] = privacy_report(folder).promises
    assert (people.spent, people.noise_multiplier, people.sampling_rate, people.steps) == (spent, against, 0.5, 3)
    rounds = Journal(folder).rounds()
    assert rounds[-1].user_epsilon == spent
    assert 5.9 < spent <= 6.0
    gaussian = dp_event.GaussianDpEvent(against)
    if sampling == "poisson":
        pld = PLDAccountant().compose(dp_event.PoissonSampledDpEvent(0.5, gaussian), 3)
        assert spent == pytest.approx(pld.get_epsilon(1e-2), abs=0.01)
    else:
        assert {record.clients for record in rounds} == {4}
        renyi = RdpAccountant(orders=range(2, 65), neighboring_relation=NeighboringRelation.REPLACE_ONE)
        assert spent < renyi.compose(dp_event.SampledWithoutReplacementDpEvent(8, 4, gaussian), 3).get_epsilon(1e-2) < math.inf


def test_a_run_without_protection_says_so(finished: Callable[..., Path]) -> None:
    folder = finished(privacy="none", rounds=1)
    report = privacy_report(folder)
    assert report.promises == ()
    assert "Nothing was protected" in sentences(report)[0]
    written = write_report(report, folder)
    assert "Nothing was protected" in written.read_text()
    assert json.loads((folder / "privacy.json").read_text())["promises"] == []


@pytest.mark.parametrize("aggregation", ["masked", "encrypted"])
def test_a_run_that_hides_single_updates_and_adds_no_noise_says_just_that(finished: Callable[..., Path], aggregation: str) -> None:
    report = privacy_report(finished(privacy="none", aggregation=aggregation, rounds=1, update_clip=100.0))
    [told] = sentences(report)
    assert "could open no single one" in told


def test_a_second_opinion_is_the_published_figure() -> None:
    # Opacus' own pinned value by PRV for these steps is 6.7774; two pessimistic discretisations differ in the third digit.
    assert second_opinion({(1.5, 0.04): 2250}, 1e-5) == pytest.approx(6.777395712150674, abs=0.02)


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="not the folder of a run"):
        privacy_report(tmp_path)
