"""What our engine costs, side by side with no framework and with stock Flower; one table, also in ``results/engine.md``.

    python benchmarks/engine.py [--repeats N] [--only training|overhead|memory|slope]

**training**: a 4 x 256 BERT trained whole, 50 people x 64 entries of at most 32 tokens, 10 people a round, 5 rounds, batch
16, one local epoch, one thread, no privacy; the server scores the 216 entries of the test authors after each round.
(a) ``plain_loop``: PyTorch and nothing else. (b) ``our_engine``: ServerApp, ClientApp and InProcessGrid as they are, with a
Home and a diary for each person and a published checkpoint each round. (c) ``stock_flower``: FedAvg on Flower's simulation
engine (Ray), one actor with one CPU, the same network and local epoch. (a) and (b) must end at the same weights, or their
ratio means nothing; (c) draws its devices itself, and does as many steps of the same size.
**overhead**: 1,000 devices learn nothing and give 0.1 MB back, in 4 arrays, as head tuning does; ours 5 rounds, Flower's 2.
**memory**: 10 devices learn nothing and give 370 MB back, two rounds.
**slope**: resident memory over 100 rounds of 20 people, compact model, head tuning, example-level privacy, garbage
collected and sampled once a round; least squares from round 10 on. One run, whatever ``--repeats`` says.

Every figure is of a fresh process. Ratios are taken pair by pair, the contestants in turn (A B C A B C), and the median is
given with the least and the most. *Wall*, *CPU* and *peak* are of the whole process, interpreter and imports included; *s a
round* is the time from one round's end to the next, so that start-up is left out (Ray's too). Ray runs its workers at low
priority (niceness 15): on a busy machine it looks worse than it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from measuring import ContestantFailed, Measurement, machine_facts, measure, spread
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "flwr", "ray", "transformers", "opacus", "numpy", "tokenizers")

WALL_GOAL = 1.15
SAME_WEIGHTS = 1e-6
ROUND_GOAL = 0.3
PEAK_GOAL_MB = 3_200
SLOPE_GOAL = 0.02
SETTLED = 10
"""Rounds before which memory is still being filled."""

FLOWER = "flower"
"""Only there for comparison: the others are reported without it."""
MODULES = {"plain": "plain_loop", "ours": "our_engine", FLOWER: "stock_flower"}


@dataclass(frozen=True)
class Row:
    """One line of the table, in words; an empty cell was not measured."""

    what: str
    wall: str = ""
    cpu: str = ""
    peak: str = ""
    round: str = ""
    result: str = ""
    goal: str = ""
    outcome: str = ""


HEADINGS = ("What", "Wall s", "CPU s", "Peak MB", "s a round", "Result", "Goal", "Outcome")

Contestant = Callable[[Path], Measurement]
"""Measures one run whose files go to the given folder."""


def training(scratch: Path, repeats: int) -> list[Row]:
    """Our engine and stock Flower over a plain loop of the very same gradient steps."""
    task = scratch / "task"
    measure("our_engine", "write_task", task)
    runs, absent = _interleaved(
        {name: _contestant(module, "training", task) for name, module in MODULES.items()}, scratch / "training", repeats
    )
    plain, ours = runs["plain"], runs["ours"]
    walls = _ratios(ours, plain, lambda run: run.wall)
    furthest, moved = _weights_apart(scratch / "training", task, repeats)
    same = furthest <= SAME_WEIGHTS
    return [
        _row("training: (a) plain PyTorch loop", plain, result="1", outcome="the reference"),
        _row(
            "training: (b) FeelingHealing, in process",
            ours,
            result=_over(ours, plain, "(a)"),
            goal=f"wall at most {WALL_GOAL} times (a)",
            outcome=_verdict(median(walls), WALL_GOAL) if same else "no verdict: (a) and (b) did not take the same steps",
        ),
        Row(
            "training: weights of (a) and (b)",
            result=f"greatest difference {furthest:.2g}; training moved them by up to {moved:.2g}",
            goal=f"at most {SAME_WEIGHTS:g}, or the ratio means nothing",
            outcome=_verdict(furthest, SAME_WEIGHTS),
        ),
        _flower_row("training: (c) stock Flower + Ray", runs, absent, reference=("plain", "(a)")),
    ]


def overhead(scratch: Path, repeats: int) -> list[Row]:
    """What remains of a round if a thousand devices learn nothing."""
    contestants = {name: _contestant(MODULES[name], "overhead") for name in ("ours", FLOWER)}
    runs, absent = _interleaved(contestants, scratch / "overhead", repeats)
    rounds = [run.seconds_per_round for run in runs["ours"]]
    return [
        _row(
            "overhead, 1,000 x 0.1 MB: FeelingHealing",
            runs["ours"],
            result=f"{spread([1e3 * seconds / 1_000 for seconds in rounds])} ms a device",
            goal=f"at most {ROUND_GOAL} s a round",
            outcome=_verdict(median(rounds), ROUND_GOAL),
        ),
        _flower_row("overhead, 1,000 x 0.1 MB: stock Flower + Ray", runs, absent, reference=("ours", "ours")),
    ]


def memory(scratch: Path, repeats: int) -> list[Row]:
    """How much the engine holds at once while ten devices send 370 MB each."""
    runs = _interleaved({"ours": _contestant("our_engine", "memory")}, scratch / "memory", repeats)[0]["ours"]
    peak = median([run.peak_mb for run in runs])
    return [
        _row(
            "memory, 10 x 370 MB: FeelingHealing",
            runs,
            result=f"{peak / 370:.1f} times one update",
            goal=f"peak at most {PEAK_GOAL_MB:,} MB",
            outcome=_verdict(peak, PEAK_GOAL_MB),
        )
    ]


def slope(scratch: Path, repeats: int) -> list[Row]:
    """Whether memory grows from round to round; one run, however many repeats the rest has."""
    run = _interleaved({"ours": _contestant("our_engine", "slope")}, scratch / "slope", 1)[0]["ours"][0]
    held = run.result["resident_mb"]
    growth, error = _slope_with_error(held[SETTLED - 1 :])
    return [
        _row(
            "slope, 100 rounds: FeelingHealing",
            [run],
            result=f"{growth:+.3f} MB a round, standard error {error:.3f}; {held[SETTLED - 1]:.1f} MB after round {SETTLED}, "
            f"{held[-1]:.1f} MB after round {len(held)}",
            goal=f"about zero: at most {SLOPE_GOAL} MB a round",
            outcome=_verdict(growth, SLOPE_GOAL),
        )
    ]


PARTS: dict[str, Callable[[Path, int], list[Row]]] = {"training": training, "overhead": overhead, "memory": memory, "slope": slope}


def main() -> None:
    """Measure, print the table, write it."""
    options = argparse.ArgumentParser(description="What our engine costs, side by side with no framework and with stock Flower.")
    options.add_argument("--repeats", type=int, default=3, help="pairs of each comparison")
    options.add_argument("--only", choices=PARTS, help="one part alone; its table goes to results/engine-PART.md")
    chosen = options.parse_args()
    facts = machine_facts(PACKAGES)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-engine-") as scratch:
        for name, part in PARTS.items():
            if chosen.only in (None, name):
                rows += _rows_or_failure(name, part, Path(scratch), chosen.repeats)
            else:
                rows.append(Row(name, outcome=f"skipped: --only {chosen.only}"))
    Console(width=max(Console().width, 150)).print(_table(rows))
    path = RESULTS / (f"engine-{chosen.only}.md" if chosen.only else "engine.md")
    RESULTS.mkdir(exist_ok=True)
    path.write_text(_markdown(rows, [*facts, f"repeats: {chosen.repeats}"]), encoding="utf-8")
    print(f"written to {path}")


def _rows_or_failure(name: str, part: Callable[[Path, int], list[Row]], scratch: Path, repeats: int) -> list[Row]:
    try:
        return part(scratch, repeats)
    except ContestantFailed as failure:
        return [Row(name, outcome=f"failed: {failure}")]


def _contestant(module: str, function: str, *folders: Path) -> Contestant:
    return lambda out: measure(module, function, *folders, out)


def _interleaved(contestants: dict[str, Contestant], folder: Path, repeats: int) -> tuple[dict[str, list[Measurement]], dict[str, str]]:
    """The contestants' runs in turn, A B C A B C, so that a slow minute of the machine meets all of them.

    Flower may be absent; the second part says why.
    """
    runs: dict[str, list[Measurement]] = {name: [] for name in contestants}
    absent = {} if find_spec("ray") else {FLOWER: "skipped: Ray is not installed (pip install 'feelinghealing[ray]')"}
    for repeat in range(repeats):
        for name, contestant in contestants.items():
            if name in absent:
                continue
            out = _out(folder, name, repeat)
            out.mkdir(parents=True)
            try:
                run = contestant(out)
            except ContestantFailed as failure:
                if name != FLOWER:
                    raise
                absent[name] = f"failed: {failure}"
                continue
            runs[name].append(run)
            _tell(f"{folder.name} {repeat + 1}/{repeats} {name}", run)
    return runs, absent


def _tell(what: str, run: Measurement) -> None:
    figures = f"wall {run.wall:.1f} s, CPU {run.cpu:.1f} s, peak {run.peak_mb:,.0f} MB, {run.seconds_per_round:.2f} s a round"
    print(f"{what}: {figures}", file=sys.stderr, flush=True)


def _out(folder: Path, name: str, repeat: int) -> Path:
    return folder / f"{name}-{repeat}"


def _ratios(runs: Sequence[Measurement], references: Sequence[Measurement], figure: Callable[[Measurement], float]) -> list[float]:
    """Pair by pair."""
    return [figure(run) / figure(reference) for run, reference in zip(runs, references, strict=True)]


def _over(runs: Sequence[Measurement], references: Sequence[Measurement], reference: str) -> str:
    figures: dict[str, Callable[[Measurement], float]] = {
        "wall": lambda run: run.wall,
        "CPU": lambda run: run.cpu,
        "round": lambda run: run.seconds_per_round,
    }
    ratios = ", ".join(f"{name} {spread(_ratios(runs, references, figure))}" for name, figure in figures.items())
    return f"times {reference}: {ratios}"


def _weights_apart(folder: Path, task: Path, repeats: int) -> tuple[float, float]:
    """The greatest difference between (a)'s and (b)'s last weights in any pair, and how far training moved them at all."""

    def apart(one: Path, other: Path) -> float:
        left, right = load_file(one), load_file(other)
        if left.keys() != right.keys():
            return float("inf")
        return max(float(np.abs(left[name] - right[name]).max()) for name in left)

    pairs = [[_out(folder, name, repeat) / "weights.safetensors" for name in ("plain", "ours")] for repeat in range(repeats)]
    return max(apart(*pair) for pair in pairs), apart(pairs[0][0], task / "start.safetensors")


def _slope_with_error(values: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope over the places of the values and its standard error (as if the residuals were independent)."""
    places = np.arange(len(values)) - (len(values) - 1) / 2
    growth = places @ np.array(values) / (places @ places)
    residuals = np.array(values) - np.mean(values) - growth * places
    return float(growth), float(np.sqrt(residuals @ residuals / (len(values) - 2) / (places @ places)))


def _verdict(value: float, limit: float) -> str:
    return "met" if value <= limit else f"not met: {value:.3g}"


def _row(what: str, runs: Sequence[Measurement], *, result: str, goal: str = "", outcome: str) -> Row:
    return Row(
        what,
        wall=spread([run.wall for run in runs], ".1f"),
        cpu=spread([run.cpu for run in runs], ".1f"),
        peak=spread([run.peak_mb for run in runs], ",.0f"),
        round=spread([run.seconds_per_round for run in runs]),
        result=result,
        goal=goal,
        outcome=outcome,
    )


def _flower_row(what: str, runs: dict[str, list[Measurement]], absent: dict[str, str], *, reference: tuple[str, str]) -> Row:
    if FLOWER in absent:
        return Row(what, outcome=absent[FLOWER])
    return _row(what, runs[FLOWER], result=_over(runs[FLOWER], runs[reference[0]], reference[1]), outcome="for comparison")


def _table(rows: Sequence[Row]) -> Table:
    table = Table(*HEADINGS, title="FeelingHealing's engine", show_lines=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _markdown(rows: Sequence[Row], facts: Sequence[str]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    table = line(HEADINGS) + line(["---"] * len(HEADINGS)) + "".join(line(_cells(row)) for row in rows)
    told = "\n\n".join((__doc__ or "").split("\n\n")[2:])
    return f"# FeelingHealing's engine\n\n{table}\n" + "".join(f"- {fact}\n" for fact in facts) + f"\n{told}"


def _cells(row: Row) -> list[str]:
    return [row.what, row.wall, row.cpu, row.peak, row.round, row.result, row.goal, row.outcome]


if __name__ == "__main__":
    sys.exit(main())
