"""Which aggregation goes with which protection; every update is checked here before it counts.

``FederatedAveraging`` is Flower's ``FedAvg`` with three differences. Devices send the *difference* to the weights they
were given. Replies are taken one by one as they come and never held together (a running mean: two copies of the
weights in memory, however many devices). And a bad update costs its sender the round and nobody else: Flower's own
averages a NaN into the model.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from model.records import (
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
from model.weights import RunningMean, Shapes
from privacy.plan import PrivacyPlan, calibrated
from server.journal import Journal

NODES_TIMEOUT = 600.0
"""Seconds to wait until enough devices are connected; Flower's own ``sample_nodes`` waits for ever."""


@dataclass
class RoundTally:
    """What happened to the orders of one round."""

    trained: int = 0
    declined: Counter[str] = field(default_factory=Counter)
    refused: dict[int, str] = field(default_factory=dict)
    """Node id and reason: an update that failed its check, or a device that failed."""
    mb_sent_per_client: float = 0.0
    device_scores: Scores | None = None
    started: float = field(default_factory=time.monotonic)


def build_strategy(settings: RunSettings, model: GlobalModel, journal: Journal, *, rounds_done: int = 0) -> FederatedAveraging:
    """The strategy for the run's protection; :class:`Refusal` for one that this server does not know."""
    if settings.privacy == "none":
        return FederatedAveraging(settings, model, journal, plan=None, rounds_done=rounds_done)
    if settings.privacy == "example":
        return FederatedAveraging(settings, model, journal, plan=calibrated(settings), rounds_done=rounds_done)
    raise Refusal(f"privacy is '{settings.privacy}'; this server knows none and example")


class FederatedAveraging(FedAvg):
    """FedAvg (McMahan et al. 2017) over checked updates. ``tally`` tells of the round that was aggregated last."""

    def __init__(self, settings: RunSettings, model: GlobalModel, journal: Journal, *, plan: PrivacyPlan | None, rounds_done: int) -> None:
        super().__init__(fraction_train=settings.fraction, fraction_evaluate=max(settings.fraction_evaluate, 1e-9))
        self.plan = plan
        self.tally = RoundTally()
        self._settings = settings
        self._model = model
        self._journal = journal
        self._rounds_done = rounds_done
        self._asked: Counter[int] = Counter()
        self._asked_before = journal.most_asked()

    def summary(self) -> None:
        """Flower's summary speaks of keys that are not ours."""

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Order a sample of the devices to train."""
        round = self._rounds_done + server_round
        self.tally = RoundTally()
        nodes = self._sample(grid, self._settings.clients_per_round, seed=2 * round)
        self._asked.update(nodes)
        self._journal.note_most_asked(self.most_asked)  # on disk before a device is asked: a crash can only over-count
        self._model = replace(self._model, weights=weights_of(arrays))
        plan = PlanNumbers(**vars(self.plan)) if self.plan is not None else None
        order = encode_train_order(TrainOrder(self._model, self._journal.run, round, plan))
        return self._messages(order, nodes, MessageType.TRAIN)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The received weights plus the weighted mean of the updates that pass their check."""
        mean = RunningMean()
        for reply in replies:
            update = self._checked_update(reply, self._rounds_done + server_round)
            if update is not None:
                mean.add(update.difference, update.weight)
                self.tally.trained += 1
                self.tally.mb_sent_per_client = max(self.tally.mb_sent_per_client, update.megabytes)
        if not self.tally.trained:
            return None, None
        after = self._model.weights + mean.value()
        return arrays_of(after), None

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
            answer = self._decoded(reply)
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
    def epsilon(self) -> float:
        """The largest epsilon that this run has cost a device so far; infinite without privacy."""
        return self.plan.epsilon(self.most_asked) if self.plan is not None else float("inf")

    def _checked_update(self, reply: Message, round: int) -> Update | None:
        answer = self._decoded(reply)
        if isinstance(answer, Declined):
            self.tally.declined[answer.reason] += 1
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

    def _decoded(self, reply: Message) -> Update | Declined | Published | None:
        """A device's answer, or None after noting why there is none."""
        if reply.has_error():
            self.tally.refused[reply.metadata.src_node_id] = f"the device failed: {(reply.error.reason or '')[:80]}"
            return None
        try:
            return decode_reply(reply.content)
        except Refusal as refusal:
            self.tally.refused[reply.metadata.src_node_id] = str(refusal)
            return None

    def _sample(self, grid: Grid, wanted: int, *, seed: int) -> list[int]:
        """A sample of the connected devices that the run's seed decides; waits until enough of them are there."""
        deadline = time.monotonic() + NODES_TIMEOUT
        while len(nodes := sorted(grid.get_node_ids())) < wanted:
            if time.monotonic() > deadline:
                raise Refusal(f"{len(nodes)} devices are connected and a round needs {wanted}; start more of them or lower clients")
            time.sleep(1.0)
        return random.Random(f"{self._settings.seed}:{seed}").sample(nodes, wanted)

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
