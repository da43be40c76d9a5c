"""A whole federation in one process for the server's tests, whose wire can lose messages and keeps the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from flwr.app import Context, Error, Message, RecordDict

from client.app import app as client_app
from model.examples import Example
from model.settings import RunSettings
from model.weights import Weights
from server.app import app as server_app
from server.journal import Journal, RoundRecord
from simulation.grid import FIRST_NODE, RUN_ID, SERVER_NODE, InProcessGrid
from simulation.virtual_clients import settle

CLIENTS = 5
Ended = tuple[Weights, list[RoundRecord], list[Message]]


class Wire(InProcessGrid):
    """A grid that loses the messages of some devices at some stage, and keeps what a server would see."""

    lost: frozenset[tuple[str, int]] = frozenset()
    seen: list[Message]

    def _deliver(self, message: Message) -> Message:
        kind, device = message.metadata.message_type, message.metadata.dst_node_id - FIRST_NODE
        reply = Message(Error(1, "lost"), reply_to=message) if (kind, device) in self.lost else super()._deliver(message)
        self.seen.append(reply)
        return reply


@pytest.fixture
def federation(small: Callable[..., RunSettings], examples: list[Example], tmp_path: Path) -> Callable[..., Ended]:
    """Run a federation of five, masked and without noise unless told otherwise: final weights, the journal's rounds, every answer."""

    def run(name: str, *, lost: Iterable[tuple[str, int]] = (), **more: object) -> Ended:
        defaults: dict[str, object] = {
            "privacy": "none",
            "clients": CLIENTS,
            "aggregation": "masked",
            "update_clip": 1e2,
            "fraction_evaluate": 0.0,
        }
        folder, people = tmp_path / name, tmp_path / f"{name}.people"
        settings = small(**(defaults | more), out=str(folder), people=str(people))
        if not people.exists():
            settle(people, examples, settings)
        grid = Wire(client_app, clients=settings.clients, run_config=settings.as_run_config())
        grid.lost, grid.seen = frozenset(lost), []
        server_app(grid, Context(RUN_ID, SERVER_NODE, node_config={}, state=RecordDict(), run_config=settings.as_run_config()))
        journal = Journal(folder)
        newest = journal.checkpoints.latest()
        assert newest is not None
        return journal.checkpoints.load(newest), journal.rounds(), grid.seen

    return run
