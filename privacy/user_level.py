"""User-level differential privacy: one person more or less hardly moves the model (McMahan et al. 2018, arXiv 1710.06963).

**Promise.** Whoever sees the model after every round, and knows the updates of everybody else, learns from it whether one
person took part at all, with whatever diary, only as far as (epsilon, delta) allows; over all rounds, runs and restarts.
**For whom**: each person of the population, as a whole. A person is a device here: one who registers two devices has two
persons' influence, and at least twice the cost.
**Against whom**: by :class:`UserLevelSum`, all who read the published model, other devices too; *not* the server, which sees
every clipped update and adds the noise. By :class:`SharedNoise` under masks, the server too, and ``colluding`` devices
with it; then only ``full`` rounds count, because the server knows whom it asked.
**Assumptions**: the server follows the protocol and keeps its ledger; it tells no reader of the model who was asked, who
answered or who was refused (sampled rounds hide people among those not asked, and a refusal depends on an update). Devices
draw their noise themselves under masks, and nobody can check that they did; a device that does not clip harms no one's
privacy but its own. That a person is registered is not hidden.
**Cost**: noise of standard deviation z * C on every coordinate of the *sum* of updates, each clipped to norm C, divided by
the public m: with few people it drowns all but a tiny head.
**Shapes**: updates are :class:`~model.weights.Weights`, float32; in fixed point int64 (D,).

The sum is divided by m of the plan, never by the number that answered: the sensitivity stays C / m whatever happens, and
the number of answers, which under Poisson sampling tells who was asked, is in nothing that is released. Devices that do not
answer or are refused count as zero: the step is shorter, and not wrong. A round to which nobody answers is charged, and
its noise is released, like any other: skipping it would tell that it was empty.

The noise is added in float64, and only then is the sum rounded to float32: float32 noise has gaps that show what was
added to it (Mironov 2012). Where the noise is shared, see :func:`noise_share` for the rounding to the grid.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from model.refusal import Refusal
from model.weights import Shapes, Weights
from privacy.fixed_point import FixedPoint, Integers
from privacy.randomness import SecureRandom
from privacy.user_accounting import LARGEST_CLIP, SMALLEST_CLIP, UserPlan

Client = TypeVar("Client", bound=Hashable)

TAIL = 14.0
"""Standard deviations of its noise for which a coordinate has room; beyond, once in 10^44 draws, the device sits the round out."""

FINEST_NOISE = 4.0
"""The least standard deviation of a share in steps of the grid: from here on the grid changes delta by less than 10^-120."""


# the device


@dataclass(frozen=True, eq=False)
class ClippedUpdate:
    """What a device sends: its update, of norm at most the clip norm, and whether it was so already."""

    update: Weights
    within: bool
    """The bit of adaptive clipping; it must not leave the device in a run that does not use it."""


def clip_update(update: Weights, clip_norm: float) -> ClippedUpdate:
    """The update scaled down so that its L2 norm over all arrays together is at most ``clip_norm``, in float32 as it is sent.

    The target lies 2^-22 below: rounding may lengthen each value by 2^-24 of itself. An update with a value that is not
    finite is refused, as no number of it could be trusted; zero stays zero.
    """
    if not SMALLEST_CLIP <= clip_norm <= LARGEST_CLIP:
        raise Refusal(f"clip-norm is {clip_norm:g}; it must be at least {SMALLEST_CLIP:g} and at most {LARGEST_CLIP:g}")
    norm = update.norm()
    if not math.isfinite(norm):
        raise Refusal("the update holds a value that is not finite; nothing was sent, lower the learning rate")
    if norm <= clip_norm:
        return ClippedUpdate(update, within=True)
    factor = clip_norm / norm * (1 - 2.0**-22)
    clipped = {name: np.asarray(array.astype(np.float64) * factor, dtype=np.float32) for name, array in update.items()}
    return ClippedUpdate(Weights(clipped), within=False)


@dataclass(frozen=True, kw_only=True)
class SharedNoise:
    """Noise that the devices add in shares, before masks or encryption hide them from the server.

    ``fewest`` honest survivors together reach the plan's noise: with more there is more than promised, with fewer the round
    must be refused (:meth:`plan_of`), or the sum would be told with too little noise. ``colluding`` is how many of the
    survivors may tell the reader of the sum what they drew, or draw nothing; a device that reads the model is one already.
    Counting on all is a promise that breaks: 10 devices, epsilon 8 at delta 10^-1.1; 1, 3 or 5 lost make it 8.7, 10.8 or 14.3.
    What is hidden is a person's update, against one of zero; that the device took part the server sees.
    """

    plan: UserPlan
    fewest: int
    colluding: int

    def __post_init__(self) -> None:
        if self.plan.sampling != "full":
            raise Refusal(
                f"sampling is '{self.plan.sampling}' and the devices share the noise; the server knows whom it asked and sampling "
                "hides nobody from it, plan for full rounds"
            )
        if math.isfinite(self.plan.count_noise):
            raise Refusal("adaptive clipping needs a server that counts, and under masks it cannot; use a fixed clip norm")
        if not (self.colluding >= 0 and self.fewest >= 1 and self.fewest + self.colluding <= self.plan.clients):
            raise Refusal(
                f"the noise counts on {self.fewest} honest survivors and bears {self.colluding} colluding of {self.plan.clients} devices; "
                "the first must be at least 1, and both together at most all"
            )

    @property
    def share_std(self) -> float:
        """Standard deviation of one device's share."""
        return self.plan.noise_multiplier * self.plan.clip_norm / math.sqrt(self.fewest)

    @property
    def form(self) -> FixedPoint:
        """The fixed point of the round: a coordinate has room for an update and its noise."""
        return FixedPoint(self.plan.clip_norm + TAIL * self.share_std, self.plan.clients)

    def plan_of(self, survivors: int) -> UserPlan:
        """The plan that a sum of so many devices follows, to be charged *before* it is opened; :class:`Refusal` for too few."""
        honest = survivors - self.colluding
        if honest < self.fewest:
            raise Refusal(
                f"{survivors} devices are left, {self.colluding} of whom may collude, and the noise needs {self.fewest} honest ones; "
                "the sum is not opened, ask again in the next round"
            )
        return replace(self.plan, noise_multiplier=self.plan.noise_multiplier * math.sqrt(honest / self.fewest))

    def mean(self, total: Weights) -> Weights:
        """The decoded sum over the plan's public number of devices."""
        return total.scale(1.0 / self.plan.clients_per_round)


def noise_share(update: ClippedUpdate, noise: SharedNoise, randomness: SecureRandom) -> Integers:
    """The clipped update (D,) on the round's grid, with this device's share of the noise on it; mask or encrypt it.

    The update is truncated to the grid, which cannot lengthen it, and the share is rounded to it, each by itself; so their sum
    is an update of norm at most C plus noise of its own. The sum of k rounded Gaussians is, but for e^(-2 pi^2 s^2) with
    s a share's standard deviation in steps, the rounded sum of a Gaussian of k shares and k - 1 uniform roundings, and what
    is done to a Gaussian mechanism's result costs nothing. For ten devices and z = 1, s is about 10^7; it is never below
    :data:`FINEST_NOISE`.
    """
    norm = update.update.norm()
    if not norm <= noise.plan.clip_norm:
        raise Refusal(f"the update's norm is {norm:g} and the clip norm {noise.plan.clip_norm:g}; clip it before noise is added")
    form = noise.form
    if noise.share_std * form.scale < FINEST_NOISE:
        raise Refusal(f"a share of the noise is finer than the grid of {noise.plan.clients} devices; ask fewer devices")
    values = form.encode(update.update)
    share = randomness.normal(torch.Size(values.shape), std=noise.share_std).numpy() * form.scale
    noised = values + np.rint(share).astype(np.int64)
    if np.abs(noised).max(initial=0) > math.floor(form.bound * form.scale):
        raise Refusal("the noise drawn does not fit the grid, which never happens by chance; nothing was sent")
    return noised


# the server


class Spending(Protocol):
    """Where a round is charged; :class:`~privacy.user_accounting.UserLedger` is one."""

    def charge(self, plan: UserPlan, *, run: str, round: int) -> float:
        """Durable when it returns; raises, and the round is not released, if it would overspend."""


@dataclass(frozen=True, eq=False)
class Release:
    """What a round tells the world: the noised mean, and, with adaptive clipping, the noised fraction within the clip norm."""

    update: Weights
    within: float | None
    epsilon: float
    """Of all rounds so far, as the ledger has it."""


def sampled_clients(plan: UserPlan, population: Sequence[Client], randomness: SecureRandom) -> list[Client]:
    """Whom to ask in a round, as the plan's accounting has it; nobody may be able to foretell it.

    ``population`` is all who are registered, not those who are connected: drawing m of fewer would ask each more often.
    """
    if plan.sampling == "poisson":
        return [population[row] for row in randomness.poisson_sample(len(population), plan.clients_per_round / plan.clients)]
    if len(population) != plan.clients:
        raise Refusal(f"{len(population)} clients are registered and the plan is for {plan.clients}; plan for those there are")
    order = np.argsort(randomness.uniform(len(population)), kind="stable")
    return [population[row] for row in sorted(order[: plan.clients_per_round])]


class UserLevelSum:
    """One round on the server: the sum of clipped updates, one from each who was asked, all with weight one.

    ``plan.clip_norm`` is the round's (see :meth:`AdaptiveClip.applied_to`). An update that breaks a rule raises
    :class:`Refusal` and changes nothing: it costs its sender the round, and nobody else.
    """

    def __init__(self, plan: UserPlan, shapes: Shapes, asked: Iterable[Hashable]) -> None:
        self._plan = plan
        self._shapes = shapes
        self._waiting = set(asked)
        self._sums: dict[str, npt.NDArray[np.float64]] = {name: np.zeros(shape) for name, shape in shapes.items()}
        self._count = 0.0
        self._open = True
        if plan.sampling != "poisson" and len(self._waiting) > plan.clients_per_round:
            raise Refusal(f"{len(self._waiting)} clients were asked and the plan is for {plan.clients_per_round} a round; ask so many")

    def add(self, client: Hashable, clipped: ClippedUpdate) -> None:
        """Add one client's update; :class:`Refusal` for one who was not asked, or answers twice, and for an update too long.

        A long update is refused and not scaled: the device clips exactly, so it is damaged or of another version, and its
        direction is worth no more than its length.
        """
        self._require_open()
        if client not in self._waiting:
            raise Refusal("the update is of a client that was not asked in this round, or has answered; each counts once")
        clipped.update.require_shapes(self._shapes)
        norm = clipped.update.norm()
        if not norm <= self._plan.clip_norm:
            raise Refusal(f"the update has norm {norm:g}; it must be finite and at most the clip norm {self._plan.clip_norm:g}")
        if not isinstance(clipped.within, bool):
            raise Refusal("the update says neither yes nor no to whether it was within the clip norm; the device must run the same version")
        self._waiting.remove(client)
        for name, array in clipped.update.items():
            self._sums[name] += array
        self._count += 0.5 if clipped.within else -0.5

    def release(self, spending: Spending, *, run: str, round: int, randomness: SecureRandom) -> Release:
        """Charge the round, then noise the sum and divide it by the plan's m; once, since a second draw would cost again."""
        self._require_open()
        epsilon = spending.charge(self._plan, run=run, round=round)
        self._open = False
        std = self._plan.update_noise * self._plan.clip_norm
        mean: dict[str, npt.NDArray[np.float32]] = {}
        for name, shape in self._shapes.items():
            noised = self._sums.pop(name) + randomness.normal(torch.Size(shape), std=std).numpy()
            mean[name] = np.asarray(noised / self._plan.clients_per_round, dtype=np.float32)
        return Release(Weights(mean), self._noised_fraction(randomness), epsilon)

    def _noised_fraction(self, randomness: SecureRandom) -> float | None:
        """Bits of -1/2 and 1/2, so that a person moves the count by 1/2; who did not answer counts as half within."""
        if math.isinf(self._plan.count_noise):
            return None
        noised = self._count + float(randomness.normal(torch.Size([1]), std=self._plan.count_noise)[0])
        return noised / self._plan.clients_per_round + 0.5

    def _require_open(self) -> None:
        if not self._open:
            raise Refusal("this round's sum was released already; begin a new sum for the next round")


@dataclass(frozen=True, kw_only=True)
class AdaptiveClip:
    """The clip norm that follows a quantile of the updates' norms (Andrew et al. 2021, arXiv 1905.03871, Algorithm 1).

    After each round the norm moves by exp(-learning_rate * (fraction within - quantile)): down while more than ``quantile``
    of the updates are within it. The fraction is noised (the plan's ``count_noise``, for which the paper recommends m / 20)
    and inside the round's z, so the norm may be public.
    """

    clip_norm: float
    quantile: float = 0.5
    learning_rate: float = 0.2

    def __post_init__(self) -> None:
        if not SMALLEST_CLIP <= self.clip_norm <= LARGEST_CLIP:
            raise Refusal(f"clip-norm is {self.clip_norm:g}; it must be at least {SMALLEST_CLIP:g} and at most {LARGEST_CLIP:g}")
        if not (0 < self.quantile < 1 and 0 < self.learning_rate <= 1):
            raise Refusal(
                f"quantile is {self.quantile:g} and the clip norm's learning rate {self.learning_rate:g}; "
                "the first lies between 0 and 1, the second above 0 and at most at 1"
            )

    def next(self, within: float) -> AdaptiveClip:
        """The state after a round with this noised fraction of updates within the norm; one beyond 0 or 1 counts as that."""
        if not math.isfinite(within):
            raise Refusal(f"the fraction of updates within the clip norm is {within}; it must be a finite number")
        factor = math.exp(-self.learning_rate * (min(1.0, max(0.0, within)) - self.quantile))
        return replace(self, clip_norm=min(LARGEST_CLIP, max(SMALLEST_CLIP, self.clip_norm * factor)))

    def applied_to(self, plan: UserPlan) -> UserPlan:
        """The plan of the round that uses this clip norm; it costs the same."""
        if math.isinf(plan.count_noise):
            raise Refusal("the plan releases no count of updates within the clip norm, so it cannot adapt; give it a count-noise")
        return replace(plan, clip_norm=self.clip_norm)

    def to_json(self) -> str:
        """For the server's folder, so that a restart goes on."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, content: str) -> AdaptiveClip:
        """What :meth:`to_json` wrote."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError) as error:
            if isinstance(error, Refusal):
                raise
            raise Refusal("the state of adaptive clipping cannot be read; restore it, or start again from the run's clip norm") from None
