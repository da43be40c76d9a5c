"""Register: the devices that hide their updates among one another, by number and public key; every one of them holds the same.

**Promise.** A device that has joined a register takes part in hidden sums with these devices and no others, whatever a
server says: keys of a round count only if one of them signed them (:mod:`privacy.roster`).
**For whom**: every device in it. **Against whom**: a server that invents devices, to be most of a round itself; and whoever
hands the file on, and could have put in a key of their own or an older register.
**Assumptions**: the people compared the fingerprint and the number of devices, over a way that the server does not control, and
know so many devices to be there. Nobody signs a register: before it there is no one whom all devices trust. The registrar, who
writes it, may be the server's operator; what they get wrong shows as another fingerprint, or as devices that nobody knows.
**A register only grows**: a number is given once, and belongs to one key for ever. A device that lost its key, or was removed,
comes back under a new number; so a register that follows another swaps no key and brings no removed device back, and an older
one is found out (:meth:`Register.require_follows`).
**Cost**: a file of some 80 bytes a device; a line of 208 characters to register one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.checkpoint import write_durably
from model.refusal import Refusal
from privacy.identity import Identity, WrongSignature, verify
from privacy.roster import KEY_BYTES, SIGNATURE_BYTES, is_bytes, is_number, joined

FILE = "register.json"
FORMAT = 1

_REGISTRATION = b"register: this device"
"""For what a device signs its own public key: that it holds the private one, and that no character of the line was lost."""
_LINE = "healing-device"


def registration_line(identity: Identity) -> str:
    """What a device's person gives to the registrar: nothing in it is secret."""
    return f"{_LINE} {identity.public.hex()} {identity.sign(identity.public, _REGISTRATION).hex()}"


def registered_key(line: str) -> bytes:
    """The public key (32 bytes) in a line of :func:`registration_line`; :class:`Refusal` if it was cut short or altered."""
    try:
        name, public, signature = line.split()
        key, signed = bytes.fromhex(public), bytes.fromhex(signature)
        if (name, len(key), len(signed)) != (_LINE, KEY_BYTES, SIGNATURE_BYTES):
            raise ValueError
        verify(key, key, _REGISTRATION, signed)
    except (ValueError, WrongSignature):
        raise Refusal(
            f"{len(line.strip())} characters are not the whole line of one device, which begins with '{_LINE}'; get it again from: "
            "healing client identity"
        ) from None
    return key


@dataclass(frozen=True)
class Register:
    """The public keys (32 bytes) by number, and how many numbers were ever given. Raises :class:`Refusal` for two of one key."""

    devices: Mapping[int, bytes] = field(default_factory=dict)
    given: int = 0

    def __post_init__(self) -> None:
        if not (is_number(self.given) and all(is_number(number) and number < self.given for number in self.devices)):
            raise Refusal(f"a register of {str(self.given)[:20]} numbers names one that was never given; numbers are whole, from 0 on")
        if not all(is_bytes(key, KEY_BYTES) for key in self.devices.values()):
            raise Refusal(f"a register holds what is no public key of {KEY_BYTES} bytes; register that device again")
        if len(set(self.devices.values())) < len(self.devices):
            raise Refusal("a register holds one key under two numbers; a device is registered once, or it would count for two")

    @property
    def digest(self) -> str:
        """SHA-256 over all of it, 64 hexadecimal digits: two registers of one digest are one register."""
        parts = (part for number, key in sorted(self.devices.items()) for part in (number, key))
        return hashlib.sha256(joined("register", FORMAT, self.given, *parts)).hexdigest()

    @property
    def fingerprint(self) -> str:
        """The digest in groups of four, for people who compare it."""
        return " ".join(self.digest[start : start + 4] for start in range(0, 64, 4))

    def is_named(self, fingerprint: str) -> bool:
        """Whether that is this register's whole fingerprint, however it is spaced."""
        return "".join(fingerprint.split()).lower() == self.digest

    def number_of(self, public: bytes) -> int:
        """Under which number a key stands here; :class:`Refusal` if it does not."""
        for number, key in self.devices.items():
            if key == public:
                return number
        raise Refusal(
            f"this device is not among the {len(self.devices)} of the register {self.digest[:12]}; give the line of `healing client "
            "identity` to who runs the federation, and join the new register"
        )

    def with_device(self, public: bytes) -> Register:
        """One device more, under a number that nobody had."""
        for number, key in self.devices.items():
            if key == public:
                raise Refusal(f"that device is registered already, as number {number}; one device has one number")
        return Register({**self.devices, self.given: public}, self.given + 1)

    def without(self, number: int) -> Register:
        """One device less; its number is not given again."""
        if number not in self.devices:
            raise Refusal(f"no device has the number {number}; see: healing server devices")
        return replace(self, devices={one: key for one, key in self.devices.items() if one != number})

    def require_follows(self, earlier: Register) -> None:
        """Raise :class:`Refusal` unless this register can have grown out of ``earlier``."""
        swapped = [number for number, key in self.devices.items() if earlier.devices.get(number, key) != key]
        back = [number for number in self.devices if number < earlier.given and number not in earlier.devices]
        if swapped:
            told = f"gives device {swapped[0]} another key than the register that this device has joined"
        elif back:
            told = f"brings back device {back[0]}, which was removed from the register that this device has joined"
        elif self.given < earlier.given:
            told = f"is older than the register that this device has joined ({self.given} numbers given, and {earlier.given} there)"
        else:
            return
        raise Refusal(f"the register {told}; ask who runs the federation, and trust another one only with --anew")

    def to_bytes(self) -> bytes:
        """JSON with its own digest; nothing in it is secret."""
        devices = {str(number): key.hex() for number, key in sorted(self.devices.items())}
        return json.dumps({"format": FORMAT, "given": self.given, "devices": devices, "digest": self.digest}, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Register:
        """What :meth:`to_bytes` gave; :class:`Refusal` if it is damaged."""
        try:
            stored: dict[str, Any] = json.loads(content)
            if stored["format"] != FORMAT:
                raise ValueError
            register = cls({int(number): bytes.fromhex(key) for number, key in stored["devices"].items()}, stored["given"])
            if stored["digest"] != register.digest:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Refusal(f"the register of {len(content)} bytes is damaged; get {FILE} again from who runs the federation") from None
        return register


def write_register(path: Path, register: Register) -> None:
    """Whole or not at all."""
    write_durably(path, register.to_bytes())


def read_register(path: Path) -> Register:
    """What :func:`write_register` wrote; :class:`Refusal` if there is none or it is damaged."""
    try:
        return Register.from_bytes(path.read_bytes())
    except FileNotFoundError:
        raise Refusal(
            f"there is no '{path}' with the devices' registered keys; a server makes one by `healing server register`, a device takes "
            "it over by `healing client join`"
        ) from None
    except OSError as error:
        raise Refusal(f"'{path}' cannot be read ({error.strerror}); it must be a file that this program may read") from None
