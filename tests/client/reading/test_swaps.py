"""A hundred swaps of a real model: under load no request fails or is read by an older model, and no memory stays behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from client.home import Home
from client.reading.engine import Probabilities
from client.reading.reader import EmotionReader
from client.reading.reading import Reading
from model.checkpoint import Manifest
from model.classifier import EmotionClassifier
from model.weights import Weights

ROOT = Path(__file__).parents[3]
TEXTS = ["오늘은 정말 즐거웠다", "왜 자꾸 눈물이 나는지 모르겠다 ㅠㅠ", "", "또 나한테만 뭐라고 한다. 참을 만큼 참았는데 더는 못 참겠다!!"]

Publish = Callable[..., Manifest]
Alone = Callable[[EmotionClassifier, Weights, Sequence[str]], Probabilities]


def versions(readings: Sequence[Reading]) -> set[int]:
    return {reading.version for reading in readings}


def test_no_request_fails_and_no_version_goes_backwards_in_a_hundred_swaps(
    home: Home, classifier: EmotionClassifier, publish: Publish, drawn: Callable[[int], Weights], alone: Alone
) -> None:
    """From threads and from an event loop at once: a request that begins after another has ended is not read by an older model."""
    publish(drawn(1))
    reader = EmotionReader(home)
    done, seen, newest = threading.Event(), [], [0]

    def note(at_least: int, readings: Sequence[Reading]) -> None:
        (version,) = versions(readings)
        assert version >= at_least
        newest[0] = max(newest[0], version)
        seen.extend(readings)

    def ask_in_a_thread() -> None:
        while not done.is_set():
            note(newest[0], reader.read(TEXTS[:2]))
            done.wait(0.003)  # the builder wants one of the machine's cores too

    async def ask_in_a_loop() -> None:
        async def ask() -> None:
            while not done.is_set():
                note(newest[0], [await reader.read_soon(TEXTS[0])])
                await asyncio.sleep(0.003)

        await asyncio.gather(*(ask() for _ in range(4)))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_in_a_thread), pool.submit(ask_in_a_thread), pool.submit(asyncio.run, ask_in_a_loop())]
        try:
            for version in range(2, 102):
                publish(drawn(version))
                while newest[0] < version and not any(one.done() for one in asking):
                    done.wait(0.001)
        finally:
            done.set()
    for one in asking:
        one.result()
    reader.close()
    assert {reading.version for reading in seen} >= set(range(2, 102))
    assert reader.refused is None
    expected = {version: alone(classifier, drawn(version), TEXTS[:2]) for version in range(1, 102)}
    for reading in seen:
        assert min(np.abs(expected[reading.version] - np.float32(reading.probabilities)).max(axis=1)) < 1e-5


HUNDRED_SWAPS = """
import gc, sys
from pathlib import Path
import numpy as np
import torch
from client.home import DevicePolicy, Home
from client.reading.reader import EmotionReader
from model.settings import RunSettings
from model.tuning import tuned_classifier
from model.weights import Weights

torch.set_num_threads(1)
home = Home.create(Path(sys.argv[1]), DevicePolicy())
classifier = tuned_classifier(RunSettings(tuning="top1", privacy="none"))
own, what = classifier.read(), {"base_digest": classifier.base_digest, "tokenizer_digest": classifier.tokenizer.digest}
del classifier
reader = None

def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

for version in range(1, 111):
    home.checkpoints.publish(own.scale(1 + version / 1000), model="compact", tuning="top1", round=version, **what)
    reader = reader or EmotionReader(home)
    assert reader.read(["오늘은 정말 즐거웠다"])[0].version == version
    if version == 10:
        before = resident()
print(own.megabytes, resident() - before)
"""


@pytest.mark.slow
def test_a_hundred_swaps_leave_no_memory_behind(tmp_path: Path) -> None:
    """Of 7 MB each; what the first ten take is the libraries' own."""
    command = [sys.executable, "-c", HUNDRED_SWAPS, str(tmp_path / "home")]
    real = os.environ | {"HEALING_MODELS": str(ROOT / "model" / "assets")}
    done = subprocess.run(command, cwd=ROOT, env=real, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    megabytes, grown = map(float, done.stdout.split())
    assert megabytes > 3
    assert grown < 20
