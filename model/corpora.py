"""Public Korean corpora that the compact model reads before it meets anybody's diary.

What measures the finished model stays out of them: sentences of KOTE's test rows and of the sample diaries' test
authors (compared by letters and digits alone), KOTE altogether, since its rows stand for private text in experiments,
and a tenth of NSMC's authors, who are the private people of experiments that split NSMC by author.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from model.examples import bundled_diaries, texts
from model.refusal import Refusal

RATINGS = 10
GOEMOTIONS_LABELS = 28
HELD_OUT_AUTHORS = 0.1


@dataclass(frozen=True)
class Sentence:
    """One public sentence, with a rating of 1 to 10 (0: none) and GoEmotions' labels (None: not labelled)."""

    text: str = field(repr=False)
    rating: int = 0
    labels: frozenset[int] | None = None


@dataclass(frozen=True)
class Reading:
    """What was found under a folder of corpora, and what was kept away from training."""

    sentences: tuple[Sentence, ...]
    counts: dict[str, int]
    left_out: int
    """Sentences of held-out authors, and sentences that also stand in a test set."""


def read_corpora(folder: Path) -> Reading:
    """Read ``nsmc/``, ``goemotions_ko/`` and ``chatbot/`` under ``folder``; deduplicate against every test set there.

    Raises :class:`Refusal` if the folder lacks a corpus or its KOTE test rows, without which nothing can be kept apart.
    """
    corpora = {"nsmc": _nsmc(folder), "goemotions_ko": _goemotions(folder), "chatbot": _chatbot(folder)}
    tested = {_letters(text) for text in _tested(folder)}
    kept = {name: [sentence for sentence in found if _letters(sentence.text) not in tested] for name, found in corpora.items()}
    total = sum(map(len, corpora.values())) + _nsmc_held_out(folder)
    sentences = tuple(sentence for found in kept.values() for sentence in found)
    return Reading(sentences, {name: len(found) for name, found in kept.items()}, total - len(sentences))


def is_held_out(author: str) -> bool:
    """Whether this NSMC author is one of the tenth that no model here has read."""
    return hashlib.sha256(author.encode()).digest()[0] < HELD_OUT_AUTHORS * 256


def _nsmc_rows(folder: Path) -> Iterable[tuple[str, int, str]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(_existing(folder / "nsmc" / "reviews.parquet"), columns=["author", "rating", "text"])
    return zip(table["author"].to_pylist(), table["rating"].to_pylist(), table["text"].to_pylist(), strict=True)


def _nsmc(folder: Path) -> list[Sentence]:
    return [Sentence(text, int(rating)) for author, rating, text in _nsmc_rows(folder) if text and text.strip() and not is_held_out(author)]


def _nsmc_held_out(folder: Path) -> int:
    return sum(bool(text and text.strip()) and is_held_out(author) for author, _, text in _nsmc_rows(folder))


def _goemotions(folder: Path) -> list[Sentence]:
    rows = [
        line.rstrip("\n").split("\t")
        for part in ("train", "dev")
        for line in _existing(folder / "goemotions_ko" / f"{part}.tsv").read_text(encoding="utf-8").splitlines()
    ]
    return [Sentence(cells[0], labels=frozenset(map(int, cells[1].split(",")))) for cells in rows if len(cells) == 2 and cells[0].strip()]


def _chatbot(folder: Path) -> list[Sentence]:
    with _existing(folder / "chatbot" / "ChatbotData.csv").open(encoding="utf-8", newline="") as lines:
        return [Sentence(row[column]) for row in csv.DictReader(lines) for column in ("Q", "A") if row[column].strip()]


def _tested(folder: Path) -> list[str]:
    kote = [
        line.split("\t")[1]
        for part in ("val", "test")
        for line in _existing(folder / "kote" / f"{part}.tsv").read_text(encoding="utf-8").splitlines()
        if line.count("\t") == 2
    ]
    return kote + texts(bundled_diaries()[1].examples)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise Refusal(f"there is no '{path}'; name the folder that holds nsmc/, goemotions_ko/, chatbot/ and kote/ with --data")
    return path
