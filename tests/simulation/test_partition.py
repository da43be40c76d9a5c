"""Dealing entries out: every entry once, nobody without, and as skewed as asked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.emotions import EMOTIONS
from model.examples import Example
from model.refusal import Refusal
from model.settings import RunSettings
from simulation.partition import by_dirichlet, evenly, partition


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 1000))
def test_even_parts_are_a_partition_with_sizes_that_differ_by_one(entries: int, clients: int, seed: int) -> None:
    clients = min(clients, entries)
    parts = evenly(entries, clients, np.random.default_rng(seed))
    assert sorted(chain.from_iterable(parts)) == list(range(entries))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(4, 120), st.integers(1, 30), st.floats(0.05, 50), st.integers(0, 1000))
def test_dirichlet_parts_are_a_partition_and_nobody_goes_without(entries: int, clients: int, alpha: float, seed: int) -> None:
    clients = min(clients, entries)
    examples = [Example("글", EMOTIONS[row * 7 % 4]) for row in range(entries)]
    parts = by_dirichlet(examples, clients, alpha, np.random.default_rng(seed))
    assert sorted(chain.from_iterable(parts)) == list(range(entries))
    assert min(map(len, parts)) >= 1


def test_a_small_alpha_gives_people_with_one_mood_and_a_large_one_mixes() -> None:
    examples = [Example("글", EMOTIONS[row % 4]) for row in range(2000)]

    def dominance(alpha: float) -> float:
        parts = by_dirichlet(examples, 10, alpha, np.random.default_rng(3))
        shares = [max(sum(examples[row].emotion is e for row in part) for e in EMOTIONS) / len(part) for part in parts]
        return float(np.mean(shares))

    assert dominance(0.1) > 0.6 > 0.35 > dominance(100.0)


def test_an_author_is_never_split(examples: list[Example], small: Callable[..., RunSettings]) -> None:
    parts = partition(examples, small(partition="author", clients=3))
    owners = {examples[row].author: number for number, part in enumerate(parts) for row in part}
    assert all({owners[examples[row].author] for row in part} == {number} for number, part in enumerate(parts))
    assert sorted(chain.from_iterable(parts)) == list(range(len(examples)))


def test_auto_deals_authors_where_there_are_enough_and_evenly_elsewhere(examples: list[Example], small: Callable[..., RunSettings]) -> None:
    assert partition(examples, small(partition="auto", clients=5)) == partition(examples, small(partition="author", clients=5))
    assert partition(examples, small(partition="auto", clients=8)) == partition(examples, small(partition="iid", clients=8))


def test_more_clients_than_there_can_be_are_refused(examples: list[Example], small: Callable[..., RunSettings]) -> None:
    with pytest.raises(Refusal, match="41 clients cannot share 40 entries"):
        partition(examples, small(clients=41))
    with pytest.raises(Refusal, match="5 authors for 6 clients"):
        partition(examples, small(partition="author", clients=6))
    nameless = [Example(example.text, example.emotion) for example in examples]
    with pytest.raises(Refusal, match="author-column"):
        partition(nameless, small(partition="author", clients=2))
