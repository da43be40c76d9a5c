"""Tests of privacy.identity: against a second library's Ed25519, and every way to pass a signature off for another."""

from __future__ import annotations

import json

import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from hypothesis import given
from hypothesis import strategies as st

from model.refusal import Refusal
from privacy.identity import Identity, WrongSignature, verify

CONTENT, PURPOSE = b"run 1, round 7, device 3", b"keys"


@given(st.binary(max_size=200), st.binary(min_size=1, max_size=255))
def test_a_signature_verifies_for_its_signer_content_and_purpose(content: bytes, purpose: bytes) -> None:
    identity = Identity.create()
    verify(identity.public, content, purpose, identity.sign(content, purpose))


def test_the_signature_is_ed25519_by_a_second_library_over_domain_purpose_and_content() -> None:
    identity = Identity.create()
    signed = b"feelinghealing signature 1\x00" + b"\x04" + PURPOSE + CONTENT
    public = ECC.import_key(b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00" + identity.public)  # RFC 8410
    eddsa.new(public, "rfc8032").verify(signed, identity.sign(CONTENT, PURPOSE))


@pytest.mark.parametrize(
    ("content", "purpose"),
    [
        (CONTENT, b"survivors"),
        (CONTENT + b"0", PURPOSE),
        (CONTENT[:-1], PURPOSE),
        (CONTENT[1:], PURPOSE + CONTENT[:1]),  # a byte moved over the border between the two
        (PURPOSE[-1:] + CONTENT, PURPOSE[:-1]),
        (b"", PURPOSE),
    ],
)
def test_a_signature_is_good_for_no_other_content_or_purpose(content: bytes, purpose: bytes) -> None:
    identity = Identity.create()
    signature = identity.sign(CONTENT, PURPOSE)
    with pytest.raises(WrongSignature):
        verify(identity.public, content, purpose, signature)


def test_no_bit_of_a_signature_can_be_changed() -> None:
    identity = Identity.create()
    signature = identity.sign(CONTENT, PURPOSE)
    for bit in range(8 * len(signature)):
        altered = (int.from_bytes(signature, "big") ^ (1 << bit)).to_bytes(64, "big")
        with pytest.raises(WrongSignature):
            verify(identity.public, CONTENT, PURPOSE, altered)


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65)])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(WrongSignature):
        verify(Identity.create().public, CONTENT, PURPOSE, signature)


@pytest.mark.parametrize("public", [b"", bytes(31), b"\xff" * 32, bytes(33)])
def test_what_is_no_public_key_is_refused(public: bytes) -> None:
    with pytest.raises(WrongSignature):
        verify(public, CONTENT, PURPOSE, Identity.create().sign(CONTENT, PURPOSE))


def test_another_device_s_signature_is_refused() -> None:
    with pytest.raises(WrongSignature, match="registered"):
        verify(Identity.create().public, CONTENT, PURPOSE, Identity.create().sign(CONTENT, PURPOSE))


@pytest.mark.parametrize("purpose", [b"", bytes(256)])
def test_a_purpose_must_be_named_in_one_byte_s_length(purpose: bytes) -> None:
    with pytest.raises(Refusal, match="1 to 255"):
        Identity.create().sign(CONTENT, purpose)


def test_an_identity_comes_back_from_its_file_and_signs_as_before() -> None:
    identity = Identity.create()
    restored = Identity.from_bytes(identity.to_bytes())
    assert restored.public == identity.public
    verify(identity.public, CONTENT, PURPOSE, restored.sign(CONTENT, PURPOSE))


def test_a_damaged_file_is_refused_and_never_another_identity() -> None:
    stored, public = Identity.create().to_bytes(), None
    for at in range(len(stored)):
        damaged = stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]
        with pytest.raises(Refusal, match="damaged"):
            public = Identity.from_bytes(damaged).public
    assert public is None


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{}", json.dumps({"kind": "ed25519", "private": "00", "public": ""}).encode()])
def test_what_is_no_identity_is_refused(content: bytes) -> None:
    with pytest.raises(Refusal, match="damaged"):
        Identity.from_bytes(content)


def test_two_identities_differ_and_neither_shows_its_secret() -> None:
    first, second = Identity.create(), Identity.create()
    private = json.loads(first.to_bytes())["private"]
    assert first.public != second.public
    assert private not in repr(first)
    assert repr(bytes.fromhex(private)) not in repr(first)
