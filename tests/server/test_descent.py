"""Server optimisers: equal to Python's own numbers and, its departures undone, to Flower's; a resumed run ends at the same bits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st

from model.refusal import Refusal
from model.weights import Weights
from server.descent import AdamStep, Descent, PlainStep, resumed_state, save_state

ADAM = AdamStep(learning_rate=0.1)
SHAPES = {"a": (3, 4), "b": (5,), "c": ()}
light = settings(deadline=None, max_examples=30)


def drawn(seed: int, size: float = 1.0) -> Weights:
    rng = np.random.default_rng(seed)
    return Weights({name: np.asarray(rng.normal(size=shape) * size, dtype=np.float32) for name, shape in SHAPES.items()})


def flat(weights: Weights) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = np.concatenate([array.ravel() for array in weights.values()])
    return values


def filled(value: float) -> Weights:
    return Weights({"w": np.full(3, value, dtype=np.float32)})


def rounds(descent: Descent, weights: Weights, updates: list[Weights]) -> Weights:
    """All of them in one go."""
    state = descent.begin(weights.shapes)
    for update in updates:
        weights, state = descent.step(weights, update, state)
    return weights


# the plain step


def test_at_rate_one_the_plain_step_is_fedavg_to_the_last_bit() -> None:
    after, state = PlainStep().step(drawn(1), drawn(2), PlainStep().begin(SHAPES))
    assert after.digest == (drawn(1) + drawn(2)).digest
    assert len(state) == 0


@light
@given(st.floats(0.01, 3), st.integers(0, 100))
def test_the_plain_step_goes_its_rate_times_the_update(rate: float, seed: int) -> None:
    after = rounds(PlainStep(learning_rate=rate), drawn(seed), [drawn(seed + 1)])
    wanted = flat(drawn(seed)).astype(np.float64) + rate * flat(drawn(seed + 1)).astype(np.float64)
    np.testing.assert_allclose(flat(after), wanted, rtol=1e-6, atol=1e-6)


# FedAdam


def adam_by_a_loop(descent: AdamStep, weights: Weights, updates: list[Weights]) -> list[float]:
    """Algorithm 2, one coordinate after the other, in Python's numbers."""
    after = []
    for place, w in enumerate(map(float, flat(weights))):
        m, v = 0.0, descent.tau**2
        for update in updates:
            delta = float(flat(update)[place])
            m = descent.beta1 * m + (1 - descent.beta1) * delta
            v = descent.beta2 * v + (1 - descent.beta2) * delta**2
            w += descent.learning_rate * m / (math.sqrt(v) + descent.tau)
        after.append(w)
    return after


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize(
    "descent",
    [
        ADAM,
        AdamStep(learning_rate=1.0, beta1=0.0, beta2=0.0),
        AdamStep(learning_rate=0.01, beta1=0.5, beta2=0.999, tau=1e-1),
        AdamStep(learning_rate=0.3, tau=1e-8),
    ],
    ids=str,
)
def test_fedadam_is_the_papers_loop_over_single_coordinates(descent: AdamStep, size: float) -> None:
    updates = [drawn(seed, size) for seed in range(1, 9)]
    wanted = adam_by_a_loop(descent, drawn(0), updates)
    np.testing.assert_allclose(flat(rounds(descent, drawn(0), updates)), wanted, rtol=2e-6, atol=2e-6 * descent.learning_rate)


def flower_with(strategy: FedAdam, weights: Weights, update: Weights, round: int) -> Weights:
    """One round of Flower's strategy with one device, which sends whole weights."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    strategy.current_arrays = dict(weights.arrays)
    sent = ArrayRecord({name: Array(np.asarray(array)) for name, array in (weights + update).items()})
    order = Message(RecordDict({"config": ConfigRecord()}), dst_node_id=1, message_type="train")
    reply = Message(RecordDict({"arrays": sent, "metrics": MetricRecord({"num-examples": 1})}), reply_to=order)
    result, _ = strategy.aggregate_train(round, [reply])
    assert result is not None
    return Weights({name: np.asarray(array.numpy(), dtype=np.float32) for name, array in result.items()})


def test_fedadam_is_flowers_once_its_two_departures_from_the_paper_are_undone() -> None:
    strategy = FedAdam(eta=ADAM.learning_rate, beta_1=ADAM.beta1, beta_2=ADAM.beta2, tau=ADAM.tau)
    strategy.v_t = {name: np.full(shape, ADAM.tau**2) for name, shape in SHAPES.items()}
    theirs = ours = drawn(0)
    state = ADAM.begin(SHAPES)
    for round in range(1, 7):
        strategy.eta = ADAM.learning_rate * (1 - ADAM.beta1 ** (round + 1)) / math.sqrt(1 - ADAM.beta2 ** (round + 1))
        update = drawn(round, size=0.01)
        theirs = flower_with(strategy, theirs, update, round)
        ours, state = ADAM.step(ours, update, state)
        np.testing.assert_allclose(flat(ours), flat(theirs), atol=2e-5)  # Flower gets the update as a difference of float32
    assert np.abs(flat(ours) - flat(drawn(0))).min() > 1e-3


@pytest.mark.parametrize(("size", "ratio"), [(1e3, 0.742), (1e-6, 1.48)])
def test_flowers_first_step_departs_from_the_papers_as_the_docstring_says(size: float, ratio: float) -> None:
    strategy = FedAdam(eta=ADAM.learning_rate, beta_1=ADAM.beta1, beta_2=ADAM.beta2, tau=ADAM.tau)
    origin, update = filled(0.0), filled(size)
    theirs, ours = flower_with(strategy, origin, update, 1), rounds(ADAM, origin, [update])
    assert float(theirs["w"][0]) / float(ours["w"][0]) == pytest.approx(ratio, rel=0.01)


@light
@given(st.integers(0, 2**32), st.floats(1e-6, 1e6))
def test_the_first_step_goes_the_updates_way_and_at_most_the_rate(seed: int, size: float) -> None:
    update = drawn(seed, size)
    step = flat(rounds(ADAM, Weights({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}), [update]))
    assert np.array_equal(np.sign(step), np.sign(flat(update)))
    assert (np.abs(step) <= ADAM.learning_rate * (1 - ADAM.beta1) / math.sqrt(1 - ADAM.beta2) * (1 + 1e-6)).all()


def test_a_large_tau_makes_it_a_plain_step_with_momentum() -> None:
    descent = AdamStep(learning_rate=1e6, beta1=0.9, tau=1e6)
    state, weights = descent.begin(SHAPES), drawn(0)
    mean = np.zeros(flat(weights).shape)
    wanted = flat(weights).astype(np.float64)
    for seed in range(1, 6):  # of v nothing but what is left of tau^2 counts
        weights, state = descent.step(weights, drawn(seed), state)
        mean = 0.9 * mean + 0.1 * flat(drawn(seed))
        wanted += mean / (math.sqrt(0.99**seed) + 1)
    np.testing.assert_allclose(flat(weights), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("descent", [PlainStep(), ADAM], ids=str)
def test_a_step_leaves_what_it_was_given_alone(descent: Descent) -> None:
    weights, update, state = drawn(1), drawn(2), descent.begin(SHAPES)
    before = [Weights(dict(one.arrays)).digest for one in (weights, update, state)]
    descent.step(weights, update, state)
    assert [Weights(dict(one.arrays)).digest for one in (weights, update, state)] == before


# resuming


@pytest.mark.parametrize("descent", [PlainStep(learning_rate=0.7), ADAM], ids=str)
@pytest.mark.parametrize("stop", [0, 1, 4, 6])
def test_a_resumed_run_ends_at_the_same_bits(tmp_path: Path, descent: Descent, stop: int) -> None:
    updates = [drawn(seed, size=0.01) for seed in range(1, 8)]
    weights = drawn(0)
    state = resumed_state(tmp_path, descent, SHAPES, round=0)
    for round, update in enumerate(updates, start=1):
        weights, state = descent.step(weights, update, state)
        save_state(tmp_path, state, round=round)
        if round == stop:
            state = resumed_state(tmp_path, descent, SHAPES, round=round)
    assert weights.digest == rounds(descent, drawn(0), updates).digest


def test_forgetting_the_state_would_end_elsewhere() -> None:
    updates = [drawn(seed, size=0.01) for seed in range(1, 8)]
    forgetful = rounds(ADAM, rounds(ADAM, drawn(0), updates[:4]), updates[4:])
    assert forgetful.digest != rounds(ADAM, drawn(0), updates).digest


def test_a_round_that_is_run_again_after_a_crash_replaces_its_state(tmp_path: Path) -> None:
    weights, first = ADAM.step(drawn(0), drawn(1), ADAM.begin(SHAPES))
    save_state(tmp_path, first, round=1)
    save_state(tmp_path, ADAM.step(weights, drawn(2), first)[1], round=2)  # killed before it published
    again = ADAM.step(weights, drawn(3), resumed_state(tmp_path, ADAM, SHAPES, round=1))[1]
    save_state(tmp_path, again, round=2)
    assert resumed_state(tmp_path, ADAM, SHAPES, round=2).digest == again.digest


def test_the_states_of_the_last_three_rounds_stay(tmp_path: Path) -> None:
    states = [AdamStep(learning_rate=1.0, tau=tau / 10).begin(SHAPES) for tau in range(1, 13)]
    for round, state in enumerate(states, start=1):
        save_state(tmp_path, state, round=round)
    for round in (10, 11, 12):
        assert resumed_state(tmp_path, ADAM, SHAPES, round=round).digest == states[round - 1].digest
    assert len(list(tmp_path.iterdir())) == 3


def test_an_optimiser_without_state_writes_nothing_and_needs_nothing(tmp_path: Path) -> None:
    save_state(tmp_path, PlainStep().begin(SHAPES), round=4)
    assert list(tmp_path.iterdir()) == []
    assert len(resumed_state(tmp_path, PlainStep(), SHAPES, round=4)) == 0


def saved(folder: Path) -> Path:
    save_state(folder, ADAM.step(drawn(0), drawn(1), ADAM.begin(SHAPES))[1], round=5)
    (path,) = folder.iterdir()
    return path


def test_a_lost_state_is_refused(tmp_path: Path) -> None:
    saved(tmp_path).unlink()
    with pytest.raises(Refusal, match="cannot be read"):
        resumed_state(tmp_path, ADAM, SHAPES, round=5)


@pytest.mark.parametrize("length", [0, 5, 40, -1])
def test_a_truncated_state_is_refused(tmp_path: Path, length: int) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Refusal, match="cannot be read"):
        resumed_state(tmp_path, ADAM, SHAPES, round=5)


@pytest.mark.parametrize("place", [-1, -70, -140])
def test_a_flipped_bit_is_refused(tmp_path: Path, place: int) -> None:
    path = saved(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(Refusal, match="another digest"):
        resumed_state(tmp_path, ADAM, SHAPES, round=5)


def test_a_state_of_other_parameters_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    with pytest.raises(Refusal, match="another run"):
        resumed_state(tmp_path, ADAM, {**SHAPES, "b": (6,)}, round=5)
    for descent, state in ((ADAM, PlainStep().begin(SHAPES)), (PlainStep(), ADAM.begin(SHAPES)), (ADAM, ADAM.begin({"a": (3, 4)}))):
        with pytest.raises(Refusal, match="another run"):
            descent.step(drawn(0), drawn(1), state)


# refusals


@pytest.mark.parametrize("descent", [PlainStep(), ADAM], ids=str)
def test_an_update_of_other_shapes_is_refused(descent: Descent) -> None:
    other = Weights({**drawn(1).arrays, "b": np.zeros(6, dtype=np.float32)})
    with pytest.raises(Refusal, match="array 'b'"):
        descent.step(drawn(0), other, descent.begin(SHAPES))


@pytest.mark.parametrize("descent", [PlainStep(), ADAM], ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_update_that_is_not_finite_is_refused(descent: Descent, bad: float) -> None:
    with pytest.raises(Refusal, match="not finite"):
        descent.step(filled(0.0), filled(bad), descent.begin({"w": (3,)}))


def test_a_square_beyond_float32_is_refused_and_does_not_freeze_its_coordinate_for_good() -> None:
    with pytest.raises(Refusal, match="update-norm-limit"):
        ADAM.step(filled(0.0), filled(1e30), ADAM.begin({"w": (3,)}))


@pytest.mark.parametrize("name", ["learning_rate", "tau"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_or_tau_that_is_not_positive_is_refused(name: str, value: float) -> None:
    with pytest.raises(Refusal, match=name.replace("_", " ")):
        AdamStep(**{"learning_rate": 0.1, name: value})
    with pytest.raises(Refusal, match="learning rate"):
        PlainStep(learning_rate=value)


@pytest.mark.parametrize("name", ["beta1", "beta2"])
@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, math.nan])
def test_a_beta_outside_its_bounds_is_refused(name: str, value: float) -> None:
    with pytest.raises(Refusal, match=name):
        AdamStep(**{"learning_rate": 0.1, name: value})
