"""The four emotions: names, ids, and where people place them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from model.emotions import EMOTIONS, Emotion
from model.refusal import Refusal

NAMES = [(0, "joy", "기쁨"), (1, "sadness", "슬픔"), (2, "anger", "분노"), (3, "anxiety", "불안")]


def test_the_ids_are_the_class_indices_of_the_confusion_matrix_in_order() -> None:
    assert [(emotion.id, emotion.en, emotion.ko) for emotion in EMOTIONS] == NAMES


@pytest.mark.parametrize(("id", "en", "ko"), NAMES)
def test_an_emotion_is_found_by_either_name_in_any_case_and_with_space_around(id: int, en: str, ko: str) -> None:
    assert [Emotion.named(name).id for name in (en, en.upper(), f"  {en.title()}\n", ko, f" {ko} ")] == [id] * 5


@pytest.mark.parametrize("word", ["", "happy", "0", "슬", "기쁨 슬픔", "joyful"])
def test_any_other_word_is_refused_with_the_four_names(word: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Emotion.named(word)
    assert all(en in str(refusal.value) and ko in str(refusal.value) for _, en, ko in NAMES)


def test_a_long_label_is_not_quoted_because_it_may_be_a_diary_entry() -> None:
    entry = "라벨 칸에 잘못 들어온 일기 한 줄입니다"
    with pytest.raises(Refusal, match=f"a label of {len(entry)} characters") as refusal:
        Emotion.named(entry)
    assert not any(word in str(refusal.value) for word in entry.split())


@pytest.mark.parametrize(("emotion", "word"), list(zip(EMOTIONS, ["기쁘다", "슬프다", "분노하다", "불안하다"], strict=True)))
def test_valence_and_arousal_lie_on_the_side_where_korean_raters_put_the_word(shared_data: Path, emotion: Emotion, word: str) -> None:
    lexicon = shared_data / "words" / "park_min_2005.csv"
    if not lexicon.is_file():
        pytest.skip(f"{lexicon} is missing (emotion words rated by people, Park & Min 2005)")
    with lexicon.open(encoding="utf-8") as lines:
        rated = next(row for row in csv.DictReader(lines) if row["lexicon"] == word)
    assert (float(rated["valence"]) > 3) == (emotion.valence > 0)  # rated from 1 to 5
    assert (float(rated["arousal"]) > 3) == (emotion.arousal > 0)


def test_valence_and_arousal_stay_inside_the_circumplex() -> None:
    assert all(-1 <= emotion.valence <= 1 and -1 <= emotion.arousal <= 1 for emotion in EMOTIONS)


def test_every_emotion_has_a_colour_of_its_own() -> None:
    colours = [emotion.colour for emotion in EMOTIONS]
    assert len(set(colours)) == 4
    assert all(re.fullmatch(r"#[0-9A-F]{6}", colour) for colour in colours)
