"""The privacy-utility curve: every run is what its unit and epsilon ask, kept as it is finished, drawn where the numbers say."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.stats import norm  # type: ignore[import-untyped]

from client.home import Home, virtual_home
from model.checkpoint import CheckpointStore
from model.refusal import Refusal
from model.settings import RunSettings
from model.tuning import tuned_classifier
from simulation.compare import Cell, Comparison, Moment, Standing, compare, prepare_comparison
from simulation.curve_report import notes, picture, show_curve, write_curve
from simulation.privacy_curve import Point, points_of, prepare_sweep, verdicts
from simulation.run import prepare, run_experiment
from simulation.standings import ComparisonProgress, show_start

Settings = Callable[..., RunSettings]
WORDS = ("노을빛이", "빗소리만", "문짝을", "시계침이")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, body: Path) -> Standing:
    """Both units at epsilon 8 and 2 and the run without privacy, two seeds, four people who share 48 of sixty entries."""
    folder = tmp_path_factory.mktemp("finished")
    names = ("기쁨", "슬픔", "분노", "불안")
    rows = [(number, own, own if number % 3 else (own + number) % 4) for number in range(15) for own in range(4)]
    lines = [f"{number}번째 {WORDS[told]} {'자꾸 ' * (number % 4)}떠오르던 밤,{names[own]}" for number, own, told in rows]
    (folder / "data.csv").write_text("\n".join(["text,emotion", *lines]), encoding="utf-8")
    settings = RunSettings(data=str(folder / "data.csv"), model=str(body), clients=4, rounds=3, local_epochs=2, fraction_evaluate=0.0)
    standing = compare(prepare_sweep(settings, epsilons="inf,8,2", seeds=2), folder / "out")
    write_curve(standing)
    return standing


def exact_epsilon(noise: float, times: int, delta: float) -> float:
    """Of so many Gaussian mechanisms in a row, by the closed form (Balle & Wang 2018, Theorem 8)."""
    mu = math.sqrt(times) / noise

    def excess(epsilon: float) -> float:
        return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)) - delta

    return float(brentq(excess, 0.0, 100.0))


def test_a_learning_rate_is_that_of_the_runs_that_it_suits(finished: Standing) -> None:
    settings = replace(finished.comparison.settings, learning_rate=0.5)
    mixed = prepare_sweep(settings, epsilons="inf,8", units="example", seeds=1).contestants
    assert [one.settings.learning_rate for one in mixed] == [0.0, 0.5]
    alike = prepare_sweep(settings, epsilons="inf,8", units="user", seeds=1).contestants
    assert [one.settings.learning_rate for one in alike] == [0.5, 0.5]


def test_every_row_is_the_run_that_its_unit_and_its_epsilon_ask(finished: Standing) -> None:
    base = finished.comparison.settings
    assert [cell.task.settings for cell in finished.cells] == [
        replace(base, seed=seed, **private)  # type: ignore[arg-type]
        for private in (
            {"privacy": "none"},
            {"privacy": "example", "epsilon": 8.0},
            {"privacy": "example", "epsilon": 2.0},
            {"privacy": "user", "user_epsilon": 8.0},
            {"privacy": "user", "user_epsilon": 2.0},
        )
        for seed in (7, 8)
    ]
    assert [(point.unit, point.asked) for point in points_of(finished)] == [
        (None, math.inf), ("example", 8.0), ("example", 2.0), ("user", 8.0), ("user", 2.0),
    ]  # fmt: skip
    assert len({cell.result.log_loss for cell in finished.cells}) == 10  # ten runs, not one ten times


def test_no_ledger_counts_more_than_was_asked_and_nearly_all_of_it_by_the_closed_form(finished: Standing) -> None:
    plain, *private = points_of(finished)
    assert (plain.row.spent, plain.noise_multiplier) == (None, None)
    for point in private:
        assert point.noise_multiplier is not None
        assert point.row.spent is not None
        steps = 3 * 2 if point.unit == "example" else 3  # every step sees the whole diary, every round the whole population
        wanted = exact_epsilon(point.noise_multiplier, steps, {"example": 1e-4, "user": 1e-3}[point.unit or ""])
        assert wanted <= point.asked
        assert point.row.spent <= point.asked
        assert point.row.spent == pytest.approx(wanted, rel=0.02)
        assert wanted == pytest.approx(point.asked, rel=0.02)
        assert [cell.result.epsilon is None for cell in point.row.cells] == [point.unit == "user"] * 2


def test_the_worst_person_is_found_by_reading_every_diary_with_the_final_model(finished: Standing, tmp_path: Path) -> None:
    plain = points_of(finished)[0]
    found = []
    for cell in plain.row.cells:
        settings = cell.task.settings
        run_experiment(prepare(settings), tmp_path / str(settings.seed))
        classifier, store = tuned_classifier(settings), CheckpointStore(tmp_path / str(settings.seed) / "checkpoints")
        newest = store.latest()
        assert newest is not None
        classifier.write(store.load(newest))
        right = []
        for number in range(4):
            diary = Home(virtual_home(tmp_path / f"{settings.seed}.people", number)).diary.labelled()
            chances = classifier.probabilities([entry.text for entry in diary], max_tokens=settings.max_tokens)
            right.append(float(np.mean([row.argmax() == entry.emotion.id for row, entry in zip(chances, diary, strict=True)])))
        found.append(right)
        assert cell.result.accuracy_by_person == pytest.approx(sorted(right))
    assert len({one for right in found for one in right}) > 2  # people differ
    assert plain.worst_person == pytest.approx(min(min(right) for right in found))
    assert plain.tenth_percentile == pytest.approx(np.mean([np.percentile(right, 10) for right in found]))


# what is kept


def test_a_sweep_that_broke_off_goes_on_where_it_was_and_more_may_be_asked_of_it(tmp_path: Path, shared: Settings, body: Path) -> None:
    settings = shared(model=str(body), tuning="head", rounds=1)
    folder = tmp_path / "out"

    def break_in_the_third(moment: Moment) -> None:
        if moment.done == 2 and moment.cell is None:
            raise RuntimeError("power cut")

    def swept(epsilons: str) -> list[bool]:
        moments: list[Moment] = []
        compare(prepare_sweep(settings, epsilons=epsilons, seeds=1), folder, on_progress=moments.append)
        return [moment.kept for moment in moments if moment.cell is not None]

    with pytest.raises(RuntimeError, match="power cut"):
        compare(prepare_sweep(settings, epsilons="inf,8", seeds=1), folder, on_progress=break_in_the_third)
    before = {file: file.read_bytes() for file in (folder / "cells").iterdir()}
    assert len(before) == 2
    assert swept("inf,8") == [True, True, False]
    assert swept("inf,8,0.5") == [True, True, False, True, False]
    assert {file: file.read_bytes() for file in before} == before
    stem = next(name.removesuffix("-federated-d0.3-s7.json") for file in before if (name := file.name).endswith("d0.3-s7.json"))
    assert sorted(file.name.removeprefix(f"{stem}-federated-d0.3") for file in (folder / "cells").iterdir()) == [
        "-example-e0.5-s7.json", "-example-e8-s7.json", "-s7.json", "-user-e0.5-s7.json", "-user-e8-s7.json",
    ]  # fmt: skip


def test_a_sweep_of_other_settings_is_refused_in_a_folder_that_was_begun(tmp_path: Path, shared: Settings, body: Path) -> None:
    settings = shared(model=str(body), tuning="head", rounds=1)
    compare(prepare_sweep(settings, epsilons="inf", seeds=1), tmp_path / "out")
    other = prepare_sweep(replace(settings, clip_norm=0.5), epsilons="inf,8", seeds=1)
    with pytest.raises(Refusal, match=r"was begun with clip-norm '4.0' and this call says '0.5'"):
        compare(other, tmp_path / "out")


def test_names_of_cells_without_privacy_are_what_they_were(shared: Settings, body: Path) -> None:
    def names(comparison: Comparison) -> list[str]:
        return [re.sub(r"^tiny-[0-9a-f]{6}", "tiny", one.at(7, comparison.splits[7]).file) for one in comparison.contestants]

    assert names(prepare_comparison(shared(), models=f"{body},tfidf", seeds=1)) == [
        "tiny-centralised-d0.3-s7.json", "tiny-federated-d0.3-s7.json", "tfidf-s7.json",
    ]  # fmt: skip
    both = prepare_comparison(shared(tuning="head", privacy="both", user_epsilon=3.5), models=str(body), seeds=1)
    assert names(both) == ["tiny-centralised-d0.3-s7.json", "tiny-federated-d0.3-example-e8-user-e3.5-s7.json"]
    assert both.contestants[1].name == f"{body}, federated, dropout 0.3, example epsilon 8, user epsilon 3.5"


# what is refused


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"epsilons": "0"}, "epsilon is '0' and '0' is no number above 0; write such as inf,16,8"),
        ({"epsilons": "8,nan"}, "'nan' is no number above 0"),
        ({"epsilons": "abc"}, "epsilon is 'abc' and 'abc' is no number above 0"),
        ({"epsilons": "8,-inf"}, "'-inf' is no number above 0"),
        ({"epsilons": "8,4,8.0"}, "epsilon is '8,4,8.0', which names 8 twice; name each once"),
        ({"epsilons": "inf,infinity"}, "which names inf twice"),
        ({"epsilons": " , "}, "write one or several with commas"),
        ({"epsilons": "1e-9"}, "epsilon 1e-09 over 2 rounds needs more than"),
        ({"epsilons": "1e300"}, r"epsilon is 1e\+300; it must be above 0 and at most"),
        ({"units": "both"}, "units is 'both' and 'both' is none; write example or user, or both of them"),
        ({"units": "example,example"}, "each may stand there once"),
        ({"units": ""}, "units is ''"),
        ({"seeds": 0}, "seeds is 0; it must be at least 1"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_one_sentence(shared: Settings, body: Path, words: dict[str, str], sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        prepare_sweep(shared(model=str(body), tuning="head"), **words)  # type: ignore[arg-type]


def test_settings_that_one_run_cannot_have_are_refused_before_anything_begins(shared: Settings, body: Path) -> None:
    weighted = shared(model=str(body), tuning="head", class_weights="balanced")
    assert len(prepare_sweep(weighted, units="user", epsilons="inf,8", seeds=1).contestants) == 2
    with pytest.raises(Refusal, match=r"delta 0\.1 covers at most 4"):
        prepare_sweep(shared(model=str(body), tuning="head", delta=0.1), units="example", epsilons="inf,8")
    with pytest.raises(Refusal, match="update-precision fp16"):
        prepare_sweep(shared(model=str(body), tuning="head", update_precision="fp16"))


# what it says


def with_counts(cell: Cell, right: int) -> Cell:
    """A cell whose macro-F1 is ``right`` in 10,000: two emotions, and as many of each are read as the other."""
    wrong = 10_000 - right
    counts = [[right, 0, wrong, 0], [0] * 4, [wrong, 0, right, 0], [0] * 4]
    return replace(cell, result=replace(cell.result, confusion=counts))


def scored(finished: Standing, *right: int) -> list[Point]:
    """The rows of the sweep as if they had read so many of 10,000 rightly, at every seed."""
    cells = [with_counts(cell, right[number // 2]) for number, cell in enumerate(finished.cells)]
    return points_of(replace(finished, cells=tuple(cells)))


def test_the_goal_is_met_by_exactly_95_percent_and_missed_by_one_entry_less(finished: Standing) -> None:
    at_the_border, below = verdicts(scored(finished, 8000, 7600, 0, 7599, 0))
    assert at_the_border == "example: epsilon 8 keeps 95% of the macro-F1 without privacy: 0.760 of 0.800 are 95.0 %"
    assert below == "user: epsilon 8 does not keep 95% of the macro-F1 without privacy: 0.760 of 0.800 are 94.9 %"
    better, other = verdicts(scored(finished, 7000, 7350, 9999, 3500, 9999))
    assert (better[-7:], other[-6:]) == ("105.0 %", "50.0 %")
    assert "does not" not in better


def test_what_is_not_there_to_compare_with_is_said(finished: Standing) -> None:
    cells = finished.cells
    assert verdicts(points_of(replace(finished, cells=cells[2:4]))) == [
        "example: there is no finished run without privacy, so whether epsilon 8 keeps 95% is not known"
    ]
    assert verdicts(points_of(replace(finished, cells=cells[:2] + cells[4:6]))) == [
        "example: epsilon 8 was not asked for, so whether it keeps 95% is not known"
    ]
    assert "so far (1 of its seeds against 2): " in verdicts(points_of(replace(finished, cells=cells[:3])))[0]


def test_the_figures_of_a_row_are_means_over_its_seeds(finished: Standing) -> None:
    stored = json.loads((finished.folder / "sweep.json").read_bytes())
    lines = (finished.folder / "sweep.md").read_text(encoding="utf-8").splitlines()
    [head] = [number for number, line in enumerate(lines) if line.startswith("| unit |")]
    table = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[head : head + 7]]
    plain = np.mean([cell.result.scores.macro_f1 for cell in finished.cells[:2]])
    for number, (row, told) in enumerate(zip(stored["rows"], table[2:], strict=True)):
        scores = [cell.result.scores for cell in finished.cells[2 * number : 2 * number + 2]]
        f1 = [one.macro_f1 for one in scores]
        assert row["mean"]["macro_f1"] == pytest.approx(np.mean(f1))
        assert row["spread"]["macro_f1"] == pytest.approx(np.std(f1, ddof=1))
        assert row["share"] == pytest.approx(np.mean(f1) / plain)
        by_title = dict(zip(table[0], told, strict=True))
        assert by_title["macro-F1"] == f"{np.mean(f1):.3f} ± {np.std(f1, ddof=1):.3f}"
        rates = [one.accuracy for one in scores]
        assert by_title["accuracy"] == f"{np.mean(rates):.3f} ± {np.std(rates, ddof=1):.3f}"
        assert (by_title["seeds"], by_title["lost answers"]) == ("2", "0")
        assert (row["epsilon_asked"], by_title["epsilon asked"]) == ([None, 8, 2, 8, 2][number], ["inf", "8", "2", "8", "2"][number])
    assert len(stored["cells"]) == stored["cells_asked_for"] == 10


def test_no_file_of_a_sweep_holds_a_word_of_an_entry(finished: Standing) -> None:
    files = [file for file in finished.folder.rglob("*") if file.is_file()]
    assert len(files) >= 14
    for word in (*WORDS, "떠오르던"):
        assert not [file for file in files if word.encode() in file.read_bytes()]


# the picture


def marks(points: list[Point]) -> tuple[list[ElementTree.Element], Callable[[float], float], dict[str, float], ElementTree.Element]:
    """The marks, the scale of figures as the labels of its axis have it, where each epsilon's label stands, and the picture."""
    tree = ElementTree.fromstring(picture(points))  # noqa: S314  it is our own
    labels = {float(text.text or ""): float(text.attrib["y"]) - 4 for text in tree.findall("{*}text[@class='y']")}
    slope, start = np.polyfit(list(labels), list(labels.values()), 1)
    places = {str(text.text): float(text.attrib["x"]) for text in tree.findall("{*}text[@class='x']")}
    return tree.findall("{*}circle"), lambda figure: float(start + slope * figure), places, tree


def test_every_mark_stands_over_its_epsilon_at_its_macro_f1_between_its_spread(finished: Standing) -> None:
    points = points_of(finished)
    circles, at, places, tree = marks(points)
    assert [circle.attrib["class"] for circle in circles] == ["none", "example", "example", "user", "user"]
    for number, (circle, epsilon) in enumerate(zip(circles, ("inf", "8", "2", "8", "2"), strict=True)):
        f1 = [cell.result.scores.macro_f1 for cell in finished.cells[2 * number : 2 * number + 2]]
        assert float(circle.attrib["cx"]) == pytest.approx(places[epsilon], abs=0.1)
        assert float(circle.attrib["cy"]) == pytest.approx(at(float(np.mean(f1))), abs=0.2)
        bar = tree.findall("{*}path[@class='spread']")[number].attrib["d"]
        x, top, bottom = map(float, re.findall(r"-?[\d.]+", bar))
        assert x == pytest.approx(places[epsilon], abs=0.1)
        assert (top, bottom) == pytest.approx([at(float(np.mean(f1) + sign * np.std(f1, ddof=1))) for sign in (1, -1)], abs=0.2)
    [goal] = tree.findall("{*}path[@class='goal']")
    plain = np.mean([cell.result.scores.macro_f1 for cell in finished.cells[:2]])
    assert float(goal.attrib["d"].split()[1].split("H")[0]) == pytest.approx(at(0.95 * float(plain)), abs=0.2)


def test_the_axis_is_logarithmic_with_inf_at_its_end_and_a_line_joins_each_unit(finished: Standing) -> None:
    first, *_ = points = points_of(finished)
    [example] = [point for point in points if point.unit == "example" and point.asked == 8]

    def at(epsilon: float) -> Point:
        contestant = replace(example.row.contestant, settings=replace(example.row.contestant.settings, epsilon=epsilon))
        return replace(example, row=replace(example.row, contestant=contestant))

    _, _, places, tree = marks([first, *(at(epsilon) for epsilon in (1, 2, 4, 16))])
    assert places["2"] - places["1"] == pytest.approx(places["4"] - places["2"], abs=0.2)
    assert places["16"] - places["4"] == pytest.approx(2 * (places["4"] - places["2"]), abs=0.2)
    assert places["inf"] == max(places.values())
    [line] = tree.findall("{*}polyline")
    xs = [float(place.split(",")[0]) for place in line.attrib["points"].split()]
    assert xs == pytest.approx([places[epsilon] for epsilon in ("1", "2", "4", "16", "inf")], abs=0.1)
    assert len(marks([at(4)])[0]) == 1  # one alone, and none to compare with, can be drawn too


# the terminal


def test_the_terminal_shows_the_whole_table_in_eighty_columns(finished: Standing) -> None:
    console = Console(width=80, record=True, force_terminal=False, file=io.StringIO())
    show_start(console, finished.comparison)
    with ComparisonProgress(console, finished.comparison) as progress:
        for number, cell in enumerate(finished.cells):
            progress.update(Moment(number + 1, 10, cell.task, cell=cell))
    show_curve(console, finished)
    shown = console.export_text()
    table = shown[shown.index("privacy and utility") : shown.index("every contestant")]
    assert "…" not in shown
    assert max(len(line) for line in table.splitlines()) <= 80
    for number, point in enumerate(points_of(finished)):
        macro = np.mean([cell.result.scores.macro_f1 for cell in finished.cells[2 * number : 2 * number + 2]])
        [line] = [line for line in table.splitlines() if line.split()[:2] == [point.unit or "none", f"{point.asked:g}"]]
        assert f"{macro:.3f}" in line
    assert f"{notes(finished)[1]}" in shown
    assert "example: epsilon 8 " in shown
    assert f"results: {finished.folder} (sweep.md, sweep.json, sweep.svg;" in shown
    assert "federated, dropout 0.3, user epsilon 2, seed 8: macro-F1" in shown


def test_the_command_sweeps_what_it_is_told_and_has_no_second_way_to_say_epsilon(tmp_path: Path, shared: Settings, body: Path) -> None:
    from typer.testing import CliRunner

    from healing import app

    words = ["--data", shared().data, "--model", str(body), "--clients", "3", "--rounds", "1", "--seeds", "1", "--units", "user"]
    told = CliRunner().invoke(app, ["sweep", *words, "--epsilon", "inf,8", "--out", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    assert "user: epsilon 8 " in told.output
    stored = json.loads((tmp_path / "out" / "sweep.json").read_bytes())
    assert [(row["unit"], row["epsilon_asked"], row["seeds"]) for row in stored["rows"]] == [(None, None, [7]), ("user", 8.0, [7])]
    assert stored["settings"]["fraction_evaluate"] == 0
    plain = CliRunner().invoke(app, ["sweep", "--help"]).output
    assert "--user-delta" in plain
    assert not [option for option in ("--privacy ", "--user-epsilon ", "--people ") if option in plain]
    assert isinstance(CliRunner().invoke(app, ["sweep", *words, "--epsilon", "0"]).exception, Refusal)
