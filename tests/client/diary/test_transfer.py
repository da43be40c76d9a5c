"""Moving a diary: a round trip loses nothing, foreign files are read, bad rows are told without a word of them."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.diary.diary import Correction, Diary, Entry, Record
from client.diary.diary_file import DiaryFile
from client.diary.transfer import Form, export_diary, import_diary
from client.music.own_songs import OwnSongs
from client.reading.reading import Reading
from client.vault import DataKey, Passphrase, WrongKey
from model.emotions import EMOTIONS, Emotion
from model.refusal import Refusal

WORDS = Passphrase("보관함의 열쇠 말")
TODAY = date(2026, 11, 23)
ENDINGS = {Form.JSON: "diary.json", Form.CSV: "diary.csv", Form.MARKDOWN: "diary", Form.ARCHIVE: "diary.archive"}


def diary_in(folder: Path) -> Diary:
    folder.mkdir(parents=True, exist_ok=True)
    file = DiaryFile(folder / "diary.sqlite3", DataKey.create())
    file.create()
    return Diary(file, cache=folder / "cache")


def never() -> Passphrase:
    raise AssertionError("asked for a passphrase")


def brought_in(diary: Diary, path: Path, passphrase: Callable[[], Passphrase] = never) -> tuple[int, int, list[tuple[str, str]]]:
    done = import_diary(diary, path, passphrase=passphrase, today=TODAY)
    return done.added, done.known, list(done.bad)


def shown(diary: Diary) -> list[tuple[str, str, Emotion | None]]:
    return [(record.entry.day.isoformat(), record.entry.text, record.entry.emotion) for record in diary.records()]


# round trips

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(lambda text: text.strip())
awkward = st.sampled_from([
    "=1+1", "+82 10", "-", "@cmd", "\t탭", "'따옴표", '"', '""', "a,b;c", "줄\n바꿈\r\n과\r끝\n", "---\nnumber: 7\n---\n본문", "\ufeff머리",
    "\x00널", "글\u2028\x85\x1c", unicodedata.normalize("NFD", "한글은 두 가지로 쓴다"), "👩‍👩‍👧 🏳️‍🌈", "  앞뒤 공백  ", "<b>굵게</b> &amp;",
    '{"text": 1}', "null", "false",
])  # fmt: skip
moments = st.datetimes(datetime(1950, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=9))]))
emotions = st.sampled_from(EMOTIONS)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    parts = draw(st.tuples(*[st.floats(0.01, 1.0)] * 4))
    return Reading(
        probabilities=tuple(part / sum(parts) for part in parts),
        version=draw(st.integers(0, 10**6)),
        digest=draw(st.sampled_from(["", "0f" * 32])),
    )


@st.composite
def records(draw: st.DrawFn, number: int) -> Record:
    felt = draw(st.sets(emotions))
    entry = Entry(
        number=number, day=draw(st.dates(date(1950, 1, 1), date(2100, 1, 1))), written=draw(moments), edited=draw(st.none() | moments),
        text=draw(awkward | texts), reading=draw(st.none() | readings()), emotion=draw(st.none() | emotions),
        feelings=tuple(emotion for emotion in EMOTIONS if emotion in felt), teaches=draw(st.booleans()),
    )  # fmt: skip
    history = draw(st.lists(st.builds(Correction, before=st.none() | emotions, at=moments), max_size=3))
    return Record(entry, tuple(history))


@st.composite
def diaries(draw: st.DrawFn) -> list[Record]:
    numbers = sorted(draw(st.sets(st.integers(1, 999), max_size=5)))
    kept = [draw(records(number)) for number in numbers]
    return [*kept, Record(replace(kept[0].entry, number=1000))] if kept else []  # one occurs twice


@pytest.mark.parametrize("form", [Form.JSON, Form.CSV, Form.MARKDOWN])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=diaries())
def test_a_round_trip_loses_nothing(tmp_path: Path, form: Form, kept: list[Record]) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    one, other = diary_in(folder / "one"), diary_in(folder / "other")
    one.restore(kept)
    assert list(one.records()) == kept
    assert export_diary(one, folder / ENDINGS[form], form, passphrase=never) == len(kept)
    if not kept and form is Form.MARKDOWN:
        return  # an empty folder is no diary
    assert brought_in(other, folder / ENDINGS[form]) == (len(kept), 0, [])
    assert list(other.records()) == kept
    assert brought_in(other, folder / ENDINGS[form]) == (0, len(kept), [])
    shutil.rmtree(folder)


def test_an_archive_holds_everything_and_shows_nothing(tmp_path: Path) -> None:
    one, other = diary_in(tmp_path / "one"), diary_in(tmp_path / "other")
    one.add_all((f"비밀 {number} " * 3, EMOTIONS[number % 4]) for number in range(3000))
    one.correct(one.add("고친 글"), Emotion.JOY)
    one.revise("taste", lambda _: '{"songs": "노래"}')
    path = tmp_path / "diary.archive"
    export_diary(one, path, Form.ARCHIVE, passphrase=lambda: WORDS)
    assert path.stat().st_size > 5 * 64 * 1024
    assert path.stat().st_mode & 0o077 == 0
    assert "비밀".encode() not in path.read_bytes()
    with pytest.raises(WrongKey, match="does not open the archive"):
        brought_in(other, path, lambda: Passphrase("다른 열쇠 말이다"))
    assert other.count() == 0
    assert brought_in(other, path, lambda: WORDS) == (3001, 0, [])
    assert list(other.records()) == list(one.records())
    assert other.kept("taste") == '{"songs": "노래"}'


def test_a_documents_own_version_stays_when_another_is_imported(tmp_path: Path) -> None:
    one, other = diary_in(tmp_path / "one"), diary_in(tmp_path / "other")
    one.revise("taste", lambda _: "1")
    one.revise("new", lambda _: "2")
    other.revise("taste", lambda _: "own")
    export_diary(one, tmp_path / "diary.json", Form.JSON, passphrase=never)
    brought_in(other, tmp_path / "diary.json")
    assert other.documents() == {"taste": "own", "new": "2"}


@pytest.mark.parametrize("form", list(Form))
def test_an_export_overwrites_nothing_and_is_for_its_owner_only(tmp_path: Path, form: Form) -> None:
    diary = diary_in(tmp_path / "one")
    diary.add("글")
    path = tmp_path / ENDINGS[form]
    export_diary(diary, path, form, passphrase=lambda: WORDS)
    made = [path, *path.glob("*")]
    assert not [one for one in made if one.stat().st_mode & 0o077]
    with pytest.raises(Refusal, match="exists already; name a new"):
        export_diary(diary, path, form, passphrase=lambda: WORDS)


def test_markdown_that_stops_half_way_leaves_nothing_and_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diary, path = diary_in(tmp_path / "one"), tmp_path / "out" / "diary"
    diary.add_all((f"글 {number}", None) for number in range(3))
    path.parent.mkdir()
    synced, fsync = 0, os.fsync

    def full(handle: int) -> None:
        nonlocal synced
        synced += 1
        if synced == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refusal, match="cannot be written"):
        export_diary(diary, path, Form.MARKDOWN, passphrase=never)
    assert list(path.parent.iterdir()) == []
    (path.parent / ".diary.partial").mkdir()  # as one that was killed leaves it
    (path.parent / ".diary.partial" / "old.md").write_text("옛 글")
    path.mkdir()
    assert export_diary(diary, path, Form.MARKDOWN, passphrase=never) == 3
    assert [one.name for one in path.parent.iterdir()] == ["diary"]
    assert len(list(path.iterdir())) == 3


@pytest.mark.parametrize("form", [Form.JSON, Form.ARCHIVE])
def test_a_persons_own_catalogues_travel_along_to_the_letter(tmp_path: Path, form: Form) -> None:
    songs, others = OwnSongs(tmp_path / "songs"), OwnSongs(tmp_path / "others")
    for content in ("\ufefftitle,artist\r\n노래,나\r\n", "#EXTM3U\n#EXTINF:1,나 - 다른 노래\nx.mp3\n"):
        songs.take_in(io.BytesIO(content.encode()))
    (tmp_path / "songs" / "own-damaged.csv").write_bytes(b"\xff")
    one, other, path = diary_in(tmp_path / "one"), diary_in(tmp_path / "other"), tmp_path / ENDINGS[form]
    export_diary(one, path, form, passphrase=lambda: WORDS, songs=songs)
    for _ in range(2):
        assert import_diary(other, path, passphrase=lambda: WORDS, songs=others).catalogues == 2
    assert others.texts() == songs.texts()
    assert len(others.texts()) == 2


def test_a_catalogue_that_is_none_is_told_and_its_name_is_never_a_path(tmp_path: Path) -> None:
    content = {"program": "feelinghealing diary", "version": 1, "documents": {}, "entries": [],
               "songs": {"../../own-1.csv": "title,artist\na,b\n", "own-2.csv": "비밀"}}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    done = import_diary(diary_in(tmp_path / "home"), tmp_path / "a.json", passphrase=never, songs=OwnSongs(tmp_path / "in" / "songs"))
    assert (done.catalogues, [place for place, _ in done.bad]) == (1, ["catalogue 2"])
    assert "비밀" not in done.account()
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["songs"]


# foreign files

DAYLIO = '''\ufefffull_date,date,weekday,time,mood,activities,note_title,note
2024-05-01,"May 1","Wednesday","21:30","rad","산책 | movies / tv","제목","첫 줄
둘째 ""줄"""
2024-05-02,"5월 2일","목요일","오후 9:05","bad","work","",""
2024-05-03,"May 3","Friday","12:10 AM","슬픔","","","<b>굵은</b> 말<br>다음 줄 &amp; 끝"
2024-13-45,"May 4","Saturday","10:00","good","","","비밀스러운 글"
2024-05-05,"May 5","Sunday","10:00","good"
2024-05-06,"May 6","Monday","08:00","","","",""
2024-05-07,"May 7","Tuesday","08:00","분노","","","a < b && c"
'''  # fmt: skip


def test_daylios_export_is_read(tmp_path: Path) -> None:
    path, diary = tmp_path / "daylio_export.csv", diary_in(tmp_path / "home")
    path.write_text(DAYLIO, encoding="utf-8", newline="")
    bad = [
        ("line 6", "a day that is none; write it as 2024-05-01"),
        ("line 7", "5 fields instead of 8"),
        ("line 8", "no text"),
    ]
    assert brought_in(diary, path) == (4, 0, bad)
    assert shown(diary) == [
        ("2024-05-01", '제목\n첫 줄\n둘째 "줄"', None),
        ("2024-05-02", "bad: work", None),
        ("2024-05-03", "굵은 말\n다음 줄 & 끝", Emotion.SADNESS),
        ("2024-05-07", "a < b && c", Emotion.ANGER),
    ]
    entries = [record.entry for record in diary.records()]
    assert [entry.feelings for entry in entries] == [(Emotion.JOY,), (), (), ()]
    local = [entry.written.astimezone().strftime("%Y-%m-%d %H:%M") for entry in entries]
    assert local == ["2024-05-01 21:30", "2024-05-02 21:05", "2024-05-03 00:10", "2024-05-07 08:00"]
    assert brought_in(diary, path) == (0, 4, bad)


def test_an_account_of_bad_rows_names_lines_and_no_text(tmp_path: Path) -> None:
    path = tmp_path / "daylio_export.csv"
    path.write_text(DAYLIO, encoding="utf-8", newline="")
    done = import_diary(diary_in(tmp_path / "home"), path, passphrase=never, today=TODAY)
    assert done.account().startswith("entries imported: 4, here already: 0, bad rows skipped: 3 (line 6: a day that is none")
    assert "비밀" not in done.account() + repr(done)


@pytest.mark.parametrize(
    ("name", "content", "added", "bad"),
    [
        ("a.csv", "날짜,일기,감정\n2024.5.1,맑음,기쁨\n2024년 5월 2일,흐림,\n,오늘,joy\n", 3, []),
        ("a.tsv", "date\ttext\n20240501\t맑음\n2024-05-02 21:00\t흐림, 비\n\t오늘\n", 3, []),
        ("a.csv", "text,emotion\n한 줄,무덤덤\n\n,기쁨\n둘,셋,넷\n괜찮다,분노\n", 1, ["line 2", "line 4", "line 5"]),
        ("a.csv", 'text\n"닫지 않은\n따옴표\n', 0, ["line 2"]),
        ("a.jsonl", '{"text": "맑음", "date": "2024-05-01"}\n\n[1]\n{"text": 3}\nnot json\n{"content": "흐림"}', 2,
         ["line 3", "line 4", "line 5"]),
        ("a.jsonl", '{"text": "반쪽 \\ud800"}\n{"text": "a", "reading": {"version": 1}}\n{"text": "b", "written": "어제"}', 0,
         ["line 1", "line 2", "line 3"]),
    ],
)  # fmt: skip
def test_plain_tables_and_json_lines_are_read(tmp_path: Path, name: str, content: str, added: int, bad: list[str]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    diary = diary_in(tmp_path / "home")
    found = brought_in(diary, tmp_path / name)
    assert (found[0], [place for place, _ in found[2]]) == (added, bad)
    if added == 3:
        assert [day for day, _, _ in shown(diary)] == ["2024-05-01", "2024-05-02", TODAY.isoformat()]


def test_a_folder_of_markdown_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "2024").mkdir(parents=True)
    (folder / "2024" / "2024-05-01 산책.md").write_text("# 산책\n\n좋았다\n\n", encoding="utf-8")
    (folder / "20240502.md").write_text("흐림", encoding="utf-8")
    (folder / "b.md").write_text("---\ntitle: 제목\ndate: 2024-05-03\nemotion: 슬픔\n---\n\n울었다\n", encoding="utf-8")
    (folder / "c.md").write_bytes("비밀".encode("cp949"))
    (folder / "d.md").write_text("", encoding="utf-8")
    (folder / "e.md").write_text("날짜 없는 글", encoding="utf-8")
    diary = diary_in(tmp_path / "home")
    assert brought_in(diary, folder) == (4, 0, [("file 4 of 6", "not UTF-8"), ("file 5 of 6", "no text")])
    assert shown(diary) == [
        ("2024-05-01", "# 산책\n\n좋았다", None),
        ("2024-05-02", "흐림", None),
        ("2024-05-03", "울었다", Emotion.SADNESS),
        (TODAY.isoformat(), "날짜 없는 글", None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", "no column for the text"),
        ("a.csv", b"a,b\n1,2\n", "no column for the text among its 2"),
        ("a.csv", "text\n한글".encode("cp949"), "not UTF-8"),
        ("a.txt", b"text", "ends in '.txt'"),
        ("a.json", b"[]", "no diary that this program exported"),
        ("a.json", json.dumps({"program": "feelinghealing diary", "version": 9}).encode(), "has version 9"),
        (
            "a.json",
            json.dumps({"program": "feelinghealing diary", "version": 1, "documents": {"a": "\ud800"}, "entries": []}).encode(),
            "damaged",
        ),
    ],
)
def test_a_file_that_is_no_diary_is_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    diary = diary_in(tmp_path / "home")
    with pytest.raises(Refusal, match=sentence):
        brought_in(diary, tmp_path / name)
    assert diary.count() == 0
    with pytest.raises(Refusal, match="there is no"):
        brought_in(diary, tmp_path / "nowhere.csv")
