"""The classifier: equal to transformers' BERT, blind to padding, the same on every device, and strict about its folder."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from model.classifier import EmotionClassifier, build_classifier, source_of
from model.hub import find_model
from model.refusal import Refusal
from model.settings import RunSettings
from model.tuning import tune, tuned_classifier
from model.weights import Weights

ASSETS = find_model("compact").parent
TEXTS = [
    "좋다",
    "버스를 놓쳐서 한참을 걸었는데 길가에 핀 꽃이 예뻐서 괜찮았다",
    "왜 나만 늦게까지 남아야 하지?",
    "",
    "내일 결과가 나온다고 생각하면 잠이 안 온다. 물도 안 넘어가고 자꾸 시계만 본다 ㅠㅠ",
]


def small_config(**more: Any) -> BertConfig:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    return BertConfig(vocab_size=400, max_position_embeddings=80, pad_token_id=1, num_labels=4, **(sizes | more))


def save_folder(folder: Path, bert: BertForSequenceClassification) -> Path:
    """A model folder in the hub's layout, with the first four hundred pieces of the compact model's tokenizer."""
    bert.save_pretrained(folder)
    rules = json.loads((ASSETS / "compact/tokenizer.json").read_text(encoding="utf-8"))
    rules["model"]["vocab"] = rules["model"]["vocab"][:400]
    (folder / "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bert() -> BertForSequenceClassification:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = BertForSequenceClassification(small_config(initializer_range=0.2)).eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)  # also biases and LayerNorms, which otherwise start at 0 and 1
    return model


@pytest.fixture(scope="module")
def folder(bert: BertForSequenceClassification, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("bert"), bert)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder of its own, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def build(folder: Path, *, seed: int = 1, name: str = "") -> EmotionClassifier:
    return build_classifier(name or str(folder), folder, dropout=0.3, seed=seed).eval()


def with_head_of(bert: BertForSequenceClassification, classifier: EmotionClassifier) -> EmotionClassifier:
    head: Any = classifier.blocks["head"]
    head.classifier.load_state_dict(bert.classifier.state_dict())
    return classifier


@torch.no_grad()
def logits_of(bert: BertForSequenceClassification, classifier: EmotionClassifier) -> Tensor:
    """What transformers gives for each text alone, unpadded."""
    rows = [bert(input_ids=ids[None]).logits for ids in classifier.encode(TEXTS, max_tokens=64)]
    return torch.cat(rows)


@torch.no_grad()
def own_logits(classifier: EmotionClassifier) -> Tensor:
    logits: Tensor = classifier.upper().eval()(*classifier.pad(classifier.lower(classifier.encode(TEXTS, max_tokens=64))))
    return logits


# the same function as transformers'


def test_a_bert_body_gives_the_logits_of_transformers(bert: BertForSequenceClassification, folder: Path) -> None:
    classifier = with_head_of(bert, build(folder))
    wanted = logits_of(bert, classifier)
    assert wanted.std() > 0.1  # the comparison could fail
    torch.testing.assert_close(own_logits(classifier), wanted, atol=1e-5, rtol=0)


def test_a_pytorch_model_bin_gives_the_logits_of_transformers(bert: BertForSequenceClassification, copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    torch.save(bert.state_dict(), copy / "pytorch_model.bin")
    classifier = with_head_of(bert, build(copy))
    torch.testing.assert_close(own_logits(classifier), logits_of(bert, classifier), atol=1e-5, rtol=0)


def renamed_body(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("bert."): value for key, value in state.items() if key.startswith("bert.")}


def named_as_in_tensorflow(state: dict[str, Tensor]) -> dict[str, Tensor]:
    # As in the safetensors of bert-base-uncased, converted from Google's TensorFlow files (huggingface/candle #1887).
    return {key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for key, v in state.items()}


def in_half_precision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.half() for key, value in state.items()}


@pytest.mark.parametrize(("change", "tolerance"), [(renamed_body, 1e-5), (named_as_in_tensorflow, 1e-5), (in_half_precision, 2e-2)])
def test_weights_are_found_under_every_usual_name_and_precision(
    bert: BertForSequenceClassification, copy: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], tolerance: float
) -> None:
    save_file(change({key: value.clone() for key, value in bert.state_dict().items()}), str(copy / "model.safetensors"))
    classifier = with_head_of(bert, build(copy))
    torch.testing.assert_close(own_logits(classifier), logits_of(bert, classifier), atol=tolerance, rtol=0)


def test_the_lstm_gives_what_plain_pytorch_gives_for_one_entry() -> None:
    classifier = build(ASSETS / "compact", name="lstm")
    blocks: Any = classifier.blocks
    for text, own in zip(TEXTS, own_logits(classifier), strict=True):
        ids = classifier.encode([text], max_tokens=64)[0][None]
        with torch.no_grad():
            states = blocks["lstm"].lstm(nn.functional.embedding(ids, blocks["embeddings"].table.weight))[0]
            pooled = torch.tanh(nn.functional.linear(states.mean(dim=1), *blocks["head"].pooler.parameters()))
            wanted = nn.functional.linear(pooled, *blocks["head"].classifier.parameters())
        torch.testing.assert_close(own, wanted[0], atol=1e-5, rtol=0)


# padding, batches, cuts

BODIES = ["folder", "compact", "lstm"]


@pytest.fixture
def body(request: pytest.FixtureRequest, folder: Path) -> EmotionClassifier:
    classifier = build(folder) if request.param == "folder" else build(ASSETS / "compact", name=request.param)
    head: Any = classifier.blocks["head"]
    with torch.no_grad():
        head.classifier.weight.mul_(20)  # so that entries differ by much more than a rounding
    return classifier


@pytest.mark.parametrize("body", BODIES, indirect=True)
def test_an_entry_has_the_same_probabilities_alone_and_in_a_padded_batch(body: EmotionClassifier) -> None:
    together = body.probabilities(TEXTS, max_tokens=64)
    alone = np.concatenate([body.probabilities([text], max_tokens=64) for text in TEXTS])
    assert np.ptp(together, axis=0).max() > 3e-4
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("body", BODIES, indirect=True)
def test_what_stands_in_the_padding_changes_nothing(body: EmotionClassifier) -> None:
    x, mask = body.pad(body.encode(TEXTS, max_tokens=64))
    noise = torch.where(mask == 1, x, torch.randint(5, 400, x.shape, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(noise, x)
    with torch.no_grad():
        torch.testing.assert_close(body.upper()(noise, mask), body.upper()(x, mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize("body", BODIES, indirect=True)
def test_probabilities_are_a_distribution_in_the_order_of_the_texts(body: EmotionClassifier) -> None:
    forwards = body.probabilities(TEXTS, max_tokens=64, batch_size=2)
    assert forwards.shape == (5, 4)
    np.testing.assert_allclose(forwards.sum(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(body.probabilities(TEXTS[::-1], max_tokens=64, batch_size=3)[::-1], forwards, atol=1e-5)


@pytest.mark.parametrize("body", BODIES, indirect=True)
def test_wherever_the_chain_is_cut_both_halves_equal_the_uncut_model(body: EmotionClassifier) -> None:
    whole = own_logits(body)
    for cut in range(len(body.blocks)):
        body.cut = cut
        torch.testing.assert_close(own_logits(body), whole, atol=1e-5, rtol=0, msg=f"cut before block {cut}")


@pytest.mark.parametrize("tuning", ["head", "top2", "lora", "full"])
def test_every_tuning_starts_as_the_uncut_model(folder: Path, tuning: str) -> None:
    torch.testing.assert_close(own_logits(tune(build(folder), tuning, seed=1)), own_logits(build(folder)), atol=1e-5, rtol=0)


def test_the_trunk_gives_each_entry_its_own_length_without_padding(folder: Path) -> None:
    classifier = tune(build(folder), "top2", seed=1)
    ids = classifier.encode(TEXTS, max_tokens=64)
    assert [tuple(row.shape) for row in classifier.lower(ids)] == [(len(entry), 16) for entry in ids]
    assert [tuple(row.shape) for row in tune(build(folder), "head", seed=1).lower(ids)] == [(1, 16)] * len(ids)


def test_the_trunk_runs_without_dropout_also_while_the_model_trains(folder: Path) -> None:
    classifier = tune(build(folder), "head", seed=1).train()
    ids = classifier.encode(TEXTS, max_tokens=64)
    assert all(torch.equal(a, b) for a, b in zip(classifier.lower(ids), classifier.lower(ids), strict=True))


def test_no_entries_give_no_rows_and_no_probabilities(folder: Path) -> None:
    classifier = tune(build(folder), "head", seed=1)
    assert classifier.lower([]) == []
    assert classifier.probabilities([], max_tokens=64).shape == (0, 4)


def test_scores_count_what_the_probabilities_say(folder: Path) -> None:
    classifier = build(folder)
    labels = np.array([0, 1, 2, 3, 0])
    predicted = classifier.probabilities(TEXTS, max_tokens=64).argmax(axis=1)
    scores = classifier.score(classifier.lower(classifier.encode(TEXTS, max_tokens=64)), torch.from_numpy(labels))
    assert scores.accuracy == pytest.approx((predicted == labels).mean())


# the pad id


@pytest.mark.parametrize("pad_id", [0, 1, 3])
def test_the_pad_id_is_read_from_the_config(copy: Path, pad_id: int) -> None:
    config = json.loads((copy / "config.json").read_text()) | {"pad_token_id": pad_id}
    (copy / "config.json").write_text(json.dumps(config))
    classifier = build(copy)
    x, mask = classifier.pad([torch.tensor([2, 5, 3]), torch.tensor([2, 5, 6, 7, 3])])
    assert x.tolist() == [[2, 5, 3, pad_id, pad_id], [2, 5, 6, 7, 3]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_the_bundled_models_pad_with_one() -> None:
    for name in ("compact", "lstm"):
        assert build(ASSETS / "compact", name=name).tokenizer.pad_id == 1


# the same on every device


@pytest.mark.parametrize("name", ["compact", "lstm", "folder"])
def test_two_builds_are_the_same_model_whatever_happened_to_the_random_numbers(folder: Path, name: str) -> None:
    where = folder if name == "folder" else ASSETS / "compact"
    torch.manual_seed(1)
    one = build(where, name="" if name == "folder" else name)
    torch.manual_seed(2)
    two = build(where, name="" if name == "folder" else name)
    assert one.base_digest == two.base_digest
    assert one.read().digest == two.read().digest


def test_building_leaves_the_random_numbers_of_the_program_alone(folder: Path) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    tune(build(folder), "lora", seed=1)
    build(ASSETS / "compact", name="lstm")
    assert torch.equal(torch.rand(3), wanted)


def test_the_seed_draws_the_head_and_not_the_body(folder: Path) -> None:
    one, two = build(folder, seed=1), build(folder, seed=2)
    differ = {name for name in one.read() if not np.array_equal(one.read()[name], two.read()[name])}
    assert differ == {"head.classifier.weight"}
    assert one.base_digest == two.base_digest


def test_one_changed_value_of_the_body_changes_the_base_digest(folder: Path, copy: Path) -> None:
    state = load_file(str(copy / "model.safetensors"))
    state["bert.encoder.layer.1.output.dense.weight"][3, 2] += 1e-3
    save_file(state, str(copy / "model.safetensors"))
    assert build(copy).base_digest != build(folder).base_digest


def test_two_bodies_that_pool_differently_do_not_share_a_base_digest(folder: Path, copy: Path) -> None:
    # The same weights, but another function: what one trains does not fit the other, and their trunk caches differ.
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"pooling": "mean"}))
    first_token, mean = build(folder), build(copy)
    assert not torch.allclose(own_logits(first_token), own_logits(mean))
    assert first_token.base_digest != mean.base_digest
    (copy / "config.json").write_text(json.dumps(config | {"pooling": "max"}))
    with pytest.raises(Refusal, match="it must be cls or mean"):
        build(copy)


@pytest.mark.parametrize("change", [{"num_attention_heads": 4}, {"hidden_act": "relu"}, {"layer_norm_eps": 0.1}])
def test_two_bodies_of_another_config_do_not_share_a_base_digest(folder: Path, copy: Path, change: dict[str, Any]) -> None:
    (copy / "config.json").write_text(json.dumps(json.loads((copy / "config.json").read_text()) | change))
    assert not torch.allclose(own_logits(build(folder)), own_logits(build(copy)))
    assert build(folder).base_digest != build(copy).base_digest


# reading and writing the trained parameters


def test_what_is_read_can_be_written_into_another_build(folder: Path) -> None:
    one, two = (tune(build(folder, seed=seed), "top2", seed=1) for seed in (1, 2))
    assert one.read().digest != two.read().digest
    two.write(one.read())
    assert one.read().digest == two.read().digest
    assert torch.equal(own_logits(one), own_logits(two))


def test_what_was_read_is_a_copy(folder: Path) -> None:
    classifier = build(folder)
    before = classifier.read()
    digest = Weights(dict(before.arrays)).digest
    classifier.write(before.scale(2.0))
    assert Weights(dict(before.arrays)).digest == digest


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_of_other_names_or_shapes_are_not_written(folder: Path, change: str) -> None:
    classifier = tune(build(folder), "head", seed=1)
    arrays = dict(classifier.read().arrays)
    if change == "missing":
        del arrays["head.classifier.bias"]
    elif change == "extra":
        arrays["head.more"] = np.zeros(1, dtype=np.float32)
    else:
        arrays["head.classifier.bias"] = np.zeros((1, 4), dtype=np.float32)
    before = classifier.read().digest
    with pytest.raises(Refusal, match="head"):
        classifier.write(Weights(arrays))
    assert classifier.read().digest == before


# refusals


def refused(folder: Path, words: str) -> None:
    with pytest.raises(Refusal, match=words) as refusal:
        build(folder)
    assert str(folder) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_without_weights_is_refused_with_the_files_that_would_do(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    refused(copy, r"model\.safetensors or pytorch_model\.bin")


def test_a_folder_without_a_config_is_refused(copy: Path) -> None:
    (copy / "config.json").unlink()
    refused(copy, r"config\.json")


def test_a_folder_without_a_tokenizer_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    refused(copy, r"tokenizer\.json")


@pytest.mark.parametrize("model_type", ["gpt2", "t5", None])
def test_a_model_of_no_known_family_is_refused_by_its_type(copy: Path, model_type: str | None) -> None:
    (copy / "config.json").write_text(json.dumps(json.loads((copy / "config.json").read_text()) | {"model_type": model_type}))
    refused(copy, str(model_type))


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff"])
def test_a_damaged_config_is_refused(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content, encoding="latin-1")
    refused(copy, r"config\.json")


@pytest.mark.parametrize(
    "change",
    [{"hidden_size": 32}, {"num_hidden_layers": 4}, {"vocab_size": 500}, {"intermediate_size": 8}, {"max_position_embeddings": 96}],
)
def test_weights_that_do_not_fit_the_config_are_refused_by_name(copy: Path, change: dict[str, int]) -> None:
    (copy / "config.json").write_text(json.dumps(json.loads((copy / "config.json").read_text()) | change))
    refused(copy, "lack or misshape '.*(embeddings|encoder|pooler)")


def test_weights_that_lack_a_parameter_are_refused_by_its_name(copy: Path) -> None:
    state = load_file(str(copy / "model.safetensors"))
    del state["bert.encoder.layer.2.attention.self.query.bias"]
    save_file(state, str(copy / "model.safetensors"))
    refused(copy, r"encoder\.layer\.2\.attention\.self\.query\.bias")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_safetensors_are_refused(copy: Path, share: float) -> None:
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: int(len(whole) * share)])
    refused(copy, r"model\.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_pytorch_model_bin_is_refused(copy: Path, bert: BertForSequenceClassification, share: float) -> None:
    (copy / "model.safetensors").unlink()
    torch.save(bert.state_dict(), copy / "pytorch_model.bin")
    whole = (copy / "pytorch_model.bin").read_bytes()
    (copy / "pytorch_model.bin").write_bytes(whole[: int(len(whole) * share)])
    refused(copy, r"pytorch_model\.bin")


def test_a_pytorch_model_bin_that_would_run_code_is_refused_and_not_run(copy: Path, tmp_path: Path, trap: object) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({"bert.weight": trap}, copy / "pytorch_model.bin")
    refused(copy, r"pytorch_model\.bin")
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(trap))  # noqa: S301 - the trap works where pickle is used
    assert (tmp_path / "sprung").exists()


def test_more_tokens_than_the_body_has_positions_are_refused_before_a_long_entry_comes(folder: Path) -> None:
    with pytest.raises(Refusal, match="max-tokens"):
        tuned_classifier(RunSettings(model=str(folder), max_tokens=81), folder)
    assert tuned_classifier(RunSettings(model=str(folder), max_tokens=80), folder).probabilities(["가나다 " * 90], max_tokens=80).shape == (
        1,
        4,
    )


def test_a_tokenizer_with_more_ids_than_the_body_has_rows_is_refused(tmp_path: Path) -> None:
    small = BertForSequenceClassification(BertConfig(**(small_config().to_dict() | {"vocab_size": 100})))
    refused(save_folder(tmp_path / "small", small), "tokenizer")


# where a model is found


def test_a_model_is_found_by_path_by_install_or_in_the_bundle(folder: Path, tmp_path: Path) -> None:
    installed = shutil.copytree(folder, tmp_path / "skt--kobert-base-v1")
    assert find_model(str(folder)) == folder
    assert find_model("skt/kobert-base-v1", tmp_path) == installed
    assert find_model(source_of("lstm"), tmp_path) == ASSETS / "compact"


def test_a_model_that_no_one_has_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="--model compact"):
        find_model("not a name / that any hub has", tmp_path)
