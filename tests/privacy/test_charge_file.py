"""Tests of the file behind both ledgers (privacy.ledger.ChargeFile): the damage that it must survive or refuse, and its form.

All of it goes through the ledgers themselves, a device's and a population's.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy.ledger import Charge, Ledger, LedgerDamaged
from privacy.plan import PrivacyPlan
from privacy.user_accounting import UserCharge, UserLedger, UserPlan

STEP = PrivacyPlan(noise_multiplier=8.0, sampling_rate=1.0, clip_norm=1.0, delta=1e-4, steps_per_round=1)
DEARER_STEP = PrivacyPlan(noise_multiplier=4 / 3, sampling_rate=0.25, clip_norm=1.0, delta=1e-4, steps_per_round=4)
ROUND = UserPlan(noise_multiplier=8.0, clip_norm=1.0, delta=1e-4, clients=10, clients_per_round=10, sampling="full")
DEARER_ROUND = UserPlan(noise_multiplier=4 / 3, clip_norm=1.0, delta=1e-4, clients=50, clients_per_round=10, sampling="fixed")

DEVICE_FILE = rb"""{
 "charges": [
  {
   "run": "\uc77c\uae30 \"7\"",
   "round": 1,
   "noise_multiplier": 1.3333333333333333,
   "sampling_rate": 0.25,
   "steps": 4
  },
  {
   "run": "run",
   "round": 2,
   "noise_multiplier": 8.0,
   "sampling_rate": 1.0,
   "steps": 1
  }
 ],
 "digest": "28ab17ebd89da28a79b6de159299bcfa47956b89adfdd733dba730c7a98a46af"
}"""
WITH_TIMES = rb"""{
 "charges": [
  {
   "run": "\uc77c\uae30 \"7\"",
   "round": 1,
   "noise_multiplier": 1.3333333333333333,
   "sampling_rate": 0.25,
   "steps": 4,
   "at": 1800000000
  },
  {
   "run": "run",
   "round": 2,
   "noise_multiplier": 8.0,
   "sampling_rate": 1.0,
   "steps": 1,
   "at": 1800000000
  }
 ],
 "digest": "12c1c6d78347fbdeeb51ae40c6a6aac3d78767ca84a2ad309816362492fa733a"
}"""
POPULATION_FILE = rb"""{
 "charges": [
  {
   "run": "\uc77c\uae30 \"7\"",
   "round": 1,
   "noise_multiplier": 1.3333333333333333,
   "sampling": "fixed",
   "clients": 50,
   "clients_per_round": 10
  },
  {
   "run": "run",
   "round": 2,
   "noise_multiplier": 8.0,
   "sampling": "full",
   "clients": 10,
   "clients_per_round": 10
  }
 ],
 "digest": "341de10ba9bb19a07310a5cdd6bba4500b8e0b4b31acd9e5c00c7080fc3410ef"
}"""


@dataclass(frozen=True)
class Kept:
    """One kind of ledger, two plans that can be charged to it, and the file that version 0.1 wrote of a round of each."""

    opened: Callable[[Path], Any]
    cheap: Any
    dear: Any
    two_cheap: tuple[Any, ...]
    dear_and_cheap: tuple[Any, ...]
    file: bytes
    written: bytes
    """The file that this version writes of the same."""


KINDS = {
    "device": Kept(
        lambda path: Ledger(path, limit=8.0, delta=1e-4, clock=lambda: 1_800_000_000.9),
        STEP,
        DEARER_STEP,
        (Charge("run", 1, 8.0, 1.0, 1), Charge("run", 2, 8.0, 1.0, 1)),
        (Charge('일기 "7"', 1, 4 / 3, 0.25, 4), Charge("run", 2, 8.0, 1.0, 1)),
        DEVICE_FILE,
        WITH_TIMES,
    ),
    "population": Kept(
        lambda path: UserLedger(path, limit=20.0, delta=1e-4),
        ROUND,
        DEARER_ROUND,
        (UserCharge("run", 1, 8.0, "full", 10, 10), UserCharge("run", 2, 8.0, "full", 10, 10)),
        (UserCharge('일기 "7"', 1, 4 / 3, "fixed", 50, 10), UserCharge("run", 2, 8.0, "full", 10, 10)),
        POPULATION_FILE,
        POPULATION_FILE,
    ),
}


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest) -> Kept:
    return KINDS[request.param]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "ledger.json"


@pytest.fixture
def ledger(kept: Kept, path: Path) -> Any:
    """A ledger that was begun."""
    ledger = kept.opened(path)
    ledger.begin()
    return ledger


@pytest.fixture
def written(kept: Kept, ledger: Any, path: Path) -> bytes:
    """The bytes of a ledger with two charges."""
    ledger.charge(kept.cheap, run="run", round=1)
    ledger.charge(kept.cheap, run="run", round=2)
    return path.read_bytes()


def assert_refused(kept: Kept, path: Path, damaged: bytes) -> None:
    path.write_bytes(damaged)
    ledger = kept.opened(path)
    with pytest.raises(LedgerDamaged, match="damaged"):
        ledger.spent()
    with pytest.raises(LedgerDamaged, match="damaged"):
        ledger.charge(kept.cheap, run="run", round=3)
    assert path.read_bytes() == damaged


def test_a_file_that_version_0_1_wrote_reads_back_and_is_gone_on_with(kept: Kept, path: Path, ledger: Any) -> None:
    path.write_bytes(kept.file)
    assert kept.opened(path).charges() == kept.dear_and_cheap
    ledger.charge(kept.cheap, run="run", round=2)
    assert kept.opened(path).charges() == (*kept.dear_and_cheap, kept.dear_and_cheap[1])


def test_what_is_charged_now_is_written_as_this_version_writes_it(kept: Kept, path: Path, ledger: Any) -> None:
    assert json.loads(path.read_bytes())["charges"] == []
    ledger.charge(kept.dear, run='일기 "7"', round=1)
    ledger.charge(kept.cheap, run="run", round=2)
    assert path.read_bytes() == kept.written
    assert kept.opened(path).charges() == kept.dear_and_cheap


def test_a_ledger_cut_off_anywhere_is_refused(kept: Kept, path: Path, written: bytes) -> None:
    for length in range(len(written)):
        assert_refused(kept, path, written[:length])


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_no_charge(kept: Kept, path: Path, written: bytes, data: st.DataObject) -> None:
    at, bit = data.draw(st.integers(0, len(written) - 1)), data.draw(st.integers(0, 7))
    path.write_bytes(written[:at] + bytes([written[at] ^ 1 << bit]) + written[at + 1 :])
    with suppress(LedgerDamaged):
        assert kept.opened(path).charges() == kept.two_cheap


def test_an_edited_charge_is_refused(kept: Kept, path: Path, written: bytes) -> None:
    for name in vars(kept.two_cheap[0]):
        content = json.loads(written)
        content["charges"][0][name] = 9
        assert_refused(kept, path, json.dumps(content).encode())


def test_a_removed_charge_and_swapped_charges_are_refused(kept: Kept, path: Path, written: bytes) -> None:
    content = json.loads(written)
    first, second = content["charges"]
    for charges in ([first], [second, first], []):
        assert_refused(kept, path, json.dumps(content | {"charges": charges}).encode())


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"7", b"\xff\xfe\x00", b"\x00" * 300, b'{"charges": [], "digest": ""}', b'{"charges": [7], "digest": ""}'],
)
def test_a_file_that_is_no_ledger_is_refused(kept: Kept, path: Path, written: bytes, content: bytes) -> None:
    assert_refused(kept, path, content)


def test_the_other_kind_of_ledger_is_refused(kept: Kept, path: Path, written: bytes) -> None:
    for other in KINDS.values():
        if other is not kept:
            assert_refused(other, path, written)


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_write_that_the_disk_breaks_off_raises_and_leaves_the_old_ledger(
    kept: Kept, path: Path, written: bytes, ledger: Any, full_disk: Callable[[int], AbstractContextManager[None]], room: int
) -> None:
    with pytest.raises(OSError, match="File too large"), full_disk(room):
        ledger.charge(kept.cheap, run="run", round=3)
    assert path.read_bytes() == written
    assert len(kept.opened(path).charges()) == 2
    assert [file for file in path.parent.iterdir() if "partial" in file.name] == []


def test_half_a_ledger_that_a_killed_process_left_beside_the_whole_one_is_not_read(
    kept: Kept, path: Path, written: bytes, ledger: Any
) -> None:
    (path.parent / f".{path.name}.4711.partial").write_bytes(written[:50])
    assert len(ledger.charges()) == 2
    ledger.charge(kept.cheap, run="run", round=3)
    assert len(ledger.charges()) == 3


def test_ledger_and_lock_are_readable_by_their_owner_only_under_any_umask(kept: Kept, path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = kept.opened(path)
        ledger.begin()
        ledger.charge(kept.cheap, run="run", round=1)
        ledger.charge(kept.cheap, run="run", round=2)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_suffix(".lock").stat().st_mode) == 0o600
