"""InProcessGrid: Flower's Grid, calling the same ClientApp in this process.

Flower's simulation engine starts Ray and moves every message through it (measured: 8.6 s before the first round ends
and 1-2 GB, where this takes neither). This grid calls the ClientApp directly, one message at a time, and hands each
reply on before the next device trains, so that a strategy which averages as it reads never holds two updates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

# Flower's only private name in this project: Message() reads the sender from it, and there is no public way to set it.
from flwr.supercore.task_identity import TaskIdentity

RUN_ID = 1
SERVER_NODE = 1
FIRST_NODE = 1001


class InProcessGrid(Grid):
    """``clients`` virtual devices behind one ClientApp. A device that raises comes back as an error reply."""

    def __init__(
        self,
        client_app: ClientApp,
        *,
        clients: int,
        run_config: dict[str, Any],
        on_reply: Callable[[Message], None] | None = None,
    ) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN_ID, SERVER_NODE
        self._client_app = client_app
        self._on_reply = on_reply
        self._contexts = {
            FIRST_NODE + number: Context(
                run_id=RUN_ID,
                node_id=FIRST_NODE + number,
                node_config={"partition-id": number, "num-partitions": clients},
                state=RecordDict(),
                run_config=run_config,
            )
            for number in range(clients)
        }
        self._waiting: dict[str, Message] = {}
        self._sent = 0

    def set_run(self, run: Any) -> None:
        """There is one run in this process."""

    @property
    def run(self) -> Any:
        """Flower's record of a run, which nothing here needs."""
        raise NotImplementedError("an in-process grid has no record of a run; read the run config from the context")

    def create_message(self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None) -> Message:
        """A message from the server."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The virtual devices."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep messages until they are pulled."""
        names = []
        for message in messages:
            self._sent += 1
            names.append(f"{self._sent}")
            self._waiting[names[-1]] = message
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Deliver kept messages and give their replies."""
        return [self._deliver(self._waiting.pop(name)) for name in message_ids if name in self._waiting]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Deliver each message when its reply is asked for; ``timeout`` has no meaning in one process."""
        return map(self._deliver, messages)

    def _deliver(self, message: Message) -> Message:
        # Strategies put one RecordDict into every message: a device that changes its own must not change the others'.
        own = Message(_shallow_copy(message.content), message.metadata.dst_node_id, message.metadata.message_type)
        try:
            reply = self._client_app(own, self._contexts[message.metadata.dst_node_id])
        except Exception as error:
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, type(error).__name__), reply_to=own)
        if self._on_reply is not None:
            self._on_reply(reply)
        return reply


def _shallow_copy(records: RecordDict) -> RecordDict:
    """New records with the same arrays and values in them."""
    copy = RecordDict()
    for name, record in records.items():
        fresh: Any = type(record)()
        for key, value in record.items():
            fresh[key] = value
        copy[name] = fresh
    return copy
