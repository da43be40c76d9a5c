"""One round on one device: diary in, protected update out (McMahan et al. 2017, Algorithm 2; Abadi et al. 2016 when private).

The order of events is the promise: an order is judged (``privacy.orders``), charged, and only then is the diary opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from client.blind import end_round
from client.compression import rounded
from client.home import Home
from client.participation import require_not_paused, require_part, tells_scores
from model.classifier import EmotionClassifier, source_of
from model.examples import texts
from model.hub import installed_model
from model.normalization import TEXT_STEP
from model.records import GlobalModel, Published, PublishOrder, TrainOrder, Update
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, labels, local_generator, train_plainly
from model.tuning import TrunkCache, tuned_classifier
from model.weights import Weights
from privacy.agreement import agreed_form, shared_noise
from privacy.example_level import train_privately
from privacy.fixed_point import Integers
from privacy.label_counts import ChargedCounts, charge_counts
from privacy.orders import OrderRules, accepted_plan
from privacy.plan import PrivacyPlan
from privacy.randomness import SecureRandom
from privacy.user_level import clip_update, noise_share

LABEL_COUNTS = "label-counts.json"


class OtherBody(Refusal):
    """The weights belong to another body or tokenizer than this device holds."""


def learn(order: TrainOrder, settings: RunSettings, home: Home, *, device: int) -> Update:
    """Train on the person's labelled entries and give the update; a :class:`Refusal` is why this device sits the round out.

    What is refused before the ledger is charged is refused for every diary alike.
    """
    learned = _learned(order, settings, home, device)
    difference, within = learned.difference, None
    if settings.update_precision == "fp16":
        difference = rounded(difference, home.cache, home.key, run=order.run)
    if order.update_clip is not None:
        clipped = clip_update(difference, order.update_clip)
        difference, within = clipped.update, clipped.within if settings.clip_quantile else None
    weight = float(learned.entries) if settings.privacy == "none" else 1.0
    return Update(difference, weight, order.round, settings.update_precision, within)


def learn_to_hide(order: TrainOrder, settings: RunSettings, home: Home, *, device: int) -> Integers:
    """The same for a round whose updates are masked or encrypted: clipped to the order's norm, in fixed point, with this device's
    share of the noise where people are protected; the values (D,) are to be hidden before they leave."""
    if order.update_clip is None:
        raise Refusal("the order names no norm to clip the update to, without which no hidden sum is safe; nothing was sent")
    noise, form = shared_noise(settings) if settings.protects_people else None, agreed_form(settings)
    clipped = clip_update(_learned(order, settings, home, device).difference, order.update_clip)
    return form.encode(clipped.update) if noise is None else noise_share(clipped, noise, SecureRandom())


@dataclass(frozen=True)
class _Learned:
    difference: Weights
    entries: int


def _learned(order: TrainOrder, settings: RunSettings, home: Home, device: int) -> _Learned:
    """Trained minus received weights: judged, then charged, then read from the diary; nothing has left the device yet."""
    plan, classifier = _judged(order, settings, home)
    counts = _charge(plan, order, home) if plan is not None else None
    entries = _labelled_entries(classifier, settings, home)
    classifier.write(order.model.weights)
    if plan is not None:
        weights = counts.class_weights(entries.labels) if counts is not None else None
        train_privately(classifier, entries, settings, plan, SecureRandom(), class_weights=weights)
    elif not len(entries):
        raise Refusal("the diary has no entry that may teach, and in a round without protection of entries an empty one sits out")
    else:
        train_plainly(classifier, entries, settings, local_generator(settings.seed, round=order.round, device=device))
    return _Learned(classifier.read() - order.model.weights, len(entries))


def _judged(order: TrainOrder, settings: RunSettings, home: Home) -> tuple[PrivacyPlan | None, EmotionClassifier]:
    """The plan and the model by which this order may train; never reads the diary."""
    require_not_paused(home.root)  # first of all: a paused device looks for no model
    plan = accepted_plan(order, settings, OrderRules(delta=home.policy.delta, unprotected=home.policy.allow_unprotected))
    classifier = _classifier(settings, home)
    _require_fitting(order.model, classifier)
    require_part(home.root, run=order.run, round=order.round)
    return plan, classifier


def _charge(plan: PrivacyPlan, order: TrainOrder, home: Home) -> ChargedCounts | None:
    """Put the round's cost on disk; the right to count labels where the plan counts them."""
    if plan.label_noise:
        return charge_counts(plan, home.ledger, home.sealed(LABEL_COUNTS), run=order.run, round=order.round)
    home.ledger.charge(plan, run=order.run, round=order.round)
    return None


def publish(order: PublishOrder, settings: RunSettings, home: Home) -> Published:
    """Store the new global model in this device's own Home, where its API finds it; send counts if it may.

    With it the round is over: what could still open an encrypted update of it goes first.
    """
    end_round(home, round=order.round)
    classifier = _classifier(settings, home)
    _require_fitting(order.model, classifier)
    home.checkpoints.publish(
        order.model.weights,
        model=settings.model,
        tuning=settings.tuning,
        base_digest=order.model.base_digest,
        tokenizer_digest=order.model.tokenizer_digest,
        round=order.round,
        epsilon=order.epsilon,
        delta=order.delta,
    )
    told = settings.privacy == "none" and home.policy.allow_unprotected and tells_scores(home.root, round=order.round)
    if not told:
        return Published(order.round, None)
    classifier.write(order.model.weights)
    entries = _labelled_entries(classifier, settings, home)
    return Published(order.round, classifier.score(entries.rows, entries.labels) if len(entries) else None)


def _labelled_entries(classifier: EmotionClassifier, settings: RunSettings, home: Home) -> Entries:
    """The entries that may teach, as the trunk gives them; what the person forgets meanwhile is in neither these nor the cache."""
    cache = TrunkCache(home.cache, classifier, settings, home.key)
    examples = home.diary.labelled()
    rows = cache.rows(texts(examples))
    while (now := home.diary.labelled()) != examples:
        examples, rows = now, cache.rows(texts(now))
    return Entries(rows, labels(examples))


def _require_fitting(model: GlobalModel, classifier: EmotionClassifier) -> None:
    """Refuse weights of another body, tokenizer, text step or shape, and such as are not finite."""
    for what, theirs, ours in (
        ("base model", model.base_digest, classifier.base_digest),
        ("tokenizer", model.tokenizer_digest, classifier.tokenizer.digest),
    ):
        if theirs != ours:
            raise OtherBody(f"the server's {what} is {theirs[:12]} and this device has {ours[:12]}; install the same one on both")
    if model.text_step != TEXT_STEP:
        raise OtherBody(f"the server prepares text by step {model.text_step} and this device by step {TEXT_STEP}; update the older one")
    model.weights.require_shapes(classifier.read().shapes)
    if not model.weights.is_finite():
        raise Refusal("the server's weights hold a value that is not finite; nothing was trained or stored")


def _classifier(settings: RunSettings, home: Home) -> EmotionClassifier:
    return _built(settings, installed_model(source_of(settings.model), home.models))


@lru_cache(maxsize=1)
def _built(settings: RunSettings, folder: Path) -> EmotionClassifier:
    """Built once a process, not once a message: every use begins by writing the weights it was sent."""
    return tuned_classifier(settings, folder)
