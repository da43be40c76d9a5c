"""docs/api.md says only what works: its blocks run as they are pasted, its errors and limits are the code's own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\n(.*?)^```", DOCS, flags=re.MULTILINE | re.DOTALL)


def test_every_block_runs_as_it_is_pasted(tmp_path: Path) -> None:
    """In a folder of its own and on a free port; `serve` in one terminal, all else in another."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bin = tmp_path / "bin"
    bin.mkdir()
    for name, module in (("healing", "-m healing"), ("python3", "")):
        (bin / name).write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {module} "$@"\n')
        (bin / name).chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key != "HEALING_HOME"} | {"PATH": f"{bin}:{os.environ['PATH']}"}
    environment["HEALING_MODELS"] = str(ROOT / "model" / "assets")  # the real one, as a reader of the page has it
    begin, *others = [block.replace("8000", str(port)) for block in BLOCKS]
    served = subprocess.Popen(
        ["bash", "-euc", begin.replace("client serve", f"client serve --port {port}")],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert served.stdout is not None
    try:
        while "?token=" not in (line := served.stdout.readline()):
            assert line, "the server ended by itself"
        script = "\n".join(others).replace("curl -s", "curl -sS --fail-with-body")
        shell = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    finally:
        os.killpg(served.pid, signal.SIGTERM)
        served.wait(30)
        served.stdout.close()
    assert done.returncode == 0, done.stdout + done.stderr
    for told in ('"emotion":"anxiety"', "read as sadness by model version 2", "5 tracks in the JSPF", '{"imported":1,"skipped":0}'):
        assert told in done.stdout


def test_the_error_that_is_shown_is_what_the_api_answers() -> None:
    from pydantic import ValidationError

    from client.api import edge
    from client.api.problems import Problem

    [shown] = [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", DOCS, flags=re.MULTILINE | re.DOTALL)]
    with pytest.raises(ValidationError) as refused:
        edge.JustText.model_validate({"text": ""})
    [broken] = refused.value.errors()
    errors = [{"at": f"body.{broken['loc'][0]}", "rule": broken["msg"]}]
    assert shown == Problem("invalid", "some values break the rules of this address", errors=errors).document()


def test_the_limits_that_are_told_are_the_codes_own() -> None:
    from client.api.access import SESSION_SECONDS
    from client.api.edge import MOST_CHARACTERS
    from client.api.guard import IMPORTS, Limits
    from client.api.serve import HEAD_BYTES, HEAD_SECONDS
    from client.music.jukebox import MOST_PLAYLISTS

    limits = Limits()
    assert f"{MOST_CHARACTERS:,} characters" in DOCS
    assert f"{limits.body // 10**6} MB" in DOCS
    assert f"history {IMPORTS['/v1/listens/import'] // 2**20} MB, a catalogue {IMPORTS['/v1/songs/import'] // 2**20} MB" in DOCS
    assert f"a diary {IMPORTS['/v1/import'] // 2**20} MB" in DOCS
    assert f"{HEAD_BYTES // 2**10} kB, within {HEAD_SECONDS:g} s" in DOCS
    assert f"{limits.arrival:g} s in all" in DOCS
    assert f"within {limits.answer:g} s" in DOCS
    assert f"last {MOST_PLAYLISTS} playlists" in DOCS
    assert f"lasts {SESSION_SECONDS // 86400} days" in DOCS


def test_every_status_in_the_table_is_a_kind_of_problem() -> None:
    from client.api.problems import KINDS

    told = {int(status) for row in re.findall(r"^\| ([\d, ]+) \|", DOCS, flags=re.MULTILINE) for status in row.split(", ")}
    assert told == {kind.status for kind in KINDS.values()} - {500}
