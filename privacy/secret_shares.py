"""Shares of a device's secrets: split among the roster by Shamir's scheme, and sealed for the one device that is to hold each.

**Promise.** ``threshold`` shares rebuild a secret of 32 bytes and fewer tell nothing of it (Shamir 1979, over GF(2^128) for
each half). A sealed share is read by its receiver alone, and only as what it is: dealer, receiver, place and roster are
bound into its key (X25519, HKDF-SHA256, ChaCha20-Poly1305). A share that was altered after it was dealt is known by its digest.
**Assumptions** are those of :mod:`privacy.masking`, whose protocol says who deals, holds and reveals what.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from model.refusal import Refusal
from privacy.roster import KEY_BYTES, Roster, joined
from privacy.round_secrets import HeldShares, KeysDrawn

NONCE_BYTES, BLOCK_BYTES = 12, 16
SEALED_BYTES = NONCE_BYTES + 2 * KEY_BYTES + 16


def derived_key(secret: bytes, context: bytes, *purpose: str | int) -> bytes:
    """A key for one purpose in one round, from a secret; ``context`` is the roster's."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=context, info=joined(*purpose)).derive(secret)


def agreed_secret(private: bytes, public: bytes) -> bytes:
    """What the holders of two X25519 keys have in common; :class:`Refusal` for a public key with which everybody has the same."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Refusal("an advertised key is one with which every agreement is the same; its device must draw an honest one") from None


def dealt_shares(seed: bytes, masking_key: bytes, roster: Roster) -> dict[int, HeldShares]:
    """By holder, the shares of both secrets at the holder's place."""
    seeds, keys = _split(seed, roster), _split(masking_key, roster)
    return {device: HeldShares(seeds[place], keys[place]) for device, place in roster.places.items()}


def _split(secret: bytes, roster: Roster) -> dict[int, bytes]:
    """Shares of a 32-byte secret by place: of each 16-byte half on a polynomial of its own, side by side."""
    halves = [dict(Shamir.split(roster.round.threshold, len(roster.members), half, False)) for half in _halves(secret)]
    return {place: halves[0][place] + halves[1][place] for place in roster.places.values()}


def rebuilt_secret(shares: Mapping[int, bytes], roster: Roster) -> bytes:
    """The 32-byte secret from shares by holder; Shamir takes exactly ``threshold`` of them."""
    chosen = sorted(shares.items())[: roster.round.threshold]
    points = [(roster.places[holder], _halves(content)) for holder, content in chosen]
    return b"".join(Shamir.combine([(place, halves[number]) for place, halves in points], False) for number in (0, 1))


def _halves(content: bytes) -> tuple[bytes, bytes]:
    return content[:BLOCK_BYTES], content[BLOCK_BYTES:]


def sealed_shares(shares: HeldShares, roster: Roster, keys: KeysDrawn, receiver: int) -> bytes:
    """The shares for one receiver, under a key that only it has too and that says who sends to whom, in which round."""
    agreed = agreed_secret(keys.sealing_key, roster.members[receiver].sealing_key)
    nonce = os.urandom(NONCE_BYTES)
    cipher = ChaCha20Poly1305(derived_key(agreed, roster.context, "shares", keys.device, receiver))
    return nonce + cipher.encrypt(nonce, shares.of_seed + shares.of_key, _place_bytes(roster, receiver))


def opened_shares(content: bytes, roster: Roster, keys: KeysDrawn, dealer: int) -> HeldShares:
    """The shares that ``dealer`` sealed for this device; :class:`Refusal` if they were altered, or are of another roster."""
    agreed = agreed_secret(keys.sealing_key, roster.members[dealer].sealing_key)
    cipher = ChaCha20Poly1305(derived_key(agreed, roster.context, "shares", dealer, keys.device))
    try:
        shares = cipher.decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], _place_bytes(roster, keys.device))
    except (InvalidTag, ValueError, TypeError):
        raise Refusal(f"device {dealer}'s shares were altered, or not dealt to this device in this round; sit the round out") from None
    if len(shares) != 2 * KEY_BYTES:
        raise Refusal(f"device {dealer}'s shares are {len(shares)} bytes and not {2 * KEY_BYTES}; it must run the same version")
    return HeldShares(shares[:KEY_BYTES], shares[KEY_BYTES:])


def _place_bytes(roster: Roster, device: int) -> bytes:
    return joined("place", roster.places[device])


def share_digests(context: bytes, dealer: int, holder: int, shares: HeldShares) -> bytes:
    """Of the seed's and the key's share, 64 bytes."""
    return share_digest(context, "seed", dealer, holder, shares.of_seed) + share_digest(context, "key", dealer, holder, shares.of_key)


def share_digest(context: bytes, kind: str, dealer: int, holder: int, content: bytes) -> bytes:
    """Names what a dealer dealt to a holder and tells nothing of it; ``kind`` is seed or key."""
    return hashlib.sha256(joined("share digest", context, kind, dealer, holder, content)).digest()
