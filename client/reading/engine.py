"""Engine: what reads texts with a checkpoint's weights, and what every kind of it asks before it does.

A builder takes the Home, a manifest, its weights (verified by digest already) and the engine that reads now, from which
it may keep whatever a new checkpoint does not change. It raises :class:`Refusal` if the weights do not belong on what this device holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from client.home import Home
from model.checkpoint import Manifest
from model.refusal import Refusal
from model.settings import RunSettings
from model.weights import Weights

Probabilities = np.ndarray[Any, np.dtype[np.float32]]
"""Of each window seven: the four emotions in the order of their ids, then one, no and several feelings (``model.emotions.KINDS``)."""


class Engine(Protocol):
    """Reads with one checkpoint's weights; safe to call from several threads."""

    def windows(self, texts: Sequence[str]) -> list[list[Tensor]]:
        """Each text as windows of at most :data:`MAX_TOKENS` token ids, at least one."""
        ...

    def __call__(self, windows: Sequence[Tensor]) -> Probabilities:
        """Probabilities (N, 7) of windows, which may be of several texts."""
        ...


BuildEngine = Callable[[Home, Manifest, Weights, Engine | None], Engine]

MAX_TOKENS = RunSettings().max_tokens
TOGETHER = 16
"""Windows of about one length that pass the network at a time: more of them wait longer and are not read faster on a CPU."""


@contextmanager
def on_one_thread() -> Iterator[None]:
    """torch's operations in this thread are not shared out to others meanwhile.

    For all but the thread that reads: OpenMP gives every thread that shares out its operations helpers of its own, and once there
    are more of them than cores, all sleep and are woken at every operation (a reading took 1.3 to 2 times as long).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def settings_of(manifest: Manifest) -> RunSettings:
    """What the manifest's classifier is built by; :class:`Refusal` for a model or tuning that is none."""
    return RunSettings(model=manifest.model, tuning=manifest.tuning, privacy="none", max_tokens=MAX_TOKENS)


def require_same_body(manifest: Manifest, *, base_digest: str, tokenizer_digest: str) -> None:
    """:class:`Refusal` unless the checkpoint was trained on the body and the tokenizer that this device has."""
    for what, theirs, ours in (
        ("base model", manifest.base_digest, base_digest),
        ("tokenizer", manifest.tokenizer_digest, tokenizer_digest),
    ):
        if theirs != ours:
            belongs = f"checkpoint version {manifest.version} belongs to the {what} {theirs[:12]} and this device has {ours[:12]}"
            raise Refusal(f"{belongs}; install the model '{manifest.model}' that it was trained on")
