"""The attendant: an idle device swaps, retries and reads what nobody has read, and stops when it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from client.diary.diary import Query
from client.diary.transfer import import_diary
from client.home import Home
from client.reading.attendant import FEW, Attendant
from client.reading.engine import Engine, Probabilities
from client.reading.reader import EmotionReader
from client.reading.reading import Reading
from client.vault import Passphrase
from model.checkpoint import Manifest
from model.weights import Weights

UNREADABLE = "못 읽을 글"
READING = Reading(probabilities=(1.0, 0.0, 0.0, 0.0), version=1, digest="")


class Device:
    """A Home whose models read joy in everything but one text, and may fail to be built."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.read: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.failure: Exception | None = None
        self.built = 0

    def publish(self) -> None:
        weights = Weights({"none": np.random.default_rng().normal(size=1).astype(np.float32)})
        self.home.checkpoints.publish(weights, model="plain", tuning="head", base_digest="", tokenizer_digest="", round=1)

    def build(self, home: Home, manifest: Manifest, weights: Weights, now: Engine | None) -> Engine:
        self.built += 1
        if self.failure is not None:
            raise self.failure
        return self

    def open(self) -> EmotionReader:
        return EmotionReader(self.home, engine="plain", engines={"plain": self.build})

    def windows(self, texts: Sequence[str]) -> list[list[Tensor]]:
        self.read += texts
        if UNREADABLE in texts:
            raise ValueError(UNREADABLE)
        return [[torch.zeros(3)] for _ in texts]

    def __call__(self, windows: Sequence[Tensor]) -> Probabilities:
        self.begun.set()
        assert self.gate.wait(20)
        return np.tile(np.float32([1, 0, 0, 0, 1, 0, 0]), (len(windows), 1))


@pytest.fixture
def device(home: Home) -> Device:
    return Device(home)


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(500):
        if holds():
            return True
        time.sleep(0.01)
    return False


def unread(home: Home) -> int:
    return sum(entry.reading is None for entry in home.diary.entries(Query(limit=1000)).entries)


def all_read(attendant: Attendant) -> None:
    for _ in range(100):
        if not attendant.attend():
            return
    raise AssertionError("there is always more to do")


def test_a_newer_model_is_put_to_use_though_nobody_asks(device: Device) -> None:
    device.publish()
    reader = device.open()
    attendant = Attendant(reader, device.home.diary, every=0.01)
    attendant.start()
    device.publish()
    assert eventually(lambda: reader.serving is not None and reader.serving.version == 2)
    attendant.close()
    device.publish()
    time.sleep(0.05)
    assert reader.serving is not None
    assert reader.serving.version == 2  # it has stopped
    reader.close()


@pytest.mark.parametrize(("failure", "tried"), [(OSError(28, "No space left on device"), True), (ValueError("broken"), False)])
def test_what_failed_for_a_passing_reason_is_tried_again_more_and_more_rarely(device: Device, failure: Exception, *, tried: bool) -> None:
    device.publish()
    reader = device.open()
    now = 0.0
    attendant = Attendant(reader, device.home.diary, now=lambda: now)
    device.publish()
    device.failure, device.built = failure, 0
    tries = []
    for second in range(20):
        now = float(second)
        before = device.built
        attendant.attend()
        tries += [second] * (device.built > before)
    assert tries == ([0, 1, 3, 7, 15] if tried else [0])
    device.failure = None
    now = 100.0
    attendant.attend()
    assert reader.serving is not None
    assert reader.serving.version == (2 if tried else 1)
    assert (reader.refused is None) is tried
    reader.close()


def test_a_busy_diary_is_a_passing_reason(device: Device) -> None:
    """The new model is compared with the old one on the person's own entries, which cannot be had just now."""
    device.publish()
    reader = device.open()
    attendant = Attendant(reader, device.home.diary)
    diary = device.home.root / "diary.sqlite3"
    device.publish()
    diary.rename(diary.with_suffix(".away"))
    assert not attendant.attend()
    assert reader.refused is not None
    assert reader.refused.passing
    diary.with_suffix(".away").rename(diary)
    assert reader.refresh()
    reader.close()


def test_an_imported_diary_is_read_newest_first_a_few_at_a_time(device: Device, tmp_path: Path) -> None:
    device.publish()
    reader = device.open()
    attendant = Attendant(reader, device.home.diary)
    all_read(attendant)
    rows = [f"2026-03-{day:02},하루 {day}" for day in range(1, 11)]
    (tmp_path / "old.csv").write_text("\n".join(["day,text", *rows]), encoding="utf-8")
    import_diary(device.home.diary, tmp_path / "old.csv", passphrase=lambda: Passphrase("not asked for"))
    device.read.clear()
    attendant.attend()
    assert unread(device.home) == 10 - FEW
    all_read(attendant)
    assert unread(device.home) == 0
    order = [int(text.removeprefix("하루 ")) for text in device.read]
    assert [set(order[start : start + FEW]) for start in (0, FEW)] == [{10, 9, 8, 7}, {6, 5, 4, 3}]
    assert sorted(order) == list(range(1, 11))
    device.read.clear()
    assert not attendant.attend()
    assert device.read == []
    reader.close()


def test_entries_from_before_there_was_a_model_are_read_when_it_comes(device: Device) -> None:
    device.home.diary.add("모델이 없던 날")
    reader = device.open()
    attendant = Attendant(reader, device.home.diary)
    assert not attendant.attend()
    device.publish()
    all_read(attendant)
    assert unread(device.home) == 0
    reader.close()


def test_an_entry_that_cannot_be_read_stops_no_other_and_is_tried_by_the_next_model(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    device.publish()
    reader = device.open()
    attendant = Attendant(reader, device.home.diary)
    for text in (UNREADABLE, *(f"글 {number}" for number in range(5))):
        device.home.diary.add(text)
    all_read(attendant)
    assert [entry.text for entry in device.home.diary.unread(9)] == [UNREADABLE]
    assert UNREADABLE not in caplog.text
    device.read.clear()
    all_read(attendant)
    assert device.read == []
    device.publish()
    all_read(attendant)
    assert UNREADABLE in device.read
    reader.close()


def test_a_diary_that_cannot_be_opened_is_asked_again_later(device: Device) -> None:
    device.publish()
    reader = device.open()
    now = 0.0
    attendant = Attendant(reader, device.home.diary, now=lambda: now)
    device.home.diary.add("글")
    diary = device.home.root / "diary.sqlite3"
    diary.rename(diary.with_suffix(".away"))
    assert not attendant.attend()
    diary.with_suffix(".away").rename(diary)
    assert not attendant.attend()
    assert unread(device.home) == 1
    now = 2.0
    all_read(attendant)
    assert unread(device.home) == 0
    reader.close()


def test_an_entry_that_is_changed_or_forgotten_while_it_is_read_keeps_no_reading_of_it(device: Device) -> None:
    device.publish()
    reader = device.open()
    attendant = Attendant(reader, device.home.diary)
    changed, forgotten = device.home.diary.add("처음"), device.home.diary.add("잊을 글")
    device.begun.clear()
    device.gate.clear()
    attending = threading.Thread(target=attendant.attend)
    attending.start()
    assert device.begun.wait(20)
    device.home.diary.rewrite(changed, text="나중")
    device.home.diary.forget(forgotten)
    device.gate.set()
    attending.join(20)
    assert device.home.diary.entry(changed).reading is None
    all_read(attendant)
    assert device.home.diary.entry(changed).reading is not None
    reader.close()


def test_it_stops_while_an_entry_is_read_and_leaves_it_unread(device: Device) -> None:
    device.publish()
    reader = device.open()
    device.home.diary.add("글")
    attendant = Attendant(reader, device.home.diary, every=0.01)
    device.begun.clear()
    device.gate.clear()
    attendant.start()
    assert device.begun.wait(20)
    attendant.close()
    device.gate.set()
    reader.close()
    assert unread(device.home) == 1
