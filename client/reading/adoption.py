"""Adoption: which checkpoint this device reads with, and the one it can go back to; both kept whole, whatever the store drops.

A store keeps the newest few versions. The one that a person has read with until now may be older than those, and the
newest may be damaged: so whatever is put to use is copied here first, and stays until two others have followed it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from model.checkpoint import Manifest, write_durably
from model.refusal import Damaged, Refusal
from model.weights import Weights

PAST = 20
"""Models of which the history is kept."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Share of the person's own confirmed entries that the model before, and this one, read as the person did."""

    entries: int
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Which model reads now."""

    version: int
    digest: str
    model: str
    tuning: str
    created: str
    scores: dict[str, Any]
    """Rates of the server's test set; empty where nobody scored it."""
    agreement: Agreement | None
    """None without a model before it, or without confirmed entries."""
    declined: int | None = None
    """The version from which the person went back to this one: it is not taken again, a newer one is."""
    earlier: int | None = None
    """The version to which the person can go back from this one."""


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """A checkpoint that was put to use."""

    manifest: Manifest
    agreement: Agreement | None = None

    @property
    def name(self) -> tuple[int, str]:
        """What tells it from every other."""
        return self.manifest.version, self.manifest.digest


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The checkpoint in use, the one before it, the one that the person sent back, and all lately in use, newest first."""

    now: Adopted
    before: Adopted | None = None
    declined: Adopted | None = None
    past: tuple[Adopted, ...] = ()

    @classmethod
    def of(cls, newer: Adopted, *, before: Adopted | None, earlier: Choice | None) -> Choice:
        """A newer checkpoint is put to use after ``before``; whatever the earlier choice sent back is forgotten."""
        return cls(now=newer, before=before, past=(newer, *(earlier.past if earlier else ()))[:PAST])

    def sent_back(self, name: tuple[int, str]) -> bool:
        """Whether the person went back from the checkpoint of this name."""
        return self.declined is not None and self.declined.name == name

    def back(self) -> Choice:
        """The one before is put to use again; :class:`Refusal` if there is none."""
        if self.before is None:
            oldest = f"version {self.now.manifest.version} is the oldest model that is kept here"
            raise Refusal(f"{oldest}, so there is none to go back to; a newer one comes with the next round")
        return Choice(now=self.before, declined=self.now, past=self.past)

    def serving(self) -> Serving:
        """The same for people."""
        declined, earlier = (one.manifest.version if one else None for one in (self.declined, self.before))
        return replace(_serving(self.now), declined=declined, earlier=earlier)

    def history(self) -> tuple[Serving, ...]:
        """Every model that was put to use lately, newest first, each with the agreement that it came with."""
        return tuple(_serving(one) for one in self.past)


class Adoption:
    """The choice and its weights in one folder: ``choice.json``, and one file of weights for each digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "choice.json"

    def choice(self) -> Choice | None:
        """What was last put to use here; None if nothing was."""
        try:
            content = json.loads(self._path.read_bytes())
            return Choice(
                now=_adopted(content["now"]),
                before=_adopted(content["before"]) if content["before"] else None,
                declined=_adopted(content["declined"]) if content["declined"] else None,
                past=tuple(_adopted(one) for one in content["past"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError):
            raise Damaged(f"'{self._path}' is damaged; remove it, and the newest checkpoint is taken") from None

    def load(self, adopted: Adopted) -> Weights:
        """The weights of one that was kept; :class:`Refusal` if they are gone or damaged."""
        path = self._place(adopted)
        try:
            weights = Weights(load_arrays(path.read_bytes()))
        except (OSError, SafetensorError):
            weights = None
        if weights is None or weights.digest != adopted.manifest.digest:
            raise Damaged(f"'{path}' is gone or damaged; version {adopted.manifest.version} cannot be used again, take a newer one")
        return weights

    def keep(self, choice: Choice, weights: Weights) -> None:
        """Keep a choice and the weights of the checkpoint in use; on disk and complete when this returns."""
        write_durably(self._place(choice.now), save_arrays(dict(weights.arrays)))
        write_durably(self._path, json.dumps(asdict(choice), indent=1, ensure_ascii=False).encode())
        kept = {self._place(one) for one in (choice.now, choice.before) if one is not None}
        for path in self._folder.glob("*.safetensors"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _place(self, adopted: Adopted) -> Path:
        return self._folder / f"{adopted.manifest.digest}.safetensors"


def _adopted(content: Mapping[str, Any]) -> Adopted:
    agreement = content["agreement"]
    return Adopted(manifest=Manifest(**content["manifest"]), agreement=Agreement(**agreement) if agreement else None)


def _serving(adopted: Adopted) -> Serving:
    manifest = adopted.manifest
    return Serving(
        version=manifest.version,
        digest=manifest.digest,
        model=manifest.model,
        tuning=manifest.tuning,
        created=manifest.created,
        scores=manifest.scores,
        agreement=adopted.agreement,
    )
