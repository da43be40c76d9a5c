"""The features of hashed n-grams equal a slow obvious count and scikit-learn's, and see neither padding nor company."""

from __future__ import annotations

import json
import math
import shutil
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
from model.hub import find_model
from model.lexical import Lexical
from model.lexical_training import SPREAD, Regression, learn_projection
from model.normalization import normalized
from model.refusal import Refusal
from model.settings import RunSettings
from model.tokenizer import Tokenizer, load_tokenizer
from model.tuning import tuned_classifier

COMPACT = find_model("compact")
WORD = (1 << 64) - 1
BUCKETS = 512


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    return load_tokenizer(COMPACT, pad_id=1)


@lru_cache(maxsize=4)
def lexical(buckets: int = BUCKETS, features: int = 5) -> Lexical:
    """Drawn rarities and a drawn projection."""
    made = Lexical(tokenizer(), buckets, features)
    draw = torch.Generator().manual_seed(11)
    made.rarity.copy_(1 + torch.rand(buckets, generator=draw))
    made.projection.copy_(torch.randn(buckets, features, generator=draw))
    return made


def padded(rows: list[list[int]], *, more: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows)) + more
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def vectors(texts: list[str], *, more: int = 0) -> np.ndarray:
    rows = tokenizer().encode([normalized(text) for text in texts], max_tokens=128)
    return np.asarray(lexical()(*padded(rows, more=more)))


def ngrams(text: str) -> Counter[str]:
    """Of every word with its edges, all n-grams of one to four characters but the edge alone."""
    words = [f" {word} " for word in joined(text.split())]
    grams = (word[at : at + n] for word in words for n in (1, 2, 3, 4) for at in range(len(word) - n + 1))
    return Counter(gram for gram in grams if gram.strip())


def joined(words: list[str]) -> list[str]:
    """A negation and its word as one."""
    together: list[str] = []
    for word in words:
        if together and (together[-1] in ("안", "못") or word.startswith("않")):
            together[-1] += word
        else:
            together.append(word)
    return together


def mixed(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & WORD
    return value ^ (value >> 31)


def slowly(text: str) -> list[float]:
    counts: Counter[int] = Counter()
    for gram, count in ngrams(text).items():
        counts[place_of(gram)] += count
    weighed = {place: (1 + math.log(count)) * float(lexical().rarity[place]) for place, count in counts.items()}
    norm = math.sqrt(sum(value * value for value in weighed.values())) or 1.0
    return [sum(value / norm * float(lexical().projection[place, at]) for place, value in weighed.items()) for at in range(5)]


def place_of(gram: str) -> int:
    """Where an n-gram is counted."""
    hash = len(gram)
    for character in gram:
        hash = mixed(((hash * 0x9E3779B97F4A7C15) & WORD) ^ ord(character))
    return hash % BUCKETS


def spelled(text: str) -> str:
    """What the vocabulary can spell of a text; the rest is the one unknown character."""
    pieces = [tokenizer().pieces()[id] for id in tokenizer().encode([normalized(text)], max_tokens=128)[0][1:-1]]
    return "".join("\x01" if piece == "[UNK]" else piece for piece in pieces).replace("▁", " ")


@pytest.mark.parametrize(
    "text",
    [
        "오늘은 정말 행복한 하루였다",
        "ㅠㅠ 왜 나만… 아니 진짜??",
        "I felt OK",
        "나",
        "가나다라마바사 가나다 가나",
        "㐀㐁 뷁",
        "안 행복하다",
        "하나도 안 무섭고 못 참지 않아",
        "않아 안",
        "미안 해",
    ],
)
def test_the_features_are_what_a_slow_loop_over_the_words_counts(text: str) -> None:
    assert vectors([text])[0] == pytest.approx(slowly(spelled(text)), abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="가나다라 마바.ㅋ!abc", min_size=0, max_size=20), min_size=1, max_size=4))
def test_neither_padding_nor_company_changes_the_features(texts: list[str]) -> None:
    together = vectors(texts, more=3)
    for text, vector in zip(texts, together, strict=True):
        assert np.array_equal(vectors([text])[0], vector)
        assert vector == pytest.approx(slowly(spelled(text)), abs=1e-5)


def test_an_entry_without_characters_has_no_features() -> None:
    assert not vectors([""]).any()


def test_learned_features_are_the_logits_of_scikit_learn_over_its_own_tf_idf() -> None:
    """With a place for every n-gram, the hashed texts are TfidfVectorizer's (char_wb, 1 to 4, sublinear) up to the order of columns."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    examples = bundled_diaries()[1].examples[:80]
    texts, classes = [normalized(example.text) for example in examples], [example.emotion.id for example in examples]
    ids = [torch.tensor(row) for row in tokenizer().encode(texts, max_tokens=256)]
    made = Lexical(tokenizer(), 2**20, len(EMOTIONS))
    learn_projection(made, ids, [Regression(range(len(texts)), classes, [1.0] * len(texts), strength=1.0)])
    theirs = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, lowercase=False)
    spelt = [" ".join(joined("".join(tokenizer().pieces()[id] for id in row[1:-1]).replace("▁", " ").split())) for row in ids]
    counted = theirs.fit_transform(spelt)
    keep = np.array([name.strip() != "" for name in theirs.get_feature_names_out()])
    fitted = LogisticRegression(C=1.0, max_iter=500).fit(counted, classes)
    expected = SPREAD * counted @ fitted.coef_.T
    found = np.asarray(made(*padded([row.tolist() for row in ids])))
    assert keep.any()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("tuning", ["head", "top1", "top4", "lora", "full"])
def test_wherever_the_chain_is_cut_the_words_reach_the_head(tuning: str) -> None:
    texts = ["비가 와서 우울했다", "상을 받았다! 야호", "그 말에 화가 치밀었다 진짜로", "내일이 두렵다"]
    chances = []
    for chosen in ("full", tuning):
        classifier = tuned_classifier(RunSettings(tuning=chosen))
        with torch.no_grad():
            words = classifier.blocks["head"].words
            words.weight.copy_(torch.randn(words.weight.shape, generator=torch.Generator().manual_seed(3)))
        chances.append(classifier.probabilities(texts, max_tokens=64))
    assert chances[1] == pytest.approx(chances[0], abs=1e-5)


def test_the_head_adds_a_linear_reading_of_the_words() -> None:
    classifier = tuned_classifier(RunSettings(tuning="head"))
    encoded = classifier.encode(["보고 싶은 친구"], max_tokens=32)
    [row] = classifier.lower(encoded)
    before = classifier.upper().eval()(row[None], torch.ones(1, 1))
    own = classifier.blocks["pool"].lexical
    weights = torch.randn(4, own.features, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        classifier.blocks["head"].words.weight.copy_(weights)
    after = classifier.upper().eval()(row[None], torch.ones(1, 1))
    expected = weights @ own(encoded[0][None], torch.ones(1, len(encoded[0])))[0]
    assert (after - before)[0].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    assert len(EMOTIONS) == after.shape[1]


def folder_with(path: Path, **keys: object) -> Path:
    shutil.copytree(COMPACT, path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | keys))
    return path


def built(folder: Path) -> EmotionClassifier:
    return build_classifier(str(folder), folder, dropout=0.1, seed=7)


@pytest.mark.parametrize("features", [-1, 2**17 + 1, "8", 3.0, True])
def test_a_number_of_features_that_is_none_is_refused(tmp_path: Path, features: object) -> None:
    with pytest.raises(Refusal, match=r"lexical_features in .* must be from 0 to"):
        built(folder_with(tmp_path / "model", lexical_features=features))


def test_a_projection_of_another_size_than_the_config_s_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="lack or misshape the part 'lexical'"):
        built(folder_with(tmp_path / "model", lexical_buckets=256))


def test_a_model_of_the_version_before_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="take the one that comes with this program"):
        built(folder_with(tmp_path / "model", lexical_buckets=8192, lexical_features=0))
