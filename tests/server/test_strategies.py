"""Averaging: equal to the hand-computed mean, and a bad update costs its sender alone."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from model.records import GlobalModel, Update, arrays_of, decode_publish_order, decode_train_order, encode_reply, weights_of
from model.refusal import Refusal
from model.settings import AGGREGATIONS, PRIVACY_KINDS, ROBUST, STRATEGIES, RunSettings
from model.weights import Weights
from server.averaging import FederatedAveraging, check_update
from server.journal import Journal, RoundRecord
from server.strategies import build_strategy, require_allowed

Small = Callable[..., RunSettings]
NODES = [11, 12, 13]


class Nodes:
    """A grid that only knows who is there."""

    def get_node_ids(self) -> list[int]:
        return NODES


@pytest.fixture(autouse=True)
def sender() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def weights(seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return Weights({"a": rng.normal(size=(3, 4)).astype(np.float32), "b": rng.normal(size=5).astype(np.float32)})


def started(settings: RunSettings, tmp_path: Path) -> tuple[FederatedAveraging, list[Message]]:
    strategy = build_strategy(settings, GlobalModel(weights(0), "body", "tokens"), Journal(tmp_path / "run"))
    grid: Any = Nodes()
    return strategy, list(strategy.configure_train(1, arrays_of(weights(0)), ConfigRecord(), grid))


def reply(order: Message, update: Update) -> Message:
    return Message(encode_reply(update), reply_to=order)


def averaged(result: ArrayRecord | None) -> Weights:
    assert result is not None
    return weights_of(result)


def test_three_devices_average_as_computed_by_hand(tmp_path: Path, small: Small) -> None:
    strategy, orders = started(small(privacy="none"), tmp_path)
    counts = [10.0, 25.0, 7.0]
    updates = [weights(seed) for seed in (1, 2, 3)]
    replies = [reply(o, Update(u, c, 1)) for o, u, c in zip(orders, updates, counts, strict=True)]
    after = averaged(strategy.aggregate_train(1, iter(replies))[0])
    for name, start in weights(0).items():
        by_hand = start.astype(np.float64) + sum(c * u[name].astype(np.float64) for c, u in zip(counts, updates, strict=True)) / 42.0
        np.testing.assert_allclose(after[name], by_hand, atol=1e-6)
    assert strategy.tally.trained == 3


def bad_updates() -> dict[str, Update]:
    good = weights(1)
    nan, infinite = dict(good.arrays), dict(good.arrays)
    nan["a"] = nan["a"].copy()
    nan["a"][0, 0] = np.nan
    infinite["b"] = np.full(5, np.inf, dtype=np.float32)
    return {
        "nan": Update(Weights(nan), 1.0, 1),
        "infinite": Update(Weights(infinite), 1.0, 1),
        "too large": Update(good.scale(1e6), 1.0, 1),
        "missing array": Update(Weights({"a": good["a"]}), 1.0, 1),
        "extra array": Update(Weights({**good.arrays, "c": good["b"]}), 1.0, 1),
        "wrong shape": Update(Weights({"a": good["a"].T.copy(), "b": good["b"]}), 1.0, 1),
        "late": Update(good, 1.0, 0),
        "weighs nothing": Update(good, 0.0, 1),
        "negative weight": Update(good, -3.0, 1),
        "weighs nan": Update(good, float("nan"), 1),
        "weighs too much": Update(good, 1e9, 1),
    }


@pytest.mark.parametrize("fault", bad_updates())
def test_a_bad_update_is_refused_by_name_and_the_round_is_the_honest_average(tmp_path: Path, small: Small, fault: str) -> None:
    strategy, orders = started(small(privacy="none"), tmp_path)
    honest = [reply(orders[0], Update(weights(1), 1.0, 1)), reply(orders[2], Update(weights(2), 1.0, 1))]
    bad = reply(orders[1], bad_updates()[fault])
    after = averaged(strategy.aggregate_train(1, iter([honest[0], bad, honest[1]]))[0])
    for name, start in weights(0).items():
        np.testing.assert_allclose(after[name], start + (weights(1)[name] + weights(2)[name]) / 2, atol=1e-6)
    assert list(strategy.tally.refused) == [orders[1].metadata.dst_node_id]
    assert strategy.tally.trained == 2


def test_a_device_that_claims_more_weight_under_privacy_is_refused(tmp_path: Path, small: Small) -> None:
    with pytest.raises(Refusal, match="weighs 50"):
        check_update(Update(weights(1), 50.0, 1), weights(0).shapes, round=1, settings=small())


def test_arrays_of_another_type_and_garbage_do_not_spoil_the_round(tmp_path: Path, small: Small) -> None:
    strategy, orders = started(small(privacy="none"), tmp_path)
    integers = encode_reply(Update(weights(1), 1.0, 1))
    integers["arrays"] = ArrayRecord([np.arange(5)])
    replies = [
        Message(integers, reply_to=orders[0]),
        Message(RecordDict({"something": ConfigRecord({"else": 1})}), reply_to=orders[1]),
        Message(Error(3001, "ValueError"), reply_to=orders[2]),
    ]
    assert strategy.aggregate_train(1, iter(replies)) == (None, None)
    assert sorted(strategy.tally.refused) == NODES
    assert "the device failed: ValueError" in strategy.tally.refused[orders[2].metadata.dst_node_id]


def test_replies_are_taken_one_by_one_so_that_two_updates_are_never_held(tmp_path: Path, small: Small) -> None:
    """Each reply is made only after the one before was let go (a weak reference says when)."""
    import gc
    import weakref

    strategy, orders = started(small(privacy="none"), tmp_path)
    alive: list[weakref.ref[Message]] = []
    held: list[int] = []

    def replies() -> Any:
        for order in orders:
            gc.collect()
            held.append(sum(one() is not None for one in alive))
            message = reply(order, Update(weights(1), 1.0, 1))
            alive.append(weakref.ref(message))
            yield message
            del message

    strategy.aggregate_train(1, replies())
    assert max(held) <= 1


def test_devices_are_chosen_by_the_seed_and_differently_each_round(tmp_path: Path, small: Small) -> None:
    def chosen(seed: int, round: int) -> list[int]:
        settings = small(seed=seed, fraction=0.67)
        strategy = build_strategy(settings, GlobalModel(weights(0), "body", "tokens"), Journal(tmp_path / f"{seed}-{round}"))
        grid: Any = Nodes()
        return [m.metadata.dst_node_id for m in strategy.configure_train(round, arrays_of(weights(0)), ConfigRecord(), grid)]

    assert chosen(1, 1) == chosen(1, 1)
    assert len(chosen(1, 1)) == 2
    assert len({tuple(chosen(1, round)) for round in range(1, 12)}) > 1


def test_epsilon_counts_how_often_the_busiest_device_was_asked_over_restarts(tmp_path: Path, small: Small) -> None:
    settings = small(rounds=4)
    grid: Any = Nodes()
    strategy, _ = started(settings, tmp_path)
    assert strategy.plan is not None
    assert strategy.epsilon == pytest.approx(strategy.plan.epsilon(1))
    again = build_strategy(settings, GlobalModel(weights(0), "body", "tokens"), Journal(tmp_path / "run"), rounds_done=0)
    again.configure_train(1, arrays_of(weights(0)), ConfigRecord(), grid)
    assert again.epsilon == pytest.approx(strategy.plan.epsilon(2))


def test_an_order_carries_what_the_device_needs_and_the_new_model_reaches_it(tmp_path: Path, small: Small) -> None:
    strategy, orders = started(small(), tmp_path)
    order = decode_train_order(orders[0].content)
    assert (order.round, order.model.base_digest, order.model.tokenizer_digest) == (1, "body", "tokens")
    assert order.plan is not None
    assert strategy.plan is not None
    assert vars(order.plan) == vars(strategy.plan)
    grid: Any = Nodes()
    published = decode_publish_order(next(iter(strategy.configure_evaluate(1, arrays_of(weights(5)), ConfigRecord(), grid))).content)
    assert published.model.weights.digest == weights(5).digest
    assert published.epsilon == pytest.approx(strategy.epsilon)


def test_an_unknown_protection_is_refused(tmp_path: Path, small: Small) -> None:
    settings = small()
    object.__setattr__(settings, "privacy", "homeopathic")
    with pytest.raises(Refusal, match="homeopathic"):
        build_strategy(settings, GlobalModel(weights(0), "body", "tokens"), Journal(tmp_path / "run"))


# what goes with what

COMBINATIONS = list(itertools.product(PRIVACY_KINDS, AGGREGATIONS, STRATEGIES))


def goes_together(privacy: str, aggregation: str, strategy: str) -> bool:
    """Rules that compare single updates need to see them, and bound nobody's influence."""
    return strategy not in ROBUST or (aggregation == "plain" and privacy in ("none", "example"))


def test_exactly_the_combinations_that_keep_their_promise_are_allowed() -> None:
    allowed = []
    for privacy, aggregation, strategy in COMBINATIONS:
        with contextlib.suppress(Refusal):
            require_allowed(RunSettings(privacy=privacy, aggregation=aggregation, strategy=strategy, clients=5))
            allowed.append((privacy, aggregation, strategy))
    assert allowed == [one for one in COMBINATIONS if goes_together(*one)]
    assert len(allowed) == 42


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("HEALING_ENGINES") != "1", reason="minutes: a run for each of 42 combinations; set HEALING_ENGINES=1")
@pytest.mark.parametrize(("privacy", "aggregation", "strategy"), [one for one in COMBINATIONS if goes_together(*one)])
def test_every_allowed_combination_runs_on_the_engine_in_this_process(
    federation: Callable[..., tuple[Weights, list[RoundRecord], list[Message]]], privacy: str, aggregation: str, strategy: str
) -> None:
    kind = {"privacy": privacy, "aggregation": aggregation, "strategy": strategy, "update_clip": 1.0, "user_delta": 1e-2}
    after, [record], _ = federation("run", rounds=1, **kind)
    untouched, _, _ = federation("start", rounds=1, privacy="none", lost=[("query.advertise", number) for number in range(5)])
    assert (record.clients, record.refused, record.lost, record.declined) == (5, {}, "", {})
    assert 0 < (after - untouched).norm() < math.inf


# strategies


def test_one_hostile_device_of_five_moves_the_mean_and_not_the_robust_rules(
    tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.NODES", [11, 12, 13, 14, 15])
    honest = [weights(0).scale(0.01 * number) for number in (1, 2, 3, 4)]
    hostile = weights(9).scale(100.0)
    far: dict[str, float] = {}
    for name in ("fedavg", "median", "trimmed-mean", "multi-krum"):
        strategy, orders = started(small(privacy="none", strategy=name, clients=5, hostile=0.2), tmp_path / name)
        replies = [reply(order, Update(update, 1.0, 1)) for order, update in zip(orders, [*honest, hostile], strict=True)]
        after = averaged(strategy.aggregate_train(1, iter(replies))[0])
        far[name] = (after - weights(0).scale(1.025)).norm() / weights(0).norm()
        assert strategy.tally.trained == 5
        assert strategy.tally.left_out == ([orders[4].metadata.dst_node_id] if name == "multi-krum" else [])
    assert far["fedavg"] > 5
    assert max(far[name] for name in ("median", "trimmed-mean", "multi-krum")) < 0.02


def test_too_few_updates_for_a_robust_rule_leave_the_model_as_it_was_and_say_so(
    tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.NODES", [11, 12, 13, 14, 15])
    strategy, orders = started(small(privacy="none", strategy="multi-krum", clients=5, hostile=0.2), tmp_path)
    replies = [reply(order, Update(weights(1), 1.0, 1)) for order in orders[:4]]
    assert strategy.aggregate_train(1, iter(replies)) == (None, None)
    assert strategy.tally.trained == 0
    assert all("multi-krum as it is set needs 5" in reason for reason in strategy.tally.refused.values())


def test_adam_on_the_server_goes_on_after_a_restart_as_if_it_had_never_stopped(tmp_path: Path, small: Small) -> None:
    settings = small(privacy="none", strategy="fedadam", server_learning_rate=0.1)

    def rounds(folder: Path, *, restarted: bool) -> Weights:
        journal, now = Journal(folder), weights(0)
        grid: Any = Nodes()
        strategy = build_strategy(settings, GlobalModel(now, "body", "tokens"), journal)
        for round in (1, 2, 3):
            before = round - 1 if restarted else 0
            if restarted:
                strategy = build_strategy(settings, GlobalModel(now, "body", "tokens"), journal, rounds_done=before)
            orders = list(strategy.configure_train(round - before, arrays_of(now), ConfigRecord(), grid))
            updates = [] if round == 2 else [weights(10 * round + number) for number in range(3)]  # nobody answers in round 2
            replies = [reply(order, Update(update, 1.0, round)) for order, update in zip(orders, updates, strict=False)]
            arrays, _ = strategy.aggregate_train(round - before, iter(replies))
            now = now if arrays is None else weights_of(arrays)
        return now

    assert rounds(tmp_path / "a", restarted=True).digest == rounds(tmp_path / "b", restarted=False).digest
