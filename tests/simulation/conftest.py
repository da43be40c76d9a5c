"""What the tests of long commands share: a person at the keyboard; a tiny body, and settings of small federated runs."""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from model.hub import find_model
from model.settings import RunSettings

ROOT = Path(__file__).resolve().parents[2]
Settings = Callable[..., RunSettings]


@pytest.fixture
def interrupted() -> Callable[[Sequence[str], Callable[[], bool]], tuple[int, str]]:
    """Start ``healing`` with these words, press Ctrl-C once it has begun, and give its exit status and all that it said."""

    def interrupted(words: Sequence[str], begun: Callable[[], bool]) -> tuple[int, str]:
        restore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        command = [sys.executable, "-m", "healing", *words]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=restore)
        try:
            while not begun():
                assert process.poll() is None, "the command ended by itself"
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        return process.returncode, output

    return interrupted


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers in the hub's layout, with four hundred pieces of the compact model's tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=400, max_position_embeddings=160, pad_token_id=1, initializer_range=0.3, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        BertForSequenceClassification(config).save_pretrained(folder)
    rules = json.loads((find_model("compact") / "tokenizer.json").read_text(encoding="utf-8"))
    rules["model"]["vocab"] = rules["model"]["vocab"][:400]
    (folder / "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
    return folder


@pytest.fixture
def shared(small: Callable[..., RunSettings]) -> Settings:
    """Settings that all contestants share: forty entries, a fifth held out, three people, two rounds, everything trained."""
    defaults: dict[str, Any] = {
        "out": "",
        "people": "",
        "privacy": "none",
        "fraction_evaluate": 0.0,
        "tuning": "full",
        "learning_rate": 0.01,
    }
    return lambda **overrides: small(**(defaults | overrides))
