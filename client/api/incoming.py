"""Incoming: the body of a request as a file that is read while it arrives, piece by piece, from a thread beside the event loop."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

from anyio import from_thread


class IncomingFile(io.RawIOBase):
    """Never holds more than one piece; to be read in a worker thread of the loop that ``pieces`` belongs to."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """It can be read, and neither written nor sought."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer with what has arrived; 0 at the end."""
        if not self._piece:
            self._piece = memoryview(from_thread.run(self._next))
        size = min(len(buffer), len(self._piece))
        buffer[:size], self._piece = self._piece[:size], self._piece[size:]
        return size

    async def _next(self) -> bytes:
        async for piece in self._pieces:
            if piece:
                return piece
        return b""
