"""Who takes part in a round whose sum is hidden: the round, the devices' signed keys of it, and the checked roster of both.

**Promise.** A roster holds, for each device in it, the keys that a registered identity signed for this very round, and for
none of them two; of fewer devices than the threshold, or more than were asked, there is none. :attr:`Roster.context` names
it, so that what is bound to that is of no use to a device that was shown another roster. The round names the work for which
the keys are (:attr:`MaskingRound.work`): devices that were asked to train another model, or in another way, are in no common roster.
**Assumption**: the registered keys came over a way that the server does not control (:mod:`privacy.register`). Masked and encrypted rounds
(:mod:`privacy.masking`, :mod:`privacy.encryption_records`) both begin here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from model.refusal import Refusal
from privacy.fixed_point import LARGEST
from privacy.identity import verify

FEWEST_ASKED = 3
"""Of two devices each would know the other's vector from the sum."""

MOST_ASKED = 100
"""A server then takes a minute and a half for the shares, a device one second."""

NO_WORK = "0" * 64
"""Of a round that trains nothing, such as a test's; no order has this digest."""

KEY_BYTES, SIGNATURE_BYTES = 32, 64
KEYS = b"masking: keys of a round"
"""For what a device signs its keys of a round."""


class RoundLost(Refusal):
    """Too few devices are left: the round gives no sum, and nothing of any device is revealed."""


@dataclass(frozen=True)
class MaskingRound:
    """What all sides know before the round begins: of which run and the how-manieth it is, how many devices are asked, and for what."""

    run: str
    number: int
    asked: int
    work: str = NO_WORK
    """Digest of model, settings and plan (:func:`privacy.round_work.work_digest`); a device hides an update of no other."""

    def __post_init__(self) -> None:
        if not (isinstance(self.run, str) and self.run.isascii() and 1 <= len(self.run) <= 200):
            raise Refusal("a masked round's run has a name that is not of 1 to 200 ASCII characters; give it one")
        if not is_number(self.number):
            raise Refusal(f"a masked round's number is {str(self.number)[:20]}; it must be whole and not negative")
        if not (is_number(self.asked) and FEWEST_ASKED <= self.asked <= MOST_ASKED):
            raise Refusal(f"{str(self.asked)[:20]} devices are asked to mask; it must be at least {FEWEST_ASKED} and at most {MOST_ASKED}")
        if not (isinstance(self.work, str) and len(self.work) == 64 and not set(self.work) - set("0123456789abcdef")):
            raise Refusal("a masked round names its work by no whole digest; both sides must run one version")

    @property
    def parts(self) -> tuple[str, int, int, str]:
        """Run, number, devices asked and work, as signatures and derived keys take them."""
        return self.run, self.number, self.asked, self.work

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
        if not (all(is_bytes(key, KEY_BYTES) for key in keys) and is_bytes(self.signature, SIGNATURE_BYTES)):
            raise Refusal(f"device {self.device}'s advertised keys are not of the agreed length; it must run the same version")
        verify(public, advertised_bytes(self.round, self.device, *keys), KEYS, self.signature)


@dataclass(frozen=True)
class Roster:
    """The checked advertisements of a round, by device."""

    round: MaskingRound
    members: dict[int, Advertisement]

    @cached_property
    def context(self) -> bytes:
        """To what every key of the round is bound: the round, and all keys of all devices in it."""
        members = [(device, member.sealing_key, member.masking_key) for device, member in sorted(self.members.items())]
        return hashlib.sha256(joined(*self.round.parts, *(part for member in members for part in member))).digest()

    @cached_property
    def places(self) -> dict[int, int]:
        """Where each device's shares lie on Shamir's polynomials: its place in the roster, from 1; nobody can choose it."""
        return {device: place for place, device in enumerate(sorted(self.members), start=1)}


def checked_roster(round: MaskingRound, advertisements: Iterable[Advertisement], registered: Mapping[int, bytes]) -> Roster:
    """The roster of ``round``; :class:`Refusal` for one key that is not signed by a registered device for this very round."""
    members: dict[int, Advertisement] = {}
    for advertisement in advertisements:
        require_signed_for(round, advertisement, registered)
        if advertisement.device in members:
            raise Refusal(f"device {advertisement.device} is in the roster twice; one device has one set of keys a round")
        members[advertisement.device] = advertisement
    if len(members) > round.asked:
        raise Refusal(f"the roster has {len(members)} devices and {round.asked} were asked; no others may take part")
    require_enough(len(members), round, "advertised keys")
    return Roster(round, members)


def require_signed_for(round: MaskingRound, advertisement: Advertisement, registered: Mapping[int, bytes]) -> None:
    """Raise :class:`Refusal` unless the keys are of this round and signed by the registered device whose they are."""
    if advertisement.round != round:
        raise Refusal(f"device {advertisement.device}'s keys are of another round; keys are made anew for each")
    if advertisement.device not in registered:
        raise Refusal(f"device {advertisement.device} has no registered identity here; register it, or leave it out")
    advertisement.require_signed(registered[advertisement.device])


def require_enough(devices: int, round: MaskingRound, what: str) -> None:
    """Raise :class:`RoundLost` if fewer devices than the threshold did ``what``."""
    if devices < round.threshold:
        raise RoundLost(
            f"{devices} of {round.asked} devices {what} and {round.threshold} are needed; "
            "the round is lost and nothing was revealed, begin another"
        )


def advertised_bytes(round: MaskingRound, device: int, sealing_key: bytes, masking_key: bytes) -> bytes:
    """What an advertisement's signature is over."""
    return joined(*round.parts, device, sealing_key, masking_key)


def joined(*parts: bytes | str | int) -> bytes:
    """All parts, each with its length before it, so that no two lists of parts give the same bytes."""
    contents = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"".join(len(content).to_bytes(4, "big") + content for content in contents)


def is_bytes(value: object, length: int) -> bool:
    """Whether a part of a message is so many bytes."""
    return isinstance(value, bytes) and len(value) == length


def is_number(value: object) -> bool:
    """Whether a part of a message is a whole number that fits in 64 bits, without a sign."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64
