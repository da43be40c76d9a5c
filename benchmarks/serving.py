"""What our API serves beside the plain transformers pipeline behind FastAPI; one table in one run, in ``results/serving.md``.

    python benchmarks/serving.py [--bodies compact kobert] [--servers plain torch onnx] [--users 1 16 64] [--seconds S]
                                 [--repeats N] [--swaps N] [--threads N] [--quick] [--data FOLDER] [--results FOLDER]

**Serving.** Each server is a fresh process on loopback with the same weights (random) and torch's own number of threads, or
``--threads``: the plain pipeline, and ours with each engine (*torch* in float32, *onnx* in int8). The users are in this
process, and share the machine with it. A user sends a diary entry to ``/v1/predict``, waits for the answer, and sends the
next: *p50* and *p99* are of that wait, *requests/s* is of all users together, *CPU ms* is what the server's process took for
one answer. The entries are the bundled diaries', in one order that all servers get. The servers take turns (plain, torch,
onnx; then again), the *ratio* is of one turn's rates, and the median is given with the least and the most. The first second
of each stretch is not counted. *RSS* is what the server holds in memory after the last stretch. An answer other than 200
ends the measurement.

**Swaps.** While 64 users ask, a new checkpoint of the head is published again and again; a swap takes from its publication to
the first answer that names it.

**One entry of 32 tokens**, in this process and on one thread: the body as transformers runs it by itself (eager attention,
float32), and our int8 graph of it, by turns; median of the thread's CPU time.

**Agreement** of the engine onnx with the engine torch, by emotion-v2 (compact, trained weights) on KOTE's test rows of one of
the four emotions (``kote/test.tsv`` in ``--data`` or ``HEALING_DATA``; without it on the bundled diaries, part of which it has learned).

What is cut short by ``--quick``, ``--bodies``, ``--servers``, ``--users`` or ``--threads`` is printed only, unless ``--results``
names a folder for it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from measuring import QUIET, machine_facts, spread
from rich.console import Console
from rich.table import Table
from serving_engines import agreement, latencies
from serving_server import BODIES, TOKEN, head_of, probabilities_apart, publish, write_model

from client.home import Home
from model.examples import bundled_diaries, texts

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "onnxruntime", "transformers", "tokenizers", "fastapi", "uvicorn", "numpy")
SERVERS = ("plain", "torch", "onnx")
USERS = (1, 16, 64)
MANY = 64
UNCOUNTED = 1.0
RATIO_GOAL = 4.0
FASTER_GOAL = 3.5
AGREEMENT_GOAL = 99.0
SWAP_GOAL = 0.5
SAME_PROBABILITIES = 1e-5

HEADINGS = ("Body", "Users", "Server", "p50 ms", "p99 ms", "requests/s", "CPU ms", "Ratio", "Outcome", "RSS MB")


@dataclass(frozen=True)
class Stretch:
    """So many users for some seconds."""

    waits: list[float]
    seconds: float
    cpu_seconds: float
    """What the server's process took, for the uncounted answers at both ends too: a little more than is due."""

    @property
    def rate(self) -> float:
        return len(self.waits) / self.seconds

    def percentile(self, percent: int) -> float:
        """Milliseconds."""
        return 1e3 * quantiles(self.waits, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True)
class Served:
    """One server's life: its stretches by number of users, its memory, and its swaps in seconds."""

    stretches: dict[int, Stretch]
    resident_mb: float
    swaps: list[float]


class Failed(Exception):
    """A server did not start, or answered something else than 200."""


def main() -> None:
    options = _options()
    facts = machine_facts(PACKAGES)
    facts.append(f"{options.seconds:g} s a stretch, {options.repeats} repeat(s), {len(_entries())} entries")
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(prefix="serving-") as scratch:
        for body in options.bodies:
            folder = Path(scratch) / body
            folder.mkdir()
            write_model(body, folder)
            apart = probabilities_apart(folder, _entries()[:16])
            same = "the same" if apart <= SAME_PROBABILITIES else "NOT the same, so the ratios mean nothing"
            facts.append(f"{body}: plain and torch give {same} (at most {apart:.1e} apart)")
            facts.append(_latency(body, folder))
            found = _measured(body, folder, options)
            rows += _rows(body, found, options)
            facts += _swapped(body, found)
    facts.append(_agreement(options.data))
    _print(rows, facts)
    if options.results:
        options.results.mkdir(exist_ok=True, parents=True)
        (options.results / "serving.md").write_text(_markdown(rows, facts), encoding="utf-8")
        print(f"written to {options.results / 'serving.md'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our API beside the plain transformers pipeline behind FastAPI.")
    parser.add_argument("--bodies", nargs="+", choices=BODIES, default=list(BODIES))
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--users", nargs="+", type=int, default=list(USERS), help="concurrent users of each stretch")
    parser.add_argument("--seconds", type=float, default=10.0, help="counted seconds of each stretch")
    parser.add_argument("--repeats", type=int, default=3, help="turns of the servers")
    parser.add_argument("--threads", type=int, help="threads of torch in every server (torch's own number)")
    parser.add_argument("--swaps", type=int, default=10, help="new checkpoints published to each of our servers in its first life")
    parser.add_argument("--quick", action="store_true", help="compact alone, five seconds, one repeat, two swaps: to see that it runs")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HEALING_DATA", "../shared/data")))
    parser.add_argument("--results", type=Path, help="folder of serving.md")
    options = parser.parse_args()
    if options.quick:
        options.bodies, options.seconds, options.repeats, options.swaps = ["compact"], 5.0, 1, 2
    everything = (options.bodies, options.users, options.servers) == (list(BODIES), list(USERS), list(SERVERS))
    whole = everything and not options.quick and not options.threads
    if not options.results and whole:
        options.results = RESULTS
    return options


def _measured(body: str, folder: Path, options: argparse.Namespace) -> dict[str, list[Served]]:
    found: dict[str, list[Served]] = {who: [] for who in options.servers}
    for repeat in range(options.repeats):
        for who in found:
            with _server(who, folder, options.threads) as (port, process):
                swaps = options.swaps if who != "plain" and repeat == 0 else 0
                served = asyncio.run(_served(port, process, folder, options, swaps))
            found[who].append(served)
            rates = ", ".join(f"{users} users {stretch.rate:,.1f}/s" for users, stretch in served.stretches.items())
            print(f"{body} {who} {repeat + 1}/{options.repeats}: {rates}, {served.resident_mb:,.0f} MB", file=sys.stderr, flush=True)
    return found


@contextmanager
def _server(who: str, folder: Path, threads: int | None) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [os.environ.get("PYTHONPATH", ""), str(ROOT), str(Path(__file__).parent)]
    environment = os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    command = [sys.executable, str(Path(__file__).with_name("serving_server.py")), who, str(folder), str(port)]
    with (folder / f"{who}.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(port, process, folder / f"{who}.log")
        yield port, process
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            raise Failed(log.read_text(errors="replace")[-500:])
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise Failed("the server did not start within two minutes")


async def _served(port: int, process: subprocess.Popen[bytes], folder: Path, options: argparse.Namespace, swaps: int) -> Served:
    stretches = {users: await _stretch(port, process.pid, users, options.seconds) for users in options.users}
    took = await _swaps(port, folder, swaps) if swaps else []
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return Served(stretches, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, took)


async def _stretch(port: int, pid: int, users: int, seconds: float) -> Stretch:
    waits: list[float] = []
    entries = itertools.cycle(_entries())
    begins = time.perf_counter() + UNCOUNTED
    ends = begins + seconds

    async def ask() -> None:
        async with _connection(port) as (reader, writer):
            while (began := time.perf_counter()) < ends:
                await _answer(reader, writer, next(entries))
                if began >= begins:
                    waits.append(time.perf_counter() - began)

    asking = asyncio.gather(*(ask() for _ in range(users)))
    await asyncio.sleep(begins - time.perf_counter())
    before = _cpu_seconds(pid)
    await asking
    if len(waits) < 2:
        raise Failed(f"{users} users had {len(waits)} answers in {seconds:g} seconds; give them more --seconds")
    return Stretch(waits, time.perf_counter() - begins, _cpu_seconds(pid) - before)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _swaps(port: int, folder: Path, count: int) -> list[float]:
    """Seconds from each publication to the first answer by the new version, while many users ask."""
    home, head = Home(folder / "home"), await asyncio.to_thread(head_of, folder)
    newest, took, done = 0, [], False
    entries = itertools.cycle(_entries())

    async def ask() -> None:
        nonlocal newest
        async with _connection(port) as (reader, writer):
            while not done:
                newest = max(newest, (await _answer(reader, writer, next(entries)))["model"]["version"])

    asking = [asyncio.create_task(ask()) for _ in range(MANY)]
    for number in range(count):
        version = await asyncio.to_thread(publish, folder, home, head.scale(1 + (number + 1) / 1000))
        began = time.perf_counter()
        while newest < version and not any(task.done() for task in asking):
            await asyncio.sleep(0.002)
        took.append(time.perf_counter() - began)
    done = True
    await asyncio.gather(*asking)
    return took


@asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> dict[str, dict[str, int]]:
    """One request over a connection that stays open: as little work as a user can be, for it takes the servers' time."""
    body = json.dumps({"text": text}).encode()
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    said = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    content = await reader.readexactly(int(said.partition("content-length:")[2].split("\r\n")[0]))
    if not said.startswith("http/1.1 200"):
        raise Failed(said.split("\r\n")[0])
    answer: dict[str, dict[str, int]] = json.loads(content)
    return answer


def _entries() -> list[str]:
    return [entry for part in bundled_diaries() for entry in texts(part.examples)]


def _rows(body: str, found: dict[str, list[Served]], options: argparse.Namespace) -> list[tuple[str, ...]]:
    rows = []
    for count, who in itertools.product(options.users, found):
        stretches = [served.stretches[count] for served in found[who]]
        cells = [body, str(count), who]
        cells += [spread([stretch.percentile(percent) for stretch in stretches], ",.1f") for percent in (50, 99)]
        cells.append(spread([stretch.rate for stretch in stretches], ",.1f"))
        cells.append(spread([1e3 * stretch.cpu_seconds / len(stretch.waits) for stretch in stretches], ",.1f"))
        cells += _beside_plain(count, who, found)
        rows.append((*cells, spread([served.resident_mb for served in found[who]], ",.0f")))
    return rows


def _beside_plain(users: int, who: str, found: dict[str, list[Served]]) -> tuple[str, str]:
    if who == "plain" or "plain" not in found:
        return "", ""
    pairs = zip(found["plain"], found[who], strict=True)
    ratios = [ours.stretches[users].rate / plain.stretches[users].rate for plain, ours in pairs]
    return spread(ratios), _outcome(median(ratios), RATIO_GOAL) if users == MANY else ""


def _outcome(value: float, goal: float) -> str:
    return f"{'met' if value >= goal else f'not met: {value:.2f}'} (at least {goal:g})"


def _swapped(body: str, found: dict[str, list[Served]]) -> list[str]:
    facts = []
    for who, lives in found.items():
        swaps = [seconds for served in lives for seconds in served.swaps]
        if swaps:
            goal = f"; the goal is {SWAP_GOAL}: {'met' if max(swaps) <= SWAP_GOAL else 'not met'}" if body == "compact" else ""
            facts.append(f"{body} {who}: {len(swaps)} swaps while {MANY} users ask, {spread(swaps)} s each and no request failed{goal}")
    return facts


def _latency(body: str, folder: Path) -> str:
    eager, int8 = latencies(folder)
    outcome = f": {_outcome(eager / int8, FASTER_GOAL)}" if body == "kobert" else ""
    return f"{body}, one entry of 32 tokens: eager float32 {eager:.1f} CPU ms, int8 {int8:.1f}, {eager / int8:.2f} times as fast{outcome}"


def _agreement(data: Path) -> str:
    found = agreement(data)
    share = f"of {found.texts:,} texts ({found.source}) {found.same:.2%} are read as the same emotion by onnx and torch"
    return f"compact, emotion-v2: {share}, probabilities at most {found.apart:.3f} apart: {_outcome(100 * found.same, AGREEMENT_GOAL)}"


def _print(rows: Sequence[tuple[str, ...]], facts: Sequence[str]) -> None:
    table = Table(*HEADINGS, title="Serving", show_lines=True)
    for row in rows:
        table.add_row(*row)
    Console(width=max(Console().width, 200)).print(table)
    for fact in facts:
        print(f"- {fact}")


def _markdown(rows: Sequence[tuple[str, ...]], facts: Sequence[str]) -> str:
    lines = "".join("| " + " | ".join(cells) + " |\n" for cells in (HEADINGS, ["---"] * len(HEADINGS), *rows))
    told = "\n\n".join((__doc__ or "").split("\n\n")[2:])
    return f"# What our API serves\n\n{lines}\n## How it was measured\n\n" + "".join(f"- {fact}\n" for fact in facts) + f"\n{told}"


if __name__ == "__main__":
    main()
