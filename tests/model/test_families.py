"""ELECTRA and RoBERTa folders at full size give transformers' own states and logits; wrapped names are unwrapped, NaN refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraModel,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from model.classifier import build_classifier
from model.hub import find_model
from model.refusal import Refusal

COMPACT = find_model("compact")
TEXTS = ["오늘은 정말 좋았다", "친구랑 싸웠다 너무 화가 난다 진짜", "끝"]
FULL: dict[str, tuple[type[PreTrainedModel], PretrainedConfig]] = {
    "KoELECTRA-small": (
        ElectraModel,
        ElectraConfig(vocab_size=8000, embedding_size=128, hidden_size=256, num_attention_heads=4, intermediate_size=1024, pad_token_id=1),
    ),
    "KcELECTRA-base": (
        ElectraModel,
        ElectraConfig(vocab_size=8000, embedding_size=768, hidden_size=768, num_attention_heads=12, intermediate_size=3072, pad_token_id=0),
    ),
    "KLUE-RoBERTa-base": (RobertaModel, RobertaConfig(vocab_size=8000, type_vocab_size=1, max_position_embeddings=514, pad_token_id=1)),
    "XLM-RoBERTa": (
        XLMRobertaModel,
        XLMRobertaConfig(vocab_size=8000, type_vocab_size=1, num_hidden_layers=4, max_position_embeddings=514),
    ),
}


def folder_of(path: Path, body: PreTrainedModel, *, prefix: str = "") -> Path:
    path.mkdir()
    save_file({prefix + name: value.contiguous().clone() for name, value in body.state_dict().items()}, str(path / "model.safetensors"))
    (path / "config.json").write_text(json.dumps(body.config.to_dict(), default=str))
    shutil.copy(COMPACT / "tokenizer.json", path)
    return path


def small(**keys: Any) -> BertModel:
    torch.manual_seed(4)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return BertModel(BertConfig(vocab_size=8000, pad_token_id=1, **(sizes | keys))).eval()


@pytest.mark.parametrize("name", FULL)
@pytest.mark.slow
def test_a_full_size_body_gives_transformers_own_states_and_logits(name: str, tmp_path: Path) -> None:
    kind, config = FULL[name]
    torch.manual_seed(3)
    body = kind(config).eval()
    classifier = build_classifier("some", folder_of(tmp_path / "body", body), dropout=0.0, seed=1)
    ids = classifier.encode(TEXTS, max_tokens=64)
    x, mask = classifier.pad(ids)
    with torch.no_grad():
        theirs = body(input_ids=x, attention_mask=mask).last_hidden_state
        head = classifier.blocks["head"]
        expected = head.classifier(torch.tanh(head.pooler(theirs[:, 0])))
        found = classifier.upper().eval()(x, mask)
    assert torch.allclose(found, expected, atol=1e-5)
    assert classifier.positions == 512
    assert classifier.pooled is (name not in ("KoELECTRA-small", "KcELECTRA-base"))


def test_the_last_position_of_a_roberta_body_is_used_and_no_later_one(tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = RobertaConfig(
        vocab_size=8000,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        pad_token_id=1,
    )
    classifier = build_classifier("some", folder_of(tmp_path / "body", RobertaModel(config)), dropout=0.0, seed=1)
    assert classifier.positions == 38
    [ids] = classifier.encode(["가 " * 60], max_tokens=classifier.positions)
    assert len(ids) == 38
    assert torch.isfinite(classifier.upper().eval()(ids[None], torch.ones(1, 38, dtype=torch.int64))).all()


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "bert.", "module.bert.", "model._orig_mod.bert.", ""])
def test_what_wraps_a_body_s_names_is_taken_off(prefix: str, tmp_path: Path) -> None:
    body = small()
    plain = build_classifier("some", folder_of(tmp_path / "plain", body), dropout=0.0, seed=1)
    wrapped = build_classifier("some", folder_of(tmp_path / "wrapped", body, prefix=prefix), dropout=0.0, seed=1)
    assert wrapped.base_digest == plain.base_digest
    assert wrapped.pooled


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_body_with_a_number_that_is_not_finite_is_refused(value: float, tmp_path: Path) -> None:
    body = small()
    with torch.no_grad():
        body.encoder.layer[0].output.dense.weight[3, 2] = value
    with pytest.raises(Refusal, match=r"'encoder\.layer\.0\.output\.dense\.weight' that is not finite"):
        build_classifier("some", folder_of(tmp_path / "body", body), dropout=0.0, seed=1)


def test_a_family_that_is_not_known_names_those_that_are(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "body", small())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(Refusal, match="of type 'gpt2'; choose one of bert, electra, roberta, xlm-roberta"):
        build_classifier("some", folder, dropout=0.0, seed=1)


def test_an_electra_body_with_other_weights_than_its_config_is_refused(tmp_path: Path) -> None:
    kind, config = (
        ElectraModel,
        ElectraConfig(vocab_size=8000, embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
    )
    folder = folder_of(tmp_path / "body", kind(config))
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"embedding_size": 16}))
    with pytest.raises(Refusal, match=r"they do not belong to its config\.json"):
        build_classifier("some", folder, dropout=0.0, seed=1)
