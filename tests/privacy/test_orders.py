"""What a device accepts before its diary is opened, number by number; and that what it accepts is clipped as it is charged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.examples import Example
from model.records import GlobalModel, PlanNumbers, TrainOrder
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, labelled_entries
from model.tuning import tuned_classifier
from model.weights import Weights
from privacy.example_level import clipped_sums
from privacy.orders import OrderRules, accepted_plan, covers
from privacy.plan import PrivacyPlan, calibrated

RULES = OrderRules(delta=1e-4, unprotected=False)
SETTINGS = RunSettings()
GOOD = PlanNumbers(noise_multiplier=3.0, sampling_rate=1.0, clip_norm=8.0, delta=1e-4, steps_per_round=1)
MODEL = GlobalModel(Weights({"head": np.zeros(2, dtype=np.float32)}), "0" * 64, "1" * 64)


def order(plan: PlanNumbers | None = GOOD, **changes: Any) -> TrainOrder:
    return replace(TrainOrder(MODEL, "run", 1, plan), **changes)


def test_an_honest_order_is_accepted_with_its_very_numbers() -> None:
    assert accepted_plan(order(), SETTINGS, RULES) == PrivacyPlan(**vars(GOOD))


@pytest.mark.parametrize(
    ("epsilon", "rate", "weights"), [(0.5, 1.0, "none"), (8.0, 1.0, "balanced"), (4.0, 0.1, "balanced"), (8.0, 0.1, "none")]
)
def test_every_plan_that_an_honest_server_makes_is_accepted(epsilon: float, rate: float, weights: str) -> None:
    settings = RunSettings(epsilon=epsilon, sampling_rate=rate, class_weights=weights)
    plan = calibrated(settings)
    assert accepted_plan(order(PlanNumbers(**vars(plan))), settings, RULES) == plan


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"noise_multiplier": 0.011}, "noise-multiplier is 0.011"),
        ({"noise_multiplier": 0.29}, "noise-multiplier"),
        ({"noise_multiplier": 1e7}, "noise-multiplier"),
        ({"clip_norm": 8e-45}, "clip-norm is 8e-45"),
        ({"clip_norm": 9e-7}, "clip-norm"),
        ({"clip_norm": 1e7}, "clip-norm"),
        ({"sampling_rate": 1e-5}, "sampling-rate"),
        ({"sampling_rate": 1.1}, "sampling-rate"),
        ({"delta": 1.1e-4}, "accepts at most 0.0001"),
        ({"delta": 0.0}, "delta"),
        ({"delta": -1.0}, "delta"),
        ({"steps_per_round": 0}, "steps-per-round"),
        ({"steps_per_round": 1.5}, "steps"),
        ({"steps_per_round": 10**9}, "steps"),
        ({"steps_per_round": True}, "steps-per-round is no finite number"),
        ({"noise_multiplier": math.nan}, "is no finite number"),
        ({"noise_multiplier": "3"}, "is no finite number"),
        ({"clip_norm": [1.0]}, "is no finite number"),
        ({"label_noise": 5.0}, "contradict"),
        ({"label_noise": 1e-9}, "label-noise"),
        ({"label_noise": -5.0}, "label-noise"),
        ({"delta": 10**400}, "is no finite number"),
    ],
)
def test_a_number_that_no_honest_server_sends_is_refused_and_named(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(Refusal, match=why):
        accepted_plan(order(replace(GOOD, **changes)), SETTINGS, RULES)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, 1e-9, 1e9, -1.0])
def test_a_norm_to_which_no_update_can_be_clipped_is_refused_before_the_round_is_paid_for(value: float) -> None:
    with pytest.raises(Refusal, match="update-clip"):
        accepted_plan(order(update_clip=value), replace(SETTINGS, privacy="both"), RULES)


def test_a_hidden_round_takes_no_longer_updates_than_its_sums_have_room_for() -> None:
    hidden = replace(SETTINGS, aggregation="masked", privacy="both")
    assert accepted_plan(order(update_clip=hidden.largest_update), hidden, RULES) is not None
    with pytest.raises(Refusal, match="have room for 1;"):
        accepted_plan(order(update_clip=1.5), hidden, RULES)
    with pytest.raises(Refusal, match="names no norm"):
        accepted_plan(order(), replace(hidden, privacy="example"), RULES)


@pytest.mark.parametrize(("run", "round"), [("x" * 201, 1), ("run", -1), ("run", 10**9)])
def test_names_that_would_fill_a_ledger_are_refused(run: str, round: int) -> None:
    with pytest.raises(Refusal, match="at most"):
        accepted_plan(order(run=run, round=round), SETTINGS, RULES)


@pytest.mark.parametrize("privacy", ["none", "user"])
def test_a_round_without_protection_of_entries_needs_the_person_s_word(privacy: str) -> None:
    bare = replace(SETTINGS, privacy=privacy)
    clip = 1.0 if privacy == "user" else None
    with pytest.raises(Refusal, match="protects no single entry"):
        accepted_plan(order(None, update_clip=clip), bare, RULES)
    assert accepted_plan(order(None, update_clip=clip), bare, replace(RULES, unprotected=True)) is None


@pytest.mark.parametrize("unprotected", [True, False])
def test_plan_and_privacy_must_agree(unprotected: bool) -> None:
    rules = replace(RULES, unprotected=unprotected)
    for plan, settings in ((None, SETTINGS), (GOOD, replace(SETTINGS, privacy="none"))):
        with pytest.raises(Refusal, match="contradict"):
            accepted_plan(order(plan), settings, rules)


@given(entries=st.integers(0, 10**5), delta=st.floats(1e-9, 0.1))
def test_delta_covers_a_diary_up_to_n_to_the_minus_one_and_a_half(entries: int, delta: float) -> None:
    if not math.isclose(delta, max(entries, 1) ** -1.5, rel_tol=1e-6):
        assert covers(entries, delta) == (entries == 0 or delta <= entries**-1.5)


# C2: what is accepted is clipped as it is charged, and what is refused would have been too


@pytest.mark.parametrize("tuning", ["head", "lora", "top1", "full"])
@pytest.mark.parametrize("clip_norm", [8e-45, 1.4e-44, 1e-40, 1e-38, 1e-30, 1e-6, 1.0])
def test_no_clip_norm_however_small_lets_an_entry_contribute_more(
    tiny_body: Path, examples: list[Example], tuning: str, clip_norm: float
) -> None:
    """In float32 one entry contributed 2.25 clip norms at 8e-45. Python's own hypot takes the norm here, in units of the clip norm."""
    settings = RunSettings(model=str(tiny_body), start="", tuning=tuning, dropout=0.0)
    classifier = tuned_classifier(settings, tiny_body)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))  # else all gradients are short
    entries: Entries = labelled_entries(classifier, examples[:6], settings)
    summed = clipped_sums(classifier, tuning, clip_norm)
    try:
        for row in range(6):
            batch = classifier.batch([entries.rows[row]], entries.labels[[row]])
            sums = summed(batch.inputs, batch.mask, batch.labels)
            assert {part.dtype for part in sums.values()} == {torch.float64}
            norm = math.hypot(*(value / clip_norm for part in sums.values() for value in part.flatten().tolist()))
            assert norm <= 1 + 1e-9
    finally:
        summed.detach()
