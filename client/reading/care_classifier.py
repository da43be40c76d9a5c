"""Classifier of care: a linear model over hashed character n-grams, for the sentences that no pattern foresaw.

It reads a text sentence by sentence and answers with the largest probability that one of them needs care. It stands beside the patterns
of :mod:`client.reading.care_patterns`; either suffices. Its weights come with the program (``assets/care.safetensors``), were trained
once by :mod:`client.reading.care_training` on sentences written for this, and are read with numpy alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from client.reading.care_forms import forms_of

BUCKETS = 2**17
LONGEST_GRAM = 4
"""Characters of the longest n-gram, spaces included."""
LONGEST_PIECE, STEP = 60, 30
"""Characters that are read at once of a sentence without an end, and how far the next window begins."""

WEIGHTS = "care.safetensors"

_SENTENCE = re.compile(r"(?<=[.!?…。~])\s+|\n+")
_FACTOR, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)

Buckets = NDArray[np.int64]


@dataclass(frozen=True)
class CareClassifier:
    """``weights`` (BUCKETS,) and ``bias`` of a logistic regression, and the probability from which care is shown."""

    weights: NDArray[np.float32]
    bias: float
    threshold: float

    def probability(self, text: str) -> float:
        """The largest probability of need over the text's sentences; 0 for a text without letters."""
        return max((self._of(buckets_of(piece)) for piece in pieces_of(text)), default=0.0)

    def needs_care(self, text: str) -> bool:
        """Whether one of the sentences reaches the threshold."""
        return self.probability(text) >= self.threshold

    def _of(self, buckets: Buckets) -> float:
        if not len(buckets):
            return 0.0
        score = float(self.weights[buckets].sum()) / math.sqrt(len(buckets)) + self.bias
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, score))))


@lru_cache(maxsize=1)
def bundled_classifier() -> CareClassifier:
    """The classifier that comes with the program."""
    tensors = load((resources.files("client.reading") / "assets" / WEIGHTS).read_bytes())
    bias, threshold = (float(number) for number in tensors["bias_threshold"])
    return CareClassifier(tensors["weights"].astype(np.float32), bias, threshold)


def pieces_of(text: str) -> Iterator[str]:
    """The text's sentences; one without an end comes in windows that overlap by half."""
    for sentence in _SENTENCE.split(text):
        for start in range(0, max(1, len(sentence) - STEP), STEP):
            piece = sentence[start : start + LONGEST_PIECE]
            if not piece.isspace() and piece:
                yield piece if len(sentence) > LONGEST_PIECE else sentence
            if start + LONGEST_PIECE >= len(sentence):
                break


def buckets_of(sentence: str) -> Buckets:
    """The buckets of a sentence's n-grams of 1 to ``LONGEST_GRAM`` characters, each once; the sentence is between two spaces."""
    letters = np.frombuffer(f" {forms_of(sentence).plain} ".encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    hashes = [_hashed(letters, length) for length in range(1, min(LONGEST_GRAM, len(letters)) + 1)]
    return np.unique(np.concatenate(hashes)).astype(np.int64) if len(letters) > 2 else np.empty(0, np.int64)


def _hashed(letters: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Polynomial hashes (N - length + 1,) modulo 2**64, mixed, and cut to the number of buckets."""
    count = len(letters) - length + 1
    hashed = np.full(count, length, dtype=np.uint64)
    for place in range(length):
        hashed = hashed * _FACTOR + letters[place : place + count]
    mixed = (hashed ^ (hashed >> np.uint64(31))) * _MIX
    return (mixed ^ (mixed >> np.uint64(29))) % np.uint64(BUCKETS)
