"""Rounds under user-level privacy: charged before they are released, noised as planned, and a bad update costs its sender alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from model.refusal import Refusal
from model.settings import RunSettings
from model.weights import Weights
from privacy.agreement import shared_noise, user_plan
from privacy.ledger import LedgerDamaged, PrivacyBudgetSpent
from server.journal import Journal, RoundRecord
from server.strategies import require_allowed

Federation = Callable[..., tuple[Weights, list[RoundRecord], list[Message]]]
ONE_ROUND = {"privacy": "user", "rounds": 1, "user_delta": 1e-2, "update_clip": 1.0}


def noise_of(private: Weights, plain: Weights) -> float:
    """Norm of the difference per coordinate."""
    return (private - plain).norm() / plain.size**0.5


def projected(difference: Weights, way: Weights) -> float:
    """How far the difference goes along the way."""
    return sum(float(np.vdot(difference[name], way[name])) for name in way) / way.norm()


@pytest.mark.parametrize("aggregation", ["plain", "masked"])
def test_the_noise_on_the_model_is_the_plans(federation: Federation, small: Callable[..., RunSettings], aggregation: str) -> None:
    private, [record], _ = federation("private", aggregation=aggregation, **ONE_ROUND)
    # The same round without noise: masked, so that the devices clip.
    plain, _, _ = federation("plain", aggregation="masked", rounds=1, update_clip=1.0)
    settings = small(aggregation=aggregation, clients=5, **ONE_ROUND)
    multiplier = user_plan(settings).noise_multiplier
    if aggregation == "masked":
        multiplier *= (5 / shared_noise(settings).fewest) ** 0.5  # all five shares came
    assert noise_of(private, plain) == pytest.approx(multiplier * 1.0 / 5, rel=0.15)
    assert record.clients == 5
    assert record.user_epsilon is not None
    assert record.user_epsilon <= 8.0


def test_a_run_spends_what_was_planned_and_its_ledger_refuses_one_round_more(federation: Federation, tmp_path: Path) -> None:
    _, rounds, _ = federation("run", aggregation="plain", **(ONE_ROUND | {"rounds": 3}))
    spent = [record.user_epsilon for record in rounds]
    assert spent == sorted(spent, key=float)  # type: ignore[arg-type]
    assert spent[-1] == pytest.approx(8.0, abs=0.05)
    ledger = tmp_path / "run" / "population-ledger.json"
    kept = ledger.read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    (again / "population-ledger.json").write_bytes(kept)
    with pytest.raises(PrivacyBudgetSpent):
        federation("again", aggregation="plain", **(ONE_ROUND | {"rounds": 3}))
    assert (again / "population-ledger.json").read_bytes() == kept
    assert Journal(again).checkpoints.latest() is None


def test_lost_devices_leave_the_divisor_and_the_noise_as_they_were(federation: Federation) -> None:
    settings = ONE_ROUND | {"user_epsilon": 1e7}  # hardly any noise in one direction of three hundred
    everybody, _, _ = federation("everybody", aggregation="plain", **settings)
    fewer, [record], _ = federation("fewer", aggregation="plain", lost=[("train", 0), ("train", 1)], **settings)
    start, _, _ = federation("start", aggregation="plain", lost=[("train", number) for number in range(5)], **settings)
    quiet, _, _ = federation("quiet", aggregation="masked", rounds=1, update_clip=1.0)
    untouched, _, _ = federation("untouched", aggregation="masked", rounds=1, lost=[("query.advertise", number) for number in range(5)])
    way = quiet - untouched
    moved = projected(fewer - start, way) / projected(everybody - start, way)
    assert record.clients == 3
    assert moved == pytest.approx(3 / 5, abs=0.15)  # those who are missing count as zero, nobody counts for more


def test_too_few_survivors_under_masks_are_not_unmasked_and_not_charged(federation: Federation, tmp_path: Path) -> None:
    _, [record], _ = federation("run", aggregation="masked", lost=[("train", 0), ("train", 1)], **ONE_ROUND)
    assert record.clients == 0
    assert record.lost
    assert record.user_epsilon == 0.0


def test_with_adaptive_clipping_the_norm_follows_the_updates_and_survives_a_restart(federation: Federation, tmp_path: Path) -> None:
    more = {"privacy": "user", "user_epsilon": 1e3, "user_delta": 1e-2, "clip_quantile": 0.5, "update_clip": 1e-3, "rounds": 3}
    _, _, seen = federation("run", aggregation="plain", **more)
    state = (tmp_path / "run" / "clip.json").read_text()
    assert '"clip_norm"' in state
    assert any("within" in reply.content["metrics"] for reply in seen if not reply.has_error())


def test_without_adaptive_clipping_no_bit_about_the_norm_leaves_a_device(federation: Federation) -> None:
    _, _, seen = federation("run", aggregation="plain", **ONE_ROUND)
    assert not any("within" in reply.content["metrics"] for reply in seen if not reply.has_error() and "metrics" in reply.content)


def test_a_device_sends_nothing_longer_than_the_clip(federation: Federation) -> None:
    _, _, seen = federation("run", aggregation="plain", **(ONE_ROUND | {"update_clip": 0.05}))
    norms = [
        sum(float(np.square(array.numpy().astype(np.float64)).sum()) for array in reply.content["arrays"].values()) ** 0.5
        for reply in seen
        if "arrays" in reply.content
    ]
    assert len(norms) == 5
    assert max(norms) <= 0.05


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"strategy": "median"}, "noise measured for a mean"),
        ({"update_precision": "fp16"}, "needs fp32"),
        ({"aggregation": "masked", "fraction": 0.5}, "sampling hides nobody"),
        ({"aggregation": "masked", "clip_quantile": 0.5, "clients": 90}, "adaptive clipping needs a server that counts"),
        ({"clip_quantile": 0.5, "clients": 9}, "count"),
    ],
)
def test_what_would_break_the_promise_is_refused_with_the_reason(more: dict[str, object], sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        require_allowed(replace(RunSettings(privacy="user", clients=9, user_epsilon=2.0), **more))  # type: ignore[arg-type]


def test_a_lost_ledger_is_damage_and_no_fresh_budget(federation: Federation, tmp_path: Path) -> None:
    federation("run", aggregation="plain", **(ONE_ROUND | {"rounds": 2}))
    (tmp_path / "run" / "population-ledger.json").unlink()
    with pytest.raises(LedgerDamaged, match="what was spent is unknown"):
        federation("run", aggregation="plain", **(ONE_ROUND | {"rounds": 3}))
