"""README says only what works: every option it names exists, every block of a user's runs, every file it links is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def run(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(["bash", "-euc", script], cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)


def test_every_option_that_readme_names_exists() -> None:
    told = "".join(
        run(f"healing {command} --help", ROOT).stdout
        for command in ("simulate", "compare", "report", "audit", "model pretrain", "client init", "client serve")
    )
    named = set(re.findall(r"`?(--[a-z][a-z-]+)", README)) - {"--help", "--node-config", "--run-config", "--strict"}
    assert named
    assert {option for option in named if f"{option} " not in told} == set()


def test_every_linked_file_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    for target in ("simulate", "test"):
        assert f"make {target}" in BLOCKS[0]
        assert run(f"make --dry-run {target}", ROOT).returncode == 0


def test_the_figures_of_the_tuning_table_are_the_models_own() -> None:
    from model.settings import RunSettings
    from model.tuning import tuned_classifier

    for tuning in ("probe", "head", "lora", "top2", "full"):
        weights = tuned_classifier(RunSettings(tuning=tuning), ROOT / "model" / "assets" / "compact").read()
        [row] = [line for line in README.splitlines() if line.startswith(f"| `{tuning}`")]
        assert f"{weights.size:,}, {weights.megabytes:.3g}" in row


@pytest.mark.slow
def test_a_users_own_text_and_then_reading_with_the_model_work_when_pasted(tmp_path: Path) -> None:
    """The researcher's private run, the own-text block, then the app developer's block, then the operator's, in a clone-like folder."""
    clone = tmp_path / "feelinghealing"
    clone.mkdir()
    for name in ("model", "privacy", "client", "server", "simulation", "healing.py", "pyproject.toml", "LICENSE", "README.md"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, clone / name)
    [own_text] = [block for block in BLOCKS if "mine.csv" in block]
    [reading] = [block for block in BLOCKS if "<<'PY'" in block]
    [operating] = [block for block in BLOCKS if "flwr build" in block]
    [private] = [block for block in BLOCKS if "healing report" in block]
    for block in (private, own_text, reading, operating):
        done = run(block.replace(".venv/bin/", ""), clone)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "기쁨 (joy)" in run(reading.replace(".venv/bin/", ""), clone).stdout
    assert (clone / "home-1" / "device.json").exists()
    assert list(clone.glob("*.fab"))
