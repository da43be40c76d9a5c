"""After each round: score the global model on the server's test set, then publish it."""

from __future__ import annotations

import time
from dataclasses import asdict

import torch

from model.classifier import EmotionClassifier
from model.examples import test_examples, texts
from model.scores import Scores
from model.settings import RunSettings
from model.weights import Weights
from server.journal import Journal, RoundRecord, finite_or_none
from server.strategies import FederatedAveraging


class Evaluation:
    """The server's test set, passed through the frozen trunk once."""

    def __init__(self, settings: RunSettings, classifier: EmotionClassifier) -> None:
        examples = test_examples(settings).examples
        self._settings = settings
        self._classifier = classifier
        self._rows = classifier.lower(classifier.encode(texts(examples), max_tokens=settings.max_tokens))
        self._labels = torch.tensor([example.emotion.id for example in examples])

    def score(self, weights: Weights) -> Scores:
        """Scores of these weights on the test set."""
        self._classifier.write(weights)
        return self._classifier.score(self._rows, self._labels)

    def close_round(self, round: int, weights: Weights, strategy: FederatedAveraging, journal: Journal) -> Scores:
        """Score, publish, and add the round's line; done once the checkpoint is on disk."""
        scores = self.score(weights)
        tally = strategy.tally
        record = RoundRecord(
            round=round,
            clients=tally.trained,
            macro_f1=scores.macro_f1,
            accuracy=scores.accuracy,
            cross_entropy=scores.cross_entropy,
            epsilon_max=finite_or_none(strategy.epsilon),
            delta=self._settings.delta if strategy.plan is not None else None,
            mb_sent_per_client=tally.mb_sent_per_client,
            seconds=time.monotonic() - tally.started,
            declined=dict(tally.declined),
            refused={str(node): reason for node, reason in tally.refused.items()},
        )
        journal.checkpoints.publish(
            weights,
            model=self._settings.model,
            tuning=self._settings.tuning,
            base_digest=self._classifier.base_digest,
            tokenizer_digest=self._classifier.tokenizer.digest,
            round=round,
            scores=asdict(record),
            epsilon=strategy.epsilon,
            delta=record.delta or 0.0,
        )
        journal.append(record)
        return scores
