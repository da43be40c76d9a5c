"""The gentle songs: few, known to the catalogue, and gentle by its own judgement."""

from __future__ import annotations

from client.music.gentle_songs import GENTLE, gentle_songs, recommended

HEAVY = {"sad", "somber", "dark", "tense", "intense", "aggressive", "lonely", "energetic", "defiant"}


def test_they_are_a_small_fixed_set_of_the_catalogue() -> None:
    songs = gentle_songs()
    assert [(song.title, song.artist) for song in songs] == list(GENTLE)
    assert 8 <= len({song.key for song in songs}) == len(songs) <= 20


def test_each_is_slow_soft_and_not_sad() -> None:
    for song in gentle_songs():
        assert song.valence >= 0.2, song.title
        assert song.arousal <= -0.4, song.title
        assert song.tension <= 0.2, song.title
        assert not HEAVY & set(song.tags), song.title


def test_their_reason_names_no_feeling() -> None:
    one = recommended(gentle_songs()[0])
    assert not any(word in one.why + one.why_en.lower() for word in ("슬픔", "슬픈", "기쁨", "분노", "불안", "sad", "joy", "ang", "anx"))
