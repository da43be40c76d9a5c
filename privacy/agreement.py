"""What a run's devices and its server must agree on before a round, all from the public settings: both derive it, nobody sends it."""

from __future__ import annotations

import math

from model.settings import RunSettings
from privacy.fixed_point import FixedPoint
from privacy.roster import threshold
from privacy.user_accounting import Sampling, UserPlan, calibrated_user_plan
from privacy.user_level import SharedNoise

COLLUDING = 1
"""Devices whose share of the noise is not counted on: one that reads the model knows its own."""


def user_plan(settings: RunSettings) -> UserPlan:
    """The plan with the least noise whose planned rounds together cost at most ``user-epsilon``.

    With a clip norm that adapts, the noise on the count is a twentieth of the clients (Andrew et al. 2021).
    """
    return calibrated_user_plan(
        epsilon=settings.user_epsilon,
        delta=settings.user_delta,
        rounds=settings.planned_rounds,
        clip_norm=settings.largest_update,
        clients=settings.clients,
        clients_per_round=settings.clients_per_round,
        sampling=_sampling(settings),
        count_noise=settings.clients_per_round / 20 if settings.clip_quantile else math.inf,
    )


def _sampling(settings: RunSettings) -> Sampling:
    if settings.clients_per_round == settings.clients:
        return "full"
    return "poisson" if settings.client_sampling == "poisson" else "fixed"


def shared_noise(settings: RunSettings) -> SharedNoise:
    """The plan's noise in shares, such that the fewest devices with whom a masked round ends carry all of it, one of them aside."""
    asked = settings.clients_per_round
    return SharedNoise(plan=user_plan(settings), fewest=threshold(asked) - COLLUDING, colluding=COLLUDING)


def agreed_form(settings: RunSettings) -> FixedPoint:
    """What a masked update is encoded with: no coordinate is larger than the whole update may be, and its noise."""
    if settings.protects_people:
        return shared_noise(settings).form
    return FixedPoint(settings.largest_update, settings.clients_per_round)
