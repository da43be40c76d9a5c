"""Routes of privacy: what training has cost and sent, and whether this device takes part."""

from __future__ import annotations

import math

from fastapi import APIRouter

from client.api import edge
from client.api.device import ThisDevice
from client.home import Home
from client.sent import sent_messages
from privacy.ledger import Charge, LedgerDamaged
from privacy.plan import composed_epsilon

routes = APIRouter(prefix="/v1/privacy", tags=["privacy"])

MOST_SHOWN = 200
"""Rounds and messages that one answer lists, newest last."""

LEAVES = (
    "In a round of training this device sends a weight update: numbers of the model's trained part, clipped and noised as the round's "
    "protection says, and in a masked or encrypted round hidden besides, with keys and shares of keys. Nothing else that follows from "
    "the diary is sent, except, where this device's own policy allows unprotected training, counts of how well the model reads it."
)
STAYS = (
    "Entries, readings, corrections, listens and taste stay here, in an encrypted file. Songs are recommended on this device; a link to a "
    "song opens another service's search only when it is clicked, and names the song alone."
)


@routes.get("", summary="What was spent, what is left, what left the device")
def privacy(device: ThisDevice) -> edge.Privacy:
    """From this device's own ledger and its record of sent messages."""
    policy = device.home.policy
    charges, spent, trouble = _ledger(device.home)
    messages = [edge.Sent.of(one) for one in sent_messages(device.home.root, most=MOST_SHOWN)]
    return edge.Privacy(
        epsilon_spent=_finite(spent),
        epsilon_limit=policy.epsilon_limit,
        delta=policy.delta,
        allow_unprotected=policy.allow_unprotected,
        trouble=trouble,
        rounds=[_charge(charge, policy.delta) for charge in charges[-MOST_SHOWN:]],
        participation=edge.Participation.of(device.home.participation),
        sent=edge.Leaving(leaves=LEAVES, stays=STAYS, messages=messages),
    )


@routes.put("/participation", summary="Pause training, or skip the next round")
def participate(wanted: edge.ParticipationChange, device: ThisDevice) -> edge.Participation:
    """The device goes on reading with whatever models arrive."""
    return edge.Participation.of(device.home.change_participation(paused=wanted.paused, skip_next=wanted.skip_next))


def _ledger(home: Home) -> tuple[tuple[Charge, ...], float | None, str | None]:
    """Charges and what they cost together, or why that is not known: then nothing more is spent, and the page says so."""
    try:
        return home.ledger.charges(), home.ledger.spent(), None
    except LedgerDamaged as damage:
        return (), None, str(damage)


def _charge(charge: Charge, delta: float) -> edge.Charge:
    alone = composed_epsilon({(charge.noise_multiplier, charge.sampling_rate): charge.steps}, delta=delta)
    return edge.Charge(run=charge.run, round=charge.round, epsilon=_finite(alone))


def _finite(epsilon: float | None) -> float | None:
    return epsilon if epsilon is not None and math.isfinite(epsilon) else None
