"""What privacy costs in utility, on two kinds of people; `healing sweep` over both, tables in ``results/``.

    python benchmarks/privacy_curve.py [--only kote|nsmc] [--units example,user] [--epsilon LIST] [--seeds N] [--rounds N] ...
                                       [--keep FOLDER] [--results FOLDER]

**kote**: KOTE-4, 30 people with some 99 entries each (IID, KOTE's validation part), scored on KOTE's test part, example-level.
**nsmc**: Naver film reviews by author. The people are the 1,000 most prolific of the tenth of the authors whom pretraining
held out (``model.corpora.is_held_out``), so the body has read nothing of theirs; a hundred are asked in a round, each by itself
(Poisson). The test rows are 5,000 of the other held-out authors'. A rating of 9 or 10 is read as joy, 1 to 4 as anger (data
format ``nsmc``): sentiment stands in for two of the four emotions, and macro-F1 is the mean of these two.

NSMC names an author by the first letters of an account and four stars, so one name may be several accounts: the most prolific ones
surely are, and a "person" here is everything under one name. User-level privacy holds for all of that at once.
Diaries differ in size by more than a hundred times; the largest decides which delta example-level privacy may have.

The reviews are written to a temporary folder and gone at the end; ``--keep`` keeps the sweep's own folder, where the same
command goes on. The table is that of ``healing sweep``, with the command that repeats it above.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from measuring import machine_facts
from pyarrow.compute import is_in
from rich.console import Console

from model.corpora import is_held_out
from model.examples import LEAST_GLAD, MOST_ANGRY
from model.settings import RunSettings
from simulation.compare import Standing, compare
from simulation.curve_report import show_curve, write_curve
from simulation.privacy_curve import DEFAULT_EPSILONS, DEFAULT_UNITS, prepare_sweep
from simulation.standings import ComparisonProgress, show_start

DATA = Path(os.environ.get("HEALING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PACKAGES = ("torch", "opacus", "dp-accounting", "flwr", "numpy")
PEOPLE, TESTED = 1000, 5000

KOTE = RunSettings(
    data_format="kote", clients=30, partition="iid", fraction_evaluate=0.0, class_weights="balanced", dropout=0.0,
    learning_rate=0.04, clip_norm=16.0,
)  # fmt: skip
"""Twice the default clip norm, and a rate a third higher: 99 entries a person carry more signal than 60."""
NSMC = RunSettings(
    data_format="nsmc", clients=PEOPLE, partition="author", fraction=0.1, client_sampling="poisson", fraction_evaluate=0.0,
    max_tokens=64, delta=1e-5, user_delta=1e-4,
)  # fmt: skip
"""Delta: the largest diary has 1,502 entries, and delta is at most n^-1.5; at user level below one in the number of people."""
SETTINGS = {"kote": KOTE, "nsmc": NSMC}
GIVEN = ("clients", "rounds", "local_epochs", "learning_rate", "clip_norm", "sampling_rate", "update_clip", "start")


def write_reviews(reviews: Path, folder: Path, *, people: int) -> tuple[Path, Path]:
    """Those of the most prolific held-out authors, and test rows of the other held-out ones."""
    table = pyarrow.parquet.read_table(reviews, columns=["author", "rating", "text"])
    authors = pyarrow.array([author for author in table["author"].unique().to_pylist() if author and is_held_out(author)])
    rows = [row for row in table.filter(is_in(table["author"], authors)).to_pylist() if _counts(row)]
    written = Counter(row["author"] for row in rows)
    chosen = set(sorted(written, key=lambda author: (-written[author], author))[:people])
    others = [row for row in rows if row["author"] not in chosen]
    drawn = np.random.default_rng(0).permutation(len(others))[:TESTED]
    paths = folder / "people.parquet", folder / "test.parquet"
    for path, part in zip(paths, ([row for row in rows if row["author"] in chosen], [others[number] for number in drawn]), strict=True):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(part), path)
    return paths


def _counts(row: dict[str, Any]) -> bool:
    return bool((row["text"] or "").strip()) and (row["rating"] >= LEAST_GLAD or 1 <= row["rating"] <= MOST_ANGRY)


def swept(settings: RunSettings, options: argparse.Namespace, folder: Path) -> Standing:
    """One sweep, with a live view."""
    units = options.units or ("example" if settings.data_format == "kote" else DEFAULT_UNITS)
    comparison = prepare_sweep(settings, epsilons=options.epsilon, units=units, seeds=options.seeds)
    console = Console()
    show_start(console, comparison)
    with ComparisonProgress(console, comparison) as progress:
        standing = compare(comparison, folder, on_progress=progress.update)
    if standing.cells:
        write_curve(standing)
    show_curve(console, standing)
    return standing


def main() -> None:
    """Sweep what is asked for, print each table, save it."""
    options = _options()
    facts = machine_facts(PACKAGES)
    for name in SETTINGS if options.only is None else (options.only,):
        with tempfile.TemporaryDirectory(prefix="benchmark-privacy-curve-") as scratch:
            settings = dataclasses.replace(SETTINGS[name], **{one: value for one in GIVEN if (value := getattr(options, one)) is not None})
            if name == "nsmc":
                data, test = write_reviews(DATA / "nsmc" / "reviews.parquet", Path(scratch), people=settings.clients)
            else:
                data, test = DATA / "kote" / "val.tsv", DATA / "kote" / "test.tsv"
            settings = dataclasses.replace(settings, data=str(data), test_data=str(test))
            standing = swept(settings, options, options.keep / name if options.keep else Path(scratch) / "sweep")
            if options.results and standing.cells:
                _save(standing, name, options.results, facts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The privacy-utility curve over KOTE-4 and over NSMC by author.")
    parser.add_argument("--only", choices=SETTINGS, help="one of the two")
    parser.add_argument("--units", help="example, user or both with a comma; default: example for kote, both for nsmc")
    parser.add_argument("--epsilon", default=DEFAULT_EPSILONS, help="as healing sweep has it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder of the sweeps themselves, where the same command goes on")
    parser.add_argument("--results", type=Path, help="folder for the tables and pictures, such as benchmarks/results")
    for one in GIVEN:
        kind = type(getattr(KOTE, one))
        parser.add_argument(f"--{one.replace('_', '-')}", type=kind, help=f"instead of the benchmark's own {one.replace('_', ' ')}")
    return parser.parse_args()


def _save(standing: Standing, name: str, results: Path, facts: list[str]) -> None:
    """The sweep's own table and picture, with the command above and what it was measured on below."""
    results.mkdir(parents=True, exist_ok=True)
    told = (standing.folder / "sweep.md").read_text(encoding="utf-8").replace("(sweep.svg)", f"(privacy-curve-{name}.svg)")
    title, table = told.split("\n", 1)
    command = shlex.join(["python", "benchmarks/privacy_curve.py", *sys.argv[1:]])
    below = "".join(f"- {fact}\n" for fact in facts)
    (results / f"privacy-curve-{name}.md").write_text(f"{title}: {name}\n\n```\n{command}\n```\n{table}\n{below}", encoding="utf-8")
    (results / f"privacy-curve-{name}.svg").write_bytes((standing.folder / "sweep.svg").read_bytes())


if __name__ == "__main__":
    main()
