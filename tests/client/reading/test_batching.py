"""Micro-batches: each caller gets its own answer, whatever happens to the others, and none waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from client.reading.batching import MicroBatches
from client.reading.reading import Reading
from model.refusal import Refusal

UNREADABLE = "아무에게도 말하지 않은 일기"


def reading_of(text: str) -> Reading:
    """One that tells its text by its version."""
    return Reading(probabilities=(1.0, 0.0, 0.0, 0.0), version=len(text), digest="")


class Reader:
    """Reads when it is let; remembers what came together."""

    def __init__(self, *, open: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        if open:
            self.gate.set()

    def __call__(self, texts: Sequence[str]) -> list[Reading]:
        self.batches.append(list(texts))
        self.begun.set()
        assert self.gate.wait(20)
        if UNREADABLE in texts:
            raise RuntimeError(f"cannot read {UNREADABLE}")
        return [reading_of(text) for text in texts]


async def waiting(batches: MicroBatches, count: int) -> None:
    """Until so many wait for the next batch."""
    while len(batches._waiting) < count:
        await asyncio.sleep(0.001)


def test_every_caller_gets_its_own_answer() -> None:
    async def ask() -> list[Reading]:
        return await asyncio.gather(*(batches.read("가" * length) for length in range(200)))

    batches = MicroBatches(Reader())
    assert [reading.version for reading in asyncio.run(ask())] == list(range(200))
    batches.close()


def test_one_alone_is_read_at_once_and_what_comes_meanwhile_is_read_together() -> None:
    reader = Reader(open=False)
    batches = MicroBatches(reader, most=4)

    async def ask() -> None:
        first = asyncio.create_task(batches.read("하나"))
        await asyncio.to_thread(reader.begun.wait, 20)
        others = [asyncio.create_task(batches.read(f"다음 {number}")) for number in range(6)]
        await waiting(batches, 6)
        reader.gate.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask())
    batches.close()
    assert [len(batch) for batch in reader.batches] == [1, 4, 2]


def test_the_oldest_is_in_every_batch_beside_texts_of_about_its_length() -> None:
    reader = Reader(open=False)
    batches = MicroBatches(reader, most=3)

    async def ask() -> None:
        first = asyncio.create_task(batches.read("먼저"))
        await asyncio.to_thread(reader.begun.wait, 20)
        others = [asyncio.create_task(batches.read("가" * length)) for length in (50, 1, 2, 49, 3, 51, 90)]
        await waiting(batches, 7)
        reader.gate.set()
        assert [reading.version for reading in await asyncio.gather(*others)] == [50, 1, 2, 49, 3, 51, 90]
        await first

    asyncio.run(ask())
    batches.close()
    assert [sorted(map(len, batch)) for batch in reader.batches] == [[2], [49, 50, 51], [1, 2, 3], [90]]


def test_several_threads_share_out_who_waits_and_read_at_the_same_time() -> None:
    reader = Reader(open=False)
    batches = MicroBatches(reader, threads=2)

    async def ask() -> list[Reading]:
        tasks = [asyncio.create_task(batches.read("가" * length)) for length in range(1, 3)]
        while len(reader.batches) < 2:  # both threads are reading, and neither may go on
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(batches.read("가" * length)) for length in range(3, 11)]
        await waiting(batches, 8)
        reader.gate.set()
        return await asyncio.gather(*tasks)

    assert [reading.version for reading in asyncio.run(ask())] == list(range(1, 11))
    batches.close()
    assert [len(batch) for batch in reader.batches[:3]] == [1, 1, 4]


def test_who_goes_away_before_or_during_the_reading_harms_nobody() -> None:
    reader = Reader(open=False)
    batches = MicroBatches(reader)

    async def ask() -> list[Reading | BaseException]:
        during = asyncio.create_task(batches.read("읽는 중"))
        await asyncio.to_thread(reader.begun.wait, 20)
        before, stays = asyncio.create_task(batches.read("기다림")), asyncio.create_task(batches.read("남음"))
        await waiting(batches, 2)
        during.cancel()
        before.cancel()
        await asyncio.sleep(0)
        reader.gate.set()
        return await asyncio.gather(during, before, stays, return_exceptions=True)

    gone, gone_too, answered = asyncio.run(ask())
    batches.close()
    assert isinstance(gone, asyncio.CancelledError)
    assert isinstance(gone_too, asyncio.CancelledError)
    assert answered == reading_of("남음")
    assert reader.batches == [["읽는 중"], ["남음"]]


def test_a_text_that_breaks_its_batch_is_refused_alone_and_not_quoted() -> None:
    reader = Reader(open=False)
    batches = MicroBatches(reader)

    async def ask() -> list[Reading | BaseException]:
        first = asyncio.create_task(batches.read("먼저"))
        await asyncio.to_thread(reader.begun.wait, 20)
        others = [asyncio.create_task(batches.read(text)) for text in ("셋", UNREADABLE, "다섯")]
        await waiting(batches, 3)
        reader.gate.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, one, refused, other = asyncio.run(ask())
    batches.close()
    assert [first, one, other] == [reading_of("먼저"), reading_of("셋"), reading_of("다섯")]
    assert isinstance(refused, Refusal)
    assert "RuntimeError" in str(refused)
    assert UNREADABLE not in repr(refused)
    assert refused.__context__ is None  # or a traceback would print the words that quote it
    assert refused.__cause__ is None


@pytest.mark.parametrize("given", [[], [reading_of(""), reading_of("")]])
def test_a_reader_that_gives_too_few_or_too_many_readings_is_no_reason_to_hang(given: list[Reading]) -> None:
    batches = MicroBatches(lambda texts: given)

    async def ask() -> None:
        with pytest.raises(Refusal, match="ValueError"):
            await asyncio.wait_for(batches.read("글"), 20)

    asyncio.run(ask())
    batches.close()


def test_closing_answers_all_who_wait_and_refuses_who_comes_later() -> None:
    reader = Reader(open=False)
    batches = MicroBatches(reader, most=4)

    async def ask() -> list[Reading]:
        tasks = [asyncio.create_task(batches.read("가" * length)) for length in range(1, 30)]
        await asyncio.to_thread(reader.begun.wait, 20)
        closing = asyncio.create_task(asyncio.to_thread(batches.close))
        await asyncio.sleep(0.01)
        reader.gate.set()
        answers = await asyncio.wait_for(asyncio.gather(*tasks), 20)
        await closing
        with pytest.raises(Refusal, match="closed"):
            await batches.read("늦음")
        return answers

    assert [reading.version for reading in asyncio.run(ask())] == list(range(1, 30))


def test_requests_that_race_with_closing_are_answered_or_refused() -> None:
    for _ in range(20):
        batches = MicroBatches(Reader())
        answers: list[Reading | BaseException] = []

        async def ask(batches: MicroBatches = batches, answers: list[Reading | BaseException] = answers) -> None:
            answers += await asyncio.gather(*(batches.read("글") for _ in range(50)), return_exceptions=True)

        asker = threading.Thread(target=lambda ask=ask: asyncio.run(ask()))
        asker.start()
        batches.close()
        asker.join(20)
        assert not asker.is_alive()
        assert len(answers) == 50
        assert all(isinstance(answer, Reading | Refusal) for answer in answers)


def test_several_event_loops_are_served_together() -> None:
    batches = MicroBatches(Reader())
    answers: list[list[Reading]] = []

    async def ask(length: int) -> list[Reading]:
        return [await batches.read("가" * length) for _ in range(20)]

    threads = [threading.Thread(target=lambda length=length: answers.append(asyncio.run(ask(length)))) for length in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    batches.close()
    assert sorted(answer[0].version for answer in answers) == [1, 2, 3, 4]
    assert all(answer == [answer[0]] * 20 for answer in answers)


def test_a_loop_that_was_closed_while_its_text_was_read_stops_nobody_else() -> None:
    reader = Reader(open=False)
    batches = MicroBatches(reader)
    loop = asyncio.new_event_loop()
    abandoned = loop.create_task(batches.read("버려짐"))
    loop.run_until_complete(asyncio.sleep(0))
    assert reader.begun.wait(20)
    loop.close()
    abandoned._log_destroy_pending = False  # type: ignore[attr-defined] # it is meant
    reader.gate.set()

    async def ask() -> Reading:
        return await asyncio.wait_for(batches.read("다음"), 20)

    assert asyncio.run(ask()) == reading_of("다음")
    batches.close()
