"""Gives every virtual person a Home and a Diary, like a real one's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from client.home import DevicePolicy, Home, virtual_home
from model.examples import Example
from model.settings import RunSettings
from privacy.register import FILE as REGISTER
from privacy.register import Register, write_register
from privacy.roster import FEWEST_ASKED
from simulation.partition import partition


def settle(people: Path, examples: Sequence[Example], settings: RunSettings) -> list[int]:
    """Deal the examples out, one Home a client under ``people``, and give the number of entries of each."""
    policy = DevicePolicy(
        epsilon_limit=settings.epsilon,
        epsilon_per_run=settings.epsilon,
        epsilon_per_week=settings.epsilon,  # an experiment is a year's rounds in an hour
        delta=settings.delta,
        allow_unprotected=not settings.protects_entries,
        fewest_asked=FEWEST_ASKED,  # an experiment may be as small as the protocol allows
    )
    parts = partition(examples, settings)
    registered: dict[int, bytes] = {}
    for number, part in enumerate(parts):
        home = Home.create(virtual_home(people, number), policy)
        registered[number] = home.identity.public
        home.diary.add_all((examples[row].text, examples[row].emotion) for row in part)
    write_register(people / REGISTER, Register(registered, len(registered)))
    return [len(part) for part in parts]


def largest_epsilon(people: Path, clients: int) -> float:
    """The most that any virtual person's ledger has counted."""
    return max(Home(virtual_home(people, number)).ledger.spent() for number in range(clients))
