"""Days and times as diaries, file names and columns spell them.

A day is read only where it stands in full, and never made up: what can be read in two ways (5/6/2024) is
:class:`TwoWays`, unless the other days of its column show the order. A time keeps its zone. Its day is the day in that
zone; of a time in UTC, in which programs keep times of any zone, it is the day on this device.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from enum import Enum
from pathlib import PurePath

YEARS = range(1900, 2200)
_SECONDS = (631_152_000, 4_102_444_800)
"""From 1990 to 2100; other numbers are no times."""
_KOREA = timezone(timedelta(hours=9))

_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_FIRST_LETTERS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = re.compile(
    r"[(\[]?\b(?:[월화수목금토일]요일|(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?|[월화수목금토일])\b[)\]]?|[(][월화수목금토일][)]",
    re.IGNORECASE,
)

_YEAR_FIRST = re.compile(r"(?<!\d)(\d{4})\s*[-./_年년~]\s*(\d{1,2})\s*[-./_月월]\s*(\d{1,2})(?!\d)\s*[일日]?\.?")
_ALIKE = re.compile(r"(?<!\d)(\d{4})(?P<sign>[ :])(\d{1,2})(?P=sign)(\d{1,2})(?![\d:])")
"""2024 05 01, and 2024:05:01 as cameras write it; 2024 9:30 is a year and a time."""
_COMPACT = re.compile(r"(?<!\d)(\d{4})(\d\d)(\d\d)(?:[T _-]?(\d\d)(\d\d)(\d\d)?)?(?!\d)")
_MONTH_NAMED = re.compile(rf"\b({_MONTHS})\.?[\s_-]+(\d{{1,2}})(?:st|nd|rd|th)?[,\s_-]+(\d{{4}})(?!\d)", re.IGNORECASE)
_DAY_AND_NAME = re.compile(rf"(?<!\d)(\d{{1,2}})(?:st|nd|rd|th)?\.?[\s_-]+(?:of\s+)?({_MONTHS})\.?[,\s_-]+(\d{{4}})(?!\d)", re.IGNORECASE)
_YEAR_AND_NAME = re.compile(rf"(?<!\d)(\d{{4}})[\s_-]+({_MONTHS})\.?[\s_-]+(\d{{1,2}})(?!\d)", re.IGNORECASE)
_SHORT_YEAR = re.compile(r"(?<!\d)['’]?(\d\d)\s*([-._년])\s*(\d{1,2})\s*[-._월]\s*(\d{1,2})(?!\d)\s*일?\.?")
_SHORT_COMPACT = re.compile(r"(?<!\d)(\d\d)(\d\d)(\d\d)(?!\d)")
_YEAR_LAST = re.compile(r"(?<!\d)(\d{1,2})([-./])(\d{1,2})\2(\d{4})(?!\d)")
_IN_FOLDERS = (
    re.compile(r"(?<!\d)(\d{4})년?/(?:\d{4}[-._ 년]*)?(\d{1,2})월?/\2[-_.](\d{1,2})(?!\d)[^/]*$"),
    re.compile(r"(?<!\d)(\d{4})년?/(?:\d{4}[-._ 년]*)?(\d{1,2})월?(?:[ _-]*[^\d/]*)/(\d{1,2})(?!\d)일?[^/]*$"),
    re.compile(r"(?<!\d)(\d{4})년?/(?:[^/]+/)?(\d{1,2})\s*[-_. 월]\s*(\d{1,2})(?!\d)일?[^/]*$"),
    re.compile(r"(?<!\d)(\d{4})년?/(?:[^/]+/)?(\d\d)(\d\d)(?!\d)[^/]*$"),
)
_NAMED_FOLDER = re.compile(rf"(?<!\d)(\d{{4}})/(?:\d{{1,2}}[-_. ]*)?({_MONTHS})/(\d{{1,2}})(?!\d)[^/]*$", re.IGNORECASE)
_TIME = re.compile(
    r"(?P<half>오전|오후|\b[ap]\.?m\.?)?\s*(?<!\d)(?P<hour>\d{1,2})(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d+)?)?|\s*시(?:\s*(?P<minute2>\d{1,2})\s*분?)?)"
    r"\s*(?P<half2>[ap]\.?m\b\.?)?\s*(?P<zone>(?:UTC|GMT)[+-]\d\d?(?!\d)|(?:UTC|GMT)?[+-]\d\d:?\d\d(?!\d)|Z\b|UTC\b|GMT\b|KST\b)?",
    re.IGNORECASE,
)
_BARE_HOUR = re.compile(r"(?<!\d)(?P<hour>\d{1,2})\s*(?P<half>[ap]\.?m\b\.?)", re.IGNORECASE)


_MACHINES = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""What programs add to names, such as Notion; its digits are no day."""


class TwoWays(Exception):
    """A day that can be read as one of May or one of June."""


class Order(Enum):
    """What stands first in 5/6/2024."""

    UNKNOWN = 0
    DAY = 1
    MONTH = 2


@dataclass(frozen=True)
class Moment:
    """A day, and the time if one is said."""

    day: date
    at: datetime | None = None


def moment_of(value: object, order: Order = Order.UNKNOWN) -> Moment | None:
    """The day and time that a value says, or None; :class:`TwoWays` where it says two."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _counted(float(value)) or _of_text(str(value), order)
    if not isinstance(value, str):
        return None
    text = unicodedata.normalize("NFKC", value).strip()
    if re.fullmatch(r"\d{10}|\d{13}|\d{16}", text) and (counted := _counted(float(text))):
        return counted
    return _of_text(text, order)


def order_of(values: Iterable[object]) -> Order:
    """What stands first in the days of one column, as far as any of them shows it; unknown too where they disagree."""
    shown = set()
    for value in values:
        if isinstance(value, str) and (found := _YEAR_LAST.search(value)):
            first, second = int(found[1]), int(found[3])
            shown |= {Order.DAY} if first > 12 else set()
            shown |= {Order.MONTH} if second > 12 else set()
    return shown.pop() if len(shown) == 1 else Order.UNKNOWN


def is_only_a_day(value: object) -> bool:
    """Whether a text says a day, with a time or without, and nothing else."""
    if not isinstance(value, str) or len(value) > 60:
        return isinstance(value, int | float) and moment_of(value) is not None
    text = unicodedata.normalize("NFKC", value).strip()
    if re.fullmatch(r"\d{10}|\d{13}|\d{16}", text):
        return _counted(float(text)) is not None
    try:
        found = _found(text, Order.UNKNOWN)
    except TwoWays:
        return _YEAR_LAST.fullmatch(text.split(" ")[0]) is not None
    if found is None:
        return False
    rest = _TIME.sub(" ", text[: found[1]] + " " + text[found[2] :], count=1)
    return not re.sub(r"[\s\W]|\bat\b|\bT\b|\bZ\b", "", _WEEKDAYS.sub(" ", rest))


def moment_of_name(path: PurePath) -> Moment | None:
    """The day that a file's name says, or its folders with it: 2024/05/04.md, 2024년/5월 4일.md, 2024-05-04/note.md."""
    stem, *folders = [_MACHINES.sub(" ", unicodedata.normalize("NFKC", part)).strip() for part in (path.stem, *path.parts[:-1])]
    try:
        named = _found(stem, Order.UNKNOWN, names=True)
    except TwoWays:
        named = None
    if named:
        return _with_time(named[0], stem[named[2] :], _clock_digits(stem[named[1] : named[2]]))
    whole = "/".join([*folders, stem])
    for pattern in _IN_FOLDERS:
        if (found := pattern.search(whole)) and (day := _day(found[1], found[2], found[3])):
            return Moment(day)
    if (found := _NAMED_FOLDER.search(whole)) and (day := _day(found[1], _month(found[2]), found[3])):
        return Moment(day)
    return next((Moment(inside[0]) for folder in reversed(folders) if (inside := _year_first(folder))), None)


def clock_of(text: str) -> time | None:
    """21:30, 9:30 PM, 오후 9:30, 오후 9시; None where it says nothing of the kind."""
    found = _TIME.search(unicodedata.normalize("NFKC", text)) or _BARE_HOUR.search(text)
    return _clock(found) if found else None


def at_noon(day: date) -> datetime:
    """The time of an entry of which only the day is known."""
    return datetime.combine(day, time(12)).astimezone(UTC)


def _of_text(text: str, order: Order) -> Moment | None:
    whole = _iso(text)
    if whole is not None:
        return whole
    found = _found(text, order)
    if found is None:
        return None
    day, start, end = found
    return _with_time(day, f"{text[end:]} {text[:start]}", _clock_digits(text[start:end]))


def _iso(text: str) -> Moment | None:
    """A time of ISO 8601 with its zone; midnight in UTC is how programs write a bare day."""
    if not re.match(r"\d{4}-?\d\d-?\d\d[T ]\d\d", text):
        return None
    try:
        at = datetime.fromisoformat(re.sub(r"\s*(?:UTC|GMT)$", "Z", re.sub(r"\s+(?=[+-]\d\d:?\d\d$|Z$)", "", text)))
    except ValueError:
        return None
    return _moment_at(at) if at.year in YEARS else None


def _moment_at(at: datetime) -> Moment:
    if at.tzinfo is None:
        return Moment(at.date(), at.astimezone(UTC))
    if at.utcoffset() != timedelta(0):
        return Moment(at.date(), at)
    return Moment(at.date()) if at.time() == time(0) else Moment(at.astimezone().date(), at)


def _counted(number: float) -> Moment | None:
    """Seconds since 1970, or their thousandths or millionths."""
    for part in (1, 1_000, 1_000_000):
        if _SECONDS[0] <= number / part < _SECONDS[1]:
            at = datetime.fromtimestamp(number / part, UTC)
            return Moment(at.astimezone().date(), at)
    return None


def _found(text: str, order: Order, *, names: bool = False) -> tuple[date, int, int] | None:
    """The first day in a text, and where it stands; in ``names`` digits alone may be a day anywhere."""
    named = [
        (one, match.start(), match.end())
        for pattern, year, month, day in ((_MONTH_NAMED, 3, 1, 2), (_DAY_AND_NAME, 3, 2, 1), (_YEAR_AND_NAME, 1, 2, 3))
        for match in pattern.finditer(text)
        if (one := _day(match[year], _month(match[month]), match[day]))
    ]
    if whole := [*([found] if (found := _year_first(text)) else []), *named]:
        return min(whole, key=lambda found: found[1])
    for match in _YEAR_LAST.finditer(text):
        if one := _year_last(match, order):
            return one, match.start(), match.end()
    for match in (*_SHORT_YEAR.finditer(text), *(_SHORT_COMPACT.finditer(text) if names or len(text) < 20 else ())):
        year, month, day = match.group(1, 3, 4) if match.re is _SHORT_YEAR else match.group(1, 2, 3)
        if one := _day(_century(year), month, day):
            return one, match.start(), match.end()
    return None


def _year_first(text: str) -> tuple[date, int, int] | None:
    matches = [*_YEAR_FIRST.finditer(text), *_COMPACT.finditer(text), *_ALIKE.finditer(text)]
    for match in sorted(matches, key=re.Match.start):
        parts = (1, 3, 4) if match.re is _ALIKE else (1, 2, 3)
        if one := _day(*match.group(*parts)):
            return one, match.start(), match.end()
    return None


def _year_last(match: re.Match[str], order: Order) -> date | None:
    """5.6.2024 has the day first wherever it is written; 5/6/2024 and 5-6-2024 have an order of their own."""
    first, sign, second, year = int(match[1]), match[2], int(match[3]), match[4]
    if sign == "." or first > 12 or (order is Order.DAY and second <= 12):
        return _day(year, second, first)
    if second > 12 or order is Order.MONTH or first == second:
        return _day(year, first, second)
    if _day(year, first, second) is None:
        return None
    raise TwoWays


def _with_time(day: date, rest: str, digits: time | None) -> Moment:
    """The day with the time that stands beside it, in its zone or else this device's."""
    found = _TIME.search(rest) or _BARE_HOUR.search(rest)
    clock = digits or (_clock(found) if found else None)
    if clock is None:
        return Moment(day)
    zone = _zone(found["zone"]) if found and "zone" in found.re.groupindex and found["zone"] else None
    at = datetime.combine(day, clock, zone)
    return _moment_at(at) if zone else Moment(day, at.astimezone(UTC))


def _clock_digits(text: str) -> time | None:
    """The time in 202405032130."""
    found = _COMPACT.fullmatch(text)
    if not found or not found[4]:
        return None
    hour, minute, second = int(found[4]), int(found[5]), int(found[6] or 0)
    return time(hour, minute, second) if hour < 24 and minute < 60 and second < 60 else None


def _clock(found: re.Match[str]) -> time | None:
    parts = found.groupdict()
    hour, minute, second = int(parts["hour"]), int(parts.get("minute") or parts.get("minute2") or 0), int(parts.get("second") or 0)
    half = (parts.get("half") or parts.get("half2") or "").casefold()
    if half.startswith(("오후", "p")) and hour < 12:
        hour += 12
    if half.startswith(("오전", "a")) and hour == 12:
        hour = 0
    return time(hour, minute, second) if hour < 24 and minute < 60 and second < 60 else None


def _zone(name: str) -> tzinfo:
    if name.upper() == "KST":
        return _KOREA
    if name.upper() in ("Z", "UTC", "GMT"):
        return UTC
    offset = name.upper().removeprefix("UTC").removeprefix("GMT")
    hours, minutes = (offset[1:3], offset[-2:]) if len(offset) > 3 else (offset[1:], "0")
    away = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(away if offset[0] == "+" else -away) if away < timedelta(days=1) else UTC


def _month(name: str) -> int:
    return _FIRST_LETTERS.index(name[:3].casefold()) + 1


def _century(year: str) -> int:
    return int(year) + (2000 if int(year) < 70 else 1900)


def _day(year: str | int, month: str | int, day: str | int) -> date | None:
    try:
        return date(int(year), int(month), int(day)) if int(year) in YEARS else None
    except ValueError:
        return None
