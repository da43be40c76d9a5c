"""The privacy-utility curve as a person sees it: on the terminal, as Markdown, JSON and a picture."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from simulation.compare import Standing
from simulation.privacy_curve import GOAL, Point, percent, points_of, verdicts
from simulation.standings import (
    ACCURACY,
    CROSS_ENTROPY,
    MACRO_F1,
    about_data,
    about_federation,
    keep,
    markdown_table,
    show_table,
    unfinished,
    what_next,
    written,
)

TITLES = {
    "unit": "unit",
    "asked": "epsilon asked",
    "spent": "epsilon spent",
    "noise": "noise multiplier",
    "macro_f1": "macro-F1",
    "share": "share of non-private",
    "accuracy": "accuracy",
    "cross_entropy": "cross-entropy",
    "worst": "worst person",
    "tenth": "10th percentile",
    "lost": "lost answers",
    "seeds": "seeds",
}
NARROW = {
    "unit": "unit", "asked": "epsi-\nlon", "spent": "\nspent", "noise": "\nnoise", "macro_f1": "macro\nF1", "share": "of non-\nprivate",
    "accuracy": "accu-\nracy", "cross_entropy": "cross\nentr.", "worst": "worst\nperson", "tenth": "10th\nperc.", "lost": "lost",
}  # fmt: skip

LEFT, TOP, WIDTH, HEIGHT = 60, 40, 560, 320
BEYOND = 80
"""From the largest finite epsilon to ``inf``, which no logarithmic axis has."""
COLOURS = {"example": "#4C78A8", "user": "#D1495B", None: "#222222"}


def write_curve(standing: Standing) -> None:
    """``sweep.json`` (everything), ``sweep.md`` and ``sweep.svg`` in the sweep's folder."""
    points = points_of(standing)
    content = {"notes": notes(standing), "verdicts": verdicts(points), "rows": [_values(point) for point in points]}
    keep(standing, "sweep", content, markdown=_markdown(standing, points), picture=picture(points))


def show_curve(console: Console, standing: Standing) -> None:
    """The table, what it says, where it lies, what to do next."""
    if not standing.cells:
        console.print("stopped before the first run was finished; nothing was kept")
        return
    points = points_of(standing)
    show_table(console, _table(points), notes(standing), [*verdicts(points), *what_next(standing, "sweep", "more --seeds or --epsilon")])


def notes(standing: Standing) -> list[str]:
    """What a reader must know to read the table rightly."""
    settings, points = standing.comparison.settings, points_of(standing)
    deltas = {point.unit: point.delta for point in points if point.unit is not None}
    promised = "; ".join(f"{unit}-level at delta {delta:g}" for unit, delta in deltas.items())
    return [
        about_data(standing.comparison),
        f"every run: {settings.model}, {about_federation(settings)}{'; ' + promised if promised else ''}.",
        "epsilon spent: the largest that a ledger has counted at any seed, at example level any person's own, at user level the "
        "population's; noise: its standard deviation over the clip norm, in every step on a device, or on the sum of a round.",
        "worst person, 10th percentile: accuracy of the final model on a person's own diary, which it was trained on: the lowest of "
        "all people and seeds, and what nine in ten people have more than (mean over the seeds).",
    ]


def _values(point: Point) -> dict[str, Any]:
    columns = (MACRO_F1, ACCURACY, CROSS_ENTROPY)
    return {
        "unit": point.unit,
        "epsilon_asked": point.asked if point.unit else None,
        "epsilon_spent": point.row.spent,
        "delta": point.delta,
        "noise_multiplier": point.noise_multiplier,
        "mean": {column.key: point.row.mean(column) for column in columns},
        "spread": {column.key: point.row.spread(column) for column in columns},
        "share": point.share,
        "keeps": point.keeps,
        "worst_person": point.worst_person,
        "tenth_percentile": point.tenth_percentile,
        "lost_answers": point.row.lost_answers,
        "seeds": [cell.task.settings.seed for cell in point.row.cells],
    }


def _cells(point: Point, between: str) -> dict[str, str]:
    """A row in words, by column."""
    row = point.row
    return {
        "unit": point.unit or "none",
        "asked": f"{point.asked:g}",
        "spent": _or_dash(row.spent, ".2f"),
        "noise": _or_dash(point.noise_multiplier, ".3g"),
        "macro_f1": written(row, MACRO_F1, between),
        "share": "-" if point.share is None else percent(point.share),
        "accuracy": written(row, ACCURACY, between),
        "cross_entropy": written(row, CROSS_ENTROPY, between),
        "worst": _or_dash(point.worst_person, ".3f"),
        "tenth": _or_dash(point.tenth_percentile, ".3f"),
        "lost": str(row.lost_answers),
        "seeds": str(len(row.cells)),
    }


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _markdown(standing: Standing, points: Sequence[Point]) -> str:
    rows = [list(_cells(point, " ± ").values()) for point in points]
    lines = ["# Privacy and utility", "", *unfinished(standing), *markdown_table(list(TITLES.values()), rows), ""]
    lines += [*verdicts(list(points)), "", *(f"- {note}" for note in notes(standing)), "", "![macro-F1 over epsilon](sweep.svg)", ""]
    return "\n".join(lines)


def _table(points: Sequence[Point]) -> Table:
    """Two lines a row, mean over spread, so that it fits into eighty columns."""
    table = Table(box=box.SIMPLE_HEAD, title="privacy and utility", title_justify="left", padding=(0, 0), show_edge=False)
    for key, title in NARROW.items():
        table.add_column(title, justify="left" if key == "unit" else "right", no_wrap=True)
    for point in points:
        cells = _cells(point, "\n±")
        table.add_row(*(cells[key] for key in NARROW))
    return table


# the picture


def picture(points: Sequence[Point]) -> str:
    """Macro-F1 over epsilon, a line for each unit, with the spread over the seeds and the goal, as SVG."""
    size = f'viewBox="0 0 {LEFT + WIDTH + 120} {TOP + HEIGHT + 50}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">']
    parts += [
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20">macro-F1 on the test entries, over epsilon</text>',
    ]
    parts += [*_axes(points), *_goal(points)]
    plain = [point for point in points if point.unit is None]
    for number, unit in enumerate(dict.fromkeys(point.unit for point in points if point.unit is not None)):
        of_unit = sorted((point for point in points if point.unit == unit), key=lambda point: point.asked)
        parts += _line([*of_unit, *plain], points, COLOURS[unit])
        parts.append(f'<text x="{LEFT + WIDTH + 16}" y="{TOP + 20 + 18 * number}" fill="{COLOURS[unit]}">{html.escape(unit)}</text>')
    for point in points:
        parts += _mark(point, points)
    return "\n".join([*parts, "</svg>", ""])


def across(epsilon: float, points: Sequence[Point]) -> float:
    """Where an epsilon stands: by its logarithm, ``inf`` at the right edge."""
    if math.isinf(epsilon):
        return float(LEFT + WIDTH)
    logs = [math.log(point.asked) for point in points if math.isfinite(point.asked)]
    span = max(logs) - min(logs)
    room = WIDTH - BEYOND - 20
    return LEFT + 20 + (room * (math.log(epsilon) - min(logs)) / span if span else 0.0)


def down(macro_f1: float, points: Sequence[Point]) -> float:
    """Where a figure stands: from zero at the bottom to a tenth above the highest."""
    return TOP + HEIGHT * (1 - macro_f1 / _highest(points))


def _highest(points: Sequence[Point]) -> float:
    return max(1, *(math.ceil(10 * (point.row.macro_f1 + (point.row.spread(MACRO_F1) or 0.0))) for point in points)) / 10


def _axes(points: Sequence[Point]) -> list[str]:
    bottom, right = TOP + HEIGHT, LEFT + WIDTH
    parts = [f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="black"/>']
    for tenth in range(round(10 * _highest(points)) + 1):
        y = down(tenth / 10, points)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#dddddd"/>')
        parts.append(f'<text class="y" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
    for epsilon in sorted({point.asked for point in points}):
        parts.append(f'<text class="x" x="{across(epsilon, points):.1f}" y="{bottom + 20}" text-anchor="middle">{epsilon:g}</text>')
    parts.append(f'<text x="{LEFT + WIDTH / 2:g}" y="{bottom + 40}" text-anchor="middle">epsilon asked (logarithmic)</text>')
    return parts


def _goal(points: Sequence[Point]) -> list[str]:
    plain = [point.row.macro_f1 for point in points if point.unit is None]
    if not plain:
        return []
    y, right = down(GOAL * plain[0], points), LEFT + WIDTH
    return [
        f'<path class="goal" d="M{LEFT} {y:.1f}H{right}" stroke="#59A14F" stroke-dasharray="6 4"/>',
        f'<text x="{right + 16}" y="{y + 4:.1f}" fill="#59A14F">{GOAL:.0%} of inf</text>',
    ]


def _line(of_unit: Sequence[Point], points: Sequence[Point], colour: str) -> list[str]:
    places = " ".join(f"{across(point.asked, points):.1f},{down(point.row.macro_f1, points):.1f}" for point in of_unit)
    return [f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5"/>']


def _mark(point: Point, points: Sequence[Point]) -> list[str]:
    x, mean, spread, colour = across(point.asked, points), point.row.macro_f1, point.row.spread(MACRO_F1) or 0.0, COLOURS[point.unit]
    top, bottom = down(mean + spread, points), down(mean - spread, points)
    told = f"{point.unit or 'no privacy'}, epsilon {point.asked:g}: {written(point.row, MACRO_F1, ' ± ')}"
    circle = f'<circle class="{point.unit or "none"}" cx="{x:.1f}" cy="{down(mean, points):.1f}" r="4" fill="{colour}">'
    return [
        f'<path class="spread" d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="{colour}"/>',
        f"{circle}<title>{told}</title></circle>",
    ]
