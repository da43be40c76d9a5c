"""Weights: named float32 arrays with the arithmetic that federated averaging needs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.refusal import Refusal

Array = npt.NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Weights(Mapping[str, Array]):
    """Named float32 arrays, sorted by name; an update is the difference of two of them.

    Arithmetic demands the same names and shapes on both sides and raises :class:`Refusal` otherwise.
    """

    arrays: dict[str, Array]

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            if array.dtype != np.float32:
                raise Refusal(f"'{name}' has dtype {array.dtype}; weights are float32, convert them first")
        object.__setattr__(self, "arrays", dict(sorted(self.arrays.items())))

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __add__(self, other: Weights) -> Weights:
        self.require_shapes(other.shapes)
        return Weights({name: np.asarray(array + other[name]) for name, array in self.arrays.items()})

    def __sub__(self, other: Weights) -> Weights:
        self.require_shapes(other.shapes)
        return Weights({name: np.asarray(array - other[name]) for name, array in self.arrays.items()})

    def scale(self, factor: float) -> Weights:
        """Every value times ``factor``."""
        return Weights({name: np.asarray(array * np.float32(factor)) for name, array in self.arrays.items()})

    @property
    def shapes(self) -> Shapes:
        """Name to shape."""
        return {name: array.shape for name, array in self.arrays.items()}

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(array.size for array in self.arrays.values())

    @property
    def megabytes(self) -> float:
        """Size of the values in MB (10^6 bytes)."""
        return sum(array.nbytes for array in self.arrays.values()) / 1e6

    def norm(self) -> float:
        """L2 norm over all values, summed in double precision; nan if a value is not finite."""
        return math.sqrt(math.fsum(_squared_norm(array) for array in self.arrays.values())) if self.is_finite() else math.nan

    def is_finite(self) -> bool:
        """True if no value is nan or infinite."""
        return all(bool(np.isfinite(array).all()) for array in self.arrays.values())

    def require_shapes(self, shapes: Shapes) -> None:
        """Raise :class:`Refusal` naming the first array that is missing, extra or of another shape."""
        for name in sorted(set(self.arrays) ^ set(shapes)):
            raise Refusal(f"array '{name}' is on one side only; both sides must train the same parameters (check model and tuning)")
        for name, shape in shapes.items():
            if self.arrays[name].shape != shape:
                raise Refusal(f"array '{name}' has shape {self.arrays[name].shape} where {shape} is expected; check model and tuning")

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, shapes and little-endian bytes; equal digests mean equal weights."""
        digest = hashlib.sha256()
        for name, array in self.arrays.items():
            digest.update(f"{len(name)}:{name}:{array.shape};".encode())
            digest.update(np.ascontiguousarray(array, dtype="<f4").data)
        return digest.hexdigest()


class RunningMean:
    """Weighted mean of weights that are seen once and not kept: two copies in memory, however many are added."""

    def __init__(self) -> None:
        self._sums: dict[str, Array] = {}
        self._total = 0.0

    def add(self, weights: Weights, weight: float) -> None:
        """Add one member with a positive, finite weight."""
        if not (weight > 0 and math.isfinite(weight)):
            raise Refusal(f"the weight of an update is {weight}; it must be positive and finite")
        if self._total:
            weights.require_shapes({name: array.shape for name, array in self._sums.items()})
        for name, array in weights.items():
            if name in self._sums:
                self._sums[name] += array * np.float32(weight)
            else:
                self._sums[name] = np.asarray(array * np.float32(weight))
        self._total += weight

    def value(self) -> Weights:
        """The mean so far; call it once, at the end (the sums are divided in place)."""
        for array in self._sums.values():
            array /= np.float32(self._total)
        return Weights(self._sums)


def _squared_norm(array: Array) -> float:
    flat = array.ravel()
    return math.fsum(float(np.square(flat[start : start + 65536], dtype=np.float64).sum()) for start in range(0, flat.size, 65536))
