"""The body learns emotion: each output by its own targets alone, and a killed run ends where another would."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import BertConfig, BertModel

from model.emotion_training import (
    EmotionProgress,
    EmotionReader,
    EmotionRow,
    EmotionTrainingSettings,
    _length_batches,
    emotion_loss,
    targets_of,
    train_emotion,
)
from model.hub import find_model
from model.refusal import Refusal
from model.tokenizer import load_tokenizer

COMPACT = find_model("compact")
ROWS = [
    EmotionRow(text=f"{text} {number}", emotion=emotion, kind=kind, kote=labels)
    for number in range(6)
    for text, emotion, kind, labels in (
        ("좋은 하루였다", 0, 0, frozenset({42})),
        ("텅 빈 방이다", 1, 0, None),
        ("버스를 탔다", None, 1, None),
        ("웃다가 울었다", None, 2, frozenset({5, 40})),
    )
]


@pytest.fixture
def body(tmp_path: Path) -> Path:
    folder = tmp_path / "body"
    folder.mkdir()
    rules = json.loads((COMPACT / "tokenizer.json").read_text(encoding="utf-8"))
    size = len(rules["model"]["vocab"])
    config = BertConfig(
        vocab_size=size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        pad_token_id=1,
    )
    torch.manual_seed(1)
    save_file(dict(BertModel(config, add_pooling_layer=False).state_dict()), str(folder / "model.safetensors"))
    (folder / "config.json").write_text(config.to_json_string())
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    return folder


def trained(body: Path, out: Path, *, stop_at: int | None = None, **settings: float) -> EmotionProgress:
    def on_progress(at: EmotionProgress) -> None:
        if at.step == stop_at:
            raise KeyboardInterrupt

    values: dict[str, Any] = {"epochs": 3, "batch_tokens": 80, "max_tokens": 32} | settings
    chosen = EmotionTrainingSettings(**values)
    tokenizer = load_tokenizer(body, pad_id=1)
    return train_emotion(body, tokenizer, ROWS, out, chosen, on_progress=on_progress, save_every=0.0)


def test_a_killed_run_ends_at_the_weights_of_one_that_was_not(body: Path, tmp_path: Path) -> None:
    whole = trained(body, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(body, tmp_path / "cut", stop_at=5)
    again = trained(body, tmp_path / "cut")
    assert again.step == whole.step
    one, other = (load_file(str(tmp_path / name / "state.safetensors")) for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns_what_it_is_shown(body: Path, tmp_path: Path) -> None:
    at = trained(body, tmp_path / "out", epochs=40, learning_rate=3e-3)
    assert at.emotion_loss < 0.5 * math.log(4)


def test_a_state_of_other_settings_is_refused(body: Path, tmp_path: Path) -> None:
    trained(body, tmp_path / "out")
    with pytest.raises(Refusal, match="belongs to another run"):
        trained(body, tmp_path / "out", epochs=4)


def test_a_row_does_not_show_its_text() -> None:
    assert "좋은" not in repr(ROWS[0])


def test_no_rows_are_refused(body: Path, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no sentence to train on"):
        train_emotion(body, load_tokenizer(body, pad_id=1), [], tmp_path / "o", EmotionTrainingSettings(), on_progress=lambda at: None)


def test_the_loss_is_the_sum_of_each_row_s_own_targets(body: Path) -> None:
    """Against a loop over the rows, one target at a time."""
    torch.manual_seed(2)
    rows = [*ROWS[:4], EmotionRow(text="별점", rating=3), EmotionRow(text="번역", emotion=3, goemotions=frozenset({14}), weight=0.3)]
    reader = EmotionReader(BertConfig.from_dict(json.loads((body / "config.json").read_text())), 0.0).eval()
    outputs = reader(torch.randint(5, 90, (len(rows), 7)), torch.ones(len(rows), 7, dtype=torch.int64))
    weights = torch.tensor([1.0, 2.0, 0.5, 0.5])
    total, emotion, kind = emotion_loss(outputs, targets_of(rows), weights)
    expected = torch.zeros(())
    for at, row in enumerate(rows):
        if row.emotion is not None:
            expected = expected - row.weight * weights[row.emotion] * outputs["emotion"][at].log_softmax(0)[row.emotion]
        if row.kind is not None:
            expected = expected - 0.5 * row.weight * outputs["kind"][at].log_softmax(0)[row.kind]
        if row.rating is not None:
            expected = expected - 0.3 * outputs["rating"][at].log_softmax(0)[row.rating - 1]
        for name, labels in (("kote", row.kote), ("goemotions", row.goemotions)):
            if labels is not None:
                hot = torch.zeros(outputs[name].shape[1])
                hot[list(labels)] = 1
                expected = expected + 4.0 * functional.binary_cross_entropy_with_logits(outputs[name][at], hot)
    assert total.item() == pytest.approx(expected.item() / len(rows), rel=1e-5)
    assert emotion is not None
    assert kind is not None


def test_batches_hold_every_shown_row_once_and_no_more_tokens_than_allowed() -> None:
    shown, lengths = [0, 1, 1, 2, 3, 3, 3], [5, 9, 30, 12]
    batches = _length_batches(shown, lengths, 40, [7, 0])
    assert sorted(row for batch in batches for row in batch) == shown
    assert all(len(batch) * max(lengths[row] for row in batch) <= 40 for batch in batches)
    assert batches == _length_batches(shown, lengths, 40, [7, 0])
    assert batches != _length_batches(shown, lengths, 40, [7, 1])
