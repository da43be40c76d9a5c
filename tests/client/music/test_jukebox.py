"""The jukebox remembers what it made and learned, for many at once, and never more than it says."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest

from client.home import Home
from client.music.jukebox import EVEN, MOST_CATALOGUES, MOST_PLAYLISTS, Jukebox, NoSuchPlaylist, NoSuchSong, only
from client.music.playlist import bundled_songs
from client.music.recommender import Taste
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


def test_a_damaged_document_is_said_and_not_begun_anew(home: Home) -> None:
    home.diary.keep("playlists", "{")
    with pytest.raises(Refusal, match="damaged"):
        again(home)
