"""The very apps of the simulation on Flower's deployment engine: a SuperLink, SuperNodes as processes of their own, real Homes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.home import Home, virtual_home
from model.examples import training_examples
from model.settings import RunSettings
from model.weights import Weights
from privacy.register import FILE, Register, registered_key, registration_line, write_register
from server.journal import Journal
from simulation.flower_engine import free_port, started, superlink, tool
from simulation.run import prepare, run_experiment
from simulation.virtual_clients import settle

Small = Callable[..., RunSettings]
ALL = pytest.mark.skipif(os.environ.get("HEALING_ENGINES") != "1", reason="minutes: six more processes; set HEALING_ENGINES=1")
DEVICES = 3
PATIENCE = 240.0


@pytest.fixture
def homes(small: Small, tmp_path: Path) -> list[Home]:
    """The people whom a simulation of these settings would settle, as real devices that have joined the server's register."""
    settings = small(privacy="none", clients=DEVICES)
    settle(tmp_path / "devices", training_examples(settings).examples, settings)
    homes = [Home.at(virtual_home(tmp_path / "devices", number)) for number in range(DEVICES)]
    register = Register()
    for home in homes:
        register = register.with_device(registered_key(registration_line(home.identity)))
    for path in (tmp_path / "server" / FILE, *(home.register_path for home in homes)):
        write_register(path, register)
    return homes


def on_nodes(settings: RunSettings, homes: list[Home], scratch: Path, server: Path) -> Journal:
    """Run on a SuperLink with one SuperNode a Home."""
    journal = Journal(server / "server")
    scratch.mkdir()
    with ExitStack() as nodes, superlink(scratch, HEALING_HOME=str(server)) as flower:
        for number, home in enumerate(homes):
            log = nodes.enter_context((scratch / f"node-{number}.log").open("wb"))
            command = [tool("flower-supernode"), "--insecure", "--superlink", flower.address, "--port", str(free_port())]
            config = f'home="{home.root}" partition-id={number}'
            nodes.enter_context(started([*command, "--node-config", config], flower.environment, log))
        run_id = flower.submit(settings)
        give_up = time.monotonic() + PATIENCE
        while not journal.is_finished and time.monotonic() < give_up:  # the journal is a file, and each question to Flower a process
            time.sleep(0.5)
        flower.finish(run_id, settings, journal, lambda answered, journal: None)
    return journal


def final(journal: Journal) -> Weights:
    newest = journal.checkpoints.latest()
    assert newest is not None
    return journal.checkpoints.load(newest)


@pytest.mark.slow
@ALL
@pytest.mark.parametrize("aggregation", ["masked", "plain", "encrypted"])
def test_rounds_on_a_superlink_and_supernodes_end_where_they_end_in_this_process(
    homes: list[Home], small: Small, tmp_path: Path, aggregation: str
) -> None:
    """To the last bit where whole numbers are summed; plain updates are added in the order in which they come, and floats round."""
    settings = small(privacy="none", clients=DEVICES, rounds=2, aggregation=aggregation, update_clip=100.0, fraction_evaluate=0.0)
    journal = on_nodes(replace(settings, people="", out=""), homes, tmp_path / "scratch", tmp_path / "server")
    assert [(record.clients, record.refused, record.lost) for record in journal.rounds()] == [(DEVICES, {}, "")] * 2
    here = run_experiment(prepare(settings), tmp_path / "here")
    theirs, ours = final(journal), final(Journal(here.folder))
    if aggregation != "plain":
        assert theirs.digest == ours.digest
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, atol=1e-6)
