"""A taste is the closed form of its events, keeps through JSON to the last bit, and a damaged one is one sentence."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from client.music.song_features import FEATURES, PRIOR_MEAN, PRIOR_SD
from client.music.taste import FORGETTING, MOST_SONGS, NOISE, REWARD, Event, NoSuchLike, Taste
from model.refusal import Refusal

MOOD = np.array([0.1, 0.6, 0.2, 0.1])
SIZE = len(FEATURES)


def lived(events: int, seed: int = 0) -> tuple[Taste, np.ndarray, list[float]]:
    """A taste after random events, and their rows and rewards."""
    rng = np.random.default_rng(seed)
    taste, rows, rewards = Taste(), rng.normal(size=(events, SIZE)), []
    for number, row in enumerate(rows):
        event = list(Event)[int(rng.integers(4))]
        rewards.append(REWARD[event])
        taste = taste.after(row, event, f"song{number % 50}", MOOD)
    return taste, rows, rewards


def test_after_many_events_the_posterior_is_that_of_batch_ridge_with_forgetting() -> None:
    """The oracle solves one least-squares problem over all events at once, prior rows included, by another algorithm."""
    taste, rows, rewards = lived(1500)
    weights = np.sqrt(FORGETTING ** np.arange(len(rows) - 1, -1, -1)) / NOISE
    design = np.vstack([rows * weights[:, None], np.diag(1 / PRIOR_SD)])
    target = np.concatenate([np.array(rewards) * weights, PRIOR_MEAN / PRIOR_SD])
    expected, *_ = np.linalg.lstsq(design, target, rcond=None)
    mean, factor = taste.posterior()
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.inv(factor @ factor.T), np.linalg.inv(design.T @ design), rtol=0, atol=1e-9)


def test_a_like_that_is_taken_back_has_taught_nothing() -> None:
    """The oracle sums what the other events teach, each faded by all that came after it."""
    rows = np.random.default_rng(3).normal(size=(6, SIZE))
    events = [Event.PLAYED, Event.SKIPPED, Event.LIKED, Event.PLAYED, Event.LIKED, Event.SKIPPED]
    keys = ["a", "b", "b", "b", "c", "a"]
    taste = Taste()
    for row, event, key in zip(rows, events, keys, strict=True):
        taste = taste.after(row, event, key, MOOD)
    taste = Taste.from_json(taste.to_json()).without_like("b")
    left = [number for number in range(6) if number != 2]
    faded = [FORGETTING ** (5 - number) for number in left]
    moments = sum(weight * np.outer(rows[number], rows[number]) for weight, number in zip(faded, left, strict=True))
    rewards = sum(weight * REWARD[events[number]] * rows[number] for weight, number in zip(faded, left, strict=True))
    np.testing.assert_allclose(taste.moments, moments, atol=1e-12)
    np.testing.assert_allclose(taste.rewards, rewards, atol=1e-12)
    memory = taste.songs["b"]
    assert (memory.events, memory.liked, memory.disliked) == (2, False, False)
    assert memory.reward == pytest.approx(REWARD[Event.SKIPPED] + REWARD[Event.PLAYED])
    np.testing.assert_allclose(memory.heard, MOOD)
    assert Taste.from_json(taste.to_json()).songs == taste.songs


def test_a_like_is_taken_back_once_and_what_the_song_was_before_returns() -> None:
    row = np.eye(SIZE)[3]
    taste = Taste().after(row, Event.DISLIKED, "a", MOOD).after(row, Event.LIKED, "a", MOOD).without_like("a")
    assert (taste.songs["a"].liked, taste.songs["a"].disliked) == (False, True)
    for nothing in (taste, Taste(), Taste().after(row, Event.LIKED, "a", MOOD).after(row, Event.DISLIKED, "a", MOOD)):
        with pytest.raises(NoSuchLike, match="not among the last 20 that were liked"):
            nothing.without_like("a")


def test_before_the_first_event_it_is_the_prior() -> None:
    mean, factor = Taste().posterior()
    np.testing.assert_allclose(mean, PRIOR_MEAN, atol=1e-12)
    np.testing.assert_allclose(np.sqrt(np.diag(np.linalg.inv(factor @ factor.T))), PRIOR_SD, atol=1e-12)


def test_what_is_not_heard_for_long_becomes_uncertain_again_up_to_the_prior_and_no_further() -> None:
    first, second = np.eye(SIZE)[3], np.eye(SIZE)[7]
    taste = Taste()
    for _ in range(50):
        taste = taste.after(first, Event.LIKED, "a", MOOD)
    learned = taste.posterior()[0][3]
    for _ in range(5000):
        taste = taste.after(second, Event.LIKED, "b", MOOD)
    mean, factor = taste.posterior()
    assert learned > PRIOR_MEAN[3] + 0.2
    assert mean[3] == pytest.approx(PRIOR_MEAN[3], abs=1e-3)
    assert 1 / factor[3, 3] == pytest.approx(PRIOR_SD[3], rel=1e-3)


def test_draws_have_the_mean_and_the_spread_of_the_posterior() -> None:
    from client.music.taste import CURIOSITY

    taste, _, _ = lived(100)
    mean, factor = taste.posterior()
    draws = np.array([taste.draw(np.random.default_rng(seed)) for seed in range(2000)])
    expected = CURIOSITY * np.sqrt(np.diag(np.linalg.inv(factor @ factor.T)))
    np.testing.assert_allclose(draws.std(axis=0), expected, rtol=0.1)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * expected / np.sqrt(2000))


def test_json_gives_the_same_taste_back_to_the_last_bit() -> None:
    taste = lived(300)[0].having_heard({"x": (0.5, 0.0, 1.0, 0.25)})
    again = Taste.from_json(taste.to_json())
    assert np.array_equal(again.moments, taste.moments)
    assert np.array_equal(again.rewards, taste.rewards)
    assert again.songs == taste.songs
    assert again.to_json() == taste.to_json()


def test_it_stays_small_however_long_it_lives_and_keeps_what_the_person_named() -> None:
    taste = Taste().after(np.zeros(SIZE), Event.DISLIKED, "hated", MOOD)
    taste = taste.having_heard({f"{number:012x}": (1.1, 2.2, 3.3, 4.4) for number in range(3 * MOST_SONGS)})
    assert len(taste.songs) == MOST_SONGS
    assert taste.songs["hated"].disliked
    assert len(taste.to_json()) < 1_000_000
    assert Taste.from_json(taste.to_json()).songs == taste.songs


def test_importing_the_same_history_twice_changes_nothing() -> None:
    once = lived(5)[0].having_heard({"a": (1, 2, 3, 4)})
    assert once.having_heard({"a": (1, 2, 3, 4)}).to_json() == once.to_json()


def damaged(**change: Any) -> str:
    return json.dumps(json.loads(lived(3)[0].to_json()) | change)


@pytest.mark.parametrize(
    "document",
    [
        "",
        "null",
        "[]",
        "[" * 100_000,
        '{"format": 1}',
        "\x00",
        damaged(moments=[]),
        damaged(moments=[float("nan")] * (SIZE * (SIZE + 1) // 2)),
        damaged(moments=[1e300] * (SIZE * (SIZE + 1) // 2)),
        damaged(moments=[-5.0] * (SIZE * (SIZE + 1) // 2)),
        damaged(rewards=["a"] * SIZE),
        damaged(rewards=[[]] * SIZE),
        damaged(events=-1),
        damaged(events=True),
        damaged(events="3"),
        damaged(features=["a"]),
        damaged(songs=[]),
        damaged(songs={"a": {"heard": [1, 2]}}),
        damaged(songs={"a": {"heard": [-1, 0, 0, 0]}}),
        damaged(songs={"a": {"reward": 5.0}}),
        damaged(songs={"a": {"last": 99}}),
        damaged(songs={"a": {"liked": "yes"}}),
        damaged(likes={"a": {"at": 10**6, "row": [0.0] * SIZE, "mood": [0.25] * 4, "was": [False, False]}}),
        damaged(likes={"a": {"at": 1, "row": [0.0], "mood": [0.25] * 4, "was": [False, False]}}),
        damaged(songs={"a": {"surprise": 1}}),
        damaged(songs={"a" * 65: {}}),
        damaged(songs={str(number): {} for number in range(MOST_SONGS + 1)}),
        damaged(songs={"a": {"events": 10**400}}),
    ],
)
def test_a_damaged_or_hostile_taste_is_one_sentence(document: str) -> None:
    with pytest.raises(Refusal, match=r"^the taste is damaged \(\w+\); restore it from a backup, or start a new one$"):
        Taste.from_json(document)


def test_another_format_is_named_and_an_endless_document_is_not_read() -> None:
    with pytest.raises(Refusal, match="has format 7 and this program reads 1"):
        Taste.from_json(damaged(format=7))
    with pytest.raises(Refusal, match="another"):
        Taste.from_json(damaged(format="x" * 1000))
    with pytest.raises(Refusal, match="longer than"):
        Taste.from_json(" " * 5_000_000)
