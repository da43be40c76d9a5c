"""A folder of notes: the days of their names, properties of the person's own, and what is passed over and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.diary.notes import read_notes
from model.refusal import Refusal


def vault(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8", newline="")
    return folder


def fields(folder: Path) -> list[dict[str, object]]:
    return [dict(row.fields) for row in read_notes(folder).rows]


def test_what_was_deleted_backed_up_or_is_a_template_is_passed_over_and_counted(tmp_path: Path) -> None:
    kept = {"2024-05-02.md": "남긴 글", "2024-05-03.MD": "대문자", "a/2024-05-04.markdown": "긴 끝", "2024-05-05.txt": "글자만"}
    passed = {
        ".trash/2024-05-01.md": "지운 글", "Trash/2024-05-01.md": "지운 글", "logseq/bak/journals/2024_05_02/1.md": "옛 판",
        "graph/logseq/version-files/local/2024_05_02.md": "옛 판", "templates/daily.md": "{{date}}",
        "99_Templates/x.md": "틀", "템플릿/하루.md": "틀",
        "Template.md": "틀", "하루.md": "{{date:YYYY-MM-DD}} 오늘의 기분:", "양식함/하루.md": "오늘의 기분:", ".obsidian/app.json": "{}",
        ".obsidian/templates.json": json.dumps({"folder": "양식함"}), "사진.png": "", "board.canvas": "{}",
    }  # fmt: skip
    source = read_notes(vault(tmp_path, kept | passed))
    assert sorted(str(row.fields["text"]) for row in source.rows) == sorted(kept.values())
    assert source.passed_over == {"deleted notes": 2, "backups of Logseq": 2, "templates": 6, "hidden files": 2, "other kinds of files": 2}


@pytest.mark.parametrize("property", [
    "reading: true", "feelings: tired", "labels: [diary, home]", "number: 3", "edited: yesterday", "corrections: none", "teaches: maybe",
    "written: 어제", "emotion: 무덤덤", "mood: 4", "day: 언젠가", "date: soon", "text: 짧은 말", "tags:\n  - 여행\n  - 가족", "aliases: []",
    "nested:\n  a: 1", "# nur ein Kommentar", "'quoted key': 1", "time: 26:99",
])  # fmt: skip
def test_a_property_of_the_persons_own_never_costs_the_note_nor_its_day(tmp_path: Path, property: str) -> None:
    [row] = read_notes(vault(tmp_path, {"2024-05-01.md": f"---\n{property}\n---\n책을 읽었다\n"})).rows
    assert (row.fault, row.fields["text"], row.fields["day"]) == ("", "책을 읽었다", "2024-05-01")
    assert "emotion" not in row.fields


@pytest.mark.parametrize(
    ("front", "day"),
    [
        ("date: 20240502", "2024-05-02"), ("date: 2024-05-02", "2024-05-02"), ('date: "[[2024-05-02]]"', "2024-05-02"),
        ("date: [[2024-05-02]]", "2024-05-02"), ("created: 2024-05-02T09:30:00Z", "2024-05-02"), ("date created: 2024-05-02", "2024-05-02"),
        ("날짜: 2024년 5월 2일", "2024-05-02"), ("Date: May 2nd, 2024", "2024-05-02"), ("작성일: 24.05.02", "2024-05-02"),
        ("created: 1714620600000", "2024-05-02"), ("journal-date: 2024-05-02", "2024-05-02"),
    ],
)  # fmt: skip
def test_the_day_of_a_property(tmp_path: Path, front: str, day: str) -> None:
    [found] = fields(vault(tmp_path, {"메모.md": f"---\r\n{front}\r\n---\r\n글"}))
    assert (found["day"], found["text"]) == (day, "글")


def test_the_name_says_the_day_before_when_the_file_was_made(tmp_path: Path) -> None:
    [found] = fields(vault(tmp_path, {"2024-05-01.md": "---\ncreated: 2024-05-09T08:00:00+09:00\n---\n글"}))
    assert found["day"] == "2024-05-01"
    [found] = fields(vault(tmp_path, {"2024-05-01.md": "---\ncreated: 2024-05-01T08:00:00+09:00\n---\n글"}))
    assert (found["day"], found["written"]) == ("2024-05-01", "2024-05-01T08:00:00+09:00")


def test_a_first_line_that_is_a_day_and_the_folders_own_name_say_it_too(tmp_path: Path) -> None:
    [found] = fields(vault(tmp_path / "a", {"무제.md": "# 2024년 5월 1일 수요일\n\n글"}))
    assert (found["day"], found["text"]) == ("2024-05-01", "# 2024년 5월 1일 수요일\n\n글")
    [found] = fields(vault(tmp_path / "2024" / "05", {"01.md": "글"}))
    assert found["day"] == "2024-05-01"
    assert "day" not in fields(vault(tmp_path / "b", {"무제.md": "오늘은 5월이다"}))[0]


def test_titles_stand_above_and_moods_count_by_name_only(tmp_path: Path) -> None:
    files = {
        "1.md": "---\ntitle: 여행\nemotion: 기쁨\n---\n바다에 갔다", "2.md": "---\ntitle: 여행\n---\n# 여행\n바다",
        "3.md": "---\ntitle: 2024-05-01\n---\n바다",
        "4.md": "---\nmood: [joy, 슬픔]\ntags: [바다]\nweather: 맑음\n---\n바다", "5.md": "---\nmood: 😀\n---\n바다",
    }  # fmt: skip
    rows = read_notes(vault(tmp_path, files)).rows
    assert [row.fields["text"] for row in rows] == ["여행\n바다에 갔다", "# 여행\n바다", "바다", "바다", "바다"]
    assert [row.fields.get("emotion") for row in rows] == ["joy", None, None, None, None]
    assert rows[3].fields["feelings"] == ["joy", "sadness"]
    assert rows[3].left == ("tags", "weather")
    assert [row.unplaced for row in rows] == [False, False, False, False, True]


@pytest.mark.parametrize(
    "content", ["---\n오늘은 좋았다\n---\n정말로", "--- \n줄 하나: 둘\n아무 말이나\n---\n끝", "---\n닫지 않은: 것\n글"]
)
def test_what_only_looks_like_front_matter_is_text(tmp_path: Path, content: str) -> None:
    assert fields(vault(tmp_path, {"2024-05-01.md": content}))[0]["text"] == content


@pytest.mark.parametrize("content", ["", "---\ndate: 2024-05-10\n---", "---\ndate: 2024-05-10\n---\n\n", "\ufeff\n"])
def test_a_note_without_a_text_is_named(tmp_path: Path, content: str) -> None:
    rows = read_notes(vault(tmp_path, {"1.md": content, "2024-05-02.md": "글"})).rows
    assert [(row.place, row.fault) for row in rows] == [("file 1 of 2", "no text"), ("file 2 of 2", "")]


def test_a_folder_without_notes_is_refused_with_what_was_passed_over(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"is a note \(deleted notes: 1\); name the folder"):
        read_notes(vault(tmp_path, {".trash/a.md": "글"}))


def test_what_must_not_train_does_not(tmp_path: Path) -> None:
    assert fields(vault(tmp_path, {"2024-05-01.md": "---\nteaches: false\n---\n글"}))[0]["teaches"] is False
