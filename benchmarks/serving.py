"""What our API serves beside the plain transformers pipeline behind FastAPI; one table in one run, in ``results/serving.md``.

    python benchmarks/serving.py [--bodies compact kobert] [--users 1 16 64] [--seconds S] [--repeats N] [--swaps N]
                                 [--threads N] [--quick] [--results FOLDER]

Each server is a fresh process on loopback with the same weights (random) and torch's own number of threads, or ``--threads``;
the users are in this process, and share the machine with it. A user sends a diary entry to ``/v1/predict``, waits for the
answer, and sends the next: *p50* and *p99* are of that wait, *requests/s* is of all users together. The entries are the
bundled diaries', in one order that both servers get. The servers take turns (plain, ours; then again), the ratio is taken
pair by pair, and the median is given with the least and the most. The first second of each stretch is not counted. *RSS*
is what the server holds in memory after the last stretch. An answer other than 200 ends the measurement.
**Swaps**: while 64 users ask, a new checkpoint is published again and again; *swap s* is from its publication to the first
answer that names it.

What is cut short by ``--quick``, ``--bodies``, ``--users`` or ``--threads`` is printed only, unless ``--results`` names a folder for it.
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
from statistics import quantiles

from measuring import QUIET, machine_facts, spread
from rich.console import Console
from rich.table import Table
from serving_server import BODIES, TOKEN, head_of, probabilities_apart, publish, write_model

from client.home import Home
from model.examples import bundled_diaries, texts

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("torch", "transformers", "tokenizers", "fastapi", "uvicorn", "numpy")
USERS = (1, 16, 64)
MANY = 64
UNCOUNTED = 1.0
RATIO_GOAL = 4.0
SWAP_GOAL = 0.5
SAME_PROBABILITIES = 1e-5

HEADINGS = (
    "Body", "Users", "Plain p50 ms", "p99", "requests/s", "Ours p50 ms", "p99", "requests/s", "Ratio", "Outcome", "RSS MB plain", "ours",
)  # fmt: skip


@dataclass(frozen=True)
class Stretch:
    """So many users for some seconds."""

    waits: list[float]
    seconds: float

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
            facts.append(f"{body}: the two models give {same} (at most {apart:.1e} apart)")
            found = _measured(body, folder, options)
            rows += _rows(body, found, options.users)
            facts += _told(body, folder, found)
    _print(rows, facts)
    if options.results:
        options.results.mkdir(exist_ok=True, parents=True)
        (options.results / "serving.md").write_text(_markdown(rows, facts), encoding="utf-8")
        print(f"written to {options.results / 'serving.md'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our API beside the plain transformers pipeline behind FastAPI.")
    parser.add_argument("--bodies", nargs="+", choices=BODIES, default=list(BODIES))
    parser.add_argument("--users", nargs="+", type=int, default=list(USERS), help="concurrent users of each stretch")
    parser.add_argument("--seconds", type=float, default=20.0, help="counted seconds of each stretch")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of servers")
    parser.add_argument("--threads", type=int, help="threads of torch in both servers (torch's own number)")
    parser.add_argument("--swaps", type=int, default=10, help="new checkpoints published to our server in its first life")
    parser.add_argument("--quick", action="store_true", help="compact alone, five seconds, one repeat, two swaps: to see that it runs")
    parser.add_argument("--results", type=Path, help="folder of serving.md")
    options = parser.parse_args()
    if options.quick:
        options.bodies, options.seconds, options.repeats, options.swaps = ["compact"], 5.0, 1, 2
    whole = not options.quick and options.bodies == list(BODIES) and options.users == list(USERS) and not options.threads
    if not options.results and whole:
        options.results = RESULTS
    return options


def _measured(body: str, folder: Path, options: argparse.Namespace) -> dict[str, list[Served]]:
    found: dict[str, list[Served]] = {"plain": [], "ours": []}
    for repeat in range(options.repeats):
        for who in found:
            with _server(who, folder, options.threads) as (port, process):
                swaps = options.swaps if who == "ours" and repeat == 0 else 0
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
    stretches = {users: await _stretch(port, users, options.seconds) for users in options.users}
    took = await _swaps(port, folder, swaps) if swaps else []
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return Served(stretches, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, took)


async def _stretch(port: int, users: int, seconds: float) -> Stretch:
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

    await asyncio.gather(*(ask() for _ in range(users)))
    if len(waits) < 2:
        raise Failed(f"{users} users had {len(waits)} answers in {seconds:g} seconds; give them more --seconds")
    return Stretch(waits, time.perf_counter() - begins)


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


def _rows(body: str, found: dict[str, list[Served]], users: Sequence[int]) -> list[tuple[str, ...]]:
    rows = []
    for count in users:
        cells = [body, str(count)]
        for who in ("plain", "ours"):
            stretches = [served.stretches[count] for served in found[who]]
            cells += [spread([stretch.percentile(percent) for stretch in stretches], ",.1f") for percent in (50, 99)]
            cells.append(spread([stretch.rate for stretch in stretches], ",.1f"))
        ratios = [
            ours.stretches[count].rate / plain.stretches[count].rate for plain, ours in zip(found["plain"], found["ours"], strict=True)
        ]
        middle = sorted(ratios)[len(ratios) // 2]
        met = "met" if middle >= RATIO_GOAL else f"not met: {middle:.2f}"
        cells += [spread(ratios), f"{met} (at least {RATIO_GOAL:g})" if count == MANY else ""]
        rows.append((*cells, *(spread([served.resident_mb for served in found[who]], ",.0f") for who in ("plain", "ours"))))
    return rows


def _told(body: str, folder: Path, found: dict[str, list[Served]]) -> list[str]:
    told = json.loads((folder / "ours.json").read_text())
    facts = [f"{body}: ours answers by {told['by']}; threads of torch in each server: {told['threads']}"]
    swaps = [seconds for served in found["ours"] for seconds in served.swaps]
    if swaps:
        goal = f", the goal is {SWAP_GOAL}: {'met' if max(swaps) <= SWAP_GOAL else 'not met'}" if body == "compact" else ""
        facts.append(f"{body}: {len(swaps)} swaps while {MANY} users ask, {spread(swaps)} s each and no request failed{goal}")
    return facts


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
