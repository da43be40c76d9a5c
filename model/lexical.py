"""Which words an entry holds, beside what the body makes of them: character n-grams, hashed.

A small body averages plain words away: on the sample diaries a linear model over character n-grams beats it by far, and
the two together beat either. So the compact model's head also sees this vector (wide and deep: Cheng et al. 2016). It is
computed from the token ids, without parameters: n-grams of one to three characters within a word and its edges, each
with a sign of its own in one of ``buckets`` places (Weinberger et al. 2009, arXiv 0902.2206), damped as 1 + log is for
TF-IDF, scaled to one length. What the head learns of it is ``(4, buckets)`` weights.

An update of those weights names the n-grams of a diary to whoever sees it, as an update of word embeddings would:
protect it (``privacy.example_level``, ``privacy.masking``); ``healing audit`` shows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.tokenizer import Tokenizer

LEXICAL_VERSION = "ngrams-2"
"""Goes into the digest of every base that reads so: change it with the rules below."""
LONGEST = 3
"""Characters in the longest n-gram."""
LENGTH = 8.0
"""L2 norm of an entry's vector: about that of the pooled state beside it (7.7 on KOTE), so that under DP, where one clip norm and
one noise serve both, neither drowns the other."""
SPACE = np.uint64(ord(" "))
WORD_START = "▁"
UNKNOWN = "[UNK]"
SPECIAL_TOKENS = (UNKNOWN, "[PAD]", "[CLS]", "[SEP]", "[MASK]")

Codes = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]


class Lexical(nn.Module):
    """Token ids (B, S) and their mask to hashed n-grams (B, buckets), each row of norm :data:`LENGTH` or zero."""

    def __init__(self, tokenizer: Tokenizer, buckets: int) -> None:
        super().__init__()
        self.buckets = buckets
        self._spelling = _spelling(tokenizer.pieces())

    def places_of_pieces(self) -> list[Places]:
        """Of every piece of the vocabulary, the places of the n-grams that lie wholly inside it; none for a special token."""
        places: list[list[np.int64]] = [[] for _ in self._spelling]
        for length in range(1, LONGEST + 1):
            hashes, rows = _ngrams(self._spelling, length)
            for row, place in zip(rows, self._places(hashes), strict=True):
                places[row].append(place)
        return [np.array(found, dtype=np.int64) for found in places]

    def _places(self, hashes: Codes) -> Places:
        return (hashes % np.uint64(self.buckets)).astype(np.int64)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        characters = _closed_up(np.where(mask.numpy()[:, :, None] > 0, self._spelling[ids.numpy()], 0))
        places = np.zeros(len(characters) * self.buckets)
        for length in range(1, LONGEST + 1):
            hashes, rows = _ngrams(characters, length)
            signs = np.where(hashes >> np.uint64(63), 1.0, -1.0)
            places += np.bincount(rows * self.buckets + self._places(hashes), weights=signs, minlength=len(places))
        damped = torch.from_numpy(np.sign(places) * np.log1p(np.abs(places))).view(len(characters), self.buckets)
        return (functional.normalize(damped, dim=1) * LENGTH).float()


def _spelling(pieces: Sequence[str]) -> Codes:
    """The characters of every piece, (pieces, longest), 0 where it has no more; a special token has none, an unknown one its own."""
    written = [[] if piece in SPECIAL_TOKENS else [ord(c) for c in piece.replace(WORD_START, " ")] for piece in pieces]
    written[pieces.index(UNKNOWN)] = [1]
    spelling = np.zeros((len(pieces), max(map(len, written))), dtype=np.uint64)
    for row, characters in zip(spelling, written, strict=True):
        row[: len(characters)] = characters
    return spelling


def _closed_up(spelled: Codes) -> Codes:
    """Characters of each row (B, S, L) without the gaps, a space before and behind them: (B, T), 0 where a row has ended."""
    rows = spelled.reshape(len(spelled), -1)
    counts = (rows > 0).sum(axis=1)
    closed = np.zeros((len(rows), max(counts.max() + 2, LONGEST)), dtype=np.uint64)
    at = np.arange(closed.shape[1])
    closed[(at >= 1) & (at <= counts[:, None])] = rows[rows > 0]
    closed[np.arange(len(rows)), counts + 1] = SPACE
    closed[:, 0] = SPACE
    return closed


def _ngrams(characters: Codes, length: int) -> tuple[Codes, Places]:
    """Hashes of every n-gram that lies within one word and its two edges, and the row of each."""
    windows = np.lib.stride_tricks.sliding_window_view(characters, length, axis=1)
    inside = (windows > 0).all(axis=2) & (windows[:, :, 1:-1] != SPACE).all(axis=2) & (windows != SPACE).any(axis=2)
    rows, places = np.nonzero(inside)
    hashes = np.full(len(rows), length, dtype=np.uint64)
    for character in np.moveaxis(windows[rows, places], 1, 0):
        hashes = _mixed(hashes * np.uint64(0x9E3779B97F4A7C15) ^ character)
    return hashes, rows


def _mixed(values: Codes) -> Codes:
    """The finaliser of splitmix64 (Steele et al. 2014): every bit of a value moves every bit of its hash."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
