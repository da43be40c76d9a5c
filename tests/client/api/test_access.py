"""Tokens and logins: each good for what it was given for, for as long, and known to its Home alone."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from client.api.access import INVITATION_SECONDS, MOST_SESSIONS, SERVE_LOCK, SESSION_SECONDS, Access, login_address, served_at
from model.checkpoint import locked
from model.refusal import Refusal


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.json"


def test_the_token_is_the_same_for_every_process_of_the_home_and_for_its_owner_only(path: Path) -> None:
    token = Access(path).token
    assert len(token) >= 32
    assert Access(path).token == token
    assert Access(path).admits_token(token)
    assert not any(Access(path).admits_token(wrong) for wrong in ("", token[:-1], token + "x", token.swapcase(), "\ud800", "한"))
    assert path.stat().st_mode & 0o077 == 0


def test_an_invitation_gives_one_session_even_to_many_at_once(path: Path) -> None:
    invitation = Access(path).invite()
    sessions: list[str | None] = []
    others = [threading.Thread(target=lambda: sessions.append(Access(path).log_in(invitation))) for _ in range(8)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    [session] = [session for session in sessions if session is not None]
    assert Access(path).admits_session(session)
    assert not Access(path).admits_token(session)
    assert not Access(path).admits_session(Access(path).token)


def test_invitations_and_sessions_run_out(path: Path) -> None:
    clock = Clock()
    access = Access(path, now=clock)
    early, late = access.invite(), access.invite()
    session = access.log_in(early)
    assert session is not None
    clock.now += INVITATION_SECONDS + 1
    assert access.log_in(late) is None
    assert access.admits_session(session)
    clock.now += SESSION_SECONDS
    assert not access.admits_session(session)


def test_neither_invitation_nor_session_stands_in_the_file(path: Path) -> None:
    access = Access(path)
    invitation = access.invite()
    before = path.read_text()
    session = access.log_in(invitation)
    assert session is not None
    assert invitation not in before + path.read_text()
    assert session not in path.read_text()


def test_the_file_stays_short_and_the_newest_logins_stand(path: Path) -> None:
    access = Access(path)
    sessions = [access.log_in(access.invite()) for _ in range(MOST_SESSIONS + 3)]
    admitted = [session is not None and access.admits_session(session) for session in sessions]
    assert admitted == [False] * 3 + [True] * MOST_SESSIONS


def test_what_another_process_rotates_is_seen_at_once(path: Path) -> None:
    running, other = Access(path), Access(path)
    session = running.log_in(running.invite())
    assert session is not None
    token = running.token
    fresh = other.rotate()
    assert (running.admits_token(token), running.admits_session(session), running.admits_token(fresh)) == (False, False, True)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"token": 1, "invitations": 3, "sessions": []}'])
def test_a_damaged_file_admits_nobody(path: Path, content: str) -> None:
    access = Access(path)
    token = access.token
    path.write_text(content)
    with pytest.raises(Refusal, match="gone or damaged"):
        access.admits_token(token)


def test_an_address_is_only_made_where_somebody_answers(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="is not being served"):
        login_address(tmp_path)
    with locked(tmp_path / SERVE_LOCK), served_at(tmp_path, "http://127.0.0.1:8000/"):
        url, _, invitation = login_address(tmp_path).partition("?token=")
        assert (url, Access(tmp_path / "access.json").log_in(invitation) is not None) == ("http://127.0.0.1:8000/", True)
    with pytest.raises(Refusal, match="is not being served"):
        login_address(tmp_path)


def test_no_invitation_is_made_for_the_port_of_a_server_that_was_killed(tmp_path: Path) -> None:
    """SIGKILL leaves `served-at` and `serve.lock` behind, and nobody holds the lock."""
    (tmp_path / "served-at").write_text("http://127.0.0.1:8000/")
    (tmp_path / SERVE_LOCK).touch()
    with pytest.raises(Refusal, match="is not being served"):
        login_address(tmp_path)
    assert not (tmp_path / "access.json").exists()
