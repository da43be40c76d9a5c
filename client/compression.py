"""Updates in half the bytes: rounded to fp16, with error feedback (Seide et al. 2014; Karimireddy et al. 2019).

What rounding takes from an update is kept on the device and added to its next one in the same run, so that the sum of
all that was sent stays within one rounding of the sum of all that was learned. It is as telling as an update, so it is sealed
under the device's key. Under differential privacy the rounding and what it leaves are computed from the protected update alone,
so they cost nothing (post-processing).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from client.vault import DataKey, SealedFile, WrongKey
from model.weights import Weights


def rounded(difference: Weights, folder: Path, key: DataKey, *, run: str) -> Weights:
    """The difference plus what earlier rounds of this run left behind, rounded to values that fp16 can hold.

    What is left now lies in ``folder`` when this returns. A value beyond fp16 (65,504) becomes infinite, which every
    server refuses, and nothing is kept of such an update.
    """
    remainder = SealedFile(folder / f"rounding-{hashlib.sha256(run.encode()).hexdigest()[:16]}.sealed", key)
    left = _read(remainder)
    wanted = difference + left if left is not None and left.shapes == difference.shapes else difference
    with np.errstate(over="ignore"):
        sent = Weights({name: array.astype(np.float16).astype(np.float32) for name, array in wanted.items()})
    if sent.is_finite():
        for other in folder.glob("rounding-*"):
            if other != remainder.path:
                other.unlink()
        remainder.write(save_arrays((wanted - sent).arrays))
    return sent


def _read(remainder: SealedFile) -> Weights | None:
    """What was left behind; None if there is nothing, or nothing that can be read (one rounding is lost, no more)."""
    try:
        left = Weights(load_arrays(remainder.read()))
    except (FileNotFoundError, WrongKey, SafetensorError):
        return None
    return left if left.is_finite() else None
