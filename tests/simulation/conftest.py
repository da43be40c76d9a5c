"""What the tests of commands that run long need: a person at the keyboard."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def interrupted() -> Callable[[Sequence[str], Callable[[], bool]], tuple[int, str]]:
    """Start ``healing`` with these words, press Ctrl-C once it has begun, and give its exit status and all that it said."""

    def interrupted(words: Sequence[str], begun: Callable[[], bool]) -> tuple[int, str]:
        restore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        command = [sys.executable, "-m", "healing", *words]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=restore)
        try:
            while not begun():
                assert process.poll() is None, "the command ended by itself"
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        return process.returncode, output

    return interrupted
