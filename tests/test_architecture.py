"""The house keeps its rules: who imports whom, how files are named, what Flower is told."""

from __future__ import annotations

import ast
import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from model.settings import RunSettings

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("model", "privacy", "client", "server", "simulation")
MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "privacy": {"model"},
    "client": {"model", "privacy"},
    "server": {"model", "privacy"},
    "simulation": {"model", "privacy", "client", "server"},
}


def imported_rooms(file: Path) -> set[str]:
    """Rooms that a source file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names & set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_stands_to_its_left(room: str) -> None:
    for file in (ROOT / room).rglob("*.py"):
        assert imported_rooms(file) - {room} <= MAY_IMPORT[room], file


def test_no_file_has_a_name_that_could_stand_in_any_project() -> None:
    forbidden = {"utils", "common", "base", "helpers", "types", "constants", "core"}
    assert not [file for room in ROOMS for file in (ROOT / room).rglob("*.py") if file.stem in forbidden]


def test_only_one_place_touches_flowers_private_parts() -> None:
    users = [
        file.relative_to(ROOT).as_posix()
        for room in ROOMS
        for file in (ROOT / room).rglob("*.py")
        if "flwr.supercore" in file.read_text(encoding="utf-8")
    ]
    assert users == ["simulation/grid.py"]


def test_no_pickle_is_ever_loaded() -> None:
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    assert "pickle" not in ast.dump(node), file
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                    assert {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}.get("weights_only") == "True", file


def test_flower_reads_the_same_settings_as_we_do() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
    assert config == RunSettings().as_run_config()
    assert {key: type(value) for key, value in config.items()} == {k: type(v) for k, v in RunSettings().as_run_config().items()}
    assert all(field.metadata["help"] for field in dataclasses.fields(RunSettings))


def test_a_node_answers_a_rounds_key_messages_without_loading_the_model() -> None:
    """Flower starts a process for every message, and torch takes it seconds; of a masked round's five one trains."""
    asked = "import sys, client.app; print(sorted({'torch', 'transformers', 'opacus', 'dp_accounting'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_flower_packs_the_app_with_all_it_needs(tmp_path: Path) -> None:
    """`flwr build` drops files by their ending without a word, so look inside."""
    import zipfile

    built = subprocess.run(
        [str(Path(sys.executable).parent / "flwr"), "build", "--app", str(ROOT)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    bundles = list(tmp_path.glob("*.fab"))
    assert bundles, built.stdout + built.stderr
    with zipfile.ZipFile(bundles[0]) as bundle:
        names = set(bundle.namelist())
        assert sum(entry.file_size for entry in bundle.infolist()) < 10 * 2**20
    assert {
        "server/app.py",
        "client/app.py",
        "model/assets/diaries.jsonl",
        "model/assets/compact/tokenizer.json",
        "client/music/assets/songs.jsonl",
    } <= names
    assert not [name for name in names if name.startswith(("runs/", ".venv/"))]
