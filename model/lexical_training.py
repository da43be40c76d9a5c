"""How the frozen matrix of :mod:`model.lexical` is learned: regularised logistic regressions over the hashed n-grams, side by side.

Each regression gives as many columns as it has classes, and an entry's features are their logits. So whatever a linear model over
n-grams knows, the head above can read, and weigh against what the body says (stacking, Wolpert 1992). There are regressions for people's
diaries and statements, for strangers' comments, and for how many feelings a text tells (``model.emotions.KINDS``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.lexical import Lexical
from model.refusal import Refusal

SPREAD = 3.0
"""By how much the logits are multiplied: a head's first steps are as large for every weight, and the few features of the words must not be
learned later than the many of the pooled state."""


@dataclass(frozen=True)
class Regression:
    """One regression's rows: which of the texts, their classes 0, 1, ... and what each row weighs."""

    rows: Sequence[int]
    classes: Sequence[int]
    weights: Sequence[float]
    strength: float = 10.0
    """scikit-learn's C: the larger, the less regularised."""


def learn_projection(lexical: Lexical, ids: Sequence[Tensor], regressions: Sequence[Regression]) -> None:
    """Learn rarity and projection from the token ids of some texts, into ``lexical``.

    Rarity comes from all texts. Raises :class:`Refusal` if the regressions have not as many classes together as there are features.
    """
    try:
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise Refusal("learning the words' projection needs scikit-learn; pip install 'feelinghealing[compare]'") from None
    columns = [len(set(regression.classes)) for regression in regressions]
    if sum(columns) != lexical.features:
        raise Refusal(f"the regressions have {sum(columns)} classes together and the model {lexical.features} features; make them equal")
    rows, places, counts = _counted(lexical, ids)
    holders = np.bincount(places, minlength=lexical.buckets)
    rarity = np.log((1 + len(ids)) / (1 + holders)) + 1
    values = (1 + np.log(counts)) * rarity[places]
    values /= np.sqrt(np.bincount(rows, values**2, minlength=len(ids)))[rows]
    texts = csr_matrix((values, (rows, places)), shape=(len(ids), lexical.buckets))
    learned = []
    for regression in regressions:
        fitted = LogisticRegression(C=regression.strength, max_iter=500)
        fitted.fit(texts[np.array(regression.rows)], np.array(regression.classes), sample_weight=np.array(regression.weights))
        learned.append(_one_row_a_class(fitted.coef_))
    with torch.no_grad():
        lexical.rarity.copy_(torch.from_numpy(rarity))
        lexical.projection.copy_(torch.from_numpy(SPREAD * np.concatenate(learned).T))


def _one_row_a_class(coefficients: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of two classes scikit-learn gives one row, the second's."""
    return np.concatenate([-coefficients, coefficients]) / 2 if len(coefficients) == 1 else coefficients


def _counted(lexical: Lexical, ids: Sequence[Tensor]) -> tuple[Any, Any, Any]:
    """Row, place and count of every text, 256 texts at a time."""
    parts = []
    for start in range(0, len(ids), 256):
        padded = torch.nn.utils.rnn.pad_sequence(list(ids[start : start + 256]), batch_first=True)
        lengths = torch.tensor([len(row) for row in ids[start : start + 256]])
        rows, places, counts = lexical.places(padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long())
        parts.append((rows + start, places, counts))
    rows, places, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
    return rows, places, counts
