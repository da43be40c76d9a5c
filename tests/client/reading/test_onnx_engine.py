"""The onnx engine: what int8 arithmetic gives, written out slowly; a patched graph is a fresh one; a damaged one is made again."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client.home import Home
from client.reading import onnx_engine
from client.reading.engine import Probabilities
from client.reading.engines import ENGINES, engine_named
from client.reading.int8_body import BodyShape, body_graph, quantised
from client.reading.onnx_engine import KeptGraph, OnnxEngine, adds_products_exactly, build_onnx_engine
from client.reading.reader import EmotionReader
from client.reading.reading import Reading
from client.reading.windows import read_whole
from model.checkpoint import Manifest
from model.classifier import EmotionClassifier, Layer
from model.examples import bundled_diaries, read_examples, texts
from model.hub import find_model
from model.refusal import Refusal
from model.settings import RunSettings
from model.tuning import tuned_classifier, tuned_outline
from model.weights import Weights

TEXTS = ["오늘은 정말 즐거웠다", "왜 자꾸 눈물이 나는지 모르겠다 ㅠㅠ", "", "또 나한테만 뭐라고 한다. 참을 만큼 참았는데 더는 못 참겠다!!"]
COMPACT = find_model("compact")

Publish = Callable[..., Manifest]
Shaken = Callable[[Weights, int, float], Weights]
Drawn = Callable[[int], Weights]


def rows(readings: Sequence[Reading]) -> Probabilities:
    return np.array([reading.probabilities for reading in readings], dtype=np.float32)


def tuned(tuning: str) -> EmotionClassifier:
    return tuned_classifier(RunSettings(tuning=tuning, privacy="none"))


def built(home: Home, manifest: Manifest) -> OnnxEngine:
    engine = build_onnx_engine(home, manifest, home.checkpoints.load(manifest), None)
    assert isinstance(engine, OnnxEngine)
    return engine


def read(engine: OnnxEngine, texts: Sequence[str]) -> Probabilities:
    return np.array([one.probabilities for one in read_whole(engine, texts)])


def kept_files(home: Home) -> list[Path]:
    return sorted(home.cache.glob("int8-*"))


def round_to_int8(linear: nn.Linear) -> None:
    """Weights to whole numbers times their output's scale, and the input of every call to 256 steps between its least and its most."""

    def to_steps(_: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        least, most = given[0].min().clamp(max=0), given[0].max().clamp(min=0)
        step = (most - least) / 255
        zero = torch.round(-least / step)
        return ((torch.round(given[0] / step + zero).clamp(0, 255) - zero) * step,)

    scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
    linear.weight.data = torch.round(linear.weight / scale) * scale
    linear.register_forward_pre_hook(to_steps)


def slowly(classifier: EmotionClassifier) -> Probabilities:
    """The same arithmetic in torch, one text at a time; low-rank additions and what is not a layer's linear stay as they are."""
    for block in classifier.blocks.values():
        for name, module in block.named_modules() if isinstance(block, Layer) else ():
            if isinstance(module, nn.Linear) and not name.endswith((".down", ".up")):
                round_to_int8(module)
    return np.concatenate([classifier.probabilities([text], max_tokens=128) for text in TEXTS])


@pytest.mark.parametrize("tuning", ["probe", "head", "top2", "lora", "full"])
def test_a_reading_is_what_the_same_arithmetic_gives_step_by_step(home: Home, publish: Publish, shaken: Shaken, tuning: str) -> None:
    classifier = tuned(tuning)
    weights = shaken(classifier.read(), 1, 0.02)
    engine = built(home, publish(weights, of=classifier, tuning=tuning))
    classifier.write(weights)
    exact = np.concatenate([classifier.probabilities([text], max_tokens=128) for text in TEXTS])
    found, expected = read(engine, TEXTS), slowly(classifier)
    np.testing.assert_allclose(found, expected, atol=0.02)
    np.testing.assert_allclose(found, exact, atol=0.1)


def test_the_trained_model_reads_as_torch_does(installed: Callable[[Path], Home], tmp_path: Path) -> None:
    """On KOTE's test rows where they are, and else on the bundled diaries.

    Measured: 99.0 % of 600 comments and 98.8 % of 600 diary entries alike. The project's goal is 99 % (benchmarks/serving.py); this test
    holds what was reached.
    """
    home = installed(tmp_path / "home")
    kote = shared / "kote" / "test.tsv" if (shared := _shared()) else None
    some = texts(read_examples(str(kote)).examples) if kote else [text for part in bundled_diaries() for text in texts(part.examples)]
    found = {}
    for engine in ("torch", "onnx"):
        reader = EmotionReader(home, engine=engine)
        found[engine] = rows(reader.read(some[:600]))
        reader.close()
    assert (found["torch"].argmax(axis=1) == found["onnx"].argmax(axis=1)).mean() >= 0.985
    assert np.abs(found["torch"] - found["onnx"]).max() < 0.2  # of 600 comments, the one furthest apart


def _shared() -> Path | None:
    folder = Path(os.environ.get("HEALING_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
    return folder if folder.is_dir() else None


def test_a_text_is_read_the_same_beside_any_other(home: Home, publish: Publish, drawn: Drawn) -> None:
    """Its neighbours neither pad it nor change the steps that its states are rounded to."""
    engine = built(home, publish(drawn(1)))
    alone = np.concatenate([read(engine, [text]) for text in TEXTS])
    crowd = ["아주 긴 하루였다. " * 30, *TEXTS, "!!!!!!!!", *TEXTS]
    np.testing.assert_allclose(read(engine, crowd)[1:5], alone, atol=1e-6)


@pytest.mark.parametrize("tuning", ["top2", "full"])
def test_a_patched_graph_is_the_freshly_quantised_one_byte_for_byte(home: Home, publish: Publish, shaken: Shaken, tuning: str) -> None:
    classifier = tuned(tuning)
    weights = shaken(classifier.read(), 1, 0.02)
    manifest = publish(weights, of=classifier, tuning=tuning)
    built(home, manifest)
    outline = tuned_outline(RunSettings(tuning=tuning, privacy="none"), COMPACT)
    patched = KeptGraph(home.cache, manifest, outline).patched(quantised(weights))
    classifier.write(weights)
    everything = {name: parameter.detach().numpy() for name, parameter in classifier.blocks.named_parameters()}
    assert patched == body_graph(BodyShape.of(outline), quantised(everything)).SerializeToString()


def test_graphs_of_bodies_before_the_last_one_are_removed(home: Home, publish: Publish, drawn: Drawn) -> None:
    manifest = publish(drawn(1))
    built(home, manifest)
    outline = tuned_outline(RunSettings(tuning="probe", privacy="none"), COMPACT)
    body = {name: parameter.detach().numpy() for name, parameter in tuned("probe").blocks.named_parameters()}
    for base in ("second", "third"):
        KeptGraph(home.cache, replace(manifest, base_digest=base), outline).write(body)
    assert len(kept_files(home)) == 6
    assert not KeptGraph(home.cache, manifest, outline).is_whole()
    assert all(KeptGraph(home.cache, replace(manifest, base_digest=base), outline).is_whole() for base in ("second", "third"))


@pytest.mark.parametrize("tuning", ["probe", "head", "top2", "lora", "full"])
def test_a_swap_reads_as_a_start_from_nothing_does(home: Home, publish: Publish, shaken: Shaken, tmp_path: Path, tuning: str) -> None:
    classifier = tuned(tuning)
    own, seen = classifier.read(), []
    reader = EmotionReader(home, engine="onnx")
    for seed in (1, 2):
        manifest = publish(shaken(own, seed, 0.02), of=classifier, tuning=tuning)
        readings = reader.read(TEXTS)
        assert {reading.version for reading in readings} == {seed}
        seen.append(rows(readings))
        for file in kept_files(home) if seed == 2 else ():
            file.unlink()
    np.testing.assert_array_equal(seen[1], read(built(home, manifest), TEXTS))
    assert np.abs(seen[0] - seen[1]).max() > 0.001
    reader.roll_back()
    np.testing.assert_array_equal(rows(reader.read(TEXTS)), seen[0])
    reader.close()


def test_a_new_head_reads_through_the_body_that_reads_already(home: Home, publish: Publish, drawn: Drawn) -> None:
    first = built(home, publish(drawn(1)))
    manifest = publish(drawn(2))
    second = build_onnx_engine(home, manifest, drawn(2), first)
    assert isinstance(second, OnnxEngine)
    assert second.body is first.body
    assert np.abs(read(second, TEXTS) - read(first, TEXTS)).max() > 0.01


def test_a_kept_graph_needs_no_other_weights(home: Home, publish: Publish, drawn: Drawn, tmp_path: Path) -> None:
    folder = shutil.copytree(COMPACT, tmp_path / "body")
    manifest = publish(drawn(1), model=str(folder))
    before = read(built(home, manifest), TEXTS)
    (folder / "model.safetensors").write_bytes(b"gone")
    np.testing.assert_array_equal(read(built(home, manifest), TEXTS), before)
    for file in kept_files(home):
        file.unlink()
    with pytest.raises(Refusal):
        built(home, manifest)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("tuning", ["probe", "top1"])
def test_a_damaged_graph_is_made_again(home: Home, publish: Publish, shaken: Shaken, damage: str, which: int, tuning: str) -> None:
    classifier = tuned(tuning)
    manifest = publish(shaken(classifier.read(), 1, 0.02), of=classifier, tuning=tuning)
    before = read(built(home, manifest), TEXTS)
    whole = [file.read_bytes() for file in kept_files(home)]
    DAMAGES[damage](kept_files(home)[which])
    np.testing.assert_array_equal(read(built(home, manifest), TEXTS), before)
    assert [file.read_bytes() for file in kept_files(home)] == whole


OTHERS: dict[str, tuple[dict[str, object], str]] = {
    "another body": ({"base_digest": "0" * 64}, "belongs to the base model 0{12} and this device has"),
    "another tokenizer": ({"tokenizer_digest": "0" * 64}, "belongs to the tokenizer 0{12} and this device has"),
    "another tuning": ({"tuning": "top2"}, "both sides must train the same"),
    "no such tuning": ({"tuning": "everything"}, "tuning is 'everything'"),
    "no such model": ({"model": "../no/such"}, "no/such"),
    "no attention": ({"model": "lstm"}, "use --engine torch"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_this_device_does_not_hold_is_refused_and_the_model_before_reads_on(
    home: Home, publish: Publish, drawn: Drawn, other: str
) -> None:
    publish(drawn(1))
    reader = EmotionReader(home, engine="onnx")
    before = reader.read(TEXTS)
    fields, why = OTHERS[other]
    publish(drawn(2), **fields)
    assert reader.read(TEXTS) == before
    assert reader.refused is not None
    assert re.search(why, reader.refused.reason)
    reader.close()


def test_without_its_packages_the_engine_is_refused_with_the_extra_to_install() -> None:
    with pytest.raises(Refusal, match=r"needs no_such_package, not installed here; run `pip install 'feelinghealing\[onnx\]'`"):
        engine_named("onnx", ENGINES, needs={"onnx": ("numpy", "no_such_package")})


def test_a_row_of_zeros_and_the_largest_values_keep_their_place() -> None:
    """Each output has its own scale: w = scale * q, exact for what is a whole number of steps."""
    rng = np.random.default_rng(0)
    whole = rng.integers(-127, 128, (6, 5)).astype(np.float32)
    whole[:, 0] = 127
    whole[3] = 0
    steps = np.array([1, 0.5, 2, 1, 4, 0.25], dtype=np.float32)
    named = {f"layer0.{part}": np.zeros((6, 5) if part.endswith("weight") else 6, np.float32) for part in _parts()}
    named["layer0.bert.intermediate.dense.weight"] = whole * steps[:, None]
    arrays = quantised(named)
    np.testing.assert_array_equal(arrays["layer0.wide.weight"].T, whole)
    np.testing.assert_array_equal(arrays["layer0.wide.scale"], steps)


def _parts() -> list[str]:
    return [name.removeprefix("layer0.") for name, _ in tuned("head").blocks.named_parameters() if name.startswith("layer0.")]


def test_a_cpu_that_may_overflow_takes_the_exact_way_and_reads_the_same(
    home: Home, publish: Publish, shaken: Shaken, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = tuned("probe")
    manifest = publish(shaken(classifier.read(), 1, 0.02), of=classifier, tuning="probe")
    fast = read(built(home, manifest), TEXTS)  # on a CPU without VNNI both are the exact way
    monkeypatch.setattr(onnx_engine, "adds_products_exactly", lambda: False)
    np.testing.assert_array_equal(read(built(home, manifest), TEXTS), fast)


def test_only_a_cpu_that_says_so_is_trusted_to_add_exactly(tmp_path: Path) -> None:
    for name, told, exact in (("new", "flags : fpu avx2 avx512_vnni", True), ("old", "flags : fpu avx2", False)):
        (tmp_path / name).write_text(told, encoding="utf-8")
        assert adds_products_exactly(tmp_path / name) is exact
    assert not adds_products_exactly(tmp_path / "none")
