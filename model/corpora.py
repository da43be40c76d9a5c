"""Public Korean corpora of the shared data's layout: their files, their labelled lines, and whose reviews may be read.

A tenth of NSMC's authors, who are the private people of experiments that split NSMC by author, stay out of every model.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from model.examples import Cells
from model.refusal import Refusal

RATINGS = 10
GOEMOTIONS_LABELS = 28
KOTE_LABELS = 44
HELD_OUT_AUTHORS = 0.1


def film_reviews(folder: Path) -> list[tuple[str, int]]:
    """Text and rating (1 to 10) of NSMC's reviews, in the order of the file, but for those of held-out authors and without text."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(existing(folder / "nsmc" / "reviews.parquet"), columns=["author", "rating", "text"])
    rows = zip(table["author"].to_pylist(), table["rating"].to_pylist(), table["text"].to_pylist(), strict=True)
    return [(text, int(rating)) for author, rating, text in rows if text and not is_held_out(author)]


def is_held_out(author: str) -> bool:
    """Whether this NSMC author is one of the tenth that no model here has read."""
    return hashlib.sha256(author.encode()).digest()[0] < HELD_OUT_AUTHORS * 256


def numbered_rows(path: Path, cells_of: Cells) -> list[tuple[str, frozenset[int]]]:
    """Texts and label numbers of the lines of KOTE's or GoEmotions' form; other lines are left out."""
    with path.open(encoding="utf-8") as lines:
        return [cells for line in lines if (cells := cells_of(line)) is not None]


def existing(path: Path) -> Path:
    """``path``; :class:`Refusal` if no file is there."""
    if not path.is_file():
        raise Refusal(f"there is no '{path}'; name the folder that holds nsmc/, goemotions_ko/, feelings/ and kote/ with --data")
    return path
