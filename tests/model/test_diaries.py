"""The bundled sample diaries: enough authors and entries, balanced, split by author, and no two alike."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from model.emotions import EMOTIONS
from model.examples import bundled_diaries

FILE = Path(__file__).parents[2] / "model/assets/diaries.jsonl"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    with FILE.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_there_are_at_least_twelve_hundred_entries(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 1200


def test_at_least_thirty_authors_wrote_at_least_twenty_five_entries_each(rows: list[dict[str, Any]]) -> None:
    entries = Counter(row["author"] for row in rows)
    assert len(entries) >= 30
    assert min(entries.values()) >= 25


def test_six_authors_are_kept_for_the_test_and_none_of_them_trains(rows: list[dict[str, Any]]) -> None:
    authors = {split: {row["author"] for row in rows if row["split"] == split} for split in ("train", "test")}
    assert len(authors["test"]) == 6
    assert not authors["train"] & authors["test"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_emotion_has_between_a_fifth_and_three_tenths_of_the_entries(rows: list[dict[str, Any]], split: str) -> None:
    emotions = Counter(row["emotion"] for row in rows if row["split"] == split)
    assert set(emotions) == {"joy", "sadness", "anger", "anxiety"}
    assert all(0.2 <= count / emotions.total() <= 0.3 for count in emotions.values())


def test_every_author_feels_all_four_emotions(rows: list[dict[str, Any]]) -> None:
    felt: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        felt[row["author"]].add(row["emotion"])
    assert all(len(emotions) == len(EMOTIONS) for emotions in felt.values())


def test_no_two_entries_share_more_than_half_of_their_five_letter_sequences(rows: list[dict[str, Any]]) -> None:
    grams = [{row["text"][at : at + 5] for at in range(max(1, len(row["text"]) - 4))} for row in rows]
    holders: dict[str, list[int]] = defaultdict(list)
    for number, own in enumerate(grams):
        for gram in own:
            holders[gram].append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for numbers in holders.values():
        shared.update((a, b) for position, b in enumerate(numbers) for a in numbers[:position])
    alike = [(rows[a]["id"], rows[b]["id"]) for (a, b), both in shared.items() if both / (len(grams[a]) + len(grams[b]) - both) > 0.5]
    assert alike == []


def test_entries_range_from_one_short_line_to_a_paragraph(rows: list[dict[str, Any]]) -> None:
    lengths = sorted(len(row["text"]) for row in rows)
    assert lengths[0] <= 20
    assert lengths[len(lengths) // 20] <= 40
    assert lengths[-len(lengths) // 20] >= 150
    assert lengths[-1] >= 300


def test_every_entry_has_an_id_of_its_own_a_real_date_and_korean_text(rows: list[dict[str, Any]]) -> None:
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(date.fromisoformat(row["date"]).year >= 2000 for row in rows)
    assert all(any("가" <= letter <= "힣" for letter in row["text"]) for row in rows)


def test_an_author_writes_in_the_order_of_time(rows: list[dict[str, Any]]) -> None:
    days: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        days[row["author"]].append(row["date"])
    assert [author for author, dates in days.items() if dates != sorted(dates)] == []


def test_the_reader_gives_every_row_of_the_file_in_its_split(rows: list[dict[str, Any]]) -> None:
    for split, corpus in zip(("train", "test"), bundled_diaries(), strict=True):
        wanted = [(row["text"], row["emotion"], row["author"]) for row in rows if row["split"] == split]
        assert [(example.text, example.emotion.en, example.author) for example in corpus.examples] == wanted
        assert corpus.bad_rows == ()
