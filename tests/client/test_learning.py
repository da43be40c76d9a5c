"""One round on one device: what it sends, what it refuses, what it never does without charging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from client.home import DevicePolicy, Home
from client.learning import OtherBody, learn, learn_to_hide, publish
from client.participation import Participation, SitsOut
from client.vault import DataKey
from model.examples import Example
from model.normalization import TEXT_STEP
from model.records import GlobalModel, PlanNumbers, PublishOrder, TrainOrder, Update
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, local_generator, train_plainly
from model.tuning import tuned_classifier
from model.weights import Weights
from privacy.ledger import LedgerDamaged, PrivacyBudgetSpent
from privacy.plan import calibrated

Small = Callable[..., RunSettings]


def home_with(tmp_path: Path, examples: list[Example], policy: DevicePolicy | None = None) -> Home:
    home = Home.create(tmp_path / "home", policy or DevicePolicy(allow_unprotected=True, epsilon_per_run=8.0, epsilon_per_week=8.0))
    home.diary.add_all((example.text, example.emotion) for example in examples)
    return home


def order_for(settings: RunSettings, *, round: int = 1) -> TrainOrder:
    classifier = tuned_classifier(settings)
    model = GlobalModel(classifier.read(), classifier.base_digest, classifier.tokenizer.digest)
    plan = PlanNumbers(**vars(calibrated(settings))) if settings.privacy == "example" else None
    return TrainOrder(model, "run", round, plan)


@pytest.mark.parametrize("tuning", ["head", "top2"])
def test_one_device_without_privacy_does_plain_training(tmp_path: Path, small: Small, examples: list[Example], tuning: str) -> None:
    settings = small(privacy="none", tuning=tuning)
    home, order = home_with(tmp_path, examples), order_for(settings)
    update = learn(order, settings, home, device=5)
    assert isinstance(update, Update)
    assert update.weight == len(examples)

    alone = tuned_classifier(settings)
    alone.write(order.model.weights)
    rows = alone.lower(alone.encode([example.text for example in examples], max_tokens=settings.max_tokens))
    labels = torch.tensor([example.emotion.id for example in examples])
    train_plainly(alone, Entries(rows, labels), settings, local_generator(settings.seed, round=1, device=5))
    difference = alone.read() - order.model.weights
    for name in difference:
        np.testing.assert_allclose(update.difference[name], difference[name], atol=1e-6)


def test_the_ledger_is_charged_and_the_weight_says_nothing_of_the_diary(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    update = learn(order, settings, home, device=0)
    assert isinstance(update, Update)
    assert update.weight == 1.0
    assert home.ledger.spent() == pytest.approx(calibrated(settings).epsilon(1))


def test_counting_labels_is_in_the_ledger_once_and_the_rounds_cost_what_the_plan_says(
    tmp_path: Path, small: Small, examples: list[Example]
) -> None:
    settings = small(class_weights="balanced")
    home, plan = home_with(tmp_path, examples), calibrated(settings)
    for round in (1, 2):
        assert isinstance(learn(order_for(settings, round=round), settings, home, device=0), Update)
        assert home.ledger.spent() == pytest.approx(plan.epsilon(round))
    assert [charge.noise_multiplier for charge in home.ledger.charges()] == [plan.label_noise, plan.noise_multiplier, plan.noise_multiplier]


def test_the_ledger_is_charged_before_the_diary_is_opened(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    """A diary that is no diary stops the round right after the charge: it must be on disk by then."""
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    for file in home.root.glob("diary.sqlite3*"):
        file.write_bytes(b"no diary")
    with pytest.raises(Refusal):
        learn(order, settings, home, device=0)
    assert len(home.ledger.charges()) == 1


def test_weights_that_do_not_fit_cost_nothing(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    infinite = Weights({name: np.full_like(array, np.inf) for name, array in order.model.weights.items()})
    for weights in (order_for(small(tuning="lora")).model.weights, infinite):
        with pytest.raises(Refusal, match=r"on one side only|not finite"):
            learn(replace(order, model=replace(order.model, weights=weights)), settings, home, device=0)
    assert home.ledger.charges() == ()


def test_a_round_that_would_overspend_is_declined_and_costs_nothing(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home = home_with(tmp_path, examples, DevicePolicy(epsilon_limit=7.0, epsilon_per_run=7.0, epsilon_per_week=7.0))
    order = order_for(settings)
    learn(order, settings, home, device=0)
    for round in (2, 3):
        with pytest.raises(PrivacyBudgetSpent):
            learn(replace(order, round=round), settings, home, device=0)
    assert home.ledger.spent() == pytest.approx(calibrated(settings).epsilon(1))


def test_a_damaged_ledger_means_no_training(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    learn(order, settings, home, device=0)
    ledger = home.root / "ledger.json"
    ledger.write_bytes(ledger.read_bytes()[:-20])
    with pytest.raises(LedgerDamaged):
        learn(order, settings, home, device=0)


def test_a_device_that_demands_protection_declines_an_unprotected_round(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small(privacy="none")
    home = home_with(tmp_path, examples, DevicePolicy(allow_unprotected=False))
    with pytest.raises(Refusal, match="protects no single entry"):
        learn(order_for(settings), settings, home, device=0)


def test_a_server_cannot_pass_an_unprotected_order_off_as_a_private_run(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    with pytest.raises(Refusal, match="contradict"):
        learn(replace(order, plan=None), settings, home, device=0)


def test_less_noise_in_the_order_only_spends_the_devices_budget_faster_and_too_little_is_refused(
    tmp_path: Path, small: Small, examples: list[Example]
) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    assert order.plan is not None
    for noise, why in ((0.3, "is left"), (0.2, "accepts 0.3")):
        with pytest.raises(Refusal, match=why):
            learn(replace(order, plan=replace(order.plan, noise_multiplier=noise)), settings, home, device=0)


def test_an_empty_diary_and_one_longer_than_delta_covers_train_like_every_other(
    tmp_path: Path, small: Small, examples: list[Example]
) -> None:
    settings = small(delta=0.01)  # delta <= n^-1.5 covers 21 entries; there are 40
    policy = DevicePolicy(delta=0.01, epsilon_per_run=8.0, epsilon_per_week=8.0)
    for home in (home_with(tmp_path, examples, policy), Home.create(tmp_path / "empty", policy)):
        assert isinstance(learn(order_for(settings), settings, home, device=0), Update)
        assert len(home.ledger.charges()) == 1


def test_an_empty_diary_sits_an_unprotected_round_out(tmp_path: Path, small: Small) -> None:
    settings = small(privacy="none")
    empty = Home.create(tmp_path / "empty", DevicePolicy(allow_unprotected=True))
    with pytest.raises(Refusal, match="no entry that may teach"):
        learn(order_for(settings), settings, empty, device=0)


def test_another_body_is_refused_before_anything_is_charged(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    for foreign in (replace(order.model, base_digest="0" * 64), replace(order.model, tokenizer_digest="0" * 64)):
        with pytest.raises(OtherBody, match="install the same one"):
            learn(replace(order, model=foreign), settings, home, device=0)
    with pytest.raises(OtherBody, match=rf"text by step {TEXT_STEP + 1} and this device by step {TEXT_STEP}"):
        learn(replace(order, model=replace(order.model, text_step=TEXT_STEP + 1)), settings, home, device=0)
    assert home.ledger.charges() == ()


def test_an_update_in_half_precision_is_what_was_learned_but_for_one_rounding(
    tmp_path: Path, small: Small, examples: list[Example]
) -> None:
    settings = small(privacy="none", update_precision="fp16")
    home, order = home_with(tmp_path, examples), order_for(settings)
    half = learn(order, settings, home, device=0)
    whole = learn(order, replace(settings, update_precision="fp32"), home, device=0)
    assert isinstance(half, Update)
    assert isinstance(whole, Update)
    assert half.precision == "fp16"
    assert half.megabytes == whole.megabytes / 2
    for name, learned in whole.difference.items():
        np.testing.assert_allclose(half.difference[name], learned, rtol=2.0**-11, atol=2.0**-25)


def test_publishing_stores_the_global_model_in_the_devices_own_home(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small(privacy="none")
    home, order = home_with(tmp_path, examples), order_for(settings)
    answer = publish(PublishOrder(order.model, 4, float("inf"), 0.0), settings, home)
    newest = home.checkpoints.latest()
    assert newest is not None
    assert (newest.round, newest.digest) == (4, order.model.weights.digest)
    assert home.checkpoints.load(newest).digest == order.model.weights.digest
    assert answer.scores is not None
    assert answer.scores.total == len(examples)


def test_no_score_leaves_a_device_that_demands_protection(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small(privacy="none")
    home = home_with(tmp_path, examples, DevicePolicy(allow_unprotected=False))
    assert publish(PublishOrder(order_for(settings).model, 1, float("inf"), 0.0), settings, home).scores is None


def test_a_ledger_that_is_gone_is_not_a_fresh_budget(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home = home_with(tmp_path, examples)
    (home.root / "ledger.json").unlink()
    with pytest.raises(LedgerDamaged):
        learn(order_for(settings), settings, home, device=0)


def test_no_score_leaves_a_device_under_privacy(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    assert publish(PublishOrder(order.model, 1, 3.0, 1e-4), settings, home).scores is None


def test_a_paused_device_declines_and_spends_nothing(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    home.change_participation(paused=True, skip_next=False)
    for round in (1, 2):
        with pytest.raises(SitsOut):
            learn(replace(order, round=round), settings, home, device=0)
    with pytest.raises(SitsOut):
        learn_to_hide(replace(order, update_clip=1.0), settings, home, device=0)
    assert home.ledger.charges() == ()
    home.change_participation(paused=False, skip_next=False)
    assert isinstance(learn(order, settings, home, device=0), Update)


def test_one_round_is_skipped_even_if_it_is_asked_for_twice(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small(privacy="none")
    home, order = home_with(tmp_path, examples), order_for(settings)
    home.change_participation(paused=False, skip_next=True)
    for _ in range(2):
        with pytest.raises(SitsOut):
            learn(order, settings, home, device=0)
    assert home.participation == Participation()
    publishing = PublishOrder(order.model, 1, float("inf"), 0.0)
    assert publish(publishing, settings, home).scores is None  # nor is it scored on the diary's entries
    assert isinstance(learn(replace(order, round=2), settings, home, device=0), Update)
    assert publish(replace(publishing, round=2), settings, home).scores is not None


def test_the_cache_of_a_home_shows_nothing_without_its_key(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    learn(order, settings, home, device=0)
    [file] = home.cache.glob("trunk-*")
    with pytest.raises(SafetensorError):
        load_arrays(file.read_bytes())
    assert len(load_arrays(home.key.open(file.read_bytes()))) == len(examples)


def test_what_is_forgotten_leaves_the_cache_at_once(tmp_path: Path, small: Small, examples: list[Example]) -> None:
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)
    learn(order, settings, home, device=0)
    home.diary.forget(1)
    assert not list(home.cache.glob("trunk-*"))


def test_what_is_forgotten_while_a_round_reads_it_is_not_trained_on_nor_cached(
    tmp_path: Path, small: Small, examples: list[Example]
) -> None:
    """The person forgets an entry between the diary's answer and the cache's: here at the cache's first use of the key."""
    settings = small()
    home, order = home_with(tmp_path, examples), order_for(settings)

    class Forgetful:
        def __init__(self, key: DataKey) -> None:
            self._key, self.forgotten = key, False

        def __getattr__(self, name: str) -> object:
            return getattr(self._key, name)

        def seal(self, content: bytes) -> bytes:
            sealed = self._key.seal(content)
            if not self.forgotten:
                self.forgotten = True
                home.diary.forget(1)
            return sealed

    real = home.key
    home.key = Forgetful(real)  # type: ignore[assignment]
    learn(order, settings, home, device=0)
    [file] = home.cache.glob("trunk-*")
    assert len(load_arrays(real.open(file.read_bytes()))) == len(examples) - 1
