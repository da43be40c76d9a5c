"""Device: what the routes of one running API stand on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from client.api.metrics import Metrics
from client.diary.diary import Diary
from client.home import Home
from client.music.jukebox import Jukebox
from client.reading.reader import EmotionReader


@dataclass(frozen=True, kw_only=True)
class Device:
    """One person's Home, opened: diary, reader and music."""

    home: Home
    diary: Diary
    reader: EmotionReader
    jukebox: Jukebox
    metrics: Metrics


async def _device(request: Request) -> Device:  # not async, it would cost every request a thread
    device: Device = request.app.state.device
    return device


ThisDevice = Annotated[Device, Depends(_device)]
"""The running API's device, handed to a route."""
