"""Public Korean corpora that the compact model reads before it meets anybody's diary.

What measures the finished model stays out of them: sentences of KOTE's test rows and of the sample diaries' test
authors (compared by letters and digits alone), KOTE altogether, since its rows stand for private text in experiments,
and a tenth of NSMC's authors, who are the private people of experiments that split NSMC by author.
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from model.examples import Cells, bundled_diaries, goemotions_cells, kote_cells, texts
from model.refusal import Refusal

RATINGS = 10
GOEMOTIONS_LABELS = 28
KOTE_LABELS = 44
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
    reviews, held_out = _nsmc(folder)
    corpora = {"nsmc": reviews, "goemotions_ko": _goemotions(folder), "chatbot": _chatbot(folder)}
    tested = {_letters(text) for text in _tested(folder)}
    kept = {name: [sentence for sentence in found if _letters(sentence.text) not in tested] for name, found in corpora.items()}
    total = sum(map(len, corpora.values())) + held_out
    sentences = tuple(sentence for found in kept.values() for sentence in found)
    return Reading(sentences, {name: len(found) for name, found in kept.items()}, total - len(sentences))


def is_held_out(author: str) -> bool:
    """Whether this NSMC author is one of the tenth that no model here has read."""
    return hashlib.sha256(author.encode()).digest()[0] < HELD_OUT_AUTHORS * 256


def _nsmc(folder: Path) -> tuple[list[Sentence], int]:
    """Reviews of the authors that may be read, and how many others there are."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(existing(folder / "nsmc" / "reviews.parquet"), columns=["author", "rating", "text"])
    rows = zip(table["author"].to_pylist(), table["rating"].to_pylist(), table["text"].to_pylist(), strict=True)
    written = [(author, rating, text) for author, rating, text in rows if text and text.strip()]
    reviews = [Sentence(text, int(rating)) for author, rating, text in written if not is_held_out(author)]
    return reviews, len(written) - len(reviews)


def _goemotions(folder: Path) -> list[Sentence]:
    parts = [existing(folder / "goemotions_ko" / f"{part}.tsv") for part in ("train", "dev")]
    return [Sentence(text, labels=labels) for path in parts for text, labels in numbered_rows(path, goemotions_cells)]


def _chatbot(folder: Path) -> list[Sentence]:
    with existing(folder / "chatbot" / "ChatbotData.csv").open(encoding="utf-8", newline="") as lines:
        return [Sentence(row[column]) for row in csv.DictReader(lines) for column in ("Q", "A") if row[column].strip()]


def _tested(folder: Path) -> list[str]:
    parts = [existing(folder / "kote" / f"{part}.tsv") for part in ("val", "test")]
    kote = [text for path in parts for text, _ in numbered_rows(path, kote_cells)]
    return kote + texts(bundled_diaries()[1].examples)


def numbered_rows(path: Path, cells_of: Cells) -> list[tuple[str, frozenset[int]]]:
    """Texts and label numbers of the lines of KOTE's or GoEmotions' form; other lines are left out."""
    with path.open(encoding="utf-8") as lines:
        return [cells for line in lines if (cells := cells_of(line)) is not None]


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text).casefold()


def existing(path: Path) -> Path:
    """``path``; :class:`Refusal` if no file is there."""
    if not path.is_file():
        raise Refusal(f"there is no '{path}'; name the folder that holds nsmc/, goemotions_ko/, chatbot/ and kote/ with --data")
    return path
