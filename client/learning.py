"""One round on one device: diary in, protected update out (McMahan et al. 2017, Algorithm 2; Abadi et al. 2016 when private)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from client.blind import end_round
from client.compression import rounded
from client.home import Home
from client.participation import takes_part, tells_scores
from model.classifier import EmotionClassifier, source_of
from model.examples import texts
from model.hub import find_model
from model.normalization import TEXT_STEP
from model.records import Declined, GlobalModel, Published, PublishOrder, TrainOrder, Update
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, labels, local_generator, train_plainly
from model.tuning import TrunkCache, tuned_classifier
from model.weights import Weights
from privacy.agreement import agreed_form, shared_noise
from privacy.example_level import train_privately
from privacy.fixed_point import Integers
from privacy.label_counts import charged_class_weights
from privacy.ledger import LedgerDamaged, PrivacyBudgetSpent
from privacy.plan import PrivacyPlan
from privacy.randomness import SecureRandom
from privacy.user_level import clip_update, noise_share

LABEL_COUNTS = "label-counts.json"


class OtherBody(Refusal):
    """The weights belong to another body or tokenizer than this device holds."""


def learn(order: TrainOrder, settings: RunSettings, home: Home, *, device: int) -> Update | Declined:
    """Train on the person's labelled entries and give the update, or say why this device sits the round out."""
    learned = _learned(order, settings, home, device)
    if isinstance(learned, Declined):
        return learned
    difference, within = learned.difference, None
    if settings.update_precision == "fp16":
        difference = rounded(difference, home.cache, home.key, run=order.run)
    if order.update_clip is not None:
        clipped = clip_update(difference, order.update_clip)
        difference, within = clipped.update, clipped.within if settings.clip_quantile else None
    weight = float(learned.entries) if settings.privacy == "none" else 1.0
    return Update(difference, weight, order.round, settings.update_precision, within)


def learn_to_hide(order: TrainOrder, settings: RunSettings, home: Home, *, device: int) -> Integers | Declined:
    """The same for a round whose updates are masked or encrypted: clipped to the order's norm, in fixed point, with this device's
    share of the noise where people are protected; the values (D,) are to be hidden before they leave."""
    learned = _learned(order, settings, home, device)
    if isinstance(learned, Declined):
        return learned
    if order.update_clip is None:
        raise Refusal("the order names no norm to clip the update to, without which no hidden sum is safe; nothing was sent")
    clipped = clip_update(learned.difference, order.update_clip)
    if settings.protects_people:
        return noise_share(clipped, shared_noise(settings), SecureRandom())
    return agreed_form(settings).encode(clipped.update)


@dataclass(frozen=True)
class _Learned:
    difference: Weights
    entries: int


def _learned(order: TrainOrder, settings: RunSettings, home: Home, device: int) -> _Learned | Declined:
    """Trained minus received weights: the ledger is charged first, and nothing has left the device yet."""
    classifier = _classifier(settings, home)
    _require_same_body(order.model, classifier)
    plan = _plan(order, settings)
    if not takes_part(home.root, run=order.run, round=order.round):
        return Declined("paused", order.round)
    entries = _labelled_entries(classifier, settings, home)
    if not _may_train(home, plan, len(entries)):
        return Declined("not-ready", order.round)
    class_weights = None
    if plan is not None:
        try:
            if plan.label_noise:  # either way on disk before anything is computed from the diary
                kept = home.sealed(LABEL_COUNTS)
                class_weights = charged_class_weights(entries.labels, plan, home.ledger, kept, run=order.run, round=order.round)
            else:
                home.ledger.charge(plan, run=order.run, round=order.round)
        except (PrivacyBudgetSpent, LedgerDamaged):
            return Declined("budget", order.round)
    classifier.write(order.model.weights)
    if plan is not None:
        train_privately(classifier, entries, settings, plan, SecureRandom(), class_weights=class_weights)
    else:
        train_plainly(classifier, entries, settings, local_generator(settings.seed, round=order.round, device=device))
    return _Learned(classifier.read() - order.model.weights, len(entries))


def publish(order: PublishOrder, settings: RunSettings, home: Home) -> Published:
    """Store the new global model in this device's own Home, where its API finds it; send counts if it may.

    With it the round is over: what could still open an encrypted update of it goes first.
    """
    end_round(home, round=order.round)
    classifier = _classifier(settings, home)
    _require_same_body(order.model, classifier)
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


def _plan(order: TrainOrder, settings: RunSettings) -> PrivacyPlan | None:
    if settings.protects_people and order.update_clip is None:
        raise Refusal(f"the run's privacy is '{settings.privacy}' and the order names no norm to clip the update to; nothing was trained")
    if (order.plan is None) == settings.protects_entries:
        raise Refusal(f"the order's plan and the run's privacy '{settings.privacy}' contradict each other; nothing was trained")
    plan = PrivacyPlan(**vars(order.plan)) if order.plan is not None else None
    if plan is not None and bool(plan.label_noise) != (settings.class_weights == "balanced"):
        raise Refusal(
            f"the order's label noise is {plan.label_noise:g} and the run's class-weights are '{settings.class_weights}', which contradict "
            "each other; nothing was trained"
        )
    return plan


def _may_train(home: Home, plan: PrivacyPlan | None, entries: int) -> bool:
    """False without entries, without protection unless the device allows that, or with more entries than delta covers."""
    if plan is None:
        return entries > 0 and home.policy.allow_unprotected
    return 0 < entries <= plan.most_entries


def _labelled_entries(classifier: EmotionClassifier, settings: RunSettings, home: Home) -> Entries:
    """The entries that may teach, as the trunk gives them; what the person forgets meanwhile is in neither these nor the cache."""
    cache = TrunkCache(home.cache, classifier, settings, home.key)
    examples = home.diary.labelled()
    rows = cache.rows(texts(examples))
    while (now := home.diary.labelled()) != examples:
        examples, rows = now, cache.rows(texts(now))
    return Entries(rows, labels(examples))


def _require_same_body(model: GlobalModel, classifier: EmotionClassifier) -> None:
    for what, theirs, ours in (
        ("base model", model.base_digest, classifier.base_digest),
        ("tokenizer", model.tokenizer_digest, classifier.tokenizer.digest),
    ):
        if theirs != ours:
            raise OtherBody(f"the server's {what} is {theirs[:12]} and this device has {ours[:12]}; install the same one on both")
    if model.text_step != TEXT_STEP:
        raise OtherBody(f"the server prepares text by step {model.text_step} and this device by step {TEXT_STEP}; update the older one")


def _classifier(settings: RunSettings, home: Home) -> EmotionClassifier:
    return _built(settings, find_model(source_of(settings.model), home.models))


@lru_cache(maxsize=1)
def _built(settings: RunSettings, folder: Path) -> EmotionClassifier:
    """Built once a process, not once a message: every use begins by writing the weights it was sent."""
    return tuned_classifier(settings, folder)
