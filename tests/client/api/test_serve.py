"""The server as a process of its own: who is let in, what is given up, and what a kill costs (nothing)."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from client.api.access import Access
from client.api.api import create_app
from client.api.serve import MOST_CONNECTIONS, Address, configured
from client.diary.transfer import import_diary
from client.home import Home
from client.music.playlist import bundled_songs
from client.reading.reader import EmotionReader
from client.vault import Passphrase
from model.refusal import Refusal

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
CANARY = "꼬리아홉달린여우표식"
Installed = Callable[[Path], Home]


class Served:
    """One `healing client serve`, with what it printed and logged."""

    def __init__(self, home: Home, process: subprocess.Popen[str], url: str) -> None:
        self.home = home
        self.process = process
        self.url = url
        self.port = int(url.rsplit(":", 1)[1].split("/")[0])
        self.token = Access(home.root / "access.json").token

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON, as a program of the owner's gets them."""
        content = None if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"} | headers
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", content, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"null")

    def raw(self, *pieces: bytes, whole: bool = True) -> bytes:
        """What comes back for these bytes until the server closes, or at first; empty if it cuts the connection off."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection, suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
            while (part := connection.recv(65536)) and (whole or not received):
                received += part
        return received


def command(home: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "healing", "client", "serve", "--home", str(home), *options]


@contextmanager
def serving(home: Home, *options: str) -> Iterator[Served]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    log = (home.root.parent / "log.txt").open("a+")
    process = subprocess.Popen(
        command(home.root, "--port", "0", *options), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"(https?://\S+?/)\?token=", line)
        assert found, line + (home.root.parent / "log.txt").read_text()
        served = Served(home, process, found.group(1))
        yield served
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()
        log.close()


def problem(answer: bytes) -> dict[str, Any]:
    """The document of an answer that must hold one (RFC 9457)."""
    said, _, content = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in said.lower()
    found: dict[str, Any] = json.loads(content)
    return found


@pytest.fixture(scope="module")
def served(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(installed(tmp_path_factory.mktemp("served") / "home")) as served:
        yield served


def head(method: str, path: str, *lines: str, token: str = "") -> bytes:
    own = ["Host: 127.0.0.1", "Connection: close", *([f"Authorization: Bearer {token}"] if token else []), *lines]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *own, "", ""]).encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_a_second_process_of_this_account_gets_nothing_without_the_token(served: Served) -> None:
    served.ask("POST", "/v1/entries", {"text": CANARY})
    thief = """
import json, sys, urllib.request, urllib.error
got = []
for path in ("/v1/entries", "/v1/entries/1", "/v1/privacy", "/metrics", "/", "/v1/insights", "/v1/songs"):
    for headers in ({}, {"Authorization": "Bearer x"}, {"Cookie": "healing=x"}, {"X-Forwarded-For": "127.0.0.1"}):
        try:
            got.append(urllib.request.urlopen(urllib.request.Request(sys.argv[1] + path, headers=headers)).read().decode())
        except urllib.error.HTTPError as error:
            got.append(f"{error.code} {error.read().decode()}")
print("\\n".join(got))
"""
    told = subprocess.run(
        [sys.executable, "-c", thief, f"http://127.0.0.1:{served.port}"], capture_output=True, text=True, check=True
    ).stdout
    assert CANARY not in told
    assert all(line.startswith("401 ") for line in told.splitlines())


def test_it_listens_on_loopback_alone_and_its_token_is_the_owners(served: Served) -> None:
    path = served.home.root / "access.json"
    assert path.stat().st_mode & 0o077 == 0
    others = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET) if not info[4][0].startswith("127.")]
    with socket.socket() as stranger:
        stranger.settimeout(2)
        for address in others:
            assert stranger.connect_ex((str(address), served.port)) != 0


def test_the_printed_address_logs_in_once(served: Served) -> None:
    address = subprocess.run(
        [sys.executable, "-m", "healing", "client", "token", "--home", str(served.home.root), "--login"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    invitation = address.partition("?token=")[2]
    assert address.startswith(served.url)
    first, second = (served.raw(head("GET", f"/?token={invitation}")) for _ in range(2))
    assert (status(first), status(second)) == (303, 401)
    cookie = re.search(rb"set-cookie: (healing=[^;]+);", first)
    assert cookie
    assert status(served.raw(head("GET", "/v1/entries", f"Cookie: {cookie.group(1).decode()}"))) == 200


def test_a_second_server_on_the_same_home_is_refused_in_one_sentence(served: Served) -> None:
    done = subprocess.run(command(served.home.root, "--port", "0"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is being served already" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_one_sentence(served: Served, installed: Installed, tmp_path: Path) -> None:
    home = installed(tmp_path / "home")
    done = subprocess.run(command(home.root, "--port", str(served.port)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"port {served.port} of 127.0.0.1 is taken" in done.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"host": "0.0.0.0"}, "can be reached by others"),  # noqa: S104
        ({"host": "192.168.1.5"}, "can be reached by others"),
        ({"host": "diary.home"}, "can be reached by others"),
        ({"host": "::"}, "can be reached by others"),
        ({"port": 70000}, "--port is 70000"),
        ({"certificate": Path("nowhere.pem")}, "give the other one too"),
        ({"certificate": Path("nowhere.pem"), "key": Path("nowhere.key")}, "no certificate"),
    ],
    ids=str,
)
def test_an_address_that_others_could_read_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refusal, match=re.escape(sentence)):
        Address(**options)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0:0:0:0:0:0:0:0", "", "0"])  # noqa: S104
def test_who_listens_everywhere_must_say_under_which_name(host: str, tmp_path: Path) -> None:
    """Else the address that is printed would be answered with 421."""
    with pytest.raises(Refusal, match=r"listens everywhere .* --name"):
        Address(host=host, certificate=tmp_path / "cert.pem", key=tmp_path / "key.pem")


def test_over_tls_it_may_be_reached_by_its_names_only(home: Home, reader: EmotionReader, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=diary.home"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    address = Address(host="0.0.0.0", port=0, names=("Diary.home",), certificate=certificate, key=key)  # noqa: S104
    assert address.url(8443) == "https://Diary.home:8443/"
    server = uvicorn.Server(configured(create_app(home, reader=reader, songs=bundled_songs(), rules=address.rules), address))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        context = ssl.create_default_context(cafile=str(certificate))
        for name, answer in (("diary.home", 200), ("127.0.0.1", 200), ("evil.example", 421)):
            with context.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="diary.home") as connection:
                connection.sendall(f"GET /v1/health HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                assert status(connection.recv(100)) == answer
        server.should_exit = True
        thread.join()


def test_bodies_that_are_too_large_or_claim_to_be_smaller_are_cut_off(served: Served) -> None:
    token, kind = served.token, "Content-Type: application/json"
    claimed = served.raw(head("POST", "/v1/entries", kind, "Content-Length: 1000001", token=token), b"{")
    assert status(claimed) == 413
    chunk = b"%x\r\n%s\r\n" % (100_000, b" " * 100_000)
    chunked = served.raw(head("POST", "/v1/entries", kind, "Transfer-Encoding: chunked", token=token), *[chunk] * 11, b"0\r\n\r\n")
    assert status(chunked) in (413, 0)
    small = served.raw(
        head("POST", "/v1/predict", kind, "Transfer-Encoding: chunked", token=token), b'b\r\n{"text":"x"\r\n1\r\n}\r\n0\r\n\r\n'
    )
    assert status(small) == 200
    both = served.raw(head("POST", "/v1/predict", kind, "Content-Length: 5", "Transfer-Encoding: chunked", token=token), b"0\r\n\r\n")
    assert status(both) in (400, 422)


def test_a_body_that_never_comes_and_a_head_that_never_ends_are_given_up(served: Served) -> None:
    """All at once, to wait once; meanwhile others are answered."""
    answers: dict[str, bytes] = {}
    slow = {
        "body": (head("POST", "/v1/entries", "Content-Type: application/json", "Content-Length: 10", token=served.token), b"{"),
        "head": (b"GET /v1/health HTTP/1.1\r\nHost: 127",),
        "nothing": (),
        "newlines": (b"\r\n" * 100,),
        "long": (b"GET /v1/health HTTP/1.1\r\nX: ", *[b"x" * 16_000] * 10),
        "many": (b"GET /v1/health HTTP/1.1\r\n", *[b"X: y\r\n" * 2000] * 10),
    }
    threads = [
        threading.Thread(target=lambda name=name, pieces=pieces: answers.update({name: served.raw(*pieces)}))
        for name, pieces in slow.items()
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    assert served.ask("GET", "/v1/health")[0] == 200
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 25
    assert status(answers["body"]) == 408
    assert {answers[name] for name in ("head", "nothing", "newlines")} == {b""}
    assert status(answers["long"]) in (0, 400)
    assert status(answers["many"]) in (0, 400)


def test_who_comes_when_too_many_are_connected_is_told_so(served: Served) -> None:
    with ExitStack() as crowd:
        for _ in range(MOST_CONNECTIONS):
            crowd.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=30))
        answer = served.raw(head("GET", "/v1/health"))
        assert problem(answer)["status"] == status(answer) == 503
    assert eventually(lambda: served.ask("GET", "/v1/health")[0] == 200)


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(400):  # on a machine that has much else to do, too
        if holds():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 100,
        b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
    ],
    ids=lambda value: repr(value[:20]),
)  # fmt: skip
def test_what_is_no_request_gets_no_answer_of_value(served: Served, request_bytes: bytes) -> None:
    answer = served.raw(request_bytes, b"\r\n\r\n", whole=False)
    assert answer == b"" or (400 <= status(answer) < 500 and b"content-type: application/problem+json" in answer.lower())
    assert served.ask("GET", "/v1/health")[0] == 200


def test_an_idle_server_takes_a_newer_model_and_reads_what_was_imported(installed: Installed, tmp_path: Path) -> None:
    home = installed(tmp_path / "home")
    with serving(home) as served:
        (tmp_path / "old.csv").write_text(f"day,text\n2026-03-01,{CANARY} 하루 종일 웃었다\n", encoding="utf-8")
        import_diary(home.diary, tmp_path / "old.csv", passphrase=lambda: Passphrase("not asked for"))
        assert eventually(lambda: served.ask("GET", "/v1/entries/1")[1]["reading"] is not None)
        assert served.ask("GET", "/v1/insights")[1]["calendar"]
        first = home.checkpoints.manifest(2)
        home.checkpoints.publish(
            home.checkpoints.load(first).scale(0.5),
            model=first.model, tuning=first.tuning, base_digest=first.base_digest, tokenizer_digest=first.tokenizer_digest, round=2,
        )  # fmt: skip
        assert eventually(lambda: served.ask("GET", "/v1/health")[1]["model"] == 2)
        assert served.ask("GET", "/v1/model")[1]["version"] == 2
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
    assert CANARY not in (tmp_path / "log.txt").read_text()


def wait_until_closed(port: int) -> None:
    """Wait until nobody takes new connections on ``port``."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return
        time.sleep(0.05)
    raise AssertionError("the stopping server still takes connections")


def test_no_acknowledged_entry_is_lost_in_a_kill_and_no_begun_request_in_a_stop(installed: Installed, tmp_path: Path) -> None:
    home = installed(tmp_path / "home")
    acknowledged: list[tuple[int, str]] = []
    with serving(home) as served:

        def write(writer: int) -> None:
            for count in range(1000):
                text = f"{CANARY} {writer}.{count}"
                try:
                    code, told = served.ask("POST", "/v1/entries", {"text": text})
                except OSError:
                    return
                assert code == 201
                acknowledged.append((told["number"], text))

        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        while len(acknowledged) < 40:
            time.sleep(0.01)
        served.process.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.join()
    assert len(acknowledged) >= 40
    kept = {record.entry.number: record.entry.text for record in home.diary.records()}
    assert all(kept.get(number) == text for number, text in acknowledged)
    with serving(home) as again:
        assert again.ask("GET", "/v1/entries")[1]["total"] == len(kept)
        body = json.dumps({"text": f"{CANARY} 끝까지"}).encode()
        sized = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue")
        with socket.create_connection(("127.0.0.1", again.port), timeout=20) as connection:
            connection.sendall(head("POST", "/v1/entries", *sized, token=again.token))
            assert status(connection.recv(100)) == 100  # the request has begun
            connection.sendall(body[:5])
            again.process.send_signal(signal.SIGTERM)
            wait_until_closed(again.port)
            connection.sendall(body[5:])
            assert status(connection.recv(100)) == 201
        assert again.process.wait(20) == 0
    assert home.diary.count() == len(kept) + 1
    assert not (home.root / "served-at").exists()
    log = (home.root.parent / "log.txt").read_text()
    assert "POST /v1/entries 201" in log
    assert CANARY not in log
