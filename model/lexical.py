"""Which words an entry holds, beside what the body makes of them: character n-grams, hashed, weighed, and projected to a few numbers.

A small body averages plain words away: on diaries a linear model over character n-grams beats it, and the two together beat
either. So the bundled model's head also reads this vector (wide and deep: Cheng et al. 2016). It is computed from the token ids:

1. n-grams of one to four characters within a word and its edges, each in one of ``buckets`` places (Weinberger et al. 2009, arXiv
   0902.2206). A negation belongs to its word, as in Pang et al. 2002: 안 행복하다 and 행복하지 않다 are one word each;
2. a place counts (1 + log count) x its rarity, log((1 + N) / (1 + n)) + 1 for a place that n of N texts hold (TF-IDF as in
   scikit-learn);
3. the vector is scaled to length 1 and multiplied by a frozen matrix (buckets, features), learned with labels when the model was made
   (:mod:`model.lexical_training`).

What travels are the head's weights over those few features, so an update names no n-gram.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.tokenizer import Tokenizer

LEXICAL_VERSION = "ngrams-4"
"""Goes into the digest of every base that reads so: change it with the rules below."""
NOT_BEFORE, NOT_BEHIND = ("안", "못"), "않"
"""Words that negate the one behind them, and how the word begins that negates the one before it."""
LONGEST = 4
"""Characters in the longest n-gram."""
SPACE = np.uint64(ord(" "))
WORD_START = "▁"
UNKNOWN = "[UNK]"
SPECIAL_TOKENS = (UNKNOWN, "[PAD]", "[CLS]", "[SEP]", "[MASK]")

Codes = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]
Counts = np.ndarray[Any, np.dtype[np.float64]]


class Lexical(nn.Module):
    """Token ids (B, S) and their mask (B, S) to the features (B, P) of their n-grams; a text without letters gives zeros."""

    def __init__(self, tokenizer: Tokenizer, buckets: int, features: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.features = features
        self._spelling = _spelling(tokenizer.pieces())
        self.rarity: Tensor
        self.projection: Tensor
        self.register_buffer("rarity", torch.ones(buckets))
        self.register_buffer("projection", torch.zeros(buckets, features))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        rows, places, counts = self.places(ids, mask)
        values = (1 + np.log(counts)) * self.rarity.numpy()[places]
        values /= np.sqrt(np.bincount(rows, values**2, minlength=len(ids)))[rows]
        found = torch.from_numpy(values).to(self.projection.dtype)[:, None] * self.projection[torch.from_numpy(places)]
        return torch.zeros(len(ids), self.features, dtype=found.dtype).index_add_(0, torch.from_numpy(rows), found)

    def places(self, ids: Tensor, mask: Tensor) -> tuple[Places, Places, Counts]:
        """Row, place and count of every place that a row's n-grams fall into, in the order of rows and places."""
        characters = _closed_up(np.where(mask.numpy()[:, :, None] > 0, self._spelling[ids.numpy()], 0))
        found = []
        for length in range(1, LONGEST + 1):
            hashes, rows = _ngrams(characters, length)
            found.append(rows * self.buckets + (hashes % np.uint64(self.buckets)).astype(np.int64))
        both, counts = np.unique(np.concatenate(found), return_counts=True)
        return both // self.buckets, both % self.buckets, counts.astype(np.float64)


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
    rows = _with_negations_joined(_without_gaps(spelled.reshape(len(spelled), -1)))
    counts = (rows > 0).sum(axis=1)
    closed = np.zeros((len(rows), max(counts.max() + 2, LONGEST)), dtype=np.uint64)
    at = np.arange(closed.shape[1])
    closed[(at >= 1) & (at <= counts[:, None])] = rows[rows > 0]
    closed[np.arange(len(rows)), counts + 1] = SPACE
    closed[:, 0] = SPACE
    return closed


def _without_gaps(rows: Codes) -> Codes:
    """Each row's characters moved to its front, zeros behind them."""
    order = np.argsort(rows == 0, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


def _with_negations_joined(rows: Codes) -> Codes:
    """Zeros for the spaces between a negation and its word."""
    edge = np.zeros((len(rows), 2), dtype=np.uint64)
    around = np.concatenate([edge, rows, edge[:, :1]], axis=1)
    two_before, before, behind = around[:, :-3], around[:, 1:-2], around[:, 3:]
    alone = np.isin(before, [np.uint64(ord(word)) for word in NOT_BEFORE]) & ((two_before == SPACE) | (two_before == 0))
    joined = (rows == SPACE) & (alone | (behind == np.uint64(ord(NOT_BEHIND))))
    return np.where(joined, np.uint64(0), rows)


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
