"""Hostile requests: who may not enter does not, and nothing that is sent can be too much."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from client.api.access import Access
from client.api.guard import LOOPBACK, Guard, Limits, Rules
from client.home import Home

Opened = Callable[..., TestClient]
BARE = "T"
"""The bare guard's token."""
ORIGIN = "http://127.0.0.1:8000"
PROTECTED = (
    ("GET", "/v1/entries"), ("POST", "/v1/entries"), ("GET", "/v1/entries/1"), ("DELETE", "/v1/entries/1"), ("POST", "/v1/predict"),
    ("GET", "/v1/privacy"), ("GET", "/metrics"), ("GET", "/v1/insights"), ("POST", "/v1/listens/import"), ("GET", "/"), ("GET", "/nothing"),
)  # fmt: skip


def logged_in(opened: Opened, home: Home, **options: object) -> TestClient:
    """A browser that followed the address with the one-time token."""
    browser = opened(headers={}, **options)
    browser.base_url = ORIGIN  # type: ignore[assignment]
    answer = browser.get("/", params={"token": Access(home.root / "access.json").invite()})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return browser


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic dGVzdDp0ZXN0"},
        {"Authorization": "test-token-0123456789"},
        {"Cookie": "healing=test-token-0123456789"},
        {"Cookie": "healing="},
        {"Authorization": "Bearer test-token-0123456789\xe9"},
    ],
    ids=str,
)
def test_without_the_token_nothing_of_the_persons_is_told(opened: Opened, home: Home, headers: dict[str, str]) -> None:
    home.diary.add("비밀 문장")
    client = opened(headers={})
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    for method, path in PROTECTED:
        answer = client.request(method, path, headers=raw, json={"text": "x"} if method == "POST" else None)  # type: ignore[arg-type]
        assert answer.status_code == 401, (method, path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "비밀" not in answer.text
    assert home.diary.count() == 1


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200), ("localhost:8000", 200), ("LOCALHOST", 200), ("[::1]:8000", 200),
        ("evil.example", 421), ("evil.example:8000", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example", 421),
        ("127.0.0.1@evil.example", 421), ("evil.example/127.0.0.1", 421), ("127.0.0.1:port", 421), ("", 421), ("[::1", 421),
        ("0.0.0.0:8000", 421),
    ],
)  # fmt: skip
def test_only_this_devices_own_names_are_answered(api: TestClient, host: str, status: int) -> None:
    """DNS rebinding: the browser believes that evil.example is this device, and sends its name."""
    for path in ("/v1/entries", "/v1/health"):
        assert api.get(path, headers={"Host": host}).status_code == status


def test_a_request_with_two_names_is_refused(home: Home) -> None:
    scope = http_scope("GET", "/v1/health", [(b"host", b"127.0.0.1"), (b"host", b"evil.example")])
    status, _ = answered(guard_of(home), scope, [])
    assert status == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Origin": "http://localhost:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_can_neither_read_nor_write_even_with_the_cookie(
    opened: Opened, home: Home, headers: dict[str, str]
) -> None:
    browser = logged_in(opened, home)
    for client in (browser, opened()):
        assert client.post("/v1/entries", json={"text": "심은 글"}, headers=headers).status_code == 403
        assert client.get("/v1/entries", headers=headers).status_code == 403
        answer = client.options("/v1/entries", headers=headers | {"Access-Control-Request-Method": "POST"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert home.diary.count() == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None])
def test_a_form_of_another_site_is_no_json_and_is_not_taken(opened: Opened, home: Home, kind: str | None) -> None:
    """What a cross-site form can send without asking first; even if a browser sent no Origin with it."""
    browser = logged_in(opened, home)
    headers = {"Content-Type": kind} if kind else {}
    answer = browser.post("/v1/entries", content=b'{"text": "x"}', headers=headers)
    assert (answer.status_code, home.diary.count()) == (415, 0)


def test_an_invitation_is_good_for_one_login(opened: Opened, home: Home) -> None:
    invitation = Access(home.root / "access.json").invite()
    first, second = opened(headers={}), opened(headers={})
    answer = first.get("/", params={"token": invitation})
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age"))
    assert "Domain" not in cookie
    assert invitation not in cookie
    assert first.get("/v1/entries").status_code == 200
    assert second.get("/", params={"token": invitation}).status_code == 401
    assert second.get("/v1/entries").status_code == 401


@pytest.mark.parametrize("other", ['prefs={"a":1}', "a=b c", "flag", "n=한글", "=", 'q="open'])
@pytest.mark.parametrize("order", [1, -1])
def test_an_odd_cookie_of_another_program_logs_nobody_out(opened: Opened, home: Home, other: str, order: int) -> None:
    access = Access(home.root / "access.json")
    session = access.log_in(access.invite())
    client = opened(headers={})
    for value, status in ((session, 200), ("made-up", 401)):
        cookie = "; ".join([other, f"healing={value}"][::order])
        assert client.get("/v1/entries", headers={"Cookie": cookie.encode()}).status_code == status


@pytest.mark.parametrize("token", ["", "x" * 5000, "%00", "%ff%fe", "a&token=b&" + "&".join(f"x{n}=1" for n in range(2000))])
def test_a_made_up_invitation_opens_nothing(opened: Opened, token: str) -> None:
    answer = opened(headers={}).get(f"/?token={token}")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_the_invitation_is_in_no_log(opened: Opened, home: Home, caplog: pytest.LogCaptureFixture) -> None:
    invitation = Access(home.root / "access.json").invite()
    with caplog.at_level(logging.DEBUG, logger="healing"):
        opened(headers={}).get("/", params={"token": invitation})
    assert "GET unmatched 303" in caplog.text
    assert invitation not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("healing"))


def test_a_new_token_ends_the_old_one_and_every_login_at_once(opened: Opened, home: Home) -> None:
    access = Access(home.root / "access.json")
    browser = logged_in(opened, home)
    program = opened(headers={"Authorization": f"Bearer {access.token}"}, token=None)
    assert program.get("/v1/entries").status_code == 200
    fresh = access.rotate()
    assert program.get("/v1/entries").status_code == 401
    assert browser.get("/v1/entries").status_code == 401
    assert program.get("/v1/entries", headers={"Authorization": f"Bearer {fresh}"}).status_code == 200


def test_every_answer_carries_the_protecting_headers(opened: Opened, home: Home) -> None:
    clients = (opened(), opened(headers={}), logged_in(opened, home))
    answers = [client.get(path) for client in clients for path in ("/v1/health", "/docs", "/v1/entries", "/nothing", "/v1/entries/9")]
    answers += [clients[0].put("/v1/predict"), clients[0].get("/v1/health", headers={"Host": "evil.example"})]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (json.dumps({"text": "가" * 10_000}), 200),
        (json.dumps({"text": "가" * 10_001}), 422),
        (json.dumps({"text": "🙂" * 10_000}, ensure_ascii=False), 200),
        (json.dumps({"text": ""}), 422),
        (json.dumps({"text": " \n\t "}), 422),
        (json.dumps({"text": "앞\x00뒤"}), 422),
        ('{"text": "\\ud800"}', 422),
        ('{"text": "\\ud83d\\ude42"}', 200),
        ('{"text": 5}', 422),
        ('{"text": null}', 422),
        ('{"text": ["x"]}', 422),
        ('{"text": "x", "비밀": 1}', 422),
        ('["text"]', 422),
        ("null", 422),
        ("", 422),
        ("{", 400),
        ('{"text": "x"} {}', 400),
        ("[" * 50_000, 400),
        ('{"a":' * 50_000, 400),
        ("9" * 10_000, 400),
        ('{"text": NaN}', 422),
        (b'{"text": "\xff\xfe"}', 400),
        (b"\x00\x01\x02", 400),
        (b'\xef\xbb\xbf{"text": "x"}', 200),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, int) else "",
)
def test_a_body_is_read_right_or_refused_with_a_problem(api: TestClient, content: str | bytes, status: int) -> None:
    answer = api.post("/v1/predict", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    if status != 200:
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == status
        assert problem["detail"]
        assert problem["next"]
        assert "비밀" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/entries/0", "/v1/entries/-1", "/v1/entries/9223372036854775808", "/v1/entries/1e3", "/v1/entries/%00",
        "/v1/entries/" + "9" * 5000,
        "/v1/entries?limit=0", "/v1/entries?limit=201", "/v1/entries?offset=-1", "/v1/entries?since=1234567890",
        "/v1/entries?since=2026-02-30", "/v1/entries?emotion=calm", "/v1/entries?text=%00", "/v1/recommendations?emotion=joy&mode=fly",
        "/v1/recommendations?emotion=joy&count=51",
        "/v1/playlists/x?format=exe", "/v1/entries?text=" + "x" * 201,
    ],
    ids=lambda path: path[:50],
)  # fmt: skip
def test_a_value_outside_its_bounds_is_refused(api: TestClient, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["at"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../access.json", "/static/../../etc/passwd", "/static//etc/passwd", "/static/..\\access.json", "/static/\x00", "",
        "/v1/playlists/../../access.json", "/v1//entries", "//v1/entries", "/v1/entries/", "http://evil.example/v1/entries", "*",
        "/v1/entries/1/../2", "/V1/ENTRIES", "/v1/health/../entries", "/docs/../v1/entries", "/static/../v1/entries", "/.well-known/x",
    ],
)  # fmt: skip
def test_no_path_leads_out_or_around(opened: Opened, home: Home, path: str) -> None:
    """As a server hands it on, percent signs undone; a client of the tests' own would tidy it first."""
    secret = Access(home.root / "access.json").token
    home.diary.add("비밀 문장")
    for headers in ([(b"authorization", b"Bearer test-token-0123456789")], []):
        scope = http_scope("GET", path, [(b"host", b"127.0.0.1:8000"), *headers])
        status, told = answered(opened().app, scope, [])
        assert status in (401, 404), path
        assert secret.encode() not in told
        assert "비밀".encode() not in told


def test_a_wrong_method_names_the_right_ones(api: TestClient) -> None:
    answer = api.delete("/v1/predict")
    assert (answer.status_code, answer.headers["allow"], answer.json()["type"]) == (405, "POST", "/docs#wrong-method")


# --- bodies, byte by byte, on the bare guard -----------------------------------------------------------------------


def http_scope(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers, "http_version": "1.1"}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An application that reads all that it is given and says how much that was."""
    length, message = 0, {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        length += len(message.get("body", b""))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def guard_of(home: Home, app: Any = echo, **limits: Any) -> Guard:
    return Guard(app, access=Access(home.root / "access.json", token=BARE), rules=Rules(limits=Limits(**limits)))


def answered(guard: Any, scope: dict[str, Any], pieces: list[bytes | float]) -> tuple[int, bytes]:
    """Status and body; a number among the pieces is a pause in seconds."""
    sent: list[Any] = []
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        while left:
            piece = left.pop(0)
            if isinstance(piece, bytes):
                return {"type": "http.request", "body": piece, "more_body": bool(left)}
            await asyncio.sleep(piece)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def post(path: str, *more: tuple[bytes, bytes]) -> dict[str, Any]:
    own = [(b"host", b"127.0.0.1:8000"), (b"authorization", f"Bearer {BARE}".encode()), (b"content-type", b"application/json"), *more]
    return http_scope("POST", path, own)


@pytest.mark.parametrize(
    ("pieces", "more", "status"),
    [
        ([b"x" * 1000], (), 200),
        ([b"x" * 100] * 10, (), 200),
        ([b"x" * 1001], (), 413),
        ([b"x" * 100] * 11, (), 413),
        ([b"x"], ((b"content-length", b"1001"),), 413),
        ([b"x" * 5000], ((b"content-length", b"10"),), 413),
        ([b"x"], ((b"content-length", b"-1"),), 400),
        ([b"x"], ((b"content-length", b"9" * 5000),), 413),
        ([b"x"], ((b"content-length", "١".encode()),), 400),
    ],
)
def test_the_limit_holds_for_what_arrives_whatever_is_claimed(
    home: Home, pieces: list[bytes | float], more: tuple[tuple[bytes, bytes], ...], status: int
) -> None:
    assert answered(guard_of(home, body=1000), post("/v1/entries", *more), pieces)[0] == status


def test_an_import_is_passed_on_piece_by_piece_and_still_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        async def noted() -> Any:
            message = await receive()
            seen.append(len(message["body"]))
            return message

        await echo(scope, noted, send)

    guard = guard_of(home, counting, body=10)
    status, told = answered(guard, post("/v1/listens/import"), [b"x" * 1000] * 50)
    assert (status, told, max(seen)) == (200, b"50000", 1000)
    assert answered(guard, post("/v1/songs/import"), [b"x" * 2**20] * 21)[0] == 413


def test_a_body_that_dawdles_is_given_up(home: Home) -> None:
    guard = guard_of(home, arrival=0.1)
    assert answered(guard, post("/v1/entries"), [b"x", 0.5, b"x"])[0] == 408
    assert answered(guard, post("/v1/entries"), [piece for _ in range(20) for piece in (b"x", 0.02)])[0] == 408
    assert answered(guard, post("/v1/listens/import"), [b"x", 0.5, b"x"])[0] == 408


def test_an_answer_that_never_comes_is_given_up(home: Home) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(10)

    status, told = answered(guard_of(home, silent, answer=0.1), post("/v1/entries"), [b"{}"])
    assert (status, json.loads(told)["type"]) == (503, "/docs#not-ready")


def test_nobody_without_the_token_makes_the_guard_read_a_body(home: Home) -> None:
    scope = http_scope("POST", "/v1/entries", [(b"host", b"127.0.0.1")])
    never: list[bytes | float] = [60.0]
    assert answered(guard_of(home), scope, never)[0] == 401


def test_a_failure_inside_tells_its_class_alone(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("비밀 문장")

    status, told = answered(guard_of(home, failing), post("/v1/entries"), [b"{}"])
    assert (status, json.loads(told)["title"]) == (500, "The device failed")
    assert "비밀" not in told.decode() + caplog.text
    assert "RuntimeError" in caplog.text


def test_a_failing_route_behind_the_whole_application_is_a_problem_too(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    client = opened()
    app = client.app
    assert isinstance(app, FastAPI)

    @app.get("/v1/fails")
    def fails() -> None:
        raise ValueError("비밀 문장")

    answer = client.get("/v1/fails")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "비밀" not in answer.text + caplog.text


def test_over_tls_the_cookie_is_bound_to_this_host_and_the_origin_to_https(opened: Opened, home: Home) -> None:
    rules = Rules(names=LOOPBACK | {"diary.home"}, tls=True)
    client = opened(headers={}, rules=rules)
    invitation = Access(home.root / "access.json").invite()
    answer = client.get("https://diary.home/", params={"token": invitation})
    assert answer.headers["set-cookie"].startswith("__Host-healing=")
    assert "Secure" in answer.headers["set-cookie"]
    token = {"Authorization": "Bearer test-token-0123456789"}
    assert client.get("https://diary.home/v1/entries", headers=token | {"Origin": "https://diary.home"}).status_code == 200
    assert client.get("https://diary.home/v1/entries", headers=token | {"Origin": "http://diary.home"}).status_code == 403


def test_a_damaged_access_file_lets_nobody_in(opened: Opened, home: Home) -> None:
    browser = logged_in(opened, home)
    (home.root / "access.json").write_text("{}")
    assert browser.get("/v1/entries").status_code == 503
