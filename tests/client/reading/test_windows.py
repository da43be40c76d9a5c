"""Long texts: every token of them counts, what contradicts itself is unsure, and nobody waits for all of a long one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from client.home import Home
from client.reading.batching import MicroBatches
from client.reading.engine import MAX_TOKENS, Probabilities
from client.reading.reader import EmotionReader
from client.reading.reading import Reading
from client.reading.windows import whole
from model.checkpoint import Manifest
from model.classifier import EmotionClassifier
from model.emotions import Emotion
from model.weights import Weights

CHEERFUL = "친구들과 바다에 가서 하루 종일 웃고 떠들었다. 정말 즐겁고 행복한 하루였다! " * 6
MOURNING = "할머니가 돌아가셨다. 장례식장에서 하염없이 눈물만 났다. 너무 슬프고 보고 싶다. " * 28
SHORT = ["오늘은 정말 즐거웠다", "왜 자꾸 눈물이 나는지 모르겠다 ㅠㅠ", "", "또 나한테만 뭐라고 한다. 더는 못 참겠다!!"]

JOY, SADNESS, TORN = [0.97, 0.01, 0.01, 0.01], [0.01, 0.97, 0.01, 0.01], [0.40, 0.45, 0.10, 0.05]


def by_hand(classifier: EmotionClassifier, text: str) -> Probabilities:
    """The slow way: cut the text's ids, mark each piece, read them one by one, weigh them by their length."""
    [ids] = classifier.encode([text], max_tokens=10**6)
    pieces = [ids[1:-1][start : start + MAX_TOKENS - 2] for start in range(0, len(ids) - 2, MAX_TOKENS - 2)]
    total = np.zeros(4)
    for piece in pieces:
        [row] = classifier.probabilities_of(classifier.lower([torch.cat([ids[:1], piece, ids[-1:]])]))
        total += row * len(piece)
    return np.asarray(total / (len(ids) - 2), dtype=np.float32)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_an_entry_that_begins_cheerfully_is_read_to_its_end(installed: Callable[[Path], Home], tmp_path: Path, engine: str) -> None:
    reader = EmotionReader(installed(tmp_path / "home"), engine=engine)
    text = CHEERFUL + MOURNING
    begins, [read] = reader.read([CHEERFUL])[0], reader.read([text])
    assert (begins.emotion, read.emotion) == (Emotion.JOY, Emotion.SADNESS)
    assert asyncio.run(reader.read_soon(text)).probabilities == pytest.approx(read.probabilities, abs=0.01)
    reader.close()


def test_a_long_text_is_the_mean_of_its_windows_and_a_short_one_is_what_it_was(
    classifier: EmotionClassifier, publish: Callable[..., Manifest], drawn: Callable[[int], Weights], home: Home
) -> None:
    publish(drawn(1))
    reader = EmotionReader(home)
    classifier.write(drawn(1))
    for text in (MOURNING, "가 " * 5000, CHEERFUL):
        assert reader.read([text])[0].probabilities == pytest.approx(by_hand(classifier, text).tolist(), abs=1e-5)
    np.testing.assert_array_equal(
        np.array([read.probabilities for read in reader.read(SHORT)], dtype=np.float32),
        classifier.probabilities(SHORT, max_tokens=MAX_TOKENS, batch_size=16),
    )
    reader.close()


def test_windows_hold_every_token_once_and_are_full_but_for_the_last(classifier: EmotionClassifier) -> None:
    texts = [*SHORT, MOURNING, "가" * 10_000, "🙂" * 3000, "끝 " * 126, "끝 " * 127]
    for text, windows in zip(texts, classifier.encode_windows(texts, max_tokens=MAX_TOKENS), strict=True):
        [ids] = classifier.encode([text], max_tokens=10**6)
        assert torch.cat([window[1:-1] for window in windows]).equal(ids[1:-1])
        assert all(len(window) == MAX_TOKENS for window in windows[:-1])
        assert {(int(window[0]), int(window[-1])) for window in windows} == {(int(ids[0]), int(ids[-1]))}
        assert windows[0].equal(classifier.encode([text], max_tokens=MAX_TOKENS)[0])


@pytest.mark.parametrize(
    ("rows", "tokens", "divided"),
    [
        ([JOY, SADNESS], [40, 60], True),
        ([JOY, SADNESS], [32, 68], False),
        ([JOY, SADNESS, SADNESS], [34, 33, 33], True),
        ([SADNESS, SADNESS], [50, 50], False),
        ([TORN, JOY], [45, 55], False),
        ([JOY], [126], False),
    ],
)
def test_a_text_is_divided_where_a_third_of_it_is_surely_something_else(rows: list[list[float]], tokens: list[int], divided: bool) -> None:
    found = whole(np.array(rows, dtype=np.float32), [torch.zeros(count + 2) for count in tokens])
    expected = np.average(np.array(rows), axis=0, weights=tokens)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert found.divided is divided
    reading = Reading(probabilities=tuple(map(float, found.probabilities)), version=1, digest="", divided=found.divided)
    assert reading.unsure >= divided


class SlowEngine:
    """Each character is a window of its own; remembers how many it read at a time, and stops before the first that it is told to."""

    def __init__(self) -> None:
        self.turns: list[int] = []
        self.begun = threading.Event()
        self.gate = threading.Event()

    def windows(self, texts: Sequence[str]) -> list[list[Tensor]]:
        return [[torch.full((3,), ord(letter)) for letter in text or " "] for text in texts]

    def __call__(self, windows: Sequence[Tensor]) -> Probabilities:
        self.turns.append(len(windows))
        if any(int(window[0]) == ord("긴") for window in windows):
            self.begun.set()
            assert self.gate.wait(20)
        return np.tile(np.float32([1, 0, 0, 0, 1, 0, 0]), (len(windows), 1))


def test_nobody_waits_for_all_of_a_long_text(home: Home) -> None:
    """Of eighty windows no batch holds more than a few, and who comes second is answered first."""
    home.checkpoints.publish(
        Weights({"none": np.zeros(1, dtype=np.float32)}), model="slow", tuning="head", base_digest="", tokenizer_digest="", round=1
    )
    engine = SlowEngine()
    reader = EmotionReader(home, engine="slow", engines={"slow": lambda *_: engine})
    answered: list[str] = []

    async def ask(text: str) -> None:
        await reader.read_soon(text)
        answered.append(text)

    async def ask_both() -> None:
        engine.turns.clear()
        long = asyncio.create_task(ask("긴" * 80))
        await asyncio.to_thread(engine.begun.wait, 20)
        short = asyncio.create_task(ask("짧"))
        while not reader._batches._waiting:
            await asyncio.sleep(0.001)
        engine.gate.set()
        await asyncio.gather(long, short)

    asyncio.run(ask_both())
    reader.close()
    assert answered == ["짧", "긴" * 80]
    assert max(engine.turns) <= 4
    assert sum(engine.turns) == 81


def test_a_text_that_was_begun_before_a_swap_is_read_to_its_end_by_the_model_that_began(home: Home) -> None:
    def publish(value: float) -> None:
        weights = Weights({"none": np.full(1, value, dtype=np.float32)})
        home.checkpoints.publish(weights, model="slow", tuning="head", base_digest="", tokenizer_digest="", round=1)

    publish(1)
    first, second = SlowEngine(), SlowEngine()
    reader = EmotionReader(home, engine="slow", engines={"slow": lambda _, manifest, *__: first if manifest.version == 1 else second})

    async def ask() -> tuple[Reading, Reading]:
        long = asyncio.create_task(reader.read_soon("긴" * 30))
        await asyncio.to_thread(first.begun.wait, 20)
        publish(2)
        await asyncio.to_thread(reader.refresh)
        short = asyncio.create_task(reader.read_soon("짧"))
        while not reader._batches._waiting:
            await asyncio.sleep(0.001)
        first.gate.set()
        return await asyncio.gather(long, short)

    long, short = asyncio.run(ask())
    reader.close()
    assert (long.version, short.version) == (1, 2)


def test_who_is_patient_is_read_when_nobody_else_waits() -> None:
    order: list[str] = []
    begun, gate = threading.Event(), threading.Event()

    def read(texts: Sequence[str]) -> list[Reading]:
        order.extend(texts)
        begun.set()
        assert gate.wait(20)
        return [Reading(probabilities=(1.0, 0.0, 0.0, 0.0), version=1, digest="") for _ in texts]

    batches = MicroBatches(read)

    async def ask() -> None:
        tasks = [asyncio.create_task(batches.read("먼저"))]
        await asyncio.to_thread(begun.wait, 20)
        tasks += [asyncio.create_task(batches.read("느긋", patient=True)), asyncio.create_task(batches.read("급함"))]
        while len(batches._waiting) < 2:
            await asyncio.sleep(0.001)
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(ask())
    batches.close()
    assert order == ["먼저", "급함", "느긋"]
