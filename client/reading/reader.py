"""EmotionReader: text in, Reading out, by the newest sound checkpoint in Home; swaps to a newer one between two reads.

Training and this program meet in Home alone: a round ends by publishing a checkpoint, and one stat of the file
``latest`` in every read notices it. The new model is built aside while the old one goes on answering
(:mod:`client.reading.succession` says which is put to use). A checkpoint that fails is reported in
:attr:`EmotionReader.refused`, and the last good one goes on.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial

from client.home import Home
from client.reading.adoption import Agreement, Serving
from client.reading.batching import MicroBatches
from client.reading.engine import BuildEngine, on_one_thread
from client.reading.engines import ENGINES, engine_named, reading_threads
from client.reading.reading import Reading
from client.reading.succession import Model, Refused, Succession, read_by
from client.reading.turns import Begun, read_turn, reading_of
from client.reading.watch import Watch
from client.reading.windows import read_whole
from model.refusal import Refusal

__all__ = ["Agreement", "EmotionReader", "Refused", "Serving"]


class EmotionReader:
    """Reads emotions for one Home, from any thread and any event loop.

    A call is answered by one model from its first text to its last. Who asks after a newer model has answered is never
    answered by an older one, unless the person goes back to it.
    """

    def __init__(self, home: Home, *, engine: str = "torch", engines: Mapping[str, BuildEngine] = ENGINES) -> None:
        self._home = home
        self._succession = Succession(home, engine_named(engine, engines))
        self._watch = Watch(home.checkpoints.root / "latest")
        self._changing = threading.Lock()  # held by whoever changes the model; reading needs none
        self._aside: threading.Thread | None = None
        self._closed = False
        self._batches = MicroBatches(self._read_turn, threads=reading_threads(engine))
        with self._changing, on_one_thread():
            self._watch.look()
            self._succession.begin()

    @property
    def serving(self) -> Serving | None:
        """Which model reads now; None if there is none yet."""
        model = self._succession.model
        return model.serving if model else None

    @property
    def refused(self) -> Refused | None:
        """The newest checkpoint, if it could not be put to use."""
        return self._succession.refused

    @property
    def history(self) -> tuple[Serving, ...]:
        """The models that read here lately, newest first, each with the agreement that it came with."""
        return self._succession.history()

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """A reading of each text; where a newer checkpoint lies in Home and nobody builds it yet, it is built first."""
        if self._succession.model is None or self._watch.changed():
            self._catch_up()
        return self._read_now(texts)

    async def read_patiently(self, text: str) -> Reading:
        """A reading of the text by the model that reads now, once nobody else waits for one."""
        return await self._batches.read(text, patient=True)

    async def read_soon(self, text: str) -> Reading:
        """A reading of the text, together with whatever else waits; a newer checkpoint is built by another thread meanwhile."""
        if self._succession.model is None:
            await asyncio.to_thread(self._catch_up)
        elif self._watch.changed() and not (self._aside and self._aside.is_alive()):
            self._aside = threading.Thread(target=self._catch_up, name="healing-build", daemon=True)
            self._aside.start()
        return await self._batches.read(text)

    def keep_up(self) -> bool:
        """Put a newer checkpoint to use if one came, for whoever looks now and then though nobody asks; True if the model changed."""
        before = self._succession.model
        if before is None or self._watch.changed():
            with on_one_thread():
                self._catch_up()
        return self._succession.model is not before

    def refresh(self) -> bool:
        """Put the newest checkpoint to use if it is not yet; what was refused is tried again. True if the model changed."""
        with self._changing, on_one_thread():
            return self._advance()

    def roll_back(self) -> Serving:
        """Read with the model before this one again, also after a restart, until a newer version comes than the one sent back.

        Raises :class:`Refusal` if there is none, or its weights are damaged; then nothing has changed.
        """
        with self._changing, on_one_thread():
            serving = self._succession.go_back().serving
            give_back_memory()
            return serving

    def close(self) -> None:
        """Answer whoever waits, let a model that is being built be finished, and take no more texts."""
        self._batches.close()
        with self._changing:
            self._closed = True
            self._succession.end()
            self._watch.close()

    def _read_now(self, texts: Sequence[str]) -> list[Reading]:
        model = self._model()  # once: one model reads the whole call
        return [reading_of(model, read) for read in read_by(partial(read_whole, model.engine), texts)] if texts else []

    def _read_turn(self, parts: Sequence[str | Begun]) -> list[Reading | Begun]:
        return read_turn(self._model(), parts)

    def _model(self) -> Model:
        model = self._succession.model  # once: another thread may change it
        if model is None:
            raise self._no_model()
        return model

    def _catch_up(self) -> None:
        """Build a newer checkpoint unless another thread does; without any model, wait for that."""
        if self._changing.acquire(blocking=self._succession.model is None):
            try:
                if self._watch.changed():
                    self._advance()
            finally:
                self._changing.release()

    def _advance(self) -> bool:
        while not self._closed:
            self._watch.look()
            if self._succession.advance():
                give_back_memory()
                return True
            if self.refused is None or not self._watch.changed():
                break  # otherwise a newer one came meanwhile, and may have taken this one's files away
        return False

    def _no_model(self) -> Refusal:
        if self._closed:
            return Refusal("the reader is closed and takes no more texts; start the service again")
        if self.refused:
            return Refusal(f"no model can read: {self.refused.reason}")
        return Refusal(f"'{self._home.root}' holds no model yet; run `healing client init`, which installs version 1")


def give_back_memory() -> None:
    """Return what a replaced model held to the kernel: glibc would keep it. Elsewhere nothing is done."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
