"""Measure one function in a fresh process: seconds, CPU seconds and peak memory, of it and of all it starts.

    python measuring.py <report.json> <module> <function> <folder> ...

is the inside; :func:`measure` is the outside. CPU seconds are the kernel's own account (``wait4``) and peak memory is
``VmHWM``, both exact, for a process that does its work alone. One that starts others and does not wait for them, as Ray
does, is sampled: CPU seconds as last seen of every descendant, and the highest sum of their proportional memory (PSS,
which counts a shared page once). Of the two accounts the larger counts.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

SAMPLE_SECONDS = 0.25
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Measurement:
    """One fresh process from its start to its end, interpreter and imports included; MB are 10^6 bytes."""

    wall: float
    cpu: float
    peak_mb: float
    result: dict[str, Any]
    """What the function gave."""

    @property
    def seconds_per_round(self) -> float:
        """Mean time from the end of one round to the end of the next; what came before the first such end is left out."""
        ends = self.result["round_ends"]
        return float((ends[-1] - ends[0]) / (len(ends) - 1))


class ContestantFailed(Exception):
    """The process ended without a report; the message is the last line it wrote."""


def measure(module: str, function: str, *folders: Path) -> Measurement:
    """Call ``module.function(*folders)`` in a fresh process and measure it."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as home:
        report, log = Path(home) / "report.json", Path(home) / "log"
        environment = os.environ | ONE_THREAD | QUIET | {"FLWR_HOME": home, "PYTHONPATH": str(Path(__file__).parent)}
        command = [sys.executable, __file__, str(report), module, function, *map(str, folders)]
        with log.open("wb") as output:
            began = time.perf_counter()
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            family = _Family(process.pid)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                raise
            finally:
                family.stop()
            wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0 or not report.exists():
            raise ContestantFailed(_last_line(log) or f"exit code {process.returncode}")
        told = json.loads(report.read_text())
    cpu = max(usage.ru_utime + usage.ru_stime, family.cpu_seconds)
    return Measurement(wall, cpu, max(told["peak_mb"], family.peak_mb), told["result"])


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median, and least to most where there are several."""
    middle = f"{median(values):{form}}"
    return middle if len(values) == 1 else f"{middle} ({min(values):{form}}-{max(values):{form}})"


def resident_mb() -> float:
    """What this process holds in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def forget_peak() -> None:
    """Count this process's peak memory from here on: what came before is given back to the kernel and forgotten."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def machine_facts(packages: Sequence[str]) -> list[str]:
    """Date, machine, versions, and how busy the machine was with other things before the first measurement."""
    models = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return [
        f"date: {datetime.now():%Y-%m-%d %H:%M}",
        f"machine: {models[0] if models else platform.machine()}, {os.cpu_count()} CPUs, {memory_gb:.0f} GB, {platform.system()} "
        f"{platform.release()}; load {os.getloadavg()[0]:.1f} before the first measurement",
        f"versions: Python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in packages),
        f"sources: {_commit()}",
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()

    commit = git("rev-parse", "--short", "HEAD")
    return f"commit {commit}{', with changes' if git('status', '--porcelain', '..') else ''}" if commit else "not in a git repository"


class _Family:
    """A process and all its descendants, looked at every quarter of a second."""

    def __init__(self, root: int) -> None:
        self._cpu_by_process = {root: 0.0}
        self.peak_mb = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def cpu_seconds(self) -> float:
        return sum(self._cpu_by_process.values())

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            living = [process for process in _processes() if process.pid in self._cpu_by_process or process.parent in self._cpu_by_process]
            self._cpu_by_process |= {process.pid: process.cpu_seconds for process in living}
            if len(living) > 1:  # one alone tells its own peak, exactly
                self.peak_mb = max(self.peak_mb, sum(_proportional_mb(process.pid) for process in living))


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    cpu_seconds: float


def _processes() -> list[_Process]:
    """Every process of this machine, parents before their children."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()  # the name before it may hold spaces
        except OSError:
            continue  # it has just ended
        ticks = int(fields[11]) + int(fields[12])
        found.append(_Process(int(folder.name), int(fields[1]), ticks / os.sysconf("SC_CLK_TCK")))
    return sorted(found, key=lambda process: process.pid)


def _proportional_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""


def _inside(report: str, module: str, function: str, *folders: str) -> None:
    result = getattr(importlib.import_module(module), function)(*map(Path, folders))
    Path(report).write_text(json.dumps({"result": result, "peak_mb": _peak_mb()}))


if __name__ == "__main__":
    _inside(*sys.argv[1:])
