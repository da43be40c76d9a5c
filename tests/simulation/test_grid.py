"""The in-process Grid: Flower's contract, without Flower's engine."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from simulation.grid import InProcessGrid

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    number = int(context.node_config["partition-id"])
    if number == 1:
        raise RuntimeError("비밀 일기 문장")
    message.content["order"]["seen"] = number
    return Message(RecordDict({"reply": ConfigRecord({"who": number, "keys": sorted(message.content["order"])})}), reply_to=message)


def orders(grid: InProcessGrid) -> list[Message]:
    content = RecordDict({"arrays": ArrayRecord({"a": Array(np.ones(3, dtype=np.float32))}), "order": ConfigRecord({"round": 1})})
    return [Message(content, node, "train") for node in grid.get_node_ids()]


def test_every_device_answers_once_and_a_raising_one_with_an_error_that_tells_nothing() -> None:
    grid = InProcessGrid(app, clients=3, run_config={})
    replies = list(grid.send_and_receive(orders(grid)))
    assert [reply.has_error() for reply in replies] == [False, True, False]
    assert replies[1].error.reason == "RuntimeError"
    assert [reply.metadata.src_node_id for reply in replies] == list(grid.get_node_ids())


def test_a_device_that_changes_its_message_does_not_change_the_next_ones() -> None:
    grid = InProcessGrid(app, clients=3, run_config={})
    replies = list(grid.send_and_receive(orders(grid)))
    assert [list(replies[number].content["reply"]["keys"]) for number in (0, 2)] == [["round", "seen"]] * 2
    messages = orders(grid)
    list(grid.send_and_receive(messages))
    assert list(messages[0].content["order"]) == ["round"]


def test_devices_run_only_when_their_reply_is_asked_for() -> None:
    answered: list[int] = []
    grid = InProcessGrid(app, clients=3, run_config={}, on_reply=lambda reply: answered.append(reply.metadata.src_node_id))
    replies = iter(grid.send_and_receive(orders(grid)))
    assert answered == []
    next(replies)
    assert len(answered) == 1


def test_pushed_messages_are_pulled_once() -> None:
    grid = InProcessGrid(app, clients=3, run_config={})
    names = list(grid.push_messages(orders(grid)))
    assert len(list(grid.pull_messages(names))) == 3
    assert list(grid.pull_messages(names)) == []
