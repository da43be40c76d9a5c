"""What both ledgers' tests need: a disk that is full, and processes that begin at the same time."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """The kernel refuses this process any file longer than ``room`` bytes, after having written so many."""

    @contextmanager
    def full(room: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full


def pipe(end: IO[str] | None) -> IO[str]:
    assert end is not None
    return end


@pytest.fixture
def processes_at_once() -> Callable[[str, Iterable[Iterable[str]]], AbstractContextManager[list[subprocess.Popen[str]]]]:
    """Processes of one program, one for each list of arguments: each says "ready" and begins when all did; none outlives the block."""

    @contextmanager
    def at_once(program: str, arguments: Iterable[Iterable[str]]) -> Iterator[list[subprocess.Popen[str]]]:
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", program, *each],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for each in arguments
        ]
        try:
            for process in processes:
                assert pipe(process.stdout).readline() == "ready\n"
            for process in processes:
                pipe(process.stdin).write("\n")
                pipe(process.stdin).flush()
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.communicate()

    return at_once
