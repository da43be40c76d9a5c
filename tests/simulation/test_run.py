"""Whole runs: reproducible without noise, composed with it, continued after a crash, and silent about text."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.home import Home, virtual_home
from model.examples import training_examples
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, local_generator, train_plainly
from model.tuning import tuned_classifier
from privacy.plan import calibrated
from server.journal import Journal
from simulation.partition import partition
from simulation.run import Finished, people_folder, prepare, resume, run_experiment

ROOT = Path(__file__).resolve().parents[2]
Small = Callable[..., RunSettings]
Interrupted = Callable[[Sequence[str], Callable[[], bool]], tuple[int, str]]
MARKER = "꼬리아홉달린여우표식"


def run(settings: RunSettings, folder: Path) -> Finished:
    return run_experiment(prepare(settings), folder)


def final_digest(finished: Finished) -> str:
    newest = Journal(finished.folder).checkpoints.latest()
    assert newest is not None
    return newest.digest


def wait_for_rounds(folder: Path, rounds: int, process: subprocess.Popen[bytes]) -> None:
    while len(Journal(folder).rounds()) < rounds:
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.02)


@pytest.mark.parametrize("tuning", ["head", "full"])
def test_two_runs_with_one_seed_and_no_privacy_end_at_the_same_digest(tmp_path: Path, small: Small, tuning: str) -> None:
    settings = small(privacy="none", tuning=tuning, clients=8, fraction=0.25, rounds=2, fraction_evaluate=0.0)
    first, second = run(settings, tmp_path / "one"), run(settings, tmp_path / "two")
    assert final_digest(first) == final_digest(second)
    assert final_digest(run(replace(settings, seed=8), tmp_path / "three")) != final_digest(first)


def test_two_private_runs_with_one_seed_differ_because_noise_has_no_seed(tmp_path: Path, small: Small) -> None:
    settings = small(rounds=1)
    assert final_digest(run(settings, tmp_path / "one")) != final_digest(run(settings, tmp_path / "two"))


def test_a_run_equals_the_same_rounds_written_as_a_plain_loop(tmp_path: Path, small: Small) -> None:
    """FedAvg (McMahan et al. 2017, Algorithm 1) over three people, in float64, against the whole machinery."""
    import torch

    settings = small(privacy="none", clients=3, rounds=1, fraction_evaluate=0.0)
    finished = run(settings, tmp_path / "run")
    journal = Journal(finished.folder)
    newest = journal.checkpoints.latest()
    assert newest is not None
    ours = journal.checkpoints.load(newest)

    examples = training_examples(settings).examples
    classifier = tuned_classifier(settings)
    weights = classifier.read()
    for round in (1,):
        mean = {name: np.zeros(array.shape) for name, array in weights.items()}
        for number, part in enumerate(partition(examples, settings)):
            classifier.write(weights)
            rows = classifier.lower(classifier.encode([examples[row].text for row in part], max_tokens=settings.max_tokens))
            labels = torch.tensor([examples[row].emotion.id for row in part])
            train_plainly(classifier, Entries(rows, labels), settings, local_generator(settings.seed, round=round, device=number))
            for name, array in classifier.read().items():
                mean[name] += array.astype(np.float64) * len(part) / len(examples)
        weights = type(weights)({name: array.astype(np.float32) for name, array in mean.items()})
    for name, array in ours.items():
        np.testing.assert_allclose(array, weights[name], atol=1e-6)


def test_ten_private_rounds_report_the_composed_epsilon_and_the_ledgers_agree(tmp_path: Path, small: Small) -> None:
    settings = small(rounds=10, clients=8, fraction=0.25, fraction_evaluate=0.0)
    finished = run(settings, tmp_path / "run")
    plan = calibrated(settings)
    assert finished.rounds[-1].epsilon_max == pytest.approx(finished.epsilon)
    charges = [len(Home(virtual_home(finished.people, number)).ledger.charges()) for number in range(8)]
    assert sum(charges) == 20
    assert finished.epsilon == pytest.approx(plan.epsilon(max(charges)))
    assert [record.epsilon_max for record in finished.rounds] == sorted(record.epsilon_max or 0.0 for record in finished.rounds)


def test_the_run_folder_holds_what_was_promised(tmp_path: Path, small: Small) -> None:
    finished = run(small(), tmp_path / "run")
    scores = json.loads((finished.folder / "scores.json").read_text())
    assert np.array(scores["confusion"]).shape == (4, 4)
    assert np.array(scores["confusion"]).sum() == scores["entries"] == 8
    assert set(scores["per_class"]) == {"joy", "sadness", "anger", "anxiety"}
    assert json.loads((finished.folder / "settings.json").read_text())["rounds"] == 2
    newest = Journal(finished.folder).checkpoints.latest()
    assert newest is not None
    assert (newest.round, newest.version) == (2, 2)
    assert newest.scores["macro_f1"] == finished.rounds[-1].macro_f1
    reached = Home(virtual_home(finished.people, 0)).checkpoints.latest()
    assert reached is not None
    assert reached.digest == newest.digest


@pytest.mark.parametrize("privacy", ["none", "example"])
def test_a_planted_sentence_is_in_no_byte_that_leaves_a_device_and_no_file_of_the_run(
    tmp_path: Path, small: Small, privacy: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    from flwr.app import Context, Message, RecordDict

    from client.app import app as client_app
    from server.app import app as server_app
    from simulation.grid import InProcessGrid
    from simulation.virtual_clients import settle

    data = tmp_path / "diaries.csv"
    lines = [f"{MARKER} {number}번째 밤,{emotion}" for number in range(10) for emotion in ("기쁨", "슬픔", "분노", "불안")]
    data.write_text("\n".join(["text,emotion", *lines]), encoding="utf-8")
    caplog.set_level(logging.DEBUG)
    settings = small(privacy=privacy, data=str(data), test_data="samples", tuning="full", dropout=0.0)
    settle(Path(settings.people), training_examples(settings).examples, settings)
    left_devices: list[bytes] = []

    def listen(reply: Message) -> None:
        left_devices.append(repr(reply).encode())
        if reply.has_content():
            for record in reply.content.array_records.values():
                left_devices.extend(array.data for array in record.values())

    grid = InProcessGrid(client_app, clients=3, run_config=settings.as_run_config(), on_reply=listen)
    server_app(grid, Context(1, 1, node_config={}, state=RecordDict(), run_config=settings.as_run_config()))
    shown = capfd.readouterr()
    said = "".join(record.getMessage() + str(record.exc_info) + str(record.exc_text) for record in caplog.records)
    needle = MARKER.encode()
    files = [file for file in Path(settings.out).rglob("*") if file.is_file()]
    assert len(left_devices) > 6
    assert len(files) > 4
    assert not [data for data in left_devices if needle in data]
    assert not [file for file in files if needle in file.read_bytes()]
    assert MARKER not in shown.out + shown.err + said


def test_a_failing_device_sends_no_word_of_its_exception(tmp_path: Path, small: Small) -> None:
    """A diary whose label column was overwritten with text: the exception would quote it."""
    from flwr.app import Context, Message, RecordDict

    from client.app import app as client_app
    from model.records import Declined, decode_reply
    from simulation.grid import InProcessGrid
    from simulation.virtual_clients import settle

    settings = small(clients=1, rounds=1)
    settle(Path(settings.people), training_examples(settings).examples[:8], settings)
    with Home(virtual_home(Path(settings.people), 0)).diary._file.writing() as database:
        database.execute("UPDATE entries SET emotion = ?", (MARKER[:10],))
    replies: list[Message] = []
    grid = InProcessGrid(client_app, clients=1, run_config=settings.as_run_config(), on_reply=replies.append)
    from server.app import app as server_app

    server_app(grid, Context(1, 1, node_config={}, state=RecordDict(), run_config=settings.as_run_config()))
    assert decode_reply(replies[0].content) == Declined(1)
    assert MARKER[:10].encode() not in (Path(settings.out) / "rounds.jsonl").read_bytes()


def test_kill_9_in_the_middle_loses_no_round_and_no_expense(tmp_path: Path, small: Small) -> None:
    folder = tmp_path / "run"
    options = ["--data", small().data, "--clients", "5", "--rounds", "12", "--out", str(folder)]
    command = [sys.executable, "-m", "healing", "simulate", *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_rounds(folder, 2, process)
    process.kill()
    process.wait()
    before = Journal(folder).rounds()
    spent = [Home(virtual_home(people_folder(folder), number)).ledger.charges() for number in range(5)]

    finished = run_experiment(resume(folder), folder)
    assert len(before) < 12
    assert [record.round for record in finished.rounds] == list(range(1, 13))
    assert finished.rounds[: len(before)] == tuple(before)
    for number, earlier in enumerate(spent):
        ledger = Home(virtual_home(people_folder(folder), number)).ledger
        assert ledger.charges()[: len(earlier)] == earlier
        assert ledger.spent() <= finished.settings.epsilon
    trained = sum(record.clients for record in finished.rounds)
    charged = sum(len(Home(virtual_home(people_folder(folder), number)).ledger.charges()) for number in range(5))
    assert charged >= trained  # a crash can only over-count


def test_ctrl_c_ends_with_what_was_finished_and_says_how_to_go_on(tmp_path: Path, small: Small, interrupted: Interrupted) -> None:
    folder = tmp_path / "run"
    options = ["--data", small().data, "--clients", "5", "--rounds", "500", "--out", str(folder)]
    status, output = interrupted(["simulate", *options], lambda: bool(Journal(folder).rounds()))
    assert status == 130
    assert "Traceback" not in output
    assert f"healing simulate --resume {folder}" in output.replace("\n", "")
    assert (folder / "summary.md").exists()


def test_nothing_is_left_behind_when_a_run_cannot_begin(tmp_path: Path, small: Small) -> None:
    prepared = prepare(small())
    gone = replace(prepared, settings=replace(prepared.settings, test_data=str(tmp_path / "gone.csv")))
    with pytest.raises(Refusal, match="there is no file"):
        run_experiment(gone, tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path: Path, small: Small) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(Refusal, match="holds something"):
        run(small(), tmp_path / "run")
    assert (tmp_path / "run" / "mine.txt").read_text() == "mine"


def test_a_resumed_run_needs_its_people_and_their_ledgers(tmp_path: Path, small: Small) -> None:
    import shutil

    finished = run(small(rounds=1), tmp_path / "run")
    shutil.rmtree(finished.people)
    with pytest.raises(Refusal, match="people of this run are gone"):
        resume(finished.folder)


def test_one_person_with_more_entries_than_delta_covers_is_refused_before_anything_begins(tmp_path: Path, small: Small) -> None:
    with pytest.raises(Refusal, match=r"delta .* covers at most 464"):
        prepare(small(data="samples", clients=2))


@pytest.mark.slow
def test_a_run_may_start_from_the_checkpoints_of_another(tmp_path: Path, small: Small) -> None:
    first = run(small(privacy="none", rounds=1), tmp_path / "first")
    checkpoints = str(tmp_path / "first" / "checkpoints")
    second = run(small(privacy="none", rounds=1, start=checkpoints, learning_rate=1e-12), tmp_path / "second")
    assert second.rounds[0].cross_entropy == pytest.approx(first.rounds[0].cross_entropy, rel=1e-5)
    with pytest.raises(Refusal, match="has tuning probe and this run has top2"):
        prepare(small(privacy="none", start=checkpoints, tuning="top2"))
    with pytest.raises(Refusal, match="no checkpoint in"):
        prepare(small(start=str(tmp_path / "nowhere")))


def test_updates_in_half_precision_reach_the_same_model_but_for_their_rounding(tmp_path: Path, small: Small) -> None:
    whole = run(small(privacy="none"), tmp_path / "whole")
    half = run(small(privacy="none", update_precision="fp16"), tmp_path / "half")
    assert half.rounds[-1].cross_entropy == pytest.approx(whole.rounds[-1].cross_entropy, abs=1e-3)
    assert half.rounds[-1].mb_sent_per_client == whole.rounds[-1].mb_sent_per_client / 2


def test_real_comments_train_a_federation(tmp_path: Path, small: Small, shared_data: Path) -> None:
    settings = small(
        data=str(shared_data / "kote" / "val.tsv"), test_data=str(shared_data / "kote" / "test.tsv"),
        clients=30, rounds=3, privacy="none", partition="auto", fraction_evaluate=0.0,
    )  # fmt: skip
    finished = run(settings, tmp_path / "run")
    assert finished.rounds[-1].accuracy > 0.46  # the largest class alone


ALL = pytest.mark.skipif(os.environ.get("HEALING_ENGINES") != "1", reason="minutes: Ray started again; set HEALING_ENGINES=1")


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["masked", pytest.param("plain", marks=ALL), pytest.param("encrypted", marks=ALL)])
def test_flowers_own_engine_runs_the_same_apps_to_the_same_weights(tmp_path: Path, small: Small, aggregation: str) -> None:
    """Up to the last bits of floating point, which follow the threads; of a masked or encrypted update they are mostly rounded away."""
    pytest.importorskip("ray", reason="Flower's simulation extra is not installed")
    settings = small(
        privacy="none", clients=3, rounds=2, aggregation=aggregation, update_clip=100.0, learning_rate=2e-3
    )  # a higher rate would enlarge the last bits
    on_ray = run_experiment(prepare(settings, engine="ray"), tmp_path / "ray")
    in_process = run(settings, tmp_path / "here")
    assert [(record.clients, record.refused, record.lost) for record in on_ray.rounds] == [(3, {}, "")] * 2
    ours, theirs = (Journal(one.folder).checkpoints for one in (in_process, on_ray))
    for name, array in ours.load(ours.manifest(2)).items():
        np.testing.assert_allclose(theirs.load(theirs.manifest(2))[name], array, atol=1e-6)


@pytest.mark.slow
def test_a_run_that_fails_on_flowers_engine_is_not_called_a_success(tmp_path: Path, small: Small) -> None:
    pytest.importorskip("ray", reason="Flower's simulation extra is not installed")
    prepared = prepare(small(rounds=1), engine="ray")
    gone = replace(prepared, settings=replace(prepared.settings, test_data=str(tmp_path / "gone.csv")))
    with pytest.raises(Refusal, match="Flower ended the run as"):
        run_experiment(gone, tmp_path / "ray")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
