"""Tests of privacy.masking: against plain sums, a second library's primitives and a slow Shamir, and every lie we know of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest
from Crypto.Cipher import ChaCha20, ChaCha20_Poly1305
from Crypto.Hash import SHA256
from Crypto.Protocol.DH import import_x25519_private_key, import_x25519_public_key, key_agreement
from Crypto.Protocol.KDF import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from model.refusal import Refusal
from model.weights import Weights
from privacy import masking
from privacy.fixed_point import FixedPoint, Integers
from privacy.identity import Identity, WrongSignature
from privacy.masking import (
    Agreement,
    Enrolled,
    MaskedInput,
    Shares,
    Total,
    Unmasking,
    advertise,
    agree,
    collect,
    confirm,
    deliver,
    enrol,
    mask,
    share,
    total,
    unmask,
)
from privacy.roster import KEYS, Advertisement, MaskingRound, RoundLost, advertised_bytes, checked_roster
from privacy.round_secrets import Answered, InputMasked, KeysDrawn, SharesDealt, SurvivorsSigned, UpdateEncrypted
from privacy.secret_shares import dealt_shares, sealed_shares, share_digests

STEPS = {
    "advertise": "advertised keys",
    "share": "shared their secrets",
    "mask": "sent a masked vector",
    "agree": "agreed on the survivors",
    "unmask": "unmasked",
}
"""In order, and how a lost round calls what too few have done."""
ORDER = list(STEPS)
LEAST_P = 1e-6
"""The keys are the operating system's, so no seed can be fixed: one run in a million may fail by chance."""

Damage = Callable[[Any], Any]


@dataclass(frozen=True)
class People:
    """Devices with registered identities, about to begin a round."""

    round: MaskingRound
    identities: dict[int, Identity]

    @property
    def registered(self) -> dict[int, bytes]:
        return {device: identity.public for device, identity in self.identities.items()}


def people(count: int, *, numbers: Iterable[int] | None = None, number: int = 7) -> People:
    return People(MaskingRound("run", number, count), {device: Identity.create() for device in numbers or range(count)})


def vectors(some: People, size: int = 5) -> dict[int, Integers]:
    generator = np.random.default_rng(3)
    return {device: generator.integers(-1000, 1000, size) for device in some.identities}


def plain_sum(values: Mapping[int, Integers], devices: Iterable[int]) -> list[int]:
    return [sum(int(values[device][at]) for device in devices) for at in range(len(next(iter(values.values()))))]


def play(
    some: People,
    values: Mapping[int, Integers],
    *,
    lost_at: Mapping[int, str] | None = None,
    damage: Mapping[tuple[str, int], Damage] | None = None,
) -> Total:
    """A whole round: devices vanish at the steps of ``lost_at``, messages are damaged on the way, secrets go through their bytes."""
    gone, damage = dict(lost_at or {}), dict(damage or {})

    def there(step: str, devices: Iterable[int]) -> list[int]:
        return [device for device in devices if device not in gone or ORDER.index(gone[device]) > ORDER.index(step)]

    def sent(step: str, messages: Mapping[int, tuple[Any, Any]]) -> list[Any]:
        return [damage.get((step, device), lambda whole: whole)(message) for device, (message, _) in messages.items()]

    keys = {device: advertise(some.round, device, some.identities[device]) for device in there("advertise", some.identities)}
    enrolled = enrol(some.round, sent("advertise", keys), some.registered)
    drawn = {device: KeysDrawn.from_bytes(keys[device][1].to_bytes()) for device in there("share", enrolled.roster.members)}
    shares = {device: share(drawn[device], enrolled.advertisements, some.registered) for device in drawn}
    delivered = deliver(enrolled, sent("share", shares))
    dealt = {device: SharesDealt.from_bytes(shares[device][1].to_bytes()) for device in there("mask", delivered.shares)}
    inputs = {device: mask(dealt[device], delivered.sealed_for(device), values[device]) for device in dealt}
    collected = collect(delivered, sent("mask", inputs), size=len(next(iter(values.values()))))
    masked = {device: InputMasked.from_bytes(inputs[device][1].to_bytes()) for device in there("agree", collected.survivors)}
    signed = {device: agree(masked[device], collected.survivors, some.identities[device]) for device in masked}
    confirmed = confirm(collected, sent("agree", signed))
    ready = {device: SurvivorsSigned.from_bytes(signed[device][1].to_bytes()) for device in there("unmask", signed)}
    answers = {device: unmask(ready[device], confirmed.signatures, some.registered) for device in ready}
    result = total(confirmed, sent("unmask", answers))
    refused = enrolled.refused | delivered.refused | collected.refused | confirmed.refused | result.refused
    return replace(result, refused=refused)


@st.composite
def rounds_with_losses(draw: st.DrawFn) -> tuple[People, dict[int, Integers], dict[int, str]]:
    count = draw(st.integers(3, 8))
    numbers = draw(st.lists(st.integers(0, 2**64 - 1), min_size=count, max_size=count, unique=True))
    some, size = people(count, numbers=numbers), draw(st.integers(0, 9))
    value = st.integers(-some.round.largest_value, some.round.largest_value)
    values = {device: np.array(draw(st.lists(value, min_size=size, max_size=size)), dtype=np.int64) for device in numbers}
    most = count - some.round.threshold
    lost = draw(st.dictionaries(st.sampled_from(numbers), st.sampled_from(ORDER), max_size=most))
    return some, values, lost


@settings(max_examples=25, deadline=None)
@given(rounds_with_losses())
def test_the_total_is_the_plain_sum_of_all_whose_vector_came_whoever_vanished_when(
    drawn: tuple[People, dict[int, Integers], dict[int, str]],
) -> None:
    some, values, lost = drawn
    result = play(some, values, lost_at=lost)
    present = {device for device in some.identities if lost.get(device) not in ("advertise", "share", "mask")}
    assert set(result.devices) == present
    assert result.values.dtype == np.int64
    assert result.values.tolist() == plain_sum(values, present)
    assert not result.refused


@pytest.mark.parametrize("step", STEPS)
def test_with_one_device_too_few_at_any_step_the_round_is_lost(step: str) -> None:
    some = people(6)
    values = vectors(some)
    two, three = dict.fromkeys(range(2), step), dict.fromkeys(range(3), step)
    assert play(some, values, lost_at=two).values.tolist() == plain_sum(values, range(6) if step in ("agree", "unmask") else range(2, 6))
    with pytest.raises(RoundLost, match=f"3 of 6 devices {STEPS[step]} and 4 are needed"):
        play(some, values, lost_at=three)


def test_losses_at_different_steps_add_up() -> None:
    some = people(6)
    with pytest.raises(RoundLost, match="unmasked"):
        play(some, vectors(some), lost_at={0: "advertise", 1: "share", 2: "unmask"})


def test_a_mean_of_updates_comes_out_as_it_would_without_masks() -> None:
    some, generator = people(3), np.random.default_rng(1)
    coding = FixedPoint(bound=2.0, summands=3)
    updates = [Weights({"w": generator.uniform(-2, 2, (4, 5)).astype(np.float32)}) for _ in range(3)]
    result = play(some, {device: coding.encode(update) for device, update in enumerate(updates)})
    expected = sum(update["w"].astype(np.float64) for update in updates)
    assert np.allclose(coding.decode(result.values, updates[0].shapes)["w"], expected, rtol=1e-6, atol=3 / coding.scale)


@pytest.mark.parametrize("asked", range(3, 101))
def test_the_threshold_is_the_least_that_is_two_thirds_and_more_than_half(asked: int) -> None:
    least = next(count for count in range(asked + 1) if 3 * count >= 2 * asked and 2 * count > asked)
    assert MaskingRound("run", 1, asked).threshold == least


@pytest.mark.parametrize(
    ("run", "number", "asked"),
    [("", 1, 5), ("일기", 1, 5), ("r" * 201, 1, 5), ("run", -1, 5), ("run", True, 5), ("run", 1, 2), ("run", 1, 101), ("run", 1, 5.0)],
)
def test_a_round_that_would_promise_nothing_is_refused(run: str, number: int, asked: int) -> None:
    with pytest.raises(Refusal):
        MaskingRound(run, number, asked)


# What stands under the masks, by a second library


@dataclass(frozen=True)
class OneMasked:
    """One device's masked vector, and what a second library needs to rebuild each of its masks."""

    masked: MaskedInput
    before: SharesDealt
    peers: tuple[int, ...]


def one_masked(some: People, values: Integers, device: int = 1) -> OneMasked:
    keys = {number: advertise(some.round, number, identity) for number, identity in some.identities.items()}
    advertisements = [message for message, _ in keys.values()]
    shares = {number: share(secrets, advertisements, some.registered) for number, (_, secrets) in keys.items()}
    peers = tuple(number for number in keys if number != device)
    sealed = {peer: shares[peer][0].sealed[device] for peer in peers}
    return OneMasked(mask(shares[device][1], sealed, values)[0], shares[device][1], peers)


def length_prefixed(*parts: object) -> bytes:
    contents = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
    return b"".join(len(content).to_bytes(4, "big") + content for content in contents)


def stream_by_a_second_library(secret: bytes, context: bytes, size: int, *purpose: object) -> list[int]:
    key = HKDF(secret, 32, context, SHA256, context=length_prefixed(*purpose))
    assert isinstance(key, bytes)
    stream = ChaCha20.new(key=key, nonce=bytes(8)).encrypt(bytes(4 * size))
    return [int.from_bytes(stream[at : at + 4], "little") for at in range(0, 4 * size, 4)]


def self_mask(one: OneMasked, size: int) -> list[int]:
    return stream_by_a_second_library(one.before.seed, one.before.roster.context, size, "self mask", one.masked.device)


def pair_mask(one: OneMasked, peer: int, size: int) -> list[int]:
    """With its sign: the device with the lower number adds, the other takes away."""
    private = import_x25519_private_key(one.before.keys.masking_key)
    public = import_x25519_public_key(one.before.roster.members[peer].masking_key)
    agreed = key_agreement(static_priv=private, static_pub=public, kdf=bytes)
    low, high = sorted((one.masked.device, peer))
    stream = stream_by_a_second_library(agreed, one.before.roster.context, size, "pair mask", low, high)
    return stream if one.masked.device < peer else [-word for word in stream]


def test_a_masked_vector_is_the_vector_plus_the_masks_that_a_second_library_makes() -> None:
    some, size = people(4), 50
    values = vectors(some, size)[1]
    one = one_masked(some, values)
    masks = [self_mask(one, size), *(pair_mask(one, peer, size) for peer in one.peers)]
    expected = [(int(value) + sum(column)) % 2**32 for value, *column in zip(values, *masks, strict=True)]
    assert one.masked.values.tolist() == expected


def test_the_context_of_a_round_is_the_digest_of_the_round_and_all_its_keys() -> None:
    one = one_masked(people(3), np.zeros(1, dtype=np.int64))
    members = one.before.roster.members
    parts = [part for device in sorted(members) for part in (device, members[device].sealing_key, members[device].masking_key)]
    assert one.before.roster.context == SHA256.new(length_prefixed("run", 7, 3, "0" * 64, *parts)).digest()


def byte_uniformity(views: list[list[int]]) -> float:
    """p-value of all bytes of all vectors being uniform."""
    observed = np.bincount(np.frombuffer(np.array(views, dtype="<u4").tobytes(), dtype=np.uint8), minlength=256)
    return float(stats.chisquare(observed).pvalue)


SIZE, REPEATS = 256, 150
FIXED = np.arange(SIZE, dtype=np.int64) * 997 - 100_000


@pytest.fixture(scope="module")
def many_rounds() -> list[OneMasked]:
    """The same vector of the same device, masked in many rounds."""
    some = people(3)
    return [one_masked(People(replace(some.round, number=number), some.identities), FIXED) for number in range(REPEATS)]


@pytest.mark.parametrize("known", ["nothing", "its seed", "the keys of all others"])
def test_a_masked_vector_is_uniform_to_whoever_lacks_one_kind_of_mask(many_rounds: list[OneMasked], known: str) -> None:
    views = []
    for one in many_rounds:
        view = one.masked.values.astype(np.int64)
        if known == "its seed":
            view = view - np.array(self_mask(one, SIZE))
        if known == "the keys of all others":
            view = view - sum(np.array(pair_mask(one, peer, SIZE)) for peer in one.peers)
        views.append((view % 2**32).tolist())
    assert byte_uniformity(views) > LEAST_P
    assert abs(np.corrcoef(np.array(views).mean(axis=0), FIXED)[0, 1]) < 5.0 / SIZE**0.5


def test_the_same_statistic_finds_a_vector_without_masks_and_masks_that_repeat(many_rounds: list[OneMasked]) -> None:
    plain = [(FIXED % 2**32).tolist() for _ in many_rounds]
    repeated = [many_rounds[0].masked.values.tolist() for _ in many_rounds]
    assert byte_uniformity(plain) < LEAST_P**10
    assert byte_uniformity(repeated) < LEAST_P**10


def test_a_vector_masked_in_two_rounds_gives_away_no_difference(many_rounds: list[OneMasked]) -> None:
    differences = [(first.masked.values - second.masked.values).tolist() for first, second in itertools.pairwise(many_rounds)]
    assert byte_uniformity(differences[::2]) > LEAST_P


def test_seeds_are_drawn_anew_from_all_256_bits(many_rounds: list[OneMasked]) -> None:
    seeds = [np.frombuffer(one.before.seed, dtype="<u4").tolist() for one in many_rounds]
    assert byte_uniformity(seeds) > LEAST_P
    assert all(len(set(column)) > 1 for column in zip(*seeds, strict=True))


# Shares, by a slow Shamir


def product(a: int, b: int) -> int:
    """In GF(2^128) with 1 + x + x^2 + x^7 + x^128, one bit at a time."""
    result = 0
    while b:
        result ^= a * (b & 1)
        a, b = a << 1, b >> 1
        a ^= (a >> 128) * ((1 << 128) | 0x87)
    return result


def inverse(a: int) -> int:
    """a^(2^128 - 2)."""
    result, square = 1, product(a, a)
    for _ in range(127):
        result, square = product(result, square), product(square, square)
    return result


def at_zero(points: dict[int, int]) -> int:
    """Lagrange's polynomial through ``points``, at zero."""
    value = 0
    for x, y in points.items():
        above, below = y, 1
        for other in points.keys() - {x}:
            above, below = product(above, other), product(below, x ^ other)
        value ^= product(above, inverse(below))
    return value


def secret_by_a_slow_loop(shares: dict[int, bytes]) -> bytes:
    halves = ({place: int.from_bytes(share[at : at + 16], "big") for place, share in shares.items()} for at in (0, 16))
    return b"".join(at_zero(points).to_bytes(16, "big") for points in halves)


def all_masked(some: People) -> tuple[dict[int, SharesDealt], dict[int, InputMasked]]:
    keys = {device: advertise(some.round, device, identity) for device, identity in some.identities.items()}
    advertisements = [message for message, _ in keys.values()]
    shares = {device: share(secrets, advertisements, some.registered) for device, (_, secrets) in keys.items()}
    values = np.zeros(1, dtype=np.int64)
    held = {
        device: mask(dealt, {dealer: message.sealed[device] for dealer, (message, _) in shares.items() if dealer != device}, values)[1]
        for device, (_, dealt) in shares.items()
    }
    return {device: dealt for device, (_, dealt) in shares.items()}, held


@pytest.mark.parametrize("holders", [(11, 23, 40, 52), (23, 40, 52, 66), (11, 31, 52, 66)])
def test_any_threshold_of_devices_and_no_fewer_hold_a_device_s_secrets_each_at_its_place(holders: tuple[int, ...]) -> None:
    places = {number: place for place, number in enumerate((11, 23, 31, 40, 52, 66), start=1)}
    dealt, held = all_masked(people(6, numbers=places))
    for dealer in (11, 40):
        seeds = {places[holder]: held[holder].held[dealer].of_seed for holder in holders}
        keys = {places[holder]: held[holder].held[dealer].of_key for holder in holders}
        assert secret_by_a_slow_loop(seeds) == dealt[dealer].seed
        assert secret_by_a_slow_loop(keys) == dealt[dealer].keys.masking_key
        for fewer in (dict(list(seeds.items())[1:]), dict(list(seeds.items())[:-1])):
            assert secret_by_a_slow_loop(fewer)[:16] != dealt[dealer].seed[:16]
            assert secret_by_a_slow_loop(fewer)[16:] != dealt[dealer].seed[16:]


# Lies about the roster


@pytest.fixture(scope="module")
def trio() -> tuple[People, dict[int, Advertisement], dict[int, KeysDrawn]]:
    some = people(3)
    keys = {device: advertise(some.round, device, identity) for device, identity in some.identities.items()}
    return some, {device: message for device, (message, _) in keys.items()}, {device: secrets for device, (_, secrets) in keys.items()}


Trio = tuple[People, dict[int, Advertisement], dict[int, KeysDrawn]]


def signed_anew(some: People, of: Advertisement, **changes: Any) -> Advertisement:
    """What device 2 can sign of its own will."""
    changed = replace(of, **changes)
    content = advertised_bytes(changed.round, changed.device, changed.sealing_key, changed.masking_key)
    return replace(changed, signature=some.identities[2].sign(content, KEYS))


LIES: dict[str, Callable[[People, Advertisement], Advertisement]] = {
    "another sealing key": lambda some, one: replace(one, sealing_key=advertise(some.round, 2, some.identities[2])[0].sealing_key),
    "another masking key": lambda some, one: replace(one, masking_key=advertise(some.round, 2, some.identities[2])[0].masking_key),
    "its keys swapped": lambda some, one: replace(one, sealing_key=one.masking_key, masking_key=one.sealing_key),
    "a signature of another device": lambda some, one: advertise(some.round, 2, some.identities[1])[0],
    "a signature for another purpose": lambda some, one: replace(
        one,
        signature=some.identities[2].sign(advertised_bytes(one.round, 2, one.sealing_key, one.masking_key), masking._SURVIVORS),
    ),
    "a signature of another number": lambda some, one: replace(advertise(some.round, 5, some.identities[2])[0], device=2),
    "an altered signature": lambda some, one: replace(one, signature=bytes([one.signature[0] ^ 1]) + one.signature[1:]),
    "a signature cut short": lambda some, one: replace(one, signature=one.signature[:-1]),
    "a key cut short": lambda some, one: signed_anew(some, one, masking_key=one.masking_key[:-1]),
    "the round before": lambda some, one: advertise(replace(some.round, number=6), 2, some.identities[2])[0],
    "the round before, renamed": lambda some, one: replace(
        advertise(replace(some.round, number=6), 2, some.identities[2])[0], round=some.round
    ),
    "another run, renamed": lambda some, one: replace(advertise(replace(some.round, run="r"), 2, some.identities[2])[0], round=some.round),
    "more devices asked, renamed": lambda some, one: replace(
        advertise(replace(some.round, asked=9), 2, some.identities[2])[0], round=some.round
    ),
    "an unregistered device": lambda some, one: replace(one, device=9),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_roster_with_one_false_advertisement_is_refused_by_a_device_and_left_out_by_the_server(trio: Trio, lie: str) -> None:
    some, advertisements, keys = trio
    false = LIES[lie](some, advertisements[2])
    with pytest.raises(Refusal):
        share(keys[0], [advertisements[0], advertisements[1], false], some.registered)
    enrolled = enrol(some.round, [advertisements[0], false, advertisements[1]], some.registered)
    assert set(enrolled.roster.members) == {0, 1}
    assert set(enrolled.refused) == {false.device}


def test_a_device_refuses_a_roster_that_is_twice_short_too_long_or_without_itself(trio: Trio) -> None:
    some, advertisements, keys = trio
    everyone, registered = list(advertisements.values()), some.registered
    again = advertise(some.round, 2, some.identities[2])[0]
    fourth = Identity.create()
    for roster, words in (
        ([*everyone, everyone[2]], "twice"),
        ([*everyone, again], "twice"),
        ([everyone[0]], "2 are needed"),
        ([], "2 are needed"),
        ([*everyone, advertise(some.round, 3, fourth)[0]], "3 were asked"),
        ([everyone[1], everyone[2]], "lacks this device"),
    ):
        with pytest.raises(Refusal, match=words):
            share(keys[0], roster, registered | {3: fourth.public})


def test_a_device_refuses_a_roster_with_keys_that_it_signed_but_does_not_hold(trio: Trio) -> None:
    some, advertisements, keys = trio
    earlier = advertise(some.round, 0, some.identities[0])[0]
    with pytest.raises(Refusal, match="other keys than it advertised"):
        share(keys[0], [earlier, advertisements[1], advertisements[2]], some.registered)


@pytest.mark.parametrize("point", [bytes(32), (1).to_bytes(32, "little")])
@pytest.mark.parametrize("kind", ["sealing_key", "masking_key"])
def test_a_signed_key_of_low_order_is_refused(trio: Trio, kind: str, point: bytes) -> None:
    """With such a point everyone's agreement is zero, and a mask that anyone can make."""
    some, advertisements, keys = trio
    roster = [advertisements[0], advertisements[1], signed_anew(some, advertisements[2], **{kind: point})]

    def go_through() -> None:
        _, dealt = share(keys[0], roster, some.registered)
        mask(dealt, {2: sealed_shares(dealt.own, dealt.roster, keys[2], 0)}, np.zeros(2, dtype=np.int64))

    with pytest.raises(Refusal, match="every agreement is the same"):
        go_through()


def test_devices_that_were_shown_different_rosters_cannot_read_each_other(trio: Trio) -> None:
    some, advertisements, keys = trio
    _, dealt = share(keys[0], advertisements.values(), some.registered)
    other, _ = share(keys[1], [advertisements[0], advertisements[1]], some.registered)
    with pytest.raises(Refusal, match="not dealt to this device"):
        mask(dealt, {1: other.sealed[0]}, np.zeros(2, dtype=np.int64))


# Lies about the shares


@pytest.fixture(scope="module")
def shared(trio: Trio) -> dict[int, tuple[Shares, SharesDealt]]:
    some, advertisements, keys = trio
    return {device: share(keys[device], advertisements.values(), some.registered) for device in keys}


Shared = dict[int, tuple[Shares, SharesDealt]]


def test_no_byte_of_sealed_shares_can_be_altered_or_cut(shared: Shared) -> None:
    sealed, dealt, values = shared[1][0].sealed[0], shared[0][1], np.zeros(1, dtype=np.int64)
    altered = [sealed[:at] + bytes([sealed[at] ^ 0x80]) + sealed[at + 1 :] for at in range(len(sealed))]
    for content in [*altered, sealed[:-1], sealed + b"\0", b"", bytes(12), bytes(92)]:
        with pytest.raises(Refusal, match="altered"):
            mask(dealt, {1: content, 2: shared[2][0].sealed[0]}, values)
    assert mask(dealt, {1: sealed, 2: shared[2][0].sealed[0]}, values)


def test_shares_for_another_receiver_from_another_dealer_or_of_another_round_are_refused(trio: Trio, shared: Shared) -> None:
    some, advertisements, keys = trio
    later = replace(some.round, number=8)
    fresh = {device: advertise(later, device, identity) for device, identity in some.identities.items()}
    replayed, _ = share(fresh[1][1], [message for message, _ in fresh.values()], some.registered)
    again, _ = share(keys[1], advertisements.values(), some.registered)
    for content in (shared[1][0].sealed[2], shared[2][0].sealed[0], shared[0][0].sealed[1], replayed.sealed[0]):
        with pytest.raises(Refusal, match="not dealt to this device in this round"):
            mask(shared[0][1], {1: content}, np.zeros(1, dtype=np.int64))
    assert again.sealed[0] != shared[1][0].sealed[0]


def test_shares_sealed_for_another_place_than_the_receiver_s_are_refused(trio: Trio, shared: Shared) -> None:
    roster = shared[1][1].roster
    moved = masking.Roster(roster.round, roster.members)
    vars(moved)["context"], vars(moved)["places"] = roster.context, {0: 3, 1: 2, 2: 1}
    content = sealed_shares(shared[1][1].own, moved, trio[2][1], 0)
    with pytest.raises(Refusal, match="not dealt to this device"):
        mask(shared[0][1], {1: content}, np.zeros(1, dtype=np.int64))


def test_a_second_library_opens_sealed_shares_with_a_key_for_this_dealer_and_receiver(trio: Trio, shared: Shared) -> None:
    _, advertisements, keys = trio
    private, public = import_x25519_private_key(keys[0].sealing_key), import_x25519_public_key(advertisements[2].sealing_key)
    agreed = key_agreement(static_priv=private, static_pub=public, kdf=bytes)
    key = HKDF(agreed, 32, shared[0][1].roster.context, SHA256, context=length_prefixed("shares", 2, 0))
    assert isinstance(key, bytes)
    content = shared[2][0].sealed[0]
    cipher = ChaCha20_Poly1305.new(key=key, nonce=content[:12])
    cipher.update(length_prefixed("place", 1))
    _, masked = mask(shared[0][1], {2: content}, np.zeros(1, dtype=np.int64))
    assert cipher.decrypt_and_verify(content[12:-16], content[-16:]) == masked.held[2].of_seed + masked.held[2].of_key


@pytest.mark.parametrize("dealer", [0, 3])
def test_shares_from_itself_or_a_stranger_are_refused(shared: Shared, dealer: int) -> None:
    with pytest.raises(Refusal, match="not another device of the roster"):
        mask(shared[0][1], {1: shared[1][0].sealed[0], dealer: shared[2][0].sealed[0]}, np.zeros(1, dtype=np.int64))


def test_a_device_sends_nothing_when_too_few_shared_with_it(shared: Shared) -> None:
    with pytest.raises(RoundLost, match="1 of 3"):
        mask(shared[0][1], {}, np.zeros(1, dtype=np.int64))


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(3),
        np.array([np.nan]),
        np.zeros(3, dtype=np.int32),
        np.zeros((3, 1), dtype=np.int64),
        np.array([(2**31 - 1) // 3 + 1]),
        np.array([0, -((2**31 - 1) // 3) - 1]),
        np.array([-(2**63)]),
        [1, 2],
    ],
)
def test_a_vector_that_could_wrap_or_is_not_of_whole_numbers_is_refused(shared: Shared, values: Any) -> None:
    with pytest.raises(Refusal, match="fixed point"):
        mask(shared[0][1], {1: shared[1][0].sealed[0]}, values)


# Lies about the survivors


@pytest.fixture(scope="module")
def nine() -> tuple[People, dict[int, InputMasked]]:
    some = people(9)
    return some, all_masked(some)[1]


Nine = tuple[People, dict[int, InputMasked]]


@pytest.mark.parametrize(
    ("survivors", "words"),
    [
        ((0, 1, 2, 3, 4, 5, 5), "twice"),
        ((0, 1, 2, 3, 4), "5 of 9"),
        ((), "not among"),
        ((0, 1, 2, 3, 4, 5, 9), "9 is named"),
        ((1, 2, 3, 4, 5, 6), "not among"),
    ],
)
def test_a_device_signs_no_list_of_survivors_that_is_not_one(nine: Nine, survivors: tuple[int, ...], words: str) -> None:
    some, held = nine
    with pytest.raises(Refusal, match=words):
        agree(held[0], survivors, some.identities[0])


@given(st.sets(st.integers(1, 8), min_size=5))
@settings(max_examples=25, deadline=None)
def test_whatever_the_list_a_device_gives_one_kind_of_share_of_each_other_and_never_both(nine: Nine, others: set[int]) -> None:
    some, held = nine
    survivors = {0} | others
    signed = {device: agree(held[device], survivors, some.identities[device]) for device in survivors}
    answer, _ = unmask(signed[0][1], {device: message.signature for device, (message, _) in signed.items()}, some.registered)
    assert set(answer.seed_shares) == survivors
    assert set(answer.key_shares) == set(range(9)) - survivors
    assert all(answer.seed_shares[device] == held[0].held[device].of_seed for device in survivors)
    assert all(answer.key_shares[device] == held[0].held[device].of_key for device in answer.key_shares)


def answered(nine: Nine, lists: dict[int, tuple[int, ...]], liars: set[int]) -> set[int]:
    """The honest devices that unmask, each shown its own list, when liars sign every list that is shown."""
    some, held = nine
    lying = {(liar, shown): agree(held[liar], shown, some.identities[liar])[0].signature for liar in liars for shown in set(lists.values())}
    honest = {device: agree(held[device], shown, some.identities[device]) for device, shown in lists.items()}
    did = set()
    for device, shown in lists.items():
        signatures = {other: honest[other][0].signature for other in lists if lists[other] == shown and other in shown}
        signatures |= {liar: lying[liar, shown] for liar in liars}
        try:
            unmask(honest[device][1], signatures, some.registered)
        except RoundLost:
            continue
        did.add(device)
    return did


EVERYONE, WITHOUT_EIGHT = tuple(range(9)), tuple(range(8))
"""Two lists under which a lying server would learn device 8's seed, and its key."""


@pytest.mark.parametrize("deceived", range(7))
def test_two_liars_of_nine_get_one_of_two_lists_unmasked_however_the_server_shows_them(nine: Nine, deceived: int) -> None:
    lists = {device: EVERYONE if device < deceived else WITHOUT_EIGHT for device in range(6)} | {8: EVERYONE}
    unmasked = EVERYONE if deceived >= 3 else WITHOUT_EIGHT
    assert answered(nine, lists, liars={6, 7}) == {device for device, shown in lists.items() if shown == unmasked}


def test_three_liars_of_nine_are_twice_the_threshold_less_those_asked_and_get_both(nine: Nine) -> None:
    """The bound that is stated is tight."""
    lists = {device: EVERYONE if device in (0, 1, 8) else WITHOUT_EIGHT for device in (0, 1, 2, 3, 4, 8)}
    assert answered(nine, lists, liars={5, 6, 7}) == set(lists)


def test_a_device_unmasks_only_with_threshold_signatures_over_its_very_list(nine: Nine) -> None:
    some, held = nine
    survivors, other = range(8), range(7)
    signed = {device: agree(held[device], survivors, some.identities[device]) for device in survivors}
    good = {device: message.signature for device, (message, _) in signed.items()}
    over_another = agree(held[1], other, some.identities[1])[0].signature
    outside = some.identities[8].sign(masking._survivors_bytes(held[8].context, survivors), masking._SURVIVORS)
    for signatures, kind in (
        (dict(list(good.items())[:5]), RoundLost),
        ({}, RoundLost),
        (good | {1: over_another}, WrongSignature),
        (good | {1: good[2]}, WrongSignature),
        (good | {1: b""}, WrongSignature),
        (good | {8: outside}, Refusal),
        (good | {77: outside}, Refusal),
    ):
        with pytest.raises(kind):
            unmask(signed[0][1], signatures, some.registered)
    assert unmask(signed[0][1], dict(list(good.items())[:6]), some.registered)


# What a device keeps


def every_secret() -> tuple[KeysDrawn, SharesDealt, InputMasked, SurvivorsSigned, Answered]:
    some = people(3)
    dealt, held = all_masked(some)
    signed = {device: agree(held[device], range(3), some.identities[device]) for device in range(3)}
    _, over = unmask(signed[0][1], {device: message.signature for device, (message, _) in signed.items()}, some.registered)
    return dealt[0].keys, dealt[0], held[0], signed[0][1], over


ENCRYPTED = UpdateEncrypted(MaskingRound("run", 7, 3), 1, 300)
"""What an encrypted round leaves in the place of these."""


def test_every_secret_comes_back_from_its_bytes_and_from_no_other_s() -> None:
    """So what was used once (a mask, a signature over survivors, an unmasking) cannot be used again from the file."""
    secrets = (*every_secret(), ENCRYPTED)
    for stored in secrets:
        for wanted in secrets:
            if type(stored) is type(wanted):
                assert type(wanted).from_bytes(stored.to_bytes()) == stored
            else:
                with pytest.raises(Refusal, match="each step of a round once"):
                    type(wanted).from_bytes(stored.to_bytes())


def test_damaged_secrets_are_refused() -> None:
    for secret in (*every_secret(), ENCRYPTED):
        stored = secret.to_bytes()
        for at in range(0, len(stored), max(1, len(stored) // 150)):
            with pytest.raises(Refusal):
                type(secret).from_bytes(stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :])
        for content in (b"", b"[]", b"null", stored[: len(stored) // 2]):
            with pytest.raises(Refusal, match="damaged"):
                type(secret).from_bytes(content)


def test_what_a_step_no_longer_needs_is_not_kept_and_nothing_is_shown() -> None:
    drawn, dealt, masked, signed, over = every_secret()
    own = (drawn.sealing_key, drawn.masking_key, dealt.seed)
    assert all(secret.hex() in dealt.to_bytes().decode() for secret in own)
    for later in (masked, signed, over):
        assert not any(secret.hex() in later.to_bytes().decode() for secret in own)
    shares = [part for held in masked.held.values() for part in (held.of_seed, held.of_key)]
    assert not any(part.hex() in over.to_bytes().decode() for part in shares)
    for secret in (drawn, dealt, masked, signed, over):
        assert not any(repr(part) in repr(secret) for part in (*own, *shares))


# One device's faults at the server


def altered_share(kind: str) -> Damage:
    """One byte of the first share of a kind."""

    def damage(message: Unmasking) -> Unmasking:
        shares = dict(getattr(message, kind))
        first = min(shares)
        changed: Any = {kind: shares | {first: bytes([shares[first][0] ^ 1]) + shares[first][1:]}}
        return replace(message, **changed)

    return damage


def without_first(name: str) -> Damage:
    def damage(message: Any) -> Any:
        content = dict(getattr(message, name))
        del content[min(content)]
        return replace(message, **{name: content})

    return damage


def shortened(name: str) -> Damage:
    return lambda message: replace(message, **{name: {device: content[:-1] for device, content in getattr(message, name).items()}})


def of_round(number: int) -> Damage:
    return lambda message: replace(message, round=replace(message.round, number=number))


FAULTS: dict[str, tuple[str, Damage]] = {
    "keys of another round": ("advertise", of_round(6)),
    "keys without a signature": ("advertise", lambda message: replace(message, signature=bytes(64))),
    "shares of another round": ("share", of_round(6)),
    "a share is missing": ("share", without_first("sealed")),
    "a digest is missing": ("share", without_first("digests")),
    "a share is short": ("share", shortened("sealed")),
    "a digest is short": ("share", shortened("digests")),
    "shares for itself": ("share", lambda message: replace(message, sealed=message.sealed | {message.device: bytes(92)})),
    "shares of no kind": ("share", lambda message: replace(message, sealed=[])),
    "a vector of another round": ("mask", of_round(6)),
    "a vector too long": ("mask", lambda message: replace(message, values=np.append(message.values, np.uint32(1)))),
    "a vector of another type": ("mask", lambda message: replace(message, values=message.values.astype(np.float64) * np.nan)),
    "a vector of another width": ("mask", lambda message: replace(message, values=message.values.astype(np.int64))),
    "no vector": ("mask", lambda message: replace(message, values=None)),
    "a signature altered": ("agree", lambda message: replace(message, signature=bytes(64))),
    "a signature of another round": ("agree", of_round(6)),
    "a seed share altered": ("unmask", altered_share("seed_shares")),
    "a key share altered": ("unmask", altered_share("key_shares")),
    "a seed share missing": ("unmask", without_first("seed_shares")),
    "a key share missing": ("unmask", without_first("key_shares")),
    "a seed share short": ("unmask", shortened("seed_shares")),
    "both kinds of one": ("unmask", lambda message: replace(message, key_shares=message.key_shares | {2: message.seed_shares[2]})),
    "kinds swapped": ("unmask", lambda message: replace(message, seed_shares=message.key_shares, key_shares=message.seed_shares)),
    "shares of two dealers swapped": (
        "unmask",
        lambda message: replace(message, seed_shares=message.seed_shares | {1: message.seed_shares[2], 2: message.seed_shares[1]}),
    ),
    "an answer of another round": ("unmask", of_round(6)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_device_s_fault_costs_it_the_step_and_the_others_nothing(fault: str) -> None:
    some, (step, damage) = people(6), FAULTS[fault]
    values = vectors(some)
    result = play(some, values, lost_at={0: "mask"}, damage={(step, 4): damage})
    expected = {1, 2, 3, 5} | ({4} if step in ("agree", "unmask") else set())
    assert set(result.refused) == {4}
    assert set(result.devices) == expected
    assert result.values.tolist() == plain_sum(values, expected)


def test_a_share_that_was_dealt_to_another_device_is_not_followed() -> None:
    """Device 4 answers with what device 5 holds: a sum rebuilt at the wrong place of Shamir's polynomial would be noise."""
    some, answers = people(6), dict[int, Unmasking]()

    def keep(message: Unmasking) -> Unmasking:
        answers[message.device] = message
        return message

    def another(message: Unmasking) -> Unmasking:
        return replace(answers[3], device=4)

    values = vectors(some)
    result = play(some, values, damage={("unmask", 3): keep, ("unmask", 4): another})
    assert set(result.refused) == {4}
    assert "than device" in result.refused[4]
    assert result.values.tolist() == plain_sum(values, range(6))


def test_too_many_false_shares_lose_the_round_and_give_no_wrong_sum() -> None:
    some = people(3)
    with pytest.raises(RoundLost, match="1 of 3"):
        play(some, vectors(some), damage={("unmask", device): altered_share("seed_shares") for device in (0, 1)})


def enrolled_shares(some: People) -> tuple[Enrolled, dict[int, tuple[Shares, SharesDealt]]]:
    keys = {device: advertise(some.round, device, identity) for device, identity in some.identities.items()}
    enrolled = enrol(some.round, [message for message, _ in keys.values()], some.registered)
    return enrolled, {device: share(secrets, enrolled.advertisements, some.registered) for device, (_, secrets) in keys.items()}


def test_a_second_message_of_a_device_is_refused_and_its_first_stands() -> None:
    some = people(3)
    enrolled, shares = enrolled_shares(some)
    values = vectors(some)
    delivered = deliver(enrolled, [message for message, _ in shares.values()])
    inputs = [mask(dealt, delivered.sealed_for(device), values[device])[0] for device, (_, dealt) in shares.items()]
    once, twice = collect(delivered, inputs, size=5), collect(delivered, [*inputs, inputs[1]], size=5)
    assert np.array_equal(once.masked, twice.masked)
    assert "second message" in twice.refused[1]
    assert not once.refused


def test_whoever_missed_a_step_is_refused_in_the_next_however_well_formed_its_message() -> None:
    some = people(4)
    enrolled, shares = enrolled_shares(some)
    values, dealers = vectors(some), (0, 1, 2)
    first = shares[0][0]
    stranger = replace(first, device=9, sealed=dict.fromkeys(range(4), first.sealed[1]))
    delivered = deliver(enrolled, [*(shares[device][0] for device in dealers), stranger])
    inputs = {device: mask(shares[device][1], delivered.sealed_for(device), values[device]) for device in dealers}
    collected = collect(delivered, [*(message for message, _ in inputs.values()), replace(inputs[0][0], device=3)], size=5)
    signed = {device: agree(inputs[device][1], dealers, some.identities[device]) for device in dealers}
    late = some.identities[3].sign(masking._survivors_bytes(enrolled.roster.context, dealers), masking._SURVIVORS)
    confirmed = confirm(collected, [*(message for message, _ in signed.values()), Agreement(some.round, 3, late)])
    answers = [unmask(secrets, confirmed.signatures, some.registered)[0] for _, secrets in signed.values()]
    result = total(confirmed, [*answers, replace(answers[0], device=9)])
    assert [set(stage.refused) for stage in (delivered, collected, confirmed, result)] == [{9}, {3}, {3}, {9}]
    assert result.values.tolist() == plain_sum(values, dealers)


def test_a_dealer_of_another_key_than_it_advertised_loses_the_round_and_spoils_no_sum() -> None:
    some = people(3)
    enrolled, shares = enrolled_shares(some)
    honest, secrets = shares[0]
    false = dealt_shares(secrets.seed, bytes(range(32)), enrolled.roster)
    sealed = {peer: sealed_shares(false[peer], enrolled.roster, secrets.keys, peer) for peer in (1, 2)}
    digests = {holder: share_digests(enrolled.roster.context, 0, holder, part) for holder, part in false.items()}
    delivered = deliver(enrolled, [replace(honest, sealed=sealed, digests=digests), shares[1][0], shares[2][0]])
    values = vectors(some)
    inputs = {device: mask(shares[device][1], delivered.sealed_for(device), values[device]) for device in (1, 2)}
    collected = collect(delivered, [message for message, _ in inputs.values()], size=5)
    signed = {device: agree(inputs[device][1], collected.survivors, some.identities[device]) for device in (1, 2)}
    confirmed = confirm(collected, [message for message, _ in signed.values()])
    answers = [unmask(signed[device][1], confirmed.signatures, some.registered)[0] for device in (1, 2)]
    with pytest.raises(RoundLost, match="another key than it advertised"):
        total(confirmed, answers)


def bytes_of(content: object) -> int:
    """What a message weighs: its bytes and arrays, and eight for every number."""
    if isinstance(content, np.ndarray):
        return int(content.nbytes)
    if isinstance(content, dict):
        return sum(8 + bytes_of(part) for part in content.values())
    if is_dataclass(content):
        return sum(bytes_of(getattr(content, part.name)) for part in fields(content))
    return len(content) if isinstance(content, bytes | str) else 8


def test_what_a_device_uploads_is_little_more_than_its_update_in_float32() -> None:
    some, size, weights = people(10), 300_000, dict[type, int]()

    def weigh(message: Advertisement | Shares | MaskedInput | Agreement | Unmasking) -> Any:
        weights[type(message)] = bytes_of(message)
        return message

    play(some, vectors(some, size), lost_at={0: "mask"}, damage={(step, 4): weigh for step in STEPS})
    assert len(weights) == 5
    assert 4 * size < sum(weights.values()) <= 1.4 * 4 * size


def test_a_roster_is_the_same_in_whatever_order_it_comes(trio: Trio) -> None:
    some, advertisements, _ = trio
    forward, backward = (checked_roster(some.round, list(advertisements.values())[::step], some.registered) for step in (1, -1))
    assert forward.context == backward.context
    assert forward.places == backward.places == {0: 1, 1: 2, 2: 3}


@pytest.mark.parametrize("device", [-1, 2**64, True, 1.0])
def test_a_device_without_a_proper_number_advertises_nothing(device: int) -> None:
    with pytest.raises(Refusal, match="whole and not negative"):
        advertise(MaskingRound("run", 1, 3), device, Identity.create())
