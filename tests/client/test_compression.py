"""fp16 updates: half the bytes, and what rounding loses comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from client.compression import rounded
from client.vault import DataKey
from model.records import Update, decode_reply, encode_reply
from model.weights import Weights

KEY = DataKey.create()


def difference(seed: int, scale: float = 1e-3) -> Weights:
    rng = np.random.default_rng(seed)
    return Weights({"a": (scale * rng.normal(size=(7, 5))).astype(np.float32), "b": (scale * rng.normal(size=9)).astype(np.float32)})


def test_the_sum_of_what_was_sent_stays_within_one_rounding_of_what_was_learned(tmp_path: Path) -> None:
    """The law of error feedback; without it the errors of forty rounds add up, as the second half shows."""
    sent, learned, forgetful = 0.0, 0.0, 0.0
    for round in range(40):
        update = difference(1, scale=1e-5 * (1 + round / 100))
        sent = sent + rounded(update, tmp_path, KEY, run="run")["a"].astype(np.float64)
        learned = learned + update["a"].astype(np.float64)
        forgetful = forgetful + update["a"].astype(np.float16).astype(np.float64)
    one_rounding = np.abs(update["a"]).max() * 2.0**-10
    assert np.abs(sent - learned).max() <= one_rounding
    assert np.abs(forgetful - learned).max() > 2 * one_rounding


@given(arrays(np.float32, 8, elements=st.floats(-1000, 1000, width=32)))
def test_what_is_sent_is_exactly_what_fp16_holds(values: np.ndarray) -> None:  # type: ignore[type-arg]
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        sent = rounded(Weights({"w": values}), Path(folder), KEY, run="run")
    assert np.array_equal(sent["w"], sent["w"].astype(np.float16).astype(np.float32))
    assert np.abs(sent["w"] - values).max() <= max(2.0**-11 * np.abs(values).max(), 2.0**-25)


def test_it_travels_in_half_the_bytes_and_arrives_unchanged(tmp_path: Path) -> None:
    sent = rounded(difference(2), tmp_path, KEY, run="run")
    half, full = encode_reply(Update(sent, 1.0, 3, "fp16")), encode_reply(Update(sent, 1.0, 3))
    assert [len(record["arrays"]["a"].data) for record in (half, full)] == [128 + 2 * 35, 128 + 4 * 35]
    arrived = decode_reply(half)
    assert isinstance(arrived, Update)
    assert (arrived.precision, arrived.difference.digest) == ("fp16", sent.digest)
    assert arrived.megabytes == decode_reply(full).megabytes / 2  # type: ignore[union-attr]


def test_another_run_begins_without_what_the_last_one_left(tmp_path: Path) -> None:
    rounded(difference(3), tmp_path, KEY, run="one")
    fresh = rounded(difference(4), tmp_path, KEY, run="two")
    assert np.array_equal(fresh["a"], difference(4)["a"].astype(np.float16).astype(np.float32))
    assert len(list(tmp_path.glob("rounding-*"))) == 1


def test_a_value_beyond_fp16_leaves_nothing_behind(tmp_path: Path) -> None:
    huge = Weights({"w": np.array([1e6, 1.0], dtype=np.float32)})
    assert not rounded(huge, tmp_path, KEY, run="run").is_finite()
    assert not list(tmp_path.glob("rounding-*"))


def test_a_damaged_remainder_costs_one_rounding_and_no_round(tmp_path: Path) -> None:
    rounded(difference(5), tmp_path, KEY, run="run")
    path = next(tmp_path.glob("rounding-*"))
    path.write_bytes(path.read_bytes()[:40])
    again = rounded(difference(5), tmp_path, KEY, run="run")
    assert np.array_equal(again["a"], difference(5)["a"].astype(np.float16).astype(np.float32))


def test_what_is_left_behind_opens_with_the_device_s_key_alone(tmp_path: Path) -> None:
    """A remainder is as telling as an update: what it holds must not lie open, and a copied file is worth nothing elsewhere."""
    sent = rounded(difference(6), tmp_path, KEY, run="run")
    stored = next(tmp_path.glob("rounding-*")).read_bytes()
    left = (difference(6) - sent)["a"]
    assert left.any()
    assert left.tobytes() not in stored
    elsewhere = rounded(difference(6), tmp_path, DataKey.create(), run="run")
    assert np.array_equal(elsewhere["a"], sent["a"])  # as if nothing had been left
