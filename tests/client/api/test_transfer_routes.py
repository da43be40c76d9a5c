"""A life goes out and in over HTTP: what leaves comes back, looking keeps nothing, an import can be taken back, nothing lies about."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from client.api.api import create_app
from client.diary.archive import open_archive
from client.home import DevicePolicy, Home
from client.music.catalogue import bundled_songs
from client.reading.reader import EmotionReader
from client.vault import Passphrase
from model.emotions import Emotion

WORDS = "보관함의 열쇠 말"
TABLE = "제목,내용,날짜,감정,날씨\n첫날,짐을 풀었다,2024-05-01,행복,맑음\n,둘째 글,2024년 5월 2일,기쁨,\n,셋째 글,,,\n,넷째,언젠가,,\n"


@pytest.fixture
def own(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", DevicePolicy())


@pytest.fixture
def api(own: Home) -> Iterator[TestClient]:
    """The API of a Home that no model reads in."""
    reader = EmotionReader(own)
    app = create_app(own, reader=reader, songs=bundled_songs(), token="t" * 43)
    yield TestClient(app, base_url="http://127.0.0.1", headers={"Authorization": f"Bearer {'t' * 43}"})
    reader.close()


def texts(home: Home) -> list[str]:
    return [record.entry.text for record in home.diary.records()]


def left_in(home: Home) -> list[str]:
    return [path.name for path in home.root.iterdir() if path.name.startswith(".arriving")]


def test_a_file_is_looked_into_taken_in_known_again_and_taken_back(api: TestClient, own: Home) -> None:
    own.diary.add("먼저 있던 글")
    look = api.post("/v1/import/look", params={"ending": "csv"}, content=TABLE.encode())
    assert look.status_code == 200
    assert (look.json()["added"], own.diary.count()) == (3, 1)
    done = api.post("/v1/import", params={"ending": "csv"}, content=TABLE.encode("cp949")).json()
    assert (done["added"], done["known"], done["undated"], done["unplaced"]) == (3, 0, ["line 4"], ["line 2"])
    assert done["bad"] == [{"place": "line 5", "reason": "a day that is none; write it as 2024-05-01"}]
    assert done["left"] == {"weather": 1}
    assert texts(own) == ["먼저 있던 글", "첫날\n짐을 풀었다", "둘째 글", "셋째 글"]
    again = api.post("/v1/import", params={"ending": "csv"}, content=TABLE.encode()).json()
    assert (again["added"], again["known"]) == (0, 3)
    assert api.delete("/v1/import").json() == {"forgotten": 3}
    assert texts(own) == ["먼저 있던 글"]
    refused = api.delete("/v1/import")
    assert (refused.status_code, "no import can be taken back" in refused.json()["detail"]) == (422, True)
    assert left_in(own) == []


@pytest.mark.parametrize("form", ["archive", "json", "csv"])
def test_what_is_taken_out_comes_back(api: TestClient, own: Home, form: str, tmp_path: Path) -> None:
    own.diary.add("글 하나", emotion=Emotion.JOY)
    own.diary.add("글 둘\r\n둘째 줄 ", teaches=False)
    own.diary.revise("taste", lambda _: '{"songs": {}}')
    answer = api.post("/v1/export", json={"form": form, "passphrase": WORDS})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="feelinghealing.{form}"'
    assert answer.headers["cache-control"] == "no-store"
    if form == "archive":
        assert "글 하나".encode() not in answer.content
        assert json.loads(open_archive(io.BytesIO(answer.content), Passphrase(WORDS)))["entries"][0]["text"] == "글 하나"
    before = list(own.diary.records())
    own.diary.forget_all([1, 2])
    done = api.post("/v1/import", params={"ending": form}, content=answer.content, headers={"Archive-Passphrase": quote(WORDS)})
    assert done.json()["added"] == 2
    assert list(own.diary.records()) == before


def test_an_archives_passphrase_is_asked_for_and_a_wrong_one_is_refused(api: TestClient, own: Home) -> None:
    own.diary.add("글")
    assert api.post("/v1/export", json={}).status_code == 422
    assert api.post("/v1/export", json={"passphrase": "짧다"}).status_code == 422
    assert api.post("/v1/export", json={"form": "markdown"}).status_code == 422
    content = api.post("/v1/export", json={"passphrase": WORDS}).content
    for headers, said in (({}, "send its passphrase"), ({"Archive-Passphrase": quote("다른 열쇠 말이다")}, "does not open the archive")):
        answer = api.post("/v1/import", params={"ending": "archive"}, content=content, headers=headers)
        assert answer.status_code == 422
        assert said in answer.json()["detail"] + answer.json()["next"]
    assert left_in(own) == []


@pytest.mark.parametrize(
    ("ending", "content"),
    [("csv", b""), ("csv", "비밀,글\n비밀\n".encode()), ("xlsx", b"PK\x03\x04"), ("zip", b"PK\x03\x04"),
     ("json", b"[" * 100_000), ("txt", "비밀".encode()),
     ("jsonl", b"\xff\xfe\x00"), ("daylio", b"\x00"), ("archive", b"x")],
)  # fmt: skip
def test_what_is_no_diary_is_refused_and_leaves_nothing(api: TestClient, own: Home, ending: str, content: bytes) -> None:
    answer = api.post("/v1/import", params={"ending": ending}, content=content)
    assert answer.status_code == 422, answer.text
    assert "비밀" not in answer.text
    assert str(own.root) not in answer.text
    assert ".arriving" not in answer.text
    assert (left_in(own), own.diary.count()) == ([], 0)


def test_the_ending_and_nothing_else_of_a_name_is_taken(api: TestClient) -> None:
    assert api.post("/v1/import", params={"ending": "../../x.csv"}, content=b"text\n1\n").status_code == 422
    assert api.post("/v1/import", content=b"text\n1\n").status_code == 422
    assert api.post("/v1/import", params={"ending": "csv", "name": "일기.csv"}, content=b"text\n1\n").status_code == 422


def test_the_numbers_of_an_import_never_travel_to_another_diary(api: TestClient, own: Home) -> None:
    api.post("/v1/import", params={"ending": "csv"}, content=TABLE.encode())
    document = api.post("/v1/export", json={"form": "json"}).json()
    assert "last-import" not in document["documents"]
    document["documents"]["last-import"] = "[1]"
    own.diary.forget_all(range(1, 9))
    own.diary.revise("last-import", lambda _: "[]")
    api.post("/v1/import", params={"ending": "json"}, content=json.dumps({**document, "entries": []}).encode())
    assert api.delete("/v1/import").status_code == 422
