"""Blind averaging: the server gets the sum of the round's updates and cannot open any of them.

A round is several exchanges with the devices, one of which is Flower's training message: five where updates are masked
(``privacy.masking``), four where they are encrypted (``privacy.encryption``). A device that fails at one of them is left out
of the rest and named in the journal; with fewer than two thirds of those asked the round is lost and changes nothing. Every
update counts the same, since a weight would be a number of entries in the clear. No single update can be checked: each
device clips its own to ``update-clip`` before it hides it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import SystemRandom
from typing import Protocol, TypeVar

import numpy as np
from flwr.app import Message, MessageType, RecordDict
from flwr.serverapp import Grid

from model.records import NOT_READY, Declined, GlobalModel, TrainOrder, decode_reply, encode_train_order
from model.refusal import Refusal
from model.settings import RunSettings
from model.weights import Weights
from privacy.agreement import agreed_form, shared_noise
from privacy.encryption import EncryptedSum, SumForm, megabytes
from privacy.encryption_records import (
    KeyDelivery,
    OpenOrder,
    decode_dealt_key,
    decode_encrypted,
    decode_opened,
    encode_open_order,
    key_delivery,
)
from privacy.fixed_point import Integers
from privacy.masking import Delivered, Enrolled, collect, confirm, deliver, enrol, total
from privacy.masking_records import (
    RECORD,
    AdvertiseOrder,
    AgreeOrder,
    ShareOrder,
    UnmaskOrder,
    decode_advertisement,
    decode_agreement,
    decode_masked,
    decode_shares,
    decode_unmasking,
    delivery,
    encode_advertise_order,
    encode_agree_order,
    encode_share_order,
    encode_unmask_order,
)
from privacy.plan import PrivacyPlan
from privacy.register import Register
from privacy.roster import Advertisement, MaskingRound
from privacy.round_work import masking_run, work_digest
from privacy.user_accounting import UserLedger
from server.averaging import FederatedAveraging
from server.journal import Journal

STAGE_TIMEOUT = 300.0
"""Seconds that one exchange of keys or shares may take; a device that is killed is given up after about 60."""


class _Sent(Protocol):
    @property
    def device(self) -> int: ...


Answer = TypeVar("Answer", bound=_Sent)


class BlindAveraging(FederatedAveraging, ABC):
    """FedAvg of equal weights over updates that the server cannot open. ``register`` has the devices' public keys.

    What is done with keys before and with the sum after training is a subclass's; a :class:`Refusal` there loses the round.
    """

    def __init__(
        self,
        settings: RunSettings,
        model: GlobalModel,
        journal: Journal,
        *,
        plan: PrivacyPlan | None,
        register: Register,
        ledger: UserLedger | None,
        rounds_done: int,
    ) -> None:
        super().__init__(settings, model, journal, plan=plan, ledger=ledger, rounds_done=rounds_done)
        self._register = register
        self._noise = shared_noise(settings) if ledger is not None else None
        self._randomness = SystemRandom()
        self._nodes: dict[int, int] = {}
        self._grid: Grid | None = None
        self._enrolled: Enrolled | None = None

    @abstractmethod
    def _prepared(self, enrolled: Enrolled, order: RecordDict) -> dict[int, RecordDict]:
        """The train orders by device, once everybody's keys are known."""

    @abstractmethod
    def _sum(self, enrolled: Enrolled, replies: Iterable[Message], round: int) -> tuple[Integers, int, float]:
        """The sum (D,) of the survivors' values, how many they are, and the MB that one of them sent."""

    @property
    def _update_clip(self) -> float:
        return self._settings.largest_update

    def _to_train(self, grid: Grid, round: int) -> list[int]:
        if self._ledger is not None and self._noise is not None:
            self._ledger.require_affordable(self._noise.plan)
        return super()._to_train(grid, round)

    def _train_messages(self, order: TrainOrder, nodes: list[int], grid: Grid) -> list[Message]:
        """Exchange keys, then order those who took part to train; none if too few did."""
        self._grid, self._nodes, self._enrolled = grid, {}, None
        round = MaskingRound(masking_run(order.run), order.round, len(nodes), work_digest(order, self._settings))
        try:
            opening = encode_advertise_order(AdvertiseOrder(round, self._register.digest))
            enrolled = enrol(round, self._asked_first(grid, nodes, opening), self._register.devices)
            self._note(enrolled.refused)
            orders = self._prepared(enrolled, encode_train_order(order))
        except Refusal as lost:
            self.tally.lost = str(lost)
            return []
        self._enrolled = enrolled
        return [
            Message(content=content, message_type=MessageType.TRAIN, dst_node_id=self._nodes[device]) for device, content in orders.items()
        ]

    def _mean(self, replies: Iterable[Message], round: int) -> Weights | None:
        """The sum over the number of devices in it; under user-level privacy over the plan's public number."""
        if self._enrolled is None:
            return None
        try:
            values, devices, megabytes = self._sum(self._enrolled, replies, round)
        except Refusal as lost:
            self.tally.lost = str(lost)
            return None
        self.tally.trained, self.tally.mb_sent_per_client = devices, megabytes
        summed = agreed_form(self._settings).decode(values, self._model.weights.shapes)
        return self._noise.mean(summed) if self._noise is not None else summed.scale(1.0 / devices)

    def _charge(self, survivors: int, round: int) -> None:
        """Under user-level privacy: what a sum of so many shares of the noise costs, on disk before it is opened."""
        if self._ledger is not None and self._noise is not None:
            self._ledger.charge(self._noise.plan_of(survivors), run=self._journal.run, round=round)

    def _hidden(self, replies: Iterable[Message], decode: Callable[[RecordDict], Answer]) -> Iterator[Answer]:
        """The updates, as they come, of those who trained."""
        for reply in replies:
            if self._answers_blindly(reply, "a train order"):
                yield from self._read(reply, decode)

    def _answers_blindly(self, reply: Message, order: str) -> bool:
        """Whether this is a message of the protocol; if not, what it is instead is noted."""
        if not reply.has_error() and RECORD in reply.content:
            return True
        answer = self._decoded(reply, decode_reply)
        if isinstance(answer, Declined):
            self.tally.declined[NOT_READY] += 1
        elif answer is not None:
            self.tally.refused[reply.metadata.src_node_id] = f"answered {order} with an update that is not hidden"
        return False

    def _asked_first(self, grid: Grid, nodes: list[int], opening: RecordDict) -> Iterator[Advertisement]:
        """The nodes' advertisements; from then on each node is the device that it said it was."""
        messages = [Message(content=opening, message_type="query.advertise", dst_node_id=node) for node in nodes]
        for reply in grid.send_and_receive(messages, timeout=STAGE_TIMEOUT):
            advertisement = self._decoded(reply, decode_advertisement) if self._answers_blindly(reply, "the call for keys") else None
            if advertisement is None:
                continue
            if advertisement.device in self._nodes:
                self.tally.refused[reply.metadata.src_node_id] = f"says that it is device {advertisement.device}, as another node did"
                continue
            self._nodes[advertisement.device] = reply.metadata.src_node_id
            yield advertisement

    def _answers(self, action: str, orders: Mapping[int, RecordDict], decode: Callable[[RecordDict], Answer]) -> Iterator[Answer]:
        """One exchange with these devices."""
        if self._grid is None:
            return
        messages = [
            Message(content=content, message_type=f"query.{action}", dst_node_id=self._nodes[device]) for device, content in orders.items()
        ]
        for reply in self._grid.send_and_receive(messages, timeout=STAGE_TIMEOUT):
            yield from self._read(reply, decode)

    def _read(self, reply: Message, decode: Callable[[RecordDict], Answer]) -> Iterator[Answer]:
        """The answer, if it reads back and is the sender's own."""
        answer = self._decoded(reply, decode)
        if answer is None:
            return
        if self._nodes.get(answer.device) == reply.metadata.src_node_id:
            yield answer
        else:
            self.tally.refused[reply.metadata.src_node_id] = f"sent a message of device {answer.device}, which it is not"

    def _note(self, refused: Mapping[int, str]) -> None:
        self.tally.refused |= {self._nodes.get(device, device): reason for device, reason in refused.items()}


class MaskedAveraging(BlindAveraging):
    """Updates under masks that cancel in the sum."""

    _delivered: Delivered

    def _prepared(self, enrolled: Enrolled, order: RecordDict) -> dict[int, RecordDict]:
        """Everybody deals shares of their secrets; each order brings the shares that are sealed for its device."""
        sharing = encode_share_order(ShareOrder(enrolled.advertisements))
        members = [member.device for member in enrolled.advertisements]
        self._delivered = deliver(enrolled, self._answers("share", dict.fromkeys(members, sharing), decode_shares))
        self._note(self._delivered.refused)
        sealed = {device: self._delivered.sealed_for(device) for device in self._delivered.shares}
        return {device: RecordDict({**order, RECORD: delivery(shares)}) for device, shares in sealed.items()}

    def _sum(self, enrolled: Enrolled, replies: Iterable[Message], round: int) -> tuple[Integers, int, float]:
        """Unmasked with the help of those who agree on who is in it."""
        size = self._model.weights.size
        collected = collect(self._delivered, self._hidden(replies, decode_masked), size=size)
        self._note(collected.refused)
        survivors = dict.fromkeys(collected.survivors, encode_agree_order(AgreeOrder(collected.survivors)))
        confirmed = confirm(collected, self._answers("agree", survivors, decode_agreement))
        self._note(confirmed.refused)
        self._charge(len(collected.survivors), round)
        opening = encode_unmask_order(UnmaskOrder(confirmed.signatures))
        result = total(confirmed, self._answers("unmask", dict.fromkeys(confirmed.signatures, opening), decode_unmasking))
        self._note(result.refused)
        return result.values, len(result.devices), 4 * size / 1e6


class EncryptedAveraging(BlindAveraging):
    """Updates under a key that the devices share: ciphertexts add up to the ciphertext of the sum, which two devices open."""

    _form: SumForm

    def _prepared(self, enrolled: Enrolled, order: RecordDict) -> dict[int, RecordDict]:
        """One device makes the round's key; each order brings it sealed for its device."""
        members = [member.device for member in enrolled.advertisements]
        maker = self._randomness.choice(members)
        sharing = encode_share_order(ShareOrder(enrolled.advertisements))
        dealt = next(self._answers("key", {maker: sharing}, decode_dealt_key), None)
        if dealt is None:
            raise Refusal(f"device {maker}, which was to make the round's key, gave none; the round is lost, begin another")
        dealt.require_signed(self._register.devices[maker])
        self._form = SumForm(dealt.digest, self._model.weights.size, enrolled.roster.round.asked)
        given = KeyDelivery(enrolled.roster.members[maker], dealt)
        sealed = [device for device in members if device == maker or device in dealt.sealed]
        return {device: RecordDict({**order, **key_delivery(given, device)}) for device in sealed}

    def _sum(self, enrolled: Enrolled, replies: Iterable[Message], round: int) -> tuple[Integers, int, float]:
        """Added up under encryption; opened by two devices drawn by lot, who must agree."""
        total, senders = EncryptedSum(self._form), list[int]()
        for update in self._hidden(replies, decode_encrypted):
            try:
                if update.round != enrolled.roster.round or update.device in senders:
                    raise Refusal(f"device {update.device} sent an update of another round, or a second one; it was not added")
                total.add(update.ciphertext)
            except Refusal as refusal:
                self._note({update.device: str(refusal)})
                continue
            senders.append(update.device)
        if len(senders) < enrolled.roster.round.threshold:
            raise Refusal(f"{len(senders)} encrypted updates came and {enrolled.roster.round.threshold} are needed; begin another round")
        self._charge(len(senders), round)
        order = encode_open_order(OpenOrder(total.value(), len(senders)))
        opened = list(self._answers("open", dict.fromkeys(self._randomness.sample(senders, 2), order), decode_opened))
        if len(opened) < 2 or not np.array_equal(opened[0].values, opened[1].values):
            raise Refusal("the two devices that were to open the sum did not both do so, or opened different sums; begin another round")
        return opened[0].values, len(senders), megabytes(self._model.weights.size)
