"""Labelled sentences: what one is, where they are read from, and how they become a batch.

Diary text is radioactive: an ``Example`` does not show its text when printed, and nothing here quotes a row; bad rows
are counted and named by line number only.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from model.emotions import EMOTIONS, Emotion
from model.normalization import normalized
from model.refusal import Refusal
from model.settings import RunSettings
from model.written_texts import MIXED, PLAIN, written_texts

TEXT_COLUMNS = ("text", "sentence", "document", "content", "entry", "diary", "문장", "내용", "일기", "본문")
LABEL_COLUMNS = ("emotion", "label", "labels", "감정", "sentiment", "라벨")
RATING_COLUMNS = ("rating", "score", "평점", "별점")
AUTHOR_COLUMNS = ("author", "user", "writer", "person", "client", "작성자", "글쓴이")

KOTE_EMOTIONS: dict[int, Emotion] = {
    42: Emotion.JOY, 40: Emotion.JOY, 28: Emotion.JOY,
    5: Emotion.SADNESS, 36: Emotion.SADNESS,
    6: Emotion.ANGER,
    41: Emotion.ANXIETY, 18: Emotion.ANXIETY,
}  # fmt: skip
"""KOTE-4: 기쁨, 행복, 즐거움/신남; 슬픔, 서러움; 화남/분노; 불안/걱정, 공포/무서움. A row counts if it names exactly one."""

GOEMOTIONS: dict[int, Emotion] = {
    label: emotion
    for emotion, labels in {
        Emotion.JOY: (17, 1, 13, 15, 18, 21, 23),
        Emotion.SADNESS: (25, 16, 9, 24),
        Emotion.ANGER: (2, 3, 11),
        Emotion.ANXIETY: (14, 19),
    }.items()
    for label in labels
}
"""GoEmotions: joy, amusement, excitement, gratitude, love, pride, relief; sadness, grief, disappointment, remorse; anger,
annoyance, disgust; fear, nervousness. A row counts if it names exactly one group, whatever else it names."""

MOST_ANGRY, LEAST_GLAD, MOST_RATING = 4, 9, 10
"""NSMC: a rating of 9 or 10 is read as joy, 1 to 4 as anger, and what lies between is outside the rule.

A reviewer's sentiment stands in for two of the four emotions: a bad film angers, by and large, but its review may as well be sad
or bored, so such data measures training over many real authors and no model of four feelings.
"""

csv.field_size_limit(10 * 1024 * 1024)


@dataclass(frozen=True)
class Example:
    """One labelled entry. The text stays out of ``repr``, and so out of logs and tracebacks."""

    text: str = field(repr=False)
    emotion: Emotion
    author: str = ""


@dataclass(frozen=True)
class Columns:
    """The columns to read; an empty name is guessed from the usual ones."""

    text: str = ""
    label: str = ""
    author: str = ""


@dataclass(frozen=True)
class Corpus:
    """What was read: the examples, and an account of every row that is not among them."""

    examples: tuple[Example, ...]
    source: str
    bad_rows: tuple[tuple[int, str], ...] = ()
    """Line number and reason of each unreadable row."""
    outside_rule: int = 0
    """Rows of KOTE or GoEmotions that do not name exactly one of the four emotions; of NSMC, ratings between."""
    also_tested: int = 0
    """Rows left out of training because the same sentence stands in the test data."""

    def account(self) -> str:
        """One line for a person: how many were read, how many not, and where the first of those stand."""
        parts = [f"{len(self.examples)} entries from {self.source}"]
        if self.outside_rule:
            parts.append(f"{self.outside_rule} rows left out that do not name exactly one emotion")
        if self.also_tested:
            parts.append(f"{self.also_tested} left out because they also stand in the test data")
        if self.bad_rows:
            first = "; ".join(f"line {number}: {reason}" for number, reason in self.bad_rows[:3])
            parts.append(f"{len(self.bad_rows)} bad rows skipped ({first}{'; ...' if len(self.bad_rows) > 3 else ''})")
        return ", ".join(parts)


@dataclass(frozen=True)
class Batch:
    """Padded rows for the model: ``inputs`` (B, S) or (B, S, H), ``mask`` (B, S) 1 where real, ``labels`` (B,)."""

    inputs: Any
    mask: Any
    labels: Any


def training_examples(settings: RunSettings) -> Corpus:
    """The training part of the data that the settings name (never an example that :func:`test_examples` gives)."""
    return _train_and_test(settings)[0]


def test_examples(settings: RunSettings) -> Corpus:
    """The test part: ``test_data`` if named, else the bundled test authors or a fifth held out by the seed."""
    return _train_and_test(settings)[1]


def read_examples(source: str, *, data_format: str = "auto", columns: Columns = Columns()) -> Corpus:
    """Read labelled sentences from a file (TSV, CSV, JSONL, Parquet, KOTE, GoEmotions, NSMC), or from a hub data set by name.

    Raises :class:`Refusal` for a missing or empty file, an encoding that is not UTF-8, columns that cannot be found
    and labels that are none of the four emotions. Rows without text or with the wrong number of fields are counted.
    """
    path = Path(source)
    if path.is_dir():
        raise Refusal(f"'{source}' is a folder; name a .tsv, .csv, .jsonl or .parquet file in it")
    if not path.exists():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and path.suffix.lower() not in _READERS:
            return _from_rows(source, _hub_rows(source), columns)
        raise Refusal(f"there is no file '{source}'; name a .tsv, .csv, .jsonl or .parquet file, or a hub data set as owner/name")
    if path.stat().st_size == 0:
        raise Refusal(f"'{source}' is empty; name a file with a header line and one labelled entry per row")
    try:
        for name, (cells_of, rule) in _NUMBERED.items():
            if data_format == name or (data_format == "auto" and _looks_numbered(path, cells_of)):
                return _read_numbered(path, cells_of, rule, name)
        suffix = path.suffix.lower() if data_format in ("auto", "nsmc") else f".{data_format}"
        if suffix not in _READERS:
            raise Refusal(
                f"'{source}' ends in '{path.suffix}'; rename it to end in {', '.join(_READERS)}, "
                "or say data-format tsv, csv, jsonl, parquet, kote or goemotions"
            )
        return _from_rows(source, _READERS[suffix](path), columns, BY_RATING if data_format == "nsmc" else BY_NAME)
    except UnicodeDecodeError:
        convert = f"iconv -f cp949 -t utf-8 '{path.name}' > 'utf8-{path.name}'"
        raise Refusal(f"'{source}' is not UTF-8 (byte {_first_bad_byte(path)}); convert it, for example: {convert}") from None


def _first_bad_byte(path: Path) -> int:
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError as error:  # the reader's own counts from the start of its buffer
        return error.start
    return 0


def bundled_diaries() -> tuple[Corpus, Corpus]:
    """The sample diaries written for this project: training authors and test authors."""
    parts: dict[str, list[Example]] = {"train": [], "test": []}
    with (resources.files("model") / "assets" / "diaries.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            parts[row["split"]].append(Example(row["text"], Emotion.named(row["emotion"]), row["author"]))
    return (
        Corpus(tuple(parts["train"]), "the sample diaries (training authors)"),
        Corpus(tuple(parts["test"]), "the sample diaries (test authors)"),
    )


def bundled_written() -> tuple[Corpus, Corpus]:
    """The texts written to make the bundled model: those kept for its head, whom its body has not met, and those kept for tests."""
    parts: dict[str, list[Example]] = {"head": [], "test": []}
    for text in written_texts():
        if text.split in parts and text.label not in (PLAIN, MIXED):
            parts[text.split].append(Example(text.text, Emotion.named(text.label), text.author))
    return (
        Corpus(tuple(parts["head"]), "the written diaries and statements (the head's share)"),
        Corpus(tuple(parts["test"]), "the written diaries and statements (the tests' share)"),
    )


BUNDLES: dict[str, Callable[[], tuple[Corpus, Corpus]]] = {"samples": bundled_diaries, "written": bundled_written}
"""Data that come with the program, by the name that ``data`` and ``test-data`` give them: training part and test part."""


def _train_and_test(settings: RunSettings) -> tuple[Corpus, Corpus]:
    columns = Columns(settings.text_column, settings.label_column, settings.author_column)
    if settings.test_data and settings.test_data == settings.data:
        raise Refusal(f"test-data and data are both '{settings.data}'; leave test-data empty to hold a fifth out of it")
    train = _joined([_read_source(source, 0, settings, columns) for source in _sources(settings.data)])
    if settings.test_data:
        test = _joined([_read_source(source, 1, settings, columns) for source in _sources(settings.test_data)])
    elif settings.data in BUNDLES:
        test = BUNDLES[settings.data]()[1]
    else:
        train, test = _hold_out(train, settings.seed)
    return _without(train, test), test


def _sources(named: str) -> list[str]:
    if "," in named and not Path(named).exists():
        return [source.strip() for source in named.split(",") if source.strip()]
    return [named]


def _read_source(source: str, part: int, settings: RunSettings, columns: Columns) -> Corpus:
    if source in BUNDLES:
        return BUNDLES[source]()[part]
    return read_examples(source, data_format=settings.data_format, columns=columns)


def _joined(corpora: list[Corpus]) -> Corpus:
    """Several sources as one, whose name is the account of each."""
    if len(corpora) == 1:
        return corpora[0]
    return Corpus(
        tuple(example for corpus in corpora for example in corpus.examples),
        "; ".join(corpus.account() for corpus in corpora),
    )


def _without(train: Corpus, test: Corpus) -> Corpus:
    """``train`` without the sentences that ``test`` holds (compared after the text step): they would be scored by heart."""
    tested = {normalized(example.text) for example in test.examples}
    kept = tuple(example for example in train.examples if normalized(example.text) not in tested)
    if not kept:
        raise Refusal(f"every entry of {train.source} stands in the test data too; name other test data")
    return replace(train, examples=kept, also_tested=len(train.examples) - len(kept))


def _hold_out(corpus: Corpus, seed: int) -> tuple[Corpus, Corpus]:
    """Keep a fifth of each emotion apart, chosen by the seed; at least one of each that has two."""
    rng = np.random.default_rng([seed, 1])
    held: set[int] = set()
    for emotion in EMOTIONS:
        rows = [row for row, example in enumerate(corpus.examples) if example.emotion is emotion]
        held.update(rng.permutation(rows)[: max(len(rows) // 5, min(1, len(rows) // 2))].tolist())
    kept = tuple(example for row, example in enumerate(corpus.examples) if row not in held)
    apart = tuple(example for row, example in enumerate(corpus.examples) if row in held)
    if not apart:
        raise Refusal(f"'{corpus.source}' has {len(corpus.examples)} entries, too few to hold a test part out; name one with test-data")
    return (
        Corpus(kept, f"{corpus.source} (four fifths)", corpus.bad_rows, corpus.outside_rule),
        Corpus(apart, f"{corpus.source} (a fifth held out)"),
    )


@dataclass(frozen=True)
class Labelling:
    """How a row's label names an emotion: the column's usual names, and what a value of it means (None: it is outside the rule)."""

    columns: tuple[str, ...]
    emotion_of: Callable[[str], Emotion | None]


def rated(rating: str) -> Emotion | None:
    """The emotion that a rating of 1 to 10 stands for; see :data:`MOST_ANGRY`."""
    number = re.fullmatch(r"(\d{1,2})(\.0+)?", rating.strip())
    if number is None or not 1 <= int(number[1]) <= MOST_RATING:
        raise Refusal(f"the rating is not a whole number from 1 to {MOST_RATING}; use data-format auto if the label is an emotion's name")
    if int(number[1]) >= LEAST_GLAD:
        return Emotion.JOY
    return Emotion.ANGER if int(number[1]) <= MOST_ANGRY else None


BY_NAME = Labelling(LABEL_COLUMNS, Emotion.named)
BY_RATING = Labelling(RATING_COLUMNS, rated)

Row = tuple[int, dict[str, Any] | None]
"""Line number, and the row by column name; None if it could not be read."""


def _from_rows(source: str, rows: Iterator[Row], columns: Columns, labelling: Labelling = BY_NAME) -> Corpus:
    examples: list[Example] = []
    bad: list[tuple[int, str]] = []
    outside = 0
    names: tuple[str, str, str] | None = None
    for number, row in rows:
        if row is None:
            bad.append((number, "cannot be read as a row"))
            continue
        names = names or _find_columns(source, list(row), columns, labelling.columns)
        text, label = row.get(names[0]), row.get(names[1])
        if not isinstance(text, str) or not text.strip():
            bad.append((number, "no text"))
        elif any("\ud800" <= letter <= "\udfff" for letter in text):
            bad.append((number, "half a character"))
        elif label is None or not str(label).strip():
            bad.append((number, "no label"))
        elif (emotion := _label(source, number, str(label), labelling)) is None:
            outside += 1
        else:
            column = names[2] or next((key for key in row if str(key).strip().casefold() in AUTHOR_COLUMNS), "")
            author = str(row.get(column) or "")
            examples.append(Example(text.strip(), emotion, author))
    return _not_empty(Corpus(tuple(examples), source, tuple(bad), outside))


def _not_empty(corpus: Corpus) -> Corpus:
    if not corpus.examples:
        raise Refusal(f"no labelled entry could be read: {corpus.account()}; check the columns and the labels")
    return corpus


def _label(source: str, number: int, label: str, labelling: Labelling) -> Emotion | None:
    try:
        return labelling.emotion_of(label)
    except Refusal as error:
        raise Refusal(f"'{source}' line {number}: {error}, or name the label's column with label-column") from None


def _find_columns(source: str, found: list[str], columns: Columns, labels: tuple[str, ...]) -> tuple[str, str, str]:
    def find(kind: str, wanted: str, usual: tuple[str, ...]) -> str:
        if wanted:
            if wanted not in found:
                raise Refusal(f"'{source}' has no column '{wanted}'; its columns are {_column_list(found)}")
            return wanted
        by_name = {str(name).strip().casefold(): name for name in found}
        match = next((by_name[name] for name in usual if name in by_name), "")
        if not match and kind != "author":
            raise Refusal(f"'{source}' has no column for the {kind} among {_column_list(found)}; name it with {kind}-column")
        return match

    return (
        find("text", columns.text, TEXT_COLUMNS),
        find("label", columns.label, labels),
        find("author", columns.author, AUTHOR_COLUMNS),
    )


def _column_list(found: list[str]) -> str:
    # A file without a header has a person's text where the names should be: never quote something long.
    return ", ".join(f"'{name}'" if len(str(name)) <= 20 and " " not in str(name).strip() else "(a long one)" for name in found[:20])


def _delimited_rows(path: Path, delimiter: str) -> Iterator[Row]:
    quoting: Any = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL  # a lone " is common in Korean TSV files
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting)
        try:
            header = next(reader, [])
            for cells in reader:
                if cells:
                    row = dict(zip(header, cells, strict=True)) if len(cells) == len(header) else None
                    yield reader.line_num, row
        except csv.Error:
            raise Refusal(f"'{path}' line {reader.line_num} cannot be read as a row; is a quotation mark open?") from None


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (json.JSONDecodeError, RecursionError):
                    row = None
                yield number, row if isinstance(row, dict) else None


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError):
        raise Refusal(f"'{path}' is not a Parquet file; check that it was copied whole") from None


def _hub_rows(name: str) -> Iterator[Row]:
    try:
        import datasets
    except ImportError:
        raise Refusal(f"'{name}' is no file; to read it as a hub data set: pip install 'feelinghealing[hub]'") from None
    try:
        rows = datasets.load_dataset(name, split="train")
    except (OSError, ValueError) as error:
        raise Refusal(f"the hub data set '{name}' could not be loaded ({type(error).__name__}); check the name and the network") from None
    labels = {key: feature.names for key, feature in rows.features.items() if hasattr(feature, "names")}
    for number, row in enumerate(rows, start=1):
        yield number, {key: labels[key][value] if key in labels and value is not None else value for key, value in row.items()}


def kote_cells(line: str) -> tuple[str, frozenset[int]] | None:
    """Text and label numbers of one KOTE line (id, text, comma-separated numbers 0 to 43), None if it is not one."""
    cells = line.rstrip("\r\n").split("\t")
    if len(cells) != 3 or not re.fullmatch(r"\d+", cells[0]) or not re.fullmatch(r"\d+(,\d+)*", cells[2]):
        return None
    labels = frozenset(int(number) for number in cells[2].split(","))
    return (cells[1].strip(), labels) if cells[1].strip() and max(labels) <= 43 else None


def goemotions_cells(line: str) -> tuple[str, frozenset[int]] | None:
    """Text and label numbers of one GoEmotions line (text, comma-separated numbers 0 to 27), None if it is not one."""
    cells = line.rstrip("\r\n").split("\t")
    if len(cells) != 2 or not re.fullmatch(r"\d+(,\d+)*", cells[1]):
        return None
    labels = frozenset(int(number) for number in cells[1].split(","))
    return (cells[0].strip(), labels) if cells[0].strip() and max(labels) <= 27 else None


Cells = Callable[[str], tuple[str, frozenset[int]] | None]


def _looks_numbered(path: Path, cells_of: Cells) -> bool:
    if path.suffix.lower() not in (".tsv", ".txt"):
        return False
    with path.open(encoding="utf-8-sig") as lines:
        return cells_of(lines.readline()) is not None


def _read_numbered(path: Path, cells_of: Cells, rule: dict[int, Emotion], name: str) -> Corpus:
    examples: list[Example] = []
    bad: list[tuple[int, str]] = []
    outside = 0
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            cells = cells_of(line)
            if cells is None:
                bad.append((number, f"not a line of {name}"))
                continue
            named = {rule[label] for label in cells[1] if label in rule}
            if len(named) == 1:
                examples.append(Example(cells[0], named.pop()))
            else:
                outside += 1
    return _not_empty(Corpus(tuple(examples), str(path), tuple(bad), outside))


_NUMBERED: dict[str, tuple[Cells, dict[int, Emotion]]] = {
    "kote": (kote_cells, KOTE_EMOTIONS),
    "goemotions": (goemotions_cells, GOEMOTIONS),
}

_READERS = {
    ".tsv": lambda path: _delimited_rows(path, "\t"),
    ".csv": lambda path: _delimited_rows(path, ","),
    ".jsonl": _jsonl_rows,
    ".parquet": _parquet_rows,
}


def texts(examples: Sequence[Example]) -> list[str]:
    """The texts alone, in order."""
    return [example.text for example in examples]
