"""What a device agrees to hide, what it keeps of the round, and until when; the whole rounds are in tests/server/test_blind.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from client.blind import deal_shares, draw_keys, encrypt_update, end_round, make_key, open_sum, reveal_shares
from client.home import DevicePolicy, Home
from client.participation import SitsOut
from model.refusal import Refusal
from model.settings import RunSettings
from privacy.encryption import EncryptedSum, SumForm
from privacy.encryption_records import KeyDelivery, OpenOrder
from privacy.fixed_point import Integers
from privacy.identity import Identity, WrongSignature
from privacy.masking import advertise
from privacy.masking_records import AdvertiseOrder, ShareOrder, UnmaskOrder, decode_advertise_order
from privacy.register import Register, write_register
from privacy.roster import Advertisement, MaskingRound

DEVICES = 3
SETTINGS = RunSettings(aggregation="encrypted", clients=DEVICES)


@pytest.fixture
def homes(tmp_path: Path) -> list[Home]:
    """Three devices that know each other."""
    created = [Home.create(tmp_path / str(number), DevicePolicy(fewest_asked=DEVICES)) for number in range(DEVICES)]
    register = Register({number: home.identity.public for number, home in enumerate(created)}, DEVICES)
    for home in created:
        write_register(home.register_path, register)
    return created


def drawn(homes: list[Home], round: int) -> tuple[Advertisement, ...]:
    order = AdvertiseOrder(MaskingRound("run", round, DEVICES), homes[0].register.digest)
    keys = [draw_keys(order, SETTINGS, home) for home in homes]
    return tuple(one for one in keys if isinstance(one, Advertisement))


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


def opened(home: Home) -> bytes:
    """What the device keeps of its round, unsealed."""
    return home.sealed("masking.json").read()


def draw_anew(home: Home) -> None:
    draw_keys(AdvertiseOrder(MaskingRound("another", 1, DEVICES), home.register.digest), SETTINGS, home)


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
    _, key = files(homes[1])
    content = homes[1].sealed(key.name).read()
    ENDINGS[ending](homes[1], sent)
    assert not key.exists()
    assert content not in opened(homes[1])
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
    _, key = files(homes[device])
    assert not key.exists()
    assert b"key" not in opened(homes[device])
    with pytest.raises(Refusal, match="each step of a round once"):
        encrypt_update(np.array([1, -2]), given, homes[device], round=4)


def test_a_round_that_ends_on_a_device_that_never_began_one_changes_nothing(homes: list[Home]) -> None:
    before = sorted(homes[0].root.rglob("*"))
    end_round(homes[0], round=9)
    assert sorted(homes[0].root.rglob("*")) == before


def test_a_damaged_step_file_is_refused_in_one_sentence_and_the_round_still_ends(homes: list[Home], sent: OpenOrder) -> None:
    secrets, key = files(homes[1])
    whole, unsealed = secrets.read_bytes(), opened(homes[1])
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 7)]
    resealed = [homes[1].key.seal(content, secrets.name.encode()) for content in (b"", b"null", b"[]", b"{}", unsealed.replace(b"4", b"5"))]
    elsewhere = homes[1].key.seal(unsealed, key.name.encode())  # whole, and of another place
    for damaged in (b"", b"{}", whole[: len(whole) // 2], unsealed, elsewhere, *flipped, *resealed):
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


def test_a_delivery_without_this_device_s_key_is_a_refusal_and_the_round_s_maker_needs_none(homes: list[Home]) -> None:
    pytest.importorskip("tenseal")
    advertisements = drawn(homes, 4)
    dealt = make_key(ShareOrder(advertisements), homes[0])
    given = KeyDelivery(advertisements[0], replace(dealt, sealed={2: dealt.sealed[2]}))
    assert encrypt_update(np.array([1, -2]), given, homes[0], round=4).device == 0
    with pytest.raises(Refusal, match="no sum key that is sealed for this device"):
        encrypt_update(np.array([1, -2]), given, homes[1], round=4)


def test_no_secret_of_a_round_lies_open_in_a_home(homes: list[Home], sent: OpenOrder) -> None:
    """Neither the identity, nor the keys drawn, nor what is left after a step, nor the sum key; all of them open with the Home's key."""
    drawn(homes[:1], 5)
    for home in homes:
        secrets = [home.sealed("identity.json").read(), opened(home)]
        secrets += [home.sealed("sum-key.bin").read()] if home is not homes[0] else []
        hidden = [json.loads(secrets[0])["private"].encode(), *(content[:40] for content in secrets)]
        for file in home.root.glob("*"):
            assert not [part for part in hidden if file.is_file() and part in file.read_bytes()], file


# what a device agrees to


def draw(home: Home, *, asked: int, register: str) -> Advertisement:
    order = AdvertiseOrder(MaskingRound("run", 1, asked), register)
    return draw_keys(order, RunSettings(aggregation="masked", clients=asked), home)


@pytest.mark.parametrize("asked", [2, 3, 4])
def test_a_server_that_asks_fewer_devices_than_this_one_hides_among_is_refused(tmp_path: Path, asked: int) -> None:
    """As the server would ask: two by a message that no honest program writes, three and four against the device's own policy."""
    home = Home.create(tmp_path / "home", DevicePolicy())
    write_register(home.register_path, Register().with_device(home.identity.public))
    content = {"run": "run", "round": 1, "asked": asked, "work": "0" * 64, "register": home.register.digest}
    settings = RunSettings(aggregation="masked", clients=asked)
    with pytest.raises(Refusal, match=r"2 devices are asked to mask|hides its update among at least 5") as told:
        draw_keys(decode_advertise_order(RecordDict({"masking": ConfigRecord(content)})), settings, home)  # type: ignore[arg-type]
    assert "\n" not in str(told.value)
    assert not (home.root / "masking.json").exists()


@pytest.mark.parametrize("register", ["", "ab" * 31, "ab\n" * 32, "zz" * 32, "\x1b[2J\n" + "a" * 59, 7, b"a" * 64, None])
def test_an_order_that_names_no_register_by_a_whole_digest_is_refused_and_not_quoted(register: object) -> None:
    content = {"run": "run", "round": 1, "asked": 5} | ({} if register is None else {"register": register})
    with pytest.raises(Refusal, match="lacks or misshapes a field") as told:
        decode_advertise_order(RecordDict({"masking": ConfigRecord(content)}))  # type: ignore[arg-type]
    assert "\n" not in str(told.value)


def test_a_device_that_sits_the_round_out_draws_no_keys(homes: list[Home]) -> None:
    home = homes[0]
    home.change_participation(paused=False, skip_next=True)
    for _ in range(2):
        with pytest.raises(SitsOut):
            draw(home, asked=DEVICES, register=home.register.digest)
    assert not (home.root / "masking.json").exists()
    home.change_participation(paused=False, skip_next=False)
    assert draw_keys(AdvertiseOrder(MaskingRound("run", 2, DEVICES), home.register.digest), SETTINGS, home).device == 0


def test_a_device_hides_among_as_few_as_its_policy_says_and_never_fewer_than_three(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", DevicePolicy(fewest_asked=4))
    write_register(home.register_path, Register().with_device(home.identity.public))
    assert draw(home, asked=4, register=home.register.digest).device == 0
    for fewest in (2, -1, 4.5, "4", True):
        (home.root / "device.json").write_text(json.dumps(asdict(DevicePolicy()) | {"fewest_asked": fewest}))
        with pytest.raises(Refusal, match="fewest-asked is"):
            draw(home, asked=4, register=home.register.digest)


def test_a_device_takes_no_part_under_another_register_than_its_person_joined(tmp_path: Path, homes: list[Home]) -> None:
    """One that lacks a device, one with a device that the server invented, and the right one as it was before."""
    joined = homes[0].register
    others = (joined.without(2), joined.with_device(Identity.create().public), joined.with_device(b"k" * 32).without(3))
    for other in others:
        with pytest.raises(Refusal, match=f"register of devices is {other.digest[:12]} and this device has joined {joined.digest[:12]}"):
            draw(homes[0], asked=DEVICES, register=other.digest)
    assert draw(homes[0], asked=DEVICES, register=joined.digest).device == 0


def test_a_device_that_is_in_no_register_or_has_joined_none_draws_no_keys(tmp_path: Path, homes: list[Home]) -> None:
    stranger = Home.create(tmp_path / "stranger", DevicePolicy(fewest_asked=DEVICES))
    with pytest.raises(Refusal, match="healing client join"):
        draw(stranger, asked=DEVICES, register=homes[0].register.digest)
    write_register(stranger.register_path, homes[0].register)
    with pytest.raises(Refusal, match="this device is not among the 3"):
        draw(stranger, asked=DEVICES, register=homes[0].register.digest)
    whole = stranger.register_path.read_bytes()
    for damaged in (whole[:-10], b"", whole.replace(b"0", b"1", 1)):
        stranger.register_path.write_bytes(damaged)
        with pytest.raises(Refusal, match="is damaged"):
            draw(stranger, asked=DEVICES, register=homes[0].register.digest)


def test_a_device_deals_no_share_to_a_device_that_the_server_invented(homes: list[Home]) -> None:
    """The server may tell every device the right digest: what counts is that each key is signed by a device of one's own register."""
    advertisements = list(drawn(homes, 1))
    invented, _ = advertise(advertisements[0].round, 2, Identity.create())
    with pytest.raises(WrongSignature, match="registered key"):
        deal_shares(ShareOrder((*advertisements[:2], invented)), homes[0])
    stranger, _ = advertise(advertisements[0].round, 3, Identity.create())
    with pytest.raises(Refusal, match="device 3 has no registered identity"):
        deal_shares(ShareOrder((*advertisements[:2], stranger)), homes[0])
