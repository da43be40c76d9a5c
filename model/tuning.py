"""Which parameters are trained and travel, and what the frozen rest gives once and for all.

| tuning | trained | frozen trunk, kept per entry |
|---|---|---|
| ``probe`` | the linear readings of pooled state and words; the pooler stays | everything below the head, one vector per entry |
| ``head`` | pooler and classifier | everything below, one vector per entry |
| ``top<k>`` | the last k layers (all if there are fewer) and the head | embeddings and the layers below |
| ``lora`` | rank-8 additions to query and value of every layer (Hu et al. 2021), and the head | embeddings |
| ``full`` | everything | nothing |
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from model.checkpoint import write_durably
from model.classifier import EmotionClassifier, Layer, build_classifier, outline_classifier, source_of
from model.hub import find_model
from model.refusal import Refusal
from model.settings import RunSettings

LORA_RANK = 8
LORA_SCALE = 2.0


class LowRank(nn.Module):
    """A frozen linear layer plus a trained product of two thin ones; the product is zero at first."""

    def __init__(self, frozen: nn.Linear, rank: int = LORA_RANK, scale: float = LORA_SCALE) -> None:
        super().__init__()
        self.frozen = frozen
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.normal_(self.down.weight, std=1.0 / rank)
        nn.init.zeros_(self.up.weight)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.up(self.down(x))
        return torch.add(self.frozen(x), added, alpha=self.scale)


def tune(classifier: EmotionClassifier, tuning: str, *, seed: int) -> EmotionClassifier:
    """Freeze what ``tuning`` does not train, set the cut, and give the classifier back."""
    names = list(classifier.blocks)
    layers = [name for name in names if name.startswith(("layer", "lstm"))]
    if tuning == "full":
        classifier.cut = 0
    elif tuning in ("head", "probe"):
        classifier.cut = names.index("head")
        if tuning == "probe":
            if not classifier.pooled:
                raise Refusal(
                    "tuning 'probe' leaves the pooler as it was pretrained, and this model brings none (an LSTM has none, "
                    "nor have weights saved without one); use --tuning head, or full"
                )
            head: Any = classifier.blocks["head"]
            head.pooler.requires_grad_(False)
    elif tuning.startswith("top"):
        classifier.cut = names.index(layers[-int(tuning[3:]) :][0])
    elif tuning == "lora":
        _add_low_rank(classifier, seed)
        classifier.cut = names.index(layers[0])
    else:
        raise Refusal(f"tuning is '{tuning}'; choose one of probe, head, top<k>, lora, full")
    for name in names[: classifier.cut]:
        classifier.blocks[name].requires_grad_(False)
    return classifier


def tuned_classifier(settings: RunSettings, folder: Path | None = None) -> EmotionClassifier:
    """The run's classifier, built and tuned; everyone who holds the same settings and base gets the same weights.

    ``folder`` is where the model lies; without it the bundled ones and the hub are searched.
    """
    folder = folder or find_model(source_of(settings.model))
    classifier = build_classifier(settings.model, folder, dropout=settings.dropout, seed=settings.seed)
    return tune(_long_enough(classifier, settings), settings.tuning, seed=settings.seed)


def tuned_outline(settings: RunSettings, folder: Path) -> EmotionClassifier:
    """The same without a BERT body's weights (:func:`model.classifier.outline_classifier`): which parameters train, by name and shape."""
    outline = outline_classifier(settings.model, folder)
    with torch.device("meta"):
        return tune(_long_enough(outline, settings), settings.tuning, seed=settings.seed)


def _long_enough(classifier: EmotionClassifier, settings: RunSettings) -> EmotionClassifier:
    if settings.max_tokens > classifier.positions:
        raise Refusal(f"max-tokens is {settings.max_tokens} and '{settings.model}' has {classifier.positions} positions; lower it")
    return classifier


def _add_low_rank(classifier: EmotionClassifier, seed: int) -> None:
    layers = [block for block in classifier.blocks.values() if isinstance(block, Layer)]
    if not layers:
        raise Refusal("tuning 'lora' needs attention layers, which an LSTM has not; use --tuning top2 or full")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in layers:
            layer.requires_grad_(False)
            attention: Any = layer.bert.attention.self
            attention.query = LowRank(attention.query)
            attention.value = LowRank(attention.value)


class Seal(Protocol):
    """What encrypts a file of a Home and opens it again."""

    def seal(self, content: bytes) -> bytes:
        """Encrypted and authenticated."""

    def open(self, sealed: bytes) -> bytes:
        """What was sealed; :class:`Refusal` for anything else."""


class TrunkCache:
    """The frozen trunk's outputs on one device, kept in its Home between rounds: exact, and as sensitive as the text.

    One file per base model, tuning and length, encrypted by ``seal`` if there is one; it holds the entries of the last call and
    no others. A file that cannot be read is computed anew.
    """

    def __init__(self, folder: Path, classifier: EmotionClassifier, settings: RunSettings, seal: Seal | None = None) -> None:
        parts = (classifier.base_digest, classifier.tokenizer.digest, str(classifier.cut), str(settings.max_tokens))
        name = f"trunk-{hashlib.sha256(':'.join(parts).encode()).hexdigest()[:16]}"
        self._path = folder / (f"{name}.sealed" if seal else f"{name}.safetensors")
        self._seal = seal
        self._classifier = classifier
        self._max_tokens = settings.max_tokens

    def rows(self, texts: Sequence[str]) -> list[Tensor]:
        """What :meth:`EmotionClassifier.lower` gives for each text."""
        encoded = self._classifier.encode(texts, max_tokens=self._max_tokens)
        if self._classifier.cut == 0:
            return encoded
        keys = [hashlib.sha256(ids.numpy().tobytes()).hexdigest() for ids in encoded]
        kept = self._read()
        fresh = [row for row, key in enumerate(keys) if key not in kept]
        outputs = self._classifier.lower([encoded[row] for row in fresh])
        known = kept | {keys[row]: output for row, output in zip(fresh, outputs, strict=True)}
        if fresh or len(kept) > len(set(keys)):
            self._write({key: known[key] for key in set(keys)})
        return [known[key] for key in keys]

    def _read(self) -> dict[str, Tensor]:
        try:
            # Read and not mapped: mapped files stay resident, 0.16 MB a round in a simulation of 20 people.
            content = self._path.read_bytes()
            kept: dict[str, Tensor] = load_tensors(self._seal.open(content) if self._seal else content)
            return kept
        except (SafetensorError, OSError, Refusal):
            return {}

    def _write(self, outputs: dict[str, Tensor]) -> None:
        content = save_tensors({key: output.contiguous() for key, output in outputs.items()})
        write_durably(self._path, self._seal.seal(content) if self._seal else content)
        if self._seal:
            self._path.with_suffix(".safetensors").unlink(missing_ok=True)  # of a version that sealed nothing
