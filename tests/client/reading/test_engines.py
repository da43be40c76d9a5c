"""The torch engine: what a checkpoint's own weights give, and nothing on a body that they do not belong to."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from client.home import Home
from client.reading.engine import Probabilities
from client.reading.reader import EmotionReader
from client.reading.reading import Reading
from model.checkpoint import Manifest
from model.classifier import EmotionClassifier
from model.refusal import Refusal
from model.settings import RunSettings
from model.tuning import tuned_classifier
from model.weights import Weights

TEXTS = ["오늘은 정말 즐거웠다", "왜 자꾸 눈물이 나는지 모르겠다 ㅠㅠ", "", "또 나한테만 뭐라고 한다. 참을 만큼 참았는데 더는 못 참겠다!!"]
HEAD = RunSettings(tuning="head", privacy="none")

Publish = Callable[..., Manifest]
Alone = Callable[[EmotionClassifier, Weights, Sequence[str]], Probabilities]
Shaken = Callable[[Weights, int, float], Weights]


def rows(readings: Sequence[Reading]) -> Probabilities:
    return np.array([reading.probabilities for reading in readings], dtype=np.float32)


def versions(readings: Sequence[Reading]) -> set[int]:
    return {reading.version for reading in readings}


def test_a_reading_is_what_the_checkpoints_own_weights_give(
    classifier: EmotionClassifier, publish: Publish, drawn: Callable[[int], Weights], alone: Alone, home: Home
) -> None:
    published = publish(drawn(1))
    reader = EmotionReader(home)
    readings = reader.read(TEXTS)
    reader.close()
    assert {(reading.version, reading.digest) for reading in readings} == {(1, published.digest)}
    np.testing.assert_allclose(rows(readings), alone(classifier, drawn(1), TEXTS), atol=1e-5)


@pytest.mark.parametrize("tuning", ["top2", "lora", "full"])
def test_a_swap_changes_all_that_is_trained_and_nothing_else(
    home: Home, publish: Publish, shaken: Shaken, alone: Alone, tuning: str
) -> None:
    """The new model is made out of the old one: a fresh one must read the same, and the old one must not have changed."""
    settings = replace(HEAD, tuning=tuning)
    fresh = tuned_classifier(settings)
    own, seen = fresh.read(), []
    reader = EmotionReader(home)
    for seed in (1, 2):
        weights = shaken(own, seed, 0.02)
        publish(weights, of=fresh, tuning=tuning)
        readings = reader.read(TEXTS)
        assert versions(readings) == {seed}
        np.testing.assert_allclose(rows(readings), alone(fresh, weights, TEXTS), atol=1e-5)
        seen.append(rows(readings))
    assert np.abs(seen[0] - seen[1]).max() > 0.01
    reader.roll_back()
    np.testing.assert_array_equal(rows(reader.read(TEXTS)), seen[0])
    reader.close()


def test_another_tuning_or_model_is_built_from_its_own_folder(
    home: Home, publish: Publish, drawn: Callable[[int], Weights], alone: Alone
) -> None:
    publish(drawn(1))
    reader = EmotionReader(home)
    lstm = tuned_classifier(replace(HEAD, model="lstm"))
    publish(lstm.read(), of=lstm, model="lstm")
    assert versions(reader.read(TEXTS)) == {2}
    np.testing.assert_allclose(rows(reader.read(TEXTS)), alone(lstm, lstm.read(), TEXTS), atol=1e-5)
    assert reader.serving is not None
    assert (reader.serving.model, reader.serving.tuning) == ("lstm", "head")
    reader.close()


def test_a_text_that_no_tokenizer_takes_is_refused_without_a_word_of_it(
    home: Home, publish: Publish, drawn: Callable[[int], Weights]
) -> None:
    publish(drawn(1))
    reader = EmotionReader(home)
    text = "비밀 \ud800 이야기"
    for ask in (lambda: reader.read([text]), lambda: [asyncio.run(reader.read_soon(text))]):
        with pytest.raises(Refusal) as refusal:
            ask()
        assert "비밀" not in repr(refusal.value)
        assert refusal.value.__context__ is None
        assert refusal.value.__cause__ is None
    reader.close()


OTHERS: dict[str, tuple[dict[str, object], str]] = {
    "another body": (
        {"base_digest": "0" * 64},
        "version 2 belongs to the base model 0{12} and this device has .*; install the model 'compact'",
    ),
    "another tokenizer": ({"tokenizer_digest": "0" * 64}, "version 2 belongs to the tokenizer 0{12} and this device has"),
    "another tuning": ({"tuning": "top2"}, "both sides must train the same"),
    "no such tuning": ({"tuning": "everything"}, "tuning is 'everything'"),
    "no such model": ({"model": "../no/such"}, "no/such"),
    "a model that is no word": ({"model": 7}, "model is 7"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_weights_for_something_else_than_this_device_holds_are_refused(
    home: Home, publish: Publish, drawn: Callable[[int], Weights], other: str
) -> None:
    publish(drawn(1))
    reader = EmotionReader(home)
    before = reader.read(TEXTS)
    fields, why = OTHERS[other]
    publish(drawn(2), **fields)
    assert reader.read(TEXTS) == before
    assert reader.refused is not None
    assert reader.refused.version == 2
    assert re.search(why, reader.refused.reason)
    publish(drawn(3))
    assert versions(reader.read(TEXTS)) == {3}
    reader.close()


def test_weights_whose_logits_overflow_are_refused(home: Home, publish: Publish, drawn: Callable[[int], Weights]) -> None:
    """Each is a finite number."""
    publish(drawn(1))
    reader = EmotionReader(home)
    before = reader.read(TEXTS)
    publish(Weights({name: np.full_like(array, 3e38) for name, array in drawn(2).items()}))
    assert reader.read(TEXTS) == before
    assert reader.refused is not None
    assert "not finite" in reader.refused.reason
    reader.close()
