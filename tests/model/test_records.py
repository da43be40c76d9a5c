"""Messages: they arrive as they were sent, nothing else may leave a device, and garbage is refused and nothing worse."""

from __future__ import annotations

import io
import math
import struct
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from model.records import (
    OUTGOING_KEYS,
    Declined,
    GlobalModel,
    PlanNumbers,
    Published,
    PublishOrder,
    TrainOrder,
    Update,
    arrays_of,
    decode_publish_order,
    decode_reply,
    decode_train_order,
    encode_publish_order,
    encode_reply,
    encode_train_order,
    require_allowed,
    weights_of,
)
from model.refusal import Refusal
from model.scores import Scores
from model.weights import Weights

MARKER = "은하수비밀문장"
light = settings(deadline=None, max_examples=60)
Reply = Update | Declined | Published


def weights(seed: int = 0, names: tuple[str, ...] = ("head.bias", "head.weight")) -> Weights:
    rng = np.random.default_rng(seed)
    return Weights({name: rng.normal(size=(number + 1, 3)).astype(np.float32) for number, name in enumerate(names)})


MODEL = GlobalModel(weights(), "b" * 64, "t" * 64)
PLAN = PlanNumbers(noise_multiplier=1.25, sampling_rate=0.25, clip_norm=0.5, delta=1e-4, steps_per_round=4, label_noise=3.5)
SCORES = Scores(np.arange(16, dtype=np.int64).reshape(4, 4), 12.5)


def same_model(one: GlobalModel, other: GlobalModel) -> bool:
    return (one.weights.digest, one.base_digest, one.tokenizer_digest) == (other.weights.digest, other.base_digest, other.tokenizer_digest)


def npy(header: str, data: bytes = b"\0" * 4, version: int = 1) -> bytes:
    """An array in NumPy's format with a header of one's own."""
    encoded = header.encode("latin-1")
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(encoded)) + encoded + data


def saved(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def record(data: bytes, stype: str = "numpy.ndarray") -> ArrayRecord:
    return ArrayRecord({"w": Array(dtype="float32", shape=(1,), stype=stype, data=data)})


# round trips


@pytest.mark.parametrize("plan", [None, PLAN])
def test_a_train_order_arrives_as_it_was_sent(plan: PlanNumbers | None) -> None:
    order = TrainOrder(MODEL, "run-7", 3, plan)
    arrived = decode_train_order(encode_train_order(order))
    assert same_model(arrived.model, MODEL)
    assert (arrived.run, arrived.round, arrived.plan) == ("run-7", 3, plan)


@pytest.mark.parametrize(("epsilon", "delta"), [(2.5, 1e-4), (math.inf, 0.0)])
def test_a_publish_order_arrives_as_it_was_sent(epsilon: float, delta: float) -> None:
    arrived = decode_publish_order(encode_publish_order(PublishOrder(MODEL, 9, epsilon, delta)))
    assert same_model(arrived.model, MODEL)
    assert (arrived.round, arrived.epsilon, arrived.delta) == (9, epsilon, delta)


def test_an_update_arrives_as_it_was_sent() -> None:
    arrived = decode_reply(encode_reply(Update(weights(5), 17.0, 3)))
    assert isinstance(arrived, Update)
    assert (arrived.difference.digest, arrived.weight, arrived.round) == (weights(5).digest, 17.0, 3)


def test_a_refusal_to_take_part_arrives_without_a_reason() -> None:
    records = encode_reply(Declined(3))
    assert decode_reply(records) == Declined(3)
    assert dict(records["reply"]) == {"kind": "declined", "round": 3}


def test_counts_of_a_device_arrive_as_they_were_sent() -> None:
    arrived = decode_reply(encode_reply(Published(4, SCORES)))
    assert isinstance(arrived, Published)
    assert arrived.round == 4
    assert arrived.scores is not None
    assert np.array_equal(arrived.scores.confusion, SCORES.confusion)
    assert arrived.scores.log_loss == 12.5


def test_without_counts_a_published_reply_holds_its_round_alone() -> None:
    records = encode_reply(Published(4, None))
    assert decode_reply(records) == Published(4, None)
    assert {name: dict(record) for name, record in records.items()} == {"reply": {"kind": "published", "round": 4}}


@light
@given(st.dictionaries(st.text("abc._", min_size=1), st.lists(st.integers(0, 3), max_size=3).map(tuple), max_size=4), st.integers(0, 2**32))
def test_arrays_of_every_shape_arrive_bit_for_bit(shapes: dict[str, tuple[int, ...]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sent = Weights({name: np.asarray(rng.normal(size=shape), dtype=np.float32) for name, shape in shapes.items()})
    arrived = weights_of(arrays_of(sent))
    assert arrived.shapes == sent.shapes
    assert all(np.array_equal(arrived[name], sent[name]) for name in sent)


@pytest.mark.parametrize("layout", ["fortran", "a slice", "reversed"])
def test_arrays_of_every_memory_layout_arrive_bit_for_bit(layout: str) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    sent = {"fortran": np.asfortranarray(array), "a slice": array[::2, 1::2], "reversed": array[::-1]}[layout]
    assert np.array_equal(weights_of(arrays_of(Weights({"w": sent})))["w"], sent)


@pytest.mark.parametrize("special", [math.nan, math.inf, -0.0, 1e-45])
def test_special_values_arrive_so_that_the_server_can_refuse_them(special: float) -> None:
    sent = Weights({"w": np.array([special, 1.0], dtype=np.float32)})
    assert weights_of(arrays_of(sent)).digest == sent.digest


# what may leave


REPLIES: list[Reply] = [Update(weights(), 2.0, 1), Declined(1), Published(1, None), Published(1, SCORES)]


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_every_reply_passes_its_own_gate(reply: Reply) -> None:
    require_allowed(encode_reply(reply), weights())


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
@pytest.mark.parametrize("name", ["reply", "metrics"])
def test_a_reply_with_an_extra_key_does_not_leave(reply: Reply, name: str) -> None:
    records = encode_reply(reply)
    content: dict[str, Any] = dict(records.get(name, {}))
    assert not {"note", "entries"} & OUTGOING_KEYS[name]
    records[name] = ConfigRecord(content | {"note": MARKER}) if name == "reply" else MetricRecord(content | {"entries": 50})
    refused_to_leave(records)


def refused_to_leave(records: RecordDict) -> None:
    with pytest.raises(Refusal, match="nothing was sent") as refusal:
        require_allowed(records, weights())
    assert MARKER not in str(refusal.value)


def test_an_array_that_is_no_trained_parameter_does_not_leave() -> None:
    records = encode_reply(Update(weights(), 2.0, 1))
    records["arrays"] = ArrayRecord({**records["arrays"], "embeddings.table.weight": Array(np.ones(3, dtype=np.float32))})
    refused_to_leave(records)


@pytest.mark.parametrize("extra", [ConfigRecord({"note": MARKER}), ConfigRecord({}), MetricRecord({"entries": 50}), ArrayRecord({})])
def test_a_record_of_another_name_does_not_leave_even_empty(extra: Any) -> None:
    records = encode_reply(Declined(1))
    records["diary"] = extra
    refused_to_leave(records)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        pytest.param("reply", ConfigRecord({"kind": MARKER, "round": 1}), id="text as kind"),
        pytest.param("reply", ConfigRecord({"kind": "declined", "round": 1, "reason": MARKER}), id="text as reason"),
        pytest.param("reply", ConfigRecord({"kind": "declined", "round": 1, "reason": "budget"}), id="a cause"),
        pytest.param("reply", ConfigRecord({"kind": "update", "round": MARKER}), id="text as round"),
        pytest.param("reply", ConfigRecord({"kind": "update", "round": [54, 44, 12]}), id="token ids as round"),
        pytest.param("metrics", ConfigRecord({"weight": MARKER}), id="text as weight"),
        pytest.param("metrics", MetricRecord({"weight": [5330, 3647, 3942]}), id="token ids as weight"),
        pytest.param("metrics", MetricRecord({"confusion": [5330, 3647], "log-loss": 1.0}), id="token ids as counts"),
        pytest.param("arrays", ConfigRecord({"head.bias": MARKER}), id="text as an array"),
    ],
)
def test_text_and_token_ids_do_not_leave_under_an_allowed_key(name: str, record: Any) -> None:
    records = RecordDict({"reply": ConfigRecord({"kind": "update", "round": 1})})
    records[name] = record
    refused_to_leave(records)


def test_no_reply_holds_a_key_that_could_hold_text() -> None:
    for reply in REPLIES:
        for name, record in encode_reply(reply).items():
            strings = {key: value for key, value in record.items() if isinstance(value, str | bytes | list)}
            assert set(strings) <= ({"kind"} if name == "reply" else {"confusion"})


def test_a_cause_that_an_older_device_still_tells_is_not_kept() -> None:
    records = RecordDict({"reply": ConfigRecord({"kind": "declined", "round": 2, "reason": "budget"})})
    assert decode_reply(records) == Declined(2)


# arrays that are not what they should be


@pytest.mark.parametrize("dtype", ["float64", "int32", "uint8", ">f4", "bool", "complex64", "U3"])
def test_an_array_of_another_dtype_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(Refusal, match=r"'w'.*dtype"):
        weights_of(record(saved(np.ones(3, dtype=dtype))))


@pytest.mark.parametrize("stype", ["torch.Tensor", "pickle", "", "numpy"])
def test_an_array_serialised_in_another_way_is_refused(stype: str) -> None:
    with pytest.raises(Refusal, match=r"numpy\.ndarray"):
        weights_of(record(saved(np.ones(3, dtype=np.float32)), stype))


def test_truncated_or_lengthened_bytes_of_an_array_are_refused_at_every_length() -> None:
    whole = saved(np.ones((2, 3), dtype=np.float32))
    for length in range(len(whole)):
        with pytest.raises(Refusal, match="'w'"):
            weights_of(record(whole[:length]))
    for more in (b"\0", b"\0" * 4):
        with pytest.raises(Refusal, match="'w'"):
            weights_of(record(whole + more))


class Trap:
    """Unpickled, it fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("array", [np.array([Trap()], dtype=object), np.array([(1.0, "x")], dtype=[("a", "f4"), ("b", "O")])])
def test_an_object_array_is_refused_and_not_unpickled(array: Any) -> None:
    with pytest.raises(Refusal, match="'w'"):
        weights_of(record(saved(array)))


HEADERS = {
    "a shape as large as the world": "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 40 + ",)}\n",
    "a negative shape": "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}\n",
    "a nested expression": "{'descr': '<f4', 'fortran_order': False, 'shape': " + "-" * 9000 + "1}\n",
    "nested brackets": "(" * 9000 + "\n",
    "a key that cannot be one": "{[]: 1}\n",
    "keys of two types": "{1: 1, 'a': 2}\n",
    "an empty dtype": "{'descr': (), 'fortran_order': False, 'shape': (1,)}\n",
    "a dtype of nothing": "{'descr': [()], 'fortran_order': False, 'shape': (1,)}\n",
    "a dictionary for a dtype": "{'descr': {'a': 1}, 'fortran_order': False, 'shape': (1,)}\n",
    "a call": "__import__('os').system('true')\n",
    "a null byte": "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)\0}\n",
    "too long": " " * 20_000 + "\n",
}


@pytest.mark.parametrize("header", HEADERS)
def test_an_array_with_a_hostile_header_is_refused(header: str) -> None:
    with pytest.raises(Refusal, match="'w'"):
        weights_of(record(npy(HEADERS[header])))


def test_a_format_version_that_numpy_does_not_know_is_refused() -> None:
    with pytest.raises(Refusal, match="'w'"):
        weights_of(record(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\n", version=9)))


# garbage

Garbage = st.SearchStrategy[Any]
NUMBERS: Garbage = st.one_of(st.integers(), st.floats(), st.sampled_from([2**70, 10**400, -1, 0, 1, math.inf, math.nan]))
VALUES: Garbage = st.one_of(NUMBERS, st.text(max_size=5), st.binary(max_size=5), st.booleans(), st.lists(st.integers(), max_size=3))
COUNTS: Garbage = st.one_of(st.lists(st.integers(), max_size=17), st.lists(st.integers(-1, 2**70), min_size=16, max_size=16))
FLOATS: Garbage = st.lists(st.floats(), min_size=16, max_size=16)
GARBAGE_CONFIG: Garbage = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.one_of(st.sampled_from(["update", "declined", "published"]), VALUES),
        "round": st.one_of(st.just(1), VALUES),
        "reason": VALUES,
    },
).map(ConfigRecord)
GARBAGE_METRICS: Garbage = st.fixed_dictionaries(
    {}, optional={"weight": NUMBERS, "confusion": st.one_of(COUNTS, FLOATS, NUMBERS), "log-loss": st.one_of(NUMBERS, FLOATS)}
).map(MetricRecord)
GARBAGE_ARRAYS: Garbage = st.dictionaries(
    st.text(max_size=3),
    st.builds(
        lambda stype, data: Array(dtype="float32", shape=(1,), stype=stype, data=data),
        st.sampled_from(["numpy.ndarray", "torch"]),
        st.one_of(
            st.binary(max_size=40),
            st.text(max_size=60).map(lambda text: npy(text.encode("latin-1", "ignore").decode("latin-1"))),
            st.just(saved(np.ones(2, dtype=np.float32))),
        ),
    ),
    max_size=2,
).map(ArrayRecord)
ANY_RECORD: Garbage = st.one_of(GARBAGE_CONFIG, GARBAGE_METRICS, GARBAGE_ARRAYS)


@settings(deadline=None, max_examples=400)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "reply": st.one_of(GARBAGE_CONFIG, GARBAGE_CONFIG, ANY_RECORD),
            "metrics": st.one_of(GARBAGE_METRICS, GARBAGE_METRICS, ANY_RECORD),
            "arrays": st.one_of(GARBAGE_ARRAYS, ANY_RECORD),
            "diary": ANY_RECORD,
        },
    )
)
def test_garbage_is_a_refusal_or_a_reply_and_never_another_error(records: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of a header in Python 2's style
        with suppress(Refusal):
            assert isinstance(decode_reply(RecordDict(records)), Update | Declined | Published)


@pytest.mark.parametrize("round", [math.inf, math.nan, "three", [1, 2], b"x"])
def test_a_round_that_is_no_number_is_refused(round: Any) -> None:
    with pytest.raises(Refusal):
        decode_reply(RecordDict({"reply": ConfigRecord({"kind": "declined", "round": round, "reason": "budget"})}))


@pytest.mark.parametrize(
    ("confusion", "log_loss"),
    [
        pytest.param([1] * 15, 1.0, id="one too few"),
        pytest.param([1] * 17, 1.0, id="one too many"),
        pytest.param([-1] + [1] * 15, 1.0, id="a negative one"),
        pytest.param([2**70] * 16, 1.0, id="too large"),
        pytest.param([0.5] * 16, 1.0, id="halves"),
        pytest.param([math.inf] * 16, 1.0, id="infinite"),
        pytest.param([math.nan] * 16, 1.0, id="not a number"),
        pytest.param([1] * 16, math.nan, id="a loss that is not a number"),
        pytest.param([1] * 16, math.inf, id="an infinite loss"),
    ],
)
def test_counts_that_are_no_counts_are_refused(confusion: list[Any], log_loss: float) -> None:
    metrics = MetricRecord({"confusion": confusion, "log-loss": log_loss})
    with pytest.raises(Refusal):
        decode_reply(RecordDict({"reply": ConfigRecord({"kind": "published", "round": 1}), "metrics": metrics}))


@pytest.mark.parametrize("weight", [10**400, [1, 2]], ids=["too large for a float", "a list"])
def test_a_weight_that_is_no_number_is_refused(weight: Any) -> None:
    records = encode_reply(Update(weights(), 1.0, 1))
    records["metrics"] = MetricRecord({"weight": weight})
    with pytest.raises(Refusal):
        decode_reply(records)


@pytest.mark.parametrize("kind", ["", "UPDATE", MARKER * 50, 7])
def test_a_reply_of_another_kind_is_refused_without_quoting_much_of_it(kind: Any) -> None:
    with pytest.raises(Refusal, match="update, declined or published") as refusal:
        decode_reply(RecordDict({"reply": ConfigRecord({"kind": kind, "round": 1})}))
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("missing", ["reply", "metrics", "arrays"])
def test_an_update_that_lacks_a_record_is_refused(missing: str) -> None:
    records = encode_reply(Update(weights(), 1.0, 1))
    del records[missing]
    with pytest.raises(Refusal):
        decode_reply(records)
