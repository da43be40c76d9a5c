"""What reads texts with a checkpoint's weights: one builder for each engine, by name.

A builder takes the Home, a manifest, its weights (verified by digest already) and the engine that reads now, from which
it may keep whatever a new checkpoint does not change; what it gives maps texts to probabilities (N, 4) and is safe to
call from several threads. It raises :class:`Refusal` if the weights do not belong on what this device holds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from client.home import Home
from model.checkpoint import Manifest
from model.classifier import EmotionClassifier, source_of
from model.hub import find_model
from model.refusal import Refusal
from model.settings import RunSettings
from model.tuning import tuned_classifier
from model.weights import Weights

Probabilities = np.ndarray[Any, np.dtype[np.float32]]
Engine = Callable[[Sequence[str]], Probabilities]
BuildEngine = Callable[[Home, Manifest, Weights, Engine | None], Engine]

MAX_TOKENS = RunSettings().max_tokens
TOGETHER = 16
"""Texts of about one length that pass the network at a time: more of them wait longer and are not read faster on a CPU."""


class TorchEngine:
    """An :class:`EmotionClassifier` with one checkpoint's weights on it; they never change again."""

    def __init__(self, classifier: EmotionClassifier, manifest: Manifest) -> None:
        self._classifier = classifier
        self._built_as = (manifest.model, manifest.tuning)

    def __call__(self, texts: Sequence[str]) -> Probabilities:
        return self._classifier.probabilities(texts, max_tokens=MAX_TOKENS, batch_size=TOGETHER)

    def beside(self, manifest: Manifest) -> EmotionClassifier | None:
        """A classifier for another checkpoint of the same model and tuning: what is frozen is shared, what is trained its own."""
        if self._built_as != (manifest.model, manifest.tuning):
            return None
        frozen = [tensor for tensor in self._classifier.parameters() if not tensor.requires_grad]
        shared = [self._classifier.tokenizer, *frozen, *self._classifier.buffers()]
        return copy.deepcopy(self._classifier, {id(part): part for part in shared})


def build_torch_engine(home: Home, manifest: Manifest, weights: Weights, now: Engine | None) -> Engine:
    """The classifier that the manifest names, with these weights: on the body that reads now if it is the same one."""
    classifier = (now.beside(manifest) if isinstance(now, TorchEngine) else None) or _built(home, manifest)
    _require_same_body(manifest, classifier)
    classifier.write(weights)
    return TorchEngine(classifier, manifest)


ENGINES: dict[str, BuildEngine] = {"torch": build_torch_engine}
"""The engines by name."""


def engine_named(name: str, engines: Mapping[str, BuildEngine]) -> BuildEngine:
    """The builder of this name; :class:`Refusal` that lists the names there are."""
    if name not in engines:
        raise Refusal(f"engine is '{name}'; choose one of {', '.join(engines)}")
    return engines[name]


def _built(home: Home, manifest: Manifest) -> EmotionClassifier:
    settings = RunSettings(model=manifest.model, tuning=manifest.tuning, privacy="none", max_tokens=MAX_TOKENS)
    return tuned_classifier(settings, find_model(source_of(manifest.model), home.models))


def _require_same_body(manifest: Manifest, classifier: EmotionClassifier) -> None:
    for what, theirs, ours in (
        ("base model", manifest.base_digest, classifier.base_digest),
        ("tokenizer", manifest.tokenizer_digest, classifier.tokenizer.digest),
    ):
        if theirs != ours:
            belongs = f"checkpoint version {manifest.version} belongs to the {what} {theirs[:12]} and this device has {ours[:12]}"
            raise Refusal(f"{belongs}; install the model '{manifest.model}' that it was trained on")
