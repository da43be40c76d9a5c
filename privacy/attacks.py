"""Attacks: what somebody who sees one device's update works out about its diary.

**Who attacks**: the server, or whoever sees what it sees. It is curious and follows the protocol; it knows the weights that it
sent, the settings, the tokenizer and the vocabulary. Where an attack needs one more number (how many tokens the entries
have, which threshold is best) it is given the true one: what is measured is the most that the attack can do, not the least.
**What an attack is given**: named arrays, whatever they went through; so any protection can be put before any attack, and one
that works leaves chance. Results are counts and rates: no text, no token.

- :func:`find_words`: the word table moves only in the rows of words that were read. The head reads n-grams through a frozen projection to a
  few numbers (:mod:`model.lexical`), so its weights name none.
- :func:`find_places`: the gradient of a linear layer lies in the span of its inputs, and the inputs of the first layer are
  one vector for each word and place (Petrov et al. 2024, DAGER, arXiv 2405.15586).
- :func:`find_text`: of a single entry, the gradient of the head's first matrix *is* its input but for the length (:func:`input_of`), and
  so names the text among others (Phong et al. 2018; Zhu et al. 2019, arXiv 1906.08935). True under every tuning.
- :func:`read_label` and :func:`count_labels`: the bias of the last layer falls for the labels that are not there (Zhao et al.
  2020, arXiv 2001.02610).
- :func:`find_members`: what was trained on is read better afterwards (Yeom et al. 2018, arXiv 1709.01604).

**Adam hides little.** A first step of Adam is -rate * g / (|g| + eps), which looks like a sign and nothing else. But eps is known
and float32 has 24 bits, so |g| = eps * r / (1 - r) can be had from how far r falls short of one, up to about 0.01:
:meth:`Sight.gradients`. (Measured, four entries, everything trained: :func:`find_places` has recall 0.83 with it, 0.23 without.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.classifier import Chain, EmotionClassifier
from model.emotions import EMOTIONS
from model.refusal import Refusal
from model.weights import Weights

Values = npt.NDArray[np.float64]
Arrays = Mapping[str, Values]

ADAM_EPSILON = 1e-8
"""torch.optim.AdamW's, which ``model.training`` leaves as it is."""

FINEST_SHORTFALL = 1e-5
"""How near to one a step's r can be told from one in float32; gradients beyond are taken to be of one size."""

WORD_TABLES = ("embeddings.table.word_embeddings.weight", "embeddings.table.weight")
FIRST_LAYER = tuple(f"layer0.bert.attention.self.{part}.weight" for part in ("query", "key", "value"))
POOLER, CLASSIFIER, LAST_BIAS = "head.pooler.weight", "head.classifier.weight", "head.classifier.bias"


@dataclass(frozen=True)
class DoesNotApply:
    """The attack has nothing to look at here, and why; not the same as an attack that fails."""

    reason: str


@dataclass(frozen=True)
class Area:
    """Area under the ROC curve: how often a true one scores above a false one; 0.5 is chance.

    The standard error is Hanley & McNeil's (1982), from the area and the two numbers of cases. It takes scores to be independent,
    as those of :func:`find_members` and of noised words are; those of :func:`find_places` are not, since like words lie side by side.
    """

    auc: float
    standard_error: float
    positives: int
    negatives: int


@dataclass(frozen=True)
class Found:
    """How well scores tell what is in the diary: the area, and the best threshold (highest F1), chosen with the truth known."""

    area: Area
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / (self.precision + self.recall)

    @property
    def chance(self) -> float:
        """The F1 of naming everything."""
        return 2 * self.area.positives / (2 * self.area.positives + self.area.negatives)


def area_of(scores: Values, truth: npt.NDArray[np.bool_]) -> Area:
    """Of scores (N,) against truth (N,); equal scores count half. A score that is not a number is the lowest."""
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not (positives and negatives):
        raise Refusal(f"an area needs cases of both kinds, not {positives} true and {negatives} false; give the audit more entries")
    values = np.where(np.isnan(scores), -np.inf, scores)
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[where]
    auc = float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))
    return Area(auc, hanley_mcneil(auc, positives, negatives), positives, negatives)


def hanley_mcneil(auc: float, positives: int, negatives: int) -> float:
    """Standard error of an area (Hanley & McNeil 1982, Radiology 143, equation 1); 0 at an area of exactly 0 or 1."""
    both_above, both_below = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (both_above - auc**2) + (negatives - 1) * (both_below - auc**2)
    return math.sqrt(max(0.0, variance) / (positives * negatives))


def found_by(scores: Values, truth: npt.NDArray[np.bool_]) -> Found:
    """The area, and precision and recall where F1 is highest over all thresholds; a threshold never parts equal scores."""
    area = area_of(scores, truth)
    values = np.where(np.isnan(scores), -np.inf, scores)
    order = np.argsort(-values, kind="stable")
    right, ordered = np.cumsum(truth[order]), values[order]
    cuts = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    precision, recall = right[cuts] / (cuts + 1), right[cuts] / area.positives
    best = int(np.argmax(2 * right[cuts] / (cuts + 1 + area.positives)))
    return Found(area, float(precision[best]), float(recall[best]))


@dataclass(frozen=True, eq=False)
class Sight:
    """One device's update as it is seen, and what the server knows of how it came about."""

    update: Weights
    before: Weights
    rates: tuple[float, ...]
    """The learning rate of each local step."""
    weight_decay: float

    @cached_property
    def moved(self) -> Arrays:
        """What the gradients moved: the update without what weight decay alone does, in float64, of the sign of the update.

        Of one step, the factor by which a clipped update was scaled down is taken out too: its largest value is one rate.
        """
        kept = math.prod(1 - rate * self.weight_decay for rate in self.rates)
        factor = 1.0
        for _ in range(4 if len(self.rates) == 1 else 0):  # each pass leaves a ten-thousandth of the error
            largest = max(float(np.abs(values).max(initial=0.0)) for values in self._without_decay(kept, factor).values())
            factor *= largest / self.rates[0] if largest > 0 else 1.0
        return self._without_decay(kept, factor)

    def _without_decay(self, kept: float, factor: float) -> dict[str, Values]:
        before = self.before
        return {name: array.astype(np.float64) / factor + (1 - kept) * before[name] for name, array in self.update.items()}

    @property
    def gradients(self) -> Arrays:
        """The gradient of a single Adam step, its magnitudes read off the shortfall; of several steps, against what was moved."""
        if len(self.rates) > 1:
            return {name: -values for name, values in self.moved.items()}
        return {name: _before_adam(-values / self.rates[0]) for name, values in self.moved.items()}


def _before_adam(ratio: Values) -> Values:
    """g from r = g / (|g| + eps)."""
    size = np.abs(ratio)
    gradient: Values = np.sign(ratio) * ADAM_EPSILON * size / np.maximum(1 - size, FINEST_SHORTFALL)
    return gradient


def find_words(moved: Arrays, classifier: EmotionClassifier, entries: Sequence[Tensor]) -> Found | DoesNotApply:
    """Which words the entries of token ids hold, by how far their rows of the word table moved."""
    table = next((name for name in WORD_TABLES if name in moved), "")
    if not table:
        return DoesNotApply("the word table is frozen and not in the update")
    words = _words(classifier)
    words = words[words < len(moved[table])]
    scores = np.linalg.norm(moved[table], axis=1)[words]
    return found_by(scores, np.isin(words, np.concatenate([ids.numpy() for ids in entries])))


def find_places(gradients: Arrays, classifier: EmotionClassifier, entries: Sequence[Tensor]) -> Found | DoesNotApply:
    """Which word stands at which place: a pair scores by the share of its vector that lies in the span of the first layer's
    query, key and value gradients, taken as wide as the entries have tokens.

    ``classifier`` holds the weights that the server sent. Places are those up to the longest entry's last.
    """
    if FIRST_LAYER[0] not in gradients:
        return DoesNotApply(_why_no_places(classifier))
    tokens = sum(len(ids) for ids in entries)
    stacked = np.concatenate([gradients[name] for name in FIRST_LAYER])
    if tokens >= stacked.shape[1]:
        return DoesNotApply(f"{tokens} tokens span all {stacked.shape[1]} dimensions of the layer, so every word lies in their span")
    span = torch.from_numpy(_span(stacked, tokens))
    words, length = _words(classifier), max(len(ids) for ids in entries)
    truth = np.zeros((length, classifier.tokenizer.vocabulary_size), dtype=bool)
    for ids in entries:
        truth[np.arange(len(ids)), ids.numpy()] = True
    scores = np.stack([_share_inside(_inputs(classifier, torch.from_numpy(words), place), span) for place in range(length)])
    return found_by(scores.ravel(), truth[:, words].ravel())


def _why_no_places(classifier: EmotionClassifier) -> str:
    if "layer0" not in classifier.blocks:
        return "the body has no attention layer whose inputs are single words"
    if classifier.cut == list(classifier.blocks).index("head"):
        return "the update has the head's matrices only, which read one pooled vector an entry: there is no word to look up"
    if classifier.cut > 1:
        return "the first trained layer reads the frozen trunk's states of words in unknown company: there is no vocabulary to try"
    return "the first layer's query, key and value matrices are not in the update as such"


def _span(matrix: Values, dimensions: int) -> Values:
    """Orthonormal rows (k, H) that span most of the matrix's rows; k is ``dimensions``, or its numerical rank if less."""
    _, sizes, rows = np.linalg.svd(np.nan_to_num(matrix), full_matrices=False)
    wide = min(dimensions, int((sizes > sizes[0] * 1e-9).sum()))
    span: Values = rows[:wide]
    return span


@torch.no_grad()
def _inputs(classifier: EmotionClassifier, words: Tensor, place: int) -> Tensor:
    """What the first layer reads where each of ``words`` (V,) stands at ``place``, (V, H)."""
    table: Any = classifier.blocks["embeddings"].table
    vectors = table.word_embeddings(words) + table.position_embeddings.weight[place] + table.token_type_embeddings.weight[0]
    inputs: Tensor = table.LayerNorm(vectors)
    return inputs.double()  # in float32 what lies in the span and what nearly does are one


def _share_inside(vectors: Tensor, span: Tensor) -> Values:
    """Of each vector (V, H) the share of its length that lies in the span (k, H)."""
    inside: Values = ((vectors @ span.T).norm(dim=1) / vectors.norm(dim=1)).numpy()
    return inside


def _words(classifier: EmotionClassifier) -> npt.NDArray[np.int64]:
    """The ids of the vocabulary but those that stand in every entry, and padding."""
    everywhere = {classifier.tokenizer.pad_id, *classifier.tokenizer.encode([""], max_tokens=3)[0]}
    return np.array([word for word in range(classifier.tokenizer.vocabulary_size) if word not in everywhere])


@torch.no_grad()
def pooled(classifier: EmotionClassifier, entries: Sequence[Tensor]) -> Values:
    """What the head's first trained matrix reads of each entry of token ids, (N, H), at the classifier's weights, without dropout."""
    below = Chain(dict(list(classifier.blocks.items())[:-1])).eval()
    head: Any = classifier.blocks["head"]
    states = torch.stack([below(ids[None], torch.ones(1, len(ids), dtype=torch.int64))[0, 0, : head.width] for ids in entries])
    if not head.pooler.weight.requires_grad:
        states = torch.tanh(head.pooler(states))
    values: Values = states.double().numpy()
    return values


def input_of(gradients: Arrays) -> Values:
    """What the head's first trained matrix tells of its input, but for length and sign: a direction (H,), zero if the matrix is."""
    first = gradients[POOLER if POOLER in gradients else CLASSIFIER]
    direction = _span(first, 1)
    return direction[0] if len(direction) else np.zeros(first.shape[1])


def find_text(direction: Values, candidates: Values) -> int:
    """The rank (1 is found) of the first candidate (N, H) as the single entry whose :func:`input_of` is ``direction``.

    Candidates rank by how nearly they are parallel to it; equals rank before the first.
    """
    scores = np.abs(candidates @ direction) / np.linalg.norm(candidates, axis=1)
    return int((scores >= scores[0]).sum())


def read_label(gradients: Arrays) -> int:
    """The emotion id of a single entry: the one label whose bias the gradient raises."""
    return int(np.argmin(gradients[LAST_BIAS]))


def count_labels(gradients: Arrays, entries: int, probabilities: Values) -> npt.NDArray[np.int64]:
    """How many of the ``entries`` bear each label, (4,), from one gradient of their mean loss.

    The bias's gradient is ``s * (p - n / N)`` with p the mean ``probabilities`` (4,) that the server's model gives texts like
    these and s unknown where gradients are clipped: of all s, the one under which the counts are whole and none negative.
    """
    bias, best = gradients[LAST_BIAS], (math.inf, np.zeros(len(EMOTIONS), dtype=np.int64))
    for scale in np.geomspace(0.02, 1.0, 200):
        exact = entries * (probabilities - bias / scale)
        counts = np.clip(np.rint(exact), 0, entries)
        off = float(np.abs(exact - counts).sum()) + 2 * abs(float(counts.sum()) - entries)
        if off < best[0]:
            best = (off, counts.astype(np.int64))
    return best[1]


@torch.no_grad()
def losses(classifier: EmotionClassifier, rows: Sequence[Tensor], labels: Tensor) -> Values:
    """Cross-entropy (N,) of rows that have passed the trunk, at the classifier's weights."""
    probabilities = classifier.probabilities_of(rows)[np.arange(len(rows)), labels.numpy()].astype(np.float64)
    values: Values = -np.log(np.clip(np.nan_to_num(probabilities), 1e-12, 1.0))
    return values


def find_members(before: Values, after: Values, members: npt.NDArray[np.bool_]) -> Area:
    """Who was trained on, by how far the loss (N,) fell."""
    return area_of(before - after, members)
