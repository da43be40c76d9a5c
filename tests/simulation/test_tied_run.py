"""A run that is continued rests on the entries and the body that it was begun with, or is refused before anything is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from model.refusal import Refusal
from model.settings import RunSettings
from server.journal import Journal
from simulation.run import prepare, resume, run_experiment

NEW_ROWS = ["새로 쓴 산책이 좋았다,기쁨,author0", "새로 쓴 이별에 울었다,슬픔,author1"]


@pytest.fixture
def begun(tmp_path: Path, small: Callable[..., RunSettings], body: Path) -> RunSettings:
    """The settings of a run of three rounds that was stopped after the first; data and body lie in ``tmp_path``."""
    own = shutil.copytree(body, tmp_path / "body")
    settings = small(model=str(own), start="", rounds=3, clients=2, privacy="none", fraction_evaluate=0.0, max_tokens=32)

    def stop(answered: int, journal: Journal) -> None:
        if journal.rounds():
            raise KeyboardInterrupt

    assert run_experiment(prepare(settings), tmp_path / "run", on_progress=stop).interrupted
    return settings


def rounds(folder: Path) -> int:
    return len(Journal(folder).rounds())


def test_rows_that_are_added_to_the_data_are_refused_by_resume_and_their_removal_is_not(begun: RunSettings, tmp_path: Path) -> None:
    data, run = Path(begun.data), tmp_path / "run"
    before, done = data.read_bytes(), rounds(run)
    data.write_bytes(before + ("\n" + "\n".join(NEW_ROWS)).encode())
    with pytest.raises(Refusal, match=r"the training entries( and the test entries)? of .* are no longer those that it was begun with"):
        run_experiment(resume(run), run)
    assert rounds(run) == done
    data.write_bytes(before)
    assert not run_experiment(resume(run), run).interrupted
    assert rounds(run) == 3


def test_a_label_that_changes_its_meaning_is_refused_by_resume(begun: RunSettings, tmp_path: Path) -> None:
    data, run = Path(begun.data), tmp_path / "run"
    lines = data.read_text(encoding="utf-8").split("\n")
    data.write_text("\n".join(line.replace(",기쁨,", ",분노,") for line in lines), encoding="utf-8")
    with pytest.raises(Refusal, match="training entries"):
        run_experiment(resume(run), run)


def test_other_weights_in_the_body_s_folder_are_refused_by_resume(begun: RunSettings, tmp_path: Path) -> None:
    run, done = tmp_path / "run", rounds(tmp_path / "run")
    config = BertConfig.from_dict(json.loads((tmp_path / "body" / "config.json").read_text()))
    torch.manual_seed(99)
    BertForSequenceClassification(config).save_pretrained(tmp_path / "body")
    with pytest.raises(Refusal, match=r"the model's body of .* are no longer those"):
        run_experiment(resume(run), run)
    assert rounds(run) == done


def test_a_damaged_tie_is_refused(begun: RunSettings, tmp_path: Path) -> None:
    (tmp_path / "run" / "tied.json").write_text("[")
    with pytest.raises(Refusal, match="damaged"):
        run_experiment(resume(tmp_path / "run"), tmp_path / "run")
