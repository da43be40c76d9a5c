"""Guard: what stands between the network and the routes.

Promised, against other programs and other people's pages on this device, and against the network where the API is opened
to it: nothing of the person's is shown or changed without the bearer token or a login; a page of another origin can
neither ask (Origin, Sec-Fetch-Site, a SameSite cookie) nor pass its own name off as this device's (Host: DNS rebinding);
no request takes more than its share of memory or time; no answer can load or run anything from elsewhere.
Assumed: the account's own files and processes are the person's. A cookie is not bound to a port, so another server on this
device that the person opens under the same name is shown the session cookie: a program that already runs here.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response

from client.api.access import SESSION_SECONDS, Access
from client.api.problems import Problem
from client.web.page import sorry_page, wants_page
from model.refusal import Refusal

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
OPEN = ("/v1/health", "/openapi.json", "/docs")
"""Addresses that show nothing of the person's; beside them only the page's own files, under ``/static/``."""
IMPORTS = {
    "/v1/listens/import": 512 * 2**20,
    "/v1/songs/import": 20 * 2**20,
    "/v1/import": 256 * 2**20,
    "/v1/import/look": 256 * 2**20,
}
"""Addresses whose bodies are read piece by piece as they are used, and the most bytes of each."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
        "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_log = logging.getLogger("healing.api")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes and seconds that one request may take."""

    body: int = 1_000_000
    arrival: float = 10.0
    """Seconds until a body is here whole; of an import, between two of its pieces."""
    answer: float = 60.0
    """Seconds until the answer begins."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """By which names the device is asked, whether over TLS, and the limits."""

    names: frozenset[str] = LOOPBACK
    tls: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def cookie(self) -> str:
        """The session cookie's name; over TLS browsers hold it to this very host."""
        return "__Host-healing" if self.tls else "healing"


class Guard:
    """ASGI middleware: lets a request through, or answers it with a problem."""

    def __init__(self, app: App, *, access: Access, rules: Rules) -> None:
        self._app = app
        self._access = access
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, answer, and put the protecting headers on whatever the answer is."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An answer in any case; of what went wrong inside, its class and place alone are told: its words may quote a diary."""
        answer = _Answer(send, scope["path"])
        try:
            await self._answered(scope, receive, answer)
        except Problem as problem:
            await answer.replace(_said(problem, scope), scope, receive)
        except Refusal as refusal:  # the file of tokens is gone or damaged
            await answer.replace(_said(Problem.of(refusal, "not-ready"), scope), scope, receive)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
            failed = Problem("failed", f"an unexpected {type(error).__name__} stopped this request; the log names the place")
            await answer.replace(_said(failed, scope), scope, receive)

    async def _answered(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        """The checks, in order: under whose name, from whose page, who, and how much."""
        headers = Headers(scope=scope)
        self._require_own_name(headers)
        self._require_own_page(headers, scope)
        if entered := self._entered(scope):
            await entered(scope, receive, answer.send)
        elif self._may_enter(scope["path"], headers):
            await self._passed_on(scope, receive, answer, headers)
        else:
            raise Problem("no-token", "the request carries no token that this device knows, and no login")

    def _require_own_name(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _name(hosts[0]) not in self._rules.names:
            raise Problem("wrong-host", "this device does not answer under the name in the request's Host header")

    def _require_own_page(self, headers: Headers, scope: Scope) -> None:
        """Refuse what a browser sends on behalf of another origin; programs send neither header."""
        own = f"{'https' if self._rules.tls else 'http'}://{headers['host']}".lower()
        if any(origin.lower() != own for origin in headers.getlist("origin")):
            raise Problem("cross-site", "the request comes from a page of another origin")
        if any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
            raise Problem("cross-site", "the request comes from a page of another site")

    def _entered(self, scope: Scope) -> Response | None:
        """The answer to ``/?token=...``: a login, if the invitation is good."""
        if scope["method"] != "GET" or scope["path"] != "/" or b"token=" not in scope["query_string"]:
            return None
        session = self._access.log_in(QueryParams(scope["query_string"]).get("token", ""))
        if session is None:  # used already or too old: whoever is logged in by it still is
            return None
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            self._rules.cookie, session, max_age=SESSION_SECONDS, path="/", httponly=True, samesite="strict", secure=self._rules.tls
        )
        return answer

    def _may_enter(self, path: str, headers: Headers) -> bool:
        if path in OPEN or path.startswith("/static/"):
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme:
            return scheme.lower() == "bearer" and self._access.admits_token(token.strip())
        session = cookie_parser(headers.get("cookie", "")).get(self._rules.cookie)  # one odd cookie of another program hides no other
        return session is not None and self._access.admits_session(session)

    async def _passed_on(self, scope: Scope, receive: Receive, answer: _Answer, headers: Headers) -> None:
        limits, most = self._rules.limits, IMPORTS.get(scope["path"], self._rules.limits.body)
        _require_length(headers, most)
        arriving = _Arriving(receive, most, limits.arrival)
        if scope["path"] in IMPORTS:
            return await self._app(scope, arriving.piece, answer.send)
        body = await _whole(arriving, limits.arrival)
        if body and not _is_json(headers):
            raise Problem("not-json", "the body's content type is not application/json")
        due = asyncio.timeout(limits.answer)
        try:
            async with due:
                await self._app(scope, _Replay(body, receive).receive, answer.send)
        except TimeoutError:
            if not due.expired():
                raise
            raise Problem("not-ready", f"there was no answer within {limits.answer:g} s; what was asked may still be done") from None


class _Answer:
    """Sends an answer with the protecting headers; knows whether it began."""

    def __init__(self, send: Send, path: str) -> None:
        self._send = send
        self._kept = path.startswith("/static/")
        self._began = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._began = True
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in HEADERS.items():
                headers[name] = value
            if not self._kept:
                headers["Cache-Control"] = "no-store"
            message["headers"] = headers.raw
        await self._send(message)

    async def replace(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Send this one instead; a half-sent answer cannot be taken back and is cut off."""
        if not self._began:
            if response.status_code in (408, 413):
                response.headers["Connection"] = "close"
            await response(scope, receive, self.send)


class _Arriving:
    """A body as it arrives: no more bytes and no longer pauses than the limits say, whatever Content-Length claims."""

    def __init__(self, receive: Receive, most: int, patience: float) -> None:
        self._receive = receive
        self._most = most
        self._patience = patience
        self._bytes = 0

    async def piece(self) -> Message:
        try:
            async with asyncio.timeout(self._patience):
                message = await self._receive()
        except TimeoutError:
            raise Problem("too-slow", f"the body paused for more than {self._patience:g} s") from None
        self._bytes += len(message.get("body", b""))
        _require_at_most(self._bytes, self._most)
        return message


class _Replay:
    """Gives a body that was read already, then what comes after it: the client's leaving."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def receive(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _whole(arriving: _Arriving, patience: float) -> bytes:
    """A small body, read before any route sees it."""
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            while True:
                message = await arriving.piece()
                body += message.get("body", b"")
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Problem("too-slow", f"the body was not here whole after {patience:g} s") from None


def _require_length(headers: Headers, most: int) -> None:
    claimed = headers.get("content-length", "0")
    if not claimed.isascii() or not claimed.isdigit():
        raise Problem("unreadable", "the request's Content-Length is not a number")
    _require_at_most(int(claimed[:20]), most)


def _require_at_most(bytes_: int, most: int) -> None:
    if bytes_ > most:
        raise Problem("too-large", f"the body is longer than {most:,} bytes")


def _is_json(headers: Headers) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _name(host: str) -> str:
    """The name in a Host header, without its port; empty for what is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for what is no port
    except ValueError:
        return ""
    if parts.netloc != host or "@" in host or parts.hostname is None:
        return ""
    return f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname


def _said(problem: Problem, scope: Scope) -> Response:
    """A problem for programs, a kind page for people."""
    return sorry_page(Headers(scope=scope), problem.status) if wants_page(scope) else problem.response()
