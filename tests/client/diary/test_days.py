"""Days: every common spelling is the day that was meant, nothing else is a day, and a time keeps its zone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.diary.days import Order, TwoWays, is_only_a_day, moment_of, moment_of_name, order_of

DAY = date(2024, 5, 1)

days = st.dates(date(1970, 1, 1), date(2069, 12, 31))
SPELLINGS = [
    "%Y-%m-%d", "%Y.%m.%d", "%Y. %m. %d.", "%Y/%m/%d", "%Y_%m_%d", "%Y %m %d", "%Y%m%d", "%Y년 %m월 %d일", "%Y년%m월%d일", "%y%m%d",
    "%y.%m.%d", "%y-%m-%d", "%y년 %m월 %d일", "%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d-%b-%Y", "%A, %B %d, %Y", "%a %d %b %Y", "%d.%m.%Y",
    "[[%Y-%m-%d]]", "%Y-%m-%d (%a)",
]  # fmt: skip


@pytest.fixture
def in_seoul() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "KST-9"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(day=days)
def test_a_day_is_read_as_it_was_written(spelling: str, day: date) -> None:
    """Written by strftime, with and without zeros before digits."""
    written = day.strftime(spelling)
    found = moment_of(written)
    assert found is not None
    assert found.day == day
    assert is_only_a_day(written)
    if "%Y" in spelling and spelling != "%Y%m%d":
        bare = day.strftime(spelling.replace("%m", f"{day.month}").replace("%d", f"{day.day}"))
        found = moment_of(bare)
        assert found is not None
        assert found.day == day


@pytest.mark.parametrize(
    ("value", "hour"),
    [
        ("2024-05-01 21:30", 21), ("2024-05-01 오후 9:30", 21), ("2024. 5. 1. 오후 9:30:15", 21), ("2024년 5월 1일 오후 9시 30분", 21),
        ("2024-05-01 오전 12:30", 0), ("2024-05-01 12:30 PM", 12), ("May 1st, 2024 at 9:30 pm", 21),
        ("May 1, 2024 9:30 PM", 21), ("1 May 2024 9:30", 9), ("Wed May 01 2024 9:30:00", 9), ("2024/05/01 9:30", 9),
        ("202405012130", 21), ("20240501_213000", 21), ("２０２４-０５-０１ 21:30", 21), ("9:30 PM, May 1, 2024", 21),
        ("2024-05-01T21:30", 21), ("2024:05:01 21:30:00", 21),
    ],
)  # fmt: skip
def test_a_time_beside_the_day_is_read(value: str, hour: int) -> None:
    found = moment_of(value)
    assert found is not None
    assert found.at is not None
    local = found.at.astimezone()
    assert (found.day, local.date(), local.hour, local.minute) == (DAY, DAY, hour, 30)


def test_a_time_keeps_its_zone_and_utc_is_this_devices_day(in_seoul: None) -> None:
    late = datetime(2024, 5, 1, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    for value in (
        late.isoformat(),
        format_datetime(late),
        "Wed May 01 2024 23:30:00 GMT-0500 (CDT)",
        "2024-05-01 23:30 UTC-05:00",
        "May 1, 2024 11:30 PM GMT-5",
    ):
        found = moment_of(value)
        assert found is not None
        assert (found.day, found.at) == (DAY, late)
        assert found.at is not None
        assert found.at.utcoffset() == late.utcoffset()
    utc = datetime(2024, 5, 1, 23, 30, tzinfo=UTC)
    seconds = int(utc.timestamp())
    for said in (utc.isoformat(), "2024-05-01T23:30:00.000Z", "2024-05-01 23:30:00 UTC", seconds, seconds * 1000, str(seconds)):
        found = moment_of(said)
        assert found is not None
        assert (found.day, found.at) == (date(2024, 5, 2), utc)
    midnight = moment_of("2024-05-01T00:00:00Z")
    assert midnight is not None
    assert (midnight.day, midnight.at) == (DAY, None)


@pytest.mark.parametrize(
    "value", ["", "어제", "yesterday", "2024", "2024-05", "5월 3일", "2024-02-30", "20241345", "123456", "12345", "2024-W18", 2024, 7,
              True, None, [], {}, 1.5e300, float("nan"), "9" * 400, "10/20/30"],
)  # fmt: skip
def test_what_says_no_day_is_none(value: object) -> None:
    assert moment_of(value) is None
    assert not is_only_a_day(value)


def test_what_can_be_read_in_two_ways_is_said_unless_the_column_shows_the_order() -> None:
    with pytest.raises(TwoWays):
        moment_of("5/6/2024")
    assert order_of(["5/6/2024", "13/6/2024"]) is Order.DAY
    assert order_of(["5/6/2024", "5/13/2024"]) is Order.MONTH
    assert order_of(["5/6/2024"]) is order_of(["13/6/2024", "5/13/2024"]) is Order.UNKNOWN
    by_day, by_month, same = moment_of("5/6/2024", Order.DAY), moment_of("5/6/2024", Order.MONTH), moment_of("5/5/2024")
    assert [found and found.day for found in (by_day, by_month, same)] == [date(2024, 6, 5), date(2024, 5, 6), date(2024, 5, 5)]


@pytest.mark.parametrize("text", ["2024-05-01 산책을 했다", "오늘 2024-05-01", "May 5, 2024 was good", "a" * 100])
def test_a_text_with_a_day_in_it_is_not_only_a_day(text: str) -> None:
    assert not is_only_a_day(text)


@pytest.mark.parametrize(
    "name",
    [
        "2024-05-01", "2024_05_01", "20240501", "240501",
        "2024년 5월 1일", "2024-5-1", "May 1st, 2024", "202405012130", "2024-05-01 수요일",
        "산책 2024-05-01", "2024.05.01 산책", "2024-05-01 (2)",
        "2024/05/01", "2024/5월 1일", "2024년/5월/1일",
        "2024/05/0501", 
        "2024/2024-05/01",
        "2024/05-May/01", "2024/May/01", "2024-05-01/note",
        "2024/05/05-01", "journals/2024_05_01", "일기/2024/05/01 산책", "24-05-01",
        "2024 일기/2024-05-01",
    ],
)  # fmt: skip
def test_a_files_name_or_its_folders_say_the_day(name: str) -> None:
    found = moment_of_name(PurePath(f"{name}.md"))
    assert found is not None
    assert found.day == DAY


@pytest.mark.parametrize(
    "name", ["메모", "2024", "2024-05", "3월 여행", "2024/메모", "2024/05/메모 3", "회의 123456", "2024-13-45", "05-06-2024"]
)
def test_other_names_say_none(name: str) -> None:
    assert moment_of_name(PurePath(f"{name}.md")) is None
