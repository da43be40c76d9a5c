"""Where a text speaks of self-harm: no feeling is named and songs are gentle, on every way in, also while no model can read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from starlette.testclient import TestClient

from client.api.api import create_app
from client.home import DevicePolicy, Home
from client.music.gentle_songs import GENTLE
from client.music.playlist import bundled_songs
from client.reading.reading import Reading
from model.emotions import Emotion

DARK = "이제 다 그만두고 죽고 싶다는 생각만 든다"
HIDDEN = "죽\u200b고\u2060 싶\u00ad다"
PLAIN = "배고파 죽겠다. 한강 공원에서 치맥 먹어야지"
JOYFUL = Reading(probabilities=(0.97, 0.01, 0.01, 0.01), version=1, digest="0" * 64)
VERDICTS = ("joy", "기쁨", "0.97")
TOKEN = "test-token-0123456789"  # noqa: S105


class Joyful:
    """A reader that reads joy everywhere: the worst that could be shown above such a text."""

    serving = refused = None
    history = ()

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def read_soon(self, text: str) -> Reading:
        """Joy, whatever the text."""
        self.asked.append(text)
        return JOYFUL


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A Home without a model."""
    return Home.create(tmp_path_factory.mktemp("care") / "home", DevicePolicy())


@pytest.fixture
def api(home: Home) -> Iterator[TestClient]:
    """The owner's client of a device that reads joy everywhere."""
    app = create_app(home, reader=Joyful(), songs=bundled_songs(), token=TOKEN)  # type: ignore[arg-type]
    with TestClient(app, base_url="http://127.0.0.1:8000", headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.mark.parametrize("text", [DARK, HIDDEN])
def test_a_prediction_is_a_word_of_care_and_names_no_feeling(api: TestClient, text: str) -> None:
    answer = api.post("/v1/predict", json={"text": text})
    told = answer.json()
    assert (told["emotion"], told["emotion_ko"], told["probabilities"], told["model"]) == (None, None, None, None)
    assert [line["number"] for line in told["care"]["lines"]] == ["109", "1577-0199"]
    assert told["care"]["phone"] == "109"
    assert not any(verdict in answer.text for verdict in VERDICTS)


def test_the_model_is_not_asked_about_such_a_text_that_is_not_kept(home: Home) -> None:
    reader = Joyful()
    client = TestClient(create_app(home, reader=reader, songs=bundled_songs(), token=TOKEN))  # type: ignore[arg-type]
    client.headers |= {"Authorization": f"Bearer {TOKEN}", "Host": "127.0.0.1:8000"}
    for path in ("/v1/predict", "/v1/recommendations"):
        assert client.post(path, json={"text": DARK}).json()["care"] is not None
    assert reader.asked == []


def test_what_only_looks_so_is_read_as_ever(api: TestClient) -> None:
    told = api.post("/v1/predict", json={"text": PLAIN}).json()
    assert (told["emotion"], told["care"], told["model"]["version"]) == ("joy", None, 1)
    assert api.post("/v1/entries", json={"text": PLAIN}).json()["reading"]["emotion"] == "joy"
    assert len(api.post("/v1/recommendations", json={"text": PLAIN, "count": 3}).json()["songs"]) == 3


@pytest.mark.parametrize("way", ["written", "kept with a reading", "imported unread", "changed"])
def test_an_entry_shows_care_and_no_reading_however_it_came_to_be(api: TestClient, home: Home, way: str) -> None:
    if way == "written":
        number = api.post("/v1/entries", json={"text": DARK}).json()["number"]
    elif way == "changed":
        number = api.post("/v1/entries", json={"text": PLAIN}).json()["number"]
        assert api.patch(f"/v1/entries/{number}", json={"text": DARK}).json()["reading"] is None
    else:
        number = home.diary.add(DARK, day=date(2026, 3, 1), reading=JOYFUL if way == "kept with a reading" else None)
    for answer in (api.get(f"/v1/entries/{number}"), api.post(f"/v1/entries/{number}/reading"), api.get("/v1/entries")):
        assert answer.status_code == 200
        assert not any(verdict in answer.text for verdict in VERDICTS)
        told = answer.json().get("entries", [answer.json()])[0]
        assert (told["reading"], told["emotion"], told["care"]["phone"]) == (None, None, "109")
    insights = api.get("/v1/insights").json()
    assert (insights["calendar"], insights["map"]) == ([], [])


def test_the_persons_own_word_stays_theirs(api: TestClient) -> None:
    number = api.post("/v1/entries", json={"text": DARK}).json()["number"]
    told = api.put(f"/v1/entries/{number}/emotion", json={"emotion": "sadness"}).json()
    assert (told["emotion"], told["reading"]) == ("sadness", None)
    assert api.get("/v1/insights").json()["calendar"][0]["emotion"] == "sadness"


@pytest.mark.parametrize("mode", ["stay", "shift", "calm"])
@pytest.mark.parametrize("count", [1, 5, 50])
def test_songs_come_on_demand_from_the_gentle_ones_alone(api: TestClient, home: Home, mode: str, count: int) -> None:
    number = home.diary.add(DARK, day=date(2026, 3, 1), reading=JOYFUL, emotion=Emotion.JOY)
    entry, text = {"entry": number, "mode": mode, "count": count}, {"text": DARK, "mode": mode, "count": count}
    for first in (api.get("/v1/recommendations", params=entry), api.post("/v1/recommendations", json=text)):
        assert (first.json()["songs"], first.json()["care"]["phone"]) == ([], "109")
    for answer in (
        api.get("/v1/recommendations", params=entry | {"anyway": True}),
        api.post("/v1/recommendations", json=text | {"anyway": True}),
    ):
        told = answer.json()
        assert [(song["title"], song["artist"]) for song in told["songs"]] == list(GENTLE[:count])
        assert (told["mode"], told["care"]["phone"]) == ("calm", "109")
        assert len({song["why"] for song in told["songs"]}) == 1
        tracks = api.get(f"/v1/playlists/{told['id']}").json()["playlist"]["track"]
        assert [track["title"] for track in tracks] == [title for title, _ in GENTLE[:count]]


def test_a_gentle_song_that_the_person_dislikes_does_not_come_again(api: TestClient) -> None:
    wish = {"text": DARK, "anyway": True, "count": 50}
    first = api.post("/v1/recommendations", json=wish).json()
    key = first["songs"][0]["key"]
    assert api.post("/v1/feedback", json={"song": key, "event": "disliked", "playlist": first["id"]}).status_code == 204
    assert [song["key"] for song in api.post("/v1/recommendations", json=wish).json()["songs"]] == [
        song["key"] for song in first["songs"][1:]
    ]


def test_an_answer_of_care_fits_the_form_that_the_reference_promises(api: TestClient) -> None:
    forms = api.get("/openapi.json").json()["components"]["schemas"]
    kinds = {kind.get("type") for kind in forms["Prediction"]["properties"]["emotion"]["anyOf"]}
    assert kinds == {"string", "null"}
    assert set(forms["Care"]["required"]) == {"message", "message_en", "phone", "lines"}
