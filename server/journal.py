"""Journal: what a run did, in files that people and programs read: settings, a line a round, the final scores."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from model.checkpoint import CheckpointStore, write_durably
from model.refusal import Refusal
from model.scores import Scores
from model.settings import RunSettings


@dataclass(frozen=True)
class RoundRecord:
    """One finished round, as it stands in ``rounds.jsonl``. ``epsilon_max`` is null without privacy."""

    round: int
    clients: int
    macro_f1: float
    accuracy: float
    cross_entropy: float
    epsilon_max: float | None
    delta: float | None
    mb_sent_per_client: float
    seconds: float
    declined: dict[str, int]
    refused: dict[str, str]
    user_epsilon: float | None = None
    """Of the whole population's ledger; null without user-level privacy."""
    lost: str = ""
    """Why a masked or encrypted round gave no sum."""
    left_out: list[str] = field(default_factory=list)
    """Nodes whose updates a robust rule had no use for."""


class Journal:
    """The folder of one run. A round counts as done once its checkpoint is published; its line follows from that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = CheckpointStore(folder / "checkpoints", keep=3)

    @property
    def run(self) -> str:
        """The run's name, by which ledgers know it."""
        return self.folder.name

    def begin(self, settings: RunSettings) -> None:
        """Write ``settings.json``; a resumed run must have the same ones, but for where its people live."""
        path = self.folder / "settings.json"
        if not path.exists():
            write_durably(path, json.dumps(asdict(settings), indent=1, ensure_ascii=False).encode())

    def tie(self, digests: Mapping[str, str]) -> None:
        """Keep in ``tied.json`` what a run's figures rest on, by name; a resumed run must rest on the same.

        Raises :class:`Refusal` if something changed: entries that were trained on would be scored as if they were new.
        """
        path = self.folder / "tied.json"
        if not path.exists():
            write_durably(path, json.dumps(dict(digests), indent=1, ensure_ascii=False).encode())
            return
        try:
            begun = dict(json.loads(path.read_bytes()))
        except (ValueError, TypeError):
            raise Refusal(f"'{path}' is damaged, so what the run was begun with is unknown; start the run anew") from None
        changed = [name for name, digest in digests.items() if begun.get(name) != digest]
        if changed:
            raise Refusal(
                f"the {' and the '.join(changed)} of '{self.folder}' are no longer those that it was begun with; restore them, or start a "
                "new run"
            )

    def keep_start(self, scores: Scores) -> None:
        """Keep what the weights that the run begins with are worth on the test set, in ``start.json``."""
        content = {"macro_f1": scores.macro_f1, "accuracy": scores.accuracy, "cross_entropy": finite_or_none(scores.cross_entropy)}
        write_durably(self.folder / "start.json", json.dumps(content, indent=1).encode())

    def start(self) -> float | None:
        """The macro-F1 that the run began with; None for a run of an older program."""
        path = self.folder / "start.json"
        return float(json.loads(path.read_bytes())["macro_f1"]) if path.exists() else None

    @staticmethod
    def settings_of(folder: Path) -> RunSettings:
        """The settings of a run that was begun in ``folder``."""
        try:
            return RunSettings(**json.loads((folder / "settings.json").read_bytes()))
        except FileNotFoundError:
            raise Refusal(
                f"'{folder}' is not the folder of a run (it has no settings.json); name one that `healing simulate` printed"
            ) from None
        except (ValueError, TypeError):
            raise Refusal(f"'{folder / 'settings.json'}' is damaged; start the run anew") from None

    def rounds(self) -> list[RoundRecord]:
        """The finished rounds; a last line that a crash cut short is left out, its round is in the checkpoint."""
        path = self.folder / "rounds.jsonl"
        records = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                records.append(RoundRecord(**json.loads(line)))
            except (ValueError, TypeError):
                break
        return records

    def append(self, record: RoundRecord) -> None:
        """Add a round's line, once; the file is replaced whole, so no line is ever half there."""
        done = [earlier for earlier in self.rounds() if earlier.round < record.round]
        lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in [*done, record])
        write_durably(self.folder / "rounds.jsonl", lines.encode())

    def catch_up(self) -> int:
        """Number of finished rounds; adds the line of a round that was published just before a crash."""
        newest = self.checkpoints.latest()
        if newest is None:
            return 0
        self.append(RoundRecord(**newest.scores))
        return newest.round

    def finish(self, scores: Scores) -> None:
        """Write ``scores.json``: the final model on the test set."""
        write_durably(self.folder / "scores.json", json.dumps(scores.summary(), indent=1).encode())

    @property
    def is_finished(self) -> bool:
        """Whether the final scores are there."""
        return (self.folder / "scores.json").exists()

    def most_asked(self) -> int:
        """How often one device was asked to train at most, before this start of the run."""
        path = self.folder / "asked"
        try:
            return int(path.read_text()) if path.exists() else 0
        except ValueError:
            raise Refusal(f"'{path}' is damaged, so what the devices spent is unknown; start the run anew") from None

    def note_most_asked(self, times: int) -> None:
        """Keep that number for a start after a crash."""
        write_durably(self.folder / "asked", f"{times}\n".encode())


def finite_or_none(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
