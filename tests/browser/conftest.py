"""A real Chromium before a real server on a real Home, filled with two months; skipped where no Chromium is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pytest

from client.api.access import Access
from client.home import DevicePolicy, Home
from client.reading.reading import Reading
from model.checkpoint import FIRST_MODEL
from model.emotions import EMOTIONS
from model.hub import find_checkpoints

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `dev` brings playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SHOTS = Path(os.environ.get("HEALING_SCREENSHOTS", Path(__file__).parents[2] / "runs" / "screenshots"))
LINES = (
    "친구가 보낸 사진을 보고 한참 웃었다. 저녁 바람이 좋았다.",
    "비가 왔다. 오래된 노래를 들으며 엄마 생각을 했다.",
    "버스에서 누가 밀치고 사과도 없이 가 버렸다. 회의에서도 말이 잘렸다.",
    "내일 발표가 자꾸 머릿속을 맴돈다. 잠이 오지 않는다.",
    "고양이가 무릎에서 잠들었다. 아무것도 하지 않아도 좋은 오후.",
)
SERVE = """
import sys
from pathlib import Path
from client.home import Home
from client.api.serve import Address, serve
serve(Home(Path(sys.argv[1])), Address(port=0), engine="torch", tell=lambda address: print(address, flush=True))
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser these tests say so and stand aside."""
    if CHROMIUM is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="no Chromium here; `apt-get install chromium` brings it"))


@dataclass
class Served:
    """A running device: its Home, its page's address, and how to be let in."""

    home: Home
    address: str
    access: Access

    def login(self) -> str:
        """An address that is good for one login."""
        return f"{self.address}/?token={self.access.invite()}"


@dataclass
class Watched:
    """A tab, and whatever its console complained of."""

    page: sync_api.Page
    complaints: list[str] = field(default_factory=list)


def filled(root: Path) -> Home:
    """A Home with emotion-v2 and two months of entries, some of them confirmed; read by nobody in particular."""
    home = Home.create(root, DevicePolicy())
    shutil.copytree(find_checkpoints(FIRST_MODEL), home.checkpoints.root, dirs_exist_ok=True)
    digest = home.checkpoints.manifest(1).digest
    for past in range(60, 0, -1):
        if past % 7 in (0, 3):
            continue
        likely = (past * past) % 5 % 4
        reading = Reading(probabilities=tuple(0.7 if each == likely else 0.1 for each in range(4)), version=1, digest=digest)
        emotion = EMOTIONS[likely] if past % 3 else None
        home.diary.add(LINES[past % len(LINES)], day=date.today() - timedelta(past), reading=reading, emotion=emotion)
    return home


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server process for all of these tests."""
    home = filled(tmp_path_factory.mktemp("browser") / "home")
    command = [sys.executable, "-c", SERVE, str(home.root)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=one_thread)
    with process:
        assert process.stdout is not None
        found = re.match(r"(http://127\.0\.0\.1:\d+)/\?token=", process.stdout.readline())
        try:
            assert found, "the server printed no address"
            yield Served(home, found[1], Access(home.root / "access.json"))
        finally:
            process.terminate()


@pytest.fixture(scope="package")
def browser() -> Iterator[sync_api.Browser]:
    """One Chromium for all of these tests."""
    sync_api.expect.set_options(timeout=30_000)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


Opened = Callable[..., Watched]


@pytest.fixture(scope="package")
def session(served: Served, browser: sync_api.Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cookie of one login, for every tab that needs one."""
    path = tmp_path_factory.mktemp("session") / "state.json"
    context = browser.new_context()
    context.new_page().goto(served.login(), wait_until="commit")
    context.storage_state(path=path)
    context.close()
    return path


@pytest.fixture
def opened(served: Served, browser: sync_api.Browser, session: Path) -> Iterator[Opened]:
    """A tab of a person who is logged in: ``opened(path, width=360, scheme="dark")``. No console may complain."""
    contexts, tabs = [], []

    def open_tab(path: str = "/", *, width: int = 1280, scheme: str = "light", zone: str | None = None, logged_in: bool = True) -> Watched:
        context = browser.new_context(
            base_url=served.address,
            storage_state=session if logged_in else None,
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            reduced_motion="reduce",
            locale="ko-KR",
            timezone_id=zone,
        )
        watched = Watched(context.new_page())
        watched.page.set_default_timeout(30_000)
        watched.page.on("console", lambda said: said.type in ("error", "warning") and watched.complaints.append(said.text))
        watched.page.on("pageerror", lambda error: watched.complaints.append(str(error)))
        contexts.append(context)
        tabs.append(watched)
        watched.page.goto(path)
        watched.page.wait_for_load_state("networkidle")
        return watched

    yield open_tab
    for context in contexts:
        context.close()
    assert [complaint for tab in tabs for complaint in tab.complaints] == []


@pytest.fixture
def shot() -> Callable[[sync_api.Page, str], None]:
    """Keep a picture of the whole page, for people to look at."""

    def take(page: sync_api.Page, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png", full_page=True)

    return take
