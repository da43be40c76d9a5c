"""Diaries as other programs write them: rows of plain fields, each with the place where it stands.

| form | recognised by |
|---|---|
| Daylio's CSV | the columns full_date, mood and note |
| CSV, TSV | the ending, and a column for the text |
| JSON Lines | the ending |
| a folder of Markdown | being a folder; the day stands in front matter or in the file's name |
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from functools import partial
from pathlib import Path
from typing import Any

from client.diary.entry_form import FIELDS, BadRow, read_day
from model.emotions import Emotion
from model.examples import LABEL_COLUMNS, TEXT_COLUMNS
from model.refusal import Refusal

DAY_COLUMNS = ("day", "date", "날짜", "일자", "created")
DAYLIO = frozenset({"full_date", "mood", "note"})
DAYLIO_GOOD = ("rad", "good", "최고", "좋음")
"""Daylio's own names for its two good moods: marked as a feeling, and never as a training label."""

_TAG = re.compile(r"</?(?:b|i|u|s|em|strong|p|div|span|font|ul|ol|li|br|h[1-6])\b[^>]*>", re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """One row of a source: where it stands, and its fields, or why it has none."""

    place: str
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fault: str = ""


def rows_of(path: Path) -> Iterator[Row]:
    """The rows of a file or folder; :class:`Refusal` if it is none of the forms above."""
    if path.is_dir():
        yield from _markdown_rows(path)
    elif path.suffix.lower() in (".csv", ".tsv"):
        yield from _table_rows(path, _text_of(path))
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _line_rows(_text_of(path))
    else:
        raise Refusal(f"'{path}' ends in '{path.suffix}'; import .csv, .tsv, .jsonl, .json, an archive, or a folder of Markdown files")


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(f"'{path}' is not UTF-8 (byte {error.start + 1}); save it as UTF-8 and try again") from None


def _table_rows(path: Path, text: str) -> Iterator[Row]:
    """Rows by the line that each begins in; one with too many or too few fields is a fault."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
    except csv.Error:
        raise Refusal(f"the first line of '{path}' cannot be read as names of columns; export the file again") from None
    read = _reader_of(path, header)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield Row(f"line {line}", fault="cannot be read as a row")
            continue
        if not values:
            continue
        if len(values) != len(header):
            yield Row(f"line {line}", fault=f"{len(values)} fields instead of {len(header)}")
            continue
        yield _read(f"line {line}", partial(read, dict(zip(header, values, strict=True))))


def _reader_of(path: Path, header: list[str]) -> Callable[[dict[str, str]], Mapping[str, Any]]:
    if set(header) >= DAYLIO:
        return _of_daylio
    text = next((name for name in TEXT_COLUMNS if name in header), None)
    if text is None:
        raise Refusal(f"'{path}' has no column for the text among its {len(header)}; name it 'text' (or {', '.join(TEXT_COLUMNS[1:])})")
    return _renamed


def _line_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _read(f"line {number}", partial(_of_line, line))


def _of_line(line: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRow("not JSON") from None
    if not isinstance(found, dict):
        raise BadRow("no JSON object")
    return _renamed(found)


def _renamed(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The usual names of columns as ours."""
    fields = {name: found[name] for name in FIELDS if name in found}
    for ours, usual in (("text", TEXT_COLUMNS), ("day", DAY_COLUMNS), ("emotion", LABEL_COLUMNS)):
        name = next((name for name in usual if found.get(name) not in (None, "")), None)
        if ours not in fields and name is not None:
            fields[ours] = found[name]
    return fields


# Daylio


def _of_daylio(row: dict[str, str]) -> Mapping[str, Any]:
    """Title and note are the text; without both, mood and activities are. A mood that is named as one of the four is the label."""
    day, mood = read_day(row["full_date"]), row["mood"].strip()
    text = "\n".join(part for part in (_plain(row.get("note_title", "")), _plain(row["note"])) if part.strip())
    activities = ", ".join(part.strip() for part in row.get("activities", "").split("|") if part.strip())
    fields: dict[str, Any] = {
        "day": day.isoformat(),
        "written": datetime.combine(day, _clock(row.get("time", ""))).astimezone().isoformat(),
        "text": text or ": ".join(part for part in (mood, activities) if part),
    }
    try:
        fields["emotion"] = Emotion.named(mood).en
    except Refusal:
        fields["feelings"] = [Emotion.JOY.en] if mood.casefold() in DAYLIO_GOOD else []
    return fields


def _clock(text: str) -> time:
    """21:30, 9:30 PM, 오후 9:30; noon where it says nothing."""
    found = re.search(r"(\d{1,2})[:.시]\s*(\d{2})", text)
    if not found:
        return time(12)
    hour, minute = int(found[1]), int(found[2])
    if re.search(r"오후|p\.?\s?m", text, re.IGNORECASE) and hour < 12:
        hour += 12
    if re.search(r"오전|a\.?\s?m", text, re.IGNORECASE) and hour == 12:
        hour = 0
    return time(hour, minute) if hour < 24 and minute < 60 else time(12)


def _plain(note: str) -> str:
    """Daylio keeps bold and lists as HTML; a note without any is left exactly as it is."""
    if not _TAG.search(note):
        return note
    lines = re.sub(r"<br[^>]*>|</(?:p|div|li|h[1-6])>", "\n", note, flags=re.IGNORECASE)
    return html.unescape(_TAG.sub("", lines)).strip("\n")


# Markdown


def _markdown_rows(folder: Path) -> Iterator[Row]:
    """Files in the order of their names, which are not shown: they may say what the person wrote."""
    files = sorted(file for file in folder.rglob("*.md") if file.is_file())
    if not files:
        raise Refusal(f"'{folder}' holds no file that ends in .md; name the folder in which they lie")
    for number, file in enumerate(files, start=1):
        yield _read(f"file {number} of {len(files)}", partial(_of_markdown, file))


def _of_markdown(file: Path) -> Mapping[str, Any]:
    try:
        content = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise BadRow("not UTF-8") from None
    front, body = _parted(content)
    fields = dict(_renamed({key.strip().casefold(): _value(value) for key, value in front}))
    if not set(FIELDS) - {"text"} <= set(fields):  # not one of ours, whose text is kept to the letter
        body = body.strip("\ufeff\r\n")
    fields["text"] = body
    if "day" not in fields and (named := re.search(r"(?<!\d)\d{4}([-_. ]?)\d{2}\1\d{2}(?!\d)", file.stem)):
        fields["day"] = named[0]
    return fields


def _parted(content: str) -> tuple[list[tuple[str, str]], str]:
    """Front matter and body; a file without front matter is all body."""
    found = re.match(r"\ufeff?---\r?\n(.*?\n)---\r?\n", content, re.DOTALL)
    if not found:
        return [], content
    lines = [line.partition(":") for line in found[1].splitlines() if ":" in line]
    return [(key, value) for key, _, value in lines], content[found.end() :]


def _value(text: str) -> Any:
    """A value of front matter: JSON, or bare words."""
    try:
        return json.loads(text)
    except ValueError:
        return text.strip().strip("'\"")


def _read(place: str, fields: Callable[[], Mapping[str, Any]]) -> Row:
    try:
        return Row(place, fields())
    except BadRow as bad:
        return Row(place, fault=str(bad))
