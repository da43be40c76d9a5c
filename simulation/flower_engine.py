"""The same run on Flower's own engine."""

from __future__ import annotations

from collections.abc import Callable

from model.settings import RunSettings
from server.journal import Journal, RoundRecord


def run_on_flower(settings: RunSettings, journal: Journal, on_progress: Callable[[int, list[RoundRecord]], None]) -> None:
    raise NotImplementedError
