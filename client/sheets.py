"""Sheets: the first sheet of an .xlsx file (ECMA-376) as rows of text, with days as 2024-05-01.

A stranger's file: what it holds unpacked is bounded, and a document type, by which XML grows without end, is refused.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from client.tables import TableRow
from model.refusal import Refusal

LARGEST = 128 * 2**20
"""Bytes of one part of the file, unpacked."""
MOST_COLUMNS = 1000
_DAYS = {*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)}
"""Numbers of the built-in formats of days and times, those of East Asia among them."""
_BEGIN = datetime(1899, 12, 30)
"""Day 0, for days from March 1900 on."""


def read_sheet(path: Path) -> list[TableRow]:
    """The rows of the first sheet that has any, by their numbers; :class:`Refusal` if the file is no .xlsx."""
    try:
        with zipfile.ZipFile(path) as pack:
            names = sorted(name for name in pack.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name))
            words, days = _shared(pack), _day_styles(pack)
            sheets = (list(_rows(_xml(pack, name), words, days)) for name in sorted(names, key=lambda name: int(re.sub(r"\D", "", name))))
            return next((rows for rows in sheets if rows), [])
    except Refusal:
        raise
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, ValueError, IndexError, OverflowError, NotImplementedError, RuntimeError):
        raise Refusal(f"'{path}' cannot be read as .xlsx; save it again, or as CSV") from None


def _xml(pack: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if pack.getinfo(name).file_size > LARGEST:
        raise Refusal(f"a sheet holds more than {LARGEST // 2**20} MB; split it")
    content = pack.read(name)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise Refusal("the .xlsx declares a document type or entities, which may be a trap; save it again, or as CSV")
    return ElementTree.fromstring(content)  # noqa: S314 -- no entities


def _shared(pack: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in pack.namelist():
        return []
    return [_words(item) for item in _xml(pack, "xl/sharedStrings.xml").iterfind("{*}si")]


def _words(item: ElementTree.Element) -> str:
    """The text of a cell, without how it is pronounced."""
    parts = [*item.iterfind("{*}t"), *item.iterfind("{*}r/{*}t")]
    return "".join(part.text or "" for part in parts).replace("_x000D_", "\r").replace("\r\n", "\n")


def _day_styles(pack: zipfile.ZipFile) -> set[int]:
    """Numbers of the cell styles that show a day."""
    if "xl/styles.xml" not in pack.namelist():
        return set()
    root = _xml(pack, "xl/styles.xml")
    own = {int(one.get("numFmtId", "0")) for one in root.iterfind("{*}numFmts/{*}numFmt") if _shows_a_day(one.get("formatCode", ""))}
    styles = [int(one.get("numFmtId", "0")) for one in root.iterfind("{*}cellXfs/{*}xf")]
    return {at for at, number in enumerate(styles) if number in own or number in _DAYS}


def _shows_a_day(code: str) -> bool:
    return bool(re.search(r"[ydh]", re.sub(r'"[^"]*"|\[[^\]]*\]|\\.', "", code).casefold()))


def _rows(root: ElementTree.Element, words: list[str], days: set[int]) -> Iterator[TableRow]:
    for at, row in enumerate(root.iterfind("{*}sheetData/{*}row"), start=1):
        cells: list[str] = []
        for cell in row.iterfind("{*}c"):
            column = _column(cell.get("r", "")) if cell.get("r") else len(cells)
            if column < MOST_COLUMNS:
                cells += [""] * (column + 1 - len(cells))
                cells[column] = _value(cell, words, days)
        if any(cells):
            yield TableRow(int(row.get("r", at)), tuple(cells))


def _column(place: str) -> int:
    """0 for A1, 26 for AA7."""
    number = 0
    for letter in re.sub(r"[^A-Z]", "", place):
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _value(cell: ElementTree.Element, words: list[str], days: set[int]) -> str:
    kind, value = cell.get("t", "n"), cell.findtext("{*}v") or ""
    if kind == "inlineStr":
        inline = cell.find("{*}is")
        return _words(inline) if inline is not None else ""
    if kind == "s":
        return words[int(value)] if value else ""
    if kind == "n" and value and int(cell.get("s", "0")) in days:
        at = (_BEGIN + timedelta(days=float(value))).replace(microsecond=0)
        return at.date().isoformat() if at == datetime.combine(at.date(), datetime.min.time()) else at.isoformat(sep=" ")
    return value
