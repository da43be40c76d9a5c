"""Class weights under example-level privacy: a device counts its labels once a run, with noise, and weighs by that.

**Promise.** The noised counts are a release of the Gaussian mechanism: adding or removing one entry moves one of the four
counts by one, and noise of standard deviation ``label_noise`` is on each. It is charged to the device's ledger as one step of
that noise before a label is counted, so whatever follows from the counts (the weights, and every step that they weigh) is
within the epsilon that is told. **For whom**, **against whom**, **assumptions**: those of ``privacy.example_level``.
**Cost**: four numbers, which stay on the device; one hundredth more noise on every step that takes the whole diary
(``privacy.plan.LABEL_SHARE``). At epsilon 8 over ten rounds their noise is 4 entries, at 2 it is 12 and at 1 it is 23: what the
weights are worth falls with epsilon, and a small diary's are then chance, within their bounds.

Without weights, private training forgets rare emotions first: the noise is the same in the direction of each, and the
signal is as large as there are entries (Bagdasaryan, Poursaeed & Shmatikov 2019, arXiv 1905.12101).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.emotions import EMOTIONS
from model.refusal import Refusal
from privacy.ledger import Ledger
from privacy.plan import PrivacyPlan
from privacy.randomness import SecureRandom

LEAST_SHARE = 0.05
"""A class counts as this share of the diary at least, so that no class weighs more than five times an average one."""
KEPT = 16
"""Runs whose counts are kept; a device that takes part in more at a time pays for an old one again."""


class KeptFile(Protocol):
    """Where a device keeps its counts, under its key: they tell how sad a diary is, if not of any one entry."""

    def read(self) -> bytes: ...

    def write(self, content: bytes) -> None: ...


@dataclass(frozen=True)
class ChargedCounts:
    """A run's counts, drawn before or paid for now: the right to count the labels, for which no diary had to be opened."""

    kept: KeptFile
    noise: float
    key: str
    known: dict[str, list[float]]

    def class_weights(self, labels: Tensor) -> Tensor:
        """The class weights (4,) of this run's noised counts of ``labels`` (N,); they are drawn at a run's first round, once."""
        if self.key not in self.known:
            self.known[self.key] = noised_counts(labels, self.noise, SecureRandom()).tolist()
            self.kept.write(json.dumps(dict(list(self.known.items())[-KEPT:])).encode())
        return weights_of_counts(torch.tensor(self.known[self.key], dtype=torch.float64))


def charge_counts(plan: PrivacyPlan, ledger: Ledger, kept: KeptFile, *, run: str, round: int) -> ChargedCounts:
    """Charge a round of a plan that counts labels; with its counting, unless ``kept`` holds this run's counts.

    Where they cannot be read they are charged, and drawn, again. Raises what :meth:`Ledger.charge` raises; nothing may be counted then.
    """
    known, key = _read(kept), hashlib.sha256(f"{run}:{plan.label_noise}".encode()).hexdigest()[:16]
    ledger.charge(plan, run=run, round=round, counts_labels=key not in known)
    return ChargedCounts(kept, plan.label_noise, key, known)


def noised_counts(labels: Tensor, noise: float, randomness: SecureRandom) -> Tensor:
    """How often each emotion occurs in ``labels`` (N,), with noise of standard deviation ``noise``: (4,) float64."""
    counts = torch.bincount(labels, minlength=len(EMOTIONS)).double()
    return counts + randomness.normal(counts.shape, std=noise)


def weights_of_counts(counts: Tensor) -> Tensor:
    """Inverse class frequency from noised counts, (4,) float32, each from 1/4 to 1 / (4 LEAST_SHARE)."""
    counts = counts.clamp(min=1.0)  # less is the noise's doing, and a negative total would turn the weights around
    shares = (counts / counts.sum()).clamp(min=LEAST_SHARE)
    return (1.0 / (len(EMOTIONS) * shares)).float()


def _read(kept: KeptFile) -> dict[str, list[float]]:
    """The counts of each run, the newest last; none if there is no file, or none that can be read."""
    try:
        known = json.loads(kept.read())
        counts = torch.tensor([*known.values()], dtype=torch.float64)
    except (FileNotFoundError, Refusal, ValueError, TypeError, AttributeError):
        return {}
    return known if counts.shape[1:] == (len(EMOTIONS),) and bool(counts.isfinite().all()) else {}
