"""Tables: CSV and TSV as spreadsheets and other programs write them, every line accounted for.

Read are UTF-8, UTF-16 with its mark and CP949; commas, semicolons, tabs and bars; `sep=;` above the names; lines above the names.
A quotation mark that is never closed costs its own line and no other: where a record cannot be read as one, or has swallowed
lines that are rows by themselves, its first line is a fault and reading goes on with the next.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from model.refusal import Refusal

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
OPEN_QUOTE = "a quotation mark that is never closed"
LINES_ABOVE = 5
"""Among so many lines the names of the columns are looked for."""
LONGEST_ROW = 2**20
"""Characters of one row."""
COMMON_HANGUL = 0.8
"""Least share of everyday Hangul by which bytes are taken for CP949: damaged UTF-8, read so, is mostly rare syllables and Hanja."""

_QUOTED = re.compile(r'"(?:[^"]++|"")*+"')
_LINE_END = re.compile(r"\r\n|\r|\n|\Z")
_SEPARATOR = re.compile(r'"?sep=(.)"?(?:\r\n|\r|\n)', re.IGNORECASE)


@dataclass(frozen=True)
class TableRow:
    """One row by the line that it begins in (from 1): its cells, or why it has none."""

    line: int
    cells: tuple[str, ...] = field(default=(), repr=False)
    fault: str = ""


@dataclass(frozen=True)
class Landmark:
    """A column by which a line is known as a row: it lies at ``column``, and ``holds`` says whether a cell may stand there."""

    column: int
    holds: Callable[[str], bool]


@dataclass(frozen=True)
class Table:
    """The names of the columns, in NFC, and the text below them."""

    names: tuple[str, ...]
    delimiter: str
    lines: _Lines = field(repr=False)
    first: int
    """Line (from 0) of the first row."""

    def rows(self, landmark: Landmark | None = None) -> Iterator[TableRow]:
        """Every row that is not blank; what is no row is a fault."""
        line = self.first
        while line < len(self.lines.starts):
            cells, following = self._read(line, landmark)
            if cells is None:
                yield TableRow(line + 1, fault=OPEN_QUOTE)
            elif sum(map(len, cells)) > LONGEST_ROW:
                yield TableRow(line + 1, fault=f"more than {LONGEST_ROW} characters")
            elif any(cells) and len(cells) != len(self.names):
                yield TableRow(line + 1, fault=f"{len(cells)} fields instead of {len(self.names)}")
            elif any(cells):
                yield TableRow(line + 1, cells)
            line = following

    def _read(self, line: int, landmark: Landmark | None) -> tuple[tuple[str, ...] | None, int]:
        """The cells of the row that begins here, or None, and the line after it."""
        if len(self.names) == 1 and not self.lines.alone(line).startswith('"'):  # what looks like a delimiter is the text's own
            return (self.lines.alone(line),), line + 1
        found = self.lines.record(line, self.delimiter)
        if found is not None:
            cells, following = self._without_empty_rest(found[0]), found[1]
            if following == line + 1:
                return cells, following
            if len(cells) == len(self.names) and not self._swallows(line, following, cells, landmark):
                return cells, following
        alone = self.lines.alone(line)
        if alone.count('"') % 2 == 0:  # marks inside a text, which nobody doubled
            cells = tuple(map(_without_marks_around, alone.split(self.delimiter)))
            if len(cells) == len(self.names):
                return cells, line + 1
        return None, line + 1

    def _without_empty_rest(self, cells: tuple[str, ...]) -> tuple[str, ...]:
        """Without what spreadsheets put behind the last column."""
        return cells[: len(self.names)] if not any(cells[len(self.names) :]) else cells

    def _swallows(self, line: int, following: int, cells: Sequence[str], landmark: Landmark | None) -> bool:
        """Whether a record over several lines holds lines that are rows by themselves."""
        if landmark is None:
            return False
        opened = next((at for at, cell in enumerate(cells) if "\n" in cell or "\r" in cell), 0)
        if opened < landmark.column and self._is_row(self.lines.alone(line).replace('"', ""), landmark):
            return True
        last = following if landmark.column < opened else following - 1  # the text's own end stands before the landmark
        return any(self._is_row(self.lines.alone(inner), landmark) for inner in range(line + 1, last))

    def _is_row(self, line: str, landmark: Landmark) -> bool:
        found = _Lines(line).record(0, self.delimiter) if line else None
        cells = found[0] if found else tuple(line.split(self.delimiter))
        return len(cells) == len(self.names) and landmark.holds(cells[landmark.column])


def read_table(text: str, knows: Callable[[Sequence[str]], bool], *, first: str = ",") -> Table | None:
    """The table in whose first lines stand names of columns that the caller ``knows``; None if there are none.

    ``first`` is the delimiter that is tried first; a line that says `sep=` decides alone.
    """
    text = text.removeprefix("\ufeff")
    said = _SEPARATOR.match(text)
    lines = _Lines(text)
    delimiters = [said[1]] if said else [first, *(other for other in DELIMITERS if other != first)]
    start = 1 if said else 0
    for line in range(start, min(start + LINES_ABOVE, len(lines.starts))):
        for delimiter in delimiters:
            found = lines.record(line, delimiter)
            names = tuple(unicodedata.normalize("NFC", name).strip(" \t\ufeff") for name in found[0]) if found else ()
            if found and knows(names):
                return Table(names, delimiter, lines, found[1])
    return None


def decoded(content: bytes, name: str) -> str:
    """A file's text: UTF-8, UTF-16 with its mark, or CP949; :class:`Refusal` for anything else."""
    try:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return content.decode("utf-16")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        korean = _korean(content)
        if korean is not None:
            return korean
        raise Refusal(f"'{name}' is not UTF-8 (byte {error.start}), UTF-16 or CP949; save it as UTF-8 and try again") from None


def _korean(content: bytes) -> str | None:
    """What Korean Windows wrote, if that is what it is."""
    try:
        text = content.decode("cp949")
    except UnicodeDecodeError:
        return None
    letters = [letter for letter in text if letter > "\x7f"]
    return text if sum(map(_is_common, letters)) >= COMMON_HANGUL * len(letters) else None


def _is_common(letter: str) -> bool:
    """Whether a letter is of KS X 1001, and no Hanja."""
    try:
        letter.encode("euc_kr")
    except UnicodeEncodeError:
        return False
    return not ("\u4e00" <= letter <= "\u9fff" or "\uf900" <= letter <= "\ufaff")


def _without_marks_around(cell: str) -> str:
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


class _Lines:
    """A text and where its lines begin."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0, *(end.end() for end in _LINE_END.finditer(text) if end[0] and end.end() < len(text))] if text else []

    def alone(self, line: int) -> str:
        """One line without its end."""
        end = self.starts[line + 1] if line + 1 < len(self.starts) else len(self.text)
        return self.text[self.starts[line] : end].rstrip("\r\n")

    def record(self, line: int, delimiter: str) -> tuple[tuple[str, ...], int] | None:
        """The cells of the record that begins in a line, and the line after it; None if its quotation marks are not those of a record."""
        text, at, cells = self.text, self.starts[line], []
        plain = re.compile(f"[^{re.escape(delimiter)}\r\n]*")
        while True:
            quoted = _QUOTED.match(text, at)
            if quoted is None and text.startswith('"', at):
                return None
            cell = quoted or plain.match(text, at)
            assert cell is not None  # noqa: S101 - it matches nothing at all, too
            cells.append(cell[0][1:-1].replace('""', '"') if quoted else cell[0])
            at = cell.end()
            if not text.startswith(delimiter, at):
                break
            at += 1
        end = _LINE_END.match(text, at)
        return (tuple(cells), bisect_left(self.starts, max(end.end(), 1))) if end else None
