"""Care: when a text speaks of dying or of hurting oneself, a kind word and telephone numbers come before any reading or music.

It is no diagnosis. Patterns look for what people write when they mean themselves (:mod:`client.reading.care_patterns`), and a small
classifier hears what no pattern foresaw (:mod:`client.reading.care_classifier`). Both leave alone the exaggerations of every day
(배고파 죽겠다, 웃겨 죽는 줄). In doubt the message is shown: a word too many does little harm.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from client.reading.care_classifier import bundled_classifier, pieces_of
from client.reading.care_patterns import means_plainly, names_self_harm

REMEMBERED = 4096
"""Texts whose answer is remembered, by their digest: a list of entries asks for each of them again and again."""


@dataclass(frozen=True)
class Line:
    """A telephone line that listens day and night."""

    number: str
    ko: str
    en: str


@dataclass(frozen=True)
class Care:
    """A kind word in two languages, and the lines to call, the first one first."""

    ko: str
    en: str
    lines: tuple[Line, ...]


CARE_MESSAGE = Care(
    ko=(
        "많이 힘드셨지요. 이렇게 적어 주셔서 고마워요. 혼자 견디지 않으셔도 괜찮아요. "
        "자살예방 상담전화 109와 정신건강 위기상담전화 1577-0199에서 24시간 이야기를 들어 드려요. "
        "지금 위험하다고 느끼시면 112나 119에 바로 연락해 주세요. 이 안내는 진단이 아니라, 글을 보고 걱정이 되어 전하는 말이에요."
    ),
    en=(
        "This sounds very hard, and it is good that you wrote it down. You do not have to bear it alone. "
        "In Korea, the suicide prevention line 109 and the mental health crisis line 1577-0199 listen day and night. "
        "If you are in danger now, call 112 or 119. This is not a diagnosis, only a word of concern about what you wrote."
    ),
    lines=(
        Line("109", ko="자살예방 상담전화", en="suicide prevention line"),
        Line("1577-0199", ko="정신건강 위기상담전화", en="mental health crisis line"),
    ),
)

_answers: OrderedDict[bytes, bool] = OrderedDict()


def speaks_of_self_harm(text: str) -> bool:
    """Whether the text may speak of the writer's own death or of hurting themselves."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    answer = _answers.get(digest)
    if answer is None:
        answer = _answers[digest] = names_self_harm(text) or _sounds_so(text)
        if len(_answers) > REMEMBERED:
            _answers.popitem(last=False)
    return answer


def _sounds_so(text: str) -> bool:
    """Whether the classifier hears need in a sentence that does not say by itself how plainly it is meant."""
    classifier = bundled_classifier()
    return any(classifier.needs_care(piece) and not means_plainly(piece) for piece in pieces_of(text))
