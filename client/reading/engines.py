"""The engines by name, and what each needs beside the program itself."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import torch

from client.home import Home
from client.reading.engine import BuildEngine, Engine
from client.reading.torch_engine import build_torch_engine
from model.checkpoint import Manifest
from model.refusal import Refusal
from model.weights import Weights


def _build_onnx_engine(home: Home, manifest: Manifest, weights: Weights, now: Engine | None) -> Engine:
    from client.reading.onnx_engine import build_onnx_engine  # its packages are an extra

    return build_onnx_engine(home, manifest, weights, now)


ENGINES: dict[str, BuildEngine] = {"torch": build_torch_engine, "onnx": _build_onnx_engine}
NEEDS: dict[str, tuple[str, ...]] = {"onnx": ("onnx", "onnxruntime")}
"""Packages of the extra that has the engine's name."""
ONE_THREAD_EACH = frozenset({"onnx"})
"""Engines that read on the calling thread alone; torch shares every operation out among its threads."""


def engine_named(name: str, engines: Mapping[str, BuildEngine], *, needs: Mapping[str, tuple[str, ...]] = NEEDS) -> BuildEngine:
    """The builder of this name; :class:`Refusal` that lists the names there are, or says which extra is missing."""
    if name not in engines:
        raise Refusal(f"engine is '{name}'; choose one of {', '.join(engines)}")
    missing = [package for package in needs.get(name, ()) if find_spec(package) is None]
    if missing:
        lacks = f"engine '{name}' needs {' and '.join(missing)}, not installed here"
        raise Refusal(f"{lacks}; run `pip install 'feelinghealing[{name}]'`, or use --engine torch")
    return engines[name]


def reading_threads(name: str) -> int:
    """How many threads should read at a time, so that the engine of this name keeps the cores busy."""
    return torch.get_num_threads() if name in ONE_THREAD_EACH else 1
