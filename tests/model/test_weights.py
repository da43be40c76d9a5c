"""Weights: the laws of vector arithmetic, a norm in double precision, a digest that misses nothing, and refusals."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.refusal import Refusal
from model.weights import Array, RunningMean, Shapes, Weights

SHAPES = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4), st.sampled_from([(), (0,), (1,), (3,), (2, 3), (2, 1, 4)]), min_size=1, max_size=4
)
light = settings(deadline=None, max_examples=50)


def several(count: int, *, whole: bool = False) -> st.SearchStrategy[list[Weights]]:
    """Weights of one and the same shape, each value within 100 of zero; float32 adds whole ones exactly."""

    def drawn(shapes: Shapes, seed: int) -> list[Weights]:
        rng = np.random.default_rng(seed)
        size = rng.choice([1e-6, 1.0, 100.0])
        draw = (lambda shape: rng.integers(-100, 101, shape)) if whole else (lambda shape: rng.uniform(-size, size, shape))
        return [Weights({name: np.asarray(draw(shape), dtype=np.float32) for name, shape in shapes.items()}) for _ in range(count)]

    return st.builds(drawn, SHAPES, st.integers(0, 2**32))


def flat(weights: Weights) -> npt.NDArray[np.float64]:
    return np.concatenate([np.asarray(weights[name], dtype=np.float64).ravel() for name in sorted(weights)])


def ones(**shapes: tuple[int, ...]) -> Weights:
    return Weights({name: np.ones(shape, dtype=np.float32) for name, shape in shapes.items()})


# arithmetic


@light
@given(several(3, whole=True))
def test_addition_commutes_and_associates(three: list[Weights]) -> None:
    a, b, c = three
    assert (a + b).digest == (b + a).digest
    assert ((a + b) + c).digest == (a + (b + c)).digest


@light
@given(several(2, whole=True))
def test_subtraction_undoes_addition(two: list[Weights]) -> None:
    a, b = two
    assert np.array_equal(flat((a + b) - b), flat(a))
    assert not flat(a - a).any()


@light
@given(several(2, whole=True), st.integers(-8, 8).map(float))
def test_scaling_distributes_over_addition(two: list[Weights], factor: float) -> None:
    a, b = two
    assert np.array_equal(flat((a + b).scale(factor)), flat(a.scale(factor) + b.scale(factor)))
    assert np.array_equal(flat(a.scale(1.0)), flat(a))


@light
@given(several(2), st.floats(-10, 10, width=32))
def test_every_operation_is_numpy_element_by_element(two: list[Weights], factor: float) -> None:
    a, b = two
    for name in a:
        assert np.array_equal((a + b)[name], np.add(a[name], b[name]))
        assert np.array_equal((a - b)[name], np.subtract(a[name], b[name]))
        assert np.array_equal(a.scale(factor)[name], np.multiply(a[name], np.float32(factor)))


@light
@given(several(2))
def test_arithmetic_leaves_its_operands_alone(two: list[Weights]) -> None:
    a, b = two
    before = flat(a), flat(b)
    a + b, a - b, a.scale(3.0)
    assert np.array_equal(flat(a), before[0])
    assert np.array_equal(flat(b), before[1])


def test_names_are_sorted_whatever_order_they_came_in() -> None:
    assert list(ones(b=(1,), a=(2,), c=(3,))) == ["a", "b", "c"]
    assert ones(b=(1,), a=(2,)).digest == ones(a=(2,), b=(1,)).digest


def test_size_and_megabytes_count_every_value() -> None:
    weights = ones(a=(1000, 250), b=(7,), c=())
    assert weights.size == 250_008
    assert weights.megabytes == pytest.approx(1.000032)


# norm


@light
@given(several(1))
def test_the_norm_is_that_of_numpy_in_double_precision(one: list[Weights]) -> None:
    assert one[0].norm() == pytest.approx(float(np.linalg.norm(flat(one[0]))), rel=1e-12)


def test_the_norm_keeps_double_precision_over_many_values() -> None:
    # In float32 the squares of the small values would vanish beside the large one.
    array = np.full(200_000, 1e-3, dtype=np.float32)
    array[0] = 1e3
    assert Weights({"w": array}).norm() == pytest.approx(float(np.linalg.norm(array.astype(np.float64))), rel=1e-12)


def test_the_norm_of_the_largest_values_does_not_overflow() -> None:
    assert Weights({"w": np.full(4, 1e38, dtype=np.float32)}).norm() == pytest.approx(2e38)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_seen_and_makes_the_norm_nan(bad: float) -> None:
    weights = Weights({"a": np.ones(3, dtype=np.float32), "b": np.array([[0.0, bad]], dtype=np.float32)})
    assert not weights.is_finite()
    assert math.isnan(weights.norm())


@light
@given(several(2))
def test_the_norm_obeys_the_triangle_inequality(two: list[Weights]) -> None:
    a, b = two
    assert (a + b).norm() <= a.norm() + b.norm() + 1e-4


# digest


@light
@given(several(1))
def test_a_copy_has_the_same_digest(one: list[Weights]) -> None:
    copy = {name: np.array(array, order="F") for name, array in one[0].items()}
    assert Weights(copy).digest == one[0].digest


@light
@given(several(1), st.data())
def test_the_last_bit_of_any_value_changes_the_digest(one: list[Weights], data: st.DataObject) -> None:
    copy = {name: np.array(array) for name, array in one[0].items()}
    name = data.draw(st.sampled_from(sorted(copy)))
    if copy[name].size:
        at = data.draw(st.integers(0, copy[name].size - 1))
        copy[name].reshape(-1).view(np.uint32)[at] ^= 1
        assert Weights(copy).digest != one[0].digest


def test_the_digest_knows_names_and_shapes() -> None:
    digests = [ones(a=(2, 3)), ones(a=(3, 2)), ones(a=(6,)), ones(b=(2, 3)), ones(a=(2, 3), b=(0,)), ones(a=(3,), b=(3,))]
    assert len({weights.digest for weights in digests}) == 6


def test_bytes_that_move_from_a_value_into_a_name_change_the_digest() -> None:
    hidden = np.frombuffer(b"AAAA", dtype="<f4").astype(np.float32)
    two = Weights({"a": hidden, "b": np.zeros(0, dtype=np.float32)})
    one = Weights({"a:(1,);AAAAb": np.zeros(0, dtype=np.float32)})
    assert two.digest != one.digest


# running mean


@light
@given(st.integers(1, 10).flatmap(lambda n: st.tuples(several(n), st.lists(st.floats(0.1, 100), min_size=n, max_size=n))))
def test_the_running_mean_is_numpys_weighted_average(members: tuple[list[Weights], list[float]]) -> None:
    given_weights, factors = members
    mean = RunningMean()
    for weights, factor in zip(given_weights, factors, strict=True):
        mean.add(weights, factor)
    wanted = np.average([flat(weights) for weights in given_weights], axis=0, weights=factors)
    value = mean.value()
    assert value.shapes == given_weights[0].shapes
    largest = max(np.abs(flat(weights)).max(initial=0.0) for weights in given_weights)
    np.testing.assert_allclose(flat(value), wanted, rtol=1e-6, atol=1e-6 * largest)


def test_the_running_mean_of_a_thousand_members_stays_within_a_millionth() -> None:
    rng = np.random.default_rng(1)
    members = rng.uniform(0.5, 1.5, size=(1000, 50)).astype(np.float32)
    factors = rng.integers(1, 60, size=1000).astype(float)
    mean = RunningMean()
    for member, factor in zip(members, factors, strict=True):
        mean.add(Weights({"w": member}), float(factor))
    np.testing.assert_allclose(mean.value()["w"], np.average(members.astype(np.float64), axis=0, weights=factors), rtol=1e-6)


def test_a_member_is_not_changed_by_being_added() -> None:
    first = ones(a=(3,))
    mean = RunningMean()
    mean.add(first, 1.0)
    mean.add(ones(a=(3,)), 5.0)
    mean.value()
    assert np.array_equal(first["a"], np.ones(3))


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_weight_that_is_not_positive_and_finite_is_refused(weight: float) -> None:
    with pytest.raises(Refusal, match="positive and finite"):
        RunningMean().add(ones(a=(3,)), weight)


@pytest.mark.parametrize("other", [ones(b=(2, 3)), ones(a=(1, 3)), ones(a=(2, 3), b=(1,)), ones(a=(3, 2)), ones(c=(2, 3), a=(2, 3))])
def test_a_member_of_other_names_or_shapes_is_refused(other: Weights) -> None:
    mean = RunningMean()
    mean.add(ones(a=(2, 3)), 1.0)
    with pytest.raises(Refusal, match=r"array '[abc]'"):
        mean.add(other, 1.0)


# refusals


@pytest.mark.parametrize(
    ("other", "name"),
    [(ones(a=(2, 3), b=(1,)), "b"), (ones(b=(2, 3)), "a"), (ones(a=(3, 2)), "a"), (ones(a=(1, 3)), "a"), (Weights({}), "a")],
)
def test_weights_of_other_names_or_shapes_are_neither_added_nor_subtracted(other: Weights, name: str) -> None:
    own = ones(a=(2, 3))
    for operation in (Weights.__add__, Weights.__sub__):
        for pair in ((own, other), (other, own)):
            with pytest.raises(Refusal, match=f"array '{name}'"):
                operation(*pair)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", ">f4", "object", "bool"])
def test_anything_but_float32_is_refused_by_name(dtype: str) -> None:
    array: Array = np.ones(2, dtype=dtype)
    with pytest.raises(Refusal, match="'head'"):
        Weights({"head": array})
