"""FedProx: the penalised loss' own gradient, nothing at mu 0, and weights that stay nearer the stronger the pull."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.classifier import EmotionClassifier
from model.proximal import ProximalGradient
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, Gradient, MeanGradient, shuffled_epochs, train
from model.tuning import tuned_classifier
from model.weights import Weights
from privacy.example_level import PrivateGradient
from privacy.plan import PrivacyPlan
from privacy.randomness import SecureRandom

ROWS = [0, 3, 4, 7]


def plainly(**more: Any) -> RunSettings:
    defaults: dict[str, Any] = {"model": "compact", "tuning": "head", "privacy": "none", "batch_size": 4, "dropout": 0.0}
    return RunSettings(**(defaults | more))


def prepared(run: RunSettings) -> tuple[EmotionClassifier, Entries]:
    classifier = tuned_classifier(run)
    texts = [f"{number}번째 날, {word}" for number, word in enumerate(["웃었다", "울었다", "소리쳤다", "떨었다"] * 3)]
    return classifier, Entries(classifier.lower(classifier.encode(texts, max_tokens=64)), torch.tensor([0, 1, 2, 3] * 3))


def moved(classifier: EmotionClassifier, *, seed: int = 1) -> dict[str, Tensor]:
    """Puts the weights somewhere else; what they were before."""
    received = {name: parameter.detach().clone() for name, parameter in classifier.trainable().items()}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return received


def gradients(classifier: EmotionClassifier) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in classifier.trainable().items()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def proximal(classifier: EmotionClassifier, inner: Gradient, mu: float) -> ProximalGradient:
    return ProximalGradient(inner, classifier.trainable().values(), mu=mu)


# the gradient


@pytest.mark.parametrize(("model", "tuning"), [("compact", "head"), ("compact", "top1"), ("lstm", "full")])
@pytest.mark.parametrize("mu", [0.01, 1.0, 50.0])
def test_it_is_autograds_gradient_of_the_penalised_loss(model: str, tuning: str, mu: float) -> None:
    run = plainly(model=model, tuning=tuning, gradient_clip=1e9)
    classifier, entries = prepared(run)
    gradient = proximal(classifier, MeanGradient(classifier, entries, run), mu)
    received = moved(classifier)
    gradient(ROWS)
    own = gradients(classifier)
    batch = classifier.batch([entries.rows[row] for row in ROWS], entries.labels[ROWS])
    loss = functional.cross_entropy(classifier.upper().train()(batch.inputs, batch.mask), batch.labels)
    away = torch.stack([(parameter - received[name]).square().sum() for name, parameter in classifier.trainable().items()]).sum()
    wanted = torch.autograd.grad(loss + mu / 2 * away, list(classifier.trainable().values()))
    assert own.keys() == classifier.trainable().keys()
    for (name, found), expected in zip(own.items(), wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6, msg=name)


def test_the_pull_comes_after_the_clip_and_is_not_clipped() -> None:
    run = plainly(gradient_clip=0.01)
    classifier, entries = prepared(run)
    gradient = proximal(classifier, MeanGradient(classifier, entries, run), 2.0)
    received = moved(classifier)
    gradient(ROWS)
    parameters = classifier.trainable()
    pulls = {name: 2.0 * (parameter.detach() - received[name]) for name, parameter in parameters.items()}
    of_the_loss = torch.cat([(found - pulls[name]).flatten() for name, found in gradients(classifier).items()])
    assert float(of_the_loss.norm()) == pytest.approx(0.01, rel=1e-3)
    assert float(torch.cat([pull.flatten() for pull in pulls.values()]).norm()) > 1.0


def test_the_received_weights_are_those_of_its_birth() -> None:
    parameter = torch.tensor([1.0, -2.0], requires_grad=True)
    gradient = ProximalGradient(lambda rows: None, [parameter], mu=3.0)
    for place in ([1.5, -2.0], [1.0, 0.0]):
        with torch.no_grad():
            parameter.copy_(torch.tensor(place))
        parameter.grad = None  # as an inner gradient leaves a parameter that it does not reach
        gradient([])
        torch.testing.assert_close(parameter.grad, 3.0 * (torch.tensor(place) - torch.tensor([1.0, -2.0])))


def test_the_first_step_of_a_round_is_not_pulled() -> None:
    run = plainly()
    classifier, entries = prepared(run)
    MeanGradient(classifier, entries, run)(ROWS)
    wanted = gradients(classifier)
    for parameter in classifier.trainable().values():
        parameter.grad = None
    proximal(classifier, MeanGradient(classifier, entries, run), 10.0)(ROWS)
    for name, found in gradients(classifier).items():
        torch.testing.assert_close(found, wanted[name], rtol=0, atol=0)


# training


def trained(run: RunSettings, wrapped: Callable[[EmotionClassifier, Gradient], Gradient]) -> tuple[Weights, Weights]:
    """The weights before and after some epochs."""
    classifier, entries = prepared(run)
    before = classifier.read()
    batches = shuffled_epochs(entries.lengths, epochs=15, batch_size=4, generator=torch.Generator().manual_seed(1))
    gradient = wrapped(classifier, MeanGradient(classifier, entries, run))
    train(classifier, run, batches=batches, steps=len(batches), gradient=gradient, generator=torch.Generator().manual_seed(2))
    return before, classifier.read()


def test_at_mu_zero_training_is_the_same_to_the_last_bit() -> None:
    run = plainly(dropout=0.3)
    _, plain = trained(run, lambda classifier, inner: inner)
    _, wrapped = trained(run, lambda classifier, inner: proximal(classifier, inner, 0.0))
    assert wrapped.digest == plain.digest


def test_a_larger_mu_keeps_the_weights_nearer() -> None:
    ways = []
    for mu in (0.0, 0.1, 1.0, 10.0):
        before, after = trained(plainly(weight_decay=0.0), lambda classifier, inner, mu=mu: proximal(classifier, inner, mu))  # type: ignore[misc]
        ways.append((after - before).norm())
    assert all(nearer < 0.95 * farther for farther, nearer in pairwise(ways)), ways


@pytest.mark.parametrize("mu", [0.0, 0.5, 4.0])
def test_descent_ends_where_loss_and_pull_balance(mu: float) -> None:
    """Of a loss a/2 |w - c|^2: at (a c + mu received) / (a + mu)."""
    curvature, centre, received = 2.0, torch.tensor([1.0, -3.0, 5.0]), torch.tensor([0.5, 1.0, -1.0])
    parameter = received.clone().requires_grad_()

    def inner(rows: Sequence[int]) -> None:
        parameter.grad = curvature * (parameter.detach() - centre)

    gradient = ProximalGradient(inner, [parameter], mu=mu)
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    for _ in range(200):
        gradient([])
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), (curvature * centre + mu * received) / (curvature + mu))


# under example-level privacy


def test_under_privacy_the_pull_is_added_to_what_is_protected_and_knows_no_entry() -> None:
    run = plainly(privacy="example")
    plan = PrivacyPlan(noise_multiplier=1.0, sampling_rate=0.25, clip_norm=1.0, delta=1e-4, steps_per_round=4)
    classifier, entries = prepared(run)
    received = moved(classifier)
    there = {name: parameter.detach().clone() for name, parameter in classifier.trainable().items()}

    def released(rows: Sequence[int], mu: float) -> dict[str, Tensor]:
        """The gradient of one step with the same noise every time."""
        private = PrivateGradient(classifier, entries, run, plan, SecureRandom(bytes(32)))
        with torch.no_grad():
            for name, parameter in classifier.trainable().items():
                parameter.copy_(received[name])
            gradient = proximal(classifier, private, mu)
            for name, parameter in classifier.trainable().items():
                parameter.copy_(there[name])
        try:
            gradient(rows)
            return gradients(classifier)
        finally:
            private.detach()

    for rows in (ROWS, ROWS[1:], []):
        protected, pulled = released(rows, 0.0), released(rows, 5.0)
        for name, gradient in protected.items():
            torch.testing.assert_close(pulled[name], gradient + 5.0 * (there[name] - received[name]), rtol=0, atol=0)


@pytest.mark.parametrize("mu", [-0.1, math.nan, math.inf])
def test_a_mu_that_is_no_pull_is_refused(mu: float) -> None:
    with pytest.raises(Refusal, match="proximal mu"):
        ProximalGradient(lambda rows: None, [], mu=mu)
