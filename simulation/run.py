"""One experiment: people settled, rounds run on the chosen engine, results in one folder."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict

from client.app import app as client_app
from client.home import Home, virtual_home
from model.examples import Corpus, test_examples, training_examples
from model.refusal import Refusal
from model.settings import RunSettings
from model.tuning import tuned_classifier
from privacy.plan import calibrated
from server.app import app as server_app
from server.app import start_of, starting_weights
from server.journal import Journal, RoundRecord
from server.strategies import require_allowed, require_size
from simulation.flower_engine import run_on_flower
from simulation.grid import RUN_ID, SERVER_NODE, InProcessGrid
from simulation.partition import partition
from simulation.virtual_clients import largest_epsilon, settle

ENGINES = ("inprocess", "ray")

OnProgress = Callable[[int, Journal], None]
"""Called with the number of answers seen in this process (0 if they are not seen here) and the run's journal."""


@dataclass(frozen=True)
class Prepared:
    """A checked experiment, before anything of it is on disk (or a begun one that is to be continued)."""

    settings: RunSettings
    train: Corpus
    test: Corpus
    sizes: tuple[int, ...]
    """Entries of each virtual person."""
    parameters: int
    """Trained parameters, which are what travels."""
    pretrained: bool
    """False if the model's body is drawn at random and has read no Korean yet."""
    started_from: str
    """The checkpoints that the run begins with; empty for a new head."""
    engine: str
    resumed: bool = False


@dataclass(frozen=True)
class Finished:
    """How an experiment ended: ``epsilon`` is the largest that any virtual person's own ledger has counted."""

    settings: RunSettings
    folder: Path
    people: Path
    rounds: tuple[RoundRecord, ...]
    epsilon: float
    interrupted: bool
    started_from: str
    """The checkpoints that the run began with; empty for a new head."""


def prepare(settings: RunSettings, *, engine: str = "inprocess") -> Prepared:
    """Read the data, deal it out, build the model: everything that can be refused, and nothing on disk."""
    if engine not in ENGINES:
        raise Refusal(f"engine is '{engine}'; choose one of {', '.join(ENGINES)}")
    require_allowed(settings)
    train, test = training_examples(settings), test_examples(settings)
    parts = partition(train.examples, settings)
    if settings.protects_entries:
        plan = calibrated(settings)
        largest = max(map(len, parts))
        if largest > plan.most_entries:
            raise Refusal(
                f"a person holds {largest} entries and delta {settings.delta:g} covers at most {plan.most_entries} (delta <= n^-1.5); "
                f"use --delta {largest**-1.5:.0e} or smaller, or more clients"
            )
    classifier = tuned_classifier(settings)
    weights = starting_weights(settings, classifier)
    require_size(settings, weights.size)
    started_from = start_of(settings, classifier)
    return Prepared(settings, train, test, tuple(map(len, parts)), weights.size, classifier.pretrained, started_from, engine)


def resume(folder: Path, *, engine: str = "inprocess") -> Prepared:
    """An experiment that was begun in ``folder``, with its people and their ledgers as they are."""
    settings = replace(Journal.settings_of(folder), out=str(folder), people=str(people_folder(folder)))
    if not people_folder(folder).is_dir():
        raise Refusal(
            f"the people of this run are gone ('{people_folder(folder)}' is missing), and their ledgers with them; start a new run"
        )
    return replace(prepare(settings, engine=engine), resumed=True)


def run_folder(name: str, *, parent: Path = Path("runs")) -> Path:
    """``runs/<time>-<name>``, which does not exist yet."""
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-") or "run"
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{plain}"
    folder = parent / stem
    for number in range(2, 1000):
        if not folder.exists():
            return folder
        folder = parent / f"{stem}-{number}"
    raise Refusal(f"'{folder}' and many like it exist; name another folder with --out")


def people_folder(folder: Path) -> Path:
    """Where the virtual people of a run live: beside its results, since their diaries are no result."""
    return folder.with_name(f"{folder.name}.people")


def run_experiment(prepared: Prepared, folder: Path, *, on_progress: OnProgress = lambda answered, journal: None) -> Finished:
    """Run (or continue) the experiment; Ctrl-C ends it with what was finished.

    An error before the first round is published leaves nothing behind; later, what was finished stays.
    """
    folder = folder.absolute()
    people = people_folder(folder)
    if not prepared.resumed and ((folder.exists() and any(folder.iterdir())) or people.exists()):
        raise Refusal(f"'{folder}' holds something already; name a new folder with --out, or continue that run with --resume")
    settings = replace(prepared.settings, out=str(folder), people=str(people))
    journal = Journal(folder)
    interrupted = False
    try:
        if not prepared.resumed:
            settle(people, prepared.train.examples, settings)
        (_run_in_process if prepared.engine == "inprocess" else run_on_flower)(settings, journal, on_progress)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if not journal.rounds() and not prepared.resumed:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(people, ignore_errors=True)
    rounds = tuple(journal.rounds())
    epsilon = largest_epsilon(people, settings.clients) if rounds and settings.protects_entries else float("inf")
    return Finished(settings, folder, people, rounds, epsilon, interrupted, prepared.started_from)


def is_whole(finished: Finished) -> bool:
    """Whether every round of the run was finished."""
    return not finished.interrupted and len(finished.rounds) == finished.settings.rounds


def without_privacy(finished: Finished) -> float:
    """The macro-F1 at which the same federation ends without privacy: the same people, entries, start and rounds.

    It runs in a temporary folder on copies of the people, since no virtual person whose entries are protected trains unprotected.
    """
    with tempfile.TemporaryDirectory(prefix="healing-") as place:
        folder = Path(place) / "run"
        people = people_folder(folder)
        shutil.copytree(finished.people, people)
        for number in range(finished.settings.clients):
            Home(virtual_home(people, number)).change_policy(allow_unprotected=True)
        settings = replace(finished.settings, privacy="none", out=str(folder), people=str(people))
        journal = Journal(folder)
        _run_in_process(settings, journal, lambda answered, journal: None)
        return journal.rounds()[-1].macro_f1


def _run_in_process(settings: RunSettings, journal: Journal, on_progress: OnProgress) -> None:
    logging.getLogger("flwr").setLevel(logging.WARNING)
    answered = 0

    def note(reply: Message) -> None:
        nonlocal answered
        answered += 1
        on_progress(answered, journal)

    run_config: dict[str, Any] = settings.as_run_config()
    grid = InProcessGrid(client_app, clients=settings.clients, run_config=run_config, on_reply=note)
    context = Context(RUN_ID, SERVER_NODE, node_config={}, state=RecordDict(), run_config=run_config)
    server_app(grid, context)
    on_progress(0, journal)
