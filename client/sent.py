"""Sent: which messages left this device because of its diary, how long they were, and under which protection. No text.

One line of JSON each, on disk before the message leaves: a crash can only list one that did not.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from model.checkpoint import locked
from model.refusal import Damaged

FILE = "sent.jsonl"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One message. ``what`` is ``update``, or ``counts`` of how the model reads the person's entries."""

    run: str
    round: int
    what: str
    bytes: int
    privacy: str
    """Whom the noise protects: ``none``, ``example``, ``user`` or ``both``."""
    aggregation: str
    """What the server saw of it: ``plain``, or only the sum of a ``masked`` or ``encrypted`` round."""
    at: str


def note_sent(root: Path, *, run: str, round: int, what: str, bytes: int, privacy: str, aggregation: str) -> None:
    """Note one message; call it before it is handed over."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    sent = Sent(run=run, round=round, what=what, bytes=bytes, privacy=privacy, aggregation=aggregation, at=at)
    path = root / FILE
    with locked(path.with_suffix(".lock")), open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        _cut_torn_end(file)
        file.write(f"{json.dumps(asdict(sent), ensure_ascii=False)}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def sent_messages(root: Path, *, most: int) -> tuple[Sent, ...]:
    """The last messages that were noted, oldest first."""
    try:
        lines = (root / FILE).read_bytes().split(b"\n")[:-1]
        return tuple(Sent(**json.loads(line)) for line in lines[-most:])
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError):
        raise Damaged(f"'{root / FILE}' is damaged, so what was sent is not known; restore it from a backup, or remove it") from None


def _cut_torn_end(file: BinaryIO) -> None:
    """Go to the end of the last whole line; a crash may have left a piece of one behind."""
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - 4096)
    file.seek(start)
    whole = start + file.read(end - start).rfind(b"\n") + 1
    file.seek(whole)
    file.truncate()
