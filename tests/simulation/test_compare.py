"""The comparison: one split for all, figures that scikit-learn agrees with, cells that outlive a crash, a table that says so."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import shutil
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn import metrics  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from transformers import BertForSequenceClassification

from model.checkpoint import CheckpointStore
from model.emotions import EMOTIONS
from model.examples import Example, training_examples
from model.examples import test_examples as held_out_examples
from model.hub import find_model
from model.normalization import normalized
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, local_generator, train_plainly
from model.tuning import tuned_classifier
from simulation.compare import DEFAULT_MODELS, EXCEPTIONS, Comparison, Moment, Standing, compare, digest, prepare_comparison
from simulation.standings import ComparisonProgress, closing_lines, notes, rows_of, show_end, show_start, write_results

ROOT = Path(__file__).resolve().parents[2]
Settings = Callable[..., RunSettings]
Interrupted = Callable[[Sequence[str], Callable[[], bool]], tuple[int, str]]


def run(comparison: Comparison, folder: Path, on_progress: Callable[[Moment], None] = lambda moment: None) -> Standing:
    return compare(comparison, folder, on_progress=on_progress)


def taken_apart(settings: RunSettings) -> tuple[list[str], np.ndarray[Any, Any], list[str], np.ndarray[Any, Any]]:
    """Texts and labels of the training and of the test entries."""
    train, test = training_examples(settings).examples, held_out_examples(settings).examples
    ids = [np.array([one.emotion.id for one in part]) for part in (train, test)]
    return [one.text for one in train], ids[0], [one.text for one in test], ids[1]


# the same for all


def test_all_contestants_of_a_seed_have_the_same_entries_and_other_seeds_hold_out_others(
    tmp_path: Path, shared: Settings, body: Path
) -> None:
    settings = shared(rounds=1)
    standing = run(prepare_comparison(settings, models=f"{body},tfidf", seeds=2), tmp_path / "out")
    assert [(cell.task.way, cell.task.settings.seed) for cell in standing.cells] == [
        ("centralised", 7), ("centralised", 8), ("federated", 7), ("federated", 8), ("floor", 7), ("floor", 8),
    ]  # fmt: skip
    for seed in (7, 8):
        _, _, texts, labels = taken_apart(replace(settings, seed=seed))
        lines = sorted(f"{label}\t{text}" for label, text in zip(labels, texts, strict=True))
        wanted = hashlib.sha256("\0".join(lines).encode()).hexdigest()
        assert {cell.task.test_digest for cell in standing.cells if cell.task.settings.seed == seed} == {wanted}
        assert {int(np.sum(cell.result.confusion)) for cell in standing.cells} == {len(texts)}
    assert len({cell.task.train_digest for cell in standing.cells}) == 2


@given(st.lists(st.tuples(st.text(), st.sampled_from(EMOTIONS)), min_size=1), st.randoms())
def test_a_digest_is_of_the_entries_in_any_order_and_of_their_labels(entries: list[tuple[str, Any]], random: Any) -> None:
    examples = [Example(text, emotion) for text, emotion in entries]
    shuffled = random.sample(examples, len(examples))
    assert digest(shuffled) == digest(examples)
    other = EMOTIONS[(shuffled[0].emotion.id + 1) % 4]
    assert digest([replace(shuffled[0], emotion=other), *shuffled[1:]]) != digest(examples)


def test_data_that_changes_while_the_people_are_settled_is_noticed(tmp_path: Path, shared: Settings, body: Path) -> None:
    settings = shared(rounds=1)
    comparison = prepare_comparison(settings, models=str(body), seeds=1, only="federated")

    def add_an_entry(moment: Moment) -> None:
        with Path(settings.data).open("a", encoding="utf-8") as data:
            data.write("\n한 줄이 늘었다,기쁨,author0")

    with pytest.raises(Refusal, match="the data changed while the comparison ran"):
        run(comparison, tmp_path / "out", add_an_entry)
    assert not (tmp_path / "out").exists()


# the figures


def test_the_floor_is_scikit_learn_called_plainly(tmp_path: Path, shared: Settings) -> None:
    [cell] = run(prepare_comparison(shared(), models="tfidf", seeds=1), tmp_path / "out").cells
    texts, labels, test_texts, test_labels = taken_apart(shared())
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True)
    regression = LogisticRegression(C=10.0, max_iter=1000, class_weight="balanced").fit(
        vectorizer.fit_transform(map(normalized, texts)), labels
    )
    chances = regression.predict_proba(vectorizer.transform(map(normalized, test_texts)))
    scores = cell.result.scores
    assert cell.result.confusion == metrics.confusion_matrix(test_labels, chances.argmax(axis=1), labels=range(4)).tolist()
    assert scores.cross_entropy == pytest.approx(metrics.log_loss(test_labels, chances, labels=range(4)), rel=1e-9)
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(test_labels, chances.argmax(axis=1), average="macro"), abs=1e-12)
    assert cell.result.parameters == 4 * len(vectorizer.vocabulary_) + 4


def test_the_floor_never_predicts_an_emotion_that_it_was_not_shown(tmp_path: Path, shared: Settings, examples: list[Example]) -> None:
    lines = [f"{one.text},{one.emotion.ko}" for one in examples if one.emotion is not EMOTIONS[2]]
    (tmp_path / "three.csv").write_text("\n".join(["text,emotion", *lines]), encoding="utf-8")
    (tmp_path / "four.csv").write_text("text,emotion\n하나,기쁨\n둘,슬픔\n셋,분노\n넷,불안", encoding="utf-8")
    settings = shared(data=str(tmp_path / "three.csv"), test_data=str(tmp_path / "four.csv"))
    [cell] = run(prepare_comparison(settings, models="tfidf", seeds=1), tmp_path / "out").cells
    assert np.sum(cell.result.confusion, axis=1).tolist() == [1, 1, 1, 1]
    assert np.sum(cell.result.confusion, axis=0)[2] == 0
    assert np.isfinite(cell.result.scores.cross_entropy)


def test_centralised_is_plain_training_of_as_many_passes_scored_by_scikit_learn(tmp_path: Path, shared: Settings, body: Path) -> None:
    settings = shared(rounds=3, local_epochs=2)
    [cell] = run(prepare_comparison(settings, models=str(body), seeds=1, only="centralised"), tmp_path / "out").cells

    alone = replace(settings, model=str(body), local_epochs=6, clients=1)
    texts, labels, test_texts, test_labels = taken_apart(alone)
    from simulation.partition import partition

    [rows] = partition(training_examples(alone).examples, alone)
    classifier = tuned_classifier(alone)
    entries = Entries(classifier.encode([texts[row] for row in rows], max_tokens=64), torch.tensor(labels[rows]))
    train_plainly(classifier, entries, alone, local_generator(7, round=1, device=0))
    chances = classifier.probabilities(test_texts, max_tokens=64).astype(np.float64)

    scores = cell.result.scores
    f1 = metrics.f1_score(test_labels, chances.argmax(axis=1), labels=range(4), average=None, zero_division=0)
    np.testing.assert_allclose(scores.f1, f1, atol=1e-12)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(test_labels, chances.argmax(axis=1)), abs=1e-12)
    chances /= chances.sum(axis=1, keepdims=True)  # rows in float32 add up to 1 within a rounding
    assert scores.cross_entropy == pytest.approx(metrics.log_loss(test_labels, chances, labels=range(4)), rel=1e-5)
    assert cell.result.passes == 6
    assert cell.result.parameters == sum(parameter.numel() for parameter in classifier.parameters())


@pytest.mark.parametrize("tuning", ["full", "head"])
def test_one_person_in_one_round_federated_is_centralised_but_for_the_rounding_of_an_update(
    tmp_path: Path, shared: Settings, body: Path, tuning: str
) -> None:
    """The device sends after - before in float32 and the server adds it to before: that sum is after within a rounding."""
    settings = shared(clients=1, rounds=1, local_epochs=4, tuning=tuning, dropout=0.2)
    central, federated = run(prepare_comparison(settings, models=str(body), seeds=1), tmp_path / "out").cells
    assert federated.result.log_loss == pytest.approx(central.result.log_loss, rel=1e-5)
    assert federated.result.confusion == central.result.confusion
    assert federated.result.parameters == central.result.parameters
    assert federated.result.passes == central.result.passes == 4
    assert federated.result.mb_per_round == pytest.approx(4e-6 * federated.result.parameters)
    assert central.result.mb_per_round is None
    untrained = run(
        prepare_comparison(replace(settings, learning_rate=1e-9), models=str(body), seeds=1, only="centralised"), tmp_path / "not"
    )
    assert untrained.cells[0].result.log_loss != pytest.approx(central.result.log_loss, rel=1e-3)  # the comparison could fail


def test_half_of_the_people_a_round_pass_over_half_of_the_entries(tmp_path: Path, shared: Settings, body: Path) -> None:
    settings = shared(clients=4, rounds=3, local_epochs=2, fraction=0.5)
    central, federated = run(prepare_comparison(settings, models=str(body), seeds=1), tmp_path / "out").cells
    assert central.result.passes == federated.result.passes == 3


def test_every_contestant_starts_from_the_checkpoint_that_the_settings_name(
    tmp_path: Path, shared: Settings, body: Path, bundle: Path
) -> None:
    settings = shared(model=str(body), rounds=1, learning_rate=1e-9, start=str(tmp_path / "checkpoints"))
    classifier = tuned_classifier(settings)
    weights = classifier.read().scale(1.5)
    digests = {"base_digest": classifier.base_digest, "tokenizer_digest": classifier.tokenizer.digest}
    CheckpointStore(tmp_path / "checkpoints").publish(weights, model=str(body), tuning="full", round=1, **digests)
    classifier.write(weights)
    _, _, test_texts, test_labels = taken_apart(settings)
    chances = classifier.probabilities(test_texts, max_tokens=64)[np.arange(len(test_labels)), test_labels]
    wanted = -float(np.log(chances).mean())
    for cell in run(prepare_comparison(settings, models=str(body), seeds=1), tmp_path / "out").cells:
        assert cell.result.scores.cross_entropy == pytest.approx(wanted, rel=1e-4)
    with pytest.raises(Refusal, match="has base model"):
        prepare_comparison(settings, models="lstm")


def test_private_rows_are_marked_with_what_was_spent_and_centralised_ones_are_not_private(
    tmp_path: Path, shared: Settings, body: Path
) -> None:
    settings = shared(privacy="example", tuning="head", clients=2, rounds=1, sampling_rate=1.0)
    standing = run(prepare_comparison(settings, models=str(body), seeds=1), tmp_path / "out")
    central, federated = rows_of(standing)
    assert central.privacy == "none"
    assert central.contestant.settings.privacy == "none"
    assert federated.cells[0].result.epsilon is not None
    assert 0 < federated.cells[0].result.epsilon <= 8
    assert federated.privacy == f"epsilon {federated.cells[0].result.epsilon:.2f}"


# what is kept


def test_a_comparison_that_broke_off_goes_on_where_it_was_and_ends_at_the_same_figures(
    tmp_path: Path, shared: Settings, body: Path
) -> None:
    comparison = prepare_comparison(shared(rounds=1), models=f"tfidf,{body}", seeds=2)
    whole = run(comparison, tmp_path / "whole")

    def break_in_the_fourth(moment: Moment) -> None:
        if moment.done == 4 and moment.cell is None:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(comparison, tmp_path / "out", break_in_the_fourth)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "cells").iterdir()}
    assert len(before) == 4
    (tmp_path / "out" / "running.people" / "p00000").mkdir(parents=True)  # what kill -9 would have left of a federated run
    moments: list[Moment] = []
    resumed = run(comparison, tmp_path / "out", moments.append)
    assert [moment.kept for moment in moments if moment.cell is not None] == [True] * 4 + [False] * 2
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert [(cell.task, cell.result.confusion, cell.result.log_loss) for cell in resumed.cells] == [
        (cell.task, cell.result.confusion, cell.result.log_loss) for cell in whole.cells
    ]
    assert resumed.cells[:4] == tuple(run(comparison, tmp_path / "out").cells[:4])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "begun.json", "cells"]


def test_ctrl_c_in_a_federated_run_keeps_what_was_finished_and_no_person(tmp_path: Path, shared: Settings, body: Path) -> None:
    comparison = prepare_comparison(shared(rounds=5), models=f"tfidf,{body}", seeds=1, only="federated")

    def interrupt(moment: Moment) -> None:
        if "round 2" in moment.told:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    try:
        standing = run(comparison, tmp_path / "out", interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert standing.interrupted
    assert [cell.task.model for cell in standing.cells] == ["tfidf"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", "begun.json", "cells"]
    assert f"next: the same command with --out {tmp_path / 'out'} goes on from here" in closing_lines(standing)


def test_more_models_seeds_and_dropouts_may_be_asked_of_a_folder_later(tmp_path: Path, shared: Settings, body: Path) -> None:
    run(prepare_comparison(shared(), models="tfidf", seeds=1), tmp_path / "out")
    moments: list[Moment] = []
    more = prepare_comparison(shared(), models=f"tfidf,{body}", seeds=2, dropouts="0.5, 0.1", only="centralised")
    standing = run(more, tmp_path / "out", moments.append)
    assert [moment.kept for moment in moments if moment.cell is not None] == [True] + [False] * 5
    assert [(row.contestant.way, row.contestant.settings.dropout, len(row.cells)) for row in rows_of(standing)[1:]] == [
        ("centralised", 0.5, 2), ("centralised", 0.1, 2),
    ]  # fmt: skip
    assert len({cell.result.log_loss for cell in standing.cells if cell.task.way == "centralised"}) == 4  # dropout was applied


def test_other_settings_and_other_folders_are_refused_with_one_sentence_and_left_as_they_were(tmp_path: Path, shared: Settings) -> None:
    run(prepare_comparison(shared(), models="tfidf", seeds=1), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(Refusal, match=r"was begun with rounds '2' and this call says '3'; give the same settings"):
        run(prepare_comparison(shared(rounds=3), models="tfidf", seeds=1), tmp_path / "out")
    with pytest.raises(Refusal, match="holds something that is no comparison"):
        run(prepare_comparison(shared(), models="tfidf", seeds=1), tmp_path / "mine")
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_cell_of_other_entries_or_other_weights_is_refused(tmp_path: Path, shared: Settings, body: Path) -> None:
    copy = shutil.copytree(body, tmp_path / "body")
    settings = shared(rounds=1)
    run(prepare_comparison(settings, models=f"tfidf,{copy}", seeds=1, only="centralised"), tmp_path / "out")

    classifier = BertForSequenceClassification.from_pretrained(copy)
    with torch.no_grad():
        classifier.bert.embeddings.word_embeddings.weight.mul_(2)
    classifier.save_pretrained(copy)
    with pytest.raises(Refusal, match="was made with other weights of the body"):
        run(prepare_comparison(settings, models=str(copy), seeds=1, only="centralised"), tmp_path / "out")

    with Path(settings.data).open("a", encoding="utf-8") as data:
        data.write("".join(f"\n늘어난 {number}번째 줄,기쁨,author0" for number in range(5)))
    with pytest.raises(Refusal, match=r"was made with other t(raining|est) entries"):
        run(prepare_comparison(settings, models="tfidf", seeds=1), tmp_path / "out")


@pytest.mark.parametrize("damage", ["", "[]", '{"task": {}, "result": {}}'])
def test_a_damaged_cell_is_named_and_what_to_do_about_it(tmp_path: Path, shared: Settings, damage: str) -> None:
    comparison = prepare_comparison(shared(), models="tfidf", seeds=1)
    run(comparison, tmp_path / "out")
    (tmp_path / "out" / "cells" / "tfidf-s7.json").write_text(damage)
    with pytest.raises(Refusal, match=r"tfidf-s7.json' is damaged .*remove it"):
        run(comparison, tmp_path / "out")


def test_two_comparisons_in_one_folder_do_not_take_each_others_people(tmp_path: Path, shared: Settings) -> None:
    comparison = prepare_comparison(shared(), models="tfidf", seeds=1)
    run(comparison, tmp_path / "out")
    with (tmp_path / "out" / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Refusal, match="another comparison is at work"):
            run(comparison, tmp_path / "out")
    assert len(run(comparison, tmp_path / "out").cells) == 1


# who takes part


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"models": "tfidf,bert-of-nowhere"}, "'bert-of-nowhere' is no model that is on this machine; choose from lstm, *compact"),
        ({"models": "owner/model"}, "'owner/model' is no model that is on this machine"),
        ({"models": " , "}, "name some of"),
        ({"models": "tfidf", "only": "nobody"}, "only is 'nobody'; choose one of both, centralised, federated"),
        ({"models": "tfidf", "seeds": 0}, "seeds is 0; it must be at least 1"),
        ({"models": "tfidf", "dropouts": "0.5,high"}, "dropouts is '0.5,high'; write rates with commas"),
        ({"models": "tfidf", "dropouts": "0.5,1.5"}, "dropout is 1.5; it must be at least 0 and at most 0.9"),
        ({"models": "tfidf", "dropouts": "nan"}, "dropout is nan; it must be a finite number"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_begins(
    tmp_path: Path, shared: Settings, words: dict[str, Any], sentence: str, no_network: None, no_hub: Path
) -> None:
    with pytest.raises(Refusal, match=sentence):
        prepare_comparison(shared(), **words)
    assert [path.name for path in tmp_path.iterdir() if path != no_hub] == ["data"]


def test_settings_that_one_contestant_cannot_have_are_refused_before_anything_begins(shared: Settings, body: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"max-tokens is 200 and .* has 160 positions"):
        prepare_comparison(shared(max_tokens=200), models=f"tfidf,{body}")
    with pytest.raises(Refusal, match="50 clients cannot share 32 entries"):
        prepare_comparison(shared(clients=50), models=f"tfidf,{body}")
    (tmp_path / "one.csv").write_text("text,emotion\n하나,기쁨\n둘,기쁨\n셋,기쁨\n넷,기쁨", encoding="utf-8")
    with pytest.raises(Refusal, match="tells two emotions apart at least"):
        prepare_comparison(shared(data=str(tmp_path / "one.csv")), models="tfidf")


@pytest.fixture
def bundle(tmp_path: Path, body: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose compact model is the tiny one."""
    monkeypatch.setenv("HEALING_MODELS", str(tmp_path / "bundle"))
    return Path(shutil.copytree(body, tmp_path / "bundle" / "compact"))


def test_a_bundled_model_without_its_weights_is_left_out_with_the_command_that_makes_them(
    shared: Settings, bundle: Path, no_network: None, no_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words: dict[str, Any] = {"models": "compact,lstm,tfidf", "seeds": 1, "only": "centralised"}
    assert [one.model for one in prepare_comparison(shared(), **words).contestants] == ["compact", "lstm", "tfidf"]
    if (find_model("compact") / "model.safetensors").exists():
        monkeypatch.setattr("simulation.compare.bundles", lambda: [bundle.parent])  # the repository's own would step in
    (bundle / "model.safetensors").unlink()
    left_out = prepare_comparison(shared(), **words).left_out
    assert left_out["compact"] == "its model.safetensors or pytorch_model.bin are not on this machine; healing model pretrain makes them"
    assert left_out["lstm"] == left_out["compact"]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        pytest.fail(f"something asked the network for {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's."""
    import huggingface_hub.constants

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_models_whose_weights_are_not_here_are_left_out_and_no_download_is_tried(
    tmp_path: Path, shared: Settings, body: Path, no_network: None, no_hub: Path
) -> None:
    comparison = prepare_comparison(shared(), models=f"kobert,mbert,{body},tfidf", seeds=1, only="centralised")
    assert [one.model for one in comparison.contestants] == [str(body), "tfidf"]
    assert list(comparison.left_out) == ["kobert", "mbert"]
    assert "its config.json; model.safetensors or pytorch_model.bin; spiece.model, " in comparison.left_out["kobert"]
    standing = run(comparison, tmp_path / "out")
    assert [line for line in notes(standing) if line.startswith("left out: mbert, its config.json; model.safetensors")]
    with pytest.raises(
        Refusal, match=r"no contestant is left: kobert: its config.json; .* not on this machine; healing simulate --model kobert downloads"
    ):
        prepare_comparison(shared(), models="kobert")


def test_a_model_that_was_downloaded_before_takes_part(
    tmp_path: Path, shared: Settings, body: Path, no_network: None, no_hub: Path
) -> None:
    downloaded = no_hub / "models--skt--kobert-base-v1"
    (downloaded / "refs").mkdir(parents=True)
    (downloaded / "refs" / "main").write_text("0" * 40)
    shutil.copytree(body, downloaded / "snapshots" / ("0" * 40))
    comparison = prepare_comparison(shared(rounds=1), models="kobert", seeds=1)
    assert comparison.left_out == {}
    assert [cell.task.model for cell in run(comparison, tmp_path / "out").cells] == ["kobert", "kobert"]
    (downloaded / "snapshots" / ("0" * 40) / "model.safetensors").unlink()
    assert "its model.safetensors or pytorch_model.bin are not on" in prepare_comparison(shared(), models="kobert,tfidf").left_out["kobert"]


def test_an_lstm_trains_in_full_at_its_own_rate_and_the_table_says_so(tmp_path: Path, shared: Settings, bundle: Path) -> None:
    settings = shared(tuning="head", learning_rate=0.5, rounds=1)
    comparison = prepare_comparison(settings, models="lstm", seeds=1, only="centralised")
    standing = run(comparison, tmp_path / "out")
    [cell] = standing.cells
    everything = tuned_classifier(replace(settings, model="lstm", tuning="full"))
    assert cell.result.parameters == sum(parameter.numel() for parameter in everything.parameters())
    assert cell.task.settings.learning_rate == EXCEPTIONS["lstm"]["learning_rate"] != 0.5
    assert [line for line in notes(standing) if line.startswith("lstm: tuning full, learning-rate 0.002, whatever the others")]


# the table


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, body: Path) -> Standing:
    """Two rates of dropout and three seeds, over sixty entries of which every third speaks of another feeling than its own."""
    folder = tmp_path_factory.mktemp("finished")
    names, words = ("기쁨", "슬픔", "분노", "불안"), ("노을빛이", "빗소리만", "문짝을", "시계침이")
    rows = [(number, own, own if number % 3 else (own + number) % 4) for number in range(15) for own in range(4)]
    lines = [f"{number}번째 {words[told]} {'자꾸 ' * (number % 4)}떠오르던 밤,{names[own]}" for number, own, told in rows]
    (folder / "data.csv").write_text("\n".join(["text,emotion", *lines]), encoding="utf-8")
    settings = RunSettings(data=str(folder / "data.csv"), clients=2, rounds=1, privacy="none", fraction_evaluate=0.0, tuning="full")
    settings = replace(settings, local_epochs=3, learning_rate=0.005)
    standing = run(prepare_comparison(settings, models=f"{body},tfidf", seeds=3, dropouts="0.3,0.1"), folder / "out")
    assert len({cell.result.scores.macro_f1 for cell in standing.cells}) > 5  # figures that could be confused with each other prove little
    write_results(standing)
    return standing


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n ").split("|")]


def test_the_table_holds_every_contestant_and_class_with_mean_and_spread_over_the_seeds(finished: Standing) -> None:
    text = (finished.folder / "compare.md").read_text(encoding="utf-8")
    [head] = [number for number, line in enumerate(text.splitlines()) if line.startswith("| model |")]
    lines = text.splitlines()
    titles, table = cells_of(lines[head]), [cells_of(line) for line in lines[head + 2 : head + 7]]
    assert [(row[1], row[2]) for row in table] == [
        ("centralised", "0.3"), ("centralised", "0.1"), ("federated", "0.3"), ("federated", "0.1"), ("floor", "-"),
    ]  # fmt: skip
    assert {f"F1 {emotion.ko}" for emotion in EMOTIONS} < set(titles)
    for number, row in enumerate(table):
        of_row = finished.cells[3 * number : 3 * number + 3]
        for title, values in (
            ("macro-F1", [cell.result.scores.macro_f1 for cell in of_row]),
            ("accuracy", [cell.result.scores.accuracy for cell in of_row]),
            ("cross-entropy", [cell.result.scores.cross_entropy for cell in of_row]),
            *((f"F1 {emotion.ko}", [cell.result.scores.f1[emotion.id] for cell in of_row]) for emotion in EMOTIONS),
        ):
            assert row[titles.index(title)] == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert (table[4][titles.index("MB sent per round and person")], table[4][titles.index("seconds per epoch")]) == ("-", "-")


def test_the_confusion_of_every_contestant_stands_in_the_markdown_and_in_full_in_the_json(finished: Standing) -> None:
    stored = json.loads((finished.folder / "compare.json").read_bytes())
    text = (finished.folder / "compare.md").read_text(encoding="utf-8")
    assert [cell["result"]["confusion"] for cell in stored["cells"]] == [cell.result.confusion for cell in finished.cells]
    for number, row in enumerate(stored["rows"]):
        total = np.sum([cell.result.confusion for cell in finished.cells[3 * number : 3 * number + 3]], axis=0)
        assert row["confusion"] == total.tolist()
        matrix = "\n".join(
            f"| {emotion.ko} | " + " | ".join(map(str, counts)) + " |" for emotion, counts in zip(EMOTIONS, total, strict=True)
        )
        assert matrix in text
    assert (stored["cells_finished"], stored["cells_asked_for"], stored["seeds"]) == (15, 15, [7, 8, 9])
    assert stored["settings"]["rounds"] == 1


def test_no_file_of_a_comparison_holds_a_word_of_an_entry(finished: Standing) -> None:
    files = [file for file in finished.folder.rglob("*") if file.is_file()]
    assert len(files) >= 20
    for word in ("노을빛", "빗소리", "문짝", "시계침", "떠오르던"):
        assert not [file for file in files if word.encode() in file.read_bytes()]


def test_the_picture_has_a_bar_for_every_contestant_as_long_as_its_macro_f1(finished: Standing) -> None:
    picture = ElementTree.fromstring((finished.folder / "compare.svg").read_text(encoding="utf-8"))  # noqa: S314  it is our own
    bars = [float(bar.attrib["width"]) for bar in picture.findall("{*}rect") if bar.attrib["width"] != "100%"]
    wanted = [np.mean([cell.result.scores.macro_f1 for cell in finished.cells[3 * number : 3 * number + 3]]) for number in range(5)]
    np.testing.assert_allclose(bars, 420 * np.array(wanted), atol=0.06)


def test_the_terminal_shows_the_whole_table_in_eighty_columns(finished: Standing) -> None:
    console = Console(width=80, record=True, force_terminal=False, file=io.StringIO())
    show_start(console, finished.comparison)
    with ComparisonProgress(console, finished.comparison) as progress:
        for number, cell in enumerate(finished.cells):
            progress.update(Moment(number, 15, cell.task, told="training"))
            progress.update(Moment(number + 1, 15, cell.task, cell=cell))
    show_end(console, finished)
    shown = console.export_text()
    table = shown[shown.index("comparison") : shown.index("every contestant")]
    assert "…" not in shown
    assert max(len(line) for line in table.splitlines()) <= 80
    firsts = [line.split() for line in table.splitlines() if line[:1] != " " and len(line.split()) == 11]
    assert [first[:2] for first in firsts[1:]] == [
        [name, f"{row.macro_f1:.3f}"] for name, row in zip(("tiny",) * 4 + ("tfidf",), rows_of(finished), strict=True)
    ]
    for word in ("centralised", "federated", "floor", "dropout 0.1", *(emotion.ko for emotion in EMOTIONS)):
        assert word in table
    assert f"{finished.cells[0].result.parameters / 1000:.3g}k" in table
    assert table.count("±") >= 5 * 7
    assert "federated, dropout 0.3, seed 8: macro-F1" in shown
    assert f"results: {finished.folder}" in shown


def test_the_closing_lines_name_the_best_and_what_the_federation_cost(finished: Standing) -> None:
    macro = {row.contestant.name: row.macro_f1 for row in rows_of(finished)}
    lines = closing_lines(finished)
    best = max(macro.values())
    assert [name for name, value in macro.items() if value == best and lines[0].startswith(f"best: {name}, macro-F1 {best:.3f}")]
    for dropout in ("0.3", "0.1"):
        [federated] = [name for name in macro if f"federated, dropout {dropout}" in name]
        gap = macro[federated] - macro[federated.replace("federated", "centralised")]
        assert f"{federated}: macro-F1 {gap:+.3f} against centralised" in lines


# the command


def test_the_command_has_every_setting_but_the_model_and_compares_without_privacy(tmp_path: Path, shared: Settings, body: Path) -> None:
    from typer.testing import CliRunner

    from healing import app

    words = ["--data", shared().data, "--clients", "3", "--rounds", "1", "--models", f"{body},tfidf", "--seeds", "1", "--tuning", "top1"]
    told = CliRunner().invoke(app, ["compare", *words, "--out", str(tmp_path / "out")])
    assert told.exit_code == 0, told.output
    stored = json.loads((tmp_path / "out" / "compare.json").read_bytes())
    assert (stored["settings"]["privacy"], stored["settings"]["tuning"]) == ("none", "top1")
    assert [(row["way"], row["seeds"]) for row in stored["rows"]] == [("centralised", [7]), ("federated", [7]), ("floor", [7])]
    plain = " ".join(CliRunner().invoke(app, ["compare", "--help"]).output.split())
    assert f"[default: {DEFAULT_MODELS}]" in plain.replace(", ", ",") or DEFAULT_MODELS in plain
    assert "--privacy" in plain
    assert "--model " not in plain
    refused = CliRunner().invoke(app, ["compare", "--models", "bert-of-nowhere"])
    assert isinstance(refused.exception, Refusal)


@pytest.mark.slow
def test_ctrl_c_ends_the_command_with_130_and_the_same_command_goes_on(
    tmp_path: Path, shared: Settings, body: Path, interrupted: Interrupted
) -> None:
    folder = tmp_path / "out"
    words = [
        "--data",
        shared().data,
        "--clients",
        "3",
        "--rounds",
        "400",
        "--models",
        f"tfidf,{body}",
        "--seeds",
        "1",
        "--only",
        "federated",
    ]
    command = ["compare", *words, "--tuning", "full", "--out", str(folder)]
    status, output = interrupted(command, (folder / "running" / "rounds.jsonl").exists)
    assert status == 130
    assert "Traceback" not in output
    assert "stopped after 1 of 2 cells" in output
    assert f"the same command with --out {folder} goes on from here" in output.replace("\n", "")
    assert (folder / "compare.md").exists()
    assert not list(folder.glob("running*"))
