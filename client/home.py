"""Home: the one folder in which a device keeps everything of its person's: diary, ledger, checkpoints, cache."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.diary.diary import Diary
from client.diary.diary_file import DiaryFile, require_plain
from client.participation import Participation, change_participation, participation_of
from client.vault import DataKey, Passphrase, SealedFile, Vault, WrongKey
from model.checkpoint import CheckpointStore, locked, write_durably
from model.refusal import Damaged, Refusal
from model.settings import RunSettings
from privacy.identity import Identity
from privacy.register import FILE as REGISTER
from privacy.register import Register, read_register
from privacy.roster import FEWEST_ASKED, is_number

if TYPE_CHECKING:
    from privacy.ledger import Ledger  # its accountants take seconds to import, and a diary needs none

IDENTITY = "identity.json"


@dataclass(frozen=True, kw_only=True)
class DevicePolicy:
    """What this device agrees to, whatever a server asks: its budget for life, for one run and for seven days, whether it trains
    unprotected, and among how many devices it hides a masked or encrypted update (of ``fewest_asked``, two thirds are in the sum)."""

    epsilon_limit: float = 8.0
    epsilon_per_run: float = 4.0
    epsilon_per_week: float = 4.0
    delta: float = 1e-4
    allow_unprotected: bool = False
    fewest_asked: int = 5

    def __post_init__(self) -> None:
        if not (is_number(self.fewest_asked) and self.fewest_asked >= FEWEST_ASKED):
            raise Refusal(f"fewest-asked is {str(self.fewest_asked)[:20]}; it must be a whole number, at least {FEWEST_ASKED}")
        for name in ("epsilon_limit", "epsilon_per_run", "epsilon_per_week", "delta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise Refusal(f"{name.replace('_', '-')} is {str(value)[:20]}; it must be a number above 0")


class Home:
    """A device's folder. Nothing in it is found by another way, and nothing of a person's lies outside it.

    ``passphrase`` opens the diary of a Home that was made with one; without it the environment is asked
    (``HEALING_PASSPHRASE``, ``HEALING_PASSPHRASE_FILE``), the first time that the diary is needed.
    """

    def __init__(self, root: Path, *, passphrase: Passphrase | None = None) -> None:
        self.root = root
        self.vault = Vault(root)
        self._passphrase = passphrase
        self.models: Path | None = root / "models"
        self.cache = root / "cache"
        self.songs = root / "songs"
        self.register_path = root / REGISTER

    @classmethod
    def create(cls, root: Path, policy: DevicePolicy, *, passphrase: Passphrase | None = None, key_file: Path | None = None) -> Home:
        """Make a Home, readable by its owner only; one that exists keeps its policy, its key and everything else.

        Its diary opens with ``passphrase``, or else with a new key file, which lies in Home unless ``key_file`` says where.
        """
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        home = cls(root, passphrase=passphrase)
        if not home._policy_path.exists():
            if not home._diary_path.exists():  # else an earlier start was killed, and the diary needs the key that it has
                home.key = home.vault.make(passphrase=passphrase, key_file=key_file)
                DiaryFile(home._diary_path, home.key).create()
            home._ledger(policy).begin()
            home.sealed(IDENTITY).write(Identity.create().to_bytes())
            write_durably(home._policy_path, json.dumps(asdict(policy), indent=1).encode())
        return home

    @classmethod
    def find(cls, node_config: Mapping[str, Any], settings: RunSettings) -> Home:
        """This device's Home: node-config ``home``, a virtual person's, or ``HEALING_HOME``; :class:`Refusal` if none."""
        if "home" in node_config:
            file = node_config.get("passphrase-file")
            return cls.at(Path(str(node_config["home"])), passphrase=Passphrase.read(Path(str(file))) if file else None)
        if settings.people and "partition-id" in node_config:
            home = cls.at(virtual_home(Path(settings.people), int(node_config["partition-id"])))
            home.models = None  # hundreds of virtual people read the copy of this machine
            home.register_path = Path(settings.people) / REGISTER
            return home
        if os.environ.get("HEALING_HOME"):
            return cls.at(Path(os.environ["HEALING_HOME"]))
        raise Refusal(
            'this device has no Home; set node-config home="..." or HEALING_HOME, or run `healing simulate`, which makes virtual ones'
        )

    @classmethod
    def at(cls, root: Path, *, passphrase: Passphrase | None = None) -> Home:
        """The Home in a folder; :class:`Refusal` if there is none."""
        home = cls(root, passphrase=passphrase)
        if not home._policy_path.exists():
            raise Refusal(f"'{root}' is not a Home (it has no device.json); run: healing client init --home {root}")
        return home

    @property
    def policy(self) -> DevicePolicy:
        """What this device agrees to."""
        try:
            return DevicePolicy(**json.loads(self._policy_path.read_bytes()))
        except Refusal:
            raise
        except (ValueError, TypeError):
            raise Damaged(f"'{self._policy_path}' is damaged; write it anew from the defaults") from None

    def change_policy(self, **choices: Any) -> DevicePolicy:
        """What this device agrees to from now on; what is not named stays as it is."""
        policy = replace(self.policy, **choices)
        write_durably(self._policy_path, json.dumps(asdict(policy), indent=1).encode())
        return policy

    @property
    def identity(self) -> Identity:
        """The key by which other devices know this one; :class:`Refusal` if it is gone or damaged."""
        file = self.sealed(IDENTITY)
        try:
            return Identity.from_bytes(file.read())
        except FileNotFoundError:
            raise Damaged(f"'{file.path}' is gone; restore it from a backup, or make a new Home and register it") from None
        except WrongKey:  # a key that somebody put there is no identity either
            raise Damaged(f"'{file.path}' is damaged; restore it from a backup, or make a new Home and register it") from None

    @property
    def register(self) -> Register:
        """The devices among which this one hides its updates: the register that its person joined."""
        return read_register(self.register_path)

    @cached_property
    def key(self) -> DataKey:
        """What opens the diary; :class:`Refusal` without the right passphrase or key file."""
        if not self.vault.exists:
            self._give_key()
        return self.vault.open(self._passphrase or Passphrase.from_environment())

    def sealed(self, name: str) -> SealedFile:
        """A file of this Home that opens with its key."""
        return SealedFile(self.root / name, self.key)

    @property
    def diary(self) -> Diary:
        """The person's diary."""
        return Diary(DiaryFile(self._diary_path, self.key), cache=self.cache)

    @property
    def participation(self) -> Participation:
        """Whether this device takes part in rounds."""
        return participation_of(self.root)

    def change_participation(self, *, paused: bool | None, skip_next: bool | None) -> Participation:
        """What the person chooses now; what is None stays as it is."""
        return change_participation(self.root, paused=paused, skip_next=skip_next)

    @property
    def ledger(self) -> Ledger:
        """What has been spent of this device's privacy; :class:`LedgerDamaged` if it is gone."""
        from privacy.ledger import LedgerDamaged

        if not (self.root / "ledger.json").exists():
            raise LedgerDamaged(f"'{self.root / 'ledger.json'}' is gone, so what was spent is unknown; restore it, or start a new Home")
        return self._ledger(self.policy)

    def _ledger(self, policy: DevicePolicy) -> Ledger:
        from privacy.ledger import Ledger

        return Ledger(
            self.root / "ledger.json",
            limit=policy.epsilon_limit,
            run_limit=policy.epsilon_per_run,
            week_limit=policy.epsilon_per_week,
            delta=policy.delta,
        )

    @property
    def checkpoints(self) -> CheckpointStore:
        """The global models that reached this device."""
        return CheckpointStore(self.root / "checkpoints", keep=2)

    def _give_key(self) -> None:
        """A key file for a Home of an earlier version, whose diary is plain and is encrypted when it is next opened."""
        with locked(self.root / "vault.lock"):
            if self.vault.exists or not self._policy_path.exists():
                return
            require_plain(self._diary_path)
            self.vault.make()

    @property
    def _diary_path(self) -> Path:
        return self.root / "diary.sqlite3"

    @property
    def _policy_path(self) -> Path:
        return self.root / "device.json"


def virtual_home(people: Path, number: int) -> Path:
    """Where the virtual person ``number`` lives."""
    return people / f"p{number:05d}"
