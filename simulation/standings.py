"""The table of a comparison: on the terminal, as JSON, Markdown and a picture; and the live view of one that runs."""

from __future__ import annotations

import html
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from model.checkpoint import write_durably
from model.classifier import MODELS
from model.emotions import EMOTIONS
from model.examples import BUNDLES
from model.settings import RunSettings
from simulation.compare import (
    CENTRALISED,
    EXCEPTIONS,
    FEDERATED,
    FLOOR,
    FLOOR_C,
    FLOOR_STEPS,
    NGRAMS,
    RARE,
    TFIDF,
    Cell,
    Comparison,
    Contestant,
    Moment,
    Result,
    Standing,
    passes_of,
    promises_of,
)


@dataclass(frozen=True)
class Column:
    """One figure of the table: how it is had from a result, and how it is written."""

    key: str
    title: str
    narrow: str
    of: Callable[[Result], float | None]
    form: str = ".3f"
    spread: bool = True


def _f1_of(result: Result, *, id: int) -> float:
    return result.scores.f1[id]


def _seconds_per_epoch(result: Result) -> float | None:
    return result.seconds / result.passes if result.passes else None


COLUMNS = (
    Column("macro_f1", "macro-F1", "macro\nF1", lambda result: result.scores.macro_f1),
    *(Column(f"f1_{emotion.en}", f"F1 {emotion.ko}", f"F1\n{emotion.ko}", partial(_f1_of, id=emotion.id)) for emotion in EMOTIONS),
    Column("cross_entropy", "cross-entropy", "cross\nentr.", lambda result: result.scores.cross_entropy),
    Column("accuracy", "accuracy", "accu-\nracy", lambda result: result.scores.accuracy),
    Column("parameters", "trained parameters", "para-\nmeters", lambda result: result.parameters, ",.0f", spread=False),
    Column("mb_per_round", "MB sent per round and person", "MB\nsent", lambda result: result.mb_per_round, ".3g", spread=False),
    Column("seconds_per_epoch", "seconds per epoch", "s an\nepoch", _seconds_per_epoch, ".3g"),
)
MACRO_F1 = COLUMNS[0]
CROSS_ENTROPY, ACCURACY = (next(column for column in COLUMNS if column.key == key) for key in ("cross_entropy", "accuracy"))


@dataclass(frozen=True)
class Row:
    """A contestant over its finished seeds."""

    contestant: Contestant
    cells: tuple[Cell, ...]

    def mean(self, column: Column) -> float | None:
        """Over the seeds; None where the column has no meaning."""
        values = self._values(column)
        return statistics.fmean(values) if values else None

    def spread(self, column: Column) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two."""
        values = self._values(column)
        return statistics.stdev(values) if len(values) > 1 else None

    def _values(self, column: Column) -> list[float]:
        return [value for cell in self.cells if (value := column.of(cell.result)) is not None]

    @property
    def macro_f1(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(self._values(MACRO_F1))

    @property
    def confusion(self) -> list[list[int]]:
        """Counts of all seeds together."""
        total: list[list[int]] = np.sum([cell.result.confusion for cell in self.cells], axis=0).tolist()
        return total

    @property
    def lost_answers(self) -> int:
        """Answers of devices that were declined or refused."""
        return sum(cell.result.lost_answers for cell in self.cells)

    @property
    def privacy(self) -> str:
        """None, or the largest epsilon of any person, or else of the population, at any seed."""
        return f"epsilon {self.spent:.2f}" if self.spent is not None else "none"

    @property
    def spent(self) -> float | None:
        """The largest epsilon that a ledger has counted at any seed: any person's own, or else the population's."""
        results = [cell.result for cell in self.cells]
        by_person, by_all = [one.epsilon for one in results], [one.user_epsilon for one in results]
        return max((epsilon for epsilon in (by_person if any(by_person) else by_all) if epsilon is not None), default=None)


def rows_of(standing: Standing) -> list[Row]:
    """The contestants that have finished at least one seed, in the order in which they were asked for."""

    def is_of(cell: Cell, one: Contestant) -> bool:
        task = cell.task
        return (task.model, task.way, replace(task.settings, seed=one.settings.seed)) == (one.model, one.way, one.settings)

    rows = [Row(one, tuple(cell for cell in standing.cells if is_of(cell, one))) for one in standing.comparison.contestants]
    return [row for row in rows if row.cells]


def write_results(standing: Standing) -> None:
    """``compare.json`` (everything), ``compare.md`` and ``compare.svg`` in the comparison's folder."""
    rows = rows_of(standing)
    content = {
        "exceptions": EXCEPTIONS,
        "left_out": standing.comparison.left_out,
        "notes": notes(standing),
        "rows": [_row_values(row) for row in rows],
    }
    keep(standing, "compare", content, markdown=_markdown(standing), picture=_picture(rows))


def keep(standing: Standing, name: str, content: dict[str, Any], *, markdown: str, picture: str) -> None:
    """``<name>.json`` (the content, with settings and every cell), ``.md`` and ``.svg`` in the folder."""
    comparison = standing.comparison
    content = {
        "cells_finished": len(standing.cells),
        "cells_asked_for": comparison.cells,
        "settings": asdict(comparison.settings),
        "seeds": comparison.seeds,
        **content,
        "cells": [asdict(cell) | {"scores": cell.result.scores.summary()} for cell in standing.cells],
    }
    write_durably(standing.folder / f"{name}.json", json.dumps(content, indent=1, ensure_ascii=False).encode())
    write_durably(standing.folder / f"{name}.md", markdown.encode())
    write_durably(standing.folder / f"{name}.svg", picture.encode())


def notes(standing: Standing) -> list[str]:
    """What a reader must know to read the table rightly."""
    comparison, rows = standing.comparison, rows_of(standing)
    ways = {row.contestant.way for row in rows}
    return [
        about_data(comparison),
        *([_about_federated(comparison.settings)] if FEDERATED in ways else []),
        *([_about_centralised(comparison.settings)] if CENTRALISED in ways else []),
        *([_about_floor()] if FLOOR in ways else []),
        *_about_exceptions(rows),
        "seconds per epoch: the whole training, with the frozen trunk's one pass over the entries, over the number of passes; "
        "federated ones hold sending, averaging and a score after each round too.",
        *(f"{row.contestant.name}: {row.lost_answers} answers of devices were declined or refused." for row in rows if row.lost_answers),
        *(f"left out: {model}, {why}." for model, why in comparison.left_out.items()),
    ]


def show_start(console: Console, comparison: Comparison) -> None:
    """What is about to run, in a few lines."""
    split = comparison.splits[comparison.seeds[0]]
    lines = {"training": split.train.account(), "test": split.test.account()}
    lines["asked for"] = f"{len(comparison.contestants)} contestants, {len(comparison.seeds)} seeds: {comparison.cells} cells"
    if comparison.settings.privacy == "none" and any(one.way == FEDERATED for one in comparison.contestants):
        lines["privacy"] = "none: updates may give diary text away; to compare models on public text only"
    for name, line in lines.items():
        console.print(f"[bold]{name:<10}[/]{line}", highlight=False, soft_wrap=True)
    for model, why in comparison.left_out.items():
        console.print(f"[bold]left out[/]  {model}: {why}", highlight=False, soft_wrap=True)


def show_end(console: Console, standing: Standing) -> None:
    """The table, what it says, where it lies, what to do next."""
    if not standing.cells:
        console.print("stopped before the first contestant was finished; nothing was kept")
        return
    show_table(console, _table(rows_of(standing)), notes(standing), closing_lines(standing))


def show_table(console: Console, table: Table, notes: Sequence[str], lines: Sequence[str]) -> None:
    """A table, what must be known to read it, and what it says."""
    console.print(table)
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False, style="dim")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def closing_lines(standing: Standing) -> list[str]:
    """What the table says in words, and what to do next."""
    by_name = {row.contestant.name: row.macro_f1 for row in rows_of(standing)}
    best = max(by_name, key=by_name.__getitem__)
    lines = [f"best: {best}, macro-F1 {by_name[best]:.3f}"]
    if TFIDF in by_name and len(by_name) > 1:
        lines[0] += ", the floor, which no model beat" if best == TFIDF else f", {by_name[best] - by_name[TFIDF]:.3f} above the floor"
    for one in standing.comparison.contestants:
        other = replace(one, way=CENTRALISED, settings=replace(one.settings, privacy="none")).name
        if one.way == FEDERATED and one.name in by_name and other in by_name:
            lines.append(f"{one.name}: macro-F1 {by_name[one.name] - by_name[other]:+.3f} against centralised")
    return [*lines, *what_next(standing, "compare", "more --seeds, --dropouts or --models")]


def what_next(standing: Standing, name: str, more: str) -> list[str]:
    """Where the results lie, and the command that goes on from here."""
    lines = [f"results: {standing.folder} ({name}.md, {name}.json, {name}.svg; cells/ holds a file for each contestant and seed)"]
    done, asked = len(standing.cells), standing.comparison.cells
    if done < asked:
        lines.append(f"stopped after {done} of {asked} cells; every finished one is kept")
        lines.append(f"next: the same command with --out {standing.folder} goes on from here")
    else:
        lines.append(f"next: {more} by the same command with --out {standing.folder} keep what is there")
    return lines


class ComparisonProgress:
    """A bar over the cells and a line about the one that is being trained; a finished cell stays as a line of its own."""

    def __init__(self, console: Console, comparison: Comparison) -> None:
        self._console = console
        self._bar = Progress(TextColumn("cells"), MofNCompleteColumn(), BarColumn(bar_width=28), TimeElapsedColumn(), console=console)
        self._task = self._bar.add_task("cells", total=comparison.cells)
        self._line = Text("")
        self._live = Live(Group(self._bar, self._line), console=console, transient=True, refresh_per_second=5)

    def __enter__(self) -> ComparisonProgress:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def update(self, moment: Moment) -> None:
        """Show where the comparison is."""
        name = f"{Contestant(moment.task.model, moment.task.way, moment.task.settings).name}, seed {moment.task.settings.seed}"
        self._bar.update(self._task, completed=moment.done)
        self._line.plain = f"{name} ... {moment.told}"
        if moment.cell is not None:
            result = moment.cell.result
            when = "from before" if moment.kept else f"{result.seconds:.1f} s"
            self._console.print(f"{name}: macro-F1 {result.scores.macro_f1:.3f}, {when}", highlight=False, soft_wrap=True)


def about_data(comparison: Comparison) -> str:
    settings = comparison.settings
    sizes = {f"{len(split.train.examples):,} training and {len(split.test.examples):,} test" for split in comparison.splits.values()}
    held_out = "" if settings.test_data or settings.data in BUNDLES else ", and which fifth of the data is held out for the test"
    spread = "; ± is their sample standard deviation" if len(comparison.seeds) > 1 else ""
    seeds = ", ".join(map(str, comparison.seeds))
    return (
        f"every contestant of a seed has the same {' or '.join(sorted(sizes))} entries; seeds {seeds}: a seed decides head, order, "
        f"dropout, who holds what{held_out}; figures are means over the seeds{spread}; confusion counts are their sums."
    )


def _about_federated(settings: RunSettings) -> str:
    promised = " and ".join(f"{privacy} epsilon {epsilon}" for privacy, epsilon in promises_of(settings)) or "none"
    return f"federated: {about_federation(settings)}, privacy {promised}."


def about_federation(settings: RunSettings) -> str:
    """How a federated run goes, its privacy aside."""
    return (
        f"{settings.clients} people, {settings.clients_per_round} of them in each of {settings.rounds} rounds, "
        f"local-epochs {settings.local_epochs}, tuning {settings.tuning}, {settings.update_precision} updates"
    )


def _about_centralised(settings: RunSettings) -> str:
    return (
        f"centralised: one person who holds everything, {max(1, round(passes_of(settings)))} epochs in one go with the same loop and "
        "optimiser (so one warm-up, not one a round), no privacy; nothing is sent, the text itself would have to be."
    )


def _about_floor() -> str:
    return (
        f"{TFIDF}: TF-IDF of character {NGRAMS[0]}- to {NGRAMS[1]}-grams (sublinear tf; from {RARE:,} entries on only those that two "
        f"of them hold) and LogisticRegression(C={FLOOR_C:g}, max_iter={FLOOR_STEPS}, class_weight='balanced'), after the same text step; "
        "it draws nothing, so only another split spreads it."
    )


def _about_exceptions(rows: Sequence[Row]) -> list[str]:
    lines = []
    for model in dict.fromkeys(row.contestant.model for row in rows if row.contestant.model in EXCEPTIONS):
        own = ", ".join(f"{key.replace('_', '-')} {value}" for key, value in EXCEPTIONS[model].items())
        lines.append(
            f"{model}: {own}, whatever the others have: it has no pretrained body, so nothing to put a head, LoRA or a few layers on."
        )
    return lines


def _row_values(row: Row) -> dict[str, Any]:
    one = row.contestant
    return {
        "model": one.model,
        "way": one.way,
        "dropout": None if one.way == FLOOR else one.settings.dropout,
        "privacy": row.privacy,
        "seeds": [cell.task.settings.seed for cell in row.cells],
        "mean": {column.key: row.mean(column) for column in COLUMNS},
        "spread": {column.key: row.spread(column) for column in COLUMNS},
        "confusion": row.confusion,
    }


def written(row: Row, column: Column, between: str) -> str:
    """Mean and spread over the seeds, with ``between`` between them."""
    mean, spread = row.mean(column), row.spread(column)
    if mean is None:
        return "-"
    return f"{mean:{column.form}}" + (f"{between}{spread:{column.form}}" if spread is not None and column.spread else "")


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Its lines."""
    return ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles), *("| " + " | ".join(row) + " |" for row in rows)]


def unfinished(standing: Standing) -> list[str]:
    """A paragraph that says so where cells are missing."""
    done, asked = len(standing.cells), standing.comparison.cells
    return [f"Unfinished: {done} of {asked} cells.", ""] if done < asked else []


def _markdown(standing: Standing) -> str:
    rows = rows_of(standing)
    titles = ["model", "trained", "dropout", "privacy", "seeds", *(column.title for column in COLUMNS)]
    table = []
    for row in rows:
        one = row.contestant
        dropout = "-" if one.way == FLOOR else f"{one.settings.dropout:g}"
        cells = [one.model.replace("|", "\\|"), one.way, dropout, row.privacy, str(len(row.cells))]
        table.append([*cells, *(written(row, column, " ± ") for column in COLUMNS)])
    lines = ["# Comparison of models", "", *unfinished(standing), *markdown_table(titles, table)]
    lines += ["", *(f"- {note}" for note in notes(standing)), "", "![macro-F1](compare.svg)", ""]
    lines += ["## Confusion", "", "Rows are the true emotion, columns the predicted one.", ""]
    names = [emotion.ko for emotion in EMOTIONS]
    for row in rows:
        counted = [[name, *map(str, counts)] for name, counts in zip(names, row.confusion, strict=True)]
        lines += [f"{row.contestant.name}:", "", *markdown_table(["", *names], counted)]
        lines.append("")
    return "\n".join(lines)


def _table(rows: Sequence[Row]) -> Table:
    """Two lines a row, mean over spread, so that it fits into eighty columns."""
    table = Table(box=box.SIMPLE_HEAD, title="comparison", title_justify="left", padding=(0, 0), show_edge=False)
    table.add_column("contestant", overflow="fold", min_width=len(CENTRALISED))
    for column in COLUMNS:
        table.add_column(column.narrow, justify="right", no_wrap=True)
    swept = len({row.contestant.settings.dropout for row in rows if row.contestant.way != FLOOR}) > 1
    for row in rows:
        one = row.contestant
        name = [one.model if one.model in MODELS else Path(one.model).name, one.way]
        name += [f"dropout {one.settings.dropout:g}"] if swept and one.way != FLOOR else []
        name += [row.privacy] if row.privacy != "none" else []
        figures = [written(row, column, "\n±") if column.form == ".3f" else _short(row.mean(column)) for column in COLUMNS]
        table.add_row("\n".join(name), *figures)
    return table


def _short(value: float | None) -> str:
    """Three digits; two below a tenth, so that no figure is wider than five letters."""
    if value is None:
        return "-"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= 999.5 * size / 1e3:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}" if value >= 0.1 else f"{value:.2g}"


COLOURS = {FLOOR: "#8a8a8a", CENTRALISED: "#4C78A8", FEDERATED: "#E8A33D"}


def _picture(rows: Sequence[Row]) -> str:
    """Bars of macro-F1, with their spread, as SVG."""
    left, width, step = 260, 420, 26
    size = f'viewBox="0 0 {left + width + 80} {step * len(rows) + 36}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">']
    parts += ['<rect width="100%" height="100%" fill="white"/>', f'<text x="{left}" y="18">macro-F1 on the test entries</text>']
    for number, row in enumerate(rows):
        mean, spread, top = row.macro_f1, row.spread(MACRO_F1) or 0.0, 28 + step * number
        low, high = left + width * (mean - spread), left + width * (mean + spread)
        parts += [
            f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{html.escape(row.contestant.name[-38:])}</text>',
            f'<rect x="{left}" y="{top}" width="{width * mean:.1f}" height="18" fill="{COLOURS[row.contestant.way]}"/>',
            f'<path d="M{low:.1f} {top + 9}H{high:.1f}" stroke="black"/>',
            f'<text x="{high + 6:.1f}" y="{top + 14}">{written(row, MACRO_F1, " ± ")}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
