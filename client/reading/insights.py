"""Insights: what a person's entries say together. Nothing here leaves the device, and nothing is a diagnosis.

What an entry feels like is the person's own word where they gave one, and the model's reading otherwise. The person's
word weighs twice as much as each feeling that they marked besides it; alone it is the whole of the four probabilities. Of an entry that
speaks of self-harm, the person's own word alone counts.

- **Calendar**: the mean over each day's entries.
- **Trend**: the mean over each week's days, Monday to Sunday; a day of many entries is one day.
- **Recovery**: days from the first bad day of a spell to the next good one. A day is good if its likeliest emotion is
  pleasant (valence above 0) and bad otherwise; a spell that has not ended is told, and not counted.
- **Words**: nouns that tell the entries of one emotion from all others, by log-odds with an informative Dirichlet prior
  (Monroe, Colaresi and Quinn 2008, "Fightin' Words"). The prior is the person's own words over all entries, worth as many
  of them as an emotion has on average, so that it means the same in a thin diary and in a thick one. A noun counts once
  in an entry, and is told from :data:`LEAST_ENTRIES` entries of that emotion on.
- **Map**: entries that were read alike lie near each other. Principal components of the centred log-ratios of the four
  probabilities that the model gave (Aitchison 1986): of a reading, three numbers are free, and the two in which this
  person's readings differ most are drawn. It shows the model's view, not the text's.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from statistics import median
from typing import Any

import numpy as np

from client.diary.diary import Entry
from client.reading.care import speaks_of_self_harm
from model.emotions import EMOTIONS, Emotion
from model.refusal import Refusal

LEAST_ENTRIES = 3
"""Entries of an emotion that must hold a noun before it is called that emotion's word."""

LEAST_DISTINCTIVENESS = 1.0
"""Standard errors by which it must be likelier there than elsewhere."""

MOST_WORDS = 30
"""Words of an emotion."""

LEAST_PROBABILITY = 1e-4
"""Probabilities below it are taken for it on the map, so that its logarithms stay on the page."""

Nouns = Callable[[Sequence[str]], Sequence[Iterable[str]]]
"""Texts to the nouns of each."""

Four = tuple[float, float, float, float]
"""Probabilities in the order of the emotions' ids."""


@dataclass(frozen=True, kw_only=True)
class Day:
    """One day of the calendar."""

    day: date
    probabilities: Four
    entries: int

    @property
    def emotion(self) -> Emotion:
        """The likeliest of the four."""
        return EMOTIONS[max(range(len(EMOTIONS)), key=self.probabilities.__getitem__)]

    @property
    def is_good(self) -> bool:
        """Whether its emotion is a pleasant one."""
        return self.emotion.valence > 0


@dataclass(frozen=True, kw_only=True)
class Week:
    """One week of the trend."""

    monday: date
    probabilities: Four
    days: int
    """How many of its days have entries."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How long bad spells last."""

    days: tuple[int, ...]
    """Of each spell that has ended, oldest first."""
    bad_since: date | None
    """The first day of the spell that has not ended."""

    @property
    def median(self) -> float | None:
        """Of the spells that have ended; None if there is none."""
        return float(median(self.days)) if self.days else None


@dataclass(frozen=True, kw_only=True)
class Word:
    """A noun of one emotion's entries."""

    word: str
    entries: int
    """How many entries of that emotion hold it."""
    distinctiveness: float
    """Its log-odds against all other entries, in standard errors: at 2 it is hardly chance."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One entry on the map."""

    number: int
    day: date
    emotion: Emotion
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Insights:
    """What the entries say together."""

    calendar: tuple[Day, ...]
    trend: tuple[Week, ...]
    recovery: Recovery
    words: Mapping[Emotion, tuple[Word, ...]] | None = field(repr=False)
    """The most distinctive first; None if no nouns can be found here, then ``words_need`` says what is missing."""
    words_need: str | None
    map: tuple[Point, ...]


def insights(entries: Sequence[Entry], *, nouns: Nouns | None = None) -> Insights:
    """Everything at once, in whatever order the entries come; ``nouns`` is kiwipiepy's if it is installed."""
    days = calendar(entries)
    words, need = None, None
    try:
        words = words_of(entries, nouns or korean_nouns())
    except Refusal as refusal:
        need = str(refusal)
    return Insights(calendar=days, trend=trend(days), recovery=recovery(days), words=words, words_need=need, map=drawn(entries))


def feeling(entry: Entry) -> Four | None:
    """The four probabilities of an entry; None if nobody has read it yet, or if it speaks of self-harm and the person gave no word."""
    if entry.emotion is None:
        return _four(entry.reading.probabilities) if entry.reading and not speaks_of_self_harm(entry.text) else None
    parts = [0.0] * len(EMOTIONS)
    for emotion in set(entry.feelings) - {entry.emotion}:
        parts[emotion.id] = 1.0
    parts[entry.emotion.id] = 2.0
    return _four([part / sum(parts) for part in parts])


def calendar(entries: Sequence[Entry]) -> tuple[Day, ...]:
    """Days that have an entry with a feeling, oldest first."""
    by_day: dict[date, list[Four]] = {}
    for entry in entries:
        felt = feeling(entry)
        if felt is not None:
            by_day.setdefault(entry.day, []).append(felt)
    return tuple(Day(day=day, probabilities=_mean(all_felt), entries=len(all_felt)) for day, all_felt in sorted(by_day.items()))


def trend(days: Sequence[Day]) -> tuple[Week, ...]:
    """Weeks that have a day in the calendar, oldest first."""
    by_week: dict[date, list[Four]] = {}
    for day in days:
        by_week.setdefault(day.day - timedelta(days=day.day.weekday()), []).append(day.probabilities)
    return tuple(Week(monday=monday, probabilities=_mean(felt), days=len(felt)) for monday, felt in sorted(by_week.items()))


def recovery(days: Sequence[Day]) -> Recovery:
    """The bad spells of a calendar."""
    ended, since = [], None
    for day in days:
        if not day.is_good:
            since = since or day.day
        elif since is not None:
            ended.append((day.day - since).days)
            since = None
    return Recovery(days=tuple(ended), bad_since=since)


def words_of(entries: Sequence[Entry], nouns: Nouns) -> dict[Emotion, tuple[Word, ...]]:
    """The nouns that tell each emotion's entries from all others, the most distinctive first."""
    felt = [(entry, feeling(entry)) for entry in entries]
    known = [(entry.text, EMOTIONS[int(np.argmax(four))]) for entry, four in felt if four is not None]
    counts: dict[Emotion, Counter[str]] = {emotion: Counter() for emotion in EMOTIONS}
    for (_, emotion), found in zip(known, nouns([text for text, _ in known]), strict=True):
        counts[emotion].update(set(found))
    everywhere = sum(counts.values(), Counter[str]())
    return {emotion: _distinctive(own, everywhere) for emotion, own in counts.items()}


def log_odds(own: int, own_total: int, other: int, other_total: int, *, prior: float, prior_total: float) -> float:
    """Monroe's z: how much likelier a word is in one group than outside it, in standard errors.

    The word is ``own`` of the group's ``own_total`` words, ``other`` of the ``other_total`` outside it, and ``prior`` of
    the ``prior_total`` that are imagined in both.
    """
    difference = _log_odds(own + prior, own_total + prior_total) - _log_odds(other + prior, other_total + prior_total)
    return difference / math.sqrt(1.0 / (own + prior) + 1.0 / (other + prior))


def drawn(entries: Sequence[Entry]) -> tuple[Point, ...]:
    """The map of the entries that a model has read, in their order; without those that speak of self-harm."""
    read = [(entry, entry.reading) for entry in entries if entry.reading is not None and not speaks_of_self_harm(entry.text)]
    if not read:
        return ()
    logs = np.log(np.clip([reading.probabilities for _, reading in read], LEAST_PROBABILITY, 1.0))
    places = _principal(logs - logs.mean(axis=1, keepdims=True))
    return tuple(
        Point(number=entry.number, day=entry.day, emotion=entry.emotion or reading.emotion, x=float(x), y=float(y))
        for (entry, reading), (x, y) in zip(read, places, strict=True)
    )


def korean_nouns() -> Nouns:
    """kiwipiepy's common and proper nouns; :class:`Refusal` that says how to install it."""
    try:
        with _building:
            kiwi = _kiwi()
    except ImportError:
        raise Refusal("words need kiwipiepy, which is not installed here; run `pip install 'feelinghealing[insights]'`") from None

    def nouns(texts: Sequence[str]) -> list[list[str]]:
        return [[token.form for token in tokens if token.tag in ("NNG", "NNP")] for tokens in kiwi.tokenize(list(texts))]

    return nouns


_building = threading.Lock()  # who comes while it is built waits for it


@lru_cache(maxsize=1)
def _kiwi() -> Any:
    """Built once a process: that takes seconds."""
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


def _distinctive(own: Counter[str], everywhere: Counter[str]) -> tuple[Word, ...]:
    own_total, total = own.total(), everywhere.total()
    words = []
    for word, count in own.items():
        if count >= LEAST_ENTRIES:
            prior = {"prior": everywhere[word] / len(EMOTIONS), "prior_total": total / len(EMOTIONS)}
            z = log_odds(count, own_total, everywhere[word] - count, total - own_total, **prior)
            words.append(Word(word=word, entries=count, distinctiveness=z))
    likelier = [word for word in words if word.distinctiveness >= LEAST_DISTINCTIVENESS]
    return tuple(sorted(likelier, key=lambda word: (-word.distinctiveness, word.word))[:MOST_WORDS])


def _log_odds(count: float, total: float) -> float:
    """Of ``count`` in ``total``; a word that is all there is has the odds of missing half a time."""
    return math.log(count / max(total - count, 0.5))


def _principal(rows: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows (N, K) in their first two principal components (N, 2); of each the largest loading is positive."""
    centred = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2][np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    places = centred @ axes.T
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def _mean(felt: Sequence[Four]) -> Four:
    return _four([math.fsum(column) / len(felt) for column in zip(*felt, strict=True)])


def _four(values: Sequence[float]) -> Four:
    joy, sadness, anger, anxiety = map(float, values)
    return joy, sadness, anger, anxiety
