"""The table of an audit: on the terminal, as JSON, Markdown and a picture; and a bar for one that runs. Counts and rates only."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from model.checkpoint import write_durably
from model.settings import RunSettings
from privacy.attacks import Area, DoesNotApply, Found
from privacy.audit import Extent, Finding, SmallDiary
from privacy.canaries import Stage, Trial


@dataclass(frozen=True)
class AuditReport:
    """What an audit found, and under which settings."""

    settings: RunSettings
    extent: Extent
    findings: tuple[Finding, ...]
    trials: tuple[Trial, ...] = ()
    """Of the canaries; none where only the attacks ran."""


@dataclass(frozen=True)
class Figure:
    """One cell: how far the attack comes, what guessing gives, and the standard error of the first."""

    value: float
    chance: float
    error: float = 0.0

    @property
    def leak(self) -> float:
        """0 at chance or below, 1 where everything is recovered."""
        return min(1.0, max(0.0, (self.value - self.chance) / (1 - self.chance)))

    @property
    def is_clear(self) -> bool:
        """Beyond guessing by three standard errors, and by more than a trifle."""
        return self.value - self.chance > max(3 * self.error, 0.05)


@dataclass(frozen=True)
class Column:
    """One attack: how its figure is had from a finding, and what it means."""

    key: str
    title: str
    narrow: str
    of: Callable[[Finding], Figure | DoesNotApply]
    meaning: str
    spread: bool = False
    """Whether the standard error is written; elsewhere the number of cases says it."""

    def written(self, finding: Finding, between: str) -> str:
        """Two digits, and the error; a dash where the attack does not apply."""
        figure = self.of(finding)
        if isinstance(figure, DoesNotApply):
            return "-"
        return f"{figure.value:.2f}" + (f"{between}{figure.error:.2f}" if self.spread else "")


def _words(finding: Finding) -> Figure | DoesNotApply:
    found = finding.words
    return Figure(found.area.auc, 0.5, found.area.standard_error) if isinstance(found, Found) else found


def _f1(found: Found | DoesNotApply) -> Figure | DoesNotApply:
    return Figure(found.f1, found.chance) if isinstance(found, Found) else found


def _largest(finding: Finding) -> SmallDiary:
    return max(finding.small_diaries, key=lambda diary: diary.entries)


def _places_in_gradient(finding: Finding) -> Figure | DoesNotApply:
    return _f1(_largest(finding).from_gradient)


def _places_in_update(finding: Finding) -> Figure | DoesNotApply:
    return _f1(_largest(finding).from_update)


def _text(finding: Finding) -> Figure:
    return _share(finding.single_entries.first, finding.single_entries.chance, finding)


def _label(finding: Finding) -> Figure:
    return _share(finding.single_entries.labels_right, 0.25, finding)


def _share(value: float, chance: float, finding: Finding) -> Figure:
    """With the standard error of guessing at so many entries."""
    return Figure(value, chance, math.sqrt(chance * (1 - chance) / len(finding.single_entries.ranks)))


def _members(finding: Finding) -> Figure:
    return Figure(finding.membership.auc, 0.5, finding.membership.standard_error)


COLUMNS = (
    Column(
        "words",
        "words (AUC)",
        "words\nAUC",
        _words,
        "which words the diary holds, from the rows of the word table that moved",
    ),
    Column(
        "places_in_gradient",
        "word at its place, from a gradient (F1)",
        "place\ngrad.\nF1",
        _places_in_gradient,
        "which word stands where in a small diary, from one bare gradient (what FedSGD would send)",
    ),
    Column(
        "places_in_update",
        "word at its place, from the update (F1)",
        "place\nupd.\nF1",
        _places_in_update,
        "the same from the update that is really sent, Adam's step turned back into a gradient",
    ),
    Column("text", "text found", "text\nfound", _text, "share of single entries whose text is ranked first among public decoys"),
    Column("label", "label read", "label\nread", _label, "share of single entries whose emotion is read"),
    Column("members", "members (AUC)", "members\nAUC", _members, "which entries were trained on, from how far their loss fell", True),
)


def figures(finding: Finding) -> dict[str, Figure | DoesNotApply]:
    """By column."""
    return {column.key: column.of(finding) for column in COLUMNS}


def write_audit(report: AuditReport, folder: Path) -> None:
    """``audit.json`` (everything; null where a number is infinite), ``audit.md`` and ``audit.svg`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "settings": asdict(report.settings),
        "extent": asdict(report.extent),
        "notes": notes(report),
        "findings": [_finding_values(finding) for finding in report.findings],
        "canaries": [_trial_values(trial) for trial in report.trials],
    }
    write_durably(folder / "audit.json", json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode())
    write_durably(folder / "audit.md", _markdown(report).encode())
    write_durably(folder / "audit.svg", _picture(report.findings).encode())


def notes(report: AuditReport) -> list[str]:
    """What a reader must know to read the table rightly."""
    extent, settings = report.extent, report.settings
    single = f"{extent.single_entries} single entries, each against {extent.decoys} public decoys"
    return [
        f"one update of one device: {extent.entries} entries in {settings.local_epochs} passes against {extent.entries} others (words, "
        f"members); a small diary of {max(extent.small_diaries)} in one pass (places); {single} (text, label).",
        "guessing gives: AUC 0.5; F1 about 0; label read 0.25; text found as often as the same texts come first in another entry's "
        f"update, at least {1 / (extent.decoys + 1):.2f}; ± is the standard error (Hanley & McNeil 1982).",
        *(f"{column.title}: {column.meaning}." for column in COLUMNS),
        f"example-level: epsilon {settings.epsilon:g} at delta {settings.delta:g} over {settings.rounds} rounds; user-level: epsilon "
        f"{settings.user_epsilon:g} at delta {settings.user_delta:g} over {settings.rounds} rounds of {settings.clients} people.",
        *(f"{name}: seen by {seen_by}." for name, seen_by in _seen_by(report).items()),
        *(f"- in {tuning}, {column}: {reason}." for (tuning, column), reason in _reasons(report).items()),
        "green: not clearly beyond guessing (three standard errors); red: at least half of the way from guessing to everything.",
        "an attack that fails here has failed once, on these entries, by these means; that is no promise.",
        *_about_canaries(report.trials),
    ]


def _seen_by(report: AuditReport) -> dict[str, str]:
    return {finding.protection: finding.seen_by for finding in report.findings}


def _reasons(report: AuditReport) -> dict[tuple[str, str], str]:
    """Why there is no figure, by tuning and column; the protection makes no difference to that."""
    found = ((finding.tuning, column.title, column.of(finding)) for finding in report.findings for column in COLUMNS)
    return {(tuning, title): figure.reason for tuning, title, figure in found if isinstance(figure, DoesNotApply)}


def _about_canaries(trials: Sequence[Trial]) -> list[str]:
    if not trials:
        return []
    one = trials[0].epsilon
    return [
        f"canaries: {one.canaries} of them through the private pipeline; epsilon is at least the figure shown with confidence "
        f"{one.confidence:g} ({one.method}); a claim below it is false, one above it is not thereby proved."
    ]


def closing_lines(report: AuditReport, folder: Path) -> list[str]:
    """What the table says in words, and where it lies."""
    worst = {name: _worst([finding for finding in report.findings if finding.protection == name]) for name in _seen_by(report)}
    lines = [f"{name}: {told}" for name, told in worst.items()]
    failed = [trial.name for trial in report.trials if not trial.passed]
    if failed:
        lines.append(f"CANARIES FAILED for: {', '.join(failed)}; run again, and if it stays so the pipeline or the audit has a fault")
    elif report.trials:
        planted = sum(trial.planted for trial in report.trials)
        lines.append(f"canaries: {planted} of {planted} planted faults were flagged, and the pipeline as it is was not")
    return [*lines, f"results: {folder} (audit.md, audit.json, audit.svg)"]


def _worst(findings: Sequence[Finding]) -> str:
    """The attack that comes furthest."""
    found = [
        (figure.leak, column.title, finding.tuning, figure)
        for finding in findings
        for column in COLUMNS
        if isinstance(figure := column.of(finding), Figure)
    ]
    found.sort(key=lambda one: (one[-1].is_clear, one[0]), reverse=True)
    leak, title, tuning, figure = found[0]
    told = f"{title}, {figure.value:.2f} with {tuning}, {leak:.0%} of the way from guessing to everything"
    return f"gives away most by {told}" if figure.is_clear else f"no attack came clearly beyond guessing (furthest: {told})"


def show_audit(console: Console, report: AuditReport, folder: Path) -> None:
    """The tables, what they say and where they lie."""
    console.print(_table(report.findings))
    if report.trials:
        console.print(_canary_table(report.trials))
    for line in notes(report):
        console.print(line, soft_wrap=True, highlight=False, style="dim", markup=False)
    for line in closing_lines(report, folder):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


class AuditProgress:
    """A bar that says what is being attacked; for the audit and then for the canaries."""

    def __init__(self, console: Console) -> None:
        shown = (BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*shown, console=console, transient=True)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> AuditProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, stage: Stage) -> None:
        """Show where the audit is."""
        self._bar.update(self._task, completed=stage.done, total=stage.total, description=stage.what)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="what one update gives away", title_justify="left", padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("protection")
    table.add_column("tuning")
    for column in COLUMNS:
        table.add_column(column.narrow, justify="right", no_wrap=True)
    before = ""
    for finding in findings:
        name = finding.protection if finding.protection != before else ""
        before = finding.protection
        table.add_row(name, finding.tuning, *(_styled(column, finding) for column in COLUMNS))
    return table


def _styled(column: Column, finding: Finding) -> str:
    figure, written = column.of(finding), column.written(finding, "±")
    if isinstance(figure, DoesNotApply):
        return f"[dim]{written}[/]"
    return f"[{'green' if not figure.is_clear else 'red' if figure.leak >= 0.5 else 'yellow'}]{written}[/]"


def _canary_table(trials: Sequence[Trial]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="canaries in the private pipeline", title_justify="left", padding=(0, 1), show_edge=False)
    for title in ("pipeline", "claimed", "at least", "flagged", "as it should"):
        table.add_column(title, justify="left" if title == "pipeline" else "right")
    for trial in trials:
        table.add_row(*_trial_cells(trial))
    return table


def _trial_cells(trial: Trial) -> list[str]:
    epsilon = trial.epsilon
    at_least = "infinite" if math.isinf(epsilon.at_least) else f"{epsilon.at_least:.2f}"
    return [trial.name, f"{epsilon.claimed:.2f}", at_least, _yes(epsilon.flagged), _yes(trial.passed)]


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _finding_values(finding: Finding) -> dict[str, Any]:
    single = finding.single_entries
    return {
        "protection": finding.protection,
        "seen_by": finding.seen_by,
        "tuning": finding.tuning,
        "words": _found_values(finding.words),
        "small_diaries": [
            {
                "entries": diary.entries,
                "from_gradient": _found_values(diary.from_gradient),
                "from_update": _found_values(diary.from_update),
            }
            for diary in finding.small_diaries
        ],
        "single_entries": asdict(single)
        | {"first": single.first, "chance": single.chance, "auc": single.auc, "labels_right": single.labels_right},
        "labels_counted": finding.labels_counted,
        "membership": _area_values(finding.membership),
    }


def _found_values(found: Found | DoesNotApply) -> dict[str, Any]:
    if isinstance(found, DoesNotApply):
        return {"does_not_apply": found.reason}
    return _area_values(found.area) | {"precision": found.precision, "recall": found.recall, "f1": found.f1, "chance_f1": found.chance}


def _area_values(area: Area) -> dict[str, Any]:
    return asdict(area)


def _trial_values(trial: Trial) -> dict[str, Any]:
    epsilon = asdict(trial.epsilon) | {"at_least": trial.epsilon.at_least if math.isfinite(trial.epsilon.at_least) else None}
    return {"name": trial.name, "planted": trial.planted, "flagged": trial.epsilon.flagged, "passed": trial.passed, "epsilon": epsilon}


def _markdown(report: AuditReport) -> str:
    lines = ["# What one update gives away", "", *_markdown_table(["protection", "tuning", *(column.title for column in COLUMNS)])]
    for finding in report.findings:
        lines.append(_markdown_row([finding.protection, finding.tuning, *(column.written(finding, " ± ") for column in COLUMNS)]))
    lines += ["", *(f"- {note.removeprefix('- ')}" for note in notes(report)), "", "![what one update gives away](audit.svg)", ""]
    if report.trials:
        lines += ["## Canaries", "", *_markdown_table(["pipeline", "claimed", "at least", "flagged", "as it should"])]
        lines += [*(_markdown_row(_trial_cells(trial)) for trial in report.trials), ""]
    return "\n".join(lines)


def _markdown_table(titles: Sequence[str]) -> list[str]:
    return [_markdown_row(titles), "|" + "---|" * len(titles)]


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _colour(figure: Figure) -> str:
    """Green within the chance of guessing, else amber, and red from half of everything on."""
    return "#55A868" if not figure.is_clear else "#C44E52" if figure.leak >= 0.5 else "#E8A33D"


LEFT, WIDTH, GAP, STEP, TOP = 230, 120, 16, 24, 58


def _picture(findings: Sequence[Finding]) -> str:
    """A bar for each figure, from guessing (its left end) to everything (its right end), as SVG that needs nothing else."""
    across, down = LEFT + len(COLUMNS) * (WIDTH + GAP) + GAP, TOP + STEP * len(findings) + 34
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="100%" height="100%" fill="white"/>')
    for number, column in enumerate(COLUMNS):
        head, _, unit = column.title.partition(" (")
        first, _, second = head.partition(", ")
        x = LEFT + number * (WIDTH + GAP)
        parts.append(f'<text x="{x}" y="20" font-weight="bold">{html.escape(first)}</text>')
        parts.append(f'<text x="{x}" y="36" fill="#555">{html.escape(" ".join(filter(None, (second, unit.rstrip(")")))))}</text>')
    for row, finding in enumerate(findings):
        y, name = TOP + row * STEP, html.escape(f"{finding.protection}, {finding.tuning}"[-38:])
        parts.append(f'<text x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{name}</text>')
        for number, column in enumerate(COLUMNS):
            parts += _bar(column, finding, LEFT + number * (WIDTH + GAP), y)
    legend = "bars run from guessing to everything recovered; a dash: the attack has nothing to look at"
    return "\n".join([*parts, f'<text x="{LEFT}" y="{down - 10}" fill="#555">{legend}</text>', "</svg>", ""])


def _bar(column: Column, finding: Finding, x: int, y: int) -> list[str]:
    figure = column.of(finding)
    frame = f'<rect x="{x}" y="{y}" width="{WIDTH}" height="18" fill="#f2f2f2"/>'
    if isinstance(figure, DoesNotApply):
        return [frame, f'<text x="{x + 6}" y="{y + 13}" fill="#888">-</text>']
    parts = [frame, f'<rect x="{x}" y="{y}" width="{WIDTH * figure.leak:.1f}" height="18" fill="{_colour(figure)}"/>']
    if column.spread:
        low, high = (WIDTH * Figure(figure.value + sign * figure.error, figure.chance).leak for sign in (-1, 1))
        parts.append(f'<path d="M{x + low:.1f} {y + 9}H{x + high:.1f}" stroke="black"/>')
    return [*parts, f'<text x="{x + 6}" y="{y + 13}">{column.written(finding, " ± ")}</text>']
