"""What the bundled body is trained on: public corpora whose sentences somebody labelled, and the diaries written for this project.

Nothing that tests the finished model is read: KOTE's test rows, the forty sample authors, the written test authors and test
statements, and near-duplicates of any of them (:mod:`model.near_duplicates`).
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from model.corpora import existing, film_reviews, numbered_rows
from model.emotion_training import EmotionRow
from model.emotions import EMOTIONS, KINDS, Emotion
from model.examples import GOEMOTIONS, KOTE_EMOTIONS, bundled_diaries, goemotions_cells, kote_cells
from model.near_duplicates import HeldOutTexts
from model.written_texts import plain_lines, written_texts

ONE, NONE, SEVERAL = range(len(KINDS))
KOTE_NONE = frozenset({24})
"""KOTE's label 없음."""
GOEMOTIONS_NEUTRAL = frozenset({27})
NOISY = 0.3
"""Weight of a target that a translation or a rule gave."""


def broad_rows(folder: Path, *, reviews: int) -> list[EmotionRow]:
    """KOTE's val rows, GoEmotions in Korean, everyday sentences with a reading, statements, and ``reviews`` rated film reviews."""
    statements = [replace(row, copies=3) for row in written_rows("body", diaries=False)]
    comments = [replace(row, copies=3 if row.kote is not None else 2) for row in comment_rows(folder)]
    return [*comments, *_goemotions(folder), *_reviews(folder, reviews), *statements]


def comment_rows(folder: Path) -> list[EmotionRow]:
    """KOTE's val rows, and the everyday sentences and reviews of ``feelings/labelled.tsv``."""
    return [*_kote(folder), *_labelled(folder)]


def written_rows(split: str, *, diaries: bool = True) -> list[EmotionRow]:
    """The texts written for this project of one split, ``body``, ``head`` or ``test``; without ``diaries`` the statements alone."""
    return [written_row(text.text, text.label) for text in written_texts() if text.split == split and (diaries or not text.date)]


def tested_texts(folder: Path) -> HeldOutTexts:
    """What no model here is trained on: KOTE's test rows, the sample diaries, the written tests, and the single lines of the tests."""
    kote = [text for text, _ in numbered_rows(existing(folder / "kote" / "test.tsv"), kote_cells)]
    samples = [example.text for part in bundled_diaries() for example in part.examples]
    written = [text.text for text in written_texts() if text.split == "test"]
    return HeldOutTexts([*kote, *samples, *written, *plain_lines()])


def _kote(folder: Path) -> list[EmotionRow]:
    rows = []
    for text, labels in numbered_rows(existing(folder / "kote" / "val.tsv"), kote_cells):
        emotion = _only(labels, KOTE_EMOTIONS)
        kind = ONE if emotion is not None else NONE if labels == KOTE_NONE else None
        rows.append(EmotionRow(text=text, emotion=emotion, kind=kind, kote=labels))
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
    return [written_row(row["text"], row["emotion"]) for row in found]


def written_row(text: str, label: str) -> EmotionRow:
    """A row of a text and its reader's word: one of the four emotions, ``none`` or ``plain``, ``mixed``."""
    if label in ("none", "plain"):
        return EmotionRow(text=text, kind=NONE)
    if label == "mixed":
        return EmotionRow(text=text, kind=SEVERAL)
    return EmotionRow(text=text, emotion=Emotion.named(label).id, kind=ONE)


def _reviews(folder: Path, count: int) -> list[EmotionRow]:
    usable = [(text, rating) for text, rating in film_reviews(folder) if len(text) >= 20]
    chosen = sorted(usable, key=lambda row: hashlib.sha256(row[0].encode()).digest())[:count]
    return [EmotionRow(text=text, rating=rating) for text, rating in chosen]


def _only(labels: frozenset[int], emotions: Mapping[int, Emotion]) -> int | None:
    named = {emotions[label].id for label in labels if label in emotions}
    return EMOTIONS[named.pop()].id if len(named) == 1 else None
