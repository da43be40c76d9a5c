"""`healing server`: the register of a federation, from what devices print to what they join."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from client.commands import client_commands
from client.home import DevicePolicy, Home
from client.vault import Passphrase
from model.refusal import Refusal
from privacy.identity import Identity
from privacy.register import Register, read_register, registration_line, write_register
from server.commands import server_commands

Healing = Callable[..., Result]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Healing:
    """Runs `healing server ...`; a refusal is raised, as main() sees it."""

    def run(*words: object) -> Result:
        return CliRunner().invoke(server_commands, [*map(str, words), "--home", str(tmp_path / "server")], catch_exceptions=False)

    return run


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Healing:
    for name in ("HEALING_PASSPHRASE", "HEALING_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)

    def run(home: Home, *words: object) -> Result:
        return CliRunner().invoke(client_commands, [*map(str, words), "--home", str(home.root)], catch_exceptions=False)

    return run


@pytest.fixture
def homes(tmp_path: Path) -> list[Home]:
    return [Home.create(tmp_path / f"home-{number}", DevicePolicy()) for number in range(3)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server" / "register.json"


def lines_of(homes: list[Home]) -> list[str]:
    return [registration_line(home.identity) for home in homes]


def test_devices_print_their_lines_the_server_registers_them_and_each_joins(
    server: Healing, client: Healing, homes: list[Home], file: Path, tmp_path: Path
) -> None:
    """One line given as it is, two in a file; the fingerprint that the server shows is the one that each device asks for."""
    printed = [client(home, "identity").output for home in homes]
    (tmp_path / "lines.txt").write_text("\n".join(printed[1:]))
    shown = server("register", printed[0].strip(), tmp_path / "lines.txt").output
    fingerprint = read_register(file).fingerprint
    assert f"with 3 devices\nfingerprint: {fingerprint}" in shown
    assert server("devices").output.endswith(shown.split("register: ")[1])
    for number, home in enumerate(homes):
        assert "takes part in no masked or encrypted round" in client(home, "status").output
        told = client(home, "join", file, "--fingerprint", fingerprint).output
        assert f"devices: 3, of which this one is number {number}\nfingerprint: {fingerprint}" in told
        assert home.register.devices == {number: home.identity.public for number, home in enumerate(homes)}
        assert f"the 3 devices of register {home.register.digest[:12]}, of which it is number {number}" in client(home, "status").output


def test_the_commands_of_the_page_on_privacy_work_when_pasted(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")
    init, block = re.findall(r"^```\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert "healing client init --home device-$n --fewest-asked 3" in init
    for number in (1, 2, 3):  # as that does, without the model, which takes it ten seconds each
        Home.create(tmp_path / f"device-{number}", DevicePolicy(fewest_asked=3))
    tools = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    script = block.replace(".venv/bin/", "")
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=tools, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "of which it is number 0, where at least 3 are asked" in done.stdout
    assert done.stdout.count("joined\n") == 3


def test_what_the_server_is_given_is_registered_whole_or_not_at_all(server: Healing, homes: list[Home], file: Path, tmp_path: Path) -> None:
    lines = lines_of(homes)
    server("register", *lines[:2])
    before = file.read_bytes()
    (tmp_path / "not-text").write_bytes(b"\xff\xfe")
    for words, sentence in (
        ([lines[2], lines[0]], "registered already, as number 0"),
        ([lines[2], lines[2]], "registered already, as number 2"),
        ([lines[2], lines[2][:-4]], "not the whole line"),
        ([lines[2], tmp_path / "nowhere.txt"], "not the whole line"),
        ([lines[2], tmp_path / "not-text"], "cannot be read as text"),
    ):
        with pytest.raises(Refusal, match=sentence):
            server("register", *words)
        assert file.read_bytes() == before
    file.write_bytes(before[:-9])
    for words in (["register", lines[2]], ["devices"], ["unregister", 0]):
        with pytest.raises(Refusal, match="is damaged"):
            server(*words)
    assert file.read_bytes() == before[:-9]


def test_a_device_s_home_is_no_place_for_a_server_s_register(homes: list[Home]) -> None:
    words = ["register", *lines_of(homes), "--home", str(homes[0].root)]
    with pytest.raises(Refusal, match="is a device's Home"):
        CliRunner().invoke(server_commands, words, catch_exceptions=False)
    assert not homes[0].register_path.exists()


def test_a_device_joins_nothing_without_the_right_fingerprint(server: Healing, client: Healing, homes: list[Home], file: Path) -> None:
    server("register", *lines_of(homes))
    with pytest.raises(Refusal, match="nobody can be asked here"):
        client(homes[0], "join", file)
    with pytest.raises(Refusal, match="another fingerprint than the one given"):
        client(homes[0], "join", file, "--fingerprint", Register().fingerprint)
    with pytest.raises(Refusal, match="another fingerprint than the one given"):
        client(homes[0], "join", file, "--fingerprint", read_register(file).fingerprint[:-5])
    assert not homes[0].register_path.exists()


@pytest.mark.parametrize(("answer", "status"), [("n", 1), ("y", 0)])
def test_at_a_terminal_the_fingerprint_is_shown_and_a_person_decides(
    server: Healing, homes: list[Home], file: Path, answer: str, status: int
) -> None:
    server("register", *lines_of(homes))
    child, terminal = pty.fork()
    if child == 0:
        words = ["client", "join", str(file), "--home", str(homes[0].root)]
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "healing", *words])  # noqa: S606
    shown = b""
    while not shown.endswith(b"[y/N]: "):
        shown += os.read(terminal, 1024)
    assert f"fingerprint: {read_register(file).fingerprint}" in shown.decode()
    os.write(terminal, f"{answer}\n".encode())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
    os.close(terminal)
    assert homes[0].register_path.exists() == (status == 0)


def test_a_register_without_this_device_or_that_is_damaged_is_not_joined(
    server: Healing, client: Healing, homes: list[Home], file: Path
) -> None:
    server("register", *lines_of(homes[:2]))
    fingerprint = read_register(file).fingerprint
    with pytest.raises(Refusal, match="this device is not among the 2"):
        client(homes[2], "join", file, "--fingerprint", fingerprint)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(Refusal, match="is damaged"):
        client(homes[0], "join", file, "--fingerprint", fingerprint)
    assert not any(home.register_path.exists() for home in homes)


def test_a_device_that_has_joined_follows_what_grows_and_refuses_what_was_put_in_its_place(
    server: Healing, client: Healing, homes: list[Home], file: Path
) -> None:
    server("register", *lines_of(homes[:2]))
    older = read_register(file)
    client(homes[0], "join", file, "--fingerprint", older.fingerprint)
    server("register", *lines_of(homes[2:]))
    server("unregister", 1)
    newer = read_register(file)
    told = client(homes[0], "join", file, "--fingerprint", newer.fingerprint).output
    assert "since the register of before: new 2, gone 1, with another key none" in told

    swapped = Register({**newer.devices, 2: Identity.create().public}, newer.given)
    for other, sentence in ((older, "brings back device 1"), (swapped, "gives device 2 another key")):
        write_register(file, other)
        with pytest.raises(Refusal, match=sentence):
            client(homes[0], "join", file, "--fingerprint", other.fingerprint)
        assert homes[0].register == newer
    told = client(homes[0], "join", file, "--fingerprint", swapped.fingerprint, "--anew").output
    assert "new none, gone none, with another key 2" in told
    homes[0].register_path.write_bytes(b"damaged")
    with pytest.raises(Refusal, match="is damaged, so whether this one follows it is unknown"):
        client(homes[0], "join", file, "--fingerprint", swapped.fingerprint)
    client(homes[0], "join", file, "--fingerprint", swapped.fingerprint, "--anew")
    assert homes[0].register == swapped


def test_an_identity_opens_with_the_home_alone_and_one_that_somebody_else_put_there_is_refused(client: Healing, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("열두 글자가 넘는 말\n", encoding="utf-8")
    words.chmod(0o600)
    locked = Home.create(tmp_path / "locked", DevicePolicy(), passphrase=Passphrase.read(words))
    with pytest.raises(Refusal, match="opens with a passphrase"):
        client(locked, "identity")
    assert locked.identity.public.hex() in client(locked, "identity", "--passphrase-file", words).output

    identity = Identity.create()
    sealed = (locked.root / "identity.json").read_bytes()
    assert b"private" not in sealed
    for damaged in (sealed[:-1], b"", b"{}", identity.to_bytes()):
        (locked.root / "identity.json").write_bytes(damaged)
        with pytest.raises(Refusal, match=r"identity.json' is damaged"):
            _ = locked.identity
