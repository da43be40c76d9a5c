"""What the compact model reads: real corpora where they lie, without anything that it is measured on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from model.corpora import is_held_out, read_corpora
from model.examples import bundled_diaries
from model.refusal import Refusal

READ_AUTHOR = next(name for name in (f"a{number}" for number in range(100)) if not is_held_out(name))
HELD_AUTHOR = next(name for name in (f"a{number}" for number in range(100)) if is_held_out(name))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four tiny corpora of the shared data's layout, made up here."""
    for name in ("nsmc", "goemotions_ko", "chatbot", "kote"):
        (tmp_path / name).mkdir()
    diary = bundled_diaries()[1].examples[0].text
    rows = [
        (READ_AUTHOR, 9, "아주 좋았다"), (HELD_AUTHOR, 2, "남겨 둔 사람의 글"), (READ_AUTHOR, 1, "시험에 나오는 문장!!"),
        (READ_AUTHOR, 5, "  "),
        (READ_AUTHOR, 3, diary),
    ]  # fmt: skip
    table = pa.table({"author": [row[0] for row in rows], "rating": [row[1] for row in rows], "text": [row[2] for row in rows]})
    pyarrow.parquet.write_table(table, tmp_path / "nsmc" / "reviews.parquet")
    (tmp_path / "goemotions_ko" / "train.tsv").write_text("기쁜 하루\t17,1\n훈련에 나오는 문장\t2\n", encoding="utf-8")
    (tmp_path / "goemotions_ko" / "dev.tsv").write_text("무서운 밤\t14\n", encoding="utf-8")
    (tmp_path / "chatbot" / "ChatbotData.csv").write_text("Q,A,label\n안녕,반가워요,0\n", encoding="utf-8")
    (tmp_path / "kote" / "test.tsv").write_text("1\t시험에 나오는, 문장\t42\n", encoding="utf-8")
    (tmp_path / "kote" / "val.tsv").write_text("2\t훈련에 나오는 문장\t6\n", encoding="utf-8")
    return tmp_path


def test_what_measures_the_model_is_not_among_what_it_reads(folder: Path) -> None:
    found = read_corpora(folder)
    assert [sentence.text for sentence in found.sentences] == ["아주 좋았다", "기쁜 하루", "무서운 밤", "안녕", "반가워요"]
    assert found.counts == {"nsmc": 1, "goemotions_ko": 2, "chatbot": 2}
    assert found.left_out == 4  # the held-out author, a test row, a diary of a test author, a KOTE row in GoEmotions


def test_ratings_and_labels_stay_with_their_sentences(folder: Path) -> None:
    found = {sentence.text: sentence for sentence in read_corpora(folder).sentences}
    assert (found["아주 좋았다"].rating, found["아주 좋았다"].labels) == (9, None)
    assert (found["기쁜 하루"].rating, found["기쁜 하루"].labels) == (0, frozenset({1, 17}))
    assert found["안녕"].labels is None


def test_a_sentence_does_not_show_its_text(folder: Path) -> None:
    assert "좋았다" not in repr(read_corpora(folder).sentences[0])


@pytest.mark.parametrize("name", ["nsmc", "goemotions_ko", "chatbot", "kote"])
def test_a_missing_corpus_is_refused_by_name(folder: Path, name: str) -> None:
    shutil.rmtree(folder / name)
    with pytest.raises(Refusal, match=name):
        read_corpora(folder)


def test_about_a_tenth_of_the_authors_is_held_out() -> None:
    assert sum(is_held_out(f"author{number}") for number in range(20_000)) / 20_000 == pytest.approx(26 / 256, abs=0.01)


@pytest.mark.slow
def test_no_test_row_of_kote_is_among_the_real_corpora(shared_data: Path) -> None:
    if not (shared_data / "nsmc" / "reviews.parquet").is_file():
        pytest.skip(f"{shared_data} has no nsmc/")
    found = read_corpora(shared_data)
    rows = [line.split("\t")[1].strip() for line in (shared_data / "kote" / "test.tsv").read_text(encoding="utf-8").splitlines()]
    assert not set(rows) & {sentence.text.strip() for sentence in found.sentences}
    assert len(found.sentences) + found.left_out > 780_000
