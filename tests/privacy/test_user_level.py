"""Tests of privacy.user_level: the clip against a slow loop and as a law, the noise by its statistics and by what an attacker
can tell from many draws, and every fault of Flower's DP wrappers that this has not."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats  # type: ignore[import-untyped]

from model.refusal import Refusal
from model.weights import Weights
from privacy.fixed_point import LARGEST, FixedPoint
from privacy.ledger import PrivacyBudgetSpent
from privacy.randomness import SecureRandom
from privacy.user_accounting import UserPlan
from privacy.user_level import (
    FINEST_NOISE,
    AdaptiveClip,
    ClippedUpdate,
    Release,
    SharedNoise,
    UserLevelSum,
    clip_update,
    noise_share,
    sampled_clients,
)

SHAPES = {"head.bias": (4,), "head.weight": (4, 3), "scale": ()}


def plan(**values: Any) -> UserPlan:
    """Ten clients, all of them in every round."""
    full: dict[str, Any] = {"noise_multiplier": 1.0, "clip_norm": 2.0, "delta": 1e-2, "clients": 10, "clients_per_round": 10}
    return UserPlan(**(full | {"sampling": "full"} | values))


def weights(**values: Any) -> Weights:
    return Weights({name: np.asarray(value, dtype=np.float32) for name, value in values.items()})


def drawn(seed: int, *, norm: float) -> Weights:
    """An update of about this norm."""
    generator = np.random.default_rng(seed)
    update = {name: generator.standard_normal(shape) for name, shape in SHAPES.items()}
    length = slow_norm(update)
    return Weights({name: np.asarray(array * norm / length, dtype=np.float32) for name, array in update.items()})


def clipped(seed: int, *, norm: float = 1.0) -> ClippedUpdate:
    return ClippedUpdate(drawn(seed, norm=norm), within=True)


def slow_norm(update: Mapping[str, npt.NDArray[Any]]) -> float:
    """Value by value, exactly summed."""
    return math.sqrt(math.fsum(float(value) ** 2 for array in update.values() for value in np.ravel(array)))


class Purse:
    """A ledger in memory: what it was charged, and the next charge it refuses."""

    def __init__(self, *, rounds: float = math.inf) -> None:
        self.charged: list[tuple[UserPlan, str, int]] = []
        self._rounds = rounds

    def charge(self, plan: UserPlan, *, run: str, round: int) -> float:
        if len(self.charged) >= self._rounds:
            raise PrivacyBudgetSpent("nothing is left")
        self.charged.append((plan, run, round))
        return float(len(self.charged))


def released(total: UserLevelSum, randomness: SecureRandom | None = None) -> Release:
    return total.release(Purse(), run="run", round=1, randomness=randomness or SecureRandom())


def noiseless() -> SecureRandom:
    """Noise of a trillionth: what is left is the arithmetic."""
    return Quieter(1e-12)


class Quieter(SecureRandom):
    """A broken source whose noise is ``factor`` times what was asked for."""

    def __init__(self, factor: float, key: bytes | None = None) -> None:
        super().__init__(key)
        self._factor = factor

    def normal(self, shape: torch.Size, *, std: float) -> torch.Tensor:
        return super().normal(shape, std=std * self._factor)


# the clip

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
UPDATES = st.lists(
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=2, max_side=5), elements=FINITE), min_size=1, max_size=3
).map(lambda values: Weights({f"w{at}": np.asarray(value) for at, value in enumerate(values)}))


@given(UPDATES, st.floats(1e-6, 1e6))
@settings(deadline=None)
def test_a_clipped_update_is_never_longer_than_the_clip_norm_nor_than_it_was_and_clipping_again_changes_nothing(
    update: Weights, clip_norm: float
) -> None:
    once = clip_update(update, clip_norm)
    twice = clip_update(once.update, clip_norm)
    assert slow_norm(once.update) <= min(clip_norm, slow_norm(update))
    assert twice.update.digest == once.update.digest
    assert twice.within
    assert once.within == (once.update.digest == update.digest)


@pytest.mark.parametrize("norm", [1.9, 2.0001, 5.0, 1e30])
def test_clipping_scales_the_whole_update_by_one_factor(norm: float) -> None:
    update = drawn(1, norm=norm)
    factor = min(1.0, 2.0 / slow_norm(update))
    result = clip_update(update, 2.0)
    assert result.within == (norm < 2)
    for name, array in update.items():
        np.testing.assert_allclose(result.update[name], array.astype(np.float64) * factor, rtol=1e-6)
        assert result.update[name].shape == array.shape
    assert slow_norm(result.update) >= min(norm, 2.0) * (1 - 1e-6)


def test_the_norm_is_of_all_arrays_together_and_not_of_each() -> None:
    result = clip_update(weights(a=[3.0], b=[4.0]), 1.0)
    assert (result.update["a"][0], result.update["b"][0]) == pytest.approx((0.6, 0.8), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1e-45, -1e-45, 1e-38])
def test_a_zero_update_and_a_tiny_one_stay_as_they_are(value: float) -> None:
    update = weights(a=[value] * 5, b=value)
    result = clip_update(update, 1e-6)
    assert (result.update.digest, result.within) == (update.digest, True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_update_that_is_not_finite_is_refused_on_the_device(value: float) -> None:
    with pytest.raises(Refusal, match="not finite"):
        clip_update(weights(a=[1.0, value], b=[0.0]), 1.0)


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, math.nan, math.inf, 1e-7])
def test_a_clip_norm_that_bounds_nothing_is_refused(clip_norm: float) -> None:
    with pytest.raises(Refusal, match="clip-norm"):
        clip_update(weights(a=[1.0]), clip_norm)


# the sum


def test_the_mean_is_the_sum_of_all_updates_with_weight_one_over_the_plan_s_number() -> None:
    total = UserLevelSum(plan(), SHAPES, range(10))
    updates = [clipped(seed, norm=0.2 * seed) for seed in range(1, 11)]
    for client, update in enumerate(updates):
        total.add(client, update)
    mean = released(total, noiseless()).update
    for name in SHAPES:
        expected = sum(update.update[name].astype(np.float64) for update in updates) / 10
        np.testing.assert_allclose(mean[name], expected, atol=1e-7)


@pytest.mark.parametrize("answering", [1, 3, 9])
def test_the_divisor_is_the_plan_s_and_not_the_number_that_answered(answering: int) -> None:
    total = UserLevelSum(plan(), SHAPES, range(10))
    for client in range(answering):
        total.add(client, clipped(7))
    mean = released(total, noiseless()).update
    np.testing.assert_allclose(mean["head.weight"], clipped(7).update["head.weight"] * answering / 10, atol=1e-7)


def test_noise_is_added_in_double_precision_and_rounded_once() -> None:
    """The same noise, drawn again from the same key, and the sum's formula by hand: equal to the last bit, which it is not if
    sum or noise are rounded to float32 before."""
    key, size = bytes(range(32)), 1000
    values = [np.full(size, 1 / 3 / math.sqrt(size) * (client + 1), dtype=np.float32) for client in range(10)]
    total = UserLevelSum(plan(clip_norm=4.0, noise_multiplier=0.1), {"w": (size,)}, range(10))
    for client, value in enumerate(values):
        total.add(client, ClippedUpdate(weights(w=value), within=True))
    noise = SecureRandom(key).normal(torch.Size([size]), std=0.1 * 4.0).numpy()
    exact = np.sum([value.astype(np.float64) for value in values], axis=0)
    result = released(total, SecureRandom(key)).update["w"]
    np.testing.assert_array_equal(result, ((exact + noise) / 10).astype(np.float32))
    early = ((exact.astype(np.float32) + noise.astype(np.float32)) / np.float32(10)).astype(np.float32)
    assert (result != early).mean() > 0.1


@pytest.mark.parametrize(("noise", "clip_norm", "asked"), [(1.0, 2.0, 10), (5.0, 0.01, 3)])
def test_the_noise_of_a_zero_sum_has_the_stated_norm_and_is_normal(noise: float, clip_norm: float, asked: int) -> None:
    size, private = 40_000, plan(noise_multiplier=noise, clip_norm=clip_norm, clients=asked, clients_per_round=asked)
    total = UserLevelSum(private, {"a": (size // 2,), "b": (size // 4, 2)}, range(asked))
    total.add(0, ClippedUpdate(weights(a=np.zeros(size // 2), b=np.zeros((size // 4, 2))), within=True))
    values = np.concatenate([array.ravel() for array in released(total).update.values()]) * asked
    assert np.linalg.norm(values) == pytest.approx(noise * clip_norm * math.sqrt(size), rel=0.15)
    assert values.std() == pytest.approx(noise * clip_norm, rel=0.03)
    assert stats.kstest(values / (noise * clip_norm), "norm").pvalue > 1e-6


# what Flower's wrappers do wrong


@pytest.mark.parametrize(
    "bad",
    [
        weights(**{"head.bias": [math.nan] * 4, "head.weight": np.zeros((4, 3)), "scale": 0.0}),
        weights(**{"head.bias": [math.inf] * 4, "head.weight": np.zeros((4, 3)), "scale": 0.0}),
        drawn(3, norm=2.0 * (1 + 1e-5)),
        drawn(3, norm=1e30),
        weights(**{"head.bias": np.zeros(4), "head.weight": np.zeros((4, 3))}),
        weights(**{"head.bias": np.zeros(4), "head.weight": np.zeros((3, 4)), "scale": 0.0}),
        weights(**{"head.bias": np.zeros(4), "head.weight": np.zeros((4, 3)), "scale": 0.0, "more": [1.0]}),
    ],
    ids=["nan", "infinite", "too long", "far too long", "missing", "misshapen", "extra"],
)
def test_a_bad_update_costs_its_sender_the_round_and_leaves_no_trace(bad: Weights) -> None:
    total = UserLevelSum(plan(), SHAPES, range(10))
    total.add(0, clipped(1))
    with pytest.raises(Refusal):
        total.add(1, ClippedUpdate(bad, within=True))
    total.add(2, clipped(2))
    mean = released(total, noiseless()).update
    for name in SHAPES:
        np.testing.assert_allclose(mean[name], (clipped(1).update[name] + clipped(2).update[name]) / 10, atol=1e-7)


def test_a_zero_update_is_an_update_and_no_division_by_zero() -> None:
    total = UserLevelSum(plan(), SHAPES, range(10))
    total.add(0, clip_update(Weights({name: np.zeros(shape, dtype=np.float32) for name, shape in SHAPES.items()}), 2.0))
    assert released(total).update.is_finite()


def test_integer_buffers_cannot_be_an_update() -> None:
    with pytest.raises(Refusal, match="float32"):
        ClippedUpdate(Weights({"position_ids": np.arange(4)}), within=True)  # type: ignore[dict-item]


def test_a_round_to_which_nobody_answers_is_charged_and_released_as_noise() -> None:
    purse, total = Purse(), UserLevelSum(plan(), {"w": (20_000,)}, range(10))
    result = total.release(purse, run="run", round=3, randomness=SecureRandom())
    assert purse.charged == [(plan(), "run", 3)]
    assert result.update["w"].std() * 10 == pytest.approx(2.0, rel=0.03)


def test_seeds_of_numpy_and_torch_have_no_hand_in_the_noise() -> None:
    def noise() -> Weights:
        np.random.seed(7)
        torch.manual_seed(7)
        return released(UserLevelSum(plan(), SHAPES, range(10))).update

    assert noise().digest != noise().digest


def test_nobody_counts_twice_or_unasked() -> None:
    total = UserLevelSum(plan(), SHAPES, range(3))
    total.add(0, clipped(1))
    for client in (0, 3, "0"):
        with pytest.raises(Refusal, match="not asked"):
            total.add(client, clipped(1))
    np.testing.assert_allclose(released(total, noiseless()).update["scale"], clipped(1).update["scale"] / 10, atol=1e-7)


@pytest.mark.parametrize("sampling", ["full", "fixed"])
def test_more_clients_than_the_plan_counts_on_are_refused(sampling: str) -> None:
    with pytest.raises(Refusal, match="were asked"):
        UserLevelSum(plan(sampling=sampling, clients=10 if sampling == "full" else 50), SHAPES, range(11))
    UserLevelSum(plan(sampling="poisson", clients=50), SHAPES, range(30))


# charged before it is released


class Seen(SecureRandom):
    """Counts how often noise was drawn."""

    draws = 0

    def normal(self, shape: torch.Size, *, std: float) -> torch.Tensor:
        self.draws += 1
        return super().normal(shape, std=std)


def test_a_round_that_would_overspend_draws_no_noise_and_releases_nothing() -> None:
    seen, total = Seen(), UserLevelSum(plan(), SHAPES, range(10))
    with pytest.raises(PrivacyBudgetSpent):
        total.release(Purse(rounds=0), run="run", round=1, randomness=seen)
    assert seen.draws == 0


def test_a_sum_is_released_once() -> None:
    """Two releases of one sum with fresh noise are worth one with half the variance."""
    purse, total = Purse(), UserLevelSum(plan(), SHAPES, range(10))
    total.release(purse, run="run", round=1, randomness=SecureRandom())
    with pytest.raises(Refusal, match="released already"):
        total.release(purse, run="run", round=1, randomness=SecureRandom())
    with pytest.raises(Refusal, match="released already"):
        total.add(1, clipped(1))
    assert len(purse.charged) == 1


# what an attacker can tell


def measured_epsilon(with_person: npt.NDArray[np.float64], without: npt.NDArray[np.float64], delta: float) -> float:
    """A lower bound on epsilon that holds with probability 1 - 10^-4: the best of 41 thresholds, each of whose two rates is
    taken at its Clopper-Pearson bound."""
    error, best = 1e-4 / 82, 0.0
    for threshold in np.linspace(-2.0, 4.0, 41):
        caught, wrongly = int((with_person > threshold).sum()), int((without > threshold).sum())
        least = stats.beta.ppf(error, caught, len(with_person) - caught + 1) if caught else 0.0
        most = stats.beta.ppf(1 - error, wrongly + 1, len(without) - wrongly) if wrongly < len(without) else 1.0
        if least > delta:
            best = max(best, math.log((least - delta) / most))
    return best


DRAWS = 4000


def one_dimensional(private: UserPlan, factor: float, key: int, *, person: bool) -> npt.NDArray[np.float64]:
    """Sums over C with nine people at 0.3, and the tenth at 1 or away; a round for every draw."""
    randomness, purse = Quieter(factor, bytes([key]) * 32), Purse()
    values = []
    for _ in range(DRAWS):
        total = UserLevelSum(private, {"w": (1,)}, range(10))
        for client in range(9):
            total.add(client, ClippedUpdate(weights(w=[0.3 * private.clip_norm]), within=True))
        if person:
            total.add(9, ClippedUpdate(weights(w=[private.clip_norm]), within=False))
        values.append(float(total.release(purse, run="audit", round=1, randomness=randomness).update["w"][0]))
    return np.array(values) * 10 / private.clip_norm - 9 * 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "holds"), [(1.0, True), (0.5, False)], ids=["as stated", "noise halved"])
def test_many_draws_with_and_without_a_person_measure_no_more_than_is_claimed_unless_the_noise_is_halved(
    factor: float, holds: bool
) -> None:
    private = plan(noise_multiplier=1.0, delta=1e-2)
    measured = measured_epsilon(
        one_dimensional(private, factor, 1, person=True), one_dimensional(private, factor, 2, person=False), private.delta
    )
    claimed = private.epsilon(1)
    assert (measured <= claimed) == holds
    assert measured > 0.5 * claimed  # or the attack would find nothing in anything


# shared noise


def shared(*, clients: int = 10, fewest: int = 7, colluding: int = 0, **values: Any) -> SharedNoise:
    return SharedNoise(plan=plan(clients=clients, clients_per_round=clients, **values), fewest=fewest, colluding=colluding)


@pytest.mark.parametrize(("survivors", "colluding"), [(7, 0), (10, 0), (8, 1), (10, 3)])
def test_the_survivors_shares_add_up_to_the_noise_that_is_charged(survivors: int, colluding: int) -> None:
    noise, size = shared(colluding=colluding), 20_000
    still = ClippedUpdate(weights(w=np.zeros(size)), within=True)
    total = sum(noise_share(still, noise, SecureRandom()) for _ in range(survivors - colluding))
    assert isinstance(total, np.ndarray)
    charged = noise.plan_of(survivors)
    values = noise.form.decode(total, {"w": (size,)})["w"]
    assert values.std() == pytest.approx(charged.noise_multiplier * charged.clip_norm, rel=0.03)
    assert charged.noise_multiplier >= noise.plan.noise_multiplier
    assert stats.kstest(values / values.std(), "norm").pvalue > 1e-6


@pytest.mark.parametrize(("survivors", "colluding"), [(6, 0), (0, 0), (7, 1), (9, 3)])
def test_with_fewer_than_the_noise_counts_on_the_sum_is_not_opened(survivors: int, colluding: int) -> None:
    with pytest.raises(Refusal, match="not opened"):
        shared(colluding=colluding).plan_of(survivors)


def test_counting_on_all_ten_and_losing_some_breaks_the_promise_and_counting_on_fewer_keeps_it() -> None:
    """Ten devices, epsilon 8 at delta 10^-1.1 with all of their noise."""
    everybody = plan(noise_multiplier=math.sqrt(20) / 3.0186727, delta=10**-1.1)
    assert everybody.epsilon(20) == pytest.approx(8.0, abs=0.01)
    left = [replace(everybody, noise_multiplier=everybody.noise_multiplier * math.sqrt(k / 10)).epsilon(20) for k in (9, 7, 5)]
    assert left == pytest.approx([8.7, 10.8, 14.3], abs=0.06)
    careful = SharedNoise(plan=everybody, fewest=5, colluding=0)
    assert [careful.plan_of(k).epsilon(20) <= 8.01 for k in (9, 7, 5)] == [True] * 3
    assert careful.plan_of(5).epsilon(20) == everybody.epsilon(20)


def test_the_decoded_mean_is_of_the_updates_over_the_plan_s_number() -> None:
    noise = shared(noise_multiplier=0.1, fewest=10)
    updates = [drawn(seed, norm=1.5) for seed in range(8)]
    total = sum(noise_share(ClippedUpdate(update, within=True), noise, Quieter(1e-7)) for update in updates)
    assert isinstance(total, np.ndarray)
    mean = noise.mean(noise.form.decode(total, SHAPES))
    for name in SHAPES:
        np.testing.assert_allclose(mean[name], sum(update[name].astype(np.float64) for update in updates) / 10, atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 50.0), st.floats(1e-3, 1e3))
@settings(max_examples=30, deadline=None)
def test_the_update_on_the_grid_is_no_longer_than_the_clip_norm_and_no_sum_leaves_32_bits(seed: int, z: float, clip_norm: float) -> None:
    noise = shared(noise_multiplier=z, clip_norm=clip_norm)
    update = clip_update(drawn(seed, norm=3 * clip_norm), clip_norm)
    quiet = noise_share(update, noise, Quieter(1e-30))
    assert np.linalg.norm(quiet / noise.form.scale) <= clip_norm
    assert np.abs(noise_share(update, noise, SecureRandom())).max() * 10 <= LARGEST


def test_a_share_of_rounded_noise_is_what_the_docstring_says() -> None:
    """Two rounded Gaussians of the finest width allowed: the same probabilities as one Gaussian of both and one uniform
    rounding, rounded. A Gaussian convolved with two boxes has a closed form, a second difference of its second integral."""
    steps = np.arange(-60.0, 61.0)
    one = stats.norm.cdf(steps + 0.5, scale=FINEST_NOISE) - stats.norm.cdf(steps - 0.5, scale=FINEST_NOISE)
    both = np.convolve(one, one, mode="same")
    std = FINEST_NOISE * math.sqrt(2)

    def twice_integrated(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(x * stats.norm.cdf(x, scale=std) + std**2 * stats.norm.pdf(x, scale=std))

    expected = twice_integrated(steps + 1) - 2 * twice_integrated(steps) + twice_integrated(steps - 1)
    np.testing.assert_allclose(both, expected, atol=1e-13)
    coarse = stats.norm.cdf(steps + 0.5, scale=0.3) - stats.norm.cdf(steps - 0.5, scale=0.3)  # and it is false for a coarse grid
    assert abs(np.convolve(coarse, coarse, mode="same")[60] - stats.norm.pdf(0, scale=math.sqrt(0.18 + 1 / 6))) > 1e-3


def test_noise_too_fine_for_the_grid_is_refused() -> None:
    """Of 2^20 devices each share is a thousandth of the noise, and the grid a 2000th of the bound."""
    crowd = shared(clients=2**20, fewest=2**20, noise_multiplier=0.1)
    assert crowd.share_std * crowd.form.scale < FINEST_NOISE
    with pytest.raises(Refusal, match="finer than the grid"):
        noise_share(clipped(1), crowd, SecureRandom())


def test_an_update_that_was_not_clipped_gets_no_noise() -> None:
    with pytest.raises(Refusal, match="clip it before"):
        noise_share(ClippedUpdate(drawn(1, norm=2.1), within=True), shared(), SecureRandom())
    with pytest.raises(Refusal, match="clip it before"):
        noise_share(ClippedUpdate(weights(w=[math.nan]), within=True), shared(), SecureRandom())


def test_noise_that_leaves_the_grid_is_never_wrapped() -> None:
    with pytest.raises(Refusal, match="does not fit"):
        noise_share(clipped(1), shared(), Quieter(1e3))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sampling": "fixed", "clients_per_round": 5}, "knows whom it asked"),
        ({"sampling": "poisson", "clients_per_round": 5}, "knows whom it asked"),
        ({"count_noise": 5.0}, "fixed clip norm"),
    ],
)
def test_shared_noise_takes_no_credit_for_what_the_server_knows(values: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        SharedNoise(plan=plan(**values), fewest=3, colluding=0)


@pytest.mark.parametrize(("fewest", "colluding"), [(0, 0), (11, 0), (8, 3), (5, -1), (math.nan, 0)])
def test_a_number_of_survivors_that_cannot_be_is_refused(fewest: int, colluding: int) -> None:
    with pytest.raises(Refusal, match="honest survivors"):
        shared(fewest=fewest, colluding=colluding)


def test_both_sides_agree_on_a_form_that_has_room_for_the_noise() -> None:
    noise = shared()
    assert noise.form == FixedPoint(2.0 + 14 * 2.0 / math.sqrt(7), 10)


# whom to ask


def test_a_fixed_sample_has_its_size_and_everybody_is_as_likely() -> None:
    private, randomness, rounds = plan(sampling="fixed", clients=20, clients_per_round=5), SecureRandom(), 2000
    samples = [sampled_clients(private, range(20), randomness) for _ in range(rounds)]
    assert {len(set(sample)) for sample in samples} == {5}
    counts = Counter(client for sample in samples for client in sample)
    pairs = Counter((a, b) for sample in samples for a in sample for b in sample if a < b)
    assert stats.chisquare([counts[client] for client in range(20)]).pvalue > 1e-6
    assert stats.chisquare([pairs[a, b] for a in range(20) for b in range(a + 1, 20)]).pvalue > 1e-6


def test_a_poisson_sample_takes_each_by_itself() -> None:
    private, randomness = plan(sampling="poisson", clients=20, clients_per_round=5), SecureRandom()
    sizes = [len(sampled_clients(private, range(20), randomness)) for _ in range(2000)]
    assert np.mean(sizes) == pytest.approx(5, abs=0.25)
    assert np.var(sizes) == pytest.approx(20 * 0.25 * 0.75, rel=0.2)


def test_a_full_round_asks_everybody() -> None:
    assert sampled_clients(plan(), [f"node {at}" for at in range(10)], SecureRandom()) == [f"node {at}" for at in range(10)]


@pytest.mark.parametrize(("sampling", "registered"), [("full", 11), ("full", 9), ("fixed", 49), ("fixed", 8)])
def test_drawing_from_those_who_happen_to_be_connected_is_refused(sampling: str, registered: int) -> None:
    private = plan(sampling=sampling, clients=10 if sampling == "full" else 50)
    with pytest.raises(Refusal, match="registered"):
        sampled_clients(private, range(registered), SecureRandom())


# adaptive clipping


def adaptive_plan(**values: Any) -> UserPlan:
    return plan(**({"clients": 100, "clients_per_round": 100, "count_noise": 5.0} | values))


@pytest.mark.parametrize(("quantile", "start"), [(0.5, 0.1), (0.5, 50.0), (0.8, 1.0)])
def test_the_clip_norm_finds_the_quantile_of_the_updates_norms(quantile: float, start: float) -> None:
    norms = np.random.default_rng(0).lognormal(mean=0.3, sigma=0.4, size=100)
    clip, randomness, trace = AdaptiveClip(clip_norm=start, quantile=quantile), SecureRandom(), []
    for _ in range(120):
        total = UserLevelSum(clip.applied_to(adaptive_plan()), {"w": (1,)}, range(100))
        for client, norm in enumerate(norms):
            total.add(client, clip_update(weights(w=[norm]), clip.clip_norm))
        within = released(total, randomness).within
        assert within is not None
        clip = clip.next(within)
        trace.append(clip.clip_norm)
    assert np.mean(trace[-50:]) == pytest.approx(float(np.quantile(norms, quantile)), rel=0.1)


@pytest.mark.parametrize(
    ("within", "factor"), [(0.5, 1.0), (1.0, math.exp(-0.1)), (0.0, math.exp(0.1)), (7.0, math.exp(-0.1)), (-3.0, math.exp(0.1))]
)
def test_the_clip_norm_moves_geometrically_and_noise_cannot_throw_it(within: float, factor: float) -> None:
    assert AdaptiveClip(clip_norm=2.0).next(within).clip_norm == pytest.approx(2.0 * factor)


def test_the_clip_norm_stays_where_it_can_be_used() -> None:
    low, high = AdaptiveClip(clip_norm=2e-6, learning_rate=1.0), AdaptiveClip(clip_norm=9e5, learning_rate=1.0)
    for _ in range(5):
        low, high = low.next(1.0), high.next(0.0)
    assert (low.clip_norm, high.clip_norm) == (1e-6, 1e6)


def test_the_fraction_is_noised_by_the_count_s_noise_over_the_plan_s_number() -> None:
    fractions = []
    for _ in range(2000):
        total = UserLevelSum(adaptive_plan(), {"w": (1,)}, range(100))
        for client in range(40):
            total.add(client, ClippedUpdate(weights(w=[0.0]), within=client < 30))
        within = released(total).within
        assert within is not None
        fractions.append(within)
    assert np.mean(fractions) == pytest.approx((30 + 60 / 2) / 100, abs=0.01)  # who did not answer counts as half
    assert np.std(fractions) == pytest.approx(5.0 / 100, rel=0.1)


def test_beside_a_count_the_updates_bear_more_noise_and_the_round_is_charged_as_planned() -> None:
    private, purse = adaptive_plan(count_noise=0.6), Purse()
    values = UserLevelSum(private, {"w": (20_000,)}, range(100)).release(purse, run="run", round=1, randomness=SecureRandom())
    z_delta = (1.0 - 1.2**-2) ** -0.5
    assert values.update["w"].std() * 100 == pytest.approx(2.0 * z_delta, rel=0.03)
    assert purse.charged[0][0].epsilon(1) == plan().epsilon(1)


def test_no_count_is_released_where_none_is_planned() -> None:
    assert released(UserLevelSum(plan(), SHAPES, range(10))).within is None
    with pytest.raises(Refusal, match="count-noise"):
        AdaptiveClip(clip_norm=1.0).applied_to(plan())


@pytest.mark.parametrize("bit", [1e9, 2, None, "yes", math.nan])
def test_a_bit_that_is_none_is_refused_and_moves_no_count(bit: Any) -> None:
    total = UserLevelSum(adaptive_plan(), SHAPES, range(100))
    with pytest.raises(Refusal, match="neither yes nor no"):
        total.add(0, ClippedUpdate(drawn(1, norm=1.0), within=bit))
    assert released(total, noiseless()).within == pytest.approx(0.5)


@given(st.floats(1e-6, 1e6), st.floats(0.01, 0.99), st.floats(0.01, 1.0))
def test_the_state_reads_back_exactly_as_it_was_written(clip_norm: float, quantile: float, learning_rate: float) -> None:
    state = AdaptiveClip(clip_norm=clip_norm, quantile=quantile, learning_rate=learning_rate)
    assert AdaptiveClip.from_json(state.to_json()) == state


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "7", '{"clip_norm": "1"}', '{"norm": 1}', '{"clip_norm": NaN}', '{"clip_norm": 0}']
)
def test_a_damaged_state_is_refused(content: str) -> None:
    with pytest.raises(Refusal):
        AdaptiveClip.from_json(content)


@pytest.mark.parametrize(
    "values", [{"clip_norm": 0.0}, {"quantile": 1.0}, {"quantile": 0.0}, {"learning_rate": 0.0}, {"learning_rate": math.nan}]
)
def test_a_clip_that_cannot_adapt_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(Refusal):
        AdaptiveClip(**({"clip_norm": 1.0} | values))
    with pytest.raises(Refusal):
        AdaptiveClip.from_json(json.dumps({"clip_norm": 1.0} | values))


@pytest.mark.parametrize("within", [math.nan, math.inf])
def test_a_fraction_that_is_no_number_is_refused(within: float) -> None:
    with pytest.raises(Refusal, match="fraction"):
        AdaptiveClip(clip_norm=1.0).next(within)
