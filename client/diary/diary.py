"""Diary: one person's entries and labels, encrypted, on their own device.

Each call is one durable transaction on a :class:`client.diary.diary_file.DiaryFile`. What the person says an entry feels like is a training
label, unless they marked the entry as one that never trains. What is forgotten is overwritten.
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from client.diary.diary_file import Connection, DiaryFile
from client.diary.made_playlists import DOCUMENT as PLAYLISTS
from client.diary.made_playlists import without_entry
from client.reading.reading import Reading
from client.vault import shred
from model.emotions import EMOTIONS, Emotion
from model.examples import Example
from model.normalization import normalized
from model.refusal import Refusal

LARGEST_PAGE = 1000
MOST_CHARACTERS = 10_000
"""Of an entry's text, whichever way it comes in."""
CACHED = ("trunk-*", "rounding-*")
"""The files in which ``model.tuning.TrunkCache`` keeps what it computed of the entries, and ``client.compression`` what rounding left."""

_COLUMNS = "id, day, written, edited, text, probabilities, kinds, version, digest, divided, emotion, feelings, teaches"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One diary entry. The text stays out of ``repr``, and so out of logs and tracebacks."""

    number: int
    day: date
    written: datetime
    edited: datetime | None
    """When its text was last changed."""
    text: str = field(repr=False)
    reading: Reading | None
    """What the model read last, and which model that was."""
    emotion: Emotion | None
    """The person's own word: a correction or a confirmation, and so the training label."""
    feelings: tuple[Emotion, ...]
    """What the person felt besides."""
    teaches: bool
    """False: never train on this."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    """That the person named the emotion at some time, and what stood there before."""

    before: Emotion | None
    at: datetime


@dataclass(frozen=True)
class Record:
    """Everything that is kept of one entry, for moving it elsewhere; corrections oldest first."""

    entry: Entry
    corrections: tuple[Correction, ...] = ()
    dated: bool = True
    """False: it said no day, and its entry's day is that of the import."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which entries to show. ``emotion`` is the person's word or, where there is none, what the model read; days inclusive."""

    text: str = field(default="", repr=False)
    emotion: Emotion | None = None
    since: date | None = None
    until: date | None = None
    limit: int = 50
    offset: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= LARGEST_PAGE:
            raise Refusal(f"limit is {self.limit}; ask for 1 to {LARGEST_PAGE} entries at once")
        if not 0 <= self.offset < 2**63:
            raise Refusal(f"offset is {self.offset}; it must be 0 or more")


@dataclass(frozen=True)
class Page:
    """Some entries of a query, and how many there are in all."""

    entries: tuple[Entry, ...]
    total: int


class NoEntry(Refusal):
    """The diary has no entry of that number."""


class NoCorrection(Refusal):
    """The entry has no word of the person's that could be taken back."""


class Diary:
    """Add, find, correct, forget. ``cache`` is where this device keeps what its model computed of the entries."""

    def __init__(self, file: DiaryFile, *, cache: Path) -> None:
        self._file = file
        self._cache = cache

    def add(
        self,
        text: str,
        *,
        emotion: Emotion | None = None,
        day: date | None = None,
        reading: Reading | None = None,
        feelings: Sequence[Emotion] = (),
        teaches: bool = True,
    ) -> int:
        """Keep an entry and give its number; ``emotion`` if the person named it already, ``day`` if it is not today."""
        entry = _new(_within_limits(text), emotion=emotion, day=day, reading=reading, feelings=tuple(feelings), teaches=teaches)
        with self._file.writing() as database:
            return _insert(database, entry)

    def add_all(self, entries: Iterable[tuple[str, Emotion | None]]) -> list[int]:
        """Keep many entries in one transaction."""
        new = [_new(text, emotion=emotion) for text, emotion in entries]
        with self._file.writing() as database:
            return [_insert(database, entry) for entry in new]

    def entry(self, number: int) -> Entry:
        """The entry of this number; :class:`Refusal` if there is none."""
        with self._file.reading() as database:
            return _entry(database, number)

    def entries(self, query: Query = Query()) -> Page:
        """The entries that a query asks for, newest day first."""
        where, values = _condition(query)
        with self._file.reading() as database:
            if query.text:
                database.create_function("folded", 1, _folded, deterministic=True)
            [total] = database.execute(f"SELECT count(*) FROM entries WHERE {where}", values).fetchone()  # noqa: S608 - no values in it
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE {where} ORDER BY day DESC, id DESC LIMIT ? OFFSET ?",  # noqa: S608
                (*values, query.limit, query.offset),
            ).fetchall()
        return Page(tuple(_of_row(row) for row in rows), total)

    def rewrite(
        self,
        number: int,
        *,
        text: str | None = None,
        day: date | None = None,
        feelings: Sequence[Emotion] | None = None,
        teaches: bool | None = None,
    ) -> Entry:
        """Change what is given and leave the rest; a changed text loses its reading."""
        with self._file.writing() as database:
            old = _entry(database, number)
            if text is not None and text != old.text:
                values = (_within_limits(text), _now().isoformat(), number)
                database.execute(
                    "UPDATE entries SET text = ?, edited = ?, probabilities = NULL, read_as = NULL, kinds = NULL, version = NULL, "
                    "digest = NULL, divided = 0 WHERE id = ?",
                    values,
                )
            kept_feelings = old.feelings if feelings is None else feelings
            database.execute(
                "UPDATE entries SET day = ?, feelings = ?, teaches = ? WHERE id = ?",
                ((day or old.day).isoformat(), _joined(kept_feelings), old.teaches if teaches is None else teaches, number),
            )
            return _entry(database, number)

    def keep_reading(self, number: int, text: str, reading: Reading) -> bool:
        """Keep what the model read in ``text``, instead of an older reading; False, and no change, if the entry has another text by now."""
        with self._file.writing() as database:
            if _entry(database, number).text != text:
                return False
            database.execute(
                "UPDATE entries SET probabilities = ?, read_as = ?, kinds = ?, version = ?, digest = ?, divided = ? WHERE id = ?",
                (*_reading_values(reading), number),
            )
            return True

    def unread(self, limit: int) -> tuple[Entry, ...]:
        """Entries that no model has read, newest day first."""
        with self._file.reading() as database:
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE probabilities IS NULL ORDER BY day DESC, id DESC LIMIT ?",  # noqa: S608
                (limit,),
            ).fetchall()
        return tuple(_of_row(row) for row in rows)

    def stamp(self) -> object:
        """What is another after every change, also by another program; costs next to nothing."""
        return self._file.stamp()

    def correct(self, number: int, emotion: Emotion) -> None:
        """The person says what the entry feels like: from now on it is a training label, unless the entry never teaches."""
        with self._file.writing() as database:
            before = _entry(database, number).emotion
            if before is emotion:
                return
            _note_correction(database, number, Correction(before=before, at=_now()))
            database.execute("UPDATE entries SET emotion = ? WHERE id = ?", (emotion.en, number))

    def undo(self, number: int) -> Entry:
        """Take the person's last word back: what stood before it stands again, and nothing where it came with the entry.

        So no label is beyond recall; :class:`NoCorrection` if there is none.
        """
        with self._file.writing() as database:
            emotion = _entry(database, number).emotion
            last = database.execute("SELECT id, before FROM corrections WHERE entry = ? ORDER BY id DESC LIMIT 1", (number,)).fetchone()
            if last is None and emotion is None:
                raise NoCorrection(f"entry {number} has no correction that could be taken back; correct it first")
            correction, before = last or (None, None)
            database.execute("DELETE FROM corrections WHERE id = ?", (correction,))
            database.execute("UPDATE entries SET emotion = ? WHERE id = ?", (before, number))
            return _entry(database, number)

    def forget(self, number: int) -> None:
        """Remove an entry, its label and its history, overwritten on disk, the moods of its playlists, and what the model computed of any.

        Past rounds cannot be recalled, and what its songs have taught of the person's taste stays.
        """
        self.entry(number)
        self.forget_all([number])

    def forget_all(self, numbers: Iterable[int]) -> int:
        """The same of many entries at once, of which some may be gone already; gives how many were there."""
        forgotten = []
        with self._file.writing() as database:
            for number in numbers:
                if database.execute("DELETE FROM entries WHERE id = ?", (number,)).rowcount:
                    forgotten.append(number)
                    _forget_moods(database, number)
        if forgotten:
            self._remove_traces(forgotten)
        return len(forgotten)

    def _remove_traces(self, numbers: Sequence[int]) -> None:
        """After the entries are gone: what the model computed (see client.learning), and their pages."""
        for computed in [path for pattern in CACHED for path in self._cache.glob(pattern)]:
            with suppress(FileNotFoundError):  # a round that ends meanwhile removes its own
                shred(computed)
        try:
            self._file.compact()
        except Refusal as refusal:
            which = f"entry {numbers[0]} is" if len(numbers) == 1 else f"{len(numbers)} entries are"
            raise Refusal(f"{which} forgotten, but old pages are still in the diary's files: {refusal}") from None

    def labelled(self) -> list[Example]:
        """The entries whose emotion the person has named and that may teach, oldest first."""
        with self._file.reading() as database:
            rows = database.execute("SELECT text, emotion FROM entries WHERE emotion IS NOT NULL AND teaches ORDER BY day, id").fetchall()
        return [Example(text, Emotion.named(emotion)) for text, emotion in rows]

    def read_and_confirmed(self, limit: int) -> list[tuple[str, Emotion, Emotion]]:
        """The newest entries that a model read and whose emotion the person named: text, the person's emotion, the model's."""
        with self._file.reading() as database:
            rows = database.execute(
                "SELECT text, emotion, read_as FROM entries WHERE emotion IS NOT NULL AND read_as IS NOT NULL AND teaches "
                "ORDER BY day DESC, id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [(text, Emotion.named(emotion), Emotion.named(read_as)) for text, emotion, read_as in rows]

    def count(self) -> int:
        """How many entries there are."""
        with self._file.reading() as database:
            return int(database.execute("SELECT count(*) FROM entries").fetchone()[0])

    def kept(self, name: str) -> str | None:
        """The document that was kept under this name, or None."""
        with self._file.reading() as database:
            row = database.execute("SELECT content FROM documents WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def revise(self, name: str, revised: Callable[[str | None], str]) -> None:
        """Keep what ``revised`` makes of the document that is kept now (None: there is none), in one transaction."""
        with self._file.writing() as database:
            row = database.execute("SELECT content FROM documents WHERE name = ?", (name,)).fetchone()
            document = revised(row[0] if row else None)
            database.execute("INSERT OR REPLACE INTO documents (name, content) VALUES (?, ?)", (name, document))

    def keep_first(self, name: str, document: str) -> None:
        """Keep a document under a name if there is none yet."""
        with self._file.writing() as database:
            database.execute("INSERT OR IGNORE INTO documents (name, content) VALUES (?, ?)", (name, document))

    def set_aside(self, name: str) -> None:
        """Give a document that cannot be read another name, so that a new one can be begun and nothing of it is lost."""
        with self._file.writing() as database:
            taken = database.execute("SELECT count(*) FROM documents WHERE instr(name, ?) = 1", (f"{name}-damaged-",)).fetchone()[0]
            database.execute("UPDATE documents SET name = ? WHERE name = ?", (f"{name}-damaged-{taken + 1}", name))

    def documents(self) -> dict[str, str]:
        """All documents by their names."""
        with self._file.reading() as database:
            return dict(database.execute("SELECT name, content FROM documents ORDER BY name").fetchall())

    def records(self) -> Iterator[Record]:
        """Everything that is kept of every entry, in the order of their numbers."""
        with self._file.reading() as database:
            for row in database.execute(f"SELECT {_COLUMNS} FROM entries ORDER BY id"):  # noqa: S608
                yield Record(_of_row(row), _corrections(database, row[0]))

    def restore(self, records: Sequence[Record]) -> list[int]:
        """Keep the records that are not here yet, all or none, and give their numbers; an empty diary takes theirs.

        A record is here if an entry of that day or that very time has its text, in NFC, with LF and without space around; one
        that says no day is here if any entry has its text. One that occurs twice is kept twice.
        """
        for record in records:
            _within_limits(record.entry.text)
        with self._file.writing() as database:
            own_numbers = not database.execute("SELECT EXISTS (SELECT 1 FROM entries)").fetchone()[0] and _all_differ(records)
            numbers = []
            for record in _missing(database, records):
                number = _insert(database, record.entry, number=record.entry.number if own_numbers else None)
                for correction in record.corrections:
                    _note_correction(database, number, correction)
                numbers.append(number)
        return numbers


def _new(
    text: str,
    *,
    emotion: Emotion | None,
    day: date | None = None,
    reading: Reading | None = None,
    feelings: tuple[Emotion, ...] = (),
    teaches: bool = True,
) -> Entry:
    return Entry(
        number=0,
        day=day or _now().astimezone().date(),
        written=_now(),
        edited=None,
        text=_checked(text),
        reading=reading,
        emotion=emotion,
        feelings=feelings,
        teaches=teaches,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _checked(text: str) -> str:
    if not normalized(text):
        raise Refusal("the entry is empty, or holds invisible characters only; write something")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refusal(f"the entry's character {error.start + 1} is half of a pair and no letter; remove it") from None
    return text


def _within_limits(text: str) -> str:
    """A person's text, which every way in must be able to take again. Examples of a simulation are as long as they are."""
    if "\x00" in text:
        raise Refusal(f"the entry's character {text.index(chr(0)) + 1} is NUL and no letter; remove it")
    if len(text) > MOST_CHARACTERS:
        raise Refusal(f"the entry has {len(text)} characters and may have {MOST_CHARACTERS}; split it")
    return _checked(text)


def _insert(database: Connection, entry: Entry, *, number: int | None = None) -> int:
    values = (
        number,
        entry.day.isoformat(),
        entry.written.isoformat(),
        entry.edited.isoformat() if entry.edited else None,
        entry.text,
        entry.emotion.en if entry.emotion else None,
        _joined(entry.feelings),
        entry.teaches,
        *_reading_values(entry.reading),
    )
    columns = "id, day, written, edited, text, emotion, feelings, teaches, probabilities, read_as, kinds, version, digest, divided"
    return int(database.execute(f"INSERT INTO entries ({columns}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", values).lastrowid)  # noqa: S608


def _reading_values(reading: Reading | None) -> tuple[str | None, str | None, str | None, int | None, str | None, bool]:
    if reading is None:
        return None, None, None, None, None, False
    probabilities, kinds = json.dumps(reading.probabilities), json.dumps(reading.kinds)
    return probabilities, reading.emotion.en, kinds, reading.version, reading.digest, reading.divided


def _note_correction(database: Connection, number: int, correction: Correction) -> None:
    before = correction.before.en if correction.before else None
    database.execute("INSERT INTO corrections (entry, before, at) VALUES (?, ?, ?)", (number, before, correction.at.isoformat()))


def _forget_moods(database: Connection, number: int) -> None:
    """Playlists that were set aside since they cannot be read go as a whole: they may hold any entry's mood."""
    database.execute("DELETE FROM documents WHERE instr(name, ?) = 1", (f"{PLAYLISTS}-damaged-",))
    for (document,) in database.execute("SELECT content FROM documents WHERE name = ?", (PLAYLISTS,)).fetchall():
        database.execute("UPDATE documents SET content = ? WHERE name = ?", (without_entry(document, number), PLAYLISTS))


def _entry(database: Connection, number: int) -> Entry:
    row = None
    if 0 < number < 2**63:
        row = database.execute(f"SELECT {_COLUMNS} FROM entries WHERE id = ?", (number,)).fetchone()  # noqa: S608
    if row is None:
        raise NoEntry(f"the diary has no entry {number}; look up the entry's number first")
    return _of_row(row)


def _of_row(row: tuple[Any, ...]) -> Entry:
    number, day, written, edited, text, probabilities, kinds, version, digest, divided, emotion, feelings, teaches = row
    reading = None
    if probabilities:
        told = {"kinds": tuple(json.loads(kinds))} if kinds else {}  # a reading of an older program knows of no kinds
        reading = Reading(probabilities=tuple(json.loads(probabilities)), version=version, digest=digest, divided=bool(divided), **told)
    return Entry(
        number=number,
        day=date.fromisoformat(day),
        written=datetime.fromisoformat(written),
        edited=datetime.fromisoformat(edited) if edited else None,
        text=text,
        reading=reading,
        emotion=Emotion.named(emotion) if emotion else None,
        feelings=tuple(Emotion.named(name) for name in feelings.split(",") if name),
        teaches=bool(teaches),
    )


def _corrections(database: Connection, number: int) -> tuple[Correction, ...]:
    rows = database.execute("SELECT before, at FROM corrections WHERE entry = ? ORDER BY id", (number,)).fetchall()
    return tuple(Correction(before=Emotion.named(before) if before else None, at=datetime.fromisoformat(at)) for before, at in rows)


def _joined(feelings: Sequence[Emotion]) -> str:
    return ",".join(emotion.en for emotion in EMOTIONS if emotion in feelings)


def _condition(query: Query) -> tuple[str, tuple[Any, ...]]:
    """The WHERE of a query, and the values of its question marks."""
    parts: list[tuple[str, Any]] = []
    if query.text:
        parts.append(("instr(folded(text), ?)", _folded(query.text)))
    if query.emotion is not None:
        parts.append(("coalesce(emotion, read_as) = ?", query.emotion.en))
    if query.since is not None:
        parts.append(("day >= ?", query.since.isoformat()))
    if query.until is not None:
        parts.append(("day <= ?", query.until.isoformat()))
    return " AND ".join(part for part, _ in parts) or "1", tuple(value for _, value in parts)


def _folded(text: str) -> str:
    """Text as it is searched: composed syllables, and letters without case."""
    return unicodedata.normalize("NFC", text.encode(errors="replace").decode()).casefold()


def _all_differ(records: Sequence[Record]) -> bool:
    numbers = {record.entry.number for record in records}
    return len(numbers) == len(records) and all(0 < number < 2**62 for number in numbers)


def _missing(database: Connection, records: Sequence[Record]) -> list[Record]:
    """The records that are not in the diary yet, each as often as it is missing: looked for by day, then by time, then by text alone."""
    here: dict[str, list[tuple[date, datetime]]] = defaultdict(list)
    for day, written, text in database.execute("SELECT day, written, text FROM entries"):
        here[_compared(text)].append((date.fromisoformat(day), datetime.fromisoformat(written)))
    found: set[int] = set()
    for is_same in (_same_day, _same_time, _without_day):
        for at, record in enumerate(records):
            if at not in found and _took(here[_compared(record.entry.text)], record, is_same):
                found.add(at)
    return [record for at, record in enumerate(records) if at not in found]


def _took(here: list[tuple[date, datetime]], record: Record, is_same: Callable[[Record, date, datetime], bool]) -> bool:
    """Take the first entry out of ``here`` that is the record; False if there is none."""
    at = next((at for at, (day, written) in enumerate(here) if is_same(record, day, written)), None)
    if at is not None:
        del here[at]
    return at is not None


def _same_day(record: Record, day: date, _: datetime) -> bool:
    return record.entry.day == day


def _same_time(record: Record, _: date, written: datetime) -> bool:
    return record.dated and record.entry.written == written


def _without_day(record: Record, _: date, __: datetime) -> bool:
    return not record.dated


def _compared(text: str) -> str:
    """A text as sameness sees it: in NFC, with LF, without space around."""
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").strip().strip("\ufeff").strip()
