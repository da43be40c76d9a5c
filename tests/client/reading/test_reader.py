"""The reader: always one whole model, never an older one than before, whatever arrives, breaks or is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from client.home import DevicePolicy, Home
from client.reading.engine import BuildEngine, Engine, Probabilities
from client.reading.reader import Agreement, EmotionReader
from client.reading.reading import Reading
from model.checkpoint import Manifest
from model.emotions import EMOTIONS, Emotion
from model.normalization import TEXT_STEP
from model.refusal import Refusal
from model.weights import Weights

ROOT = Path(__file__).parents[3]
TEXTS = ["오늘은 정말 즐거웠다", "왜 자꾸 눈물이 나는지 모르겠다 ㅠㅠ", "", "또 나한테만 뭐라고 한다. 참을 만큼 참았는데 더는 못 참겠다!!"]

Publish = Callable[[Weights], Manifest]


class PlainEngine:
    """Every text is one window, and ``read`` says what is in some of them."""

    def __init__(self, read: Callable[[int], Probabilities]) -> None:
        self._read = read

    def windows(self, texts: Sequence[str]) -> list[list[Tensor]]:
        return [[torch.zeros(len(text) + 2)] for text in texts]

    def __call__(self, windows: Sequence[Tensor]) -> Probabilities:
        return self._read(len(windows))


def joyful(count: int) -> Probabilities:
    return np.tile(np.float32([1, 0, 0, 0, 1, 0, 0]), (count, 1))


def build_plain_engine(home: Home, manifest: Manifest, weights: Weights, now: Engine | None) -> Engine:
    """Four logits, whatever the text."""
    with np.errstate(all="ignore"):
        exponentials = np.exp(weights["logits"])
        probabilities = np.concatenate([exponentials / exponentials.sum(), np.float32([1, 0, 0])])
    return PlainEngine(lambda count: np.tile(probabilities, (count, 1)))


def open_reader(home: Home, build: BuildEngine = build_plain_engine) -> EmotionReader:
    return EmotionReader(home, engine="plain", engines={"plain": build})


def drawn(seed: int) -> Weights:
    return Weights({"logits": np.random.default_rng(seed).normal(size=4).astype(np.float32)})


def always(emotion: Emotion) -> Weights:
    """Weights that read one emotion in everything."""
    return Weights({"logits": np.eye(4, dtype=np.float32)[emotion.id] * 3})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", DevicePolicy())


@pytest.fixture
def publish(home: Home) -> Publish:
    return lambda weights: home.checkpoints.publish(
        weights, model="plain", tuning="head", base_digest="", tokenizer_digest="", round=1, scores={"accuracy": 0.7}
    )


@pytest.fixture
def reader(home: Home) -> Iterator[EmotionReader]:
    reader = open_reader(home)
    yield reader
    reader.close()


def versions(readings: Sequence[Reading]) -> set[int]:
    return {reading.version for reading in readings}


# the newest model reads


def test_serving_says_what_the_manifest_says(home: Home, publish: Publish) -> None:
    published = publish(drawn(1))
    reader = open_reader(home)
    serving = reader.serving
    assert serving is not None
    for name in ("version", "digest", "model", "tuning", "created", "scores"):
        assert getattr(serving, name) == getattr(published, name)
    assert (serving.agreement, serving.declined, reader.refused) == (None, None, None)
    reader.close()


def test_a_home_without_a_model_is_told_how_to_get_one_and_then_reads(reader: EmotionReader, publish: Publish) -> None:
    assert reader.serving is None
    assert reader.history == ()
    for ask in (lambda: reader.read(TEXTS), lambda: [asyncio.run(reader.read_soon(TEXTS[0]))]):
        with pytest.raises(Refusal, match=r"`healing client init`, which installs version 1"):
            ask()
    with pytest.raises(Refusal, match="healing client init"):
        reader.roll_back()
    publish(drawn(1))
    assert asyncio.run(reader.read_soon(TEXTS[0])).version == 1
    assert versions(reader.read(TEXTS)) == {1}


def test_nothing_to_read_is_read_as_nothing(reader: EmotionReader, publish: Publish) -> None:
    publish(drawn(1))
    assert reader.read([]) == []


def test_an_engine_of_another_name_is_refused_with_the_names_there_are(home: Home) -> None:
    with pytest.raises(Refusal, match=r"engine is 'tpu'; choose one of torch"):
        EmotionReader(home, engine="tpu")


WATCHED: list[Path] = []
OPENED: list[str] = []


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and WATCHED and str(arguments[0]).startswith(str(WATCHED[0])):
        OPENED.append(str(arguments[0]))


def test_a_read_without_a_newer_checkpoint_opens_no_file_of_home(reader: EmotionReader, home: Home, publish: Publish) -> None:
    publish(drawn(1))
    reader.read(TEXTS)
    sys.addaudithook(_note_open)
    WATCHED.append(home.root)
    try:
        for _ in range(5):
            reader.read(TEXTS)
            asyncio.run(reader.read_soon(TEXTS[0]))
        assert OPENED == []
        publish(drawn(2))
        reader.read(TEXTS)
        assert str(home.checkpoints.root / "latest") in OPENED
    finally:
        WATCHED.clear()
        OPENED.clear()


# a swap and those who read meanwhile


def test_a_call_of_many_texts_is_read_by_one_model(home: Home, publish: Publish) -> None:
    publish(drawn(1))
    begun, go_on = threading.Event(), threading.Event()

    def build(home: Home, manifest: Manifest, weights: Weights, now: Engine | None) -> Engine:
        def read(count: int) -> Probabilities:
            if count == 1000:
                begun.set()
                assert go_on.wait(20)
            return joyful(count)

        return PlainEngine(read)

    reader = open_reader(home, build)
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(reader.read, ["글"] * 1000)
        assert begun.wait(20)
        publish(drawn(2))
        assert versions(reader.read(["글"])) == {2}  # the swap does not wait for it
        go_on.set()
        assert versions(long.result()) == {1}
    reader.close()


def test_readers_do_not_wait_while_a_model_is_built(home: Home, publish: Publish) -> None:
    publish(drawn(1))
    building, go_on = threading.Event(), threading.Event()

    def build(home: Home, manifest: Manifest, weights: Weights, now: Engine | None) -> Engine:
        if manifest.version == 2:
            building.set()
            assert go_on.wait(20)
        return PlainEngine(joyful)

    reader = open_reader(home, build)
    publish(drawn(2))
    assert asyncio.run(reader.read_soon("글")).version == 1
    assert building.wait(20)
    assert versions(reader.read(["글"])) == {1}
    assert asyncio.run(reader.read_soon("글")).version == 1
    go_on.set()
    reader.refresh()
    assert versions(reader.read(["글"])) == {2}
    reader.close()


# what does not get in


def overwrite(path: str, change: Callable[[bytes], bytes]) -> Callable[[Home], None]:
    def damage(home: Home) -> None:
        file = home.checkpoints.root / path
        file.write_bytes(change(file.read_bytes()))

    return damage


def change_manifest(**fields: object) -> Callable[[Home], None]:
    return overwrite("v000002/manifest.json", lambda whole: json.dumps(json.loads(whole) | fields).encode())


DAMAGES: dict[str, tuple[Callable[[Home], None], str]] = {
    "truncated weights": (overwrite("v000002/weights.safetensors", lambda whole: whole[:-9]), "safetensors"),
    "empty weights": (overwrite("v000002/weights.safetensors", lambda whole: b""), "safetensors"),
    "a flipped bit": (overwrite("v000002/weights.safetensors", lambda whole: whole[:-1] + bytes([whole[-1] ^ 1])), "digest"),
    "no weights": (lambda home: (home.checkpoints.root / "v000002/weights.safetensors").unlink(), "safetensors"),
    "another digest": (change_manifest(digest="0" * 64), "digest"),
    "another text step": (change_manifest(text_step=TEXT_STEP + 1), "text step"),
    "half a manifest": (overwrite("v000002/manifest.json", lambda whole: whole[: len(whole) // 2]), "manifest"),
    "no manifest": (lambda home: (home.checkpoints.root / "v000002/manifest.json").unlink(), "no checkpoint version 2"),
    "a damaged latest": (overwrite("latest", lambda whole: b"\xff\xfe"), "latest"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_refused_with_its_reason_and_the_last_good_one_reads_on(
    reader: EmotionReader, home: Home, publish: Publish, damage: str
) -> None:
    publish(drawn(1))
    before = reader.read(TEXTS)
    publish(drawn(2))
    DAMAGES[damage][0](home)
    assert reader.read(TEXTS) == before
    assert asyncio.run(reader.read_soon(TEXTS[0])).version == 1
    assert reader.serving is not None
    assert reader.serving.version == 1
    assert reader.refused is not None
    assert reader.refused.version in (2, None)
    assert DAMAGES[damage][1] in reader.refused.reason
    again = open_reader(home)
    assert again.read(TEXTS) == before
    assert again.refused == reader.refused
    again.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_weights_that_are_or_give_no_numbers_are_never_put_to_use(reader: EmotionReader, publish: Publish, value: float) -> None:
    """The last kind is finite in itself: its logits overflow."""
    publish(drawn(1))
    before = reader.read(TEXTS)
    publish(Weights({name: np.full_like(array, value) for name, array in drawn(2).items()}))
    assert reader.read(TEXTS) == before
    assert reader.refused is not None
    assert reader.refused.version == 2
    assert "not finite" in reader.refused.reason
    publish(drawn(3))
    assert versions(reader.read(TEXTS)) == {3}
    assert reader.refused is None


def test_what_was_refused_is_tried_again_when_asked_and_not_in_every_read(reader: EmotionReader, home: Home, publish: Publish) -> None:
    publish(drawn(1))
    reader.read(TEXTS)
    publish(drawn(2))
    file = home.checkpoints.root / "v000002/weights.safetensors"
    whole = file.read_bytes()
    file.write_bytes(b"")
    assert versions(reader.read(TEXTS)) == {1}
    file.write_bytes(whole)
    assert versions(reader.read(TEXTS)) == {1}
    assert reader.refresh()
    assert versions(reader.read(TEXTS)) == {2}
    assert not reader.refresh()


def test_the_last_good_model_reads_on_after_a_restart_though_the_store_has_dropped_it(home: Home, publish: Publish) -> None:
    publish(drawn(1))
    reader = open_reader(home)
    before = reader.read(TEXTS)
    reader.close()
    for version in (2, 3, 4):
        publish(drawn(version))
        (home.checkpoints.root / f"v{version:06d}/weights.safetensors").write_bytes(b"")
    again = open_reader(home)
    assert again.read(TEXTS) == before
    assert again.refused is not None
    assert again.refused.version == 4
    publish(drawn(5))
    assert versions(again.read(TEXTS)) == {5}
    again.close()


def test_a_home_whose_newest_checkpoint_is_damaged_before_any_has_read_takes_the_one_before(home: Home, publish: Publish) -> None:
    publish(drawn(1))
    publish(drawn(2))
    (home.checkpoints.root / "v000002/weights.safetensors").write_bytes(b"")
    reader = open_reader(home)
    assert versions(reader.read(TEXTS)) == {1}
    assert reader.refused is not None
    assert reader.refused.version == 2
    reader.close()


def test_with_nothing_but_damaged_checkpoints_the_reason_is_told(home: Home, publish: Publish) -> None:
    publish(drawn(1))
    (home.checkpoints.root / "v000001/weights.safetensors").write_bytes(b"")
    reader = open_reader(home)
    assert reader.serving is None
    with pytest.raises(Refusal, match=r"no model can read: .*weights\.safetensors"):
        reader.read(TEXTS)
    publish(drawn(2))
    assert versions(reader.read(TEXTS)) == {2}
    reader.close()


@pytest.mark.parametrize("which", ["now", "before", "both"])
def test_damaged_copies_of_what_was_in_use_are_replaced_from_the_store(home: Home, publish: Publish, which: str) -> None:
    first, second = publish(drawn(1)), None
    reader = open_reader(home)
    second = publish(drawn(2))
    expected = reader.read(TEXTS)
    reader.close()
    for name, manifest in (("before", first), ("now", second)):
        if which in (name, "both"):
            (home.root / f"serving/{manifest.digest}.safetensors").write_bytes(b"")
    again = open_reader(home)
    assert again.read(TEXTS) == expected
    assert again.refused is None
    again.close()


def test_a_damaged_choice_is_refused_by_its_path_until_it_is_removed(home: Home, publish: Publish) -> None:
    publish(drawn(1))
    open_reader(home).close()
    (home.root / "serving/choice.json").write_text("{")
    reader = open_reader(home)
    with pytest.raises(Refusal, match=r"choice\.json' is damaged; remove it"):
        reader.read(TEXTS)
    (home.root / "serving/choice.json").unlink()
    assert reader.refresh()
    assert versions(reader.read(TEXTS)) == {1}
    reader.close()


# the person goes back


def test_a_person_who_goes_back_stays_there_over_a_restart_until_a_newer_version_comes(home: Home, publish: Publish) -> None:
    publish(drawn(1))
    reader = open_reader(home)
    first = reader.read(TEXTS)
    publish(drawn(2))
    assert versions(reader.read(TEXTS)) == {2}
    back = reader.roll_back()
    assert (back.version, back.declined, back.earlier) == (1, 2, None)
    assert reader.serving == back
    assert reader.read(TEXTS) == first
    assert not reader.refresh()
    reader.close()

    again = open_reader(home)
    assert again.read(TEXTS) == first
    assert again.serving == back
    with pytest.raises(Refusal, match="version 1 is the oldest model that is kept here"):
        again.roll_back()
    publish(drawn(3))
    assert versions(again.read(TEXTS)) == {3}
    assert again.serving is not None
    assert again.serving.declined is None
    assert again.roll_back().version == 1  # what the person read with before, not what they had sent back
    assert again.read(TEXTS) == first
    again.close()


def test_going_back_leads_to_what_the_person_had_also_when_the_store_has_long_dropped_it(home: Home, publish: Publish) -> None:
    publish(drawn(1))
    reader = open_reader(home)
    first = reader.read(TEXTS)
    reader.close()
    for version in range(2, 9):
        publish(drawn(version))
    again = open_reader(home)
    assert versions(again.read(TEXTS)) == {8}
    assert again.roll_back().version == 1
    assert again.read(TEXTS) == first
    again.close()


def test_a_copy_that_is_damaged_cannot_be_gone_back_to_and_nothing_changes(home: Home, publish: Publish) -> None:
    first = publish(drawn(1))
    reader = open_reader(home)
    publish(drawn(2))
    second = reader.read(TEXTS)
    (home.root / f"serving/{first.digest}.safetensors").write_bytes(b"")
    with pytest.raises(Refusal, match="gone or damaged"):
        reader.roll_back()
    assert reader.read(TEXTS) == second
    reader.close()


def test_two_copies_of_weights_are_kept_and_no_more(home: Home, publish: Publish) -> None:
    reader = open_reader(home)
    published = []
    for seed in range(5):
        published.append(publish(drawn(seed)).digest)
        reader.read(TEXTS)
    assert {path.stem for path in (home.root / "serving").glob("*.safetensors")} == set(published[-2:])
    assert [serving.version for serving in reader.history] == [5, 4, 3, 2, 1]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (home.root / "serving").iterdir())
    reader.close()


# agreement with the person


def test_agreement_is_counted_on_the_persons_own_words(home: Home, reader: EmotionReader, publish: Publish) -> None:
    """Models that read one emotion in everything are right as often as the person named it."""
    joy, sadness, anger, anxiety = EMOTIONS
    home.diary.add_all([*[(f"기뻤던 날 {n}", joy) for n in range(5)], *[(f"슬펐던 날 {n}", sadness) for n in range(3)]])
    home.diary.add_all([("화난 날", anger), ("불안한 날", anxiety), ("아직 말하지 않은 날", None)])
    agreements = []
    for emotion in (joy, sadness, anger):
        publish(always(emotion))
        assert {reading.emotion for reading in reader.read(TEXTS)} == {emotion}
        assert reader.serving is not None
        agreements.append(reader.serving.agreement)
    assert agreements == [None, Agreement(entries=10, before=0.5, after=0.3), Agreement(entries=10, before=0.3, after=0.1)]
    assert [serving.agreement for serving in reader.history] == agreements[::-1]
    assert reader.roll_back().agreement == Agreement(entries=10, before=0.1, after=0.3)
    kept = (home.root / "serving/choice.json").read_text(encoding="utf-8")
    assert "날" not in kept


def test_agreement_is_of_the_newest_entries_where_there_are_many(home: Home, reader: EmotionReader, publish: Publish) -> None:
    joy, sadness, *_ = EMOTIONS
    home.diary.add_all([*[("오래된 기쁨", joy)] * 100, *[("요즘의 슬픔", sadness)] * 64])
    for emotion in (joy, sadness):
        publish(always(emotion))
        reader.read(TEXTS)
    assert reader.serving is not None
    assert reader.serving.agreement == Agreement(entries=64, before=0.0, after=1.0)


# text


def test_a_closed_reader_refuses_and_says_so(home: Home, publish: Publish) -> None:
    publish(drawn(1))
    reader = open_reader(home)
    asyncio.run(reader.read_soon(TEXTS[0]))
    reader.close()
    reader.close()
    publish(drawn(2))
    assert not reader.refresh()
    for ask in (lambda: reader.read(TEXTS), lambda: [asyncio.run(reader.read_soon(TEXTS[0]))]):
        with pytest.raises(Refusal, match="closed"):
            ask()


# kill -9


KILL_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
import numpy as np
import torch
from client.home import DevicePolicy, Home
from client.reading.reader import EmotionReader
from model.weights import Weights

class PlainEngine:
    def windows(self, texts):
        return [[torch.zeros(3)] for _ in texts]

    def __call__(self, windows):
        return np.tile(np.float32([1, 0, 0, 0, 1, 0, 0]), (len(windows), 1))

def build(home, manifest, weights, now):
    return PlainEngine()

def open_reader():
    return EmotionReader(home, engine="plain", engines={"plain": build})

def publish(version):
    weights = Weights({"logits": np.float32([version, 0, 0, 0])})
    home.checkpoints.publish(weights, model="plain", tuning="head", base_digest="", tokenizer_digest="", round=version)

def killed(step, act):
    child = os.fork()
    if child == 0:
        seen = 0
        def count(event, arguments):
            nonlocal seen
            if event == "open" or event.startswith(("os.", "shutil.")):
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

def newest():
    return home.checkpoints.latest().version

home = Home.create(Path(sys.argv[1]), DevicePolicy())
publish(1)
reader = open_reader()
for step in range(1, 500):  # a publisher dies: whoever reads finds the old version or the new one, and nothing to refuse
    before = newest()
    died = killed(step, lambda: publish(before + 1))
    [reading] = reader.read(["a"])
    assert reading.version in ((before, before + 1) if died else (before + 1,)), (step, before, reading)
    assert reader.refused is None, (step, reader.refused)
    if not died:
        break
print(step)
publish(newest() + 1)
reader.read(["a"])
reader.close()
for step in range(1, 500):  # a reader dies in the middle of a swap: the next one reads the newest, and can go back
    before = newest()
    publish(before + 1)
    died = killed(step, open_reader)
    again = open_reader()
    assert again.refused is None, (step, again.refused)
    assert again.serving.version == before + 1, (step, again.serving)
    assert again.roll_back().version == before, (step, again.serving)
    publish(before + 2)
    assert again.read(["a"])[0].version == before + 2
    again.close()
    if not died:
        break
print(step)
for step in range(1, 500):  # a reader dies while its person goes back: it has gone back, or has not
    again = open_reader()
    before = again.serving.version
    died = killed(step, again.roll_back)
    after = open_reader()
    assert after.refused is None, (step, after.refused)
    assert after.serving.declined in (None, before), (step, after.serving)
    assert (after.serving.version == before) == (after.serving.declined is None), (step, after.serving)
    assert after.read(["a"])[0].version == after.serving.version
    publish(newest() + 1)
    assert after.read(["a"])[0].version == newest()
    again.close()
    after.close()
    if not died:
        break
print(step)
"""


@pytest.mark.slow
def test_whoever_is_killed_at_whatever_step_leaves_a_model_that_reads(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILL_AT_EVERY_STEP, str(tmp_path / "home")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    steps = list(map(int, done.stdout.split()))
    assert len(steps) == 3
    assert min(steps) > 10  # each was killed at more than ten different steps
