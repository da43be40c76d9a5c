"""The engine `onnx`: the body as an int8 graph under ONNX Runtime; pool and head are the classifier's own, in float32.

A body is quantised once and kept in Home's cache, under its digest: reading starts from there, without the float32 weights. A
checkpoint that trains the head alone reads through the graph that reads already, so it costs nothing; any other has its
trained blocks quantised and put into a copy of the kept graph, to the same bytes as if all had been quantised anew.

Each text passes the graph alone, on one thread and without padding. The input of a linear layer is quantised over all that
passes at once, so a text's reading would otherwise depend on its neighbours; and on a CPU int8 reads sixteen texts
together no faster than one after another. Several at a time are read by several threads.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import Tensor, nn

from client.home import Home
from client.reading.engine import MAX_TOKENS, TOGETHER, Engine, Probabilities, on_one_thread, require_same_body, settings_of
from client.reading.int8_body import IDS, STATES, Arrays, BodyShape, arrays_of, body_graph, quantised
from model.checkpoint import Manifest, write_durably
from model.classifier import Embeddings, EmotionClassifier, source_of
from model.hub import find_model
from model.processor import CPU, has_any
from model.refusal import Refusal
from model.tuning import tuned_classifier, tuned_outline
from model.weights import Weights

FROZEN_PARTS = ("pool", "kinds", "head.pooler")
"""What stays in float32 beside the graph: the words' projection, the reading of kinds, and the pretrained pooler."""
FORMAT = 4
"""Goes into the name of every kept graph: change it with the rules of :mod:`client.reading.int8_body`."""


class Int8Body(nn.Module):
    """Embeddings and layers: token ids (B, S) to states (B, S, H), zero where padded; from any number of threads."""

    def __init__(self, graph: Path, outline: EmotionClassifier) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if not adds_products_exactly():
            options.add_session_config_entry("session.x64quantprecision", "1")  # the exact way, 1.7 times as slow
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self._width = BodyShape.of(outline).width
        embeddings = outline.blocks["embeddings"]
        self._ids_go_along = isinstance(embeddings, Embeddings) and embeddings.ids_go_along

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        numbers, lengths = ids.to(torch.int32).numpy(), mask.sum(dim=1).tolist()
        states = np.zeros((*numbers.shape, self._width), dtype=np.float32)
        for row, length in enumerate(lengths):
            [states[row, :length]] = self._session.run([STATES], {IDS: numbers[row : row + 1, :length]})[0]
        x = torch.from_numpy(states)
        return torch.cat([x, ids[:, :, None].to(x.dtype)], dim=2) if self._ids_go_along else x, mask


class OnnxEngine:
    """A body and one checkpoint's head; they never change again."""

    def __init__(self, outline: EmotionClassifier, body: Int8Body, frozen: Arrays, manifest: Manifest, weights: Weights) -> None:
        self.outline = outline
        self.body = body
        self.frozen = frozen
        self._manifest = manifest
        self._classifier = EmotionClassifier(
            {"body": body, **_frozen_blocks(outline, frozen), "head": _head(outline, frozen | dict(weights.arrays))},
            outline.tokenizer,
            base_digest=manifest.base_digest,
            function=outline.function,
            positions=outline.positions,
        )

    def windows(self, texts: Sequence[str]) -> list[list[Tensor]]:
        """As :class:`client.reading.engine.Engine` says."""
        return self._classifier.encode_windows(texts, max_tokens=MAX_TOKENS)

    def __call__(self, windows: Sequence[Tensor]) -> Probabilities:
        with on_one_thread():  # pool and head are too small to be shared out
            return self._classifier.readings_of(self._classifier.lower(windows), batch_size=TOGETHER)

    def built_as(self, manifest: Manifest) -> bool:
        """Whether another checkpoint is of the same model, tuning and body."""
        mine = self._manifest
        return (mine.model, mine.tuning, mine.base_digest) == (manifest.model, manifest.tuning, manifest.base_digest)


def build_onnx_engine(home: Home, manifest: Manifest, weights: Weights, now: Engine | None) -> Engine:
    """The classifier that the manifest names, its body in int8, with these weights: on the graph that reads now if that is the same."""
    before = now if isinstance(now, OnnxEngine) and now.built_as(manifest) else None
    outline = before.outline if before else _outline(home, manifest)
    require_same_body(manifest, base_digest=manifest.base_digest, tokenizer_digest=outline.tokenizer.digest)
    weights.require_shapes({name: tuple(parameter.shape) for name, parameter in outline.trainable().items()})
    trained = quantised(weights)
    if before and not trained:
        return OnnxEngine(outline, before.body, before.frozen, manifest, weights)
    kept = KeptGraph(home.cache, manifest, outline)
    if not kept.is_whole():
        kept.write(_float_weights(home, manifest))
    if not trained:
        return OnnxEngine(outline, Int8Body(kept.path, outline), kept.frozen(), manifest, weights)
    with tempfile.TemporaryDirectory(prefix="healing-") as folder:
        patched = Path(folder) / "body.onnx"
        patched.write_bytes(kept.patched(trained))
        return OnnxEngine(outline, Int8Body(patched, outline), kept.frozen(), manifest, weights)


class KeptGraph:
    """A body's int8 graph in a folder, ``int8-<digest>.onnx``; beside it what stays in float32, what they are of, and their digests."""

    def __init__(self, folder: Path, manifest: Manifest, outline: EmotionClassifier) -> None:
        self._of = {"format": FORMAT, "base": manifest.base_digest, "function": outline.function}
        self._shape = BodyShape.of(outline)
        name = hashlib.sha256(json.dumps(self._of).encode()).hexdigest()[:16]
        self.path = folder / f"int8-{name}.onnx"
        self._frozen = folder / f"int8-{name}.safetensors"
        self._note = folder / f"int8-{name}.json"

    def is_whole(self) -> bool:
        """Whether it is there, of this body and undamaged."""
        try:
            return bool(json.loads(self._note.read_bytes()) == self._of | {"sha256": [_sha256(self.path), _sha256(self._frozen)]})
        except (OSError, ValueError):
            return False

    def write(self, weights: Arrays) -> None:
        """Quantise these float32 weights and keep them; :class:`Refusal` if the folder cannot be written."""
        try:
            write_durably(self.path, self._graph(quantised(weights)))
            write_durably(self._frozen, save_arrays({name: array for name, array in weights.items() if name.startswith(FROZEN_PARTS)}))
            note = self._of | {"sha256": [_sha256(self.path), _sha256(self._frozen)]}
            write_durably(self._note, json.dumps(note).encode())
            self._remove_older()
        except OSError as error:
            raise Refusal(f"the int8 model cannot be kept in '{self.path.parent}' ({error.strerror}); make room there") from None

    def _remove_older(self) -> None:
        """Bodies before the last one are not gone back to; this one and the newest other stay."""
        others = sorted(set(self.path.parent.glob("int8-*.json")) - {self._note}, key=lambda note: note.stat().st_mtime_ns)
        for note in others[:-1]:
            for file in (note, note.with_suffix(".safetensors"), note.with_suffix(".onnx")):
                file.unlink(missing_ok=True)

    def frozen(self) -> Arrays:
        """What no checkpoint changes and the graph does not hold, and the pretrained pooler for checkpoints that bring none; float32."""
        kept: Arrays = load_arrays(self._frozen.read_bytes())
        return kept

    def patched(self, trained: Arrays) -> bytes:
        """The graph with other arrays in place of those of the same names, and with low-rank additions where there are any."""
        return self._graph(arrays_of(onnx.load(self.path)) | trained)

    def _graph(self, arrays: Arrays) -> bytes:
        content: bytes = body_graph(self._shape, arrays).SerializeToString()
        return content


def _outline(home: Home, manifest: Manifest) -> EmotionClassifier:
    return tuned_outline(settings_of(manifest), find_model(source_of(manifest.model), home.models))


def _float_weights(home: Home, manifest: Manifest) -> Arrays:
    """The body's and everything frozen beside it, from the model's folder, once it is certain that they are the ones."""
    frozen = settings_of(replace(manifest, tuning="head"))
    classifier = tuned_classifier(frozen, find_model(source_of(manifest.model), home.models))
    require_same_body(manifest, base_digest=classifier.base_digest, tokenizer_digest=classifier.tokenizer.digest)
    return {name: tensor.detach().numpy() for name, tensor in classifier.blocks.state_dict().items()}


def _frozen_blocks(outline: EmotionClassifier, weights: Arrays) -> dict[str, nn.Module]:
    """The outline's pool, and its reading of kinds if it has one, with their numbers."""
    blocks = {name: copy.deepcopy(outline.blocks[name]) for name in ("pool", "kinds") if name in outline.blocks}
    for name, block in blocks.items():
        numbers = {part: torch.from_numpy(weights[f"{name}.{part}"].copy()) for part in block.state_dict()}
        block.load_state_dict(numbers, assign=True)
    return blocks


def _head(outline: EmotionClassifier, weights: Arrays) -> nn.Module:
    head = copy.deepcopy(outline.blocks["head"])
    head.load_state_dict({name: torch.from_numpy(weights[f"head.{name}"].copy()) for name in head.state_dict()})
    return head


def adds_products_exactly(cpu: Path = CPU) -> bool:
    """Whether this CPU surely adds int8 products in 32 bits: an x86 without VNNI adds pairs of them in 16, which overflow."""
    return has_any("avx512_vnni", "avx_vnni", cpu=cpu)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
