"""Robust rules: equal to second libraries and slow loops, unmoved by a minority that may send anything, and blind to order."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import ArrayRecord, RecordDict
from flwr.serverapp.strategy.multikrum import select_multikrum
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from model.refusal import Refusal
from model.weights import RunningMean, Weights
from server.robust import (
    Aggregation,
    HeldUpdates,
    Median,
    MultiKrum,
    RobustRule,
    TooFewUpdates,
    TrimmedMean,
    krum_scores,
    squared_distances,
)

Matrix = npt.NDArray[np.float32]
SIZE = 18
LARGEST = float(np.finfo(np.float32).max)
light = settings(deadline=None, max_examples=30)


def updates_of(matrix: Matrix) -> list[Weights]:
    """Each row (18,) as an update of three arrays, one of them a single number; read-only, as they come from a message."""
    matrix = matrix.astype(np.float32)
    matrix.setflags(write=False)
    return [Weights({"a": row[:12].reshape(3, 4), "b": row[12:17], "c": row[17].reshape(())}) for row in matrix]


def flat(weights: Weights) -> Matrix:
    values: Matrix = np.concatenate([array.ravel() for array in weights.values()])
    return values


def drawn(count: int, seed: int, *, size: int = SIZE) -> Matrix:
    rng = np.random.default_rng(seed)
    matrix: Matrix = (rng.normal(size=size) + rng.normal(size=(count, size)) * rng.choice([1e-4, 1.0])).astype(np.float32)
    return matrix


# against second libraries and slow loops


@pytest.mark.parametrize("count", range(3, 13))
def test_the_median_is_numpys(count: int) -> None:
    matrix = drawn(count, seed=count)
    wanted = np.median(matrix.astype(np.float64), axis=0).astype(np.float32)
    assert np.array_equal(flat(Median().aggregate(updates_of(matrix)).value), wanted)


@pytest.mark.parametrize(("count", "share"), [(10, 0.1), (10, 0.25), (7, 0.3), (5, 0.4), (30, 0.1), (9, 0.49), (3, 0.0)])
def test_the_trimmed_mean_is_scipys(count: int, share: float) -> None:
    matrix = drawn(count, seed=count)
    wanted = stats.trim_mean(matrix.astype(np.float64), share, axis=0)
    np.testing.assert_allclose(flat(TrimmedMean(share).aggregate(updates_of(matrix)).value), wanted, rtol=1e-7)


@light
@given(st.integers(5, 12), st.integers(0, 2**32), st.floats(0.2, 0.49))
def test_the_trimmed_mean_is_that_of_a_loop_over_sorted_coordinates(count: int, seed: int, share: float) -> None:
    matrix = drawn(count, seed)
    cut = int(share * count)
    inner = [sorted(map(float, column))[cut : count - cut] for column in matrix.T]
    wanted = [math.fsum(values) / len(values) for values in inner]
    np.testing.assert_allclose(flat(TrimmedMean(share).aggregate(updates_of(matrix)).value), wanted, rtol=1e-6, atol=1e-9)


def krum_by_a_loop(matrix: Matrix, *, attackers: int, kept: int) -> set[int]:
    """The paper's words, in Python's numbers."""
    count = len(matrix)
    scores = []
    for i in range(count):
        others = [matrix[j] for j in range(count) if j != i]
        far = sorted(math.fsum((float(x) - float(y)) ** 2 for x, y in zip(matrix[i], other, strict=True)) for other in others)
        scores.append(math.fsum(far[: count - attackers - 2]))
    return set(sorted(range(count), key=scores.__getitem__)[:kept])


@pytest.mark.parametrize(("count", "attackers", "kept"), [(5, 1, 1), (7, 1, 3), (9, 3, 6), (12, 4, 1), (12, 2, 10), (23, 10, 13)])
def test_multi_krum_keeps_and_averages_what_a_loop_and_flower_keep(count: int, attackers: int, kept: int) -> None:
    matrix = drawn(count, seed=count + kept)
    result = MultiKrum(attackers, kept).aggregate(updates_of(matrix))
    wanted = krum_by_a_loop(matrix, attackers=attackers, kept=kept)
    assert set(result.left_out) == set(range(count)) - wanted
    np.testing.assert_allclose(flat(result.value), matrix[sorted(wanted)].astype(np.float64).mean(axis=0), rtol=1e-6)
    contents = [RecordDict({"arrays": ArrayRecord([row.astype(np.float64)])}) for row in matrix]
    chosen = select_multikrum(contents, num_malicious_nodes=attackers, num_nodes_to_select=kept)
    assert {number for number, content in enumerate(contents) if any(content is one for one in chosen)} == wanted


def test_most_is_all_but_the_attackers() -> None:
    updates = updates_of(drawn(11, seed=1))
    most, eight = MultiKrum(3).aggregate(updates), MultiKrum(3, 8).aggregate(updates)
    assert (most.value.digest, most.left_out) == (eight.value.digest, eight.left_out)
    assert len(most.left_out) == 3


def test_arrays_of_many_blocks_are_put_together_rightly() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(5, 500_001)).astype(np.float32)
    matrix[4] += 1.0
    updates = [Weights({"w": row.reshape(3, -1)}) for row in matrix]
    ordered = np.sort(matrix, axis=0)
    assert np.array_equal(flat(Median().aggregate(updates).value), ordered[2])
    np.testing.assert_allclose(flat(TrimmedMean(0.2).aggregate(updates).value), ordered[1:4].mean(axis=0, dtype=np.float64), rtol=1e-6)
    krum = MultiKrum(1).aggregate(updates)
    assert krum.left_out == (4,)
    np.testing.assert_allclose(flat(krum.value), matrix[:4].mean(axis=0, dtype=np.float64), rtol=1e-6)
    direct = [[float(np.square(x.astype(np.float64) - y).sum()) for x in matrix] for y in matrix]
    np.testing.assert_allclose(squared_distances(updates), direct, rtol=1e-12)


# distances


def test_distances_far_from_zero_are_exact_where_inner_products_lose_them() -> None:
    rng = np.random.default_rng(5)
    eighths = rng.integers(-4, 5, size=(8, SIZE))
    eighths[:, 0] = 0
    offset = np.full(SIZE, 2.0**20)
    offset[0] = 2.0**40
    matrix = (offset + eighths / 8).astype(np.float32)  # float32 holds every one of them
    exact = [[sum((int(x) - int(y)) ** 2 for x, y in zip(one, other, strict=True)) / 64 for other in eighths] for one in eighths]
    assert np.array_equal(squared_distances(updates_of(matrix)), exact)
    wide = matrix.astype(np.float64)
    norms = np.square(wide).sum(axis=1)
    assert np.abs(norms[:, None] + norms[None, :] - 2 * wide @ wide.T - exact).max() > 1e-3  # so the case is a hard one


def test_distances_of_the_largest_values_do_not_overflow_and_copies_are_at_none() -> None:
    matrix = np.zeros((4, SIZE), dtype=np.float32)
    matrix[0], matrix[1], matrix[2:] = LARGEST, -LARGEST, 1e30
    squared = squared_distances(updates_of(matrix))
    assert squared[0, 1] == pytest.approx(SIZE * (2 * LARGEST) ** 2)
    assert squared[2, 3] == 0.0
    assert np.array_equal(squared, squared.T)


def test_scores_leave_a_row_itself_out() -> None:
    squared = np.array([[0, 1, 4, 9, 9], [1, 0, 2, 9, 9], [4, 2, 0, 9, 9], [9, 9, 9, 0, 3], [9, 9, 9, 3, 0]], dtype=np.float64)
    assert krum_scores(squared, attackers=1).tolist() == [5, 3, 6, 12, 12]


# a minority that may send anything

Attack = Callable[[Matrix, int], Matrix]


def alternating(honest: Matrix, attackers: int) -> Matrix:
    signs = np.where(np.arange(attackers) % 2 == 0, 1.0, -1.0)
    return np.outer(signs, np.full(honest.shape[1], LARGEST)).astype(np.float32)


def a_little_is_enough(honest: Matrix, attackers: int, *, deviations: float = 0.5) -> Matrix:
    """Baruch et al. 2019: all attackers send the same, just inside the honest spread."""
    return np.tile(honest.mean(axis=0) - deviations * honest.std(axis=0), (attackers, 1)).astype(np.float32)


OBVIOUS: dict[str, Attack] = {
    "huge": lambda honest, attackers: np.full((attackers, honest.shape[1]), 1e30, dtype=np.float32),
    "the largest, both ways": alternating,
    "sign-flipped": lambda honest, attackers: -10 * honest[:attackers] - 1000,
    "boosted": lambda honest, attackers: 1000 * (np.abs(honest[:attackers]) + 1),
    "colluding far away": lambda honest, attackers: np.tile(honest.mean(axis=0) + 100, (attackers, 1)),
}
SUBTLE: dict[str, Attack] = {
    "a little is enough": a_little_is_enough,
    "copies of one": lambda honest, attackers: np.tile(honest[0], (attackers, 1)),
}
ATTACKS = OBVIOUS | SUBTLE
RULES: list[tuple[RobustRule, int]] = [
    (Median(), 3),
    (Median(), 10),
    (Median(), 11),
    (TrimmedMean(0.1), 10),
    (TrimmedMean(0.3), 10),
    (TrimmedMean(0.45), 20),
    (TrimmedMean(0.29), 100),
]


def mixed(honest: Matrix, bad: Matrix, seed: int) -> tuple[list[Weights], set[int]]:
    """Both in a random order, and where the bad ones stand."""
    order = np.random.default_rng(seed).permutation(len(honest) + len(bad))
    matrix = np.concatenate([honest, bad])[order]
    return updates_of(matrix), set(np.flatnonzero(order >= len(honest)).tolist())


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(("rule", "count"), RULES, ids=str)
def test_as_many_attackers_as_a_rule_bears_leave_every_coordinate_among_the_honest(rule: RobustRule, count: int, attack: str) -> None:
    attackers = rule.withstands(count)
    assert attackers >= 1
    for seed in range(5):
        honest = drawn(count - attackers, seed)
        updates, _ = mixed(honest, ATTACKS[attack](honest, attackers), seed)
        result = flat(rule.aggregate(updates).value)
        assert (honest.min(axis=0) <= result).all()
        assert (result <= honest.max(axis=0)).all()


@pytest.mark.parametrize(("rule", "count"), RULES, ids=str)
def test_one_attacker_more_than_a_rule_bears_moves_it_at_will(rule: RobustRule, count: int) -> None:
    attackers = rule.withstands(count) + 1
    honest = drawn(count - attackers, seed=1)
    updates, _ = mixed(honest, OBVIOUS["huge"](honest, attackers), seed=1)
    assert (flat(rule.aggregate(updates).value) > 1e27).all()


@light
@given(st.integers(3, 12), st.data())
def test_no_choice_of_numbers_leads_the_median_out_of_the_honest_range(count: int, data: st.DataObject) -> None:
    finite = st.floats(-LARGEST, LARGEST, width=32)
    attackers = Median().withstands(count)
    values = data.draw(st.lists(finite, min_size=count, max_size=count))
    column = np.array(values, dtype=np.float32)
    updates = [Weights({"w": value.reshape(1)}) for value in column]
    result = float(Median().aggregate(updates).value["w"][0])
    honest = column[attackers:]
    assert honest.min() <= result <= honest.max()


@pytest.mark.parametrize("attack", OBVIOUS)
@pytest.mark.parametrize(("count", "attackers"), [(5, 1), (9, 3), (20, 8), (23, 10)])
def test_multi_krum_gives_the_mean_of_the_honest_and_names_the_attackers(count: int, attackers: int, attack: str) -> None:
    rng = np.random.default_rng(count)
    honest = (rng.normal(size=SIZE) + 0.01 * rng.normal(size=(count - attackers, SIZE))).astype(np.float32)
    updates, where = mixed(honest, OBVIOUS[attack](honest, attackers), seed=count)
    result = MultiKrum(attackers).aggregate(updates)
    assert set(result.left_out) == where
    np.testing.assert_allclose(flat(result.value), honest.astype(np.float64).mean(axis=0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("count", "attackers"), [(7, 2), (9, 3), (12, 3), (23, 10)])
def test_multi_krum_holds_down_to_the_stated_distance_and_no_further(count: int, attackers: int) -> None:
    """Honest updates on the axes, each sqrt(2) from all others; colluding ones at one point, equally far from all of these."""
    ratio = (count - attackers - 2) / (count - 2 * attackers - 1)
    honest = np.eye(SIZE, dtype=np.float32)[: count - attackers]

    def kept_out(squared: float) -> bool:
        bad = np.zeros((attackers, SIZE), dtype=np.float32)
        bad[:, -1] = math.sqrt(squared - 1)
        return MultiKrum(attackers).aggregate(updates_of(np.concatenate([honest, bad]))).left_out == tuple(range(count - attackers, count))

    assert len(honest) < SIZE
    assert kept_out(2 * ratio * 1.01)
    assert not kept_out(2 * ratio * 0.99)


def test_multi_krum_may_choose_what_hides_inside_the_honest_spread_and_the_median_stays_there() -> None:
    honest = np.random.default_rng(1).normal(size=(9, SIZE)).astype(np.float32)
    updates, where = mixed(honest, a_little_is_enough(honest, 3), seed=1)
    assert not where & set(MultiKrum(3).aggregate(updates).left_out)
    off = np.abs(flat(Median().aggregate(updates).value) - honest.mean(axis=0))
    assert (off <= 2 * honest.std(axis=0)).all()


def test_one_attacker_moves_the_plain_mean_and_no_robust_rule() -> None:
    honest = drawn(9, seed=2)
    updates, where = mixed(honest, OBVIOUS["huge"](honest, 1), seed=2)

    def aggregated(by: Aggregation) -> Matrix:
        for update in updates:
            by.add(update, 1.0)
        return flat(by.value())

    assert (aggregated(RunningMean()) > 1e28).all()
    krum = HeldUpdates(MultiKrum(1))
    rules: Sequence[Aggregation] = [HeldUpdates(Median()), HeldUpdates(TrimmedMean(0.1)), krum]
    for rule in rules:
        result = aggregated(rule)
        assert (np.abs(result) <= np.abs(honest).max(axis=0)).all()
    assert set(krum.left_out) == where


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.2), MultiKrum(1)], ids=str)
def test_the_weight_that_a_device_claims_does_not_count(rule: RobustRule) -> None:
    updates = updates_of(drawn(8, seed=4))
    equal, claimed = HeldUpdates(rule), HeldUpdates(rule)
    for number, update in enumerate(updates):
        equal.add(update, 1.0)
        claimed.add(update, 10.0**number)
    assert equal.value().digest == claimed.value().digest
    assert equal.left_out == claimed.left_out


# laws


ORDERLESS: list[RobustRule] = [Median(), TrimmedMean(0.0), TrimmedMean(0.25), MultiKrum(0, 1), MultiKrum(1, 2), MultiKrum(1)]


@pytest.mark.parametrize("rule", ORDERLESS, ids=str)
@light
@given(seed=st.integers(0, 2**32))
def test_the_order_of_updates_does_not_change_a_bit(rule: RobustRule, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(5, 9))
    require_same_in_another_order(rule, rng.normal(size=(count, SIZE)), rng)


@pytest.mark.parametrize("rule", ORDERLESS, ids=str)
def test_nor_does_it_with_equal_values_equal_scores_and_zeros_of_both_signs(rule: RobustRule) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        values = rng.choice([-0.0, 0.0, 1.0], size=(int(rng.integers(5, 9)), SIZE))
        values[:, 4:] = 1.0
        require_same_in_another_order(rule, values, rng)


def require_same_in_another_order(rule: RobustRule, matrix: npt.NDArray[np.float64], rng: np.random.Generator) -> None:
    count = len(matrix)
    updates = updates_of(matrix.astype(np.float32))
    shuffled = [updates[place] for place in rng.permutation(count)]
    one, other = rule.aggregate(updates), rule.aggregate(shuffled)
    assert one.value.digest == other.value.digest
    assert sorted(updates[place].digest for place in one.left_out) == sorted(shuffled[place].digest for place in other.left_out)


@pytest.mark.parametrize("rule", [TrimmedMean(0.0), MultiKrum(0)], ids=str)
def test_where_nothing_is_left_out_the_result_is_the_mean(rule: RobustRule) -> None:
    updates = updates_of(drawn(7, seed=6))
    mean = RunningMean()
    for update in updates:
        mean.add(update, 1.0)
    result = rule.aggregate(updates)
    assert result.left_out == ()
    np.testing.assert_allclose(flat(result.value), flat(mean.value()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.3), MultiKrum(1)], ids=str)
@light
@given(count=st.integers(5, 12), seed=st.integers(0, 2**32))
def test_equal_updates_give_themselves(rule: RobustRule, count: int, seed: int) -> None:
    update = updates_of(drawn(1, seed))[0]
    assert rule.aggregate([update] * count).value.digest == update.digest


@example(percent=29, count=100)
@given(percent=st.integers(0, 49), count=st.integers(1, 1000))
def test_the_share_is_counted_as_if_it_were_exact(percent: int, count: int) -> None:
    assert TrimmedMean(percent / 100).withstands(count) == Fraction(percent, 100) * count // 1


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.25), MultiKrum(2)], ids=str)
def test_updates_are_left_as_they_are(rule: RobustRule) -> None:
    matrix = drawn(8, seed=8)
    updates = [Weights({"w": row.copy()}) for row in matrix]
    rule.aggregate(updates)
    assert np.array_equal(np.stack([update["w"] for update in updates]), matrix)


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.25), MultiKrum(2)], ids=str)
def test_beside_the_updates_a_rule_needs_its_result_and_a_small_part(rule: RobustRule) -> None:
    rng = np.random.default_rng(1)
    updates = [Weights({"w": rng.standard_normal((1000, 1000), dtype=np.float32)}) for _ in range(20)]  # 80 MB
    tracemalloc.start()
    try:
        rule.aggregate(updates)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 4e6 + 30e6


# refusals


@pytest.mark.parametrize(
    ("rule", "fewest"),
    [
        (Median(), 3),
        (TrimmedMean(0.1), 10),
        (TrimmedMean(0.3), 4),
        (TrimmedMean(0.2), 5),
        (TrimmedMean(0.0), 1),
        (MultiKrum(0), 3),
        (MultiKrum(2), 7),
        (MultiKrum(2, 6), 8),
    ],
    ids=str,
)
def test_too_few_updates_are_refused_by_name_and_one_more_is_enough(rule: RobustRule, fewest: int) -> None:
    updates = updates_of(drawn(fewest, seed=1))
    rule.aggregate(updates)
    with pytest.raises(TooFewUpdates, match=rf"^{fewest - 1} updates came and {rule.name} .* needs {fewest}; let more clients train"):
        rule.aggregate(updates[:-1])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.25), MultiKrum(1)], ids=str)
def test_a_value_that_is_not_finite_is_refused_with_its_place(rule: RobustRule, bad: float) -> None:
    matrix = drawn(6, seed=1)
    matrix[4, 17] = bad
    with pytest.raises(Refusal, match="update 4 of 6"):
        rule.aggregate(updates_of(matrix))


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.25), MultiKrum(1)], ids=str)
def test_updates_of_other_shapes_are_refused(rule: RobustRule) -> None:
    updates = updates_of(drawn(5, seed=1))
    for odd in (
        Weights({"a": updates[0]["a"]}),
        Weights({**updates[0].arrays, "d": updates[0]["b"]}),
        Weights({**updates[0].arrays, "a": updates[0]["a"].T.copy()}),
    ):
        with pytest.raises(Refusal, match=r"array '[abcd]'"):
            rule.aggregate([*updates, odd])


@pytest.mark.parametrize("share", [-0.1, 0.5, 0.7, 1.0, math.nan, math.inf])
def test_a_share_outside_its_bounds_is_refused(share: float) -> None:
    with pytest.raises(Refusal, match="at least 0 and below"):
        TrimmedMean(share)


@pytest.mark.parametrize(("attackers", "kept"), [(-1, 1), (1, 0), (1, -2)])
def test_multi_krum_refuses_what_it_cannot_mean(attackers: int, kept: int) -> None:
    with pytest.raises(Refusal, match="multi-krum"):
        MultiKrum(attackers, kept)
