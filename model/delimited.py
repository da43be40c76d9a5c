"""CSV and TSV as people's programs write them. One open quotation mark never takes other rows with it.

A quoted field may run over lines (RFC 4180), and a text may as well begin with a quotation mark that nothing closes. A parser that
trusts every mark reads on to the next one, over any number of rows. Here a record over several lines is believed only if its mark
is closed before a delimiter or a line's end, if it has as many fields as the header, and if none of its lines but the last is a whole
row by itself. Otherwise its first line is judged alone, and reading goes on with the next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from model.label_words import NAMES_OF_EMOTIONS, SYNONYMS, canonical
from model.tables import NO_ROW, Row, Table

OPEN_QUOTE = "a quotation mark is left open"
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
_NAMED = frozenset(NAMES_OF_EMOTIONS) | frozenset(SYNONYMS)
_BLANK_LINES = re.compile(r"(?:[ \t]*+\n)*+")


@dataclass(frozen=True)
class Record:
    """One record as it stands in the text: cells, the offset behind it, and whether a mark in it was written as two."""

    cells: list[str]
    end: int
    doubled: bool


@dataclass(frozen=True)
class Header:
    """The names of the columns, the offset behind them, and over how many lines they and the blank ones before them run."""

    names: tuple[str, ...]
    end: int
    lines: int
    blank_lines: int
    quoted: bool


def header_of(text: str, delimiter: str) -> Header:
    """The first line that is not blank, as names of columns; no names if there is none."""
    blank = _BLANK_LINES.match(text)
    start = blank.end() if blank else 0
    line = text[start:].partition("\n")[0]
    record = _Quotes(delimiter).record(text, start) or Record(line.split(delimiter), start + len(line), doubled=False)
    names = tuple(record.cells) if line.strip() else ()
    lines = text.count("\n", start, record.end) + bool(names)
    return Header(names, record.end, lines, text.count("\n", 0, start), '"' in text[start : record.end])


def delimited_table(text: str, delimiter: str, header: Header, label: int) -> Table:
    """The rows under a header whose column number ``label`` holds the labels.

    In a TSV quotation marks are letters, unless something shows that a program quoted its fields: a quoted header, a doubled mark, or
    a field over several lines.
    """
    quoting = _Rows(text, delimiter, header, label)
    rows = quoting.read()
    form = "CSV" if delimiter == "," else f"CSV with {NAMES[delimiter]}"
    if delimiter == "\t":
        form = "TSV with quoted fields" if quoting.shown_to_quote else "TSV"
        rows = rows if quoting.shown_to_quote else quoting.read_letters()
    return Table(form, header.names, tuple(rows), header_lines=header.lines, blank_lines=header.blank_lines + quoting.blank_lines)


class _Quotes:
    """One record with quoted fields, by the letter of RFC 4180, but for spaces around the marks."""

    def __init__(self, delimiter: str) -> None:
        # possessive: without it a file of quotation marks would take quadratic time
        self._quoted = re.compile(rf' *+"([^"]*+(?:""[^"]*+)*+)" *+(?=[{delimiter}\n]|\Z)')
        self._plain = re.compile(rf"[^{delimiter}\n]*+")
        self._opening = re.compile(r' *+"')

    def record(self, text: str, at: int) -> Record | None:
        """The record at an offset; None if a mark in it is not closed before a delimiter or a line's end."""
        cells: list[str] = []
        doubled = False
        while True:
            if field := self._quoted.match(text, at):
                cells.append(field[1].replace('""', '"'))
                doubled |= '""' in field[1]
            elif self._opening.match(text, at) or not (field := self._plain.match(text, at)):
                return None
            else:
                cells.append(field[0])
            at = field.end()
            if at == len(text) or text[at] == "\n":
                return Record(cells, at, doubled)
            at += 1


class _Rows:
    """The rows of one file. ``shown_to_quote`` and ``blank_lines`` are known after reading."""

    def __init__(self, text: str, delimiter: str, header: Header, label: int) -> None:
        self._text, self._delimiter, self._header, self._label = text, delimiter, header, label
        self._quotes = _Quotes(delimiter)
        self._labels: frozenset[str] = _NAMED
        self.shown_to_quote = header.quoted
        self.blank_lines = 0

    def read(self) -> list[Row]:
        """Every row, with quoted fields where they are well-formed.

        Read twice: the labels of the first reading show in the second which lines are whole rows by themselves.
        """
        self._labels |= {canonical(str(row.cells[self._label])) for row in self._read() if row.cells} - {""}
        self.shown_to_quote, self.blank_lines = self._header.quoted, 0
        return self._read()

    def _read(self) -> list[Row]:
        rows: list[Row] = []
        at, line = self._header.end + 1, self._header.blank_lines + self._header.lines + 1
        while at < len(self._text):
            row, at = self._row(at, line)
            if row is None:
                self.blank_lines += 1
            else:
                rows.append(row)
            line += 1 if row is None else row.lines
        return rows

    def read_letters(self) -> list[Row]:
        """Every line a row, quotation marks as letters."""
        first = self._header.blank_lines + self._header.lines + 1
        lines = self._text[self._header.end + 1 :].split("\n")
        return [
            self._fitted(line.split(self._delimiter), number) for number, line in enumerate(lines, start=first) if not self._blank(line)
        ]

    def _row(self, at: int, number: int) -> tuple[Row | None, int]:
        """The row at an offset (None for a blank line), and the offset of the next."""
        end = self._text.find("\n", at)
        line = self._text[at : end if end != -1 else len(self._text)]
        if self._blank(line):
            return None, at + len(line) + 1
        if '"' not in line:
            return self._fitted(line.split(self._delimiter), number), at + len(line) + 1
        record = self._quotes.record(self._text, at)
        if record is None or self._takes_other_rows(at, record):
            return self._unquoted(line, number), at + len(line) + 1
        lines = self._text.count("\n", at, record.end) + 1
        self.shown_to_quote |= lines > 1 or record.doubled
        return self._fitted(record.cells, number, lines), record.end + 1

    def _takes_other_rows(self, at: int, record: Record) -> bool:
        """Whether a record over several lines is an open quotation mark that met another one further down."""
        lines = self._text[at : record.end].split("\n")
        if len(lines) == 1:
            return False
        return self._cells(record.cells) is None or any(self._is_whole_row(line) for line in lines[:-1])

    def _is_whole_row(self, line: str) -> bool:
        cells = self._cells(line.split(self._delimiter))
        return cells is not None and canonical(cells[self._label].strip(' "')) in self._labels

    def _unquoted(self, line: str, number: int) -> Row:
        """A line by itself. A mark that is closed, if only before more letters, is a letter; in a TSV an open one is, too."""
        if self._delimiter != "\t" and line.count('"') % 2:
            return Row(number, fault=OPEN_QUOTE)
        return self._fitted(line.split(self._delimiter), number)

    def _fitted(self, cells: list[str], number: int, lines: int = 1) -> Row:
        fitted = self._cells(cells)
        return Row(number, fault=NO_ROW, lines=lines) if fitted is None else Row(number, fitted, lines=lines)

    def _cells(self, cells: list[str]) -> list[str] | None:
        """As many cells as there are names; None if a cell would have to be lost, or one that has a name is missing."""
        names = self._header.names
        if any(cell.strip() for cell in cells[len(names) :]) or any(name.strip() for name in names[len(cells) :]):
            return None
        return (cells + [""] * len(names))[: len(names)]

    def _blank(self, line: str) -> bool:
        return not line or (line.isspace() and self._delimiter not in line)


def delimiters_of(suffix: str) -> Sequence[str]:
    """The delimiters that a file of this ending may have, the usual one first."""
    return {".csv": (",", ";", "\t"), ".tsv": ("\t",)}.get(suffix, ("\t", ",", ";"))
