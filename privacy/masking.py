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
**Assumptions**: registered keys came over a way that the server does not control (:mod:`privacy.register`), and not all from
devices of its own; a device takes each step of a round once, and stores what the step gave *before* its message leaves
(masked twice with the same masks, two vectors give their difference away); it masks a vector in one round only (two rounds with different
survivors give the difference of their sums), and a vector of the round's own work only (:mod:`privacy.round_work`), both of which
``client.blind`` sees to; ``asked`` is known before the round and large enough for the device's taste;
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
``to_bytes`` and ``from_bytes`` (:mod:`privacy.round_secrets`); what a step no longer needs is not in them. The server's
functions pass a frozen stage on likewise; ``refused`` of a stage names the devices whose message was not followed, and why.
Messages bear their device's number: the caller must see to it that it is the sender's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from model.refusal import Refusal
from privacy.fixed_point import Integers, centred
from privacy.identity import Identity, verify
from privacy.roster import (
    KEY_BYTES,
    KEYS,
    Advertisement,
    MaskingRound,
    Roster,
    RoundLost,
    advertised_bytes,
    checked_roster,
    is_bytes,
    is_number,
    joined,
    require_enough,
    require_signed_for,
)
from privacy.round_secrets import Answered, InputMasked, KeysDrawn, SharesDealt, SurvivorsSigned
from privacy.secret_shares import (
    SEALED_BYTES,
    agreed_secret,
    dealt_shares,
    derived_key,
    opened_shares,
    rebuilt_secret,
    sealed_shares,
    share_digest,
    share_digests,
)

Masked = npt.NDArray[np.uint32]


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


def advertise(round: MaskingRound, device: int, identity: Identity) -> tuple[Advertisement, KeysDrawn]:
    """Two fresh key pairs, one to seal shares and one for masks, signed for this round and device."""
    if not is_number(device):
        raise Refusal(f"a device's number is {str(device)[:20]}; it must be whole and not negative")
    sealing, masking = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    public = (sealing.public_key().public_bytes_raw(), masking.public_key().public_bytes_raw())
    signature = identity.sign(advertised_bytes(round, device, *public), KEYS)
    secrets = KeysDrawn(round, device, sealing.private_bytes_raw(), masking.private_bytes_raw())
    return Advertisement(round, device, *public, signature), secrets


def share(secrets: KeysDrawn, advertisements: Iterable[Advertisement], registered: Mapping[int, bytes]) -> tuple[Shares, SharesDealt]:
    """Check the roster and deal this device's mask key, and a fresh self-mask seed, among all who are in it."""
    roster = checked_roster(secrets.round, advertisements, registered)
    _require_own_keys(roster, secrets)
    seed = os.urandom(KEY_BYTES)
    dealt = dealt_shares(seed, secrets.masking_key, roster)
    sealed = {peer: sealed_shares(dealt[peer], roster, secrets, peer) for peer in roster.members if peer != secrets.device}
    digests = {holder: share_digests(roster.context, secrets.device, holder, shares) for holder, shares in dealt.items()}
    return Shares(secrets.round, secrets.device, sealed, digests), SharesDealt(roster, secrets, seed, dealt[secrets.device])


def mask(secrets: SharesDealt, sealed: Mapping[int, bytes], values: Integers) -> tuple[MaskedInput, InputMasked]:
    """``values`` (D,) plus the self mask plus or minus a mask with each device whose shares came, modulo 2^32.

    ``sealed`` holds, by dealer, the shares for this device; the masks of two devices who both have the other's cancel.
    """
    roster, keys = secrets.roster, secrets.keys
    _require_delivery(sealed, roster, keys.device)
    _require_values(values, keys.round)
    held = {keys.device: secrets.own} | {dealer: opened_shares(content, roster, keys, dealer) for dealer, content in sealed.items()}
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
    require_enough(len(signatures), masked.round, "agreed on the survivors")
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
    accepted, refused = _sifted(advertisements, round, lambda message: require_signed_for(round, message, registered))
    return Enrolled(checked_roster(round, accepted.values(), registered), registered, refused)


def deliver(enrolled: Enrolled, shares: Iterable[Shares]) -> Delivered:
    """Keep what holds a share for every device of the roster."""
    round, members = enrolled.roster.round, enrolled.roster.members

    def require(message: Shares) -> None:
        _require_among(message, members)
        _require_form(message, message.sealed, members.keys() - {message.device}, SEALED_BYTES)
        _require_form(message, message.digests, members.keys(), 2 * KEY_BYTES)

    accepted, refused = _sifted(shares, round, require)
    require_enough(len(accepted), round, "shared their secrets")
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
    require_enough(len(survivors), round, "sent a masked vector")
    return Collected(delivered, total, tuple(sorted(survivors)), refused)


def confirm(collected: Collected, agreements: Iterable[Agreement]) -> Confirmed:
    """Keep the signatures over the list of survivors that was sent."""
    roster, registered = collected.delivered.enrolled.roster, collected.delivered.enrolled.registered
    signed = _survivors_bytes(roster.context, collected.survivors)

    def require(message: Agreement) -> None:
        _require_among(message, collected.survivors)
        verify(registered[message.device], signed, _SURVIVORS, message.signature)

    accepted, refused = _sifted(agreements, roster.round, require)
    require_enough(len(accepted), roster.round, "agreed on the survivors")
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
    require_enough(len(accepted), roster.round, "unmasked")
    plain = collected.masked.copy()
    for device in survivors:
        seed = rebuilt_secret({holder: answer.seed_shares[device] for holder, answer in accepted.items()}, roster)
        plain -= _self_mask(seed, roster.context, device, plain.size)
    for device in lost:
        key = rebuilt_secret({holder: answer.key_shares[device] for holder, answer in accepted.items()}, roster)
        _require_key_of(roster.members[device], key)
        for survivor in survivors:  # what the survivor added for the lost one is what the lost one would have taken away
            plain += _pair_mask(key, roster, device, survivor, plain.size)
    return Total(centred(plain), survivors, refused)


_SURVIVORS = b"masking: survivors of a round"
"""For what a device signs the list of survivors."""


def _self_mask(seed: bytes, context: bytes, device: int, size: int) -> Masked:
    return _stream(derived_key(seed, context, "self mask", device), size)


def _pair_mask(private: bytes, roster: Roster, device: int, peer: int, size: int) -> Masked:
    """What ``device``, whose private mask key it is, adds for ``peer``: the lower number adds what the higher takes away."""
    agreed = agreed_secret(private, roster.members[peer].masking_key)
    stream = _stream(derived_key(agreed, roster.context, "pair mask", min(device, peer), max(device, peer)), size)
    return stream if device < peer else np.negative(stream)


def _stream(key: bytes, size: int) -> Masked:
    """ChaCha20's key stream as little-endian words; a key is used for one stream only, so the nonce is zero."""
    stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * size))
    return np.frombuffer(stream, dtype="<u4").astype(np.uint32, copy=False)


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


def _require_among(message: Message, devices: Iterable[int]) -> None:
    if message.device not in devices:
        raise Refusal(f"device {message.device} was not in the stage before; it can take part in the next round")


def _require_form(message: Message, content: Mapping[int, bytes], devices: Iterable[int], length: int) -> None:
    """Raise unless ``content`` has ``length`` bytes for exactly these ``devices``."""
    if not isinstance(content, Mapping) or set(content) != set(devices) or not all(is_bytes(part, length) for part in content.values()):
        raise Refusal(f"device {message.device}'s message lacks or misshapes a share; it must run the same version")


def _require_as_dealt(message: Unmasking, dealt: Mapping[int, Shares], context: bytes) -> None:
    """Raise unless every share is the one that its dealer dealt to this device: another would spoil the sum unseen."""
    for kind, shares, start in (("seed", message.seed_shares, 0), ("key", message.key_shares, KEY_BYTES)):
        for dealer, content in shares.items():
            expected = dealt[dealer].digests[message.device][start : start + KEY_BYTES]
            if share_digest(context, kind, dealer, message.device, content) != expected:
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
    require_enough(len(sealed) + 1, roster.round, "shared their secrets")


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
    require_enough(len(named), secrets.round, "survived")


def _is_masked(value: object, size: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint32 and value.shape == (size,)


def _survivors_bytes(context: bytes, survivors: Iterable[int]) -> bytes:
    return joined(context, *sorted(survivors))
