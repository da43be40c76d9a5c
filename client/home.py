"""Home: the one folder in which a device keeps everything of its person's: diary, ledger, checkpoints, cache."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from client.diary import Diary
from model.checkpoint import CheckpointStore, write_durably
from model.refusal import Refusal
from model.settings import RunSettings
from privacy.identity import Identity, read_roster
from privacy.ledger import Ledger, LedgerDamaged

ROSTER = "roster.json"
"""The registered public keys of a federation's devices."""


@dataclass(frozen=True, kw_only=True)
class DevicePolicy:
    """What this device agrees to, whatever a server asks: its lifetime budget, and whether it trains unprotected."""

    epsilon_limit: float = 8.0
    delta: float = 1e-4
    allow_unprotected: bool = False


class Home:
    """A device's folder. Nothing in it is found by another way, and nothing of a person's lies outside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models: Path | None = root / "models"
        self.cache = root / "cache"
        self.roster = root / ROSTER

    @classmethod
    def create(cls, root: Path, policy: DevicePolicy) -> Home:
        """Make a Home, readable by its owner only; one that exists keeps its policy and everything else."""
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        home = cls(root)
        if not home._policy_path.exists():
            home._ledger(policy).begin()
            write_durably(home._identity_path, Identity.create().to_bytes())
            write_durably(home._policy_path, json.dumps(asdict(policy), indent=1).encode())
        return home

    @classmethod
    def find(cls, node_config: Mapping[str, Any], settings: RunSettings) -> Home:
        """This device's Home: node-config ``home``, a virtual person's, or ``HEALING_HOME``; :class:`Refusal` if none."""
        if "home" in node_config:
            home = cls(Path(str(node_config["home"])))
        elif settings.people and "partition-id" in node_config:
            home = cls(virtual_home(Path(settings.people), int(node_config["partition-id"])))
            home.models = None  # hundreds of virtual people read the copy of this machine
            home.roster = Path(settings.people) / ROSTER
        elif os.environ.get("HEALING_HOME"):
            home = cls(Path(os.environ["HEALING_HOME"]))
        else:
            raise Refusal(
                'this device has no Home; set node-config home="..." or HEALING_HOME, or run `healing simulate`, which makes virtual ones'
            )
        if not home._policy_path.exists():
            raise Refusal(f"'{home.root}' is not a Home (it has no device.json); make one first")
        return home

    @property
    def policy(self) -> DevicePolicy:
        """What this device agrees to."""
        try:
            return DevicePolicy(**json.loads(self._policy_path.read_bytes()))
        except (ValueError, TypeError):
            raise Refusal(f"'{self._policy_path}' is damaged; write it anew from the defaults") from None

    @property
    def identity(self) -> Identity:
        """The key by which other devices know this one; :class:`Refusal` if it is gone or damaged."""
        try:
            return Identity.from_bytes(self._identity_path.read_bytes())
        except FileNotFoundError:
            raise Refusal(f"'{self._identity_path}' is gone; restore it from a backup, or make a new Home and register it") from None

    @property
    def registered(self) -> dict[int, bytes]:
        """The public keys of the devices that this one masks its updates with, by number."""
        return read_roster(self.roster)

    @property
    def diary(self) -> Diary:
        """The person's diary."""
        return Diary(self.root / "diary.sqlite3")

    @property
    def ledger(self) -> Ledger:
        """What has been spent of this device's privacy; :class:`LedgerDamaged` if it is gone."""
        if not (self.root / "ledger.json").exists():
            raise LedgerDamaged(f"'{self.root / 'ledger.json'}' is gone, so what was spent is unknown; restore it, or start a new Home")
        return self._ledger(self.policy)

    def _ledger(self, policy: DevicePolicy) -> Ledger:
        return Ledger(self.root / "ledger.json", limit=policy.epsilon_limit, delta=policy.delta)

    @property
    def checkpoints(self) -> CheckpointStore:
        """The global models that reached this device."""
        return CheckpointStore(self.root / "checkpoints", keep=2)

    @property
    def _identity_path(self) -> Path:
        return self.root / "identity.json"

    @property
    def _policy_path(self) -> Path:
        return self.root / "device.json"


def virtual_home(people: Path, number: int) -> Path:
    """Where the virtual person ``number`` lives."""
    return people / f"p{number:05d}"
