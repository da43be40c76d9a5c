"""What ``tuning.py`` measures, each function in a process of its own: a step, an epoch over a filled trunk cache, a run.

Gradients, clipping, the trunk and its cache are the product's own. Only the choice between Opacus' hooks and ghost norms
is made here and not by ``privacy.example_level.clipped_sums``, so that both can be measured under every tuning.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measuring import forget_peak
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import Unigram
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from model.classifier import EmotionClassifier
from model.emotions import EMOTIONS
from model.records import DTYPES, Update
from model.settings import RunSettings
from model.training import Entries, MeanGradient, shuffled_epochs, train
from model.tuning import TrunkCache, tuned_classifier
from privacy.example_level import ClippedSum, GhostClippedSum
from privacy.randomness import SecureRandom

BATCH = 16
NOISE_MULTIPLIER = 1.0
NOISED_STEPS = 2
"""Steps of :func:`step` that draw noise, the untimed first one included: noise costs the same after hooks and ghost norms,
and at KoBERT size so much that drawing it in every step would be most of this benchmark."""
SPECIAL = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
WORDS = 7_997

Learn = Callable[[list[Tensor], Tensor], None]
"""Fills ``.grad`` of every trained parameter from rows that have passed the trunk, and their labels."""


@dataclass(frozen=True)
class Task:
    """What one process is to measure; it stands in ``task.json`` of the folder that the process is given."""

    model: str
    """A name that :class:`RunSettings` knows, or a folder."""
    tuning: str
    way: str
    """plain, hooks or ghost."""
    tokens: int
    """Length of every entry."""
    steps: int
    cached: bool = False
    """Only of :func:`epoch`: read the trunk's rows from the cache; otherwise run the trunk in every step."""

    def write(self, folder: Path) -> None:
        (folder / "task.json").write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Task:
        return cls(**json.loads((folder / "task.json").read_text()))

    def settings(self, *, dropout: float) -> RunSettings:
        return RunSettings(
            model=self.model,
            tuning=self.tuning,
            max_tokens=self.tokens,
            batch_size=BATCH,
            dropout=dropout,
            learning_rate=5e-5,
            privacy="none",
        )


def write_kobert_size(folder: Path) -> dict[str, Any]:
    """A BERT of KoBERT's size with random weights, and a tokenizer that reads each of 7,997 syllables as one token."""
    folder.mkdir()
    config = {
        "model_type": "bert", "vocab_size": len(SPECIAL) + WORDS, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 1,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    save_tensors(BertModel(BertConfig.from_dict(config)).state_dict(), folder / "model.safetensors")
    pieces = [(piece, 0.0) for piece in SPECIAL] + [(f"▁{_syllable(number)}", -1.0) for number in range(WORDS)]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    return {}


def step(out: Path) -> dict[str, Any]:
    """Seconds of a step over 16 whole rows that have passed the trunk; peak memory is counted from the first step on.

    The first step of every process is not timed. ``noise_seconds`` are not in ``seconds``.
    """
    torch.set_num_threads(1)
    task = Task.read(out)
    settings = task.settings(dropout=0.1)
    classifier = tuned_classifier(settings)
    entries = list(torch.randint(len(SPECIAL), classifier.tokenizer.vocabulary_size, (BATCH, task.tokens), generator=_generator()))
    labels = _labels(BATCH)
    classifier.lower(entries)
    began = time.perf_counter()
    rows = classifier.lower(entries)
    trunk_seconds = time.perf_counter() - began
    learn = _learner(task, classifier, settings)
    optimizer = torch.optim.AdamW(classifier.trainable().values(), lr=settings.learning_rate, weight_decay=0.01, fused=True)
    forget_peak()
    seconds = []
    for number in range(1 + task.steps):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        learn(rows, labels)
        optimizer.step()
        seconds.append(time.perf_counter() - began)
        if isinstance(learn, Private):
            seconds[-1] -= learn.noise_seconds[-1]
            learn.noised = number + 1 < NOISED_STEPS
    return {
        "seconds": median(seconds[1:]),
        "noise_seconds": learn.noise_seconds[1] if isinstance(learn, Private) else 0.0,
        "trunk_seconds": trunk_seconds if classifier.cut else 0.0,
        **_described(classifier),
    }


def fill_cache(out: Path) -> dict[str, Any]:
    """The trunk's cache of all entries of the epochs to come, in ``cache``; what training starts from, in ``start.safetensors``."""
    torch.set_num_threads(1)
    task = Task.read(out)
    settings = task.settings(dropout=0.0)
    classifier = tuned_classifier(settings)
    save_file(dict(classifier.read()), out / "start.safetensors")
    began = time.perf_counter()
    rows = TrunkCache(out / "cache", classifier, settings).rows(_texts(task))
    seconds = time.perf_counter() - began
    if any(len(row) != task.tokens for row in rows):
        raise RuntimeError(f"an entry has not {task.tokens} tokens")
    kept = sum(file.stat().st_size for file in (out / "cache").iterdir()) / 1e6
    layers = sum(name.startswith("layer") for name in classifier.blocks)
    return {"fill_seconds": seconds, "cache_mb": kept, "layers": layers, "frozen_layers": classifier.cut - 1}


def epoch(filled: Path, out: Path) -> dict[str, Any]:
    """One epoch with the cache in ``filled``, or through the trunk in every step; the last weights in ``weights.safetensors``.

    The same rows in the same order, no dropout, and under ``ghost`` the same noise, so that the weights can be compared.
    The clock runs from the texts to the last step; one gradient is computed before, for what a process does only once.
    """
    torch.set_num_threads(1)
    task = Task.read(out)
    settings = task.settings(dropout=0.0)
    classifier = tuned_classifier(settings)
    cache = TrunkCache(filled / "cache", classifier, settings)
    texts, labels = _texts(task), _labels(task.steps * BATCH)
    learn = _learner(task, classifier, settings)
    learn(classifier.lower(classifier.encode(texts[:BATCH], max_tokens=task.tokens)), labels[:BATCH])
    noise_before = sum(learn.noise_seconds) if isinstance(learn, Private) else 0.0
    before = {file: file.stat().st_mtime_ns for file in (filled / "cache").iterdir()}

    began = time.perf_counter()
    kept = cache.rows(texts) if task.cached else classifier.encode(texts, max_tokens=task.tokens)

    def gradient(rows: Sequence[int]) -> None:
        chosen = [kept[row] for row in rows]
        learn(chosen if task.cached else classifier.lower(chosen), labels[list(rows)])

    batches = shuffled_epochs([len(row) for row in kept], epochs=1, batch_size=BATCH, generator=_generator())
    train(classifier, settings, batches=batches, steps=len(batches), gradient=gradient, generator=_generator())
    seconds = time.perf_counter() - began

    if before != {file: file.stat().st_mtime_ns for file in (filled / "cache").iterdir()}:
        raise RuntimeError("the cache was not filled: it was written again")
    save_file(dict(classifier.read()), out / "weights.safetensors")
    return {"seconds": seconds, "noise_seconds": sum(learn.noise_seconds) - noise_before if isinstance(learn, Private) else 0.0}


def utility(out: Path) -> dict[str, Any]:
    """A whole run by the settings in ``settings.json``, and how well its last model reads the test set."""
    from simulation.run import prepare, run_experiment  # not for the others: Flower and the server would count in their peak memory

    torch.set_num_threads(1)
    settings = RunSettings(**json.loads((out / "settings.json").read_text()))
    prepared = prepare(settings)
    began = time.perf_counter()
    finished = run_experiment(prepared, out / "run")
    if len(finished.rounds) != settings.rounds or any(record.clients != settings.clients for record in finished.rounds):
        raise RuntimeError(f"devices failed: {finished.rounds[-1] if finished.rounds else 'no round'}")
    return {
        "macro_f1": finished.rounds[-1].macro_f1,
        "by_round": [record.macro_f1 for record in finished.rounds],
        "epsilon": finished.epsilon if settings.privacy != "none" else None,
        "pretrained": prepared.pretrained,
        "entries": len(prepared.train.examples),
        "test_entries": len(prepared.test.examples),
        "seconds": time.perf_counter() - began,
    }


class Plain:
    """The product's gradient without privacy."""

    def __init__(self, classifier: EmotionClassifier, settings: RunSettings) -> None:
        self._classifier, self._settings = classifier, settings

    def __call__(self, rows: list[Tensor], labels: Tensor) -> None:
        MeanGradient(self._classifier, Entries(rows, labels), self._settings)(range(len(rows)))


class Private:
    """``privacy.example_level.PrivateGradient``, with the way to clip chosen and the seconds of its noise kept apart."""

    def __init__(self, classifier: EmotionClassifier, settings: RunSettings, clipped: type[ClippedSum] | type[GhostClippedSum]) -> None:
        self._classifier = classifier
        self._std = NOISE_MULTIPLIER * settings.clip_norm
        self._sum = clipped(classifier, settings.clip_norm)
        self._randomness = SecureRandom(key=bytes(32))  # the same noise in every process; as costly as secret noise
        self.noised = True
        self.noise_seconds: list[float] = []

    def __call__(self, rows: list[Tensor], labels: Tensor) -> None:
        batch = self._classifier.batch(rows, labels)
        sums = self._sum(batch.inputs, batch.mask, batch.labels)
        spent = 0.0
        for name, parameter in self._classifier.trainable().items():
            total = sums[name].double()
            if self.noised:
                began = time.perf_counter()
                total = total + self._noise(parameter)
                spent += time.perf_counter() - began
            parameter.grad = (total / BATCH).float()
        self.noise_seconds.append(spent)

    def _noise(self, parameter: nn.Parameter) -> Tensor:
        return self._randomness.normal(parameter.shape, std=self._std)


def _learner(task: Task, classifier: EmotionClassifier, settings: RunSettings) -> Plain | Private:
    if task.way == "plain":
        return Plain(classifier, settings)
    return Private(classifier, settings, ClippedSum if task.way == "hooks" else GhostClippedSum)


def _described(classifier: EmotionClassifier) -> dict[str, Any]:
    update = classifier.read()
    layers = sum(name.startswith("layer") for name in classifier.blocks)
    width = classifier.get_parameter("blocks.head.pooler.weight").shape[0]
    megabytes = {precision: Update(update, 1.0, 1, precision).megabytes for precision in DTYPES}
    return {"body": f"{layers} x {width}", "trained": update.size, "megabytes": megabytes}


def _texts(task: Task) -> list[str]:
    """Entries of exactly ``tokens`` tokens, [CLS] and [SEP] included, for the tokenizer of :func:`write_kobert_size`."""
    drawn = torch.randint(WORDS, (task.steps * BATCH, task.tokens - 2), generator=_generator()).tolist()
    return [" ".join(map(_syllable, numbers)) for numbers in drawn]


def _syllable(number: int) -> str:
    return chr(ord("가") + number)


def _labels(entries: int) -> Tensor:
    return torch.arange(entries) % len(EMOTIONS)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
