"""Identity: by which a device is known to the other devices, whatever a server relays between them.

**Promise.** What verifies under a device's registered public key, for a purpose, was signed by that device for that
purpose: a signature made for one purpose never verifies for another.
**Against whom**: the server that relays the messages, and every other device.
**Assumptions**: the public key was registered over a way that the relaying server does not control (it could put a key of
its own in its place; see :mod:`privacy.register`); the private key stays in the device's Home,
sealed. Replay is not seen here: a signed content must itself name its run, round and sender.
**Cost**: Ed25519 (Bernstein et al. 2011; RFC 8032): 64 bytes and about 0.1 ms a signature. One key pair is all that is
kept: keys for encryption and masks are drawn anew for each round and signed (see ``privacy.masking``), so that a device
that is stolen later opens no earlier round.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from model.refusal import Refusal

_DOMAIN = b"feelinghealing signature 1\x00"


class WrongSignature(Refusal):
    """The content was not signed by that device for that purpose."""


@dataclass(frozen=True, eq=False)
class Identity:
    """A device's signing key pair, made once and registered by its ``public`` half."""

    _private: bytes = field(repr=False)

    @classmethod
    def create(cls) -> Identity:
        """A new one, from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @cached_property
    def public(self) -> bytes:
        """The 32 bytes by which the others verify."""
        return Ed25519PrivateKey.from_private_bytes(self._private).public_key().public_bytes_raw()

    def sign(self, content: bytes, purpose: bytes) -> bytes:
        """A signature, 64 bytes, over ``content`` that is good for ``purpose`` only."""
        return Ed25519PrivateKey.from_private_bytes(self._private).sign(_signed_bytes(content, purpose))

    def to_bytes(self) -> bytes:
        """JSON with the private key: to be sealed."""
        return json.dumps({"kind": "ed25519", "private": self._private.hex(), "public": self.public.hex()}).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Identity:
        """What :meth:`to_bytes` gave; :class:`Refusal` if it is damaged."""
        try:
            stored = json.loads(content)
            identity = cls(bytes.fromhex(stored["private"]))
            if stored["kind"] != "ed25519" or identity.public.hex() != stored["public"]:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise Refusal("the device's identity is damaged; restore it from a backup, or make a new one and register it") from None
        return identity


def verify(public: bytes, content: bytes, purpose: bytes, signature: bytes) -> None:
    """Raise :class:`WrongSignature` unless the holder of ``public`` signed ``content`` for ``purpose``."""
    signed = _signed_bytes(content, purpose)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (InvalidSignature, ValueError, TypeError):
        raise WrongSignature(
            f"a signature for '{purpose.decode(errors='replace')}' does not verify under the registered key; it was altered, "
            "or the device must be registered anew"
        ) from None


def _signed_bytes(content: bytes, purpose: bytes) -> bytes:
    if not 1 <= len(purpose) <= 255:
        raise Refusal(f"the purpose of a signature has {len(purpose)} bytes; name it in 1 to 255")
    return _DOMAIN + bytes([len(purpose)]) + purpose + content
