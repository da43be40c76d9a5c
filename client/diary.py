"""Diary: one person's entries and labels, on their own device.

For now a plain SQLite file that only its owner may read; sealing it comes with the client application. What is
forgotten is overwritten (``secure_delete``).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from model.emotions import Emotion
from model.examples import Example
from model.refusal import Refusal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    written TEXT NOT NULL,
    text TEXT NOT NULL,
    emotion TEXT
)
"""


class Diary:
    """Add, correct, forget, and the labelled entries; each call is one durable transaction."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, text: str, *, emotion: Emotion | None = None) -> int:
        """Keep an entry and give its number; ``emotion`` if the person named it already."""
        return self.add_all([(text, emotion)])[0]

    def add_all(self, entries: Iterable[tuple[str, Emotion | None]]) -> list[int]:
        """Keep many entries in one transaction."""
        written = datetime.now(UTC).isoformat(timespec="seconds")
        with self._connected() as database:
            return [
                int(
                    database.execute(
                        "INSERT INTO entries (written, text, emotion) VALUES (?, ?, ?)",
                        (written, text, emotion.en if emotion else None),
                    ).lastrowid
                    or 0
                )
                for text, emotion in entries
            ]

    def correct(self, number: int, emotion: Emotion) -> None:
        """The person says what the entry feels like: from now on it is a training label."""
        with self._connected() as database:
            changed = database.execute("UPDATE entries SET emotion = ? WHERE id = ?", (emotion.en, number)).rowcount
        self._require(changed, number)

    def forget(self, number: int) -> None:
        """Remove an entry and its label, overwritten on disk; past rounds cannot be recalled."""
        with self._connected() as database:
            removed = database.execute("DELETE FROM entries WHERE id = ?", (number,)).rowcount
        self._require(removed, number)

    def labelled(self) -> list[Example]:
        """The entries whose emotion the person has named, oldest first."""
        with self._connected() as database:
            rows = database.execute("SELECT text, emotion FROM entries WHERE emotion IS NOT NULL ORDER BY id").fetchall()
        return [Example(text, Emotion.named(emotion)) for text, emotion in rows]

    @staticmethod
    def _require(changed: int, number: int) -> None:
        if not changed:
            raise Refusal(f"the diary has no entry {number}; look up the entry's number first")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        fresh = not self._path.exists()
        if fresh:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        database = sqlite3.connect(self._path)
        try:
            database.execute("PRAGMA secure_delete = ON")
            if fresh:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(_SCHEMA)
            with database:
                yield database
        except sqlite3.DatabaseError as error:
            raise Refusal(f"the diary '{self._path}' cannot be used ({error.sqlite_errorname}); restore it from a backup") from None
        finally:
            database.close()
