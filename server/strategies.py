"""Which aggregation goes with which protection: every combination that would break a promise is refused here."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from model.records import GlobalModel
from model.refusal import Refusal
from model.settings import AGGREGATIONS, PRIVACY_KINDS, ROBUST, STRATEGIES, RunSettings
from privacy.agreement import shared_noise, user_plan
from privacy.encryption import SumForm
from privacy.plan import calibrated
from privacy.register import FILE as REGISTER
from privacy.register import Register, read_register
from privacy.roster import FEWEST_ASKED, MOST_ASKED
from server.averaging import FederatedAveraging, hostile_updates
from server.blind import EncryptedAveraging, MaskedAveraging
from server.journal import Journal
from server.user_level import UserLevelAveraging, population_ledger


def build_strategy(settings: RunSettings, model: GlobalModel, journal: Journal, *, rounds_done: int = 0) -> FederatedAveraging:
    """The strategy for the run's protection; :class:`Refusal` for one that this server does not know, or that breaks a promise."""
    require_allowed(settings)
    plan = calibrated(settings) if settings.protects_entries else None
    ledger = population_ledger(_population(settings, journal), settings) if settings.protects_people else None
    if settings.aggregation != "plain":
        require_size(settings, model.weights.size)
        register = _register(settings)
        blind = MaskedAveraging if settings.aggregation == "masked" else EncryptedAveraging
        return blind(settings, model, journal, plan=plan, register=register, ledger=ledger, rounds_done=rounds_done)
    if ledger is not None:
        return UserLevelAveraging(
            settings, model, journal, plan=plan, user_plan=user_plan(settings), ledger=ledger, rounds_done=rounds_done
        )
    return FederatedAveraging(settings, model, journal, plan=plan, rounds_done=rounds_done)


def require_allowed(settings: RunSettings) -> None:
    """Raise :class:`Refusal` for a combination of privacy, aggregation and strategy that does not hold what it promises."""
    for name, value, known in (
        ("privacy", settings.privacy, PRIVACY_KINDS),
        ("aggregation", settings.aggregation, AGGREGATIONS),
        ("strategy", settings.strategy, STRATEGIES),
    ):
        if value not in known:
            raise Refusal(f"{name} is '{value}'; this server knows {', '.join(known)}")
    if settings.strategy in ROBUST:
        _require_robust_allowed(settings)
    if settings.protects_people:
        _require_user_level_allowed(settings)
    if settings.aggregation != "plain":
        _require_hiding_allowed(settings)


def _require_robust_allowed(settings: RunSettings) -> None:
    if settings.aggregation != "plain":
        raise Refusal(
            f"strategy {settings.strategy} compares single updates and aggregation {settings.aggregation} hides them; "
            "use aggregation plain, or strategy fedavg, fedprox or fedadam"
        )
    asked = settings.clients_per_round
    bears = hostile_updates(settings)
    if settings.strategy != "median" and bears == 0:
        raise Refusal(
            f"hostile {settings.hostile:g} of {asked} updates a round is less than one, so {settings.strategy} would be the plain mean; "
            "raise hostile or let more clients train, or use median"
        )
    fewest = 2 * bears + 3
    if settings.strategy == "multi-krum" and asked < fewest:
        raise Refusal(
            f"multi-krum needs {fewest} updates a round to bear {bears} hostile ones and {asked} clients train; "
            "lower hostile, let more clients train, or use median"
        )


def _require_user_level_allowed(settings: RunSettings) -> None:
    if settings.strategy in ROBUST:
        raise Refusal(
            f"privacy {settings.privacy} has its noise measured for a mean and one person moves strategy {settings.strategy} further; "
            "use strategy fedavg, fedprox or fedadam, or privacy example"
        )
    if settings.update_precision != "fp32":
        raise Refusal("update-precision fp16 rounds an update past the norm that it was clipped to; user-level privacy needs fp32")
    user_plan(settings)
    if settings.aggregation != "plain":
        shared_noise(settings)


def require_size(settings: RunSettings, parameters: int) -> None:
    """Raise :class:`Refusal` if so many trained parameters are more than encryption can carry."""
    if settings.aggregation == "encrypted":
        if find_spec("tenseal") is None:
            raise Refusal("aggregation encrypted needs TenSEAL, which is not installed; pip install 'feelinghealing[encryption]'")
        SumForm("0" * 64, parameters, settings.clients_per_round)


def _require_hiding_allowed(settings: RunSettings) -> None:
    if not FEWEST_ASKED <= settings.clients_per_round <= MOST_ASKED:
        raise Refusal(
            f"{settings.clients_per_round} clients train in a round and hidden sums are for {FEWEST_ASKED} to {MOST_ASKED}; "
            "change clients or fraction, or use aggregation plain"
        )
    if settings.update_precision != "fp32":
        raise Refusal(f"update-precision fp16 has no meaning where updates are {settings.aggregation} 32-bit integers; leave it at fp32")


def _population(settings: RunSettings, journal: Journal) -> Path:
    """The ledger of the people who are trained with: virtual ones live for one run, a server's own for all of its runs."""
    home = os.environ.get("HEALING_HOME", "")
    return (journal.folder if settings.people or not home else Path(home)) / "population-ledger.json"


def _register(settings: RunSettings) -> Register:
    """The devices' registered keys, which lie with the virtual people or in the server's folder; refused if a round asks more."""
    folder = settings.people or os.environ.get("HEALING_HOME", "")
    if not folder:
        raise Refusal(f"hidden aggregation needs the devices' registered keys in {REGISTER}; set HEALING_HOME to the folder that holds it")
    register = read_register(Path(folder) / REGISTER)
    if len(register.devices) < settings.clients_per_round:
        raise Refusal(
            f"{len(register.devices)} devices are registered and a round asks {settings.clients_per_round}; register more by `healing "
            "server register`, or lower clients"
        )
    return register
