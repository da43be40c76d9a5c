"""Data as people have it: what is recognised is said, what is ambiguous is refused with the way out, and no row is lost unsaid."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.columns import Columns
from model.corpus import Corpus, Example
from model.emotions import EMOTIONS, Emotion
from model.example_files import read_examples
from model.label_words import SYNONYMS, LabelWords, canonical, read_label_map
from model.names import cleaned, folded
from model.refusal import Refusal

KOREAN = ["기쁨", "슬픔", "분노", "불안"]
MARKER = "은하수비밀문장"
"""Stands in texts, and may stand in no message."""
NEWLINE = b"\n"


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, *, label_map: str = "", others: str = "refuse", data_format: str = "auto", columns: Columns | None = None) -> Corpus:
    labels = LabelWords(read_label_map(label_map), others)
    corpus = read_examples(str(path), data_format=data_format, columns=columns or Columns(), labels=labels)
    assert MARKER not in corpus.account() + repr(corpus)
    return corpus


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(Refusal) as refusal:
        read(path, **options)
    assert MARKER not in str(refusal.value)
    return str(refusal.value)


def table(labels: list[str], *, header: str = "text,label", between: str = ",", count: int = 40) -> str:
    rows = [f"{MARKER} {number}{between}{labels[number % len(labels)]}" for number in range(count)]
    return "\n".join([header, *rows]) + "\n"


def emotions_of(corpus: Corpus) -> list[str]:
    return [example.emotion.ko for example in corpus.examples]


# nothing is guessed from the first line


@pytest.mark.parametrize("labels", [["0", "1", "2", "3"], ["5", "3", "2", "0", "1", "6", "4"], ["0", "1"], [str(n) for n in range(28)]])
@pytest.mark.parametrize("suffix", ["tsv", "txt"])
def test_a_text_and_one_number_a_line_without_a_header_is_refused_with_the_way_out(tmp_path: Path, labels: list[str], suffix: str) -> None:
    content = table(labels, between="\t", count=120).split("\n", 1)[1]
    words = refused(write(tmp_path / f"mine.{suffix}", content))
    assert all(part in words for part in ("no header", "--label-map 0=", "--data-format goemotions"))
    with_header = read(write(tmp_path / f"headed.{suffix}", "text\tlabel\n" + content), label_map="0=기쁨,1=슬픔", others="leave-out")
    assert Counter(emotions_of(with_header)) == {name: content.count(f"\t{n}\n") for n, name in enumerate(["기쁨", "슬픔"])}


def test_ids_texts_and_one_small_number_are_not_taken_for_kote(tmp_path: Path) -> None:
    lines = [f"{number}\t{MARKER}\t{number % 7}" for number in range(100)]
    assert "--data-format kote" in refused(write(tmp_path / "mine.tsv", "\n".join(lines)))


def test_a_first_line_like_goemotions_does_not_make_the_file_goemotions(tmp_path: Path) -> None:
    content = "1\t2\n" + table(KOREAN, between="\t").split("\n", 1)[1]
    words = refused(write(tmp_path / "mine.tsv", content))
    assert "where names of columns should be" in words
    assert emotions_of(read(tmp_path / "mine.tsv", columns=Columns("1", "2"))) == KOREAN * 10


def test_numbered_corpora_are_recognised_by_the_whole_file_though_its_first_line_is_bad(tmp_path: Path) -> None:
    lines = ["머리말", "글 하나\t17,1", "글 둘\t25", "글 셋\t27", "글 넷\t14,27"]
    corpus = read(write(tmp_path / "go.tsv", "\n".join(lines)))
    assert emotions_of(corpus) == ["기쁨", "슬픔", "불안"]
    assert (corpus.outside_rule, corpus.bad_rows) == (1, ((1, "not a line of goemotions"),))
    assert "goemotions's label numbers" in corpus.account()


def test_a_file_without_a_header_is_refused_without_its_first_entry_however_short(tmp_path: Path) -> None:
    words = refused(write(tmp_path / "mine.csv", "울었다,슬픔\n웃었다,기쁨\n"))
    assert "no header" in words
    assert "울었다" not in words


# formats


ROWS = [(f"글 {number}, 쉼표", name, str(number % 3)) for number, name in enumerate(KOREAN * 3)]


@pytest.mark.parametrize(
    ("name", "delimiter", "form"),
    [("a.csv", ",", "CSV, UTF-8"), ("b.csv", ";", "CSV with semicolons, UTF-8"), ("c.csv", "\t", "TSV"), ("d.tsv", "\t", "TSV"),
     ("e.txt", "\t", "TSV"), ("f.txt", ",", "CSV, UTF-8"), ("g.txt", ";", "CSV with semicolons")],
)  # fmt: skip
def test_a_table_s_delimiter_is_the_one_under_which_its_columns_are_there(tmp_path: Path, name: str, delimiter: str, form: str) -> None:
    rows = [delimiter.join((f'"{text}"', label, author)) for text, label, author in ROWS]
    corpus = read(write(tmp_path / name, "\r\n".join([delimiter.join(('"text"', "emotion", "author")), *rows])))
    assert [(e.text, e.emotion.ko, e.author) for e in corpus.examples] == ROWS
    assert f"({form}" in corpus.account()
    assert "13 lines, 1 of header; text from 'text', label from 'emotion', author from 'author')" in corpus.account()


def objects() -> list[dict[str, Any]]:
    return [{"text": text, "emotion": label, "author": author} for text, label, author in ROWS]


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.json", json.dumps(objects()), "JSON array"),
        ("b.json", json.dumps(objects(), indent=2, ensure_ascii=False), "JSON array"),
        ("c.json", json.dumps({"version": "1", "data": objects()}), "the list in its only object"),
        ("d.jsonl", json.dumps(objects(), indent=1), "JSON array"),
        ("e.json", "\n".join(map(json.dumps, objects())), "JSON Lines"),
        ("f.ndjson", "\n\n".join(map(json.dumps, objects())) + "\n", "JSON Lines, UTF-8, 23 lines, 11 blank"),
    ],
)
def test_json_is_read_by_what_the_file_holds_and_not_by_its_name(tmp_path: Path, name: str, content: str, form: str) -> None:
    corpus = read(write(tmp_path / name, content))
    assert [(e.text, e.emotion.ko, e.author) for e in corpus.examples] == ROWS
    assert form in corpus.account()


def test_keys_that_the_first_object_lacks_are_columns_too(tmp_path: Path) -> None:
    lines = [{"id": 1}, {"Text": "하나", "감정": "기쁨"}, {"감정": "슬픔", "text": "둘", "author": "가온"}]
    corpus = read(write(tmp_path / "a.jsonl", "\n".join(json.dumps(line) for line in lines)))
    assert [(e.text, e.emotion.ko, e.author) for e in corpus.examples] == [("하나", "기쁨", ""), ("둘", "슬픔", "가온")]
    assert corpus.bad_rows == ((1, "no text"),)


def test_a_key_that_stands_twice_in_an_object_is_a_bad_row(tmp_path: Path) -> None:
    lines = ['{"text": "하나", "emotion": "기쁨", "emotion": "분노"}', '{"text": "둘", "emotion": "슬픔", "Emotion": "분노"}']
    corpus = read(write(tmp_path / "a.jsonl", "\n".join([*lines, '{"text": "셋", "emotion": "기쁨"}'])))
    assert [e.text for e in corpus.examples] == ["셋"]
    assert corpus.bad_rows == ((1, "a key stands twice"), (2, "a key stands twice"))


@pytest.mark.parametrize(
    ("content", "part"), [("[{", "JSON array and ends otherwise"), ('{\n "a": 1\n}', "one JSON object"), ("{\n", "no labelled")]
)
def test_json_that_is_no_table_is_refused(tmp_path: Path, content: str, part: str) -> None:
    assert part in refused(write(tmp_path / "a.json", content))


def test_a_list_of_one_label_is_that_label_and_a_list_of_several_is_outside_the_rule(tmp_path: Path) -> None:
    labels = [["기쁨"], ["기쁨", "슬픔"], [], "분노"]
    lines = [json.dumps({"text": f"글 {number}", "labels": label}) for number, label in enumerate(labels)]
    corpus = read(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert emotions_of(corpus) == ["기쁨", "분노"]
    assert (corpus.outside_rule, corpus.bad_rows) == (1, ((3, "no label"),))


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz", "a.jsonl.gz", "packed.csv"])
def test_a_packed_file_is_read_by_the_ending_under_gz_or_by_its_own_bytes(tmp_path: Path, name: str) -> None:
    content = {"tsv": "text\temotion\n글\t기쁨\n", "jsonl": '{"text": "글", "emotion": "기쁨"}'}.get(
        name.split(".")[1], "text,emotion\n글,기쁨\n"
    )
    corpus = read(write(tmp_path / name, gzip.compress(content.encode())))
    assert [e.text for e in corpus.examples] == ["글"]
    assert "gzip" in corpus.account()


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(table(KOREAN).encode() * 50)
    for damaged in (whole[:60], whole[:40] + b"\x00" * 30 + whole[70:]):
        assert "damaged gzip" in refused(write(tmp_path / "a.csv.gz", damaged))


def test_a_folder_s_files_are_read_together_and_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", "text,emotion,author\n하나,기쁨,가\n,기쁨,가\n")
    write(tmp_path / "in" / "deep" / "b.jsonl", '{"text": "둘", "label": "슬픔"}')
    write(tmp_path / "in" / "notes.md", MARKER)
    write(tmp_path / "in" / ".hidden" / "c.csv", "broken")
    corpus = read(tmp_path / "in")
    assert [(e.text, e.author) for e in corpus.examples] == [("하나", "가"), ("둘", "")]
    assert all(
        part in corpus.account()
        for part in ("the 2 files of", "1 of CSV", "1 of JSON Lines", "1 files of other endings passed over", "line 3: no text in a.csv")
    )
    write(tmp_path / "in" / "z.csv", f"memo\n{MARKER}\n")
    assert "z.csv" in refused(tmp_path / "in")


@pytest.mark.skipif(find_spec("openpyxl") is not None, reason="openpyxl is installed")
def test_a_workbook_is_refused_plainly_where_nothing_reads_it(tmp_path: Path) -> None:
    words = refused(write(tmp_path / "a.xlsx", b"PK\x03\x04"))
    assert "openpyxl" in words
    assert "CSV UTF-8" in words


def test_a_workbook_is_read_where_openpyxl_is(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [["text", "emotion", "author"], ["하나", "기쁨", 0], [None, None, None], ["둘", "슬픔", 1.0], ["셋", None, 1]]:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    corpus = read(tmp_path / "a.xlsx")
    assert [(e.text, e.emotion.ko, e.author) for e in corpus.examples] == [("하나", "기쁨", "0"), ("둘", "슬픔", "1")]
    assert corpus.bad_rows == ((5, "no label"),)
    book.create_sheet("more").append(["text", "emotion"])
    book.save(tmp_path / "b.xlsx")
    assert "2 sheets" in refused(tmp_path / "b.xlsx")


# encodings


TEXT = "text,emotion\n오늘은 맑음 ㅎㅎ,기쁨\n비가 온다,슬픔\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (TEXT.encode(), "UTF-8,"),
        (TEXT.encode("utf-8-sig"), "UTF-8 with a byte order mark"),
        (TEXT.encode("utf-16"), "UTF-16,"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16,"),
        (TEXT.encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (TEXT.encode("utf-16-be"), "UTF-16 without a byte order mark"),
        (TEXT.encode("utf-32"), "UTF-32"),
        (TEXT.encode("cp949"), "CP949"),
        (TEXT.replace("맑음", "뷁").encode("cp949"), "CP949"),
        (TEXT.replace("\n", "\r\n").encode("cp949"), "CP949"),
        (TEXT.replace("\n", "\r").encode(), "UTF-8,"),
    ],
)
def test_an_encoding_is_recognised_from_the_whole_file_and_said(tmp_path: Path, content: bytes, told: str) -> None:
    corpus = read(write(tmp_path / "a.csv", content))
    expected = ["오늘은 뷁 ㅎㅎ" if "뷁".encode("cp949") in content else "오늘은 맑음 ㅎㅎ", "비가 온다"]
    assert [(e.text, e.emotion.ko) for e in corpus.examples] == list(zip(expected, ["기쁨", "슬픔"], strict=True))
    assert told in corpus.account()


@pytest.mark.parametrize(
    "content",
    [
        "text,emotion\n今日はとても楽しかった。友達と話した,joy\n".encode("euc-jp"),
        "text,emotion\n今日はとても楽しかった。友達と話した,joy\n".encode("shift-jis"),
        "text,emotion\n今天很高兴朋友来了我们一起吃饭说话,joy\n".encode("gb2312"),
        "text,emotion\nvoilà un été,joy\n".encode("latin-1"),
        TEXT.encode() + "비가 온다,슬픔\n".encode("cp949"),
        TEXT.encode("cp949") + "비가 온다,슬픔\n".encode(),
        TEXT.encode()[:-10] + b"\n",
    ],
    ids=["EUC-JP", "Shift JIS", "GB 2312", "Latin-1", "CP949 after UTF-8", "UTF-8 after CP949", "a letter cut in two"],
)
def test_other_encodings_and_mixtures_are_refused_with_the_first_bad_byte_and_its_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnicodeDecodeError) as error:
        content.decode()
    words = refused(write(tmp_path / "a.csv", content))
    assert f"not UTF-8 (byte {error.value.start})" in words
    assert f"mend line {content[: error.value.start].count(NEWLINE) + 1}," in words


def test_utf16_that_is_cut_in_a_letter_is_refused(tmp_path: Path) -> None:
    assert "mark of UTF-16" in refused(write(tmp_path / "a.csv", TEXT.encode("utf-16")[:-1]))


# names


@pytest.mark.parametrize(
    "spelled",
    [lambda name: unicodedata.normalize("NFD", name), lambda name: f"\u200b{name}\ufeff ", lambda name: f"{name[0]}\u2060{name[1:]}"],
)
def test_columns_labels_and_authors_are_compared_in_nfc_without_format_characters(tmp_path: Path, spelled: Any) -> None:
    header = ",".join(map(spelled, ["문장", "감정", "작성자"]))
    rows = [
        f"글 {number},{spelled(name) if number % 2 else name},{spelled('가온') if number % 2 else '가온'}"
        for number, name in enumerate(KOREAN)
    ]
    corpus = read(write(tmp_path / "a.csv", "\n".join([header, *rows])))
    assert emotions_of(corpus) == KOREAN
    assert {e.author for e in corpus.examples} == {"가온"}
    named = read(tmp_path / "a.csv", columns=Columns(spelled("문장"), "감정"), label_map=f"{spelled('기쁨')}=슬픔")
    assert emotions_of(named)[0] == "슬픔"


@given(st.text(max_size=20))
def test_a_name_is_the_same_however_often_it_is_cleaned_and_in_either_form(name: str) -> None:
    assert cleaned(cleaned(name)) == cleaned(name)
    assert cleaned(unicodedata.normalize("NFD", name)) == cleaned(name)
    assert folded(name) == cleaned(name).casefold()


def test_invisible_text_is_no_text(tmp_path: Path) -> None:
    corpus = read(write(tmp_path / "a.csv", "text,emotion\n\u200b\ufeff,기쁨\n글,기쁨\n\x08,기쁨\n\u2800,기쁨\nㅠㅠ,슬픔\n😭,슬픔\n"))
    assert corpus.bad_rows == ((2, "no text"), (4, "no text"), (5, "no text"))


# authors and columns


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "floats with a gap"])
def test_author_0_is_an_author_in_every_format(tmp_path: Path, kind: str) -> None:
    authors: list[Any] = [0, 1, 2, 0]
    if kind == "jsonl":
        lines = [{"text": f"글 {number}", "emotion": "joy", "author": author} for number, author in enumerate(authors)]
        path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    else:
        column = pyarrow.array(authors) if kind == "parquet" else pyarrow.array([0.0, 1.0, 2.0, float("nan")])
        path = tmp_path / "a.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"text": list("가나다라"), "emotion": ["joy"] * 4, "user": column}), path)
    expected = ["0", "1", "2", "" if "gap" in kind else "0"]
    assert [e.author for e in read(path).examples] == expected


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("text,emotion,emotion", "2 columns named 'emotion'"),
        ("text,text,emotion", "2 columns named 'text'"),
        ("text,Emotion,emotion ", "2 columns named"),
        ("text,감정," + unicodedata.normalize("NFD", "감정"), "2 columns named '감정'"),
        ("text,emotion,label", "several columns that may hold the label: 'emotion', 'label'; name the one that does with label-column"),
        ("text,content,emotion", "several columns that may hold the text"),
        ("text,emotion,user,user", "2 columns named 'user'"),
    ],
)
def test_columns_of_which_two_may_be_meant_are_refused(tmp_path: Path, header: str, part: str) -> None:
    row = ",".join("기쁨" if folded(name) in ("emotion", "label", "감정") else MARKER for name in header.split(","))
    assert part in refused(write(tmp_path / "a.csv", f"{header}\n{row}\n"))


def test_two_columns_of_one_name_in_a_parquet_are_refused(tmp_path: Path) -> None:
    columns = [pyarrow.array(["글"]), pyarrow.array(["기쁨"]), pyarrow.array(["분노"])]
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, ["text", "emotion", "emotion"]), tmp_path / "a.parquet")
    assert "2 columns named 'emotion'" in refused(tmp_path / "a.parquet")


def test_doubled_columns_that_nobody_reads_do_no_harm_and_a_named_column_settles_which(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,emotion,memo,memo,label\n글,기쁨,가,나,분노\n")
    assert emotions_of(read(path, columns=Columns(label="label"))) == ["분노"]
    assert emotions_of(read(path, columns=Columns(label="emotion"))) == ["기쁨"]


# labels


def test_synonyms_are_proposed_ready_to_paste_and_never_applied(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table(["행복", "슬픔", "Angry", "공포"]))
    words = refused(path)
    proposed = re.search(r"--label-map (\S+)", words)
    assert proposed is not None
    assert emotions_of(read(path, label_map=proposed[1].rstrip(";"))) == KOREAN * 10


@pytest.mark.parametrize("labels", [["0", "1", "2", "3"], ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"], ["0.0", "1.0", "2.0", "3.0"]])
def test_numbers_are_never_given_a_meaning_and_the_map_to_fill_in_is_proposed(tmp_path: Path, labels: list[str]) -> None:
    path = write(tmp_path / "a.csv", table(labels))
    proposed = re.search(r"--label-map (\S+)", refused(path))
    assert proposed is not None
    blanks = proposed[1].split(",")
    assert all(blank.endswith("=...") for blank in blanks)
    with pytest.raises(Refusal, match="label-map"):
        read_label_map(proposed[1])
    filled = ",".join(blank.replace("...", name) for blank, name in zip(blanks, ["불안", "분노", "슬픔", "기쁨"], strict=True))
    assert emotions_of(read(path, label_map=filled)) == KOREAN[::-1] * 10


def test_rows_of_other_labels_are_left_out_as_asked_and_counted_by_label(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table([*KOREAN, "중립", "놀람"], count=60))
    assert re.search(r"\(중립 10, 놀람 10\) .*--label-map LABEL=EMOTION, .*--other-labels leave-out", refused(path))
    corpus = read(path, others="leave-out")
    assert len(corpus.examples) == 40
    assert "20 rows left out with other labels (놀람 10, 중립 10)" in corpus.account()


def test_leaving_out_shows_no_label_that_may_be_a_person_s_text(tmp_path: Path) -> None:
    rows = [f"기쁨,{MARKER[:4]}{number}" for number in range(5)] + ["기쁨,슬픔"]
    path = write(tmp_path / "a.csv", "\n".join(["text,label", *rows]))
    account = read(path, others="leave-out").account()
    assert "5 rows left out with other labels (rarer or long ones 5)" in account
    assert MARKER[:4] not in account


def test_the_map_that_was_used_is_said_and_so_is_what_it_names_in_vain(tmp_path: Path) -> None:
    account = read(write(tmp_path / "a.csv", table(["행복", "슬픔"])), label_map="행복=joy, 공퍼=불안").account()
    assert "label-map 행복=기쁨; in no row: 공퍼 of label-map" in account


@pytest.mark.parametrize("bad", ["행복", "행복=", "=기쁨", "행복=환희", "행복=기쁨,행복=분노", "happy=기쁨,HAPPY=분노", "0=기쁨,0.0=분노"])
def test_a_label_map_that_says_nothing_certain_is_refused_by_its_key(bad: str) -> None:
    with pytest.raises(Refusal, match="label-map"):
        read_label_map(bad)


def test_a_label_map_takes_any_spelling_and_a_label_with_a_sign_of_equality() -> None:
    assert read_label_map(" Happy = JOY ,a=b=슬픔,,") == {"happy": Emotion.JOY, "a=b": Emotion.SADNESS}


def test_every_synonym_is_found_however_it_is_written_and_no_emotion_is_its_own_synonym() -> None:
    assert all(canonical(word.upper()) == word for word in SYNONYMS)
    assert not set(SYNONYMS) & {name for emotion in EMOTIONS for name in (emotion.en, emotion.ko)}


@pytest.mark.parametrize(
    "feature",
    [
        {"names": ["슬픔", "기쁨", "분노", "불안"], "_type": "ClassLabel"},
        {"feature": {"names": ["슬픔", "기쁨", "분노", "불안"], "_type": "ClassLabel"}, "_type": "Sequence"},
        [{"names": ["슬픔", "기쁨", "분노", "불안"], "_type": "ClassLabel"}],
    ],
)
def test_label_numbers_of_a_parquet_take_the_names_of_its_metadata(tmp_path: Path, feature: Any) -> None:
    numbers: list[Any] = [0, 1, 2, 3, -1, 9]
    labels = numbers if isinstance(feature, dict) and "names" in feature else [[number] for number in numbers]
    metadata = {"huggingface": json.dumps({"info": {"features": {"text": {"_type": "Value"}, "label": feature}}})}
    columns = pyarrow.table({"text": list("가나다라마바"), "label": labels}).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(columns, tmp_path / "a.parquet")
    assert "'9' is none of the four emotions" in refused(tmp_path / "a.parquet")
    corpus = read(tmp_path / "a.parquet", others="leave-out")
    assert emotions_of(corpus) == ["슬픔", "기쁨", "분노", "불안"]
    assert corpus.bad_rows == ((5, "no label"),)
    assert "label names of label from its metadata" in corpus.account()


def test_label_numbers_of_a_parquet_without_names_are_refused_like_any_others(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["가", "나"], "label": [0, 1]}), tmp_path / "a.parquet")
    assert "--label-map 0=...,1=..." in refused(tmp_path / "a.parquet")


# NSMC's own layout


def test_nsmc_s_own_files_are_named_in_the_refusal_and_read_when_asked(tmp_path: Path) -> None:
    rows = [f"{number}\t영화 {number}\t{number % 2}" for number in range(10)]
    path = write(tmp_path / "ratings.txt", "\n".join(["id\tdocument\tlabel", *rows, "11\t\t1"]))
    assert "--data-format nsmc" in refused(path)
    corpus = read(path, data_format="nsmc")
    assert emotions_of(corpus) == ["분노", "기쁨"] * 5
    assert corpus.bad_rows == ((12, "no text"),)
    assert "label 1 as joy, 0 as anger" in corpus.account()


def test_another_number_in_nsmc_s_layout_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "ratings.txt", "id\tdocument\tlabel\n1\t영화\t1\n2\t영화\t7\n")
    assert "line 3: the label is not 0 or 1" in refused(path, data_format="nsmc")


def test_ratings_are_not_read_unasked_and_the_refusal_says_how(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,rating\n좋다,9\n")
    assert "data-format nsmc" in refused(path)
    assert emotions_of(read(path, data_format="nsmc")) == ["기쁨"]


# the account


def test_an_account_adds_up_to_every_line_of_the_file(tmp_path: Path) -> None:
    lines = ["", "text,label", "하나,기쁨", '"둘\n둘째 줄",슬픔', "", ",기쁨", '"열린,분노', "셋,중립", "넷,불안,남는 칸", "다섯,분노", ""]
    path = write(tmp_path / "a.csv", "\n".join(lines))
    corpus = read(path, others="leave-out")
    found = re.search(r"(\d+) lines, (\d+) of header, (\d+) blank", corpus.account())
    assert found is not None
    total, header, blank = map(int, found.groups())
    assert total == path.read_text().count("\n")
    read_lines = sum(example.text.count("\n") + 1 for example in corpus.examples)
    assert total == header + blank + read_lines + len(corpus.bad_rows) + sum(count for _, count in corpus.other_labels)
    assert "1 entries run over several lines" in corpus.account()


def test_a_digest_changes_with_text_label_author_and_order_and_with_nothing_else() -> None:
    rows = (Example("하나", Emotion.JOY, "가"), Example("둘", Emotion.ANGER, "나"))
    changed = [
        rows[::-1],
        rows[:1],
        (rows[0], Example("둘", Emotion.JOY, "나")),
        (rows[0], Example("둘", Emotion.ANGER, "가")),
        (rows[0], Example("두", Emotion.ANGER, "나")),
    ]
    digests = {Corpus(examples, "a.csv").digest for examples in [rows, *changed]}
    assert len(digests) == 1 + len(changed)
    assert Corpus(rows, "b.csv", bad_rows=((1, "no text"),)).digest in digests
