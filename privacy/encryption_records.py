"""Messages of an encrypted round as Flower's records, and back: the only place that knows their keys.

A round begins as a masked one does, with signed keys (:mod:`privacy.masking_records`). Then one device makes the round's sum
key and seals it for each other; every train order brings a device its own; two devices open the sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import RecordDict

from privacy.fixed_point import Integers
from privacy.identity import Identity, verify
from privacy.masking_records import (
    advertised_keys,
    advertisements,
    bytes_of,
    config_record,
    mapping,
    read_record,
    round_keys,
    round_of,
    sender_keys,
    table,
    vector_of,
    vector_record,
)
from privacy.roster import Advertisement, MaskingRound, joined

VECTOR = "opened"
_SUM_KEY = b"encryption: sum key of a round"


@dataclass(frozen=True)
class DealtKey:
    """The round's sum key, sealed for each other device; its digest is signed by its maker."""

    round: MaskingRound
    device: int
    digest: str
    signature: bytes
    sealed: dict[int, bytes] = field(repr=False)

    def require_signed(self, public: bytes) -> None:
        """Raise :class:`model.refusal.Refusal` unless the holder of ``public`` made a key of this digest for this round."""
        verify(public, _signed_bytes(self.round, self.device, self.digest), _SUM_KEY, self.signature)


def signed_key(round: MaskingRound, device: int, digest: str, sealed: dict[int, bytes], identity: Identity) -> DealtKey:
    """What the maker of the key sends."""
    return DealtKey(round, device, digest, identity.sign(_signed_bytes(round, device, digest), _SUM_KEY), sealed)


@dataclass(frozen=True)
class KeyDelivery:
    """In a train order: who made the key, under which advertised keys, and the key as it was sealed for this device (the maker has it)."""

    maker: Advertisement
    dealt: DealtKey


@dataclass(frozen=True)
class EncryptedUpdate:
    """A device's update under the round's sum key."""

    round: MaskingRound
    device: int
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True)
class OpenOrder:
    """Server to device: the sum of so many updates; open it."""

    total: bytes
    count: int


@dataclass(frozen=True, eq=False)
class OpenedSum:
    """The sum (D,), as a device opened it."""

    round: MaskingRound
    device: int
    values: Integers


def encode_dealt_key(message: DealtKey) -> RecordDict:
    """Device to server: the sum key sealed for each other device, and its digest with the maker's signature; never the key."""
    signed = {"digest": message.digest, "signature": message.signature}
    return config_record(sender_keys(message.round, message.device) | signed | table("receiver", "sealed", message.sealed))


def decode_dealt_key(records: RecordDict) -> DealtKey:
    """The sealed keys; refused if a receiver stands twice or a part is not bytes. The signature is verified by whoever uses the key."""
    return read_record(records, _dealt)


def key_delivery(delivery: KeyDelivery, device: int) -> RecordDict:
    """What a train order carries for one device beside its weights."""
    dealt = delivery.dealt
    signed = {"digest": dealt.digest, "signature": dealt.signature, "device": dealt.device}
    sealed = {one: content for one, content in dealt.sealed.items() if one == device}
    return config_record(round_keys(dealt.round) | advertised_keys([delivery.maker]) | signed | table("receiver", "sealed", sealed))


def delivered_key(records: RecordDict) -> KeyDelivery:
    """The maker's advertisement and what is sealed for this device (nothing for the maker); refused without the former."""
    return read_record(records, lambda config: KeyDelivery(advertisements(config)[0], _dealt(config)))


def encode_encrypted(message: EncryptedUpdate) -> RecordDict:
    """Device to server: the update as one ciphertext (:mod:`privacy.encryption` has its form)."""
    return config_record(sender_keys(message.round, message.device) | {"ciphertext": message.ciphertext})


def decode_encrypted(records: RecordDict) -> EncryptedUpdate:
    """The update; refused if the ciphertext is not bytes. Whether it is of the round's form is checked where it is added."""
    return read_record(records, lambda config: EncryptedUpdate(round_of(config), int(config["device"]), bytes_of(config, "ciphertext")))


def encode_open_order(order: OpenOrder) -> RecordDict:
    """Server to device: the encrypted sum, and of how many updates it is."""
    return config_record({"total": order.total, "count": order.count})


def decode_open_order(records: RecordDict) -> OpenOrder:
    """The order; refused without both. The device opens no sum of fewer than its threshold."""
    return read_record(records, lambda config: OpenOrder(bytes_of(config, "total"), int(config["count"])))


def encode_opened(message: OpenedSum) -> RecordDict:
    """Device to server: the opened sum (D,) as int32, in which every sum of a round fits."""
    return RecordDict({**config_record(sender_keys(message.round, message.device)), VECTOR: vector_record(VECTOR, message.values, "int32")})


def decode_opened(records: RecordDict) -> OpenedSum:
    """The sum (D,) as int64; refused without a vector of int32. Its length is the caller's to check."""

    def read(config: Mapping[str, Any]) -> OpenedSum:
        values = vector_of(records, VECTOR, "int32").astype(np.int64)
        return OpenedSum(round_of(config), int(config["device"]), values)

    return read_record(records, read)


def _dealt(config: Mapping[str, Any]) -> DealtKey:
    signed = (str(config["digest"]), bytes_of(config, "signature"))
    return DealtKey(round_of(config), int(config["device"]), *signed, mapping(config, "receiver", "sealed"))


def _signed_bytes(round: MaskingRound, device: int, digest: str) -> bytes:
    return joined(*round.parts, device, digest)
