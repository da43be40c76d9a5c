"""The training loop: equal to a plain PyTorch loop, repeatable from its generator, and fair to rare classes."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight  # type: ignore[import-untyped]
from torch import Tensor

from model.classifier import EmotionClassifier
from model.hub import find_model
from model.settings import RunSettings
from model.training import Entries, MeanGradient, balanced_weights, local_generator, shuffled_epochs, train, train_plainly
from model.tuning import tuned_classifier
from model.weights import Weights

COMPACT = find_model("compact")
TEXTS = [
    f"{number}번째 날, {word}" for number, word in enumerate(["웃었다", "울었다", "소리쳤다", "떨었다", "쉬었다", "걸었다 또 걸었다"] * 3)
]
LABELS = torch.tensor([0, 1, 2, 3, 0, 0] * 3)


def plainly(**more: Any) -> RunSettings:
    defaults: dict[str, Any] = {"model": "compact", "tuning": "head", "privacy": "none", "batch_size": 4, "local_epochs": 2}
    return RunSettings(**(defaults | more))


def prepared(run: RunSettings) -> tuple[EmotionClassifier, Entries]:
    classifier = tuned_classifier(run, COMPACT)
    return classifier, Entries(classifier.lower(classifier.encode(TEXTS, max_tokens=64)), LABELS)


def trained(run: RunSettings, seed: int = 1) -> Weights:
    classifier, entries = prepared(run)
    train_plainly(classifier, entries, run, torch.Generator().manual_seed(seed))
    return classifier.read()


# against a loop of its own


def independent_loop(run: RunSettings, batches: list[list[int]]) -> dict[str, Tensor]:
    """The head as a plain module, trained by the textbook: warm-up, mean loss, clip, AdamW (decay, moments, step) or SGD."""
    classifier, entries = prepared(run)
    start: Any = classifier.blocks["head"]
    names = ["pooler.weight", "pooler.bias", "classifier.weight", "classifier.bias", "words.weight"]
    values = [start.get_parameter(name).detach().clone().requires_grad_() for name in names]
    head = classifier.blocks["head"]
    x = torch.stack([row[0, : head.width] for row in entries.rows])
    words = torch.stack([row[0, head.width : head.inputs] for row in entries.rows])
    first, second = [torch.zeros_like(v) for v in values], [torch.zeros_like(v) for v in values]
    weights = None
    if run.class_weights == "balanced":
        weights = torch.tensor(compute_class_weight("balanced", classes=np.arange(4), y=LABELS.numpy()), dtype=torch.float32)
    rising = max(1, round(run.warmup * len(batches)))
    for step, rows in enumerate(batches, start=1):
        rate = run.learning_rate * min(1.0, step / rising)
        logits = torch.tanh(x[rows] @ values[0].T + values[1]) @ values[2].T + values[3] + words[rows] @ values[4].T
        chosen = -torch.log_softmax(logits, dim=1)[torch.arange(len(rows)), LABELS[rows]]
        share = torch.ones(len(rows)) if weights is None else weights[LABELS[rows]]
        gradients = torch.autograd.grad((chosen * share).sum() / share.sum(), values)
        norm = torch.sqrt(torch.stack([(g.double() ** 2).sum() for g in gradients]).sum())
        factor = float(min(torch.tensor(1.0), run.gradient_clip / (norm + 1e-6)))
        with torch.no_grad():
            for value, g, m, v in zip(values, gradients, first, second, strict=True):
                if run.optimizer == "sgd":
                    value.sub_(rate * (factor * g + run.weight_decay * value))
                    continue
                value.mul_(1 - rate * run.weight_decay)
                m.mul_(0.9).add_(0.1 * factor * g)
                v.mul_(0.999).add_(0.001 * (factor * g) ** 2)
                value.sub_(rate * (m / (1 - 0.9**step)) / ((v / (1 - 0.999**step)).sqrt() + 1e-8))
    return {f"head.{name}": value.detach() for name, value in zip(names, values, strict=True)}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"warmup": 0.5},
        {"warmup": 0.0, "weight_decay": 0.5},
        {"gradient_clip": 0.05},
        {"class_weights": "balanced"},
        {"optimizer": "sgd", "weight_decay": 0.5},
        {"batch_size": 7, "local_epochs": 3, "warmup": 1.0},
    ],
    ids=str,
)
def test_training_equals_a_plain_loop_over_the_same_batches(more: dict[str, Any]) -> None:
    run = plainly(dropout=0.0, learning_rate=0.1 if more.get("optimizer") == "sgd" else 1e-3, **more)
    batches = shuffled_epochs(
        prepared(run)[1].lengths, epochs=run.local_epochs, batch_size=run.batch_size, generator=torch.Generator().manual_seed(1)
    )
    wanted = independent_loop(run, batches)
    own, start = trained(run), prepared(run)[0].read()
    for name, value in wanted.items():
        np.testing.assert_allclose(own[name], value.numpy(), atol=1e-5, rtol=0, err_msg=name)  # Adam divides by tiny roots
        assert np.abs(own[name] - start[name]).max() > 1e-4  # it went somewhere


@pytest.mark.parametrize("model", ["compact", "lstm"])
def test_training_learns_what_it_is_shown(model: str) -> None:
    run = plainly(model=model, tuning="top2", local_epochs=12, learning_rate=2e-3, dropout=0.0)
    classifier, entries = prepared(run)
    before = classifier.score(entries.rows, entries.labels).cross_entropy
    train_plainly(classifier, entries, run, torch.Generator().manual_seed(1))
    assert classifier.score(entries.rows, entries.labels).cross_entropy < 0.7 * before


def test_the_gradient_of_a_step_is_no_longer_than_the_clip() -> None:
    run = plainly(gradient_clip=0.01)
    classifier, entries = prepared(run)
    MeanGradient(classifier, entries, run)([0, 5, 9])
    gradients = [parameter.grad for parameter in classifier.trainable().values()]
    assert all(gradient is not None for gradient in gradients)
    norm = np.sqrt(sum(float((gradient.double() ** 2).sum()) for gradient in gradients if gradient is not None))
    assert norm == pytest.approx(0.01, rel=1e-3)


def test_no_entries_leave_the_weights_as_they_are() -> None:
    run = plainly()
    classifier, _ = prepared(run)
    before = classifier.read().digest
    train_plainly(classifier, Entries([], torch.zeros(0, dtype=torch.int64)), run, torch.Generator().manual_seed(1))
    assert classifier.read().digest == before


def test_every_step_is_reported_in_order() -> None:
    run = plainly()
    classifier, entries = prepared(run)
    seen: list[int] = []
    batches = [[0, 1], [2], [3, 4]]
    gradient = MeanGradient(classifier, entries, run)
    train(classifier, run, batches=batches, steps=3, gradient=gradient, generator=torch.Generator(), on_step=seen.append)
    assert seen == [0, 1, 2]


# randomness


def test_the_same_generator_gives_the_same_weights_with_dropout_and_shuffling() -> None:
    torch.manual_seed(1)
    one = trained(plainly(dropout=0.5))
    torch.manual_seed(2)
    assert trained(plainly(dropout=0.5)).digest == one.digest
    assert trained(plainly(dropout=0.5), seed=2).digest != one.digest


def test_dropout_is_on_while_training() -> None:
    assert trained(plainly(dropout=0.5)).digest != trained(plainly(dropout=0.0)).digest


def test_training_leaves_the_random_numbers_of_the_program_alone() -> None:
    run = plainly(dropout=0.5)
    classifier, entries = prepared(run)
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    train_plainly(classifier, entries, run, torch.Generator().manual_seed(9))
    assert torch.equal(torch.rand(3), wanted)


@settings(deadline=None, max_examples=40)
@given(entries=st.integers(0, 40), epochs=st.integers(1, 4), size=st.integers(1, 50), seed=st.integers(0, 2**31))
def test_an_epoch_visits_every_entry_once_in_batches_of_the_stated_size(entries: int, epochs: int, size: int, seed: int) -> None:
    lengths = torch.randint(1, 90, (entries,), generator=torch.Generator().manual_seed(seed)).tolist()
    batches = shuffled_epochs(lengths, epochs=epochs, batch_size=size, generator=torch.Generator().manual_seed(seed))
    per_epoch = -(-entries // size)
    assert len(batches) == epochs * per_epoch
    for epoch in range(epochs):
        own = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(row for batch in own for row in batch) == list(range(entries))
        assert sorted(map(len, own)) == sorted([size] * (entries // size) + [entries % size] * bool(entries % size))
        if len(own) <= 16:  # one window: the batches part the rows by length
            spans = sorted((min(lengths[row] for row in batch), max(lengths[row] for row in batch)) for batch in own)
            assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_epochs_are_shuffled_differently() -> None:
    first, second = shuffled_epochs([1] * 30, epochs=2, batch_size=30, generator=torch.Generator().manual_seed(1))
    assert first != second != list(range(30))


@pytest.mark.parametrize("seed", [0, 7, 20_250_101, 2**31 - 1])
def test_every_seed_that_the_settings_allow_makes_a_generator(seed: int) -> None:
    run = RunSettings(seed=seed)
    assert torch.rand(1, generator=local_generator(run.seed, round=1, device=2**63 - 1)).item() >= 0


def test_every_device_and_round_has_random_numbers_of_its_own() -> None:
    drawn = Counter(
        float(torch.rand(1, dtype=torch.float64, generator=local_generator(seed, round=round, device=device)))
        for seed in (1, 2)
        for round in range(10)
        for device in (0, 1, 2, 10**6, 2**62, 2**63 - 1)
    )
    assert drawn.total() == len(drawn)


def test_a_device_repeats_its_random_numbers_in_the_same_round() -> None:
    one, two = (torch.rand(5, generator=local_generator(7, round=3, device=11)) for _ in range(2))
    assert torch.equal(one, two)


# class weights


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_balanced_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    present = np.unique(labels)
    wanted = np.zeros(4)
    wanted[present] = compute_class_weight("balanced", classes=present, y=np.array(labels))
    own = balanced_weights(torch.tensor(labels)).numpy()
    np.testing.assert_allclose(own, wanted, rtol=1e-6)
    assert own[labels].mean() == pytest.approx(1.0, rel=1e-5)


def test_fedprox_keeps_a_device_nearer_to_what_it_was_sent_and_mu_zero_changes_nothing() -> None:
    sent = prepared(plainly())[0].read()
    way = {mu: (trained(plainly(strategy="fedprox", proximal_mu=mu)) - sent).norm() for mu in (0.0, 1.0, 100.0)}
    assert way[0.0] == (trained(plainly()) - sent).norm()
    assert way[100.0] < way[1.0] < way[0.0]
