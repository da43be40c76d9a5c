"""Messages of a masked round as Flower's records, and back: the only place that knows their keys.

Every message is one :class:`ConfigRecord` of numbers and of keys, signatures and sealed shares as bytes; only the masked
vector is an array. What a device sends is built here from the protocol's own dataclasses, key by key: nothing else fits in.
A message that does not read back is a :class:`Refusal` that quotes nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from model.refusal import Refusal
from privacy.masking import Advertisement, Agreement, MaskedInput, MaskingRound, Shares, Unmasking

RECORD, VECTOR = "masking", "masked"

Read = TypeVar("Read")


@dataclass(frozen=True)
class AdvertiseOrder:
    """Server to device: a masked round begins; draw keys for it."""

    round: MaskingRound


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
    return config_record(round_keys(order.round))


def decode_advertise_order(records: RecordDict) -> AdvertiseOrder:
    return read_record(records, lambda config: AdvertiseOrder(round_of(config)))


def encode_advertisement(message: Advertisement) -> RecordDict:
    return config_record(round_keys(message.round) | advertised_keys([message]))


def decode_advertisement(records: RecordDict) -> Advertisement:
    return read_record(records, lambda config: next(iter(advertisements(config))))


def encode_share_order(order: ShareOrder) -> RecordDict:
    return config_record(round_keys(order.advertisements[0].round) | advertised_keys(order.advertisements))


def decode_share_order(records: RecordDict) -> ShareOrder:
    return read_record(records, lambda config: ShareOrder(tuple(advertisements(config))))


def encode_shares(message: Shares) -> RecordDict:
    shares = table("receiver", "sealed", message.sealed) | table("holder", "digest", message.digests)
    return config_record(sender_keys(message.round, message.device) | shares)


def decode_shares(records: RecordDict) -> Shares:
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
    records = config_record(sender_keys(message.round, message.device))
    values = np.ascontiguousarray(message.values, dtype="<u4")
    records[VECTOR] = ArrayRecord({VECTOR: Array("uint32", values.shape, "raw", values.tobytes())})
    return records


def decode_masked(records: RecordDict) -> MaskedInput:
    def read(config: Mapping[str, Any]) -> MaskedInput:
        array = records[VECTOR][VECTOR]
        if not isinstance(array, Array) or array.dtype != "uint32" or array.stype != "raw" or len(array.shape) != 1:
            raise ValueError
        values = np.frombuffer(array.data, dtype="<u4").astype(np.uint32, copy=False)
        return MaskedInput(round_of(config), int(config["device"]), values)

    return read_record(records, read)


def encode_agree_order(order: AgreeOrder) -> RecordDict:
    return config_record({"survivors": list(order.survivors)})


def decode_agree_order(records: RecordDict) -> AgreeOrder:
    return read_record(records, lambda config: AgreeOrder(tuple(map(int, config["survivors"]))))


def encode_agreement(message: Agreement) -> RecordDict:
    return config_record(sender_keys(message.round, message.device) | {"signature": message.signature})


def decode_agreement(records: RecordDict) -> Agreement:
    return read_record(records, lambda config: Agreement(round_of(config), int(config["device"]), bytes(config["signature"])))


def encode_unmask_order(order: UnmaskOrder) -> RecordDict:
    return config_record(table("signer", "signature", order.signatures))


def decode_unmask_order(records: RecordDict) -> UnmaskOrder:
    return read_record(records, lambda config: UnmaskOrder(mapping(config, "signer", "signature")))


def encode_unmasking(message: Unmasking) -> RecordDict:
    shares = table("survivor", "seed-share", message.seed_shares) | table("lost", "key-share", message.key_shares)
    return config_record(sender_keys(message.round, message.device) | shares)


def decode_unmasking(records: RecordDict) -> Unmasking:
    return read_record(
        records,
        lambda config: Unmasking(
            round_of(config), int(config["device"]), mapping(config, "survivor", "seed-share"), mapping(config, "lost", "key-share")
        ),
    )


def round_keys(round: MaskingRound) -> dict[str, Any]:
    return {"run": round.run, "round": round.number, "asked": round.asked}


def sender_keys(round: MaskingRound, device: int) -> dict[str, Any]:
    return round_keys(round) | {"device": device}


def round_of(config: Mapping[str, Any]) -> MaskingRound:
    return MaskingRound(str(config["run"]), int(config["round"]), int(config["asked"]))


def advertised_keys(messages: Iterable[Advertisement]) -> dict[str, Any]:
    listed = list(messages)
    return {
        "devices": [message.device for message in listed],
        "sealing-keys": [message.sealing_key for message in listed],
        "masking-keys": [message.masking_key for message in listed],
        "signatures": [message.signature for message in listed],
    }


def advertisements(config: Mapping[str, Any]) -> list[Advertisement]:
    columns = (config[name] for name in ("devices", "sealing-keys", "masking-keys", "signatures"))
    members = [Advertisement(round_of(config), int(device), *keys) for device, *keys in zip(*columns, strict=True)]
    if not members:
        raise ValueError
    return members


def table(key: str, value: str, content: Mapping[int, bytes]) -> dict[str, Any]:
    """A mapping as two lists of one length; an empty list would have no type."""
    return {f"{key}s": list(content), f"{value}s": list(content.values())} if content else {}


def mapping(config: Mapping[str, Any], key: str, value: str) -> dict[int, bytes]:
    keys, values = config.get(f"{key}s", []), config.get(f"{value}s", [])
    if len(set(keys)) != len(keys) or not all(isinstance(content, bytes) for content in values):
        raise ValueError
    return {int(one): content for one, content in zip(keys, values, strict=True)}


def config_record(keys: dict[str, Any]) -> RecordDict:
    return RecordDict({RECORD: ConfigRecord(keys)})


def read_record(records: RecordDict, read: Callable[[Mapping[str, Any]], Read]) -> Read:
    try:
        record = records[RECORD]
        if not isinstance(record, ConfigRecord):
            raise TypeError
        return read(record)
    except Refusal:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise Refusal(f"a masking message lacks or misshapes a field ({type(error).__name__}); both sides must run one version") from None
