"""Histories are read as a stream, stripped of everything but the listen, and matched with songs and days."""

from __future__ import annotations

import io
import json
import pickle
import tracemalloc
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from client.music.listens import Listen, counts_as_heard, heard_in_emotions, read_listens
from client.music.playlist import Song
from client.music.song import song_key
from model.refusal import Refusal

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRETS = ("geheimer-name", "203.0.113.77", "KR-secret", "SecretPhone 9", "secret-agent", "spotify:track:secret")


def spotify(title: str | None = "밤편지", artist: str | None = "IU", at: str = "2025-05-01T15:30:00Z", **change: Any) -> dict[str, Any]:
    return {
        "ts": at, "username": SECRETS[0], "platform": SECRETS[3], "ms_played": 250_000, "conn_country": SECRETS[2],
        "ip_addr_decrypted": SECRETS[1], "user_agent_decrypted": SECRETS[4], "master_metadata_track_name": title,
        "master_metadata_album_artist_name": artist, "spotify_track_uri": SECRETS[5], "reason_end": "trackdone", "skipped": False,
    } | change  # fmt: skip


def listenbrainz(title: str = "밤편지", artist: str = "아이유", at: object = 1_746_113_400, **change: Any) -> dict[str, Any]:
    about = {"track_name": title, "artist_name": artist, "additional_info": {"media_player": SECRETS[3], "origin_url": SECRETS[5]}}
    return {"listened_at": at, "user_name": SECRETS[0], "track_metadata": about} | change


def read(content: object) -> list[Listen]:
    raw = content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content)).encode()
    return list(read_listens(io.BytesIO(raw), now=NOW))


def test_both_services_and_every_form_give_the_same_listen() -> None:
    for content in (
        [spotify(artist="아이유")],
        [listenbrainz()],
        json.dumps(listenbrainz()),
        "\ufeff" + json.dumps(listenbrainz()) + "\n",
        {"payload": {"count": 1, "listens": [listenbrainz()], "user_id": SECRETS[0]}},
    ):
        assert read(content) == [Listen("밤편지", "아이유", datetime(2025, 5, 1, 15, 30, tzinfo=UTC), True)]
    lines = "\n".join(json.dumps(listenbrainz(title=f"곡{number}"), ensure_ascii=False) for number in range(500))
    assert [listen.title for listen in read(lines)] == [f"곡{number}" for number in range(500)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("count", [0, 1, 2000])
def test_an_array_longer_than_a_chunk_is_read_whole(count: int, indent: int | None) -> None:
    rows = [spotify(title=f'곡 "{number}" [{{]}}') for number in range(count)]
    expected = [f'곡 "{number}" [{{]}}' for number in range(count)]
    assert [listen.title for listen in read(json.dumps(rows, ensure_ascii=False, indent=indent))] == expected


def test_no_byte_of_who_where_and_on_what_stays() -> None:
    listens = read([spotify(), listenbrainz()])
    heard = heard_in_emotions(listens, [Song(song_key("밤편지", "아이유"), "밤편지", "아이유")], {date(2025, 5, 1): (0, 1, 0, 0)}, zone=UTC)
    kept = pickle.dumps(listens) + repr(listens).encode() + pickle.dumps(dict(heard.songs)) + repr(heard).encode()
    assert heard.matched == 2
    for secret in SECRETS:
        assert secret.encode() not in kept


def test_what_is_no_song_or_lies_outside_time_is_left_out() -> None:
    assert read([
        spotify(title=None), spotify(artist=None), spotify(title=""), spotify(title="\x00"), spotify(at="gestern"),
        spotify(at="2031-01-01T00:00:00Z"),
        spotify(at="1970-01-01T00:00:00Z"), spotify(ms_played="viel"), {"ts": 5}, {}, {"track_metadata": 7}, listenbrainz(at="5"),
        listenbrainz(at=1e300), listenbrainz(at=None), {"payload": {"listens": 5}}, {"payload": {"listens": [5]}},
    ]) == []  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "length", "ended", "counts"),
    [
        (100, 200, False, True), (99, 200, False, False), (240, 1000, False, True), (239, 1000, False, False), (30, 30, True, False),
        (31, 31, True, True), (20, None, True, False), (200, None, True, True), (200, None, False, False), (240, None, False, True),
    ],
)  # fmt: skip
def test_a_play_counts_as_last_fm_counts_it(seconds: float, length: float | None, ended: bool, counts: bool) -> None:
    """https://www.last.fm/api/scrobbling: longer than 30 seconds, and half of it or 4 minutes were played."""
    assert counts_as_heard(seconds, length, ended=ended) is counts


def test_songs_are_matched_whatever_the_service_adds_to_their_names() -> None:
    songs = [
        Song(song_key(t, a), t, a) for t, a in [("밤편지", "아이유"), ("봄날", "방탄소년단"), ("어땠을까", "싸이"), ("Ditto", "NewJeans")]
    ]
    listens = [
        Listen(title, artist, datetime(2025, 5, 1, 3, tzinfo=UTC), True)
        for title, artist in [
            ("밤 편지 (Through the Night)", "IU"), ("봄날", "BTS"), ("어땠을까 (feat. 박정현)", "PSY"),
            ("DITTO - Remastered 2023", "newjeans"),
            ("Ditto", "Somebody"), ("밤편지", "아무개"),
        ]
    ]  # fmt: skip
    heard = heard_in_emotions(listens, songs, {date(2025, 5, 1): (0.1, 0.7, 0.1, 0.1)}, zone=UTC)
    assert heard.songs == {song.key: pytest.approx((0.1, 0.7, 0.1, 0.1)) for song in songs}
    assert (heard.listens, heard.matched, heard.felt) == (6, 4, 4)


def test_a_listen_belongs_to_the_persons_own_day() -> None:
    song = Song(song_key("밤편지", "아이유"), "밤편지", "아이유")
    seoul = timezone(timedelta(hours=9))
    late = [Listen("밤편지", "아이유", datetime(2025, 5, 1, 15, 30, tzinfo=UTC), True)]  # half past midnight on the second in Seoul
    sad, glad = (0.0, 1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)
    assert heard_in_emotions(late, [song], {date(2025, 5, 1): sad, date(2025, 5, 2): glad}, zone=seoul).songs == {song.key: glad}
    assert heard_in_emotions(late, [song], {date(2025, 5, 3): sad}, zone=seoul).felt == 0
    skipped = [Listen("밤편지", "아이유", datetime(2025, 5, 1, 3, tzinfo=UTC), False)]
    assert heard_in_emotions(skipped, [song], {date(2025, 5, 1): sad}, zone=seoul).songs == {}


class Endless(io.RawIOBase):
    """A history of any length that is never in memory."""

    def __init__(self, rows: int) -> None:
        self._row = (json.dumps(spotify()) + ",").encode() * 100
        self._left = rows // 100
        self._rest = b"["

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size and self._left:
            self._rest += self._row
            self._left -= 1
        if not self._left and self._rest and not self._rest.endswith(b"{}]"):
            self._rest += b"{}]"
        given, self._rest = self._rest[:size], self._rest[size:]
        return given


def test_memory_does_not_grow_with_the_file() -> None:
    peaks = []
    for rows in (1000, 20_000):
        tracemalloc.start()
        assert sum(1 for _ in read_listens(Endless(rows), now=NOW)) == rows  # type: ignore[arg-type]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 50_000
    assert peaks[1] < 2_000_000


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (json.dumps([spotify()])[:-1], "ends in the middle"),
        (json.dumps([spotify()])[:-20], "damaged or ends in the middle"),
        ("[" + '{"a":' * 100_000, "nests without end"),
        ("[[1]]", "no listening history"),
        ("5", "no listening history"),
        ('"text"', "no listening history"),
        ("[1, 2]", "no listening history"),
        ("<html>", "no listening history"),
        ("[{}] {}", "no listening history"),
        (b"PK\x03\x04\xff\xfe", "not UTF-8"),
        (b"\xff\xfe\x00", "not UTF-8"),
        ('[{"ts": ' + "9" * 5000 + "}]", "damaged"),
        ('[{"ts": "' + "a" * 9 * 2**20, "damaged"),
    ],
)
def test_a_hostile_or_broken_file_is_one_sentence(content: str | bytes, sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        read(content)


@pytest.mark.parametrize(
    ("content", "named", "instead"),
    [
        ([{"endTime": "2024-05-01 12:00", "artistName": "아이유", "trackName": "밤편지", "msPlayed": 250000}],
         "Spotify's account data", "Extended"),
        ([{"header": "YouTube Music", "title": "밤편지을(를) 시청했습니다.", "time": "2024-05-01T12:00:00.000Z"}],
         "YouTube", "ListenBrainz's export"),
        ([{"track": [{"artist": {"#text": "아이유"}, "name": "밤편지"}]}], "Last.fm", "listenbrainz.org"),
        ({"recenttracks": {"track": []}}, "Last.fm", "listenbrainz.org"),
        ({"user_id": 1, "username": SECRETS[0]}, "names the account", "folder listens/"),
        ({"playlist": {"track": []}}, "playlist", "songs/import"),
        ({"program": "x", "entries": []}, "a diary", "healing client import"),
        ([{"a": 1}, {"b": SECRETS[0]}], "unknown form", "Spotify's extended"),
        ([{"ts": 1714564800, "song": "밤편지"}], "unknown form", "Spotify's extended"),
    ],
)  # fmt: skip
def test_a_history_of_another_form_is_named_with_the_file_to_ask_for(content: object, named: str, instead: str) -> None:
    with pytest.raises(Refusal, match=named) as refused:
        read(content)
    sentence, _, following = str(refused.value).partition("; ")
    assert named in sentence
    assert instead in following
    assert not any(secret in str(refused.value) for secret in (*SECRETS, "밤편지"))


def test_one_known_listen_makes_a_history_known() -> None:
    assert len(read([{}, {"x": 1}, spotify(), listenbrainz()])) == 2


def test_an_empty_file_has_no_listens() -> None:
    assert read("") == []
    assert read(" \n ") == []
    assert read("[]") == []
