"""RunSettings: frozen, documented, equal to the run-config table, and strict about every value."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.refusal import Refusal
from model.settings import LAYERS_LEARNING_RATE, LSTM_LEARNING_RATE, SGD_LEARNING_RATE, RunSettings

TABLE: dict[str, Any] = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
FIELDS = dataclasses.fields(RunSettings)


def test_the_keys_and_defaults_are_those_of_the_run_config_table() -> None:
    assert {field.name.replace("_", "-"): field.default for field in FIELDS} == TABLE


def test_the_run_config_table_holds_every_value_in_the_type_of_its_field() -> None:
    # Flower converts an override to the type that the table has: an integer there would refuse 0.5.
    assert {key: type(value).__name__ for key, value in TABLE.items()} == {f.name.replace("_", "-"): f.type for f in FIELDS}


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_every_field_has_a_line_of_help(field: dataclasses.Field[Any]) -> None:
    assert len(field.metadata["help"].split()) >= 3


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_settings_cannot_be_changed_after_birth(field: dataclasses.Field[Any]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(RunSettings(), field.name, field.default)


BAD_VALUES: list[tuple[str, Any]] = [
    *((name, bad) for name in ("clients", "rounds", "local_epochs", "batch_size") for bad in (0, -1, 10**6 + 1)),
    *(("max_tokens", bad) for bad in (2, 513)),
    *(("seed", bad) for bad in (-1, 2**31)),
    *(("dropout", bad) for bad in (-0.1, 0.91, 1.0)),
    *((name, bad) for name in ("warmup", "weight_decay", "fraction_evaluate") for bad in (-0.1, 1.1)),
    *((name, bad) for name in ("fraction", "sampling_rate") for bad in (0.0, -0.1, 1.1)),
    *(
        (name, bad)
        for name in (
            "gradient_clip",
            "dirichlet_alpha",
            "clip_norm",
            "update_norm_limit",
            "user_epsilon",
            "epsilon",
            "server_learning_rate",
        )
        for bad in (0.0, -1.0, 2e9)
    ),
    *((name, bad) for name in ("delta", "user_delta") for bad in (0.0, -1e-4, 0.2)),
    *((name, bad) for name in ("learning_rate", "update_clip") for bad in (-1.0, 2e9)),
    *(("clip_quantile", bad) for bad in (-0.1, 1.0)),
    *(
        (name, "no such choice")
        for name in (
            "tuning",
            "data_format",
            "label_map",
            "other_labels",
            "partition",
            "class_weights",
            "optimizer",
            "privacy",
            "strategy",
            "aggregation",
        )
    ),
    ("client_sampling", "no such choice"),
    *(("hostile", bad) for bad in (-0.1, 0.5)),
    *(("proximal_mu", bad) for bad in (-0.1, 1e7)),
    *((field.name, bad) for field in FIELDS if field.type == "float" for bad in (math.nan, math.inf, -math.inf)),
]


@pytest.mark.parametrize(("name", "bad"), BAD_VALUES)
def test_a_value_outside_its_range_is_refused_by_its_key(name: str, bad: Any) -> None:
    with pytest.raises(Refusal, match=name.replace("_", "-")):
        RunSettings(**{name: bad})


WRONG_TYPES: dict[Any, list[Any]] = {"str": [1, None, b"x", True], "int": [1.5, "7", None, True], "float": ["0.5", None, True, [0.5]]}


@pytest.mark.parametrize(("name", "bad"), [(field.name, bad) for field in FIELDS for bad in WRONG_TYPES[field.type]])
def test_a_value_of_another_type_is_refused_by_its_key(name: str, bad: Any) -> None:
    with pytest.raises(Refusal, match=name.replace("_", "-")):
        RunSettings(**{name: bad})


@pytest.mark.parametrize("name", ["rounds", "epsilon"])
def test_an_integer_too_large_for_a_float_is_refused_like_any_other(name: str) -> None:
    huge: dict[str, Any] = {name: 10**400}
    with pytest.raises(Refusal, match=name):
        RunSettings(**huge)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("max_tokens", 3),
        ("max_tokens", 512),
        ("seed", 0),
        ("seed", 2**31 - 1),
        ("dropout", 0.0),
        ("dropout", 0.9),
        ("warmup", 0.0),
        ("fraction", 1.0),
        ("fraction_evaluate", 0.0),
        ("sampling_rate", 1.0),
        ("delta", 0.1),
        ("epsilon", 3),
    ],
)
def test_the_ends_of_a_range_are_allowed(name: str, good: Any) -> None:
    assert getattr(RunSettings(**{name: good}), name) == good


@pytest.mark.parametrize(
    ("privacy", "optimizer", "plain"),
    [
        ("example", "auto", True), ("both", "auto", True), ("none", "auto", False), ("user", "auto", False),
        ("example", "adamw", False), ("none", "sgd", True),
    ],
)  # fmt: skip
def test_a_client_takes_plain_steps_under_example_level_privacy_unless_told_otherwise(privacy: str, optimizer: str, plain: bool) -> None:
    assert RunSettings(privacy=privacy, optimizer=optimizer).plain_descent is plain


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({"learning_rate": 0.5}, 0.5), ({"learning_rate": 0.5, "privacy": "none"}, 0.5), ({}, SGD_LEARNING_RATE),
        ({"privacy": "none"}, 1e-2), ({"privacy": "user"}, 1e-2), ({"optimizer": "adamw"}, 1e-2),
        ({"optimizer": "sgd", "privacy": "none"}, SGD_LEARNING_RATE),
        ({"privacy": "none", "tuning": "full"}, 3e-4), ({"privacy": "none", "tuning": "top3"}, LAYERS_LEARNING_RATE),
        ({"privacy": "none", "tuning": "full", "model": "lstm"}, LSTM_LEARNING_RATE),
    ],
)  # fmt: skip
def test_a_learning_rate_that_is_not_given_suits_what_is_trained(options: dict[str, Any], rate: float) -> None:
    assert RunSettings(**options).peak_learning_rate == rate


def test_an_update_s_clip_that_is_not_given_follows_what_it_is_for() -> None:
    assert RunSettings(privacy="both", aggregation="masked").largest_update == 1.0
    assert RunSettings(aggregation="masked").largest_update == 64.0
    assert RunSettings(aggregation="masked", update_clip=0.5).largest_update == 0.5


@pytest.mark.parametrize("key", ["learning_rate", "epsilom", ""])
def test_an_unknown_key_of_the_run_config_is_refused_with_the_known_ones(key: str) -> None:
    with pytest.raises(Refusal, match=f"'{key}' is not a key.*learning-rate"):
        RunSettings.from_run_config({**TABLE, key: 1})


def test_a_missing_key_of_the_run_config_has_its_default() -> None:
    assert RunSettings.from_run_config({"rounds": 3}) == RunSettings(rounds=3)


@settings(deadline=None, max_examples=50)
@given(
    rounds=st.integers(1, 10**6),
    epsilon=st.floats(1e-6, 1e6),
    seed=st.integers(0, 2**31 - 1),
    data=st.text(),
    tuning=st.sampled_from(["head", "top2", "lora", "full"]),
)
def test_settings_survive_the_run_config_unchanged(rounds: int, epsilon: float, seed: int, data: str, tuning: str) -> None:
    before = RunSettings(rounds=rounds, epsilon=epsilon, seed=seed, data=data, tuning=tuning)
    config = before.as_run_config()
    assert set(config) == set(TABLE)
    assert RunSettings.from_run_config(config) == before


@pytest.mark.parametrize(("epochs", "rate", "steps"), [(1, 0.25, 4), (3, 0.25, 12), (1, 1.0, 1), (2, 0.3, 7), (1, 0.7, 1)])
def test_a_private_round_takes_as_many_steps_as_visit_each_entry_once_an_epoch_on_average(epochs: int, rate: float, steps: int) -> None:
    assert RunSettings(local_epochs=epochs, sampling_rate=rate).steps_per_round == steps


def test_a_device_plans_for_taking_part_in_every_round() -> None:
    # Sampling fewer clients must not stretch a device's budget: it cannot know how often it will be drawn.
    assert RunSettings(rounds=12, fraction=0.1).planned_rounds == 12
