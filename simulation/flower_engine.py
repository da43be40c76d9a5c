"""The same run on Flower's own simulation engine (Ray), through `flwr run`.

`flwr run` leaves with exit code 0 although the run failed, and starts a SuperLink that nobody stops. Here the SuperLink
is a child of ours on a port of its own, with its state in a temporary folder; the run's status is asked of Flower and
its results are read from what the ServerApp itself wrote, and only both together count as success.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from model.refusal import Refusal
from model.settings import RunSettings
from server.journal import Journal

PROJECT = Path(__file__).resolve().parent.parent
"""The Flower app's folder, which is the project's; only the command line looks for it, never an app that Flower runs."""

START_TIMEOUT = 90.0
POLL_SECONDS = 1.0
POLLS_A_STATUS = 5
"""Asking Flower starts a program that takes a second of the processor; the journal is a file."""


def run_on_flower(settings: RunSettings, journal: Journal, on_progress: Callable[[int, Journal], None]) -> None:
    """Run the rounds with `flwr run`; :class:`Refusal` with the log's last lines if Flower did not finish them."""
    if find_spec("ray") is None:
        raise Refusal("engine 'ray' needs Flower's simulation extra, which is not installed; pip install 'feelinghealing[ray]'")
    if not (PROJECT / "pyproject.toml").is_file():
        raise Refusal(f"engine 'ray' hands the project's folder to `flwr run` and '{PROJECT}' has no pyproject.toml; run it from a clone")
    with tempfile.TemporaryDirectory(prefix="healing-flower-") as scratch, superlink(Path(scratch), "--simulation") as flower:
        run_id = flower.submit(settings, "--federation-config", f"num-supernodes={settings.clients}")
        flower.finish(run_id, settings, journal, on_progress)


@dataclass(frozen=True)
class Flower:
    """Flower's command line, pointed at one SuperLink."""

    address: str
    environment: dict[str, str]

    def finish(self, run_id: str, settings: RunSettings, journal: Journal, on_progress: Callable[[int, Journal], None]) -> None:
        """Wait for a run's end; :class:`Refusal` with the log's last lines if Flower did not finish its rounds."""
        while (status := self.status(run_id)) and not status.startswith("finished"):
            for _ in range(POLLS_A_STATUS):
                on_progress(0, journal)
                time.sleep(POLL_SECONDS)
                if journal.is_finished:
                    break
        on_progress(0, journal)
        done = len(journal.rounds())
        if status != "finished:completed" or done < settings.rounds:
            raise Refusal(
                f"Flower ended the run as '{status}' after {done} of {settings.rounds} rounds; its log ends: {self.log_tail(run_id)}"
            )

    def submit(self, settings: RunSettings, *options: str) -> str:
        """Hand the project's folder to `flwr run`; the run's number."""
        home = Path(self.environment["FLWR_HOME"])
        (home / "run.toml").write_text(
            "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.as_run_config().items()), encoding="utf-8"
        )
        answer = self._ask("run", str(PROJECT), "healing", "--run-config", str(home / "run.toml"), *options)
        if not answer.get("success"):
            raise Refusal(f"`flwr run` did not take the run: {str(answer.get('error-message', answer))[:300]}")
        return str(answer["run-id"])

    def status(self, run_id: str) -> str:
        """As Flower has it."""
        runs = self._ask("ls", "healing", "--run-id", run_id).get("runs", [])
        return str(runs[0]["status"]) if runs else "unknown"

    def log_tail(self, run_id: str) -> str:
        """The last lines of the ServerApp's log."""
        shown = subprocess.run([tool("flwr"), "log", run_id, "healing", "--show"], env=self.environment, capture_output=True, text=True)
        return " | ".join(line.strip() for line in shown.stdout.splitlines()[-6:] if line.strip())

    def _ask(self, *words: str) -> dict[str, Any]:
        asked = subprocess.run([tool("flwr"), *words, "--format", "json"], env=self.environment, capture_output=True, text=True)
        start = asked.stdout.find("{")
        if start < 0:
            raise Refusal(f"`flwr {words[0]}` gave no answer: {(asked.stderr or asked.stdout).strip()[-300:]}")
        answer: dict[str, Any] = json.loads(asked.stdout[start:])
        return answer


@contextmanager
def superlink(scratch: Path, *options: str, **environment: str) -> Iterator[Flower]:
    """A SuperLink for this machine alone on a free port, stopped with everything that it started; its files lie in ``scratch``."""
    port = free_port()
    surroundings = os.environ | {
        "FLWR_HOME": str(scratch),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # this environment is the app's
        "HEALING_MODELS": os.environ.get("HEALING_MODELS", str(PROJECT / "model" / "assets")),  # Flower's copy has no weights
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    surroundings |= environment
    (scratch / "config.toml").write_text(
        f'[superlink]\ndefault = "healing"\n\n[superlink.healing]\naddress = "127.0.0.1:{port}"\ninsecure = true\n', encoding="utf-8"
    )
    command = [tool("flower-superlink"), "--insecure", "--isolation", "subprocess", "--host", "127.0.0.1", "--port", str(port)]
    with (
        (scratch / "superlink.log").open("wb") as log,
        started([*command, "--database", str(scratch / "state.db"), *options], surroundings, log) as process,
    ):
        _wait_until_open(port, process, scratch / "superlink.log")
        yield Flower(f"127.0.0.1:{port}", surroundings)


@contextmanager
def started(command: list[str], environment: dict[str, str], log: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped, with everything that it started, when the block ends."""
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise Refusal(f"Flower's SuperLink did not start on port {port}; its log ends: {log.read_text(errors='replace')[-300:]}")


def tool(name: str) -> str:
    """A command of Flower's, beside this Python."""
    return str(Path(sys.executable).parent / name)
