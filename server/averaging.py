"""One round of federated averaging; every update is checked here before it counts.

``FederatedAveraging`` is Flower's ``FedAvg`` with three differences. Devices send the *difference* to the weights they
were given. Replies are taken one by one as they come and never held together (a running mean: two copies of the
weights in memory, however many devices). And a bad update costs its sender the round and nobody else: Flower's own
averages a NaN into the model.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from model.records import (
    NOT_READY,
    Declined,
    GlobalModel,
    PlanNumbers,
    Published,
    PublishOrder,
    TrainOrder,
    Update,
    arrays_of,
    decode_reply,
    encode_publish_order,
    encode_train_order,
    weights_of,
)
from model.refusal import Refusal
from model.scores import Scores
from model.settings import RunSettings
from model.weights import RunningMean, Shapes, Weights
from privacy.plan import PrivacyPlan
from privacy.user_accounting import UserLedger
from server.descent import AdamStep, Descent, PlainStep, resumed_state, save_state
from server.journal import Journal
from server.robust import Aggregation, HeldUpdates, Median, MultiKrum, TooFewUpdates, TrimmedMean

NODES_TIMEOUT = 600.0
"""Seconds to wait until enough devices are connected; Flower's own ``sample_nodes`` waits for ever."""

Answer = TypeVar("Answer")


@dataclass
class RoundTally:
    """What happened to the orders of one round."""

    trained: int = 0
    declined: Counter[str] = field(default_factory=Counter)
    refused: dict[int, str] = field(default_factory=dict)
    """Node id and reason: an update that failed its check, or a device that failed."""
    left_out: list[int] = field(default_factory=list)
    """Nodes whose updates a robust rule had no use for."""
    lost: str = ""
    """Why a masked or encrypted round gave no sum."""
    mb_sent_per_client: float = 0.0
    device_scores: Scores | None = None
    started: float = field(default_factory=time.monotonic)


def aggregation_of(settings: RunSettings) -> Aggregation:
    """What one round's updates are added to."""
    if settings.strategy == "median":
        return HeldUpdates(Median())
    if settings.strategy == "trimmed-mean":
        return HeldUpdates(TrimmedMean(settings.hostile))
    if settings.strategy == "multi-krum":
        return HeldUpdates(MultiKrum(hostile_updates(settings)))
    return RunningMean()


def hostile_updates(settings: RunSettings) -> int:
    """How many of a round's updates may be an attacker's."""
    return TrimmedMean(settings.hostile).withstands(settings.clients_per_round)


def descent_of(settings: RunSettings) -> Descent:
    """How the server moves the model by a round's update."""
    return AdamStep(learning_rate=settings.server_learning_rate) if settings.strategy == "fedadam" else PlainStep()


class FederatedAveraging(FedAvg):
    """FedAvg (McMahan et al. 2017) over checked updates. ``tally`` tells of the round that was aggregated last.

    ``ledger`` is the population's, where people are protected as a whole.
    """

    def __init__(
        self,
        settings: RunSettings,
        model: GlobalModel,
        journal: Journal,
        *,
        plan: PrivacyPlan | None,
        ledger: UserLedger | None = None,
        rounds_done: int,
    ) -> None:
        super().__init__(fraction_train=settings.fraction, fraction_evaluate=max(settings.fraction_evaluate, 1e-9))
        self.plan = plan
        self.tally = RoundTally()
        self._settings = settings
        self._model = model
        self._journal = journal
        self._ledger = ledger
        self._rounds_done = rounds_done
        self._descent = descent_of(settings)
        self._descent_state = resumed_state(journal.folder, self._descent, model.weights.shapes, round=rounds_done)
        self._asked: Counter[int] = Counter()
        self._asked_before = journal.most_asked()

    def summary(self) -> None:
        """Flower's summary speaks of keys that are not ours."""

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Order a sample of the devices to train."""
        round = self._rounds_done + server_round
        self.tally = RoundTally()
        nodes = self._to_train(grid, round)
        self._asked.update(nodes)
        self._journal.note_most_asked(self.most_asked)  # on disk before a device is asked: a crash can only over-count
        self._model = replace(self._model, weights=weights_of(arrays))
        plan = PlanNumbers(**vars(self.plan)) if self.plan is not None else None
        return self._train_messages(TrainOrder(self._model, self._journal.run, round, plan, self._update_clip), nodes, grid)

    @property
    def _update_clip(self) -> float | None:
        """The norm that this round's updates are clipped to."""
        return None

    def _to_train(self, grid: Grid, round: int) -> list[int]:
        """The nodes that this round asks."""
        return self._sample(grid, self._settings.clients_per_round, seed=2 * round)

    def _train_messages(self, order: TrainOrder, nodes: list[int], grid: Grid) -> list[Message]:
        return self._messages(encode_train_order(order), nodes, MessageType.TRAIN)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The received weights, moved by what the updates that pass their check come to."""
        round = self._rounds_done + server_round
        mean = self._mean(replies, round)
        if mean is not None:
            weights, self._descent_state = self._descent.step(self._model.weights, mean, self._descent_state)
        save_state(self._journal.folder, self._descent_state, round=round)  # on disk before the model is published
        return (arrays_of(weights), None) if mean is not None else (None, None)

    def _mean(self, replies: Iterable[Message], round: int) -> Weights | None:
        """What the updates that pass their check come to, each let go as soon as it is added; None if nothing does."""
        total = aggregation_of(self._settings)
        senders = []
        for reply in replies:
            update = self._checked_update(reply, round)
            if update is not None:
                total.add(update.difference, update.weight)
                senders.append(reply.metadata.src_node_id)
                self.tally.mb_sent_per_client = max(self.tally.mb_sent_per_client, update.megabytes)
        try:
            mean = total.value() if senders else None
        except TooFewUpdates as refusal:
            self.tally.refused |= dict.fromkeys(senders, str(refusal))
            return None
        self.tally.trained = len(senders)
        if isinstance(total, HeldUpdates):
            self.tally.left_out = [senders[position] for position in total.left_out]
        return mean

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Send the new global model to the devices, each of which stores it."""
        if not self._settings.publications_per_round:
            return []
        round = self._rounds_done + server_round
        nodes = self._sample(grid, self._settings.publications_per_round, seed=2 * round + 1)
        model = replace(self._model, weights=weights_of(arrays))
        order = encode_publish_order(PublishOrder(model, round, self.epsilon, self._settings.delta if self.plan else 0.0))
        return self._messages(order, nodes, MessageType.EVALUATE)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Merge the counts of devices that may send them."""
        for reply in replies:
            answer = self._decoded(reply, decode_reply)
            if isinstance(answer, Published) and answer.scores is not None:
                before = self.tally.device_scores
                self.tally.device_scores = answer.scores if before is None else before + answer.scores
        scores = self.tally.device_scores
        return MetricRecord({"accuracy": scores.accuracy, "cross-entropy": scores.cross_entropy}) if scores else None

    @property
    def most_asked(self) -> int:
        """How often the device that was asked most often was asked, over all starts of this run."""
        return self._asked_before + max(self._asked.values(), default=0)

    @property
    def user_epsilon(self) -> float | None:
        """What this population has spent of its user-level privacy; None without."""
        return self._ledger.spent() if self._ledger is not None else None

    @property
    def epsilon(self) -> float:
        """The largest epsilon that this run has cost a device so far; infinite without privacy."""
        return self.plan.epsilon(self.most_asked) if self.plan is not None else float("inf")

    def _checked_update(self, reply: Message, round: int) -> Update | None:
        answer = self._decoded(reply, decode_reply)
        if isinstance(answer, Declined):
            self.tally.declined[NOT_READY] += 1
        elif isinstance(answer, Update):
            try:
                check_update(answer, self._model.weights.shapes, round=round, settings=self._settings)
            except Refusal as refusal:
                self.tally.refused[reply.metadata.src_node_id] = str(refusal)
            else:
                return answer
        elif answer is not None:
            self.tally.refused[reply.metadata.src_node_id] = "answered a train order with something else than an update"
        return None

    def _decoded(self, reply: Message, decode: Callable[[RecordDict], Answer]) -> Answer | None:
        """A device's answer, or None after noting why there is none."""
        if reply.has_error():
            self.tally.refused[reply.metadata.src_node_id] = f"the device failed: {(reply.error.reason or '')[:80]}"
            return None
        try:
            return decode(reply.content)
        except Refusal as refusal:
            self.tally.refused[reply.metadata.src_node_id] = str(refusal)
            return None

    def _sample(self, grid: Grid, wanted: int, *, seed: int) -> list[int]:
        """A sample of the connected devices that the run's seed decides; waits until enough of them are there."""
        nodes = self._wait_for(grid, wanted)
        return random.Random(f"{self._settings.seed}:{seed}").sample(nodes, wanted)

    def _wait_for(self, grid: Grid, wanted: int) -> list[int]:
        """The connected devices, once there are so many."""
        deadline = time.monotonic() + NODES_TIMEOUT
        while len(nodes := sorted(grid.get_node_ids())) < wanted:
            if time.monotonic() > deadline:
                raise Refusal(f"{len(nodes)} devices are connected and a round needs {wanted}; start more of them or lower clients")
            time.sleep(1.0)
        return nodes

    @staticmethod
    def _messages(content: RecordDict, nodes: list[int], message_type: str) -> list[Message]:
        return [Message(content=content, message_type=message_type, dst_node_id=node) for node in nodes]


def check_update(update: Update, shapes: Shapes, *, round: int, settings: RunSettings) -> None:
    """Raise :class:`Refusal` unless the update is of this round, has the model's names and shapes, is finite and small enough."""
    if update.round != round:
        raise Refusal(f"the update is of round {update.round} and this is round {round}; it came too late")
    if update.precision != settings.update_precision:
        raise Refusal(f"the update came in {update.precision} and the run's update-precision is {settings.update_precision}")
    if settings.privacy != "none" and update.weight != 1.0:
        raise Refusal(f"the update weighs {update.weight} and under DP every device weighs 1; the device must run the same version")
    if not 0 < update.weight <= 1e6:
        raise Refusal(f"the update weighs {update.weight}; a weight is a number of entries, above 0 and at most a million")
    update.difference.require_shapes(shapes)
    norm = update.difference.norm()
    if not norm <= settings.update_norm_limit:
        raise Refusal(f"the update has norm {norm:g}; it must be finite and at most update-norm-limit {settings.update_norm_limit:g}")
