"""Windows: a text longer than the model reads at once is read in several windows, and what they say is put together.

A window is :data:`client.reading.engine.MAX_TOKENS` tokens long, of which two are the model's own marks. A longer text is cut there
between two tokens: every window but the last is full, none overlaps another, and together they hold all of the text. A text
that fits is one window, and is read as if there were no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from client.reading.engine import Engine, Probabilities
from client.reading.reading import is_close
from model.emotions import EMOTIONS, KINDS
from model.normalization import has_korean

MARKS = 2
"""Tokens of a window that are none of the text's: ``[CLS]`` and ``[SEP]``."""

AGAINST = 1 / 3
"""Share of a text's tokens that must be read as something else before the text counts as divided."""


@dataclass(frozen=True, eq=False)
class Whole:
    """What the windows of one text say together.

    ``probabilities`` (4,) and ``kinds`` (3,) are the windows' mean, each weighing as many tokens as it holds of the text. ``divided``:
    windows that are sure of another emotion than that mean's likeliest hold a third of the text's tokens (:data:`AGAINST`) or more.
    """

    probabilities: Probabilities
    kinds: Probabilities
    divided: bool


def whole(rows: Probabilities, windows: Sequence[Tensor], *, korean: bool = True) -> Whole:
    """Put together what was read (W, 7) in the windows of one text.

    Of a text without Korean it is not known how many feelings it tells: every kind is as likely as any other.
    """
    emotions, kinds = np.split(rows, [len(EMOTIONS)], axis=1)
    if not korean:
        kinds = np.full_like(kinds, 1 / len(KINDS))
    if len(windows) == 1:
        return Whole(emotions[0], kinds[0], divided=False)
    tokens = np.array([len(window) - MARKS for window in windows], dtype=np.float32)
    mean, told = ((tokens @ part / tokens.sum()).astype(np.float32) for part in (emotions, kinds))
    against = (emotions.argmax(axis=1) != mean.argmax()) & ~np.array([is_close(row) for row in emotions])
    return Whole(mean, told, divided=bool(tokens[against].sum() >= AGAINST * tokens.sum()))


def read_windows(engine: Engine, windows: Sequence[Sequence[Tensor]]) -> list[Probabilities]:
    """What is read (W, 7) in some windows of each text, all texts together."""
    rows = engine([window for of_text in windows for window in of_text])
    return np.split(rows, np.cumsum([len(of_text) for of_text in windows])[:-1])


def read_whole(engine: Engine, texts: Sequence[str]) -> list[Whole]:
    """Each text as a whole, however long it is."""
    windows = engine.windows(texts)
    read = zip(read_windows(engine, windows), windows, texts, strict=True)
    return [whole(rows, of_text, korean=has_korean(text)) for rows, of_text, text in read]
