"""Messages of a masked round as Flower's records, and back: the only place that knows their keys.

Every message is one :class:`ConfigRecord` of numbers and of keys, signatures and sealed shares as bytes; only the masked
vector is an array. What a device sends is built here from the protocol's own dataclasses, key by key: nothing else fits in.
A message that does not read back is a :class:`Refusal` that quotes nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from model.refusal import Refusal
from privacy.masking import Agreement, MaskedInput, Shares, Unmasking
from privacy.roster import Advertisement, MaskingRound

RECORD, VECTOR = "masking", "masked"

Read = TypeVar("Read")
Words = Literal["uint32", "int32"]


@dataclass(frozen=True)
class AdvertiseOrder:
    """Server to device: a masked round begins among the devices of a register with this digest; draw keys for it."""

    round: MaskingRound
    register: str


@dataclass(frozen=True)
class ShareOrder:
    """Server to device: everybody's keys; deal your secrets among them."""

    advertisements: tuple[Advertisement, ...]


@dataclass(frozen=True)
class AgreeOrder:
    """Server to device: these devices' vectors are in the sum; sign the list."""

    survivors: tuple[int, ...]


@dataclass(frozen=True)
class UnmaskOrder:
    """Server to device: so many survivors signed the list; reveal what it takes to unmask the sum."""

    signatures: dict[int, bytes]


def encode_advertise_order(order: AdvertiseOrder) -> RecordDict:
    """Server to device: of which run and the how-manieth the round is, how many devices are asked, and of which register."""
    return config_record(round_keys(order.round) | {"register": order.register})


def decode_advertise_order(records: RecordDict) -> AdvertiseOrder:
    """The order; refused for a round that would promise nothing (:class:`privacy.roster.MaskingRound`), or without a register's digest."""
    return read_record(records, lambda config: AdvertiseOrder(round_of(config), _digest_of(config)))


def encode_advertisement(message: Advertisement) -> RecordDict:
    """Device to server: its two public keys of 32 bytes of the round, and its identity's signature of 64."""
    return config_record(round_keys(message.round) | advertised_keys([message]))


def decode_advertisement(records: RecordDict) -> Advertisement:
    """The advertisement; refused if it has none. Lengths and signature are checked where a roster is made."""
    return read_record(records, lambda config: next(iter(advertisements(config))))


def encode_share_order(order: ShareOrder) -> RecordDict:
    """Server to device: the advertisements of all who take part, in columns of one length; one at least."""
    return config_record(round_keys(order.advertisements[0].round) | advertised_keys(order.advertisements))


def decode_share_order(records: RecordDict) -> ShareOrder:
    """The advertisements; refused if there is none, or if the columns differ in length."""
    return read_record(records, lambda config: ShareOrder(tuple(advertisements(config))))


def encode_shares(message: Shares) -> RecordDict:
    """Device to server: by receiver what is sealed for it (92 bytes), and by holder two digests (64 bytes)."""
    shares = table("receiver", "sealed", message.sealed) | table("holder", "digest", message.digests)
    return config_record(sender_keys(message.round, message.device) | shares)


def decode_shares(records: RecordDict) -> Shares:
    """The shares; refused if a device stands twice or a part is not bytes. Who stands there is the protocol's to check."""
    return read_record(
        records,
        lambda config: Shares(
            round_of(config), int(config["device"]), mapping(config, "receiver", "sealed"), mapping(config, "holder", "digest")
        ),
    )


def delivery(sealed: Mapping[int, bytes]) -> ConfigRecord:
    """What a train order carries for one device beside its weights: the shares sealed for it, by dealer."""
    return ConfigRecord(table("dealer", "sealed", sealed))


def delivered(records: RecordDict) -> dict[int, bytes]:
    """The shares in a train order; :class:`Refusal` if it has none."""
    return read_record(records, lambda config: mapping(config, "dealer", "sealed"))


def encode_masked(message: MaskedInput) -> RecordDict:
    """Device to server: the vector (D,) under its masks, uint32; the one array of a masked round."""
    return RecordDict(
        {**config_record(sender_keys(message.round, message.device)), VECTOR: vector_record(VECTOR, message.values, "uint32")}
    )


def decode_masked(records: RecordDict) -> MaskedInput:
    """The masked vector (D,), uint32; refused without a vector of these. Its length is the protocol's to check."""

    def read(config: Mapping[str, Any]) -> MaskedInput:
        return MaskedInput(round_of(config), int(config["device"]), vector_of(records, VECTOR, "uint32"))

    return read_record(records, read)


def encode_agree_order(order: AgreeOrder) -> RecordDict:
    """Server to device: the numbers of the devices whose vectors are in the sum."""
    return config_record({"survivors": list(order.survivors)})


def decode_agree_order(records: RecordDict) -> AgreeOrder:
    """The list of survivors; refused without one. Which lists are signed is the protocol's to say."""
    return read_record(records, lambda config: AgreeOrder(tuple(map(int, config["survivors"]))))


def encode_agreement(message: Agreement) -> RecordDict:
    """Device to server: its signature (64 bytes) over the list of survivors, which itself does not travel."""
    return config_record(sender_keys(message.round, message.device) | {"signature": message.signature})


def decode_agreement(records: RecordDict) -> Agreement:
    """The agreement; refused without a signature, which is verified by the protocol."""
    return read_record(records, lambda config: Agreement(round_of(config), int(config["device"]), bytes_of(config, "signature")))


def encode_unmask_order(order: UnmaskOrder) -> RecordDict:
    """Server to device: by signer, the signatures over the one list of survivors."""
    return config_record(table("signer", "signature", order.signatures))


def decode_unmask_order(records: RecordDict) -> UnmaskOrder:
    """The signatures; refused if a signer stands twice or a signature is not bytes."""
    return read_record(records, lambda config: UnmaskOrder(mapping(config, "signer", "signature")))


def encode_unmasking(message: Unmasking) -> RecordDict:
    """Device to server: of each survivor a share of its seed, of each lost device a share of its mask key (32 bytes each)."""
    shares = table("survivor", "seed-share", message.seed_shares) | table("lost", "key-share", message.key_shares)
    return config_record(sender_keys(message.round, message.device) | shares)


def decode_unmasking(records: RecordDict) -> Unmasking:
    """The shares; refused if a device stands twice among one kind or a share is not bytes."""
    return read_record(
        records,
        lambda config: Unmasking(
            round_of(config), int(config["device"]), mapping(config, "survivor", "seed-share"), mapping(config, "lost", "key-share")
        ),
    )


def round_keys(round: MaskingRound) -> dict[str, Any]:
    """A round as keys of a record; every message that a device sends has them."""
    return {"run": round.run, "round": round.number, "asked": round.asked, "work": round.work}


def sender_keys(round: MaskingRound, device: int) -> dict[str, Any]:
    """A round, and the number of the device that sends."""
    return round_keys(round) | {"device": device}


def round_of(config: Mapping[str, Any]) -> MaskingRound:
    """The round that :func:`round_keys` wrote; refused if it would promise nothing."""
    return MaskingRound(str(config["run"]), int(config["round"]), int(config["asked"]), str(config["work"]))


def _digest_of(config: Mapping[str, Any]) -> str:
    digest = config["register"]
    if len(digest) != 64 or len(bytes.fromhex(digest)) != 32 or digest != digest.lower():
        raise ValueError
    return str(digest)


def advertised_keys(messages: Iterable[Advertisement]) -> dict[str, Any]:
    """Advertisements in columns of one length."""
    listed = list(messages)
    return {
        "devices": [message.device for message in listed],
        "sealing-keys": [message.sealing_key for message in listed],
        "masking-keys": [message.masking_key for message in listed],
        "signatures": [message.signature for message in listed],
    }


def advertisements(config: Mapping[str, Any]) -> list[Advertisement]:
    """The advertisements that :func:`advertised_keys` wrote; ``ValueError`` if there is none."""
    columns = (config[name] for name in ("devices", "sealing-keys", "masking-keys", "signatures"))
    members = [Advertisement(round_of(config), int(device), *keys) for device, *keys in zip(*columns, strict=True)]
    if not members:
        raise ValueError
    return members


def table(key: str, value: str, content: Mapping[int, bytes]) -> dict[str, Any]:
    """A mapping as two lists of one length; an empty list would have no type."""
    return {f"{key}s": list(content), f"{value}s": list(content.values())} if content else {}


def mapping(config: Mapping[str, Any], key: str, value: str) -> dict[int, bytes]:
    """What :func:`table` wrote; ``ValueError`` for a key that stands twice, a part that is not bytes, or columns of two lengths."""
    keys, values = config.get(f"{key}s", []), config.get(f"{value}s", [])
    if len(set(keys)) != len(keys) or not all(isinstance(content, bytes) for content in values):
        raise ValueError
    return {int(one): content for one, content in zip(keys, values, strict=True)}


def bytes_of(config: Mapping[str, Any], key: str) -> bytes:
    """One part of a message; ``ValueError`` if it is not bytes."""
    if not isinstance(config[key], bytes):
        raise ValueError
    return bytes(config[key])


def vector_record(name: str, values: npt.NDArray[Any], kind: Words) -> ArrayRecord:
    """A vector (D,) as little-endian words of 32 bits."""
    words = np.ascontiguousarray(values, dtype=np.dtype(kind).newbyteorder("<"))
    return ArrayRecord({name: Array(kind, words.shape, "raw", words.tobytes())})


def vector_of(records: RecordDict, name: str, kind: Words) -> npt.NDArray[Any]:
    """The vector (D,) that :func:`vector_record` made a record of; ``ValueError`` for an array of another kind or form."""
    array = records[name][name]
    if not isinstance(array, Array) or array.dtype != kind or array.stype != "raw" or len(array.shape) != 1:
        raise ValueError
    return np.frombuffer(array.data, dtype=np.dtype(kind).newbyteorder("<")).astype(kind, copy=False)


def config_record(keys: dict[str, Any]) -> RecordDict:
    """A message without arrays."""
    return RecordDict({RECORD: ConfigRecord(keys)})


def read_record(records: RecordDict, read: Callable[[Mapping[str, Any]], Read]) -> Read:
    """``read`` over the keys of a message; one :class:`Refusal`, which quotes nothing of it, for whatever does not read back."""
    try:
        record = records[RECORD]
        if not isinstance(record, ConfigRecord):
            raise TypeError
        return read(record)
    except Refusal:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise Refusal(f"a masking message lacks or misshapes a field ({type(error).__name__}); both sides must run one version") from None
