"""Scores: every rate equals scikit-learn's, and parts merge to exactly the whole."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics  # type: ignore[import-untyped]

from model.scores import Scores

CLASSES = [0, 1, 2, 3]
light = settings(deadline=None, max_examples=40)
Predictions = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@st.composite
def predictions(draw: st.DrawFn, least: int = 1) -> Predictions:
    """Probabilities (N, 4) and labels (N,); often some class is never seen or never predicted."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(least, 60))
    possible = draw(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=4, unique=True))
    logits = rng.normal(scale=draw(st.sampled_from([0.1, 1.0, 2.0])), size=(size, 4))
    logits[:, draw(st.lists(st.sampled_from(CLASSES), max_size=3))] -= 6
    exponents = np.exp(logits)
    return (exponents / exponents.sum(axis=1, keepdims=True)).astype(np.float32), rng.choice(possible, size=size)


@light
@given(predictions())
def test_the_confusion_matrix_is_that_of_scikit_learn(both: Predictions) -> None:
    probabilities, labels = both
    wanted = metrics.confusion_matrix(labels, probabilities.argmax(axis=1), labels=CLASSES)
    assert np.array_equal(Scores.count(probabilities, labels).confusion, wanted)


@light
@given(predictions())
def test_precision_recall_and_f1_of_every_class_are_those_of_scikit_learn(both: Predictions) -> None:
    probabilities, labels = both
    scores = Scores.count(probabilities, labels)
    wanted = metrics.precision_recall_fscore_support(labels, probabilities.argmax(axis=1), labels=CLASSES, zero_division=0)
    for own, theirs in zip((scores.precision, scores.recall, scores.f1), wanted, strict=False):
        np.testing.assert_allclose(own, theirs, atol=1e-12)


@light
@given(predictions())
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(both: Predictions) -> None:
    probabilities, labels = both
    predicted, scores = probabilities.argmax(axis=1), Scores.count(probabilities, labels)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted), abs=1e-12)
    assert scores.macro_f1 == pytest.approx(
        metrics.f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0), abs=1e-12
    )


def test_macro_f1_of_data_with_two_classes_is_the_mean_of_those_two_and_of_all_four_the_usual_one() -> None:
    """By hand: joy 3 right, 1 read as sadness; anger 2 right, 2 read as joy: F1 6 / 9 and 4 / 6."""
    counts = np.array([[3, 1, 0, 0], [0] * 4, [2, 0, 2, 0], [0] * 4])
    assert Scores(counts, 0.0).macro_f1 == pytest.approx((6 / 9 + 4 / 6) / 2)
    everywhere = Scores(counts + np.diag([0, 1, 0, 1]), 0.0)
    assert everywhere.macro_f1 == pytest.approx((6 / 9 + 2 / 3 + 4 / 6 + 1) / 4) == pytest.approx(np.mean(everywhere.f1))
    assert Scores(0 * counts, 0.0).macro_f1 == 0.0


@light
@given(predictions())
def test_cross_entropy_is_the_log_loss_of_scikit_learn(both: Predictions) -> None:
    probabilities, labels = both
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows in float32 add up to 1 within a rounding
        wanted = metrics.log_loss(labels, probabilities.astype(np.float64), labels=CLASSES)
    assert Scores.count(probabilities, labels).cross_entropy == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@light
@given(predictions(least=4), st.data())
def test_parts_merge_to_the_whole(both: Predictions, data: st.DataObject) -> None:
    probabilities, labels = both
    cut = data.draw(st.integers(0, len(labels)))
    whole = Scores.count(probabilities, labels)
    merged = Scores.count(probabilities[:cut], labels[:cut]) + Scores.count(probabilities[cut:], labels[cut:])
    assert np.array_equal(merged.confusion, whole.confusion)
    assert merged.log_loss == pytest.approx(whole.log_loss, rel=1e-12)
    assert (merged.accuracy, merged.f1, merged.macro_f1) == (whole.accuracy, whole.f1, whole.macro_f1)


def test_a_class_that_is_never_predicted_counts_in_the_macro_mean_and_one_that_has_no_entry_does_not() -> None:
    probabilities = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]  # classes 2 and 3 are never predicted
    scores = Scores.count(probabilities, np.array([0, 2, 1, 1]))
    assert scores.precision == [0.5, 1.0, 0.0, 0.0]
    assert scores.recall == [1.0, 1.0, 0.0, 0.0]
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1.0 + 0.0) / 3)


def test_a_sure_and_wrong_prediction_costs_much_but_stays_finite() -> None:
    scores = Scores.count(np.array([[1.0, 0.0, 0.0, 0.0]], dtype=np.float32), np.array([3]))
    assert 20 < scores.cross_entropy < 50


def test_no_entries_give_zero_rates_and_not_an_error() -> None:
    scores = Scores.count(np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64))
    assert (scores.total, scores.accuracy, scores.macro_f1, scores.cross_entropy) == (0, 0.0, 0.0, 0.0)


def test_the_summary_is_plain_json_and_names_every_class() -> None:
    probabilities = np.full((3, 4), 0.25, dtype=np.float32)
    probabilities[[0, 1, 2], [0, 1, 1]] = 0.4
    summary = Scores.count(probabilities, np.array([0, 1, 3])).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["classes"] == ["joy", "sadness", "anger", "anxiety"]
    assert [summary["per_class"][name]["support"] for name in summary["classes"]] == [1, 1, 0, 1]
    assert summary["entries"] == 3
    assert summary["cross_entropy"] == pytest.approx(-(2 * math.log(0.4) + math.log(0.25)) / 3)
