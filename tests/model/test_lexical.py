"""Hashed n-grams equal a slow obvious count, do not see padding or company, and keep the angles between exact counts."""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.classifier import EmotionClassifier, build_classifier
from model.emotions import EMOTIONS
from model.examples import bundled_diaries
from model.lexical import LENGTH, Lexical
from model.normalization import normalized
from model.refusal import Refusal
from model.settings import RunSettings
from model.tokenizer import Tokenizer, load_tokenizer
from model.tuning import tuned_classifier

COMPACT = Path(__file__).parents[2] / "model/assets/compact"
WORD = (1 << 64) - 1


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    return load_tokenizer(COMPACT, pad_id=1)


@lru_cache(maxsize=4)
def lexical(buckets: int) -> Lexical:
    return Lexical(tokenizer(), buckets)


def padded(rows: list[list[int]], *, more: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows)) + more
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def vectors(texts: list[str], *, buckets: int = 512, more: int = 0) -> np.ndarray:
    rows = tokenizer().encode([normalized(text) for text in texts], max_tokens=128)
    return np.asarray(lexical(buckets)(*padded(rows, more=more)))


def ngrams(text: str) -> Counter[str]:
    """Of every word with its edges, all n-grams of one to three characters but the edge alone."""
    words = [f" {word} " for word in text.split()]
    grams = (word[at : at + n] for word in words for n in (1, 2, 3) for at in range(len(word) - n + 1))
    return Counter(gram for gram in grams if gram.strip())


def mixed(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def slowly(text: str, buckets: int) -> list[float]:
    places = [0] * buckets
    for gram, count in ngrams(text).items():
        place, sign = place_of(gram, buckets)
        places[place] += sign * count
    damped = [math.copysign(math.log1p(abs(value)), value) for value in places]
    norm = math.sqrt(sum(value * value for value in damped)) or 1.0
    return [LENGTH * value / norm for value in damped]


def place_of(gram: str, buckets: int) -> tuple[int, int]:
    """Where an n-gram is counted, and with which sign."""
    hash = len(gram)
    for character in gram:
        hash = mixed(((hash * 0x9E3779B97F4A7C15) & WORD) ^ ord(character))
    return hash % buckets, 1 if hash >> 63 else -1


def spelled(text: str) -> str:
    """What the vocabulary can spell of a text; the rest is the one unknown character."""
    pieces = [tokenizer().pieces()[id] for id in tokenizer().encode([normalized(text)], max_tokens=128)[0][1:-1]]
    return "".join("\x01" if piece == "[UNK]" else piece for piece in pieces).replace("▁", " ")


@pytest.mark.parametrize(
    "text", ["오늘은 정말 행복한 하루였다", "ㅠㅠ 왜 나만… 아니 진짜??", "I felt OK", "나", "가나다라마바사 가나다 가나", "㐀㐁 뷁"]
)
def test_a_vector_is_what_a_slow_loop_over_the_words_counts(text: str) -> None:
    assert vectors([text])[0] == pytest.approx(slowly(spelled(text), 512), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="가나다라 마바.ㅋ!abc", min_size=0, max_size=20), min_size=1, max_size=4))
def test_neither_padding_nor_company_changes_a_vector(texts: list[str]) -> None:
    together = vectors(texts, more=3)
    for text, vector in zip(texts, together, strict=True):
        assert np.array_equal(vectors([text])[0], vector)
        assert vector == pytest.approx(slowly(spelled(text), 512), abs=1e-6)


def test_an_entry_without_characters_is_zero_and_every_other_has_one_length() -> None:
    empty, some = vectors(["", "슬프다"])
    assert not empty.any()
    assert np.linalg.norm(some) == pytest.approx(LENGTH, rel=1e-6)


def test_hashing_keeps_the_angles_between_the_exact_counts() -> None:
    """Weinberger et al. 2009: the hashed product is unbiased with a variance of order 1 / buckets."""
    texts = [normalized(example.text) for example in bundled_diaries()[1].examples[:60]]
    counts = [ngrams(spelled(text)) for text in texts]
    names = sorted(set().union(*counts))
    exact = np.array([[math.log1p(count[name]) for name in names] for count in counts])
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    hashed = vectors(texts, buckets=8192) / LENGTH
    difference = (hashed @ hashed.T - exact @ exact.T)[np.triu_indices(len(texts), k=1)]
    assert abs(difference.mean()) < 0.005
    assert difference.std() < 2 / math.sqrt(8192)


def test_the_places_of_a_piece_are_those_of_the_n_grams_inside_it() -> None:
    pieces, places = tokenizer().pieces(), lexical(8192).places_of_pieces()
    assert [len(places[id]) for id in range(5)] == [1, 0, 0, 0, 0]  # the unknown character is one
    for id in range(5, len(pieces), 97):
        word = pieces[id].replace("▁", " ")
        inside = [word[at : at + n] for n in (1, 2, 3) for at in range(len(word) - n + 1)]
        assert sorted(places[id]) == sorted(place_of(gram, 8192)[0] for gram in inside if gram.strip() and " " not in gram[1:-1])


@pytest.mark.parametrize("tuning", ["head", "top1", "top4", "lora", "full"])
def test_wherever_the_chain_is_cut_the_words_reach_the_head(tuning: str) -> None:
    texts = ["비가 와서 우울했다", "상을 받았다! 야호", "그 말에 화가 치밀었다 진짜로", "내일이 두렵다"]
    chances = []
    for chosen in ("full", tuning):
        classifier = tuned_classifier(RunSettings(tuning=chosen))
        with torch.no_grad():
            classifier.blocks["head"].words.weight.copy_(torch.randn(4, 8192, generator=torch.Generator().manual_seed(3)))
        chances.append(classifier.probabilities(texts, max_tokens=64))
    assert chances[1] == pytest.approx(chances[0], abs=1e-5)


def test_the_head_adds_a_linear_reading_of_the_words() -> None:
    classifier = tuned_classifier(RunSettings(tuning="head"))
    [row] = classifier.lower(classifier.encode(["보고 싶은 친구"], max_tokens=32))
    before = classifier.upper().eval()(row[None], torch.ones(1, 1))
    weights = torch.randn(4, 8192, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        classifier.blocks["head"].words.weight.copy_(weights)
    after = classifier.upper().eval()(row[None], torch.ones(1, 1))
    assert (after - before)[0].tolist() == pytest.approx(
        (weights @ torch.from_numpy(vectors(["보고 싶은 친구"], buckets=8192)[0])).tolist(), abs=1e-4
    )
    assert len(EMOTIONS) == after.shape[1]


def folder_with(path: Path, buckets: object) -> Path:
    import json
    import shutil

    shutil.copytree(COMPACT, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"lexical_buckets": buckets}))
    return path


def built(folder: Path) -> EmotionClassifier:
    return build_classifier(str(folder), folder, dropout=0.1, seed=7)


def test_a_body_that_reads_words_has_another_digest_than_one_that_does_not(tmp_path: Path) -> None:
    digests = {built(folder_with(tmp_path / str(buckets), buckets)).base_digest for buckets in (0, 256, 512)}
    assert len(digests) == 3


@pytest.mark.parametrize("buckets", [-1, 2**17 + 1, "8", 3.0, True])
def test_a_number_of_buckets_that_is_none_is_refused(tmp_path: Path, buckets: object) -> None:
    with pytest.raises(Refusal, match=r"lexical_buckets in .* must be from 0 to"):
        built(folder_with(tmp_path / "model", buckets))
