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
from client.diary.transfer import Form, export_diary, import_diary, look_into
from client.music.own_songs import OwnSongs
from client.reading.reading import Reading
from client.vault import DataKey, Passphrase, WrongKey
from model.emotions import EMOTIONS, Emotion
from model.normalization import normalized
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

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=60).filter(normalized)
awkward = st.sampled_from([
    "=1+1", "+82 10", "-", "@cmd", "\t탭", "'따옴표", '"', '""', "a,b;c", "줄\n바꿈\r\n과\r끝\n", "---\nnumber: 7\n---\n본문", "\ufeff머리",
    "글\u2028\x85\x1c", unicodedata.normalize("NFD", "한글은 두 가지로 쓴다"), "👩‍👩‍👧 🏳️‍🌈", "  앞뒤 공백  ", "<b>굵게</b> &amp;",
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
        ("a.csv", "text,emotion\n한 줄,무덤덤\n\n,기쁨\n둘,셋,넷\n괜찮다,분노\n", 2, ["line 4", "line 5"]),
        ("a.csv", 'text\n"닫지 않은\n따옴표\n', 1, ["line 2"]),
        ("a.jsonl", '{"text": "맑음", "date": "2024-05-01"}\n\n[1]\n{"text": 3}\nnot json\n{"content": "흐림"}', 2,
         ["line 3", "line 4", "line 5"]),
        ("a.jsonl", '{"text": "반쪽 \\ud800"}\n{"text": "a", "reading": {"version": 1}}\n{"text": "b", "written": "어제"}', 1,
         ["line 1", "line 3"]),
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
    (folder / "c.md").write_bytes(b"\xff\x00\x80")
    (folder / "d.md").write_text("", encoding="utf-8")
    (folder / "e.md").write_text("날짜 없는 글", encoding="utf-8")
    diary = diary_in(tmp_path / "home")
    assert brought_in(diary, folder) == (4, 0, [("file 4 of 6", "not UTF-8"), ("file 5 of 6", "no text")])
    assert shown(diary) == [
        ("2024-05-01", "# 산책\n\n좋았다", None),
        ("2024-05-02", "흐림", None),
        ("2024-05-03", "제목\n울었다", Emotion.SADNESS),
        (TODAY.isoformat(), "날짜 없는 글", None),
    ]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", "no column for the text"),
        ("a.csv", b"a,b\n1,2\n", "no column for the text among its 2"),
        ("a.csv", "text\n한글".encode()[:-1], "not UTF-8"),
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


# what a table says of itself

WRITINGS = ("오늘은 정말 행복했다\n내일도 그럴까", "둘째 글", "셋째 글")


def written(folder: Path, name: str, content: str | bytes) -> Path:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(
    ("name", "content", "days"),
    [
        ("a.csv", "내용,작성일\n글,2024-05-06\n", ["2024-05-06"]),
        ("a.csv", "내용,작성일시\n글,2024-05-07 오후 9:30\n", ["2024-05-07"]),
        ("a.csv", "Content,Created Time\n글,2024-05-10\n", ["2024-05-10"]),
        ("a.csv", "text,만든 날\n글,2024. 5. 10.\n", ["2024-05-10"]),
        ("a.csv", "text,처음 보는 이름\n글,\"May 10, 2024\"\n둘,\"May 11, 2024\"\n", ["2024-05-10", "2024-05-11"]),
        ("a.csv", "text,date\n글,13/5/2024\n둘,5/6/2024\n", ["2024-05-13", "2024-06-05"]),
        ("a.csv", "text,date\n글,5/13/2024\n둘,5/6/2024\n", ["2024-05-13", "2024-05-06"]),
        ("a.csv", "text,updated_at,created_at\n글,2024-06-01,2024-05-10\n", ["2024-05-10"]),
        ("a.csv", "text,date,created\n글,2024-05-10,2024-06-01\n둘,,2024-05-11\n", ["2024-05-10", "2024-05-11"]),
        ("a.csv", "sep=;\r\n일기;날짜\r\n글, 그리고;24.05.10\r\n", ["2024-05-10"]),
        ("a.csv", "일기\t날짜\n글\t2024-05-10\n".encode("utf-16"), ["2024-05-10"]),
        ("a.csv", "오늘의 일기,날짜\n정말 좋은 하루였다,2024-05-10\n".encode("cp949"), ["2024-05-10"]),
        ("a.jsonl", '{"text":"하나","created":1714999999000}\n{"content":"둘","created_at":"2024-05-07T09:00:00+09:00"}\n'
                    '{"text":"셋","작성일":"2024-05-08"}\n{"text":"넷","언제":"2024-05-09"}',
         [f"2024-05-0{day}" for day in (6, 7, 8, 9)]),
    ],
)  # fmt: skip
def test_the_day_of_a_column_is_found_by_its_name_or_by_what_stands_in_it(
    tmp_path: Path, name: str, content: str | bytes, days: list[str]
) -> None:
    diary, path = diary_in(tmp_path / "home"), written(tmp_path, name, content)
    done = import_diary(diary, path, passphrase=never, today=TODAY)
    assert (done.added, done.bad, done.undated) == (len(days), (), ())
    assert [day for day, _, _ in shown(diary)] == days
    again = import_diary(diary, path, passphrase=never, today=TODAY + timedelta(days=1))
    assert (again.added, again.known) == (0, len(days))


@pytest.mark.parametrize(
    "content", ["text\n하나\n둘\n하나\n", "text,begin,end\n하나,2024-05-01,2024-05-02\n둘,2024-05-01,2024-05-02\n하나,,\n"]
)
def test_an_entry_without_a_day_is_said_and_not_kept_again_on_another_day(tmp_path: Path, content: str) -> None:
    diary, path = diary_in(tmp_path / "home"), written(tmp_path, "a.csv", content)
    done = import_diary(diary, path, passphrase=never, today=TODAY)
    assert (done.added, done.undated) == (3, ("line 2", "line 3", "line 4"))
    assert "without a day, filed under the day of the import: 3 (line 2; line 3; line 4)" in done.account()
    for later in range(3):
        assert import_diary(diary, path, passphrase=never, today=TODAY + timedelta(days=later)).known == 3
    assert diary.count() == 3


def test_a_day_that_can_be_read_in_two_ways_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "text,date\n하나,5/6/2024\n둘,6/5/2024\n")
    bad = "a day that can be read in two ways; write it as 2024-05-01"
    assert brought_in(diary_in(tmp_path / "home"), path) == (0, 0, [("line 2", bad), ("line 3", bad)])


@given(
    texts=st.lists(st.sampled_from(WRITINGS), max_size=6),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    form=st.sampled_from(["NFC", "NFD"]),
    around=st.sampled_from(["", " ", "\n", "\r\n\t"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_text_however_a_system_writes_it_is_one_entry(
    tmp_path: Path, texts: list[str], ending: str, form: str, around: str
) -> None:
    """Line ends, composed or not, space around: as often as it stands in a file it is kept, and never again from another."""
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    diary, other = diary_in(folder / "home"), [unicodedata.normalize(form, text.replace("\n", ending)) + around for text in texts]  # type: ignore[arg-type]
    for number, lot in enumerate((texts, other, texts)):
        lines = "".join(json.dumps({"text": text, "date": "2024-05-01"}) + "\n" for text in lot)
        done = import_diary(diary, written(folder, f"{number}.jsonl", lines), passphrase=never, today=TODAY)
        assert (done.added, done.known) == ((len(texts), 0) if number == 0 else (0, len(texts)))
    assert [text for _, text, _ in shown(diary)] == texts


def test_an_entry_that_moved_to_another_day_is_known_by_its_time(tmp_path: Path) -> None:
    diary, path = diary_in(tmp_path / "home"), written(tmp_path, "a.jsonl", '{"text": "글", "created": "2024-05-01T23:30:00+09:00"}')
    brought_in(diary, path)
    diary.rewrite(1, day=date(2024, 5, 2))
    assert brought_in(diary, path) == (0, 1, [])


def test_titles_stand_above_the_text_and_what_is_not_kept_is_said(tmp_path: Path) -> None:
    rows = "2024-05-01,첫날,짐을 풀었다,4,여행,맑음,x\n2024-05-02,,둘째,기쁨,,,\n2024-05-03,셋째,셋째,슬픔,,,\n"
    content = f"Date,Title,Content,Mood,Tags,날씨,etc\n{rows}"
    diary = diary_in(tmp_path / "home")
    done = import_diary(diary, written(tmp_path, "a.csv", content), passphrase=never, today=TODAY)
    assert [(text, emotion) for _, text, emotion in shown(diary)] == [
        ("첫날\n짐을 풀었다", None), ("둘째", Emotion.JOY), ("셋째", Emotion.SADNESS),
    ]  # fmt: skip
    assert done.unplaced == ("line 2",)
    assert done.left == {"tags": 1, "weather": 1, "other fields": 1}
    for said in ("mood is none of the four: 1 (line 2)", "left out: tags of 1, weather of 1, other fields of 1", "title in column 2"):
        assert said in done.account()
    assert not any(word in done.account() for word in ("여행", "맑음", "첫날", "날씨", "etc"))


def test_a_mood_that_is_none_of_the_four_costs_the_label_and_not_the_entry(tmp_path: Path) -> None:
    names = {"기쁨": Emotion.JOY, unicodedata.normalize("NFD", "불안"): Emotion.ANXIETY, "행복": None, "5": None, "😀": None, "": None}
    lines = "".join(f"글 {number},{name},2024-05-01\n" for number, name in enumerate(names))
    diary = diary_in(tmp_path / "home")
    done = import_diary(diary, written(tmp_path, "a.csv", f"내용,감정,날짜\n{lines}"), passphrase=never, today=TODAY)
    assert [emotion for _, _, emotion in shown(diary)] == list(names.values())
    assert done.unplaced == ("line 4", "line 5", "line 6")


@pytest.mark.parametrize(
    ("text", "reason"),
    [("가" * 10_001, "10001 characters, and an entry may have 10000; split it"), ("널\x00자", "a NUL character in the text; remove it"),
     ("\u200b", "no text"), ("\u3164", "no text")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "notes", "a.json"])
def test_an_import_has_the_limits_of_every_way_in(tmp_path: Path, name: str, text: str, reason: str) -> None:
    if name == "notes":
        (tmp_path / name).mkdir()
        written(tmp_path / name, "2024-05-01.md", text)
    elif name == "a.csv":
        written(tmp_path, name, f'text,day\n"{text}",2024-05-01\n')
    elif name == "a.jsonl":
        written(tmp_path, name, json.dumps({"text": text}))
    else:
        document = {"program": "feelinghealing diary", "version": 1, "documents": {}, "entries": [{"text": text, "day": "2024-05-01"}]}
        written(tmp_path, name, json.dumps(document))
    done = import_diary(diary_in(tmp_path / "home"), tmp_path / name, passphrase=never)
    assert (done.added, done.is_empty, [why for _, why in done.bad]) == (0, True, [reason])
    if name == "a.csv" and reason != "no text":
        with pytest.raises(Refusal):
            diary_in(tmp_path / "other").add(text)
    assert import_diary(diary_in(tmp_path / "third"), written(tmp_path, "b.csv", f"text\n{'가' * 10_000}\n"), passphrase=never).added == 1


def test_looking_into_a_file_keeps_nothing(tmp_path: Path) -> None:
    diary, path = diary_in(tmp_path / "home"), written(tmp_path, "a.csv", "text,day\n하나,2024-05-01\n둘,언젠가\n")
    found = look_into(path, passphrase=never, today=TODAY)
    assert (found.account.added, len(found.account.bad), diary.count()) == (1, 1, 0)
    assert found.kept_in(diary, None).added == 1
    assert (found.kept_in(diary, None).known, diary.count()) == (1, 1)
