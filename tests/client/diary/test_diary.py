"""The diary keeps, finds, labels, corrects and forgets, durably."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from client.diary.diary import Diary, Entry, NoCorrection, Query, Record
from client.home import DevicePolicy, Home
from client.reading.reading import Reading
from model.emotions import Emotion
from model.refusal import Refusal

ROOT = Path(__file__).resolve().parents[3]
READING = Reading(probabilities=(0.7, 0.1, 0.1, 0.1), version=3, digest="ab" * 32)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Home.create(tmp_path / "home", DevicePolicy()).diary


def numbers(diary: Diary, query: Query | None = None) -> list[int]:
    return [entry.number for entry in diary.entries(query or Query()).entries]


def test_only_entries_with_a_label_train_and_oldest_first(diary: Diary) -> None:
    first = diary.add("첫 줄", emotion=Emotion.JOY)
    second = diary.add("이름 없는 마음")
    diary.add("셋째 줄", emotion=Emotion.ANGER)
    assert [(e.text, e.emotion) for e in diary.labelled()] == [("첫 줄", Emotion.JOY), ("셋째 줄", Emotion.ANGER)]
    diary.correct(second, Emotion.SADNESS)
    diary.correct(first, Emotion.ANXIETY)
    assert [e.emotion for e in diary.labelled()] == [Emotion.ANXIETY, Emotion.SADNESS, Emotion.ANGER]
    diary.rewrite(second, teaches=False)
    diary.add("어릴 적 이야기", emotion=Emotion.JOY, day=date(1999, 5, 1))
    diary.add("비밀", emotion=Emotion.JOY, teaches=False)
    assert [e.text for e in diary.labelled()] == ["어릴 적 이야기", "첫 줄", "셋째 줄"]


def test_an_entry_comes_back_as_it_was_kept(diary: Diary) -> None:
    text = '줄\n바꿈, "따옴표" 와 이모지 👩‍👩‍👧 \x01 끝 ' + unicodedata.normalize("NFD", "한글")
    number = diary.add(
        text, emotion=Emotion.ANGER, day=date(2024, 2, 29), reading=READING, feelings=[Emotion.ANXIETY, Emotion.JOY], teaches=False
    )
    entry = diary.entry(number)
    assert (entry.text, entry.emotion, entry.day, entry.reading) == (text, Emotion.ANGER, date(2024, 2, 29), READING)
    assert (set(entry.feelings), entry.teaches, entry.edited) == ({Emotion.JOY, Emotion.ANXIETY}, False, None)
    assert entry.written.tzinfo is not None
    assert "줄" not in repr(entry)
    assert "줄" not in repr(Record(entry))
    assert diary.entry(diary.add("오늘")).day == date.today()


def test_a_changed_text_loses_its_reading_and_nothing_else(diary: Diary) -> None:
    number = diary.add("처음", emotion=Emotion.JOY, reading=READING, feelings=[Emotion.SADNESS])
    before = diary.entry(number)
    moved = diary.rewrite(number, day=before.day - timedelta(days=3), feelings=[], text="처음")
    assert (moved.reading, moved.edited, moved.feelings, moved.day) == (READING, None, (), before.day - timedelta(days=3))
    changed = diary.rewrite(number, text="나중")
    assert (changed.text, changed.reading, changed.emotion, changed.written) == ("나중", None, Emotion.JOY, before.written)
    assert changed.edited is not None
    assert changed.edited > changed.written
    assert diary.keep_reading(number, "나중", READING)
    assert diary.entry(number).reading == READING


def test_a_reading_is_kept_on_the_text_that_was_read_and_on_no_other(diary: Diary) -> None:
    number = diary.add("처음")
    diary.rewrite(number, text="나중")
    assert not diary.keep_reading(number, "처음", READING)
    assert diary.entry(number).reading is None
    divided = replace(READING, divided=True)
    assert diary.keep_reading(number, "나중", divided)
    assert diary.entry(number).reading == divided
    assert diary.rewrite(number, text="끝").reading is None
    assert diary.keep_reading(number, "끝", READING)
    assert diary.entry(number).reading == READING


def test_unread_entries_come_newest_day_first(diary: Diary) -> None:
    days = [date(2026, 1, 1) + timedelta(days=n) for n in (5, 1, 9, 5)]
    for day in days:
        diary.add("하루", day=day)
    diary.add("읽은 글", reading=READING)
    assert [entry.number for entry in diary.unread(3)] == [3, 4, 1]
    assert diary.keep_reading(3, "하루", READING)
    assert [entry.number for entry in diary.unread(9)] == [4, 1, 2]


def test_the_stamp_tells_of_every_change_and_of_nothing_else(diary: Diary) -> None:
    seen = [diary.stamp()]
    acts: list[Callable[[], object]] = [
        lambda: diary.add("하나"), lambda: diary.rewrite(1, text="둘"), lambda: diary.correct(1, Emotion.JOY), lambda: diary.forget(1),
    ]  # fmt: skip
    for act in acts:
        assert diary.entries().total == diary.count()
        assert diary.stamp() == seen[-1]
        act()
        assert diary.stamp() not in seen
        seen.append(diary.stamp())


def test_undo_restores_what_stood_before_each_correction(diary: Diary) -> None:
    number = diary.add("마음", reading=READING)
    for emotion in (Emotion.JOY, Emotion.JOY, Emotion.SADNESS, Emotion.ANGER):
        diary.correct(number, emotion)
    assert [diary.undo(number).emotion for _ in range(3)] == [Emotion.SADNESS, Emotion.JOY, None]
    assert diary.labelled() == []
    with pytest.raises(Refusal, match="no correction that could be taken back"):
        diary.undo(number)


def test_an_emotion_that_came_with_the_entry_or_an_import_can_be_taken_back_too(diary: Diary, tmp_path: Path) -> None:
    number = diary.add("마음", emotion=Emotion.JOY)
    other = Home.create(tmp_path / "other", DevicePolicy()).diary
    other.restore(list(diary.records()))
    diary.correct(number, Emotion.ANGER)
    assert [diary.undo(number).emotion for _ in range(2)] == [Emotion.JOY, None]
    assert other.undo(number).emotion is None
    for one in (diary, other):
        assert one.labelled() == []
        with pytest.raises(NoCorrection):
            one.undo(number)
    other.correct(number, Emotion.SADNESS)
    assert other.undo(number).emotion is None


def test_numbers_that_do_not_exist_are_refused_by_number(diary: Diary) -> None:
    acts: list[Callable[[int], object]] = [
        diary.forget, diary.entry, diary.undo, lambda number: diary.correct(number, Emotion.JOY),
        lambda number: diary.keep_reading(number, "글", READING), lambda number: diary.rewrite(number, text="새 글"),
    ]  # fmt: skip
    for act in acts:
        for number in (99, 0, -1, 2**70):
            with pytest.raises(Refusal, match=f"no entry {number}"):
                act(number)


def test_a_number_is_never_given_twice(diary: Diary) -> None:
    diary.add("하나")
    diary.forget(diary.add("둘"))
    assert diary.add("셋") == 3


def test_forgetting_removes_all_that_was_computed_even_while_a_round_removes_its_own(
    diary: Diary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "home" / "cache"
    cache.mkdir(exist_ok=True)
    for name in ("rounding-1.sealed", "trunk-1.sealed", "trunk-2.sealed", "label-counts-1.json"):
        (cache / name).write_bytes(b"x")
    glob = Path.glob

    def and_gone(folder: Path, pattern: str) -> list[Path]:
        found = list(glob(folder, pattern))
        (cache / "trunk-1.sealed").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "glob", and_gone)
    kept = diary.add("남는 글")
    diary.forget(diary.add("지울 글이다"))
    assert [path.name for path in cache.iterdir()] == ["label-counts-1.json"]
    assert diary.entry(kept).text == "남는 글"


def test_text_that_is_empty_or_half_a_letter_is_refused_without_being_quoted(diary: Diary) -> None:
    for text in ("", "  \n\t　"):
        with pytest.raises(Refusal, match="empty"):
            diary.add(text)
    with pytest.raises(Refusal, match="character 3 ") as refused:
        diary.add("비밀\ud800")
    assert "비밀" not in str(refused.value)
    assert refused.value.__suppress_context__
    assert diary.count() == 0


# searching


def test_entries_come_newest_day_first_in_pages(diary: Diary) -> None:
    days = [date(2026, 1, 1) + timedelta(days=n) for n in (5, 1, 5, 9, 0)]
    for day in days:
        diary.add("하루", day=day)
    expected = [number for _, number in sorted(zip(days, range(1, 6), strict=True), reverse=True)]
    assert numbers(diary) == expected
    pages = [diary.entries(Query(limit=2, offset=offset)) for offset in (0, 2, 4, 6)]
    assert [entry.number for page in pages for entry in page.entries] == expected
    assert [page.total for page in pages] == [5, 5, 5, 5]
    assert numbers(diary, Query(since=date(2026, 1, 2), until=date(2026, 1, 6))) == [3, 1, 2]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"offset": -1}):
        with pytest.raises(Refusal):
            Query(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("커피", [1, 2]),
        (unicodedata.normalize("NFD", "커피"), [1, 2]),
        ("CAFÉ", [3]),
        ("100%", [4]),
        ("%", [4]),
        ("_", [5]),
        ("\\", [6]),
        ("'", [7]),
        ("ㅋ", [8]),
        ("커", [1, 2]),
        ("없는 말", []),
    ],
)
def test_search_finds_korean_in_either_form_and_takes_every_sign_literally(diary: Diary, wanted: str, found: list[int]) -> None:
    for text in ("커피를 마셨다", unicodedata.normalize("NFD", "진한 커피"), "in the Café", "100% 맞다", "a_b", "c\\d", "it's", "ㅋㅋ"):
        diary.add(text)
    assert sorted(numbers(diary, Query(text=wanted))) == found


def test_search_by_emotion_takes_the_persons_word_before_the_models(diary: Diary) -> None:
    read_only = diary.add("가", reading=READING)
    corrected = diary.add("나", reading=READING, emotion=Emotion.SADNESS)
    diary.add("다")
    assert numbers(diary, Query(emotion=Emotion.JOY)) == [read_only]
    assert numbers(diary, Query(emotion=Emotion.SADNESS)) == [corrected]


def test_documents_are_kept_by_name(diary: Diary) -> None:
    assert diary.kept("taste") is None
    diary.revise("taste", lambda _: '{"a": 1}')
    diary.revise("taste", lambda _: '{"a": "나"}')
    diary.revise("other", lambda _: "[]")
    assert (diary.kept("taste"), diary.kept("other")) == ('{"a": "나"}', "[]")


# moving


def test_records_restored_elsewhere_are_the_same_with_their_history(diary: Diary, tmp_path: Path) -> None:
    diary.add("지울 글")
    number = diary.add("남길 글", reading=READING, feelings=[Emotion.JOY])
    diary.correct(number, Emotion.ANGER)
    diary.forget(1)
    other = Home.create(tmp_path / "other", DevicePolicy()).diary
    assert other.restore(list(diary.records())) == [number]
    assert list(other.records()) == list(diary.records())
    assert other.undo(number).emotion is None


def test_what_is_here_already_is_not_kept_again_and_what_occurs_twice_is(diary: Diary) -> None:
    day = date(2026, 3, 1)
    for _ in range(2):
        diary.add("같은 글", day=day)
    diary.add("같은 글", day=day + timedelta(days=1))
    records = list(diary.records())
    assert diary.restore(records) == []
    assert len(diary.restore([*records, *records])) == 3
    assert diary.count() == 6


# damage


def test_every_acknowledged_entry_survives_kill_9(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from client.home import Home
        diary = Home(Path(sys.argv[1])).diary
        while True:
            print(diary.add("적은 말"), flush=True)
    """
    home = Home.create(tmp_path / "home", DevicePolicy())
    acknowledged = 0
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(home.root)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline()) for _ in range(10)]
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        seen += [int(line) for line in writer.stdout.read().split()]
        writer.stdout.close()
        assert seen[0] > acknowledged
        acknowledged = seen[-1]
        assert set(range(1, acknowledged + 1)) <= set(numbers(home.diary, Query(limit=1000)))


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from client.home import Home
        from model.emotions import Emotion
        name, diary = sys.argv[2], Home(Path(sys.argv[1])).diary
        for number in range(25):
            diary.correct(diary.add(f"{name} {number}"), Emotion.JOY)
            diary.labelled()
            if number % 8 == 0:
                diary.forget(diary.add(f"{name} forgotten"))
    """
    home = Home.create(tmp_path / "home", DevicePolicy())
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(home.root), name], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for name in ("a", "b", "c", "d")
    ]  # fmt: skip
    for writer in writers:
        _, told = writer.communicate(timeout=120)
        assert (writer.returncode, told) == (0, "")
    assert sorted(e.text for e in home.diary.labelled()) == sorted(f"{name} {number}" for name in "abcd" for number in range(25))


def test_threads_share_a_diary(diary: Diary) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(lambda number: diary.add(f"글 {number}"), range(64)))
    assert sorted(given) == sorted(numbers(diary, Query(limit=1000)))
    assert len(set(given)) == 64


def write_until_refused(home: Home, before: str = "") -> tuple[list[int], str]:
    """The numbers of the entries that a process was told are kept, and its last words."""
    code = f"""
import sys
from pathlib import Path
from client.home import Home
from model.refusal import Refusal
diary = Home(Path(sys.argv[1])).diary
{before}
try:
    while True:
        print(diary.add("비밀 " * 500), flush=True)
except Refusal as refusal:
    print(refusal, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code, str(home.root)], capture_output=True, text=True, cwd=ROOT, check=True)
    return [int(line) for line in done.stdout.splitlines()], done.stderr


def test_a_file_that_may_not_grow_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    limit = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
"""
    home = Home.create(tmp_path / "home", DevicePolicy())
    kept, told = write_until_refused(home, limit)
    assert "met a disk that is full or faulty" in told
    assert "비밀" not in told
    assert len(told.splitlines()) == 1
    assert sorted(numbers(home.diary, Query(limit=1000))) == kept
    assert home.diary.add("다시") > 0


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    """A real one, two MB large; only root may mount it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        home = Home.create(disk / "home", DevicePolicy())
        kept, told = write_until_refused(home)
        assert "found no room on the disk" in told
        assert len(told.splitlines()) == 1
        assert sorted(numbers(home.diary, Query(limit=1000))) == kept
        assert len(kept) > 10
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_entry_shown_in_an_error_shows_no_text(diary: Diary) -> None:
    entry: Entry = diary.entry(diary.add("비밀"))
    with pytest.raises(TypeError) as error:
        raise TypeError(entry, Query(text="비밀"))
    assert "비밀" not in str(error.value)
