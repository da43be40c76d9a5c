"""How the body is made: which texts teach which regression, what the kinds are read from, and a missing source is one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from model.classifier import build_classifier
from model.emotion_corpora import written_row, written_rows
from model.hub import find_model
from model.pretrain import COMMENTS, _regressions, kind_inputs

ROOT = Path(__file__).resolve().parents[2]


def test_comments_weigh_less_than_diaries_and_have_a_regression_of_their_own() -> None:
    written = [written_row("가", "joy"), written_row("나", "plain"), written_row("다", "mixed")]
    comments = [written_row("라", "anger"), written_row("마", "none"), written_row("바", "anxiety")]
    diaries, strangers, kinds = _regressions([*written, *comments], len(written))
    assert (list(diaries.rows), list(diaries.classes), list(diaries.weights)) == ([0, 3, 5], [0, 2, 3], [1.0, COMMENTS, COMMENTS])
    assert (list(strangers.rows), list(strangers.classes), list(strangers.weights)) == ([3, 5], [2, 3], [1.0, 1.0])
    assert (list(kinds.rows), list(kinds.classes)) == ([0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 0])
    assert list(kinds.weights) == [1.0, 1.0, 1.0, COMMENTS, COMMENTS, COMMENTS]


def test_the_kinds_read_the_pooled_state_and_the_words_features_of_each_text() -> None:
    folder = find_model("compact")
    classifier = build_classifier("compact", folder, dropout=0.0, seed=0)
    kinds = classifier.blocks["kinds"]
    texts = ["오늘은 좋았다", "버스를 탔다"]
    inputs = torch.from_numpy(kind_inputs(classifier, texts))
    logits = inputs @ kinds.weight.T + kinds.bias
    classifier.cut = len(classifier.blocks) - 1
    found = torch.stack(classifier.lower(classifier.encode(texts, max_tokens=64)))[:, 0, -3:]
    assert torch.allclose(found, logits, atol=1e-5)


def test_the_shares_of_the_written_texts_have_no_person_in_common() -> None:
    from model.written_texts import written_texts

    people = {split: {text.author for text in written_texts() if text.split == split and text.date} for split in ("body", "head", "test")}
    assert len(people["body"] | people["head"] | people["test"]) == sum(map(len, people.values())) == 180
    assert len(people["test"]) == 12
    assert {row.kind for row in written_rows("head")} == {0, 1, 2}


def test_a_missing_corpus_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "healing",
        "model",
        "pretrain",
        "--data",
        str(tmp_path),
        "--e5",
        "none.bin",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "name the folder that holds" in done.stderr
    assert not (tmp_path / "out").exists()
