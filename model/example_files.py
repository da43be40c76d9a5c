"""Labelled sentences out of a file, a folder of files, or a hub data set. What was recognised is said, and what is ambiguous refused.

Nothing here quotes a row: bad rows are counted and named by line number only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.columns import LABEL_COLUMNS, RATING_COLUMNS, Columns, FoundColumns, find_columns, has_columns
from model.corpus import Corpus, Example, counted_labels
from model.delimited import delimited_table, delimiters_of, header_of
from model.emotions import Emotion
from model.file_text import decoded, unpacked
from model.label_words import LabelWords, canonical, first_label, refused_label
from model.names import cleaned, folded
from model.normalization import normalized
from model.numbered_corpora import NUMBERED, NumberedCorpus
from model.refusal import Refusal
from model.tables import Row, Table, excel_table, hub_table, json_table, parquet_table

MOST_ANGRY, LEAST_GLAD, MOST_RATING = 4, 9, 10
"""NSMC: a rating of 9 or 10 is read as joy, 1 to 4 as anger, and what lies between is outside the rule.

A reviewer's sentiment stands in for two of the four emotions: a bad film angers, by and large, but its review may as well be sad
or bored, so such data measures training over many real authors and no model of four feelings.
"""

_LETTER = re.compile("[0-9A-Za-z가-힣]")
"""Something to see, found at once; of a text without it the text step says whether anything is left, as a diary asks it."""
_HALF = re.compile("[\ud800-\udfff]")
MOST_LETTERS = 10 * 1024 * 1024
"""No entry is longer: a row of more is bad."""

ENDINGS = (".tsv", ".csv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".xlsx")
NSMC_COLUMNS = frozenset({"id", "document", "label"})
"""The columns of NSMC's own files, whose label is 1 for a good review and 0 for a bad one."""


GUESSED = Columns()
FOUR_NAMES = LabelWords()


def read_examples(source: str, *, data_format: str = "auto", columns: Columns = GUESSED, labels: LabelWords = FOUR_NAMES) -> Corpus:
    """Read labelled sentences from a file, a folder of files, or a hub data set by name.

    Files are TSV, CSV, JSON Lines, a JSON array, Parquet or Excel, KOTE, GoEmotions or NSMC, each in gzip too, in UTF-8, UTF-16 or
    CP949. Raises :class:`Refusal` for a missing or empty file, another encoding, columns that cannot be found or may be several,
    labels that are none of the four emotions, and a file whose form is ambiguous. Every row that is not among the examples is counted.
    """
    path = Path(source)
    if path.is_dir():
        return _read_folder(path, data_format, columns, labels)
    if not path.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and path.suffix.lower() not in ENDINGS:
            return _corpus(source, hub_table(source), columns, labels)
        raise Refusal(f"there is no file '{source}'; name a .tsv, .csv, .jsonl or .parquet file, or a hub data set as owner/name")
    if path.stat().st_size == 0:
        raise Refusal(f"'{source}' is empty; name a file with a header line and one labelled entry per row")
    return _read_file(path, data_format, columns, labels)


def _read_folder(folder: Path, data_format: str, columns: Columns, labels: LabelWords) -> Corpus:
    """Every file of a known ending below the folder, hidden ones aside, as one corpus; what was passed over is counted."""
    inside = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(folder)))
    read = [path for path in inside if _suffix(path) in ENDINGS]
    if not read:
        raise Refusal(
            f"'{folder}' is a folder without a file to read; name a .tsv, .csv, .jsonl or .parquet file, or a folder of such files"
        )
    corpora = {path: read_examples(str(path), data_format=data_format, columns=columns, labels=labels) for path in read}
    forms = Counter(corpus.form for corpus in corpora.values())
    told = "; ".join(f"{count} of {form}" for form, count in forms.items())
    passed = f"; {len(inside) - len(read)} files of other endings passed over" if len(inside) > len(read) else ""
    others: Counter[str] = Counter()
    for corpus in corpora.values():
        others.update(dict(corpus.other_labels))
    return Corpus(
        tuple(example for corpus in corpora.values() for example in corpus.examples),
        f"the {len(read)} files of {folder}",
        tuple((line, f"{why} in {path.name}") for path, corpus in corpora.items() for line, why in corpus.bad_rows),
        sum(corpus.outside_rule for corpus in corpora.values()),
        form=told + passed,
        other_labels=tuple(others.most_common()),
        spanning=sum(corpus.spanning for corpus in corpora.values()),
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _suffix(path: Path) -> str:
    """The ending that tells the format: that under ``.gz``, where the file is packed."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _read_file(path: Path, data_format: str, columns: Columns, labels: LabelWords) -> Corpus:
    suffix = _suffix(path) if data_format in ("auto", "nsmc", "kote", "goemotions") else f".{data_format}"
    numbered = next((corpus for corpus in NUMBERED if corpus.name == data_format), None)
    if suffix not in ENDINGS and numbered is None:
        raise Refusal(
            f"'{path}' ends in '{path.suffix}'; rename it to end in {', '.join(ENDINGS)}, "
            "or say data-format tsv, csv, jsonl, parquet, kote or goemotions"
        )
    if suffix == ".xlsx":
        return _corpus(str(path), excel_table(path), columns, labels, data_format)
    content, packing = unpacked(path)
    if suffix == ".parquet":
        return _corpus(str(path), _told(parquet_table(content, path), packing), columns, labels, data_format)
    text, encoding = decoded(content, path)
    where = ", ".join(part for part in (encoding, packing) if part)
    if numbered is not None:
        return _read_numbered(path, text, numbered, where)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _corpus(str(path), _told(json_table(text, path), where), columns, labels, data_format)
    return _read_delimited(path, text, suffix, where, columns, labels, data_format)


def _told(table: Table, where: str) -> Table:
    return replace(table, form=", ".join(part for part in (table.form, where) if part))


def _read_delimited(path: Path, text: str, suffix: str, where: str, columns: Columns, labels: LabelWords, data_format: str) -> Corpus:
    """A table under a header; without one, a numbered corpus if the whole file shows that it is one."""
    delimiters = delimiters_of(suffix)
    headers = {delimiter: header_of(text, delimiter) for delimiter in delimiters}
    usual = {delimiter: _label_columns(data_format, header.names) for delimiter, header in headers.items()}
    delimiter = next((one for one in delimiters if has_columns(headers[one].names, columns, usual[one])), None)
    if delimiter is None and data_format == "auto" and suffix in (".tsv", ".txt"):
        numbered = _recognised(path, text)
        if numbered is not None:
            return _read_numbered(path, text, numbered, where)
    header = headers[delimiter or delimiters[0]]
    if not text[header.end :].strip():
        return _corpus(str(path), Table("a header", header.names, ()), columns, labels, data_format)
    found = find_columns(str(path), header.names, columns, _label_columns(data_format, header.names))
    table = delimited_table(text, delimiter or delimiters[0], header, found.label)
    return _corpus(str(path), _told(table, where), columns, labels, data_format)


def _recognised(path: Path, text: str) -> NumberedCorpus | None:
    """The numbered corpus that a file without a header is; :class:`Refusal` if it has the form of one and nothing that proves it."""
    lines = _filled_lines(text)
    for numbered in NUMBERED:
        if numbered.is_recognised([line for _, line in lines]):
            return numbered
    for numbered in NUMBERED:
        if numbered.has_form([line for _, line in lines]):
            raise Refusal(
                f"'{path}' has no header, and its lines are texts and numbers, which may be labels of {numbered.name} or of any "
                "other corpus; put a line with the columns' names, text and label, above its rows and say what the numbers mean with "
                f"--label-map 0=...,1=... (기쁨, 슬픔, 분노 or 불안 for each), or say --data-format {numbered.name} if it is that"
            )
    return None


def _filled_lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _read_numbered(path: Path, text: str, numbered: NumberedCorpus, where: str) -> Corpus:
    examples: list[Example] = []
    bad: list[tuple[int, str]] = []
    outside = 0
    for number, line in _filled_lines(text):
        cells = numbered.cells_of(line)
        if cells is None:
            bad.append((number, f"not a line of {numbered.name}"))
            continue
        named = {numbered.rule[label] for label in cells[1] if label in numbered.rule}
        if len(named) == 1:
            examples.append(Example(cells[0], named.pop()))
        else:
            outside += 1
    lines = len(text.split("\n")) - text.endswith("\n")
    form = f"{numbered.name}'s label numbers by the rule for four emotions, {where}, {lines:,} lines without a header; no author"
    return _not_empty(Corpus(tuple(examples), str(path), tuple(bad), outside, form=form))


# what a table's rows mean


@dataclass(frozen=True)
class Reading:
    """A row with a text and a label word, before it is known what the word means."""

    row: Row
    text: str
    label: str
    author: str


Meaning = Callable[[Sequence[Reading]], dict[str, Emotion | None]]
"""What each label word among the readings means (None: outside the rule); raises :class:`Refusal` for a word that has no place."""


def _corpus(source: str, table: Table, columns: Columns, labels: LabelWords, data_format: str = "auto") -> Corpus:
    if not any(row.cells for row in table.rows):
        faults = tuple((row.line, row.fault) for row in table.rows)
        return _not_empty(Corpus((), source, faults, form=table.form, unit=table.unit))
    found = find_columns(source, table.names, columns, _label_columns(data_format, table.names))
    readings: list[Reading] = []
    bad: list[tuple[int, str]] = []
    several = 0
    for row in table.rows:
        fault = row.fault or _fault(row, found)
        if fault:
            bad.append((row.line, fault))
        elif isinstance(row.cells[found.label], list) and len(row.cells[found.label]) > 1:
            several += 1
        else:
            readings.append(_reading(row, found))
    meanings, rule = _meanings(source, table, readings, labels, data_format)
    kept = [(reading, emotion) for reading in readings if (emotion := meanings[reading.label]) is not None]
    left = Counter(reading.label for reading in readings if meanings[reading.label] is None)
    others = () if data_format == "nsmc" else counted_labels(left)
    return _not_empty(
        Corpus(
            tuple(Example(reading.text, emotion, reading.author) for reading, emotion in kept),
            source,
            tuple(bad),
            several + (sum(left.values()) if data_format == "nsmc" else 0),
            form=f"{table.form}, {table.extent()}; {found.told()}{rule}",
            other_labels=others,
            spanning=sum(reading.row.lines > 1 for reading, _ in kept),
            unit=table.unit,
        )
    )


def _not_empty(corpus: Corpus) -> Corpus:
    if not corpus.examples:
        raise Refusal(f"no labelled entry could be read: {corpus.account()}; check the columns and the labels")
    return corpus


def _fault(row: Row, found: FoundColumns) -> str:
    text = row.cells[found.text]
    if not isinstance(text, str) or not (_LETTER.search(text) or normalized(text)):
        return "no text"
    if len(text) > MOST_LETTERS:
        return f"longer than {MOST_LETTERS:,} letters"
    if _HALF.search(text):
        return "half a character"
    return "" if _word(row.cells[found.label]) else "no label"


def _reading(row: Row, found: FoundColumns) -> Reading:
    author = "" if found.author is None else _word(row.cells[found.author])
    return Reading(row, str(row.cells[found.text]).strip(), _word(row.cells[found.label]), author)


def _word(value: Any) -> str:
    """A cell as a word: empty for nothing and for no number (NaN); 0 is a word, 2.0 is 2, a list of one is that one."""
    if isinstance(value, list):
        return " ".join(filter(None, map(_word, value)))
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return cleaned(str(value))


def _label_columns(data_format: str, names: Sequence[str]) -> tuple[str, ...]:
    if data_format != "nsmc":
        return LABEL_COLUMNS
    return ("label",) if _is_nsmc_layout(names) else RATING_COLUMNS


def _is_nsmc_layout(names: Sequence[str]) -> bool:
    return {folded(name) for name in names} == NSMC_COLUMNS


def _meanings(
    source: str, table: Table, readings: Sequence[Reading], labels: LabelWords, data_format: str
) -> tuple[dict[str, Emotion | None], str]:
    """What every label word means, and the rule for the account where it is not the label's own name."""
    words = dict.fromkeys(reading.label for reading in readings)
    if data_format == "nsmc":
        own = _is_nsmc_layout(table.names)
        rule = "label 1 as joy, 0 as anger" if own else f"ratings {LEAST_GLAD}-{MOST_RATING} as joy, 1-{MOST_ANGRY} as anger"
        return {word: _rated(source, word, readings, table.unit, reviewed if own else rated) for word in words}, f"; {rule}"
    meanings = {word: labels.emotion_of(word) for word in words}
    unknown = [reading for reading in readings if meanings[reading.label] is None]
    if unknown and not labels.leaves_out():
        first = first_label(table.unit, unknown[0].row.line, unknown[0].label)
        hint = _hint(table, {canonical(word) for word in words})
        raise refused_label(source, first, Counter(canonical(reading.label) for reading in unknown), hint)
    return meanings, labels.told(words)


def _hint(table: Table, words: set[str]) -> str:
    """What a file of unknown labels may be, of the formats that are never guessed."""
    if _is_nsmc_layout(table.names) and words <= {"0", "1"}:
        return "the columns are those of NSMC's own files, whose reviews --data-format nsmc reads as joy (1) and anger (0)"
    if any(re.fullmatch(r"\d+(,\d+)+", word) for word in words):
        return "numbers with commas are several labels: --data-format kote or goemotions reads these corpora's own files"
    return ""


def _rated(source: str, word: str, readings: Sequence[Reading], unit: str, meaning: Callable[[str], Emotion | None]) -> Emotion | None:
    try:
        return meaning(word)
    except Refusal as error:
        line = next(reading.row.line for reading in readings if reading.label == word)
        raise Refusal(f"'{source}' {unit} {line}: {error}, or name the label's column with label-column") from None


def rated(rating: str) -> Emotion | None:
    """The emotion that a rating of 1 to 10 stands for; see :data:`MOST_ANGRY`."""
    number = re.fullmatch(r"(\d{1,2})(\.0+)?", rating.strip())
    if number is None or not 1 <= int(number[1]) <= MOST_RATING:
        raise Refusal(f"the rating is not a whole number from 1 to {MOST_RATING}; use data-format auto if the label is an emotion's name")
    if int(number[1]) >= LEAST_GLAD:
        return Emotion.JOY
    return Emotion.ANGER if int(number[1]) <= MOST_ANGRY else None


def reviewed(label: str) -> Emotion:
    """The emotion that the label of NSMC's own files stands for: 1 a good review, 0 a bad one."""
    if canonical(label) not in ("0", "1"):
        raise Refusal("the label is not 0 or 1 as in NSMC's own files; use data-format auto if it is an emotion's name")
    return Emotion.JOY if canonical(label) == "1" else Emotion.ANGER
