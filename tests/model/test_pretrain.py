"""The compact model's vocabulary: KoBERT's id layout, and the marks of mood survive it."""

from __future__ import annotations

from importlib import resources

import pytest
from tokenizers import Tokenizer

from model.pretrain import SPECIAL_TOKENS, learn_vocabulary

TEXTS = [
    f"{who} {what} {mood}"
    for who in ("나는", "친구가", "엄마는")
    for what in ("웃었다", "울었다", "걸었다")
    for mood in ("ㅋㅋㅋㅋ", "ㅠㅠ", "!")
] * 5


@pytest.fixture(scope="module")
def bundled() -> Tokenizer:
    return Tokenizer.from_str((resources.files("model") / "assets" / "compact" / "tokenizer.json").read_text(encoding="utf-8"))


def test_a_vocabulary_is_learned_in_kobert_s_layout() -> None:
    learned = learn_vocabulary(TEXTS, size=60)
    assert [learned.id_to_token(number) for number in range(5)] == list(SPECIAL_TOKENS)
    assert learned.encode("나는 웃었다").ids[0] == 2
    assert learned.encode("나는 웃었다").ids[-1] == 3
    assert learned.decode(learned.encode("친구가 울었다 ㅠㅠ").ids) == "친구가 울었다 ㅠㅠ"


def test_the_bundled_vocabulary_has_the_same_rules_and_8000_pieces(bundled: Tokenizer) -> None:
    assert bundled.get_vocab_size() == 8000
    assert [bundled.id_to_token(number) for number in range(5)] == list(SPECIAL_TOKENS)
    assert str(bundled.normalizer) == str(learn_vocabulary(TEXTS, size=60).normalizer)


@pytest.mark.parametrize("text", ["ㅋㅋㅋㅋ 진짜 웃겨", "보고 싶다 ㅠㅠ", "ㅜㅜ", "안 행복해", "화가 난다😡"])
def test_the_marks_of_mood_are_known_pieces(bundled: Tokenizer, text: str) -> None:
    assert 0 not in bundled.encode(text).ids
    assert bundled.decode(bundled.encode(text).ids) == text


def test_split_letters_are_composed_before_they_are_read(bundled: Tokenizer) -> None:
    import unicodedata

    assert bundled.encode(unicodedata.normalize("NFD", "행복했다")).ids == bundled.encode("행복했다").ids
