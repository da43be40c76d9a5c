"""Checkpoints of the global model: safetensors and a JSON manifest, renamed into place whole, verified before use.

A store is a folder of versions and one small file, ``latest``, replaced last: a reader who sees version 12 there finds
version 12 complete. Only the trained parameters are stored; the body they belong to is named by its digest.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from model.normalization import TEXT_STEP
from model.refusal import Refusal
from model.weights import Weights

FIRST_MODEL = "emotion-v2"
"""The bundled checkpoint: the global model that a new device reads with, and a run begins with."""
FORMAT = 2
"""2: a manifest names the text step."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a checkpoint is: enough to know whether it may be put on a body, and what it was worth."""

    version: int
    parent: str
    """Digest of the checkpoint that it grew from; empty for the first."""
    digest: str
    model: str
    tuning: str
    base_digest: str
    tokenizer_digest: str
    text_step: int
    """Version of the rules that prepared every text the weights have seen (:mod:`model.normalization`)."""
    round: int
    scores: dict[str, Any]
    """Rates of the server's test set, for people; empty where nobody scored it (on a device)."""
    epsilon: float
    delta: float
    """What example-level DP had cost at most; infinite and 0 without it."""
    created: str
    format: int = FORMAT


class OtherTextStep(Refusal):
    """A checkpoint whose text was prepared by other rules: no weights of it fit any body here."""


class CheckpointStore:
    """Publish, find and load checkpoints in one folder; ``keep`` is how many versions stay there."""

    def __init__(self, root: Path, *, keep: int = 3) -> None:
        self.root = root
        self._keep = keep

    def publish(
        self,
        weights: Weights,
        *,
        model: str,
        tuning: str,
        base_digest: str,
        tokenizer_digest: str,
        round: int,
        scores: Mapping[str, Any] | None = None,
        epsilon: float = float("inf"),
        delta: float = 0.0,
    ) -> Manifest:
        """Store ``weights`` as the next version; on disk and complete when this returns."""
        version, parent = self._newest()
        manifest = Manifest(
            version=version + 1,
            parent=parent,
            digest=weights.digest,
            model=model,
            tuning=tuning,
            base_digest=base_digest,
            tokenizer_digest=tokenizer_digest,
            text_step=TEXT_STEP,
            round=round,
            scores=dict(scores or {}),
            epsilon=epsilon,
            delta=delta,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        folder = self._folder(manifest.version)
        shutil.rmtree(folder, ignore_errors=True)  # a crash left it before `latest` named it
        folder.mkdir(parents=True)
        write_durably(folder / "weights.safetensors", save_arrays(dict(weights.arrays)))
        content = json.dumps(asdict(manifest), indent=1, ensure_ascii=False)
        write_durably(folder / "manifest.json", content.encode())
        write_durably(self.root / "latest", f"{manifest.version}\n".encode())
        self._forget_old(manifest.version)
        return manifest

    def latest(self) -> Manifest | None:
        """The newest published manifest, or None; :class:`OtherTextStep` if it belongs to another text step."""
        version = self._latest_version()
        return self.manifest(version) if version else None

    def _latest_version(self) -> int:
        """The newest version's number, 0 if none was published."""
        try:
            return int((self.root / "latest").read_text())
        except FileNotFoundError:
            return 0
        except ValueError:
            raise Refusal(f"'{self.root / 'latest'}' is damaged; write the newest version's number into it") from None

    def _newest(self) -> tuple[int, str]:
        """Number and digest of the newest version, whatever its text step; 0 and nothing if there is none."""
        try:
            newest = self.latest()
        except OtherTextStep:
            return self._latest_version(), ""
        return (newest.version, newest.digest) if newest else (0, "")

    def manifest(self, version: int) -> Manifest:
        """The manifest of one version."""
        path = self._folder(version) / "manifest.json"
        try:
            content = json.loads(path.read_bytes())
            found = content.get("format")
            manifest = Manifest(**content) if found == FORMAT else None
            if manifest is not None and (manifest.version != version or not isinstance(manifest.digest, str)):
                raise ValueError
        except FileNotFoundError:
            raise Refusal(f"there is no checkpoint version {version} in '{self.root}'; it keeps the last {self._keep}") from None
        except (ValueError, TypeError, AttributeError):
            raise Refusal(f"'{path}' is damaged; remove that version's folder and take an older one") from None
        if manifest is None:
            raise Refusal(f"'{path}' has format {found} and this program reads {FORMAT}; use the program that wrote it, or train anew")
        if manifest.text_step != TEXT_STEP:
            raise OtherTextStep(
                f"'{path}' belongs to text step {manifest.text_step} and this program prepares text by step {TEXT_STEP}; "
                "run `healing client init` on a device, which moves it to the bundled model, and start a run from emotion-v2"
            )
        return manifest

    def load(self, manifest: Manifest) -> Weights:
        """The weights of a manifest; raises :class:`Refusal` if their digest differs."""
        path = self._folder(manifest.version) / "weights.safetensors"
        try:
            weights = Weights(load_arrays(path.read_bytes()))
        except (OSError, SafetensorError):
            raise Refusal(f"'{path}' cannot be read as safetensors; take an older version from '{self.root}'") from None
        if weights.digest != manifest.digest:
            raise Refusal(
                f"'{path}' has digest {weights.digest[:12]} where its manifest says {manifest.digest[:12]}; take an older version"
            )
        return weights

    def versions(self) -> list[int]:
        """The versions that lie in the store, newest first, whole or not."""
        return sorted((int(folder.name[1:]) for folder in self.root.glob("v??????")), reverse=True)

    def _folder(self, version: int) -> Path:
        return self.root / f"v{version:06d}"

    def _forget_old(self, newest: int) -> None:
        for version in self.versions():
            if version <= newest - self._keep:
                shutil.rmtree(self._folder(version), ignore_errors=True)


def write_durably(path: Path, content: bytes) -> None:
    """Write a file so that after a crash it is either the old one or the new one, whole, and readable by its owner only.

    One writer at a time. What a killed one left behind has a fixed name, so that the next takes it away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def locked(path: Path, *, otherwise: Exception | None = None) -> Iterator[None]:
    """Hold the lock file ``path``, which dies with its process; waits for another's, or raises ``otherwise``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if otherwise else 0))
        except BlockingIOError as error:
            raise otherwise or error from None
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Bring to the disk which names a folder holds."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
