"""Example-level differential privacy: DP-SGD over one device's diary (Abadi et al. 2016, arXiv 1607.00133).

**Promise.** Whoever sees every update that a device ever sends, and knows all but one entry of its diary, learns from
them whether that entry was there only as far as (epsilon, delta) allows; over all rounds, runs and restarts.
**For whom**: each single diary entry (adding or removing it). Not the person: many entries together may show a person's
habits; that is user-level privacy.
**Against whom**: the server, the other devices, anyone who reads the published model; all may collude.
**Assumptions**: the device follows the protocol; its ledger is not rolled back; entries are sampled and noised with the
device's own cryptographic randomness, and so are dropout masks; participation and timing are not hidden.
**Cost**: per step the gradient of every sampled entry, clipped to ``clip_norm`` C, is summed; noise of standard deviation
``noise_multiplier * C`` is added to every coordinate; the sum is divided by the public ``batch_size``, not by the diary's.
**Shapes**: per-example gradients (B, *p.shape) with ``hooks``; only their norms (B,) with ``ghost`` (Li et al. 2022,
arXiv 2110.05679; Bu et al. 2023), which is cheaper where many parameters are trained.

An empty Poisson sample is a step like any other: its sum is zero and its noise is added. Skipping it would tell that
it was empty, and count a step that was not taken. So is every step of a diary without a labelled entry.

Norms, factors and sums are float64, whatever the gradients are. In float32 a clip norm near the smallest of numbers makes factor and
product round up, and an entry contributes more than twice the clip norm (measured: 2.25 times at 8e-45, so that a ledger of 8
stood for about 20). ``privacy.orders`` refuses such a clip norm besides.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.validators import ModuleValidator
from torch import Tensor, nn
from torch.nn import functional

from model.classifier import EmotionClassifier
from model.refusal import Refusal
from model.settings import RunSettings
from model.training import Entries, train
from privacy.plan import PrivacyPlan
from privacy.randomness import SecureRandom

AT_ONCE = 64
"""Entries whose gradients are held together: a step may take a whole diary, and memory must not grow with it."""


def train_privately(
    classifier: EmotionClassifier,
    entries: Entries,
    settings: RunSettings,
    plan: PrivacyPlan,
    randomness: SecureRandom,
    *,
    class_weights: Tensor | None = None,
) -> None:
    """One round's private steps, in place. Charge the ledger first.

    ``class_weights`` (4,) weigh the loss; they must not be computed from the labels but by ``privacy.label_counts``.
    """
    gradient = PrivateGradient(classifier, entries, settings, plan, randomness, class_weights=class_weights)
    # Dropout masks that the server could foretell would tie the others' gradients to whether an entry was sampled.
    secret = torch.Generator().manual_seed(int(randomness.uniform(1)[0] * 2**53))
    try:
        train(
            classifier,
            settings,
            batches=poisson_batches(len(entries), plan, randomness),
            steps=plan.steps_per_round,
            gradient=gradient,
            generator=secret,
        )
    finally:
        gradient.detach()


def poisson_batches(entries: int, plan: PrivacyPlan, randomness: SecureRandom) -> Iterator[list[int]]:
    """``steps_per_round`` independent Poisson samples; nothing is dropped, whatever the number of entries."""
    for _ in range(plan.steps_per_round):
        yield randomness.poisson_sample(entries, plan.sampling_rate)


class PrivateGradient:
    """Fills ``.grad`` with the clipped sum of a sample's gradients, plus noise, over the public batch size."""

    def __init__(
        self,
        classifier: EmotionClassifier,
        entries: Entries,
        settings: RunSettings,
        plan: PrivacyPlan,
        randomness: SecureRandom,
        *,
        class_weights: Tensor | None = None,
    ) -> None:
        self._classifier = classifier
        self._entries = entries
        self._plan = plan
        self._divisor = settings.batch_size
        self._randomness = randomness
        self._sum = clipped_sums(classifier, settings.tuning, plan.clip_norm, class_weights)

    def __call__(self, rows: Sequence[int]) -> None:
        sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in self._classifier.trainable().items()}
        for start in range(0, len(rows), AT_ONCE):
            few = list(rows[start : start + AT_ONCE])
            batch = self._classifier.batch([self._entries.rows[row] for row in few], self._entries.labels[few])
            for name, part in self._sum(batch.inputs, batch.mask, batch.labels).items():
                sums[name] += part
        std = self._plan.noise_multiplier * self._plan.clip_norm
        for name, parameter in self._classifier.trainable().items():
            # In float64 until the sum is noised: float32 noise would leave bits of the sum that it cannot have made (Mironov 2012).
            noised = sums[name] + self._randomness.normal(parameter.shape, std=std)
            parameter.grad = (noised / self._divisor).float()

    def detach(self) -> None:
        """Take Opacus' hooks off the classifier."""
        self._sum.detach()


class ClippedSum:
    """Per-example gradients by Opacus' hooks; clips each to ``clip_norm`` and sums them."""

    def __init__(self, classifier: EmotionClassifier, clip_norm: float, class_weights: Tensor | None = None) -> None:
        self._clip_norm = clip_norm
        self._class_weights = class_weights
        self._own = classifier.trainable()
        # Opacus has no per-example gradients for torch's LSTM; its own has the same parameters under the same names.
        self._twin = ModuleValidator.fix(classifier.upper()) if _has_lstm(classifier) else classifier.upper()
        self._module = GradSampleModule(self._twin.train(), loss_reduction="sum", strict=False)  # buffers: position ids only

    def __call__(self, x: Tensor, mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Sums by parameter name, each of the parameter's shape; float64."""
        parameters: dict[str, Any] = {name: p for name, p in self._twin.named_parameters() if p.requires_grad}  # Opacus adds grad_sample
        self._follow(parameters)
        # Longest first: packing sorts an LSTM's rows, and Opacus would then add the LSTM's part of one example's norm
        # to the head's part of another's (measured: clipped sums off by 8e-4, so the clip norm would not bound them).
        order = mask.sum(dim=1).argsort(descending=True, stable=True)
        with _quiet_hooks():
            _loss(self._module(x[order], mask[order]), labels[order], self._class_weights).backward()  # type: ignore[no-untyped-call]
        samples = {name: p.grad_sample for name, p in parameters.items()}
        norms = torch.stack([sample.flatten(1).double().norm(dim=1) for sample in samples.values()], dim=1).norm(dim=1)
        factors = _clip_factors(norms, self._clip_norm)
        lost = factors == 0  # 0 times infinity is not 0
        for sample in samples.values():
            sample[lost] = 0.0
        sums = {name: torch.einsum("i,i...", factors, sample.double()) for name, sample in samples.items()}
        for parameter in parameters.values():
            parameter.grad_sample = parameter.grad = None
        return sums

    def _follow(self, parameters: dict[str, Any]) -> None:
        """Bring a twin's values up to the classifier's; nothing to do where they are the same objects."""
        for name, parameter in parameters.items():
            if parameter is not self._own[name]:
                parameter.data.copy_(self._own[name].data)

    def detach(self) -> None:
        """Leave the classifier as if Opacus had never seen it, nor an entry."""
        _detach(self._module)


class GhostClippedSum:
    """Per-example gradient *norms* only, and the clipped sum from the very activations and back-propagated gradients that
    gave them (book-keeping, Bu et al. 2023, arXiv 2210.00038).

    A second backward pass of the reweighted loss, as Opacus does it, need not give the gradients whose norms were had:
    float32 is enough for weights to be made under which they differ (measured: an entry contributed 1.27 clip norms).
    """

    def __init__(self, classifier: EmotionClassifier, clip_norm: float, class_weights: Tensor | None = None) -> None:
        self._own = classifier.trainable()
        self._clip_norm = clip_norm
        self._class_weights = class_weights
        self._module = GradSampleModuleFastGradientClipping(
            classifier.upper().train(), loss_reduction="sum", max_grad_norm=clip_norm, use_ghost_clipping=True, strict=False
        )
        self._books: dict[nn.Parameter, Book] = {}
        self._module.NORM_SAMPLERS = {kind: self._keep(books_of) for kind, books_of in BOOKKEEPERS.items()}

    def __call__(self, x: Tensor, mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Sums by parameter name, each of the parameter's shape; float64."""
        self._books.clear()
        with _quiet_hooks():
            _loss(self._module(x, mask), labels, self._class_weights).backward()  # type: ignore[no-untyped-call]
        missing = [name for name, parameter in self._own.items() if parameter not in self._books]
        if missing:
            raise Refusal(f"'{missing[0]}' belongs to a kind of layer without ghost norms; use --tuning head or lora under privacy")
        norms = torch.stack([book.norms for book in self._books.values()]).norm(dim=0)
        factors = _clip_factors(norms, self._clip_norm)
        kept = factors > 0  # the others' gradients are not finite, and would be infinite still times 0
        sums = {name: self._books[parameter].clipped_sum(kept, factors[kept]) for name, parameter in self._own.items()}
        self._books.clear()
        for parameter in self._own.values():
            parameter.grad = None
        return sums

    def _keep(self, books_of: Bookkeeper) -> Callable[[Any, list[Tensor], Tensor], dict[nn.Parameter, Tensor]]:
        """What Opacus' hook calls for one layer: it keeps the layer's books, and gives their norms."""

        def norms(layer: Any, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
            books = {parameter: book for parameter, book in books_of(layer, activations[0], backprops).items() if parameter.requires_grad}
            self._books.update(books)
            return {parameter: book.norms.float() for parameter, book in books.items()}

        return norms

    def detach(self) -> None:
        """Leave the classifier as if Opacus had never seen it, nor an entry."""
        self._books.clear()
        _detach(self._module)


@dataclass(frozen=True)
class Book:
    """One parameter's part in a step: its per-example gradient norms (B,), and the sum of those gradients once clipped."""

    norms: Tensor
    clipped_sum: Callable[[Tensor, Tensor], Tensor]
    """Of the rows kept (B,) bool and their factors (K,): the weighted sum, of the parameter's shape."""


Bookkeeper = Callable[[Any, Tensor, Tensor], dict[nn.Parameter, Book]]


def linear_books(layer: Any, inputs: Tensor, backprops: Tensor) -> dict[nn.Parameter, Book]:
    """Of a linear layer; inputs (B, H) or (B, S, H), backprops (B, O) or (B, S, O). Norms are never less than the truth.

    The squared norm of ``sum_t b_t a_t^T`` is had from products of token pairs, of which most may cancel: in float32, as
    in Opacus, weights can be made for which that loses it and an entry contributes 2,000 times the clip norm. So the
    products, and the sum too, are taken in float64, and a millionth of ``sum_t |a_t||b_t|`` is added.
    """
    a, b = inputs.double(), backprops.double()
    if b.dim() == 2:
        a, b = a[:, None], b[:, None]
    squared = ((a @ a.transpose(1, 2)) * (b @ b.transpose(1, 2))).sum(dim=(1, 2))
    rounding = 1e-6 * (a.norm(dim=2) * b.norm(dim=2)).sum(dim=1)

    def clipped_sum(kept: Tensor, factors: Tensor) -> Tensor:
        return (b[kept] * factors[:, None, None]).flatten(0, 1).T @ a[kept].flatten(0, 1)

    books = {layer.weight: Book(squared.clamp(min=0).sqrt() + rounding, clipped_sum)}
    return books if layer.bias is None else books | {layer.bias: _small_book(b.sum(dim=1))}


def layer_norm_books(layer: Any, inputs: Tensor, backprops: Tensor) -> dict[nn.Parameter, Book]:
    """Of a layer normalisation over the last dimension; (B, S, H) or (B, H)."""
    between = tuple(range(1, inputs.dim() - 1))
    scaled = backprops * functional.layer_norm(inputs, layer.normalized_shape, eps=layer.eps)
    weight, bias = (gradient.sum(dim=between) if between else gradient for gradient in (scaled, backprops))
    return {layer.weight: _small_book(weight.double()), layer.bias: _small_book(bias.double())}


def embedding_books(layer: Any, ids: Tensor, backprops: Tensor) -> dict[nn.Parameter, Book]:
    """Of an embedding table; ids (B, S), backprops (B, S, H). The padding row has no gradient."""
    b = backprops.double()
    if layer.padding_idx is not None:
        b = b * (ids != layer.padding_idx)[:, :, None]
    examples = torch.arange(len(ids))[:, None].expand_as(ids)
    places, inverse = torch.unique(examples * layer.num_embeddings + ids, return_inverse=True)
    gradients = b.new_zeros(len(places), b.shape[2]).index_add_(0, inverse.flatten(), b.flatten(0, 1))
    squared = b.new_zeros(len(ids)).index_add_(0, places // layer.num_embeddings, gradients.square().sum(dim=1))

    def clipped_sum(kept: Tensor, factors: Tensor) -> Tensor:
        weighted = (b[kept] * factors[:, None, None]).flatten(0, 1)
        return weighted.new_zeros(layer.weight.shape).index_add_(0, ids[kept].flatten(), weighted)

    return {layer.weight: Book(squared.sqrt(), clipped_sum)}


def _small_book(gradients: Tensor) -> Book:
    """Of a parameter so small that its per-example gradients (B, H) can be held."""
    return Book(gradients.norm(dim=1), lambda kept, factors: factors @ gradients[kept])


BOOKKEEPERS: dict[type[nn.Module], Bookkeeper] = {
    nn.Linear: linear_books,
    nn.LayerNorm: layer_norm_books,
    nn.Embedding: embedding_books,
}


def clipped_sums(
    classifier: EmotionClassifier, tuning: str, clip_norm: float, class_weights: Tensor | None = None
) -> ClippedSum | GhostClippedSum:
    """The way to clip that suits what is trained: norms alone for whole layers (not for an LSTM), gradients where they are small."""
    if (tuning == "full" or tuning.startswith("top")) and not _has_lstm(classifier):
        return GhostClippedSum(classifier, clip_norm, class_weights)
    return ClippedSum(classifier, clip_norm, class_weights)


def _loss(logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> Tensor:
    """The sum of the examples' losses, each with its class's weight."""
    return functional.cross_entropy(logits, labels, weight=class_weights, reduction="sum")


def _has_lstm(classifier: EmotionClassifier) -> bool:
    return any(isinstance(module, nn.LSTM) for module in classifier.upper().modules())


def _clip_factors(norms: Tensor, clip_norm: float) -> Tensor:
    """What each gradient is multiplied by, (B,) float64 like ``norms``; 0 where the norm is not finite, so that weights made to
    overflow on a word tell nothing but that an entry contributed nothing."""
    return torch.where(norms.isfinite(), (clip_norm / (norms + 1e-6)).clamp(max=1.0), 0.0)


def _detach(module: GradSampleModule) -> None:
    """Take off Opacus' hooks and whatever a round, broken off or not, has left on modules and parameters."""
    own = module.to_standard_module()
    for part in own.modules():
        for name in ("activations", "max_batch_len"):
            vars(part).pop(name, None)
    for parameter in own.parameters():
        parameter.grad = None
        for name in ("grad_sample", "_norm_sample", "_forward_counter", "_current_grad_sample", "summed_grad"):
            vars(parameter).pop(name, None)


@contextmanager
def _quiet_hooks() -> Iterator[None]:
    """Token ids carry no gradient; torch warns of that each time a hook of Opacus' first layer fires."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield
