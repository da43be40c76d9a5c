"""Diaries of other programs that are neither tables nor notes.

| form | recognised by |
|---|---|
| Day One: JSON, or the zip of it | `entries` with a `creationDate` |
| Journey: a zip of JSON files | `date_journal` |
| Daylio's backup | a zip that holds `backup.daylio` |
| Diarium and others: a JSON list of objects with a text | a name of the text |
| KakaoTalk's chat with oneself, TXT | its lines of a time and a name |

A time keeps the zone that the program kept. Pictures stay behind and are said.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from client.diary.days import moment_of
from client.diary.entry_form import BadRow
from client.diary.foreign import DAYLIO_GOOD, TEXTS, Row, Source, key_of, mood_fields, plain, require_one_person, row_of
from client.tables import decoded
from model.emotions import Emotion
from model.refusal import Refusal

LARGEST = 512 * 2**20
"""Bytes of what a zip may hold unpacked, of the files that are read."""

_DAYLIO_MOODS = ("rad", "good", "meh", "bad", "awful")
_MOMENT = re.compile(r"!\[[^\]]*\]\(dayone-moment:[^)]*\)\n*")
_ESCAPED = re.compile(r"\\([\\`*_{}\[\]()#+\-.!>~|])")
_NO_TEXT = re.compile(r"(?:사진|동영상|이모티콘|음성메시지|Photo|Video|Emoticon|사진 \d+장|파일: .*|삭제된 메시지입니다\.?)")
_WHEN = r"\d{4}(?:년|\.)\s*\d{1,2}(?:월|\.)\s*\d{1,2}(?:일|\.)"
_PHONE_LINE = re.compile(rf"({_WHEN},?\s*(?:오전|오후|[AP]M)?\s*\d{{1,2}}:\d\d),\s(.+?) : (.*)$")
_DAY_LINE = re.compile(rf"(?:-+\s*)?({_WHEN})(?:\s*\S요일)?(?:\s*(?:오전|오후)\s*\d{{1,2}}:\d\d)?(?:\s*-+)?$")
_DESKTOP_LINE = re.compile(r"\[(.+?)\] \[((?:오전|오후|[AP]M)?\s*\d{1,2}:\d\d(?:\s*[AP]M)?)\] (.*)$")


def read_json(document: object) -> Source | None:
    """The diary of another program's JSON; None if it is none that is known."""
    if isinstance(document, dict) and isinstance(entries := document.get("entries"), list) and _any_has(entries, "creationDate"):
        return Source("Day One's export", tuple(_each(entries, _of_day_one)))
    if isinstance(document, dict) and isinstance(entries := document.get("dayEntries"), list):
        return _of_daylio_backup(document, entries)
    found = document if isinstance(document, list) else [document]
    if _any_has(found, "date_journal"):
        return Source("Journey's export", tuple(_each(found, _of_journey)))
    if isinstance(document, list) and any(key_of(name) in (*TEXTS, "html") for one in document if isinstance(one, dict) for name in one):
        return Source("a list of entries", tuple(_each(document, _of_any)))
    return None


def read_zip(path: Path) -> Source:
    """The diary in a zip; :class:`Refusal` if it holds none that is known."""
    try:
        with zipfile.ZipFile(path) as pack:
            backup = next((name for name in pack.namelist() if PurePosixPath(name).name == "backup.daylio"), None)
            names = [backup] if backup else [name for name in pack.namelist() if name.casefold().endswith(".json")]
            if sum(pack.getinfo(name).file_size for name in names) > LARGEST:
                raise Refusal(f"'{path}' holds more than {LARGEST // 2**20} MB of entries; split it")
            contents = [pack.read(name) for name in names]
            others = len([name for name in pack.namelist() if not name.endswith("/")]) - len(names)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise Refusal(f"'{path}' cannot be unpacked ({type(error).__name__}); export it again, without a password") from None
    documents = [_json(content, path) for content in contents]
    single = [document for document in documents if isinstance(document, dict) and "date_journal" in document]
    sources = [source for document in ([single] if single else documents) if (source := read_json(document))]
    rows = tuple(row for source in sources for row in source.rows)
    if not rows:
        raise Refusal(f"'{path}' holds no diary of Day One, Journey, Diarium or Daylio; unpack it and name the folder or the file in it")
    return Source(sources[0].form, rows, {"pictures and other files": others} if others else {})


def read_chat(path: Path) -> Source:
    """KakaoTalk's chat with oneself, a message an entry; :class:`Refusal` if the text is no such chat, or others wrote in it."""
    text = decoded(path.read_bytes(), path.name).replace("\r\n", "\n")
    messages = list(_messages(text))
    if not messages:
        raise Refusal(f"'{path}' ends in '{path.suffix}' and is no chat of KakaoTalk; put texts into a folder, a day each, and name that")
    require_one_person(name for _, _, name, _ in messages)
    rows = []
    for line, at, _, message in messages:
        moment = moment_of(at)
        fields = {"text": message.strip(), "day": moment.day.isoformat(), "written": moment.at and moment.at.isoformat()} if moment else {}
        rows.append(Row(f"line {line}", fields))
    written = [row for row in rows if not _NO_TEXT.fullmatch(str(row.fields.get("text", "")))]
    passed = len(rows) - len(written)
    return Source("KakaoTalk's chat with oneself", tuple(written), {"pictures and other files": passed} if passed else {})


def _messages(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Line, time, name and words of each message; lines that begin no message go on with the last."""
    day, begun = "", None
    for number, line in enumerate(text.split("\n"), start=1):
        line = unicodedata.normalize("NFC", line)
        phone, desktop, days = _PHONE_LINE.match(line), _DESKTOP_LINE.match(line), _DAY_LINE.match(line.strip())
        if not (phone or days or (desktop and day)):
            begun = (*begun[:3], f"{begun[3]}\n{line}") if begun else None
            continue
        if begun:
            yield begun
        begun = None
        if phone:
            begun = (number, phone[1], phone[2], phone[3])
        elif days:
            day = days[1]
        elif desktop:
            begun = (number, f"{day} {desktop[2]}", desktop[1], desktop[3])
    if begun:
        yield begun


def _each(entries: Sequence[object], read: Callable[[str, Mapping[str, Any]], Row]) -> Iterator[Row]:
    for number, entry in enumerate(entries, start=1):
        place = f"entry {number}"
        try:
            yield read(place, entry) if isinstance(entry, dict) else Row(place, fault="no JSON object")
        except BadRow as bad:
            yield Row(place, fault=str(bad))


def _of_day_one(place: str, entry: Mapping[str, Any]) -> Row:
    text = entry.get("text")
    text = _ESCAPED.sub(r"\1", _MOMENT.sub("", text)) if isinstance(text, str) else ""
    left = [
        word for word, name in (("tags", "tags"), ("places", "location"), ("weather", "weather"), ("pictures", "photos")) if entry.get(name)
    ]
    return Row(place, {"text": text.strip("\n"), **_at(entry.get("creationDate"), entry.get("timeZone"))}, left=tuple(left))


def _of_journey(place: str, entry: Mapping[str, Any]) -> Row:
    text = entry.get("text")
    left = [word for word, name in (("tags", "tags"), ("places", "address"), ("pictures", "photos")) if entry.get(name)]
    fields = {"text": plain(text) if isinstance(text, str) else "", **_at(entry.get("date_journal"), entry.get("timezone"))}
    return Row(place, fields, left=tuple(left))


def _of_any(place: str, entry: Mapping[str, Any]) -> Row:
    """An entry of a list: with HTML as plain text, and Diarium's `heading` as its title."""
    named = {("text" if key_of(name) == "html" else "title" if key_of(name) == "heading" else name): value for name, value in entry.items()}
    return row_of(place, {name: plain(value) if isinstance(value, str) else value for name, value in named.items()})


def _of_daylio_backup(document: Mapping[str, Any], entries: Sequence[object]) -> Source:
    """Daylio's own backup: moods and activities by their numbers, months from 0."""
    moods = {one.get("id"): _mood_name(one) for one in document.get("customMoods") or [] if isinstance(one, dict)}
    tags = {one.get("id"): str(one.get("name", "")) for one in document.get("tags") or [] if isinstance(one, dict)}

    def read(place: str, entry: Mapping[str, Any]) -> Row:
        mood = moods.get(entry.get("mood"), "")
        activities = ", ".join(name for one in entry.get("tags") or [] if (name := tags.get(one, "")))
        text = "\n".join(part for part in (plain(str(entry.get("note_title") or "")), plain(str(entry.get("note") or ""))) if part.strip())
        felt, unplaced = mood_fields([mood])
        good = {"feelings": [Emotion.JOY.en]} if not felt and mood.casefold() in DAYLIO_GOOD else {}
        fields = {"text": text or ": ".join(part for part in (mood, activities) if part), **_daylio_time(entry), **(felt or good)}
        return Row(place, fields, unplaced=bool(text) and unplaced and not good, left=("tags",) if text and activities else ())

    return Source("Daylio's backup", tuple(_each(entries, read)))


def _mood_name(mood: Mapping[str, Any]) -> str:
    group = mood.get("mood_group_id")
    usual = _DAYLIO_MOODS[group - 1] if isinstance(group, int) and 1 <= group <= len(_DAYLIO_MOODS) else ""
    return str(mood.get("custom_name") or "").strip() or usual


def _daylio_time(entry: Mapping[str, Any]) -> dict[str, Any]:
    try:
        offset = timedelta(milliseconds=int(entry.get("timeZoneOffset") or 0))
        zone = timezone(offset) if "timeZoneOffset" in entry else None
        year, month, day = int(entry["year"]), int(entry["month"]) + 1, int(entry["day"])
        at = datetime(year, month, day, int(entry.get("hour", 12)), int(entry.get("minute", 0)), tzinfo=zone)
    except (KeyError, ValueError, TypeError, OverflowError):
        raise BadRow("a day that is none; write it as 2024-05-01") from None
    return {"day": at.date().isoformat(), "written": (at if zone else at.astimezone()).isoformat()}


def _at(value: object, zone: object) -> dict[str, Any]:
    """A time and its day, in the zone that stands beside it."""
    moment = moment_of(value)
    if moment is None:
        raise BadRow("a day that is none; write it as 2024-05-01")
    at = moment.at or (datetime.fromisoformat(str(value)) if isinstance(value, str) and "T" in value else None)
    if at is None:
        return {"day": moment.day.isoformat()}
    try:
        at = at.astimezone(ZoneInfo(str(zone))) if zone else at
    except (ValueError, OSError, KeyError):  # a zone that this device does not know
        return {"day": moment.day.isoformat(), "written": at.isoformat()}
    day = at.date() if zone else moment.day
    return {"day": day.isoformat(), "written": at.isoformat()}


def _any_has(entries: Sequence[object], name: str) -> bool:
    return any(isinstance(entry, dict) and name in entry for entry in entries)


def _json(content: bytes, path: Path) -> object:
    """A document; Daylio writes its own in base64."""
    try:
        content = content if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") else base64.b64decode(content)
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError, binascii.Error):
        raise Refusal(f"'{path}' holds JSON that is damaged; export it again") from None
