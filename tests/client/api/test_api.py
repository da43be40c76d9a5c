"""Every route does what it says, on a real diary, reader and catalogue."""

from __future__ import annotations

import asyncio
import csv
import json
import tracemalloc
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from client.home import Home
from client.participation import Participation
from client.reading.reader import EmotionReader
from client.reading.reading import Reading
from client.sent import note_sent
from model.emotions import EMOTIONS, Emotion
from privacy.plan import PrivacyPlan

Opened = Callable[..., TestClient]

JOYFUL = "친구가 편지를 보내 하루 종일 웃었다"
ANXIOUS = "내일 시험이라 너무 떨려서 잠이 오지 않는다"
DARK = "더는 버틸 수 없다. 죽고 싶다"


def test_a_prediction_is_the_readers_own_and_keeps_nothing(api: TestClient, reader: EmotionReader, home: Home) -> None:
    answer = api.post("/v1/predict", json={"text": ANXIOUS}).json()
    [read] = reader.read([ANXIOUS])
    assert answer["emotion"] == read.emotion.en == "anxiety"
    assert answer["emotion_ko"] == "불안"
    assert [answer["probabilities"][emotion.en] for emotion in EMOTIONS] == pytest.approx(read.probabilities, abs=1e-6)
    assert answer["unsure"] is read.unsure
    assert answer["model"] == {"version": read.version, "digest": read.digest}
    assert answer["care"] is None
    assert home.diary.count() == 0


def test_an_entry_is_kept_read_and_found_again(api: TestClient, home: Home) -> None:
    sent = {"text": JOYFUL, "day": "2026-03-01", "emotion": "기쁨", "feelings": ["anxiety", "불안"], "teaches": False}
    made = api.post("/v1/entries", json=sent)
    assert made.status_code == 201
    kept = home.diary.entry(made.json()["number"])
    assert (kept.text, kept.day, kept.emotion, kept.feelings, kept.teaches) == (
        JOYFUL, date(2026, 3, 1), Emotion.JOY, (Emotion.ANXIETY,), False,
    )  # fmt: skip
    assert kept.reading is not None
    assert made.json()["reading"]["emotion"] == kept.reading.emotion.en
    assert api.get(f"/v1/entries/{kept.number}").json() == made.json()
    assert home.diary.labelled() == []


def test_entries_are_searched_and_paged_newest_day_first(api: TestClient) -> None:
    for day in range(1, 8):
        api.post("/v1/entries", json={"text": f"산책 {day}", "day": f"2026-03-0{day}", "emotion": "joy" if day % 2 else "sadness"})
    page = api.get("/v1/entries", params={"limit": 3, "offset": 2}).json()
    assert [entry["text"] for entry in page["entries"]] == ["산책 5", "산책 4", "산책 3"]
    assert (page["total"], page["limit"], page["offset"]) == (7, 3, 2)
    sad = api.get("/v1/entries", params={"emotion": "슬픔", "since": "2026-03-03", "until": "2026-03-06"}).json()
    assert [entry["day"] for entry in sad["entries"]] == ["2026-03-06", "2026-03-04"]
    assert [entry["text"] for entry in api.get("/v1/entries", params={"text": "책 7"}).json()["entries"]] == ["산책 7"]


def test_a_changed_text_is_read_anew_and_what_is_left_out_stays(api: TestClient) -> None:
    made = api.post("/v1/entries", json={"text": JOYFUL, "day": "2026-03-01", "feelings": ["joy"]}).json()
    changed = api.patch(f"/v1/entries/{made['number']}", json={"text": ANXIOUS}).json()
    assert changed["reading"]["emotion"] == "anxiety"
    assert changed["edited"] is not None
    assert (changed["day"], changed["feelings"]) == ("2026-03-01", ["joy"])
    moved = api.patch(f"/v1/entries/{made['number']}", json={"day": "2026-02-28", "feelings": [], "teaches": False}).json()
    assert (moved["day"], moved["feelings"], moved["teaches"], moved["text"]) == ("2026-02-28", [], False, ANXIOUS)


class Paused:
    """A reader that lets something happen between a text's reading and its answer."""

    def __init__(self, reader: EmotionReader) -> None:
        self._reader = reader
        self.meanwhile: list[Callable[[], object]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def read_soon(self, text: str) -> Reading:
        read = await self._reader.read_soon(text)
        if self.meanwhile:
            self.meanwhile.pop()()
        return read


@pytest.mark.parametrize("again", [False, True], ids=["a change", "a reading"])
def test_a_text_that_is_changed_while_it_is_read_does_not_get_the_old_ones_reading(
    opened: Opened, reader: EmotionReader, home: Home, *, again: bool
) -> None:
    paused = Paused(reader)
    api = opened(reader=paused)
    number = api.post("/v1/entries", json={"text": JOYFUL}).json()["number"]
    paused.meanwhile.append(lambda: home.diary.rewrite(number, text=ANXIOUS))
    first = f"{JOYFUL}!"
    told = api.post(f"/v1/entries/{number}/reading") if again else api.patch(f"/v1/entries/{number}", json={"text": first})
    assert told.status_code == 200
    assert (told.json()["text"], told.json()["reading"]) == (ANXIOUS, None)
    assert home.diary.entry(number).reading is None


def test_a_correction_is_a_label_and_undo_restores(api: TestClient, home: Home) -> None:
    number = api.post("/v1/entries", json={"text": JOYFUL, "emotion": "joy"}).json()["number"]
    assert api.put(f"/v1/entries/{number}/emotion", json={"emotion": "불안"}).json()["emotion"] == "anxiety"
    assert [example.emotion for example in home.diary.labelled()] == [Emotion.ANXIETY]
    assert api.delete(f"/v1/entries/{number}/emotion").json()["emotion"] == "joy"
    assert api.delete(f"/v1/entries/{number}/emotion").json()["emotion"] is None
    assert home.diary.labelled() == []
    assert api.delete(f"/v1/entries/{number}/emotion").status_code == 409


def test_a_forgotten_entry_is_gone_everywhere(api: TestClient, home: Home) -> None:
    number = api.post("/v1/entries", json={"text": JOYFUL, "emotion": "joy"}).json()["number"]
    assert api.delete(f"/v1/entries/{number}").status_code == 204
    assert (home.diary.count(), home.diary.labelled()) == (0, [])
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("PUT", "/emotion"), ("DELETE", "/emotion"), ("POST", "/reading")):
        body = {"PATCH": {}, "PUT": {"emotion": "joy"}}.get(method)
        answer = api.request(method, f"/v1/entries/{number}{path}", json=body)
        assert answer.status_code == 404, (method, path)
        assert answer.json()["type"] == "/docs#not-found"


def test_songs_come_for_an_entry_an_emotion_or_a_text_with_reasons_and_links(api: TestClient) -> None:
    number = api.post("/v1/entries", json={"text": ANXIOUS}).json()["number"]
    answers = [
        api.get("/v1/recommendations", params={"entry": number, "mode": "calm", "count": 4}),
        api.get("/v1/recommendations", params={"emotion": "불안", "mode": "shift", "count": 4}),
        api.post("/v1/recommendations", json={"text": ANXIOUS, "mode": "stay", "count": 4}),
    ]
    for answer, mode in zip(answers, ("calm", "shift", "stay"), strict=True):
        told = answer.json()
        assert (told["mode"], len(told["songs"]), told["care"]) == (mode, 4, None)
        assert all(song["why"] and song["why_en"] and song["links"]["melon"].startswith("https://") for song in told["songs"])
    assert len({answer.json()["id"] for answer in answers}) == 3


def test_songs_are_for_one_thing_at_a_time(api: TestClient) -> None:
    for params in ({}, {"entry": 1, "emotion": "joy"}):
        assert api.get("/v1/recommendations", params=params).status_code == 422


def test_where_a_text_speaks_of_self_harm_care_comes_first_and_songs_on_demand(api: TestClient) -> None:
    entry = api.post("/v1/entries", json={"text": DARK}).json()
    assert entry["care"]["phone"] == "109"
    assert api.post("/v1/predict", json={"text": DARK}).json()["care"] == entry["care"]
    first = api.get("/v1/recommendations", params={"entry": entry["number"]}).json()
    assert (first["songs"], first["care"]) == ([], entry["care"])
    anyway = api.get("/v1/recommendations", params={"entry": entry["number"], "anyway": True, "count": 3}).json()
    assert (len(anyway["songs"]), anyway["care"]) == (3, entry["care"])
    assert api.post("/v1/recommendations", json={"text": DARK}).json()["songs"] == []
    assert len(api.post("/v1/recommendations", json={"text": DARK, "anyway": True, "count": 2}).json()["songs"]) == 2


def test_feedback_teaches_and_is_remembered_by_the_next_server(opened: Opened, api: TestClient, home: Home) -> None:
    made = api.get("/v1/recommendations", params={"emotion": "joy", "count": 2}).json()
    disliked = made["songs"][0]["key"]
    assert api.post("/v1/feedback", json={"song": disliked, "event": "disliked", "playlist": made["id"]}).status_code == 204
    again = opened()
    assert again.get(f"/v1/playlists/{made['id']}").status_code == 200
    for _ in range(5):
        songs = again.get("/v1/recommendations", params={"emotion": "joy", "count": 50}).json()["songs"]
        assert disliked not in {song["key"] for song in songs}
    assert json.loads(home.diary.kept("taste") or "{}")["events"] == 1


def test_a_like_can_be_taken_back_once(opened: Opened, api: TestClient, home: Home) -> None:
    song = api.get("/v1/recommendations", params={"emotion": "joy", "count": 1}).json()["songs"][0]["key"]
    tell = {event: {"song": song, "event": event} for event in ("liked", "unliked")}
    assert api.post("/v1/feedback", json=tell["liked"]).status_code == 204
    assert json.loads(home.diary.kept("taste") or "{}")["songs"][song]["liked"]
    assert opened().post("/v1/feedback", json=tell["unliked"]).status_code == 204
    assert "liked" not in json.loads(home.diary.kept("taste") or "{}")["songs"][song]
    assert opened().post("/v1/feedback", json=tell["unliked"]).status_code == 409


@pytest.mark.parametrize("told", [{"song": "nothing"}, {"playlist": "nothing"}, {"entry": 99}], ids=str)
def test_feedback_on_what_is_not_here_is_not_found(api: TestClient, told: dict[str, object]) -> None:
    song = api.get("/v1/songs", params={"limit": 1}).json()["songs"][0]["key"]
    assert api.post("/v1/feedback", json={"song": song, "event": "played"} | told).status_code == 404


def test_a_playlist_leaves_in_three_formats(api: TestClient) -> None:
    made = api.get("/v1/recommendations", params={"emotion": "sadness", "count": 5}).json()
    titles = [song["title"] for song in made["songs"]]
    jspf, xspf, m3u8 = (api.get(f"/v1/playlists/{made['id']}", params={"format": format}) for format in ("jspf", "xspf", "m3u8"))
    assert [track["title"] for track in jspf.json()["playlist"]["track"]] == titles
    tracks = ElementTree.fromstring(xspf.content).iter("{http://xspf.org/ns/0/}track")  # noqa: S314 - our own
    assert [track.findtext("{http://xspf.org/ns/0/}title") for track in tracks] == titles
    assert m3u8.text.startswith("#EXTM3U")
    assert all(title in m3u8.text for title in titles)
    assert 'filename="feelinghealing.m3u8"' in m3u8.headers["content-disposition"]
    assert api.get("/v1/playlists/unknown").status_code == 404


def test_songs_are_found_by_every_word(api: TestClient) -> None:
    some = api.get("/v1/songs", params={"limit": 5}).json()
    assert (len(some["songs"]), some["total"] >= 240) == (5, True)
    song = some["songs"][0]
    found = api.get("/v1/songs", params={"text": f"{song['artist']} {song['title']}".upper()}).json()
    assert song["key"] in {one["key"] for one in found["songs"]}
    assert api.get("/v1/songs", params={"text": "이런제목의노래는없다"}).json() == {"songs": [], "total": 0, "faults": []}


def test_a_diary_with_broken_music_is_served_and_the_music_says_what_is_wrong(opened: Opened, home: Home) -> None:
    home.songs.mkdir()
    (home.songs / "own-0000.csv").touch()
    home.diary.revise("taste", lambda _: "{")
    api = opened()
    assert api.get("/v1/entries").status_code == 200
    assert len(api.get("/v1/songs").json()["faults"]) == 2


def test_a_forgotten_entry_takes_along_the_mood_that_its_songs_were_for(api: TestClient, home: Home) -> None:
    number = api.post("/v1/entries", json={"text": "텅 빈 방에 혼자 앉아 있으니 자꾸 눈물이 난다"}).json()["number"]
    made = api.get("/v1/recommendations", params={"entry": number}).json()
    mood = json.dumps(home.diary.entry(number).reading.probabilities)[1:-1]
    assert mood in home.diary.documents()["playlists"]
    assert api.delete(f"/v1/entries/{number}").status_code == 204
    assert mood not in home.diary.documents()["playlists"]
    told = {"song": made["songs"][0]["key"], "event": "liked", "playlist": made["id"]}
    assert api.post("/v1/feedback", json=told).status_code == 204


def test_a_catalogue_of_ones_own_is_taken_in_and_stays(opened: Opened, api: TestClient) -> None:
    rows = "title,artist\n나만 아는 노래,어느 가수\n둘째 노래,어느 가수\n"
    assert api.post("/v1/songs/import", content=rows.encode()).json() == {"imported": 2, "skipped": 0}
    for client in (api, opened()):
        assert client.get("/v1/songs", params={"text": "나만 아는"}).json()["total"] == 1


def test_the_shared_catalogue_comes_in_whole_with_its_attributions(api: TestClient, shared_data: Path) -> None:
    content = (shared_data / "music" / "catalogue.csv").read_bytes()
    told = api.post("/v1/songs/import", content=content).json()
    assert told["imported"] == 1414
    row = next(csv.DictReader(content.decode().splitlines()))
    [song] = [one for one in api.get("/v1/songs", params={"text": row["title"]}).json()["songs"] if one["title"] == row["title"]]
    assert "CC BY" in song["attribution"].upper().replace("-", " ")


def test_a_listening_history_is_matched_with_songs_and_forgets_who_and_where(api: TestClient, home: Home) -> None:
    song = api.get("/v1/songs", params={"limit": 1}).json()["songs"][0]
    api.post("/v1/entries", json={"text": JOYFUL, "day": "2026-03-01", "emotion": "joy"})
    at = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp())
    brainz = [
        {"listened_at": at, "user_name": "숨은이름", "track_metadata": {"track_name": song["title"], "artist_name": song["artist"]}}
    ] * 3
    spotify = {
        "ts": "2026-03-01T12:00:00Z", "username": "숨은이름", "ip_addr_decrypted": "203.0.113.7", "conn_country": "KR",
        "ms_played": 240_000, "master_metadata_track_name": "세상에 없는 노래",
        "master_metadata_album_artist_name": "없는 가수", "reason_end": "trackdone",
    }  # fmt: skip
    assert api.post("/v1/listens/import", content=json.dumps(brainz).encode()).json() == {"imported": 3, "skipped": 0}
    assert api.post("/v1/listens/import", content=json.dumps([spotify]).encode()).json() == {"imported": 0, "skipped": 1}
    kept = home.diary.kept("taste") or ""
    assert json.loads(kept)["songs"][song["key"]]["imported"] == [3.0, 0.0, 0.0, 0.0]
    assert "숨은이름" not in kept
    assert "203.0.113.7" not in kept


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2", b"not json", b'[{"ts": 1}', b"[" * 10_000, b'{"a":' * 10_000, b"\xff\xfe\x00"])
def test_what_is_no_history_teaches_nothing(api: TestClient, home: Home, content: bytes) -> None:
    answer = api.post("/v1/listens/import", content=content)
    assert answer.status_code in (200, 422)
    assert answer.status_code == 422 or answer.json() == {"imported": 0, "skipped": 0}
    assert "songs" not in (home.diary.kept("taste") or "") or json.loads(home.diary.kept("taste") or "{}")["songs"] == {}


def test_an_import_is_never_held_whole(api: TestClient) -> None:
    """Twelve megabytes go through; what Python holds at its most is a small part of them."""
    row = json.dumps({"listened_at": 1767225600, "track_metadata": {"track_name": "없는 노래", "artist_name": "가수", "more": "x" * 4000}})
    rows = 3000
    api.get("/v1/songs", params={"limit": 1})

    def pieces() -> Iterator[bytes]:
        for _ in range(rows):
            yield f"{row}\n".encode()

    scope = {
        "type": "http", "method": "POST", "path": "/v1/listens/import", "query_string": b"", "http_version": "1.1", "scheme": "http",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"authorization", api.headers["authorization"].encode())],
    }  # fmt: skip
    sent: list[Any] = []
    left = pieces()

    async def receive() -> Any:
        piece = next(left, b"")
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def send(message: Any) -> None:
        sent.append(message)

    tracemalloc.start()
    asyncio.run(api.app(scope, receive, send))  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert json.loads(sent[1]["body"]) == {"imported": 0, "skipped": rows}
    assert peak < len(row) * rows / 4


def test_insights_are_of_the_days_asked_for(api: TestClient) -> None:
    for day, text, emotion in ((1, "산책이 즐거웠다", "joy"), (2, "눈물이 났다", "sadness"), (5, "산책이 좋았다", "joy")):
        api.post("/v1/entries", json={"text": text, "day": f"2026-03-0{day}", "emotion": emotion})
    told = api.get("/v1/insights").json()
    assert [(day["day"], day["emotion"]) for day in told["calendar"]] == [
        ("2026-03-01", "joy"),
        ("2026-03-02", "sadness"),
        ("2026-03-05", "joy"),
    ]
    assert told["recovery"] == {"days": [3], "median": 3.0, "bad_since": None}
    assert [point["number"] for point in told["map"]] == [3, 2, 1]
    assert sum(told["trend"][0]["probabilities"].values()) == pytest.approx(1)
    part = api.get("/v1/insights", params={"since": "2026-03-02", "until": "2026-03-04"}).json()
    assert [day["day"] for day in part["calendar"]] == ["2026-03-02"]
    assert part["recovery"]["bad_since"] == "2026-03-02"
    assert api.get("/v1/insights", params={"since": "2999-01-01"}).json()["calendar"] == []


def test_a_name_in_the_address_that_nobody_knows_is_refused(api: TestClient) -> None:
    answer = api.get("/v1/entries", params={"limt": 3})
    assert answer.status_code == 422
    assert "limit" in answer.json()["errors"][0]["rule"]
    assert "limt" not in answer.text


def test_what_is_no_catalogue_is_refused_and_leaves_nothing(api: TestClient, home: Home) -> None:
    for content in (b"", b"\x00\x01\x02", b"{}", b"<x/>", b"#EXTM3U\n", "비밀\n".encode() * 10):
        answer = api.post("/v1/songs/import", content=content)
        assert answer.status_code == 422, content
        assert "비밀" not in answer.text
    assert list((home.root / "songs").iterdir()) == []


def test_the_model_that_reads_is_named_and_can_be_sent_back(opened: Opened, installed: Callable[[Path], Home], tmp_path: Path) -> None:
    home = installed(tmp_path / "other")
    reader = EmotionReader(home)
    api = opened(home=home, reader=reader)
    first = api.get("/v1/model").json()
    assert (first["version"], first["model"], first["refused"]) == (2, "compact", None)
    assert api.post("/v1/model/rollback").status_code == 409
    manifest = home.checkpoints.manifest(2)
    weights = home.checkpoints.load(manifest)
    home.checkpoints.publish(
        weights.scale(0.5),
        model=manifest.model, tuning=manifest.tuning, base_digest=manifest.base_digest,
        tokenizer_digest=manifest.tokenizer_digest, round=2,
    )  # fmt: skip
    reader.refresh()
    assert "healing_model_version 3.0" in api.get("/metrics").text  # though nobody asked it for a reading
    assert api.post("/v1/predict", json={"text": JOYFUL}).json()["model"]["version"] == 3
    back = api.post("/v1/model/rollback").json()
    assert (back["version"], back["declined"], back["earlier"]) == (2, 3, None)
    assert api.post("/v1/predict", json={"text": JOYFUL}).json()["model"]["version"] == 2
    assert "healing_model_swaps_total 2.0" in api.get("/metrics").text
    reader.close()


def test_privacy_says_what_was_spent_what_is_left_and_what_was_sent(api: TestClient, home: Home) -> None:
    plan = PrivacyPlan(noise_multiplier=2.0, sampling_rate=0.25, clip_norm=1.0, delta=1e-4, steps_per_round=4)
    for round in (1, 2):
        home.ledger.charge(plan, run="r", round=round)
        note_sent(home.root, run="r", round=round, what="update", bytes=267_280, privacy="example", aggregation="plain")
    told = api.get("/v1/privacy").json()
    assert told["epsilon_spent"] == pytest.approx(plan.epsilon(2))
    assert (told["epsilon_limit"], told["delta"], told["allow_unprotected"]) == (8.0, 1e-4, False)
    assert [(one["round"], one["epsilon"]) for one in told["rounds"]] == [
        (1, pytest.approx(plan.epsilon(1))),
        (2, pytest.approx(plan.epsilon(1))),
    ]
    assert [(one["round"], one["bytes"], one["privacy"]) for one in told["sent"]["messages"]] == [
        (1, 267_280, "example"),
        (2, 267_280, "example"),
    ]
    assert told["participation"] == {"paused": False, "skip_next": False}


def test_a_policy_that_allows_unprotected_rounds_is_told(api: TestClient, home: Home) -> None:
    policy = home.root / "device.json"
    policy.write_text(json.dumps(json.loads(policy.read_text()) | {"allow_unprotected": True}))
    assert api.get("/v1/privacy").json()["allow_unprotected"] is True


def test_a_damaged_ledger_is_said_and_does_not_stop_the_page(api: TestClient, home: Home) -> None:
    (home.root / "ledger.json").write_text("{")
    told = api.get("/v1/privacy").json()
    assert (told["epsilon_spent"], told["rounds"]) == (None, [])
    assert "damaged" in told["trouble"]


def test_participation_is_kept_in_home_and_what_is_left_out_stays(api: TestClient, home: Home) -> None:
    assert api.put("/v1/privacy/participation", json={"paused": True}).json() == {"paused": True, "skip_next": False}
    assert api.put("/v1/privacy/participation", json={"skip_next": True}).json() == {"paused": True, "skip_next": True}
    assert home.participation == Participation(paused=True, skip_next=True)


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("participation.json", "/v1/privacy"),
        ("sent.jsonl", "/v1/privacy"),
        ("device.json", "/v1/privacy"),
        ("serving/choice.json", "/v1/model"),
        ("diary.sqlite3", "/v1/entries"),
        ("vault.json", "/v1/entries"),
        ("diary.key", "/v1/entries"),
    ],
)
def test_what_is_damaged_on_this_device_is_not_the_askers_mistake(
    opened: Opened, installed: Callable[[Path], Home], tmp_path: Path, file: str, path: str
) -> None:
    """Also a key that does not open the diary: that is read when a server starts, and here in the first request."""
    home = installed(tmp_path / "other")
    reader = EmotionReader(home)
    api = opened(home=home, reader=reader)
    damaged = home.root / file
    damaged.write_text("ab" * 32 if file == "diary.key" else "{\n")
    if path == "/v1/entries" and file != "diary.sqlite3":
        api.app.state.device = replace(api.app.state.device, diary=LateDiary(Home(home.root)))  # type: ignore[attr-defined]
    answer = api.get(path)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/docs#not-ready"
    assert answer.json()["next"]
    reader.close()


class LateDiary:
    """Opened anew in every call, so that the key is asked for."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def __getattr__(self, name: str) -> Any:
        return getattr(self._home.diary, name)


def test_a_damaged_choice_is_mended_by_one_that_says_both(api: TestClient, home: Home) -> None:
    (home.root / "participation.json").write_text("{")
    assert api.put("/v1/privacy/participation", json={"paused": True}).status_code == 503
    assert api.put("/v1/privacy/participation", json={"paused": True, "skip_next": False}).status_code == 200
    assert home.participation == Participation(paused=True)


def test_health_is_open_and_the_docs_need_nothing_from_elsewhere(opened: Opened) -> None:
    stranger = opened(headers={})
    assert stranger.get("/v1/health").json() == {"status": "ok", "model": 2}
    page = stranger.get("/docs").text
    assert "POST /v1/predict" in page
    assert "<script" not in page
    assert "://" not in page.replace("https://music.youtube.com", "")


def test_without_a_model_entries_are_kept_unread_and_predictions_wait(opened: Opened, home: Home) -> None:
    empty = EmotionReader(home)
    api = opened(reader=empty)
    entry = api.post("/v1/entries", json={"text": JOYFUL}).json()
    assert entry["reading"] is None
    assert api.post("/v1/predict", json={"text": JOYFUL}).status_code == 503
    assert api.get("/v1/health").json() == {"status": "no-model", "model": None}
    assert api.get("/v1/model").status_code == 503
    assert len(api.get("/v1/recommendations", params={"entry": entry["number"], "count": 3}).json()["songs"]) == 3
    read = opened().post(f"/v1/entries/{entry['number']}/reading").json()
    assert read["reading"]["emotion"] == "joy"
    empty.close()


def test_every_example_in_the_openapi_document_is_taken_as_it_stands(api: TestClient) -> None:
    """Examples that rot are worse than none: each request example is sent, each answer example checked against its own form."""
    from client.api import edge

    forms = api.get("/openapi.json").json()["components"]["schemas"]
    shown = {name: form["examples"] for name, form in forms.items() if "examples" in form}
    assert len(shown) >= 12
    for name, examples in shown.items():
        for example in examples:
            getattr(edge, name).model_validate(example)
