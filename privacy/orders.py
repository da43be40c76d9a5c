"""What a device accepts before its diary is opened.

**Promise.** What a device answers to an order that was not charged is the same for every diary: whether it may train is decided
from the order, the run's settings, the device's own policy, its installed models and its ledger, and from nothing else. Only then is
the round charged, and only then is the diary opened. A diary without a labelled entry trains too, on noise alone.
**For whom**: each single entry (adding or removing it).
**Against whom**: a server that lies, in every number that it may choose.
**Assumptions**: the device's person has not agreed to unprotected rounds (``allow_unprotected``); in those an update is bare, nothing
is charged, and nothing here is promised. Time, and whether a device answers at all, are not hidden.
**Cost**: none.

Every number of an order is the server's, so each has a floor or a ceiling here under which the accounting is known to hold. Towards
the server all refusals are one answer (:class:`model.records.Declined`). The true cause is a :class:`Refusal` for the person.

There is no cap on the entries that train. A cap that keeps n entries of more makes one entry push another out, so the sum
moves by two clip norms where the ledger charges one; and to turn a long diary away tells its length. The promise at the device's delta
does not depend on the length. What the length says is how much that delta is worth (:func:`covers`), and that is told to the person.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from model.records import PlanNumbers, TrainOrder
from model.refusal import Refusal
from model.settings import RunSettings
from privacy.plan import PrivacyPlan
from privacy.user_accounting import LARGEST_CLIP, SMALLEST_CLIP

LEAST_NOISE = 0.3
"""The least noise multiplier of a step, and of counting labels; no plan that a device could afford needs less."""

MOST_NOISE = 1e6
"""More hides everything there is, and is only good for making the ledger long."""

LEAST_RATE = 1e-4
"""One over the most steps of a round: with less, a round would see less than the diary once."""

LONGEST_NAME = 200
"""Characters of a run's name, which the ledger keeps for ever."""

LAST_ROUND = 10**6

LARGEST_NUMBER = 1e12
"""Of any kind in a plan; what is infinite, or no number, is not below it."""


@dataclass(frozen=True, kw_only=True)
class OrderRules:
    """What the device's person has agreed to; no order can change it."""

    delta: float
    unprotected: bool


def accepted_plan(order: TrainOrder, settings: RunSettings, rules: OrderRules) -> PrivacyPlan | None:
    """The plan by which this order may train, None for one without example-level privacy; :class:`Refusal` says why it may not.

    Nothing of the device is read for it, so its answer says nothing of the diary.
    """
    _require_named(order)
    _require_clip(order, settings)
    if (order.plan is None) == settings.protects_entries:
        raise Refusal(f"the order's plan and the run's privacy '{settings.privacy}' contradict each other; nothing was trained")
    if order.plan is None:
        if not rules.unprotected:
            raise Refusal(
                f"the run's privacy is '{settings.privacy}', which protects no single entry, and this device trains in no such round; "
                "nothing was trained"
            )
        return None
    _require_numbers(order.plan)
    _require_bounds(order.plan, rules)
    plan = PrivacyPlan(**vars(order.plan))
    if bool(plan.label_noise) != (settings.class_weights == "balanced"):
        raise Refusal(
            f"the order's label noise is {plan.label_noise:g} and the run's class-weights are '{settings.class_weights}', which contradict "
            "each other; nothing was trained"
        )
    return plan


def covers(entries: int, delta: float) -> bool:
    """Whether ``delta`` is at most n^-1.5 for so many entries, the rule by which it is small enough to mean something for each."""
    return entries <= math.floor(math.pow(delta, -2 / 3) * (1 + 1e-9))


def _require_named(order: TrainOrder) -> None:
    if len(order.run) > LONGEST_NAME:
        raise Refusal(f"the run's name has {len(order.run)} characters; give it at most {LONGEST_NAME}")
    if not 0 <= order.round <= LAST_ROUND:
        raise Refusal(f"the round is {str(order.round)[:20]}; it must be at least 0 and at most {LAST_ROUND}")


def _require_clip(order: TrainOrder, settings: RunSettings) -> None:
    """A norm for the whole update where one is needed, and one that can be clipped to: found before, not after, the round is paid for."""
    clip = order.update_clip
    if clip is None:
        if settings.protects_people:
            raise Refusal(
                f"the run's privacy is '{settings.privacy}' and the order names no norm to clip the update to; nothing was trained"
            )
        if settings.aggregation != "plain":
            raise Refusal("the order names no norm to clip the update to, without which no hidden sum is safe; nothing was trained")
    elif settings.aggregation != "plain" and clip > settings.largest_update:
        raise Refusal(f"update-clip is {clip:g} and the run's hidden sums have room for {settings.largest_update:g}; nothing was trained")
    elif not SMALLEST_CLIP <= clip <= LARGEST_CLIP:
        raise Refusal(f"update-clip is {clip:g}; it must be at least {SMALLEST_CLIP:g} and at most {LARGEST_CLIP:g}")


def _require_numbers(plan: PlanNumbers) -> None:
    for name, value in vars(plan).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST_NUMBER:
            raise Refusal(f"the order's {name.replace('_', '-')} is no finite number; nothing was trained")


def _require_bounds(plan: PlanNumbers, rules: OrderRules) -> None:
    _within("noise-multiplier", plan.noise_multiplier, LEAST_NOISE, MOST_NOISE)
    if plan.label_noise:
        _within("label-noise", plan.label_noise, LEAST_NOISE, MOST_NOISE)
    _within("clip-norm", plan.clip_norm, SMALLEST_CLIP, LARGEST_CLIP)
    _within("sampling-rate", plan.sampling_rate, LEAST_RATE, 1.0)
    if not plan.delta <= rules.delta * (1 + 1e-9):
        raise Refusal(f"the round's delta is {plan.delta:g} and this device accepts at most {rules.delta:g}; lower the run's delta")


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise Refusal(f"the order's {name} is {value:g} and this device accepts {least:g} to {most:g}; nothing was trained")
