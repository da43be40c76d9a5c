"""Scores: counts that merge exactly; every rate is computed from them on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.emotions import EMOTIONS

Matrix = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scores:
    """``confusion`` (C, C) of counts, rows true and columns predicted; ``log_loss`` summed over entries in nats."""

    confusion: Matrix
    log_loss: float

    @classmethod
    def count(cls, probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]]) -> Scores:
        """Count predictions (N, C) against labels (N,)."""
        classes = len(EMOTIONS)
        confusion = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
        chosen = np.clip(probabilities[np.arange(len(labels)), labels].astype(np.float64), 1e-12, 1.0)
        return cls(confusion, float(-np.log(chosen).sum()))

    def __add__(self, other: Scores) -> Scores:
        return Scores(self.confusion + other.confusion, self.log_loss + other.log_loss)

    @property
    def total(self) -> int:
        """Number of entries scored."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of entries read rightly."""
        return _ratio(np.trace(self.confusion), self.total)

    @property
    def cross_entropy(self) -> float:
        """Mean negative log likelihood in nats."""
        return _ratio(self.log_loss, self.total)

    @property
    def precision(self) -> list[float]:
        """Per class; 0 for a class that was never predicted (as scikit-learn's ``zero_division=0``)."""
        return [_ratio(self.confusion[i, i], self.confusion[:, i].sum()) for i in range(len(self.confusion))]

    @property
    def recall(self) -> list[float]:
        """Per class; 0 for a class that has no entry."""
        return [_ratio(self.confusion[i, i], self.confusion[i].sum()) for i in range(len(self.confusion))]

    @property
    def f1(self) -> list[float]:
        """Per class: the harmonic mean of precision and recall."""
        return [_ratio(2 * p * r, p + r) for p, r in zip(self.precision, self.recall, strict=True)]

    @property
    def macro_f1(self) -> float:
        """Unweighted mean of F1 over the classes that have an entry.

        Where all four do, that is the usual mean. Over data of two classes, a class without an entry would be an F1 of 0
        whatever the model says, and halve the figure; an entry that is read as such a class is missed by its own all the same.
        """
        occurring = [f1 for f1, row in zip(self.f1, self.confusion, strict=True) if row.any()]
        return float(np.mean(occurring)) if occurring else 0.0

    def summary(self) -> dict[str, Any]:
        """Everything as plain JSON values, per-class figures under the English names."""
        per_class = {
            emotion.en: {"precision": p, "recall": r, "f1": f, "support": int(row.sum())}
            for emotion, p, r, f, row in zip(EMOTIONS, self.precision, self.recall, self.f1, self.confusion, strict=True)
        }
        return {
            "entries": self.total,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "cross_entropy": self.cross_entropy,
            "classes": [emotion.en for emotion in EMOTIONS],
            "confusion": self.confusion.tolist(),
            "per_class": per_class,
        }


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else 0.0
