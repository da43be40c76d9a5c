"""`healing client`: what a person types, and what they are told."""

from __future__ import annotations

import json
import os
import pty
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from client.api.access import Access, served_at
from client.commands import client_commands
from client.home import DevicePolicy, Home
from client.sent import note_sent
from client.vault import Passphrase
from model.emotions import Emotion
from model.refusal import Refusal
from privacy.plan import PrivacyPlan

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = "아무도모를비밀"
Healing = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", DevicePolicy())


@pytest.fixture
def healing(home: Home, monkeypatch: pytest.MonkeyPatch) -> Healing:
    """Runs `healing client ...` on ``home``; a refusal is raised, as main() sees it."""
    for name in ("HEALING_PASSPHRASE", "HEALING_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> Result:
        return CliRunner().invoke(client_commands, [*map(str, words), "--home", str(home.root)], catch_exceptions=False)

    return run


def words_in(folder: Path, name: str = "words") -> Path:
    path = folder / name
    path.write_text("열두 글자가 넘는 말\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def test_init_makes_a_home_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "home"
    first = CliRunner().invoke(client_commands, ["init", "--home", str(folder), "--epsilon-limit", "3"], catch_exceptions=False)
    assert first.output.startswith(f"made the Home '{folder}'; its diary is encrypted and opens with the key file {folder}/diary.key\n")
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()}
    again = CliRunner().invoke(client_commands, ["init", "--home", str(folder)], catch_exceptions=False)
    assert again.output.startswith("nothing was changed")
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.rglob("*") if file.is_file()} == before
    assert Home.at(folder).policy.epsilon_limit == 3.0
    with pytest.raises(Refusal, match="keeps it; change that with: healing client passphrase"):
        CliRunner().invoke(client_commands, ["init", "--home", str(folder), "--ask-passphrase"], catch_exceptions=False)


def test_status_tells_numbers_and_no_text(home: Home, healing: Healing) -> None:
    home.diary.add(HIDDEN, emotion=Emotion.JOY)
    home.diary.add(f"{HIDDEN} 둘")
    home.ledger.charge(
        PrivacyPlan(noise_multiplier=2.0, sampling_rate=0.25, clip_norm=1.0, delta=1e-4, steps_per_round=4), run="r", round=1
    )
    home.change_participation(paused=False, skip_next=True)
    told = healing("status").output
    assert "entries: 2, of which teach: 1" in told
    assert f"epsilon {home.ledger.spent():.2f} of 8 at delta 0.0001" in told
    assert "sits the next round out" in told
    assert "none yet; run init again" in told
    assert HIDDEN not in told
    (home.root / "ledger.json").unlink()
    assert "ledger.json' is gone" in healing("status").output


def test_status_and_the_docs_name_every_file_of_a_home(home: Home, healing: Healing) -> None:
    Access(home.root / "access.json")
    note_sent(home.root, run="r", round=1, what="update", bytes=1, privacy="none", aggregation="plain")
    home.change_participation(paused=True, skip_next=False)
    home.songs.mkdir()
    told, docs = healing("status").output, (ROOT / "docs" / "diary.md").read_text(encoding="utf-8")
    with served_at(home.root, "http://127.0.0.1:8000/"):
        names = {f"{path.name}/" if path.is_dir() else path.name for path in home.root.iterdir() if path.suffix != ".lock"}
    assert {"vault.json", "diary.key", "access.json", "songs/"} < names
    assert not [name for name in names - {"served-at"} if name not in told]
    assert not [name for name in names if f"`{name}`" not in docs]


def test_forgetting_asks_and_says_what_it_cannot_undo(home: Home, healing: Healing) -> None:
    number = home.diary.add(HIDDEN, emotion=Emotion.JOY)
    with pytest.raises(Refusal, match="add --yes"):
        healing("forget", number)
    assert home.diary.count() == 1
    told = healing("forget", number, "--yes").output
    assert "none has to be recalled" in told
    assert home.diary.count() == 0
    home.ledger.charge(
        PrivacyPlan(noise_multiplier=2.0, sampling_rate=0.25, clip_norm=1.0, delta=1e-4, steps_per_round=4), run="r", round=1
    )
    told = healing("forget", home.diary.add(HIDDEN), "--yes").output
    assert "cannot be recalled" in told
    assert f"only as far as epsilon {home.ledger.spent():.2f} at delta 0.0001 allows" in told
    assert HIDDEN not in told
    with pytest.raises(Refusal, match="no entry 1;"):
        healing("forget", 1, "--yes")


def test_an_archive_carries_a_diary_from_one_home_to_another(tmp_path: Path, home: Home, healing: Healing) -> None:
    home.diary.add(HIDDEN, emotion=Emotion.JOY)
    file, words = tmp_path / "diary.archive", words_in(tmp_path)
    assert healing("export", file, "--archive-passphrase-file", words).output == f"entries written: 1, in '{file}'\n"
    assert HIDDEN.encode() not in file.read_bytes()
    healing("forget", 1, "--yes")
    assert "imported: 1" in healing("import", file, "--archive-passphrase-file", words).output
    assert [entry.text for entry in home.diary.labelled()] == [HIDDEN]
    with pytest.raises(Refusal, match="the archive's passphrase is needed, and nobody can be asked here"):
        healing("import", file)


def test_an_import_that_brings_nothing_in_is_no_success(tmp_path: Path, home: Home, healing: Healing) -> None:
    file = tmp_path / "diary.csv"
    file.write_text(f"text,day\n{HIDDEN},2024-05-01\n", encoding="utf-8")
    assert healing("import", file).exit_code == 0
    assert healing("import", file).exit_code == 0  # it is here already
    file.write_text(f'text,day\n"{HIDDEN},2024-05-01\n', encoding="utf-8")
    told = healing("import", file)
    assert told.exit_code == 1
    assert "line 2: a quotation mark that is never closed" in told.output
    assert HIDDEN not in told.output


def test_an_import_is_looked_into_and_taken_back_as_one(tmp_path: Path, home: Home, healing: Healing) -> None:
    home.diary.add("먼저 있던 글")
    file = tmp_path / "diary.csv"
    file.write_text(f"text,day\n{HIDDEN},2024-05-01\n둘째,2024-05-02\n", encoding="utf-8")
    told = healing("import", file, "--look").output
    assert told.startswith("nothing was kept, entries found: 2, read as a table")
    assert home.diary.count() == 1
    healing("import", file)
    with pytest.raises(Refusal, match="add --yes"):
        healing("undo-import")
    assert healing("undo-import", "--yes").output == "entries forgotten: 2\n"
    assert [record.entry.text for record in home.diary.records()] == ["먼저 있던 글"]
    with pytest.raises(Refusal, match="no import can be taken back"):
        healing("undo-import", "--yes")


def test_a_readable_export_says_that_it_is_readable(tmp_path: Path, home: Home, healing: Healing) -> None:
    home.diary.add(HIDDEN)
    told = healing("export", tmp_path / "diary.json", "--form", "json").output
    assert "whoever gets hold of it can read" in told
    assert json.loads((tmp_path / "diary.json").read_bytes())["entries"][0]["text"] == HIDDEN


def test_the_passphrase_can_be_set_changed_and_given_up(
    tmp_path: Path, home: Home, healing: Healing, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.diary.add("글")
    words = words_in(tmp_path)
    assert "a passphrase from now on" in healing("passphrase", "--new-passphrase-file", words).output
    with pytest.raises(Refusal, match="set HEALING_PASSPHRASE"):
        healing("status")
    assert "entries: 1" in healing("status", "--passphrase-file", words).output
    monkeypatch.setenv("HEALING_PASSPHRASE", "열두 글자가 넘는 말")
    assert "entries: 1" in healing("status").output
    assert "key file" in healing("passphrase", "--to-key-file", home.root / "diary.key").output
    monkeypatch.delenv("HEALING_PASSPHRASE")
    home.root.rename(tmp_path / "moved")
    assert Home.at(tmp_path / "moved").diary.count() == 1


def test_a_passphrase_is_asked_for_at_a_terminal_and_not_shown(home: Home) -> None:
    """On a pseudo-terminal, as a person has one: the new words twice, and no echo of them."""
    home.diary.add("글")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "healing", "client", "passphrase", "--home", str(home.root)])  # noqa: S606
    shown = b""
    for words in ("typed at the terminal", "typed at the terminal", None):
        while not shown.endswith((b": ", b"still open as they did\r\n")):
            shown += os.read(terminal, 1024)
        if words is not None:
            os.write(terminal, f"{words}\n".encode())
            shown += b"|"
    assert os.waitpid(child, 0)[1] == 0
    os.close(terminal)
    assert b"typed" not in shown
    assert Home.at(home.root, passphrase=Passphrase("typed at the terminal")).diary.count() == 1


def test_a_folder_that_is_no_home_is_refused_with_the_next_move(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"not a Home .*; run: healing client init --home"):
        CliRunner().invoke(client_commands, ["status", "--home", str(tmp_path)], catch_exceptions=False)
