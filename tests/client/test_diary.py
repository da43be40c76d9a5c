"""The diary keeps, labels and forgets, durably and for its owner only."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from client.diary import Diary
from model.emotions import Emotion
from model.refusal import Refusal


def test_only_entries_with_a_label_train_and_in_the_order_they_were_written(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary.sqlite3")
    first = diary.add("첫 줄", emotion=Emotion.JOY)
    second = diary.add("이름 없는 마음")
    diary.add("셋째 줄", emotion=Emotion.ANGER)
    assert [(e.text, e.emotion) for e in diary.labelled()] == [("첫 줄", Emotion.JOY), ("셋째 줄", Emotion.ANGER)]
    diary.correct(second, Emotion.SADNESS)
    diary.correct(first, Emotion.ANXIETY)
    assert [e.emotion for e in diary.labelled()] == [Emotion.ANXIETY, Emotion.SADNESS, Emotion.ANGER]


def test_a_forgotten_entry_is_in_no_byte_of_the_folder(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary.sqlite3")
    number = diary.add("지워질비밀문장", emotion=Emotion.SADNESS)
    diary.add("남는 문장", emotion=Emotion.JOY)
    diary.forget(number)
    assert [e.text for e in diary.labelled()] == ["남는 문장"]
    assert not [file for file in tmp_path.iterdir() if "지워질비밀문장".encode() in file.read_bytes()]


def test_numbers_that_do_not_exist_are_refused_by_number(tmp_path: Path) -> None:
    diary = Diary(tmp_path / "diary.sqlite3")
    for act in (lambda: diary.forget(99), lambda: diary.correct(99, Emotion.JOY)):
        with pytest.raises(Refusal, match="no entry 99"):
            act()


def test_only_the_owner_may_read_the_diary(tmp_path: Path) -> None:
    Diary(tmp_path / "diary.sqlite3").add("비밀")
    assert (tmp_path / "diary.sqlite3").stat().st_mode & 0o077 == 0


def test_a_damaged_diary_is_one_sentence_without_its_text(tmp_path: Path) -> None:
    path = tmp_path / "diary.sqlite3"
    diary = Diary(path)
    diary.add("비밀스러운 문장", emotion=Emotion.JOY)
    path.write_bytes(b"not a database" * 100)
    for sidecar in tmp_path.glob("*-wal"):
        sidecar.unlink()
    with pytest.raises(Refusal, match=r"cannot be used .* restore") as refused:
        diary.labelled()
    assert "비밀" not in str(refused.value)


def test_every_acknowledged_entry_survives_kill_9(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from client.diary import Diary
        from model.emotions import Emotion
        diary = Diary(Path(sys.argv[1]))
        while True:
            print(diary.add("적은 말", emotion=Emotion.JOY), flush=True)
    """
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "diary.sqlite3")],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(20)][-1]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert len(Diary(tmp_path / "diary.sqlite3").labelled()) >= acknowledged
