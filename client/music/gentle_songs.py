"""Gentle songs: the small fixed set that is offered where a text speaks of self-harm.

Chosen by hand from the bundled catalogue: slow, soft, without tension, no farewell and no death in them, half of them without
words. No model and no taste has a say here, but a song that the person dislikes is left out. That they are gentle is this
project's judgement, not a finding.
"""

from __future__ import annotations

from client.music.playlist import bundled_songs
from client.music.recommender import Recommendation
from client.music.song import Song, song_key

GENTLE: tuple[tuple[str, str], ...] = (
    ("풍경", "시인과 촌장"),
    ("G선상의 아리아", "바흐"),
    ("고등어", "루시드폴"),
    ("트로이메라이", "슈만"),
    ("가을 아침", "아이유"),
    ("클라리넷 협주곡 2악장", "모차르트"),
    ("마음", "아이유"),
    ("Gabriel's Oboe", "엔니오 모리코네"),
    ("두 사람", "성시경"),
    ("자장가", "브람스"),
    ("밤편지", "아이유"),
    ("River Flows in You", "이루마"),
)
"""Title and artist, in the order in which they are offered."""

WHY, WHY_EN = "잔잔하고 다정한 음악이에요.", "Quiet, gentle music."


def gentle_songs() -> tuple[Song, ...]:
    """The songs of :data:`GENTLE`, as the bundled catalogue holds them."""
    songs = {song.key: song for song in bundled_songs()}
    return tuple(songs[song_key(title, artist)] for title, artist in GENTLE)


def recommended(song: Song) -> Recommendation:
    """A gentle song with the one sentence that speaks for all of them; it names no feeling."""
    return Recommendation(song, WHY, WHY_EN, score=0.0)
