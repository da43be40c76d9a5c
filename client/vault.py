"""Vault: the key of a Home, and what it takes to get at it.

**Promise.** Whoever has the files of a Home but not its passphrase (or, for a key file kept elsewhere, not that file)
reads no diary, no cached output of the model, no identity and no round's keys: the data key is 256 random bits and lies on disk
only wrapped.
**Against whom**: a thief of the disk, the laptop or a backup. **Not against** somebody who runs programs as this person or
reads the memory of a running one, nor, with a key file inside Home, somebody who takes the whole Home.
**Assumptions**: the passphrase is not guessed. argon2id (RFC 9106, second recommendation: 64 MiB, 3 passes, 4 lanes) makes each
guess cost a quarter of a second of such a machine as this was written on; ``vault.json`` names its parameters, so that they can grow.
**Cost**: that quarter of a second once a process with a passphrase, 0.1 ms with a key file.

A new passphrase wraps the same data key anew, so nothing else is written again. An old ``vault.json`` in a backup still
opens with the old one.
"""

from __future__ import annotations

import binascii
import json
import os
import stat
import unicodedata
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from model.checkpoint import write_durably
from model.refusal import Damaged, Refusal

FORMAT = 1
FILE, KEY_FILE = "vault.json", "diary.key"
SHORTEST_PASSPHRASE = 8
PASSPHRASE_VARIABLE, PASSPHRASE_FILE_VARIABLE = "HEALING_PASSPHRASE", "HEALING_PASSPHRASE_FILE"


class WrongKey(Damaged):
    """The passphrase or key file does not open this vault or archive."""


@dataclass(frozen=True, eq=False)
class Passphrase:
    """Words that only the person knows; NFC, so that every keyboard types the same ones."""

    _words: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self._words:
            raise Refusal("the passphrase is empty; write one")

    def require_long_enough(self) -> None:
        """For a passphrase that is being chosen."""
        if len(self._words) < SHORTEST_PASSPHRASE:
            raise Refusal(f"the passphrase has {len(self._words)} characters and needs {SHORTEST_PASSPHRASE}; several words are best")

    @property
    def secret(self) -> bytes:
        """What is stretched into a key."""
        try:
            return unicodedata.normalize("NFC", self._words).encode()
        except UnicodeEncodeError:
            raise Refusal("the passphrase holds a character that UTF-8 cannot write; type it again") from None

    @classmethod
    def read(cls, path: Path) -> Passphrase:
        """The first line of a file that only its owner may read."""
        try:
            content = _read_secretly(path).decode()
        except UnicodeDecodeError:
            raise Refusal(f"'{path}' is not UTF-8; write the passphrase into it as one line") from None
        return cls(content.splitlines()[0] if content else "")

    @classmethod
    def from_environment(cls) -> Passphrase | None:
        """``HEALING_PASSPHRASE``, or the file that ``HEALING_PASSPHRASE_FILE`` names; None without either."""
        if os.environ.get(PASSPHRASE_VARIABLE):
            return cls(os.environ[PASSPHRASE_VARIABLE])
        named = os.environ.get(PASSPHRASE_FILE_VARIABLE)
        return cls.read(Path(named)) if named else None


@dataclass(frozen=True, kw_only=True)
class Stretching:
    """How a passphrase becomes 32 bytes: argon2id, version 19, with these parameters (memory in KiB)."""

    salt: bytes
    passes: int = 3
    memory: int = 64 * 1024
    lanes: int = 4

    def __post_init__(self) -> None:
        fits = 16 <= len(self.salt) <= 64 and 1 <= self.passes <= 64 and 8 * 1024 <= self.memory <= 2**21 and 1 <= self.lanes <= 64
        if not fits:
            raise ValueError

    @classmethod
    def create(cls) -> Stretching:
        """With a fresh salt."""
        return cls(salt=os.urandom(16))

    def key(self, passphrase: Passphrase) -> bytes:
        """The 32 bytes."""
        return hash_secret_raw(
            passphrase.secret, self.salt, time_cost=self.passes, memory_cost=self.memory, parallelism=self.lanes, hash_len=32, type=Type.ID
        )

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {"kdf": "argon2id", **asdict(self), "salt": self.salt.hex()}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Stretching:
        """What :meth:`to_document` gave; ValueError, KeyError or TypeError for anything else."""
        if document["kdf"] != "argon2id" or not all(type(document[name]) is int for name in ("passes", "memory", "lanes")):
            raise ValueError
        salt = bytes.fromhex(document["salt"])
        return cls(salt=salt, passes=document["passes"], memory=document["memory"], lanes=document["lanes"])


@dataclass(frozen=True, eq=False)
class DataKey:
    """The one random key of a Home. What it protects uses keys derived from it, one a purpose."""

    _raw: bytes = field(repr=False)

    @classmethod
    def create(cls) -> DataKey:
        """A new one, from the operating system's randomness."""
        return cls(os.urandom(32))

    @cached_property
    def database(self) -> str:
        """SQLCipher's key in hexadecimal; raw, so that opening a diary stretches nothing."""
        return self._derived("database").hex()

    @cached_property
    def _sealing(self) -> ChaCha20Poly1305:
        return ChaCha20Poly1305(self._derived("cache"))

    def seal(self, content: bytes, bound_to: bytes = b"") -> bytes:
        """Encrypt and authenticate, ``bound_to`` too: 28 bytes longer."""
        nonce = os.urandom(12)
        return nonce + self._sealing.encrypt(nonce, content, bound_to)

    def open(self, sealed: bytes, bound_to: bytes = b"") -> bytes:
        """What :meth:`seal` was given; :class:`WrongKey` for anything that this key did not seal, or bound to something else."""
        try:
            return self._sealing.decrypt(sealed[:12], sealed[12:], bound_to)
        except (InvalidTag, ValueError):
            raise WrongKey("this key did not seal that, or it was changed since; remove the file") from None

    def wrapped(self, by: bytes, bound_to: bytes) -> bytes:
        """Itself under another key; ``bound_to`` is authenticated with it."""
        nonce = os.urandom(12)
        return nonce + ChaCha20Poly1305(by).encrypt(nonce, self._raw, bound_to)

    @classmethod
    def unwrapped(cls, wrapped: bytes, by: bytes, bound_to: bytes) -> DataKey:
        """What :meth:`wrapped` gave; InvalidTag under any other key."""
        return cls(ChaCha20Poly1305(by).decrypt(wrapped[:12], wrapped[12:], bound_to))

    def _derived(self, purpose: str) -> bytes:
        return HKDF(SHA256(), 32, salt=None, info=f"feelinghealing {purpose} 1".encode()).derive(self._raw)


@dataclass(frozen=True)
class SealedFile:
    """A file of a Home that opens with its data key alone, and in its own place: another's content is refused there."""

    path: Path
    key: DataKey

    def write(self, content: bytes) -> None:
        """Whole or not at all; on disk when this returns."""
        write_durably(self.path, self.key.seal(content, self.path.name.encode()))

    def read(self) -> bytes:
        """What was written last; FileNotFoundError without it, :class:`WrongKey` if it was changed since."""
        return self.key.open(self.path.read_bytes(), self.path.name.encode())


class Vault:
    """``vault.json`` of a Home: the data key, wrapped under a passphrase or under a key file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / FILE

    @property
    def exists(self) -> bool:
        """Whether this Home has a key yet."""
        return self._path.exists()

    @property
    def asks_passphrase(self) -> bool:
        """Whether it opens with a passphrase, and not with a key file."""
        return bool(self._document()["lock"]["kind"] == "passphrase")

    @property
    def key_file(self) -> Path | None:
        """The key file it opens with, if it does."""
        lock = self._document()["lock"]
        return self._root / lock["file"] if lock["kind"] == "key-file" else None

    def make(self, *, passphrase: Passphrase | None = None, key_file: Path | None = None) -> DataKey:
        """A new data key: under ``passphrase``, or under a new key file (inside Home if none is named)."""
        key = DataKey.create()
        self._lock(key, passphrase, key_file)
        return key

    def open(self, passphrase: Passphrase | None = None) -> DataKey:
        """The data key; :class:`WrongKey` or another :class:`Refusal` in one sentence."""
        document = self._document()
        if document["lock"]["kind"] == "key-file":
            by, what = _read_key(self._root / document["lock"]["file"]), f"the key file '{self._root / document['lock']['file']}'"
        elif passphrase is None:
            raise Refusal(
                f"the Home '{self._root}' opens with a passphrase; set {PASSPHRASE_VARIABLE}, or {PASSPHRASE_FILE_VARIABLE} to a file that "
                "only you may read"
            )
        else:
            by, what = self._stretching(document).key(passphrase), "the passphrase"
        try:
            return DataKey.unwrapped(bytes.fromhex(document["wrapped"]), by, _bound(document["lock"]))
        except InvalidTag:
            raise WrongKey(f"{what} does not open the Home '{self._root}'; try again, or restore '{FILE}' from a backup") from None

    def change(self, key: DataKey, *, passphrase: Passphrase | None = None, key_file: Path | None = None) -> None:
        """Open with something else from now on; a key file inside Home that is no longer needed is overwritten and removed."""
        old = self.key_file
        self._lock(key, passphrase, key_file)
        if old is not None and old != self.key_file and old.parent == self._root:
            shred(old)

    def _lock(self, key: DataKey, passphrase: Passphrase | None, key_file: Path | None) -> None:
        if passphrase is not None:
            passphrase.require_long_enough()
            stretching = Stretching.create()
            lock, by = {"kind": "passphrase", **stretching.to_document()}, stretching.key(passphrase)
        else:
            path = key_file.absolute() if key_file else self._root.absolute() / KEY_FILE
            inside = path.parent == self._root.absolute()  # named without its folder, so that the Home can be moved
            lock, by = {"kind": "key-file", "file": path.name if inside else str(path)}, _made_key(path)
        document = {"format": FORMAT, "lock": lock, "wrapped": key.wrapped(by, _bound(lock)).hex()}
        write_durably(self._path, json.dumps(document, indent=1).encode())

    def _document(self) -> dict[str, Any]:
        try:
            document = json.loads(self._path.read_bytes())
            if document["format"] != FORMAT:
                raise Refusal(f"'{self._path}' has format {document['format']} and this program reads {FORMAT}; update the program")
            if document["lock"]["kind"] == "passphrase":
                self._stretching(document)
            elif document["lock"]["kind"] != "key-file" or not isinstance(document["lock"]["file"], str):
                raise ValueError
            if len(bytes.fromhex(document["wrapped"])) != 12 + 32 + 16:
                raise ValueError
        except FileNotFoundError:
            raise Damaged(f"'{self._path}' is gone, and without it the diary cannot be read; restore it from a backup") from None
        except Refusal:
            raise
        except (ValueError, KeyError, TypeError):
            raise Damaged(f"'{self._path}' is damaged, and without it the diary cannot be read; restore it from a backup") from None
        return dict(document)

    @staticmethod
    def _stretching(document: dict[str, Any]) -> Stretching:
        return Stretching.from_document(document["lock"])


def shred(path: Path) -> None:
    """Overwrite a file and remove it. On flash memory and copying file systems the old bytes may live on all the same."""
    with path.open("r+b", buffering=0) as file:
        for start in range(0, path.stat().st_size, 2**20):
            file.write(bytes(min(2**20, path.stat().st_size - start)))
        os.fsync(file.fileno())
    path.unlink()


def _bound(lock: dict[str, Any]) -> bytes:
    return json.dumps([FORMAT, lock], sort_keys=True).encode()


def _made_key(path: Path) -> bytes:
    """The key in a file that is there already, or a new one in a new file."""
    if not path.exists():
        write_durably(path, f"{os.urandom(32).hex()}\n".encode())
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(_read_secretly(path).decode("ascii").strip())
    except (ValueError, binascii.Error) as error:
        if isinstance(error, Refusal):
            raise
        key = b""
    if len(key) != 32:
        raise Damaged(f"the key file '{path}' is damaged: it must hold 64 hexadecimal digits; restore it from a backup")
    return key


def _read_secretly(path: Path) -> bytes:
    """The content of a small file; :class:`Refusal` if others than its owner may read or change it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise Refusal(f"'{path}' may be read or changed by others (mode {mode:04o}); run: chmod 600 '{path}'")
            return file.read(4096)
    except OSError as error:
        raise Damaged(f"'{path}' cannot be read ({error.strerror}); it holds the key, so put it back or restore it from a backup") from None
