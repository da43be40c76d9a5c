"""KoBERT's layout and its kin: the logits of transformers, a pickle converted once and whole, the hub's cache, clear refusals."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from model.classifier import EmotionClassifier, build_classifier
from model.hub import PICKLE, SAFETENSORS, find_model
from model.refusal import Refusal

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["좋다", "버스를 놓쳐서 한참을 걸었는데 길가에 핀 꽃이 예뻐서 괜찮았다", "", "왜 나만 늦게까지 남아야 하지?"]
KOBERT_SIZE: dict[str, Any] = {
    "vocab_size": 8002,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "initializer_range": 0.2,
}


def field(number: int, content: bytes) -> bytes:
    """One length-delimited protobuf field."""
    length = len(content)
    return bytes([number << 3 | 2, length & 127 | 128, length >> 7 & 127 | 128, length >> 14]) + content


def spiece() -> bytes:
    """A SentencePiece model in KoBERT's layout: one piece for each character of the texts, and a character map that is empty."""
    pieces = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", "▁", *sorted(set("".join(TEXTS)) - {" "})]
    vocabulary = b"".join(field(1, field(1, piece.encode()) + b"\x15" + struct.pack("<f", -5.0)) for piece in pieces)
    return vocabulary + field(3, field(2, struct.pack("<I", 1024) + bytes(1024)))


PIECES = 6 + len(set("".join(TEXTS)) - {" "})


def config(**sizes: Any) -> BertConfig:
    """KoBERT's own, with the given sizes."""
    return BertConfig(**({"max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 1, "num_labels": 4} | sizes))


def random_bert(config: BertConfig) -> BertForSequenceClassification:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        bert = BertForSequenceClassification(config).eval()
        for name, parameter in bert.named_parameters():
            if "LayerNorm" in name or parameter.dim() == 1:
                nn.init.normal_(parameter, mean=float("LayerNorm.weight" in name), std=0.1)  # they start at 1 and 0
        nn.init.normal_(bert.classifier.weight, std=0.2)
    return bert


def save_layout(folder: Path, bert: BertForSequenceClassification, tokenizer: bytes, weights: str = PICKLE) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(bert.config.to_dict() | {"model_type": "bert"}))
    (folder / "spiece.model").write_bytes(tokenizer)
    if weights == PICKLE:
        torch.save(bert.state_dict(), folder / PICKLE)
    else:
        save_file(bert.state_dict(), str(folder / SAFETENSORS))
    return folder


@pytest.fixture(scope="module")
def bert() -> BertForSequenceClassification:
    return random_bert(config(vocab_size=PIECES, **SMALL))


@pytest.fixture
def layout(bert: BertForSequenceClassification, tmp_path: Path) -> Path:
    return save_layout(tmp_path / "skt/kobert", bert, spiece())


def build(folder: Path, name: str = "kobert") -> EmotionClassifier:
    return build_classifier(name, folder, dropout=0.1, seed=1).eval()


@torch.no_grad()
def both_logits(bert: BertForSequenceClassification, classifier: EmotionClassifier) -> tuple[Tensor, Tensor]:
    """Ours and transformers' for one padded batch, our head having their classifier's weights."""
    head: Any = classifier.blocks["head"]
    head.classifier.load_state_dict(bert.classifier.state_dict())
    x, mask = classifier.pad(classifier.encode(TEXTS, max_tokens=64))
    assert int((mask == 0).sum()) > 10
    assert bool((x[mask == 0] == 1).all())
    theirs: Tensor = bert(input_ids=x, attention_mask=mask).logits
    assert float(theirs.std(dim=0).min()) > 1e-3  # the texts differ by much more than the tolerance
    return classifier.upper()(x, mask), theirs


# the same function as transformers'


@pytest.mark.slow
def test_a_folder_of_kobert_s_size_gives_the_logits_of_transformers(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "kobert/spiece.model"
    if not path.is_file():
        pytest.skip(f"{path} is missing (KoBERT's SentencePiece file, huggingface.co/skt/kobert-base-v1)")
    bert = random_bert(config(**KOBERT_SIZE))
    folder = save_layout(tmp_path / "kobert", bert, path.read_bytes())
    converted = find_model(str(folder), tmp_path / "home/models")
    assert (converted / SAFETENSORS).is_file()
    (folder / PICKLE).unlink()
    ours, theirs = both_logits(bert, build(converted))
    (converted / SAFETENSORS).unlink()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("weights", [PICKLE, SAFETENSORS])
def test_a_small_folder_of_that_layout_gives_the_logits_of_transformers(
    bert: BertForSequenceClassification, tmp_path: Path, weights: str
) -> None:
    ours, theirs = both_logits(bert, build(save_layout(tmp_path / "kobert", bert, spiece(), weights)))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def bare(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("bert."): tensor for name, tensor in state.items() if name.startswith("bert.")}


def with_other_heads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {
        "cls.predictions.bias": torch.ones(7),
        "classifier.weight": torch.ones(9, 16),
        "cls.seq_relationship.bias": torch.ones(2),
    }


def with_counts(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"bert.embeddings.position_ids": torch.arange(512)[None]}


@pytest.mark.parametrize("change", [bare, with_other_heads, with_counts])
def test_prefixes_and_other_heads_change_nothing(
    bert: BertForSequenceClassification, layout: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    before = build(layout).base_digest
    torch.save(change(bert.state_dict()), layout / PICKLE)
    assert build(layout).base_digest == before
    torch.testing.assert_close(*both_logits(bert, build(layout)), atol=1e-5, rtol=0)


def test_a_masked_language_model_without_a_pooler_gets_the_same_one_on_every_device(
    bert: BertForSequenceClassification, layout: Path
) -> None:
    state = {name: tensor for name, tensor in bert.state_dict().items() if "pooler" not in name}
    torch.save(state, layout / PICKLE)
    torch.manual_seed(1)
    one = build(layout)
    torch.manual_seed(2)
    two = build(layout)
    assert one.pretrained
    assert one.base_digest == two.base_digest
    assert one.read().digest == two.read().digest
    assert float(one.read()["head.pooler.weight"].std()) > 0.01


def test_weights_with_more_layers_than_the_config_are_refused_and_not_cut(layout: Path) -> None:
    values = json.loads((layout / "config.json").read_text())
    (layout / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 1}))
    with pytest.raises(Refusal, match=r"encoder\.layer\.1\."):
        build(layout)


def test_a_body_of_relative_positions_is_refused(bert: BertForSequenceClassification, layout: Path) -> None:
    torch.save(bert.state_dict() | {"bert.encoder.layer.0.attention.self.distance_embedding.weight": torch.ones(3, 8)}, layout / PICKLE)
    with pytest.raises(Refusal, match="distance_embedding"):
        build(layout)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pad_token_id": None}, "pad_token_id"),
        ({"pad_token_id": 8002}, "pad_token_id"),
        ({"vocab_size": "many"}, r"config\.json"),
        ({"num_attention_heads": 5}, r"config\.json"),
        ({"hidden_act": "unheard"}, r"config\.json"),
    ],
)
def test_a_config_that_describes_no_body_is_refused(layout: Path, change: dict[str, Any], words: str) -> None:
    (layout / "config.json").write_text(json.dumps(json.loads((layout / "config.json").read_text()) | change))
    with pytest.raises(Refusal, match=words) as refusal:
        build(layout)
    assert str(layout) in str(refusal.value)


# a pickle becomes safetensors, once and whole


def test_a_pickle_is_converted_into_home_with_its_config_and_tokenizer(
    bert: BertForSequenceClassification, layout: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in layout.iterdir()}
    place = find_model(str(layout), tmp_path / "models")
    assert place.parent == tmp_path / "models"
    assert sorted(path.name for path in place.iterdir()) == ["config.json", SAFETENSORS, "spiece.model"]
    assert (place / "spiece.model").read_bytes() == before["spiece.model"]
    state = bert.state_dict()
    stored = load_file(str(place / SAFETENSORS))
    assert stored.keys() == state.keys()
    assert all(torch.equal(stored[name], state[name]) for name in state)
    assert {path.name: path.read_bytes() for path in layout.iterdir()} == before


def test_the_body_is_the_same_from_either_file(bert: BertForSequenceClassification, layout: Path, tmp_path: Path) -> None:
    plain = build(save_layout(tmp_path / "plain", bert, spiece(), SAFETENSORS))
    converted = build(find_model(str(layout), tmp_path / "models"))
    assert build(layout).base_digest == converted.base_digest == plain.base_digest
    assert build(layout).tokenizer.digest == converted.tokenizer.digest


def test_a_second_start_does_not_convert_again_and_a_changed_pickle_does(
    bert: BertForSequenceClassification, layout: Path, tmp_path: Path
) -> None:
    place = find_model(str(layout), tmp_path / "models")
    first = (place / SAFETENSORS).stat()
    assert find_model(str(layout), tmp_path / "models") == place
    assert (place / SAFETENSORS).stat() == first
    state = bert.state_dict()
    torch.save(state | {"bert.pooler.dense.bias": state["bert.pooler.dense.bias"] + 1}, layout / PICKLE)
    digest = build(layout).base_digest
    assert build(find_model(str(layout), tmp_path / "models")).base_digest == digest
    assert (place / SAFETENSORS).stat().st_ino != first.st_ino


def test_a_replaced_tokenizer_leaves_nothing_of_the_old_one(layout: Path, tmp_path: Path) -> None:
    find_model(str(layout), tmp_path / "models")
    (layout / "spiece.model").unlink()
    (layout / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "좋다"]), encoding="utf-8")
    place = find_model(str(layout), tmp_path / "models")
    assert sorted(path.name for path in place.iterdir()) == ["config.json", SAFETENSORS, "vocab.txt"]


def test_a_folder_put_into_home_by_hand_is_converted_there(layout: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    by_hand = shutil.copytree(layout, models / "skt--kobert-base-v1")
    assert find_model("skt/kobert-base-v1", models) == by_hand
    assert (by_hand / SAFETENSORS).is_file()
    (by_hand / PICKLE).unlink()
    assert build(find_model("skt/kobert-base-v1", models)).base_digest == build(layout).base_digest


def test_without_a_home_a_pickle_is_read_where_it_lies_and_nothing_is_written(layout: Path) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in layout.iterdir())
    assert find_model(str(layout)) == layout
    build(layout)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in layout.iterdir()) == before


def test_weights_that_share_memory_or_are_halves_are_converted(bert: BertForSequenceClassification, layout: Path, tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in bert.state_dict().items()}
    words = state["bert.embeddings.word_embeddings.weight"]
    torch.save(state | {"cls.predictions.decoder.weight": words, "cls.turned": words.t()}, layout / PICKLE)
    place = find_model(str(layout), tmp_path / "models")
    stored = load_file(str(place / SAFETENSORS))
    assert torch.equal(stored["cls.predictions.decoder.weight"], words)
    assert torch.equal(stored["cls.turned"], words.t())
    assert build(place).base_digest == build(layout).base_digest


KILLED = """
import json, os, resource, signal, sys
from pathlib import Path
from model.hub import SAFETENSORS, find_model

folder, home, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def die_at_event(number, models):
    left = [number]
    def hook(event, arguments):
        if event in ("open", "os.rename", "os.mkdir") and str(models) in str(arguments[0]):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def die_at_byte(number, models):
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))

outcomes = []
for arrange, number in [(die_at_event, n) for n in range(100)] + [(die_at_byte, size * n // 4) for n in range(1, 5)]:
    if arrange is die_at_event and outcomes and not outcomes[-1][0]:
        continue
    models = home / str(len(outcomes))
    child = os.fork()
    if child == 0:
        arrange(number, models)
        find_model(folder, models)
        os._exit(0)
    killed = os.waitpid(child, 0)[1] != 0
    before = [path.stat().st_size for path in models.rglob(SAFETENSORS)]
    find_model(folder, models)
    outcomes.append([killed, before, [path.name for path in models.rglob("*.partial")]])
print(json.dumps(outcomes))
"""


def test_a_conversion_killed_at_any_moment_leaves_nothing_that_is_taken_for_whole(
    bert: BertForSequenceClassification, layout: Path, tmp_path: Path
) -> None:
    size = (find_model(str(layout), tmp_path / "unhurt") / SAFETENSORS).stat().st_size
    told = subprocess.run(
        [sys.executable, "-c", KILLED, str(layout), str(tmp_path / "homes"), str(size)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    outcomes = json.loads(told.stdout)
    killed = [before for was_killed, before, *_ in outcomes if was_killed]
    assert len(killed) > 8 + 3  # at every opened and renamed file, and within the weights
    assert [before for before in killed if before not in ([], [size])] == []
    assert [] in killed
    assert [left_over for *_, left_over in outcomes if left_over] == []
    state = bert.state_dict()
    made = [load_file(str(path)) for path in (tmp_path / "homes").rglob(SAFETENSORS)]
    assert len(made) == len(outcomes)
    assert all(tensors.keys() == state.keys() and all(torch.equal(tensors[name], state[name]) for name in state) for tensors in made)


# a pickle that holds more than tensors


@pytest.mark.parametrize("form", ["torch", "plain"])
def test_a_pickle_with_code_in_it_is_refused_and_nothing_runs(layout: Path, tmp_path: Path, trap: object, form: str) -> None:
    state = {"bert.embeddings.word_embeddings.weight": trap}
    if form == "torch":
        torch.save(state, layout / PICKLE)
    else:
        (layout / PICKLE).write_bytes(pickle.dumps(state))
    with pytest.raises(Refusal, match=r"pytorch_model\.bin"):
        find_model(str(layout), tmp_path / "models")
    with pytest.raises(Refusal, match=r"pytorch_model\.bin"):
        build(layout)
    assert not (tmp_path / "sprung").exists()
    assert not list((tmp_path / "models").rglob(SAFETENSORS))
    pickle.loads(pickle.dumps(state))  # noqa: S301 - the trap works where pickle is used
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "content", [[torch.ones(2)], {"epoch": 3}, {1: torch.ones(2)}, {"model": {"weight": torch.ones(2)}}, torch.ones(2)]
)
def test_a_pickle_that_is_no_table_of_tensors_is_refused(layout: Path, tmp_path: Path, content: object) -> None:
    torch.save(content, layout / PICKLE)
    for models in (None, tmp_path / "models"):
        with pytest.raises(Refusal, match=r"pytorch_model\.bin"):
            build(find_model(str(layout), models))


# the hub, without a network

ASK = """
import json, sys
from pathlib import Path
from model.classifier import build_classifier, source_of
from model.hub import find_model
from model.refusal import Refusal

told = {}
for name, models in json.loads(sys.argv[1]):
    try:
        folder = find_model(source_of(name), Path(models) if models else None)
        classifier = build_classifier(name, folder, dropout=0.1, seed=1)
        ids = classifier.encode(["좋다"], max_tokens=9)[0].tolist()
        told[name + ("@home" if models else "")] = [str(folder), classifier.base_digest, ids]
    except Refusal as refusal:
        told[name + ("@home" if models else "")] = str(refusal)
print(json.dumps(told))
"""


def offline(cache: Path) -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache)}


def ask(cache: Path, *questions: tuple[str, Path | None]) -> dict[str, Any]:
    """What a fresh process without a network, whose hub cache is ``cache``, answers for each name and Home."""
    words = json.dumps([[name, str(models) if models else ""] for name, models in questions])
    told = subprocess.run([sys.executable, "-c", ASK, words], cwd=ROOT, env=offline(cache), capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    answers: dict[str, Any] = json.loads(told.stdout)
    return answers


def put_into_cache(cache: Path, source: str, folder: Path) -> Path:
    """As the hub's client leaves a download: blobs, links to them in a snapshot, and the branch that points there."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "hub" / f"models--{source.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for made in (repository / "blobs", repository / "refs", snapshot):
        made.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, repository / "blobs" / f"blob{number}")
        (snapshot / path.name).symlink_to(f"../../blobs/blob{number}")
    (repository / "refs/main").write_text(commit)
    return snapshot


@dataclass(frozen=True)
class Offline:
    """What one process without a network answered, and the snapshots that its hub cache held."""

    snapshots: dict[str, Path]
    models: Path
    answers: dict[str, Any]


@pytest.fixture(scope="module")
def unconnected(bert: BertForSequenceClassification, tmp_path_factory: pytest.TempPathFactory) -> Offline:
    root = tmp_path_factory.mktemp("offline")
    kobert = save_layout(root / "kobert", bert, spiece())
    mbert = save_layout(root / "mbert", random_bert(config(vocab_size=len(WORDS), **SMALL)), b"", SAFETENSORS)
    (mbert / "spiece.model").unlink()
    (mbert / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    (mbert / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    named = save_layout(root / "named", bert, spiece(), SAFETENSORS)
    part = save_layout(root / "part", bert, spiece())
    (part / PICKLE).unlink()
    cache, models = root / "cache", root / "home/models"
    snapshots = {
        "kobert": put_into_cache(cache, "skt/kobert-base-v1", kobert),
        "mbert": put_into_cache(cache, "bert-base-multilingual-cased", mbert),
        "owner/name": put_into_cache(cache, "owner/name", named),
    }
    put_into_cache(cache, "owner/part", part)
    absent: list[tuple[str, Path | None]] = [(name, place) for name in ("owner/absent", "owner/part") for place in (None, models)]
    answers = ask(cache, *((name, None) for name in snapshots), ("kobert", models), ("mbert", models), *absent)
    return Offline(snapshots, models, answers)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "좋", "##다", "Good"]


@pytest.mark.parametrize("name", ["kobert", "mbert", "owner/name"])
def test_kobert_mbert_and_any_hub_id_load_from_the_hub_s_cache(unconnected: Offline, name: str) -> None:
    snapshot = unconnected.snapshots[name]
    folder, digest, ids = unconnected.answers[name]
    assert folder == str(snapshot)
    assert digest == build(snapshot, name).base_digest
    assert ids == ([2, 5, 6, 3] if name == "mbert" else build(snapshot, name).encode(["좋다"], max_tokens=9)[0].tolist())


def test_a_pickle_of_the_hub_is_converted_into_home_which_then_needs_the_hub_no_more(unconnected: Offline) -> None:
    place = unconnected.models / "skt--kobert-base-v1"
    assert unconnected.answers["kobert@home"] == [str(place), *unconnected.answers["kobert"][1:]]
    assert (place / SAFETENSORS).is_file()
    assert find_model("skt/kobert-base-v1", unconnected.models) == place
    assert unconnected.answers["mbert@home"] == unconnected.answers["mbert"]


def test_without_a_network_the_refusal_names_the_files_their_place_and_the_way_out(unconnected: Offline) -> None:
    everything = "lacks config.json; model.safetensors or pytorch_model.bin; spiece.model, tokenizer.json or vocab.txt here"
    for name, lacks in (("owner/absent", everything), ("owner/part", "lacks model.safetensors or pytorch_model.bin here")):
        for asked in (name, f"{name}@home"):
            answer = unconnected.answers[asked]
            assert f"'{name}' {lacks}" in answer
            assert "use --model compact, which needs no download" in answer
            assert "\n" not in answer
        assert "name that folder by --model" in unconnected.answers[name]
        assert f"'{unconnected.models / name.replace('/', '--')}'" in unconnected.answers[f"{name}@home"]


def test_the_command_line_says_so_in_one_sentence(tmp_path: Path) -> None:
    told = subprocess.run(
        [str(Path(sys.executable).parent / "healing"), "simulate", "--model", "kobert"],
        cwd=tmp_path,
        env=offline(tmp_path / "cache"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    for words in ("'skt/kobert-base-v1'", "config.json", PICKLE, "spiece.model", "--model compact"):
        assert words in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()
