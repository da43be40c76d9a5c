"""Serve: the API and the page of one Home, on this device alone unless it is told otherwise together with TLS."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import signal
import socket
import ssl
import threading
import traceback
from asyncio.events import TimerHandle
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from client.api.access import SERVE_LOCK, login_address, served_at
from client.api.guard import LOOPBACK, Receive, Rules, Scope, Send
from client.api.problems import Problem
from client.home import Home
from model.checkpoint import locked
from model.refusal import Refusal

MOST_CONNECTIONS = 256
HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0
"""A request's head may be so long, and may take so long from the moment that the connection waits for one."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where to listen. Checked at birth: whatever others can reach needs TLS."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()
    """Further names under which the page may be asked for, such as this device's name in the home network."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise Refusal(f"--port is {self.port}; give 0 (any that is free) to 65535")
        if (self.certificate is None) != (self.key is None):
            raise Refusal("TLS needs both --tls-cert and --tls-key; give the other one too")
        if not self.is_loopback and not self.tls:
            raise Refusal(
                f"--host {self.host} can be reached by others, who could read along; give --tls-cert and --tls-key, or leave --host out"
            )
        if self.is_everywhere and not self.names:
            raise Refusal(
                f"--host {self.host} listens everywhere and is no name that can be asked for; give the one that others type with --name"
            )
        if self.certificate is not None:
            _require_certificate(self.certificate, self.key)

    @property
    def tls(self) -> bool:
        """Whether answers are encrypted on their way."""
        return self.certificate is not None

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this device can ask."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_everywhere(self) -> bool:
        """Whether it stands for every address of this device, and so for none that a browser could open."""
        try:
            return self.host in ("", "0") or ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def rules(self) -> Rules:
        """What the guard asks of requests to this address."""
        own = () if self.is_everywhere else (_bracketed(self.host),)
        return Rules(names=LOOPBACK | {name.lower() for name in (*own, *self.names)}, tls=self.tls)

    def url(self, port: int) -> str:
        """The page's address once the port is known."""
        host = self.names[0] if self.names else _bracketed(self.host)
        return f"{'https' if self.tls else 'http'}://{host}:{port}/"


def serve(home: Home, address: Address, *, engine: str, tell: Callable[[str], None]) -> None:
    """Answer until SIGINT or SIGTERM; requests that have begun are finished first. One server a Home, others are refused.

    ``tell`` is given the page's address with a token that is good for one login, once whoever asks there is answered.
    """
    busy = Refusal(f"'{home.root}' is being served already; use that server, or stop it first")
    with locked(home.root / SERVE_LOCK, otherwise=busy), closing(_listening(address)) as listener:
        from client.api.api import create_app  # after what can be refused was: PyTorch takes seconds to import
        from client.music.playlist import bundled_songs
        from client.reading.attendant import Attendant
        from client.reading.reader import EmotionReader

        with closing(EmotionReader(home, engine=engine)) as reader:
            app = create_app(home, reader=reader, songs=bundled_songs(), rules=address.rules)
            attendant = Attendant(reader, home.diary)
            with served_at(home.root, address.url(listener.getsockname()[1])), _stopped_by_signals(), closing(attendant):
                attendant.start()
                tell(login_address(home.root))
                threading.Thread(target=_get_words_ready, args=(home,), name="healing-words", daemon=True).start()
                uvicorn.Server(configured(app, address)).run(sockets=[listener])


def log_discreetly() -> None:
    """Log to standard error: of an exception its class and place, never its words, which may quote a diary."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Discreet("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("healing").setLevel(logging.INFO)


def _get_words_ready(home: Home) -> None:
    """What finds nouns takes seconds to load, and whoever looks back at a diary first should not wait for it."""
    from client.diary.diary import Query
    from client.reading.insights import korean_nouns

    with suppress(Refusal):  # it is an extra, and looking back says so
        if home.diary.entries(Query(limit=1)).total:
            korean_nouns()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """uvicorn raises a signal that stopped it once more when it is done; by then there is nothing left to stop."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Discreet(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        place = traceback.extract_tb(ei[2])[-1]
        return f"{ei[0].__name__} at {place.filename}:{place.lineno}"


def configured(app: FastAPI, address: Address) -> uvicorn.Config:
    """uvicorn with sane limits, without a log of its own, and blind to what proxies claim."""
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=10,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
    )


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Refusal(f"port {address.port} of {address.host} is taken by another program; give another one with --port") from None
        raise Refusal(f"cannot listen on {address.host}, port {address.port} ({error.strerror}); give another --host or --port") from None
    return listener


def _require_certificate(certificate: Path, key: Path | None) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:  # of which ssl.SSLError is one
        reason = error.strerror or type(error).__name__
        raise Refusal(
            f"'{certificate}' and '{key}' are no certificate with its unlocked key ({reason}); give PEM files that belong together"
        ) from None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _too_many_ask(scope: Scope, receive: Receive, send: Send) -> None:
    crowd = f"more than {MOST_CONNECTIONS} connections are open"
    response = Problem("not-ready", crowd, headers={"Connection": "close"}).response()
    await response(scope, receive, send)


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's connection, with what it leaves out: a bound on a request's head, and problem documents where no route answers."""

    _head_bytes = 0
    _head_due: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Close on a head that never ends."""
        super().data_received(data)
        if self._head_due is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._close()

    def on_headers_complete(self) -> None:
        """The head is here; the device answers unless too many ask at once."""
        self._head_came()
        crowded = max(len(self.connections), len(self.tasks)) > MOST_CONNECTIONS
        self.app = _too_many_ask if crowded else self.config.loaded_app
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request."""
        problem = Problem("unreadable", "what arrived is no HTTP request", next="send HTTP/1.1, or open the page in a browser").response()
        head = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in problem.raw_headers), b"connection: close"]
        self.transport.write(b"\r\n".join([*head, b"", bytes(problem.body)]))
        self.transport.close()

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._head_came()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_came()
        self._head_bytes = 0
        self._head_due = self.loop.call_later(HEAD_SECONDS, self._close)

    def _head_came(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _close(self) -> None:
        self._head_came()
        if not self.transport.is_closing():
            self.transport.close()
