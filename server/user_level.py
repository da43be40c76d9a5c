"""Averaging under user-level privacy: a round is charged to the population's ledger, then noised, then released.

``privacy.user_level`` has the promise and both halves; here they meet the messages. Whom to ask is drawn unpredictably
among all registered devices, since sampling hides nobody from someone who knows the run's seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from flwr.app import Message
from flwr.serverapp import Grid

from model.checkpoint import write_durably
from model.records import GlobalModel
from model.refusal import Refusal
from model.settings import RunSettings
from model.weights import Weights
from privacy.plan import PrivacyPlan
from privacy.randomness import SecureRandom
from privacy.user_accounting import UserLedger, UserPlan
from privacy.user_level import AdaptiveClip, ClippedUpdate, UserLevelSum, sampled_clients
from server.averaging import FederatedAveraging
from server.journal import Journal


class UserLevelAveraging(FederatedAveraging):
    """DP-FedAvg (McMahan et al. 2018): the mean of clipped updates with noise, over a public number of devices."""

    _ledger: UserLedger

    def __init__(
        self,
        settings: RunSettings,
        model: GlobalModel,
        journal: Journal,
        *,
        plan: PrivacyPlan | None,
        user_plan: UserPlan,
        ledger: UserLedger,
        rounds_done: int,
    ) -> None:
        super().__init__(settings, model, journal, plan=plan, ledger=ledger, rounds_done=rounds_done)
        self._user_plan = user_plan
        self._randomness = SecureRandom()
        self._asked_now: list[int] = []
        self._clip = AdaptiveClipFile(journal.folder, settings) if settings.clip_quantile else None

    @property
    def _update_clip(self) -> float:
        return self._round_plan.clip_norm

    @property
    def _round_plan(self) -> UserPlan:
        return self._clip.state.applied_to(self._user_plan) if self._clip else self._user_plan

    def _to_train(self, grid: Grid, round: int) -> list[int]:
        self._ledger.require_affordable(self._user_plan)  # before the devices train in vain
        population = self._wait_for(grid, self._settings.clients)
        if len(population) != self._settings.clients:
            raise Refusal(
                f"{len(population)} devices are connected and the plan is for {self._settings.clients}; set clients to all there are"
            )
        self._asked_now = sampled_clients(self._user_plan, population, self._randomness)
        return self._asked_now

    def _mean(self, replies: Iterable[Message], round: int) -> Weights:
        """The noised mean: charged first, and released even if nobody answered."""
        total = UserLevelSum(self._round_plan, self._model.weights.shapes, self._asked_now)
        for reply in replies:
            update = self._checked_update(reply, round)
            node = reply.metadata.src_node_id
            if update is not None:
                try:
                    total.add(node, ClippedUpdate(update.difference, self._within(update.within)))
                except Refusal as refusal:
                    self.tally.refused[node] = str(refusal)
                    continue
                self.tally.trained += 1
                self.tally.mb_sent_per_client = max(self.tally.mb_sent_per_client, update.megabytes)
        release = total.release(self._ledger, run=self._journal.run, round=round, randomness=self._randomness)
        if self._clip is not None and release.within is not None:
            self._clip.advance(release.within)
        return release.update

    def _within(self, told: bool | None) -> bool:
        """The bit of adaptive clipping; where the clip norm stays, none is told and none is used."""
        if (told is None) == (self._clip is not None):
            raise Refusal("the update says whether it was within the clip norm where that is not asked, or does not where it is")
        return bool(told)


class AdaptiveClipFile:
    """The clip norm that adapts, in a file of the run, so that a restart goes on with it."""

    def __init__(self, folder: Path, settings: RunSettings) -> None:
        self._path = folder / "clip.json"
        begun = AdaptiveClip(clip_norm=settings.largest_update, quantile=settings.clip_quantile)
        self.state = AdaptiveClip.from_json(self._path.read_text()) if self._path.exists() else begun

    def advance(self, within: float) -> None:
        """Move after a round's released fraction; on disk when this returns."""
        self.state = self.state.next(within)
        write_durably(self._path, self.state.to_json().encode())


def population_ledger(path: Path, settings: RunSettings) -> UserLedger:
    """The population's ledger, begun if there never was one; ``user-epsilon`` and ``user-delta`` are what its people were promised.

    Where its lock file is there without it, it was lost: that is damage, and no fresh budget.
    """
    ledger = UserLedger(path, limit=settings.user_epsilon, delta=settings.user_delta)
    if not path.exists() and not path.with_suffix(".lock").exists():
        ledger.begin()
    return ledger
