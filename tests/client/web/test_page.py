"""The page without a browser: both languages whole, nothing inline, a closed list of files, a language that is remembered."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from client.music.catalogue import read_catalogue
from client.music.listens import read_listens
from client.web.page import ROOMS, assets, page_routes, words
from model.emotions import EMOTIONS
from model.refusal import Refusal

WEB = Path(str(resources.files("client.web")))
SOURCES = {path.name: path.read_text(encoding="utf-8") for folder in ("templates", "static") for path in (WEB / folder).iterdir()}
SCRIPTS = {name: source for name, source in SOURCES.items() if name.endswith(".js")}
TEMPLATES = {name: source for name, source in SOURCES.items() if name.endswith(".html")}


@pytest.fixture
def page() -> TestClient:
    """The page's routes alone."""
    app = FastAPI()
    app.include_router(page_routes())
    return TestClient(app)


def used(key: str) -> bool:
    """Whether some template or script asks for this word: whole, or by its beginning or end with the rest put in."""
    dots = [place for place, letter in enumerate(key) if letter == "."]
    asked = [
        f'"{key}"',
        *(f'"{key[: dot + 1]}" ~' for dot in dots),
        *(f"`{key[: dot + 1]}$" for dot in dots),
        *(f'~ "{key[dot:]}"' for dot in dots),
    ]
    return any(one in source for one in asked for source in SOURCES.values())


def test_every_word_is_said_in_both_languages_with_the_same_gaps() -> None:
    for key, both in words().items():
        assert len(both) == 2, key
        assert all(both), key
        gaps = [set(re.findall(r"\{(\w+)\}", one)) for one in both]
        assert gaps[0] == gaps[1] or key == "reading.agreed", key


def test_korean_is_korean_and_english_is_english() -> None:
    hangul = re.compile("[가-힣]")
    assert [key for key, (_, english) in words().items() if hangul.search(english)] == []
    names = {"nothing to translate": ("sorry.title", "bytes", "place.", "map.point")}
    untranslated = [key for key, (korean, _) in words().items() if not hangul.search(korean)]
    assert [key for key in untranslated if not key.startswith(names["nothing to translate"])] == []


def test_every_word_that_is_asked_for_exists_and_none_is_left_over() -> None:
    asked = {key for source in SCRIPTS.values() for key in re.findall(r'say\("([\w.]+)"', source)}
    asked |= {key for source in TEMPLATES.values() for key in re.findall(r'(?:say|label|word)\("([\w.]+)"\)', source)}
    assert asked - set(words()) == set()
    assert [key for key in words() if not used(key)] == []


def test_nothing_in_the_page_is_inline_or_from_elsewhere() -> None:
    """What the content policy would refuse; Chromium's console is watched in tests/browser."""
    for name, source in TEMPLATES.items():
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", source), name
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", source), name
    for name, source in SCRIPTS.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|setAttribute\(\"style", source), name
        assert not re.search(r"localStorage|sessionStorage|indexedDB|caches\.", source), name


def test_a_diary_box_tells_the_browser_to_keep_and_send_nothing() -> None:
    """A browser may write form fields to disk, and may send text away to check its spelling."""
    boxes = re.findall(r"<textarea[^>]*>", "".join(TEMPLATES.values())) + re.findall(
        r'make\("textarea", \{[^}]*\}', "".join(SCRIPTS.values())
    )
    assert len(boxes) == 2
    for box in boxes:
        assert re.search(r'autocomplete(?:=|: )"off"', box)
        assert re.search(r'spellcheck(?:=|: )"false"', box)


def test_scripts_import_only_what_is_there() -> None:
    for name, source in SCRIPTS.items():
        for imported, module in re.findall(r'import \{([^}]*)\} from "\./([\w.]+)"', source):
            for what in imported.split(","):
                assert re.search(rf"export (?:async )?(?:function|const|class) {what.strip()}\b", SCRIPTS[module]), (name, module, what)
                assert len(re.findall(rf"\b{what.strip()}\b", source)) > 1, f"{name} imports {what.strip()} and does not use it"


@pytest.mark.parametrize("path", list(ROOMS))
def test_each_room_is_korean_first_and_english_once_chosen(path: str, page: TestClient) -> None:
    korean = page.get(path)
    assert '<html lang="ko">' in korean.text
    assert korean.headers["cache-control"] == "no-store"
    english = page.get(path, headers={"cookie": "language=en"})
    assert '<html lang="en">' in english.text
    assert not re.search("[가-힣]", english.text.replace("한국어", ""))
    assert page.get(path, headers={"cookie": 'language="><script>; healing=x'}).text == korean.text


def test_the_list_of_files_is_closed(page: TestClient) -> None:
    for name, asset in assets().items():
        answer = page.get(f"/static/{name}")
        assert (answer.status_code, answer.content) == (200, asset.content)
        assert answer.headers["content-type"].split(";")[0] in ("text/css", "text/javascript", "image/svg+xml", "application/json")
    for name in ("nothing.js", "..%2fpage.py", "%2e%2e/page.py", "..\\page.py", "%2fetc%2fpasswd", "words.json%00.js"):
        assert page.get(f"/static/{name}").status_code == 404, name


def test_what_templates_and_scripts_load_is_served() -> None:
    asked = set(re.findall(r"/static/([\w.]+)", "".join(SOURCES.values()))) | {f"{room}.js" for room in ROOMS.values()}
    assert asked - {""} <= set(assets())


def test_names_and_colours_of_the_emotions_are_the_models_own() -> None:
    colours = assets()["emotions.css"].content.decode()
    said = json.loads(assets()["words.json"].content)
    for emotion in EMOTIONS:
        assert f"--{emotion.en}: {emotion.colour};" in colours
        assert said[f"emotion.{emotion.en}"] == [emotion.ko, emotion.en]


SONGS = {
    ".csv": "title,artist\n섬,나\n",
    ".jspf": '{"playlist": {"track": [{"title": "섬", "creator": "나"}]}}',
    ".json": '{"playlist": {"track": [{"title": "섬", "creator": "나"}]}}',
    ".xspf": '<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track><title>섬</title><creator>나</creator></track></trackList></playlist>',
    ".m3u8": "#EXTM3U\n#EXTINF:1,나 - 섬\na.mp3\n",
    ".m3u": "#EXTM3U\n#EXTINF:1,나 - 섬\na.mp3\n",
    ".zip": "PK\x03\x04",
    ".txt": "섬, 나",
}
HEARD = '{"listened_at": 1700000000, "track_metadata": {"artist_name": "나", "track_name": "섬"}}'
LISTENS = {".json": f"[{HEARD}]", ".jsonl": f"{HEARD}\n{HEARD}\n", ".zip": "PK\x03\x04", ".csv": "title,artist\n섬,나\n"}


def offered(id: str) -> set[str]:
    """The endings that a file box offers."""
    box = re.search(rf'<input id="{id}"[^>]*accept="([^"]*)"', TEMPLATES["music.html"])
    assert box
    return {ending for ending in box[1].split(",") if ending.startswith(".")}


def test_a_file_box_offers_what_the_device_takes_in_and_nothing_else(tmp_path: Path) -> None:
    songs, listens = set(), set()
    for ending, content in SONGS.items():
        (file := tmp_path / f"own{ending}").write_text(content, encoding="utf-8")
        try:
            songs |= {ending for _ in read_catalogue(file).songs}
        except Refusal:
            continue
    for ending, content in LISTENS.items():
        try:
            listens |= {ending for _ in read_listens(io.BytesIO(content.encode()), now=datetime.now(UTC))}
        except Refusal:
            continue
    assert offered("songs-file") == songs
    assert offered("listens-file") == listens


def test_the_page_says_of_a_link_that_it_was_opened_and_never_that_the_song_was_played() -> None:
    assert 'send("opened")' in SCRIPTS["songs.js"]
    assert not [name for name, source in SCRIPTS.items() if '"played"' in source]
