"""How the compact model is made: for now its vocabulary; its pretrained body is the next step.

The vocabulary is a Unigram model (Kudo 2018) in KoBERT's id layout, so that everything downstream may rely on one
layout: ``[UNK]`` 0, ``[PAD]`` 1, ``[CLS]`` 2, ``[SEP]`` 3, ``[MASK]`` 4. The text is brought to NFC and no further:
NFKC would tear the compatibility letters of ㅋㅋ and ㅠㅠ, the commonest marks of mood, into other characters.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import Unigram

SPECIAL_TOKENS = ("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]")


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
