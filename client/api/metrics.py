"""Metrics: counts and latencies of the API, and which model reads. No text, and no label made from what was sent.

The log says the same of one request: method, the route's template, status, milliseconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from client.api.guard import App, Message, Receive, Scope, Send

MEDIA_TYPE = CONTENT_TYPE_LATEST
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

_log = logging.getLogger("healing.api")


class Metrics:
    """What one running API counts; another has its own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("healing_requests", "Requests answered", ["method", "route", "status"], registry=self._registry)
        self._seconds = Histogram("healing_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=self._registry)
        self._version = Gauge("healing_model_version", "Version of the model that reads", registry=self._registry)
        self._swaps = Counter("healing_model_swaps", "Changes of the model that reads", registry=self._registry)
        self._reads: int | None = None

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def reads_with(self, version: int) -> None:
        """Note which version of the model gave a reading."""
        if self._reads is not None and version != self._reads:
            self._swaps.inc()
        self._reads = version
        self._version.set(version)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)


class Measured:
    """ASGI middleware, outermost: counts, times and logs every request."""

    def __init__(self, app: App, *, metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, then note by the route's template, never by the path that was asked."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = self._clock(), 499  # the client left before an answer began

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            seconds = self._clock() - began
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            route = _template(scope)
            self._metrics.answered(method, route, status, seconds)
            _log.info("%s %s %d %.0f ms", method, route, status, 1000 * seconds)


def _template(scope: Scope) -> str:
    return str(getattr(scope.get("route"), "path", "")) or "unmatched"
