"""FedProx: a device's local training is drawn back to the weights that it was sent (Li et al. 2020, arXiv 1812.06127).

**Promise.** Each step descends the loss plus ``mu / 2 * |w - received|^2``: the gradient gains ``mu (w - received)``, so that
devices with unlike diaries drift less far apart. At ``mu`` 0 nothing changes, to the last bit.
**Order.** The inner gradient is complete first, clipped (and, under DP, noised and divided); the pull is added to that and
is not clipped itself. ``gradient_clip`` so keeps bounding what entries do, and never weakens the pull of a device that has
gone far; the whole may be longer than the clip, by ``mu`` times the way gone. The optimiser then sees the sum: AdamW
divides by its size, so ``mu`` counts only relative to the gradient of the loss, not to the learning rate.
**Privacy**: given the weights, the pull does not depend on the diary; under example-level DP it is computed from what is
protected already and costs nothing (post-processing). Inside the clipped per-example loss it would use up the clip norm.
**Cost**: one more copy of the trained parameters, and one addition a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.refusal import Refusal

if TYPE_CHECKING:
    from model.training import Gradient


class ProximalGradient:
    """Another gradient, plus ``mu`` times the way from the parameters' values at this object's birth: make it after those are written."""

    def __init__(self, inner: Gradient, parameters: Iterable[Tensor], *, mu: float) -> None:
        if not (math.isfinite(mu) and mu >= 0):
            raise Refusal(f"the proximal mu is {mu}; it must be 0 (no pull) or a positive, finite number")
        self._inner = inner
        self._mu = mu
        self._received = [(parameter, parameter.detach().clone()) for parameter in parameters] if mu else []

    @torch.no_grad()
    def _pull(self) -> None:
        for parameter, received in self._received:
            pull = self._mu * (parameter - received)
            parameter.grad = pull if parameter.grad is None else parameter.grad.add_(pull)

    def __call__(self, rows: Sequence[int]) -> None:
        self._inner(rows)
        self._pull()
