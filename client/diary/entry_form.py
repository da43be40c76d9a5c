"""One entry as plain fields and back: the form that JSON, CSV and Markdown exports share, and that imports are brought into.

Only ``text`` must be there. An entry without a day is filed under today and marked as undated; without the rest it has no
emotion and may teach.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from client.diary.days import TwoWays, moment_of
from client.diary.diary import MOST_CHARACTERS, Correction, Entry, Record
from client.reading.reading import Reading
from model.emotions import EMOTIONS, KINDS, Emotion
from model.normalization import normalized
from model.refusal import Refusal

FIELDS = ("number", "day", "written", "edited", "emotion", "feelings", "teaches", "reading", "corrections", "text")


class BadRow(Exception):
    """A row that is no entry: the reason, which holds nothing of the row."""


def fields_of(record: Record) -> dict[str, Any]:
    """Everything that is kept of an entry, in JSON's values."""
    entry = record.entry
    return {
        "number": entry.number,
        "day": entry.day.isoformat(),
        "written": entry.written.isoformat(),
        "edited": entry.edited.isoformat() if entry.edited else None,
        "emotion": entry.emotion.en if entry.emotion else None,
        "feelings": [emotion.en for emotion in entry.feelings],
        "teaches": entry.teaches,
        "reading": _reading_fields(entry.reading),
        "corrections": [{"before": one.before.en if one.before else None, "at": one.at.isoformat()} for one in record.corrections],
        "text": entry.text,
    }


def record_of(fields: Mapping[str, Any], *, today: date) -> Record:
    """The entry of such fields; :class:`BadRow` if there is none in them."""
    text = fields.get("text")
    if not isinstance(text, str) or not normalized(text):
        raise BadRow("no text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise BadRow("half of a character in the text")
    if "\x00" in text:
        raise BadRow("a NUL character in the text; remove it")
    if len(text) > MOST_CHARACTERS:
        raise BadRow(f"{len(text)} characters, and an entry may have {MOST_CHARACTERS}; split it")
    written = _time(fields.get("written"), "written")
    said = _day(fields.get("day")) or (written.astimezone().date() if written else None)
    day = said or today
    entry = Entry(
        number=_number(fields.get("number")),
        day=day,
        written=written or datetime.combine(day, time(12)).astimezone(UTC),
        edited=_time(fields.get("edited"), "edited"),
        text=text,
        reading=_reading(fields.get("reading")),
        emotion=_emotion(fields.get("emotion")),
        feelings=_feelings(fields.get("feelings")),
        teaches=_teaches(fields.get("teaches")),
    )
    return Record(entry, _corrections(fields.get("corrections")), dated=said is not None)


def _day(value: object) -> date | None:
    """The day of a field; of any year where it is written as we write it."""
    if value in (None, ""):
        return None
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        pass
    try:
        moment = moment_of(value)
    except TwoWays:
        raise BadRow("a day that can be read in two ways; write it as 2024-05-01") from None
    if moment is None:
        raise BadRow("a day that is none; write it as 2024-05-01")
    return moment.day


def _time(value: object, name: str) -> datetime | None:
    if value in (None, ""):
        return None
    try:
        found = datetime.fromisoformat(str(value))
        if not 1000 <= found.year < 9999:
            raise ValueError
        return found.astimezone(UTC) if found.tzinfo is None else found
    except ValueError:
        raise BadRow(f"a time of '{name}' that is none; write it as 2024-05-01T21:30:00+09:00") from None


def _number(value: object) -> int:
    """A number that may be kept, or 0."""
    text = str(value)
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 18 else 0


def _emotion(value: object) -> Emotion | None:
    if value in (None, ""):
        return None
    try:
        return Emotion.named(str(value))
    except Refusal:
        raise BadRow("an emotion that is none of the four") from None


def _feelings(value: object) -> tuple[Emotion, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if names is None or names == [""]:
        return ()
    if not isinstance(names, list):
        raise BadRow("feelings that are no list")
    named = {_emotion(name) for name in names}
    return tuple(emotion for emotion in EMOTIONS if emotion in named)


def _teaches(value: object) -> bool:
    wanted = str(value).casefold()
    if wanted not in ("none", "", "true", "1", "false", "0"):
        raise BadRow("a 'teaches' that is neither true nor false")
    return wanted not in ("false", "0")


def _reading_fields(reading: Reading | None) -> dict[str, Any] | None:
    if reading is None:
        return None
    probabilities = {emotion.en: chance for emotion, chance in zip(EMOTIONS, reading.probabilities, strict=True)}
    kinds = dict(zip(KINDS, reading.kinds, strict=True))
    return {
        "probabilities": probabilities,
        "kinds": kinds,
        "version": reading.version,
        "digest": reading.digest,
        "divided": reading.divided,
    }


def _reading(value: object) -> Reading | None:
    found = _structure(value)
    if found is None:
        return None
    try:
        chances = tuple(float(found["probabilities"][emotion.en]) for emotion in EMOTIONS)
        version, digest = found["version"], found["digest"]
        if type(version) is not int or not 0 <= version < 2**31 or not re.fullmatch("[0-9a-f]{0,128}", digest):
            raise ValueError
        divided = found.get("divided", False) is True  # earlier versions did not say, nor how many feelings were told
        kinds = {"kinds": tuple(float(found["kinds"][kind]) for kind in KINDS)} if "kinds" in found else {}
        return Reading(probabilities=chances, version=version, digest=digest, divided=divided, **kinds)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadRow("a reading that is none") from None


def _corrections(value: object) -> tuple[Correction, ...]:
    found = _structure(value)
    if found is None:
        return ()
    try:
        corrections = []
        for one in found:
            at = _time(one["at"], "corrections")
            if at is None:
                raise ValueError
            corrections.append(Correction(before=_emotion(one["before"]), at=at))
        return tuple(corrections)
    except (KeyError, TypeError, ValueError):
        raise BadRow("corrections that are none") from None


def _structure(value: object) -> Any:
    """JSON's value, which CSV and Markdown hold as text; None where there is none."""
    if value in (None, ""):
        return None
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise BadRow("a field that is not JSON") from None
