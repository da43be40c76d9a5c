"""Tables: what csv writes is read as csv reads it, an open quotation mark costs its own line, and every line is accounted for."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.tables import LONGEST_ROW, OPEN_QUOTE, Landmark, decoded, read_table
from model.refusal import Refusal

cells = st.text(st.sampled_from('a가,;\t"\n\r '), max_size=6)
tables = st.lists(st.tuples(cells, cells, cells), max_size=6)


def rows_in(text: str, landmark: Landmark | None = None) -> list[tuple[int, tuple[str, ...], str]]:
    table = read_table(text, lambda names: "text" in names)
    assert table is not None
    return [(row.line, row.cells, row.fault) for row in table.rows(landmark)]


@settings(max_examples=300, deadline=None)
@given(rows=tables, quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), delimiter=st.sampled_from(",;\t|"))
def test_whatever_csv_writes_is_read_as_csv_reads_it(rows: list[tuple[str, str, str]], quoting: int, delimiter: str) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=quoting, delimiter=delimiter, lineterminator="\r\n")  # type: ignore[arg-type]
    writer.writerows([("text", "b", "c"), *rows])
    expected = [tuple(row) for row in csv.reader(io.StringIO(file.getvalue(), newline=""), delimiter=delimiter, strict=True)][1:]
    assert [cells for _, cells, _ in rows_in(file.getvalue())] == [row for row in expected if any(row)]


@pytest.mark.parametrize("damaged", [0, 7, 29])
@pytest.mark.parametrize("day_first", [False, True])
@pytest.mark.parametrize("later", ["", '그는 ""네""라고 했다', "키가 5'11\"", '"안녕"'])
def test_one_open_quotation_mark_costs_its_own_line_and_no_other(damaged: int, day_first: bool, later: str) -> None:
    """Wherever it stands, and whatever quotation marks stand further down, by which it might seem to be closed."""
    lines, whole = ["day,text" if day_first else "text,day"], []
    for number in range(30):
        text, day = f"글 {number}", f"2024-05-{number + 1:02}"
        if number == damaged:
            text = f'"{text}'
        elif later and number == damaged + 3:
            text = f'"{later}"' if '""' in later else later
        else:
            whole.append((day, text) if day_first else (text, day))
        lines.append(f"{day},{text}" if day_first else f"{text},{day}")
    found = rows_in("\n".join(lines) + "\n", Landmark(0 if day_first else 1, lambda cell: cell.startswith("2024-")))
    assert [line for line, _, fault in found if fault] == [damaged + 2]
    assert {fault for _, _, fault in found} == {"", OPEN_QUOTE}
    assert set(whole) <= {cells for _, cells, _ in found}
    assert len(found) == 30


def test_a_text_over_several_lines_stays_one_row() -> None:
    text = 'day,text\n2024-05-01,"첫 줄, 그리고\n2024년, 둘째\n\n끝"\n2024-05-02,다음\n'
    found = rows_in(text, Landmark(0, lambda cell: cell.startswith("2024-")))
    assert found == [(2, ("2024-05-01", "첫 줄, 그리고\n2024년, 둘째\n\n끝"), ""), (6, ("2024-05-02", "다음"), "")]


def test_every_line_that_is_no_row_is_named() -> None:
    found = rows_in(f'text,b\n셋,넷,다섯\n\n,,\n"말" 했다,b\n하나,b,\n{"a" * (LONGEST_ROW + 1)},b\n')
    assert [(line, fault) for line, _, fault in found if fault] == [
        (2, "3 fields instead of 2"), (7, f"more than {LONGEST_ROW} characters"),
    ]  # fmt: skip
    assert [cells for _, cells, fault in found if not fault] == [('"말" 했다', "b"), ("하나", "b")]


def test_a_single_column_needs_no_quotation_marks_and_marks_inside_a_text_stay() -> None:
    assert [cells for _, cells, _ in rows_in('text\n오늘은, 좋았다\n"둘, 셋"\n그는 "네, 네"라고\n')] == [
        ("오늘은, 좋았다",), ("둘, 셋",), ('그는 "네, 네"라고',),
    ]  # fmt: skip
    assert [cells for _, cells, _ in rows_in('"day","text"\n"2024-05-01","그는 "네"라고 했다"\n')] == [("2024-05-01", '그는 "네"라고 했다')]


@pytest.mark.parametrize(
    "content",
    [
        "text;day\n글, 둘;2024-05-01\n", "text\tday\n글, 둘\t2024-05-01\n", "text|day\n글, 둘|2024-05-01\n",
        "sep=;\r\ntext;day\r\n글, 둘;2024-05-01\r\n", "\ufeff내 일기장\n\ntext;day\n글, 둘;2024-05-01\n",
    ],
)  # fmt: skip
def test_delimiters_and_lines_above_the_names_are_seen(content: str) -> None:
    table = read_table(content, lambda names: "text" in names)
    assert table is not None
    assert [row.cells for row in table.rows()] == [("글, 둘", "2024-05-01")]


def test_a_table_without_known_names_is_none() -> None:
    assert read_table("하나,둘\n셋,넷\n", lambda names: "text" in names) is None
    assert read_table("", lambda names: True) is None


KOREAN = "내용,날짜\n오늘은 정말 즐거운 하루였다. 친구와 밥을 먹었다,2024-05-01\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_the_encodings_of_spreadsheets_are_read(encoding: str) -> None:
    assert decoded(KOREAN.encode(encoding), "a.csv") == KOREAN


def test_damaged_utf8_is_never_taken_for_cp949() -> None:
    """A byte is taken out at each place of the file; what is left is refused, or is UTF-8 by Python's own reading."""
    whole = KOREAN.encode()
    for at in range(len(whole)):
        damaged = whole[:at] + whole[at + 1 :]
        try:
            expected = damaged.decode()
        except UnicodeDecodeError:
            with pytest.raises(Refusal, match=r"not UTF-8 \(byte"):
                decoded(damaged, "a.csv")
        else:
            assert decoded(damaged, "a.csv") == expected
