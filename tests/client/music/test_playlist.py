"""The bundled songs are sound and balanced; links name the song only; playlists are what their specifications say."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from client.music.catalogue import read_catalogue
from client.music.playlist import Playlist, Song, bundled_songs
from client.music.song import GENRES, TAGS, Tempo, identity, song_key
from model.refusal import Refusal

NASTY = Song(song_key("<&\"'> 밤 #1", "이름, 쉼표"), "<&\"'> 밤 #1", "이름, 쉼표", attribution="a & b", url="https://example.org/?a=1&b=2")
LOCAL = Song(song_key("파일", "나"), "파일", "나", url="file:///home/a/%EB%85%B8%EB%9E%98.mp3", ids={"isrc": "KRA302000001"})


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    with (resources.files("client.music") / "assets" / "songs.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_there_are_at_least_240_songs_and_every_one_has_every_field(rows: list[dict[str, Any]]) -> None:
    assert len(rows) >= 240
    for row in rows:
        assert set(row) - {"year"} == {"title", "artist", "genre", "tempo", "valence", "arousal", "tension", "tags"}, row
        assert row["genre"] in GENRES
        assert row["tempo"] in list(Tempo)
        assert row["tags"]
        assert set(row["tags"]) <= set(TAGS)


def test_no_song_stands_there_twice_not_even_spelled_otherwise() -> None:
    names = Counter(identity(song.title, song.artist) for song in bundled_songs())
    assert [name for name, times in names.items() if times > 1] == []
    assert len({song.key for song in bundled_songs()}) == len(bundled_songs())


def test_moods_lie_in_their_ranges_and_years_are_possible(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert -1 <= row["valence"] <= 1
        assert -1 <= row["arousal"] <= 1
        assert 0 <= row["tension"] <= 1
        assert 1600 <= row.get("year", 2000) <= 2025


def test_every_quadrant_decade_and_genre_has_songs_to_choose_from(rows: list[dict[str, Any]]) -> None:
    quadrants = Counter((row["valence"] >= 0, row["arousal"] >= 0) for row in rows)
    assert len(quadrants) == 4
    assert min(quadrants.values()) >= 40
    decades = Counter(row["year"] // 10 * 10 for row in rows if "year" in row)
    assert all(decades[decade] >= 15 for decade in range(1970, 2030, 10)), decades
    genres = Counter(row["genre"] for row in rows)
    assert all(
        genres[genre] >= 15
        for genre in ("ballad", "dance", "folk", "trot", "indie", "rock", "hip-hop", "r&b", "ost", "classical", "instrumental")
    )


def test_tags_say_the_same_as_the_numbers() -> None:
    """A slip of the pen shows as a song whose tags lie far from its place."""
    far = {}
    for song in bundled_songs():
        places = [TAGS[tag][1:3] for tag in song.tags]
        nearest = min(((song.valence - v) ** 2 + (song.arousal - a) ** 2) ** 0.5 for v, a in places)
        if nearest > 0.85:
            far[song.title] = round(nearest, 2)
    assert far == {}


@pytest.mark.parametrize("song", [NASTY, LOCAL, bundled_songs()[0]])
def test_links_are_search_addresses_that_name_the_song_and_nothing_else(song: Song) -> None:
    links = song.links()
    assert {name: urlsplit(url).hostname for name, url in links.items()} == {
        "youtube_music": "music.youtube.com", "spotify": "open.spotify.com", "melon": "www.melon.com", "apple_music": "music.apple.com",
    }  # fmt: skip
    words = f"{song.title} {song.artist}"
    assert parse_qs(urlsplit(links["youtube_music"]).query) == {"q": [words]}
    assert parse_qs(urlsplit(links["melon"]).query) == {"q": [words]}
    assert parse_qs(urlsplit(links["apple_music"]).query) == {"term": [words]}
    assert unquote(urlsplit(links["spotify"]).path) == f"/search/{words}"
    assert not urlsplit(links["spotify"]).query
    assert not urlsplit(links["spotify"]).fragment


def test_a_row_gives_the_song_back() -> None:
    for song in (NASTY, LOCAL, *bundled_songs()):
        assert Song.from_row(json.loads(json.dumps(song.as_row()))) == song


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"valence": 3.0}, "valence is 3"),
        ({"arousal": float("nan")}, "arousal is nan"),
        ({"tension": -0.1}, "tension is -0.1"),
        ({"title": ""}, "title has 0"),
        ({"artist": "a" * 301}, "artist has 301"),
        ({"title": "a\n#EXTINF:1,b"}, "control characters"),
        ({"artist": "a\x0bb"}, "control characters"),
        ({"attribution": "\ud800"}, "control characters"),
        ({"year": 99999}, "year is 99999"),
        ({"url": "javascript:alert(1)"}, "neither http, https nor file"),
        ({"ids": {"isrc": "x y"}}, "letters, digits and dashes"),
        ({"tags": ("a",) * 13}, "13 tags"),
    ],
)
def test_a_song_that_cannot_be_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refusal, match=re.escape(sentence)):
        replace(NASTY, **change)


@pytest.mark.parametrize(
    "row", [{}, {"title": 1}, {"title": "a", "artist": "b"}, {"title": "a", "artist": "b", "valence": [], "arousal": 0, "tension": 0}]
)
def test_a_stored_song_that_is_damaged_is_one_sentence(row: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="a song cannot be read"):
        Song.from_row(row)


SONGS = (NASTY, LOCAL, *bundled_songs()[:5])


def test_xspf_is_valid_and_says_the_same_when_parsed() -> None:
    document = ElementTree.fromstring(Playlist("오늘 & <내일>", SONGS).as_xspf())  # noqa: S314 -- our own
    space = "{http://xspf.org/ns/0/}"
    assert document.tag == f"{space}playlist"
    assert document.attrib == {"version": "1"}
    assert [child.tag for child in document] == [f"{space}title", f"{space}trackList"]
    assert document.findtext(f"{space}title") == "오늘 & <내일>"
    tracks = document.findall(f"{space}trackList/{space}track")
    assert [(track.findtext(f"{space}title"), track.findtext(f"{space}creator")) for track in tracks] == [
        (s.title, s.artist) for s in SONGS
    ]
    assert tracks[0].findtext(f"{space}info") == NASTY.url
    assert tracks[0].findtext(f"{space}annotation") == "a & b"
    assert tracks[1].findtext(f"{space}location") == LOCAL.url
    assert tracks[1].findtext(f"{space}identifier") == "urn:isrc:KRA302000001"
    allowed = {"location", "identifier", "title", "creator", "annotation", "info"}
    for track in tracks:
        names = [child.tag.removeprefix(space) for child in track]
        assert set(names) <= allowed
        assert max(Counter(names).values()) == 1
        for name in ("location", "identifier", "info"):
            address = track.findtext(f"{space}{name}")
            assert address is None or urlsplit(address).scheme in {"http", "https", "file", "urn"}


def test_jspf_is_json_with_a_title_and_a_list_of_tracks() -> None:
    playlist = json.loads(json.dumps(Playlist("오늘", SONGS).as_jspf()))["playlist"]
    assert playlist["title"] == "오늘"
    assert [(track["title"], track["creator"]) for track in playlist["track"]] == [(song.title, song.artist) for song in SONGS]
    for track in playlist["track"]:
        assert all(isinstance(track.get(name, []), list) for name in ("location", "identifier"))
        assert all(isinstance(track.get(name, ""), str) for name in ("title", "creator", "annotation", "info"))


def test_m3u8_has_a_line_of_information_and_an_address_for_each_song_whatever_it_is_called() -> None:
    lines = Playlist("a\n#EXTINF:1,악의\nhttp://evil", SONGS).as_m3u8().splitlines()
    assert lines[0] == "#EXTM3U"
    assert lines[1] == "#PLAYLIST:a #EXTINF:1,악의 http://evil"
    assert lines[2::2] == [f"#EXTINF:-1,{song.artist} - {song.title}" for song in SONGS]
    assert all(urlsplit(line).scheme in {"https", "file"} for line in lines[3::2])
    assert len(lines) == 2 + 2 * len(SONGS)


@pytest.mark.parametrize("form", ["jspf", "xspf", "m3u8"])
def test_what_was_exported_is_read_back_with_its_songs(form: str, tmp_path: Path) -> None:
    playlist = Playlist("오늘", SONGS)
    text = {"jspf": json.dumps(playlist.as_jspf()), "xspf": playlist.as_xspf(), "m3u8": playlist.as_m3u8()}[form]
    (tmp_path / f"list.{form}").write_text(text, encoding="utf-8")
    read = read_catalogue(tmp_path / f"list.{form}")
    assert [(song.key, song.title, song.artist) for song in read.songs] == [(song.key, song.title, song.artist) for song in SONGS]
    assert [song.valence for song in read.songs[2:]] == [song.valence for song in SONGS[2:]], "moods come from the bundled songs"
    assert read.bad_rows == ()
