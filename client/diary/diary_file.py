"""The file in which a diary lies: SQLCipher, opened with a raw key, with numbered migrations.

Every page is encrypted and authenticated (AES-256 in CBC mode, HMAC-SHA-512); so is the write-ahead log. A connection lives for one
transaction, so that threads, the training process and the command line share the file, and each committed transaction is on
the disk. A file appears under its name only when it is whole: one that is empty, cut short or garbled is damage, and is
neither mended nor begun anew.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from client.vault import DataKey, shred
from model.checkpoint import locked, sync_folder
from model.refusal import Damaged, Refusal

Connection = Any
"""A sqlcipher3 connection, which has the methods of sqlite3's and no common class with it."""

PATIENCE = 30.0
"""Seconds to wait for another program's transaction."""

PLAIN = b"SQLite format 3\x00"

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    ("CREATE TABLE entries (id INTEGER PRIMARY KEY AUTOINCREMENT, written TEXT NOT NULL, text TEXT NOT NULL, emotion TEXT)",),
    (  # a new table, since ten new columns one by one take ten times as long
        "CREATE TABLE fuller (id INTEGER PRIMARY KEY AUTOINCREMENT, day TEXT NOT NULL, written TEXT NOT NULL, edited TEXT, "
        "text TEXT NOT NULL, probabilities TEXT, read_as TEXT, version INTEGER, digest TEXT, "
        "emotion TEXT, feelings TEXT NOT NULL, teaches INTEGER NOT NULL)",
        "INSERT INTO fuller (id, day, written, text, emotion, feelings, teaches) "
        "SELECT id, date(written, 'localtime'), written, text, emotion, '', 1 FROM entries",
        "DROP TABLE entries",
        "ALTER TABLE fuller RENAME TO entries",
        "CREATE INDEX entries_by_day ON entries (day, id)",
        "CREATE TABLE corrections (id INTEGER PRIMARY KEY, entry INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE, "
        "before TEXT, at TEXT NOT NULL)",
        "CREATE INDEX corrections_by_entry ON corrections (entry)",
        "CREATE TABLE documents (name TEXT PRIMARY KEY, content TEXT NOT NULL)",
    ),
    (
        "ALTER TABLE entries ADD COLUMN divided INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX entries_unread ON entries (day, id) WHERE probabilities IS NULL",
    ),
    ("ALTER TABLE entries ADD COLUMN kinds TEXT",),
)
"""What leads from each version of the schema to the next. The first is that of the plain diaries before there was a key."""


class DiaryFault(Damaged):
    """The file cannot be used now: damaged, gone, locked by others for too long, or the disk is full."""


class DiaryFile:
    """One encrypted database file: transactions, and nothing about what is in it."""

    def __init__(self, path: Path, key: DataKey, *, patience: float = PATIENCE) -> None:
        self.path = path
        self._key = key
        self._patience = patience

    def create(self) -> None:
        """Make the file, empty; one that is there already is left as it is."""
        with self._locked():
            if not self.path.exists():
                self._made(()).replace(self.path)
                sync_folder(self.path.parent)

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Another one after every transaction that wrote, whoever wrote it; two stats, and the file stays closed."""
        return tuple(_stamp(path) for path in (self.path, self.path.with_name(f"{self.path.name}-wal")))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One state of the diary, whatever others write meanwhile."""
        with self._transaction("BEGIN") as database:
            yield database

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """All that is done inside is on the disk afterwards, or, after any exception, nothing of it."""
        with self._transaction("BEGIN IMMEDIATE") as database:
            yield database

    def compact(self) -> None:
        """Write the file anew without what was deleted, and empty the write-ahead log; :class:`Refusal` if another holds that."""
        with self._told(), closing(self._connected()) as database:
            database.execute("VACUUM")
            [held, *_] = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if held:
            raise Refusal(f"the diary '{self.path}' is being read by another program; close that, and forget or add an entry")

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with self._told(), closing(self._connected()) as database:
            database.execute(begin)
            try:
                yield database
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    def _connected(self) -> Connection:
        if not self.path.exists():
            raise DiaryFault(f"the diary '{self.path}' is gone; restore it from a backup, or make a new Home")
        self._finish_encrypting()
        try:
            return self._opened(self.path)
        except sqlcipher.DatabaseError as error:
            if _name(error) != "SQLITE_NOTADB":
                raise
        self._encrypt()  # if it is a plain one, or was until now
        return self._opened(self.path)

    def _opened(self, path: Path) -> Connection:
        """A connection to a file of today's version, with older ones brought there first."""
        database = sqlcipher.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=self._patience, isolation_level=None)
        try:
            self._unlock(database)
            for pragma in ("secure_delete = ON", "foreign_keys = ON", "temp_store = MEMORY"):
                database.execute(f"PRAGMA {pragma}")
            version = _version(database)
            if version == 0:
                raise DiaryFault(f"the diary '{path}' is empty, which no diary ever is; restore it from a backup")
            if version != len(MIGRATIONS):
                _migrate(database, path)
        except BaseException:
            database.close()
            raise
        return database

    def _made(self, plain_rows: Sequence[tuple[Any, ...]]) -> Path:
        """A whole new file beside the diary's place; ``plain_rows`` are a plain diary's entries."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        for left_behind in self.path.parent.glob(f"{partial.name}*"):
            left_behind.unlink()
        handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            with self._told(), closing(sqlcipher.connect(str(partial), isolation_level=None)) as database:
                self._unlock(database)
                database.execute("PRAGMA synchronous = OFF")  # the whole file is synced once, below
                database.execute("PRAGMA journal_mode = WAL")
                _migrate(database, partial, plain_rows)
            os.fsync(handle)
        finally:
            os.close(handle)
        return partial

    def _unlock(self, database: Connection) -> None:
        database.execute("PRAGMA cipher_log_level = NONE")  # else it writes to standard error by itself
        database.execute(f"PRAGMA key = \"x'{self._key.database}'\"")

    def _locked(self) -> Any:
        return locked(self.path.with_suffix(".lock"))

    @property
    def _leftover(self) -> Path:
        """The plain diary's second name, from when its copy is verified until it has been overwritten."""
        return self.path.with_name(f".{self.path.name}.plain")

    def _encrypt(self) -> None:
        """Replace a plain diary by an encrypted copy that was compared with it, and overwrite the plain one."""
        with self._locked():
            if not _is_plain(self.path):
                return  # another process was faster
            with closing(sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)) as plain:
                rows = _plain_rows(plain)
                copy = self._made(rows)
                with closing(self._opened(copy)) as database:
                    same = database.execute("SELECT id, written, text, emotion FROM entries ORDER BY id").fetchall() == rows
                    faults = database.execute("PRAGMA cipher_integrity_check").fetchall()
                if not same or faults:
                    raise Refusal(f"the encrypted copy of '{self.path}' differs from it; the plain diary was left as it is, check the disk")
                self._leftover.unlink(missing_ok=True)
                os.link(self.path, self._leftover)
                copy.replace(self.path)
                sync_folder(self.path.parent)  # before the plain one is overwritten
        self._finish_encrypting()

    def _finish_encrypting(self) -> None:
        if not self._leftover.exists():
            return
        with self._locked():
            if self._leftover.exists() and self.path.samefile(self._leftover):
                self._leftover.unlink()  # killed before the copy took its place
            elif self._leftover.exists():
                shred(self._leftover)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Every fault of the database as one sentence, which holds no text of an entry."""
        try:
            yield
        except (sqlcipher.DatabaseError, sqlite3.DatabaseError) as error:
            raise DiaryFault(f"the diary '{self.path}' {_advice(_name(error))}") from None


def require_plain(path: Path) -> None:
    """For a Home that has no key: its diary must be a plain one; where there is none yet, an empty plain one is made."""
    if not path.exists() or not path.stat().st_size:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with closing(sqlite3.connect(path, isolation_level=None)) as plain:
            for statement in MIGRATIONS[0]:
                plain.execute(statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))
    if not _is_plain(path):
        raise Refusal(f"the diary '{path}' is encrypted and the Home's vault.json is gone; restore it from a backup")


def _is_plain(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PLAIN)) == PLAIN


def _migrate(database: Connection, path: Path, plain_rows: Sequence[tuple[Any, ...]] = ()) -> None:
    """Bring a database to today's version, in one transaction; a newer one is refused."""
    database.execute("BEGIN IMMEDIATE")
    version = _version(database)
    if version > len(MIGRATIONS):
        database.execute("ROLLBACK")
        raise Refusal(
            f"the diary '{path}' has version {version} and this program reads up to {len(MIGRATIONS)}; "
            "use the program that wrote it, or a newer one"
        )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        for statement in statements:
            database.execute(statement)
        if number == 1:
            database.executemany("INSERT INTO entries (id, written, text, emotion) VALUES (?, ?, ?, ?)", plain_rows)
    database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    database.execute("COMMIT")


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _version(database: Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _leave_log(plain: sqlite3.Connection) -> None:
    """Leave write-ahead logging. SQLite does not wait for this lock, so a program that looks at the file just then would be a fault."""
    last = time.monotonic() + PATIENCE
    while True:
        try:
            plain.execute("PRAGMA journal_mode = DELETE").fetchall()
        except sqlite3.OperationalError as error:
            if not _name(error).startswith("SQLITE_BUSY") or time.monotonic() > last:
                raise
            time.sleep(0.01)
        else:
            return


def _plain_rows(plain: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """All entries of a plain diary, which nobody else writes from now on; its write-ahead log is in the file by then."""
    plain.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _leave_log(plain)
    plain.execute("BEGIN EXCLUSIVE")
    return plain.execute("SELECT id, written, text, emotion FROM entries ORDER BY id").fetchall()


def _name(error: Exception) -> str:
    return str(getattr(error, "sqlite_errorname", type(error).__name__))


def _advice(name: str) -> str:
    if name.startswith("SQLITE_FULL"):
        return f"found no room on the disk ({name}); free some and try again, what was kept before is as it was"
    if name.startswith("SQLITE_IOERR"):
        return f"met a disk that is full or faulty ({name}); free some room or change the disk, and try again"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"is in use by another program ({name}); try again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN", "SQLITE_AUTH")):
        return f"cannot be opened for writing ({name}); check who owns it and its folder"
    return f"cannot be used ({name}); restore it from a backup"
