"""Two thousand random and malformed requests, and whatever schemathesis makes of the OpenAPI document.

No request may fail the device (no 5xx), none may cost an entry that was acknowledged, and no word that was written may be
found outside Home: not in the log, not in a problem document, not in the metrics.
"""

from __future__ import annotations

import json
import logging
import random
import string
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.testclient import TestClient

from client.home import Home
from client.reading.insights import korean_nouns

pytestmark = pytest.mark.slow

CANARY = "꼬리아홉달린여우표식"
SEED = 20261123
HEADERS = {"Authorization": "Bearer test-token-0123456789", "Host": "127.0.0.1:8000"}
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


PATIENT = settings(
    max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


class Fire:
    """Makes requests, some sound, most not; the same ones every time."""

    def __init__(self, api: TestClient, seed: int) -> None:
        self._api = api
        self._random = random.Random(seed)
        self._paths = list(api.get("/openapi.json").json()["paths"])
        self.kept: dict[int, str] = {}

    def shoot(self) -> Any:
        """One request, and its answer."""
        acts = (self._write, self._write, self._rewrite, self._correct, self._forget, self._mutated, self._noise, self._noise)
        return self._random.choice(acts)()

    def _text(self) -> str:
        kind = self._random.randrange(6)
        if kind == 0:
            return "".join(self._random.choice("🙂가 \n\u200b\u202e\uffff\U0010ffffA") for _ in range(40))
        if kind == 1:
            return CANARY * self._random.randrange(1, 900)
        return f"{CANARY} 오늘은 {self._random.choice(('좋았다', '울었다', '화가 났다', '떨린다'))} {self._random.random()}"

    def _write(self) -> Any:
        text = self._text()
        answer = self._api.post("/v1/entries", json={"text": text, "emotion": self._random.choice((None, "joy", "불안"))})
        if answer.status_code == 201:
            self.kept[answer.json()["number"]] = text
        else:
            assert len(text) > 10_000 or not text.strip(), text
        return answer

    def _number(self) -> Any:
        return self._random.choice([*self.kept, 10**6, 0, -1, "x", f"1%2f{CANARY}"])

    def _rewrite(self) -> Any:
        number, text = self._number(), self._text()
        answer = self._api.patch(f"/v1/entries/{number}", json={"text": text, "teaches": self._random.random() < 0.5})
        if answer.status_code == 200:
            self.kept[number] = text
        return answer

    def _correct(self) -> Any:
        method = self._random.choice(("PUT", "PUT", "DELETE"))
        body = {"emotion": self._random.choice(("joy", "슬픔", CANARY))} if method == "PUT" else None
        return self._api.request(method, f"/v1/entries/{self._number()}/emotion", json=body)

    def _forget(self) -> Any:
        if self._random.random() < 0.8:
            return self._api.get("/v1/entries", params={"text": self._random.choice((CANARY, "%", "'", "\x00", "")), "limit": 3})
        number = self._number()
        answer = self._api.delete(f"/v1/entries/{number}")
        if answer.status_code == 204:
            del self.kept[number]
        return answer

    def _mutated(self) -> Any:
        """A sound body with some of its bytes changed, cut or doubled."""
        body = bytearray(json.dumps({"text": self._text()[:200], "day": "2026-03-01", "feelings": ["joy"]}, ensure_ascii=False).encode())
        for _ in range(self._random.randrange(1, 8)):
            place = self._random.randrange(len(body))
            change = self._random.randrange(3)
            body[place : place + change] = bytes(self._random.randrange(256) for _ in range(self._random.randrange(3)))
        answer = self._api.post("/v1/entries", content=bytes(body), headers={"Content-Type": "application/json"})
        if answer.status_code == 201:
            self.kept[answer.json()["number"]] = answer.json()["text"]
        return answer

    def _noise(self) -> Any:
        """Any method on any path with any query, body and headers."""
        path = self._random.choice(self._paths).replace("{number}", str(self._number())).replace("{id}", quote(self._junk(12)))
        path = path if self._random.random() < 0.8 else f"/{quote(self._junk(30))}"
        method = self._random.choice(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"))
        names = ("text", "emotion", "since", "until", "limit", "offset", "entry", "mode", "count", "format", "anyway", "token", CANARY)
        query = {self._random.choice(names): self._value() for _ in range(self._random.randrange(4))}
        kinds = ("application/json", "text/plain", "multipart/form-data", "", "application/json; x")
        headers = {"Content-Type": self._random.choice(kinds)}
        if method in ("DELETE", "PATCH") or (method == "POST" and path == "/v1/entries"):
            path = path.replace("/v1/entries", "/v1/none")  # what is kept is counted by the other shots
        content = self._random.choice(("", self._junk(100), json.dumps(self._tree(4), ensure_ascii=False), CANARY))
        return self._api.request(method, path, params=query, content=content.encode(), headers=headers)

    def _value(self) -> str:
        sound = ("joy", "1", "2026-03-01", "0001-01-01", "9999-12-31", "true", "shift")
        return self._random.choice((*sound, "-1", "9" * 40, CANARY, self._junk(20)))

    def _junk(self, length: int) -> str:
        letters = string.ascii_letters + string.digits + "%/.\\'\";<>{}[]()\u0000\u202e가ㅠ🙂 "
        return "".join(self._random.choice(letters) for _ in range(self._random.randrange(1, length)))

    def _tree(self, depth: int) -> Any:
        leaves = (None, True, -1, 1e308, 10**30, "", CANARY, "joy", "shift", "played", "\u0000", [], {})
        if depth == 0 or self._random.random() < 0.3:
            return self._random.choice(leaves)
        if self._random.random() < 0.5:
            return [self._tree(depth - 1) for _ in range(self._random.randrange(4))]
        names = ("text", "song", "event", "playlist", "entry", "paused", "skip_next", "emotion", "mode", "count", CANARY)
        return {self._random.choice(names): self._tree(depth - 1) for _ in range(self._random.randrange(4))}


def test_two_thousand_requests_cost_no_entry_and_tell_no_word(
    home: Home, opened: Callable[..., TestClient], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    statuses, told = Counter[int](), []
    korean_nouns()  # which takes seconds the first time
    with opened() as api, caplog.at_level(logging.DEBUG):
        fire = Fire(api, SEED)
        for _ in range(2000):
            answer = fire.shoot()
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, answer.text
            if answer.headers.get("content-type") == "application/problem+json":
                told.append(answer.text)
            elif answer.status_code >= 400:
                assert answer.request.method == "HEAD" or not answer.content, answer.request.url
    assert {200, 201, 204, 404, 405, 422} <= set(statuses)
    assert {record.entry.number: record.entry.text for record in home.diary.records()} == fire.kept
    assert len(fire.kept) > 200
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    streams = capfd.readouterr()
    for place in (ours, "\n".join(told), api.get("/metrics").text, streams.out, streams.err):
        assert CANARY not in place
        assert CANARY.encode("unicode_escape").decode() not in place
    outside = [file for file in tmp_path.rglob("*") if file.is_file() and home.root not in file.parents]
    assert not [file for file in outside if CANARY.encode() in file.read_bytes()]
    assert not [file for file in home.root.rglob("*") if file.is_file() and CANARY.encode() in file.read_bytes()]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["sound", "broken"])
def test_every_operation_keeps_what_the_openapi_document_promises(
    opened: Callable[..., TestClient], home: Home, mode: GenerationMode
) -> None:
    """Statuses, media types, schemas and headers of what is sent by the document's rules, and of what breaks one."""
    for text in ("첫 글", "둘째 글"):
        home.diary.add(text)
    client = opened()
    client.get("/v1/insights")  # which takes seconds the first time
    schema = schemathesis.openapi.from_dict(_without_security(client.get("/openapi.json").json()))
    schema.app = client.app
    tried = Counter[str]()
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(PATIENT)
        @given(operation.as_strategy(generation_mode=mode))
        def try_it(case: Any) -> None:
            tried[case.operation.label] += 1
            case.call_and_validate(headers=HEADERS, checks=CHECKS)

        with suppress(Unsatisfiable):  # an operation without values has none that break a rule
            try_it()
    assert len(tried) >= (23 if mode is GenerationMode.POSITIVE else 15)


def _without_security(document: dict[str, Any]) -> dict[str, Any]:
    """The document for one who has the token: how its absence is answered, test_guard.py shows."""
    for methods in document["paths"].values():
        for operation in methods.values():
            operation.pop("security", None)
    return document
