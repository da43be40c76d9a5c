"""Who holds what: ways to deal labelled entries out to virtual people.

Each gives one list of row numbers a client; together they are every row exactly once, and no list is empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.data_split import chosen_partition
from model.emotions import EMOTIONS
from model.examples import Example
from model.refusal import Refusal
from model.settings import RunSettings

Partition = list[list[int]]


def partition(examples: Sequence[Example], settings: RunSettings) -> Partition:
    """Deal the examples out as the settings say; :class:`Refusal` if there are more clients than can have something."""
    if settings.clients > len(examples):
        raise Refusal(f"{settings.clients} clients cannot share {len(examples)} entries; use at most one client per entry")
    rng = np.random.default_rng([settings.seed, 2])
    kind, _ = chosen_partition(examples, settings)
    if kind == "author":
        return by_author(examples, settings.clients, rng)
    if kind == "dirichlet":
        return by_dirichlet(examples, settings.clients, settings.dirichlet_alpha, rng)
    return evenly(len(examples), settings.clients, rng)


def evenly(entries: int, clients: int, rng: np.random.Generator) -> Partition:
    """Shuffled and dealt out in equal parts (IID); sizes differ by one at most."""
    return [part.tolist() for part in np.array_split(rng.permutation(entries), clients)]


def by_author(examples: Sequence[Example], clients: int, rng: np.random.Generator) -> Partition:
    """Whole authors, never one author on two clients; the client with the fewest entries gets the next author."""
    authors = sorted({example.author for example in examples})
    if "" in authors:
        raise Refusal(
            "partition 'author' needs an author for every entry and this data names none for some; name author-column, or use iid"
        )
    if len(authors) < clients:
        raise Refusal(f"partition 'author' has {len(authors)} authors for {clients} clients; use fewer clients, or iid or dirichlet")
    rows_of: dict[str, list[int]] = {author: [] for author in authors}
    for row, example in enumerate(examples):
        rows_of[example.author].append(row)
    parts: Partition = [[] for _ in range(clients)]
    for author in rng.permutation(authors).tolist():
        min(parts, key=len).extend(rows_of[author])
    return parts


def by_dirichlet(examples: Sequence[Example], clients: int, alpha: float, rng: np.random.Generator) -> Partition:
    """Label skew (Hsu, Qi & Brown 2019): each emotion is split by proportions drawn from Dirichlet(alpha)."""
    parts: Partition = [[] for _ in range(clients)]
    for emotion in EMOTIONS:
        rows = rng.permutation([row for row, example in enumerate(examples) if example.emotion is emotion])
        cuts = (np.cumsum(rng.dirichlet(np.full(clients, alpha)))[:-1] * len(rows)).astype(int)
        for part, dealt in zip(parts, np.split(rows, cuts), strict=True):
            part.extend(dealt.astype(int).tolist())
    for part in parts:
        if not part:  # nobody goes without: one entry from whoever has most
            part.append(max(parts, key=len).pop())
    return parts
