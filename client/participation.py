"""Whether this device takes part in rounds: the person may pause it, or sit the next round out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint import locked, write_durably
from model.refusal import Damaged, Refusal

FILE = "participation.json"


@dataclass(frozen=True, kw_only=True)
class Participation:
    """``paused``: no round until the person says so; ``skip_next``: not the next one, and then again."""

    paused: bool = False
    skip_next: bool = False


def participation_of(root: Path) -> Participation:
    """What the person of this Home chose last; by default every round."""
    return _read(root)[0]


def change_participation(root: Path, *, paused: bool | None = None, skip_next: bool | None = None) -> Participation:
    """Keep what the person chose, and leave what is None as it is by then; on disk when this returns.

    A damaged file is written anew if both are given; otherwise :class:`Damaged`, since the other half is not known.
    """
    with locked(root / "participation.lock"):
        try:
            now, skipped = _read(root)
        except Damaged:
            if paused is None or skip_next is None:
                raise
            now, skipped = Participation(), NEVER  # the person has just said what it should hold
        wanted = Participation(paused=now.paused if paused is None else paused, skip_next=now.skip_next if skip_next is None else skip_next)
        _write(root, wanted, skipped)
    return wanted


def takes_part(root: Path, *, run: str, round: int) -> bool:
    """Whether this device trains in a round. A round that is skipped stays so when it is asked for again."""
    if not (root / FILE).exists():
        return True
    with locked(root / "participation.lock"):
        wanted, skipped = _read(root)
        if wanted.paused or skipped == (run, round):
            return False
        if wanted.skip_next:
            _write(root, Participation(), (run, round))
        return not wanted.skip_next


class SitsOut(Refusal):
    """This device's person has paused it, or chose to skip this round."""


def require_not_paused(root: Path) -> None:
    """:class:`SitsOut` while the device is paused; a round that is to be skipped is not used up by asking."""
    if participation_of(root).paused:
        raise SitsOut("this device is paused by its person; it takes part again when they say so")


def require_part(root: Path, *, run: str, round: int) -> None:
    """:class:`SitsOut` where this device does not train in a round (:func:`takes_part`)."""
    if not takes_part(root, run=run, round=round):
        raise SitsOut("this round is skipped by this device's person; it takes part in the next")


def tells_scores(root: Path, *, round: int) -> bool:
    """Whether counts of this device's labelled entries may be sent after a round: not where it sat that round out."""
    wanted, skipped = _read(root)
    return not wanted.paused and skipped[1] != round


Skipped = tuple[str, int]
"""Run and round that were sat out last."""

NEVER: Skipped = ("", 0)


def _read(root: Path) -> tuple[Participation, Skipped]:
    path = root / FILE
    if not path.exists():
        return Participation(), NEVER
    try:
        content = json.loads(path.read_bytes())
        paused, skip_next, (run, round) = content["paused"], content["skip_next"], content["skipped"]
        if not (isinstance(paused, bool) and isinstance(skip_next, bool) and isinstance(run, str) and isinstance(round, int)):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise Damaged(
            f"'{path}' is damaged, so whether this device takes part is unknown; say both whether it is paused and whether the next round "
            "is skipped, and it is written anew"
        ) from None
    return Participation(paused=paused, skip_next=skip_next), (run, round)


def _write(root: Path, wanted: Participation, skipped: Skipped) -> None:
    content = {"paused": wanted.paused, "skip_next": wanted.skip_next, "skipped": skipped}
    write_durably(root / FILE, json.dumps(content, indent=1).encode())
