"""Tests of privacy.encryption: against plain integer sums, SEAL's own addition and security bound, and with every kind of damage."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]
from tenseal import sealapi  # type: ignore[import-untyped]

from model.refusal import Refusal
from model.weights import Weights
from privacy import encryption
from privacy.encryption import (
    BUDGET_MB,
    COEFFICIENT_MODULUS,
    DEGREE,
    PLAIN_MODULUS,
    EncryptedSum,
    SumForm,
    SumKey,
    megabytes,
    open_key,
    read_without_key,
    seal_key,
)
from privacy.fixed_point import FixedPoint

HEAD, WORD, CHUNK = 48, 6, 2 * 8192 * 6
INT31 = 2**31 - 1


@lru_cache(maxsize=1)
def key() -> SumKey:
    return SumKey.create()


@lru_cache(maxsize=1)
def other_key() -> SumKey:
    return SumKey.create()


def form(parameters: int = 40, summands: int = 10, **values: float) -> SumForm:
    return SumForm(key().digest, parameters, summands, **values)


def numbers(agreed: SumForm, seed: int = 0) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(-agreed.largest, agreed.largest + 1, agreed.parameters)


def summed(agreed: SumForm, *ciphertexts: bytes) -> bytes:
    total = EncryptedSum(agreed)
    for ciphertext in ciphertexts:
        total.add(ciphertext)
    return total.value()


@lru_cache(maxsize=1)
def two_of_forty() -> tuple[bytes, bytes]:
    return key().encrypt(numbers(form(), 1), form()), key().encrypt(numbers(form(), 2), form())


def with_coefficient(ciphertext: bytes, place: int, value: int) -> bytes:
    at = HEAD + WORD * place
    return ciphertext[:at] + value.to_bytes(WORD, "little") + ciphertext[at + WORD :]


def coefficient(ciphertext: bytes, place: int) -> int:
    return int.from_bytes(ciphertext[HEAD + WORD * place : HEAD + WORD * (place + 1)], "little")


# Exactness


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_the_sum_is_the_plain_sum_of_integers(data: st.DataObject) -> None:
    summands = data.draw(st.integers(2, 6))
    agreed = form(data.draw(st.integers(1, 12)), summands)
    row = st.lists(st.integers(-agreed.largest, agreed.largest), min_size=agreed.parameters, max_size=agreed.parameters)
    updates = data.draw(st.lists(row, min_size=2, max_size=summands))
    total = summed(agreed, *[key().encrypt(np.array(update), agreed) for update in updates])
    assert key().decrypt(total, agreed).tolist() == [sum(column) for column in zip(*updates, strict=True)]


@pytest.mark.parametrize("parameters", [1, 8190, 8191, 8192, 16382, 16383])
def test_the_sum_is_exact_on_both_sides_of_a_chunks_end(parameters: int) -> None:
    agreed = form(parameters, 3)
    updates = [numbers(agreed, seed) for seed in range(3)]
    total = key().decrypt(summed(agreed, *[key().encrypt(update, agreed) for update in updates]), agreed)
    assert total.dtype == np.int64
    assert np.array_equal(total, updates[0] + updates[1] + updates[2])


@pytest.mark.slow
def test_three_devices_of_300_000_parameters_sum_exactly_and_another_device_opens_the_sum() -> None:
    agreed, total = form(300_000), EncryptedSum(form(300_000))
    expected = np.zeros(300_000, dtype=np.int64)
    for seed in range(3):
        update = numbers(agreed, seed)
        expected += update
        total.add(key().encrypt(update, agreed))
    assert np.array_equal(SumKey.from_bytes(key().to_bytes()).decrypt(total.value(), agreed), expected)


def test_what_fixed_point_encodes_comes_back_as_the_sum_of_the_weights() -> None:
    point = FixedPoint(bound=0.5, summands=3)
    updates = [Weights({"head": np.random.default_rng(seed).uniform(-0.5, 0.5, (4, 5)).astype(np.float32)}) for seed in range(3)]
    agreed = form(20, 3)
    total = key().decrypt(summed(agreed, *[key().encrypt(point.encode(update), agreed) for update in updates]), agreed)
    expected = sum(update["head"].astype(np.float64) for update in updates)
    assert np.abs(point.decode(total, updates[0].shapes)["head"] - expected).max() < 3 / point.scale + 1e-7


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("summands", [2, 3, 64, 1024])
def test_as_many_of_the_largest_values_as_may_be_summed_neither_wrap_nor_drown_in_noise(summands: int, sign: int) -> None:
    """The same ciphertext again and again is the worst case: its noise adds up in step."""
    agreed = form(5, summands)
    update = np.full(5, sign * agreed.largest)
    ciphertext, total = key().encrypt(update, agreed), EncryptedSum(agreed)
    for _ in range(summands):
        total.add(ciphertext)
    assert key().decrypt(total.value(), agreed).tolist() == [sign * (INT31 // summands) * summands] * 5


def test_a_thousand_different_ciphertexts_leave_room_for_noise_by_the_law_of_its_size() -> None:
    """SEAL's noise is the difference of two sums of 21 bits, and an encoding is rounded to the nearest coefficient."""
    assert encryption.MOST_SUMMANDS * (21 + 0.5) < COEFFICIENT_MODULUS / (2 * PLAIN_MODULUS)
    assert encryption.MOST_SUMMANDS * COEFFICIENT_MODULUS < 2**64


def test_adding_is_seals_own_addition_coefficient_by_coefficient() -> None:
    import tenseal

    first, second = (encryption._opened(ciphertext, form())[0] for ciphertext in two_of_forty())
    wire, vectors = encryption._wire(), []
    for coefficients in (first, second):
        chunk = encryption._field(1, encryption._varint(DEGREE)) + encryption._field(
            2, wire.seal_object(wire.ciphertext_prefix, coefficients)
        )
        vectors.append(tenseal.bfv_vector_from(key()._context, chunk))
    theirs = encryption._coefficients_of(encryption._fields((vectors[0] + vectors[1]).serialize())[2], 97)
    ours, count = encryption._opened(summed(form(), *two_of_forty()), form())
    assert count == 2
    assert np.array_equal(ours, theirs)


# Security


def test_the_primes_are_prime_fit_packing_and_keep_seals_bound_for_128_bits() -> None:
    odd = np.arange(3, 2**24 + 1, 2)
    for modulus in (PLAIN_MODULUS, COEFFICIENT_MODULUS):
        assert modulus % (2 * DEGREE) == 1
        assert (modulus % odd[odd <= math.isqrt(modulus)]).all()
    between = [candidate for candidate in range(2**32 + 1, PLAIN_MODULUS) if candidate % (2 * DEGREE) == 1]
    assert all((candidate % odd[odd <= math.isqrt(candidate)] == 0).any() for candidate in between)
    assert sealapi.CoeffModulus.MaxBitCount(DEGREE, sealapi.SEC_LEVEL_TYPE.TC128) == 218
    parameters = encryption._uncompressed(encryption._wire().parameters, 89)
    words = [int.from_bytes(parameters[at : at + 8], "little") for at in range(len(parameters) - 7)]
    primes = {word for word in words if 2**47 < word < 2**48 and word % (2 * DEGREE) == 1}
    assert COEFFICIENT_MODULUS in primes
    assert len(primes) == 2
    assert math.prod(primes).bit_length() == encryption.KEY_MODULUS_BITS <= 218


def test_seal_refuses_parameters_of_less_than_128_bits() -> None:
    import tenseal

    with pytest.raises(ValueError, match="parameters"):
        tenseal.context(
            tenseal.SCHEME_TYPE.BFV,
            DEGREE,
            plain_modulus=PLAIN_MODULUS,
            coeff_mod_bit_sizes=[60, 60, 60, 60],
            encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
            n_threads=1,
        )


def test_what_the_server_holds_opens_nothing() -> None:
    """The server has the form and TenSEAL's public parameters; a context made of them is not private and does not decrypt."""
    import tenseal

    wire = encryption._wire()
    public = encryption._field(1, wire.parameters) + encryption._field(2, wire.public) + encryption._varint(4 << 3) + encryption._varint(1)
    context = tenseal.context_from(public, n_threads=1)
    assert not context.is_private()
    assert key()._context.is_private()
    coefficients, _ = encryption._opened(two_of_forty()[0], form())
    chunk = encryption._field(1, encryption._varint(DEGREE)) + encryption._field(2, wire.seal_object(wire.ciphertext_prefix, coefficients))
    with pytest.raises((ValueError, RuntimeError)):
        tenseal.bfv_vector_from(context, chunk).decrypt()
    assert not np.intersect1d(encryption._unpacked(key().to_bytes()), coefficients).size
    assert all(isinstance(value, (int, float)) for name, value in vars(form()).items() if name != "key_digest")


@pytest.mark.parametrize("filling", [0, 1, -1])
def test_a_ciphertext_looks_uniform_whatever_it_holds(filling: int) -> None:
    agreed = form(8191, 2)
    coefficients, _ = encryption._opened(key().encrypt(np.full(8191, filling * agreed.largest), agreed), agreed)
    assert stats.kstest(coefficients / COEFFICIENT_MODULUS, "uniform").pvalue > 1e-5


def test_what_is_read_without_the_key_are_the_ciphertexts_own_coefficients_shortened() -> None:
    agreed = form(8192)  # a chunk and one value more
    ciphertext = key().encrypt(numbers(agreed), agreed)
    places = [*range(8191), 2 * 8192]  # the last slot of a chunk counts devices, and a second polynomial comes before the next chunk
    by_hand = [coefficient(ciphertext, place) >> 16 for place in places]
    signed = [value - 2**32 if value >= 2**31 else value for value in by_hand]
    assert read_without_key(ciphertext, agreed).tolist() == signed


def test_two_encryptions_of_one_update_share_nothing() -> None:
    update = numbers(form())
    first, second = (encryption._opened(key().encrypt(update, form()), form())[0] for _ in range(2))
    assert (first == second).sum() <= 2


def test_two_keys_differ_and_a_key_does_not_show_itself() -> None:
    assert key().digest != other_key().digest
    assert repr(key()) == f"SumKey({key().digest[:12]})"
    assert SumKey.from_bytes(key().to_bytes()).digest == key().digest


# What does not fit is refused


@pytest.mark.parametrize("summands", [2, 10, 1024])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_at_the_bound_passes_and_one_beyond_is_refused(summands: int, sign: int) -> None:
    agreed = form(3, summands)
    assert agreed.largest == INT31 // summands
    assert key().encrypt(np.array([0, sign * agreed.largest, 0]), agreed)
    with pytest.raises(Refusal, match=rf"{agreed.largest + 1} and {agreed.largest} is the most that fits"):
        key().encrypt(np.array([0, sign * (agreed.largest + 1), 0]), agreed)


def test_the_smallest_integer_whose_absolute_value_is_itself_is_refused() -> None:
    with pytest.raises(Refusal, match="most that fits"):
        key().encrypt(np.array([np.iinfo(np.int64).min] * 40), form())


@pytest.mark.parametrize(
    "update",
    [
        np.zeros(39, np.int64),
        np.zeros(41, np.int64),
        np.zeros((4, 10), np.int64),
        np.zeros(40),
        np.zeros(40, np.int32),
        np.full(40, np.nan),
    ],
    ids=["short", "long", "matrix", "float", "int32", "nan"],
)
def test_an_update_of_another_form_is_refused(update: npt.NDArray[np.int64]) -> None:
    with pytest.raises(Refusal, match="the round sums int64"):
        key().encrypt(update, form())


@pytest.mark.parametrize("parameters", [1, 8191, 8192, 30_000])
def test_megabytes_is_the_size_of_a_real_ciphertext_and_of_the_sum(parameters: int) -> None:
    agreed = form(parameters)
    ciphertext = key().encrypt(numbers(agreed), agreed)
    assert megabytes(parameters) == len(ciphertext) / 1e6 == len(summed(agreed, ciphertext, ciphertext)) / 1e6
    assert megabytes(parameters) == pytest.approx(12 * parameters / 1e6, abs=0.13)


def test_full_fine_tuning_is_refused_with_its_size_before_anything_is_encrypted() -> None:
    with pytest.raises(Refusal, match=r"92200000 encrypted parameters are 1106\.6 MB a device and the most is 20 MB"):
        form(92_200_000)


def test_the_budget_is_the_last_size_that_passes() -> None:
    most = max(chunks for chunks in range(1, 300) if (HEAD + chunks * CHUNK) / 1e6 <= BUDGET_MB) * 8191
    assert form(most).parameters == most
    with pytest.raises(Refusal, match="masking"):
        form(most + 1)
    assert form(most + 1, budget_mb=21.0).parameters == most + 1


@pytest.mark.parametrize(("summands", "passes"), [(0, False), (1, False), (2, True), (1024, True), (1025, False)])
def test_a_number_of_devices_that_noise_or_secrecy_do_not_bear_is_refused(summands: int, passes: bool) -> None:
    if passes:
        assert form(3, summands).summands == summands
    else:
        with pytest.raises(Refusal, match="at least 2 and at most 1024"):
            form(3, summands)


@pytest.mark.parametrize("digest", ["", "ab", "g" * 64, "A" * 64])
def test_a_digest_that_is_none_is_refused(digest: str) -> None:
    with pytest.raises(Refusal, match="digest"):
        SumForm(digest, 3, 3)


def test_a_form_without_parameters_is_refused() -> None:
    with pytest.raises(Refusal, match="check tuning"):
        form(0)


# Damage at the server: it costs its sender the round and nobody else


def good() -> bytes:
    return two_of_forty()[0]


DAMAGES: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "head only": lambda: good()[:HEAD],
    "truncated": lambda: good()[:-1],
    "too long": lambda: good() + b"\0",
    "magic": lambda: b"XXXX" + good()[4:],
    "another key": lambda: other_key().encrypt(numbers(form()), SumForm(other_key().digest, 40, 10)),
    "another size": lambda: key().encrypt(numbers(form(9000)), form(9000)),
    "another number of parameters": lambda: good()[:36] + (41).to_bytes(8, "little") + good()[44:],
    "a sum": lambda: summed(form(), *two_of_forty()),
    "nobody's": lambda: good()[:44] + bytes(4),
    "coefficient at the modulus": lambda: with_coefficient(good(), 5, COEFFICIENT_MODULUS),
    "all bits": lambda: good()[:HEAD] + b"\xff" * CHUNK,
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_ciphertext_is_refused_and_the_sum_stays_what_it_was(damage: str) -> None:
    total = EncryptedSum(form())
    first, second = two_of_forty()
    total.add(first)
    with pytest.raises(Refusal):
        total.add(DAMAGES[damage]())
    total.add(second)
    assert total.count == 2
    assert np.array_equal(key().decrypt(total.value(), form()), numbers(form(), 1) + numbers(form(), 2))


def test_the_largest_coefficient_below_the_modulus_is_taken_by_us_and_by_seal_and_the_modulus_by_neither() -> None:
    import tenseal

    wire = encryption._wire()
    for value, good in ((COEFFICIENT_MODULUS - 1, True), (COEFFICIENT_MODULUS, False)):
        coefficients = np.zeros(2 * DEGREE, dtype=np.uint64)
        coefficients[-1] = value
        chunk = encryption._field(1, encryption._varint(DEGREE)) + encryption._field(
            2, wire.seal_object(wire.ciphertext_prefix, coefficients)
        )
        if good:
            tenseal.bfv_vector_from(key()._context, chunk)
            EncryptedSum(form()).add(with_coefficient(two_of_forty()[0], 2 * DEGREE - 1, value))
        else:
            with pytest.raises((ValueError, RuntimeError)):
                tenseal.bfv_vector_from(key()._context, chunk)
            with pytest.raises(Refusal, match="not below"):
                EncryptedSum(form()).add(with_coefficient(two_of_forty()[0], 2 * DEGREE - 1, value))


def test_one_device_more_than_agreed_is_refused() -> None:
    agreed = form(40, 2)
    ciphertext = key().encrypt(numbers(agreed), agreed)
    total = EncryptedSum(agreed)
    total.add(ciphertext)
    total.add(ciphertext)
    with pytest.raises(Refusal, match="raise summands"):
        total.add(ciphertext)
    assert np.array_equal(key().decrypt(total.value(), agreed), 2 * numbers(agreed))


@pytest.mark.parametrize("devices", [0, 1])
def test_the_sum_of_fewer_than_two_devices_is_not_given_out(devices: int) -> None:
    total = EncryptedSum(form())
    for ciphertext in two_of_forty()[:devices]:
        total.add(ciphertext)
    with pytest.raises(Refusal, match="at least 2"):
        total.value()


# Damage at the device


@pytest.mark.parametrize("fewest", [-1, 0, 1, 2])
def test_a_device_never_opens_a_single_update(fewest: int) -> None:
    with pytest.raises(Refusal, match="is of 1 devices"):
        key().decrypt(two_of_forty()[0], form(), fewest=fewest)


def test_a_device_opens_a_sum_of_as_many_as_it_asks_for_and_of_no_fewer() -> None:
    total = summed(form(), *two_of_forty(), two_of_forty()[0])
    assert key().decrypt(total, form(), fewest=3).size == 40
    with pytest.raises(Refusal, match="one of 4 to 10 is opened"):
        key().decrypt(total, form(), fewest=4)


@pytest.mark.parametrize("place", [0, 4095, 8191, 8192, 16383])
def test_a_damaged_sum_is_noticed_and_nothing_is_given(place: int) -> None:
    total = summed(form(), *two_of_forty())
    damaged = with_coefficient(total, place, (coefficient(total, place) + 2**40) % COEFFICIENT_MODULUS)
    with pytest.raises(Refusal, match="does not open"):
        key().decrypt(damaged, form())


def test_a_change_within_the_room_for_noise_changes_nothing_and_one_beyond_it_is_noticed() -> None:
    total = summed(form(), *two_of_forty())
    room = COEFFICIENT_MODULUS // (2 * PLAIN_MODULUS)
    assert room == 32767
    for offset in (-room + 100, room - 100):
        changed = with_coefficient(total, 7, (coefficient(total, 7) + offset) % COEFFICIENT_MODULUS)
        assert np.array_equal(key().decrypt(changed, form()), numbers(form(), 1) + numbers(form(), 2))
    for offset in (-room - 100, room + 100):
        changed = with_coefficient(total, 7, (coefficient(total, 7) + offset) % COEFFICIENT_MODULUS)
        with pytest.raises(Refusal, match="does not open"):
            key().decrypt(changed, form())


@pytest.mark.parametrize("count", [3, 9])
def test_a_sum_that_lies_about_its_devices_is_noticed(count: int) -> None:
    total = summed(form(), *two_of_forty())
    with pytest.raises(Refusal, match="does not open"):
        key().decrypt(total[:44] + count.to_bytes(4, "little") + total[HEAD:], form())


def test_a_sum_under_another_key_is_noticed_even_if_it_says_otherwise() -> None:
    theirs = SumForm(other_key().digest, 40, 10)
    total = summed(theirs, *[other_key().encrypt(numbers(theirs, seed), theirs) for seed in range(2)])
    with pytest.raises(Refusal, match="fetch the round's key"):
        key().decrypt(total, form())
    with pytest.raises(Refusal, match="fetch the round's key"):
        key().decrypt(total, theirs)
    with pytest.raises(Refusal, match="does not open"):
        key().decrypt(total[:4] + bytes.fromhex(key().digest) + total[36:], form())


def test_a_sum_into_which_a_device_put_more_than_the_bound_is_noticed() -> None:
    """The sender goes round the bound by a form of fewer devices; the sum of two of these leaves the range of the agreed one."""
    wide = form(40, 2)
    ciphertexts = [key().encrypt(np.full(40, wide.largest), wide) for _ in range(2)]
    with pytest.raises(Refusal, match="does not open"):
        key().decrypt(summed(form(), *ciphertexts), form())


def test_chunks_of_one_size_that_are_cut_short_are_noticed_by_their_padding() -> None:
    long, short = form(100), form(40)
    total = summed(long, *[key().encrypt(numbers(long, seed), long) for seed in range(2)])
    with pytest.raises(Refusal, match="does not open"):
        key().decrypt(total[:36] + (40).to_bytes(8, "little") + total[44:], short)


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK + 1])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(Refusal, match=f"has {length}"):
        SumKey.from_bytes(bytes(length))


@pytest.mark.parametrize("place", [0, DEGREE, 2 * DEGREE - 1])
def test_a_key_with_a_coefficient_beyond_its_modulus_is_refused(place: int) -> None:
    content = bytearray(key().to_bytes())
    content[WORD * place : WORD * (place + 1)] = b"\xff" * WORD
    with pytest.raises(Refusal, match="no sum key"):
        SumKey.from_bytes(bytes(content))


# The key's way to the other devices


def public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


ALICE, BOB, EVE = (X25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))


def sealed() -> bytes:
    return seal_key(key(), run="run-1", sender=ALICE, receiver=public(BOB))


def test_the_receiver_opens_the_key_and_with_it_the_sum() -> None:
    received = open_key(sealed(), run="run-1", digest=key().digest, receiver=BOB, sender=public(ALICE))
    assert received.to_bytes() == key().to_bytes()
    assert np.array_equal(received.decrypt(summed(form(), *two_of_forty()), form()), numbers(form(), 1) + numbers(form(), 2))


def test_no_part_of_the_key_is_to_be_seen_in_what_travels_and_no_two_sealings_are_alike() -> None:
    first, second = sealed(), sealed()
    content = key().to_bytes()
    assert first != second
    for at in range(0, len(content), 4096):
        assert content[at : at + 12] not in first
    assert len(first) == 32 + len(content) + 16


@pytest.mark.parametrize("wrong", ["run", "digest", "receiver", "sender", "reflected"])
def test_a_sealed_key_opens_for_its_run_digest_sender_and_receiver_only(wrong: str) -> None:
    run, digest = ("run-2" if wrong == "run" else "run-1"), (other_key().digest if wrong == "digest" else key().digest)
    receiver = {"receiver": EVE, "reflected": ALICE}.get(wrong, BOB)
    sender = {"sender": EVE, "reflected": BOB}.get(wrong, ALICE)
    with pytest.raises(Refusal, match="does not open"):
        open_key(sealed(), run=run, digest=digest, receiver=receiver, sender=public(sender))


@pytest.mark.parametrize("place", [0, 31, 32, 5000, -1])
def test_a_flipped_bit_of_a_sealed_key_is_noticed(place: int) -> None:
    content = bytearray(sealed())
    content[place] ^= 1
    with pytest.raises(Refusal, match="does not open"):
        open_key(bytes(content), run="run-1", digest=key().digest, receiver=BOB, sender=public(ALICE))


@pytest.mark.parametrize("length", [0, 31, 32, 47, 48, 1000])
def test_a_truncated_sealed_key_is_noticed(length: int) -> None:
    with pytest.raises(Refusal, match="does not open"):
        open_key(sealed()[:length], run="run-1", digest=key().digest, receiver=BOB, sender=public(ALICE))


@pytest.mark.parametrize("point", [b"", bytes(31), bytes(33), bytes(32), b"\1" + bytes(31)], ids=["none", "short", "long", "zero", "one"])
def test_a_public_key_that_is_none_or_gives_its_secret_away_is_refused(point: bytes) -> None:
    with pytest.raises(Refusal, match="X25519"):
        seal_key(key(), run="run-1", sender=ALICE, receiver=point)
    with pytest.raises(Refusal, match="X25519"):
        open_key(sealed(), run="run-1", digest=key().digest, receiver=BOB, sender=point)


# TenSEAL is optional


def test_without_tenseal_a_device_is_told_what_to_install_and_the_server_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    content, ciphertexts = key().to_bytes(), two_of_forty()
    expected = summed(form(), *ciphertexts)
    monkeypatch.setitem(sys.modules, "tenseal", None)
    for build in (SumKey.create, lambda: SumKey.from_bytes(content)):
        with pytest.raises(Refusal, match=r"pip install 'feelinghealing\[encryption\]'"):
            build()
    assert summed(form(), *ciphertexts) == expected


def test_importing_the_module_does_not_import_tenseal() -> None:
    code = "import sys, privacy.encryption; sys.exit('tenseal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_tenseal_whose_prime_is_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "COEFFICIENT_MODULUS", COEFFICIENT_MODULUS + 2)
    with pytest.raises(Refusal, match=r"than 0\.3\.18"):
        encryption._wire.__wrapped__()


def test_encrypting_and_decrypting_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    agreed = form(9000)
    ciphertext = key().encrypt(numbers(agreed), agreed)
    key().decrypt(summed(agreed, ciphertext, ciphertext), agreed)
    assert capfd.readouterr() == ("", "")
