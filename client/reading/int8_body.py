"""An int8 BERT body as one ONNX graph: token ids in, the states of the last layer out.

Linear layers are quantised by output channel, symmetrically, w = scale * q with q from -127 to 127; their input is
quantised to eight bits when it comes, over the whole text (``DynamicQuantizeMatMul``). Embeddings, attention, norms, low-rank additions and
each layer's last matrix stay in float32: a few inputs of that matrix are so large that eight bits leave nothing of the others.

The graph is written out here in ONNX Runtime's fused operators, about nine to a layer, so that no exporter and no optimiser stands
between a parameter's name and its array: a checkpoint's trained blocks are quantised by the same function as the whole body, and put in
place of the arrays of those names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from model.classifier import EmotionClassifier, Layer
from model.refusal import Refusal
from model.tuning import LORA_SCALE

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
"""The graph's arrays by name: block, part, and what it is of it, as in ``layer3.qkv.scale``."""

RUNTIME = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
ACTIVATIONS = {
    "gelu": ("Gelu", RUNTIME),
    "gelu_new": ("FastGelu", RUNTIME),
    "gelu_pytorch_tanh": ("FastGelu", RUNTIME),
    "relu": ("Relu", ""),
}
LARGEST = 127
IDS, STATES = "ids", "states"


@dataclass(frozen=True, kw_only=True)
class BodyShape:
    """What a BERT body computes, beside its weights."""

    layers: int
    width: int
    heads: int
    epsilon: float
    activation: str

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise Refusal(f"the body's activation is '{self.activation}' and int8 knows {', '.join(ACTIVATIONS)}; use --engine torch")

    @classmethod
    def of(cls, classifier: EmotionClassifier) -> BodyShape:
        """That of a classifier over attention layers."""
        layers = [block for block in classifier.blocks.values() if isinstance(block, Layer)]
        config = layers[0].bert.attention.self.config
        return cls(
            layers=len(layers),
            width=config.hidden_size,
            heads=config.num_attention_heads,
            epsilon=config.layer_norm_eps,
            activation=config.hidden_act,
        )


def quantised(parameters: Mapping[str, Array]) -> Arrays:
    """The arrays of every block of the body that ``parameters`` hold: all of it, or what a checkpoint trains of it.

    Names are the classifier's: ``layer0.bert.attention.self.query.weight`` and so on. Of a layer with low-rank additions
    those alone are given, as two thin matrices for query, key and value together. What belongs to no such block is left out.
    """
    arrays: Arrays = {}
    for block in sorted({name.partition(".")[0] for name in parameters}):
        if block == "embeddings":
            arrays |= _embeddings({name: parameters[f"embeddings.table.{name}"] for name in _EMBEDDINGS})
        elif f"{block}.{_QUERY}.down.weight" in parameters:
            arrays |= _low_rank(block, parameters)
        elif f"{block}.{_QUERY}.weight" in parameters:
            arrays |= _layer(block, parameters)
    return arrays


def body_graph(shape: BodyShape, arrays: Arrays) -> ModelProto:
    """Token ids (1, S) int32 of one text, without padding, to states (1, S, width) float32. Equal arrays give equal bytes."""
    nodes = [
        helper.make_node(
            "EmbedLayerNormalization",
            [IDS, "", "embeddings.words", "embeddings.positions", "", "embeddings.norm.weight", "embeddings.norm.bias"],
            ["embeddings", "embeddings.unused"],
            domain=RUNTIME,
            epsilon=shape.epsilon,
        )
    ]
    states = "embeddings"
    for number in range(shape.layers):
        block = f"layer{number}"
        nodes += _layer_nodes(block, states, shape, low_rank=f"{block}.down" in arrays)
        states = f"{block}.norm2"
    nodes.append(helper.make_node("Identity", [states], [STATES]))
    thirds = numpy_helper.from_array(np.full(3, shape.width, dtype=np.int64), "thirds")
    graph = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info(IDS, TensorProto.INT32, [1, "S"])],
        [helper.make_tensor_value_info(STATES, TensorProto.FLOAT, [1, "S", shape.width])],
        [thirds, *(numpy_helper.from_array(arrays[name], name) for name in sorted(arrays))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(RUNTIME, 1)], ir_version=10)


def arrays_of(model: ModelProto) -> Arrays:
    """The arrays that :func:`body_graph` was given."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name != "thirds"}


_EMBEDDINGS = (
    "word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight", "LayerNorm.weight", "LayerNorm.bias",
)  # fmt: skip
_QUERY, _KEY, _VALUE = (f"bert.attention.self.{name}" for name in ("query", "key", "value"))


def _embeddings(named: Mapping[str, Array]) -> Arrays:
    """A diary's entry is one segment, so the first token type is part of every position."""
    words, positions, types, weight, bias = (named[name] for name in _EMBEDDINGS)
    return {
        "embeddings.words": words,
        "embeddings.positions": positions + types[0],
        "embeddings.norm.weight": weight,
        "embeddings.norm.bias": bias,
    }


def _layer(block: str, parameters: Mapping[str, Array]) -> Arrays:
    def part(name: str) -> tuple[Array, Array]:
        return parameters[f"{block}.{name}.weight"], parameters[f"{block}.{name}.bias"]

    together = [part(name) for name in (_QUERY, _KEY, _VALUE)]
    arrays = _linear(f"{block}.qkv", np.concatenate([weight for weight, _ in together]), np.concatenate([bias for _, bias in together]))
    for ours, theirs in (("out", "bert.attention.output"), ("wide", "bert.intermediate")):
        arrays |= _linear(f"{block}.{ours}", *part(f"{theirs}.dense"))
    weight, arrays[f"{block}.narrow.bias"] = part("bert.output.dense")
    arrays[f"{block}.narrow.weight"] = np.ascontiguousarray(weight.T)
    for ours, theirs in (("norm1", "bert.attention.output"), ("norm2", "bert.output")):
        arrays[f"{block}.{ours}.weight"], arrays[f"{block}.{ours}.bias"] = part(f"{theirs}.LayerNorm")
    return arrays


def _linear(name: str, weight: Array, bias: Array) -> Arrays:
    """Weight (out, in) to whole numbers (in, out) and the scale of each output; a row of zeros has scale 1."""
    largest = np.abs(weight).max(axis=1)
    scale = np.where(largest > 0, largest / np.float32(LARGEST), np.float32(1)).astype(np.float32)
    whole = np.rint(weight / scale[:, None]).clip(-LARGEST, LARGEST).astype(np.int8)
    return {f"{name}.weight": np.ascontiguousarray(whole.T), f"{name}.scale": scale, f"{name}.bias": bias}


def _low_rank(block: str, parameters: Mapping[str, Array]) -> Arrays:
    """Query's and value's additions side by side: ``x @ down`` (H, 2r), ``@ up`` (2r, 3H); key gets zeros."""
    down = [parameters[f"{block}.{name}.down.weight"] for name in (_QUERY, _VALUE)]
    query, value = (np.float32(LORA_SCALE) * parameters[f"{block}.{name}.up.weight"].T for name in (_QUERY, _VALUE))
    nothing = np.zeros_like(query)
    up = np.block([[query, nothing, nothing], [nothing, nothing, value]])
    return {f"{block}.down": np.ascontiguousarray(np.concatenate(down).T), f"{block}.up": np.ascontiguousarray(up)}


def _layer_nodes(block: str, states: str, shape: BodyShape, *, low_rank: bool) -> list[NodeProto]:
    third = [f"{block}.{name}" for name in ("q", "k", "v")]
    activation, domain = ACTIVATIONS[shape.activation]
    qkv = f"{block}.qkv"
    return [
        _linear_node(qkv, states),
        *(_low_rank_nodes(block, states) if low_rank else []),
        helper.make_node("Split", [f"{qkv}.added" if low_rank else qkv, "thirds"], third, axis=2),
        helper.make_node("MultiHeadAttention", third, [f"{block}.context"], domain=RUNTIME, num_heads=shape.heads),
        _linear_node(f"{block}.out", f"{block}.context"),
        _norm_node(f"{block}.norm1", f"{block}.out", states, shape),
        _linear_node(f"{block}.wide", f"{block}.norm1"),
        helper.make_node(activation, [f"{block}.wide"], [f"{block}.active"], domain=domain),
        helper.make_node("MatMul", [f"{block}.active", f"{block}.narrow.weight"], [f"{block}.narrowed"]),
        helper.make_node("Add", [f"{block}.narrowed", f"{block}.narrow.bias"], [f"{block}.narrow"]),
        _norm_node(f"{block}.norm2", f"{block}.narrow", f"{block}.norm1", shape),
    ]


def _linear_node(name: str, x: str) -> NodeProto:
    return helper.make_node("DynamicQuantizeMatMul", [x, f"{name}.weight", f"{name}.scale", "", f"{name}.bias"], [name], domain=RUNTIME)


def _low_rank_nodes(block: str, x: str) -> list[NodeProto]:
    return [
        helper.make_node("MatMul", [x, f"{block}.down"], [f"{block}.thin"]),
        helper.make_node("MatMul", [f"{block}.thin", f"{block}.up"], [f"{block}.addition"]),
        helper.make_node("Add", [f"{block}.qkv", f"{block}.addition"], [f"{block}.qkv.added"]),
    ]


def _norm_node(name: str, x: str, skipped: str, shape: BodyShape) -> NodeProto:
    inputs = [x, skipped, f"{name}.weight", f"{name}.bias"]
    return helper.make_node("SkipLayerNormalization", inputs, [name], domain=RUNTIME, epsilon=shape.epsilon)
