"""Messages between server and device, and Flower's records: the only place that knows the record keys.

What a device sends is on an allow-list, by key and by type; :func:`require_allowed` refuses anything else before it
leaves. None of the keys can hold text, token ids, or (under DP) a count.
"""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from model.normalization import TEXT_STEP
from model.refusal import Refusal
from model.scores import Scores
from model.weights import Weights

ARRAYS, ORDER, REPLY, METRICS = "arrays", "order", "reply", "metrics"

NOT_READY = "not-ready"
"""All that is ever said of why a device sits a round out: the cause is for its person alone."""

OUTGOING_KEYS: Mapping[str, frozenset[str]] = {
    REPLY: frozenset({"kind", "round"}),
    METRICS: frozenset({"weight", "within", "confusion", "log-loss"}),
}


DTYPES = {"fp32": "<f4", "fp16": "<f2"}
"""What an update's values travel as."""

RECORD_KINDS: Mapping[str, type] = {ARRAYS: ArrayRecord, REPLY: ConfigRecord, METRICS: MetricRecord}


@dataclass(frozen=True)
class GlobalModel:
    """The shared part of both orders: the weights, and the body, tokenizer and text step to which alone they belong."""

    weights: Weights
    base_digest: str
    tokenizer_digest: str
    text_step: int = TEXT_STEP


@dataclass(frozen=True)
class PlanNumbers:
    """A privacy plan as it travels; :class:`privacy.plan.PrivacyPlan` gives it its meaning."""

    noise_multiplier: float
    sampling_rate: float
    clip_norm: float
    delta: float
    steps_per_round: int
    label_noise: float = 0.0


@dataclass(frozen=True)
class TrainOrder:
    """Server to device: train these weights in this round, under this plan (None: without privacy)."""

    model: GlobalModel
    run: str
    round: int
    plan: PlanNumbers | None
    update_clip: float | None = None
    """Largest L2 norm of the whole update that this round takes; None: any."""


@dataclass(frozen=True)
class PublishOrder:
    """Server to device: this is the global model after the round; store it and serve from it."""

    model: GlobalModel
    round: int
    epsilon: float
    delta: float


@dataclass(frozen=True)
class Update:
    """Device to server: trained minus received weights, and the weight of this device in the mean (1 under DP)."""

    difference: Weights
    weight: float
    round: int
    precision: str = "fp32"
    """What its values travel as; under fp16 they are representable there already (see ``client.learning``)."""
    within: bool | None = None
    """Whether it was within the clip norm before it was clipped; only where the clip norm adapts."""

    @property
    def megabytes(self) -> float:
        """Size of the values on their way, in MB (10^6 bytes)."""
        return self.difference.size * np.dtype(DTYPES[self.precision]).itemsize / 1e6


@dataclass(frozen=True)
class Declined:
    """Device to server: not this time, whatever the cause (:data:`NOT_READY`)."""

    round: int


@dataclass(frozen=True)
class Published:
    """Device to server: stored; with the counts of the device's own labelled entries, never under DP."""

    round: int
    scores: Scores | None


def encode_train_order(order: TrainOrder) -> RecordDict:
    config: dict[str, Any] = {"run": order.run, "round": order.round, "private": order.plan is not None} | _model_keys(order.model)
    if order.update_clip is not None:
        config["update-clip"] = order.update_clip
    if order.plan is not None:
        config |= {key.replace("_", "-"): value for key, value in vars(order.plan).items()}
    return RecordDict({ARRAYS: arrays_of(order.model.weights), ORDER: ConfigRecord(config)})


def decode_train_order(records: RecordDict) -> TrainOrder:
    config = _config(records, ORDER)
    plan = PlanNumbers(**{name: config[name.replace("_", "-")] for name in PlanNumbers.__dataclass_fields__}) if config["private"] else None
    clip = float(config["update-clip"]) if "update-clip" in config else None
    return TrainOrder(_model(records, config), str(config["run"]), int(config["round"]), plan, clip)


def encode_publish_order(order: PublishOrder) -> RecordDict:
    config = {"round": order.round, "epsilon": order.epsilon, "delta": order.delta} | _model_keys(order.model)
    return RecordDict({ARRAYS: arrays_of(order.model.weights), ORDER: ConfigRecord(config)})


def decode_publish_order(records: RecordDict) -> PublishOrder:
    config = _config(records, ORDER)
    return PublishOrder(_model(records, config), int(config["round"]), float(config["epsilon"]), float(config["delta"]))


def encode_reply(reply: Update | Declined | Published) -> RecordDict:
    """The records of what a device answers, checked against the allow-list."""
    if isinstance(reply, Update):
        records = RecordDict(
            {
                ARRAYS: arrays_of(reply.difference, reply.precision),
                METRICS: _told(reply),
                REPLY: ConfigRecord({"kind": "update", "round": reply.round}),
            }
        )
    elif isinstance(reply, Declined):
        records = RecordDict({REPLY: ConfigRecord({"kind": "declined", "round": reply.round})})
    else:
        records = RecordDict({REPLY: ConfigRecord({"kind": "published", "round": reply.round})})
        if reply.scores is not None:
            counts = [int(count) for count in reply.scores.confusion.ravel()]
            records[METRICS] = MetricRecord({"confusion": counts, "log-loss": reply.scores.log_loss})
    require_allowed(records, reply.difference.arrays if isinstance(reply, Update) else ())
    return records


def decode_reply(records: RecordDict) -> Update | Declined | Published:
    """What a device answered; raises :class:`Refusal` for a reply that does not follow the protocol."""
    try:
        config = _config(records, REPLY)
        kind, round = config["kind"], int(config["round"])
        if kind == "update":
            arrays = _record(records, ARRAYS, ArrayRecord)
            precision = "fp16" if any(array.dtype == "float16" for array in arrays.values()) else "fp32"
            metrics = _record(records, METRICS, MetricRecord)
            within = {0: False, 1: True}[metrics["within"]] if "within" in metrics else None
            return Update(weights_of(arrays), float(metrics["weight"]), round, precision, within)
        if kind == "declined":
            return Declined(round)
        if kind == "published":
            return Published(round, _scores(records))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"the reply lacks or misshapes a field ({type(error).__name__}); the device must run the same version") from None
    raise Refusal(f"the reply is of kind '{str(kind)[:20]}'; it must be update, declined or published")


def _told(update: Update) -> MetricRecord:
    """What goes beside the values of an update."""
    metrics = MetricRecord({"weight": update.weight})
    if update.within is not None:
        metrics["within"] = int(update.within)
    return metrics


def require_allowed(records: RecordDict, parameters: Iterable[str] = ()) -> None:
    """Raise :class:`Refusal` unless every record and key that would leave the device is on the allow-list."""
    names = frozenset(parameters)
    for name, record in records.items():
        allowed = names if name == ARRAYS else OUTGOING_KEYS.get(name, frozenset())
        if name not in RECORD_KINDS or not isinstance(record, RECORD_KINDS[name]) or set(record) - allowed:
            raise Refusal(f"'{name}' is about to leave the device with keys that are not on the allow-list; nothing was sent")
        wrong = sorted(key for key, value in record.items() if name != ARRAYS and not _is_allowed(key, value))
        if wrong:
            raise Refusal(f"'{name}' is about to leave the device with a '{wrong[0]}' of another kind than is allowed; nothing was sent")


def _is_allowed(key: str, value: object) -> bool:
    if key == "kind":
        return value in ("update", "declined", "published")
    if key == "confusion":
        return isinstance(value, list) and len(value) == 16 and all(isinstance(count, int) and count >= 0 for count in value)
    if key == "within":
        return value in (0, 1)
    return isinstance(value, int if key == "round" else (int, float))


def arrays_of(weights: Weights, precision: str = "fp32") -> ArrayRecord:
    """Weights as Flower's arrays, in float32 or (``fp16``) rounded to half of that."""
    dtype = DTYPES[precision]
    record = ArrayRecord()
    for name, array in weights.items():
        content = _header_of(array.shape, dtype) + array.astype(dtype, copy=False).tobytes()
        record[name] = Array(np.dtype(dtype).name, array.shape, "numpy.ndarray", content)
    return record


def weights_of(arrays: ArrayRecord) -> Weights:
    """Flower's arrays as weights, float32 ones without copying; :class:`Refusal` for anything but float32 or float16 in NumPy's format."""
    return Weights({name: _view(name, array) for name, array in arrays.items()})


def _view(name: str, array: Array) -> np.ndarray[Any, np.dtype[np.float32]]:
    if array.stype != "numpy.ndarray":
        raise Refusal(f"array '{name[:60]}' is serialised as '{array.stype[:20]}'; only numpy.ndarray is read")
    try:
        length = 10 + int.from_bytes(array.data[8:10], "little")
        shape, fortran, dtype = _read_header(array.data[:length])
        if dtype not in (np.float32, np.float16):
            raise Refusal(f"array '{name[:60]}' has dtype {dtype}; weights are float32, or float16 on their way")
        values = np.frombuffer(array.data, dtype=dtype, offset=length).reshape(shape, order="F" if fortran else "C")
        return values.astype(np.float32, copy=False)
    except Refusal:
        raise
    except (ValueError, TypeError, LookupError, SyntaxError, tokenize.TokenError, EOFError, MemoryError, RecursionError):
        raise Refusal(f"array '{name[:60]}' is not a whole NumPy array; it was damaged on its way") from None


@lru_cache(maxsize=1024)
def _header_of(shape: tuple[int, ...], dtype: str) -> bytes:
    """NumPy's header (format 1.0) of such an array; np.save writes the same one, and takes most of its time for it."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


@lru_cache(maxsize=1024)
def _read_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type that a header (format 1.0) states; raises what a damaged one makes NumPy raise."""
    stream = io.BytesIO(header)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if any(length < 0 for length in shape):
        raise ValueError
    return shape, fortran, dtype


def _model_keys(model: GlobalModel) -> dict[str, Any]:
    return {"base-digest": model.base_digest, "tokenizer-digest": model.tokenizer_digest, "text-step": model.text_step}


def _model(records: RecordDict, config: Mapping[str, Any]) -> GlobalModel:
    weights = weights_of(_record(records, ARRAYS, ArrayRecord))
    return GlobalModel(weights, str(config["base-digest"]), str(config["tokenizer-digest"]), int(config["text-step"]))


def _config(records: RecordDict, name: str) -> Mapping[str, Any]:
    record: Mapping[str, Any] = _record(records, name, ConfigRecord)
    return record


def _record(records: RecordDict, name: str, kind: type) -> Any:
    record = records[name]
    if not isinstance(record, kind):
        raise TypeError(name)
    return record


def _scores(records: RecordDict) -> Scores | None:
    if METRICS not in records:
        return None
    metrics = _record(records, METRICS, MetricRecord)
    if not all(isinstance(count, int) for count in metrics["confusion"]):
        raise TypeError
    confusion = np.array(metrics["confusion"], dtype=np.int64).reshape(4, 4)
    if (confusion < 0).any() or not np.isfinite(metrics["log-loss"]):
        raise ValueError
    return Scores(confusion, float(metrics["log-loss"]))
