"""The four emotions that the classifier tells apart."""

from __future__ import annotations

from enum import Enum

from model.names import cleaned
from model.refusal import Refusal


class Emotion(Enum):
    """One of four emotions; ``id`` is the class index of every model, score and confusion matrix.

    ``valence`` and ``arousal`` place it in Russell's circumplex (1980), each in [-1, 1].
    """

    JOY = (0, "joy", "기쁨", "#E8A33D", 0.8, 0.5)
    SADNESS = (1, "sadness", "슬픔", "#4C78A8", -0.7, -0.5)
    ANGER = (2, "anger", "분노", "#D1495B", -0.6, 0.7)
    ANXIETY = (3, "anxiety", "불안", "#7B6D8D", -0.5, 0.5)

    def __init__(self, id: int, en: str, ko: str, colour: str, valence: float, arousal: float) -> None:
        self.id = id
        self.en = en
        self.ko = ko
        self.colour = colour
        self.valence = valence
        self.arousal = arousal

    @classmethod
    def named(cls, name: str) -> Emotion:
        """The emotion with this Korean or English name, in any case and spelling; :class:`Refusal` for any other word."""
        name = cleaned(name)
        wanted = name.casefold()
        for emotion in cls:
            if wanted in (emotion.en, emotion.ko):
                return emotion
        raise Refusal(f"{shown_label(name)} is none of the four emotions; write one of {', '.join(map(str, cls))}")

    def __str__(self) -> str:
        return f"{self.ko} ({self.en})"


def shown_label(name: str) -> str:
    """A label for a message: quoted if it is short and without spaces, since what is longer may be a person's text."""
    return f"'{name}'" if len(name) <= 12 and " " not in name else f"a label of {len(name)} characters"


EMOTIONS: tuple[Emotion, ...] = tuple(sorted(Emotion, key=lambda emotion: emotion.id))
"""The emotions in the order of their ids."""

KINDS: tuple[str, ...] = ("one", "none", "several")
"""What an entry tells: one emotion above all, none (an ordinary day), or several of equal weight."""
