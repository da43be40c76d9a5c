"""Watch: one stat tells whether a file was replaced since it was last looked at."""

from __future__ import annotations

import os
from pathlib import Path

_Stamp = tuple[int, int, int]


class Watch:
    """Over a file that is replaced by renaming, as ``latest`` of a checkpoint store is.

    What was looked at stays open, so that its inode number cannot come back under another file: two replacements
    within one tick of the clock are seen too. :meth:`look` and :meth:`close` are for one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: _Stamp | None = None
        self._looked = False
        self._handle: int | None = None

    def changed(self) -> bool:
        """Whether the file is another than at the last look, or there has been none."""
        try:
            return not self._looked or _stamp(os.stat(self._path)) != self._seen
        except OSError:
            return self._seen is not None

    def look(self) -> None:
        """Take the file as it is now for seen; call it before reading the file, and nothing newer is missed."""
        try:
            handle = os.open(self._path, os.O_RDONLY)
        except OSError:
            handle = None
        self._seen = _stamp(os.fstat(handle)) if handle is not None else None
        self._looked = True
        self.close()
        self._handle = handle

    def close(self) -> None:
        """Let go of the file."""
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None


def _stamp(stat: os.stat_result) -> _Stamp:
    return stat.st_mtime_ns, stat.st_ino, stat.st_size
