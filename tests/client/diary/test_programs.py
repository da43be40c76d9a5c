"""Other programs' diaries: every entry with its own day and zone, nothing of others' words, and what stays behind is said."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from client.diary.diary import Record
from client.diary.transfer import Found, look_into
from client.vault import Passphrase
from model.emotions import Emotion
from model.refusal import Refusal


def looked(path: Path) -> Found:
    def never() -> Passphrase:
        raise AssertionError("asked for a passphrase")

    return look_into(path, passphrase=never, today=date(2026, 11, 23))


def shown(found: Found) -> list[tuple[str, str]]:
    return [(record.entry.day.isoformat(), record.entry.text) for record in found.records]


def first(found: Found) -> Record:
    return found.records[0]


def written(path: Path, content: object) -> Path:
    text = content if isinstance(content, bytes | str) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def packed(path: Path, files: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w") as pack:
        for name, content in files.items():
            pack.writestr(name, content if isinstance(content, bytes | str) else json.dumps(content, ensure_ascii=False))
    return path


DAY_ONE = {
    "metadata": {"version": "1.0"},
    "entries": [
        {"creationDate": "2024-05-01T15:30:00Z", "timeZone": "Asia/Seoul", "uuid": "0A1B",
         "text": "# 산책\n\n좋았다\\. 정말\\!\n\n![](dayone-moment://F00D)\n", "photos": [{"md5": "x"}], "tags": ["걷기"]},
        {"creationDate": "2024-05-02T23:30:00-05:00", "text": "밤"},
        {"creationDate": "2024-05-03T10:00:00Z", "photos": [{}]},
        {"text": "날짜 없음"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ["Journal.json", "export.zip"])
def test_day_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path = packed(path, {"Journal.json": DAY_ONE, "photos/x.jpeg": b"x"}) if name.endswith("zip") else written(path, DAY_ONE)
    found = looked(path)
    assert shown(found) == [("2024-05-02", "# 산책\n\n좋았다. 정말!"), ("2024-05-02", "밤")]
    assert first(found).entry.written.isoformat() == "2024-05-02T00:30:00+09:00"
    assert found.records[1].entry.written.isoformat() == "2024-05-02T23:30:00-05:00"
    assert found.account.left == {"tags": 1, "pictures": 1}
    assert [(place, reason) for place, reason in found.account.bad] == [
        ("entry 3", "no text"), ("entry 4", "a day that is none; write it as 2024-05-01"),
    ]  # fmt: skip
    assert found.account.passed_over == ({"pictures and other files": 1} if name.endswith("zip") else {})


def test_journey(tmp_path: Path) -> None:
    millis = int(datetime.fromisoformat("2024-05-01T23:30:00+09:00").timestamp() * 1000)
    one = {"text": "<p>굵은 <b>글</b></p><p>둘째 &amp; 끝</p>", "date_journal": millis, "timezone": "Asia/Seoul", "tags": ["x"], "mood": 0}
    other = {"text": "그냥 글", "date_journal": millis + 86_400_000, "timezone": "Nowhere/Atall"}
    found = looked(packed(tmp_path / "journey.zip", {"1.json": one, "2.json": other, "1.jpg": b"x"}))
    assert found.account.form == "Journey's export"
    assert shown(found)[0] == ("2024-05-01", "굵은 글\n둘째 & 끝")
    assert first(found).entry.written.isoformat() == "2024-05-01T23:30:00+09:00"
    assert shown(found)[1][1] == "그냥 글"


def test_daylios_backup(tmp_path: Path) -> None:
    backup = {
        "customMoods": [
            {"id": 1, "custom_name": "", "mood_group_id": 1}, {"id": 4, "custom_name": "", "mood_group_id": 4},
            {"id": 9, "custom_name": "불안", "mood_group_id": 4},
        ],
        "tags": [{"id": 1, "name": "산책"}, {"id": 2, "name": "영화"}],
        "dayEntries": [
            {"year": 2024, "month": 4, "day": 1, "hour": 21, "minute": 30, "timeZoneOffset": 32_400_000, "mood": 1, "tags": [1, 2],
             "note": "", "note_title": ""},
            {"year": 2024, "month": 0, "day": 31, "hour": 8, "minute": 0, "timeZoneOffset": 32_400_000, "mood": 9, "tags": [],
             "note": "<b>떨린다</b>", "note_title": "면접"},
            {"year": 2024, "month": 11, "day": 31, "hour": 8, "minute": 0, "timeZoneOffset": 0, "mood": 4, "tags": [2], "note": "힘들다"},
            {"year": 2024, "month": 1, "day": 31, "note": "없는 날"},
        ],
    }  # fmt: skip
    content = base64.b64encode(json.dumps(backup, ensure_ascii=False).encode())
    found = looked(packed(tmp_path / "backup_2024.daylio", {"backup.daylio": content, "assets/photos/x": b"x"}))
    assert shown(found) == [("2024-05-01", "rad: 산책, 영화"), ("2024-01-31", "면접\n떨린다"), ("2024-12-31", "힘들다")]
    assert [record.entry.emotion for record in found.records] == [None, Emotion.ANXIETY, None]
    assert first(found).entry.feelings == (Emotion.JOY,)
    assert first(found).entry.written.isoformat() == "2024-05-01T21:30:00+09:00"
    assert found.account.unplaced == ("entry 3",)
    assert [place for place, _ in found.account.bad] == ["entry 4"]


def test_diarium_and_other_lists(tmp_path: Path) -> None:
    entries = [
        {"date": "2024-05-01T21:30:00", "heading": "첫날", "html": "<p>짐을 풀었다</p>", "rating": 4, "tags": ["이사"]},
        {"date": "2024-05-02T00:00:00", "heading": "", "html": "<p>둘째</p>"}, 7,
    ]  # fmt: skip
    found = looked(written(tmp_path / "diarium.json", entries))
    assert shown(found) == [("2024-05-01", "첫날\n짐을 풀었다"), ("2024-05-02", "둘째")]
    assert (found.account.left, found.account.bad) == ({"other fields": 1, "tags": 1}, (("entry 3", "no JSON object"),))


PHONE = """나와의 채팅 님과 카카오톡 대화
저장한 날짜 : 2024년 5월 3일 오전 9:00

2024년 5월 1일 오후 9:30
2024년 5월 1일 오후 9:30, 나 : 오늘은 좋았다
둘째 줄 : 쌍점이 있다
2024년 5월 1일 오후 9:31, 나 : 사진
2024년 5월 2일 오전 12:05
2024년 5월 2일 오전 12:05, 나 : 잠이 안 온다
"""
DESKTOP = """나 님과 카카오톡 대화
저장한 날짜 : 2024-05-03 09:00:00

--------------- 2024년 5월 1일 수요일 ---------------
[나] [오후 9:30] 오늘은 좋았다
둘째 줄 : 쌍점이 있다
[나] [오후 9:31] 사진
--------------- 2024년 5월 2일 목요일 ---------------
[나] [오전 12:05] 잠이 안 온다
"""
IPHONE = """나 님과 카카오톡 대화
저장한 날짜 : 2024. 5. 3. 오전 9:00

2024년 5월 1일 수요일
2024. 5. 1. 오후 9:30, 나 : 오늘은 좋았다
둘째 줄 : 쌍점이 있다
2024. 5. 1. 오후 9:31, 나 : 사진
2024년 5월 2일 목요일
2024. 5. 2. 오전 12:05, 나 : 잠이 안 온다
"""


@pytest.mark.parametrize("content", [PHONE, DESKTOP, IPHONE, PHONE.replace("\n", "\r\n")])
def test_kakaotalks_chat_with_oneself(tmp_path: Path, content: str) -> None:
    found = looked(written(tmp_path / "KakaoTalkChats.txt", content))
    assert shown(found) == [("2024-05-01", "오늘은 좋았다\n둘째 줄 : 쌍점이 있다"), ("2024-05-02", "잠이 안 온다")]
    clocks = [record.entry.written.astimezone().strftime("%H:%M") for record in found.records]
    assert clocks == ["21:30", "00:05"]
    assert found.account.passed_over == {"pictures and other files": 1}


def test_kakaotalks_table(tmp_path: Path) -> None:
    rows = 'Date,User,Message\n2024-05-01 21:30:00,"나","오늘은 ""좋았다""\n둘째"\n2024-05-02 00:05:00,"나","잠이 안 온다"\n'
    assert shown(looked(written(tmp_path / "chat.csv", rows))) == [("2024-05-01", '오늘은 "좋았다"\n둘째'), ("2024-05-02", "잠이 안 온다")]


@pytest.mark.parametrize("name", ["chat.txt", "chat.csv"])
def test_a_chat_with_others_is_refused_and_nobody_is_named(tmp_path: Path, name: str) -> None:
    content = PHONE.replace("오전 12:05, 나", "오전 12:05, 친구이름")
    if name == "chat.csv":
        content = "Date,User,Message\n2024-05-01 21:30:00,나,안녕\n2024-05-01 21:31:00,친구이름,응\n"
    with pytest.raises(Refusal, match=r"a chat of 2 people.*; export the chat with yourself") as refused:
        looked(written(tmp_path / name, content))
    assert "친구이름" not in str(refused.value)


# sheets


def sheet(path: Path, rows: list[list[object]], *, shared: bool) -> Path:
    """An .xlsx as spreadsheets write it: numbers for days, with the styles that show them; words shared or in place."""
    words: list[str] = []

    def cell(place: str, value: object) -> str:
        if isinstance(value, datetime):
            days = (value - datetime(1899, 12, 30)).total_seconds() / 86_400
            return f'<c r="{place}" s="{1 if days == int(days) else 2}"><v>{days!r}</v></c>'
        if isinstance(value, int):
            return f'<c r="{place}"><v>{value}</v></c>'
        if not shared:
            return f'<c r="{place}" t="inlineStr"><is><t>{escape(str(value))}</t></is></c>'
        words.append(f"<si><r><t>{escape(str(value)[:1])}</t></r><r><t>{escape(str(value)[1:])}</t></r><rPh><t>읽기</t></rPh></si>")
        return f'<c r="{place}" t="s"><v>{len(words) - 1}</v></c>'

    lines = "".join(
        f'<row r="{at}">'
        + "".join(cell(f"{chr(65 + column)}{at}", value) for column, value in enumerate(row) if value is not None)
        + "</row>"
        for at, row in enumerate(rows, start=1)
    )
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    formats = '<numFmts><numFmt numFmtId="164" formatCode="yyyy&quot;년&quot; m&quot;월&quot; d&quot;일&quot; hh:mm"/></numFmts>'
    styles = f'<styleSheet {main}>{formats}<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/></cellXfs></styleSheet>'
    return packed(path, {
        "[Content_Types].xml": "<Types/>", "xl/worksheets/sheet1.xml": f"<worksheet {main}><sheetData>{lines}</sheetData></worksheet>",
        "xl/sharedStrings.xml": f"<sst {main}>{''.join(words)}</sst>", "xl/styles.xml": styles,
    })  # fmt: skip


@pytest.mark.parametrize("shared", [True, False])
def test_a_sheet_is_read_as_a_table(tmp_path: Path, shared: bool) -> None:
    rows: list[list[object]] = [
        ["제목", "내용", "날짜", "감정"], ["첫날", "짐을 풀었다\n그리고 <쉬었다>", datetime(2024, 5, 1), "기쁨"],
        [None, "둘째", datetime(2024, 5, 2, 21, 30), 5],
        [None, None, datetime(2024, 5, 3)], [None, "넷째", "2024년 5월 4일"],
    ]  # fmt: skip
    found = looked(sheet(tmp_path / "일기.xlsx", rows, shared=shared))
    assert shown(found) == [("2024-05-01", "첫날\n짐을 풀었다\n그리고 <쉬었다>"), ("2024-05-02", "둘째"), ("2024-05-04", "넷째")]
    assert [record.entry.emotion for record in found.records] == [Emotion.JOY, None, None]
    assert found.records[1].entry.written.astimezone().strftime("%H:%M") == "21:30"
    assert (found.account.bad, found.account.unplaced) == ((("row 4", "no text"),), ("row 3",))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.xlsx", b"PK\x03\x04 not", "cannot be read as .xlsx"), ("a.xlsx", b"text", "cannot be read as .xlsx"),
        ("a.zip", b"PK\x03\x04 not", "cannot be unpacked"), ("a.txt", b"text", "is no chat of KakaoTalk"),
        ("a.json", b'{"entries": 5}', "no diary that this program exported"),
        ("a.json", b"[" * 100_000, "no diary that this program exported"),
    ],
)  # fmt: skip
def test_what_is_none_of_them_is_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        looked(written(tmp_path / name, content))


def test_a_trap_in_a_sheet_and_a_zip_without_a_diary_are_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><worksheet><sheetData/></worksheet>'
    with pytest.raises(Refusal, match="may be a trap"):
        looked(packed(tmp_path / "a.xlsx", {"xl/worksheets/sheet1.xml": bomb}))
    with pytest.raises(Refusal, match="unpack it and name the folder"):
        looked(packed(tmp_path / "a.zip", {"notes/2024-05-01.md": "글"}))
    damaged = io.BytesIO()
    with zipfile.ZipFile(damaged, "w") as pack:
        pack.writestr("Journal.json", "{")
    with pytest.raises(Refusal, match="JSON that is damaged"):
        looked(written(tmp_path / "b.zip", damaged.getvalue()))
