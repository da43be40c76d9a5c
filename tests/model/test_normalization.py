"""The text step: its examples, its laws on any text, its speed on hostile text, and what it does for KoBERT."""

from __future__ import annotations

import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.normalization import MARKS, OTHER_EMOJI, STARE, TEARS, has_korean, marks, normalized, spell_marks
from model.tokenizer import Tokenizer, load_tokenizer

# Signs, letters and marks of which the rules speak, emoji with all that belongs to them, and anything else. What joins
# emoji stands behind one here, as it does in texts.
PIECES = [
    *"ㅠㅜㅡ._^-,ㅋㅎ!?~ \n\t1가각é",
    "\u1100",
    "\u1161",
    "\u11a8",
    "e\u0301",
    "\u0323",
    "눈물",
    "짜증",
    "ㅠㅠ",
    "ㅡㅡ",
    "-_-",
    "...",
    "111",
]
EMOJI = [*"😭😀☹♡★🔥☺❤🍎🦖⛄", "❤\ufe0f", "👍🏽", "👨\u200d👩\u200d👧", "🇰🇷", "1\ufe0f\u20e3", "🏴\U000e0067\U000e0062\U000e007f"]
JOINERS = "\u200d\ufe0e\ufe0f\u20e3" + "".join(map(chr, range(0xE0020, 0xE0080)))
ANYTHING = st.text(st.characters(exclude_characters=JOINERS, exclude_categories=["Cs"]), max_size=8)
TEXTS = st.lists(st.sampled_from(PIECES + EMOJI) | ANYTHING, max_size=14).map("".join)
LAW = settings(deadline=None, max_examples=300)


@pytest.fixture
def kobert(shared_data: Path) -> Tokenizer:
    if not (shared_data / "kobert/spiece.model").is_file():
        pytest.skip(f"{shared_data}/kobert/spiece.model is missing (KoBERT's SentencePiece file, huggingface.co/skt/kobert-base-v1)")
    return load_tokenizer(shared_data / "kobert", pad_id=1)


# examples


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("싫어ㅠㅠㅠ!!!! 😭😭", "싫어 ㅠㅠ !! 😭"),
        ("아ㅠ", "아 ㅠㅠ"),
        ("ㅜㅜㅜㅜ", "ㅠㅠ"),
        ("ㅠ_ㅠ ㅠ.ㅠ ㅜㅡㅜ", "ㅠㅠ ㅠㅠ ㅠㅠ"),
        ("또 야근 ㅡㅡ", "또 야근 ㅡㅡ"),
        ("ㅡ_ㅡ;; -_- -.-", "ㅡㅡ ;; ㅡㅡ ㅡㅡ"),
        ("하ㅡ", "하ㅡ"),
        ("ㅋㅋㅋㅋㅋㅋ ㅎㅎㅎ", "ㅋㅋ ㅎㅎ"),
        ("와아아아아", "와아아"),
        ("1000원 20000", "1000원 20000"),
        ("좋다.....", "좋다.."),
        ("사랑해♡♥❤\ufe0f", "사랑해 ♡ ♥ ❤"),
        ("👍🏽👍🏻 굿", "👍 굿"),
        ("👨\u200d👩\u200d👧 여행", "👨 👩 👧 여행"),
        ("🔥😀🔥😀", "🔥 😀"),
        ("1\ufe0f\u20e3번", "1번"),
        ("  두  칸\t과\n줄  ", "두 칸 과 줄"),
        (unicodedata.normalize("NFD", "각별한 하루"), "각별한 하루"),
        ("平安 Café", "平安 Café"),
        ("", ""),
        (" \u3000\n", ""),
        ("행\u200b복\u200b했다", "행복했다"),
        ("슬\u00ad퍼\ufeff", "슬퍼"),
        ("\u200b\u3164\ufeff\u2800", ""),
        ("\u1112\u1161\u11ab\u200b글", "한글"),
    ],
)
def test_examples(text: str, prepared: str) -> None:
    assert normalized(text) == prepared


@pytest.mark.parametrize(("word", "signs"), MARKS.items(), ids=ascii)
def test_each_sign_stays_and_is_spelled_as_its_word_where_it_is_unknown(word: str, signs: str) -> None:
    for sign in signs:
        assert normalized(f"오늘{sign}끝") == f"오늘 {sign} 끝"
        assert spell_marks(f"오늘 {sign} 끝", known=[]) == f"오늘 {word} 끝"
        assert spell_marks(f"오늘 {sign} 끝", known=[sign]) == f"오늘 {sign} 끝"


def test_tears_and_stares_are_spelled_as_sounds() -> None:
    assert spell_marks("힘들다 ㅠㅠ 또 ㅡㅡ 🦖", known=[]) == f"힘들다 흑흑 또 흥 {OTHER_EMOJI}"
    assert spell_marks("힘들다 ㅠㅠ", known=marks()) == "힘들다 ㅠㅠ"
    assert {TEARS, STARE} < set(marks())


def test_every_invisible_character_of_unicode_is_removed() -> None:
    """Format characters (Cf) but those that show, signs that enclose what follows; and the fillers, which are letters."""
    shown = [*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)]
    unseen = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf" and code not in shown]
    assert len(unseen) > 140
    for character in [*unseen, *"\u115f\u1160\u3164\uffa0\u2800\u034f"]:
        assert normalized(f"행{character}복") == "행복", ascii(character)


@pytest.mark.parametrize(
    ("text", "korean"), [("나", True), ("ok 나", True), ("ㅋㅋㅋ", False), ("ㅠㅠ", False), ("I feel terrible", False), ("", False)]
)
def test_korean_is_a_syllable_and_no_mark(text: str, korean: bool) -> None:
    assert has_korean(text) is korean


def test_no_sign_stands_for_two_words() -> None:
    signs = "".join(MARKS.values())
    assert len(set(signs)) == len(signs)


def test_an_emoji_that_is_not_listed_is_spelled_as_the_word_for_pictures() -> None:
    for sign in "🦖⛄🚀🏳🀄⌚":
        assert spell_marks(normalized(f"오늘{sign}끝"), known=[]) == f"오늘 {OTHER_EMOJI} 끝"


# laws


@LAW
@given(text=TEXTS)
def test_doing_it_twice_changes_nothing(text: str) -> None:
    assert normalized(normalized(text)) == normalized(text)


@LAW
@given(text=TEXTS)
def test_what_comes_out_is_composed_and_single_spaced(text: str) -> None:
    prepared = normalized(text)
    assert unicodedata.is_normalized("NFC", prepared)
    assert prepared == " ".join(prepared.split())


@LAW
@given(text=TEXTS)
def test_nothing_but_a_digit_stands_three_times_in_a_row(text: str) -> None:
    prepared = normalized(text)
    for one, two, three in zip(prepared, prepared[1:], prepared[2:], strict=False):
        assert not one == two == three or one.isdecimal()


@LAW
@given(text=TEXTS)
def test_no_tears_and_no_emoji_are_left_where_none_is_known(text: str) -> None:
    spelled = spell_marks(normalized(text), known=[])
    assert not re.search(f"ㅠㅠ|[{re.escape(''.join(MARKS.values()))}\U0001f300-\U0001faff\u2600-\u27bf]", spelled)


@LAW
@given(text=TEXTS)
def test_a_mark_stands_between_spaces_whatever_its_neighbours(text: str) -> None:
    prepared = f" {normalized(text)} "
    for mark in re.finditer("ㅠㅠ", prepared):
        assert prepared[mark.start() - 1] == prepared[mark.end()] == " "


@LAW
@given(text=TEXTS | st.text(max_size=40))
def test_a_decomposed_text_is_prepared_as_the_composed_one(text: str) -> None:
    assert normalized(unicodedata.normalize("NFD", text)) == normalized(unicodedata.normalize("NFC", text))


@LAW
@given(text=st.text(st.sampled_from("가나다라abc ,.?12"), max_size=40).filter(lambda text: not re.search(r"([^\d\s])\1\1|-[._]-", text)))
def test_a_plain_text_only_loses_spaces(text: str) -> None:
    assert normalized(text) == " ".join(text.split())


@pytest.mark.parametrize(
    "unit",
    [
        "ㅠ",
        "._",
        "ㅠ._",
        "ㅠ._^ㅡ가",
        "-.",
        "ㅡ,",
        "ㅡ.",
        "😭 ",
        "😭  ",
        "❤\ufe0f",
        "👨\u200d",
        "\u200d",
        " \t",
        "ab",
        "\u1100\u1161\u11a8",
        "1",
        "♡가",
    ],
    ids=ascii,
)
def test_half_a_million_characters_take_about_ten_times_as_long_as_a_tenth_of_them(unit: str) -> None:
    def seconds(length: int) -> float:
        text = "ㅠ" + unit * (length // len(unit))
        start = time.thread_time()  # of this thread: what else runs on the machine does not count
        normalized(text)
        return time.thread_time() - start

    assert seconds(500_000) < 30 * min(seconds(50_000) for _ in range(3)) + 0.2  # a quadratic one would take a hundred times as long


# what it does for KoBERT


def test_kobert_knows_every_word_that_is_written_for_a_sign(kobert: Tokenizer) -> None:
    words = [*MARKS, OTHER_EMOJI]
    assert [word for word, ids in zip(words, kobert.encode(words, max_tokens=16), strict=True) if 0 in ids] == []
    texts = [f"오늘{sign}" for signs in MARKS.values() for sign in [*signs, "ㅠㅠ", "ㅜ", "ㅡㅡ"]]
    prepared = [spell_marks(normalized(text), kobert.marks) for text in texts]
    assert not any(0 in ids for ids in kobert.encode(prepared, max_tokens=16))


def test_fewer_kote_rows_have_an_unknown_token_for_kobert(kobert: Tokenizer, shared_data: Path) -> None:
    path = shared_data / "kote/test.tsv"
    if not path.is_file():
        pytest.skip(f"{path} is missing (KOTE, github.com/searle-j/KOTE)")
    texts = [line.split("\t")[1] for line in path.read_text(encoding="utf-8").splitlines()]

    def share(prepared: list[str]) -> float:
        return sum(0 in ids for ids in kobert.encode(prepared, max_tokens=1024)) / len(prepared)

    assert share(texts) == pytest.approx(0.231, abs=0.005)
    assert (
        share([spell_marks(normalized(text), kobert.marks) for text in texts]) < 0.170
    )  # what is left: single consonants, and syllables as in 걍, 잼
