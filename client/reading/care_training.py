"""Training of the care classifier, once: sentences that need care, sentences that only look so, and sentences of plain diaries.

The first two were written for this (``assets/care_sentences.tsv``); the third are the sample diaries' training authors.
``python -m client.reading.care_training`` trains a logistic regression over the hashed n-grams of :mod:`client.reading.care_classifier`,
chooses the threshold by cross-validation, writes ``assets/care.safetensors``, and prints what patterns and classifier
find of sentences that were never trained on. It needs scikit-learn (``pip install 'feelinghealing[compare]'``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from client.reading.care import speaks_of_self_harm
from client.reading.care_classifier import BUCKETS, WEIGHTS, CareClassifier, buckets_of, pieces_of
from client.reading.care_patterns import names_self_harm
from model.refusal import Refusal

ASSETS = Path(__file__).parent / "assets"
SENTENCES = ASSETS / "care_sentences.tsv"
HELD_BACK = ASSETS / "care_held_back.tsv"
"""Written before the patterns."""
FRESH = ASSETS / "care_fresh.tsv"
"""Written when patterns and threshold stood, and looked at once."""

STRENGTH = 10.0
"""scikit-learn's C: the inverse of the L2 penalty; cross-validation ranks best with it of 1, 3, 10, 30 and 100."""
FALSE_ALARMS = 0.08
"""Share of the sentences that only look so which pass the threshold, in cross-validation; of plain diaries' sentences it is one in 500."""
FOLDS, SEED = 5, 7

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Sentence:
    """A sentence, and whether it needs care."""

    text: str
    needs: bool


@dataclass(frozen=True)
class Found:
    """What a detector finds of some sentences."""

    recall: float
    precision: float


def sentences_in(path: Path) -> tuple[Sentence, ...]:
    """The sentences of a file: ``care`` or ``plain``, a tab, and the sentence."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(Sentence(text, kind == "care") for kind, text in rows)


def found_of(detector: Callable[[str], bool], sentences: Sequence[Sentence]) -> Found:
    """Recall and precision of a detector; a detector that finds nothing has precision 0."""
    found = [detector(sentence.text) for sentence in sentences]
    right = sum(hit and sentence.needs for hit, sentence in zip(found, sentences, strict=True))
    return Found(right / sum(sentence.needs for sentence in sentences), right / sum(found) if any(found) else 0.0)


def diary_sentences(split: str) -> tuple[Sentence, ...]:
    """The sentences of the bundled sample diaries' "train" or "test" authors, none of whom needs care."""
    lines = (resources.files("model") / "assets" / "diaries.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [entry["text"] for entry in map(json.loads, lines) if entry["split"] == split]
    return tuple(Sentence(piece, False) for text in texts for piece in pieces_of(text))


def trained(sentences: Sequence[Sentence], ordinary: Sequence[Sentence]) -> CareClassifier:
    """A classifier of these sentences and of ``ordinary`` ones, which do not set the threshold; the same ones give the same classifier."""
    everything = (*sentences, *ordinary)
    rows, needs = _rows(everything), np.array([sentence.needs for sentence in everything])
    alike = _cross_validated(rows, needs)[: len(sentences)][~needs[: len(sentences)]]
    threshold = float(np.quantile(alike, 1 - FALSE_ALARMS))
    regression = _regression().fit(rows, needs)
    return CareClassifier(regression.coef_[0].astype(np.float16).astype(np.float32), float(regression.intercept_[0]), threshold)


def written(classifier: CareClassifier, path: Path) -> None:
    """Write a classifier: weights in fp16, bias and threshold in fp32."""
    numbers = np.array([classifier.bias, classifier.threshold], dtype=np.float32)
    save_file({"weights": classifier.weights.astype(np.float16), "bias_threshold": numbers}, path)


def _rows(sentences: Sequence[Sentence]) -> Any:
    """One sparse row of length 1 for each sentence."""
    from scipy.sparse import csr_matrix

    buckets = [np.unique(np.concatenate([buckets_of(piece) for piece in pieces_of(one.text)])) for one in sentences]
    ends = np.cumsum([0, *map(len, buckets)])
    values = np.concatenate([np.full(len(row), 1 / math.sqrt(len(row))) for row in buckets])
    return csr_matrix((values, np.concatenate(buckets), ends), shape=(len(sentences), BUCKETS))


def _cross_validated(rows: Any, needs: NDArray[np.bool_]) -> Numbers:
    """The probability of each sentence by a regression that did not see it."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    probabilities: Numbers = cross_val_predict(_regression(), rows, needs, cv=folds, method="predict_proba")[:, 1]
    return probabilities


def _regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise Refusal("training the care classifier needs scikit-learn; run `pip install 'feelinghealing[compare]'`") from None
    return LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000)


def main() -> None:
    """Train, write, and say what is found of sentences that were never trained on."""
    classifier = trained(sentences_in(SENTENCES), diary_sentences("train"))
    written(classifier, ASSETS / WEIGHTS)
    detectors: dict[str, Callable[[str], bool]] = {
        "patterns": names_self_harm,
        "classifier": classifier.needs_care,
        "both": speaks_of_self_harm,
    }
    for path in (HELD_BACK, FRESH):
        for name, detector in detectors.items():
            found = found_of(detector, sentences_in(path))
            print(f"{path.stem:14} {name:10} recall {found.recall:.3f} precision {found.precision:.3f}")


if __name__ == "__main__":
    main()
