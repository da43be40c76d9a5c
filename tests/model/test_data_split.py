"""What a run's data are said to be: the partition and its reason, the label map's way to the reader, and digests of both parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.data_split import chosen_partition, data_digests, training_examples
from model.data_split import test_examples as held_out_examples
from model.examples import Example
from model.refusal import Refusal
from model.settings import RunSettings

ROWS = [f"글 {number},{label},{number % 4}" for number, label in enumerate(["행복", "슬픔", "분노", "중립"] * 10)]


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., RunSettings]:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["text,emotion,author", *ROWS]), encoding="utf-8")
    usual: dict[str, Any] = {"data": str(path), "label_map": "행복=기쁨", "other_labels": "leave-out", "clients": 3}
    return lambda **options: RunSettings(**(usual | options))


@pytest.mark.parametrize(
    ("authors", "clients", "kind", "why"),
    [
        (["가", "나", "다"], 3, "author", "every entry names one of 3 authors, enough for 3 people"),
        (["가", "나", "다"], 4, "iid", "3 authors are too few for 4 people"),
        (["가", "", "다"], 2, "iid", "1 entries name no author"),
        (["", "", ""], 2, "iid", "no entry names an author"),
        (["0", "1", "0"], 2, "author", "every entry names one of 2 authors, enough for 2 people"),
    ],
)
def test_auto_says_which_partition_it_chose_and_why(examples: list[Example], authors: list[str], clients: int, kind: str, why: str) -> None:
    rows = [Example(example.text, example.emotion, author) for example, author in zip(examples, authors, strict=False)]
    assert chosen_partition(rows, RunSettings(clients=clients)) == (kind, why)
    assert chosen_partition(rows, RunSettings(clients=clients, partition="dirichlet")) == ("dirichlet", "")


def test_the_training_part_s_account_says_format_columns_labels_and_partition(settings: Callable[..., RunSettings]) -> None:
    account = training_examples(settings()).account()
    assert all(
        part in account
        for part in (
            "24 entries", "(four fifths)", "CSV, UTF-8, 41 lines", "author from 'author'", "label-map 행복=기쁨",
            "10 rows left out with other",
            "dealt out by author (auto: every entry names one of 3 authors, enough for 3 people)",
        )
    )  # fmt: skip
    assert training_examples(settings(partition="iid")).account().endswith("dealt out by iid")
    assert "dealt" not in held_out_examples(settings()).account()


def test_label_map_and_other_labels_hold_for_the_test_data_too(settings: Callable[..., RunSettings], tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,emotion\n다른 글,행복\n또 글,중립\n", encoding="utf-8")
    test = held_out_examples(settings(test_data=str(tmp_path / "test.csv")))
    assert [example.emotion.ko for example in test.examples] == ["기쁨"]
    with pytest.raises(Refusal, match="중립"):
        held_out_examples(settings(test_data=str(tmp_path / "test.csv"), other_labels="refuse"))


def test_digests_are_of_both_parts_and_change_with_what_changes_them(settings: Callable[..., RunSettings], tmp_path: Path) -> None:
    before = data_digests(settings())
    assert data_digests(settings()) == before
    for changed in (settings(seed=8), settings(label_map="행복=불안")):
        after = data_digests(changed)
        assert {name for name in before if before[name] != after[name]} == {"training entries", "test entries"}
    with (tmp_path / "a.csv").open("a", encoding="utf-8") as file:
        file.write("\n새 글,슬픔,9")
    assert data_digests(settings()) != before
