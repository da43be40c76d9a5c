"""Turns: a long text is read a few windows at a time, so that whoever asks meanwhile waits for a turn and not for all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from torch import Tensor

from client.reading.engine import Probabilities
from client.reading.reading import Reading
from client.reading.succession import Model, read_by
from client.reading.windows import Whole, read_windows, whole
from model.emotions import EMOTIONS, KINDS
from model.normalization import has_korean

TURN = 4
"""Windows of a turn that its texts share, at least one each: more of them are read no faster on a CPU."""


@dataclass(frozen=True, eq=False)
class Begun:
    """A text of which some windows are read. One model reads it from the first window to the last."""

    model: Model
    windows: Sequence[Tensor] = field(repr=False)
    korean: bool
    rows: Probabilities = field(default_factory=lambda: np.zeros((0, len(EMOTIONS) + len(KINDS)), dtype=np.float32), repr=False)

    def after(self, rows: Probabilities) -> Reading | Begun:
        """The text's reading once its last windows were read; until then what is left."""
        read = np.concatenate([self.rows, rows])
        if len(read) < len(self.windows):
            return Begun(self.model, self.windows, self.korean, read)
        return reading_of(self.model, whole(read, self.windows, korean=self.korean))


def reading_of(model: Model, read: Whole) -> Reading:
    """What a model read in a whole text."""
    version, digest = model.adopted.name
    probabilities, kinds = (tuple(map(float, part)) for part in (read.probabilities, read.kinds))
    return Reading(probabilities=probabilities, kinds=kinds, version=version, digest=digest, divided=read.divided)


def read_turn(model: Model, parts: Sequence[str | Begun]) -> list[Reading | Begun]:
    """The next windows of texts, and of what earlier turns left of others: a reading of each, or what is left of it now."""
    new = iter(read_by(model.engine.windows, [part for part in parts if isinstance(part, str)]))
    texts = [Begun(model, next(new), has_korean(part)) if isinstance(part, str) else part for part in parts]
    share = max(1, TURN // len(texts))
    after: dict[int, Reading | Begun] = {}
    for reads in {id(text.model): text.model for text in texts}.values():  # several only while texts from before a swap are read on
        places = [place for place, text in enumerate(texts) if text.model is reads]
        turns = [texts[place].windows[len(texts[place].rows) :][:share] for place in places]
        read = read_by(partial(read_windows, reads.engine), turns)
        after |= {place: texts[place].after(rows) for place, rows in zip(places, read, strict=True)}
    return [after[place] for place in range(len(texts))]
