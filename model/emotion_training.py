"""How the bundled body learns emotion: several readings of one sentence train it together, and only the body is kept.

Every row trains the outputs that it has a target for, all of which read the mean of the last states through the pooler, as the
classifier will (multi-task learning, Caruana 1997):

| output | target | loss |
|---|---|---|
| emotion | one of the four | cross-entropy, weighted by class |
| kind | one emotion, none told, or several | cross-entropy |
| kote | 44 labels of KOTE, several a row | binary cross-entropy |
| goemotions | 28 labels of GoEmotions, several a row | binary cross-entropy |
| rating | a film review's rating, 1 to 10 | cross-entropy |

Sentences of like length share a batch; arithmetic is bf16 where it may be. The rate rises over the first steps and falls to zero,
and is lower for lower layers (Howard & Ruder 2018), since those know Korean already. Everything drawn at a step follows from the
seed and the step's number, so a run that was killed and goes on ends at the weights of one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from model.checkpoint import write_durably
from model.corpora import GOEMOTIONS_LABELS, KOTE_LABELS, RATINGS
from model.emotions import EMOTIONS, KINDS
from model.normalization import TEXT_STEP, normalized
from model.refusal import Refusal
from model.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class EmotionRow:
    """One sentence and the targets that it has. ``weight`` scales the loss of its emotion and kind."""

    text: str = field(repr=False)
    emotion: int | None = None
    kind: int | None = None
    kote: frozenset[int] | None = None
    goemotions: frozenset[int] | None = None
    rating: int | None = None
    weight: float = 1.0
    copies: int = 1
    """How often an epoch shows it."""


@dataclass(frozen=True, kw_only=True)
class EmotionTrainingSettings:
    """``epochs`` over all rows; ``batch_tokens`` is a padded batch's size, ``layer_decay`` the rate of a layer over that of the next."""

    epochs: int = 1
    batch_tokens: int = 1024
    max_tokens: int = 160
    learning_rate: float = 1e-4
    layer_decay: float = 0.9
    warmup: float = 0.06
    weight_decay: float = 0.01
    dropout: float = 0.1
    seed: int = 7


@dataclass(frozen=True)
class EmotionProgress:
    """Where the training stands; the losses are running means in nats."""

    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    emotion_loss: float = 0.0
    kind_loss: float = 0.0


class EmotionReader(nn.Module):
    """The body with the outputs that it is trained by."""

    def __init__(self, config: BertConfig, dropout: float) -> None:
        super().__init__()
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        config._attn_implementation = "eager"
        self.bert = BertModel(config)
        width = config.hidden_size
        self.dropout = nn.Dropout(dropout)
        sizes = {"emotion": len(EMOTIONS), "kind": len(KINDS), "kote": KOTE_LABELS, "goemotions": GOEMOTIONS_LABELS, "rating": RATINGS}
        self.outputs = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()})

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, H) of token ids (B, S) and their mask."""
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (states.float() * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        with torch.autocast(states.device.type, enabled=False):
            pooled: Tensor = torch.tanh(self.bert.pooler.dense(mean))
            return pooled

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        pooled = self.dropout(self.pooled(ids, mask))
        with torch.autocast(pooled.device.type, enabled=False):
            return {name: output(pooled) for name, output in self.outputs.items()}


@dataclass(frozen=True)
class Targets:
    """A batch's targets; -1 and rows of NaN where a row has none."""

    emotion: Tensor
    kind: Tensor
    kote: Tensor
    goemotions: Tensor
    rating: Tensor
    weight: Tensor


def targets_of(rows: Sequence[EmotionRow]) -> Targets:
    """The targets of some rows as tensors."""
    return Targets(
        emotion=torch.tensor([-1 if row.emotion is None else row.emotion for row in rows]),
        kind=torch.tensor([-1 if row.kind is None else row.kind for row in rows]),
        kote=torch.stack([_several(row.kote, KOTE_LABELS) for row in rows]),
        goemotions=torch.stack([_several(row.goemotions, GOEMOTIONS_LABELS) for row in rows]),
        rating=torch.tensor([-1 if row.rating is None else row.rating - 1 for row in rows]),
        weight=torch.tensor([row.weight for row in rows]),
    )


def _several(labels: frozenset[int] | None, size: int) -> Tensor:
    if labels is None:
        return torch.full((size,), torch.nan)
    hot = torch.zeros(size)
    hot[list(labels)] = 1.0
    return hot


LABEL_SCALE = 4.0
"""Weight of a mean over many labels, most of which are absent, beside a cross-entropy."""
RATING_SCALE = 0.3
KIND_SCALE = 0.5


def emotion_loss(outputs: dict[str, Tensor], targets: Targets, class_weights: Tensor) -> tuple[Tensor, float | None, float | None]:
    """The loss of a batch, and the means of its emotion and kind cross-entropies (None where no row has such a target)."""
    size = len(targets.weight)
    per_emotion = functional.cross_entropy(outputs["emotion"], targets.emotion, class_weights, ignore_index=-1, reduction="none")
    per_kind = functional.cross_entropy(outputs["kind"], targets.kind, ignore_index=-1, reduction="none")
    per_rating = functional.cross_entropy(outputs["rating"], targets.rating, ignore_index=-1, reduction="none")
    total = ((per_emotion + KIND_SCALE * per_kind) * targets.weight + RATING_SCALE * per_rating).sum() / size
    for name, labels in (("kote", targets.kote), ("goemotions", targets.goemotions)):
        known = ~torch.isnan(labels[:, 0])
        if known.any():
            each = functional.binary_cross_entropy_with_logits(outputs[name][known], labels[known])
            total = total + LABEL_SCALE * each * (known.sum() / size)
    told, kinds = targets.emotion >= 0, targets.kind >= 0
    return (
        total,
        float(per_emotion[told].mean().detach()) if told.any() else None,
        float(per_kind[kinds].mean().detach()) if kinds.any() else None,
    )


def train_emotion(
    body: Path,
    tokenizer: Tokenizer,
    rows: Sequence[EmotionRow],
    out: Path,
    settings: EmotionTrainingSettings,
    *,
    on_progress: Callable[[EmotionProgress], None],
    save_every: float = 180.0,
) -> EmotionProgress:
    """Train the body of the model folder ``body`` into ``out / "state.safetensors"``, going on from what is there already.

    Outputs that ``body`` keeps of an earlier training (``outputs.safetensors``) go on too. ``save_every`` is in seconds.
    Raises :class:`Refusal` if there is no row, or if the state is another run's.
    """
    if not rows:
        raise Refusal("there is no sentence to train on; name the folder of corpora with --data")
    torch.manual_seed(settings.seed)
    config = BertConfig.from_dict(json.loads((body / "config.json").read_bytes()))
    reader = EmotionReader(config, settings.dropout)
    reader.load_state_dict(_start(body), strict=False)
    shown = [row for row, sentence in enumerate(rows) for _ in range(sentence.copies)]
    ids = tokenizer.encode([normalized(row.text) for row in rows], max_tokens=settings.max_tokens)
    batches = [
        batch
        for epoch in range(settings.epochs)
        for batch in _length_batches(shown, [len(of_row) for of_row in ids], settings.batch_tokens, [settings.seed, epoch])
    ]
    optimizer = torch.optim.AdamW(_rate_groups(reader, config.num_hidden_layers, settings), lr=settings.learning_rate, betas=(0.9, 0.98))
    class_weights = _class_weights(rows)
    run = json.dumps(asdict(settings) | {"rows": len(rows), "steps": len(batches), "text_step": TEXT_STEP}, sort_keys=True)
    at = _restore(out, reader, optimizer, run)
    saved = time.monotonic()
    reader.train()
    for step in range(at.step, len(batches)):
        began = time.monotonic()
        torch.manual_seed(settings.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * _trapezoid(step / len(batches), settings.warmup)
        chosen = [rows[row] for row in batches[step]]
        padded, mask = _padded([ids[row] for row in batches[step]], config.pad_token_id)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = reader(padded, mask)
        loss, emotion, kind = emotion_loss(outputs, targets_of(chosen), class_weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        at = EmotionProgress(
            step + 1,
            len(batches),
            at.seconds + time.monotonic() - began,
            _running(at.emotion_loss, emotion),
            _running(at.kind_loss, kind),
        )
        on_progress(at)
        if time.monotonic() - saved > save_every:
            _save(out, reader, optimizer, at, run)
            saved = time.monotonic()
    _save(out, reader, optimizer, at, run)
    return at


def _start(body: Path) -> dict[str, Tensor]:
    start = {f"bert.{name}": value.float() for name, value in load_file(str(body / "model.safetensors")).items()}
    beside = body / "outputs.safetensors"
    return start | (load_file(str(beside)) if beside.is_file() else {})


def _padded(rows: Sequence[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = torch.tensor(row)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(longest) < lengths[:, None]).long()


def _length_batches(shown: Sequence[int], lengths: Sequence[int], batch_tokens: int, seed: Sequence[int]) -> list[list[int]]:
    """One epoch's batches of at most ``batch_tokens`` padded tokens, rows of like length together, in a drawn order."""
    draw = np.random.default_rng(list(seed))
    order = np.argsort(np.array([lengths[row] for row in shown]) + draw.uniform(0, 4, size=len(shown)), kind="stable")
    batches: list[list[int]] = [[]]
    longest = 0
    for place in order.tolist():
        longest = max(longest, lengths[shown[place]])
        if batches[-1] and longest * (len(batches[-1]) + 1) > batch_tokens:
            batches.append([])
            longest = lengths[shown[place]]
        batches[-1].append(shown[place])
    return [batches[at] for at in draw.permutation(len(batches)).tolist()]


def _rate_groups(reader: EmotionReader, layers: int, settings: EmotionTrainingSettings) -> list[dict[str, object]]:
    """Parameters by depth: the outputs at the full rate, every layer below at ``layer_decay`` of the one above."""
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in reader.named_parameters():
        part = name.split(".")
        depth = 0 if part[0] == "outputs" or part[1] == "pooler" else layers - int(part[3]) if part[1] == "encoder" else layers + 1
        groups.setdefault((depth, parameter.dim() > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": settings.learning_rate * settings.layer_decay**depth * (5.0 if depth == 0 else 1.0),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in groups.items()
    ]


def _class_weights(rows: Sequence[EmotionRow]) -> Tensor:
    """One over the square root of each emotion's share of the shown rows, of mean 1."""
    counts = np.bincount(
        [row.emotion for row in rows if row.emotion is not None],
        weights=[row.copies * row.weight for row in rows if row.emotion is not None],
        minlength=len(EMOTIONS),
    )
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def _trapezoid(share: float, warmup: float) -> float:
    return share / warmup if share < warmup else (1 - share) / (1 - warmup)


def _running(mean: float, new: float | None) -> float:
    return mean if new is None else new if mean == 0.0 else 0.98 * mean + 0.02 * new


def _save(out: Path, reader: EmotionReader, optimizer: torch.optim.Optimizer, at: EmotionProgress, run: str) -> None:
    tensors = {f"model:{name}": value.contiguous() for name, value in reader.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer:{number}:{name}": value for name, value in state.items()}
    write_durably(out / "state.safetensors", save_tensors(tensors, metadata={"progress": json.dumps(asdict(at)), "run": run}))


def _restore(out: Path, reader: EmotionReader, optimizer: torch.optim.Optimizer, run: str) -> EmotionProgress:
    from safetensors import safe_open

    path = out / "state.safetensors"
    if not path.is_file():
        return EmotionProgress()
    with safe_open(str(path), framework="pt") as stored:
        metadata = stored.metadata()
        if metadata["run"] != run:
            raise Refusal(f"'{path}' belongs to another run (other rows or settings); choose another --out or remove it")
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a dict
    reader.load_state_dict({name.removeprefix("model:"): value for name, value in tensors.items() if name.startswith("model:")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer:"):
            _, number, field = name.split(":")
            states.setdefault(int(number), {})[field] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
    return EmotionProgress(**json.loads(metadata["progress"]))
