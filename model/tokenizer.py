"""One fast tokenizer for each layout of a model folder, always ``[CLS] text [SEP]``, cut at the end, padded by the model.

transformers' ``AutoTokenizer`` gives wrong ids without an error on KoBERT's layout (NFKD without recomposition,
huggingface/tokenizers #2116), so KoBERT's is built straight from its SentencePiece file. Its ids were compared with
those of SKT's own tokenizer, id for id.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Regex, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import Unigram

from model.refusal import Refusal


class Tokenizer:
    """Text to token ids. ``digest`` names the vocabulary and every rule, so that two devices can tell they agree."""

    def __init__(self, fast: FastTokenizer, *, pad_id: int) -> None:
        self._fast = fast
        self._fast.no_padding()
        self._fast.encode_special_tokens = True  # a typed "[SEP]" is text, not the end
        self.pad_id = pad_id
        self.digest = hashlib.sha256(self._rules().encode()).hexdigest()

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._fast.get_vocab_size()

    def encode(self, texts: Sequence[str], *, max_tokens: int) -> list[list[int]]:
        """Ids of each text, ``[CLS]`` and ``[SEP]`` included, at most ``max_tokens`` of them."""
        self._fast.enable_truncation(max_tokens)
        return [encoding.ids for encoding in self._fast.encode_batch(list(texts))]

    def _rules(self) -> str:
        rules = json.loads(self._fast.to_str())
        rules.pop("truncation", None)  # how long an entry may be is a setting of the run, not of the vocabulary
        rules.pop("padding", None)
        return json.dumps(rules, sort_keys=True, ensure_ascii=False)


def load_tokenizer(folder: Path, *, pad_id: int) -> Tokenizer:
    """The tokenizer of a model folder: KoBERT's ``spiece.model``, a ``tokenizer.json``, or BERT's ``vocab.txt``."""
    if (folder / "spiece.model").is_file():
        return Tokenizer(_kobert_tokenizer(folder / "spiece.model"), pad_id=pad_id)
    if (folder / "tokenizer.json").is_file():
        return Tokenizer(_fast_tokenizer(folder / "tokenizer.json"), pad_id=pad_id)
    if (folder / "vocab.txt").is_file():
        from transformers import BertTokenizerFast

        return Tokenizer(BertTokenizerFast.from_pretrained(str(folder)).backend_tokenizer, pad_id=pad_id)
    raise Refusal(f"'{folder}' holds no spiece.model, tokenizer.json or vocab.txt; add the tokenizer's file of that model")


def _fast_tokenizer(path: Path) -> FastTokenizer:
    try:
        fast = FastTokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more particular
        raise Refusal(f"'{path}' is not a tokenizer of the tokenizers library; check that it was copied whole") from error
    if not isinstance(fast.model, Unigram):
        return fast
    # A Unigram vocabulary holds the special tokens as pieces: without a score worse than any other a typed "[SEP]" is one.
    rules = json.loads(fast.to_str())
    special = {token["id"] for token in rules["added_tokens"] if token["special"]}
    for id, piece in enumerate(rules["model"]["vocab"]):
        if id in special:
            piece[1] = -1000.0
    return FastTokenizer.from_str(json.dumps(rules))


def _kobert_tokenizer(path: Path) -> FastTokenizer:
    pieces, charsmap = _read_sentencepiece(path)
    fast = FastTokenizer(Unigram(pieces, unk_id=0, byte_fallback=False))
    fast.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"[\s\x1c-\x1f]+"), " "),
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.Replace(Regex(r"[\p{Mn}\x{302e}\x{302f}&&[^\x{034f}\x{fe00}-\x{fe0f}\x{e0100}-\x{e01ef}]]"), ""),
            normalizers.NFKC(),
            normalizers.Precompiled(charsmap),
            normalizers.Replace(Regex(r" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return fast


def _read_sentencepiece(path: Path) -> tuple[list[tuple[str, float]], bytes]:
    """Pieces with scores, and the compiled character map, of a SentencePiece ``ModelProto`` (no protobuf needed)."""
    pieces: list[tuple[str, float]] = []
    charsmap = b""
    try:
        for number, value in _protobuf_fields(path.read_bytes()):
            if number == 1:
                piece = dict(_protobuf_fields(value))
                pieces.append((piece[1].decode(), struct.unpack("<f", piece.get(2, b"\0\0\0\0"))[0]))
            elif number == 3:
                charsmap = dict(_protobuf_fields(value)).get(2, b"")
    except (IndexError, KeyError, struct.error, UnicodeDecodeError, OverflowError, TypeError):
        raise Refusal(f"'{path}' is not a SentencePiece model; check that it was copied whole") from None
    if [piece for piece, _ in pieces[:5]] != ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]:
        raise Refusal(f"'{path}' does not begin with KoBERT's special tokens; use a tokenizer.json for another layout")
    if not charsmap:  # it stands behind the pieces
        raise Refusal(f"'{path}' ends before its character map; check that it was copied whole")
    return pieces, charsmap


def _protobuf_fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Field numbers and raw values of one protobuf message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint().to_bytes(10, "little")
            continue
        length = {1: 8, 5: 4}.get(key & 7) or varint()
        if at + length > len(message):
            raise IndexError
        yield key >> 3, message[at : at + length]
        at += length
