"""CSV and TSV by lines: equal to Python's csv where a file is well-formed, and no row lost to another's damage where it is not."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.delimited import OPEN_QUOTE, delimited_table, header_of
from model.tables import Table

LABELS = ("기쁨", "슬픔", "분노", "불안")
# letters that make a parser stumble, and no label among what they spell
TEXTS = st.text(alphabet='가나 ,;\t"\n.', min_size=1, max_size=12).filter(lambda text: text.strip(' "\n\t,;') != "")
ROWS = st.lists(st.tuples(TEXTS, st.sampled_from(LABELS)), min_size=1, max_size=12)
DELIMITERS = [",", ";", "\t"]


def read(text: str, delimiter: str) -> Table:
    return delimited_table(text, delimiter, header_of(text, delimiter), 1)


def cells(table: Table) -> list[list[str]]:
    return [list(row.cells) for row in table.rows if not row.fault]


def written(rows: Sequence[Sequence[str]], delimiter: str, quoting: int = csv.QUOTE_MINIMAL) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows([["text", "emotion"], *rows])  # type: ignore[arg-type]
    return file.getvalue()


def lines_of(text: str) -> int:
    return text.count("\n") + (not text.endswith("\n"))


@pytest.mark.parametrize("delimiter", DELIMITERS)
@settings(deadline=None)
@given(rows=ROWS)
def test_a_well_formed_file_is_read_as_python_s_csv_reads_it(delimiter: str, rows: list[tuple[str, str]]) -> None:
    text = written(rows, delimiter, csv.QUOTE_ALL)
    assert cells(read(text, delimiter)) == list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))[1:]


@pytest.mark.parametrize("delimiter", [",", ";"])
@settings(deadline=None)
@given(rows=ROWS)
def test_fields_that_are_quoted_only_where_they_must_be_are_read_so_too(delimiter: str, rows: list[tuple[str, str]]) -> None:
    text = written(rows, delimiter)
    assert cells(read(text, delimiter)) == list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))[1:]


@pytest.mark.parametrize("delimiter", DELIMITERS)
@settings(deadline=None)
@given(text=st.text(alphabet='가 ,;\t"\n기쁨', max_size=60))
def test_every_line_of_any_text_is_accounted_for_once(delimiter: str, text: str) -> None:
    whole = f"text{delimiter}emotion\n{text}"
    table = read(whole, delimiter)
    assert table.lines == lines_of(whole)
    begins = [row.line for row in table.rows]
    assert begins == sorted(begins)
    assert all(row.line + row.lines <= after for row, after in zip(table.rows, begins[1:], strict=False))


@settings(deadline=None, max_examples=200)
@given(
    rows=ROWS, at=st.integers(0, 12), plain=st.text(alphabet="가나 .", min_size=1, max_size=8), mark=st.sampled_from(['"{},{}', '{},"{}'])
)
def test_one_open_mark_costs_its_own_line_and_no_other(rows: list[tuple[str, str]], at: int, plain: str, mark: str) -> None:
    before, after = rows[:at], rows[at:]
    damaged = mark.format(plain, "분노")
    whole = written(before, ",") + damaged + "\n" + written(after, ",").split("\n", 1)[1]
    table = read(whole, ",")
    assert cells(table) == [list(row) for row in rows]
    assert [(row.line, row.fault) for row in table.rows if row.fault] == [(lines_of(written(before, ",")) + 1, OPEN_QUOTE)]


@pytest.mark.parametrize("second", ['"끝이 다른 글,슬픔', '끝이 다른 글",슬픔', '"끝, 다른 글",슬픔', "끝이 다른 글,슬픔"])
def test_an_open_mark_and_another_far_below_do_not_make_one_entry_of_all_between(second: str) -> None:
    between = [f"글 {number},기쁨" for number in range(50)]
    table = read("\n".join(["text,emotion", '"열린 글,분노', *between, second, "마지막,불안"]), ",")
    assert next(row.line for row in table.rows if row.fault) == 2
    assert sum(row[0].startswith("글 ") for row in cells(table)) == 50
    assert all("\n" not in text for text, _ in cells(table))
    assert cells(table)[-1] == ["마지막", "불안"]


def test_lines_of_a_quoted_text_that_repeat_and_hold_commas_are_no_rows() -> None:
    rows = [(f"{number}째 날, 산책이 좋았다\n그래서, 걸었다\n끝", LABELS[number % 4]) for number in range(40)]
    table = read(written(rows, ","), ",")
    assert cells(table) == [list(row) for row in rows]
    assert {row.lines for row in table.rows} == {3}


def test_a_tsv_s_marks_are_letters_until_something_shows_that_a_program_wrote_them() -> None:
    letters = read('text\temotion\n"이제 그만"\t분노\n"뭐라고\t슬픔\n그가 "\t기쁨\n', "\t")
    assert cells(letters) == [['"이제 그만"', "분노"], ['"뭐라고', "슬픔"], ['그가 "', "기쁨"]]
    assert letters.form == "TSV"
    for shown in ('"첫 줄\n둘째 줄"\t기쁨', '"그가 ""그만"" 했다"\t기쁨'):
        quoted = read(f'text\temotion\n"이제 그만"\t분노\n{shown}\n', "\t")
        assert cells(quoted)[0] == ["이제 그만", "분노"]
        assert quoted.form == "TSV with quoted fields"


def test_a_mark_that_is_closed_before_more_letters_is_a_letter() -> None:
    table = read('text,emotion\n"이제 그만" 하고 말했다,분노\n둘,기쁨\n', ",")
    assert cells(table) == [['"이제 그만" 하고 말했다', "분노"], ["둘", "기쁨"]]


def test_spaces_around_quoted_fields_are_not_of_them() -> None:
    assert cells(read('text,emotion\n"하나, 둘" , "기쁨"\n', ",")) == [["하나, 둘", "기쁨"]]


def test_empty_cells_beyond_the_header_are_let_go_and_full_ones_are_a_fault() -> None:
    table = read("text,emotion,,\n하나,기쁨,,\n둘,기쁨\n셋,기쁨,,,,\n넷,기쁨,메모,,\n다섯,기쁨,,,남는 칸\n", ",")
    assert [row.line for row in table.rows if row.fault] == [6]
    assert [row[0] for row in cells(table)] == ["하나", "둘", "셋", "넷"]


def test_a_file_of_open_marks_takes_linear_time() -> None:
    def seconds(count: int) -> float:
        text = "text,emotion\n" + '"글,분노\n' * count
        began = time.perf_counter()
        assert len(read(text, ",").rows) == count
        return time.perf_counter() - began

    seconds(2000)
    assert seconds(40_000) < 40 * max(seconds(4000), 0.01)
