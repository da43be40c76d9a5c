"""Access: who may use this device's API and page.

The API has one bearer token, kept in Home for its owner's eyes only. The page has sessions: an invitation (the ``token``
in ``/?token=``) is good for one login, and what the browser gets for it is a cookie that only this device can check. Of
invitations and sessions the file holds digests, and each runs out. A server that is running notices a change by one ``stat``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from model.checkpoint import locked, write_durably
from model.refusal import Damaged, Refusal

FILE = "access.json"
SERVED_AT = "served-at"
SERVE_LOCK = "serve.lock"
"""Held by whoever serves the Home; it dies with its process, as the file that says where does not."""
INVITATION_SECONDS = 12 * 3600
SESSION_SECONDS = 30 * 24 * 3600
MOST_SESSIONS = 32


@dataclass(frozen=True)
class _Pass:
    digest: str
    until: float


@dataclass(frozen=True)
class _State:
    token: str = field(repr=False)
    invitations: tuple[_Pass, ...] = ()
    sessions: tuple[_Pass, ...] = ()


class Access:
    """The token and the logins of one Home; every call sees what another process changed.

    ``token`` stands in for the bearer token that the file keeps.
    """

    def __init__(self, path: Path, *, token: str | None = None, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._token = token
        self._now = now
        self._seen: tuple[tuple[int, int, int], _State] | None = None
        if not path.exists():
            with self._held():
                if not path.exists():
                    self._write(_State(secrets.token_urlsafe(32)))

    @property
    def token(self) -> str:
        """The API's bearer token."""
        return self._token or self._read().token

    def rotate(self) -> str:
        """A new bearer token; the old one and every login end."""
        with self._held():
            self._write(_State(secrets.token_urlsafe(32)))
        return self.token

    def invite(self) -> str:
        """A token that is good for one login to the page."""
        invitation = secrets.token_urlsafe(24)
        with self._held():
            state = self._read()
            self._write(replace(state, invitations=self._with(state.invitations, invitation, INVITATION_SECONDS)))
        return invitation

    def log_in(self, invitation: str) -> str | None:
        """A session in exchange for an invitation, which is used up by it; None if it is unknown, used or too old."""
        if self._found(self._read().invitations, invitation) is None:
            return None
        session = secrets.token_urlsafe(32)
        with self._held():
            state = self._read()
            used = self._found(state.invitations, invitation)
            if used is None:
                return None
            left = tuple(one for one in state.invitations if one != used)
            self._write(replace(state, invitations=left, sessions=self._with(state.sessions, session, SESSION_SECONDS)))
        return session

    def admits_token(self, token: str) -> bool:
        """Whether this is the bearer token; takes the same time for every wrong one."""
        return hmac.compare_digest(_digest(token), _digest(self.token))

    def admits_session(self, session: str) -> bool:
        """Whether a login gave this session and it has not run out."""
        return self._found(self._read().sessions, session) is not None

    def _found(self, passes: tuple[_Pass, ...], secret: str) -> _Pass | None:
        digest, now = _digest(secret), self._now()
        matching = [one for one in passes if hmac.compare_digest(one.digest, digest) and one.until > now]
        return matching[0] if matching else None

    def _with(self, passes: tuple[_Pass, ...], secret: str, seconds: float) -> tuple[_Pass, ...]:
        now = self._now()
        living = [one for one in passes if one.until > now]
        return (*living[-MOST_SESSIONS + 1 :], _Pass(_digest(secret), now + seconds))

    def _read(self) -> _State:
        try:
            stat = self._path.stat()
            mark = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
            if self._seen is None or self._seen[0] != mark:
                self._seen = mark, _state(self._path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            raise Damaged(f"'{self._path}' is gone or damaged; remove it and start again, which makes a new token") from None
        return self._seen[1]

    def _write(self, state: _State) -> None:
        write_durably(self._path, json.dumps(asdict(state), indent=1).encode())

    def _held(self) -> AbstractContextManager[None]:
        return locked(self._path.with_suffix(".lock"))


@contextmanager
def served_at(root: Path, url: str) -> Iterator[None]:
    """While it lasts, Home says where it is being served."""
    write_durably(root / SERVED_AT, url.encode())
    try:
        yield
    finally:
        (root / SERVED_AT).unlink(missing_ok=True)


def login_address(root: Path) -> str:
    """The page's address with a fresh token for one login; :class:`Refusal` where nobody serves this Home.

    What a killed server left behind is no such address: by now its port may be another program's, which would get the token.
    """
    try:
        url = (root / SERVED_AT).read_text()
    except FileNotFoundError:
        url = ""
    if not url or not _is_held(root / SERVE_LOCK):
        raise Refusal(f"'{root}' is not being served; run `healing client serve`, which prints such an address")
    return f"{url}?token={Access(root / FILE).invite()}"


def _is_held(lock: Path) -> bool:
    try:
        with locked(lock, otherwise=BlockingIOError()):
            return False
    except BlockingIOError:
        return True


def _state(content: bytes) -> _State:
    stored = json.loads(content)
    invitations, sessions = (tuple(_Pass(**one) for one in stored[name]) for name in ("invitations", "sessions"))
    return _State(str(stored["token"]), invitations, sessions)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
