"""What the compact model reads: real corpora where they lie, without anything that it is measured on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from model import emotion_corpora
from model.corpora import film_reviews, is_held_out
from model.emotion_corpora import broad_rows, comment_rows, written_rows
from model.emotion_training import EmotionRow
from model.examples import bundled_diaries
from model.refusal import Refusal

READ_AUTHOR = next(name for name in (f"a{number}" for number in range(100)) if not is_held_out(name))
HELD_AUTHOR = next(name for name in (f"a{number}" for number in range(100)) if is_held_out(name))


LONG = "이 정도면 스무 자가 넘는 "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four tiny corpora of the shared data's layout, made up here."""
    for name in ("nsmc", "goemotions_ko", "feelings", "kote"):
        (tmp_path / name).mkdir()
    diary = bundled_diaries()[1].examples[0].text
    rows = [
        (READ_AUTHOR, 9, f"{LONG}아주 좋은 영화였다"),
        (HELD_AUTHOR, 2, f"{LONG}남겨 둔 사람의 글이다"),
        (READ_AUTHOR, 1, f"{LONG}시험에 나오는 문장!!"),
        (READ_AUTHOR, 5, ""),
        (READ_AUTHOR, 3, diary),
    ]  # fmt: skip
    table = pa.table({"author": [row[0] for row in rows], "rating": [row[1] for row in rows], "text": [row[2] for row in rows]})
    pyarrow.parquet.write_table(table, tmp_path / "nsmc" / "reviews.parquet")
    (tmp_path / "goemotions_ko" / "train.tsv").write_text("기쁜 하루\t17,1\n", encoding="utf-8")
    (tmp_path / "goemotions_ko" / "dev.tsv").write_text("무서운 밤\t14\n", encoding="utf-8")
    (tmp_path / "feelings" / "labelled.tsv").write_text("text\temotion\n안녕히 가세요\tnone\n", encoding="utf-8")
    (tmp_path / "kote" / "test.tsv").write_text(f"1\t{LONG}시험에 나오는, 문장\t42\n", encoding="utf-8")
    (tmp_path / "kote" / "val.tsv").write_text("2\t훈련에 나오는 문장\t6\n", encoding="utf-8")
    return tmp_path


def learned(folder: Path) -> list[EmotionRow]:
    """What is trained on of the public corpora, without the texts written for the project."""
    tested, written = emotion_corpora.tested_texts(folder), {row.text for row in written_rows("body")}
    return [row for row in broad_rows(folder, reviews=10**6) if row.text not in tested and row.text not in written]


def test_what_measures_the_model_is_not_among_what_it_reads(folder: Path) -> None:
    """Neither the held-out author's review, nor a test row, nor a diary of a sample author."""
    assert {row.text for row in learned(folder)} == {
        f"{LONG}아주 좋은 영화였다",
        "기쁜 하루",
        "무서운 밤",
        "안녕히 가세요",
        "훈련에 나오는 문장",
    }


def test_ratings_and_labels_stay_with_their_sentences(folder: Path) -> None:
    found = {row.text: row for row in learned(folder)}
    review = found[f"{LONG}아주 좋은 영화였다"]
    assert (review.rating, review.goemotions, review.kote) == (9, None, None)
    assert (found["기쁜 하루"].rating, found["기쁜 하루"].goemotions) == (None, frozenset({1, 17}))
    assert (found["훈련에 나오는 문장"].kote, found["훈련에 나오는 문장"].emotion) == (frozenset({6}), 2)
    assert (found["안녕히 가세요"].emotion, found["안녕히 가세요"].kind) == (None, 1)


@pytest.mark.parametrize("name", ["nsmc", "goemotions_ko", "feelings", "kote"])
def test_a_missing_corpus_is_refused_by_name(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name)
    with pytest.raises(Refusal, match=name):
        learned(folder)


def test_about_a_tenth_of_the_authors_is_held_out() -> None:
    assert sum(is_held_out(f"author{number}") for number in range(20_000)) / 20_000 == pytest.approx(26 / 256, abs=0.01)


@pytest.mark.slow
def test_no_test_row_of_kote_is_among_the_real_corpora(shared_data: Path) -> None:
    if not (shared_data / "nsmc" / "reviews.parquet").is_file():
        pytest.skip(f"{shared_data} has no nsmc/")
    tested = emotion_corpora.tested_texts(shared_data)
    rows = [line.split("\t")[1].strip() for line in (shared_data / "kote" / "test.tsv").read_text(encoding="utf-8").splitlines()]
    kept = {row.text.strip() for row in comment_rows(shared_data) if row.text not in tested}
    assert not set(rows) & kept
    assert len(kept) > 11_000
    assert len(film_reviews(shared_data)) > 600_000
