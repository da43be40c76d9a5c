"""What a new device reads with before any server has spoken to it: the bundled body and the first global model, verified.

Both come with the program (``model/assets``, or ``HEALING_MODELS``); no network is used. A file that is there and is the
bundled one, byte for byte, is not written again, and a global model that has reached the device since is never replaced, unless no
program of this version could read with it: one of an older text step, or of an older body of the same name. Then the bundled model becomes
the next version, and the reader shows how well both agree with the person's own entries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from client.home import Home
from model.checkpoint import FIRST_MODEL, CheckpointStore, Manifest, OtherTextStep, write_durably
from model.refusal import Refusal

BODY = "compact"


@dataclass(frozen=True)
class Installed:
    """The global model that the device reads with now, and which files were written for it (none the second time)."""

    model: Manifest
    written: tuple[Path, ...]


def install(home: Home) -> Installed:
    """Copy what is missing or differs, and verify digests of body, tokenizer and weights; :class:`Refusal` if one is wrong."""
    bundle, models = _bundle(), home.models
    if models is None:
        raise Refusal(f"'{home.root}' is a virtual person's Home, which reads the models of this machine; install into a real one")
    first = CheckpointStore(bundle / FIRST_MODEL)
    bundled = first.latest()
    if bundled is None:
        raise Refusal(f"'{bundle / FIRST_MODEL}' holds no checkpoint; install the program anew")
    written = list(_copied(bundle / BODY, models / BODY))
    found = _found(home, bundled)
    if found is Found.NOTHING:
        first.load(bundled)  # its digest is verified before anything is taken
        name = f"v{bundled.version:06d}"
        written += _copied(bundle / FIRST_MODEL / name, home.checkpoints.root / name)
        written += _copied(bundle / FIRST_MODEL, home.checkpoints.root, only="latest")  # last: from here on it counts
    elif found is Found.UNREADABLE:
        home.checkpoints.publish(
            first.load(bundled),
            model=bundled.model,
            tuning=bundled.tuning,
            base_digest=bundled.base_digest,
            tokenizer_digest=bundled.tokenizer_digest,
            round=bundled.round,
            scores=bundled.scores,
        )
        written.append(home.checkpoints.root / "latest")
    return Installed(_verified(home), tuple(written))


class Found(Enum):
    """Which global model a Home holds already."""

    NOTHING = "none"
    READABLE = "one that this program reads with"
    UNREADABLE = "one of an older program"


def _found(home: Home, bundled: Manifest) -> Found:
    try:
        newest = home.checkpoints.latest()
    except OtherTextStep:
        return Found.UNREADABLE
    if newest is None:
        return Found.NOTHING
    older_body = newest.model == bundled.model and newest.base_digest != bundled.base_digest
    return Found.UNREADABLE if older_body else Found.READABLE


def _bundle() -> Path:
    from model.hub import bundles, missing_files  # torch takes a second to import

    for folder in bundles():
        if not missing_files(folder / BODY) and (folder / FIRST_MODEL / "latest").is_file():
            return folder
    raise Refusal(f"the program came without '{BODY}' and '{FIRST_MODEL}'; set HEALING_MODELS to a folder that holds both")


def _copied(source: Path, target: Path, *, only: str = "*") -> Iterator[Path]:
    """The files that were written, whole: those that are not there yet, and those that differ."""
    for file in sorted(path for path in source.glob(only) if path.is_file()):
        content, place = file.read_bytes(), target / file.name
        if place.is_file() and _digest(place.read_bytes()) == _digest(content):
            continue
        write_durably(place, content)
        if _digest(place.read_bytes()) != _digest(content):
            raise Refusal(f"'{place}' does not read back as it was written; check the disk and run init again")
        yield place


def _verified(home: Home) -> Manifest:
    """The newest global model, which was put on the body to see that both fit."""
    from model.classifier import source_of
    from model.hub import find_model
    from model.settings import RunSettings
    from model.tuning import tuned_classifier

    manifest = home.checkpoints.latest()
    if manifest is None:
        raise Refusal(f"'{home.checkpoints.root}' holds no global model; run init again")
    weights = home.checkpoints.load(manifest)
    settings = RunSettings(model=manifest.model, tuning=manifest.tuning)
    classifier = tuned_classifier(settings, find_model(source_of(manifest.model), home.models))
    for what, wanted, found in (
        ("body", manifest.base_digest, classifier.base_digest),
        ("tokenizer", manifest.tokenizer_digest, classifier.tokenizer.digest),
    ):
        if wanted != found:
            raise Refusal(f"the global model was trained on the {what} {wanted[:12]} and this Home has {found[:12]}; install the same one")
    classifier.write(weights)
    return manifest


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
