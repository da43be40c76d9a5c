"""Stock Flower on its own simulation engine (Ray) as a contestant: FedAvg, one actor with one CPU, nothing of ours.

The network, the local epoch and the score are the plain loop's, kept between messages as in the plain loop, so that
what differs is the framework. Flower draws a round's devices itself: as many as the others', not the same ones.
"""

from __future__ import annotations

import logging
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import plain_loop
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from safetensors.torch import load_file, save_file

ONE_ACTOR = {"init_args": {"num_cpus": 1, "log_to_driver": False}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}

client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """One person's local epoch."""
    folder = Path(str(message.content["config"]["task"]))
    task, network, entries = _task(folder), _network(folder), _people(folder)[int(context.node_config["partition-id"])]
    network.load_state_dict(message.content["arrays"].to_torch_state_dict())
    seed = int(message.content["config"]["server-round"]) * 1_000_003 + int(context.node_config["partition-id"])
    plain_loop.train(network, entries, task, seed=seed)
    return _answer(message, ArrayRecord(network.state_dict()), len(entries))


def training(task_folder: Path, out: Path) -> dict[str, Any]:
    """The plain loop's task: as many devices, steps, rounds and scores; the last weights in ``weights.safetensors``."""
    task = plain_loop.read_task(task_folder)
    test = plain_loop.read_test(task_folder, task)
    network = plain_loop.Network(task)
    scores: list[tuple[float, float]] = []

    def score(server_round: int, arrays: ArrayRecord) -> None:
        if server_round > 0:
            network.load_state_dict(arrays.to_torch_state_dict())
            scores.append(plain_loop.score(network, test))

    arrays, ends = _simulate(
        client,
        ArrayRecord(load_file(task_folder / "start.safetensors")),
        clients=task["clients"],
        clients_a_round=task["clients_a_round"],
        rounds=task["rounds"],
        config=ConfigRecord({"task": str(task_folder)}),
        after_round=score,
    )
    save_file(arrays.to_torch_state_dict(), out / "weights.safetensors")
    return {"round_ends": ends, "accuracy": scores[-1][0], "cross_entropy": scores[-1][1]}


echo = ClientApp()


@echo.train()
def give_back(message: Message, context: Context) -> Message:
    """Learn nothing and give the arrays back."""
    return _answer(message, message.content["arrays"], 1)


def overhead(out: Path) -> dict[str, Any]:
    """A thousand devices that give 0.1 MB back, in as many arrays as head tuning has, two rounds."""
    arrays = ArrayRecord([np.full(6_250, 1e-4, dtype=np.float32) for _ in range(4)])
    _, ends = _simulate(echo, arrays, clients=1_000, clients_a_round=1_000, rounds=2, config=ConfigRecord(), after_round=lambda *_: None)
    return {"round_ends": ends}


def _simulate(
    app: ClientApp, arrays: ArrayRecord, *, clients: int, clients_a_round: int, rounds: int, config: ConfigRecord, after_round: Any
) -> tuple[ArrayRecord, list[float]]:
    """The last arrays and when each round ended; an error if a device failed in any round, which FedAvg would pass over."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server = ServerApp()
    last: list[ArrayRecord] = []
    ends: list[float] = []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        strategy = FedAvg(
            fraction_train=clients_a_round / clients,
            min_train_nodes=clients_a_round,  # the fraction is taken of the devices connected so far, two in the first round
            fraction_evaluate=0.0,
            min_available_nodes=clients,
            train_metrics_aggr_fn=lambda replies, weighted_by: MetricRecord({"devices": len(replies)}),
        )
        result = strategy.start(grid, arrays, num_rounds=rounds, train_config=config, evaluate_fn=note_end)
        if [metrics["devices"] for metrics in result.train_metrics_clientapp.values()] != [clients_a_round] * rounds:
            raise RuntimeError(f"devices failed: {result.train_metrics_clientapp}")
        last.append(result.arrays)

    def note_end(server_round: int, now: ArrayRecord) -> None:
        after_round(server_round, now)
        if server_round > 0:
            ends.append(time.perf_counter())

    run_simulation(server, app, num_supernodes=clients, backend_config=ONE_ACTOR)
    return last[0], ends


def _answer(message: Message, arrays: ArrayRecord, entries: int) -> Message:
    return Message(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": entries})}), reply_to=message)


@lru_cache(maxsize=1)
def _task(folder: Path) -> dict[str, Any]:
    return plain_loop.read_task(folder)


@lru_cache(maxsize=1)
def _network(folder: Path) -> plain_loop.Network:
    return plain_loop.Network(_task(folder))


@lru_cache(maxsize=1)
def _people(folder: Path) -> list[list[plain_loop.Entry]]:
    return plain_loop.read_people(folder, _task(folder))
