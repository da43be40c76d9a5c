"""How the compact model is made: a vocabulary, then a body that has read Korean.

The vocabulary is a Unigram model (Kudo 2018) in KoBERT's id layout, so that everything downstream may rely on one
layout: ``[UNK]`` 0, ``[PAD]`` 1, ``[CLS]`` 2, ``[SEP]`` 3, ``[MASK]`` 4. The text is brought to NFC and no further:
NFKC would tear the compatibility letters of ㅋㅋ and ㅠㅠ, the commonest marks of mood, into other characters.

The body is trained by masked language modelling with dynamic masking (Liu et al. 2019): 15 % of the tokens, of which
80 % become ``[MASK]``, 10 % another token, 10 % stay; only masked positions pass the output layer. Where a sentence
has a rating, the mean state predicts it as a second target. Sentences of like length share a batch. The learning rate
rises, stays, and falls over the last fifth of the token budget, so that a run may be given more before that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import Unigram
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from model.checkpoint import write_durably
from model.refusal import Refusal

SPECIAL_TOKENS = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
PAD, CLS, SEP, MASK = 1, 2, 3, 4
NO_RATING = -1.0


def learn_vocabulary(texts: Iterable[str], *, size: int = 8000) -> Tokenizer:
    """Learn a Unigram vocabulary of ``size`` pieces from ``texts`` (special tokens included)."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
            unk_token=SPECIAL_TOKENS[0],
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return tokenizer


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """``tokens`` is the whole budget; ``batch_tokens`` and ``max_tokens`` count padding and special tokens."""

    tokens: int = 24_000_000
    batch_tokens: int = 4096
    max_tokens: int = 96
    learning_rate: float = 7e-4
    warmup: float = 0.03
    decay: float = 0.2
    weight_decay: float = 0.01
    rating_weight: float = 0.5
    seed: int = 7


@dataclass(frozen=True)
class Progress:
    """Where a pretraining stands; ``loss`` and ``rating_error`` are running means of the last hundred steps."""

    tokens: int
    step: int
    seconds: float
    loss: float
    rating_error: float


class Reader(nn.Module):
    """The body with the two outputs it is trained by, neither of which is kept."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config)
        self.transform = nn.Sequential(
            nn.Linear(config.hidden_size, config.hidden_size), nn.GELU(), nn.LayerNorm(config.hidden_size, eps=1e-6)
        )
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.rating = nn.Linear(config.hidden_size, 1)

    def forward(self, ids: Tensor, mask: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (M, V) at the chosen positions, and a rating (B,) from the pooled mean of the sentence's states."""
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = functional.linear(self.transform(states[chosen]), self.bert.embeddings.word_embeddings.weight, self.bias)
        mean = (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return logits, self.rating(torch.tanh(self.bert.pooler.dense(mean)))[:, 0]


def pretrain(
    texts: list[str],
    ratings: list[float],
    tokenizer: Tokenizer,
    config: BertConfig,
    out: Path,
    settings: PretrainSettings,
    *,
    on_progress: Callable[[Progress], None],
    save_every: float = 240.0,
) -> Progress:
    """Pretrain a body into ``out`` (``model.safetensors``, ``progress.json``), continuing what is there already.

    ``ratings`` are in [0, 1], or :data:`NO_RATING`. Raises :class:`Refusal` if there is no text.
    """
    if not texts:
        raise Refusal("there is no text to pretrain on; name files with at least one sentence")
    sentences = _encode(tokenizer, texts, settings.max_tokens)
    torch.manual_seed(settings.seed)
    reader = Reader(config)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98))
    at = _restore(out, reader, optimizer)
    losses, errors = [at.loss], [at.rating_error]
    tokens, step, before, saved = at.tokens, at.step, at.seconds, time.monotonic()
    started = time.monotonic()
    for rows in _length_batches(sentences, settings, step):
        if tokens >= settings.tokens:
            break
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _trapezoid(tokens / settings.tokens, settings)
        ids, mask = _pad([sentences[row] for row in rows])
        masked, chosen = _mask_tokens(ids, config.vocab_size)
        wanted = torch.tensor([ratings[row] for row in rows])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, rated = reader.train()(masked, mask, chosen)
        loss = functional.cross_entropy(logits.float(), ids[chosen])
        known = wanted != NO_RATING
        error = functional.mse_loss(torch.sigmoid(rated.float())[known], wanted[known]) if known.any() else torch.zeros(())
        optimizer.zero_grad(set_to_none=True)
        (loss + settings.rating_weight * error).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        tokens, step = tokens + int(mask.sum()), step + 1
        losses, errors = [*losses[-99:], float(loss.detach())], [*errors[-99:], float(error.detach())]
        at = Progress(tokens, step, before + time.monotonic() - started, float(np.mean(losses)), float(np.mean(errors)))
        on_progress(at)
        if time.monotonic() - saved > save_every:
            _save(out, reader, optimizer, at, settings)
            saved = time.monotonic()
    _save(out, reader, optimizer, at, settings)
    return at


def export_body(folder: Path, target: Path) -> None:
    """Write the body alone, in fp16, as the bundled model's ``model.safetensors``."""
    state = load_file(str(folder / "model.safetensors"))
    body = {name.removeprefix("bert."): value.half().contiguous() for name, value in state.items() if name.startswith("bert.")}
    save_file(body, str(target))


def _encode(tokenizer: Tokenizer, texts: list[str], max_tokens: int) -> list[np.ndarray[Any, np.dtype[np.int16]]]:
    tokenizer.enable_truncation(max_tokens)
    return [
        np.array(encoding.ids, dtype=np.int16)
        for start in range(0, len(texts), 20000)
        for encoding in tokenizer.encode_batch(texts[start : start + 20000])
    ]


def _length_batches(sentences: list[np.ndarray[Any, np.dtype[np.int16]]], settings: PretrainSettings, skip: int) -> Iterator[list[int]]:
    """Endless batches of about ``batch_tokens``, sentences of like length together, in an order of the seed's."""
    lengths = np.array([len(sentence) for sentence in sentences])
    step = 0
    for epoch in range(10**6):
        rng = np.random.default_rng([settings.seed, epoch])
        order = np.argsort(lengths + rng.uniform(0, 3, size=len(lengths)), kind="stable")
        batches: list[list[int]] = [[]]
        for row in order.tolist():
            if (len(batches[-1]) + 1) * lengths[row] > settings.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        for number in rng.permutation(len(batches)).tolist():
            step += 1
            if step > skip:
                yield batches[number]


def _pad(rows: list[np.ndarray[Any, np.dtype[np.int16]]]) -> tuple[Tensor, Tensor]:
    ids = torch.full((len(rows), max(map(len, rows))), PAD, dtype=torch.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.from_numpy(row.astype(np.int64))
    return ids, (ids != PAD).to(torch.int64)


def _mask_tokens(ids: Tensor, vocabulary_size: int) -> tuple[Tensor, Tensor]:
    """The ids with 15 % of the real tokens hidden, and where (B, S) those are; at least one."""
    real = ids > MASK
    chosen = real & (torch.rand(ids.shape) < 0.15)
    if not chosen.any():
        chosen = real
    kind = torch.rand(ids.shape)
    masked = torch.where(chosen & (kind < 0.8), MASK, ids)
    other = torch.randint(MASK + 1, vocabulary_size, ids.shape)
    return torch.where(chosen & (kind >= 0.9), other, masked), chosen


def _trapezoid(done: float, settings: PretrainSettings) -> float:
    return min(1.0, (done + 1e-4) / settings.warmup, max(0.0, 1.0 - done) / settings.decay)


def _save(out: Path, reader: Reader, optimizer: torch.optim.Optimizer, at: Progress, settings: PretrainSettings) -> None:
    out.mkdir(parents=True, exist_ok=True)
    parameters = dict(reader.named_parameters())
    moments = {
        f"{key}:{name}": optimizer.state[parameter][key].contiguous()
        for name, parameter in parameters.items()
        for key in ("exp_avg", "exp_avg_sq")
        if parameter in optimizer.state
    }
    for file, tensors in (("model", {name: p.detach().contiguous() for name, p in parameters.items()}), ("moments", moments)):
        temporary = out / f"{file}.partial"
        save_file(tensors, str(temporary))
        temporary.replace(out / f"{file}.safetensors")
    write_durably(out / "progress.json", json.dumps({"progress": asdict(at), "settings": asdict(settings)}, indent=1).encode())


def _restore(out: Path, reader: Reader, optimizer: torch.optim.Optimizer) -> Progress:
    if not (out / "progress.json").exists():
        return Progress(0, 0, 0.0, float(np.log(reader.bias.numel())), 0.1)
    at = Progress(**json.loads((out / "progress.json").read_bytes())["progress"])
    reader.load_state_dict(load_file(str(out / "model.safetensors")), strict=False)
    moments = load_file(str(out / "moments.safetensors"))
    for name, parameter in reader.named_parameters():
        if f"exp_avg:{name}" in moments:
            optimizer.state[parameter] = {
                "step": torch.tensor(float(at.step)),
                "exp_avg": moments[f"exp_avg:{name}"],
                "exp_avg_sq": moments[f"exp_avg_sq:{name}"],
            }
    return at
