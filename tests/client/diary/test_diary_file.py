"""The file of a diary: what its bytes show, what damage does, and how it gets from one version to the next.

The oracle reads SQLCipher's pages by itself: AES-256-CBC with the raw key, 4,096 bytes a page, of which the last 80 hold the
initialisation vector and the authentication code.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from client.diary.diary import Diary
from client.diary.diary_file import MIGRATIONS, DiaryFile
from client.home import DevicePolicy, Home
from client.vault import DataKey, WrongKey
from model.emotions import Emotion
from model.refusal import Refusal

PAGE, RESERVED = 4096, 80
HIDDEN = "아무도모를비밀"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", DevicePolicy())


def decrypted(file: Path, key: DataKey) -> bytes:
    """Every page of a database or of its write-ahead log, used or not."""
    content = file.read_bytes()
    log = file.name.endswith("-wal")
    pages = [content[at + 24 : at + 24 + PAGE] for at in range(32, len(content), PAGE + 24)] if log else []
    for at in range(0, 0 if log else len(content), PAGE):
        pages.append(content[at : at + PAGE])
    plain = b""
    for number, page in enumerate(pages):
        first = page[:6] != b"SQLite" and not log and number == 0
        start = 16 if first else 0
        vector = page[PAGE - RESERVED : PAGE - RESERVED + 16]
        decryptor = Cipher(AES(bytes.fromhex(key.database)), CBC(vector)).decryptor()
        plain += decryptor.update(page[start : PAGE - RESERVED])
    return plain


def bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


# what the bytes show


def test_no_byte_of_home_shows_an_entry_while_it_is_kept(home: Home) -> None:
    with home.diary._file.reading():  # holds the log, so that it is looked at too
        number = home.diary.add(HIDDEN * 3, emotion=Emotion.SADNESS)
        home.diary.correct(number, Emotion.JOY)
        home.diary.revise("taste", lambda _: f'"{HIDDEN}"')
        assert (home.root / "diary.sqlite3-wal").stat().st_size > 0
        shown = bytes_of(home.root)
        assert HIDDEN.encode() not in shown
        assert b"sadness" not in shown
        assert b"SQLite format" not in shown
        assert HIDDEN.encode() in decrypted(home.root / "diary.sqlite3-wal", home.key)  # the oracle would have seen it
    home.diary.add("여기")
    assert HIDDEN.encode() in decrypted(home.root / "diary.sqlite3", home.key)


def test_a_forgotten_entry_is_in_no_page_not_even_for_who_has_the_key(home: Home) -> None:
    for number in range(40):
        home.diary.add(f"남는 글 {number} " * 50)
    number = home.diary.add(HIDDEN * (9_900 // len(HIDDEN)), emotion=Emotion.SADNESS)  # a chain of overflow pages
    home.diary.correct(number, Emotion.ANGER)
    pages = (home.root / "diary.sqlite3").stat().st_size // PAGE
    assert HIDDEN.encode() in decrypted(home.root / "diary.sqlite3", home.key)
    home.diary.forget(number)
    left = b"".join(decrypted(file, home.key) for file in home.root.glob("diary.sqlite3*") if not file.name.endswith("-shm"))
    assert "남는 글 39".encode() in left
    assert HIDDEN.encode() not in left
    assert (home.root / "diary.sqlite3").stat().st_size // PAGE < pages - 5
    with home.diary._file.reading() as database:
        assert database.execute("SELECT count(*) FROM corrections").fetchone() == (0,)


def test_forgetting_empties_the_log_though_another_program_holds_the_diary_open(home: Home) -> None:
    with closing(home.diary._file._connected()):
        home.diary.forget(home.diary.add(HIDDEN))
        log = home.root / "diary.sqlite3-wal"
        assert not log.exists() or HIDDEN.encode() not in decrypted(log, home.key)


def test_forgetting_says_so_if_another_program_keeps_the_old_pages(home: Home) -> None:
    number = home.diary.add(HIDDEN)
    hasty = Diary(DiaryFile(home.root / "diary.sqlite3", home.key, patience=0.1), cache=home.cache)
    with home.diary._file.reading() as database:
        database.execute("SELECT * FROM entries").fetchone()
        with pytest.raises(Refusal, match=f"entry {number} is forgotten, but old pages are still"):
            hasty.forget(number)
    assert home.diary.count() == 0  # and with the last reader gone the log goes too
    assert HIDDEN.encode() not in decrypted(home.root / "diary.sqlite3", home.key)
    assert not (home.root / "diary.sqlite3-wal").exists()


def test_only_the_owner_may_read_any_file(home: Home) -> None:
    with home.diary._file.writing() as database:
        database.execute("INSERT INTO documents VALUES ('a', 'b')")
        assert not [file for file in home.root.rglob("*") if file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o077]


# damage


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:5000], id="cut short"),
        pytest.param(lambda content: content[: 3 * PAGE], id="cut after the third page"),
        pytest.param(lambda content: content[:100], id="cut to 100 bytes"),
        pytest.param(lambda content: b"", id="emptied"),
        pytest.param(lambda content: os.urandom(len(content)), id="garbled"),
        pytest.param(lambda content: content[:PAGE] + os.urandom(len(content) - PAGE), id="garbled after the first page"),
        pytest.param(lambda content: b"SQLite format 3\x00" + content[16:], id="said to be plain"),
    ],
)
def test_a_damaged_diary_is_one_sentence_and_is_left_as_it_is(
    home: Home, damage, capfd: pytest.CaptureFixture[str]  # type: ignore[no-untyped-def]
) -> None:  # fmt: skip
    for number in range(20):
        home.diary.add(f"{HIDDEN} {number}" * 100, emotion=Emotion.JOY)
    path = home.root / "diary.sqlite3"
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    for act in (home.diary.labelled, lambda: home.diary.add("새 글"), lambda: home.diary.forget(3)):
        with pytest.raises(Refusal, match="restore it from a backup") as refused:
            act()
        assert HIDDEN not in str(refused.value)
    assert path.read_bytes() == before
    assert capfd.readouterr() == ("", "")  # SQLCipher writes to standard error by itself unless it is told not to


def test_a_diary_that_is_gone_is_refused_and_not_begun_anew(home: Home) -> None:
    home.diary.add(HIDDEN)
    (home.root / "diary.sqlite3").unlink()
    with pytest.raises(Refusal, match="is gone; restore it"):
        home.diary.add("새 글")
    assert not (home.root / "diary.sqlite3").exists()


def test_another_key_opens_nothing(home: Home, tmp_path: Path) -> None:
    home.diary.add(HIDDEN)
    stranger = Diary(DiaryFile(home.root / "diary.sqlite3", DataKey.create()), cache=tmp_path)
    with pytest.raises(Refusal, match="cannot be used"):
        stranger.count()


# versions


def test_a_newer_diary_is_refused_and_left_as_it_is(home: Home) -> None:
    home.diary.add(HIDDEN)
    with home.diary._file.writing() as database:
        database.execute("PRAGMA user_version = 99")
    before = (home.root / "diary.sqlite3").read_bytes()
    with pytest.raises(Refusal, match=r"has version 99 and this program reads up to \d"):
        home.diary.count()
    assert (home.root / "diary.sqlite3").read_bytes() == before


def made_before_there_was_a_key(root: Path) -> Home:
    """A Home and a diary as the version before wrote them."""
    home = Home.create(root, DevicePolicy())
    for file in root.glob("diary*"):
        file.unlink()
    (root / "vault.json").unlink()
    with closing(sqlite3.connect(root / "diary.sqlite3")) as plain, plain:
        plain.execute("PRAGMA journal_mode = WAL")
        plain.execute(
            "CREATE TABLE entries (id INTEGER PRIMARY KEY AUTOINCREMENT, written TEXT NOT NULL, text TEXT NOT NULL, emotion TEXT)"
        )
        rows = [("2026-05-01T03:00:00+00:00", f"{HIDDEN} {number}", "joy" if number % 2 else None) for number in range(50)]
        plain.executemany("INSERT INTO entries (written, text, emotion) VALUES (?, ?, ?)", rows)
        plain.execute("DELETE FROM entries WHERE id = 7")
    return home


def test_a_plain_diary_becomes_an_encrypted_one_and_no_plain_byte_stays(tmp_path: Path) -> None:
    root = made_before_there_was_a_key(tmp_path / "home").root
    second_name = tmp_path / "the same bytes"
    os.link(root / "diary.sqlite3", second_name)
    assert HIDDEN.encode() in second_name.read_bytes()
    diary = Home(root).diary
    assert [(record.entry.number, record.entry.text) for record in diary.records()] == [
        (number + 1, f"{HIDDEN} {number}") for number in range(50) if number != 6
    ]
    assert len(diary.labelled()) == 25
    assert diary.entry(1).day.isoformat() == "2026-05-01"
    assert diary.add("새 글") == 51
    assert HIDDEN.encode() not in bytes_of(root)
    assert not any(second_name.read_bytes())  # overwritten, not only renamed over
    assert Home(root).diary.count() == 50


def test_several_processes_that_find_a_plain_diary_agree(tmp_path: Path) -> None:
    root = made_before_there_was_a_key(tmp_path / "home").root
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.map(_count, [root] * 8) == [49] * 8
    assert HIDDEN.encode() not in bytes_of(root)


def _count(root: Path) -> int:
    return Home(root).diary.count()


@pytest.mark.parametrize("killed_after", ["vault", "copy", "link", "rename"])
def test_encrypting_can_be_killed_anywhere(tmp_path: Path, killed_after: str) -> None:
    """Each state that a killed process can leave behind, made by hand; the next opening ends with the whole diary, encrypted."""
    root = made_before_there_was_a_key(tmp_path / "home").root
    plain, copy, leftover = root / "diary.sqlite3", root / ".diary.sqlite3.partial", root / ".diary.sqlite3.plain"
    content = plain.read_bytes()
    if killed_after == "vault":
        Home(root).vault.make()
    if killed_after == "copy":
        Home(root).vault.make()
        copy.write_bytes(b"half a copy")
    if killed_after == "link":
        Home(root).vault.make()
        os.link(plain, leftover)
    if killed_after == "rename":
        Home(root).diary.count()
        leftover.write_bytes(content)
    assert Home(root).diary.count() == 49
    assert HIDDEN.encode() not in bytes_of(root)
    assert not leftover.exists()
    assert not copy.exists()


def test_a_home_without_a_diary_gets_an_encrypted_one(tmp_path: Path) -> None:
    root = made_before_there_was_a_key(tmp_path / "home").root
    (root / "diary.sqlite3").unlink()
    Home(root).diary.add(HIDDEN)
    assert HIDDEN.encode() not in bytes_of(root)


def test_a_lost_vault_is_not_replaced(home: Home) -> None:
    home.diary.add(HIDDEN)
    (home.root / "vault.json").unlink()
    with pytest.raises(Refusal, match=r"vault\.json is gone; restore it"):
        _ = Home(home.root).diary
    assert not (home.root / "vault.json").exists()


def test_a_plain_diary_that_is_damaged_is_left_as_it_is(tmp_path: Path) -> None:
    root = made_before_there_was_a_key(tmp_path / "home").root
    path = root / "diary.sqlite3"
    path.write_bytes(path.read_bytes()[:PAGE] + os.urandom(PAGE))
    before = path.read_bytes()
    with pytest.raises(Refusal, match="restore it from a backup"):
        Home(root).diary.count()
    assert path.read_bytes() == before


def test_the_migrations_lead_from_every_version_to_todays(tmp_path: Path, home: Home) -> None:
    """From the schema of version n, written by hand of the first n migrations, to the same schema as a new diary's."""

    def schema(file: DiaryFile) -> list[tuple[str, ...]]:
        with file.reading() as database:
            return sorted(database.execute("SELECT type, name, sql FROM sqlite_master").fetchall())

    for version in range(1, len(MIGRATIONS)):
        key = DataKey.create()
        file = DiaryFile(tmp_path / f"v{version}.sqlite3", key)
        file.create()
        file.path.unlink()
        from sqlcipher3 import dbapi2

        with closing(dbapi2.connect(str(file.path), isolation_level=None)) as database:
            database.execute(f"PRAGMA key = \"x'{key.database}'\"")
            for statements in MIGRATIONS[:version]:
                for statement in statements:
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {version}")
        assert schema(file) == schema(home.diary._file)


def test_a_wrong_key_is_told_by_the_vault_and_not_taken_for_damage(home: Home) -> None:
    home.diary.add(HIDDEN)
    (home.root / "diary.key").write_text("0" * 64)
    with pytest.raises(WrongKey, match="does not open the Home"):
        _ = Home(home.root).diary
