"""Tests of privacy.register: it only grows, and no damage, no swapped key and no second device of one key passes for it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.refusal import Refusal
from privacy.identity import Identity
from privacy.register import Register, read_register, registered_key, registration_line, write_register

KEYS = [bytes([number]) * 32 for number in range(1, 7)]


def register_of(*keys: bytes) -> Register:
    register = Register()
    for key in keys:
        register = register.with_device(key)
    return register


# the line


def test_a_line_tells_a_device_s_public_key_and_nothing_secret() -> None:
    identity = Identity.create()
    line = registration_line(identity)
    assert registered_key(f"  {line}\n") == identity.public
    assert len(line) == 208
    assert json.loads(identity.to_bytes())["private"] not in line


def test_a_line_that_was_cut_short_or_altered_anywhere_is_refused_and_not_quoted() -> None:
    line, other = registration_line(Identity.create()), registration_line(Identity.create())
    name, _, signature = line.split()
    altered = [line[:at] + ("0" if line[at] != "0" else "1") + line[at + 1 :] for at in range(len(name) + 1, len(line)) if line[at] != " "]
    for damaged in (*altered, line[:-1], line[:-2], line[20:], "", "내 일기", f"{line} {line}", f"{name} {other.split()[1]} {signature}"):
        with pytest.raises(Refusal, match="not the whole line of one device") as refused:
            registered_key(damaged)
        assert "일기" not in str(refused.value)


# the register


def test_a_number_is_given_once_and_never_again() -> None:
    register = register_of(*KEYS[:3])
    assert dict(register.devices) == {0: KEYS[0], 1: KEYS[1], 2: KEYS[2]}
    grown = register.without(2).with_device(KEYS[3])
    assert dict(grown.devices) == {0: KEYS[0], 1: KEYS[1], 3: KEYS[3]}
    assert grown.number_of(KEYS[3]) == 3
    with pytest.raises(Refusal, match="not among the 3"):
        grown.number_of(KEYS[2])
    with pytest.raises(Refusal, match="registered already, as number 0"):
        grown.with_device(KEYS[0])
    with pytest.raises(Refusal, match="no device has the number 2"):
        grown.without(2)


@pytest.mark.parametrize(
    ("devices", "given", "sentence"),
    [
        ({0: KEYS[0], 1: KEYS[0]}, 2, "one key under two numbers"),
        ({0: KEYS[0][:-1]}, 1, "no public key of 32 bytes"),
        ({2: KEYS[0]}, 2, "never given"),
        ({-1: KEYS[0]}, 2, "never given"),
        ({}, -1, "never given"),
    ],
)
def test_what_is_no_register_is_refused(devices: dict[int, bytes], given: int, sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        Register(devices, given)


def test_the_fingerprint_is_sha256_over_every_number_and_key_each_with_its_length() -> None:
    register = register_of(*KEYS[:2]).without(0).with_device(KEYS[2])
    parts = [b"register", b"1", b"3", b"1", KEYS[1], b"2", KEYS[2]]
    by_hand = hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest()
    assert register.digest == by_hand
    assert register.fingerprint.replace(" ", "") == by_hand
    assert register.is_named(register.fingerprint)
    assert register.is_named(by_hand.upper())
    assert not register.is_named(by_hand[:-1])
    assert not register.is_named("")


# registers that follow one another

Steps = list[tuple[bool, int]]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=12))
def test_whatever_was_added_and_removed_a_later_register_follows_every_earlier_and_no_earlier_a_later_one(steps: Steps) -> None:
    grown = [Register()]
    for adds, choice in steps:
        now = grown[-1]
        if adds:
            grown.append(now.with_device(bytes([now.given + 1]) * 32))
        elif choice in now.devices:
            grown.append(now.without(choice))
    for at, earlier in enumerate(grown):
        for later in grown[at:]:
            later.require_follows(earlier)
            if later != earlier:
                with pytest.raises(Refusal, match="ask who runs the federation"):
                    earlier.require_follows(later)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (Register({0: KEYS[0], 1: KEYS[4], 3: KEYS[3]}, 4), "gives device 1 another key"),
        (Register({0: KEYS[0], 1: KEYS[1], 2: KEYS[2], 3: KEYS[3]}, 4), "brings back device 2"),
        (Register({0: KEYS[0], 1: KEYS[1]}, 2), "is older"),
    ],
)
def test_a_register_with_a_swapped_key_a_removed_device_or_of_before_follows_not(other: Register, sentence: str) -> None:
    joined = register_of(*KEYS[:4]).without(2)
    with pytest.raises(Refusal, match=sentence):
        other.require_follows(joined)


# the file


def test_a_register_reads_back_and_no_byte_of_it_can_be_changed(tmp_path: Path) -> None:
    path, register = tmp_path / "register.json", register_of(*KEYS[:4]).without(1)
    write_register(path, register)
    assert read_register(path) == register
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(Refusal, match="is damaged"):
            read_register(path)


@pytest.mark.parametrize("cut", range(0, 500, 50))
def test_a_truncated_register_is_refused_with_the_next_move(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "register.json"
    path.write_bytes(register_of(*KEYS).to_bytes()[:cut])
    with pytest.raises(Refusal, match=r"is damaged; get register\.json again"):
        read_register(path)


@pytest.mark.parametrize(
    "content", [b"[]", b"3", b"{}", b"\xff", b"[" * 100_000, b'{"format": 2, "given": 0, "devices": {}, "digest": ""}']
)
def test_what_is_no_register_s_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "register.json").write_bytes(content)
    with pytest.raises(Refusal, match="is damaged"):
        read_register(tmp_path / "register.json")


def test_a_register_that_is_not_there_or_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="healing server register"):
        read_register(tmp_path / "register.json")
    with pytest.raises(Refusal, match="cannot be read"):
        read_register(tmp_path)
