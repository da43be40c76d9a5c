"""Class weights under example-level privacy: a device counts its labels once a run, with noise, and weighs by that.

**Promise.** The noised counts are a release of the Gaussian mechanism: adding or removing one entry moves one of the four
counts by one, and noise of standard deviation ``label_noise`` is on each. It is charged to the device's ledger as one step of
that noise before a label is counted, so whatever follows from the counts (the weights, and every step that they weigh) is
within the epsilon that is told. **For whom**, **against whom**, **assumptions**: those of ``privacy.example_level``.
**Cost**: four numbers, which stay on the device; one hundredth more noise on every step (``privacy.plan.LABEL_SHARE``).

Without weights, private training forgets rare emotions first: the noise is the same in the direction of each, and the
signal is as large as there are entries (Bagdasaryan, Poursaeed & Shmatikov 2019, arXiv 1905.12101).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import write_durably
from model.emotions import EMOTIONS
from privacy.ledger import Ledger
from privacy.plan import PrivacyPlan
from privacy.randomness import SecureRandom

LEAST_SHARE = 0.05
"""A class counts as this share of the diary at least: a noised count near zero would weigh its class without bound."""


def weighed_classes(labels: Tensor, plan: PrivacyPlan, ledger: Ledger, folder: Path, *, run: str, round: int) -> Tensor:
    """Class weights (4,) from this run's noised counts of ``labels`` (N,), drawn and charged at their first use.

    The counts lie in ``folder`` until another run's take their place. Where they cannot be read they are drawn, and charged,
    again. Raises what :meth:`Ledger.charge_label_counts` raises.
    """
    name = hashlib.sha256(f"{run}:{plan.label_noise}".encode()).hexdigest()[:16]
    path = folder / f"label-counts-{name}.json"
    counts = _read(path)
    if counts is None:
        ledger.charge_label_counts(plan, run=run, round=round)
        counts = noised_counts(labels, plan.label_noise, SecureRandom())
        for other in folder.glob("label-counts-*.json"):
            other.unlink()
        write_durably(path, json.dumps(counts.tolist()).encode())
    return weights_of_counts(counts)


def noised_counts(labels: Tensor, noise: float, randomness: SecureRandom) -> Tensor:
    """How often each emotion occurs in ``labels`` (N,), with noise of standard deviation ``noise``: (4,) float64."""
    counts = torch.bincount(labels, minlength=len(EMOTIONS)).double()
    return counts + randomness.normal(counts.shape, std=noise)


def weights_of_counts(counts: Tensor) -> Tensor:
    """Inverse class frequency, (4,) float32, from noised counts; 1 for each where they are all alike."""
    total = counts.sum().clamp(min=1.0)
    shares = (counts / total).clamp(min=LEAST_SHARE)
    return (1.0 / (len(EMOTIONS) * shares)).float()


def _read(path: Path) -> Tensor | None:
    try:
        counts = torch.tensor(json.loads(path.read_bytes()), dtype=torch.float64)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return counts if counts.shape == (len(EMOTIONS),) and bool(counts.isfinite().all()) else None
