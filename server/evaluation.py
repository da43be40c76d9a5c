"""After each round: score the global model on the server's test set, then publish it."""

from __future__ import annotations

import time
from dataclasses import asdict

from model.classifier import EmotionClassifier
from model.examples import test_examples
from model.scores import Scores
from model.settings import RunSettings
from model.training import labelled_entries
from model.weights import Weights
from server.averaging import FederatedAveraging
from server.journal import Journal, RoundRecord, finite_or_none


class Evaluation:
    """The server's test set, passed through the frozen trunk once."""

    def __init__(self, settings: RunSettings, classifier: EmotionClassifier) -> None:
        self._settings = settings
        self._classifier = classifier
        self._test = labelled_entries(classifier, test_examples(settings).examples, settings)

    def score(self, weights: Weights) -> Scores:
        """Scores of these weights on the test set."""
        self._classifier.write(weights)
        return self._classifier.score(self._test.rows, self._test.labels)

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
            user_epsilon=strategy.user_epsilon,
            mb_sent_per_client=tally.mb_sent_per_client,
            seconds=time.monotonic() - tally.started,
            declined=dict(tally.declined),
            refused={str(node): reason for node, reason in tally.refused.items()},
            lost=tally.lost,
            left_out=[str(node) for node in tally.left_out],
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
