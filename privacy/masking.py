"""Secure aggregation: masks that cancel in the sum (Bonawitz et al. 2017, CCS, doi 10.1145/3133956.3133982).

**Promise.** The server learns the sum of the survivors' vectors and nothing else of any one of them; or, if fewer than
``threshold`` devices are left at any stage, nothing at all. The sum is exact, not approximate.
**For whom**: every device whose masked vector is in the sum; it is hidden among the other honest ones in it, of which
there are at least ``threshold`` less the dishonest. The sum itself is not protected: that is what noise is for.
**Against whom**: a server that follows the protocol and looks at all it sees, together with fewer than ``threshold``
devices. Against a server that lies, together with fewer than ``2 * threshold - asked`` devices (a third of those asked),
because of four checks: keys are signed by registered identities; every derived key is bound to one roster, so that
devices who were shown different ones cannot read each other's shares; a device reveals a mask seed or a mask key of
another, never both; and before it reveals any, ``threshold`` survivors must have signed the very list of survivors that
it has signed itself. An honest device signs one list a round and c dishonest ones any number, so two lists find at most
``asked + c`` signatures together and need ``2 * threshold``: while that is more, there is one list. Without the last check
no device's seed and key could both be had either (the same count), but a lying server could show each device another list
and so shrink the sum to few devices, with c near a third to a single one.
**Not promised**: that the round succeeds (a server or device that lies can spoil it), or that a device's vector is honest:
nobody can look at one, so its norm must be bounded on the device.
**Assumptions**: registered keys came over a way that the server does not control, and not all from devices of its own; a
device takes each step of a round once, and stores what the step gave *before* its message leaves (masked twice with the
same masks, two vectors give their difference away); it masks a vector in one round only (two rounds with different
survivors give the difference of their sums); ``asked`` is known before the round and large enough for the device's taste;
X25519, HKDF-SHA256, ChaCha20 and Poly1305 are sound, SHA-256 of a 256-bit secret does not tell it.
**Cost**: five messages a device; it sends 4 bytes a value, and about 200 more for each other device; one ChaCha20 stream over
the vector for every other device. Ten devices with 300,000 values take about a second on one core, all parties together.
Shamir's shares are slow in pure Python (their cost grows with the cube of the devices), so at most 100 devices are asked.
**Shapes**: values int64 (D,), each within +-(2^31 - 1) / asked (see ``privacy.fixed_point``); masked uint32 (D,).

A round, device on the left and server on the right; whoever is missing from a step is left out of the next::

    advertise  fresh keys, signed           ->  enrol    all of them to each
    share      sealed shares for each       ->  deliver  to each those sealed for it
    mask       vector plus masks            ->  collect  who survived
    agree      signature over the survivors ->  confirm  the signatures
    unmask     shares of what is to go      ->  total    the sum

Each function of a device takes the secrets that the step before it left and gives those for the next, each with
``to_bytes`` and ``from_bytes``; what a step no longer needs is not in them. The server's functions pass a frozen stage on
likewise; ``refused`` of a stage names the devices whose message was not followed, and why. Messages bear their device's
number: the caller must see to it that it is the sender's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from model.refusal import Refusal
from privacy.fixed_point import LARGEST, Integers, centred
from privacy.identity import Identity, verify

FEWEST_ASKED = 3
"""Of two devices each would know the other's vector from the sum."""

MOST_ASKED = 100
"""A server then takes a minute and a half for the shares, a device one second."""

KEY_BYTES, SIGNATURE_BYTES, NONCE_BYTES, BLOCK_BYTES = 32, 64, 12, 16
SEALED_BYTES = NONCE_BYTES + 2 * KEY_BYTES + 16

Masked = npt.NDArray[np.uint32]


class RoundLost(Refusal):
    """Too few devices are left: the round gives no sum, and nothing of any device is revealed."""


@dataclass(frozen=True)
class MaskingRound:
    """What all sides know before the round begins: of which run and the how-manieth it is, and how many devices are asked."""

    run: str
    number: int
    asked: int

    def __post_init__(self) -> None:
        if not (isinstance(self.run, str) and self.run.isascii() and 1 <= len(self.run) <= 200):
            raise Refusal("a masked round's run has a name that is not of 1 to 200 ASCII characters; give it one")
        if not _is_number(self.number):
            raise Refusal(f"a masked round's number is {str(self.number)[:20]}; it must be whole and not negative")
        if not (_is_number(self.asked) and FEWEST_ASKED <= self.asked <= MOST_ASKED):
            raise Refusal(f"{str(self.asked)[:20]} devices are asked to mask; it must be at least {FEWEST_ASKED} and at most {MOST_ASKED}")

    @property
    def threshold(self) -> int:
        """How many devices every stage needs: two thirds of those asked, rounded up (so always more than half)."""
        return threshold(self.asked)

    @property
    def largest_value(self) -> int:
        """The largest absolute value a device may send, so that no sum leaves the signed 32-bit range."""
        return LARGEST // self.asked


def threshold(asked: int) -> int:
    """Two thirds of the devices asked, rounded up."""
    return -(-2 * asked // 3)


@dataclass(frozen=True)
class Advertisement:
    """A device's two X25519 public keys of one round, signed by its identity; every other device gets it."""

    round: MaskingRound
    device: int
    sealing_key: bytes
    masking_key: bytes
    signature: bytes

    def require_signed(self, public: bytes) -> None:
        """Raise :class:`Refusal` unless it is well-formed and signed by the holder of ``public``."""
        keys = (self.sealing_key, self.masking_key)
        if not (all(_is_bytes(key, KEY_BYTES) for key in keys) and _is_bytes(self.signature, SIGNATURE_BYTES)):
            raise Refusal(f"device {self.device}'s advertised keys are not of the agreed length; it must run the same version")
        verify(public, _advertised_bytes(self.round, self.device, *keys), _KEYS, self.signature)


@dataclass(frozen=True)
class Shares:
    """A device's shares of its two secrets: sealed for each other device, and the digests (of the seed's and the key's share,
    64 bytes) of what each device, itself too, may later reveal."""

    round: MaskingRound
    device: int
    sealed: dict[int, bytes]
    digests: dict[int, bytes]


@dataclass(frozen=True, eq=False)
class MaskedInput:
    """A device's vector under its masks; uniformly random to whoever lacks them."""

    round: MaskingRound
    device: int
    values: Masked


@dataclass(frozen=True)
class Agreement:
    """A device's signature over the one list of survivors that it will unmask."""

    round: MaskingRound
    device: int
    signature: bytes


@dataclass(frozen=True)
class Unmasking:
    """By device: a share of the self-mask seed of each survivor, and of the mask key of each that was lost after sharing."""

    round: MaskingRound
    device: int
    seed_shares: dict[int, bytes] = field(repr=False)
    key_shares: dict[int, bytes] = field(repr=False)


class Message(Protocol):
    """What all of them have."""

    @property
    def round(self) -> MaskingRound: ...
    @property
    def device(self) -> int: ...


@dataclass(frozen=True)
class Roster:
    """The checked advertisements of a round, by device."""

    round: MaskingRound
    members: dict[int, Advertisement]

    @cached_property
    def context(self) -> bytes:
        """To what every key of the round is bound: the round, and all keys of all devices in it."""
        members = [(device, member.sealing_key, member.masking_key) for device, member in sorted(self.members.items())]
        return hashlib.sha256(_joined(*_round_parts(self.round), *(part for member in members for part in member))).digest()

    @cached_property
    def places(self) -> dict[int, int]:
        """Where each device's shares lie on Shamir's polynomials: its place in the roster, from 1; nobody can choose it."""
        return {device: place for place, device in enumerate(sorted(self.members), start=1)}


def checked_roster(round: MaskingRound, advertisements: Iterable[Advertisement], registered: Mapping[int, bytes]) -> Roster:
    """The roster of ``round``; :class:`Refusal` for one key that is not signed by a registered device for this very round."""
    members: dict[int, Advertisement] = {}
    for advertisement in advertisements:
        _require_signed_for(round, advertisement, registered)
        if advertisement.device in members:
            raise Refusal(f"device {advertisement.device} is in the roster twice; one device has one set of keys a round")
        members[advertisement.device] = advertisement
    if len(members) > round.asked:
        raise Refusal(f"the roster has {len(members)} devices and {round.asked} were asked; no others may take part")
    _require_enough(len(members), round, "advertised keys")
    return Roster(round, members)


def _require_signed_for(round: MaskingRound, advertisement: Advertisement, registered: Mapping[int, bytes]) -> None:
    if advertisement.round != round:
        raise Refusal(f"device {advertisement.device}'s keys are of another round; keys are made anew for each")
    if advertisement.device not in registered:
        raise Refusal(f"device {advertisement.device} has no registered identity here; register it, or leave it out")
    advertisement.require_signed(registered[advertisement.device])


@dataclass(frozen=True)
class HeldShares:
    """Of one dealer: what this device may reveal one of, never both."""

    of_seed: bytes = field(repr=False)
    of_key: bytes = field(repr=False)


@dataclass(frozen=True)
class KeysDrawn:
    """After :func:`advertise`: the private halves of the advertised keys."""

    round: MaskingRound
    device: int
    sealing_key: bytes = field(repr=False)
    masking_key: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """JSON, secret."""
        keys = {"sealing_key": self.sealing_key.hex(), "masking_key": self.masking_key.hex()}
        return _stored("keys drawn", {"round": _round_parts(self.round), "device": self.device} | keys)

    @classmethod
    def from_bytes(cls, content: bytes) -> KeysDrawn:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        fields = _restored("keys drawn", content)
        keys = (bytes.fromhex(fields[name]) for name in ("sealing_key", "masking_key"))
        return cls(MaskingRound(*fields["round"]), fields["device"], *keys)


@dataclass(frozen=True)
class SharesDealt:
    """After :func:`share`: the keys still, the roster, the self-mask seed, and this device's shares of its own secrets."""

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
        return _stored("shares dealt", {"members": members} | secrets)

    @classmethod
    def from_bytes(cls, content: bytes) -> SharesDealt:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        fields = _restored("shares dealt", content)
        keys = KeysDrawn.from_bytes(fields["keys"].encode())
        members = {device: Advertisement(keys.round, device, *map(bytes.fromhex, rest)) for device, *rest in fields["members"]}
        return cls(Roster(keys.round, members), keys, bytes.fromhex(fields["seed"]), _held(fields["own"]))


@dataclass(frozen=True)
class InputMasked:
    """After :func:`mask`: the others' shares; this device's own keys and seed are gone."""

    round: MaskingRound
    context: bytes
    device: int
    held: dict[int, HeldShares]
    """By dealer, this device among them."""

    def to_bytes(self) -> bytes:
        """JSON, secret."""
        return _stored("input masked", self._fields())

    def _fields(self) -> dict[str, Any]:
        held = [[dealer, *_held_hex(shares)] for dealer, shares in self.held.items()]
        return {"round": _round_parts(self.round), "context": self.context.hex(), "device": self.device, "held": held}

    @classmethod
    def from_bytes(cls, content: bytes) -> InputMasked:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        return cls._of(_restored("input masked", content))

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> InputMasked:
        held = {dealer: _held(shares) for dealer, *shares in fields["held"]}
        return cls(MaskingRound(*fields["round"]), bytes.fromhex(fields["context"]), fields["device"], held)


@dataclass(frozen=True)
class SurvivorsSigned:
    """After :func:`agree`: the shares still, and the one list for which they may be used."""

    masked: InputMasked
    survivors: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """JSON, secret."""
        return _stored("survivors signed", self.masked._fields() | {"survivors": self.survivors})

    @classmethod
    def from_bytes(cls, content: bytes) -> SurvivorsSigned:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        fields = _restored("survivors signed", content)
        return cls(InputMasked._of(fields), tuple(fields["survivors"]))


@dataclass(frozen=True)
class Answered:
    """After :func:`unmask`: no secret, only that this round is over for this device; keep it until the next."""

    round: MaskingRound
    device: int

    def to_bytes(self) -> bytes:
        """JSON."""
        return _stored("answered", {"round": _round_parts(self.round), "device": self.device})

    @classmethod
    def from_bytes(cls, content: bytes) -> Answered:
        """What :meth:`to_bytes` gave; :class:`Refusal` for another step's."""
        fields = _restored("answered", content)
        return cls(MaskingRound(*fields["round"]), fields["device"])


def advertise(round: MaskingRound, device: int, identity: Identity) -> tuple[Advertisement, KeysDrawn]:
    """Two fresh key pairs, one to seal shares and one for masks, signed for this round and device."""
    if not _is_number(device):
        raise Refusal(f"a device's number is {str(device)[:20]}; it must be whole and not negative")
    sealing, masking = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    public = (sealing.public_key().public_bytes_raw(), masking.public_key().public_bytes_raw())
    signature = identity.sign(_advertised_bytes(round, device, *public), _KEYS)
    secrets = KeysDrawn(round, device, sealing.private_bytes_raw(), masking.private_bytes_raw())
    return Advertisement(round, device, *public, signature), secrets


def share(secrets: KeysDrawn, advertisements: Iterable[Advertisement], registered: Mapping[int, bytes]) -> tuple[Shares, SharesDealt]:
    """Check the roster and deal this device's mask key, and a fresh self-mask seed, among all who are in it."""
    roster = checked_roster(secrets.round, advertisements, registered)
    _require_own_keys(roster, secrets)
    seed = os.urandom(KEY_BYTES)
    dealt = _dealt(seed, secrets.masking_key, roster)
    sealed = {peer: _sealed(dealt[peer], roster, secrets, peer) for peer in roster.members if peer != secrets.device}
    digests = {holder: _digests(roster.context, secrets.device, holder, shares) for holder, shares in dealt.items()}
    return Shares(secrets.round, secrets.device, sealed, digests), SharesDealt(roster, secrets, seed, dealt[secrets.device])


def mask(secrets: SharesDealt, sealed: Mapping[int, bytes], values: Integers) -> tuple[MaskedInput, InputMasked]:
    """``values`` (D,) plus the self mask plus or minus a mask with each device whose shares came, modulo 2^32.

    ``sealed`` holds, by dealer, the shares for this device; the masks of two devices who both have the other's cancel.
    """
    roster, keys = secrets.roster, secrets.keys
    _require_delivery(sealed, roster, keys.device)
    _require_values(values, keys.round)
    held = {keys.device: secrets.own} | {dealer: _opened(content, roster, keys, dealer) for dealer, content in sealed.items()}
    masked = (values & 0xFFFFFFFF).astype(np.uint32)
    masked += _self_mask(secrets.seed, roster.context, keys.device, masked.size)
    for dealer in sealed:
        masked += _pair_mask(keys.masking_key, roster, keys.device, dealer, masked.size)
    return MaskedInput(keys.round, keys.device, masked), InputMasked(keys.round, roster.context, keys.device, held)


def agree(secrets: InputMasked, survivors: Iterable[int], identity: Identity) -> tuple[Agreement, SurvivorsSigned]:
    """Sign the server's list of survivors, if it is one that this device may ever unmask; from then on it is the only one."""
    named = tuple(survivors)
    _require_survivors(named, secrets)
    signature = identity.sign(_survivors_bytes(secrets.context, named), _SURVIVORS)
    return Agreement(secrets.round, secrets.device, signature), SurvivorsSigned(secrets, tuple(sorted(named)))


def unmask(secrets: SurvivorsSigned, signatures: Mapping[int, bytes], registered: Mapping[int, bytes]) -> tuple[Unmasking, Answered]:
    """Once enough survivors have signed this device's list: its share of each survivor's seed, and of each lost one's key."""
    masked, survivors = secrets.masked, secrets.survivors
    for device, signature in signatures.items():
        if device not in survivors or device not in registered:
            raise Refusal(f"device {device} signed the list of survivors and is not on it or not registered; only survivors sign")
        verify(registered[device], _survivors_bytes(masked.context, survivors), _SURVIVORS, signature)
    _require_enough(len(signatures), masked.round, "agreed on the survivors")
    seeds = {device: masked.held[device].of_seed for device in survivors}
    keys = {device: shares.of_key for device, shares in masked.held.items() if device not in survivors}
    return Unmasking(masked.round, masked.device, seeds, keys), Answered(masked.round, masked.device)


@dataclass(frozen=True)
class Enrolled:
    """After the advertisements: send ``advertisements`` to each device in them."""

    roster: Roster
    registered: Mapping[int, bytes]
    refused: dict[int, str]

    @property
    def advertisements(self) -> tuple[Advertisement, ...]:
        """Of all devices that take part, in the order of their numbers."""
        return tuple(member for _, member in sorted(self.roster.members.items()))


@dataclass(frozen=True)
class Delivered:
    """After the shares: send each dealer what :meth:`sealed_for` gives."""

    enrolled: Enrolled
    shares: dict[int, Shares]
    refused: dict[int, str]

    def sealed_for(self, device: int) -> dict[int, bytes]:
        """By dealer, what was sealed for ``device``."""
        return {dealer: shares.sealed[device] for dealer, shares in self.shares.items() if dealer != device}


@dataclass(frozen=True, eq=False)
class Collected:
    """After the masked vectors: their sum (D,), still under masks; send ``survivors`` to each of them."""

    delivered: Delivered
    masked: Masked
    survivors: tuple[int, ...]
    refused: dict[int, str]


@dataclass(frozen=True, eq=False)
class Confirmed:
    """After the agreements: send ``signatures`` to each survivor."""

    collected: Collected
    signatures: dict[int, bytes]
    refused: dict[int, str]


@dataclass(frozen=True, eq=False)
class Total:
    """The sum (D,) of the vectors of ``devices``, exactly."""

    values: Integers
    devices: tuple[int, ...]
    refused: dict[int, str]


def enrol(round: MaskingRound, advertisements: Iterable[Advertisement], registered: Mapping[int, bytes]) -> Enrolled:
    """Keep what is signed by a registered device for this round."""
    accepted, refused = _sifted(advertisements, round, lambda message: _require_signed_for(round, message, registered))
    return Enrolled(checked_roster(round, accepted.values(), registered), registered, refused)


def deliver(enrolled: Enrolled, shares: Iterable[Shares]) -> Delivered:
    """Keep what holds a share for every device of the roster."""
    round, members = enrolled.roster.round, enrolled.roster.members

    def require(message: Shares) -> None:
        _require_among(message, members)
        _require_form(message, message.sealed, members.keys() - {message.device}, SEALED_BYTES)
        _require_form(message, message.digests, members.keys(), 2 * KEY_BYTES)

    accepted, refused = _sifted(shares, round, require)
    _require_enough(len(accepted), round, "shared their secrets")
    return Delivered(enrolled, accepted, refused)


def collect(delivered: Delivered, inputs: Iterable[MaskedInput], *, size: int) -> Collected:
    """Add up the masked vectors of ``size`` values one by one; none is kept."""
    round, total = delivered.enrolled.roster.round, np.zeros(size, dtype=np.uint32)

    def require(message: MaskedInput) -> None:
        _require_among(message, delivered.shares)
        if not _is_masked(message.values, size):
            raise Refusal(
                f"device {message.device}'s masked vector is not of {size} unsigned 32-bit values; both sides must train the same"
            )

    survivors, refused = [], dict[int, str]()
    for message in _each_accepted(inputs, round, require, refused):
        total += message.values
        survivors.append(message.device)
    _require_enough(len(survivors), round, "sent a masked vector")
    return Collected(delivered, total, tuple(sorted(survivors)), refused)


def confirm(collected: Collected, agreements: Iterable[Agreement]) -> Confirmed:
    """Keep the signatures over the list of survivors that was sent."""
    roster, registered = collected.delivered.enrolled.roster, collected.delivered.enrolled.registered
    signed = _survivors_bytes(roster.context, collected.survivors)

    def require(message: Agreement) -> None:
        _require_among(message, collected.survivors)
        verify(registered[message.device], signed, _SURVIVORS, message.signature)

    accepted, refused = _sifted(agreements, roster.round, require)
    _require_enough(len(accepted), roster.round, "agreed on the survivors")
    return Confirmed(collected, {device: message.signature for device, message in accepted.items()}, refused)


def total(confirmed: Confirmed, answers: Iterable[Unmasking]) -> Total:
    """Rebuild the survivors' seeds and the lost ones' keys from the shares, and take their masks off the sum."""
    collected = confirmed.collected
    dealt, survivors = collected.delivered.shares, collected.survivors
    roster, lost = collected.delivered.enrolled.roster, dealt.keys() - set(survivors)

    def require(message: Unmasking) -> None:
        _require_among(message, survivors)
        _require_form(message, message.seed_shares, set(survivors), KEY_BYTES)
        _require_form(message, message.key_shares, lost, KEY_BYTES)
        _require_as_dealt(message, dealt, roster.context)

    accepted, refused = _sifted(answers, roster.round, require)
    _require_enough(len(accepted), roster.round, "unmasked")
    plain = collected.masked.copy()
    for device in survivors:
        seed = _rebuilt({holder: answer.seed_shares[device] for holder, answer in accepted.items()}, roster)
        plain -= _self_mask(seed, roster.context, device, plain.size)
    for device in lost:
        key = _rebuilt({holder: answer.key_shares[device] for holder, answer in accepted.items()}, roster)
        _require_key_of(roster.members[device], key)
        for survivor in survivors:  # what the survivor added for the lost one is what the lost one would have taken away
            plain += _pair_mask(key, roster, device, survivor, plain.size)
    return Total(centred(plain), survivors, refused)


_KEYS, _SURVIVORS = b"masking: keys of a round", b"masking: survivors of a round"


def _self_mask(seed: bytes, context: bytes, device: int, size: int) -> Masked:
    return _stream(_derived(seed, context, "self mask", device), size)


def _pair_mask(private: bytes, roster: Roster, device: int, peer: int, size: int) -> Masked:
    """What ``device``, whose private mask key it is, adds for ``peer``: the lower number adds what the higher takes away."""
    agreed = _agreement(private, roster.members[peer].masking_key)
    stream = _stream(_derived(agreed, roster.context, "pair mask", min(device, peer), max(device, peer)), size)
    return stream if device < peer else np.negative(stream)


def _stream(key: bytes, size: int) -> Masked:
    """ChaCha20's key stream as little-endian words; a key is used for one stream only, so the nonce is zero."""
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * size))
    return np.frombuffer(stream, dtype="<u4").astype(np.uint32, copy=False)


def _derived(secret: bytes, context: bytes, *purpose: str | int) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=context, info=_joined(*purpose)).derive(secret)


def _agreement(private: bytes, public: bytes) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Refusal("an advertised key is one with which every agreement is the same; its device must draw an honest one") from None


def _dealt(seed: bytes, masking_key: bytes, roster: Roster) -> dict[int, HeldShares]:
    """By holder, the shares of both secrets at the holder's place."""
    seeds, keys = _split(seed, roster), _split(masking_key, roster)
    return {device: HeldShares(seeds[place], keys[place]) for device, place in roster.places.items()}


def _split(secret: bytes, roster: Roster) -> dict[int, bytes]:
    """Shares of a 32-byte secret by place: of each 16-byte half on a polynomial of its own, side by side."""
    halves = [dict(Shamir.split(roster.round.threshold, len(roster.members), half, False)) for half in _halves(secret)]
    return {place: halves[0][place] + halves[1][place] for place in roster.places.values()}


def _rebuilt(shares: Mapping[int, bytes], roster: Roster) -> bytes:
    """The 32-byte secret from shares by holder; Shamir takes exactly ``threshold`` of them."""
    chosen = sorted(shares.items())[: roster.round.threshold]
    points = [(roster.places[holder], _halves(content)) for holder, content in chosen]
    return b"".join(Shamir.combine([(place, halves[number]) for place, halves in points], False) for number in (0, 1))


def _halves(content: bytes) -> tuple[bytes, bytes]:
    return content[:BLOCK_BYTES], content[BLOCK_BYTES:]


def _sealed(shares: HeldShares, roster: Roster, keys: KeysDrawn, receiver: int) -> bytes:
    """The shares for one receiver, under a key that only it has too and that says who sends to whom, in which round."""
    agreed = _agreement(keys.sealing_key, roster.members[receiver].sealing_key)
    nonce = os.urandom(NONCE_BYTES)
    cipher = ChaCha20Poly1305(_derived(agreed, roster.context, "shares", keys.device, receiver))
    return nonce + cipher.encrypt(nonce, shares.of_seed + shares.of_key, _place_bytes(roster, receiver))


def _opened(content: bytes, roster: Roster, keys: KeysDrawn, dealer: int) -> HeldShares:
    agreed = _agreement(keys.sealing_key, roster.members[dealer].sealing_key)
    cipher = ChaCha20Poly1305(_derived(agreed, roster.context, "shares", dealer, keys.device))
    try:
        shares = cipher.decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], _place_bytes(roster, keys.device))
    except (InvalidTag, ValueError, TypeError):
        raise Refusal(f"device {dealer}'s shares were altered, or not dealt to this device in this round; sit the round out") from None
    if len(shares) != 2 * KEY_BYTES:
        raise Refusal(f"device {dealer}'s shares are {len(shares)} bytes and not {2 * KEY_BYTES}; it must run the same version")
    return HeldShares(shares[:KEY_BYTES], shares[KEY_BYTES:])


def _place_bytes(roster: Roster, device: int) -> bytes:
    return _joined("place", roster.places[device])


def _digests(context: bytes, dealer: int, holder: int, shares: HeldShares) -> bytes:
    return _digest(context, "seed", dealer, holder, shares.of_seed) + _digest(context, "key", dealer, holder, shares.of_key)


def _digest(context: bytes, kind: str, dealer: int, holder: int, content: bytes) -> bytes:
    return hashlib.sha256(_joined("share digest", context, kind, dealer, holder, content)).digest()


AMessage = TypeVar("AMessage", bound=Message)


def _sifted(
    messages: Iterable[AMessage], round: MaskingRound, require: Callable[[AMessage], None]
) -> tuple[dict[int, AMessage], dict[int, str]]:
    """The messages that pass, by device, and why the others do not."""
    refused: dict[int, str] = {}
    return {message.device: message for message in _each_accepted(messages, round, require, refused)}, refused


def _each_accepted(
    messages: Iterable[AMessage], round: MaskingRound, require: Callable[[AMessage], None], refused: dict[int, str]
) -> Iterable[AMessage]:
    """One by one those that pass; a device's second message is refused, its first stands."""
    seen: set[int] = set()
    for message in messages:
        try:
            if message.round != round:
                raise Refusal(f"device {message.device}'s message is of another round; it was not followed")
            if message.device in seen:
                raise Refusal(f"device {message.device} sent a second message of a kind; the first stands")
            require(message)
        except Refusal as refusal:
            refused[message.device] = str(refusal)
            continue
        seen.add(message.device)
        yield message


def _require_enough(devices: int, round: MaskingRound, what: str) -> None:
    if devices < round.threshold:
        raise RoundLost(
            f"{devices} of {round.asked} devices {what} and {round.threshold} are needed; "
            "the round is lost and nothing was revealed, begin another"
        )


def _require_among(message: Message, devices: Iterable[int]) -> None:
    if message.device not in devices:
        raise Refusal(f"device {message.device} was not in the stage before; it can take part in the next round")


def _require_form(message: Message, content: Mapping[int, bytes], devices: Iterable[int], length: int) -> None:
    """Raise unless ``content`` has ``length`` bytes for exactly these ``devices``."""
    if not isinstance(content, Mapping) or set(content) != set(devices) or not all(_is_bytes(part, length) for part in content.values()):
        raise Refusal(f"device {message.device}'s message lacks or misshapes a share; it must run the same version")


def _require_as_dealt(message: Unmasking, dealt: Mapping[int, Shares], context: bytes) -> None:
    """Raise unless every share is the one that its dealer dealt to this device: another would spoil the sum unseen."""
    for kind, shares, start in (("seed", message.seed_shares, 0), ("key", message.key_shares, KEY_BYTES)):
        for dealer, content in shares.items():
            expected = dealt[dealer].digests[message.device][start : start + KEY_BYTES]
            if _digest(context, kind, dealer, message.device, content) != expected:
                raise Refusal(
                    f"device {message.device} revealed another {kind} share than device {dealer} dealt to it; it was not followed"
                )


def _require_key_of(member: Advertisement, key: bytes) -> None:
    if X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw() != member.masking_key:
        raise RoundLost(f"device {member.device} dealt shares of another key than it advertised; the round is lost, leave that device out")


def _require_own_keys(roster: Roster, secrets: KeysDrawn) -> None:
    private = (secrets.sealing_key, secrets.masking_key)
    public = tuple(X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw() for key in private)
    own = roster.members.get(secrets.device)
    if own is None or (own.sealing_key, own.masking_key) != public:
        raise Refusal(f"the roster lacks this device ({secrets.device}) or shows other keys than it advertised; sit the round out")


def _require_delivery(sealed: Mapping[int, bytes], roster: Roster, device: int) -> None:
    strangers = sorted(sealed.keys() - (roster.members.keys() - {device}))
    if strangers:
        raise Refusal(f"shares came from {strangers[0]}, which is not another device of the roster; sit the round out")
    _require_enough(len(sealed) + 1, roster.round, "shared their secrets")


def _require_values(values: Integers, round: MaskingRound) -> None:
    if not isinstance(values, np.ndarray) or values.dtype != np.int64 or values.ndim != 1:
        raise Refusal("what is to be masked is not a vector of 64-bit integers; encode the update in fixed point first")
    if values.size and (values.max() > round.largest_value or values.min() < -round.largest_value):
        raise Refusal(
            f"the vector to be masked holds a value beyond {round.largest_value}, the most that a sum of {round.asked} allows; "
            f"encode it in fixed point for {round.asked} summands"
        )


def _require_survivors(named: tuple[int, ...], secrets: InputMasked) -> None:
    if len(set(named)) != len(named):
        raise Refusal("a device is named twice among the survivors; nothing was signed")
    strangers = sorted(set(named) - secrets.held.keys())
    if strangers:
        raise Refusal(f"{strangers[0]} is named a survivor and dealt no shares to this device; nothing was signed")
    if secrets.device not in named:
        raise Refusal(
            f"this device ({secrets.device}) is not among the survivors; its vector is not in the sum, and it has nothing to sign"
        )
    _require_enough(len(named), secrets.round, "survived")


def _is_bytes(value: object, length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64


def _is_masked(value: object, size: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint32 and value.shape == (size,)


def _advertised_bytes(round: MaskingRound, device: int, sealing_key: bytes, masking_key: bytes) -> bytes:
    return _joined(*_round_parts(round), device, sealing_key, masking_key)


def _survivors_bytes(context: bytes, survivors: Iterable[int]) -> bytes:
    return _joined(context, *sorted(survivors))


def _round_parts(round: MaskingRound) -> tuple[str, int, int]:
    return round.run, round.number, round.asked


def _joined(*parts: bytes | str | int) -> bytes:
    """All parts, each with its length before it, so that no two lists of parts give the same bytes."""
    contents = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"".join(len(content).to_bytes(4, "big") + content for content in contents)


def _held_hex(shares: HeldShares) -> list[str]:
    return [shares.of_seed.hex(), shares.of_key.hex()]


def _held(content: Iterable[str]) -> HeldShares:
    return HeldShares(*map(bytes.fromhex, content))


def _stored(step: str, fields: dict[str, Any]) -> bytes:
    """JSON that says after which step it was written, with a digest: a damaged mask would spoil everyone's sum."""
    content = json.dumps(fields)
    return json.dumps({"step": step, "fields": content, "digest": hashlib.sha256(content.encode()).hexdigest()}).encode()


def _restored(step: str, content: bytes) -> dict[str, Any]:
    try:
        stored = json.loads(content)
        found, fields, digest = str(stored["step"]), stored["fields"], stored["digest"]
        if hashlib.sha256(fields.encode()).hexdigest() != digest:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refusal("the stored secrets of this masked round are damaged; sit the round out") from None
    if found != step:
        raise Refusal(
            f"the stored secrets are those after '{found}' and not after '{step}'; a device takes each step of a round once, in order"
        )
    return dict(json.loads(fields))
