"""A masked round against a server that lies: keys are for one piece of work, each step is taken once, and no round is done twice."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

from client.app import app
from client.blind import deal_shares, draw_keys, encrypt_update, make_key, mask_update, require_keys_for, reveal_shares, sign_survivors
from client.declined import declined_orders
from client.home import DevicePolicy, Home
from model.emotions import EMOTIONS
from model.records import GlobalModel, PlanNumbers, TrainOrder, decode_reply, encode_train_order
from model.refusal import Damaged, Refusal
from model.settings import RunSettings
from model.tuning import tuned_classifier
from model.weights import Weights
from privacy.encryption_records import KeyDelivery
from privacy.masking import Delivered, Enrolled, collect, confirm, deliver, enrol
from privacy.masking_records import RECORD, AdvertiseOrder, AgreeOrder, ShareOrder, UnmaskOrder, decode_masked, delivery
from privacy.plan import calibrated
from privacy.register import Register, write_register
from privacy.roster import MaskingRound
from privacy.round_work import ELSEWHERE, masking_run, work_digest
from simulation.grid import InProcessGrid

NAME, DEVICES = "tiny", 3
SETTINGS = RunSettings(model=NAME, start="", tuning="head", aggregation="masked", clients=DEVICES, epsilon=4.0, rounds=3)
VALUES = np.array([3, -6], dtype=np.int64)


@pytest.fixture(scope="module", autouse=True)
def grid() -> InProcessGrid:
    """Messages have a sender only where a grid said who that is."""
    return InProcessGrid(app, clients=1, run_config={})


@pytest.fixture
def homes(tmp_path: Path, tiny_body: Path) -> list[Home]:
    """Three devices that know each other, each with the tiny model and a few labelled entries."""
    created = [Home.create(tmp_path / str(number), DevicePolicy(fewest_asked=DEVICES)) for number in range(DEVICES)]
    register = Register({number: home.identity.public for number, home in enumerate(created)}, DEVICES)
    for home in created:
        write_register(home.register_path, register)
        assert home.models is not None
        home.models.mkdir()
        (home.models / NAME).symlink_to(tiny_body)
        home.diary.add_all((f"친구가 웃었다 {number}", EMOTIONS[number % 4]) for number in range(6))
    return created


@pytest.fixture
def order(tiny_body: Path) -> TrainOrder:
    classifier = tuned_classifier(SETTINGS, tiny_body)
    model = GlobalModel(classifier.read(), classifier.base_digest, classifier.tokenizer.digest)
    return TrainOrder(model, "일기 run", 1, PlanNumbers(**vars(calibrated(SETTINGS))), SETTINGS.largest_update)


def round_of(order: TrainOrder, settings: RunSettings = SETTINGS) -> MaskingRound:
    """The round that an honest server opens for a train order."""
    return MaskingRound(masking_run(order.run), order.round, DEVICES, work_digest(order, settings))


@dataclass(frozen=True)
class Opened:
    """A round up to where everybody's shares are dealt."""

    enrolled: Enrolled
    delivered: Delivered


def opened(homes: list[Home], round: MaskingRound, settings: RunSettings = SETTINGS) -> Opened:
    register = homes[0].register
    keys = [draw_keys(AdvertiseOrder(round, register.digest), settings, home) for home in homes]
    enrolled = enrol(round, keys, register.devices)
    return Opened(enrolled, deliver(enrolled, [deal_shares(ShareOrder(enrolled.advertisements), home) for home in homes]))


def train(home: Home, number: int, order: TrainOrder, dealt: Opened, settings: RunSettings = SETTINGS) -> Message:
    """The whole device's answer to a train order of a masked round."""
    content = encode_train_order(order)
    content[RECORD] = delivery(dealt.delivered.sealed_for(number))
    context = Context(1, 1, node_config={"home": str(home.root)}, state=RecordDict(), run_config=settings.as_run_config())
    return app(Message(content=content, dst_node_id=1, message_type="train"), context)


# one piece of work


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunSettings)])
def test_every_setting_is_in_the_digest_but_for_where_files_lie(order: TrainOrder, name: str) -> None:
    changed = copy.copy(SETTINGS)
    value = getattr(SETTINGS, name)
    object.__setattr__(changed, name, f"{value}x" if isinstance(value, str) else value + (1 if isinstance(value, int) else 1e-9))
    assert (work_digest(order, changed) == work_digest(order, SETTINGS)) == (name in ELSEWHERE)


def moved(model: GlobalModel) -> GlobalModel:
    """The same model but for one bit of one value."""
    arrays = {name: array.copy() for name, array in model.weights.items()}
    first = next(iter(arrays.values())).reshape(-1)
    first[0] = np.nextafter(first[0], np.float32(9), dtype=np.float32)
    return replace(model, weights=Weights(arrays))


OTHER_WORK: dict[str, Callable[[TrainOrder], tuple[TrainOrder, RunSettings]]] = {
    "a rate of next to nothing": lambda order: (order, replace(SETTINGS, learning_rate=1e-30)),
    "another seed": lambda order: (order, replace(SETTINGS, seed=8)),
    "other weights": lambda order: (replace(order, model=moved(order.model)), SETTINGS),
    "less noise": lambda order: (replace(order, plan=replace(order.plan, noise_multiplier=order.plan.noise_multiplier - 0.1)), SETTINGS),  # type: ignore[type-var, union-attr]
    "a smaller norm": lambda order: (replace(order, update_clip=1e-3), SETTINGS),
    "another round": lambda order: (replace(order, round=2), SETTINGS),
    "another run": lambda order: (replace(order, run="other"), SETTINGS),
}


@pytest.mark.parametrize("change", OTHER_WORK.values(), ids=OTHER_WORK)
def test_a_device_trains_and_masks_nothing_but_the_work_for_which_it_drew_keys(
    homes: list[Home], order: TrainOrder, change: Callable[[TrainOrder], tuple[TrainOrder, RunSettings]]
) -> None:
    """The attack as it was: four others stand still, and the sum is the target's update. Now they decline, and it costs them nothing."""
    dealt = opened(homes, round_of(order))
    other, settings = change(order)
    with pytest.raises(Refusal, match="drew keys"):
        require_keys_for(other, settings, homes[1])
    declined = decode_reply(train(homes[1], 1, other, dealt, settings).content)
    assert type(declined).__name__ == "Declined"
    assert "drew keys" in declined_orders(homes[1].root)[-1].why
    assert homes[1].ledger.charges() == ()
    assert decode_masked(train(homes[0], 0, order, dealt).content).round == round_of(order)  # the honest order still goes through
    assert len(homes[0].ledger.charges()) == 1


@pytest.mark.parametrize("change", OTHER_WORK.values(), ids=OTHER_WORK)
def test_devices_that_were_told_of_other_work_are_in_no_common_roster(
    homes: list[Home], order: TrainOrder, change: Callable[[TrainOrder], tuple[TrainOrder, RunSettings]]
) -> None:
    register = homes[0].register
    other = round_of(*change(order))
    rounds = [round_of(order), other, other]
    keys = tuple(draw_keys(AdvertiseOrder(round, register.digest), SETTINGS, home) for round, home in zip(rounds, homes, strict=True))
    for home in homes:
        with pytest.raises(Refusal, match="keys are of another round"):
            deal_shares(ShareOrder(keys), home)
    forged = tuple(replace(key, round=rounds[0]) for key in keys)  # the server says of all that they are of one round
    with pytest.raises(Refusal, match=r"signed|signature"):
        deal_shares(ShareOrder(forged), homes[0])


# each step once


def test_a_device_hides_one_update_a_round_ever(homes: list[Home], order: TrainOrder) -> None:
    """The attack as it was: the round is asked for again with one device "lost", and the two sums differ by its update."""
    dealt = opened(homes, round_of(order))
    mask_update(VALUES, dealt.delivered.sealed_for(0), homes[0], round=1)
    for again in (round_of(order), round_of(order, replace(SETTINGS, seed=8)), replace(round_of(order), number=0)):
        with pytest.raises(Refusal, match="hid an update in round 1"):
            draw_keys(AdvertiseOrder(again, homes[0].register.digest), SETTINGS, homes[0])
    later = round_of(replace(order, round=2))
    assert draw_keys(AdvertiseOrder(later, homes[0].register.digest), SETTINGS, homes[0]).round == later
    assert draw_keys(AdvertiseOrder(round_of(order), homes[1].register.digest), SETTINGS, homes[1]).device == 1  # it hid none yet


def test_keys_that_were_drawn_before_do_not_hide_a_second_update(homes: list[Home], order: TrainOrder) -> None:
    """The file of the step before is put back, as a restored copy of the Home would: the memory of hidden rounds still stands."""
    dealt = opened(homes, round_of(order))
    before = (homes[0].root / "masking.json").read_bytes()
    mask_update(VALUES, dealt.delivered.sealed_for(0), homes[0], round=1)
    (homes[0].root / "masking.json").write_bytes(before)
    for _ in range(2):
        with pytest.raises(Refusal, match="hid an update in round 1"):
            mask_update(-VALUES, dealt.delivered.sealed_for(0), homes[0], round=1)
        with pytest.raises(Refusal, match="hid an update in round 1"):
            require_keys_for(order, SETTINGS, homes[0])


def test_an_encrypted_round_hides_one_update_too(homes: list[Home], order: TrainOrder) -> None:
    settings = replace(SETTINGS, aggregation="encrypted")
    round = round_of(order, settings)
    keys = tuple(draw_keys(AdvertiseOrder(round, homes[0].register.digest), settings, home) for home in homes)
    dealt = make_key(ShareOrder(keys), homes[0])
    require_keys_for(order, settings, homes[1])
    with pytest.raises(Refusal, match="drew keys"):
        require_keys_for(order, replace(settings, learning_rate=1e-30), homes[1])
    encrypt_update(VALUES, KeyDelivery(keys[0], dealt), homes[1], round=1)
    with pytest.raises(Refusal, match="hid an update in round 1"):
        draw_keys(AdvertiseOrder(round, homes[1].register.digest), settings, homes[1])


def test_a_damaged_memory_of_hidden_rounds_hides_nothing_more(homes: list[Home], order: TrainOrder) -> None:
    dealt = opened(homes, round_of(order))
    mask_update(VALUES, dealt.delivered.sealed_for(0), homes[0], round=1)
    file = homes[0].root / "hidden-rounds.json"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(Damaged, match="hides none"):
        draw_keys(AdvertiseOrder(round_of(replace(order, round=2)), homes[0].register.digest), SETTINGS, homes[0])


def test_no_step_of_a_masked_round_is_taken_twice_nor_out_of_its_order(homes: list[Home], order: TrainOrder) -> None:
    """Every step after every other: only the next one is ever taken, and a second list of survivors is never signed."""
    dealt = opened(homes, round_of(order))
    sealed = [dealt.delivered.sealed_for(number) for number in range(DEVICES)]
    everybody = tuple(range(DEVICES))
    steps: dict[str, Callable[[], Any]] = {
        "deal": lambda: deal_shares(ShareOrder(dealt.enrolled.advertisements), homes[0]),
        "mask": lambda: mask_update(VALUES, sealed[0], homes[0], round=1),
        "sign": lambda: sign_survivors(AgreeOrder(everybody), homes[0]),
        "sign another": lambda: sign_survivors(AgreeOrder(everybody[:2]), homes[0]),
        "reveal": lambda: reveal_shares(UnmaskOrder(signatures), homes[0]),
    }
    signatures: dict[int, bytes] = {}

    def only(*names: str) -> None:
        before = (homes[0].root / "masking.json").read_bytes()
        for name in steps.keys() - set(names):
            with pytest.raises(Refusal):
                steps[name]()
        assert (homes[0].root / "masking.json").read_bytes() == before  # a step that is refused changes nothing

    only("mask")
    inputs = [steps["mask"](), *(mask_update(VALUES, sealed[number], homes[number], round=1) for number in (1, 2))]
    only("sign", "sign another")
    agreements = [steps["sign"](), *(sign_survivors(AgreeOrder(everybody), home) for home in homes[1:])]
    signatures = confirm(collect(dealt.delivered, inputs, size=2), agreements).signatures
    only("reveal")
    steps["reveal"]()
    only()
