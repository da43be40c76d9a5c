"""Reading labelled sentences: every format, every refusal, and no text in anything a person or a log may see."""

from __future__ import annotations

import csv
import json
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from model import examples
from model.emotions import Emotion
from model.examples import Columns, Corpus, Example, bundled_diaries, read_examples, training_examples
from model.refusal import Refusal
from model.settings import RunSettings

ROWS = [
    {"text": "버스를 놓쳤지만 바람이 좋았다", "emotion": "joy", "author": "가온"},
    {"text": '그가 말했다, "이제 그만하자"', "emotion": "슬픔", "author": "나래"},
    {"text": "또 내 탓이라고 했다", "emotion": "ANGER", "author": "가온"},
    {"text": "내일 발표가 무섭다", "emotion": " 불안 ", "author": "다솜"},
]
EMOTIONS_OF_ROWS = [Emotion.JOY, Emotion.SADNESS, Emotion.ANGER, Emotion.ANXIETY]
MARKER = "은하수비밀문장"
"""A word that no message may hold: it stands in the text of the files below."""

NO_ENCODING = b"\xff\n"
"""A byte that is neither UTF-8 nor CP949."""

Write = Callable[[Path, list[dict[str, Any]]], None]


def write_tsv(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    path.write_text("\n".join("\t".join(map(str, cells)) for cells in lines), encoding="utf-8")


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([rows[0].keys(), *(row.values() for row in rows)])


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


FORMATS: list[tuple[str, Write]] = [("tsv", write_tsv), ("csv", write_csv), ("jsonl", write_jsonl), ("parquet", write_parquet)]


def refusal_of(source: Path | str, **options: Any) -> str:
    """The words of the refusal, and the whole traceback as a log would hold it."""
    with pytest.raises(Refusal) as refusal:
        read_examples(str(source), **options)
    logged = "".join(traceback.format_exception(refusal.value))
    assert MARKER not in logged
    return str(refusal.value)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# every format


@pytest.mark.parametrize(("suffix", "save"), FORMATS)
def test_every_format_gives_the_same_examples_with_guessed_columns(tmp_path: Path, suffix: str, save: Write) -> None:
    save(tmp_path / f"diary.{suffix}", ROWS)
    read = read_examples(str(tmp_path / f"diary.{suffix}")).examples
    assert [(e.text, e.emotion, e.author) for e in read] == [
        (str(row["text"]), emotion, row["author"]) for row, emotion in zip(ROWS, EMOTIONS_OF_ROWS, strict=True)
    ]


@pytest.mark.parametrize(("suffix", "save"), FORMATS)
def test_every_format_reads_the_columns_that_are_named(tmp_path: Path, suffix: str, save: Write) -> None:
    rows = [{"text": "겉말", "속말": row["text"], "느낌": row["emotion"], "누구": row["author"]} for row in ROWS]
    save(tmp_path / f"diary.{suffix}", rows)
    read = read_examples(str(tmp_path / f"diary.{suffix}"), columns=Columns("속말", "느낌", "누구")).examples
    assert [(e.text, e.emotion, e.author) for e in read] == [
        (str(row["text"]), emotion, row["author"]) for row, emotion in zip(ROWS, EMOTIONS_OF_ROWS, strict=True)
    ]


@pytest.mark.parametrize(("suffix", "save"), FORMATS)
def test_a_format_that_is_named_is_read_whatever_the_file_is_called(tmp_path: Path, suffix: str, save: Write) -> None:
    save(tmp_path / "diary.backup", ROWS)
    assert len(read_examples(str(tmp_path / "diary.backup"), data_format=suffix).examples) == 4


@pytest.mark.parametrize("header", ["문장\t감정", "Text\tLabel", " sentence \tSENTIMENT", "일기\t라벨", "content\tlabels", "본문\t감정"])
def test_usual_korean_and_english_column_names_are_guessed(tmp_path: Path, header: str) -> None:
    assert len(read_examples(str(write(tmp_path / "diary.tsv", f"{header}\n오늘은 맑음\t기쁨\n"))).examples) == 1


def test_korean_and_english_labels_mean_the_same(tmp_path: Path) -> None:
    words = ["기쁨", "joy", "Joy", "슬픔", "SADNESS", "분노", "anger", "불안", "anxiety"]
    source = write(tmp_path / "diary.tsv", "text\tlabel\n" + "".join(f"글 {number}\t{word}\n" for number, word in enumerate(words)))
    assert [e.emotion.id for e in read_examples(str(source)).examples] == [0, 0, 0, 1, 1, 2, 2, 3, 3]


def test_a_byte_order_mark_and_windows_line_ends_are_read_past(tmp_path: Path) -> None:
    for name, content in (("a.tsv", "text\tlabel\r\n눈이 온다\tjoy\r\n"), ("a.csv", "text,label\r\n눈이 온다,joy\r\n")):
        assert [e.text for e in read_examples(str(write(tmp_path / name, b"\xef\xbb\xbf" + content.encode()))).examples] == ["눈이 온다"]


def test_a_lone_quotation_mark_in_a_tsv_is_a_letter_like_any_other(tmp_path: Path) -> None:
    source = write(tmp_path / "diary.tsv", 'text\tlabel\n"뭐라고\tanger\n괜찮"다\tjoy\n')
    assert [e.text for e in read_examples(str(source)).examples] == ['"뭐라고', '괜찮"다']


def test_a_csv_entry_may_run_over_several_lines(tmp_path: Path) -> None:
    source = write(tmp_path / "diary.csv", 'text,label\n"첫 줄\n둘째 줄",joy\n셋째,anger\n')
    assert [e.text for e in read_examples(str(source)).examples] == ["첫 줄\n둘째 줄", "셋째"]


def test_an_author_column_is_found_even_if_the_first_row_names_none(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "diary.jsonl", [{"text": "아침", "emotion": "joy"}, {"text": "저녁", "emotion": "joy", "author": "가온"}])
    assert [e.author for e in read_examples(str(tmp_path / "diary.jsonl")).examples] == ["", "가온"]


# bad rows


def test_bad_rows_are_counted_and_the_first_three_named_by_line_without_their_text(tmp_path: Path) -> None:
    bad = [f"{MARKER} 하나\tjoy\t남는 칸", f"{MARKER} 둘", "\tjoy", f"{MARKER} 셋\t", f"{MARKER} 넷\t \t", "   \tanger"]
    source = write(tmp_path / "diary.tsv", "\n".join(["text\tlabel", "좋은 하루\tjoy", *bad, "나쁜 하루\tanger"]))
    corpus = read_examples(str(source))
    assert [e.emotion.en for e in corpus.examples] == ["joy", "anger"]
    assert [number for number, _ in corpus.bad_rows] == [3, 4, 5, 6, 7, 8]
    account = corpus.account()
    assert "2 entries" in account
    assert "6 bad rows" in account
    assert [number for number in range(1, 12) if f"line {number}:" in account] == [3, 4, 5]
    assert MARKER not in account + repr(corpus)


def test_lines_of_a_jsonl_that_are_no_object_are_bad_rows(tmp_path: Path) -> None:
    good = json.dumps({"text": "해가 떴다", "label": "joy"})
    bad = ["{", "[1, 2]", '"줄"', "null", '{"text": 7, "label": "joy"}', '{"text": "칸이 없다"}', '{"label": "joy"}']
    corpus = read_examples(str(write(tmp_path / "diary.jsonl", "\n".join([good, "", *bad, good]))))
    assert len(corpus.examples) == 2
    assert [number for number, _ in corpus.bad_rows] == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    "bad",
    ["[" * 100_000, r'{"text": "반쪽 \ud83d", "label": "joy"}'],
    ids=["nested too deeply", "half of a surrogate pair, which no tokenizer takes"],
)
def test_a_line_that_no_program_can_use_is_a_bad_row_and_not_a_crash(tmp_path: Path, bad: str) -> None:
    good = json.dumps({"text": "해가 떴다", "label": "joy"})
    corpus = read_examples(str(write(tmp_path / "diary.jsonl", "\n".join([good, bad]))))
    assert (len(corpus.examples), [number for number, _ in corpus.bad_rows]) == (1, [2])


def test_a_field_larger_than_any_diary_entry_is_a_bad_row_or_refused_but_no_crash(tmp_path: Path) -> None:
    source = write(tmp_path / "diary.csv", "text,label\n" + "하" * 11_000_000 + ",joy\n좋다,joy\n")
    with suppress(Refusal):
        assert len(read_examples(str(source)).bad_rows) == 1


def test_empty_cells_of_a_parquet_are_bad_rows(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d.parquet", [{"text": "비", "label": "joy"}, {"text": None, "label": "joy"}, {"text": "눈", "label": None}])
    corpus = read_examples(str(tmp_path / "d.parquet"))
    assert (len(corpus.examples), [number for number, _ in corpus.bad_rows]) == (1, [2, 3])


# KOTE


def test_a_kote_file_is_recognised_by_itself_and_read_by_the_rule(tmp_path: Path) -> None:
    lines = [
        "1\t좋아라\t42,0",
        "2\t울적\t5",
        "3\t화남\t6,7",
        "4\t걱정\t41,18",
        "5\t둘 다\t42,5",
        "6\t없음\t24",
        "칸이 없다",
        "8\t너무 큼\t44",
    ]
    corpus = read_examples(str(write(tmp_path / "rows.tsv", "\n".join(lines))))
    assert [e.emotion.en for e in corpus.examples] == ["joy", "sadness", "anger", "anxiety"]
    assert corpus.outside_rule == 2
    assert [number for number, _ in corpus.bad_rows] == [7, 8]
    assert "2 rows left out that do not name exactly one emotion" in corpus.account()


def test_data_format_kote_reads_a_file_of_any_name_and_a_bad_first_line(tmp_path: Path) -> None:
    corpus = read_examples(str(write(tmp_path / "rows.data", "머리말\n1\t좋아라\t42\n")), data_format="kote")
    assert (len(corpus.examples), corpus.bad_rows[0][0]) == (1, 1)


def test_a_table_with_a_header_is_not_taken_for_kote(tmp_path: Path) -> None:
    assert len(read_examples(str(write(tmp_path / "rows.tsv", "id\ttext\tlabel\n1\t좋아라\tjoy\n"))).examples) == 1


def test_kote_validation_rows_are_as_many_as_the_benchmark_says(shared_data: Path) -> None:
    source = shared_data / "kote/val.tsv"
    if not source.is_file():
        pytest.skip(f"{source} is missing (KOTE's validation rows, github.com/searle-j/KOTE)")
    for data_format in ("auto", "kote"):
        corpus = read_examples(str(source), data_format=data_format)
        assert Counter(e.emotion.en for e in corpus.examples) == {"joy": 1382, "sadness": 169, "anger": 1068, "anxiety": 350}
        assert len(corpus.examples) + corpus.outside_rule + len(corpus.bad_rows) == 5000


# refusals


@pytest.mark.parametrize(
    ("header", "missing", "option"),
    [("메모\t감정", "text", "text-column"), ("문장\t기분", "label", "label-column")],
)
def test_columns_that_cannot_be_guessed_are_refused_with_the_columns_found(tmp_path: Path, header: str, missing: str, option: str) -> None:
    words = refusal_of(write(tmp_path / "diary.tsv", f"{header}\n{MARKER}\tjoy\n"))
    assert all(f"'{name}'" in words for name in header.split("\t"))
    assert missing in words
    assert option in words


@pytest.mark.parametrize("columns", [Columns(text="몸"), Columns(label="몸"), Columns(author="몸")])
def test_a_named_column_that_is_not_there_is_refused_with_the_columns_found(tmp_path: Path, columns: Columns) -> None:
    words = refusal_of(write(tmp_path / "diary.csv", f"text,label\n{MARKER},joy\n"), columns=columns)
    assert all(name in words for name in ("'몸'", "'text'", "'label'"))


def test_an_unknown_label_is_refused_with_its_line_and_the_four_names(tmp_path: Path) -> None:
    words = refusal_of(write(tmp_path / "diary.tsv", f"text\tlabel\n{MARKER}\tjoy\n{MARKER}\t행복\n"))
    assert all(part in words for part in ("line 3", "행복", "joy", "슬픔", "분노", "불안", "label-column"))


def test_a_file_without_a_header_is_refused_without_quoting_its_first_entry(tmp_path: Path) -> None:
    words = refusal_of(write(tmp_path / "diary.tsv", f"{MARKER} 오늘 울었다\tsadness\n잘 잤다\tjoy\n"))
    assert "울었다" not in words


def test_a_label_column_that_holds_the_text_is_refused_without_quoting_it(tmp_path: Path) -> None:
    source = write(tmp_path / "diary.tsv", "text\tlabel\n난 너무 외로워\tsadness\n")
    assert "외로워" not in refusal_of(source, columns=Columns(text="label", label="text"))


@pytest.mark.parametrize("name", ["diary.tsv", "diary.csv", "diary.jsonl", "diary.parquet"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    assert "is empty" in refusal_of(write(tmp_path / name, ""))


@pytest.mark.parametrize(("name", "content"), [("d.tsv", "text\tlabel\n"), ("d.csv", "text,label"), ("d.jsonl", "\n\n"), ("d.tsv", "\n")])
def test_a_file_without_a_single_entry_is_refused(tmp_path: Path, name: str, content: str) -> None:
    assert "no labelled entry could be read" in refusal_of(write(tmp_path / name, content))


def test_a_table_of_which_no_row_can_be_used_is_refused_with_its_bad_lines(tmp_path: Path) -> None:
    words = refusal_of(write(tmp_path / "d.tsv", f"text\tlabel\n{MARKER}\t\n\tjoy\n"))
    assert all(part in words for part in ("2 bad rows", "line 2: no label", "line 3: no text"))


def test_a_wrong_path_is_refused_by_name(tmp_path: Path) -> None:
    assert str(tmp_path / "no.tsv") in refusal_of(tmp_path / "no.tsv")


def test_a_folder_is_refused_with_what_to_name_instead(tmp_path: Path) -> None:
    words = refusal_of(tmp_path)
    assert "is a folder" in words
    assert ".jsonl" in words


# NSMC


def test_a_rating_is_read_as_joy_or_anger_and_what_lies_between_is_counted(tmp_path: Path) -> None:
    source = write(tmp_path / "reviews.tsv", "document\tauthor\trating\n" + "".join(f"평 {n}\ta{n % 2}\t{n}\n" for n in range(1, 11)))
    corpus = read_examples(str(source), data_format="nsmc")
    assert [(int(example.text.split()[1]), example.emotion.en, example.author) for example in corpus.examples] == [
        (1, "anger", "a1"), (2, "anger", "a0"), (3, "anger", "a1"), (4, "anger", "a0"), (9, "joy", "a1"), (10, "joy", "a0"),
    ]  # fmt: skip
    assert corpus.outside_rule == 4
    assert "4 rows left out" in corpus.account()


def test_ratings_are_read_from_parquet_as_whole_numbers_or_floats_and_a_row_without_text_is_bad(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    for kind in (pyarrow.int8(), pyarrow.float64()):
        columns = {"author": ["가", "나", "다"], "rating": pyarrow.array([10, 1, 7], kind), "text": ["좋다", None, "그저"]}
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "reviews.parquet")
        corpus = read_examples(str(tmp_path / "reviews.parquet"), data_format="nsmc")
        assert [(example.text, example.emotion.en, example.author) for example in corpus.examples] == [("좋다", "joy", "가")]
        assert (corpus.outside_rule, corpus.bad_rows) == (1, ((2, "no text"),))


@pytest.mark.parametrize("rating", ["0", "11", "4.5", "-1", "joy", MARKER, "1e1"])
def test_what_is_no_rating_is_refused_with_its_line_and_without_its_words(tmp_path: Path, rating: str) -> None:
    words = refusal_of(write(tmp_path / "reviews.tsv", f"text\trating\n좋다\t9\n나쁘다\t{rating}\n"), data_format="nsmc")
    assert "line 3: the rating is not a whole number from 1 to 10" in words


def test_without_a_rating_column_nothing_is_read_as_nsmc(tmp_path: Path) -> None:
    assert "no column for the label" in refusal_of(write(tmp_path / "d.tsv", "text\tlabel\n좋다\t1\n"), data_format="nsmc")
    source = write(tmp_path / "d.tsv", "text\tlabel\n좋다\t1\n")
    assert read_examples(str(source), data_format="nsmc", columns=Columns(label="label")).examples[0].emotion.en == "anger"


def test_an_unknown_ending_is_refused_with_the_formats(tmp_path: Path) -> None:
    words = refusal_of(write(tmp_path / "diary.xlsx", f"{MARKER}\n"))
    assert all(part in words for part in (".xlsx", "tsv, csv, jsonl, parquet, kote or goemotions"))


@pytest.mark.parametrize("name", ["diary.tsv", "diary.csv", "diary.jsonl"])
def test_a_file_of_damaged_cp949_is_refused_with_the_command_that_converts_it(tmp_path: Path, name: str) -> None:
    content = {"tsv": f"text\tlabel\n{MARKER}\tjoy\n", "csv": f"text,label\n{MARKER},joy\n", "jsonl": f'{{"text": "{MARKER}"}}\n'}
    words = refusal_of(write(tmp_path / name, content[name.split(".")[1]].encode("cp949") + NO_ENCODING))
    assert "not UTF-8" in words
    assert f"iconv -f cp949 -t utf-8 '{name}'" in words


def test_the_byte_named_is_the_first_that_is_not_utf8_however_far_into_the_file(tmp_path: Path) -> None:
    content = b"text,label\n" + b"a quiet day,joy\n" * 5000 + f"{MARKER},joy\n".encode("cp949") + NO_ENCODING
    with pytest.raises(UnicodeDecodeError) as error:
        content.decode()
    assert f"byte {error.value.start})" in refusal_of(write(tmp_path / "diary.csv", content))


def test_a_kote_file_of_damaged_cp949_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    assert "iconv -f cp949" in refusal_of(write(tmp_path / "kote.tsv", f"1\t{MARKER}\t42\n".encode("cp949") + NO_ENCODING))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    assert "not a Parquet file" in refusal_of(write(tmp_path / "diary.parquet", f"text,label\n{MARKER},joy\n"))


@pytest.mark.parametrize("damage", ["half of it", "its middle overwritten"])
def test_a_damaged_parquet_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "diary.parquet"
    write_parquet(path, [{"text": f"{MARKER} {number}", "label": "joy"} for number in range(500)])
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] if damage == "half of it" else b"PAR1" + b"\xff" * (middle - 4) + whole[middle:])
    assert "diary.parquet" in refusal_of(path)


def test_data_format_kote_for_another_file_is_refused(tmp_path: Path) -> None:
    assert "no labelled entry" in refusal_of(write(tmp_path / "d.tsv", f"text\tlabel\n{MARKER}\tjoy\n"), data_format="kote")


# the text shows nowhere


def test_an_example_and_a_corpus_do_not_show_their_text() -> None:
    corpus = Corpus((Example(MARKER, Emotion.JOY),), "diary.tsv")
    assert not any(
        MARKER in shown for shown in (repr(corpus), str(corpus), corpus.account(), repr(corpus.examples), f"{corpus.examples[0]}")
    )


# training and test parts


def settings_for(path: Path, **options: Any) -> RunSettings:
    return RunSettings(data=str(path), **options)


@pytest.fixture
def forty(tmp_path: Path) -> Path:
    labels = ["joy"] * 20 + ["sadness"] * 10 + ["anger"] * 8 + ["anxiety"] * 2
    write_jsonl(tmp_path / "forty.jsonl", [{"text": f"하루 {number}", "label": label} for number, label in enumerate(labels)])
    return tmp_path / "forty.jsonl"


def test_a_fifth_of_each_emotion_is_held_out_and_nothing_is_lost(forty: Path) -> None:
    train, test = examples.training_examples(settings_for(forty)), examples.test_examples(settings_for(forty))
    assert Counter(e.emotion.en for e in test.examples) == {"joy": 4, "sadness": 2, "anger": 1, "anxiety": 1}
    assert sorted(examples.texts(train.examples) + examples.texts(test.examples)) == sorted(f"하루 {number}" for number in range(40))


def test_the_seed_chooses_what_is_held_out(forty: Path) -> None:
    held = [set(examples.texts(examples.test_examples(settings_for(forty, seed=seed)).examples)) for seed in (1, 1, 2)]
    assert held[0] == held[1]
    assert held[0] != held[2]


def test_a_single_entry_is_too_few_to_hold_a_test_part_out(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one.jsonl", [{"text": MARKER, "label": "joy"}])
    with pytest.raises(Refusal, match="test-data"):
        examples.training_examples(settings_for(tmp_path / "one.jsonl"))


def test_the_same_file_named_twice_does_not_test_on_what_it_trained(forty: Path) -> None:
    twice = settings_for(forty, test_data=str(forty))
    with suppress(Refusal):
        train, test = examples.training_examples(twice), examples.test_examples(twice)
        assert not set(examples.texts(train.examples)) & set(examples.texts(test.examples))


def test_a_test_file_of_its_own_leaves_the_training_file_whole(forty: Path, tmp_path: Path) -> None:
    write_tsv(tmp_path / "test.tsv", ROWS)
    apart = settings_for(forty, test_data=str(tmp_path / "test.tsv"))
    assert len(examples.training_examples(apart).examples) == 40
    assert len(examples.test_examples(apart).examples) == 4


def test_the_bundled_diaries_are_the_default_and_may_test_another_file(forty: Path) -> None:
    train, test = bundled_diaries()
    assert examples.training_examples(RunSettings()).examples == train.examples
    assert examples.test_examples(RunSettings()).examples == test.examples
    assert examples.test_examples(settings_for(forty, test_data="samples")).examples == test.examples


# several sources


def test_several_sources_are_read_one_after_the_other(forty: Path, tmp_path: Path) -> None:
    goemotions = write(tmp_path / "go.tsv", "문장 하나\t17,1\n문장 둘\t25\n둘 다\t17,25\n문장 셋\t2,27\n문장 넷\t14\n아무것도\t27\n")
    settings = RunSettings(data=f"{forty}, {goemotions},samples", test_data="samples")
    found = training_examples(settings)
    assert len(found.examples) == len(read_examples(str(forty)).examples) + 4 + len(bundled_diaries()[0].examples)
    assert [example.emotion.en for example in found.examples if example.text.startswith("문장 ")] == ["joy", "sadness", "anger", "anxiety"]
    assert "2 rows left out" in found.account()


def test_a_sentence_of_the_test_data_is_never_trained_on(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", "text,emotion\n정말 좋아ㅠㅠㅠ!!!,기쁨\n다른 문장,슬픔\n")
    test = write(tmp_path / "test.csv", "text,emotion\n정말 좋아ㅜ!!!!!,기쁨\n")
    found = training_examples(RunSettings(data=str(train), test_data=str(test)))
    assert [example.text for example in found.examples] == ["다른 문장"]
    assert "1 left out because they also stand in the test data" in found.account()
    with pytest.raises(Refusal, match="stands in the test data too"):
        training_examples(RunSettings(data=str(test), test_data=f"{test},{train}"))


def test_goemotions_rows_are_as_many_as_counted_by_hand(shared_data: Path) -> None:
    source = shared_data / "goemotions_ko/train.tsv"
    if not source.is_file():
        pytest.skip(f"{source} is missing (github.com/monologg/GoEmotions-Korean)")
    groups = [{17, 1, 13, 15, 18, 21, 23}, {25, 16, 9, 24}, {2, 3, 11}, {14, 19}]
    counts = [0, 0, 0, 0]
    for line in source.read_text(encoding="utf-8").split("\n"):
        labels = {int(number) for number in line.partition("\t")[2].split(",") if number}
        named = [number for number, group in enumerate(groups) if labels & group]
        if len(named) == 1:
            counts[named[0]] += 1
    assert Counter(example.emotion.id for example in read_examples(str(source)).examples) == dict(enumerate(counts))
