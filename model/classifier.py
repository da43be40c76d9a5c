"""EmotionClassifier: one interface over BERT-like bodies and an LSTM body.

A classifier is a chain of named blocks: embeddings, layers, pool, head. Each takes and gives ``(x, mask)``, so the
chain can be cut anywhere: what stands before the cut is the frozen trunk, whose output for an entry never changes and
may be kept; what stands after it is trained. ``tuning`` chooses the cut.

KoBERT's traps, handled here: the pad id is read from the config (1, not 0), padding is on the right, the pooler is
used, and position ids are passed whole, (B, S), because Opacus cannot tell examples apart in a (1, S) tensor.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraModel,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from model.emotions import EMOTIONS, KINDS
from model.examples import Batch
from model.hub import PICKLE, SAFETENSORS, WAY_OUT, read_tensors
from model.lexical import LEXICAL_VERSION, Lexical
from model.normalization import normalized, spell_marks
from model.processor import has_any
from model.refusal import Refusal
from model.scores import Scores
from model.tokenizer import Tokenizer, load_tokenizer
from model.weights import Weights

SCRATCH_SEED = 20
"""Seed of what has no pretrained weights (an LSTM, a missing pooler): every device draws the same, and the base digest proves it."""


@dataclass(frozen=True)
class Family:
    """A family of bodies: its classes in transformers, and whether positions are counted from behind the pad id, as RoBERTa does."""

    config: type[PretrainedConfig]
    body: type[PreTrainedModel]
    behind_padding: bool = False

    def first_position(self, config: PretrainedConfig) -> int:
        """The position of a text's first token."""
        return int(config.pad_token_id) + 1 if self.behind_padding else 0


FAMILIES: dict[str, Family] = {
    "bert": Family(BertConfig, BertModel),
    "electra": Family(ElectraConfig, ElectraModel),
    "roberta": Family(RobertaConfig, RobertaModel, behind_padding=True),
    "xlm-roberta": Family(XLMRobertaConfig, XLMRobertaModel, behind_padding=True),
}
"""The families by ``model_type`` in config.json: KoBERT and mBERT; KcELECTRA and KoELECTRA; KLUE-RoBERTa; XLM-RoBERTa."""


@dataclass(frozen=True)
class ModelRow:
    """How one named model is built: where its folder is found, and which body is put on its tokenizer."""

    source: str
    body: str = "bert"


MODELS: dict[str, ModelRow] = {
    "compact": ModelRow("compact"),
    "lstm": ModelRow("compact", body="lstm"),
    "kobert": ModelRow("skt/kobert-base-v1"),
    "mbert": ModelRow("bert-base-multilingual-cased"),
}
"""The models by name; any other name is a folder or a hub id of one of the :data:`FAMILIES`."""


class EmotionClassifier(nn.Module):
    """Reads one of four emotions from token ids.

    ``blocks`` are chained in order; the first ``cut`` are frozen and run without dropout. ``base_digest`` names the body's weights
    and ``function`` whatever else decides what it computes; ``pretrained`` is said of the body, ``pooled`` of the pooler. Raises
    nothing of its own.
    """

    def __init__(
        self,
        blocks: dict[str, nn.Module],
        tokenizer: Tokenizer,
        *,
        base_digest: str,
        function: str,
        positions: int,
        pretrained: bool = True,
        pooled: bool = True,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(blocks)
        self.tokenizer = tokenizer
        self.base_digest = base_digest
        self.function = function
        self.cut = 0
        self.positions = positions
        self.pretrained = pretrained
        self.pooled = pooled
        self.halved: dict[int, Chain] = {}
        """The frozen trunk up to each cut that was used, in bfloat16; never trained, stored or sent."""
        head = blocks.get("head")
        self.width = head.width if isinstance(head, Head) else 0

    def upper(self) -> nn.Module:
        """The trained blocks as one module, ``(x, mask) -> logits (B, 4)``; parameters keep their names."""
        return Chain(dict(list(self.blocks.items())[self.cut :]))

    def encode(self, texts: Sequence[str], *, max_tokens: int) -> list[Tensor]:
        """Token ids of each text after the text step, (S,) int64."""
        return [first for first, *_ in self.encode_windows(texts, max_tokens=max_tokens)]

    def encode_windows(self, texts: Sequence[str], *, max_tokens: int) -> list[list[Tensor]]:
        """The same of all of each text, in windows of at most ``max_tokens``."""
        prepared = [spell_marks(normalized(text), self.tokenizer.marks) for text in texts]
        windows = self.tokenizer.windows(prepared, max_tokens=max_tokens)
        return [[torch.tensor(ids) for ids in of_text] for of_text in windows]

    @torch.no_grad()
    def lower(self, entries: Sequence[Tensor], *, batch_size: int = 16) -> list[Tensor]:
        """The frozen trunk's output for each entry of token ids: (S, H), (1, H) past the pool, or the ids if nothing is frozen.

        Entries are run in order of length, so that little is spent on padding. Where the processor multiplies in bfloat16, the matrices of
        a wide trunk do (:func:`multiplies_halves`); what comes out is float32.
        """
        if self.cut == 0:
            return list(entries)
        layers = any(isinstance(block, Layer) for block in list(self.blocks.values())[: self.cut])
        halved = layers and self.width >= HALVED_FROM and multiplies_halves()
        trunk = self._halved_trunk() if halved else Chain(dict(list(self.blocks.items())[: self.cut])).eval()
        order = sorted(range(len(entries)), key=lambda row: len(entries[row]))
        outputs: list[Tensor] = [torch.empty(0)] * len(entries)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            x, mask = self.pad([entries[row] for row in rows])
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=halved):
                x, mask = trunk.chain(x, mask)
            for position, row in enumerate(rows):
                outputs[row] = x[position, : int(mask[position].sum())].clone()
        return outputs

    def _halved_trunk(self) -> Chain:
        """The trunk with the matrices of its layers in bfloat16, copied once: to copy them at every entry takes longer than to use them."""
        if self.cut not in self.halved:
            blocks = dict(list(self.blocks.items())[: self.cut])
            self.halved[self.cut] = Chain({name: _halved(block) if isinstance(block, Layer) else block for name, block in blocks.items()})
        return self.halved[self.cut].eval()

    def pad(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Right-padded rows (B, S) or (B, S, H) and their mask (B, S)."""
        padding = self.tokenizer.pad_id if rows[0].dim() == 1 else 0.0
        x = nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=padding)
        lengths = torch.tensor([len(row) for row in rows])
        return x, (torch.arange(x.shape[1]) < lengths[:, None]).to(torch.int64)

    def batch(self, rows: Sequence[Tensor], labels: Tensor) -> Batch:
        """Rows of :meth:`lower` and their labels (B,) as one batch."""
        x, mask = self.pad(rows)
        return Batch(x, mask, labels)

    @torch.no_grad()
    def probabilities(self, texts: Sequence[str], *, max_tokens: int, batch_size: int = 64) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Probabilities (N, 4) of the four emotions, in the order of their ids."""
        return self.probabilities_of(self.lower(self.encode(texts, max_tokens=max_tokens)), batch_size=batch_size)

    def probabilities_of(self, rows: Sequence[Tensor], *, batch_size: int = 64) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The same, for rows that have passed the trunk already."""
        return self.readings_of(rows, batch_size=batch_size)[:, : len(EMOTIONS)]

    @torch.no_grad()
    def readings_of(self, rows: Sequence[Tensor], *, batch_size: int = 64) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Probabilities of the four emotions and of one, no and several feelings, (N, 4 + 3), for rows that have passed the trunk.

        A body that was not taught kinds says 1, 0, 0.
        """
        head = self.blocks["head"].eval()
        below = Chain(dict(list(self.blocks.items())[self.cut : -1])).eval()
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        result = np.zeros((len(rows), len(EMOTIONS) + len(KINDS)), dtype=np.float32)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            x, mask = below.chain(*self.pad([rows[row] for row in chosen]))
            result[chosen, : len(EMOTIONS)] = torch.softmax(head(x, mask)[0], dim=-1).numpy()
            result[chosen, len(EMOTIONS) :] = torch.softmax(x[:, 0, -len(KINDS) :], dim=-1).numpy() if "kinds" in self.blocks else (1, 0, 0)
        return result

    def score(self, rows: Sequence[Tensor], labels: Tensor) -> Scores:
        """Scores of rows that have passed the trunk, against labels (N,)."""
        return Scores.count(self.probabilities_of(rows), labels.numpy())

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained and travel, by name."""
        return {name: parameter for name, parameter in self.blocks.named_parameters() if parameter.requires_grad}

    def read(self) -> Weights:
        """A copy of the trainable parameters."""
        return Weights({name: parameter.detach().numpy().astype(np.float32, copy=True) for name, parameter in self.trainable().items()})

    @torch.no_grad()
    def write(self, weights: Weights) -> None:
        """Set the trainable parameters; :class:`Refusal` if names or shapes differ."""
        parameters = self.trainable()
        weights.require_shapes({name: tuple(parameter.shape) for name, parameter in parameters.items()})
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.array(weights[name])))  # a copy: the array may be read-only


HALVED_FROM = 256
"""Width of a body from which products in bfloat16 pay."""


@lru_cache(maxsize=1)
def multiplies_halves() -> bool:
    """Whether this processor multiplies matrices in bfloat16 by itself; elsewhere it would be slower than float32."""
    return has_any("avx512_bf16", "amx_bf16")


def _halved(layer: Layer) -> Layer:
    """A copy of a layer whose matrices are in bfloat16; norms stay in float32."""
    copied = copy.deepcopy(layer)
    for part in copied.modules():
        if isinstance(part, nn.Linear):
            part.to(torch.bfloat16)
    return copied


class Chain(nn.Module):
    """Some consecutive blocks under their own names; called, it gives the last block's tensor alone."""

    def __init__(self, blocks: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, block in blocks.items():
            self.add_module(name, block)

    def chain(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run the blocks; give what the next block would take."""
        for block in self.children():
            x, mask = block(x, mask)
        return x, mask

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.chain(x, mask)[0]


class Embeddings(nn.Module):
    """Token ids (B, S) to hidden states (B, S, H), with position and token-type ids passed whole.

    ELECTRA's embeddings may be narrower than its layers: ``project`` widens them. Where a later block reads the ids, they go along as one
    more channel, (B, S, H + 1); float32 holds them exactly.
    """

    def __init__(self, body: PreTrainedModel, *, first_position: int, ids_go_along: bool) -> None:
        super().__init__()
        self.table = body.embeddings
        self.project = getattr(body, "embeddings_project", None)
        self.first_position = first_position
        self.ids_go_along = ids_go_along

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        positions = (torch.arange(ids.shape[1]) + self.first_position).repeat(ids.shape[0], 1)
        states = self.table(input_ids=ids, position_ids=positions, token_type_ids=torch.zeros_like(ids))
        if self.project is not None:
            states = self.project(states)
        return torch.cat([states, ids[:, :, None].to(states.dtype)], dim=2) if self.ids_go_along else states, mask


class Layer(nn.Module):
    """One transformer layer; padding is masked out of attention. What lies beyond the body's width passes by."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.bert: Any = layer
        self.width = width

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        blocked = torch.zeros(mask.shape, dtype=x.dtype).masked_fill(mask == 0, torch.finfo(x.dtype).min)
        own = x[:, :, : self.width].contiguous()  # of a strided input torch's linear takes another path, slower and rounded otherwise
        states = self.bert(own, blocked[:, None, None, :].expand(-1, 1, x.shape[1], -1))
        return states if x.shape[2] == self.width else torch.cat([states, x[:, :, self.width :]], dim=2), mask


class Pool(nn.Module):
    """States (B, S, H) to one per entry (B, 1, H): the [CLS] state, or the mean over real tokens.

    With ``lexical`` the last channel is the tokens' ids, and its features stand behind the state: (B, 1, H + P).
    """

    def __init__(self, pooling: str, lexical: Lexical | None = None) -> None:
        super().__init__()
        self.pooling = pooling
        self.lexical = lexical

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        states = x if self.lexical is None else x[:, :, :-1]
        states = states.to(torch.promote_types(states.dtype, torch.float32))  # a mean in bfloat16 would round away what tells texts apart
        if self.pooling == "mean":
            pooled = (states * mask[:, :, None]).sum(dim=1, keepdim=True) / mask.sum(dim=1).clamp(min=1)[:, None, None]
        else:
            pooled = states[:, :1]
        if self.lexical is not None:
            words = self.lexical(x[:, :, -1].detach().to(torch.int64), mask)
            pooled = torch.cat([pooled, words[:, None]], dim=2)
        return pooled, torch.ones(pooled.shape[:2], dtype=torch.int64)


class Kinds(nn.Module):
    """How many feelings are told, which no person's correction changes: (B, 1, H + P) to (B, 1, H + P + 3).

    The three numbers behind the features are the logits of one feeling, none, and several. They are read from the pooled state, through
    a pooler of this block's own, and from the features of the words; all of it frozen, learned with the body.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.width = width
        for name, shape in (
            ("pooler", (width, width)),
            ("shift", (width,)),
            ("weight", (len(KINDS), width + features)),
            ("bias", (len(KINDS),)),
        ):
            self.register_buffer(name, torch.zeros(shape))
        self.pooler: Tensor
        self.shift: Tensor
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            state = torch.tanh(nn.functional.linear(x[:, :, : self.width], self.pooler, self.shift))
            kinds = nn.functional.linear(torch.cat([state, x[:, :, self.width :]], dim=2), self.weight, self.bias)
        return torch.cat([x, kinds], dim=2), mask


class Head(nn.Module):
    """Pooler (dense + tanh), dropout, linear; plus a linear reading of the words' features: (B, 1, H + P + ...) to logits (B, 4).

    What lies beyond the features is not read.
    """

    def __init__(self, width: int, dropout: float, pooler: nn.Linear | None = None, *, features: int = 0) -> None:
        super().__init__()
        self.width, self.inputs = width, width + features
        self.pooler = pooler if pooler is not None else _drawn(nn.Linear(width, width), 1.0 / width**0.5)
        self.dropout = nn.Dropout(dropout)
        self.classifier = _drawn(nn.Linear(width, len(EMOTIONS)), 0.02)
        self.words = nn.Linear(features, len(EMOTIONS), bias=False) if features else None
        if self.words is not None:
            nn.init.zeros_(self.words.weight)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classifier(self.dropout(torch.tanh(self.pooler(x[:, 0, : self.width]))))
        return logits if self.words is None else logits + self.words(x[:, 0, self.width : self.inputs]), mask


class WordEmbeddings(nn.Module):
    """Token ids (B, S) to vectors (B, S, E) for the LSTM."""

    def __init__(self, vocabulary_size: int, width: int, pad_id: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary_size, width, padding_idx=pad_id)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.table(ids), mask


class Recurrent(nn.Module):
    """Two bidirectional LSTM layers over (B, S, E); padding is packed away, so that it changes nothing."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, width, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        lengths = mask.sum(dim=1)
        in_order = bool((lengths[:-1] >= lengths[1:]).all())  # then packing must not permute, see privacy.example_level
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=in_order)
        states, _ = self.lstm(packed)
        return nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])[0], mask


def build_classifier(name: str, folder: Path, *, dropout: float, seed: int) -> EmotionClassifier:
    """Build the classifier ``name`` from ``folder`` with a head drawn from ``seed``; all parameters train (see ``tuning``).

    Raises :class:`Refusal` if the folder lacks a file or is of no known family.
    """
    row = MODELS.get(name, ModelRow(name))
    config = _body_config(folder)
    tokenizer = load_tokenizer(folder, pad_id=config.pad_token_id)
    if tokenizer.vocabulary_size > config.vocab_size:
        sizes = f"the tokenizer in '{folder}' has {tokenizer.vocabulary_size} ids and the body has {config.vocab_size} rows"
        raise Refusal(f"{sizes}; take both from the same model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SCRATCH_SEED)
        if row.body == "lstm":
            blocks, pooled = _lstm_blocks(config), False
        else:
            body = _body(config, folder, dropout)
            blocks = _body_blocks(body, folder, tokenizer)
            pooled = _load(body, blocks, folder)
        function = _function(config, row)
        base_digest = _digest(nn.ModuleDict(blocks).state_dict(), function)
        torch.manual_seed(seed)
        pooler = blocks.pop("pooler", None)
        width, features = (2 * LSTM_WIDTH, 0) if row.body == "lstm" else (config.hidden_size, _features(config, folder))
        blocks["head"] = Head(width, dropout, pooler if isinstance(pooler, nn.Linear) else None, features=features)
    return EmotionClassifier(
        blocks,
        tokenizer,
        base_digest=base_digest,
        function=function,
        positions=_positions(config),
        pretrained=row.body != "lstm",
        pooled=pooled,
    )


def outline_classifier(name: str, folder: Path) -> EmotionClassifier:
    """The classifier ``name`` for whoever brings its weights in another form: those of the body lie on torch's meta device.

    Names, shapes, tokenizer, pool and ``function`` are those of :func:`build_classifier`; the head's weights mean nothing and the
    base digest is empty, since neither was read. Raises :class:`Refusal` as that does, and for a body without attention layers.
    """
    row = MODELS.get(name, ModelRow(name))
    if row.body != "bert":
        raise Refusal(f"'{name}' has no attention layers, and this takes models with them alone; use --engine torch")
    config = _body_config(folder)
    tokenizer = load_tokenizer(folder, pad_id=config.pad_token_id)
    with torch.device("meta"):
        blocks = _body_blocks(_body(config, folder, 0.0), folder, tokenizer)
    blocks.pop("pooler", None)
    with torch.random.fork_rng(devices=[]):
        blocks["head"] = Head(config.hidden_size, 0.0, features=_features(config, folder))
    return EmotionClassifier(blocks, tokenizer, base_digest="", function=_function(config, row), positions=_positions(config))


def source_of(name: str) -> str:
    """Where the model ``name`` comes from: a bundled folder, a path or a hub id."""
    return MODELS[name].source if name in MODELS else name


def _body_config(folder: Path) -> PretrainedConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise Refusal(f"'{folder}' has no config.json; put the model's there, {WAY_OUT}")
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise Refusal(f"'{path}' is not a JSON object; check that it was copied whole")
    family = FAMILIES.get(str(values.get("model_type")))
    if family is None:
        raise Refusal(f"'{folder}' is a model of type '{values.get('model_type')}'; choose one of {', '.join(FAMILIES)}, {WAY_OUT}")
    try:
        config = family.config.from_dict(values)
        rows = range(config.vocab_size)
    except Exception as error:  # transformers' checks have no class in common
        raise Refusal(f"'{path}' does not describe a BERT body ({type(error).__name__}); take the one of the weights") from None
    if config.pad_token_id not in rows:
        raise Refusal(f"pad_token_id in '{path}' is {config.pad_token_id}; it must be one of the body's {config.vocab_size} ids")
    return config


def _family(config: PretrainedConfig) -> Family:
    return FAMILIES[config.model_type]


def _positions(config: PretrainedConfig) -> int:
    """How many tokens a text may have."""
    return int(config.max_position_embeddings) - _family(config).first_position(config)


def _body(config: PretrainedConfig, folder: Path, dropout: float) -> PreTrainedModel:
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = min(dropout, config.hidden_dropout_prob)
    config._attn_implementation = "sdpa"
    try:
        return _family(config).body(config)
    except (ValueError, KeyError, RuntimeError) as error:
        raise Refusal(f"the config.json in '{folder}' describes no body that can be built ({type(error).__name__})") from None


def _load(body: PreTrainedModel, blocks: dict[str, nn.Module], folder: Path) -> bool:
    """Put the folder's weights into ``body``, and into what else of ``blocks`` reads frozen numbers; whether they bring a pooler."""
    weights = next((folder / name for name in (SAFETENSORS, PICKLE) if (folder / name).is_file()), None)
    if weights is None:
        raise Refusal(f"'{folder}' has no {SAFETENSORS} or {PICKLE}; put the weights there, {WAY_OUT}")
    tensors = read_tensors(weights)
    for prefix, module in (("lexical.", blocks["pool"].lexical), ("kinds.", blocks.get("kinds"))):
        if isinstance(module, nn.Module):
            _load_frozen(
                module, {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}, folder
            )
    return _load_body(body, tensors, folder)


def _load_frozen(module: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    own = module.state_dict()
    if {name: tensor.shape for name, tensor in tensors.items()} != {name: tensor.shape for name, tensor in own.items()}:
        what = type(module).__name__.lower()
        raise Refusal(f"the weights in '{folder}' lack or misshape the part '{what}' that its config.json names; take both from one model")
    module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})


def _body_blocks(body: PreTrainedModel, folder: Path, tokenizer: Tokenizer) -> dict[str, nn.Module]:
    config = body.config
    features = _features(config, folder)
    lexical = Lexical(tokenizer, config.lexical_buckets, features) if features else None
    blocks: dict[str, nn.Module] = {
        "embeddings": Embeddings(body, first_position=_family(config).first_position(config), ids_go_along=lexical is not None)
    }
    blocks |= {f"layer{number}": Layer(layer, config.hidden_size) for number, layer in enumerate(body.encoder.layer)}
    blocks["pool"] = Pool(_pooling(config, folder), lexical)
    if getattr(config, "kinds", False) is True:
        blocks["kinds"] = Kinds(config.hidden_size, features)
    if (pooler := getattr(body, "pooler", None)) is not None:
        blocks["pooler"] = pooler.dense  # ELECTRA has none
    return blocks


LSTM_WIDTH = 128


def _lstm_blocks(config: BertConfig) -> dict[str, nn.Module]:
    return {
        "embeddings": WordEmbeddings(config.vocab_size, LSTM_WIDTH, config.pad_token_id),
        "lstm": Recurrent(LSTM_WIDTH, LSTM_WIDTH),
        "pool": Pool("mean"),
    }


def _load_body(body: PreTrainedModel, state: dict[str, Tensor], folder: Path) -> bool:
    """Load a body's weights whatever head they carry; refuse a file that lacks a part of the body, or holds more of one.

    A body saved without a pooler, as masked language models are, keeps the one drawn from the scratch seed: then false.
    """
    named = {_present_name(key): value.float() for key, value in state.items()}
    own = body.state_dict()
    brings_pooler = any(key.startswith("pooler.") for key in named) and "pooler.dense.weight" in own
    optional = () if brings_pooler else ("pooler.dense.weight", "pooler.dense.bias")
    missing = [key for key in own if key not in named and key not in (*optional, *COUNTED)]
    wrong = [key for key in own if key in named and key not in COUNTED and own[key].shape != named[key].shape]
    if missing or wrong:
        raise Refusal(f"the weights in '{folder}' lack or misshape '{min(missing + wrong)}'; they do not belong to its config.json")
    more = [key for key in named if key.startswith(("embeddings.", "encoder.")) and key not in own and key not in COUNTED]
    if more:
        raise Refusal(f"the weights in '{folder}' hold '{min(more)}' and its config.json has no such part; take both from one model")
    broken = [key for key in own if key in named and not torch.isfinite(named[key]).all()]
    if broken:
        raise Refusal(f"the weights in '{folder}' hold a number in '{min(broken)}' that is not finite; take the model's file again")
    body.load_state_dict(own | {key: named[key] for key in own if key in named and key not in COUNTED})
    return brings_pooler


COUNTED = ("embeddings.position_ids", "embeddings.token_type_ids")
"""What older files store beside the weights: 0, 1, 2, ... and zeros."""

WRAPPERS = ("module.", "_orig_mod.", "model.", *(f"{family.replace('xlm-', '')}." for family in FAMILIES))
"""What stands before a body's names: of DataParallel, of torch.compile, of a trainer, and of the model that holds the body."""


def _present_name(key: str) -> str:
    """The body's own name of a stored tensor. Files converted from TensorFlow, as bert-base-uncased's, say gamma and beta."""
    while wrapper := next((wrapper for wrapper in WRAPPERS if key.startswith(wrapper)), ""):
        key = key.removeprefix(wrapper)
    return key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _drawn(linear: nn.Linear, spread: float) -> nn.Linear:
    nn.init.normal_(linear.weight, std=spread)
    nn.init.zeros_(linear.bias)
    return linear


def _pooling(config: PretrainedConfig, folder: Path) -> str:
    """``pooling`` in config.json, which transformers does not know: ``cls`` if it says nothing."""
    pooling = getattr(config, "pooling", "cls")
    if pooling not in ("cls", "mean"):
        raise Refusal(f"pooling in '{folder / 'config.json'}' is '{str(pooling)[:20]}'; it must be cls or mean")
    return str(pooling)


MOST_BUCKETS, MOST_FEATURES = 2**20, 1024


def _features(config: PretrainedConfig, folder: Path) -> int:
    """``lexical_features`` in config.json, of our own too: how many numbers the words' n-grams are projected to; 0 without them.

    ``lexical_buckets`` beside it says how many places hashed n-grams have.
    """
    features, buckets = getattr(config, "lexical_features", 0), getattr(config, "lexical_buckets", 0)
    for name, value, most in (("lexical_features", features, MOST_FEATURES), ("lexical_buckets", buckets, MOST_BUCKETS)):
        if type(value) is not int or not 0 <= value <= most:
            raise Refusal(f"{name} in '{folder / 'config.json'}' is {str(value)[:20]}; it must be from 0 to {most}")
    if bool(features) != bool(buckets):
        raise Refusal(
            f"'{folder / 'config.json'}' names {buckets} lexical_buckets and {features} lexical_features; name both, or neither "
            "(a model of the version before projected nothing: take the one that comes with this program)"
        )
    return features


def _function(config: PretrainedConfig, row: ModelRow) -> str:
    """What else than its weights decides what a body computes."""
    if row.body == "lstm":
        return "lstm"
    lexical = f":{LEXICAL_VERSION}:{config.lexical_buckets}" if getattr(config, "lexical_features", 0) else ""
    first = _family(config).first_position(config)
    counted = f":positions from {first}" if first else ""
    return f"{getattr(config, 'pooling', 'cls')}:{config.num_attention_heads}:{config.hidden_act}:{config.layer_norm_eps}{lexical}{counted}"


def _digest(tensors: dict[str, Tensor], function: str) -> str:
    digest = hashlib.sha256(function.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()
