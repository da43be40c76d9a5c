"""Checkpoints: what is published is complete and verified, whatever is cut, flipped, filled up or killed."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from model.checkpoint import CheckpointStore, Manifest, write_durably
from model.normalization import TEXT_STEP
from model.refusal import Refusal
from model.weights import Weights

ROOT = Path(__file__).parents[2]
WHAT: dict[str, Any] = {"model": "compact", "tuning": "head", "base_digest": "b" * 64, "tokenizer_digest": "t" * 64}


def weights(seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    return Weights({"head.bias": rng.normal(size=4).astype(np.float32), "head.weight": rng.normal(size=(4, 3)).astype(np.float32)})


def publish(store: CheckpointStore, seed: int = 0, **more: Any) -> Manifest:
    return store.publish(weights(seed), **WHAT, round=more.pop("round", seed), **more)


def one_sentence(refusal: pytest.ExceptionInfo[Refusal]) -> str:
    words = str(refusal.value)
    assert "\n" not in words
    assert 20 < len(words) < 400
    return words


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "store")


def run_python(script: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


# publish, latest, load


def test_an_empty_store_has_no_latest(store: CheckpointStore) -> None:
    assert store.latest() is None


def test_what_is_published_is_the_latest_and_loads_bit_for_bit(store: CheckpointStore) -> None:
    given = publish(store, 3, scores={"accuracy": 0.5, "confusion": [[1, 0], [0, 1]]}, epsilon=2.5, delta=1e-4)
    found = CheckpointStore(store.root).latest()
    assert found == given
    loaded = store.load(given)
    assert all(np.array_equal(loaded[name], weights(3)[name]) for name in weights(3))
    assert set(loaded) == set(weights(3))


def test_the_manifest_says_what_was_given(store: CheckpointStore) -> None:
    given = publish(store, 3, scores={"accuracy": 0.5}, epsilon=2.5, delta=1e-4)
    fields = dataclasses.asdict(given)
    assert {key: fields[key] for key in WHAT} == WHAT
    assert (given.round, given.scores, given.epsilon, given.delta) == (3, {"accuracy": 0.5}, 2.5, 1e-4)
    assert given.digest == weights(3).digest


def test_without_privacy_the_expense_is_infinite_also_after_reading_it_back(store: CheckpointStore) -> None:
    publish(store)
    found = store.latest()
    assert found is not None
    assert (found.epsilon, found.delta) == (float("inf"), 0.0)


def test_versions_rise_by_one_and_each_names_its_parent(store: CheckpointStore) -> None:
    chain = [publish(store, seed) for seed in range(4)]
    assert [manifest.version for manifest in chain] == [1, 2, 3, 4]
    assert [manifest.parent for manifest in chain] == ["", *(manifest.digest for manifest in chain[:-1])]


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_only_the_newest_versions_are_kept(tmp_path: Path, keep: int) -> None:
    store = CheckpointStore(tmp_path, keep=keep)
    chain = [publish(store, seed) for seed in range(6)]
    assert sorted(folder.name for folder in tmp_path.iterdir() if folder.is_dir()) == [f"v{n:06d}" for n in range(7 - keep, 7)]
    for manifest in chain[-keep:]:
        assert store.load(manifest).digest == manifest.digest
    for manifest in chain[:-keep]:
        with pytest.raises(Refusal):
            store.load(manifest)
        with pytest.raises(Refusal, match=f"version {manifest.version} "):
            store.manifest(manifest.version)


def test_the_store_holds_safetensors_and_json_readable_by_their_owner_only(store: CheckpointStore) -> None:
    publish(store)
    files = sorted(path for path in store.root.rglob("*") if path.is_file())
    assert [path.name for path in files] == ["latest", "manifest.json", "weights.safetensors"]
    assert set(load_file(str(files[2]))) == set(weights())
    assert json.loads(files[1].read_text())["digest"] == weights().digest
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600] * 3


# damage


@pytest.mark.parametrize("length", [0, 1, 8, 60, -1])
def test_truncated_weights_are_refused(store: CheckpointStore, length: int) -> None:
    manifest = publish(store)
    path = store.root / "v000001/weights.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(Refusal, match=r"weights\.safetensors") as refusal:
        store.load(manifest)
    one_sentence(refusal)


def test_a_flipped_bit_in_any_byte_of_the_weights_is_refused(store: CheckpointStore) -> None:
    manifest = publish(store)
    path = store.root / "v000001/weights.safetensors"
    whole = path.read_bytes()
    accepted = []
    for at in range(len(whole)):
        for bit in (at % 8, (at + 3) % 8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << bit)]) + whole[at + 1 :])
            try:
                store.load(manifest)
                accepted.append((at, bit))
            except Refusal:
                pass
    assert accepted == []


def test_other_weights_in_its_place_are_refused_with_both_digests(store: CheckpointStore) -> None:
    manifest = publish(store)
    save_file(dict(weights(9)), str(store.root / "v000001/weights.safetensors"))
    with pytest.raises(Refusal) as refusal:
        store.load(manifest)
    words = one_sentence(refusal)
    assert manifest.digest[:12] in words
    assert weights(9).digest[:12] in words


def test_missing_weights_are_refused(store: CheckpointStore) -> None:
    manifest = publish(store)
    (store.root / "v000001/weights.safetensors").unlink()
    with pytest.raises(Refusal) as refusal:
        store.load(manifest)
    one_sentence(refusal)


def test_a_pickle_in_place_of_the_weights_is_refused_and_not_run(store: CheckpointStore, tmp_path: Path, trap: object) -> None:
    manifest = publish(store)
    content = pickle.dumps(trap)
    (store.root / "v000001/weights.safetensors").write_bytes(content)
    with pytest.raises(Refusal):
        store.load(manifest)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(content)  # noqa: S301 - the trap works where pickle is used
    assert (tmp_path / "sprung").exists()


def without_digest(content: dict[str, Any]) -> Any:
    del content["digest"]
    return content


MANIFESTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "not UTF-8": lambda whole: b"\xff\xfe" + whole,
    "a list": lambda whole: b"[1, 2]",
    "a number": lambda whole: b"7",
    "without its digest": lambda whole: json.dumps(without_digest(json.loads(whole))).encode(),
    "with a key too many": lambda whole: json.dumps(json.loads(whole) | {"extra": 1}).encode(),
    "with a version of another type": lambda whole: json.dumps(json.loads(whole) | {"version": "1"}).encode(),
    "with no digest in its place": lambda whole: json.dumps(json.loads(whole) | {"digest": None}).encode(),
    "of another version": lambda whole: json.dumps(json.loads(whole) | {"version": 2}).encode(),
}


@pytest.mark.parametrize("damage", MANIFESTS)
def test_a_damaged_manifest_is_refused_by_its_path(store: CheckpointStore, damage: str) -> None:
    publish(store, 0)
    path = store.root / "v000001/manifest.json"
    path.write_bytes(MANIFESTS[damage](path.read_bytes()))
    with pytest.raises(Refusal, match=r"v000001/manifest\.json") as refusal:
        store.manifest(1)
    one_sentence(refusal)


def test_a_damaged_manifest_is_not_blamed_on_the_file_latest(store: CheckpointStore) -> None:
    publish(store)
    (store.root / "v000001/manifest.json").write_text("{")
    with pytest.raises(Refusal, match=r"v000001/manifest\.json"):
        store.latest()


def test_a_manifest_of_another_format_is_refused_with_both_numbers(store: CheckpointStore) -> None:
    publish(store)
    path = store.root / "v000001/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    for read in (lambda: store.manifest(1), store.latest):
        with pytest.raises(Refusal, match="format 99") as refusal:
            read()
        one_sentence(refusal)


def test_a_checkpoint_of_another_text_step_is_refused_with_both(store: CheckpointStore) -> None:
    publish(store)
    path = store.root / "v000001/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"text_step": TEXT_STEP + 1}))
    with pytest.raises(Refusal, match=f"text step {TEXT_STEP + 1} .* step {TEXT_STEP}") as refusal:
        store.latest()
    one_sentence(refusal)


@pytest.mark.parametrize("content", [b"", b"\n", b"abc", b"1.5", b"\xff\xfe\x00", b"\x00\x00", b"9" * 5000, b"-1", b"2"])
def test_a_damaged_latest_is_refused_and_publishing_does_not_start_anew(store: CheckpointStore, content: bytes) -> None:
    publish(store)
    (store.root / "latest").write_bytes(content)
    with pytest.raises(Refusal) as refusal:
        store.latest()
    assert str(store.root) in one_sentence(refusal)
    with pytest.raises(Refusal):
        publish(store, 1)
    assert store.load(store.manifest(1)).digest == weights().digest


def test_what_a_crash_left_before_latest_named_it_is_replaced(store: CheckpointStore) -> None:
    publish(store, 0)
    (store.root / "v000002").mkdir()
    (store.root / "v000002/weights.safetensors").write_bytes(b"half")
    (store.root / "v000002/.manifest.json.77.partial").write_bytes(b"{")
    assert store.load(publish(store, 1)).digest == weights(1).digest
    assert sorted(path.name for path in (store.root / "v000002").iterdir()) == ["manifest.json", "weights.safetensors"]


# kill -9

KILL_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
import numpy as np
from model.checkpoint import CheckpointStore
from model.weights import Weights

store = CheckpointStore(Path(sys.argv[1]), keep=2)

def publish(seed):
    value = np.random.default_rng(seed).normal(size=300).astype(np.float32)
    return store.publish(Weights({"w": value}), model="m", tuning="head", base_digest="", tokenizer_digest="", round=seed)

for seed in range(4):
    publish(seed)
for step in range(1, 500):
    before = store.latest()
    child = os.fork()
    if child == 0:
        seen = 0
        def count(event, arguments):
            global seen
            if event == "open" or event.startswith(("os.", "shutil.")):
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        publish(1000 + step)
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    after = store.latest()
    store.load(after)
    assert after.version - before.version in ((0, 1) if killed else (1,)), (step, before.version, after.version)
    assert after.round == (before.round if after.version == before.version else 1000 + step)
    if not killed:
        break
published = publish(9)
assert store.load(published).digest == published.digest
folders = sorted(int(path.name[1:]) for path in store.root.glob("v*"))
assert folders == [published.version - 1, published.version], folders
print(step)
"""


@pytest.mark.slow
def test_a_publisher_killed_at_any_step_leaves_the_old_or_the_new_version_whole(tmp_path: Path) -> None:
    done = run_python(KILL_AT_EVERY_STEP, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10  # it was killed at more than ten different steps


PUBLISH_FOR_EVER = """
import itertools, sys
from pathlib import Path
import numpy as np
from model.checkpoint import CheckpointStore
from model.weights import Weights

store = CheckpointStore(Path(sys.argv[1]))
for number in itertools.count():
    value = np.random.default_rng(number).normal(size=20_000).astype(np.float32)
    manifest = store.publish(Weights({"w": value}), model="m", tuning="head", base_digest="", tokenizer_digest="", round=number)
    print(manifest.version, manifest.digest, flush=True)
"""


@pytest.mark.slow
def test_a_killed_publisher_loses_nothing_that_it_had_acknowledged(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "store")
    for acknowledged in (1, 4, 9):
        with subprocess.Popen(
            [sys.executable, "-c", PUBLISH_FOR_EVER, str(store.root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline().split() for _ in range(acknowledged)]
            child.send_signal(signal.SIGKILL)
            lines += [line.split() for line in child.stdout.read().splitlines()]
        latest = store.latest()
        assert latest is not None
        assert store.load(latest).digest == latest.digest
        assert latest.version >= int(lines[-1][0])
        assert latest.version > int(lines[-1][0]) or latest.digest == lines[-1][1]


# a full disk

FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from model.checkpoint import CheckpointStore, write_durably
from model.weights import Weights

root = Path(sys.argv[1])
write_durably(root / "note", b"the old one")
store = CheckpointStore(root / "store")
value = np.ones(5000, dtype=np.float32)
what = dict(model="m", tuning="head", base_digest="", tokenizer_digest="")
store.publish(Weights({"w": value}), round=1, **what)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # Python ignores SIGXFSZ: writing more is an OSError
for attempt in (
    lambda: write_durably(root / "note", b"x" * 5000),
    lambda: store.publish(Weights({"w": 2 * value}), round=2, **what),
):
    try:
        attempt()
    except OSError:
        print("failed")
"""


def test_a_full_disk_leaves_the_old_file_and_the_old_checkpoint(tmp_path: Path) -> None:
    done = run_python(FULL_DISK, tmp_path)
    assert done.stdout.split() == ["failed", "failed"], done.stderr
    assert (tmp_path / "note").read_bytes() == b"the old one"
    assert [path.name for path in tmp_path.rglob("*.partial")] == []
    store = CheckpointStore(tmp_path / "store")
    latest = store.latest()
    assert latest is not None
    assert (latest.version, latest.round) == (1, 1)
    assert np.array_equal(store.load(latest)["w"], np.ones(5000))


# write_durably


def test_a_file_is_written_whole_private_and_without_leftovers(tmp_path: Path) -> None:
    write_durably(tmp_path / "deep/er/file", b"content")
    assert (tmp_path / "deep/er/file").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "deep/er/file").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["file"]


def test_a_file_that_others_could_read_is_private_after_it_was_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o644)
    write_durably(tmp_path / "file", b"new")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_what_a_killed_writer_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / f".file.{os.getpid()}.partial").write_bytes(b"a long leftover of a process that had this number")
    write_durably(tmp_path / "file", b"short")
    assert (tmp_path / "file").read_bytes() == b"short"


def test_a_folder_in_the_way_is_an_error_and_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_durably(tmp_path / "file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
