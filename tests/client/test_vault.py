"""The key of a Home: what opens it, what does not, and that nothing shows it."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import argon2
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from client.home import DevicePolicy, Home
from client.vault import DataKey, Passphrase, Stretching, Vault, WrongKey, shred
from model.refusal import Refusal
from model.settings import RunSettings

WORDS = Passphrase("열두 글자가 넘는 말")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def locked_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Home that opens with WORDS, in an environment that names no passphrase."""
    for name in ("HEALING_PASSPHRASE", "HEALING_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    home = Home.create(tmp_path / "home", DevicePolicy(), passphrase=WORDS)
    home.diary.add("첫 글")
    return home.root


def secret_file(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)
    return path


def test_the_passphrase_opens_it_however_its_syllables_are_composed(locked_home: Path) -> None:
    decomposed = Passphrase(unicodedata.normalize("NFD", "열두 글자가 넘는 말"))
    assert Home(locked_home, passphrase=WORDS).diary.count() == 1
    assert Home(locked_home, passphrase=decomposed).diary.count() == 1


def test_a_wrong_passphrase_is_one_sentence_that_does_not_quote_it(locked_home: Path) -> None:
    with pytest.raises(WrongKey, match="passphrase does not open the Home") as refused:
        _ = Home(locked_home, passphrase=Passphrase("something wrong")).diary
    assert "something" not in str(refused.value)


def test_what_wraps_the_key_is_argon2id_and_chacha20_as_other_programs_have_them(locked_home: Path) -> None:
    document = json.loads((locked_home / "vault.json").read_bytes())
    lock = document["lock"]
    assert (lock["kdf"], lock["passes"], lock["memory"], lock["lanes"]) == ("argon2id", 3, 65536, 4)
    hasher = argon2.PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4, hash_len=32)
    encoded = hasher.hash("열두 글자가 넘는 말", salt=bytes.fromhex(lock["salt"]))
    assert encoded.startswith("$argon2id$v=19$")
    import base64

    by = base64.b64decode(encoded.split("$")[-1] + "==")
    wrapped = bytes.fromhex(document["wrapped"])
    raw = ChaCha20Poly1305(by).decrypt(wrapped[:12], wrapped[12:], json.dumps([1, lock], sort_keys=True).encode())
    assert DataKey(raw).database == Home(locked_home, passphrase=WORDS).key.database
    assert raw.hex() not in (locked_home / "vault.json").read_text()


def test_a_passphrase_comes_from_the_environment_or_from_a_file_of_ones_own(
    locked_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = secret_file(tmp_path / "words", "열두 글자가 넘는 말\n")
    with pytest.raises(Refusal, match="opens with a passphrase; set HEALING_PASSPHRASE"):
        _ = Home(locked_home).diary
    monkeypatch.setenv("HEALING_PASSPHRASE_FILE", str(file))
    assert Home(locked_home).diary.count() == 1
    monkeypatch.delenv("HEALING_PASSPHRASE_FILE")
    assert Home.find({"home": str(locked_home), "passphrase-file": str(file)}, RunSettings()).diary.count() == 1
    monkeypatch.setenv("HEALING_PASSPHRASE", "열두 글자가 넘는 말")
    assert Home(locked_home).diary.count() == 1
    file.chmod(0o640)
    with pytest.raises(Refusal, match=r"read or changed by others \(mode 0640\); run: chmod 600"):
        Passphrase.read(file)
    with pytest.raises(Refusal, match="cannot be read"):
        Passphrase.read(tmp_path / "nowhere")


def test_a_node_opens_a_home_with_a_passphrase_only_if_it_is_told_the_words(locked_home: Path, tmp_path: Path) -> None:
    """In a process of its own, as a SuperNode is: refused in one sentence without, served with the file in its environment."""
    code = "from client.home import Home; from model.settings import RunSettings; print(Home.find({}, RunSettings()).diary.count())"
    file = secret_file(tmp_path / "words", "열두 글자가 넘는 말\n")
    environment = {"PATH": "", "HEALING_HOME": str(locked_home)}
    without = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    told = environment | {"HEALING_PASSPHRASE_FILE": str(file)}
    with_words = subprocess.run([sys.executable, "-c", code], env=told, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "opens with a passphrase; set HEALING_PASSPHRASE" in without.stderr
    assert with_words.stdout == "1\n"


def test_a_new_passphrase_opens_the_same_diary_and_the_old_one_does_not(locked_home: Path) -> None:
    home, new = Home(locked_home, passphrase=WORDS), Passphrase("다른 말로 바꾼다")
    diary_before = (locked_home / "diary.sqlite3").read_bytes()
    home.vault.change(home.key, passphrase=new)
    assert Home(locked_home, passphrase=new).diary.count() == 1
    assert (locked_home / "diary.sqlite3").read_bytes() == diary_before
    with pytest.raises(WrongKey):
        _ = Home(locked_home, passphrase=WORDS).diary


def test_a_key_file_can_give_way_to_a_passphrase_and_back(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    home.diary.add("첫 글")
    other_name = tmp_path / "key"
    other_name.hardlink_to(home.root / "diary.key")
    home.vault.change(home.key, passphrase=WORDS)
    assert not (home.root / "diary.key").exists()
    assert not any(other_name.read_bytes())  # overwritten
    assert home.vault.asks_passphrase
    Vault(home.root).change(home.key, key_file=tmp_path / "stick" / "my.key")
    assert Home(home.root).diary.count() == 1
    (tmp_path / "stick" / "my.key").unlink()
    with pytest.raises(Refusal, match=r"my\.key' cannot be read"):
        _ = Home(home.root).diary


def test_a_key_file_that_others_may_read_or_that_is_damaged_is_refused(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy())
    file = home.root / "diary.key"
    assert file.stat().st_mode & 0o777 == 0o600
    for mode in (0o644, 0o660, 0o602):
        file.chmod(mode)
        with pytest.raises(Refusal, match="chmod 600"):
            _ = Home(home.root).diary
    file.chmod(0o600)
    for content in ("", "abc", "g" * 64, "00" * 31, "\u00e9" * 32):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(Refusal, match="64 hexadecimal digits"):
            _ = Home(home.root).diary


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"wrapped": "00"},
        {"wrapped": None},
        {"lock": {"kind": "none"}},
        {"lock": None},
        {"lock": {"kind": "passphrase", "kdf": "md5"}},
        {"lock": {"kind": "passphrase", "kdf": "argon2id", "passes": 1, "memory": 2**40, "lanes": 1, "salt": "00" * 16}},
        {"lock": {"kind": "passphrase", "kdf": "argon2id", "passes": 1, "memory": 8192, "lanes": 1, "salt": "zz" * 16}},
    ],
)
def test_a_vault_that_was_tampered_with_is_refused(locked_home: Path, change: dict[str, object]) -> None:
    path = locked_home / "vault.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))
    with pytest.raises(Refusal):
        _ = Home(locked_home, passphrase=WORDS).diary


def test_weaker_parameters_written_into_the_vault_do_not_open_it(locked_home: Path) -> None:
    path = locked_home / "vault.json"
    document = json.loads(path.read_bytes())
    document["lock"]["passes"] = 1
    path.write_text(json.dumps(document))
    with pytest.raises(WrongKey):
        _ = Home(locked_home, passphrase=WORDS).diary


def test_a_short_passphrase_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="has 5 characters and needs 8"):
        Home.create(tmp_path / "home", DevicePolicy(), passphrase=Passphrase("짧은 말이"))
    assert not (tmp_path / "home" / "vault.json").exists()
    with pytest.raises(Refusal, match="empty"):
        Passphrase("")


def test_nothing_prints_a_key_or_a_passphrase(tmp_path: Path) -> None:
    key = DataKey(b"K" * 32)
    shown = f"{key!r} {key} {WORDS!r} {WORDS} {Vault(tmp_path)!r} {Stretching.create()!r}"
    assert "KKK" not in shown
    assert "열두" not in shown
    assert key.database not in shown


def test_what_is_sealed_opens_with_the_same_key_only_and_only_whole() -> None:
    key = DataKey.create()
    sealed = key.seal(b"content")
    assert key.open(sealed) == b"content"
    assert b"content" not in sealed
    for wrong in (b"", sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(WrongKey):
            key.open(wrong)
    with pytest.raises(WrongKey):
        DataKey.create().open(sealed)


def test_shredding_overwrites_before_it_removes(tmp_path: Path) -> None:
    file, other_name = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"secret" * 300_000)
    other_name.hardlink_to(file)
    shred(file)
    assert not file.exists()
    assert other_name.read_bytes() == bytes(1_800_000)
