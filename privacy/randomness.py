"""Noise and sampling that nobody can predict: a ChaCha20 stream keyed by the operating system.

torch's and numpy's generators are not cryptographic: whoever knows the seed, or has seen enough draws, regenerates the
noise and takes it off (measured: down to 6e-8). Normal draws are Box-Muller (1958) over 53-bit uniforms; each value is
half the sum of four of them, which hides the gaps of floating-point noise (Holohan & Braghin 2021, arXiv 2107.10138).
"""

from __future__ import annotations

import os

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from torch import Tensor

_ROUNDS = 4


class SecureRandom:
    """A stream of unpredictable draws. ``key`` (32 bytes) is for tests; without it the operating system gives one."""

    def __init__(self, key: bytes | None = None) -> None:
        self._stream = Cipher(algorithms.ChaCha20(key or os.urandom(32), bytes(16)), mode=None).encryptor()

    def uniform(self, size: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """``size`` values in [0, 1), each a multiple of 2^-53."""
        words = np.frombuffer(self._stream.update(bytes(8 * size)), dtype="<u8")
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, shape: torch.Size, *, std: float) -> Tensor:
        """Gaussian noise (float64) of standard deviation ``std``; add it before rounding to float32, never after."""
        size = int(np.prod(shape))
        pairs = (size * _ROUNDS + 1) // 2
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(pairs)))
        angle = 2.0 * np.pi * self.uniform(pairs)
        draws = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[: size * _ROUNDS]
        values = draws.reshape(_ROUNDS, size).sum(axis=0) * (std / np.sqrt(_ROUNDS))
        return torch.from_numpy(values).reshape(shape)

    def poisson_sample(self, entries: int, rate: float) -> list[int]:
        """Row numbers, each of ``entries`` taken independently with probability ``rate``; may be empty."""
        return np.flatnonzero(self.uniform(entries) < rate).tolist()
