"""A device as the API's tests need it: a real Home with version 1 of the global model, real diary, reader and songs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from client.api.api import create_app
from client.home import DevicePolicy, Home
from client.music.playlist import bundled_songs
from client.reading.reader import EmotionReader
from model.checkpoint import FIRST_MODEL

ASSETS = Path(__file__).resolve().parents[2] / "model" / "assets"
TOKEN = "test-token-0123456789"  # noqa: S105
ORIGIN = "http://127.0.0.1:8000"
Opened = Callable[..., TestClient]


def _installed(root: Path) -> Home:
    home = Home.create(root, DevicePolicy())
    assert home.models is not None
    home.models.mkdir(exist_ok=True)
    (home.models / "compact").symlink_to(ASSETS / "compact")  # the real one: these tests are about what a person is told
    shutil.copytree(ASSETS / FIRST_MODEL, home.checkpoints.root, dirs_exist_ok=True)
    return home


@pytest.fixture(scope="session")
def installed() -> Callable[[Path], Home]:
    """Make a Home with emotion-v2 at a place, as `healing client init` leaves it."""
    return _installed


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmotionReader]:
    """One reader for many tests; it keeps nothing of what it reads."""
    reader = EmotionReader(_installed(tmp_path_factory.mktemp("reader") / "home"))
    yield reader
    reader.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A Home of this test's own."""
    return Home.create(tmp_path / "home", DevicePolicy())


@pytest.fixture
def opened(home: Home, reader: EmotionReader) -> Opened:
    """The API of ``home`` without a server; by default asked as its owner's programs do, under its own name."""

    def client(*, headers: dict[str, str] | None = None, **others: object) -> TestClient:
        parts: dict[str, Any] = {"home": home, "reader": reader, "songs": bundled_songs(), "token": TOKEN} | others
        app = create_app(parts.pop("home"), **parts)
        sent = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
        return TestClient(app, base_url=ORIGIN, headers=sent, raise_server_exceptions=True, follow_redirects=False)

    return client


@pytest.fixture
def api(opened: Opened) -> TestClient:
    """The owner's own client."""
    return opened()
