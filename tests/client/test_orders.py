"""What a lying server learns from a device by orders: nothing that was not charged. The whole device is asked, from message to reply."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from client.app import app
from client.declined import declined_orders, note_declined
from client.home import DevicePolicy, Home
from client.sent import sent_messages
from client.status import status_lines, status_of
from model.emotions import EMOTIONS
from model.records import GlobalModel, PlanNumbers, TrainOrder, decode_reply, encode_train_order
from model.refusal import Damaged, Refusal
from model.settings import RunSettings
from model.tuning import tuned_classifier
from model.weights import Weights
from privacy.ledger import NEW_KINDS_A_WEEK, WEEK, Ledger
from privacy.plan import calibrated
from simulation.grid import InProcessGrid

NAME = "tiny"


@pytest.fixture(scope="module", autouse=True)
def server() -> InProcessGrid:
    """Messages have a sender only where a grid said who that is."""
    return InProcessGrid(app, clients=1, run_config={})


@dataclass(frozen=True)
class Device:
    """One person's real Home, and a way to write to it as a server does."""

    home: Home

    def answer(self, order: TrainOrder, settings: RunSettings) -> Message:
        context = Context(1, 1, node_config={"home": str(self.home.root)}, state=RecordDict(), run_config=settings.as_run_config())
        return app(Message(content=encode_train_order(order), dst_node_id=1, message_type="train"), context)

    @property
    def charged(self) -> int:
        return len(self.home.ledger.charges())

    def begin_anew(self) -> None:
        """The ledger of a new device, and no record of earlier orders."""
        self.home.ledger.begin()
        for name in ("declined.json", "sent.jsonl", "label-counts.json"):
            (self.home.root / name).unlink(missing_ok=True)


def told(reply: Message) -> str:
    """All that the server sees of a reply, in a form that can be compared: error, records, keys, values, bytes."""
    if reply.has_error():
        return f"error {reply.error.code} {reply.error.reason}"
    return repr({name: sorted((key, repr(value)) for key, value in record.items()) for name, record in reply.content.items()})


def is_update(reply: Message) -> bool:
    return not reply.has_error() and bool(reply.content.array_records)


def device_with(root: Path, tiny_body: Path, entries: int, policy: DevicePolicy | None = None) -> Device:
    """A Home in which the tiny model is installed, with so many labelled entries; the first n are those of every longer diary."""
    home = Home.create(root, policy or DevicePolicy())
    assert home.models is not None
    home.models.mkdir(exist_ok=True)
    (home.models / NAME).symlink_to(tiny_body)
    home.diary.add_all((f"{'오늘 친구가 ' * (1 + number % 4)}웃었다 {number}", EMOTIONS[number * 7 % 4]) for number in range(entries))
    return Device(home)


def settings_of(**overrides: Any) -> RunSettings:
    defaults: dict[str, Any] = {"model": NAME, "start": "", "tuning": "head", "epsilon": 4.0, "rounds": 2}
    return RunSettings(**(defaults | overrides))


@pytest.fixture(scope="module")
def model_of(tiny_body: Path) -> Callable[[str], GlobalModel]:
    def model_of(tuning: str = "head") -> GlobalModel:
        classifier = tuned_classifier(settings_of(tuning=tuning), tiny_body)
        return GlobalModel(classifier.read(), classifier.base_digest, classifier.tokenizer.digest)

    return model_of


@pytest.fixture(scope="module")
def order(model_of: Callable[[str], GlobalModel]) -> TrainOrder:
    """What an honest server of these settings sends."""
    return TrainOrder(model_of("head"), "run", 1, PlanNumbers(**vars(calibrated(settings_of()))))


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory, tiny_body: Path) -> list[tuple[Device, Device]]:
    """Pairs of devices whose diaries differ in one entry: none and one, one and two, and some at which a delta's n^-1.5 can lie."""
    root = tmp_path_factory.mktemp("neighbours")
    sizes = (0, 1, 2, 21, 22)
    devices = {size: device_with(root / str(size), tiny_body, size) for size in sizes}
    return [(devices[size], devices[size + 1]) for size in (0, 1, 21)]


# the property

ANY_FLOAT = st.one_of(
    st.floats(),
    st.sampled_from([8e-45, 5e-324, 1e-6, 0.0, -1.0, 1.0, 0.3, 0.011, 1e9, 1e300, math.inf, math.nan]),
    st.integers(0, 40).map(lambda n: (n + 0.5) ** -1.5),
    st.floats(0.1, 20.0),
)
NUMBERS = st.fixed_dictionaries(
    {
        "noise_multiplier": ANY_FLOAT,
        "sampling_rate": st.one_of(ANY_FLOAT, st.just(1.0)),
        "clip_norm": st.one_of(ANY_FLOAT, st.just(1.0)),
        "delta": st.one_of(ANY_FLOAT, st.just(1e-4)),
        "steps_per_round": st.one_of(st.integers(1, 5), st.integers(-(2**40), 2**40), ANY_FLOAT),
        "label_noise": st.one_of(st.just(0.0), ANY_FLOAT),
    }
)
RUNS = st.fixed_dictionaries(
    {
        "privacy": st.sampled_from(["example", "example", "both", "user", "none"]),
        "tuning": st.sampled_from(["head", "head", "full", "lora"]),
        "class_weights": st.sampled_from(["none", "none", "balanced"]),
        "learning_rate": st.sampled_from([0.0, 1e-30, 1e9]),
        "batch_size": st.sampled_from([1, 16, 10**6]),
        "max_tokens": st.sampled_from([3, 128, 512]),
        "model": st.sampled_from([NAME, NAME, NAME, "/etc", "../x", "nobody/nothing"]),
        "update_precision": st.sampled_from(["fp32", "fp32", "fp16"]),
    }
)


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    """What an order may say, true or not."""
    return {
        "plan": draw(st.one_of(st.none(), NUMBERS, NUMBERS)),
        "run": draw(st.sampled_from(["run", "", "다" * 300, "x" * 10**5])),
        "round": draw(st.one_of(st.integers(1, 3), st.integers(-(2**60), 2**60))),
        "update_clip": draw(st.one_of(st.none(), ANY_FLOAT)),
        "damage": draw(st.sampled_from(["", "", "", "shape", "nan", "body", "step"])),
        "pair": draw(st.integers(0, 2)),
        "paused": draw(st.booleans()) and draw(st.booleans()),
        "settings": draw(RUNS),
    }


def as_order(wanted: dict[str, Any], model: GlobalModel) -> TrainOrder:
    weights = dict(model.weights)
    name = next(iter(weights))
    if wanted["damage"] == "shape":
        weights[name] = np.zeros((3,), dtype=np.float32)
    if wanted["damage"] == "nan":
        weights[name] = np.full_like(weights[name], np.nan)
    model = replace(model, weights=Weights(weights))
    if wanted["damage"] == "body":
        model = replace(model, base_digest="0" * 64)
    if wanted["damage"] == "step":
        model = replace(model, text_step=model.text_step + 1)
    plan = PlanNumbers(**wanted["plan"]) if wanted["plan"] is not None else None
    return TrainOrder(model, wanted["run"], wanted["round"], plan, wanted["update_clip"])


HONEST: dict[str, Any] = {
    "plan": {"noise_multiplier": 3.0, "sampling_rate": 1.0, "clip_norm": 1.0, "delta": 1e-4, "steps_per_round": 1, "label_noise": 0.0},
    "run": "run",
    "round": 1,
    "update_clip": None,
    "damage": "",
    "pair": 0,
    "paused": False,
    "settings": {"privacy": "example"},
}


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(wanted=orders())
@example(wanted=HONEST)
@example(wanted=HONEST | {"plan": HONEST["plan"] | {"noise_multiplier": 0.011}})
@example(wanted=HONEST | {"plan": HONEST["plan"] | {"noise_multiplier": 0.011, "delta": 21.5**-1.5}, "pair": 2})
@example(wanted=HONEST | {"settings": {"privacy": "example", "class_weights": "balanced"}, "plan": HONEST["plan"] | {"label_noise": 9.0}})
@example(wanted=HONEST | {"plan": None, "settings": {"privacy": "none"}})
@example(wanted=HONEST | {"settings": {"privacy": "both"}, "update_clip": 1e-9})
@example(wanted=HONEST | {"damage": "shape"})
def test_two_diaries_that_differ_in_one_entry_answer_any_order_alike_unless_it_was_charged(
    wanted: dict[str, Any], neighbours: list[tuple[Device, Device]], model_of: Callable[[str], GlobalModel]
) -> None:
    settings = settings_of(**wanted["settings"])
    order = as_order(wanted, model_of(settings.tuning))
    replies, charges = [], []
    for device in neighbours[wanted["pair"]]:
        device.begin_anew()
        device.home.change_participation(paused=wanted["paused"], skip_next=False)
        replies.append(device.answer(order, settings))
        charges.append(device.home.ledger.charges())
    assert charges[0] == charges[1]  # that an order is charged says nothing either
    if charges[0]:
        assert [is_update(reply) for reply in replies] == [True, True]
    else:
        assert told(replies[0]) == told(replies[1])
        assert not any(is_update(reply) for reply in replies)


# C1: the length of a diary


def test_no_search_over_deltas_finds_the_number_of_entries(tmp_path: Path, tiny_body: Path, order: TrainOrder) -> None:
    """The attack as it was: a plan with next to no noise is never charged, and its delta asks whether there are more than n entries."""
    for entries in (5, 37):
        device = device_with(tmp_path / str(entries), tiny_body, entries)
        assert order.plan is not None
        answers = {
            told(device.answer(replace(order, plan=replace(order.plan, noise_multiplier=noise, delta=(n + 0.5) ** -1.5)), settings_of()))
            for n in range(1, 60, 3)
            for noise in (0.011, 0.3)
        }
        assert len(answers) == 1
        assert device.charged == 0


def test_every_cause_is_the_same_to_the_server_and_the_person_sees_the_true_one(tmp_path: Path, tiny_body: Path, order: TrainOrder) -> None:
    device = device_with(tmp_path / "home", tiny_body, 8)
    assert order.plan is not None
    poor = replace(order, plan=replace(order.plan, noise_multiplier=0.4))
    causes = {
        "this device accepts 0.3": (replace(order, plan=replace(order.plan, noise_multiplier=0.2)), settings_of()),
        "is left": (poor, settings_of()),
        "accepts at most 0.0001": (replace(order, plan=replace(order.plan, delta=1e-3)), settings_of()),
        "contradict": (replace(order, plan=None), settings_of()),
        "protects no single entry": (replace(order, plan=None), settings_of(privacy="none")),
        "is not installed": (order, settings_of(model="nobody/nothing")),
        "install the same one": (replace(order, model=replace(order.model, base_digest="0" * 64)), settings_of()),
        "is expected": (
            replace(order, model=replace(order.model, weights=Weights(dict.fromkeys(order.model.weights, np.ones(1, np.float32))))),
            settings_of(),
        ),
    }
    seen = {told(device.answer(*asked)) for asked in causes.values()}
    device.home.change_participation(paused=True, skip_next=False)
    seen.add(told(device.answer(order, settings_of())))
    device.home.change_participation(paused=False, skip_next=True)
    seen.add(told(device.answer(order, settings_of())))
    (device.home.root / "ledger.json").unlink()
    seen.add(told(device.answer(replace(order, round=1, run="another"), settings_of())))
    assert seen == {repr({"reply": [("kind", "'declined'"), ("round", "1")]})}
    kept = [one.why for one in declined_orders(device.home.root)]
    for cause, why in zip([*causes, "paused by its person", "skipped by this device's person", "is gone"], kept, strict=True):
        assert cause in why
    assert sent_messages(device.home.root, most=10) == ()


def test_an_order_that_is_declined_does_not_open_the_diary(tmp_path: Path, tiny_body: Path, order: TrainOrder) -> None:
    """The diary's file holds garbage: whoever opens it fails, and here nobody does, until a round is charged."""
    device = device_with(tmp_path / "home", tiny_body, 8)
    for file in device.home.root.glob("diary.sqlite3*"):
        file.write_bytes(b"no diary")
    assert order.plan is not None
    device.answer(replace(order, plan=replace(order.plan, noise_multiplier=0.3)), settings_of())
    assert "is left" in declined_orders(device.home.root)[-1].why
    assert device.charged == 0
    assert not is_update(device.answer(order, settings_of()))
    assert device.charged == 1  # on disk before the diary was read


def test_a_diary_without_a_label_sends_noise_like_every_other(tmp_path: Path, tiny_body: Path, order: TrainOrder) -> None:
    empty, full = device_with(tmp_path / "empty", tiny_body, 0), device_with(tmp_path / "full", tiny_body, 12)
    norms = []
    for device in (empty, full):
        reply = decode_reply(device.answer(order, settings_of(learning_rate=1.0)).content)
        norms.append(reply.difference.norm())  # type: ignore[union-attr]
        assert device.charged == 1
    assert norms[0] == pytest.approx(norms[1], rel=0.2)


# C10: what a server can drain or block


def patient(home: Home, clock: list[float]) -> Ledger:
    """The Home's ledger under a clock of this test's own."""
    ledger, policy = home.ledger, home.policy
    return Ledger(
        ledger._file.path,
        limit=policy.epsilon_limit,
        run_limit=policy.epsilon_per_run,
        week_limit=policy.epsilon_per_week,
        delta=policy.delta,
        clock=lambda: clock[0],
    )


def test_no_single_order_takes_more_than_the_week_s_part_of_a_life(tmp_path: Path, tiny_body: Path, order: TrainOrder) -> None:
    device = device_with(tmp_path / "home", tiny_body, 8)
    assert order.plan is not None
    for noise in np.geomspace(0.4, 3.0, 12):
        device.answer(replace(order, run=f"run {noise}", plan=replace(order.plan, noise_multiplier=float(noise))), settings_of())
    assert 0 < device.home.ledger.spent() <= device.home.policy.epsilon_per_week == device.home.policy.epsilon_limit / 2


def test_odd_orders_block_nobody_for_life(tmp_path: Path, tiny_body: Path, order: TrainOrder) -> None:
    """The attack as it was: thirty cheap orders of as many noises, after which every other run was refused for ever."""
    device = device_with(tmp_path / "home", tiny_body, 8)
    assert order.plan is not None
    for number in range(30):
        device.answer(replace(order, run=f"odd {number}", plan=replace(order.plan, noise_multiplier=4000.0 + number)), settings_of())
    assert device.charged == NEW_KINDS_A_WEEK
    before = device.home.ledger.spent()
    assert before < 0.05
    plan = calibrated(settings_of())
    ledger = patient(device.home, [time.time() + WEEK + 1])
    assert ledger.charge(plan, run="honest", round=1) < plan.epsilon(1) + 0.1


# C11: models that a server names


def test_no_order_makes_a_device_ask_the_hub_or_read_a_folder(
    tmp_path: Path, tiny_body: Path, order: TrainOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *source, **_: asked.append(source))
    device = device_with(tmp_path / "home", tiny_body, 8)
    for paused in (True, False):
        device.home.change_participation(paused=paused, skip_next=False)
        for model in ("attacker/beacon-device-17", "kobert", str(tiny_body), str(tiny_body.parent), ".", "..", "a\x00b", "", "x" * 300):
            assert not is_update(device.answer(order, settings_of(model=model)))
            assert ("paused by its person" in declined_orders(device.home.root)[-1].why) == paused
    assert asked == []
    assert device.charged == 0
    assert is_update(device.answer(order, settings_of()))  # the same folder, by the name under which it is installed


# what the person sees


def test_the_person_sees_the_limits_and_why_the_newest_order_was_declined(tmp_path: Path, tiny_body: Path, order: TrainOrder) -> None:
    device = device_with(tmp_path / "home", tiny_body, 8, DevicePolicy(epsilon_per_run=3.0, epsilon_per_week=2.0))
    assert not any(line.startswith("declined") for line in status_lines(status_of(device.home)))
    assert not is_update(device.answer(replace(order, run="달\x1b[2J", plan=None), settings_of()))
    lines = {line.split()[0]: line for line in status_lines(status_of(device.home))}
    assert "epsilon 3 in one run and 2 in seven days" in lines["limits"]
    assert "contradict each other" in lines["declined"]
    assert "\x1b" not in lines["declined"]
    assert "delta" not in lines


def test_the_person_is_told_where_delta_is_too_large_for_the_diary(tmp_path: Path, tiny_body: Path) -> None:
    """n^-1.5 of 22 labels is 0.0097: a hundredth is made for 21."""
    for entries, told_of_it in ((21, False), (22, True)):
        device = device_with(tmp_path / str(entries), tiny_body, entries, DevicePolicy(delta=0.01))
        assert any(f"{entries} labels are more than delta 0.01" in line for line in status_lines(status_of(device.home))) == told_of_it


def test_no_number_of_orders_fills_the_disk_and_a_damaged_record_begins_anew(tmp_path: Path) -> None:
    for round in range(50):
        note_declined(tmp_path, run="달" * 10**4, round=round, why="because " * 10**4)
    assert [one.round for one in declined_orders(tmp_path)] == list(range(30, 50))
    assert (tmp_path / "declined.json").stat().st_size < 20 * 3000
    (tmp_path / "declined.json").write_bytes(b"[{}]")
    with pytest.raises(Damaged, match="is damaged"):
        declined_orders(tmp_path)
    note_declined(tmp_path, run="run", round=1, why="because")
    assert [one.why for one in declined_orders(tmp_path)] == ["because"]


@pytest.mark.parametrize("name", ["epsilon_limit", "epsilon_per_run", "epsilon_per_week", "delta"])
@pytest.mark.parametrize("value", [0, -1.0, math.nan, "8", True, None])
def test_a_policy_that_is_no_number_above_nought_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Refusal, match=f"{name.replace('_', '-')} is"):
        DevicePolicy(**{name: value})
