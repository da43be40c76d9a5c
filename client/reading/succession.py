"""Succession: which model reads, and how the next one takes its place.

A checkpoint is put to use if its digests fit what this device holds, all it holds and all it gives is finite, and a copy
of it lies safely in Home (:mod:`client.reading.adoption`). Until then, and if it fails, the model before it goes on reading.
How well both agree with the person is measured and shown; it decides nothing, the person does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from client.diary.diary_file import DiaryFault
from client.home import Home
from client.reading.adoption import Adopted, Adoption, Agreement, Choice, Serving
from client.reading.engine import BuildEngine, Engine, Probabilities
from client.reading.windows import read_whole
from model.checkpoint import Manifest
from model.examples import texts
from model.refusal import Refusal
from model.weights import Weights

What = TypeVar("What")
Found = TypeVar("Found")

CONFIRMED = 64
"""Newest confirmed entries on which a model is compared with the one before it."""

PROBES = ("오늘은 친구를 만나 오래 웃었다.", "왜 나한테만 그러는지 모르겠다!!", "")
"""What every model must read before a person's text comes to it."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A checkpoint that was not put to use, and why; ``version`` is None where even that cannot be read."""

    version: int | None
    reason: str
    passing: bool = False
    """Whether it may go by itself: a full disk, a diary that is busy."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One checkpoint, ready to read."""

    adopted: Adopted
    serving: Serving
    engine: Engine


class Succession:
    """The model of one Home. Anyone may look at ``model`` and ``refused`` at any time; the methods are for one thread at a time."""

    def __init__(self, home: Home, build: BuildEngine) -> None:
        self._home = home
        self._build = build
        self._adoption = Adoption(home.root / "serving")
        self.model: Model | None = None
        self.refused: Refused | None = None

    def begin(self) -> None:
        """Read on with what read last, and take what came since; where those are damaged, the newest that is not."""
        try:
            self._resume()
        except Refusal as refusal:
            self.refused = Refused(version=None, reason=str(refusal))
        self.advance()
        if self.model is None:
            self._take_older()

    def advance(self) -> bool:
        """Put the newest checkpoint to use unless it is, or was sent back; True if so. If it fails, ``refused`` says why."""
        newest: Manifest | None = None
        passing = False
        try:
            newest = self._home.checkpoints.latest()
            changed = newest is not None and self._adopt(newest)
        except Refusal as refusal:
            reason, passing = str(refusal), _may_pass(refusal)
        except Exception as error:
            failed, passing = f"the newest checkpoint could not be put to use ({type(error).__name__})", _may_pass(error)
            reason = f"{failed}; {'make room, it is tried again' if passing else 'remove it, or wait for the next round'}"
        else:
            self.refused = self.refused if newest is None else None
            return changed
        self.refused = Refused(version=newest.version if newest else None, reason=reason, passing=passing)
        return False

    def go_back(self) -> Model:
        """Put the model before this one to use; :class:`Refusal`, and no change, if there is none or it is damaged."""
        choice = self._adoption.choice()
        if choice is None:
            raise Refusal(f"no model has read in '{self._home.root}' yet, so there is none to go back to; run `healing client init`")
        back = choice.back()
        weights = self._adoption.load(back.now)
        engine = self._built(back.now.manifest, weights)
        compared = replace(back.now, agreement=self._agreement(engine, back.now.manifest))
        return self._put_to_use(replace(back, now=compared), weights, engine)

    def history(self) -> tuple[Serving, ...]:
        """The models that read here lately, newest first, each with the agreement that it came with."""
        choice = self._adoption.choice()
        return choice.history() if choice else ()

    def end(self) -> None:
        """Let go of the model."""
        self.model = None

    def _resume(self) -> None:
        choice = self._adoption.choice()
        for adopted in (choice.now, choice.before) if choice else ():
            if choice is None or adopted is None:
                continue
            try:
                engine = self._built(adopted.manifest, self._adoption.load(adopted))
            except Refusal as refusal:
                self.refused = Refused(version=adopted.manifest.version, reason=str(refusal))
                continue
            self.model = Model(adopted=adopted, serving=choice.serving(), engine=engine)
            return

    def _take_older(self) -> None:
        for version in self._home.checkpoints.versions():
            try:
                self._adopt(self._home.checkpoints.manifest(version))
            except Refusal:  # the newest one's stands in `refused` already
                continue
            return

    def _adopt(self, manifest: Manifest) -> bool:
        name, before, choice = (manifest.version, manifest.digest), self.model, self._adoption.choice()
        if before and (before.adopted.name == name or (choice and choice.sent_back(name))):
            return False
        weights = self._home.checkpoints.load(manifest)
        engine = self._built(manifest, weights)
        adopted = Adopted(manifest=manifest, agreement=self._agreement(engine, manifest))
        self._put_to_use(Choice.of(adopted, before=before.adopted if before else None, earlier=choice), weights, engine)
        return True

    def _built(self, manifest: Manifest, weights: Weights) -> Engine:
        if not weights.is_finite():
            raise _not_finite(manifest)
        engine = self._build(self._home, manifest, weights, self.model.engine if self.model else None)
        _read_soundly(engine, PROBES, manifest)
        return engine

    def _agreement(self, engine: Engine, manifest: Manifest) -> Agreement | None:
        """None without a model before this one, or without confirmed entries.

        A model of another text step cannot be built here any more: then what it read stands in the diary, and is compared instead.
        """
        if self.model is None:
            return self._agreement_with_kept_readings(engine, manifest)
        confirmed = self._home.diary.labelled()[-CONFIRMED:]
        if not confirmed:
            return None
        emotions = np.array([example.emotion.id for example in confirmed])
        after = _read_soundly(engine, texts(confirmed), manifest)
        before = _read_soundly(self.model.engine, texts(confirmed), self.model.adopted.manifest)
        shares = [float((rows.argmax(axis=1) == emotions).mean()) for rows in (before, after)]
        return Agreement(entries=len(confirmed), before=shares[0], after=shares[1])

    def _agreement_with_kept_readings(self, engine: Engine, manifest: Manifest) -> Agreement | None:
        if self._adoption.choice() is None:
            return None
        confirmed = self._home.diary.read_and_confirmed(CONFIRMED)
        if not confirmed:
            return None
        named = np.array([named.id for _, named, _ in confirmed])
        read = np.array([read.id for _, _, read in confirmed])
        after = _read_soundly(engine, [text for text, *_ in confirmed], manifest).argmax(axis=1)
        return Agreement(entries=len(confirmed), before=float((read == named).mean()), after=float((after == named).mean()))

    def _put_to_use(self, choice: Choice, weights: Weights, engine: Engine) -> Model:
        self._adoption.keep(choice, weights)
        self.model = Model(adopted=choice.now, serving=choice.serving(), engine=engine)
        return self.model


def read_by(read: Callable[[Sequence[What]], Found], what: Sequence[What]) -> Found:
    """What ``read`` finds; whatever goes wrong is a :class:`Refusal` that quotes no text, nor holds one."""
    try:
        return read(what)
    except Exception as error:  # its words may quote a text, so only its class is told
        failed = type(error).__name__
    raise Refusal(f"the text could not be read ({failed}); check that it is whole and of ordinary characters, and try again")


def _may_pass(error: Exception) -> bool:
    """Whether the disk, the memory or the diary failed, and not the checkpoint; a refusal may be another's words for the disk's."""
    return isinstance(error, OSError | MemoryError | DiaryFault) or isinstance(error.__context__, OSError)


def _read_soundly(engine: Engine, texts: Sequence[str], manifest: Manifest) -> Probabilities:
    rows = np.array([read.probabilities for read in read_by(partial(read_whole, engine), texts)])
    if not np.isfinite(rows).all():
        raise _not_finite(manifest)
    return rows


def _not_finite(manifest: Manifest) -> Refusal:
    what = f"checkpoint version {manifest.version} holds or gives numbers that are not finite"
    return Refusal(f"{what}; wait for the next round's, the model before it reads on")
