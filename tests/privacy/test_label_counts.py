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
from scipy import stats
from sklearn.utils.class_weight import compute_class_weight

from model.settings import RunSettings
from privacy import label_counts
from privacy.label_counts import LEAST_SHARE, noised_counts, weighed_classes, weights_of_counts
from privacy.ledger import Ledger, PrivacyBudgetSpent
from privacy.plan import LABEL_SHARE, PrivacyPlan, calibrated
from privacy.randomness import SecureRandom

KEY = bytes(range(32))
LABELS = torch.tensor([0] * 40 + [1] * 10 + [2] * 30 + [3] * 20)


@pytest.fixture
def plan() -> PrivacyPlan:
    return calibrated(RunSettings(class_weights="balanced"))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.json", limit=8.0, delta=1e-4)


def weighed(plan: PrivacyPlan, ledger: Ledger, folder: Path, *, run: str = "run", round: int = 1) -> torch.Tensor:
    return weighed_classes(LABELS, plan, ledger, folder, run=run, round=round)


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


def test_no_count_however_small_weighs_its_class_without_bound() -> None:
    weights = weights_of_counts(torch.tensor([60.0, -8.0, 0.001, 40.0], dtype=torch.float64))
    assert float(weights.max()) == pytest.approx(1 / (4 * LEAST_SHARE))


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


def test_the_labels_of_a_run_are_counted_and_charged_once(plan: PrivacyPlan, ledger: Ledger, tmp_path: Path) -> None:
    first = weighed(plan, ledger, tmp_path)
    assert torch.equal(weighed(plan, ledger, tmp_path, round=2), first)
    assert [(charge.noise_multiplier, charge.sampling_rate, charge.steps) for charge in ledger.charges()] == [(plan.label_noise, 1.0, 1)]


def test_another_run_or_another_noise_counts_anew_and_pays_again(plan: PrivacyPlan, ledger: Ledger, tmp_path: Path) -> None:
    weighed(plan, ledger, tmp_path)
    weighed(plan, ledger, tmp_path, run="another")
    weighed(replace(plan, label_noise=20.0), ledger, tmp_path, run="another")
    assert len(ledger.charges()) == 3
    assert len(list(tmp_path.glob("label-counts-*"))) == 1


@pytest.mark.parametrize("damage", [b"", b"{", b"[1, 2]", b"[1, 2, 3, NaN]", b'["a", 1, 2, 3]'])
def test_counts_that_cannot_be_read_are_drawn_and_paid_again(plan: PrivacyPlan, ledger: Ledger, tmp_path: Path, damage: bytes) -> None:
    weighed(plan, ledger, tmp_path)
    [path] = tmp_path.glob("label-counts-*")
    path.write_bytes(damage)
    assert bool(weighed(plan, ledger, tmp_path).isfinite().all())
    assert len(ledger.charges()) == 2


def test_what_the_budget_does_not_cover_is_never_counted(plan: PrivacyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poor = Ledger(tmp_path / "ledger.json", limit=0.01, delta=1e-4)
    monkeypatch.setattr(label_counts, "noised_counts", lambda *_: pytest.fail("the labels were counted"))
    with pytest.raises(PrivacyBudgetSpent):
        weighed(plan, poor, tmp_path)
    assert not list(tmp_path.glob("label-counts-*"))


def test_a_crash_between_charge_and_file_over_counts(
    plan: PrivacyPlan, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(label_counts, "write_durably", crashed)
        with pytest.raises(KeyboardInterrupt):
            weighed(plan, ledger, tmp_path)
    weighed(plan, ledger, tmp_path)
    assert len(ledger.charges()) == 2
