"""The engine `torch`: the classifier itself, in the precision that it was trained in."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor

from client.home import Home
from client.reading.engine import MAX_TOKENS, TOGETHER, Engine, Probabilities, require_same_body, settings_of
from model.checkpoint import Manifest
from model.classifier import EmotionClassifier, source_of
from model.hub import find_model
from model.tuning import tuned_classifier
from model.weights import Weights


class TorchEngine:
    """An :class:`EmotionClassifier` with one checkpoint's weights on it; they never change again."""

    def __init__(self, classifier: EmotionClassifier, manifest: Manifest) -> None:
        self._classifier = classifier
        self._built_as = (manifest.model, manifest.tuning)

    def windows(self, texts: Sequence[str]) -> list[list[Tensor]]:
        """As :class:`client.reading.engine.Engine` says."""
        return self._classifier.encode_windows(texts, max_tokens=MAX_TOKENS)

    def __call__(self, windows: Sequence[Tensor]) -> Probabilities:
        return self._classifier.readings_of(self._classifier.lower(windows), batch_size=TOGETHER)

    def beside(self, manifest: Manifest) -> EmotionClassifier | None:
        """A classifier for another checkpoint of the same model and tuning: what is frozen is shared, what is trained its own."""
        if self._built_as != (manifest.model, manifest.tuning):
            return None
        frozen = [tensor for tensor in self._classifier.parameters() if not tensor.requires_grad]
        shared = [self._classifier.tokenizer, self._classifier.halved, *frozen, *self._classifier.buffers()]
        return copy.deepcopy(self._classifier, {id(part): part for part in shared})


def build_torch_engine(home: Home, manifest: Manifest, weights: Weights, now: Engine | None) -> Engine:
    """The classifier that the manifest names, with these weights: on the body that reads now if it is the same one."""
    classifier = (now.beside(manifest) if isinstance(now, TorchEngine) else None) or _built(home, manifest)
    require_same_body(manifest, base_digest=classifier.base_digest, tokenizer_digest=classifier.tokenizer.digest)
    classifier.write(weights)
    return TorchEngine(classifier, manifest)


def _built(home: Home, manifest: Manifest) -> EmotionClassifier:
    return tuned_classifier(settings_of(manifest), find_model(source_of(manifest.model), home.models))
