"""The diaries and statements written for this project, with what each is for: the body, the head, or the tests."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from importlib import resources

WRITTEN = "written.jsonl"
PLAIN_LINES = "plain_lines.tsv"
PLAIN, MIXED = "plain", "mixed"
"""Labels beside the four emotions: an ordinary day, and two emotions told equally."""


@dataclass(frozen=True)
class WrittenText:
    """One diary entry, or one short statement, which has no date."""

    id: str
    author: str
    split: str
    label: str
    text: str = field(repr=False)
    date: str = ""


def written_texts() -> list[WrittenText]:
    """All of them, in the order of the file."""
    with (resources.files("model") / "assets" / WRITTEN).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [WrittenText(row["id"], row["author"], row["split"], row["emotion"], row["text"], row.get("date", "")) for row in rows]


def plain_lines() -> list[str]:
    """The single lines on which the tests judge every bundled model (with the right value beside each, for the tests)."""
    with (resources.files("model") / "assets" / PLAIN_LINES).open(encoding="utf-8") as lines:
        return [row["text"] for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)]
