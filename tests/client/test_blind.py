"""What a device keeps of an encrypted round, and until when; the whole rounds are in tests/server/test_blind.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.blind import draw_keys, encrypt_update, end_round, make_key, open_sum, reveal_shares
from client.home import DevicePolicy, Home
from model.refusal import Refusal
from model.settings import RunSettings
from privacy.encryption import EncryptedSum, SumForm
from privacy.encryption_records import KeyDelivery, OpenOrder
from privacy.fixed_point import Integers
from privacy.identity import write_roster
from privacy.masking_records import AdvertiseOrder, ShareOrder, UnmaskOrder
from privacy.roster import Advertisement, MaskingRound

DEVICES = 3
SETTINGS = RunSettings(aggregation="encrypted", clients=DEVICES)


@pytest.fixture
def homes(tmp_path: Path) -> list[Home]:
    """Three devices that know each other."""
    created = [Home.create(tmp_path / str(number), DevicePolicy()) for number in range(DEVICES)]
    for home in created:
        write_roster(home.roster, {number: other.identity.public for number, other in enumerate(created)})
    return created


def drawn(homes: list[Home], round: int) -> tuple[Advertisement, ...]:
    order = AdvertiseOrder(MaskingRound("run", round, DEVICES))
    return tuple(draw_keys(order, SETTINGS, home, device=number) for number, home in enumerate(homes))


def encrypted(homes: list[Home], round: int, values: Integers) -> OpenOrder:
    """A round up to where everybody has sent the same values; device 0 makes the key."""
    advertisements = drawn(homes, round)
    dealt = make_key(ShareOrder(advertisements), homes[0])
    total = EncryptedSum(SumForm(dealt.digest, len(values), DEVICES))
    for home in homes:
        total.add(encrypt_update(values, KeyDelivery(advertisements[0], dealt), home, round=round).ciphertext)
    return OpenOrder(total.value(), DEVICES)


@pytest.fixture
def sent(homes: list[Home]) -> OpenOrder:
    """Round 4 of three devices, whose sum (3, -6) nobody has opened yet."""
    pytest.importorskip("tenseal")
    return encrypted(homes, 4, np.array([1, -2]))


def files(home: Home) -> tuple[Path, Path]:
    return home.root / "masking.json", home.root / "sum-key.bin"


def draw_anew(home: Home) -> None:
    draw_keys(AdvertiseOrder(MaskingRound("another", 1, DEVICES)), SETTINGS, home, device=1)


ENDINGS: dict[str, Callable[[Home, OpenOrder], object]] = {
    "it opens the sum": lambda home, order: open_sum(order, home),
    "it draws keys for another round": lambda home, order: draw_anew(home),
    "the model of the round is out": lambda home, order: end_round(home, round=4),
    "the model of a later round is out": lambda home, order: end_round(home, round=5),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_sum_key_goes_when_the_round_is_over_for_a_device_and_the_sum_cannot_be_opened_again(
    homes: list[Home], sent: OpenOrder, ending: str
) -> None:
    secrets, key = files(homes[1])
    content = key.read_bytes()
    ENDINGS[ending](homes[1], sent)
    assert not key.exists()
    assert content not in secrets.read_bytes()
    with pytest.raises(Refusal, match="each step of a round once"):
        open_sum(sent, homes[1])


def test_the_model_of_a_round_before_takes_nothing_from_the_one_that_is_under_way(homes: list[Home], sent: OpenOrder) -> None:
    end_round(homes[1], round=3)
    assert open_sum(sent, homes[1]).values.tolist() == [3, -6]


@pytest.mark.parametrize("device", [0, 1])
def test_keys_that_were_drawn_and_not_used_go_too_since_a_sealed_sum_key_opens_with_them(homes: list[Home], device: int) -> None:
    pytest.importorskip("tenseal")
    advertisements = drawn(homes, 4)
    given = KeyDelivery(advertisements[0], make_key(ShareOrder(advertisements), homes[0]))
    end_round(homes[device], round=4)
    secrets, key = files(homes[device])
    assert not key.exists()
    assert "key" not in secrets.read_text()
    with pytest.raises(Refusal, match="each step of a round once"):
        encrypt_update(np.array([1, -2]), given, homes[device], round=4)


def test_a_round_that_ends_on_a_device_that_never_began_one_changes_nothing(homes: list[Home]) -> None:
    before = sorted(homes[0].root.rglob("*"))
    end_round(homes[0], round=9)
    assert sorted(homes[0].root.rglob("*")) == before


def test_a_damaged_step_file_is_refused_in_one_sentence_and_the_round_still_ends(homes: list[Home], sent: OpenOrder) -> None:
    secrets, key = files(homes[1])
    whole = secrets.read_bytes()
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 7)]
    for damaged in (b"", b"null", b"[]", b"{}", whole[: len(whole) // 2], whole.replace(b"4", b"5"), *flipped):
        secrets.write_bytes(damaged)
        with pytest.raises(Refusal, match=r"sit the round out|each step of a round once") as refused:
            open_sum(sent, homes[1])
        assert "\n" not in str(refused.value)
    secrets.write_bytes(whole)
    assert open_sum(sent, homes[1]).values.tolist() == [3, -6]
    secrets.write_bytes(b"damaged")
    key.write_bytes(b"secret")
    end_round(homes[1], round=1)
    assert not key.exists()


def test_a_step_of_another_kind_of_round_is_refused(homes: list[Home], sent: OpenOrder) -> None:
    with pytest.raises(Refusal, match="'update encrypted' and not after 'survivors signed'"):
        reveal_shares(UnmaskOrder({}), homes[1])


def test_a_sum_key_that_is_gone_is_a_refusal(homes: list[Home], sent: OpenOrder) -> None:
    files(homes[1])[1].unlink()
    with pytest.raises(Refusal, match="holds no sum key"):
        open_sum(sent, homes[1])
