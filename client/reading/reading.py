"""Reading: what the model saw in one entry, and which model that was."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from model.emotions import EMOTIONS, Emotion
from model.refusal import Refusal

SURE_BY = 0.15
"""Margin between the two likeliest emotions under which a reading calls itself unsure."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Four probabilities in the order of the emotions' ids, with version and digest of the checkpoint that gave them."""

    probabilities: tuple[float, ...]
    version: int
    digest: str
    divided: bool = False
    """Whether parts of a long text were surely read as something else (:class:`client.reading.windows.Whole`)."""

    def __post_init__(self) -> None:
        if len(self.probabilities) != len(EMOTIONS) or not all(0.0 <= p <= 1.0 for p in self.probabilities):
            raise Refusal(f"a reading has {len(self.probabilities)} probabilities; it needs {len(EMOTIONS)}, each from 0 to 1")
        if not math.isclose(sum(self.probabilities), 1.0, abs_tol=1e-3):
            raise Refusal(f"a reading's probabilities sum to {sum(self.probabilities):g}; they must sum to 1")

    @property
    def emotion(self) -> Emotion:
        """The likeliest of the four."""
        return EMOTIONS[max(range(len(EMOTIONS)), key=self.probabilities.__getitem__)]

    @property
    def unsure(self) -> bool:
        """Whether the two likeliest lie close together, or the text's parts were read as different things."""
        return self.divided or is_close(self.probabilities)


def is_close(probabilities: Iterable[float]) -> bool:
    """Whether the two likeliest lie closer together than :data:`SURE_BY`."""
    first, second = sorted(probabilities, reverse=True)[:2]
    return first - second < SURE_BY
