"""Checkpoints as the engines' tests need them: weights for the compact model, published in a Home, and what they give by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from client.home import Home
from client.reading.engine import Probabilities
from model.checkpoint import Manifest
from model.classifier import EmotionClassifier
from model.settings import RunSettings
from model.tuning import tuned_classifier
from model.weights import Weights

Publish = Callable[..., Manifest]
Shaken = Callable[[Weights, int, float], Weights]
Alone = Callable[[EmotionClassifier, Weights, Sequence[str]], Probabilities]


@pytest.fixture(scope="session")
def classifier() -> EmotionClassifier:
    """To make weights of a head of, and to read with, one version at a time, beside the reader."""
    return tuned_classifier(RunSettings(tuning="head", privacy="none"))


@pytest.fixture
def publish(home: Home, classifier: EmotionClassifier) -> Publish:
    """Publish weights in this test's Home: a head's, or those of the classifier ``of``; fields of the manifest may be others."""

    def publish(weights: Weights, *, of: EmotionClassifier = classifier, **fields: Any) -> Manifest:
        what: dict[str, Any] = {"model": "compact", "tuning": "head", "round": 1}
        what |= {"base_digest": of.base_digest, "tokenizer_digest": of.tokenizer.digest}
        return home.checkpoints.publish(weights, **(what | fields))

    return publish


@pytest.fixture(scope="session")
def shaken() -> Shaken:
    """Weights with noise of a seed and a spread on every value."""

    def shaken(weights: Weights, seed: int, spread: float) -> Weights:
        rng = np.random.default_rng(seed)
        return Weights({name: array + rng.normal(0, spread, array.shape).astype(np.float32) for name, array in weights.items()})

    return shaken


@pytest.fixture(scope="session")
def drawn(classifier: EmotionClassifier, shaken: Shaken) -> Callable[[int], Weights]:
    """Weights of a head by seed: the classifier's own, shaken enough to read otherwise."""
    own = classifier.read()
    return lambda seed: shaken(own, seed, 0.3)


@pytest.fixture(scope="session")
def alone() -> Alone:
    """What a classifier of its own gives with these weights, one text at a time."""

    def alone(classifier: EmotionClassifier, weights: Weights, texts: Sequence[str]) -> Probabilities:
        classifier.write(weights)
        return np.concatenate([classifier.probabilities([text], max_tokens=128) for text in texts])

    return alone
