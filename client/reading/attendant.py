"""Attendant: one thread beside a server that keeps its device current while nobody asks.

Twice a second it looks whether a newer checkpoint came (one stat), and has it put to use before the next request. One that
was refused for a reason that may pass, such as a full disk, is tried again, at longer and longer intervals. Entries that nobody has
read, as after an import or from before there was a model, are read a few at a time, newest first, whenever no request waits for a
reading.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from client.diary.diary import Diary, Entry, NoEntry
from client.reading.reader import EmotionReader
from model.refusal import Refusal

EVERY = 0.5
"""Seconds between two looks."""
FEW = 4
"""Entries that are read between two looks at the checkpoints."""
SOONEST, LATEST = 1.0, 300.0
"""Seconds after which what failed is tried again: at first, doubled each time, at most."""

_log = logging.getLogger("healing.reading")


class Backoff:
    """When what failed may be tried again."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._pause = SOONEST
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Whether it is time to try."""
        return self._now() >= self._due

    def failed(self) -> None:
        """Wait twice as long as the last time."""
        self._due = self._now() + self._pause
        self._pause = min(2 * self._pause, LATEST)

    def went_well(self) -> None:
        """Begin anew with the shortest pause."""
        self._pause, self._due = SOONEST, 0.0


class Attendant:
    """Attends one reader and one diary, from :meth:`start` to :meth:`close`; ``now`` is a clock in seconds."""

    def __init__(self, reader: EmotionReader, diary: Diary, *, every: float = EVERY, now: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._diary = diary
        self._every = every
        self._model_again, self._diary_again = Backoff(now), Backoff(now)
        self._seen: object = None
        self._unreadable: set[int] = set()
        self._tried_with: str | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._attend_always, name="healing-attendant", daemon=True)

    def start(self) -> None:
        """Attend from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what is being read is left unread, a model that is being built is finished."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def attend(self) -> bool:
        """One look at the checkpoints and at the unread entries; True if there may be more to do at once."""
        try:
            self._keep_up()
            if not self._diary_again.is_due:
                return False
            more = self._read_few()
        except Exception as error:  # the device goes on; an error's words may quote a text
            self._diary_again.failed()
            _log.warning("unread entries wait: %s", error if isinstance(error, Refusal) else type(error).__name__)
            return False
        self._diary_again.went_well()
        return more

    def _attend_always(self) -> None:
        more = False
        while not self._stopped.wait(0 if more else self._every):
            more = self.attend()

    def _keep_up(self) -> None:
        changed, refused = self._reader.keep_up(), self._reader.refused
        if changed or refused is None or not refused.passing:
            self._model_again.went_well()
        elif self._model_again.is_due:
            self._model_again.failed()
            self._reader.refresh()

    def _read_few(self) -> bool:
        serving, stamp = self._reader.serving, self._diary.stamp()
        if serving is None:
            return False
        if serving.digest != self._tried_with:  # what one model could not read, another may
            self._tried_with, self._seen = serving.digest, None
            self._unreadable.clear()
        if stamp == self._seen:
            return False
        unread = [entry for entry in self._diary.unread(FEW + len(self._unreadable)) if entry.number not in self._unreadable][:FEW]
        if not unread:
            self._seen = stamp  # taken before looking: what is written meanwhile changes it
            return False
        asyncio.run(self._until_stopped(self._read_all(unread)))
        return True

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        while not task.done() and not self._stopped.is_set():
            await asyncio.wait({task}, timeout=0.1)
        if task.done():
            task.result()  # otherwise asyncio.run cancels it

    async def _read_all(self, entries: list[Entry]) -> None:
        readings = await asyncio.gather(*(self._reader.read_patiently(entry.text) for entry in entries), return_exceptions=True)
        for entry, reading in zip(entries, readings, strict=True):
            if isinstance(reading, Refusal):
                self._unreadable.add(entry.number)
                _log.warning("an entry stays unread: %s", reading)
            elif isinstance(reading, BaseException):
                raise reading
            else:
                with suppress(NoEntry):  # it was forgotten meanwhile
                    self._diary.keep_reading(entry.number, entry.text, reading)
