"""Moving a diary: export to JSON, CSV, a folder of Markdown or an encrypted archive; import of these and of other programs' diaries.

JSON and the archive hold everything, also small documents such as the person's taste in music, and their own catalogues of
songs as far as those are text; CSV and Markdown hold the entries. Whatever was exported comes back the same, to the letter.
Only the archive is encrypted.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any

from client.diary.archive import is_archive, open_archive, seal_archive
from client.diary.diary import Diary, Record
from client.diary.entry_form import FIELDS, BadRow, fields_of, record_of
from client.diary.foreign import Row, Source, read_tables
from client.diary.made_playlists import DOCUMENT as PLAYLISTS
from client.diary.made_playlists import without_entries
from client.diary.notes import read_notes
from client.diary.programs import read_chat, read_json, read_zip
from client.music.own_songs import OwnSongs
from client.vault import Passphrase
from model.checkpoint import sync_folder, write_durably
from model.refusal import Refusal

PROGRAM, VERSION = "feelinghealing diary", 1
LAST_IMPORT = "last-import"
"""Under this name the diary keeps the numbers of the entries that came last, by which they can be taken back. It never travels."""


class Form(StrEnum):
    """What a diary can be exported to."""

    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    ARCHIVE = "archive"


@dataclass(frozen=True)
class Imported:
    """What came of an import: entries kept, entries that were here already, and an account of everything that was not kept as it stood.

    Rows are told by their places and files by their number; no word of them is here.
    """

    added: int
    known: int
    bad: tuple[tuple[str, str], ...]
    catalogues: int = 0
    """Of a person's own songs."""
    form: str = ""
    """As what the source was read."""
    undated: tuple[str, ...] = ()
    """Places of entries that say no day, and are filed under today."""
    unplaced: tuple[str, ...] = ()
    """Places of entries whose mood is none of the four, and that have no label."""
    left: Mapping[str, int] = field(default_factory=dict)
    """What is not kept of entries, and of how many: tags, weather."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Files that were not read, by the reason."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the source is here now, though something stood in it; an export of an empty diary is whole."""
        return not (self.added or self.known or self.catalogues) and bool(self.bad or self.form)

    def account(self) -> str:
        """One line for a person; no word of any row."""
        return ", ".join([f"entries imported: {self.added}", f"here already: {self.known}", *self._besides()])

    def outlook(self) -> str:
        """The same of what was only looked at."""
        return ", ".join([f"nothing was kept, entries found: {self.added}", *self._besides()])

    def _besides(self) -> list[str]:
        parts = []
        if self.bad:
            parts.append(f"bad rows skipped: {len(self.bad)} ({_some([f'{place}: {reason}' for place, reason in self.bad])})")
        if self.undated:
            parts.append(f"without a day, filed under the day of the import: {len(self.undated)} ({_some(self.undated)})")
        if self.unplaced:
            parts.append(f"kept without a label, since their mood is none of the four: {len(self.unplaced)} ({_some(self.unplaced)})")
        if self.left:
            parts.append(f"left out: {', '.join(f'{what} of {count}' for what, count in self.left.items())}")
        if self.passed_over:
            parts.append(f"files passed over: {', '.join(f'{reason} {count}' for reason, count in self.passed_over.items())}")
        if self.catalogues:
            parts.append(f"catalogues of songs: {self.catalogues}")
        if self.form:
            parts.append(f"read as {self.form}")
        return parts


def _some(places: Sequence[str]) -> str:
    return f"{'; '.join(places[:10])}{'; ...' if len(places) > 10 else ''}"


def export_diary(diary: Diary, path: Path, form: Form, *, passphrase: Callable[[], Passphrase], songs: OwnSongs | None = None) -> int:
    """Write the diary, and the person's own ``songs``, to a new file or folder that its owner only may read; gives the number of entries.

    ``passphrase`` is asked for an archive's own. An archive is opened again before this returns.
    """
    if path.exists() and not (form is Form.MARKDOWN and path.is_dir() and not any(path.iterdir())):
        raise Refusal(f"'{path}' exists already; name a new {'folder' if form is Form.MARKDOWN else 'file'}")
    records = list(diary.records())
    try:
        if form is Form.MARKDOWN:
            _write_markdown(records, path)
        elif form is Form.ARCHIVE:
            _write_archive(_document(diary, records, songs), path, passphrase())
        else:
            write_durably(path, exported(diary, form, songs=songs))
    except OSError as error:
        raise Refusal(f"'{path}' cannot be written ({error.strerror}); free some room or name another place") from None
    return len(records)


def exported(diary: Diary, form: Form, *, songs: OwnSongs | None = None, passphrase: Passphrase | None = None) -> bytes:
    """The content of an export that is one file; an archive is sealed under ``passphrase``."""
    if form is Form.MARKDOWN:
        raise Refusal("Markdown is a folder and no file; export it by `healing client export`")
    if form is Form.CSV:
        return _table(diary.records())
    document = _document(diary, diary.records(), songs)
    if form is Form.JSON:
        return document
    if passphrase is None:
        raise Refusal("an archive needs a passphrase of its own; choose one")
    sealed = io.BytesIO()
    seal_archive(document, sealed, passphrase)
    return sealed.getvalue()


def import_diary(
    diary: Diary, path: Path, *, passphrase: Callable[[], Passphrase], songs: OwnSongs | None = None, today: date | None = None
) -> Imported:
    """Keep every entry of a file or folder that is not here yet, all or none; bad rows are counted and told by their place.

    Its documents are kept where there is none of that name, and its catalogues of songs, if ``songs`` says where.
    """
    found = look_into(path, passphrase=passphrase, today=today)
    return found.kept_in(diary, songs)


@dataclass(frozen=True)
class Found:
    """What a file or folder holds, before any of it is kept."""

    records: tuple[Record, ...]
    account: Imported
    """Of a diary that holds nothing yet."""
    documents: Mapping[str, str] = field(repr=False, default_factory=dict)
    songs: Mapping[str, str] = field(repr=False, default_factory=dict)

    def kept_in(self, diary: Diary, songs: OwnSongs | None) -> Imported:
        """Keep what is not there yet; the entries all or none."""
        numbers = diary.restore(self.records)
        if numbers:
            diary.revise(LAST_IMPORT, lambda _: json.dumps(numbers))
        for name, document in self.documents.items():
            if name == LAST_IMPORT:
                continue
            if name == PLAYLISTS and numbers != [record.entry.number for record in self.records]:
                document = without_entries(document)  # another entry has the number here, and forgetting it would reach the wrong mood
            diary.keep_first(name, document)
        worse = _take_in(songs, self.songs) if songs is not None else []
        catalogues = len(self.songs) - len(worse) if songs is not None else 0
        added, known = len(numbers), len(self.records) - len(numbers)
        return replace(self.account, added=added, known=known, bad=(*self.account.bad, *worse), catalogues=catalogues)


def undo_import(diary: Diary) -> int:
    """Forget the entries of the last import, those that were changed since too; gives how many. :class:`Refusal` if there are none.

    What came along stays: a taste in music, catalogues of songs.
    """
    numbers = json.loads(diary.kept(LAST_IMPORT) or "[]")
    if not numbers:
        raise Refusal("no import can be taken back: there was none, or the last one was taken back already; forget entries one by one")
    forgotten = diary.forget_all(numbers)
    diary.revise(LAST_IMPORT, lambda _: "[]")
    return forgotten


def look_into(path: Path, *, passphrase: Callable[[], Passphrase], today: date | None = None) -> Found:
    """Read a file or folder and keep nothing; :class:`Refusal` if it cannot be read as a diary."""
    if not path.exists():
        raise Refusal(f"there is no '{path}'; name a file or a folder")
    try:
        source, more = _read(path, passphrase)
    except OSError as error:
        raise Refusal(f"'{path}' cannot be read ({error.strerror}); check who owns it") from None
    records, places, bad = [], [], []
    for row in source.rows:
        try:
            if row.fault:
                raise BadRow(row.fault)
            records.append(record_of(row.fields, today=today or date.today()))
            places.append(row)
        except BadRow as fault:
            bad.append((row.place, str(fault)))
    account = Imported(
        len(records), 0, tuple(bad), form=source.form,
        undated=tuple(row.place for row, record in zip(places, records, strict=True) if not record.dated),
        unplaced=tuple(row.place for row in places if row.unplaced),
        left=dict(Counter(what for row in places for what in row.left)), passed_over=source.passed_over,
    )  # fmt: skip
    return Found(tuple(records), account, more.documents, more.songs)


def _take_in(songs: OwnSongs, catalogues: Mapping[str, str]) -> list[tuple[str, str]]:
    """Keep the catalogues; which could not be kept, and why."""
    bad = []
    for number, content in enumerate(catalogues.values(), start=1):
        try:
            songs.take_in(io.BytesIO(content.encode()))
        except (Refusal, OSError) as fault:
            bad.append((f"catalogue {number}", str(fault.strerror if isinstance(fault, OSError) else fault)))
    return bad


# writing


def _document(diary: Diary, records: Iterable[Record], songs: OwnSongs | None) -> bytes:
    content = {
        "program": PROGRAM,
        "version": VERSION,
        "documents": {name: document for name, document in diary.documents().items() if name != LAST_IMPORT},
        "songs": songs.texts() if songs else {},
        "entries": [fields_of(record) for record in records],
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


def _table(records: Iterable[Record]) -> bytes:
    """CSV with a byte order mark, by which spreadsheets know UTF-8; what is no plain value is JSON."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(FIELDS)
    for record in records:
        writer.writerow(_cell(value) for value in fields_of(record).values())
    return file.getvalue().encode("utf-8-sig")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _write_markdown(records: Iterable[Record], folder: Path) -> None:
    """All files or no folder: what stopped half-way would lie about in plain text and be taken for the whole diary."""
    folder = folder.absolute()
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # of one that was killed
    partial.mkdir(parents=True, mode=0o700)
    try:
        for record in records:
            _write_one(record, partial)
        sync_folder(partial)
        partial.replace(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(folder.parent)


def _write_one(record: Record, folder: Path) -> None:
    fields = fields_of(record)
    text = fields.pop("text")
    front = "".join(f"{name}: {json.dumps(value)}\n" for name, value in fields.items())
    path = folder / f"{record.entry.day.isoformat()}-{record.entry.number:06d}.md"
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(f"---\n{front}---\n{text}".encode())
        file.flush()
        os.fsync(file.fileno())


def _write_archive(content: bytes, path: Path, passphrase: Passphrase) -> None:
    sealed = io.BytesIO()
    seal_archive(content, sealed, passphrase)
    write_durably(path, sealed.getvalue())
    with path.open("rb") as file:
        if open_archive(file, passphrase) != content:
            raise Refusal(f"'{path}' does not read back as it was written; check the disk and export again")


# reading


@dataclass(frozen=True)
class _More:
    """What came with the rows: documents, and catalogues of songs, by their names."""

    documents: Mapping[str, str] = field(default_factory=dict)
    songs: Mapping[str, str] = field(default_factory=dict)


def _read(path: Path, passphrase: Callable[[], Passphrase]) -> tuple[Source, _More]:
    """The rows of a source and what came with them."""
    if path.is_dir():
        return read_notes(path), _More()
    with path.open("rb") as file:
        if is_archive(file):
            return _of_document(open_archive(file, passphrase()), path)
        if file.read(4) == b"PK\x03\x04" and path.suffix.lower() != ".xlsx":
            return read_zip(path), _More()
    if path.suffix.lower() == ".json":
        return _of_document(path.read_bytes(), path)
    if path.suffix.lower() == ".txt":
        return read_chat(path), _More()
    return read_tables(path), _More()


def _of_document(content: bytes, path: Path) -> tuple[Source, _More]:
    try:
        document = json.loads(content.decode("utf-8-sig"))
        if not (isinstance(document, dict) and document.get("program") == PROGRAM) and (foreign := read_json(document)):
            return foreign, _More()
        if document["program"] != PROGRAM:
            raise ValueError
        if document["version"] != VERSION:
            raise Refusal(f"'{path}' has version {document['version']} and this program reads {VERSION}; update the program")
        more = _More(document["documents"], document.get("songs", {}))
        for name, one in (*more.documents.items(), *more.songs.items()):
            (name + one).encode()  # text that the diary can hold
        return Source("", tuple(_numbered(document["entries"]))), more
    except Refusal:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        others = "as JSON also Day One, Journey, Diarium and lists of entries are read"
        raise Refusal(f"'{path}' is no diary that this program exported, or is damaged; {others}") from None


def _numbered(entries: list[Any]) -> Iterator[Row]:
    for number, fields in enumerate(entries, start=1):
        yield Row(f"entry {number}", fields) if isinstance(fields, dict) else Row(f"entry {number}", fault="no JSON object")
