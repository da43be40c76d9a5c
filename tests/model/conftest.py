"""What the tests of reading foreign files need: a pickle with code in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


class Trap:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    """Makes the file ``sprung`` where it is unpickled."""
    return Trap(tmp_path / "sprung")
