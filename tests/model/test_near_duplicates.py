"""A sentence of a test is recognised whatever its marks, spaces and case, and when half of its shingles are changed."""

from __future__ import annotations

import pytest

from model.near_duplicates import SHINGLE, HeldOutTexts, letters_of

LONG = "오늘은 아침부터 비가 와서 우산을 들고 역까지 걸어갔는데 양말이 다 젖었다"


@pytest.mark.parametrize("text", ["외로워 ㅠㅠ", "외로워!", "외 로 워", "외로워 😭", "외\u200b로워"])
def test_marks_spaces_and_invisible_letters_do_not_hide_a_test(text: str) -> None:
    assert text in HeldOutTexts(["외로워"])
    assert text not in HeldOutTexts(["외롭다", "외로워서 울었다"])


@pytest.mark.parametrize("text", [LONG, LONG + " 정말로", LONG.replace("우산을 ", ""), "어제 " + LONG.replace("역까지", "학교까지")])
def test_a_long_text_with_few_changes_is_the_same(text: str) -> None:
    assert text in HeldOutTexts([LONG, "다른 글"])


@pytest.mark.parametrize("text", ["오늘은 아침부터 비가 왔다", "양말이 다 젖었다", "", "ㅋㅋ"])
def test_another_text_is_another(text: str) -> None:
    assert text not in HeldOutTexts([LONG])


def test_it_agrees_with_a_slow_comparison_of_all_shingles() -> None:
    texts = [LONG[at : at + length] for at in range(0, 30, 7) for length in (12, 20, 33)]

    def shingles(text: str) -> set[str]:
        letters = letters_of(text)
        return {letters[at : at + SHINGLE] for at in range(len(letters) - SHINGLE + 1)} if len(letters) > SHINGLE else set()

    for one in texts:
        for other in texts:
            mine, theirs = shingles(one), shingles(other)
            alike = letters_of(one) == letters_of(other) or (bool(mine & theirs) and len(mine & theirs) / len(mine | theirs) >= 0.5)
            assert (one in HeldOutTexts([other])) == alike


def test_marks_alone_are_compared_as_they_are() -> None:
    assert "ㅠㅠ" in HeldOutTexts(["ㅠㅠㅠㅠ"])
    assert "ㅋㅋ" not in HeldOutTexts(["ㅠㅠ"])
