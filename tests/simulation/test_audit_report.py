"""Tests of simulation.audit_report: figures as they were found, in every form; a dash where an attack does not apply; no text."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from model.settings import RunSettings
from privacy.attacks import Area, DoesNotApply, Found
from privacy.audit import Extent, Finding, SingleEntries, SmallDiary
from privacy.canaries import EmpiricalEpsilon, Stage, Trial
from simulation.audit_report import COLUMNS, AuditProgress, AuditReport, Figure, closing_lines, figures, notes, show_audit, write_audit

ALL = Found(Area(1.0, 0.0, 10, 90), precision=1.0, recall=1.0)
NOTHING = Found(Area(0.5, 0.06, 10, 90), precision=0.1, recall=1.0)
CLOSED = DoesNotApply("the door is <closed> & locked")


def finding(protection: str, tuning: str, found: Found | DoesNotApply, *, rank: int, members: float) -> Finding:
    single = SingleEntries((rank, rank), (40, 60), decoys=100, labels_read=2 if rank == 1 else 0)
    diaries = (SmallDiary(4, found, found), SmallDiary(1, CLOSED, CLOSED))  # the largest is what counts, wherever it stands
    return Finding(protection, f"{protection}'s server", tuning, found, diaries, single, 0.5, Area(members, 0.04, 54, 54))


def trial(name: str, *, at_least: float, planted: bool) -> Trial:
    return Trial(name, planted, EmpiricalEpsilon(4.0, at_least, 0.99, 1024, "Gaussian-DP mean"))


@pytest.fixture
def report() -> AuditReport:
    findings = (
        finding("plain", "head", CLOSED, rank=1, members=0.7),
        finding("plain", "full", ALL, rank=1, members=0.98),
        finding("masked", "full", NOTHING, rank=51, members=0.47),
    )
    trials = (trial("as it is", at_least=3.5, planted=False), trial("no clipping", at_least=math.inf, planted=True))
    return AuditReport(RunSettings(), Extent(), findings, trials)


def shown(report: AuditReport, folder: Path, *, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_audit(console, report, folder)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "chance", "leak"), [(0.5, 0.5, 0.0), (1.0, 0.5, 1.0), (0.75, 0.5, 0.5), (0.2, 0.5, 0.0), (0.25, 0.0, 0.25)]
)
def test_a_leak_runs_from_guessing_to_everything(value: float, chance: float, leak: float) -> None:
    assert Figure(value, chance).leak == pytest.approx(leak)


def test_the_figures_are_those_of_the_finding(report: AuditReport) -> None:
    everything, nothing = figures(report.findings[1]), figures(report.findings[2])
    leaks = [figure.leak for figure in everything.values() if isinstance(figure, Figure)]
    assert leaks == pytest.approx([1.0, 1.0, 1.0, 1.0, 1.0, 0.96])
    assert [figure.leak for figure in nothing.values() if isinstance(figure, Figure)] == pytest.approx([0.0] * len(COLUMNS))
    assert isinstance(figures(report.findings[0])["words"], DoesNotApply)


def test_a_text_that_comes_first_in_any_update_is_not_found_by_its_own() -> None:
    anywhere = SingleEntries((1, 1, 50), (1, 1, 50, 1, 1, 50), decoys=100, labels_read=1)
    assert anywhere.chance == pytest.approx(anywhere.first) == pytest.approx(2 / 3)
    assert SingleEntries((1, 1), (3, 5), decoys=99, labels_read=2).chance == 0.01
    assert SingleEntries((1,), (), decoys=99, labels_read=1).chance == 0.01


def test_all_is_written_and_read_back(report: AuditReport, tmp_path: Path) -> None:
    write_audit(report, tmp_path / "new")
    told = json.loads((tmp_path / "new" / "audit.json").read_text(encoding="utf-8"))
    assert [(row["protection"], row["tuning"]) for row in told["findings"]] == [("plain", "head"), ("plain", "full"), ("masked", "full")]
    assert told["findings"][0]["words"] == {"does_not_apply": CLOSED.reason}
    assert told["findings"][1]["words"]["recall"] == 1.0
    assert told["findings"][2]["single_entries"]["auc"] == pytest.approx(0.5)
    assert told["findings"][1]["membership"] == {"auc": 0.98, "standard_error": 0.04, "positives": 54, "negatives": 54}
    assert [row["epsilon"]["at_least"] for row in told["canaries"]] == [3.5, None]
    assert [row["passed"] for row in told["canaries"]] == [True, True]
    assert told["settings"]["epsilon"] == 8.0


def test_the_markdown_has_a_row_for_each_finding_and_every_cell(report: AuditReport, tmp_path: Path) -> None:
    write_audit(report, tmp_path)
    lines = (tmp_path / "audit.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith(("| plain", "| masked"))]
    assert rows[0] == "| plain | head | - | - | - | 1.00 | 1.00 | 0.70 ± 0.04 |"
    assert rows[1] == "| plain | full | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 | 0.98 ± 0.04 |"
    assert rows[2] == "| masked | full | 0.50 | 0.18 | 0.18 | 0.00 | 0.00 | 0.47 ± 0.04 |"
    assert "| no clipping | 4.00 | infinite | yes | yes |" in lines
    assert "![what one update gives away](audit.svg)" in lines


def test_the_picture_is_one_whole_svg_with_a_bar_for_each_figure(report: AuditReport, tmp_path: Path) -> None:
    write_audit(report, tmp_path)
    picture = (tmp_path / "audit.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(picture)  # noqa: S314 - our own
    tag = "{http://www.w3.org/2000/svg}"
    frames = [rect for rect in root.iter(f"{tag}rect") if rect.get("fill") == "#f2f2f2"]
    assert len(frames) == 3 * len(COLUMNS)
    assert len([text for text in root.iter(f"{tag}text") if text.text == "-"]) == 3
    assert len(list(root.iter(f"{tag}path"))) == 3
    assert "href" not in picture
    assert "url(" not in picture
    width, height = (float(part) for part in str(root.get("viewBox")).split()[2:])
    for rect in frames:
        assert float(str(rect.get("x"))) + float(str(rect.get("width"))) <= width
        assert float(str(rect.get("y"))) + 18 <= height


def test_the_terminal_shows_table_notes_and_what_to_make_of_them(report: AuditReport, tmp_path: Path) -> None:
    told = shown(report, tmp_path)
    for expected in ("what one update gives away", "0.98±0.04", "infinite", CLOSED.reason, "plain's server", "no promise", str(tmp_path)):
        assert expected in told
    assert told.count(CLOSED.reason) == 3  # once a column, not once a row
    assert "plain: gives away most by text found, 1.00 with head" in told
    assert "masked: no attack came clearly beyond guessing" in told


def test_the_table_fits_into_eighty_columns_whole(report: AuditReport, tmp_path: Path) -> None:
    longest = replace(report.findings[2], protection="user-level, readers")
    told = shown(replace(report, findings=(*report.findings, longest)), tmp_path, width=80)
    table = told.split("canaries in")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "user-level, readers" in table
    assert "0.98±0.04" in table


def test_a_fault_that_was_not_flagged_or_a_false_alarm_is_told_loudly(report: AuditReport, tmp_path: Path) -> None:
    assert "1 of 1 planted faults" in "".join(closing_lines(report, tmp_path))
    deaf = replace(report, trials=(*report.trials, trial("half the noise", at_least=3.0, planted=True)))
    assert "CANARIES FAILED for: half the noise" in "".join(closing_lines(deaf, tmp_path))
    alarmed = replace(report, trials=(trial("as it is", at_least=4.5, planted=False),))
    assert "CANARIES FAILED for: as it is" in "".join(closing_lines(alarmed, tmp_path))


def test_without_canaries_nothing_is_said_of_them(report: AuditReport, tmp_path: Path) -> None:
    alone = replace(report, trials=())
    assert "canar" not in shown(alone, tmp_path).replace(str(tmp_path), "")
    write_audit(alone, tmp_path)
    assert "Canaries" not in (tmp_path / "audit.md").read_text(encoding="utf-8")


def test_the_notes_name_the_extent_and_every_column(report: AuditReport) -> None:
    told = " ".join(notes(report))
    assert all(column.meaning in told for column in COLUMNS)
    assert "54 entries" in told
    assert "epsilon 8 at delta 0.0001" in told


def test_the_bar_shows_what_is_being_attacked() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with AuditProgress(console) as progress:
        progress.update(Stage(3, 12, "masked, top2"))
    assert isinstance(console.file, io.StringIO)
    assert "masked, top2" in console.file.getvalue()
    assert "3/12" in console.file.getvalue()


@pytest.mark.parametrize(
    ("figure", "clear"),
    [(Figure(0.62, 0.5, 0.05), False), (Figure(0.7, 0.5, 0.05), True), (Figure(0.04, 0.0), False), (Figure(0.1, 0.0), True)],
)
def test_what_chance_may_have_done_is_not_called_a_leak(figure: Figure, clear: bool) -> None:
    assert figure.is_clear is clear
