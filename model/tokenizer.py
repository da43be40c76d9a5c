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

from model.normalization import marks
from model.refusal import Refusal

UNKNOWN = {"[UNK]", "<unk>"}
"""The piece of what a vocabulary cannot write, in BERT's and in RoBERTa's words."""


class Tokenizer:
    """Text to token ids. ``digest`` names the vocabulary and every rule, so that two devices can tell they agree."""

    def __init__(self, fast: FastTokenizer, *, pad_id: int) -> None:
        self._fast = fast
        self._fast.no_padding()
        self._fast.encode_special_tokens = True  # a typed "[SEP]" is text, not the end
        self.pad_id = pad_id
        self.digest = hashlib.sha256(self._rules().encode()).hexdigest()
        self.marks = self._marks()

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._fast.get_vocab_size()

    def pieces(self) -> list[str]:
        """What every id stands for, in the order of the ids; SentencePiece's ``▁`` begins a word."""
        return [str(self._fast.id_to_token(id)) for id in range(self.vocabulary_size)]

    def encode(self, texts: Sequence[str], *, max_tokens: int) -> list[list[int]]:
        """Ids of each text, ``[CLS]`` and ``[SEP]`` included, at most ``max_tokens`` of them."""
        return [first for first, *_ in self.windows(texts, max_tokens=max_tokens)]

    def windows(self, texts: Sequence[str], *, max_tokens: int) -> list[list[list[int]]]:
        """All ids of each text, cut into windows: the first is what :meth:`encode` gives, the others go on where the one before ends."""
        self._fast.enable_truncation(max_tokens)
        encodings = self._fast.encode_batch(list(texts))
        return [[part.ids for part in (encoding, *encoding.overflowing)] for encoding in encodings]

    def _marks(self) -> frozenset[str]:
        """The marks of mood that the vocabulary can write; any other is spelled out before it comes here."""
        every, unknown = marks(), {self._fast.token_to_id(piece) for piece in UNKNOWN}
        encodings = self._fast.encode_batch(every, add_special_tokens=False)
        return frozenset(mark for mark, found in zip(every, encodings, strict=True) if found.ids and not unknown & set(found.ids))

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
        return Tokenizer(_wordpiece_tokenizer(folder), pad_id=pad_id)
    raise Refusal(f"'{folder}' holds no spiece.model, tokenizer.json or vocab.txt; add the tokenizer's file of that model")


def _fast_tokenizer(path: Path) -> FastTokenizer:
    try:
        fast = FastTokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more particular
        raise Refusal(f"'{path}' is not a tokenizer of the tokenizers library; check that it was copied whole") from error
    fast.no_padding()
    if len(fast.encode("").ids) != 2:
        raise Refusal(f"'{path}' does not put [CLS] before a text and [SEP] behind it; take the file of a BERT model")
    if not isinstance(fast.model, Unigram):
        return fast
    rules = json.loads(fast.to_str())
    special = {token["id"] for token in rules["added_tokens"] if token["special"]}
    for id, piece in enumerate(rules["model"]["vocab"]):
        if id in special:
            piece[1] = NEVER_TYPED
    return FastTokenizer.from_str(json.dumps(rules))


NEVER_TYPED = -1000.0
"""Score of the special tokens, which a Unigram vocabulary holds as pieces: any other pieces spell a typed "[SEP]" better."""


def _wordpiece_tokenizer(folder: Path) -> FastTokenizer:
    from transformers import BertTokenizerFast

    try:
        words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        # Without its config transformers lowers every letter and tears Hangul apart, whatever the vocabulary.
        cased = not (folder / "tokenizer_config.json").is_file() and any(word != word.lower() for word in words if word[:1] != "[")
        options = {"do_lower_case": False} if cased else {}
        fast: FastTokenizer = BertTokenizerFast.from_pretrained(str(folder), **options).backend_tokenizer
    except Exception as error:  # transformers' checks have no class in common
        raise Refusal(f"'{folder / 'vocab.txt'}' or the tokenizer_config.json beside it cannot be read ({type(error).__name__})") from None
    if any(word.startswith("▁") for word in words) and not any(word.startswith("##") for word in words):
        raise Refusal(f"'{folder / 'vocab.txt'}' lists SentencePiece's pieces, not words; put the model's spiece.model beside it")
    return fast


def _kobert_tokenizer(path: Path) -> FastTokenizer:
    """SKT's KoBERTTokenizer, which is transformers' slow XLNetTokenizer, as one fast tokenizer.

    Two things differ. A typed "[SEP]" is text. And where two ways to cut a text score the same, as three dots do, theirs
    follows the rounding of 32-bit sums: 0.2 % of KOTE's and NSMC's rows have the same pieces in another order.
    """
    pieces, charsmap = _read_sentencepiece(path)
    scored = [(piece, NEVER_TYPED if id < SPECIAL else score) for id, (piece, score) in enumerate(pieces)]
    fast = FastTokenizer(Unigram(scored, unk_id=0, byte_fallback=False))
    fast.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"[\s\x1c-\x1f]+"), " "),  # what Python's str.split() takes for white space
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.Replace(Regex(ACCENTS), ""),
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


ACCENTS = r"[\p{Mn}\x{302e}\x{302f}&&[^\x{034f}\x{fe00}-\x{fe0f}\x{e0100}-\x{e01ef}]]"
"""Characters of a combining class, as Python's :func:`unicodedata.combining` says, but for the vowel signs of Indic scripts,
of which KoBERT knows none. :class:`StripAccents` would also take the signs that make a heart red or a digit a key."""

SPECIAL = 5
"""KoBERT's special tokens are its first pieces."""


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
