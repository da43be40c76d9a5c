"""The audit: what a curious server recovers from one update of one device, measured and not proved.

:func:`audit` puts every attack of :mod:`privacy.attacks` to every protection and tuning. The updates are those of the product's
own functions; a :class:`Protection` says how a device trains and what of it is seen, so that any other may be put in.

**Against whom**: the server, which follows the protocol and keeps what it sees; under user-level privacy also the readers of the
model, since against a server that sums in the clear user-level noise promises nothing.
**Assumptions, all for the attacker**: dropout is off (without privacy its masks follow from the run's public seed, so they
hide nothing); small diaries take one pass; thresholds are the best ones. An attack that fails here has failed once,
on this data, by these means: that is no promise. Whether the private pipeline spends what it claims, ``privacy.canaries`` asks.
**Cost**: on one core seconds for the head, some minutes where everything is trained, most of them cryptographic noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.classifier import EmotionClassifier
from model.emotions import EMOTIONS
from model.examples import Example, texts
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, MeanGradient, labelled_entries, local_generator, train_plainly
from model.tuning import tuned_classifier
from model.weights import Weights
from privacy.agreement import agreed_form, user_plan
from privacy.attacks import (
    Area,
    DoesNotApply,
    Found,
    Sight,
    Values,
    count_labels,
    find_members,
    find_places,
    find_text,
    find_words,
    input_of,
    losses,
    pooled,
    read_label,
)
from privacy.canaries import OnStage, Stage, quiet, released
from privacy.encryption import SumForm, SumKey, read_without_key
from privacy.example_level import PrivateGradient, train_privately
from privacy.fixed_point import FixedPoint, centred
from privacy.identity import Identity
from privacy.masking import advertise, mask, share
from privacy.plan import calibrated
from privacy.randomness import SecureRandom
from privacy.roster import FEWEST_ASKED, MaskingRound
from privacy.user_level import clip_update

TUNINGS = ("probe", "top2", "full")

REACH = 0.5
"""How much of an update is added before losses are compared: Adam overshoots (everything trained, 54 entries, five passes at a rate of
1e-3: an AUC of 1.00 half way and of 0.94 at the end; a rate at which training itself fails gives away less, and no model)."""

SHORT = 40
"""Tokens at which the entries of a small diary are cut: four of them must not span the whole of a layer's input."""


# how a device trains, and what is seen of it


class Device(Protocol):
    """Trains in place as the product does; and gives one gradient alone, as if it sent that (FedSGD, the setting of DAGER)."""

    def train(self, classifier: EmotionClassifier, entries: Entries, settings: RunSettings) -> int:
        """One round; how many steps it took."""

    def gradient(self, classifier: EmotionClassifier, entries: Entries, settings: RunSettings) -> None:
        """Fill ``.grad`` from all entries at once."""


class PlainDevice:
    """Without privacy."""

    def train(self, classifier: EmotionClassifier, entries: Entries, settings: RunSettings) -> int:
        plainly = replace(settings, privacy="none")  # on which the choice of the optimizer depends
        train_plainly(classifier, entries, plainly, local_generator(settings.seed, round=1, device=0))
        return settings.local_epochs * math.ceil(len(entries) / settings.batch_size)

    def gradient(self, classifier: EmotionClassifier, entries: Entries, settings: RunSettings) -> None:
        MeanGradient(classifier, entries, settings)(range(len(entries)))


class PrivateDevice:
    """Under example-level DP, by the run's own plan and with fresh cryptographic noise."""

    def train(self, classifier: EmotionClassifier, entries: Entries, settings: RunSettings) -> int:
        plan = calibrated(settings)
        train_privately(classifier, entries, replace(settings, privacy="example"), plan, SecureRandom())
        return plan.steps_per_round

    def gradient(self, classifier: EmotionClassifier, entries: Entries, settings: RunSettings) -> None:
        private = PrivateGradient(classifier, entries, settings, calibrated(settings), SecureRandom())
        try:
            private(range(len(entries)))
        finally:
            private.detach()


@dataclass(frozen=True)
class Protection:
    """A way to train, and what is seen of the update (or gradient) that it gives. Any function of weights fits ``seen``."""

    name: str
    seen_by: str
    device: Device
    seen: Callable[[Weights], Weights]


PLAIN, PRIVATE = PlainDevice(), PrivateDevice()


def protections(settings: RunSettings) -> tuple[Protection, ...]:
    """Those of the product, at the settings' budgets and clip norms; encryption where TenSEAL is installed."""
    clip = settings.largest_update
    readers = "readers of the published model who know every other update"
    ciphertext = "the server, of one device's ciphertext (whatever its size; a round refuses more than 20 MB)"
    encryption = (Protection("encrypted", ciphertext, PLAIN, lambda update: encrypted(update, settings)),) if find_spec("tenseal") else ()
    return (
        Protection("plain", "the server", PLAIN, lambda update: update),
        Protection("example-level", "the server", PRIVATE, lambda update: update),
        Protection("user-level, server", "the server, before it adds the noise", PLAIN, lambda update: clip_update(update, clip).update),
        Protection("user-level, readers", readers, PLAIN, lambda update: published(update, settings)),
        Protection("masked", "the server, of one device's masked vector", PLAIN, lambda update: masked(update, settings)),
        *encryption,
    )


def published(update: Weights, settings: RunSettings) -> Weights:
    """What a user-level release shows of one device, when every other update is known and taken away."""
    return released([clip_update(update, settings.largest_update).update], user_plan(settings), SecureRandom()).scale(
        settings.clients_per_round
    )


def masked(update: Weights, settings: RunSettings) -> Weights:
    """One device's vector of a masked round, of as few devices as there may be, read as numbers as if there were no mask."""
    round, identities = MaskingRound("audit", 1, FEWEST_ASKED), [Identity.create() for _ in range(FEWEST_ASKED)]
    registered = {device: identity.public for device, identity in enumerate(identities)}
    drawn = [advertise(round, device, identity) for device, identity in enumerate(identities)]
    advertisements = [advertisement for advertisement, _ in drawn]
    dealt = [share(secrets, advertisements, registered) for _, secrets in drawn]
    sealed = {dealer: shares.sealed[0] for dealer, (shares, _) in enumerate(dealt) if dealer != 0}
    form = _form_of_few(settings)
    vector, _ = mask(dealt[0][1], sealed, form.encode(clip_update(update, settings.largest_update).update))
    return form.decode(centred(vector.values), update.shapes)


def encrypted(update: Weights, settings: RunSettings) -> Weights:
    """One device's ciphertext of an encrypted round, of as few devices as there may be, read as numbers by somebody without the key."""
    form, key = _form_of_few(settings), SumKey.create()
    values = form.encode(clip_update(update, settings.largest_update).update)
    sums = SumForm(key.digest, len(values), FEWEST_ASKED, budget_mb=math.inf)
    return form.decode(read_without_key(key.encrypt(values, sums), sums), update.shapes)


def _form_of_few(settings: RunSettings) -> FixedPoint:
    return agreed_form(replace(settings, clients=FEWEST_ASKED, fraction=1.0, privacy="none", aggregation="masked"))


# every attack on every protection


@dataclass(frozen=True)
class SmallDiary:
    """Words at their places, of a diary of so many entries: from its gradient, and from the update that the product sends."""

    entries: int
    from_gradient: Found | DoesNotApply
    from_update: Found | DoesNotApply


@dataclass(frozen=True)
class SingleEntries:
    """Of updates that come from one entry each: its text among public decoys, and its label."""

    ranks: tuple[int, ...]
    """Of each true text in its own update; 1 is found."""
    strange_ranks: tuple[int, ...]
    """Of each of these texts in the update of every other: an uncommon text may stand out in any, and is then not found by its own."""
    decoys: int
    labels_read: int

    @property
    def first(self) -> float:
        """Share of the texts found."""
        return sum(rank == 1 for rank in self.ranks) / len(self.ranks)

    @property
    def chance(self) -> float:
        """Share of the texts that come first in another's update, and at least one in decoys + 1."""
        strange = sum(rank == 1 for rank in self.strange_ranks) / max(1, len(self.strange_ranks))
        return max(strange, 1 / (self.decoys + 1))

    @property
    def auc(self) -> float:
        """Share of the decoys that score below the true text; chance is 0.5."""
        return 1 - (sum(self.ranks) / len(self.ranks) - 1) / self.decoys

    @property
    def labels_right(self) -> float:
        """Share of the labels read; chance is one in four."""
        return self.labels_read / len(self.ranks)


@dataclass(frozen=True)
class Finding:
    """What all attacks recover under one protection and tuning."""

    protection: str
    seen_by: str
    tuning: str
    words: Found | DoesNotApply
    small_diaries: tuple[SmallDiary, ...]
    single_entries: SingleEntries
    labels_counted: float
    """Share of a small diary's labels that its gradient gives away, of the largest one audited."""
    membership: Area


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much the audit looks at."""

    entries: int = 54
    """Of the diary whose words and members are sought; as many others are held against them."""
    small_diaries: tuple[int, ...] = (1, 4)
    single_entries: int = 10
    decoys: int = 100

    def __post_init__(self) -> None:
        for name, least in (("entries", 2), ("single_entries", 1), ("decoys", 1)):
            if getattr(self, name) < least:
                raise Refusal(f"{name.replace('_', '-')} of the audit is {getattr(self, name)}; it must be at least {least}")
        if not self.small_diaries or min(self.small_diaries) < 1 or max(self.small_diaries) > self.entries:
            raise Refusal(f"an audit's small diaries hold from 1 to {self.entries} entries; name at least one such size")

    @property
    def examples(self) -> int:
        """How many examples it needs."""
        return 2 * self.entries + self.decoys


def audit(
    settings: RunSettings,
    examples: Sequence[Example],
    *,
    tunings: Sequence[str] = TUNINGS,
    protected: Sequence[Protection] | None = None,
    extent: Extent = Extent(),
    on_stage: OnStage = quiet,
) -> tuple[Finding, ...]:
    """Every attack on every protection under every tuning; the seed deals out who is a member, an outsider or a decoy.

    ``settings.tuning`` and dropout are not looked at. Raises :class:`Refusal` if there are too few examples.
    """
    if len(examples) < extent.examples:
        raise Refusal(f"the audit needs {extent.examples} entries and the data has {len(examples)}; name more data or lower --entries")
    ways = tuple(protected) if protected is not None else protections(settings)
    order = np.random.default_rng([settings.seed, 3]).permutation(len(examples))
    chosen = [examples[row] for row in order[: extent.examples]]
    findings: list[Finding] = []
    for tuning in tunings:
        subject = Subject(replace(settings, tuning=tuning, dropout=0.0), chosen, extent)
        for way in ways:
            on_stage(Stage(len(findings), len(tunings) * len(ways), f"{way.name}, {tuning}"))
            findings.append(subject.attacked(way))
    on_stage(Stage(len(findings), len(findings), "done"))
    names = [way.name for way in ways]
    return tuple(sorted(findings, key=lambda finding: names.index(finding.protection)))


class Subject:
    """One tuning's classifier and the people of the audit. What a device gives is computed once, however it is then protected."""

    def __init__(self, settings: RunSettings, examples: Sequence[Example], extent: Extent) -> None:
        self._settings = settings
        self._brief = replace(settings, local_epochs=1, max_tokens=min(settings.max_tokens, SHORT))
        self._extent = extent
        self.classifier = tuned_classifier(settings)
        self._before = self.classifier.read()
        self._examples = list(examples)
        self._updates: dict[tuple[int, int, int, int, int], tuple[Weights, int]] = {}
        self._gradients: dict[tuple[int, int], Weights] = {}
        self._seen: dict[tuple[int, int, int, int], Weights] = {}
        self._everybody: dict[int, Entries] = {}
        candidates = [*range(extent.single_entries), *range(2 * extent.entries, extent.examples)]
        self._features = pooled(self.classifier, self._ids([self._examples[row] for row in candidates], self._brief))

    def attacked(self, way: Protection) -> Finding:
        """The finding for one protection; what is seen of an update is seen once, whatever is then done with it."""
        self._seen.clear()
        return Finding(
            way.name,
            way.seen_by,
            self._settings.tuning,
            words=self._words(way),
            small_diaries=tuple(self.small_diary(way, entries) for entries in self._extent.small_diaries),
            single_entries=self._single_entries(way),
            labels_counted=self._labels_counted(way, max(self._extent.small_diaries)),
            membership=self._membership(way),
        )

    def _words(self, way: Protection) -> Found | DoesNotApply:
        seen = self.sight(way, 0, self._extent.entries, self._settings)
        return find_words(seen.moved, self.classifier, self._ids(self._examples[: self._extent.entries], self._settings))

    def small_diary(self, way: Protection, entries: int) -> SmallDiary:
        tokens = self._ids(self._examples[:entries], self._brief)
        gradient = self.gradient(way, entries)
        update = self.sight(way, 0, entries, self._brief).gradients
        return SmallDiary(entries, *(find_places(seen, self.classifier, tokens) for seen in (gradient, update)))

    def _single_entries(self, way: Protection) -> SingleEntries:
        ranks: list[int] = []
        strange: list[int] = []
        read, targets = 0, self._extent.single_entries
        for row in range(targets):
            gradients = self.sight(way, row, row + 1, self._brief).gradients
            direction = input_of(gradients)
            for other in range(targets):
                candidates = self._features[[other, *range(targets, len(self._features))]]
                (ranks if other == row else strange).append(find_text(direction, candidates))
            read += read_label(gradients) == self._examples[row].emotion.id
        return SingleEntries(tuple(ranks), tuple(strange), self._extent.decoys, read)

    def _labels_counted(self, way: Protection, entries: int) -> float:
        """The share of labels that is right; the server takes its model's mean answer to the public decoys for that to the diary."""
        decoys = self._entries(2 * self._extent.entries, self._extent.examples, self._brief)
        mean = self.classifier.probabilities_of(decoys.rows).mean(axis=0).astype(np.float64)
        counted = count_labels(self.gradient(way, entries), entries, mean)
        true = np.bincount([example.emotion.id for example in self._examples[:entries]], minlength=len(EMOTIONS))
        return float(np.minimum(counted, true).sum() / entries)

    def _membership(self, way: Protection) -> Area:
        extent, classifier = self._extent, self.classifier
        people = self._entries(0, 2 * extent.entries, self._settings)
        before = losses(classifier, people.rows, people.labels)
        classifier.write(self._before + self.sight(way, 0, extent.entries, self._settings).update.scale(REACH))
        after = losses(classifier, people.rows, people.labels)
        classifier.write(self._before)
        return find_members(before, after, np.arange(2 * extent.entries) < extent.entries)

    def sight(self, way: Protection, start: int, end: int, settings: RunSettings) -> Sight:
        """What is seen of the update of a device whose diary are the examples from ``start`` to ``end``."""
        update, steps = self._update(way.device, start, end, settings)
        rising = max(1, round(settings.warmup * steps))
        rates = tuple(settings.peak_learning_rate * min(1.0, (step + 1) / rising) for step in range(steps))
        key = (start, end, settings.local_epochs, settings.max_tokens)
        if key not in self._seen:
            self._seen[key] = way.seen(update)
        return Sight(self._seen[key], self._before, rates, settings.weight_decay)

    def gradient(self, way: Protection, entries: int) -> dict[str, Values]:
        gradient = self._one_gradient(way.device, entries)
        key = (0, entries, 0, self._brief.max_tokens)
        if key not in self._seen:
            self._seen[key] = way.seen(gradient)
        return {name: array.astype(np.float64) for name, array in self._seen[key].items()}

    def _update(self, device: Device, start: int, end: int, settings: RunSettings) -> tuple[Weights, int]:
        key = (id(device), start, end, settings.local_epochs, settings.max_tokens)
        if key not in self._updates:
            steps = device.train(self.classifier, self._entries(start, end, settings), settings)
            self._updates[key] = self.classifier.read() - self._before, steps
            self.classifier.write(self._before)
        return self._updates[key]

    def _one_gradient(self, device: Device, entries: int) -> Weights:
        key = (id(device), entries)
        if key not in self._gradients:
            device.gradient(self.classifier, self._entries(0, entries, self._brief), self._brief)
            held = self.classifier.trainable().items()
            self._gradients[key] = Weights({name: _values_of(parameter.grad, parameter) for name, parameter in held})
            self.classifier.zero_grad(set_to_none=True)
        return self._gradients[key]

    def _entries(self, start: int, end: int, settings: RunSettings) -> Entries:
        if settings.max_tokens not in self._everybody:
            self._everybody[settings.max_tokens] = labelled_entries(self.classifier, self._examples, settings)
        everybody = self._everybody[settings.max_tokens]
        return Entries(everybody.rows[start:end], everybody.labels[start:end])

    def _ids(self, examples: Sequence[Example], settings: RunSettings) -> list[Tensor]:
        return self.classifier.encode(texts(examples), max_tokens=settings.max_tokens)


def _values_of(gradient: Tensor | None, parameter: Tensor) -> npt.NDArray[np.float32]:
    """A copy; zeros where no gradient came (an unused row of token types has none)."""
    values: npt.NDArray[np.float32] = (torch.zeros_like(parameter) if gradient is None else gradient).detach().numpy().astype(np.float32)
    return values.copy()
