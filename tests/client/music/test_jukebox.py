"""The jukebox remembers what it made and learned, for many at once, and never more than it says."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import pytest

from client.diary.diary import NoEntry
from client.diary.transfer import Form, export_diary, import_diary
from client.home import DevicePolicy, Home
from client.music.jukebox import EVEN, MOST_PLAYLISTS, Jukebox, NoSuchPlaylist, NoSuchSong, only
from client.music.own_songs import MOST_CATALOGUES, OwnSongs
from client.music.playlist import bundled_songs
from client.music.recommender import Taste
from client.status import status_lines, status_of
from client.vault import Passphrase
from model.emotions import Emotion
from model.refusal import Refusal


@pytest.fixture
def jukebox(home: Home) -> Jukebox:
    return again(home)


def again(home: Home) -> Jukebox:
    """The same Home's jukebox after a restart."""
    return Jukebox(home.diary, bundled_songs(), home.root / "songs")


def test_the_last_playlists_are_kept_and_older_ones_are_gone(home: Home, jukebox: Jukebox) -> None:
    made = [jukebox.recommend(only(Emotion.JOY), mode="stay", count=2)[0] for _ in range(MOST_PLAYLISTS + 2)]
    for box in (jukebox, again(home)):
        assert [box.made(id).mood for id in made[2:]] == [(1.0, 0.0, 0.0, 0.0)] * MOST_PLAYLISTS
        with pytest.raises(NoSuchPlaylist):
            box.made(made[1])


def test_feedback_from_many_threads_is_learned_to_the_last(home: Home, jukebox: Jukebox) -> None:
    keys = [song.key for song in bundled_songs()[:8]]
    listeners = [threading.Thread(target=lambda key=key: [jukebox.learn(key, "played", EVEN) for _ in range(5)]) for key in keys]
    for listener in listeners:
        listener.start()
    for listener in listeners:
        listener.join()
    taste = Taste.from_json(home.diary.kept("taste") or "")
    assert taste.events == 40
    assert {key: memory.events for key, memory in taste.songs.items()} == dict.fromkeys(keys, 5)


def test_a_song_that_is_not_here_teaches_nothing(home: Home, jukebox: Jukebox) -> None:
    with pytest.raises(NoSuchSong):
        jukebox.learn("없는 노래", "liked", EVEN)
    assert home.diary.kept("taste") is None


@pytest.mark.parametrize(
    "content",
    [
        "title,artist\n우리끼리의 노래,나\n".encode(),
        "\ufefftitle,artist\n우리끼리의 노래,나\n".encode(),
        '{"playlist": {"track": [{"title": "우리끼리의 노래", "creator": "나"}]}}'.encode(),
        "#EXTM3U\n#EXTINF:1,나 - 우리끼리의 노래\nsong.mp3\n".encode(),
        (
            '<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList><track>'
            "<title>우리끼리의 노래</title><creator>나</creator></track></trackList></playlist>"
        ).encode(),
    ],
    ids=["csv", "csv with a mark", "jspf", "m3u8", "xspf"],
)
def test_a_catalogue_is_known_by_its_first_bytes_and_the_same_one_twice_counts_once(home: Home, jukebox: Jukebox, content: bytes) -> None:
    for _ in range(2):
        assert jukebox.take_in(io.BytesIO(content)) == (1, 0)
    for box in (jukebox, again(home)):
        found, total = box.find("우리끼리의", 10)
        assert (total, found[0].artist) == (1, "나")
    [kept] = (home.root / "songs").iterdir()
    assert kept.stat().st_mode & 0o077 == 0


def test_a_catalogue_that_cannot_be_read_leaves_the_songs_and_the_folder_as_they_were(home: Home, jukebox: Jukebox) -> None:
    before = jukebox.find("", 1)[1]
    with pytest.raises(Refusal):
        jukebox.take_in(io.BytesIO(b"<!DOCTYPE x [<!ENTITY y 'z'>]><playlist/>"))
    assert jukebox.find("", 1)[1] == before
    assert list((home.root / "songs").iterdir()) == []


def test_there_are_only_so_many_catalogues(home: Home, jukebox: Jukebox) -> None:
    folder = home.root / "songs"
    folder.mkdir()
    for number in range(MOST_CATALOGUES):
        Path(folder / f"own-{number}.csv").write_text("title,artist\na,b\n")
    with pytest.raises(Refusal, match="remove one"):
        again(home).take_in(io.BytesIO(b"title,artist\nc,d\n"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"title,artist\n"], ids=["empty", "no text", "no song"])
def test_a_broken_catalogue_is_told_of_and_everything_else_goes_on(home: Home, content: bytes) -> None:
    home.songs.mkdir()
    (home.songs / "own-0000.csv").write_bytes(content)
    (home.songs / "own-1111.csv").write_text("title,artist\n우리끼리의 노래,나\n")
    box = again(home)
    assert box.find("우리끼리의", 1)[1] == 1
    assert box.recommend(EVEN, mode="stay", count=3)[1]
    [fault] = box.faults
    assert fault.startswith("your catalogue 'own-0000.csv' is left out")
    assert fault in status_lines(status_of(home))[-2]
    (home.songs / "own-0000.csv").unlink()
    box.find("", 1)
    assert box.faults == ()


@pytest.mark.parametrize("name", ["taste", "playlists"])
@pytest.mark.parametrize("document", ["{", "[7]", '[{"id": 1}]', "[" * 100_000], ids=["cut", "other", "half", "deep"])
def test_a_damaged_document_is_set_aside_told_of_and_begun_anew(home: Home, name: str, document: str) -> None:
    for number in (1, 2):
        home.diary.revise(name, lambda _: document)
        box = again(home)
        id, [one] = box.recommend(EVEN, mode="stay", count=1)
        box.learn(one.song.key, "liked", box.made(id).mood)
        assert home.diary.documents()[f"{name}-damaged-{number}"] == document
        assert len(box.faults) == number
        assert f"`{name}` could not be read" in box.faults[-1]
    assert again(home).faults == box.faults


def test_a_document_that_is_damaged_under_way_is_set_aside_too(home: Home, jukebox: Jukebox) -> None:
    home.diary.revise("taste", lambda _: "{")
    jukebox.learn(bundled_songs()[0].key, "liked", EVEN)
    assert Taste.from_json(home.diary.kept("taste") or "").events == 1
    assert home.diary.kept("taste-damaged-1") == "{"


class Slow(io.RawIOBase):
    """A file of which the second piece comes only when it is let."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.asked, self.go_on = threading.Event(), threading.Event()

    def read(self, size: int = -1) -> bytes:
        if len(self.pieces) == 1:
            self.asked.set()
            assert self.go_on.wait(30)
        return self.pieces.pop(0) if self.pieces else b""


def test_a_slow_upload_keeps_nobody_waiting_and_two_do_not_meet(home: Home, jukebox: Jukebox) -> None:
    files = [Slow(b"title,artist\n", f"우리끼리의 노래 {number},나\n".encode()) for number in (1, 2)]
    threads = [threading.Thread(target=jukebox.take_in, args=(file,)) for file in files]
    for thread, file in zip(threads, files, strict=True):
        thread.start()
        assert file.asked.wait(30)
    others = threading.Thread(target=lambda: jukebox.learn(jukebox.recommend(EVEN, mode="stay", count=1)[1][0].song.key, "liked", EVEN))
    others.start()
    others.join(30)
    assert not others.is_alive()
    for thread, file in zip(threads, files, strict=True):
        file.go_on.set()
        thread.join(30)
    assert jukebox.find("우리끼리의", 10)[1] == 2


def test_a_catalogue_has_its_name_only_when_it_is_on_the_disk(home: Home, jukebox: Jukebox, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(Path, "replace", lambda path, target: (done.append("rename"), replace(path, target))[1])
    jukebox.take_in(io.BytesIO(b"title,artist\na,b\n"))
    assert done == ["fsync", "rename", "fsync"]


def test_what_a_killed_upload_left_is_swept_away(home: Home) -> None:
    left = home.songs / ".arriving-x"
    left.mkdir(parents=True)
    (left / "import.csv").write_text("title,")
    again(home)
    assert list(home.songs.iterdir()) == []


def test_a_persons_own_song_wins_over_the_bundled_one_and_keeps_what_is_known_of_it(home: Home, jukebox: Jukebox) -> None:
    bundled = next(song for song in bundled_songs() if song.tags and song.genre and "," not in song.title + song.artist)
    content = f"title,artist,url\n{bundled.title},{bundled.artist},file:///music/mine.mp3\n"
    assert jukebox.take_in(io.BytesIO(content.encode())) == (1, 0)
    for box in (jukebox, again(home)):
        [song] = [song for song in box.find(bundled.title, 200)[0] if song.key == bundled.key]
        assert (song.url, song.tags, song.genre) == ("file:///music/mine.mp3", bundled.tags, bundled.genre)
        assert box.find("", 1)[1] == len(bundled_songs())


def test_what_another_process_brings_is_seen_and_nothing_of_it_lost(home: Home, jukebox: Jukebox) -> None:
    """As `healing client import` does beside a server."""
    other = Home.create(home.root.parent / "other", DevicePolicy())
    box = again(other)
    box.take_in(io.BytesIO("title,artist\n우리끼리의 노래,나\n".encode()))
    id, _ = box.recommend(only(Emotion.JOY), mode="stay", count=1)
    box.learn(box.find("우리끼리의", 1)[0][0].key, "liked", EVEN)
    export_diary(other.diary, home.root.parent / "diary.json", Form.JSON, passphrase=no_words, songs=OwnSongs(other.songs))
    told = import_diary(home.diary, home.root.parent / "diary.json", passphrase=no_words, songs=OwnSongs(home.songs))
    assert told.account().endswith("catalogues of songs: 1")
    assert jukebox.made(id).mood == only(Emotion.JOY)
    jukebox.learn(jukebox.find("우리끼리의", 1)[0][0].key, "played", EVEN)
    taste = Taste.from_json(home.diary.kept("taste") or "")
    assert (taste.events, list(taste.likes)) == (2, [jukebox.find("우리끼리의", 1)[0][0].key])


# forgetting

MOOD = (0.123456789, 0.223456789, 0.323456789, 0.329629633)


def kept_mood(home: Home) -> bool:
    """Whether any document still knows the mood, in whatever digits."""
    return any("0.123456" in document for document in home.diary.documents().values())


def test_a_forgotten_entry_takes_the_mood_of_its_playlists_along_and_leaves_the_songs(home: Home, jukebox: Jukebox) -> None:
    number, other = home.diary.add("하나"), home.diary.add("둘")
    ids = [jukebox.recommend(mood, mode="stay", count=2, entry=of)[0] for mood, of in ((MOOD, number), (only(Emotion.JOY), other))]
    songs = jukebox.made(ids[0]).songs
    assert kept_mood(home)
    home.diary.forget(number)
    assert not kept_mood(home)
    for box in (jukebox, again(home)):
        assert (box.made(ids[0]).mood, box.made(ids[0]).songs) == (EVEN, songs)
        assert box.made(ids[1]).mood == only(Emotion.JOY)


def test_playlists_of_an_earlier_version_and_damaged_ones_lose_their_moods_too(home: Home) -> None:
    number, other = home.diary.add("하나"), home.diary.add("둘")
    old = json.dumps([{"id": "old", "mode": "stay", "mood": MOOD, "songs": ["a"]}])
    home.diary.revise("playlists", lambda _: old)
    home.diary.revise("playlists-damaged-1", lambda _: old[:-1])
    home.diary.forget(number)
    assert not kept_mood(home)
    assert again(home).made("old").songs == ("a",)
    home.diary.revise("playlists", lambda _: old[:-1])
    home.diary.forget(other)
    assert not kept_mood(home)


def test_a_playlist_that_is_made_while_its_entry_is_forgotten_keeps_no_mood(home: Home, jukebox: Jukebox) -> None:
    number = home.diary.add("하나")
    home.diary.forget(number)  # after the route has read the entry
    with pytest.raises(NoEntry):
        jukebox.recommend(MOOD, mode="stay", count=1, entry=number)
    assert not kept_mood(home)


def test_a_playlist_of_another_diarys_entry_comes_without_its_mood_where_numbers_differ(home: Home, tmp_path: Path) -> None:
    other = Home.create(tmp_path / "other", DevicePolicy())
    again(other).recommend(MOOD, mode="stay", count=1, entry=other.diary.add("하나"))
    export_diary(other.diary, tmp_path / "diary.json", Form.JSON, passphrase=no_words)
    home.diary.add("다른 글이 1번이다")
    import_diary(home.diary, tmp_path / "diary.json", passphrase=no_words)
    assert home.diary.kept("playlists") is not None
    assert not kept_mood(home)


def no_words() -> Passphrase:
    raise AssertionError("asked for a passphrase")
