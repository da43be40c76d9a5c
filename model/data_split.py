"""Training part and test part: what is learned, what is scored, and that the two have no sentence in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np

from model.columns import Columns
from model.corpus import Corpus, Example
from model.emotions import EMOTIONS, Emotion
from model.example_files import read_examples
from model.label_words import LabelWords, read_label_map
from model.normalization import normalized
from model.refusal import Refusal
from model.settings import RunSettings
from model.written_texts import MIXED, PLAIN, written_texts


def training_examples(settings: RunSettings) -> Corpus:
    """The training part of the data that the settings name (never an example that :func:`test_examples` gives)."""
    train = _train_and_test(settings)[0]
    kind, why = chosen_partition(train.examples, settings)
    return replace(train, dealt=f"dealt out by {kind}{f' (auto: {why})' if why else ''}")


def test_examples(settings: RunSettings) -> Corpus:
    """The test part: ``test_data`` if named, else the bundled test authors or a fifth held out by the seed."""
    return _train_and_test(settings)[1]


def data_digests(settings: RunSettings) -> dict[str, str]:
    """Digests of the entries that a run trains on and is scored on, by what they are, for :meth:`server.journal.Journal.tie`."""
    train, test = _train_and_test(settings)
    return {"training entries": train.digest, "test entries": test.digest}


def chosen_partition(examples: Sequence[Example], settings: RunSettings) -> tuple[str, str]:
    """Which partition deals the examples out, and of ``auto`` why: whole authors if every entry names one and there are enough."""
    if settings.partition != "auto":
        return settings.partition, ""
    authors = {example.author for example in examples}
    nameless = sum(not example.author for example in examples)
    if nameless:
        return "iid", "no entry names an author" if nameless == len(examples) else f"{nameless} entries name no author"
    if len(authors) < settings.clients:
        return "iid", f"{len(authors)} authors are too few for {settings.clients} people"
    return "author", f"every entry names one of {len(authors)} authors, enough for {settings.clients} people"


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
    if settings.test_data and settings.test_data == settings.data:
        raise Refusal(f"test-data and data are both '{settings.data}'; leave test-data empty to hold a fifth out of it")
    train = _joined([_read_source(source, 0, settings) for source in _sources(settings.data)])
    if settings.test_data:
        test = _joined([_read_source(source, 1, settings) for source in _sources(settings.test_data)])
    elif settings.data in BUNDLES:
        test = BUNDLES[settings.data]()[1]
    else:
        train, test = _hold_out(train, settings.seed)
    return _without(train, test), test


def _sources(named: str) -> list[str]:
    if "," in named and not Path(named).exists():
        return [source.strip() for source in named.split(",") if source.strip()]
    return [named]


def _read_source(source: str, part: int, settings: RunSettings) -> Corpus:
    if source in BUNDLES:
        return BUNDLES[source]()[part]
    columns = Columns(settings.text_column, settings.label_column, settings.author_column)
    labels = LabelWords(read_label_map(settings.label_map), settings.other_labels)
    return read_examples(source, data_format=settings.data_format, columns=columns, labels=labels)


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
        replace(corpus, examples=kept, source=f"{corpus.source} (four fifths)"),
        Corpus(apart, f"{corpus.source} (a fifth held out)"),
    )
