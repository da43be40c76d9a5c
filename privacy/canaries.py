"""Canaries: an empirical epsilon of the private pipeline, and a test that planted faults would be seen.

:func:`canary_epsilon` runs the private pipeline on a diary of canaries, made so that each can be told from its gradient as well
as the mechanism allows at all, and computes from how well they are told a *lower* bound of epsilon that holds with a stated
confidence (Nasr et al. 2023, arXiv 2302.07956; Andrew et al. 2023, arXiv 2302.03098). A bound above the claim proves a
fault; one below proves nothing. :func:`self_test` plants faults, to show that this audit sees them.

**Against whom**: whoever sees every step's gradient sum, chooses the weights that are sent and all entries but one: more than the
server has, and what the promise of ``privacy.example_level`` is made against.
**A canary** is an entry whose pooled vector is ``LOUDNESS`` in one dimension and zero elsewhere, under weights whose pooler is
zero: its clipped gradient then lies in one column of the pooler's matrix, alone, with all of the clip norm. So one run
tests as many as the body is wide. Half of them, by coins that the attacker does not see, are in the diary.
**Assumptions**: canaries do not disturb each other (their gradients are orthogonal, and the learning rate is as good as zero).
Where every entry is in every step (sampling rate 1) a canary's score is Gaussian and the bound is that of its mean,
standardised (Gaussian DP, Dong et al. 2022); else it is Clopper & Pearson's (1934) of the rates of error of a threshold that was
chosen on other canaries, which cannot exceed about the logarithm of a tenth of their number.
**Cost**: a step of 128 canaries and a 256-wide head takes about 50 ms; noise is cryptographic, so only the coins repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from model.classifier import EmotionClassifier
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries
from model.tuning import tuned_classifier
from model.weights import Weights
from privacy.attacks import Values
from privacy.example_level import train_privately
from privacy.plan import PrivacyPlan, calibrated
from privacy.randomness import SecureRandom
from privacy.user_accounting import UserPlan
from privacy.user_level import UserLevelSum, clip_update


@dataclass(frozen=True)
class Stage:
    """Where the audit is, for who waits."""

    done: int
    total: int
    what: str


OnStage = Callable[[Stage], None]


def quiet(stage: Stage) -> None:
    """Tells nobody."""


LOUDNESS = 1000.0
"""Length of a canary's pooled vector: its gradient is so much larger in its own column than in the biases, which canaries share."""

STILL = 1e-9
"""The learning rate of an audit, so that a canary's gradient is the same in every step; a server may send any."""

CONFIDENCE = 0.99

Pipeline = Callable[[EmotionClassifier, Entries, RunSettings, PrivacyPlan, SecureRandom], None]
"""What trains one private round: :func:`privacy.example_level.train_privately`, or one with a planted fault."""


@dataclass(frozen=True)
class EmpiricalEpsilon:
    """What is claimed, and what is at least spent, with the stated confidence."""

    claimed: float
    at_least: float
    confidence: float
    canaries: int
    method: str

    @property
    def flagged(self) -> bool:
        """The claim is false (but for the chance of one less the confidence)."""
        return self.at_least > self.claimed


def canary_epsilon(
    settings: RunSettings,
    plan: PrivacyPlan,
    *,
    rounds: int,
    claimed: float,
    pipeline: Pipeline = train_privately,
    randomness: Callable[[], SecureRandom] = SecureRandom,
    canaries: int = 1024,
    confidence: float = CONFIDENCE,
    on_stage: OnStage = quiet,
) -> EmpiricalEpsilon:
    """Audit ``rounds`` rounds of the plan through ``pipeline``; ``claimed`` is what the accounting says that they cost.

    The model, its width and the seed of the coins come from ``settings``. Raises :class:`Refusal` for fewer than 16 canaries.
    """
    _require_canaries(canaries)
    stage = CanaryStage(settings, plan)
    inside: list[Values] = []
    outside: list[Values] = []
    runs = math.ceil(canaries / stage.width)
    for run in range(runs):
        on_stage(Stage(run, runs, "canaries"))
        coins = np.random.default_rng([settings.seed, 4, run]).permutation(min(stage.width, canaries - run * stage.width))
        members = coins < len(coins) // 2
        scores = stage.scores(np.flatnonzero(members), rounds, pipeline, randomness)[: len(coins)]
        inside.append(scores[members])
        outside.append(scores[~members])
    on_stage(Stage(runs, runs, "canaries"))
    return epsilon_from(
        np.concatenate(inside),
        np.concatenate(outside),
        plan.delta,
        claimed=claimed,
        confidence=confidence,
        gaussian=plan.sampling_rate == 1,
    )


class CanaryStage:
    """A head whose weights make canaries as loud as clipping lets them be, and a listener to every step of its training."""

    def __init__(self, settings: RunSettings, plan: PrivacyPlan) -> None:
        self._plan = plan
        self._settings = replace(settings, tuning="head", dropout=0.0, learning_rate=STILL)
        self._classifier = tuned_classifier(self._settings)
        weights = self._classifier.read()
        silent = {name: np.zeros_like(array) if "pooler" in name else array for name, array in weights.items()}
        self._weights = Weights(silent)
        self.width = weights["head.pooler.weight"].shape[1]
        self._inputs: Any = self._classifier.blocks["head"].inputs  # a canary has no words
        bias = torch.softmax(torch.from_numpy(weights["head.classifier.bias"]).double(), dim=0).numpy()
        bias[0] -= 1.0  # every canary's label is the first
        direction = weights["head.classifier.weight"].T.astype(np.float64) @ bias
        self._direction = direction / np.linalg.norm(direction)

    def scores(self, members: npt.NDArray[np.int64], rounds: int, pipeline: Pipeline, randomness: Callable[[], SecureRandom]) -> Values:
        """The log-likelihood ratio (H,), in against out, of each canary, over every step of ``rounds`` rounds with ``members`` in."""
        rows = [torch.nn.functional.one_hot(torch.tensor([member]), self._inputs) * LOUDNESS for member in members.tolist()]
        entries = Entries(rows, torch.zeros(len(rows), dtype=torch.int64))
        self._classifier.write(self._weights)
        ratios = np.zeros(self.width)
        with self._listening(ratios):
            for _ in range(rounds):
                pipeline(self._classifier, entries, self._settings, self._plan, randomness())
        return ratios

    @contextmanager
    def _listening(self, ratios: Values) -> Iterator[None]:
        """Add each step's log-likelihood ratios to ``ratios``: its gradient is read just before the optimizer takes it."""
        matrix = self._classifier.trainable()["head.pooler.weight"]
        rate, variance = self._plan.sampling_rate, self._plan.noise_multiplier**2

        def listen(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if matrix.grad is None or not any(matrix is parameter for group in optimizer.param_groups for parameter in group["params"]):
                return
            told = self._direction @ matrix.grad.double().numpy() * self._settings.batch_size / self._plan.clip_norm
            present = (2 * told - 1) / (2 * variance)
            ratios[:] += present if rate == 1 else np.logaddexp(math.log1p(-rate), math.log(rate) + present)

        handle = register_optimizer_step_pre_hook(listen)
        try:
            yield
        finally:
            handle.remove()


def canary_user_epsilon(
    plan: UserPlan,
    *,
    rounds: int,
    claimed: float,
    seed: int,
    randomness: Callable[[], SecureRandom] = SecureRandom,
    canaries: int = 1024,
    confidence: float = CONFIDENCE,
) -> EmpiricalEpsilon:
    """The same for user-level DP: canary devices, whose whole update is the clip norm in a coordinate of their own.

    ``plan`` is what the server runs; it must ask everybody in every round.
    """
    _require_canaries(canaries)
    if plan.sampling != "full":
        raise Refusal(f"sampling is '{plan.sampling}'; the audit of user-level privacy asks every canary, plan for full rounds")
    members = np.random.default_rng([seed, 5]).permutation(canaries) < canaries // 2
    total = np.zeros(canaries)
    for _ in range(rounds):
        total += _canary_sum(members, replace(plan, clients=canaries, clients_per_round=canaries), randomness())
    return epsilon_from(total[members], total[~members], plan.delta, claimed=claimed, confidence=confidence, gaussian=True)


def released(updates: Sequence[Weights], plan: UserPlan, randomness: SecureRandom) -> Weights:
    """The noised mean of one round by the product's own server half; whoever is not in ``updates`` counts as zero."""
    total = UserLevelSum(plan, updates[0].shapes, range(len(updates)))
    for device, update in enumerate(updates):
        total.add(device, clip_update(update, plan.clip_norm))
    return total.release(_Free(), run="audit", round=1, randomness=randomness).update


class _Free:
    """Charges nothing: an audit's round never leaves this process."""

    def charge(self, plan: UserPlan, *, run: str, round: int) -> float:
        return 0.0


def _canary_sum(members: npt.NDArray[np.bool_], plan: UserPlan, randomness: SecureRandom) -> Values:
    """The coordinates (canaries,) of one released sum."""
    each = np.eye(len(members), dtype=np.float32)[members] * np.float32(plan.clip_norm)
    release = released([Weights({"canaries": update}) for update in each], plan, randomness)
    return release["canaries"].astype(np.float64) * plan.clients_per_round


def epsilon_from(inside: Values, outside: Values, delta: float, *, claimed: float, confidence: float, gaussian: bool) -> EmpiricalEpsilon:
    """The lower bound from the scores of canaries that were in and that were not; higher must mean in.

    ``gaussian`` says that the two differ by a shift of a Gaussian's mean, and by nothing else.
    """
    bound = _gaussian_bound if gaussian else _threshold_bound
    method = "Gaussian-DP mean" if gaussian else "Clopper-Pearson"
    return EmpiricalEpsilon(claimed, bound(inside, outside, delta, confidence), confidence, len(inside) + len(outside), method)


def _gaussian_bound(inside: Values, outside: Values, delta: float, confidence: float) -> float:
    """By the lower confidence limit of the standardised difference of means (Hedges & Olkin 1985)."""
    cases, free = 1 / len(inside) + 1 / len(outside), len(inside) + len(outside) - 2
    spread = math.sqrt((((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()) / free)
    if spread == 0:
        return math.inf if inside.mean() > outside.mean() else 0.0
    shift = float(inside.mean() - outside.mean()) / spread
    lowest = shift - NormalDist().inv_cdf(confidence) * math.sqrt(cases + shift**2 / (2 * free))
    return gaussian_epsilon(lowest, delta)


MOST_EPSILON = 1000.0
"""Beyond, a bound is told as infinite."""


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon of ``mu``-Gaussian DP at ``delta`` (Dong, Roth & Su 2022, corollary 1; Balle & Wang 2018); 0 if there is none."""
    if mu <= 0:
        return 0.0
    low, high = 0.0, MOST_EPSILON
    if _gaussian_delta(mu, low) <= delta:
        return 0.0
    if _gaussian_delta(mu, high) > delta:
        return math.inf
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _gaussian_delta(mu, middle) > delta else (low, middle)
    return low


def _gaussian_delta(mu: float, epsilon: float) -> float:
    """Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu); the second term never leaves the range of floats."""
    below = _log_tail(mu / 2 + epsilon / mu) + epsilon
    return 0.5 * math.erfc((epsilon / mu - mu / 2) / math.sqrt(2)) - math.exp(min(below, 0.0))


def _log_tail(distance: float) -> float:
    """log Phi(-distance), for a distance of 0 or more; from 25 on by its asymptotic series."""
    if distance < 25:
        return math.log(0.5 * math.erfc(distance / math.sqrt(2)))
    return -(distance**2) / 2 - math.log(distance * math.sqrt(2 * math.pi)) + math.log1p(-1 / distance**2)


def _threshold_bound(inside: Values, outside: Values, delta: float, confidence: float) -> float:
    """By a threshold, and a direction, that the first half of the canaries chooses and the second half tests."""
    (in_first, in_second), (out_first, out_second) = (np.array_split(scores, 2) for scores in (inside, outside))
    threshold, above = _promising(in_first, out_first, delta, confidence)
    likely, unlikely = (in_second, out_second) if above else (out_second, in_second)
    said = [int(((scores >= threshold) == above).sum()) for scores in (likely, unlikely)]
    each = (1 - confidence) / 2
    hits = clopper_pearson_lower(said[0], len(likely), each)
    alarms = 1 - clopper_pearson_lower(len(unlikely) - said[1], len(unlikely), each)
    return max(0.0, math.log((hits - delta) / alarms)) if hits > delta else 0.0


def _promising(inside: Values, outside: Values, delta: float, confidence: float) -> tuple[float, bool]:
    """The threshold, and whether to say "in" above or "out" below it, with the highest rough bound (Agresti & Coull 1998)."""
    thresholds = np.unique(np.concatenate([inside, outside]))
    below = [np.searchsorted(np.sort(scores), thresholds) / len(scores) for scores in (inside, outside)]
    rough: list[Values] = []
    for hits, alarms in ((1 - below[0], 1 - below[1]), (below[1], below[0])):
        lower = _rough_limit(hits, len(inside), -NormalDist().inv_cdf(confidence)) - delta
        upper = _rough_limit(alarms, len(outside), NormalDist().inv_cdf(confidence))
        rough.append(np.log(np.maximum(lower, 1e-12) / upper))
    best = int(np.argmax(np.concatenate(rough)))
    return float(thresholds[best % len(thresholds)]), best < len(thresholds)


def _rough_limit(rates: Values, trials: int, normal: float) -> Values:
    centre = (rates * trials + normal**2 / 2) / (trials + normal**2)
    limit: Values = centre + normal * np.sqrt(centre * (1 - centre) / (trials + normal**2))
    return limit


def clopper_pearson_lower(successes: int, trials: int, level: float) -> float:
    """The rate below which so many successes or more are less likely than ``level`` (Clopper & Pearson 1934)."""
    low, high = 0.0, successes / trials
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_least(successes, trials, middle) < level else (low, middle)
    return low


def _at_least(successes: int, trials: int, rate: float) -> float:
    """P(X >= successes) of a binomial."""
    if successes == 0:
        return 1.0
    if not 0 < rate < 1:
        return float(rate >= 1)
    counts = np.arange(successes, trials + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    logs = factorials[trials] - factorials[counts] - factorials[trials - counts] + counts * math.log(rate)
    return float(np.exp(logs + (trials - counts) * math.log1p(-rate)).sum())


def _require_canaries(canaries: int) -> None:
    if canaries < 16:
        raise Refusal(f"an audit with {canaries} canaries could not tell anything; use at least 16")


# would the audit see a fault?


class HalfTheNoise(SecureRandom):
    """A planted fault: the noise has half the standard deviation that was asked for."""

    def normal(self, shape: torch.Size, *, std: float) -> Tensor:
        return super().normal(shape, std=std / 2)


def without_clipping(
    classifier: EmotionClassifier, entries: Entries, settings: RunSettings, plan: PrivacyPlan, randomness: SecureRandom
) -> None:
    """A planted fault: the same noise, but gradients are clipped at a norm that none has."""
    none_has = 1e6
    loose = replace(plan, clip_norm=plan.clip_norm * none_has, noise_multiplier=plan.noise_multiplier / none_has)
    train_privately(classifier, entries, settings, loose, randomness)


@dataclass(frozen=True)
class Fault:
    """A way in which the pipeline is run, the claim made for it, and whether that is false."""

    name: str
    planted: bool
    rounds: int = 1
    pipeline: Pipeline = train_privately
    randomness: Callable[[], SecureRandom] = SecureRandom


FAULTS = (
    Fault("as it is", planted=False),
    Fault("half the noise", planted=True, randomness=HalfTheNoise),
    Fault("accountant reset between two rounds", planted=True, rounds=2),
    Fault("no clipping", planted=True, pipeline=without_clipping),
)
"""All claim what one round of the plan costs."""


@dataclass(frozen=True)
class Trial:
    """One fault, and what the canaries say of it."""

    name: str
    planted: bool
    epsilon: EmpiricalEpsilon

    @property
    def passed(self) -> bool:
        """Flagged if, and only if, a fault was planted."""
        return self.epsilon.flagged == self.planted


def self_test(
    settings: RunSettings,
    *,
    faults: Sequence[Fault] = FAULTS,
    epsilon: float = 4.0,
    canaries: int = 1024,
    confidence: float = CONFIDENCE,
    on_stage: OnStage = quiet,
) -> tuple[Trial, ...]:
    """Run the pipeline as it is and with each planted fault, four full-batch steps a round at a claim of ``epsilon``.

    The pipeline as it is is flagged by chance once in 1 / (1 - confidence) times at most.
    """
    still = replace(settings, privacy="example", class_weights="none", epsilon=epsilon, rounds=1, local_epochs=4, sampling_rate=1.0)
    plan = calibrated(still)
    trials = []
    for number, fault in enumerate(faults):
        on_stage(Stage(number, len(faults), f"self-test: {fault.name}"))
        measured = canary_epsilon(
            still,
            plan,
            rounds=fault.rounds,
            claimed=plan.epsilon(1),
            pipeline=fault.pipeline,
            randomness=fault.randomness,
            canaries=canaries,
            confidence=confidence,
        )
        trials.append(Trial(fault.name, fault.planted, measured))
    on_stage(Stage(len(faults), len(faults), "self-test"))
    return tuple(trials)
