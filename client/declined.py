"""Declined: which orders this device turned down lately, and the true cause of each, for its person.

The server gets one answer for every cause (:class:`model.records.Declined`). The causes stay here. Only the newest are kept, so that no
server fills a disk with orders. No cause holds a word of the diary: each is a refusal's sentence.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from model.checkpoint import locked, write_durably
from model.refusal import Damaged

FILE = "declined.json"
KEPT = 20
LONGEST = 500
"""Characters of a cause and of a run's name: both may quote what a server wrote."""


@dataclass(frozen=True, kw_only=True)
class DeclinedOrder:
    """One order that was turned down, when, and why."""

    run: str
    round: int
    why: str
    at: str


def note_declined(root: Path, *, run: str, round: int, why: str) -> None:
    """Keep the cause of one refusal; a file that is damaged begins anew, since it says nothing that anybody relies on."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    order = DeclinedOrder(run=_printable(run), round=round, why=_printable(why), at=at)
    path = root / FILE
    with locked(path.with_suffix(".lock")):
        try:
            before = declined_orders(root)
        except Damaged:
            before = ()
        kept = [asdict(one) for one in (*before, order)[-KEPT:]]
        write_durably(path, json.dumps(kept, ensure_ascii=False, indent=1).encode())


def declined_orders(root: Path) -> tuple[DeclinedOrder, ...]:
    """The newest orders that were turned down, oldest first."""
    try:
        return tuple(DeclinedOrder(**one) for one in json.loads((root / FILE).read_bytes()))
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError):
        raise Damaged(f"'{root / FILE}' is damaged, so why orders were turned down is not known; remove it") from None


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST])
