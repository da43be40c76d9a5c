"""Tuning: exactly the stated parameters train and travel, and the trunk's cache is exact, private and forgetful."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.classifier import Chain, EmotionClassifier, build_classifier
from model.hub import find_model
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, shuffled_epochs, train, train_plainly
from model.tuning import LowRank, TrunkCache, tune, tuned_classifier

COMPACT = find_model("compact")
TEXTS = [
    "좋다",
    "버스를 놓쳐서 한참을 걸었는데 길가에 핀 꽃이 예뻤다",
    "왜 나만 늦게까지 남아야 하지?",
    "내일 결과가 나온다고 생각하면 잠이 안 온다",
    "오늘은 아무 일도 없었다",
]
LABELS = torch.tensor([0, 0, 2, 3, 1])

HEAD = {"head.pooler.weight", "head.pooler.bias", "head.classifier.weight", "head.classifier.bias"}
WORDS = {"head.words.weight"}
ONE_LAYER = {
    f"{part}.{kind}"
    for part in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "attention.output.LayerNorm",
        "intermediate.dense",
        "output.dense",
        "output.LayerNorm",
    )
    for kind in ("weight", "bias")
}


def settings_for(tuning: str, model: str = "compact", **more: Any) -> RunSettings:
    return RunSettings(model=model, tuning=tuning, privacy="none", **more)


def tuned(tuning: str, model: str = "compact") -> EmotionClassifier:
    return tuned_classifier(settings_for(tuning, model), COMPACT)


def layers(*numbers: int) -> set[str]:
    return {f"layer{number}.bert.{name}" for number in numbers for name in ONE_LAYER}


def low_rank(*numbers: int) -> set[str]:
    return {
        f"layer{number}.bert.attention.self.{which}.{side}.weight"
        for number in numbers
        for which in ("query", "value")
        for side in ("down", "up")
    }


EMBEDDINGS = {
    f"embeddings.table.{name}"
    for name in (
        "word_embeddings.weight",
        "position_embeddings.weight",
        "token_type_embeddings.weight",
        "LayerNorm.weight",
        "LayerNorm.bias",
    )
}
LSTM = {
    f"lstm.lstm.{kind}_{gate}_l{layer}{direction}"
    for kind in ("weight", "bias")
    for gate in ("ih", "hh")
    for layer in (0, 1)
    for direction in ("", "_reverse")
}


# what is trained


@pytest.mark.parametrize(
    ("model", "tuning", "trained"),
    [
        ("compact", "probe", {"head.classifier.weight", "head.classifier.bias"} | WORDS),
        ("compact", "head", HEAD | WORDS),
        ("compact", "top2", HEAD | WORDS | layers(2, 3)),
        ("compact", "lora", HEAD | WORDS | low_rank(0, 1, 2, 3)),
        ("compact", "full", HEAD | WORDS | layers(0, 1, 2, 3) | EMBEDDINGS),
        ("lstm", "head", HEAD),
        ("lstm", "top2", HEAD | LSTM),
        ("lstm", "full", HEAD | LSTM | {"embeddings.table.weight"}),
    ],
)
def test_a_tuning_trains_exactly_the_parameters_that_it_states(model: str, tuning: str, trained: set[str]) -> None:
    classifier = tuned(tuning, model)
    assert set(classifier.trainable()) == trained
    assert set(classifier.read()) == trained


@pytest.mark.parametrize(
    ("model", "tuning"),
    [("compact", "probe"), ("compact", "head"), ("compact", "top2"), ("compact", "lora"), ("lstm", "head"), ("lstm", "top2")],
)
def test_training_moves_every_trained_parameter_and_no_frozen_one(model: str, tuning: str) -> None:
    classifier = tuned(tuning, model)
    before = {name: value.clone() for name, value in classifier.blocks.state_dict().items()}
    entries = Entries(classifier.lower(classifier.encode(TEXTS, max_tokens=64)), LABELS)
    train_plainly(classifier, entries, settings_for(tuning, model, batch_size=2, local_epochs=2), torch.Generator().manual_seed(1))
    moved = {name for name, value in classifier.blocks.state_dict().items() if not torch.equal(value, before[name])}
    without_effect = {name for name in classifier.trainable() if name.endswith("key.bias")}  # softmax takes it out again
    assert moved | without_effect == set(classifier.trainable())


def test_frozen_parameters_do_not_even_get_a_gradient() -> None:
    classifier = tuned("lora")
    rows = classifier.lower(classifier.encode(TEXTS, max_tokens=64))
    batch = classifier.batch(rows, LABELS)
    loss = nn.functional.cross_entropy(classifier.upper().train()(batch.inputs, batch.mask), batch.labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert {name for name, parameter in classifier.blocks.named_parameters() if parameter.grad is not None} == set(classifier.trainable())


def test_a_probe_needs_a_pretrained_pooler(tmp_path: Path) -> None:
    """Weights saved without one, as masked language models are, get a random one, which a head trains and a probe would freeze."""
    shutil.copytree(COMPACT, tmp_path, dirs_exist_ok=True)
    weights = load_file(COMPACT / "model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if not name.startswith("pooler")}, tmp_path / "model.safetensors")
    assert tuned_classifier(settings_for("head"), tmp_path).trainable()
    for model, folder in (("lstm", COMPACT), ("compact", tmp_path)):
        with pytest.raises(Refusal, match=r"this model brings none .* use --tuning head, or full"):
            tuned_classifier(settings_for("probe", model), folder)


def test_an_unknown_tuning_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refusal, match="head, top<k>, lora, full"):
        tune(build_classifier("lstm", COMPACT, dropout=0.0, seed=1), "bitfit", seed=1)


# LoRA


def test_a_low_rank_addition_starts_as_the_identity() -> None:
    frozen = nn.Linear(6, 5)
    x = torch.randn(7, 3, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(LowRank(frozen, rank=2)(x), frozen(x))


def test_a_low_rank_addition_is_the_sum_of_two_matrices() -> None:
    layer = LowRank(nn.Linear(6, 5), rank=2, scale=3.0)
    with torch.no_grad():
        nn.init.normal_(layer.up.weight, generator=torch.Generator().manual_seed(1))
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
        merged = nn.functional.linear(x, layer.frozen.weight + 3.0 * layer.up.weight @ layer.down.weight, layer.frozen.bias)
        torch.testing.assert_close(layer(x), merged, atol=1e-5, rtol=0)


def test_lora_starts_with_the_probabilities_of_the_untuned_model() -> None:
    untuned = build_classifier("compact", COMPACT, dropout=0.3, seed=7)
    np.testing.assert_allclose(tuned("lora").probabilities(TEXTS, max_tokens=64), untuned.probabilities(TEXTS, max_tokens=64), atol=1e-6)


def test_lora_trains_few_parameters_of_the_body() -> None:
    body = {name: array for name, array in tuned("lora").read().items() if not name.startswith("head.")}
    assert sum(array.size for array in body.values()) == 4 * 2 * 2 * 8 * tuned("lora").width  # layers, two, down and up, rank, width


def test_lora_needs_attention_and_refuses_an_lstm_with_the_way_out() -> None:
    with pytest.raises(Refusal, match="--tuning top2 or full"):
        tuned("lora", "lstm")


@pytest.mark.parametrize("tuning", ["head", "lora"])
def test_everyone_with_the_same_settings_starts_with_the_same_weights(tuning: str) -> None:
    torch.manual_seed(1)
    one = tuned(tuning).read()
    torch.manual_seed(2)
    assert tuned(tuning).read().digest == one.digest
    assert tuned_classifier(settings_for(tuning, seed=8), COMPACT).read().digest != one.digest


# the trunk's cache


def cache(folder: Path, tuning: str = "head", **more: Any) -> tuple[TrunkCache, EmotionClassifier]:
    classifier = tuned(tuning)
    return TrunkCache(folder, classifier, settings_for(tuning, **more)), classifier


def difference(rows: list[Tensor], others: list[Tensor]) -> float:
    assert [row.shape for row in rows] == [other.shape for other in others]
    return max(float((row - other).abs().max()) for row, other in zip(rows, others, strict=True))


def only_file(folder: Path) -> Path:
    files = list(folder.iterdir())
    assert len(files) == 1, files
    return files[0]


@pytest.mark.parametrize("tuning", ["head", "top2", "lora"])
def test_cached_rows_differ_by_nothing_from_a_fresh_computation(tmp_path: Path, tuning: str) -> None:
    kept, classifier = cache(tmp_path, tuning)
    fresh = classifier.lower(classifier.encode(TEXTS, max_tokens=64))
    assert difference(kept.rows(TEXTS), fresh) == 0.0
    assert difference(kept.rows(TEXTS), fresh) == 0.0
    assert difference(cache(tmp_path, tuning)[0].rows(TEXTS), fresh) == 0.0  # as after a restart


def test_rows_come_in_the_order_of_the_texts_also_when_some_are_new_or_written_twice(tmp_path: Path) -> None:
    kept, classifier = cache(tmp_path)
    kept.rows(TEXTS[:2])
    mixed = [TEXTS[3], TEXTS[1], TEXTS[4], TEXTS[1], TEXTS[0], TEXTS[3]]
    alone = [classifier.lower(classifier.encode([text], max_tokens=64))[0] for text in mixed]
    assert difference(kept.rows(mixed), alone) < 1e-5


def test_a_second_round_reads_the_file_and_does_not_compute_again(tmp_path: Path) -> None:
    cache(tmp_path)[0].rows(TEXTS)
    kept, classifier = cache(tmp_path)
    with torch.no_grad():  # a ruined trunk shows where a row comes from; the digest was taken before
        for parameter in classifier.blocks["layer0"].parameters():
            parameter.zero_()
    before = load_file(str(only_file(tmp_path)))
    ruined = classifier.lower(classifier.encode(TEXTS, max_tokens=64))
    assert difference(kept.rows(TEXTS), ruined) > 1e-3
    assert load_file(str(only_file(tmp_path))).keys() == before.keys()


@pytest.mark.parametrize("left", [TEXTS[:2], TEXTS[4:], []])
def test_a_forgotten_entry_leaves_the_file_with_the_next_round(tmp_path: Path, left: list[str]) -> None:
    kept, classifier = cache(tmp_path)
    kept.rows(TEXTS)
    forgotten = [row for row, text in zip(kept.rows(TEXTS), TEXTS, strict=True) if text not in left]
    kept.rows(left)
    assert len(load_file(str(only_file(tmp_path)))) == len(left)
    content = only_file(tmp_path).read_bytes()
    assert not any(row.numpy().tobytes() in content for row in forgotten)
    assert difference(kept.rows(TEXTS), classifier.lower(classifier.encode(TEXTS, max_tokens=64))) < 1e-5


def test_the_file_does_not_hold_text_and_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    cache(tmp_path)[0].rows(TEXTS)
    assert stat.S_IMODE(only_file(tmp_path).stat().st_mode) == 0o600
    content = only_file(tmp_path).read_bytes()
    assert not any(text.encode() in content for text in TEXTS)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_computed_anew(tmp_path: Path, share: float) -> None:
    kept = cache(tmp_path)[0]
    fresh = kept.rows(TEXTS)
    whole = only_file(tmp_path).read_bytes()
    only_file(tmp_path).write_bytes(whole[: int(len(whole) * share)])
    assert difference(kept.rows(TEXTS), fresh) == 0.0
    assert len(only_file(tmp_path).read_bytes()) == len(whole)


def test_what_a_killed_writer_left_is_in_nobodys_way(tmp_path: Path) -> None:
    cache(tmp_path)[0].rows(TEXTS)
    written = only_file(tmp_path)
    written.with_name(f".{written.name}.partial").write_bytes(b"half")
    kept, classifier = cache(tmp_path)
    assert difference(kept.rows(TEXTS[:2]), classifier.lower(classifier.encode(TEXTS[:2], max_tokens=64))) < 1e-5
    assert only_file(tmp_path).suffix == ".safetensors"


def test_nothing_is_written_where_nothing_is_frozen(tmp_path: Path) -> None:
    kept, classifier = cache(tmp_path, "full")
    assert all(torch.equal(a, b) for a, b in zip(kept.rows(TEXTS), classifier.encode(TEXTS, max_tokens=64), strict=True))
    assert list(tmp_path.iterdir()) == []


def test_another_length_tuning_or_body_has_a_file_of_its_own(tmp_path: Path) -> None:
    cache(tmp_path)[0].rows(TEXTS)
    cache(tmp_path, max_tokens=8)[0].rows(TEXTS)
    cache(tmp_path, "top2")[0].rows(TEXTS)
    lstm = tuned("head", "lstm")
    TrunkCache(tmp_path, lstm, settings_for("head", "lstm")).rows(TEXTS)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_body_that_pools_differently_does_not_read_the_others_rows(tmp_path: Path) -> None:
    cache(tmp_path)[0].rows(TEXTS)  # "compact" reads the mean of the states
    by_path = tune(build_classifier(str(COMPACT), COMPACT, dropout=0.3, seed=7), "head", seed=7)  # a path reads the first
    rows = TrunkCache(tmp_path, by_path, settings_for("head", str(COMPACT))).rows(TEXTS)
    assert difference(rows, by_path.lower(by_path.encode(TEXTS, max_tokens=64))) == 0.0


class WholeNetwork:
    """The mean gradient with no cache and no cut: token ids go through every block in every step, the frozen ones in eval mode."""

    def __init__(self, classifier: EmotionClassifier, entries: list[Tensor], settings: RunSettings) -> None:
        self.blocks = list(classifier.blocks.values())
        self.network = Chain(dict(classifier.blocks.items())).train()
        for frozen in self.blocks[: classifier.cut]:
            frozen.eval()
        self.entries, self.clip = entries, settings.gradient_clip
        self.pad_id = classifier.tokenizer.pad_id

    def __call__(self, rows: Sequence[int]) -> None:
        chosen = [self.entries[row] for row in rows]
        ids = torch.full((len(chosen), max(map(len, chosen))), self.pad_id)
        for row, entry in enumerate(chosen):
            ids[row, : len(entry)] = entry
        loss = nn.functional.cross_entropy(self.network(ids, (ids != self.pad_id).long()), LABELS[list(rows)])
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([parameter for parameter in self.network.parameters() if parameter.requires_grad], self.clip)


def trained_both_ways(folder: Path, settings: RunSettings, entries: list[str], dtype: torch.dtype) -> tuple[float, float]:
    """Greatest difference between training on rows from the cache's file and through the whole network; how far training went."""
    cached, whole = tuned_classifier(settings, COMPACT).to(dtype), tuned_classifier(settings, COMPACT).to(dtype)
    start = {name: parameter.detach().clone() for name, parameter in cached.trainable().items()}

    TrunkCache(folder, cached, settings).rows(entries)  # an earlier round fills the file
    rows = TrunkCache(folder, cached, settings).rows(entries)
    train_plainly(cached, Entries(rows, LABELS), settings, torch.Generator().manual_seed(1))

    generator = torch.Generator().manual_seed(1)
    encoded = whole.encode(entries, max_tokens=settings.max_tokens)
    lengths = [len(row) for row in rows]
    batches = shuffled_epochs(lengths, epochs=settings.local_epochs, batch_size=settings.batch_size, generator=generator)
    gradient = WholeNetwork(whole, encoded, settings)
    train(whole, settings, batches=batches, steps=len(batches), gradient=gradient, generator=generator)

    ends, others = ({name: parameter.detach() for name, parameter in one.trainable().items()} for one in (cached, whole))
    apart = max(float((value - others[name]).abs().max()) for name, value in ends.items())
    return apart, max(float((value - start[name]).abs().max()) for name, value in ends.items())


@pytest.mark.parametrize("tuning", ["head", "top2", "lora"])
def test_training_on_kept_rows_is_training_through_the_whole_network(tmp_path: Path, tuning: str) -> None:
    # In float64: AdamW makes a step of any gradient above 1e-8, so that float32's last bit, which depends on how entries
    # of different length are padded together, becomes up to 5e-5 where a gradient is nearly zero.
    settings = settings_for(tuning, batch_size=2, local_epochs=3, learning_rate=1e-3, dropout=0.3)
    apart, moved = trained_both_ways(tmp_path, settings, TEXTS, torch.float64)
    assert moved > 1e-3
    assert apart <= 1e-9


def test_in_float32_too_where_entries_are_padded_alike(tmp_path: Path) -> None:
    settings = settings_for("top2", batch_size=5, local_epochs=4, learning_rate=5e-4, dropout=0.3, max_tokens=5)
    entries = [*TEXTS[1:], "왜 나만 늦게까지 남아야 하지? 왜"]
    assert {len(ids) for ids in tuned("top2").encode(entries, max_tokens=5)} == {5}
    apart, moved = trained_both_ways(tmp_path, settings, entries, torch.float32)
    assert moved > 1e-3
    assert apart <= 1e-6
