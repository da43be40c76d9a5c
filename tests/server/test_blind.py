"""Federation rounds through the apps: equal to the plain mean, whoever is lost on the way; and what the server sees is noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message
from scipy.stats import chisquare  # type: ignore[import-untyped]

from client.home import Home, virtual_home
from model.examples import Example
from model.records import GlobalModel
from model.refusal import Refusal
from model.settings import RunSettings
from model.weights import Weights
from privacy.masking_records import VECTOR
from privacy.register import Register, write_register
from privacy.round_secrets import Answered
from server.journal import Journal, RoundRecord
from server.strategies import build_strategy, require_allowed, require_size

Small = Callable[..., RunSettings]
Federation = Callable[..., tuple[Weights, list[RoundRecord], list[Message]]]
CLIENTS = 5
STAGES = ("query.advertise", "query.share", "train", "query.agree", "query.unmask")


def test_masked_averaging_ends_where_plain_averaging_of_equal_diaries_ends(federation: Federation) -> None:
    blind, rounds, _ = federation("blind")
    plain, _, _ = federation("plain", aggregation="plain")
    assert (blind - plain).norm() < 1e-4 * plain.norm()
    assert [record.clients for record in rounds] == [CLIENTS, CLIENTS]
    assert not any(record.refused or record.lost for record in rounds)


@pytest.mark.parametrize("stage", STAGES)
def test_a_device_lost_at_any_stage_costs_its_own_update_at_most(federation: Federation, stage: str) -> None:
    blind, [record], _ = federation("blind", rounds=1, lost=[(stage, 2)])
    lost_before_its_vector = stage in STAGES[:3]
    plain, _, _ = federation("plain", rounds=1, aggregation="plain", lost=[("train", 2)] if lost_before_its_vector else [])
    assert (blind - plain).norm() < 1e-4 * plain.norm()
    assert record.clients == (CLIENTS - 1 if lost_before_its_vector else CLIENTS)
    assert record.refused == {"1003": "the device failed: lost"}


@pytest.mark.parametrize("stage", STAGES)
def test_with_more_than_a_third_lost_the_round_changes_nothing_and_says_so(federation: Federation, stage: str) -> None:
    after, [record], _ = federation("blind", rounds=1, lost=[(stage, 1), (stage, 3)])
    untouched, _, _ = federation("untouched", rounds=1, lost=[("query.advertise", number) for number in range(CLIENTS)])
    assert after.digest == untouched.digest
    assert record.clients == 0
    assert "3 of 5 devices" in record.lost


def test_what_the_server_sees_of_one_device_is_uniform(federation: Federation) -> None:
    _, _, seen = federation("blind", rounds=1)
    vectors = [reply.content[VECTOR][VECTOR].data for reply in seen if not reply.has_error() and VECTOR in reply.content]
    assert len(vectors) == CLIENTS
    for vector in vectors:
        counts = np.bincount(np.frombuffer(vector, dtype=np.uint8), minlength=256)
        assert chisquare(counts).pvalue > 1e-6


def test_no_device_keeps_a_secret_of_a_finished_round(federation: Federation, tmp_path: Path) -> None:
    federation("blind")
    for number in range(CLIENTS):
        kept = Home(virtual_home(tmp_path / "blind.people", number)).sealed("masking.json").read().decode()
        assert '"answered"' in kept
        assert "seed" not in kept
        assert "key" not in kept


def test_a_device_without_a_place_in_the_roster_masks_nothing(
    federation: Federation, small: Small, examples: list[Example], tmp_path: Path
) -> None:
    federation("first", rounds=1)
    home = Home(virtual_home(tmp_path / "first.people", 0))
    with pytest.raises(Refusal, match="registered keys"):
        _ = home.register  # a real device's register lies in its own Home, and there is none


def test_a_server_without_a_whole_register_of_enough_devices_begins_no_hidden_round(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a real server finds it, in the folder of HEALING_HOME."""
    settings = small(aggregation="masked", people="", privacy="none")
    model = GlobalModel(Weights({"a": np.zeros(3, dtype=np.float32)}), "body", "tokens")
    path, register = tmp_path / "server" / "register.json", Register()
    monkeypatch.delenv("HEALING_HOME", raising=False)
    with pytest.raises(Refusal, match="set HEALING_HOME"):
        build_strategy(settings, model, Journal(tmp_path / "run"))
    monkeypatch.setenv("HEALING_HOME", str(path.parent))
    with pytest.raises(Refusal, match="healing server register"):
        build_strategy(settings, model, Journal(tmp_path / "run"))
    for key in (b"a", b"b"):
        register = register.with_device(32 * key)
    write_register(path, register)
    with pytest.raises(Refusal, match="2 devices are registered and a round asks 3"):
        build_strategy(settings, model, Journal(tmp_path / "run"))
    path.write_bytes(register.with_device(b"c" * 32).to_bytes()[:-30])
    with pytest.raises(Refusal, match="is damaged"):
        build_strategy(settings, model, Journal(tmp_path / "run"))
    write_register(path, register.with_device(b"c" * 32))
    assert build_strategy(settings, model, Journal(tmp_path / "run"))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"strategy": "median"}, "compares single updates"),
        ({"strategy": "multi-krum"}, "compares single updates"),
        ({"clients": 2}, "hidden sums are for 3 to 100"),
        ({"clients": 200}, "hidden sums are for 3 to 100"),
        ({"update_precision": "fp16"}, "no meaning where updates are masked"),
    ],
)
def test_what_masks_cannot_be_put_on_is_refused_with_the_reason(more: dict[str, object], sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        require_allowed(replace(RunSettings(aggregation="masked", clients=9), **more))  # type: ignore[arg-type]


# encrypted


def test_encrypted_averaging_ends_where_plain_averaging_ends(federation: Federation) -> None:
    pytest.importorskip("tenseal")
    blind, rounds, seen = federation("encrypted", aggregation="encrypted")
    plain, _, _ = federation("plain", aggregation="plain")
    assert (blind - plain).norm() < 1e-4 * plain.norm()
    assert [record.clients for record in rounds] == [CLIENTS, CLIENTS]
    assert not any(record.refused or record.lost for record in rounds)
    assert not any("arrays" in reply.content for reply in seen)


def test_once_the_model_is_out_no_device_holds_what_opens_an_update_of_the_round(federation: Federation, tmp_path: Path) -> None:
    """Neither the two that opened the sum, nor the others, nor one that drew keys and got no further."""
    pytest.importorskip("tenseal")
    federation("encrypted", rounds=1, aggregation="encrypted", fraction_evaluate=1.0, lost=[("train", 2)])
    for number in range(CLIENTS):
        home = virtual_home(tmp_path / "encrypted.people", number)
        assert not (home / "sum-key.bin").exists()
        assert Answered.from_bytes(Home(home).sealed("masking.json").read()).round.number == 1


@pytest.mark.parametrize("stage", ["query.advertise", "train"])
def test_a_device_lost_before_it_encrypted_costs_its_own_update_alone(federation: Federation, stage: str) -> None:
    pytest.importorskip("tenseal")
    blind, [record], _ = federation("encrypted", rounds=1, aggregation="encrypted", lost=[(stage, 2)])
    plain, _, _ = federation("plain", rounds=1, aggregation="plain", lost=[("train", 2)])
    assert (blind - plain).norm() < 1e-4 * plain.norm()
    assert record.clients == CLIENTS - 1


@pytest.mark.parametrize(
    ("lost", "sentence"),
    [
        ([("query.key", number) for number in range(CLIENTS)], "gave none"),
        ([("train", 0), ("train", 1)], "4 are needed"),
        ([("query.open", number) for number in range(1, CLIENTS)], "did not both do so"),
    ],
)
def test_an_encrypted_round_that_cannot_be_opened_changes_nothing(
    federation: Federation, lost: list[tuple[str, int]], sentence: str
) -> None:
    pytest.importorskip("tenseal")
    after, [record], _ = federation("encrypted", rounds=1, aggregation="encrypted", lost=lost)
    untouched, _, _ = federation("untouched", rounds=1, lost=[("query.advertise", number) for number in range(CLIENTS)])
    assert after.digest == untouched.digest
    assert sentence in record.lost


def test_what_is_too_large_to_encrypt_is_refused_with_its_size_before_anything_runs() -> None:
    with pytest.raises(Refusal, match="MB"):
        require_size(RunSettings(aggregation="encrypted"), 92_200_000)
