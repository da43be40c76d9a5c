"""Cores: how many of torch's threads each of those who read at the same time may take.

Alone, a reader takes all of them, for the shortest wait. Two readers with one thread each read more in a second than one
after the other with two: no thread waits at the end of every operation for one that the machine has set aside.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Cores:
    """Torch's threads, as many as it had when this was made, shared by whoever reads now."""

    def __init__(self) -> None:
        self.count = torch.get_num_threads()
        self._readers = 0
        self._change = threading.Lock()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Read inside; the share is that of the moment when the reading begins."""
        with self._change:
            self._readers += 1
            torch.set_num_threads(max(1, self.count // self._readers))  # of this thread, and of threads to come
        try:
            yield
        finally:
            with self._change:
                self._readers -= 1
                torch.set_num_threads(self.count)
