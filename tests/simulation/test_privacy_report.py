"""The privacy report: its figures are the ledgers', a second library agrees, and it says in words whom it protects from whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from model.refusal import Refusal
from model.settings import RunSettings
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


@pytest.mark.parametrize("aggregation", ["plain", "masked"])
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
    assert ("could open no single one" in told) == (aggregation == "masked")


def test_a_run_without_protection_says_so(finished: Callable[..., Path]) -> None:
    folder = finished(privacy="none", rounds=1)
    report = privacy_report(folder)
    assert report.promises == ()
    assert "Nothing was protected" in sentences(report)[0]
    written = write_report(report, folder)
    assert "Nothing was protected" in written.read_text()
    assert json.loads((folder / "privacy.json").read_text())["promises"] == []


def test_a_second_opinion_is_the_published_figure() -> None:
    # Opacus' own pinned value by PRV for these steps is 6.7774; two pessimistic discretisations differ in the third digit.
    assert second_opinion({(1.5, 0.04): 2250}, 1e-5) == pytest.approx(6.777395712150674, abs=0.02)


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="not the folder of a run"):
        privacy_report(tmp_path)
