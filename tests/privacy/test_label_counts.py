"""Tests of privacy.label_counts: sensitivity, noise, weights against scikit-learn, and that nothing is counted before it is charged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dp_accounting import dp_event  # type: ignore[import-untyped]
from dp_accounting.pld import pld_privacy_accountant  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.utils.class_weight import compute_class_weight

from model.settings import RunSettings
from privacy import label_counts
from privacy.label_counts import KEPT, LEAST_SHARE, charge_counts, noised_counts, weights_of_counts
from privacy.ledger import Ledger, PrivacyBudgetSpent
from privacy.plan import LABEL_SHARE, PrivacyPlan, calibrated, composed_epsilon
from privacy.randomness import SecureRandom

KEY = bytes(range(32))
LABELS = torch.tensor([0] * 40 + [1] * 10 + [2] * 30 + [3] * 20)


@pytest.fixture
def plan() -> PrivacyPlan:
    return calibrated(RunSettings(class_weights="balanced"))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.json", limit=8.0, delta=1e-4)


class Kept:
    """Where a device keeps its counts, without the seal."""

    content: bytes | None = None

    def read(self) -> bytes:
        if self.content is None:
            raise FileNotFoundError
        return self.content

    def write(self, content: bytes) -> None:
        self.content = content


@pytest.fixture
def kept() -> Kept:
    return Kept()


def weighed(plan: PrivacyPlan, ledger: Ledger, kept: Kept, *, run: str = "run", round: int = 1) -> torch.Tensor:
    return charge_counts(plan, ledger, kept, run=run, round=round).class_weights(LABELS)


def counted(plan: PrivacyPlan, ledger: Ledger) -> int:
    """How many label counts the ledger has."""
    return sum((charge.noise_multiplier, charge.sampling_rate) == plan.label_counting for charge in ledger.charges())


# the mechanism


@pytest.mark.parametrize("emotion", range(4))
def test_one_entry_more_moves_one_count_by_one(emotion: int) -> None:
    without = noised_counts(LABELS, 3.0, SecureRandom(KEY))
    with_it = noised_counts(torch.cat([LABELS, torch.tensor([emotion])]), 3.0, SecureRandom(KEY))
    assert torch.allclose(with_it - without, torch.eye(4, dtype=torch.float64)[emotion])


def test_the_noise_is_normal_and_as_large_as_it_is_charged() -> None:
    randomness = SecureRandom(KEY)
    noise = torch.cat([noised_counts(LABELS, 3.0, randomness) - torch.bincount(LABELS) for _ in range(5000)])
    assert float(noise.std()) == pytest.approx(3.0, rel=0.02)
    assert stats.kstest(noise.numpy(), stats.norm(scale=3.0).cdf).pvalue > 1e-3


def test_no_label_at_all_gives_counts_too() -> None:
    """That a diary is empty of labels must not be told by a failure."""
    assert noised_counts(torch.zeros(0, dtype=torch.int64), 3.0, SecureRandom(KEY)).shape == (4,)
    assert bool(weights_of_counts(torch.tensor([-9.0, -1.0, 0.0, -3.0], dtype=torch.float64)).isfinite().all())


def test_without_noise_the_weights_are_those_of_scikit_learn() -> None:
    theirs = compute_class_weight("balanced", classes=np.arange(4), y=LABELS.numpy())
    np.testing.assert_allclose(weights_of_counts(torch.bincount(LABELS).double()).numpy(), theirs, rtol=1e-6)


@given(arrays(np.float64, 4, elements=st.floats(-1e6, 1e6)))
def test_no_noise_weighs_a_class_without_bound_or_silences_it(counts: np.ndarray) -> None:  # type: ignore[type-arg]
    weights = weights_of_counts(torch.from_numpy(counts)).double()
    assert 1 / 4 <= float(weights.min()) <= 1 + 1e-6
    assert float(weights.max()) <= 1 / (4 * LEAST_SHARE) + 1e-6
    assert all(weights[i] >= weights[j] for i in range(4) for j in range(4) if counts[i] <= counts[j])  # rarer weighs no less


# what it costs


def test_a_plan_that_counts_labels_costs_what_a_second_accountant_says_and_keeps_to_the_budget(plan: PrivacyPlan) -> None:
    accountant = pld_privacy_accountant.PLDAccountant(value_discretization_interval=1e-3)
    accountant.compose(dp_event.GaussianDpEvent(plan.noise_multiplier), 10)
    accountant.compose(dp_event.GaussianDpEvent(plan.label_noise), 1)
    assert plan.epsilon(10) == pytest.approx(accountant.get_epsilon(plan.delta), abs=0.03)
    assert 7.9 < plan.epsilon(10) <= 8.0
    assert plan.epsilon(0) == 0.0


def test_counting_takes_its_share_of_the_signal_and_no_more(plan: PrivacyPlan) -> None:
    """Squared signal-to-noise ratios add up (Dong, Roth & Su 2022, Corollary 3.3): with the share spent, the steps have the rest."""
    alone = calibrated(RunSettings())
    assert alone.label_noise == 0.0
    assert (1 / plan.label_noise**2) / (10 / plan.noise_multiplier**2) == pytest.approx(LABEL_SHARE, rel=1e-2)
    assert plan.noise_multiplier / alone.noise_multiplier == pytest.approx(math.sqrt(1 + LABEL_SHARE), abs=4e-3)


def test_the_labels_of_a_run_are_counted_and_charged_once_however_its_rounds_and_another_s_take_turns(
    plan: PrivacyPlan, ledger: Ledger, kept: Kept
) -> None:
    ledger.limit = 100.0
    first, other = weighed(plan, ledger, kept), weighed(plan, ledger, kept, run="another")
    for round in range(2, 5):
        assert torch.equal(weighed(plan, ledger, kept, round=round), first)
        assert torch.equal(weighed(plan, ledger, kept, run="another", round=round), other)
    assert counted(plan, ledger) == 2
    assert len(ledger.charges()) == 2 + 8


def test_another_noise_counts_anew_and_pays_again(plan: PrivacyPlan, ledger: Ledger, kept: Kept) -> None:
    weighed(plan, ledger, kept)
    louder = replace(plan, label_noise=20.0)
    weighed(louder, ledger, kept)
    assert (counted(plan, ledger), counted(louder, ledger)) == (1, 1)


def test_a_device_of_many_runs_keeps_the_newest_counts(plan: PrivacyPlan, ledger: Ledger, kept: Kept) -> None:
    ledger.limit = 1e4
    for number in range(KEPT + 1):
        weighed(plan, ledger, kept, run=str(number))
    weighed(plan, ledger, kept, run=str(KEPT), round=2)
    assert counted(plan, ledger) == KEPT + 1
    weighed(plan, ledger, kept, run="0", round=2)
    assert counted(plan, ledger) == KEPT + 2


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[1, 2]", b'{"a": [1, 2, 3]}', b'{"a": [1, 2, 3, NaN]}', b'{"a": ["b", 1, 2, 3]}', b'{"a": 1}']
)
def test_counts_that_cannot_be_read_are_drawn_and_paid_again(plan: PrivacyPlan, ledger: Ledger, kept: Kept, damage: bytes) -> None:
    weighed(plan, ledger, kept)
    kept.content = damage
    assert bool(weighed(plan, ledger, kept).isfinite().all())
    assert counted(plan, ledger) == 2


def test_a_round_that_the_budget_does_not_cover_costs_nothing_and_counts_nothing(
    plan: PrivacyPlan, tmp_path: Path, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count alone would fit: it is the two together that are refused."""
    together = plan.epsilon(1)
    poor = Ledger(tmp_path / "ledger.json", limit=together - 1e-3, delta=1e-4)
    assert composed_epsilon({plan.label_counting: 1}, delta=1e-4) < poor.limit
    monkeypatch.setattr(label_counts, "noised_counts", lambda *_: pytest.fail("the labels were counted"))
    for run in ("one", "two", "three"):
        with pytest.raises(PrivacyBudgetSpent):
            weighed(plan, poor, kept, run=run)
    assert (poor.charges(), poor.spent(), kept.content) == ((), 0.0, None)


def test_a_crash_between_charge_and_file_over_counts(plan: PrivacyPlan, ledger: Ledger, kept: Kept) -> None:
    class Broken(Kept):
        def write(self, content: bytes) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weighed(plan, ledger, Broken())
    weighed(plan, ledger, kept)
    assert counted(plan, ledger) == 2
