"""Reading: what the model saw in one entry, and which model that was."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from model.emotions import EMOTIONS, KINDS, Emotion
from model.refusal import Refusal

SURE_BY = 0.15
"""Margin between the two likeliest emotions under which a reading calls itself unsure."""

TOLD_BY = 0.5
"""Probability that one feeling is told under which a reading calls itself unsure."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Four probabilities in the order of the emotions' ids, with version and digest of the checkpoint that gave them."""

    probabilities: tuple[float, ...]
    version: int
    digest: str
    kinds: tuple[float, ...] = (1.0, 0.0, 0.0)
    """Probabilities that the text tells one feeling, none, or several alike, in the order of :data:`model.emotions.KINDS`."""
    divided: bool = False
    """Whether parts of a long text were surely read as something else (:class:`client.reading.windows.Whole`)."""

    def __post_init__(self) -> None:
        if len(self.probabilities) != len(EMOTIONS) or not all(0.0 <= p <= 1.0 for p in self.probabilities):
            raise Refusal(f"a reading has {len(self.probabilities)} probabilities; it needs {len(EMOTIONS)}, each from 0 to 1")
        if len(self.kinds) != len(KINDS):
            raise Refusal(f"a reading has {len(self.kinds)} kinds; it needs {len(KINDS)}: one feeling, none, several")
        for name, values in (("probabilities", self.probabilities), ("kinds", self.kinds)):
            if not math.isclose(sum(values), 1.0, abs_tol=1e-3):
                raise Refusal(f"a reading's {name} sum to {sum(values):g}; they must sum to 1")

    @property
    def emotion(self) -> Emotion:
        """The likeliest of the four."""
        return EMOTIONS[max(range(len(EMOTIONS)), key=self.probabilities.__getitem__)]

    @property
    def ordinary(self) -> bool:
        """Whether no feeling is told: an ordinary day, whatever the four probabilities are."""
        one, none, several = self.kinds
        return none > max(one, several)

    @property
    def unsure(self) -> bool:
        """Whether one feeling is not clearly told, the two likeliest lie close together, or parts of the text were read differently."""
        return self.kinds[0] < TOLD_BY or self.divided or is_close(self.probabilities)


def is_close(probabilities: Iterable[float]) -> bool:
    """Whether the two likeliest lie closer together than :data:`SURE_BY`."""
    first, second = sorted(probabilities, reverse=True)[:2]
    return first - second < SURE_BY
