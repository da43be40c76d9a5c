"""What init puts into a Home: the bundled files to the byte, verified, once, without a network."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from client.home import DevicePolicy, Home
from client.installation import install
from client.reading.adoption import Adopted, Adoption, Agreement, Choice
from client.reading.reader import EmotionReader
from client.reading.reading import Reading
from model.checkpoint import CheckpointStore, Manifest
from model.emotions import Emotion
from model.hub import bundles
from model.normalization import TEXT_STEP
from model.refusal import Refusal
from model.settings import RunSettings
from model.tuning import tuned_classifier
from model.weights import Weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def real_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person installs, not the small bundle of most tests."""
    monkeypatch.setenv("HEALING_MODELS", str(ROOT / "model" / "assets"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", DevicePolicy())


def digests(folder: Path) -> dict[str, str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_body_and_first_model_are_the_bundled_ones_and_read_an_entry(home: Home) -> None:
    installed = install(home)
    assert home.models is not None
    bundle = bundles()[0]
    assert digests(home.models / "compact") == digests(bundle / "compact")
    assert digests(home.checkpoints.root) == digests(bundle / "emotion-v2")
    assert len(installed.written) == 6
    assert installed.model.scores  # the manifest came over whole
    settings = RunSettings(model=installed.model.model, tuning=installed.model.tuning)
    classifier = tuned_classifier(settings, home.models / "compact")
    classifier.write(home.checkpoints.load(installed.model))
    [chances] = classifier.probabilities(["친구가 편지를 보내 하루 종일 웃었다 ㅎㅎ"], max_tokens=128)
    assert int(np.argmax(chances)) == 0


def test_a_second_time_nothing_is_written(home: Home) -> None:
    install(home)
    times = {file: file.stat().st_mtime_ns for file in home.root.rglob("*")}
    assert install(home).written == ()
    assert {file: file.stat().st_mtime_ns for file in home.root.rglob("*")} == times


def test_a_damaged_body_is_installed_again(home: Home) -> None:
    install(home)
    assert home.models is not None
    weights = home.models / "compact" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert install(home).written == (weights,)


def test_a_model_that_reached_the_device_since_is_kept(home: Home) -> None:
    first = install(home).model
    weights = home.checkpoints.load(first)
    newer = home.checkpoints.publish(
        Weights({name: array + 1 for name, array in weights.items()}), model=first.model, tuning=first.tuning,
        base_digest=first.base_digest, tokenizer_digest=first.tokenizer_digest, round=1,
    )  # fmt: skip
    again = install(home)
    assert (again.model, again.written) == (newer, ())


def test_bundled_weights_with_another_digest_are_refused_and_nothing_counts(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundles()[0]
    shutil.copytree(bundle, tmp_path / "bundle")
    weights = tmp_path / "bundle/emotion-v2/v000002/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("HEALING_MODELS", str(tmp_path / "bundle"))
    with pytest.raises(Refusal, match="digest"):
        install(home)
    assert home.checkpoints.latest() is None


def test_another_body_than_the_model_was_trained_on_is_refused(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundles()[0]
    shutil.copytree(bundle, tmp_path / "bundle")
    weights = tmp_path / "bundle/compact/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.setenv("HEALING_MODELS", str(tmp_path / "bundle"))
    with pytest.raises(Refusal, match="trained on the body"):
        install(home)


def test_init_needs_no_network(tmp_path: Path) -> None:
    """In a network namespace that holds nothing."""
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a process without a network cannot be started here")
    words = ["unshare", "-n", sys.executable, "-m", "healing", "client", "init", "--home", str(tmp_path / "home")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "verified" in done.stdout


def as_an_older_program_left_it(home: Home, *, versions: int = 1, text_step: int = 1) -> None:
    """A Home whose newest global model was made by other rules for text, and whose body was another."""
    install(home)
    body = home.models
    assert body is not None
    (body / "compact" / "model.safetensors").write_bytes(b"the weights of another body")
    shutil.rmtree(home.checkpoints.root)
    for version in range(1, versions + 1):
        what = {"base_digest": "a" * 64, "tokenizer_digest": "b" * 64}
        home.checkpoints.publish(
            Weights({"head.words.weight": np.zeros((4, 8), np.float32)}), model="compact", tuning="probe", round=1, **what
        )
        manifest = home.checkpoints.root / f"v{version:06d}" / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"text_step": text_step}))


@pytest.mark.parametrize(("versions", "text_step"), [(1, 1), (7, 1), (3, TEXT_STEP)])
def test_a_device_of_an_older_program_moves_to_the_bundled_model_as_its_next_version(home: Home, versions: int, text_step: int) -> None:
    as_an_older_program_left_it(home, versions=versions, text_step=text_step)
    installed = install(home)
    assert installed.model.version == versions + 1
    assert installed.model.digest == CheckpointStore(bundles()[0] / "emotion-v2").latest().digest  # type: ignore[union-attr]
    assert install(home).written == ()
    reader = EmotionReader(home)
    assert reader.serving is not None
    assert reader.serving.version == versions + 1
    reader.close()


def test_until_it_moves_an_older_model_is_refused_with_what_to_do(home: Home) -> None:
    as_an_older_program_left_it(home)
    with pytest.raises(Refusal, match="run `healing client init` on a device, which moves it to the bundled model"):
        home.checkpoints.latest()


def test_the_move_shows_how_often_both_models_agree_with_the_person(home: Home) -> None:
    """The older model can read no more: what it read stands in the diary."""
    as_an_older_program_left_it(home)
    serving = Adoption(home.root / "serving")
    older = json.loads((home.checkpoints.root / "v000001/manifest.json").read_text())
    serving.keep(Choice.of(Adopted(manifest=Manifest(**older)), before=None, earlier=None), Weights({"a": np.zeros(1, np.float32)}))
    rows = [("오늘 친구가 편지를 보내 하루 종일 웃었다", Emotion.JOY, 0), ("할머니가 너무 보고 싶어 사진만 봤다", Emotion.SADNESS, 0)]
    rows += [("팀장이 또 내 탓을 해서 속이 부글부글 끓는다", Emotion.ANGER, 2), ("내일 면접이라 손이 떨린다", Emotion.ANXIETY, 1)]
    for text, emotion, read in rows:
        chances = tuple(0.7 if each == read else 0.1 for each in range(4))
        home.diary.add(text, emotion=emotion, reading=Reading(probabilities=chances, version=1, digest="d"))
    install(home)
    reader = EmotionReader(home)
    assert reader.serving is not None
    assert reader.serving.agreement == Agreement(entries=4, before=0.5, after=1.0)
    reader.close()
