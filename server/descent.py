"""How the server moves the model by a round's mean update: the plain step (FedAvg), or Adam on the server (FedAdam).

**Promise.** :class:`PlainStep` is the last line of FedAvg (McMahan et al. 2017, arXiv 1602.05629) with a server learning
rate, which is 1 there. :class:`AdamStep` is FedAdam as printed in Reddi et al. 2021, arXiv 2003.00295, Algorithm 2, where D
is the mean update, w the weights, and every operation is per coordinate::

    m = beta1 m + (1 - beta1) D             from 0
    v = beta2 v + (1 - beta2) D^2           from tau^2
    w = w + learning_rate m / (sqrt(v) + tau)

without Adam's correction of the early bias: v begins at tau^2, not at zero. Flower's strategy of the same name begins v at
zero, multiplies the rate by ``sqrt(1 - beta2^(t+1)) / (1 - beta1^(t+1))`` in round t = 1, 2, ..., and forgets m and v in
a restart: its first step is 0.74 times the paper's where an update is large against tau, and 1.48 times where it is small.
**State** is what one round hands to the next: Weights, float32 between any two rounds whether they were interrupted or
not, so that a resumed run goes on to the same bits. Save it before the checkpoint to which it belongs is published
(:func:`save_state`); an optimiser without state saves nothing.
**Privacy**: everything here is computed from the mean of what the devices sent, and costs nothing (post-processing).
**Cost**: AdamStep keeps two copies of the trained parameters, and some float64 copies of one array at a time while it works.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_arrays

from model.checkpoint import write_durably
from model.refusal import Refusal
from model.weights import Array, Shapes, Weights

MEAN, SQUARE = "mean:", "square:"
"""Before a parameter's name: its running mean update and its running mean square, in AdamStep's state."""

KEPT = 3
"""States of the last rounds that stay on disk."""


class Descent(Protocol):
    """A server optimiser. Its numbers are fixed; what changes from round to round is the state, in and out."""

    def begin(self, shapes: Shapes) -> Weights:
        """The state before the first round."""

    def step(self, weights: Weights, mean_update: Weights, state: Weights) -> tuple[Weights, Weights]:
        """The new weights and the new state; raises :class:`Refusal` for an update or a state of other shapes, or not finite."""


@dataclass(frozen=True, kw_only=True)
class PlainStep:
    """``w + learning_rate * D``; has no state."""

    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        _require_positive("learning rate", self.learning_rate)

    def begin(self, shapes: Shapes) -> Weights:
        return Weights({})

    def step(self, weights: Weights, mean_update: Weights, state: Weights) -> tuple[Weights, Weights]:
        _require_state(state, {})
        return _finite(weights + mean_update.scale(self.learning_rate)), state


@dataclass(frozen=True, kw_only=True)
class AdamStep:
    """FedAdam. ``tau`` says how small a root mean square still counts: the larger, the closer to a plain step with momentum."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        _require_positive("learning rate", self.learning_rate)
        _require_positive("tau", self.tau)
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= beta < 1:
                raise Refusal(f"the server's {name} is {beta}; it must be at least 0 and below 1")

    def begin(self, shapes: Shapes) -> Weights:
        return Weights(
            {name: np.full(shape, 0.0 if name.startswith(MEAN) else self.tau**2, np.float32) for name, shape in _moments(shapes).items()}
        )

    def step(self, weights: Weights, mean_update: Weights, state: Weights) -> tuple[Weights, Weights]:
        mean_update.require_shapes(weights.shapes)
        _require_state(state, _moments(weights.shapes))
        _finite(mean_update)
        after: dict[str, Array] = {}
        moments: dict[str, Array] = {}
        for name, before in weights.items():
            update = mean_update[name].astype(np.float64)
            mean = self.beta1 * state[MEAN + name].astype(np.float64) + (1 - self.beta1) * update
            square = self.beta2 * state[SQUARE + name].astype(np.float64) + (1 - self.beta2) * update**2
            after[name] = _single(before + self.learning_rate * mean / (np.sqrt(square) + self.tau))
            moments |= {MEAN + name: _single(mean), SQUARE + name: _single(square)}
        return _finite(Weights(after)), _finite(Weights(moments))


def save_state(folder: Path, state: Weights, *, round: int) -> None:
    """Keep the state after ``round``, on disk when this returns; call it before the round's checkpoint is published.

    Then there is none without its state, whenever the server is killed: a round that is run again replaces its state. The
    last three stay, like checkpoints.
    """
    if not state:
        return
    write_durably(_path(folder, round), save_arrays(dict(state.arrays), metadata={"digest": state.digest}))
    for old in folder.glob("descent-*.safetensors"):
        if old.name <= _path(folder, round - KEPT).name:
            old.unlink()


def resumed_state(folder: Path, descent: Descent, shapes: Shapes, *, round: int) -> Weights:
    """The state after ``round`` finished rounds; :class:`Refusal` if it is lost, damaged, or of other parameters."""
    beginning = descent.begin(shapes)
    if round == 0 or not beginning:
        return beginning
    path = _path(folder, round)
    try:
        with safe_open(path, framework="numpy") as file:
            digest = (file.metadata() or {}).get("digest")
            state = Weights({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError):
        raise Refusal(f"'{path}' cannot be read, so the server optimiser cannot go on; restore it, or start the run anew") from None
    if state.digest != digest:
        raise Refusal(f"'{path}' is damaged: its values have another digest than it says; restore it, or start the run anew")
    _require_state(state, beginning.shapes)
    return state


def _path(folder: Path, round: int) -> Path:
    return folder / f"descent-{max(round, 0):06d}.safetensors"


def _moments(shapes: Shapes) -> Shapes:
    return {kind + name: shape for kind in (MEAN, SQUARE) for name, shape in shapes.items()}


def _single(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Array:
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        return np.asarray(values, dtype=np.float32)


def _finite(weights: Weights) -> Weights:
    if not weights.is_finite():
        raise Refusal("the server's step gave a value that is not finite; lower update-norm-limit or the server's learning rate")
    return weights


def _require_state(state: Weights, wanted: Shapes) -> None:
    try:
        state.require_shapes(wanted)
    except Refusal as refusal:
        raise Refusal(f"the state of the server optimiser belongs to another run: {refusal}") from None


def _require_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise Refusal(f"the server's {name} is {value}; it must be positive and finite")
