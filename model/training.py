"""The training loop that a device, a centralised run and a benchmark all share.

What differs between them are two things that are handed in: which rows make a step (``batches``) and how a step's
gradient comes about (``gradient``). Without privacy these are shuffled epochs and the mean gradient, below; under
example-level DP they are Poisson samples and clipped, noised sums (``privacy.example_level``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.classifier import EmotionClassifier
from model.emotions import EMOTIONS
from model.examples import Example, texts
from model.proximal import ProximalGradient
from model.settings import RunSettings

WINDOW = 16
"""Batches' worth of rows among which those of like length are put together."""


class Gradient(Protocol):
    """Fills ``.grad`` of every trained parameter from the rows of one step."""

    def __call__(self, rows: Sequence[int]) -> None: ...


@dataclass(frozen=True)
class Entries:
    """What a device trains on: rows that have passed the frozen trunk, and labels (N,) int64."""

    rows: list[Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row (1 past the pool)."""
        return [len(row) for row in self.rows]


def labelled_entries(classifier: EmotionClassifier, examples: Sequence[Example], settings: RunSettings) -> Entries:
    """Examples as the tuned part reads them: each passed once through the text step, the tokenizer and the frozen trunk."""
    rows = classifier.lower(classifier.encode(texts(examples), max_tokens=settings.max_tokens))
    return Entries(rows, labels(examples))


def labels(examples: Sequence[Example]) -> Tensor:
    """Ids of the emotions, (N,) int64."""
    return torch.tensor([example.emotion.id for example in examples], dtype=torch.int64)


def train(
    classifier: EmotionClassifier,
    settings: RunSettings,
    *,
    batches: Iterable[Sequence[int]],
    steps: int,
    gradient: Gradient,
    generator: torch.Generator,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Train the tuned parameters in place: AdamW (Loshchilov & Hutter 2019) or SGD, with a linear warm-up over the first steps.

    SGD is for private gradients: what devices' noised sums add up to is then one large private step, whereas the first
    steps of Adam keep of every coordinate little but its sign, of noise as of signal.
    ``generator`` alone decides dropout; ``batches`` yields ``steps`` lists of row numbers. Under ``fedprox`` the parameters are
    drawn back to what they are now.
    """
    if settings.strategy == "fedprox":
        gradient = ProximalGradient(gradient, classifier.trainable().values(), mu=settings.proximal_mu)
    optimizer = _optimizer(classifier, settings)
    rising = max(1, round(settings.warmup * steps))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        for step, rows in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = settings.peak_learning_rate * min(1.0, (step + 1) / rising)
            optimizer.zero_grad(set_to_none=True)
            gradient(rows)
            optimizer.step()
            if on_step is not None:
                on_step(step)


def _optimizer(classifier: EmotionClassifier, settings: RunSettings) -> torch.optim.Optimizer:
    parameters = list(classifier.trainable().values())
    if settings.plain_descent:
        return torch.optim.SGD(parameters, lr=settings.peak_learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(parameters, lr=settings.peak_learning_rate, weight_decay=settings.weight_decay, fused=True)


class MeanGradient:
    """The gradient of the mean loss of a step, its norm clipped to ``gradient_clip``."""

    def __init__(self, classifier: EmotionClassifier, entries: Entries, settings: RunSettings) -> None:
        self._classifier = classifier
        self._upper = classifier.upper().train()
        self._entries = entries
        self._clip = settings.gradient_clip
        self._class_weights = balanced_weights(entries.labels) if settings.class_weights == "balanced" else None

    def __call__(self, rows: Sequence[int]) -> None:
        batch = self._classifier.batch([self._entries.rows[row] for row in rows], self._entries.labels[list(rows)])
        loss = functional.cross_entropy(self._upper(batch.inputs, batch.mask), batch.labels, weight=self._class_weights)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._upper.parameters(), self._clip)


def shuffled_epochs(lengths: Sequence[int], *, epochs: int, batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """Every row once an epoch, in an order of the generator's; one batch of an epoch may be short.

    Within every sixteen batches' worth of shuffled rows, those of like length share a batch: short entries are not padded
    to the longest of all (KOTE-4, everything trained: 2.6 times as fast).
    """
    batches: list[list[int]] = []
    for _ in range(epochs):
        order = torch.randperm(len(lengths), generator=generator).tolist()
        windows = (order[start : start + WINDOW * batch_size] for start in range(0, len(order), WINDOW * batch_size))
        alike = [row for window in windows for row in sorted(window, key=lambda row: lengths[row])]
        cut = [alike[start : start + batch_size] for start in range(0, len(alike), batch_size)]
        batches += [cut[number] for number in torch.randperm(len(cut), generator=generator).tolist()]
    return batches


def train_plainly(classifier: EmotionClassifier, entries: Entries, settings: RunSettings, generator: torch.Generator) -> None:
    """Local epochs without privacy: what one device does in a round, and what a centralised run does once."""
    batches = shuffled_epochs(entries.lengths, epochs=settings.local_epochs, batch_size=settings.batch_size, generator=generator)
    train(
        classifier,
        settings,
        batches=batches,
        steps=len(batches),
        gradient=MeanGradient(classifier, entries, settings),
        generator=generator,
    )


def balanced_weights(labels: Tensor) -> Tensor:
    """Inverse class frequency, (4,), mean 1 over the entries; a class without entries has weight 0."""
    counts = torch.bincount(labels, minlength=len(EMOTIONS)).float()
    present = counts > 0
    weights = torch.zeros(len(EMOTIONS))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return weights


def local_generator(seed: int, *, round: int, device: int) -> torch.Generator:
    """The generator of one device in one round; what it decides (order, dropout) is not secret."""
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(hashlib.sha256(f"{seed}:{round}:{device}".encode()).digest()[:8]))
    return generator
