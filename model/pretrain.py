"""How the compact model is made: a vocabulary, then a body that has read Korean.

The vocabulary is a Unigram model (Kudo 2018) in KoBERT's id layout, so that everything downstream may rely on one
layout: ``[UNK]`` 0, ``[PAD]`` 1, ``[CLS]`` 2, ``[SEP]`` 3, ``[MASK]`` 4. It is learned from text that has passed the
text step, and brings its own input to NFC and no further: NFKC would tear the compatibility letters of ㅋㅋ apart.

The body learns three things at once from public sentences: masked language modelling with dynamic masking (Liu et al.
2019; 20 % of the tokens, Wettig et al. 2023, of which 80 % become ``[MASK]``, 10 % another token, 10 % stay; only they
pass the output layer), a film review's rating, and GoEmotions' 28 labels. The last two read the mean of the last states
through the pooler, as the classifier will. Sentences of like length share a batch; arithmetic is bf16 where it may be.
The learning rate rises, stays, and falls over most of the budget. Everything drawn at a step follows from the
seed and the step's number, so a run that was killed and goes on ends at the weights of one that was not.
"""

from __future__ import annotations

import copy
import ctypes
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import Unigram
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from model.checkpoint import write_durably
from model.corpora import GOEMOTIONS_LABELS, RATINGS, Sentence, read_corpora
from model.normalization import TEXT_STEP, normalized
from model.refusal import Refusal

SPECIAL_TOKENS = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
PAD, MASK = 1, 4
VOCABULARY_SENTENCES = 350_000
Ids = np.ndarray[Any, np.dtype[np.int16]]


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """``tokens`` is the whole budget, special tokens counted; ``batch_tokens`` is the size of a padded batch."""

    tokens: int = 40_000_000
    batch_tokens: int = 1024
    max_tokens: int = 128
    learning_rate: float = 6e-4
    warmup: float = 0.03
    decay: float = 0.7
    """Share of the budget over which the rate falls; while it stayed, from 24 to 30 million tokens, the masked loss did too."""
    weight_decay: float = 0.01
    masked: float = 0.2
    shifted: float = 0.25
    """Share of the batches whose sentences start at a drawn position, so that late positions are learned too."""
    labelled_copies: int = 3
    """How often an epoch shows a sentence with GoEmotions labels; there are fifteen times as many reviews."""
    seed: int = 7

    def __post_init__(self) -> None:
        for name in ("tokens", "batch_tokens", "max_tokens", "labelled_copies"):
            if getattr(self, name) < 1:
                raise Refusal(f"{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        if self.batch_tokens < self.max_tokens:
            raise Refusal(f"batch-tokens is {self.batch_tokens} and one sentence may have {self.max_tokens}; raise it")
        if not self.learning_rate > 0:
            raise Refusal(f"learning-rate is {self.learning_rate:g}; it must be above 0")


@dataclass(frozen=True)
class Progress:
    """Where a pretraining stands. The three losses are running means in nats: a masked token's, a rating's, a label's."""

    tokens: int = 0
    step: int = 0
    seconds: float = 0.0
    masked_loss: float = 0.0
    rating_loss: float = 0.0
    label_loss: float = 0.0

    def after(self, tokens: int, seconds: float, losses: Sequence[float | None]) -> Progress:
        """The progress one step later; a step without such a target (None) leaves that mean as it was."""
        before = (self.masked_loss, self.rating_loss, self.label_loss)
        means = [old if new is None else new if old == 0.0 else 0.99 * old + 0.01 * new for old, new in zip(before, losses, strict=True)]
        return Progress(self.tokens + tokens, self.step + 1, self.seconds + seconds, *means)


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
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


class Reader(nn.Module):
    """The body with the three outputs that it is trained by, none of which is kept."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        config = copy.deepcopy(config)
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0  # no sentence is seen often enough to overfit
        config._attn_implementation = "eager"  # on two cores 1.1 times as fast as sdpa in bf16 at 20 tokens
        self.bert = BertModel(config)
        width = config.hidden_size
        with torch.no_grad():
            self.bert.embeddings.position_embeddings.weight.copy_(_waves(config.max_position_embeddings, width))
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=1e-6))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.rating = nn.Linear(width, RATINGS)
        self.labels = nn.Linear(width, GOEMOTIONS_LABELS)

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (M, V) of the chosen positions' tokens, (B, 10) of the ratings and (B, 28) of the labels."""
        states = self.bert(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
        logits = functional.linear(self.transform(states[chosen]), self.bert.embeddings.word_embeddings.weight, self.bias)
        mean = (states.float() * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        with torch.autocast(states.device.type, enabled=False):  # means differ little: bf16 would round away what tells them apart
            pooled = torch.tanh(self.bert.pooler.dense(mean))
            return logits, self.rating(pooled), self.labels(pooled)


def pretrain(
    sentences: Sequence[Sentence],
    tokenizer: Tokenizer,
    config: BertConfig,
    out: Path,
    settings: PretrainSettings,
    *,
    on_progress: Callable[[Progress], None],
    save_every: float = 180.0,
    device: str = "cpu",
) -> Progress:
    """Pretrain a body into ``out / "state.safetensors"``, going on from what is there already.

    ``save_every`` is in seconds. Raises :class:`Refusal` if there is no text or the state is another run's.
    """
    if not sentences:
        raise Refusal("there is no sentence to pretrain on; name a folder of corpora with --data")
    _keep_freed_memory()
    rows = _encoded(tokenizer, sentences, settings)
    torch.manual_seed(settings.seed)
    reader = Reader(config).to(device)
    optimizer = torch.optim.AdamW(
        reader.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98), fused=True
    )
    at = _restore(out, reader, optimizer, settings)
    if at.step == 0:
        with torch.no_grad():
            reader.bert.embeddings.word_embeddings.weight.copy_(
                piece_vectors([row.ids for row in rows], config.vocab_size, config.hidden_size)
            )
    saved = time.monotonic()
    for step, batch in enumerate(_length_batches([len(row.ids) for row in rows], settings)):
        if at.tokens >= settings.tokens:
            break
        if step < at.step:
            continue
        began = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _trapezoid(at.tokens / settings.tokens, settings)
        tokens, losses = _one_step(reader, optimizer, [rows[row] for row in batch], config, settings, step, device)
        at = at.after(tokens, time.monotonic() - began, losses)
        on_progress(at)
        if time.monotonic() - saved > save_every:
            _save(out, reader, optimizer, at, settings)
            saved = time.monotonic()
    _save(out, reader, optimizer, at, settings)
    return at


def make_compact(
    data: Path,
    out: Path,
    settings: PretrainSettings,
    *,
    on_stage: Callable[[str], None],
    on_progress: Callable[[Progress], None],
) -> tuple[Path, Progress]:
    """Read the corpora under ``data`` and make the compact model in ``out / "compact"``; what is there goes on.

    The vocabulary is learned once, from half of the sentences, and kept in ``out``. Uses a GPU where there is one.
    """
    found = read_corpora(data)
    counted = ", ".join(f"{name} {count:,}" for name, count in found.counts.items())
    on_stage(f"{len(found.sentences):,} sentences ({counted}); {found.left_out:,} kept apart for testing")
    path = out / "tokenizer.json"
    if not path.exists():
        on_stage("learning 8,000 pieces (some minutes)")
        chosen = np.random.default_rng(settings.seed).permutation(len(found.sentences))[:VOCABULARY_SENTENCES]
        pieces = learn_vocabulary(normalized(found.sentences[row].text) for row in sorted(chosen.tolist()))
        write_durably(path, pieces.to_str().encode())
    tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    config = json.loads((resources.files("model") / "assets" / "compact" / "config.json").read_text())
    on_stage("encoding the sentences")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    at = pretrain(found.sentences, tokenizer, BertConfig.from_dict(config), out, settings, on_progress=on_progress, device=device)
    export_body(out, tokenizer, config, out / "compact")
    return out / "compact", at


def piece_vectors(sentences: Sequence[Ids], pieces: int, width: int, *, window: int = 4) -> Tensor:
    """Vectors (pieces, width) that put pieces of like neighbours side by side: where the word embeddings start.

    The positive pointwise mutual information of pieces within ``window`` of each other (smoothed by the power 0.75), cut
    to its largest singular values, each to the power 0.5 (Levy, Goldberg & Dagan 2015); at BERT's scale, 0.02. A body
    that starts so spends none of its budget on finding out which words are alike.
    """
    flat = np.concatenate([np.append(ids, np.int16(-1)) for ids in sentences]).astype(np.int64)  # -1 parts the sentences
    ends = np.cumsum(flat == -1)
    counts = np.zeros(pieces * pieces, dtype=np.float32)
    for distance in range(1, window + 1):
        left, right = flat[:-distance], flat[distance:]
        together = (left >= 0) & (right >= 0) & (ends[:-distance] == ends[distance:])
        counts += np.bincount(left[together] * pieces + right[together], minlength=pieces * pieces).astype(np.float32)
    near = torch.from_numpy(counts.reshape(pieces, pieces))
    near = near + near.T
    once, smoothed = near.sum(dim=1), near.sum(dim=1) ** 0.75
    expected = once[:, None] * (smoothed / smoothed.sum())[None, :]
    information = torch.log(near / expected.clamp(min=1e-9)).clamp(min=0.0).nan_to_num_(0.0, 0.0, 0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found, strength, _ = torch.svd_lowrank(information, q=min(width, pieces), niter=3)
    vectors = torch.zeros(pieces, width)
    vectors[:, : found.shape[1]] = found * strength.sqrt()
    seen = vectors.norm(dim=1) > 0
    vectors[~seen] = torch.randn(int((~seen).sum()), width, generator=torch.Generator().manual_seed(0)) * vectors[seen].std()
    return vectors * (0.02 / vectors.std())


def export_body(folder: Path, tokenizer: Tokenizer, config: dict[str, Any], target: Path) -> None:
    """Write the body alone, in fp16, with its config and tokenizer: a model folder of the hub's layout."""
    with safe_open(str(folder / "state.safetensors"), framework="pt") as stored:
        names = [name for name in stored.keys() if name.startswith("model:bert.")]  # noqa: SIM118 - not a dict
        body = {name.removeprefix("model:bert."): stored.get_tensor(name).half().contiguous() for name in names}
    target.mkdir(parents=True, exist_ok=True)
    tokenizer.no_truncation()
    write_durably(target / "tokenizer.json", tokenizer.to_str().encode())
    write_durably(target / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    write_durably(target / "model.safetensors", save_tensors(body, metadata={"format": "pt"}))


def _keep_freed_memory() -> None:
    """Let glibc keep what tensors give back: mapping fresh pages at every step took a third of the time (6,200 to 9,200 tokens/s)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for parameter, value in ((-3, 32 << 20), (-1, 2**31 - 1), (-2, 256 << 20)):  # mmap threshold, trim threshold, top pad
            libc.mallopt(parameter, value)


@dataclass(frozen=True)
class _Row:
    ids: Ids
    rating: int
    labels: frozenset[int] | None


def _encoded(tokenizer: Tokenizer, sentences: Sequence[Sentence], settings: PretrainSettings) -> list[_Row]:
    tokenizer.enable_truncation(settings.max_tokens)
    rows: list[_Row] = []
    for start in range(0, len(sentences), 20000):
        part = sentences[start : start + 20000]
        for sentence, encoding in zip(part, tokenizer.encode_batch([normalized(sentence.text) for sentence in part]), strict=True):
            row = _Row(np.array(encoding.ids, dtype=np.int16), sentence.rating, sentence.labels)
            rows += [row] * (settings.labelled_copies if sentence.labels is not None else 1)
    return rows


def _length_batches(lengths: list[int], settings: PretrainSettings) -> Iterator[list[int]]:
    """Endless batches of at most ``batch_tokens``, sentences of like length together, in an order of the seed's."""
    for epoch in range(10**6):
        rng = np.random.default_rng([settings.seed, epoch])
        order = np.argsort(np.array(lengths) + rng.uniform(0, 3, size=len(lengths)), kind="stable")
        batches: list[list[int]] = [[]]
        longest = 0
        for row in order.tolist():
            longest = max(longest, lengths[row])
            if (len(batches[-1]) + 1) * longest > settings.batch_tokens:
                batches.append([])
                longest = lengths[row]
            batches[-1].append(row)
        for number in rng.permutation(len(batches)).tolist():
            yield batches[number]


def _one_step(
    reader: Reader,
    optimizer: torch.optim.Optimizer,
    rows: list[_Row],
    config: BertConfig,
    settings: PretrainSettings,
    step: int,
    device: str,
) -> tuple[int, list[float | None]]:
    """One update of the weights; gives the number of tokens read and the three losses."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    ids, mask = _pad([row.ids for row in rows])
    masked, chosen = _hide_tokens(ids, config.vocab_size, settings.masked, generator)
    positions = _positions(ids.shape, config.max_position_embeddings, settings.shifted, generator)
    with torch.autocast(device, dtype=torch.bfloat16):
        outputs = reader.train()(*(tensor.to(device) for tensor in (masked, mask, positions, chosen)))
    logits, rated, labelled = (output.float() for output in outputs)
    losses = [functional.cross_entropy(logits, ids[chosen].to(device)), _rating_loss(rated, rows), _label_loss(labelled, rows)]
    optimizer.zero_grad(set_to_none=True)
    torch.stack([loss for loss in losses if loss is not None]).sum().backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
    optimizer.step()
    return int(mask.sum()), [None if loss is None else float(loss.detach()) for loss in losses]


def _rating_loss(logits: Tensor, rows: list[_Row]) -> Tensor | None:
    known = [number for number, row in enumerate(rows) if row.rating]
    if not known:
        return None
    return functional.cross_entropy(logits[known], torch.tensor([rows[number].rating - 1 for number in known], device=logits.device))


def _label_loss(logits: Tensor, rows: list[_Row]) -> Tensor | None:
    """Binary cross-entropy summed over the labels, mean over the labelled sentences."""
    known = [(number, row.labels) for number, row in enumerate(rows) if row.labels is not None]
    if not known:
        return None
    wanted = torch.zeros(len(known), GOEMOTIONS_LABELS, device=logits.device)
    for place, (_, labels) in enumerate(known):
        wanted[place, list(labels)] = 1.0
    chosen = logits[[number for number, _ in known]]
    return functional.binary_cross_entropy_with_logits(chosen, wanted, reduction="sum") / len(known)


def _pad(rows: list[Ids]) -> tuple[Tensor, Tensor]:
    ids = torch.full((len(rows), max(map(len, rows))), PAD, dtype=torch.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.from_numpy(row.astype(np.int64))
    return ids, (ids != PAD).to(torch.int64)


def _hide_tokens(ids: Tensor, vocabulary_size: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The ids with a share of the real tokens hidden, and where (B, S) those are; at least one."""
    real = ids > MASK
    chosen = real & (torch.rand(ids.shape, generator=generator) < share)
    if not chosen.any():
        chosen = real if real.any() else ids > PAD
    kind = torch.rand(ids.shape, generator=generator)
    other = torch.randint(MASK + 1, vocabulary_size, ids.shape, generator=generator)
    masked = torch.where(chosen & (kind < 0.8), MASK, ids)
    return torch.where(chosen & (kind >= 0.9), other, masked), chosen


def _positions(shape: torch.Size, most: int, shifted: float, generator: torch.Generator) -> Tensor:
    """Position ids (B, S), in some batches from a drawn start."""
    start = 0
    if torch.rand((), generator=generator) < shifted:
        start = int(torch.randint(0, most - shape[1] + 1, (), generator=generator))
    return torch.arange(start, start + shape[1]).repeat(shape[0], 1)


def _waves(positions: int, width: int) -> Tensor:
    """Sines and cosines (P, W) of Vaswani et al. 2017 at the other embeddings' scale: neighbours are alike from the start."""
    angles = torch.arange(positions)[:, None] / 10000 ** (torch.arange(0, width, 2)[None, :] / width)
    return 0.02 * 2**0.5 * torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(positions, width)


def _trapezoid(done: float, settings: PretrainSettings) -> float:
    return min(1.0, (done + 1e-4) / settings.warmup, max(0.0, 1.0 - done) / settings.decay)


def _save(out: Path, reader: Reader, optimizer: torch.optim.Optimizer, at: Progress, settings: PretrainSettings) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in reader.named_parameters():
        tensors[f"model:{name}"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state.get(parameter, {}).items():  # a head has none before its first target
            tensors[f"{key}:{name}"] = value.cpu().contiguous()
    told = {"progress": json.dumps(asdict(at)), "settings": _identity(settings)}
    write_durably(out / "state.safetensors", save_tensors(tensors, metadata=told))


def _restore(out: Path, reader: Reader, optimizer: torch.optim.Optimizer, settings: PretrainSettings) -> Progress:
    path = out / "state.safetensors"
    if not path.exists():
        return Progress()
    with safe_open(str(path), framework="pt") as stored:
        told = stored.metadata()
        if told["settings"] != _identity(settings):
            raise Refusal(f"'{path}' was begun with other settings ({told['settings']}); repeat those, or name another --out")
        at = Progress(**json.loads(told["progress"]))
        for name, parameter in reader.named_parameters():
            parameter.data.copy_(stored.get_tensor(f"model:{name}"))
            if f"exp_avg:{name}" in stored.keys():  # noqa: SIM118 - not a dict
                kept = {key: stored.get_tensor(f"{key}:{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
                optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in kept.items()}
    return at


def _identity(settings: PretrainSettings) -> str:
    """Everything that a continued run must share; only its length may change."""
    shared = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name != "tokens"}
    return json.dumps(shared | {"text_step": TEXT_STEP})
