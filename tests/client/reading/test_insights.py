"""Insights against cases worked by hand, closed forms, and the slow obvious loop."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from client.diary.diary import Entry
from client.reading.insights import Insights, calendar, drawn, feeling, insights, korean_nouns, log_odds, recovery, trend, words_of
from client.reading.reading import Reading
from model.emotions import EMOTIONS, Emotion

ROOT = Path(__file__).parents[3]
JOY, SADNESS, ANGER, ANXIETY = EMOTIONS
MONDAY = date(2026, 3, 2)


def entry(
    day: date = MONDAY,
    read: Sequence[float] | Emotion | None = None,
    emotion: Emotion | None = None,
    *,
    text: str = "글",
    feelings: tuple[Emotion, ...] = (),
    number: int = 1,
) -> Entry:
    probabilities = [0.7 if one is read else 0.1 for one in EMOTIONS] if isinstance(read, Emotion) else read
    return Entry(
        number=number,
        day=day,
        written=datetime(2026, 3, 2, tzinfo=UTC),
        edited=None,
        text=text,
        reading=Reading(probabilities=tuple(probabilities), version=1, digest="d") if probabilities else None,
        emotion=emotion,
        feelings=feelings,
        teaches=True,
    )


def split_on_spaces(texts: Sequence[str]) -> list[list[str]]:
    return [text.split() for text in texts]


def drawn_at_random(seed: int, count: int = 300) -> list[Entry]:
    rng = random.Random(seed)
    words = ["회사", "집", "친구", "시험", "고양이", "비", "팀장", "산책", "병원", "노래"]
    entries = []
    for number in range(count):
        weights = [rng.random() ** 3 for _ in EMOTIONS]
        read = [weight / sum(weights) for weight in weights] if rng.random() < 0.8 else None
        emotion = rng.choice(EMOTIONS) if rng.random() < 0.3 else None
        text = " ".join(rng.choices(words, k=rng.randrange(1, 8)))
        day = MONDAY + timedelta(days=rng.randrange(200))
        entries.append(entry(day, read, emotion, text=text, feelings=tuple(rng.sample(EMOTIONS, rng.randrange(3))), number=number))
    return entries


# what an entry feels like


def test_the_persons_word_counts_over_the_models_reading() -> None:
    read = (0.1, 0.2, 0.3, 0.4)
    assert feeling(entry(read=read)) == read
    assert feeling(entry(read=read, emotion=JOY)) == (1.0, 0.0, 0.0, 0.0)
    assert feeling(entry(emotion=SADNESS, feelings=(ANGER,))) == pytest.approx((0, 2 / 3, 1 / 3, 0))
    assert feeling(entry(emotion=SADNESS, feelings=(ANGER, JOY, SADNESS))) == pytest.approx((1 / 4, 2 / 4, 1 / 4, 0))
    assert feeling(entry(read=read, feelings=(ANGER,))) == read
    assert feeling(entry()) is None


# calendar and trend


def test_a_day_is_the_mean_of_its_entries_and_a_week_the_mean_of_its_days() -> None:
    entries = [
        entry(MONDAY, (0.8, 0.2, 0.0, 0.0)),
        entry(MONDAY, (0.2, 0.2, 0.6, 0.0)),
        entry(MONDAY + timedelta(days=6), emotion=ANXIETY),  # Sunday of the same week
        entry(MONDAY + timedelta(days=7), emotion=JOY),  # the next one
        entry(MONDAY + timedelta(days=30)),  # nobody has read it
    ]
    days = calendar(entries[::-1])
    assert [day.day for day in days] == [MONDAY, MONDAY + timedelta(days=6), MONDAY + timedelta(days=7)]
    assert days[0].probabilities == pytest.approx((0.5, 0.2, 0.3, 0.0))
    assert [(day.entries, day.emotion, day.is_good) for day in days] == [(2, JOY, True), (1, ANXIETY, False), (1, JOY, True)]
    weeks = trend(days)
    assert [(week.monday, week.days) for week in weeks] == [(MONDAY, 2), (MONDAY + timedelta(days=7), 1)]
    assert weeks[0].probabilities == pytest.approx((0.25, 0.1, 0.15, 0.5))


@pytest.mark.parametrize("seed", range(5))
def test_calendar_and_trend_equal_the_slow_obvious_loops(seed: int) -> None:
    entries = drawn_at_random(seed)
    by_day: dict[date, np.ndarray] = {}
    for day in (MONDAY + timedelta(days=n) for n in range(200)):
        rows = []
        for one in entries:
            if one.day == day and one.emotion is not None:
                rows.append([2.0 * (e is one.emotion) + (e in one.feelings and e is not one.emotion) for e in EMOTIONS])
                rows[-1] = list(np.array(rows[-1]) / sum(rows[-1]))
            elif one.day == day and one.reading is not None:
                rows.append(list(one.reading.probabilities))
        if rows:
            by_day[day] = np.mean(rows, axis=0)
    days = calendar(entries)
    assert [day.day for day in days] == list(by_day)
    np.testing.assert_allclose([day.probabilities for day in days], list(by_day.values()))
    for week in trend(days):
        same = [row for day, row in by_day.items() if day.isocalendar()[:2] == week.monday.isocalendar()[:2]]
        assert week.monday.isoweekday() == 1
        assert week.days == len(same)
        np.testing.assert_allclose(week.probabilities, np.mean(same, axis=0))
    assert sum(week.days for week in trend(days)) == len(days)


# recovery


@pytest.mark.parametrize(
    ("days", "ended", "middle", "bad_since"),
    [
        ("", (), None, None),
        ("0+ 1+ 5+", (), None, None),
        ("0- 1+", (1,), 1.0, None),
        ("0- 1- 2- 7+ 8+ 9- 11+", (7, 2), 4.5, None),
        ("0+ 1- 4+ 5- 6- 7+ 20- 21-", (3, 2), 2.5, 20),
        ("3-", (), None, 3),
        ("0- 1+ 2- 3+ 10- 30+", (1, 1, 20), 1.0, None),
    ],
)
def test_a_spell_lasts_from_its_first_bad_day_to_the_next_good_one(
    days: str, ended: tuple[int, ...], middle: float | None, bad_since: int | None
) -> None:
    bad = iter([SADNESS, ANGER, ANXIETY] * 10)
    entries = [entry(MONDAY + timedelta(days=int(day[:-1])), JOY if day[-1] == "+" else next(bad)) for day in days.split()]
    found = recovery(calendar(entries))
    assert (found.days, found.median) == (ended, middle)
    assert found.bad_since == (MONDAY + timedelta(days=bad_since) if bad_since is not None else None)


# words


def test_log_odds_are_those_of_monroe_worked_by_hand() -> None:
    """Odds 15 : 135 in the group and 25 : 525 outside it, the imagined words included."""
    own_odds, other_odds = (10 + 5) / (50 + 100 - 10 - 5), (20 + 5) / (450 + 100 - 20 - 5)
    expected = (math.log(own_odds) - math.log(other_odds)) / math.sqrt(1 / 15 + 1 / 25)
    assert log_odds(10, 50, 20, 450, prior=5, prior_total=100) == pytest.approx(expected)
    assert log_odds(10, 50, 20, 450, prior=5, prior_total=100) == pytest.approx(2.59431, abs=1e-5)
    assert log_odds(20, 450, 10, 50, prior=5, prior_total=100) == pytest.approx(-expected)  # the other side of the same coin
    assert log_odds(10, 100, 10, 100, prior=5, prior_total=100) == 0.0


def test_a_noun_of_one_emotion_stands_before_one_of_all_and_a_rare_one_is_not_told() -> None:
    joys = [entry(text="고양이 고양이 고양이 집", emotion=JOY) for _ in range(6)] + [entry(text="바다 바다 바다", emotion=JOY)] * 2
    sads = [entry(text="회사 집", emotion=SADNESS) for _ in range(6)]
    words = words_of([*joys, *sads], split_on_spaces)
    assert [(word.word, word.entries) for word in words[JOY]] == [("고양이", 6)]  # 바다 in two entries only, 집 in both emotions'
    assert [(word.word, word.entries) for word in words[SADNESS]] == [("회사", 6)]
    assert words[ANGER] == words[ANXIETY] == ()
    # 6 of 14 nouns of joy and none of 12 others, with 1.5 of 6.5 imagined: odds 7.5 : 13 against 1.5 : 17
    expected = (math.log(7.5 / 13) - math.log(1.5 / 17)) / math.sqrt(1 / 7.5 + 1 / 1.5)
    assert words[JOY][0].distinctiveness == pytest.approx(expected)


def test_a_diary_of_one_emotion_has_no_word_that_tells_it_from_others() -> None:
    assert words_of([entry(text="집 회사", emotion=JOY)] * 20, split_on_spaces)[JOY] == ()


@pytest.mark.parametrize("seed", range(3))
def test_words_are_counted_once_an_entry_as_by_the_slow_obvious_loop(seed: int) -> None:
    entries = drawn_at_random(seed)
    told = words_of(entries, split_on_spaces)
    of_emotion: dict[Emotion, list[set[str]]] = {emotion: [] for emotion in EMOTIONS}
    for one in entries:
        if one.emotion is not None:
            of_emotion[one.emotion].append(set(one.text.split()))
        elif one.reading is not None:
            of_emotion[one.reading.emotion].append(set(one.text.split()))
    every = [words for all_words in of_emotion.values() for words in all_words]
    for emotion, words in told.items():
        assert list(words) == sorted(words, key=lambda word: -word.distinctiveness)
        for word in words:
            own, total = sum(word.word in one for one in of_emotion[emotion]), sum(word.word in one for one in every)
            n_own, n = sum(map(len, of_emotion[emotion])), sum(map(len, every))
            a, b = own + total / 4, total - own + total / 4
            z = (math.log(a / (n_own + n / 4 - a)) - math.log(b / (n - n_own + n / 4 - b))) / math.sqrt(1 / a + 1 / b)
            assert (word.entries, word.distinctiveness) == (own, pytest.approx(z))
            assert word.distinctiveness >= 1.0
            assert own >= 3


def test_only_words_beyond_chance_are_told_of_entries_that_share_one_vocabulary() -> None:
    """Ten words drawn alike for all four emotions: of the 40 chances few may pass a standard error, and none far."""
    told = [word for seed in range(5) for words in words_of(drawn_at_random(seed), split_on_spaces).values() for word in words]
    assert len(told) < 200 * 0.25
    assert all(word.distinctiveness < 3.5 for word in told)


def test_kiwi_finds_the_nouns_and_leaves_the_endings() -> None:
    pytest.importorskip("kiwipiepy")
    found = korean_nouns()(["서울에서 고양이랑 놀았더니 회사를 잊었다", "", "ㅠㅠ 그냥 그렇다"])
    assert list(found[0]) == ["서울", "고양이", "회사"]
    assert list(found[1]) == []
    assert len(found) == 3


WITHOUT_KIWI = """
import sys
sys.modules["kiwipiepy"] = None
from client.reading.insights import insights
found = insights([])
assert found.words is None
print(found.words_need)
"""


def test_without_kiwi_one_sentence_says_what_to_install_and_the_rest_is_there() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_KIWI], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'feelinghealing[insights]'" in done.stdout


# the map


def centred_log_ratios(entries: Sequence[Entry]) -> np.ndarray:
    rows = []
    for one in entries:
        if one.reading is not None:
            logs = [math.log(max(p, 1e-4)) for p in one.reading.probabilities]
            rows.append([log - sum(logs) / 4 for log in logs])
    return np.array(rows)


@pytest.mark.parametrize("seed", range(3))
def test_the_map_is_scikit_learns_pca_up_to_the_sign_of_an_axis(seed: int) -> None:
    entries = drawn_at_random(seed)
    points = drawn(entries)
    expected = PCA(n_components=2).fit_transform(centred_log_ratios(entries))
    places = np.array([(point.x, point.y) for point in points])
    for axis in (0, 1):
        sign = np.sign(places[0, axis] * expected[0, axis])
        np.testing.assert_allclose(places[:, axis], sign * expected[:, axis], atol=1e-9)
    assert [point.number for point in points] == [one.number for one in entries if one.reading is not None]


def test_entries_that_were_read_alike_lie_near_each_other() -> None:
    entries = [entry(read=emotion, number=n) for n, emotion in enumerate([JOY, SADNESS, ANGER] * 5)]
    points = drawn(entries)
    for one in points:
        for other in points:
            distance = math.dist((one.x, one.y), (other.x, other.y))
            # three equidistant corners: log 7 apart in two of four coordinates
            assert distance == pytest.approx(0.0 if one.emotion is other.emotion else math.sqrt(2) * math.log(7), abs=1e-9)


def test_the_map_has_room_for_none_for_one_and_for_certainty() -> None:
    assert drawn([entry()]) == ()
    [point] = drawn([entry(read=JOY)])
    assert (point.x, point.y) == (0.0, 0.0)
    certain = drawn([entry(read=(1.0, 0.0, 0.0, 0.0)), entry(read=(0.0, 1.0, 0.0, 0.0), emotion=ANGER)])
    assert all(math.isfinite(point.x) and point.y == pytest.approx(0.0) for point in certain)
    assert [point.emotion for point in certain] == [JOY, ANGER]


# together


def test_an_empty_diary_has_empty_insights() -> None:
    found = insights([], nouns=split_on_spaces)
    assert found == Insights(calendar=(), trend=(), recovery=found.recovery, words=dict.fromkeys(EMOTIONS, ()), words_need=None, map=())
    assert (found.recovery.days, found.recovery.median, found.recovery.bad_since) == ((), None, None)


def test_the_order_of_the_entries_changes_nothing_and_no_word_stands_in_a_repr() -> None:
    entries = drawn_at_random(1)
    found = insights(entries, nouns=split_on_spaces)
    shuffled = insights(random.Random(0).sample(entries, len(entries)), nouns=split_on_spaces)
    assert (found.words, found.recovery) == (shuffled.words, shuffled.recovery)
    for one, other in zip(found.calendar, shuffled.calendar, strict=True):
        assert (one.day, one.entries) == (other.day, other.entries)
        assert one.probabilities == pytest.approx(other.probabilities)
    assert found.words is not None
    assert any(found.words.values())
    assert not any(word.word in repr(found) for words in found.words.values() for word in words)
