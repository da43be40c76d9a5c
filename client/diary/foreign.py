"""Diaries as other programs write them: rows of plain fields, each with the place where it stands.

| form | recognised by |
|---|---|
| Daylio's CSV | the columns full_date, mood and note |
| CSV, TSV | the ending, and a column for the text |
| JSON Lines | the ending |
| a folder of notes | being a folder (:mod:`client.diary.notes`) |

The names of our own fields count only where all of them stand, as our own exports write them. Anything else is foreign: a
foreign property never costs an entry, and what is not kept of it is said.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, time
from functools import partial
from pathlib import Path
from typing import Any

from client.diary.days import Moment, Order, TwoWays, at_noon, clock_of, is_only_a_day, moment_of, order_of
from client.diary.entry_form import FIELDS, BadRow
from client.sheets import read_sheet
from client.tables import DELIMITERS, LINES_ABOVE, Landmark, TableRow, decoded, read_table
from model.emotions import Emotion
from model.examples import LABEL_COLUMNS, TEXT_COLUMNS
from model.refusal import Refusal

DAYLIO = frozenset({"full_date", "mood", "note"})
DAYLIO_GOOD = ("rad", "good", "최고", "좋음")
"""Daylio's own names for its two good moods: marked as a feeling, and never as a training label."""

TEXTS = (
    *TEXT_COLUMNS, "일기내용", "글내용", "글", "본문내용", "note", "notes", "노트", "메모", "memo", "body", "journal", "journalentry",
    "entrytext", "diaryentry", "message", "메시지", "plaintext", "description", "설명",
)  # fmt: skip
TITLES = ("title", "제목", "notetitle", "entrytitle", "일기제목", "글제목", "subject", "headline")
DAYS = (
    "day", "date", "날짜", "일자", "일기날짜", "일기일자", "entrydate", "journaldate", "diarydate", "datejournal", "fulldate", "일시",
    "날짜시간", "날짜와시간", "datetime", "dateandtime", "쓴날", "쓴날짜", "기록일", "기록일자", "기록날짜", "기록일시",
)  # fmt: skip
"""Names of the day that an entry is about, without case, spaces and signs; the first that says a day counts."""
MADE = (
    "작성일", "작성일자", "작성날짜", "작성일시", "written", "writtenat", "writtenon", "created", "createdat", "createdon", "createdtime",
    "createddate", "creationdate", "creationtime", "datecreated", "timecreated", "만든날", "만든날짜", "생성일", "생성일자", "생성일시",
    "생성날짜", "등록일", "등록일자", "등록일시", "등록날짜", "timestamp", "타임스탬프", "작성시간", "작성시각", "기록시간", "등록시간",
    "published", "publishedat", "publishdate", "postedat", "게시일", "게시일시", "발행일", "dateadded",
)  # fmt: skip
"""Names of the time when it was written down."""
CLOCKS = ("time", "시간", "시각", "작성시간", "작성시각")
MOODS = (*LABEL_COLUMNS, "mood", "기분", "느낌", "feeling", "feelings", "오늘의감정", "오늘의기분", "감정상태")
LEFT = {
    "tags": ("tags", "tag", "태그", "해시태그", "hashtags", "keywords", "키워드", "categories", "category", "분류", "카테고리", "labels",
             "activities", "활동"),
    "weather": ("weather", "날씨"),
    "places": ("location", "place", "장소", "위치"),
    "pictures": ("photo", "photos", "사진", "image", "images", "이미지", "attachments", "첨부"),
}  # fmt: skip
"""What of other programs' fields an entry has no room for, by the names of their columns."""
PEOPLE = ("user", "사용자", "보낸사람", "sender")
_LIKE_DAYS = ("date", "날짜", "일자", "일시", "created", "timestamp", "작성일", "쓴날")
_LIKE_TEXTS = ("일기", "내용", "본문", "content", "entry")
_CHANGED = ("updated", "modified", "edited", "changed", "수정", "변경", "편집", "due", "deadline", "마감")

_TAG = re.compile(r"</?(?:b|i|u|s|em|strong|p|div|span|font|ul|ol|li|br|h[1-6])\b[^>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One row of a source: where it stands, and its fields, or why it has none."""

    place: str
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fault: str = ""
    unplaced: bool = False
    """Its mood is none of the four."""
    left: tuple[str, ...] = ()
    """What of it is not kept, in the words of :data:`LEFT`."""


@dataclass(frozen=True)
class Source:
    """The rows of a file or folder, as what it was read, and what in it was not read at all."""

    form: str
    rows: tuple[Row, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)


def read_tables(path: Path) -> Source:
    """The rows of a table or of JSON Lines; :class:`Refusal` if it is neither."""
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv", ".tab"):
        return _of_table(path, decoded(path.read_bytes(), path.name))
    if ending == ".xlsx":
        return _of_sheet(path)
    if ending in (".jsonl", ".ndjson"):
        return Source("JSON Lines", tuple(_line_rows(decoded(path.read_bytes(), path.name))))
    raise Refusal(f"'{path}' ends in '{path.suffix}'; import .csv, .tsv, .xlsx, .jsonl, .json, .zip, an archive, or a folder of notes")


def key_of(name: str) -> str:
    """A column's name as names are compared: NFKC, without case, spaces and signs."""
    return "".join(letter for letter in unicodedata.normalize("NFKC", name).casefold() if letter.isalnum())


# tables


def _of_table(path: Path, text: str) -> Source:
    table = read_table(text, _knows, first="," if path.suffix.lower() == ".csv" else "\t")
    if table is None:
        among = len(text.split("\n", 1)[0].split(",")) if text.strip() else 0
        usual = ", ".join(TEXT_COLUMNS[1:])
        raise Refusal(f"'{path}' has no column for the text among its {among}; name it 'text' (or {usual}) in the first line")
    landmark = _landmark(table.names)
    return _of_rows(
        table.names, tuple(table.rows(landmark)), f"a table with {DELIMITERS.get(table.delimiter, 'signs')} between its columns"
    )


def _of_sheet(path: Path) -> Source:
    """The names of the columns stand in the first row that knows them; shorter rows end in empty cells."""
    rows = read_sheet(path)
    at = next((at for at, row in enumerate(rows[:LINES_ABOVE]) if _knows(row.cells)), None)
    if at is None:
        raise Refusal(f"'{path}' has no column for the text in its first sheet; name it 'text' in the first row")
    names = rows[at].cells
    widths = [replace(row, cells=(*row.cells, *[""] * len(names))[: len(names)]) for row in rows[at + 1 :]]
    return _of_rows(names, tuple(widths), "a sheet", "row")


def _landmark(names: Sequence[str]) -> Landmark | None:
    """The column of the day, by which a line is known as a row; in our own exports every quotation mark is right."""
    if set(FIELDS) <= {name.casefold() for name in names}:
        return None
    day = _first(names, (*DAYS, *MADE))
    return Landmark(names.index(day), _says_a_day) if day is not None else None


def _of_rows(names: Sequence[str], rows: Sequence[TableRow], form: str, called: str = "line") -> Source:
    """Rows of cells as rows of fields, by what the names of their columns are."""
    lower = [name.casefold() for name in names]
    if set(FIELDS) <= set(lower):
        return Source("a table that this program exported", tuple(_rows(lower, rows, Row, called)))
    if set(lower) >= DAYLIO:
        return Source("Daylio's CSV", tuple(_rows(lower, rows, _of_daylio, called)))
    columns = Columns.of(names, lambda at: [row.cells[at] for row in rows if row.cells])
    if (user := _first(names, PEOPLE)) is not None:
        require_one_person(row.cells[names.index(user)] for row in rows if row.cells)
    return Source(f"{form}; {columns.account(names)}", tuple(_rows(names, rows, partial(_of_columns, columns), called)))


def require_one_person(names: Iterable[str]) -> None:
    """A chat that others wrote in is no diary of this person."""
    people = len({name.strip() for name in names if name.strip()})
    if people > 1:
        raise Refusal(f"this is a chat of {people} people, whose words are not this person's; export the chat with yourself")


def _knows(names: Sequence[str]) -> bool:
    """Whether these are names of columns, one of them the text's; where a day stands, it is a row."""
    if any(is_only_a_day(name) for name in names):
        return False
    sounds = len(names) > 1 and all(len(name) < 30 for name in names)
    return any(key_of(name) in TEXTS or (sounds and any(like in key_of(name) for like in _LIKE_TEXTS)) for name in names)


def _rows(names: Sequence[str], rows: Iterable[TableRow], read: Callable[[str, Mapping[str, Any]], Row], called: str) -> Iterator[Row]:
    """A row of fields for each row of cells; the first of two columns of one name counts."""
    for row in rows:
        place = f"{called} {row.line}"
        if row.fault:
            yield Row(place, fault=row.fault)
            continue
        found: dict[str, str] = {}
        for name, cell in zip(names, row.cells, strict=True):
            found.setdefault(name, cell)
        yield _read(place, partial(read, place, found))


def _says_a_day(cell: str) -> bool:
    try:
        return moment_of(cell) is not None
    except TwoWays:
        return True


def _line_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"line {number}"
            yield _read(place, partial(_of_line, place, line))


def _of_line(place: str, line: str) -> Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRow("not JSON") from None
    if not isinstance(found, dict):
        raise BadRow("no JSON object")
    return row_of(place, found)


# fields of any names


@dataclass(frozen=True)
class Columns:
    """Which of some names holds what; names as they are written."""

    text: str | None
    title: str | None
    days: tuple[str, ...]
    """The most exact first."""
    clock: str | None
    moods: tuple[str, ...]
    order: Order

    @classmethod
    def of(cls, names: Sequence[str], column: Callable[[int], Sequence[object]]) -> Columns:
        """By their names, and a day also by what stands below it."""
        text = _first(names, TEXTS) or _like(names, _LIKE_TEXTS)
        title = _first(names, TITLES)
        moods = tuple(_all(names, MOODS))
        days = tuple(_all(names, (*DAYS, *MADE)))
        if not days:
            others = [at for at, name in enumerate(names) if name not in (text, title, *moods)]
            days = _days_by_content(names, others, column)
        order = order_of(value for day in days for value in column(names.index(day)))
        clock = next((name for name in _all(names, CLOCKS) if name not in days[:1]), None)
        return cls(text, title, days, clock, moods, order)

    def account(self, names: Sequence[str]) -> str:
        """Which columns were understood, by number: a name may be the person's own word."""
        held = (
            ("text", self.text),
            ("title", self.title),
            ("day", self.days[0] if self.days else None),
            ("mood", self.moods[0] if self.moods else None),
        )
        told = [f"{what} in column {names.index(name) + 1}" for what, name in held if name is not None]
        return ", ".join(told) + ("" if self.days else ", no column for the day")


def row_of(place: str, found: Mapping[str, Any]) -> Row:
    """The row of one object, whose names nobody else shares."""
    if set(FIELDS) <= set(found):
        return Row(place, found)
    return _of_columns(Columns.of(list(found), lambda at: [list(found.values())[at]]), place, found)


def _of_columns(columns: Columns, place: str, found: Mapping[str, Any]) -> Row:
    text = found.get(columns.text) if columns.text is not None else None
    title = found.get(columns.title) if columns.title is not None else None
    if not (isinstance(text, str) and text.strip()):
        raise BadRow("no text")
    values = [found[name] for name in columns.days if not _is_empty(found.get(name))]
    clock = found.get(columns.clock) if columns.clock is not None else None
    fields: dict[str, Any] = {"text": with_title(title, text), **day_fields(moment_among(values, columns.order), clock)}
    mood, unplaced = mood_fields(found.get(name) for name in columns.moods)
    used = {columns.text, columns.title, *columns.days, *columns.moods, *([columns.clock] if clock else [])}
    return Row(place, fields | mood | teaches_fields(found), unplaced=unplaced, left=left_of(found, used))


def moment_among(values: Sequence[object], order: Order = Order.UNKNOWN) -> Moment | None:
    """The day of the first value that says one; :class:`BadRow` where there are values and none does."""
    two_ways = False
    for value in values:
        try:
            if moment := moment_of(value, order):
                return moment
        except TwoWays:
            two_ways = True
    if two_ways:
        raise BadRow("a day that can be read in two ways; write it as 2024-05-01")
    if values:
        raise BadRow("a day that is none; write it as 2024-05-01")
    return None


def day_fields(moment: Moment | None, clock: object = None) -> dict[str, Any]:
    """Day and time as our fields; a clock beside a bare day is on this device's."""
    if moment is None:
        return {}
    at = moment.at
    if at is None and isinstance(clock, str) and (said := clock_of(clock)):
        at = datetime.combine(moment.day, said).astimezone()
    return {"day": moment.day.isoformat(), "written": (at or at_noon(moment.day)).isoformat()}


def mood_fields(values: Iterable[object]) -> tuple[dict[str, Any], bool]:
    """The label or feelings of a mood that is named as one of the four, and whether there was one that is not."""
    unplaced = False
    for value in values:
        if _is_empty(value):
            continue
        several = value if isinstance(value, list) else [value]
        named = [_emotion(one) for one in several]
        if None not in named:
            return ({"emotion": named[0]} if len(named) == 1 else {"feelings": named}), False
        unplaced |= not isinstance(value, list)  # a list of words is tags
    return {}, unplaced


def teaches_fields(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of our own fields the one that protects counts in any file: what must not train does not."""
    return {"teaches": False} if str(found.get("teaches", "")).strip().casefold() in ("false", "0", "no") else {}


def with_title(title: object, text: str) -> str:
    """The title above the text, unless it is the day or stands there already."""
    if not isinstance(title, str) or not title.strip() or is_only_a_day(title):
        return text
    first = text.lstrip("\ufeff# \t\r\n").split("\n", 1)[0].strip()
    return text if _same(first) == _same(title) else f"{title.strip()}\n{text}"


def left_of(found: Mapping[str, Any], used: Iterable[object]) -> tuple[str, ...]:
    """What of the fields is not kept."""
    kept = {*used, "teaches"}
    names = [name for name, value in found.items() if name not in kept and not _is_empty(value)]
    words = [next((word for word, called in LEFT.items() if key_of(name) in called), "other fields") for name in names]
    lists = ["tags" for name, value in found.items() if name in used and isinstance(value, list) and None in map(_emotion, value)]
    return tuple(dict.fromkeys(words + lists))


def _emotion(value: object) -> str | None:
    try:
        return Emotion.named(unicodedata.normalize("NFC", str(value))).en
    except Refusal:
        return None


def _same(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().strip()


def _is_empty(value: object) -> bool:
    return value in (None, "", []) or (isinstance(value, str) and not value.strip())


def _all(names: Sequence[str], called: Sequence[str]) -> list[str]:
    keys = [key_of(name) for name in names]
    return [names[keys.index(one)] for one in dict.fromkeys(called) if one in keys]


def _first(names: Sequence[str], called: Sequence[str]) -> str | None:
    return next(iter(_all(names, called)), None)


def _like(names: Sequence[str], parts: Sequence[str]) -> str | None:
    return next((name for part in parts for name in names if part in key_of(name) and not _is_day_like(name)), None)


def _is_day_like(name: str) -> bool:
    return any(part in key_of(name) for part in (*_LIKE_DAYS, *TITLES))


def _days_by_content(names: Sequence[str], among: Sequence[int], column: Callable[[int], Sequence[object]]) -> tuple[str, ...]:
    """A column whose name sounds like a day, else the only one that holds days and nothing else."""
    held: list[str] = []
    for at in among:
        values = [value for value in column(at) if not _is_empty(value)]
        if not values or any(part in key_of(names[at]) for part in _CHANGED):
            continue
        if all(is_only_a_day(value) for value in values):
            if any(part in key_of(names[at]) for part in _LIKE_DAYS):
                return (names[at],)
            if not all(isinstance(value, str) and value.strip().isdecimal() and len(value.strip()) != 8 for value in values):
                held.append(names[at])
    return tuple(held) if len(held) == 1 else ()


# Daylio


def _of_daylio(place: str, row: Mapping[str, Any]) -> Row:
    """Title and note are the text; without both, mood and activities are. A mood that is named as one of the four is the label."""
    moment, mood = moment_among([row["full_date"]]), row["mood"].strip()
    if moment is None:
        raise BadRow("a day that is none; write it as 2024-05-01")
    text = "\n".join(part for part in (plain(row.get("note_title", "")), plain(row["note"])) if part.strip())
    activities = ", ".join(part.strip() for part in row.get("activities", "").split("|") if part.strip())
    fields: dict[str, Any] = {
        "day": moment.day.isoformat(),
        "written": datetime.combine(moment.day, clock_of(row.get("time", "")) or time(12)).astimezone().isoformat(),
        "text": text or ": ".join(part for part in (mood, activities) if part),
    }
    label = _emotion(mood)
    fields |= {"emotion": label} if label else {"feelings": [Emotion.JOY.en] if mood.casefold() in DAYLIO_GOOD else []}
    unplaced = bool(text and mood and not label and mood.casefold() not in DAYLIO_GOOD)
    return Row(place, fields, unplaced=unplaced, left=("tags",) if text and activities else ())


def plain(note: str) -> str:
    """The text of a note in which bold and lists are HTML; one without any is left exactly as it is."""
    if not _TAG.search(note):
        return note
    lines = re.sub(r"<br[^>]*>|</(?:p|div|li|h[1-6])>", "\n", note, flags=re.IGNORECASE)
    return html.unescape(_TAG.sub("", lines)).strip("\n")


def _read(place: str, row: Callable[[], Row]) -> Row:
    try:
        return row()
    except BadRow as bad:
        return Row(place, fault=str(bad))
