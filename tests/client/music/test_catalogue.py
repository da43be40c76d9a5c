"""A person's own catalogue is read from every format, bad rows are listed by number, and hostile files are one sentence."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import pytest

from client.music.catalogue import LONGEST_FILE, read_catalogue
from client.music.playlist import read_songs
from client.music.song import Tempo
from model.refusal import Refusal


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_csv_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path, "mine.csv", "\ufeff가수,제목,장르,연도,BPM,분위기\n누구,노래,발라드,2001-05-03,128,따뜻한|bouncy|처음 보는 말\n"
    )
    (song,) = read_songs(path)
    assert (song.title, song.artist, song.genre, song.year, song.tempo) == ("노래", "누구", "ballad", 2001, Tempo.FAST)
    assert song.tags == ("warm", "playful", "처음 보는 말")
    assert song.valence == pytest.approx(0.6)  # the mean of warm and playful
    assert song.arousal == pytest.approx(0.15)


def test_bad_rows_are_listed_by_line_and_the_others_are_read(tmp_path: Path) -> None:
    lines = [
        "title,artist,valence,arousal",
        "하나,가,0.5,0.1",
        "제목만,,0,0",
        "둘,나,아주,0",
        "셋,다,7,0",
        "넷,라",
        '"다섯\n줄",마,0,0',
        "하나,가,0,0",
        "여섯,바,-1,1",
    ]
    catalogue = read_catalogue(written(tmp_path, "mine.csv", "\n".join(lines)))
    assert [song.title for song in catalogue.songs] == ["하나", "다섯 줄", "여섯"]
    assert [number for number, _ in catalogue.bad_rows] == [3, 4, 5, 6, 9]
    assert "no artist" in catalogue.bad_rows[0][1]
    assert "valence is no number" in catalogue.bad_rows[1][1]
    assert "valence is 7" in catalogue.bad_rows[2][1]
    assert "2 fields" in catalogue.bad_rows[3][1]
    assert "earlier row" in catalogue.bad_rows[4][1]
    assert catalogue.account().startswith("3 songs from mine.csv, 5 rows left out (3: ")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("Name,Artist,Composer,Genre,Year\n밤편지,아이유,김제휘,발라드,2017\n", ("밤편지", "아이유", 2017)),
        ("Composer,Artist,Name\n김제휘,아이유,밤편지\n", ("밤편지", "아이유", None)),
        ("Title,Artist,Album,Track,Year\n양화대교,자이언티,쇼미더머니,3,2014\n", ("양화대교", "자이언티", 2014)),
        ("Track,Song Title,Album Artist,Artist\n3,양화대교,여러 가수,자이언티\n", ("양화대교", "자이언티", None)),
        ("title,artist,year,date\n좋은 날,아이유,2010,2024-05-01\n", ("좋은 날", "아이유", 2010)),
        ("date,title,artist,year\n2024-05-01,좋은 날,아이유,2010\n", ("좋은 날", "아이유", 2010)),
        ('"Track URI","Track Name","Album Name","Artist Name(s)","Album Release Date","Added At"\n'
         '"spotify:track:1","좋은 날","Real","아이유","2010-12-09","2024-05-01"\n', ("좋은 날", "아이유", 2010)),
        ("Track name,Artist name,Album,Playlist name,Type,ISRC\n좋은 날,아이유,Real,내 노래,Playlist,\n", ("좋은 날", "아이유", None)),
        ("Shazam Library\nIndex,TagTime,Title,Artist,URL,TrackKey\n1,2024-01-01,좋은 날,아이유,x,1\n", ("좋은 날", "아이유", None)),
        ("노래 URL,노래 제목,앨범 제목,아티스트 이름\nhttps://a.b/c,좋은 날,Real,아이유\n", ("좋은 날", "아이유", None)),
        ("Title;Artist;Album\n좋은 날;아이유, 누구;Real\n", ("좋은 날", "아이유, 누구", None)),
        ("Title\tArtist\tAlbum\n좋은 날\t아이유, 누구\tReal\n", ("좋은 날", "아이유, 누구", None)),
        ("sep=;\r\nTitle;Artist\r\n좋은 날;아이유\r\n", ("좋은 날", "아이유", None)),
        ("Name\tArtist\tComposer\r좋은 날\t아이유\t이민수\r".encode("utf-16"), ("좋은 날", "아이유", None)),
        ("제목,가수\n좋은 날,아이유\n".encode("cp949"), ("좋은 날", "아이유", None)),
    ],
)  # fmt: skip
def test_of_several_columns_the_most_exact_name_counts(tmp_path: Path, content: str | bytes, found: tuple[str, str, int | None]) -> None:
    [song] = read_songs(written(tmp_path, "mine.csv", content))
    assert (song.title, song.artist, song.year) == found


def test_spotifys_valence_and_energy_are_brought_to_our_scale(tmp_path: Path) -> None:
    [song] = read_songs(
        written(
            tmp_path, "mine.csv", 'Track Name,Artist Name(s),Genres,Danceability,Energy,Valence\n어떤 노래,누구,"k-pop,pop",0.3,0.9,0.25\n'
        )
    )
    assert (song.valence, song.arousal, song.genre) == (-0.5, 0.8, "pop")
    [song] = read_songs(written(tmp_path, "mine.csv", "title,artist,valence,energy\n어떤 노래,누구,0.25,0.9\n"))
    assert (song.valence, song.arousal) == (0.25, 0.9)


def test_an_open_quotation_mark_costs_one_song(tmp_path: Path) -> None:
    lines = ["title,artist", *(f"노래 {number},가수 {number}" for number in range(30))]
    lines[5] = f'"{lines[5]}'
    catalogue = read_catalogue(written(tmp_path, "mine.csv", "\n".join(lines)))
    assert len(catalogue.songs) == 29
    assert catalogue.bad_rows == ((6, "a quotation mark that is never closed"),)


def test_the_tracks_of_the_shared_data_import_cleanly_and_name_their_author(shared_data: Path) -> None:
    path = shared_data / "music" / "catalogue.csv"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    catalogue = read_catalogue(path)
    assert len(catalogue.songs) == 1414
    assert catalogue.bad_rows == ()
    for song in catalogue.songs:
        assert song.title in song.attribution
        assert "Kevin MacLeod" in song.attribution
        assert "CC BY" in song.attribution
        assert song.url.startswith("https://incompetech.com/")
        assert song.ids["isrc"]


def test_an_m3u8_of_another_program_is_read(tmp_path: Path) -> None:
    text = '#EXTM3U\r\n#EXTINF:215 logo="x",아이유 - 밤편지\r\n/music/밤편지.mp3\r\n../짙은 - 백야.mp3\r\n#EXTINF:3,이름뿐\r\na.mp3\r\n'
    catalogue = read_catalogue(written(tmp_path, "mix.m3u8", text))
    assert [(song.artist, song.title) for song in catalogue.songs] == [("아이유", "밤편지"), ("짙은", "백야")]
    assert catalogue.songs[0].url == "file:///music/%EB%B0%A4%ED%8E%B8%EC%A7%80.mp3"
    assert catalogue.bad_rows == ((6, "names no artist (write 'artist - title')"),)


def silent_wave(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<h", 0) * 800)


def test_a_folder_is_read_by_its_tags_and_a_broken_file_does_not_spoil_it(tmp_path: Path) -> None:
    from mutagen.flac import FLAC

    (tmp_path / "sub").mkdir()
    silent_wave(tmp_path / "sub" / "아무개 - 이름으로.wav")
    (tmp_path / "broken.mp3").write_bytes(b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + b"\xff" * 100)
    (tmp_path / "notes.txt").write_text("아님")
    # the shortest FLAC: a STREAMINFO block and nothing to play
    info = bytes.fromhex("1000 1000 000000 000000 0f42 f0".replace(" ", "")) + b"\x00\x00\x00\x01" + bytes(16)
    (tmp_path / "tagged.flac").write_bytes(b"fLaC" + b"\x80" + (34).to_bytes(3, "big") + info[:34].ljust(34, b"\0"))
    tagged = FLAC(tmp_path / "tagged.flac")
    tagged.update({"title": "꼬리표", "artist": "가수", "genre": "Jazz", "date": "1999", "bpm": "70"})
    tagged.save()
    catalogue = read_catalogue(tmp_path)
    assert [(song.artist, song.title) for song in catalogue.songs] == [("아무개", "이름으로"), ("가수", "꼬리표")]
    assert (catalogue.songs[1].genre, catalogue.songs[1].year, catalogue.songs[1].tempo) == ("jazz", 1999, Tempo.SLOW)
    assert catalogue.songs[1].url == (tmp_path / "tagged.flac").resolve().as_uri()
    assert len(catalogue.bad_rows) == 1
    assert "broken.mp3" in catalogue.bad_rows[0][1]


BOMB = '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY c "&a;&a;&a;&a;">]><playlist><title>&c;</title></playlist>'


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("bomb.xspf", BOMB, "declares a document type or entities"),
        ("utf7.xspf", '<?xml version="1.0" encoding="utf-16"?><playlist/>'.encode("utf-16"), "not UTF-8"),
        ("torn.xspf", "<playlist><trackList>", "line 1 is no XML"),
        ("empty.xspf", '<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList/></playlist>', "no song could be read"),
        ("deep.xspf", "<a>" * 200_000, "no XML"),
        ("deep.jspf", "[" * 200_000, "no JSPF"),
        ("deep2.jspf", '{"a":' * 200_000, "no JSPF"),
        ("list.jspf", '{"playlist": {"track": {"a": 1}}}', "no JSPF"),
        ("binary.csv", bytes(range(256)) * 10, "not UTF-8 (byte 128)"),
        ("nul.csv", b"\x00" * 100, "names no title"),
        ("headless.csv", "하나,가\n둘,나\n", "names no title"),
        ("empty.csv", "", "names no title"),
        ("long.csv", "title,artist\n" + "a" * 11 * 2**20 + ",b\n", "no song could be read"),
        ("korean.m3u8", "#EXTM3U\n#EXTINF:1,가수 - 제목\n".encode("cp949"), "iconv"),
        ("song.exe", "x", "no catalogue that can be read"),
        ("none.m3u8", "#EXTM3U\n", "no song could be read"),
    ],
)
def test_a_hostile_or_foreign_file_is_one_sentence(tmp_path: Path, name: str, content: str | bytes, sentence: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_catalogue(written(tmp_path, name, content))
    assert sentence in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        file.truncate(LONGEST_FILE * 1000)  # sparse: 20 GB that nobody may read
    with pytest.raises(Refusal, match="may have 20"):
        read_catalogue(path)


def test_a_missing_file_and_an_empty_folder_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="there is no file"):
        read_catalogue(tmp_path / "nichts.csv")
    with pytest.raises(Refusal, match="no song could be read"):
        read_catalogue(tmp_path)


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "https://a b", "http://[", "//evil", 5, ["javascript:x"]])
def test_an_address_that_a_page_must_not_link_to_is_dropped(tmp_path: Path, address: object) -> None:
    import json

    track = {"title": "노래", "creator": "누구", "location": address, "info": address}
    (song,) = read_songs(written(tmp_path, "a.jspf", json.dumps({"playlist": {"track": [track]}})))
    assert song.url == ""
    assert song.title == "노래"


def test_control_characters_do_not_reach_a_playlist(tmp_path: Path) -> None:
    (song,) = read_songs(written(tmp_path, "a.csv", 'title,artist\n"a\x00\x1bb\n#EXTINF",c\u2028d\n'))
    assert (song.title, song.artist) == ("a b #EXTINF", "c d")
