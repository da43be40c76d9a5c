"""What was read of labelled text: an example, a corpus with an account of every row, and a batch for the model.

Diary text is radioactive: an ``Example`` does not show its text when printed, and no account quotes a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from model.emotions import Emotion, shown_label

MOST_SHOWN = 3
"""So many bad rows are named by their line; of the others there is the number."""
MOST_LABELS_SHOWN = 8


@dataclass(frozen=True)
class Example:
    """One labelled entry. The text stays out of ``repr``, and so out of logs and tracebacks."""

    text: str = field(repr=False)
    emotion: Emotion
    author: str = ""


@dataclass(frozen=True)
class Corpus:
    """What was read: the examples, and an account of every row that is not among them."""

    examples: tuple[Example, ...]
    source: str
    bad_rows: tuple[tuple[int, str], ...] = ()
    """Line number and reason of each unreadable row."""
    outside_rule: int = 0
    """Rows that name none of the four emotions or several, by the rule of KOTE, GoEmotions or NSMC, or in a list of labels."""
    also_tested: int = 0
    """Rows left out of training because the same sentence stands in the test data."""
    form: str = ""
    """The recognised format, its encoding and columns, for a person."""
    other_labels: tuple[tuple[str, int], ...] = ()
    """Labels outside the four emotions whose rows were left out as asked, and how many rows each."""
    spanning: int = 0
    """Entries that run over several lines of the file."""
    dealt: str = ""
    """How these entries are dealt out to people, and why."""
    unit: str = "line"
    """What ``bad_rows`` counts: lines, or rows of a file without lines."""

    def account(self) -> str:
        """One line for a person: how many were read, of what form, how many not, and where the first of those stand."""
        parts = [f"{len(self.examples)} entries from {self.source}{f' ({self.form})' if self.form else ''}"]
        if self.spanning:
            parts.append(f"{self.spanning} entries run over several lines")
        if self.outside_rule:
            parts.append(f"{self.outside_rule} rows left out that do not name exactly one emotion")
        if self.other_labels:
            parts.append(f"{sum(count for _, count in self.other_labels)} rows left out with other labels ({self._other_labels()})")
        if self.also_tested:
            parts.append(f"{self.also_tested} left out because they also stand in the test data")
        if self.bad_rows:
            parts.append(f"{len(self.bad_rows)} bad rows skipped ({self._bad_rows()})")
        return ", ".join([*parts, *([self.dealt] if self.dealt else [])])

    def _bad_rows(self) -> str:
        first = "; ".join(f"{self.unit} {number}: {reason}" for number, reason in self.bad_rows[:MOST_SHOWN])
        return f"{first}; ..." if len(self.bad_rows) > MOST_SHOWN else first

    def _other_labels(self) -> str:
        shown = ", ".join(f"{label} {count}" for label, count in self.other_labels[:MOST_LABELS_SHOWN])
        return f"{shown}, ..." if len(self.other_labels) > MOST_LABELS_SHOWN else shown

    @property
    def digest(self) -> str:
        """SHA-256 of the entries in their order, which decides who holds what and what is held out."""
        whole = hashlib.sha256()
        for example in self.examples:
            whole.update(repr((example.text, example.emotion.id, example.author)).encode())
        return whole.hexdigest()


@dataclass(frozen=True)
class Batch:
    """Padded rows for the model: ``inputs`` (B, S) or (B, S, H), ``mask`` (B, S) 1 where real, ``labels`` (B,)."""

    inputs: Any
    mask: Any
    labels: Any


def texts(examples: Sequence[Example]) -> list[str]:
    """The texts alone, in order."""
    return [example.text for example in examples]


def counted_labels(counts: dict[str, int]) -> tuple[tuple[str, int], ...]:
    """Labels for an account, most frequent first; labels that cannot be shown, or stand in one row only, come together.

    A column that holds text in place of labels has another "label" in nearly every row: none of them is shown.
    """
    shown: dict[str, int] = {}
    for label, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        safe = count > 1 and shown_label(label).startswith("'")
        name = label if safe else "rarer or long ones"
        shown[name] = shown.get(name, 0) + count
    return tuple(shown.items())
