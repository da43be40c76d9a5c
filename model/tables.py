"""Tables of any file as one thing: names of columns, and rows that know their line. JSON, Parquet, Excel and hub data sets.

A row that cannot be read stands in the table with its fault, so that every row of the file is there to be counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from model.columns import TEXT_COLUMNS
from model.names import folded
from model.refusal import Refusal

NO_ROW = "cannot be read as a row"


@dataclass(frozen=True)
class Row:
    """One row: where it begins, over how many lines it runs, and its cells in the order of the table's names, or why there are none."""

    line: int
    cells: Sequence[Any] = field(repr=False, default=())
    fault: str = ""
    lines: int = 1


@dataclass(frozen=True)
class Table:
    """What a file holds: ``names`` as they are written, one a column, with doubles; ``form`` is the recognised format for a person."""

    form: str
    names: tuple[str, ...]
    rows: tuple[Row, ...] = field(repr=False)
    unit: str = "line"
    header_lines: int = 0
    blank_lines: int = 0

    @property
    def lines(self) -> int:
        """Lines (or rows) of the file, each of which stands in this table once."""
        return self.header_lines + self.blank_lines + sum(row.lines for row in self.rows)

    def extent(self) -> str:
        """The lines for the account, so that a person can add up what became of them."""
        header = f", {self.header_lines} of header" if self.header_lines else ""
        blank = f", {self.blank_lines} blank" if self.blank_lines else ""
        return f"{self.lines:,} {self.unit}s{header}{blank}"


# JSON


class _Doubled(dict[str, Any]):
    """An object of which a key stands twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len({folded(key) for key in found}) == len(pairs) else _Doubled(found)


def json_table(text: str, path: Path) -> Table:
    """JSON Lines, or one JSON array of objects, or one object in which a single list of objects stands; whatever the name says.

    Raises :class:`Refusal` for a file that begins as an array and is not one.
    """
    whole = _loaded(text)
    if isinstance(whole, list):
        return _json_rows("JSON array", list(enumerate(whole, start=1)), unit="row")
    if isinstance(whole, dict) and (inner := _only_list(whole)) is not None:
        return _json_rows("JSON, the list in its only object", list(enumerate(inner, start=1)), unit="row")
    lines = text.split("\n")
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    found = [(number, _loaded(line)) for number, line in filled]
    if found and not any(isinstance(row, dict) for _, row in found):
        if isinstance(whole, dict):
            raise Refusal(f"'{path}' is one JSON object without a list of entries; write an array of objects, one an entry")
        if text.lstrip().startswith("["):
            raise Refusal(f"'{path}' begins as a JSON array and ends otherwise; check that it was copied whole")
    return _json_rows("JSON Lines", found, blank=len(lines) - len(filled) - (lines[-1] == ""))


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError):  # also a number of more digits than Python reads
        return None


def _only_list(whole: dict[str, Any]) -> list[Any] | None:
    if any(folded(key) in TEXT_COLUMNS for key in whole):
        return None  # an entry by itself
    lists = [value for value in whole.values() if isinstance(value, list) and value and all(isinstance(row, dict) for row in value)]
    return lists[0] if len(lists) == 1 else None


def _json_rows(form: str, found: Sequence[tuple[int, Any]], *, unit: str = "line", blank: int = 0) -> Table:
    """The columns are the keys of all objects, not of the first; a key that an object lacks is an empty cell."""
    names: dict[str, str] = {}
    for _, row in found:
        for key in row if isinstance(row, dict) else ():
            names.setdefault(folded(key), key)
    rows = tuple(_json_row(number, row, names) for number, row in found)
    return Table(form, tuple(names.values()), rows, unit, blank_lines=blank)


def _json_row(number: int, row: Any, names: Iterable[str]) -> Row:
    if isinstance(row, _Doubled):
        return Row(number, fault="a key stands twice")
    if not isinstance(row, dict):
        return Row(number, fault=NO_ROW)
    cells = {folded(key): value for key, value in row.items()}
    return Row(number, [cells.get(name) for name in names])


# Parquet and hub data sets


def parquet_table(content: bytes, path: Path) -> Table:
    """A Parquet file; label numbers whose names stand in the metadata that Hugging Face's datasets write become these names."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        names = tuple(file.schema_arrow.names)
        columns: list[list[Any]] = [[] for _ in names]
        for batch in file.iter_batches():
            for column, cells in zip(columns, batch.columns, strict=True):
                column.extend(cells.to_pylist())
        features = _features(file.schema_arrow.metadata)
    except (pyarrow.ArrowException, OSError):
        raise Refusal(f"'{path}' is not a Parquet file; check that it was copied whole") from None
    return _columns_table("Parquet", names, columns, {name: labels for name in names if (labels := _class_names(features.get(name)))})


def hub_table(name: str) -> Table:
    """The training part of a hub data set; :class:`Refusal` if it cannot be loaded."""
    try:
        import datasets
    except ImportError:
        raise Refusal(f"'{name}' is no file; to read it as a hub data set: pip install 'feelinghealing[hub]'") from None
    try:
        rows = datasets.load_dataset(name, split="train")
    except (OSError, ValueError) as error:
        raise Refusal(f"the hub data set '{name}' could not be loaded ({type(error).__name__}); check the name and the network") from None
    names = tuple(rows.features)
    labels = {key: feature.names for key, feature in rows.features.items() if hasattr(feature, "names")}
    return _columns_table("hub data set, split train", names, [list(rows[name]) for name in names], labels)


def _columns_table(form: str, names: tuple[str, ...], columns: list[list[Any]], labels: dict[str, list[str]]) -> Table:
    named = [_with_names(cells, labels.get(name)) for name, cells in zip(names, columns, strict=True)]
    rows = tuple(Row(number, cells) for number, cells in enumerate(zip(*named, strict=True), start=1))
    told = f", label names of {', '.join(labels)} from its metadata" if labels else ""
    return Table(form + told, names, rows, unit="row")


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """What datasets wrote about the columns; empty if another program made the file."""
    try:
        found = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel, or of a list of ClassLabels in any of the forms in which datasets wrote one."""
    if isinstance(feature, list) and len(feature) == 1:
        return _class_names(feature[0])
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        return [str(name) for name in feature["names"]]
    return _class_names(feature.get("feature"))


def _with_names(cells: list[Any], names: list[str] | None) -> list[Any]:
    return cells if names is None else [_name_of(cell, names) for cell in cells]


def _name_of(cell: Any, names: list[str]) -> Any:
    """A label number's name; datasets write -1 where there is no label, and a number without a name stays as it is."""
    if isinstance(cell, list):
        return [_name_of(one, names) for one in cell]
    if isinstance(cell, int) and cell == -1:
        return None
    return names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else cell


# Excel


def excel_table(path: Path) -> Table:
    """The only sheet of a workbook that holds something, read by openpyxl where it is installed."""
    others = "save the sheet as CSV UTF-8 (tsv, csv, jsonl, parquet, kote or goemotions are read without it)"
    if find_spec("openpyxl") is None:
        raise Refusal(f"'{path}' ends in '{path.suffix}' and openpyxl, which reads it, is not installed; pip install openpyxl, or {others}")
    import zipfile

    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except (zipfile.BadZipFile, openpyxl.utils.exceptions.InvalidFileException, KeyError, ValueError, OSError):
        raise Refusal(f"'{path}' ends in '{path.suffix}' and is no workbook of Excel that opens; {others}") from None
    sheets = {sheet.title: rows for sheet in book.worksheets if (rows := list(_filled(sheet.iter_rows(values_only=True))))}
    if len(sheets) > 1:
        raise Refusal(f"'{path}' has {len(sheets)} sheets with something in them; keep the one to read, or {others}")
    return _sheet_table(next(iter(sheets.values()), []))


def _filled(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[int, list[Any]]]:
    for number, cells in enumerate(rows, start=1):
        if any(cell is not None for cell in cells):
            yield number, list(cells)


def _sheet_table(rows: list[tuple[int, list[Any]]]) -> Table:
    if not rows:
        return Table("Excel", (), (), unit="row")
    names = tuple("" if cell is None else str(cell) for cell in rows[0][1])
    found = tuple(_sheet_row(number, cells, len(names)) for number, cells in rows[1:])
    return Table("Excel", names, found, unit="row", header_lines=1)


def _sheet_row(number: int, cells: list[Any], width: int) -> Row:
    if any(cell is not None for cell in cells[width:]):
        return Row(number, fault=NO_ROW)
    return Row(number, (cells + [None] * width)[:width])
