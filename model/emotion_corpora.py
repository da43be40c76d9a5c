"""What the bundled body is trained on: public corpora whose sentences somebody labelled, and the diaries written for this project.

Nothing that tests the finished model is read: KOTE's test rows, the forty sample authors, the written test authors and test
statements, and near-duplicates of any of them (:mod:`model.near_duplicates`).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from model.corpora import existing, is_held_out, numbered_rows
from model.emotion_training import EmotionRow
from model.emotions import EMOTIONS, KINDS, Emotion
from model.examples import GOEMOTIONS, KOTE_EMOTIONS, goemotions_cells, kote_cells
from model.near_duplicates import TestedTexts

ONE, NONE, SEVERAL = range(len(KINDS))
KOTE_NONE = frozenset({24})
"""KOTE's label 없음."""
GOEMOTIONS_NEUTRAL = frozenset({27})
NOISY = 0.3
"""Weight of a target that a translation or a rule gave."""


def broad_rows(folder: Path, tested: TestedTexts, *, reviews: int) -> list[EmotionRow]:
    """KOTE's val rows, GoEmotions in Korean, everyday sentences and reviews with a reading, and ``reviews`` rated film reviews."""
    found = [*_kote(folder), *_goemotions(folder), *_labelled(folder), *_reviews(folder, reviews)]
    return [row for row in found if row.text not in tested]


def _kote(folder: Path) -> list[EmotionRow]:
    rows = []
    for text, labels in numbered_rows(existing(folder / "kote" / "val.tsv"), kote_cells):
        emotion = _only(labels, KOTE_EMOTIONS)
        kind = ONE if emotion is not None else NONE if labels == KOTE_NONE else None
        rows.append(EmotionRow(text=text, emotion=emotion, kind=kind, kote=labels, copies=3))
    return rows


def _goemotions(folder: Path) -> list[EmotionRow]:
    rows = []
    for part in ("train", "dev"):
        for text, labels in numbered_rows(existing(folder / "goemotions_ko" / f"{part}.tsv"), goemotions_cells):
            emotion = _only(labels, GOEMOTIONS)
            kind = ONE if emotion is not None else NONE if labels == GOEMOTIONS_NEUTRAL else None
            rows.append(EmotionRow(text=text, emotion=emotion, kind=kind, goemotions=labels, weight=NOISY))
    return rows


def _labelled(folder: Path) -> list[EmotionRow]:
    with existing(folder / "feelings" / "labelled.tsv").open(encoding="utf-8", newline="") as lines:
        found = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [written_row(row["text"], row["emotion"], copies=2) for row in found]


def written_row(text: str, label: str, *, copies: int = 1) -> EmotionRow:
    """A row of a text and its reader's word: one of the four emotions, ``none`` or ``plain``, ``mixed``."""
    if label in ("none", "plain"):
        return EmotionRow(text=text, kind=NONE, copies=copies)
    if label == "mixed":
        return EmotionRow(text=text, kind=SEVERAL, copies=copies)
    return EmotionRow(text=text, emotion=Emotion.named(label).id, kind=ONE, copies=copies)


def _reviews(folder: Path, count: int) -> Iterable[EmotionRow]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(existing(folder / "nsmc" / "reviews.parquet"), columns=["author", "rating", "text"])
    rows = zip(table["author"].to_pylist(), table["rating"].to_pylist(), table["text"].to_pylist(), strict=True)
    usable = [(text, int(rating)) for author, rating, text in rows if text and len(text) >= 20 and not is_held_out(author)]
    chosen = sorted(usable, key=lambda row: hashlib.sha256(row[0].encode()).digest())[:count]
    return [EmotionRow(text=text, rating=rating) for text, rating in chosen]


def _only(labels: frozenset[int], emotions: Mapping[int, Emotion]) -> int | None:
    named = {emotions[label].id for label in labels if label in emotions}
    return EMOTIONS[named.pop()].id if len(named) == 1 else None
