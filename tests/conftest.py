"""What several test files need: a small run, its people, and where the shared data lies."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from model.checkpoint import FIRST_MODEL, CheckpointStore
from model.classifier import build_classifier
from model.emotions import EMOTIONS
from model.examples import Example
from model.quantized_tensors import quantize_tensors
from model.settings import RunSettings
from model.tuning import tune

ASSETS = Path(__file__).resolve().parents[1] / "model" / "assets"


def _small_bundle() -> Path:
    """The bundle that most tests use: the bundled model's tokenizer and every part of it, on four narrow layers that were drawn.

    Its checkpoint is drawn too, so it reads nothing truly; tests of what the real model reads name :data:`ASSETS`.
    """
    folder = Path(tempfile.mkdtemp(prefix="healing-bundle-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    compact = folder / "compact"
    compact.mkdir()
    shutil.copy(ASSETS / "compact" / "tokenizer.json", compact)
    config = json.loads((ASSETS / "compact" / "config.json").read_text(encoding="utf-8"))
    config |= {
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 256,
    }
    config |= {"lexical_buckets": 2048, "lexical_features": 8}
    (compact / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        tensors = dict(BertModel(BertConfig.from_dict(config | {"initializer_range": 0.1})).state_dict())
        tensors |= {"lexical.rarity": torch.ones(2048), "lexical.projection": torch.randn(2048, 8)}
        tensors |= {"kinds.pooler": tensors["pooler.dense.weight"].clone(), "kinds.shift": torch.zeros(64)}
        tensors |= {"kinds.weight": torch.randn(3, 72) * 0.1, "kinds.bias": torch.tensor([2.0, 0.0, 0.0])}
    save_file(quantize_tensors(tensors), str(compact / "model.safetensors"))
    classifier = build_classifier("compact", compact, dropout=0.3, seed=7)
    probe = tune(classifier, "probe", seed=7)
    what = {"base_digest": probe.base_digest, "tokenizer_digest": probe.tokenizer.digest}
    CheckpointStore(folder / FIRST_MODEL).publish(probe.read(), model="compact", tuning="probe", round=1, **what)
    return folder


os.environ["HEALING_MODELS"] = str(_small_bundle())
os.environ["OMP_NUM_THREADS"] = "1"  # for what tests start: two cores shared by threads that spin are slower than one
torch.set_num_threads(1)

SENTENCES = (
    "친구가 보내준 편지를 읽고 하루 종일 웃었다",
    "텅 빈 방에 혼자 앉아 있으니 자꾸 눈물이 난다",
    "또 내 탓만 하는 팀장 때문에 속이 부글부글 끓는다",
    "내일 검사 결과가 나온다는데 손이 떨려서 잠을 못 자겠다",
)


@pytest.fixture
def examples() -> list[Example]:
    """Forty labelled entries of four authors, ten an emotion, of different lengths."""
    return [
        Example(f"{SENTENCES[number % 4]} {'그리고 ' * (number % 5)}{number}", EMOTIONS[number % 4], f"author{number % 5}")
        for number in range(40)
    ]


@pytest.fixture
def small(tmp_path: Path, examples: list[Example]) -> Callable[..., RunSettings]:
    """Settings of a small run over ``examples`` in ``tmp_path``; anything can be overridden."""
    data = tmp_path / "data" / "diaries.csv"
    data.parent.mkdir()
    rows = [f"{example.text},{example.emotion.ko},{example.author}" for example in examples]
    data.write_text("\n".join(["text,emotion,author", *rows]), encoding="utf-8")

    def settings(**overrides: object) -> RunSettings:
        values: dict[str, object] = {
            "data": str(data),
            "clients": 3,
            "rounds": 2,
            "partition": "iid",
            "out": str(tmp_path / "run"),
            "people": str(tmp_path / "run.people"),
        }
        return RunSettings(**(values | overrides))  # type: ignore[arg-type]

    return settings


@pytest.fixture(scope="session")
def tiny_body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the hub's: a random body of two layers, and a tokenizer of some syllables. Needs no bundled model."""
    from transformers import BertConfig, BertForSequenceClassification

    from model.e5_wheel import SPECIAL_TOKENS, unigram_tokenizer

    folder = tmp_path_factory.mktemp("tiny") / "body"
    pieces = [("▁", -2.0), *((letter, -3.0) for letter in dict.fromkeys("".join(SENTENCES).replace(" ", "")))]
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = BertConfig(vocab_size=len(SPECIAL_TOKENS) + len(pieces), max_position_embeddings=160, pad_token_id=1, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        BertForSequenceClassification(config).save_pretrained(folder)
    unigram_tokenizer(pieces).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def shared_data() -> Path:
    """The real Korean data beside the checkout; skips, and says so, where it is absent."""
    folder = Path(os.environ.get("HEALING_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the shared data is not at {folder} (set HEALING_DATA)")
    return folder
