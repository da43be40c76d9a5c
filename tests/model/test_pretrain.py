"""How the compact model is made: its vocabulary, its batches and masks, and that a killed run ends where another would."""

from __future__ import annotations

import json
import math
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertForMaskedLM

from model.classifier import build_classifier
from model.corpora import Sentence
from model.normalization import normalized
from model.pretrain import (
    MASK,
    PAD,
    SPECIAL_TOKENS,
    PretrainSettings,
    Progress,
    Reader,
    _hide_tokens,
    _length_batches,
    _trapezoid,
    export_body,
    learn_vocabulary,
    pretrain,
)
from model.refusal import Refusal

TEXTS = [
    f"{who} {what} {mood}"
    for who in ("나는", "친구가", "엄마는")
    for what in ("웃었다", "울었다", "걸었다")
    for mood in ("ㅋㅋㅋㅋ", "ㅠㅠ", "!")
] * 5


@pytest.fixture(scope="module")
def bundled() -> Tokenizer:
    return Tokenizer.from_str((resources.files("model") / "assets" / "compact" / "tokenizer.json").read_text(encoding="utf-8"))


def test_a_vocabulary_is_learned_in_kobert_s_layout() -> None:
    learned = learn_vocabulary(TEXTS, size=60)
    assert [learned.id_to_token(number) for number in range(5)] == list(SPECIAL_TOKENS)
    assert learned.encode("나는 웃었다").ids[0] == 2
    assert learned.encode("나는 웃었다").ids[-1] == 3
    assert learned.decode(learned.encode("친구가 울었다 ㅠㅠ").ids) == "친구가 울었다 ㅠㅠ"


def test_the_bundled_vocabulary_has_the_same_rules_and_8000_pieces(bundled: Tokenizer) -> None:
    assert bundled.get_vocab_size() == 8000
    assert [bundled.id_to_token(number) for number in range(5)] == list(SPECIAL_TOKENS)
    assert str(bundled.normalizer) == str(learn_vocabulary(TEXTS, size=60).normalizer)


@pytest.mark.parametrize("text", ["ㅋㅋㅋㅋ 진짜 웃겨", "보고 싶다 ㅠㅠ", "ㅜㅜ", "안 행복해", "화가 난다😡"])
def test_the_marks_of_mood_are_known_pieces_after_the_text_step(bundled: Tokenizer, text: str) -> None:
    assert 0 not in bundled.encode(normalized(text)).ids
    assert bundled.decode(bundled.encode(normalized(text)).ids) == normalized(text)


def test_split_letters_are_composed_before_they_are_read(bundled: Tokenizer) -> None:
    import unicodedata

    assert bundled.encode(unicodedata.normalize("NFD", "행복했다")).ids == bundled.encode("행복했다").ids


# pretraining


CONFIG = {
    "model_type": "bert", "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 24, "pad_token_id": PAD,
}  # fmt: skip
SETTINGS = PretrainSettings(tokens=3000, batch_tokens=96, max_tokens=16, labelled_copies=2)
SENTENCES = [
    Sentence(text, rating=number % 11 if number % 3 else 0, labels=frozenset({number % 28}) if number % 3 == 0 else None)
    for number, text in enumerate(TEXTS)
]


@pytest.fixture(scope="module")
def learned() -> Tokenizer:
    return learn_vocabulary(TEXTS, size=60)


def state(folder: Path) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = load_file(str(folder / "state.safetensors"))
    return stored


def test_a_killed_pretraining_ends_at_the_weights_of_one_that_was_not(tmp_path: Path, learned: Tokenizer) -> None:
    config = BertConfig.from_dict(CONFIG)
    whole = pretrain(SENTENCES, learned, config, tmp_path / "whole", SETTINGS, on_progress=lambda at: None)

    class Killed(Exception):
        pass

    def kill(at: Progress) -> None:
        if at.step == 11:
            raise Killed

    with pytest.raises(Killed):  # the checkpoint of step 10 is there, step 11 was never written
        pretrain(SENTENCES, learned, config, tmp_path / "killed", SETTINGS, on_progress=kill, save_every=0.0)
    resumed = pretrain(SENTENCES, learned, config, tmp_path / "killed", SETTINGS, on_progress=lambda at: None)
    assert (resumed.tokens, resumed.step) == (whole.tokens, whole.step)
    assert whole.tokens >= SETTINGS.tokens
    one, two = state(tmp_path / "whole"), state(tmp_path / "killed")
    assert set(one) == set(two)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_pretraining_learns_what_it_is_shown(tmp_path: Path, learned: Tokenizer) -> None:
    seen: list[Progress] = []
    settings = PretrainSettings(tokens=40_000, batch_tokens=256, max_tokens=16, learning_rate=5e-3)
    last = pretrain(SENTENCES, learned, BertConfig.from_dict(CONFIG), tmp_path, settings, on_progress=seen.append)
    assert seen[0].masked_loss == pytest.approx(math.log(60), rel=0.1)  # at first every piece is as likely as another
    assert last.masked_loss < 0.7 * seen[0].masked_loss
    assert last.label_loss < 0.7 * seen[0].label_loss


def test_a_state_of_other_settings_is_refused_and_left_as_it_is(tmp_path: Path, learned: Tokenizer) -> None:
    pretrain(SENTENCES, learned, BertConfig.from_dict(CONFIG), tmp_path, SETTINGS, on_progress=lambda at: None)
    before = (tmp_path / "state.safetensors").read_bytes()
    other = PretrainSettings(tokens=3000, batch_tokens=96, max_tokens=16, labelled_copies=2, seed=8)
    with pytest.raises(Refusal, match="other settings"):
        pretrain(SENTENCES, learned, BertConfig.from_dict(CONFIG), tmp_path, other, on_progress=lambda at: None)
    assert (tmp_path / "state.safetensors").read_bytes() == before


def test_the_exported_folder_is_read_by_transformers_and_by_us(tmp_path: Path, learned: Tokenizer) -> None:
    config = BertConfig.from_dict(CONFIG)
    pretrain(SENTENCES, learned, config, tmp_path, SETTINGS, on_progress=lambda at: None)
    export_body(tmp_path, learned, CONFIG, tmp_path / "folder")
    classifier = build_classifier(str(tmp_path / "folder"), tmp_path / "folder", dropout=0.0, seed=1)
    assert classifier.pretrained
    exported = load_file(str(tmp_path / "folder" / "model.safetensors"))
    for name, value in state(tmp_path).items():
        if name.startswith("model:bert."):
            assert torch.equal(exported[name.removeprefix("model:bert.")], value.half())


def test_the_masked_loss_is_that_of_transformers_on_the_same_weights() -> None:
    config = BertConfig.from_dict(CONFIG)
    torch.manual_seed(3)
    reader = Reader(config).eval()
    peer = BertForMaskedLM(config).eval()
    peer.bert.load_state_dict(reader.bert.state_dict(), strict=False)
    peer.cls.predictions.transform.dense.load_state_dict(reader.transform[0].state_dict())
    peer.cls.predictions.transform.LayerNorm.load_state_dict(reader.transform[2].state_dict())
    peer.cls.predictions.transform.LayerNorm.eps = reader.transform[2].eps
    peer.cls.predictions.decoder.weight = peer.bert.embeddings.word_embeddings.weight
    ids = torch.randint(5, 60, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    chosen = mask.bool() & (torch.rand(ids.shape) < 0.5)
    positions = torch.arange(9).repeat(3, 1)
    logits, _, _ = reader(ids, mask, positions, chosen)
    wanted = peer(input_ids=ids, attention_mask=mask, labels=torch.where(chosen, ids, -100)).loss
    assert torch.nn.functional.cross_entropy(logits, ids[chosen]).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_fifth_is_hidden_as_bert_hides_it() -> None:
    ids = torch.randint(5, 8000, (400, 50))
    ids[:, 0], ids[:, -1] = 2, 3
    ids[:200, 40:] = PAD
    hidden, chosen = _hide_tokens(ids, 8000, 0.2, torch.Generator().manual_seed(1))
    assert not chosen[ids <= MASK].any()
    assert torch.equal(hidden[~chosen], ids[~chosen])
    share = chosen.sum() / (ids > MASK).sum()
    assert share.item() == pytest.approx(0.2, abs=0.01)
    kinds = [(hidden[chosen] == MASK), (hidden[chosen] == ids[chosen])]
    assert [kind.float().mean().item() for kind in kinds] == pytest.approx([0.8, 0.1], abs=0.02)


def test_every_epoch_shows_every_sentence_once_in_batches_of_the_size() -> None:
    lengths = np.random.default_rng(1).integers(3, 17, size=500).tolist()
    batches = _length_batches(lengths, SETTINGS)
    seen: list[int] = []
    while len(seen) < 500:
        batch = next(batches)
        assert len(batch) * max(lengths[row] for row in batch) <= SETTINGS.batch_tokens
        seen += batch
    assert sorted(seen) == list(range(500))


def test_the_learning_rate_rises_stays_and_falls_to_nothing() -> None:
    assert _trapezoid(0.0, SETTINGS) < 0.01
    assert _trapezoid(0.25, SETTINGS) == 1.0
    assert _trapezoid(0.65, SETTINGS) == pytest.approx(0.5)
    assert _trapezoid(1.0, SETTINGS) == 0.0


def test_no_sentence_is_refused(tmp_path: Path, learned: Tokenizer) -> None:
    with pytest.raises(Refusal, match="no sentence"):
        pretrain([], learned, BertConfig.from_dict(CONFIG), tmp_path, SETTINGS, on_progress=lambda at: None)


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong in ({"tokens": 0}, {"batch_tokens": 64, "max_tokens": 128}, {"learning_rate": 0.0}):
        with pytest.raises(Refusal):
            PretrainSettings(**wrong)  # type: ignore[arg-type]


def test_the_state_says_where_it_stands(tmp_path: Path, learned: Tokenizer) -> None:
    from safetensors import safe_open

    at = pretrain(SENTENCES, learned, BertConfig.from_dict(CONFIG), tmp_path, SETTINGS, on_progress=lambda at: None)
    with safe_open(str(tmp_path / "state.safetensors"), framework="pt") as stored:
        assert Progress(**json.loads(stored.metadata()["progress"])) == at
