"""The two engines side by side in one process, for ``serving.py``: what one entry takes, and how often they read the same."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import median

import numpy as np
import torch
from transformers import BertForSequenceClassification

from client.home import DevicePolicy, Home
from client.reading.onnx_engine import OnnxEngine, build_onnx_engine
from client.reading.reader import EmotionReader
from model.examples import bundled_diaries, read_examples, texts

TOKENS = 32
TURNS = 50


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """On how many texts, and from where; the share read as the same emotion; the greatest difference of a probability."""

    texts: int
    source: str
    same: float
    apart: float


@torch.no_grad()
def latencies(folder: Path) -> tuple[float, float]:
    """CPU milliseconds of the body in ``folder`` on one thread: eager in float32, and ours in int8."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    eager = BertForSequenceClassification.from_pretrained(folder / "model", attn_implementation="eager").eval().bert
    home = Home(folder / "home")
    manifest = home.checkpoints.latest()
    engine = build_onnx_engine(home, manifest, home.checkpoints.load(manifest), None)
    assert isinstance(engine, OnnxEngine)
    rng, took = np.random.default_rng(0), ([], [])
    for _ in range(TURNS + 5):
        ids = torch.from_numpy(rng.integers(5, 8000, (1, TOKENS)))
        mask = torch.ones_like(ids)
        for body, milliseconds in zip((eager, engine.body), took, strict=True):
            began = time.thread_time()
            body(ids, mask)
            milliseconds.append(1e3 * (time.thread_time() - began))
    torch.set_num_threads(threads)
    return median(took[0][5:]), median(took[1][5:])


def agreement(data: Path) -> Agreement:
    """Of emotion-v2, which is bundled."""
    kote = data / "kote" / "test.tsv"
    rows = texts(read_examples(str(kote)).examples) if kote.exists() else [t for part in bundled_diaries() for t in texts(part.examples)]
    with tempfile.TemporaryDirectory(prefix="serving-") as scratch:
        home = Home.create(Path(scratch) / "home", DevicePolicy())
        with resources.as_file(resources.files("model") / "assets" / "emotion-v2") as emotion_v1:
            shutil.copytree(emotion_v1, home.checkpoints.root, dirs_exist_ok=True)
        torch_rows, onnx_rows = (_read_by(home, engine, rows) for engine in ("torch", "onnx"))
    return Agreement(
        texts=len(rows),
        source="KOTE's test rows of four emotions" if kote.exists() else "the bundled diaries",
        same=float((torch_rows.argmax(axis=1) == onnx_rows.argmax(axis=1)).mean()),
        apart=float(np.abs(torch_rows - onnx_rows).max()),
    )


def _read_by(home: Home, engine: str, rows: list[str]) -> np.ndarray:
    reader = EmotionReader(home, engine=engine)
    try:
        return np.array([reading.probabilities for reading in reader.read(rows)])
    finally:
        reader.close()
