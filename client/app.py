"""ClientApp: parse, call, reply. The same object runs in this process, on Ray and on a real node."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client.blind import (
    deal_shares,
    draw_keys,
    encrypt_update,
    make_key,
    mask_update,
    open_sum,
    require_keys_for,
    reveal_shares,
    sign_survivors,
)
from client.declined import note_declined
from client.home import Home
from client.sent import note_sent
from model.records import Declined, decode_publish_order, decode_train_order, encode_reply
from model.refusal import Refusal
from model.settings import RunSettings
from privacy.encryption_records import decode_open_order, delivered_key, encode_dealt_key, encode_encrypted, encode_opened
from privacy.fixed_point import Integers
from privacy.masking_records import (
    decode_advertise_order,
    decode_agree_order,
    decode_share_order,
    decode_unmask_order,
    delivered,
    encode_advertisement,
    encode_agreement,
    encode_masked,
    encode_shares,
    encode_unmasking,
)

app = ClientApp()

CLIENT_FAILED = 3001
"""Flower leaves error codes above 1000 to applications."""

FAILED = "the device gave no answer"
"""All that an error says, whatever the cause."""

_log = logging.getLogger("healing.client")


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on this device's diary."""
    return _answer(message, context, lambda settings, home: _trained(message.content, settings, home, _device(context)))


@app.query("advertise")
def advertise(message: Message, context: Context) -> Message:
    """Draw keys for a masked round."""

    def act(settings: RunSettings, home: Home) -> RecordDict:
        order = decode_advertise_order(message.content)
        try:
            return encode_advertisement(draw_keys(order, settings, home))
        except Refusal as refusal:
            return _declined(refusal, home, run=order.round.run, round=order.round.number)

    return _answer(message, context, act)


@app.query("share")
def share(message: Message, context: Context) -> Message:
    """Deal shares of this device's secrets among the others."""
    return _answer(message, context, lambda _, home: encode_shares(deal_shares(decode_share_order(message.content), home)))


@app.query("agree")
def agree(message: Message, context: Context) -> Message:
    """Sign the list of devices whose updates are in the sum."""
    return _answer(message, context, lambda _, home: encode_agreement(sign_survivors(decode_agree_order(message.content), home)))


@app.query("unmask")
def unmask(message: Message, context: Context) -> Message:
    """Reveal what unmasks the sum, and no more."""
    return _answer(message, context, lambda _, home: encode_unmasking(reveal_shares(decode_unmask_order(message.content), home)))


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Store the new global model on this device."""

    def act(settings: RunSettings, home: Home) -> RecordDict:
        from client.learning import publish  # as in _trained

        published = publish(decode_publish_order(message.content), settings, home)
        answer = encode_reply(published)
        return answer if published.scores is None else _noted(answer, "counts", settings, home, run="", round=published.round)

    return _answer(message, context, act)


@app.query("key")
def key(message: Message, context: Context) -> Message:
    """Make the sum key of an encrypted round."""
    return _answer(message, context, lambda _, home: encode_dealt_key(make_key(decode_share_order(message.content), home)))


@app.query("open")
def open_encrypted(message: Message, context: Context) -> Message:
    """Open the sum of an encrypted round."""
    return _answer(message, context, lambda _, home: encode_opened(open_sum(decode_open_order(message.content), home)))


def _trained(content: RecordDict, settings: RunSettings, home: Home, device: int) -> RecordDict:
    from client.learning import learn, learn_to_hide  # torch takes seconds to import, and a node starts a process for every message

    order = decode_train_order(content)
    try:
        if settings.aggregation == "plain":
            answer = encode_reply(learn(order, settings, home, device=device))
        else:
            require_keys_for(order, settings, home)
            answer = _hidden(learn_to_hide(order, settings, home, device=device), content, settings, home, round=order.round)
    except Refusal as refusal:
        return _declined(refusal, home, run=order.run, round=order.round)
    return _noted(answer, "update", settings, home, run=order.run, round=order.round)


def _declined(refusal: Refusal, home: Home, *, run: str, round: int) -> RecordDict:
    """The one answer for every cause; the true one stays in Home for the person, and in this device's log."""
    _log.warning("%s", refusal)
    note_declined(home.root, run=run, round=round, why=str(refusal))
    return encode_reply(Declined(round))


def _hidden(values: Integers, content: RecordDict, settings: RunSettings, home: Home, *, round: int) -> RecordDict:
    if settings.aggregation == "masked":
        return encode_masked(mask_update(values, delivered(content), home, round=round))
    return encode_encrypted(encrypt_update(values, delivered_key(content), home, round=round))


def _noted(answer: RecordDict, what: str, settings: RunSettings, home: Home, *, run: str, round: int) -> RecordDict:
    """The answer, once the device's own record says that it leaves."""
    length = sum(record.count_bytes() for record in answer.values())
    note_sent(home.root, run=run, round=round, what=what, bytes=length, privacy=settings.privacy, aggregation=settings.aggregation)
    return answer


def _answer(message: Message, context: Context, act: Callable[[RunSettings, Home], RecordDict]) -> Message:
    """The reply, or an error that says nothing, not even its class.

    An exception may quote what it stumbled over: diary text, or where this device keeps it. Flower would send and log
    its words and its traceback, so they end here: a refusal's sentence in this device's log, of anything else the place.
    """
    try:
        settings = RunSettings.from_run_config(context.run_config)
        return Message(act(settings, Home.find(context.node_config, settings)), reply_to=message)
    except Refusal as refusal:
        _log.warning("%s", refusal)
        return Message(Error(CLIENT_FAILED, FAILED), reply_to=message)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        _log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
        return Message(Error(CLIENT_FAILED, FAILED), reply_to=message)


def _device(context: Context) -> int:
    """A number that tells devices apart for shuffling; stable for virtual ones."""
    return int(context.node_config.get("partition-id", context.node_id))
