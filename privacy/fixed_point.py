"""Fixed point: updates as whole numbers modulo 2^32, so that masks and ciphertexts of many devices add up exactly.

A value v becomes ``trunc(v * scale)``: towards zero, so the L2 norm of what is sent never exceeds the norm that was
clipped to. ``bound`` is the largest absolute value one device may send in one coordinate; with ``summands`` devices no sum
leaves the signed 32-bit range, and what is decoded is the sum of what was encoded, exactly. A larger value is refused,
never saturated and never wrapped. The step 1 / scale = bound * summands / (2^31 - 1): for ten devices, 4.7e-9 of the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.refusal import Refusal
from model.weights import Shapes, Weights

MODULUS_BITS = 32
LARGEST: int = 2 ** (MODULUS_BITS - 1) - 1

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FixedPoint:
    """The agreed form of a round: every device and the server must hold the same two numbers."""

    bound: float
    summands: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise Refusal(f"the bound of a coordinate is {self.bound}; it must be positive and finite")
        if not 1 <= self.summands <= 2**20:
            raise Refusal(f"{self.summands} devices are to be summed in fixed point; it must be at least 1 and at most {2**20}")

    @property
    def scale(self) -> float:
        """Whole numbers per unit."""
        return (LARGEST // self.summands) / self.bound

    def encode(self, update: Weights) -> Integers:
        """All values in the order of their names, (D,), each within +-(2^31 - 1) / summands; :class:`Refusal` for one beyond ``bound``."""
        values = np.concatenate([array.ravel().astype(np.float64) for array in update.values()])
        if not np.isfinite(values).all():
            raise Refusal("the update holds a value that is not finite; nothing was sent")
        largest = float(np.abs(values).max(initial=0.0))
        if largest > self.bound:
            raise Refusal(f"the update holds a value of size {largest:.3g} and the most that fits is {self.bound:.3g}; lower the clip norm")
        return np.trunc(values * self.scale).astype(np.int64)

    def decode(self, total: Integers, shapes: Shapes) -> Weights:
        """The sum (D,) as weights again, still a sum: divide by the number of devices for the mean."""
        arrays, start = {}, 0
        for name in sorted(shapes):
            size = math.prod(shapes[name])
            arrays[name] = (total[start : start + size] / self.scale).astype(np.float32).reshape(shapes[name])
            start += size
        if start != len(total):
            raise Refusal(f"the sum has {len(total)} values and the model's parameters {start}; both sides must train the same ones")
        return Weights(arrays)


def centred(residues: npt.NDArray[np.uint32]) -> Integers:
    """Residues modulo 2^32 as signed numbers in [-2^31, 2^31)."""
    return residues.astype(np.uint32).view(np.int32).astype(np.int64)
