"""KOTE and GoEmotions: files without a header whose labels are numbers, and the rule that reads four emotions from them.

Their form alone (a text, a tab, numbers) proves nothing: a file of 0 for joy and 1 for sadness looks the same. So the whole file is
asked: most lines have the form, some name several labels at once, and the numbers reach as far as only these corpora do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.emotions import Emotion

KOTE_EMOTIONS: dict[int, Emotion] = {
    42: Emotion.JOY, 40: Emotion.JOY, 28: Emotion.JOY,
    5: Emotion.SADNESS, 36: Emotion.SADNESS,
    6: Emotion.ANGER,
    41: Emotion.ANXIETY, 18: Emotion.ANXIETY,
}  # fmt: skip
"""KOTE-4: 기쁨, 행복, 즐거움/신남; 슬픔, 서러움; 화남/분노; 불안/걱정, 공포/무서움. A row counts if it names exactly one."""

GOEMOTIONS: dict[int, Emotion] = {
    label: emotion
    for emotion, labels in {
        Emotion.JOY: (17, 1, 13, 15, 18, 21, 23),
        Emotion.SADNESS: (25, 16, 9, 24),
        Emotion.ANGER: (2, 3, 11),
        Emotion.ANXIETY: (14, 19),
    }.items()
    for label in labels
}
"""GoEmotions: joy, amusement, excitement, gratitude, love, pride, relief; sadness, grief, disappointment, remorse; anger,
annoyance, disgust; fear, nervousness. A row counts if it names exactly one group, whatever else it names."""

Cells = Callable[[str], tuple[str, frozenset[int]] | None]

SEVERAL = 0.02
"""A corpus is recognised if at least this share of its lines names several labels (KOTE 0.9, GoEmotions 0.16)."""


def kote_cells(line: str) -> tuple[str, frozenset[int]] | None:
    """Text and label numbers of one KOTE line (id, text, comma-separated numbers 0 to 43), None if it is not one."""
    cells = line.rstrip("\r\n").split("\t")
    if len(cells) != 3 or not re.fullmatch(r"\d+", cells[0]) or not re.fullmatch(r"\d+(,\d+)*", cells[2]):
        return None
    labels = frozenset(int(number) for number in cells[2].split(","))
    return (cells[1].strip(), labels) if cells[1].strip() and max(labels) <= 43 else None


def goemotions_cells(line: str) -> tuple[str, frozenset[int]] | None:
    """Text and label numbers of one GoEmotions line (text, comma-separated numbers 0 to 27), None if it is not one."""
    cells = line.rstrip("\r\n").split("\t")
    if len(cells) != 2 or not re.fullmatch(r"\d+(,\d+)*", cells[1]):
        return None
    labels = frozenset(int(number) for number in cells[1].split(","))
    return (cells[0].strip(), labels) if cells[0].strip() and max(labels) <= 27 else None


@dataclass(frozen=True)
class NumberedCorpus:
    """One of the two: its name, how a line is read, what the numbers mean, and its number of labels."""

    name: str
    cells_of: Cells
    rule: dict[int, Emotion]
    labels: int

    def has_form(self, lines: Sequence[str]) -> bool:
        """Whether more than half of the lines have the corpus's form."""
        return 2 * len(self._found(lines)) > len(lines)

    def is_recognised(self, lines: Sequence[str]) -> bool:
        """Whether the lines are this corpus: its form, several labels at once, and numbers beyond half of its labels."""
        found = self._found(lines)
        several = sum(len(labels) > 1 for _, labels in found)
        reach = max((max(labels) for _, labels in found), default=0)
        return 2 * len(found) > len(lines) and several >= max(1, SEVERAL * len(found)) and 2 * reach >= self.labels

    def _found(self, lines: Sequence[str]) -> list[tuple[str, frozenset[int]]]:
        return [cells for line in lines if (cells := self.cells_of(line)) is not None]


NUMBERED = (
    NumberedCorpus("kote", kote_cells, KOTE_EMOTIONS, 44),
    NumberedCorpus("goemotions", goemotions_cells, GOEMOTIONS, 28),
)
