"""What each tuning mode costs and what it is worth, and what the frozen trunk's cache saves; tables in ``results/tuning.md``.

    python benchmarks/tuning.py [--only steps|utility|cache] [--repeats N] [--seeds N] [--jobs N] [--keep FOLDER] [--quick]
                                [--steps N] [--bodies compact kobert] [--tunings head top2 ...] [--results FOLDER]

**steps**: one step of AdamW over 16 entries of 32 tokens (compact) or 64 (KoBERT size: 12 x 768, 8,002 ids, random weights),
no padding, one thread, dropout as in training. The entries have passed the frozen trunk already, as on a device, which
keeps its output: *trunk* is what that costs for these 16 entries, once and not in every step. *Plain* is the gradient of the
mean loss; *hooks* clips every entry's gradient by Opacus' per-example gradients, *ghost* by their norms alone. *Noise* is
drawn in every private step too, and is the same for both: a private step is *hooks* or *ghost* plus *noise*. *Peak* is of
the whole process from the first step on, the body, the libraries and one drawing of noise included, loading the body not.
**utility**: macro-F1 on KOTE-4 of the compact model, trained on KOTE's validation part and tested on its test part:
centralised (one person holds everything), the same under example-level privacy with epsilon 8, and federated over 30
people whose updates travel as fp32, or as fp16 with error feedback. The recipes stand at the top of the file.
**cache**: KoBERT size, top2: one epoch over a filled cache against one that runs the ten frozen layers in every step; the
same entries of 64 tokens in the same order, no dropout, and under privacy the same noise. Both must end at the same
weights. Under privacy the ratio is given without the noise, which no cache can save, and with it.

Every figure is of a fresh process. The contestants take turns (plain, hooks, ghost; tuning by tuning; then again), ratios
are taken pair by pair, and the median is given with the least and the most. A section that is run alone renews its own
figures in ``results/tuning.md`` and leaves the others; each says when and of what it was measured. What is cut short by
``--quick``, ``--steps``, ``--bodies`` or ``--tunings`` is printed only, unless ``--results`` names a folder for it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from measuring import ContestantFailed, Measurement, machine_facts, measure, spread
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file
from tuning_step import BATCH, Task

from model.checkpoint import write_durably
from model.settings import RunSettings

RECIPES: dict[str, dict[str, Any]] = {
    "probe": {"tuning": "probe", "learning_rate": 1e-2, "dropout": 0.1, "batch_size": 16},
    "head": {"tuning": "head", "learning_rate": 3e-3, "dropout": 0.1, "batch_size": 16},
    "top2": {"tuning": "top2", "learning_rate": 5e-4, "dropout": 0.1, "batch_size": 16},
    "top4": {"tuning": "top4", "learning_rate": 3e-4, "dropout": 0.1, "batch_size": 16},
    "lora": {"tuning": "lora", "learning_rate": 1e-3, "dropout": 0.1, "batch_size": 16},
    "full": {"tuning": "full", "learning_rate": 3e-4, "dropout": 0.1, "batch_size": 16},
}
"""One RunSettings for each tuning mode of the compact model: what it needs, however it is trained."""

ALL: dict[str, Any] = {
    "model": "compact", "data_format": "kote", "max_tokens": 64, "partition": "iid", "fraction_evaluate": 0.0, "class_weights": "balanced",
}  # fmt: skip
CENTRAL: dict[str, Any] = {"clients": 1, "rounds": 1, "local_epochs": 4, "privacy": "none"}
FEDERATED: dict[str, Any] = {"clients": 30, "rounds": 10, "local_epochs": 1, "privacy": "none"}
SCHEDULES: dict[str, dict[str, Any]] = {
    "central": CENTRAL,
    # One person with nearly 3,000 entries: delta is at most n^-1.5, and the batch is the expected sample, a twentieth.
    "epsilon 8": CENTRAL
    | {"privacy": "example", "epsilon": 8.0, "delta": 6e-6, "sampling_rate": 0.05, "batch_size": 148, "local_epochs": 10}
    | {"optimizer": "adamw", "clip_norm": 8.0},
    "fp32": FEDERATED,
    "fp16": FEDERATED | {"update_precision": "fp16"},
}
"""What each of the four columns of utility is; they win over the recipe."""

EXCEPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("probe", "central"): {"learning_rate": 1e-3},
    ("head", "central"): {"learning_rate": 3e-4},
    ("top2", "central"): {"learning_rate": 1e-4},
    ("top4", "central"): {"learning_rate": 1e-4},
    ("full", "central"): {"learning_rate": 1e-4},
    ("probe", "epsilon 8"): {
        "optimizer": "sgd", "learning_rate": 1.5e-3, "clip_norm": 16.0, "sampling_rate": 1.0, "batch_size": 16, "local_epochs": 20,
    },
    ("head", "epsilon 8"): {"learning_rate": 5e-3},
    ("top2", "epsilon 8"): {"learning_rate": 1e-3},
    ("top4", "epsilon 8"): {"learning_rate": 1e-3},
    ("lora", "epsilon 8"): {"learning_rate": 2e-3},
    ("full", "epsilon 8"): {"learning_rate": 1e-3},
}  # fmt: skip
"""Where a tuning mode needs something else in one column; they win over both. Keep fp32 and fp16 alike."""

FIRST_SEED = 7
RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("HEALING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PACKAGES = ("torch", "opacus", "transformers", "flwr", "numpy", "cryptography", "tokenizers")

COMPACT, KOBERT = "compact", "kobert"
BODIES = {COMPACT: ("probe", "head", "top2", "lora", "full"), KOBERT: ("probe", "head", "top2", "lora", "full")}
TOKENS = {COMPACT: 32, KOBERT: 64}
STEPS = {COMPACT: 30, KOBERT: 4}
EPOCH_STEPS = 8
LEARNERS = ("plain", "hooks", "ghost")

CACHE_GOAL = 2.5
SAME_WEIGHTS = 1e-6

Cells = dict[str, str]
"""One row of a table, by heading; what is not there was not measured."""


@dataclass(frozen=True)
class Section:
    """What one part of the benchmark found: facts about the measurement, and its rows by name, in words."""

    facts: list[str]
    rows: dict[str, Cells] = field(default_factory=dict)


HEADINGS = (
    "Body", "Tuning", "Trained", "MB fp32 / fp16", "Plain ms", "of full", "Hooks ms", "Ghost ms", "Noise ms", "Trunk ms",
    "Peak MB plain", "hooks", "ghost", "F1 central", "F1 epsilon 8", "F1 fp32, 30 people", "F1 fp16, 30 people",
)  # fmt: skip
CACHE_HEADINGS = ("Epoch", "With cache s", "Without s", "Ratio", "Goal", "Outcome")
COLUMN = {"central": "F1 central", "epsilon 8": "F1 epsilon 8", "fp32": "F1 fp32, 30 people", "fp16": "F1 fp16, 30 people"}


def steps(scratch: Path, options: argparse.Namespace) -> Section:
    """Every tuning of every body: plain, hooks and ghost in turn."""
    section = Section([f"steps: {_counted(options.repeats, 'repeat')}"])
    for body in options.bodies:
        model = _kobert_size(scratch) if body == KOBERT else COMPACT
        tunings = _chosen(BODIES[body], options.tunings)
        runs: dict[tuple[str, str], list[Measurement]] = {(tuning, way): [] for tuning in tunings for way in LEARNERS}
        failed: dict[tuple[str, str], str] = {}
        for repeat in range(options.repeats):
            for tuning, way in runs:
                if (tuning, way) in failed:
                    continue
                task = Task(model, tuning, way, TOKENS[body], options.steps or STEPS[body])
                try:
                    run = _measured("step", task, scratch / "step")
                except ContestantFailed as failure:
                    failed[tuning, way] = f"failed: {failure}"
                    _tell(f"{body} {tuning} {way}: failed: {failure}")
                    continue
                runs[tuning, way].append(run)
                times = f"{1e3 * run.result['seconds']:,.1f} ms, noise {1e3 * run.result['noise_seconds']:,.1f} ms"
                _tell(f"{body} {tuning} {way} {repeat + 1}/{options.repeats}: {times}, peak {run.peak_mb:,.0f} MB")
        section.rows.update({f"{body} {tuning}": _step_cells(body, tuning, runs, failed) for tuning in tunings})
    return section


def utility(scratch: Path, options: argparse.Namespace) -> Section:
    """Macro-F1 on KOTE-4 of every tuning of the compact model, over some seeds."""
    files = DATA / "kote" / "val.tsv", DATA / "kote" / "test.tsv"
    if not all(file.is_file() for file in files):
        return Section([f"utility: skipped, kote/{files[0].name} and kote/{files[1].name} are not in HEALING_DATA"])
    tunings = _chosen(RECIPES, options.tunings)
    asked = [(tuning, column, FIRST_SEED + number) for tuning in tunings for number in range(options.seeds) for column in SCHEDULES]

    def run(one: tuple[str, str, int]) -> Measurement | str:
        tuning, column, seed = one
        settings = replace(settings_of(tuning, column), seed=seed, data=str(files[0]), test_data=str(files[1]))
        if options.quick:
            settings = replace(settings, rounds=1, local_epochs=1)
        out = scratch / f"utility-{tuning}-{column.replace(' ', '-')}-{seed}"
        kept = options.keep / f"{out.name}.json" if options.keep and not options.quick else None
        if kept and kept.exists():
            told = json.loads(kept.read_text())
            if told["settings"] == asdict(settings):
                return Measurement(**told["found"])
        out.mkdir()
        (out / "settings.json").write_text(json.dumps(asdict(settings)))
        try:
            found = measure("tuning_step", "utility", out)
        except ContestantFailed as failure:
            _tell(f"utility {tuning} {column}, seed {seed}: failed: {failure}")
            return f"failed: {failure}"
        finally:
            shutil.rmtree(out)
        rounds = " ".join(f"{value:.3f}" for value in found.result["by_round"])
        _tell(f"utility {tuning} {column}, seed {seed}: macro-F1 {rounds} in {found.wall:.0f} s")
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_durably(kept, json.dumps({"settings": asdict(settings), "found": asdict(found)}).encode())
        return found

    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = dict(zip(asked, pool.map(run, asked), strict=True))
    facts = [
        f"utility: {_counted(options.seeds, 'seed')} from {FIRST_SEED} on"
        + (f", {options.jobs} runs at a time" if options.jobs > 1 else "")
    ]
    known = [one.result for one in outcomes.values() if isinstance(one, Measurement)]
    if known:
        facts.append(f"utility: {known[0]['entries']:,} entries to train on, {known[0]['test_entries']:,} to test")
    if not all(result["pretrained"] for result in known):
        facts.append("utility: the compact body was not pretrained (random weights), so these figures say little")
    section = Section(facts)
    for tuning in tunings:
        by_column = {column: [outcomes[tuning, column, FIRST_SEED + number] for number in range(options.seeds)] for column in SCHEDULES}
        section.rows[f"{COMPACT} {tuning}"] = _utility_cells(by_column)
    return section


def cache(scratch: Path, options: argparse.Namespace) -> Section:
    """An epoch of top2 at KoBERT size, with the trunk's rows from the cache and through the whole network, in turn."""
    task = Task(_kobert_size(scratch), "top2", "plain", TOKENS[KOBERT], options.steps or EPOCH_STEPS)
    filled = scratch / "filled"
    fill = _measured("fill_cache", task, filled).result
    size = f"{task.steps * BATCH} entries of {task.tokens} tokens, {fill['frozen_layers']} of {fill['layers']} layers frozen"
    kept = f"the cache was filled before, in {fill['fill_seconds']:.1f} s, and has {fill['cache_mb']:.1f} MB"
    section = Section([f"cache: {size}, batch {BATCH}; {kept}; {_counted(options.repeats, 'repeat')}"])
    for way, title in {"plain": "no privacy", "ghost": "ghost clipping"}.items():
        runs: dict[bool, list[Measurement]] = {True: [], False: []}
        furthest = 0.0
        for repeat in range(options.repeats):
            folders = {cached: scratch / f"epoch-{way}-{repeat}-{'cached' if cached else 'whole'}" for cached in runs}
            for cached, out in folders.items():
                run = _measured("epoch", replace(task, way=way, cached=cached), out, filled)
                runs[cached].append(run)
                _tell(f"{out.name}: {run.result['seconds']:.2f} s, of it noise {run.result['noise_seconds']:.2f} s")
            furthest = max(furthest, _apart(*(out / "weights.safetensors" for out in folders.values())))
            moved = _apart(folders[True] / "weights.safetensors", filled / "start.safetensors")
        same = furthest <= SAME_WEIGHTS
        section.rows[title] = _epoch_cells(title, runs, lambda run: float(run.result["seconds"] - run.result["noise_seconds"]), same=same)
        if way == "ghost":
            with_noise = f"{title} and noise"
            section.rows[with_noise] = _epoch_cells(with_noise, runs, lambda run: float(run.result["seconds"]), same=same)
        section.rows[f"{title}: weights"] = {
            "Epoch": f"{title}: weights after it",
            "Ratio": f"greatest difference {furthest:.2g}; training moved them by up to {moved:.2g}",
            "Goal": f"at most {SAME_WEIGHTS:g}, or the ratio means nothing",
            "Outcome": "met" if same else f"not met: {furthest:.3g}",
        }
    return section


PARTS: dict[str, Callable[[Path, argparse.Namespace], Section]] = {"steps": steps, "utility": utility, "cache": cache}


def settings_of(tuning: str, column: str) -> RunSettings:
    """The settings of one cell of utility, but for data and seed."""
    return RunSettings(**(ALL | RECIPES[tuning] | SCHEDULES[column] | EXCEPTIONS.get((tuning, column), {})))


def main() -> None:
    """Measure, print the tables, save them."""
    options = _options()
    for tuning in RECIPES:
        for column in SCHEDULES:
            settings_of(tuning, column)  # a recipe that is refused is refused now, and not after an hour
    sections = _saved(options.results) if options.results else {}
    for name, part in PARTS.items():
        if options.only in (None, name):
            facts = machine_facts(PACKAGES)
            with tempfile.TemporaryDirectory(prefix="benchmark-tuning-") as scratch:
                try:
                    found = part(Path(scratch), options)
                except ContestantFailed as failure:
                    found = Section([f"{name}: failed: {failure}"])
            sections[name] = replace(found, facts=[*found.facts, *(f"{name}: {fact}" for fact in facts)])
            if options.results:
                _save(sections, options.results)
    _print(sections)
    print(
        f"written to {options.results / 'tuning.md'}" if options.results else "cut short, so not saved; to keep it, name a --results folder"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What each tuning mode costs and what it is worth, and what the trunk's cache saves.")
    parser.add_argument("--only", choices=PARTS, help="one section alone; the others keep their saved figures")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of each comparison (steps, cache)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each run (utility)")
    parser.add_argument("--keep", type=Path, help="folder where finished runs are kept, and taken from (utility)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (utility, which takes no times)")
    parser.add_argument("--quick", action="store_true", help="one repeat, one seed, two steps, one round: only to see that it runs")
    parser.add_argument("--steps", type=int, help="timed steps (steps), or steps of an epoch (cache)")
    parser.add_argument("--bodies", nargs="+", choices=BODIES, default=list(BODIES), help="bodies (steps)")
    parser.add_argument("--tunings", nargs="+", choices=RECIPES, help="tuning modes (steps, utility)")
    parser.add_argument("--results", type=Path, help="folder of tuning.md and tuning.json")
    options = parser.parse_args()
    for name in ("repeats", "seeds", "jobs", "steps"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; it must be at least 1")
    cut_short = options.quick or options.steps or options.tunings or len(options.bodies) < len(BODIES)
    if options.quick:
        options.repeats = options.seeds = 1
        options.steps = options.steps or 2
    if not options.results and not cut_short:
        options.results = RESULTS
    return options


def _measured(function: str, task: Task, out: Path, *folders: Path) -> Measurement:
    out.mkdir(exist_ok=True)
    task.write(out)
    return measure("tuning_step", function, *folders, out)


def _kobert_size(scratch: Path) -> str:
    folder = scratch / "kobert-size"
    if not folder.exists():
        measure("tuning_step", "write_kobert_size", folder)
    return str(folder)


def _chosen(tunings: Iterable[str], wanted: Sequence[str] | None) -> list[str]:
    return [tuning for tuning in tunings if wanted is None or tuning in wanted]


def _step_cells(body: str, tuning: str, runs: dict[tuple[str, str], list[Measurement]], failed: dict[tuple[str, str], str]) -> Cells:
    cells = {"Body": body, "Tuning": tuning}
    known = [run.result for way in LEARNERS for run in runs[tuning, way]]
    if known:
        cells["Body"] = f"{body} {known[0]['body']}"
        cells["Trained"] = f"{known[0]['trained']:,}"
        cells["MB fp32 / fp16"] = " / ".join(f"{known[0]['megabytes'][precision]:.2f}" for precision in ("fp32", "fp16"))
        if tuning != "full":
            cells["Trunk ms"] = spread([1e3 * result["trunk_seconds"] for result in known], ",.1f")
    noise = [1e3 * run.result["noise_seconds"] for way in LEARNERS[1:] for run in runs[tuning, way]]
    if noise:
        cells["Noise ms"] = spread(noise, ",.1f")
    for way, milliseconds, peak in zip(LEARNERS, ("Plain ms", "Hooks ms", "Ghost ms"), ("Peak MB plain", "hooks", "ghost"), strict=True):
        if (tuning, way) in failed:
            cells[milliseconds] = failed[tuning, way]
            continue
        cells[milliseconds] = spread([1e3 * run.result["seconds"] for run in runs[tuning, way]], ",.1f")
        cells[peak] = spread([run.peak_mb for run in runs[tuning, way]], ",.0f")
        if way != "plain" and (tuning, "plain") not in failed:
            cells[milliseconds] += f", x {spread(_ratios(runs[tuning, way], runs[tuning, 'plain']))}"
    if ("full", "plain") in runs and not {("full", "plain"), (tuning, "plain")} & failed.keys():
        cells["of full"] = spread(_ratios(runs[tuning, "plain"], runs["full", "plain"]), ".3f")
    return cells


def _utility_cells(by_column: dict[str, list[Measurement | str]]) -> Cells:
    cells = {}
    for column, outcomes in by_column.items():
        failures = [one for one in outcomes if isinstance(one, str)]
        cells[COLUMN[column]] = failures[0] if failures else spread(_macro_f1(outcomes), ".3f")
    if all(isinstance(one, Measurement) for column in ("fp16", "fp32") for one in by_column[column]):
        costs = [half - whole for half, whole in zip(_macro_f1(by_column["fp16"]), _macro_f1(by_column["fp32"]), strict=True)]
        cells[COLUMN["fp16"]] += f", {spread(costs, '+.3f')} on fp32"
    return cells


def _macro_f1(outcomes: Sequence[Measurement | str]) -> list[float]:
    return [float(one.result["macro_f1"]) for one in outcomes if isinstance(one, Measurement)]


def _epoch_cells(title: str, runs: dict[bool, list[Measurement]], figure: Callable[[Measurement], float], *, same: bool) -> Cells:
    ratios = [figure(whole) / figure(cached) for whole, cached in zip(runs[False], runs[True], strict=True)]
    outcome = "met" if median(ratios) >= CACHE_GOAL else f"not met: {median(ratios):.3g}"
    return {
        "Epoch": title,
        "With cache s": spread([figure(run) for run in runs[True]]),
        "Without s": spread([figure(run) for run in runs[False]]),
        "Ratio": spread(ratios),
        "Goal": f"at least {CACHE_GOAL}",
        "Outcome": outcome if same else "no verdict: they did not take the same steps",
    }


def _ratios(runs: Sequence[Measurement], references: Sequence[Measurement]) -> list[float]:
    """Pair by pair."""
    return [run.result["seconds"] / reference.result["seconds"] for run, reference in zip(runs, references, strict=True)]


def _apart(one: Path, other: Path) -> float:
    """The greatest difference between two files of weights."""
    left, right = load_file(one), load_file(other)
    if left.keys() != right.keys():
        return float("inf")
    return max(float(np.abs(left[name] - right[name]).max()) for name in left)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _saved(folder: Path) -> dict[str, Section]:
    """The sections that an earlier run left in ``tuning.json``."""
    path = folder / "tuning.json"
    return {name: Section(**section) for name, section in json.loads(path.read_text()).items()} if path.exists() else {}


def _save(sections: dict[str, Section], folder: Path) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    kept = {name: asdict(section) for name, section in sections.items()}
    (folder / "tuning.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "tuning.md").write_text(_markdown(sections), encoding="utf-8")


def _mode_rows(sections: dict[str, Section]) -> list[Cells]:
    """One row for each tuning mode of each body, with whatever steps and utility know of it."""
    rows = []
    for body, tunings in BODIES.items():
        for tuning in tunings:
            known = [sections[part].rows.get(f"{body} {tuning}", {}) for part in ("steps", "utility") if part in sections]
            if any(known):
                rows.append({"Body": body, "Tuning": tuning} | {heading: cell for cells in known for heading, cell in cells.items()})
    return rows


def _tables(sections: dict[str, Section]) -> list[tuple[str, Sequence[str], list[Cells]]]:
    cache_rows = list(sections["cache"].rows.values()) if "cache" in sections else []
    return [("Tuning modes", HEADINGS, _mode_rows(sections)), ("Frozen-trunk cache", CACHE_HEADINGS, cache_rows)]


def _print(sections: dict[str, Section]) -> None:
    console = Console(width=max(Console().width, 250))
    for title, headings, rows in _tables(sections):
        if rows:
            table = Table(*headings, title=title, show_lines=True)
            for row in rows:
                table.add_row(*(row.get(heading, "") for heading in headings))
            console.print(table)
    for section in sections.values():
        for fact in section.facts:
            print(f"- {fact}")


def _markdown(sections: dict[str, Section]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    text = "# What tuning costs and gives\n"
    for title, headings, rows in _tables(sections):
        if rows:
            text += f"\n## {title}\n\n" + line(headings) + line(["---"] * len(headings))
            text += "".join(line([row.get(heading, "") for heading in headings]) for row in rows)
    facts = "".join(f"- {fact}\n" for section in sections.values() for fact in section.facts)
    told = "\n\n".join((__doc__ or "").split("\n\n")[2:])
    return f"{text}\n## How it was measured\n\n{facts}\n{told}"


if __name__ == "__main__":
    main()
