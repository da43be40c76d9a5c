"""Micro-batches: texts that arrive while others are being read are read together next (continuous batching).

A text that comes alone is read at once: nothing waits for company. Several threads may read, each its own batch, and those
who wait are shared out among them. Callers may live in any event loop, and in several. Of a text that takes longer only a part is read at
a time: what is left of it waits again, behind who came meanwhile.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from client.reading.reading import Reading
from model.refusal import Refusal

MOST = 16
"""Texts of one batch: on a CPU more of them are read no faster, and all wait for the last."""

ReadTogether = Callable[[Sequence[Any]], Sequence[Any]]
"""Texts, and what was left of others, to a :class:`Reading` of each or what is left of it now."""
Answer = Reading | Refusal


@dataclass(frozen=True, eq=False)
class _Waiting:
    part: Any = field(repr=False)
    """The text, or what is left of it."""
    length: int
    """Characters of the text."""
    patient: bool
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Reading]


class MicroBatches:
    """Each text's own reading, or a :class:`Refusal` that holds none of it.

    A text on which a batch fails is found by reading the batch's texts one by one, so that the others are answered.
    """

    def __init__(self, read: ReadTogether, *, most: int = MOST, threads: int = 1) -> None:
        self._read = read
        self._most = most
        self._share = 1 / threads
        self._waiting: list[_Waiting] = []
        self._arrival = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name=f"healing-reader-{n}", daemon=True) for n in range(threads)]
        self._begun = False
        self._closed = False

    async def read(self, text: str, *, patient: bool = False) -> Reading:
        """Wait for the text's reading, if ``patient`` until nobody else waits; :class:`Refusal` if it cannot be read or all is closed."""
        loop = asyncio.get_running_loop()
        one = _Waiting(text, len(text), patient, loop, loop.create_future())
        with self._arrival:
            if self._closed:
                raise Refusal("the reader is closed and takes no more texts; start the service again")
            if not self._begun:
                self._begun = True
                for thread in self._threads:
                    thread.start()
            self._waiting.append(one)
            self._arrival.notify()
        return await one.answer

    def close(self) -> None:
        """Take no more texts; whoever waits is answered before this returns."""
        with self._arrival:
            self._closed = True
            self._arrival.notify_all()
        for thread in self._threads if self._begun else ():
            thread.join()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            answers = list(zip(batch, self._answers(batch), strict=True))
            if left := [replace(one, part=part) for one, part in answers if not isinstance(part, Answer)]:
                self._wait_again(left)
            _deliver([(one, answer) for one, answer in answers if isinstance(answer, Answer)])

    def _wait_again(self, left: Sequence[_Waiting]) -> None:
        with self._arrival:
            self._waiting += left
            self._arrival.notify(len(left))

    def _next(self) -> list[_Waiting] | None:
        """Who waits longest and those whose texts are nearest in length, so that little is spent on padding; a thread's share.

        Who has gone away is left out, so it may be empty; None if no one will come.
        """
        with self._arrival:
            self._arrival.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            ready = [one for one in self._waiting if not one.patient] or self._waiting
            length, share = ready[0].length, math.ceil(self._share * len(ready))
            batch = sorted(ready, key=lambda one: abs(one.length - length))[: min(share, self._most)]
            taken = set(map(id, batch))
            self._waiting = [one for one in self._waiting if id(one) not in taken]
        return [one for one in batch if not one.answer.cancelled()]

    def _answers(self, batch: Sequence[_Waiting]) -> list[Any]:
        try:
            readings = self._read([one.part for one in batch]) if batch else []
            return [reading for _, reading in zip(batch, readings, strict=True)]
        except Refusal as refusal:
            failed = str(refusal)
        except Exception as error:  # its words may quote a text, so only its class is told
            failed = f"the text could not be read ({type(error).__name__}); try again, or write it in another way"
        return [Refusal(failed)] if len(batch) == 1 else [self._answers([one])[0] for one in batch]


def _deliver(answers: Sequence[tuple[_Waiting, Answer]]) -> None:
    """Wake each event loop once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Answer]]] = {}
    for one, answer in answers:
        by_loop.setdefault(one.loop, []).append((one, answer))
    for loop, answered in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed, so nobody waits there any more
            loop.call_soon_threadsafe(_settle, answered)


def _settle(answered: Sequence[tuple[_Waiting, Answer]]) -> None:
    for one, answer in answered:
        if one.answer.done():  # cancelled while it was read
            continue
        if isinstance(answer, Refusal):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)
