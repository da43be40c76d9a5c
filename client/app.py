"""ClientApp: parse, call, reply. The same object runs in this process, on Ray and on a real node."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from client.home import Home
from client.learning import learn, publish
from model.records import Declined, Published, Update, decode_publish_order, decode_train_order, encode_reply
from model.refusal import Refusal
from model.settings import RunSettings

app = ClientApp()

CLIENT_FAILED = 3001
"""Flower leaves error codes above 1000 to applications."""

_log = logging.getLogger("healing.client")

Reply = Update | Declined | Published


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on this device's diary."""
    return _answer(
        message,
        context,
        lambda settings, home: learn(decode_train_order(message.content), settings, home, device=_device(context)),
    )


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Store the new global model on this device."""
    return _answer(message, context, lambda settings, home: publish(decode_publish_order(message.content), settings, home))


def _answer(message: Message, context: Context, act: Callable[[RunSettings, Home], Reply]) -> Message:
    """The reply, or an error that names nothing but its class.

    An exception may quote what it stumbled over: diary text, or where this device keeps it. Flower would send and log
    its words and its traceback, so they end here: a refusal's sentence in this device's log, of anything else the place.
    """
    try:
        settings = RunSettings.from_run_config(context.run_config)
        return Message(encode_reply(act(settings, Home.find(context.node_config, settings))), reply_to=message)
    except Refusal as refusal:
        _log.warning("%s", refusal)
        return Message(Error(CLIENT_FAILED, type(refusal).__name__), reply_to=message)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        _log.error("%s at %s:%s", type(error).__name__, place.filename, place.lineno)
        return Message(Error(CLIENT_FAILED, type(error).__name__), reply_to=message)


def _device(context: Context) -> int:
    """A number that tells devices apart for shuffling; stable for virtual ones."""
    return int(context.node_config.get("partition-id", context.node_id))
