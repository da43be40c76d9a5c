"""FeelingHealing's engine as a contestant: the real ServerApp, ClientApp and InProcessGrid."""

from __future__ import annotations

import gc
import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from measuring import resident_mb
from safetensors.numpy import save_file

from client.app import app as client_app
from model.classifier import source_of
from model.examples import Example, bundled_diaries, test_examples, training_examples
from model.hub import find_model
from model.normalization import normalized
from model.records import GlobalModel, Update, arrays_of, decode_train_order, encode_reply
from model.settings import RunSettings
from model.training import local_generator
from model.tuning import tuned_classifier
from model.weights import Weights
from server.app import app as server_app
from server.journal import Journal
from server.strategies import build_strategy
from simulation.grid import RUN_ID, SERVER_NODE, InProcessGrid
from simulation.partition import partition
from simulation.run import prepare, run_experiment
from simulation.virtual_clients import settle

PEOPLE, ENTRIES = 50, 64


def write_task(folder: Path) -> dict[str, Any]:
    """The training task, once for all contestants: settings, everybody's entries, test entries, first weights."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    examples = bundled_diaries()[0].examples
    drawn = [examples[row] for row in rng.integers(len(examples), size=PEOPLE * ENTRIES)]
    lines = [json.dumps({"text": one.text, "emotion": one.emotion.en}, ensure_ascii=False) for one in drawn]
    (folder / "diaries.jsonl").write_text("\n".join(lines), encoding="utf-8")
    settings = training_settings(folder)
    read = training_examples(settings).examples
    people = [[_plain(read[row]) for row in rows] for rows in partition(read, settings)]
    (folder / "people.json").write_text(json.dumps(people))
    (folder / "test.json").write_text(json.dumps([_plain(one) for one in test_examples(settings).examples]))
    task = asdict(settings) | {
        "clients_a_round": settings.clients_per_round,
        "body": str(find_model(source_of(settings.model))),
        "seeds": [
            [local_generator(settings.seed, round=number, device=person).initial_seed() for person in range(PEOPLE)]
            for number in range(1, settings.rounds + 1)
        ],
    }
    (folder / "task.json").write_text(json.dumps(task, indent=1))
    save_file(_plainly_named(tuned_classifier(settings).read()), folder / "start.safetensors")
    return {}


def _plain(example: Example) -> tuple[str, int]:
    """Text after the text step, which is not what is compared, and the emotion's id."""
    return normalized(example.text), example.emotion.id


def training_settings(task: Path, **where: str) -> RunSettings:
    """A 4 x 256 BERT, trained whole, without privacy: 10 of 50 people a round, 5 rounds of one local epoch."""
    return RunSettings(
        model="compact",
        tuning="full",
        max_tokens=32,
        data=str(task / "diaries.jsonl"),
        test_data="samples",
        clients=PEOPLE,
        partition="iid",
        fraction=0.2,
        fraction_evaluate=0.0,
        rounds=5,
        batch_size=16,
        learning_rate=5e-4,
        privacy="none",
        **where,
    )


def training(task: Path, out: Path) -> dict[str, Any]:
    """Fifty virtual people, each with a Home and a diary; the last published weights in ``weights.safetensors``."""
    torch.set_num_threads(1)
    settings = training_settings(task, out=str(out / "run"), people=str(out / "people"))
    settle(out / "people", training_examples(settings).examples, settings)
    run_config: dict[str, Any] = settings.as_run_config()
    answered: list[float] = []
    grid = _grid(client_app, settings, on_reply=lambda reply: answered.append(time.perf_counter()))
    server_app(grid, Context(RUN_ID, SERVER_NODE, node_config={}, state=RecordDict(), run_config=run_config))
    journal = Journal(out / "run")
    newest, rounds = journal.checkpoints.latest(), journal.rounds()
    devices = len(answered) // settings.rounds
    if newest is None or [record.clients for record in rounds] != [devices] * settings.rounds:
        raise RuntimeError(f"devices failed: {rounds}")
    save_file(_plainly_named(journal.checkpoints.load(newest)), out / "weights.safetensors")
    return {
        "round_ends": answered[devices - 1 :: devices],
        "accuracy": rounds[-1].accuracy,
        "cross_entropy": rounds[-1].cross_entropy,
    }


echo = ClientApp()


@echo.train()
def give_back(message: Message, context: Context) -> Message:
    """Learn nothing and give the received arrays back, as an update in our protocol."""
    order = decode_train_order(message.content)
    return Message(encode_reply(Update(order.model.weights, 1.0, order.round)), reply_to=message)


def overhead(out: Path) -> dict[str, Any]:
    """A thousand devices that give 0.1 MB back, in as many arrays as head tuning has, five rounds."""
    return _echo_rounds(out, clients=1_000, arrays=4, values=6_250, rounds=5)


def memory(out: Path) -> dict[str, Any]:
    """Ten devices that give 370 MB back (a whole KoBERT in float32; its largest array has 25 MB), two rounds."""
    return _echo_rounds(out, clients=10, arrays=15, values=6_166_667, rounds=2)


def _echo_rounds(out: Path, *, clients: int, arrays: int, values: int, rounds: int) -> dict[str, Any]:
    """Rounds of :class:`server.averaging.FederatedAveraging` over devices that learn nothing."""
    settings = RunSettings(
        clients=clients, rounds=rounds, fraction_evaluate=0.0, privacy="none", update_norm_limit=1e9, out=str(out)
    )  # fmt: skip
    weights = Weights({f"array{number:02}": np.full(values, 1e-4, dtype=np.float32) for number in range(arrays)})
    strategy = build_strategy(settings, GlobalModel(weights, "", ""), Journal(out))
    first = arrays_of(weights)
    del weights  # like the server's, they are read from the strategy's arrays from now on
    ends: list[float] = []

    def note_end(server_round: int, now: ArrayRecord) -> None:
        ends.append(time.perf_counter())
        if server_round > 0 and strategy.tally.trained != clients:
            raise RuntimeError(f"devices failed: {strategy.tally}")

    strategy.start(_grid(echo, settings), first, num_rounds=rounds, evaluate_fn=note_end)
    return {"round_ends": ends[1:]}


def slope(out: Path) -> dict[str, Any]:
    """Resident memory at the end of each of 100 rounds with 20 people: compact model, tuning head, example-level privacy."""
    settings = RunSettings(rounds=100)
    held: list[float] = []
    ends: list[float] = []

    def note(answered: int, _: Journal) -> None:
        if answered == settings.answers_per_round * (len(held) + 1):
            gc.collect()
            held.append(resident_mb())
            ends.append(time.perf_counter())

    finished = run_experiment(prepare(settings), out / "run", on_progress=note)
    if len(finished.rounds) != settings.rounds or any(record.clients != settings.clients for record in finished.rounds):
        raise RuntimeError(f"devices failed: {finished.rounds[-1]}")
    return {"resident_mb": held, "round_ends": ends}


def _grid(app: ClientApp, settings: RunSettings, on_reply: Any = None) -> InProcessGrid:
    logging.getLogger("flwr").setLevel(logging.WARNING)
    return InProcessGrid(app, clients=settings.clients, run_config=settings.as_run_config(), on_reply=on_reply)


def _plainly_named(weights: Weights) -> dict[str, Any]:
    """Our parameters under the names that the plain loop's network has."""

    def plain(name: str) -> str:
        block, rest = name.split(".", 1)
        if block == "embeddings":
            return "bert.embeddings." + rest.removeprefix("table.")
        if block == "head":
            return rest
        return f"bert.encoder.layer.{block.removeprefix('layer')}.{rest.removeprefix('bert.')}"

    return {plain(name): array for name, array in weights.items()}
