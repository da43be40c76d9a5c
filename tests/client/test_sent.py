"""What left the device is on its record before it leaves, and nothing else is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Context, Message, RecordDict

from client.app import app as client_app
from client.home import Home, virtual_home
from client.sent import note_sent, sent_messages
from model.examples import Example
from model.refusal import Refusal
from model.settings import RunSettings
from server.app import app as server_app
from simulation.grid import FIRST_NODE, RUN_ID, SERVER_NODE, InProcessGrid
from simulation.virtual_clients import settle

ROOT = Path(__file__).resolve().parents[2]
Small = Callable[..., RunSettings]


def note(root: Path, round: int) -> None:
    note_sent(root, run="r", round=round, what="update", bytes=100 + round, privacy="example", aggregation="plain")


def test_messages_are_kept_in_their_order_and_for_the_owner_only(tmp_path: Path) -> None:
    assert sent_messages(tmp_path, most=10) == ()
    for round in range(1, 6):
        note(tmp_path, round)
    assert [(one.round, one.bytes) for one in sent_messages(tmp_path, most=3)] == [(3, 103), (4, 104), (5, 105)]
    assert (tmp_path / "sent.jsonl").stat().st_mode & 0o077 == 0


def test_a_line_that_a_crash_tore_is_taken_away_and_the_others_stay(tmp_path: Path) -> None:
    note(tmp_path, 1)
    with (tmp_path / "sent.jsonl").open("ab") as file:
        file.write(b'{"run": "r", "rou')
    assert [one.round for one in sent_messages(tmp_path, most=10)] == [1]
    note(tmp_path, 2)
    assert [one.round for one in sent_messages(tmp_path, most=10)] == [1, 2]


def test_a_damaged_record_is_said(tmp_path: Path) -> None:
    (tmp_path / "sent.jsonl").write_text("{}\n")
    with pytest.raises(Refusal, match="is damaged"):
        sent_messages(tmp_path, most=10)


def test_what_was_noted_survives_kill_9(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from client.sent import note_sent
        for round in range(10**6):
            note_sent(Path(sys.argv[1]), run="r", round=round, what="update", bytes=1, privacy="none", aggregation="plain")
            print(round, flush=True)
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert writer.stdout is not None
    noted = [int(writer.stdout.readline()) for _ in range(20)][-1]
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert [one.round for one in sent_messages(tmp_path, most=10**6)][: noted + 1] == list(range(noted + 1))


@pytest.mark.parametrize(
    ("privacy", "aggregation"), [("none", "plain"), ("example", "plain"), ("none", "masked")], ids=["plain", "private", "masked"]
)
def test_every_update_of_a_run_is_on_the_record_of_its_device_with_its_very_length(
    tmp_path: Path, small: Small, examples: list[Example], privacy: str, aggregation: str
) -> None:
    """The wire is the oracle: what it carried from each device, weighed there. One device is paused and sends nothing."""
    people, carried = tmp_path / "people", list[Message]()
    options = {"privacy": privacy, "aggregation": aggregation, "update_clip": 1e2, "fraction_evaluate": 0.0}
    settings = small(**options, clients=4, rounds=2, out=str(tmp_path / "run"), people=str(people))
    settle(people, examples, settings)
    Home(virtual_home(people, 3)).change_participation(paused=True, skip_next=False)
    config = settings.as_run_config()
    grid = InProcessGrid(client_app, clients=4, run_config=config, on_reply=carried.append)
    server_app(grid, Context(RUN_ID, SERVER_NODE, node_config={}, state=RecordDict(), run_config=config))
    rounds = [json.loads(line) for line in (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()]
    assert [one["declined"] for one in rounds] == [{"not-ready": 1}] * 2
    for number in range(4):
        replies = [reply for reply in carried if reply.metadata.src_node_id == FIRST_NODE + number]
        updates = [reply.content for reply in replies if reply.metadata.message_type == "train" and reply.content.array_records]
        told = sent_messages(virtual_home(people, number), most=100)
        assert [one.bytes for one in told] == [sum(record.count_bytes() for record in update.values()) for update in updates]
        assert len(told) == (0 if number == 3 else 2)
        assert {(one.privacy, one.aggregation, one.what) for one in told} <= {(privacy, aggregation, "update")}
