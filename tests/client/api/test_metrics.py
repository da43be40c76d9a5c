"""Metrics and log say how many and how fast, by templates that exist: whatever is asked, no word of it becomes a label."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from client.api.metrics import Metrics

Opened = Callable[..., TestClient]
CANARY = "canary-word"


def samples(text: str) -> dict[tuple[str, ...], float]:
    """What Prometheus' own parser reads."""
    read = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value for sample in read}


def test_requests_are_counted_by_template_method_and_status(api: TestClient) -> None:
    for number in (1, 2, 3):
        api.get(f"/v1/entries/{number}")
    api.post("/v1/predict", json={"text": "산책이 좋았다"})
    told = samples(api.get("/metrics").text)
    assert told["healing_requests_total", "method=GET", "route=/v1/entries/{number}", "status=404"] == 3
    assert told["healing_requests_total", "method=POST", "route=/v1/predict", "status=200"] == 1
    assert told["healing_request_seconds_count", "route=/v1/predict"] == 1
    assert told["healing_model_version",] == 2


def test_no_request_however_odd_adds_a_label_of_its_own(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    api = opened()
    with caplog.at_level(logging.INFO, logger="healing"):
        for client in (api, opened(headers={})):
            client.request(CANARY.upper(), f"/{CANARY}")
            client.get(f"/v1/{CANARY}?{CANARY}={CANARY}", headers={CANARY: CANARY, "User-Agent": CANARY})
            client.get(f"/v1/playlists/{CANARY}")
            client.post(f"/v1/entries/{CANARY}/emotion", json={CANARY: CANARY})
    text = api.get("/metrics").text
    assert CANARY not in text.lower()
    methods = {label for key in samples(text) for label in key if label.startswith("method=")}
    assert methods <= {"method=GET", "method=POST", "method=OTHER"}
    ours = [record.getMessage() for record in caplog.records if record.name == "healing.api"]
    assert ours
    assert all(re.fullmatch(r"[A-Z]+ (unmatched|/[a-z0-9/{}]+) \d{3} \d+ ms", line) for line in ours)


def test_a_change_of_the_model_is_counted_once_and_the_first_model_is_none() -> None:
    metrics = Metrics()
    for version in (3, 3, 4, 4, 3):
        metrics.reads_with(version)
    told = samples(metrics.text().decode())
    assert (told["healing_model_version",], told["healing_model_swaps_total",]) == (3, 2)
    assert samples(Metrics().text().decode())["healing_model_swaps_total",] == 0
