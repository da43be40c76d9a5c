"""Tests of privacy.example_level: against a loop over single examples, Opacus' own optimizer, and attackers who may choose the weights."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from safetensors.torch import save_file
from scipy import stats  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertModel

from model.classifier import EmotionClassifier
from model.hub import find_model
from model.settings import RunSettings
from model.training import Entries, train_plainly
from model.tuning import tuned_classifier
from privacy.example_level import AT_ONCE, PrivateGradient, clipped_sums, poisson_batches, train_privately
from privacy.plan import PrivacyPlan
from privacy.randomness import SecureRandom

COMBINATIONS = [("compact", tuning) for tuning in ("probe", "head", "top2", "lora", "full")] + [
    ("lstm", tuning) for tuning in ("head", "top2", "full")
]
KEY = bytes(range(32))


def settings(*, model: str = "compact", tuning: str = "head", **overrides: float) -> RunSettings:
    return RunSettings(model=model, tuning=tuning, **({"dropout": 0.0} | overrides))  # type: ignore[arg-type]


def plan(*, noise: float = 1.0, rate: float = 0.25, clip_norm: float = 1.0, steps: int = 4, delta: float = 1e-4) -> PrivacyPlan:
    return PrivacyPlan(noise_multiplier=noise, sampling_rate=rate, clip_norm=clip_norm, delta=delta, steps_per_round=steps)


def invented_entries(classifier: EmotionClassifier, number: int, *, seed: int = 0) -> Entries:
    """Random token ids, entries of different lengths (up to 20 words), and random labels."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [1 + (7 * row + 3) % 20 for row in range(number)]
    words = [torch.randint(5, classifier.tokenizer.vocabulary_size, (length,), generator=generator) for length in lengths]
    ids = [torch.cat([torch.tensor([2]), word, torch.tensor([3])]) for word in words]
    return Entries(classifier.lower(ids), torch.randint(0, 4, (number,), generator=generator))


def flat(classifier: EmotionClassifier, tensors: dict[str, Tensor]) -> Tensor:
    """All values as one vector of doubles, in the order of the trained parameters."""
    return torch.cat([tensors[name].detach().reshape(-1).double() for name in classifier.trainable()])


def one_example_gradients(classifier: EmotionClassifier, entries: Entries) -> list[Tensor]:
    """The slow obvious way: each entry alone, not padded, through plain PyTorch."""
    upper, parameters = classifier.upper().train(), list(classifier.trainable().values())
    gradients = []
    for row, label in zip(entries.rows, entries.labels, strict=True):
        loss = functional.cross_entropy(upper(row[None], torch.ones(1, len(row), dtype=torch.int64)), label[None])
        gradients.append(torch.cat([gradient.reshape(-1) for gradient in torch.autograd.grad(loss, parameters)]))
    return gradients


def clipped_loop(gradients: Sequence[Tensor], clip_norm: float) -> Tensor:
    """Every gradient scaled to ``clip_norm`` where it is longer (with the 1e-6 by which Opacus keeps from dividing by zero)."""
    return torch.stack([gradient.double() * min(1.0, clip_norm / (float(gradient.double().norm()) + 1e-6)) for gradient in gradients]).sum(
        0
    )


@dataclass
class Learner:
    """A classifier of one combination, four entries of different lengths, and each entry's own gradient."""

    classifier: EmotionClassifier
    tuning: str
    entries: Entries
    gradients: list[Tensor]

    def clipped_sums(self, clip_norm: float, *selections: Sequence[int]) -> list[Tensor]:
        """The clipped sum of each selection of rows, one after the other by the same object as in a round."""
        summed = clipped_sums(self.classifier, self.tuning, clip_norm)
        try:
            sums = []
            for rows in selections:
                batch = self.classifier.batch([self.entries.rows[row] for row in rows], self.entries.labels[list(rows)])
                sums.append(flat(self.classifier, summed(batch.inputs, batch.mask, batch.labels)))
            return sums
        finally:
            summed.detach()


def learner_of(model: str, tuning: str, *, entries: int = 4, seed: int = 0) -> Learner:
    classifier = tuned_classifier(settings(model=model, tuning=tuning))
    invented = invented_entries(classifier, entries, seed=seed)
    return Learner(classifier, tuning, invented, one_example_gradients(classifier, invented))


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def learner(request: pytest.FixtureRequest) -> Learner:
    return learner_of(*request.param)


# clipping


def test_weighted_examples_are_clipped_after_they_are_weighed(learner: Learner) -> None:
    """The loop: each entry's own gradient, times its class's weight, then scaled to the clip norm where it is longer."""
    weights = torch.tensor([0.3, 1.0, 2.5, 5.0])
    weighed = [gradient * weights[label] for gradient, label in zip(learner.gradients, learner.entries.labels, strict=True)]
    clip_norm = float(torch.stack([gradient.norm() for gradient in weighed]).median())
    expected = clipped_loop(weighed, clip_norm)
    summed = clipped_sums(learner.classifier, learner.tuning, clip_norm, weights)
    try:
        batch = learner.classifier.batch(learner.entries.rows, learner.entries.labels)
        own = flat(learner.classifier, summed(batch.inputs, batch.mask, batch.labels))
    finally:
        summed.detach()
    assert float((own - expected).norm()) <= 1e-5 * max(1.0, float(expected.norm()))


@pytest.mark.parametrize("clip_norm", [0.05, 1.0, 1000.0])
def test_the_clipped_sum_is_that_of_a_loop_over_single_examples_in_any_order(learner: Learner, clip_norm: float) -> None:
    expected = clipped_loop(learner.gradients, clip_norm)
    scale = max(1.0, float(expected.norm()))
    for summed in learner.clipped_sums(clip_norm, [0, 1, 2, 3], [2, 0, 3, 1]):
        assert float((summed - expected).abs().max()) <= 1e-6 * scale
        assert float((summed - expected).norm()) <= 1e-5 * scale


def test_no_entry_contributes_more_than_the_clip_norm_and_a_short_gradient_contributes_itself(learner: Learner) -> None:
    norms = [float(gradient.double().norm()) for gradient in learner.gradients]
    clip_norm = sum(sorted(norms)[1:3]) / 2  # two are clipped, two are not
    for row, summed in enumerate(learner.clipped_sums(clip_norm, [0], [1], [2], [3])):
        assert float(summed.norm()) <= clip_norm * (1 + 1e-6)
        assert float(summed.norm()) == pytest.approx(min(norms[row], clip_norm), rel=1e-4)


def test_adding_one_entry_changes_the_clipped_sum_by_at_most_the_clip_norm(learner: Learner) -> None:
    clip_norm = 0.5
    whole, *others = learner.clipped_sums(clip_norm, [0, 1, 2, 3], [1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2])
    for without in others:
        assert 0.99 * clip_norm <= float((whole - without).norm()) <= clip_norm * (1 + 1e-5)


@pytest.mark.parametrize(("model", "tuning"), [("compact", "head"), ("compact", "top2"), ("lstm", "full")])
def test_the_clipped_sum_is_taken_at_the_weights_of_the_moment(model: str, tuning: str) -> None:
    learner = learner_of(model, tuning)
    summed = clipped_sums(learner.classifier, tuning, 1.0)
    batch = learner.classifier.batch(learner.entries.rows, learner.entries.labels)
    summed(batch.inputs, batch.mask, batch.labels)
    learner.classifier.write(learner.classifier.read().scale(0.5))  # what an optimizer's step does, but larger
    after = flat(learner.classifier, summed(batch.inputs, batch.mask, batch.labels))
    summed.detach()
    expected = clipped_loop(one_example_gradients(learner.classifier, learner.entries), 1.0)
    assert float((after - expected).abs().max()) <= 2e-6


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_the_clipped_sum_is_that_of_opacus_own_optimizer() -> None:
    learner = learner_of("compact", "head")
    module = GradSampleModule(learner.classifier.upper().train(), loss_reduction="sum", strict=False)
    parameters = learner.classifier.trainable()
    optimizer = DPOptimizer(
        torch.optim.SGD(parameters.values(), lr=0.1), noise_multiplier=0.0, max_grad_norm=1.0, expected_batch_size=4, loss_reduction="sum"
    )
    batch = learner.classifier.batch(learner.entries.rows, learner.entries.labels)
    functional.cross_entropy(module(batch.inputs, batch.mask), batch.labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
    optimizer.clip_and_accumulate()
    theirs = flat(learner.classifier, {name: parameter.summed_grad for name, parameter in parameters.items()})  # type: ignore[attr-defined]
    module.to_standard_module()
    assert float((learner.clipped_sums(1.0, [0, 1, 2, 3])[0] - theirs).abs().max()) <= 1e-6


def assert_bare(classifier: EmotionClassifier) -> None:
    """No hook of Opacus' is left on any module, and nothing that it computed from an entry on any module or parameter."""
    for module in classifier.modules():
        assert [*module._forward_hooks, *module._forward_pre_hooks, *module._backward_hooks, *module._backward_pre_hooks] == []
        assert not hasattr(module, "autograd_grad_sample_hooks")
        assert not getattr(module, "activations", [])
    for parameter in classifier.parameters():
        assert not {"grad_sample", "_norm_sample", "_forward_counter", "_current_grad_sample"} & set(vars(parameter))


@pytest.mark.parametrize(("model", "tuning"), COMBINATIONS)
def test_after_a_private_round_the_classifier_trains_plainly_like_one_that_never_saw_opacus(model: str, tuning: str) -> None:
    chosen = settings(model=model, tuning=tuning, batch_size=2)
    used, fresh = tuned_classifier(chosen), tuned_classifier(chosen)
    entries = invented_entries(used, 3)
    before = used.read()
    train_privately(used, entries, chosen, plan(rate=0.6, steps=2), SecureRandom(KEY))
    after = used.read()
    assert all((after[name] != before[name]).any() for name in before)  # every trained array moved, in the classifier itself
    assert_bare(used)
    used.write(before)
    for classifier in (used, fresh):
        train_plainly(classifier, entries, chosen, torch.Generator().manual_seed(1))
    assert used.read().digest == fresh.read().digest


@pytest.mark.parametrize(("model", "tuning"), [("compact", "head"), ("compact", "top2"), ("lstm", "full")])
def test_a_round_that_breaks_off_leaves_nothing_of_its_entries_and_the_next_one_is_right(model: str, tuning: str) -> None:
    learner = learner_of(model, tuning)
    impossible = Entries(learner.entries.rows, torch.tensor([0, 1, 2, 4]))  # there is no fifth emotion
    with pytest.raises(IndexError):
        train_privately(learner.classifier, impossible, settings(model=model, tuning=tuning), plan(rate=1.0), SecureRandom(KEY))
    assert_bare(learner.classifier)
    (summed,) = learner.clipped_sums(1.0, [0, 2])
    assert float((summed - clipped_loop([learner.gradients[0], learner.gradients[2]], 1.0)).abs().max()) <= 2e-6


# noise


def noised(
    classifier: EmotionClassifier, entries: Entries, chosen: RunSettings, plan: PrivacyPlan, *steps: Sequence[int], key: bytes | None = KEY
) -> list[Tensor]:
    """The gradient that each step leaves in ``.grad``."""
    gradient = PrivateGradient(classifier, entries, chosen, plan, SecureRandom(key))
    try:
        results = []
        for rows in steps:
            gradient(rows)
            results.append(flat(classifier, {name: parameter.grad for name, parameter in classifier.trainable().items()}))  # type: ignore[misc]
        return results
    finally:
        gradient.detach()


@pytest.fixture(scope="module")
def head() -> Learner:
    return learner_of("compact", "head", entries=6)


@pytest.mark.parametrize(("noise", "clip_norm", "batch_size"), [(1.0, 1.0, 16), (4.0, 0.1, 1), (0.5, 20.0, 64)])
def test_the_noise_of_an_empty_step_has_the_stated_size_in_every_array(
    head: Learner, noise: float, clip_norm: float, batch_size: int
) -> None:
    classifier, std = head.classifier, noise * clip_norm / batch_size
    steps = noised(classifier, head.entries, settings(batch_size=batch_size), plan(noise=noise, clip_norm=clip_norm), [], [], [])
    for step in steps:
        spread = 4 / math.sqrt(2 * len(step))  # of a norm of so many independent values: four standard deviations
        assert float(step.norm()) == pytest.approx(std * math.sqrt(len(step)), rel=spread)
        assert abs(float(step.mean())) < 4 * std / math.sqrt(len(step))
        for values in torch.split(step, [parameter.numel() for parameter in classifier.trainable().values()]):
            assert bool((values != 0).all())
            if len(values) > 200:
                assert float(values.norm()) == pytest.approx(std * math.sqrt(len(values)), rel=0.15)


@pytest.mark.parametrize(("model", "tuning"), COMBINATIONS)
def test_the_noise_has_the_stated_size_whatever_is_trained(model: str, tuning: str) -> None:
    chosen = settings(model=model, tuning=tuning, batch_size=8)
    classifier = tuned_classifier(chosen)
    (step,) = noised(classifier, invented_entries(classifier, 1), chosen, plan(noise=2.0, clip_norm=0.5), [])
    assert float(step.norm()) == pytest.approx(2.0 * 0.5 / 8 * math.sqrt(len(step)), rel=0.02)
    assert stats.kstest(step[:: max(1, len(step) // 50_000)].numpy(), stats.norm(scale=2.0 * 0.5 / 8).cdf).pvalue > 1e-3


def test_a_step_is_the_clipped_sum_of_its_rows_plus_noise_of_the_stated_size_over_the_batch_size(head: Learner) -> None:
    rows = [5, 0, 3]
    expected = clipped_loop([head.gradients[row] for row in rows], 2.0)
    (silent,) = noised(head.classifier, head.entries, settings(batch_size=10), plan(noise=1e-9, clip_norm=2.0), rows)
    assert float((10 * silent - expected).abs().max()) <= 1e-6
    (step,) = noised(head.classifier, head.entries, settings(batch_size=10), plan(noise=0.3, clip_norm=2.0), rows)
    rest = 10 * step - expected
    assert float(rest.norm()) == pytest.approx(0.3 * 2.0 * math.sqrt(len(rest)), rel=0.02)
    assert stats.kstest(rest.numpy(), stats.norm(scale=0.3 * 2.0).cdf).pvalue > 1e-3


def test_the_noise_of_one_step_says_nothing_of_the_next_whether_rows_were_sampled_or_not(head: Learner) -> None:
    steps = torch.stack(noised(head.classifier, head.entries, settings(), plan(clip_norm=1e-3), [], [1, 4], [], [1, 4]))
    correlations = torch.corrcoef(steps) - torch.eye(4)
    assert float(correlations.abs().max()) < 5 / math.sqrt(steps.shape[1])


def test_the_divisor_and_the_noise_are_the_same_for_every_diary(head: Learner) -> None:
    steps = [
        noised(head.classifier, invented_entries(head.classifier, entries), settings(batch_size=16), plan(), [])[0]
        for entries in (0, 1, 5, 50)
    ]
    assert all(torch.equal(step, steps[0]) for step in steps)


def test_without_noise_and_clipping_a_private_round_is_plain_training_on_full_batches() -> None:
    chosen = settings(batch_size=5, gradient_clip=1e9, local_epochs=3, learning_rate=1e-3)
    private, plain = tuned_classifier(chosen), tuned_classifier(chosen)
    entries = invented_entries(private, 5)
    before = plain.read()
    nearly_none = plan(noise=1e-18, clip_norm=1e4, rate=1.0, steps=3)
    train_privately(private, entries, chosen, nearly_none, SecureRandom(KEY))
    train_plainly(plain, entries, chosen, torch.Generator())
    moved = (plain.read() - before).norm()
    assert (private.read() - plain.read()).norm() < 0.02 * moved


# sampling and steps


class RecordedRandom(SecureRandom):
    """Randomness that remembers what was asked of it."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.samples: list[list[int]] = []
        self.noise_shapes: list[torch.Size] = []

    def poisson_sample(self, entries: int, rate: float) -> list[int]:
        self.samples.append(super().poisson_sample(entries, rate))
        return self.samples[-1]

    def normal(self, shape: torch.Size, *, std: float) -> Tensor:
        self.noise_shapes.append(shape)
        return super().normal(shape, std=std)


@pytest.mark.parametrize(("tuning", "entries"), [("head", 0), ("head", 1), ("head", 2), ("head", 3), ("head", 7), ("top2", 0), ("top2", 2)])
def test_a_diary_of_any_size_takes_exactly_the_planned_steps_each_with_noise_on_every_array(tuning: str, entries: int) -> None:
    chosen = settings(tuning=tuning, batch_size=64)
    classifier = tuned_classifier(chosen)
    before, randomness = classifier.read(), RecordedRandom(KEY)
    train_privately(classifier, invented_entries(classifier, entries), chosen, plan(rate=0.4, steps=5), randomness)
    shapes = [parameter.shape for parameter in classifier.trainable().values()]
    assert len(randomness.samples) == 5
    assert randomness.noise_shapes == 5 * shapes
    assert classifier.read().is_finite()
    assert all((classifier.read()[name] != before[name]).any() for name in before)


@pytest.mark.parametrize(("model", "tuning"), [("compact", "head"), ("compact", "top2"), ("lstm", "full")])
def test_an_empty_sample_is_a_step_of_noise_alone_also_when_it_is_the_first(model: str, tuning: str) -> None:
    chosen = settings(model=model, tuning=tuning, learning_rate=0.01, weight_decay=0.0, batch_size=16)
    classifier = tuned_classifier(chosen)
    before, randomness = classifier.read(), RecordedRandom(KEY)
    train_privately(classifier, invented_entries(classifier, 3), chosen, plan(rate=1e-9, steps=1), randomness)
    moved = np.concatenate([array.ravel() for array in (classifier.read() - before).values()])
    assert randomness.samples == [[]]
    noise = stats.norm(scale=0.01 * 1.0 * 1.0 / 16)  # the learning rate, times noise multiplier and clip norm, over the public divisor
    assert stats.kstest(moved, noise.cdf).pvalue > 1e-3


def test_a_first_empty_sample_does_not_disturb_the_full_one_after_it() -> None:
    learner = learner_of("compact", "top2")
    _, step = noised(learner.classifier, learner.entries, settings(tuning="top2", batch_size=1), plan(noise=1e-9), [], [0, 2])
    assert float((step - clipped_loop([learner.gradients[0], learner.gradients[2]], 1.0)).abs().max()) <= 1e-6


def test_a_step_of_more_entries_than_are_held_at_once_sums_them_all() -> None:
    learner = learner_of("compact", "head")
    rows = [row % 4 for row in range(2 * AT_ONCE + 3)]
    [step] = noised(learner.classifier, learner.entries, settings(batch_size=1), plan(noise=1e-9), rows)
    assert float((step - clipped_loop([learner.gradients[row] for row in rows], 1.0)).abs().max()) <= 1e-4


def test_poisson_batches_are_the_planned_number_and_drop_nobody() -> None:
    batches = list(poisson_batches(37, plan(rate=0.5, steps=60), SecureRandom(KEY)))
    assert len(batches) == 60
    assert {row for rows in batches for row in rows} == set(range(37))
    assert all(rows == sorted(set(rows)) for rows in batches)
    assert list(poisson_batches(5, plan(rate=1.0, steps=3), SecureRandom(KEY))) == 3 * [[0, 1, 2, 3, 4]]
    assert list(poisson_batches(0, plan(steps=2), SecureRandom(KEY))) == [[], []]


# what an attacker knows and chooses


def private_update(chosen: RunSettings, wanted: PrivacyPlan, *, key: bytes | None, entries: int = 6) -> Tensor:
    """The update of one private round whose public generator is always the same."""
    classifier = tuned_classifier(chosen)
    before = classifier.read()
    train_privately(classifier, invented_entries(classifier, entries), chosen, wanted, SecureRandom(key))
    return torch.cat([torch.from_numpy(array.ravel()) for array in (classifier.read() - before).values()]).double()


def test_seeds_do_not_repeat_a_private_round_and_the_key_does() -> None:
    updates = []
    for key in (None, None, KEY, KEY):
        torch.manual_seed(0)
        np.random.seed(0)
        updates.append(private_update(settings(), plan(), key=key))
    assert float(torch.cosine_similarity(updates[0], updates[1], dim=0)) < 0.5
    assert torch.equal(updates[2], updates[3])


def test_the_server_cannot_foretell_dropout_from_the_run_s_seed() -> None:
    """Masks that an attacker knows make the others' gradients depend on who else was sampled: one entry more then moves
    the clipped sum by far more than the clip norm (measured with 30 others at dropout 0.3: 4.5 times)."""
    barely_noised = plan(noise=1e-9, rate=1.0, steps=1)
    first = private_update(settings(dropout=0.5), barely_noised, key=KEY)
    second = private_update(settings(dropout=0.5), barely_noised, key=bytes(32))
    without_dropout = private_update(settings(dropout=0.0), barely_noised, key=KEY)
    same_masks = float(torch.cosine_similarity(first, second, dim=0)) > 0.99
    no_masks = float(torch.cosine_similarity(first, without_dropout, dim=0)) > 0.99
    assert no_masks or not same_masks


@torch.no_grad()
def make_one_entry_overflow(learner: Learner) -> None:
    """Weights, all of them finite, under which entry 1 has logits that are not and the others' are."""
    weights = learner.classifier.trainable()
    if learner.tuning == "full":
        weights["embeddings.table.word_embeddings.weight"][int(learner.entries.rows[1][1])] = 3e38  # a word of entry 1
        return
    states = [row[0, : learner.classifier.width] for row in learner.entries.rows]  # what the pooler reads; the words' weights stay zero
    others = torch.stack([state for row, state in enumerate(states) if row != 1])
    axis = states[1] - others.mean(dim=0)
    seen, unseen = float(axis @ states[1]), float((others @ axis).max())
    for parameter in weights.values():
        parameter.zero_()
    weights["head.pooler.weight"][0] = 40 * axis / (seen - unseen)
    weights["head.pooler.bias"][0] = -20 * (seen + unseen) / (seen - unseen)
    weights["head.classifier.weight"][0, 0] = weights["head.classifier.bias"][0] = 3.3e38


@pytest.mark.parametrize("tuning", ["head", "full"])
def test_an_entry_whose_gradient_is_not_finite_contributes_at_most_the_clip_norm(tuning: str) -> None:
    """Otherwise a server asks for any word: the update is not a number where the diary holds it."""
    learner = learner_of("compact", tuning)
    make_one_entry_overflow(learner)
    with_it, without = learner.clipped_sums(1.0, [0, 1, 2, 3], [0, 2, 3])
    assert bool(without.isfinite().all())  # the attack leaves the others alone
    assert bool(with_it.isfinite().all())
    assert float((with_it - without).norm()) <= 1 + 1e-5


@torch.no_grad()
def make_norms_cancel(classifier: EmotionClassifier) -> None:
    """Finite weights under which the last attention's inputs share a large offset, to which its keys are blind.

    The key matrix' gradient is then a small difference of large terms, and its norm is lost where it is had from their
    products in float32 (measured with ghost norms: an entry contributes 2,000 times the clip norm, and more on request).
    """
    generator = torch.Generator().manual_seed(42)
    weights = classifier.trainable()
    offset = weights["layer2.bert.output.LayerNorm.bias"]
    weights["layer2.bert.output.LayerNorm.weight"].mul_(150)
    offset.copy_(5e5 * torch.randn(len(offset), generator=generator).sign())
    for name, scale in (("query", 5e3), ("key", 5e-6), ("value", 37.0)):
        matrix = weights[f"layer3.bert.attention.self.{name}.weight"].mul_(scale)
        weights[f"layer3.bert.attention.self.{name}.bias"].sub_(matrix @ offset)
    query = weights["layer3.bert.attention.self.query.bias"]
    query.add_(5e3 * torch.randn(len(query), generator=generator))
    weights["layer3.bert.attention.output.dense.weight"].mul_(13)


@pytest.mark.parametrize("tuning", ["top2", "full"])
def test_no_finite_weights_of_the_server_s_make_an_entry_contribute_more_than_the_clip_norm(tuning: str) -> None:
    learner = learner_of("compact", tuning)
    make_norms_cancel(learner.classifier)
    for summed in learner.clipped_sums(1.0, [0], [1], [2], [3]):
        assert float(summed.norm()) <= 1 + 1e-4


def test_the_last_bits_of_a_noised_gradient_do_not_tell_which_entries_made_it(head: Learner) -> None:
    """Mironov 2012: where sum and noise nearly cancel, float32 keeps bits of the sum that the noise, rounded to float32, never had.

    The attacker takes a candidate sum from what was seen; what is left is a float32 number for the true candidate only.
    """
    chosen, wanted = settings(batch_size=1), plan(noise=5.0, rate=1.0, steps=1)
    with_it, without = (summed.numpy() for summed in head.clipped_sums(1.0, range(6), range(5)))

    def impossible(seen: np.ndarray[tuple[int], np.dtype[np.float64]], candidate: np.ndarray[tuple[int], np.dtype[np.float64]]) -> int:
        left = seen - candidate
        exact = (np.frexp(left)[1] > np.frexp(seen)[1]) & (np.frexp(candidate)[1] >= np.frexp(seen)[1]) & (candidate != 0)
        return int(np.sum((left.astype(np.float32) != left) & exact))

    right = 0
    for run in range(40):
        rows = range(5 + run % 2)
        entries = Entries(head.entries.rows[: len(rows)], head.entries.labels[: len(rows)])
        (step,) = noised(head.classifier, entries, chosen, wanted, rows, key=bytes([run]) * 32)
        right += (impossible(step.numpy(), with_it) < impossible(step.numpy(), without)) == (run % 2 == 1)
    most = math.exp(wanted.epsilon(1)) / (1 + math.exp(wanted.epsilon(1))) + wanted.delta
    assert stats.binomtest(right, 40, most, alternative="greater").pvalue > 1e-4


# a small audit

AUDIT_DELTA = 0.1


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a BERT of one layer, 16 wide: small enough for thousands of private steps."""
    folder = tmp_path_factory.mktemp("tiny")
    shutil.copy(find_model("compact") / "tokenizer.json", folder)
    config = BertConfig(
        vocab_size=8000, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, pad_token_id=1
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file({name: tensor.contiguous() for name, tensor in BertModel(config).state_dict().items()}, str(folder / "model.safetensors"))
    config.save_pretrained(folder)
    return str(folder)


def lower_bounds_on_epsilon(
    with_canary: np.ndarray[tuple[int], np.dtype[np.float64]],
    without: np.ndarray[tuple[int], np.dtype[np.float64]],
    thresholds: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> tuple[float, float]:
    """What two samples of scores prove of epsilon at AUDIT_DELTA, in each direction (Clopper & Pearson, all thresholds together)."""

    def proven(one: np.ndarray[tuple[int], np.dtype[np.bool_]], other: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
        at_least = stats.beta.ppf(risk, max(one.sum(), 1e-9), one.size - one.sum() + 1)
        at_most = stats.beta.ppf(1 - risk, other.sum() + 1, max(other.size - other.sum(), 1e-9))
        return math.log(max(at_least - AUDIT_DELTA, 1e-9) / at_most)

    risk = 1e-3 / (4 * len(thresholds))
    added = max(proven(with_canary > threshold, without > threshold) for threshold in thresholds)
    removed = max(proven(without <= threshold, with_canary <= threshold) for threshold in thresholds)
    return added, removed


def audited(model: str, run: PrivacyPlan, *, runs: int) -> tuple[float, float]:
    """Proven epsilons of ``runs`` single steps with and without a canary; the attacker knows all other entries and the canary."""
    chosen = settings(model=model, batch_size=4)
    classifier = tuned_classifier(chosen)
    entries = invented_entries(classifier, 4, seed=5)
    gradients = one_example_gradients(classifier, entries)
    canary = clipped_loop(gradients[3:], run.clip_norm)
    direction = canary / canary.norm()
    known = run.sampling_rate * float(clipped_loop(gradients[:3], run.clip_norm) @ direction)
    scores = []
    for present in (True, False):
        size = 4 if present else 3
        gradient = PrivateGradient(
            classifier, Entries(entries.rows[:size], entries.labels[:size]), chosen, run, SecureRandom(bytes([size]) * 32)
        )
        batches = poisson_batches(size, PrivacyPlan(**(vars(run) | {"steps_per_round": runs})), SecureRandom(bytes([size + 10]) * 32))
        seen = []
        for rows in batches:
            gradient(rows)
            step = flat(classifier, {name: parameter.grad for name, parameter in classifier.trainable().items()})  # type: ignore[misc]
            seen.append(float(chosen.batch_size * step @ direction))
        gradient.detach()
        scores.append(np.array(seen))
    return lower_bounds_on_epsilon(scores[0], scores[1], known + run.clip_norm * np.linspace(-1.5, 2.5, 13))


@pytest.mark.slow
def test_a_canary_is_found_no_better_than_claimed_and_better_where_half_the_noise_is_missing(tiny_model: str) -> None:
    honest, halved = (plan(noise=noise, rate=1.0, steps=1, clip_norm=0.05, delta=AUDIT_DELTA) for noise in (1.0, 0.5))
    claimed = honest.epsilon(1)
    assert max(audited(tiny_model, honest, runs=400)) <= claimed
    assert min(audited(tiny_model, halved, runs=400)) > claimed


@pytest.mark.slow
def test_a_canary_is_found_no_better_than_claimed_and_better_where_the_sampling_is_missing(tiny_model: str) -> None:
    honest, unsampled = (plan(noise=0.5, rate=rate, steps=1, clip_norm=0.05, delta=AUDIT_DELTA) for rate in (0.25, 1.0))
    claimed = honest.epsilon(1)
    assert max(audited(tiny_model, honest, runs=250)) <= claimed
    assert min(audited(tiny_model, unsampled, runs=250)) > claimed
