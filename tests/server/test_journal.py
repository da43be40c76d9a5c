"""The run's files: whole at every moment, and the same after a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from model.refusal import Refusal
from model.settings import RunSettings
from model.weights import Weights
from server.journal import Journal, RoundRecord

RECORD = RoundRecord(1, 3, 0.5, 0.6, 1.2, 2.5, 1e-4, 0.27, 1.0, {}, {})
KEYS = {"round", "clients", "macro_f1", "accuracy", "cross_entropy", "epsilon_max", "delta", "mb_sent_per_client", "seconds"}


def publish(journal: Journal, record: RoundRecord) -> None:
    weights = Weights({"a": np.full(3, record.round, dtype=np.float32)})
    journal.checkpoints.publish(
        weights, model="compact", tuning="head", base_digest="b", tokenizer_digest="t", round=record.round, scores=asdict(record)
    )


def test_a_line_a_round_with_the_promised_keys(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for round in (1, 2):
        journal.append(replace(RECORD, round=round))
    lines = [json.loads(line) for line in (tmp_path / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert all(set(line) >= KEYS for line in lines)


def test_a_round_published_just_before_a_crash_gets_its_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    publish(journal, RECORD)
    journal.append(RECORD)
    publish(journal, replace(RECORD, round=2, macro_f1=0.7))
    assert Journal(tmp_path).catch_up() == 2
    assert [record.macro_f1 for record in journal.rounds()] == [0.5, 0.7]
    assert Journal(tmp_path).catch_up() == 2
    assert len(journal.rounds()) == 2


def test_a_line_cut_short_is_made_whole_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for round in (1, 2):
        publish(journal, replace(RECORD, round=round))
        journal.append(replace(RECORD, round=round))
    path = tmp_path / "rounds.jsonl"
    path.write_bytes(path.read_bytes()[:-15])
    assert [record.round for record in journal.rounds()] == [1]
    assert Journal(tmp_path).catch_up() == 2
    assert [record.round for record in journal.rounds()] == [1, 2]


def test_settings_come_back_as_they_were(tmp_path: Path, small: Callable[..., RunSettings]) -> None:
    settings = small(data="내 일기.tsv", epsilon=3.5)
    Journal(tmp_path).begin(settings)
    assert Journal.settings_of(tmp_path) == settings


def test_damaged_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"settings\.json"):
        Journal.settings_of(tmp_path)
    (tmp_path / "settings.json").write_text('{"model": ')
    with pytest.raises(Refusal, match="damaged"):
        Journal.settings_of(tmp_path)
    (tmp_path / "asked").write_text("many")
    with pytest.raises(Refusal, match="damaged"):
        Journal(tmp_path).most_asked()
