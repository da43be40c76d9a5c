"""What a device keeps between the steps of a round whose sum is hidden: one kind of secrets a step, each with its bytes.

**Promise.** What a step no longer needs is not in the secrets that it leaves. Bytes read back as the step that wrote them
and as no other, so that no step is taken twice with the same secrets; damaged bytes are a :class:`Refusal`. No secret is
in a repr. Where the bytes lie, and that they are there before an answer leaves, is the caller's (``client.blind``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from model.refusal import Refusal
from privacy.roster import Advertisement, MaskingRound, Roster


@dataclass(frozen=True)
class HeldShares:
    """Of one dealer: what this device may reveal one of, never both."""

    of_seed: bytes = field(repr=False)
    of_key: bytes = field(repr=False)


@dataclass(frozen=True)
class KeysDrawn:
    """After :func:`privacy.masking.advertise`: the private halves of the advertised keys."""

    round: MaskingRound
    device: int
    sealing_key: bytes = field(repr=False)
    masking_key: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """JSON, secret."""
        keys = {"sealing_key": self.sealing_key.hex(), "masking_key": self.masking_key.hex()}
        return step_bytes("keys drawn", {"round": self.round.parts, "device": self.device} | keys)

    @classmethod
    def from_bytes(cls, content: bytes) -> KeysDrawn:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        fields = step_fields("keys drawn", content)
        keys = (bytes.fromhex(fields[name]) for name in ("sealing_key", "masking_key"))
        return cls(MaskingRound(*fields["round"]), fields["device"], *keys)


@dataclass(frozen=True)
class SharesDealt:
    """After :func:`privacy.masking.share`: the keys still, the roster, the self-mask seed, and this device's shares of its own secrets."""

    roster: Roster
    keys: KeysDrawn
    seed: bytes = field(repr=False)
    own: HeldShares

    def to_bytes(self) -> bytes:
        """JSON, secret."""
        members = [
            [member.device, member.sealing_key.hex(), member.masking_key.hex(), member.signature.hex()]
            for member in self.roster.members.values()
        ]
        secrets = {"keys": self.keys.to_bytes().decode(), "seed": self.seed.hex(), "own": _held_hex(self.own)}
        return step_bytes("shares dealt", {"members": members} | secrets)

    @classmethod
    def from_bytes(cls, content: bytes) -> SharesDealt:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        fields = step_fields("shares dealt", content)
        keys = KeysDrawn.from_bytes(fields["keys"].encode())
        members = {device: Advertisement(keys.round, device, *map(bytes.fromhex, rest)) for device, *rest in fields["members"]}
        return cls(Roster(keys.round, members), keys, bytes.fromhex(fields["seed"]), _held(fields["own"]))


@dataclass(frozen=True)
class InputMasked:
    """After :func:`privacy.masking.mask`: the others' shares; this device's own keys and seed are gone."""

    round: MaskingRound
    context: bytes
    device: int
    held: dict[int, HeldShares]
    """By dealer, this device among them."""

    def to_bytes(self) -> bytes:
        """JSON, secret."""
        return step_bytes("input masked", self._fields())

    def _fields(self) -> dict[str, Any]:
        held = [[dealer, *_held_hex(shares)] for dealer, shares in self.held.items()]
        return {"round": self.round.parts, "context": self.context.hex(), "device": self.device, "held": held}

    @classmethod
    def from_bytes(cls, content: bytes) -> InputMasked:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        return cls._of(step_fields("input masked", content))

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> InputMasked:
        held = {dealer: _held(shares) for dealer, *shares in fields["held"]}
        return cls(MaskingRound(*fields["round"]), bytes.fromhex(fields["context"]), fields["device"], held)


@dataclass(frozen=True)
class SurvivorsSigned:
    """After :func:`privacy.masking.agree`: the shares still, and the one list for which they may be used."""

    masked: InputMasked
    survivors: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """JSON, secret."""
        return step_bytes("survivors signed", self.masked._fields() | {"survivors": self.survivors})

    @classmethod
    def from_bytes(cls, content: bytes) -> SurvivorsSigned:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        fields = step_fields("survivors signed", content)
        return cls(InputMasked._of(fields), tuple(fields["survivors"]))


@dataclass(frozen=True)
class UpdateEncrypted:
    """After an encrypted update left: of which round the sum key in the file beside it is, and how long the sum will be."""

    round: MaskingRound
    device: int
    parameters: int

    def to_bytes(self) -> bytes:
        """JSON."""
        return step_bytes("update encrypted", {"round": self.round.parts, "device": self.device, "parameters": self.parameters})

    @classmethod
    def from_bytes(cls, content: bytes) -> UpdateEncrypted:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        fields = step_fields("update encrypted", content)
        return cls(MaskingRound(*fields["round"]), fields["device"], fields["parameters"])


@dataclass(frozen=True)
class Answered:
    """After :func:`privacy.masking.unmask`, or once a sum is open: no secret, only that this round is over for this device; keep it
    until the next."""

    round: MaskingRound
    device: int

    def to_bytes(self) -> bytes:
        """JSON."""
        return step_bytes("answered", {"round": self.round.parts, "device": self.device})

    @classmethod
    def from_bytes(cls, content: bytes) -> Answered:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        fields = step_fields("answered", content)
        return cls(MaskingRound(*fields["round"]), fields["device"])


def _held_hex(shares: HeldShares) -> list[str]:
    return [shares.of_seed.hex(), shares.of_key.hex()]


def _held(content: Iterable[str]) -> HeldShares:
    return HeldShares(*map(bytes.fromhex, content))


def step_bytes(step: str, fields: dict[str, Any]) -> bytes:
    """A step's fields as JSON that says after which step it was written, with a digest: a damaged mask would spoil everyone's sum."""
    content = json.dumps(fields)
    return json.dumps({"step": step, "fields": content, "digest": hashlib.sha256(content.encode()).hexdigest()}).encode()


def step_fields(step: str, content: bytes) -> dict[str, Any]:
    """What :func:`step_bytes` was given; :class:`Refusal` if the content is damaged or was written after another step."""
    try:
        stored = json.loads(content)
        found, fields, digest = str(stored["step"]), stored["fields"], stored["digest"]
        if hashlib.sha256(fields.encode()).hexdigest() != digest:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refusal("the stored secrets of this round are damaged; sit the round out") from None
    if found != step:
        raise Refusal(
            f"the stored secrets are those after '{found}' and not after '{step}'; a device takes each step of a round once, in order"
        )
    return dict(json.loads(fields))
