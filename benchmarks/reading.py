"""What each part of the bundled model is worth, on every kind of text that tests it: macro-F1; ``results/reading.md``.

    python benchmarks/reading.py [--data FOLDER] [--seeds N]

Heads are trained centrally on the head's share of the written texts (25 epochs at 0.005, batch 32, dropout 0.3), which neither body nor
projection has met: with the body's state alone, with the words' features alone, and with both. Beside them stand emotion-v2, the bundled
head that came of federated rounds, and the floor: TF-IDF over character n-grams and logistic regression, trained on the body's and the
head's share together.
The expected calibration error is that of the first seed (ten bins), on the forty sample authors.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.checkpoint import FIRST_MODEL, CheckpointStore
from model.classifier import EmotionClassifier
from model.emotion_corpora import tested_texts, written_rows
from model.examples import Example, bundled_diaries, bundled_written, read_examples, texts
from model.hub import find_checkpoints
from model.normalization import normalized
from model.scores import Scores
from model.settings import RunSettings
from model.training import Entries, labels, local_generator, train_plainly
from model.tuning import tuned_classifier
from model.written_texts import written_texts

RESULTS = Path(__file__).parent / "results" / "reading.md"
SETTINGS = RunSettings(privacy="none", local_epochs=25, learning_rate=0.005, batch_size=32, dropout=0.3)
Probabilities = np.ndarray[Any, Any]


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HEALING_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    tests = columns(chosen.data)
    classifier = tuned_classifier(SETTINGS)
    read = {name: classifier.lower(classifier.encode(texts(examples), max_tokens=SETTINGS.max_tokens)) for name, examples in tests.items()}
    strangers = bundled_written()[0].examples
    rows = classifier.lower(classifier.encode(texts(strangers), max_tokens=SETTINGS.max_tokens))
    lines = [
        "# What reads what",
        "",
        "| reader | " + " | ".join(f"{name} ({len(found):,})" for name, found in tests.items()) + " | calibration |",
    ]
    lines += ["|---" * (len(tests) + 2) + "|"]
    for name, part in parts(classifier).items():
        heads = [trained(seed, [part(row) for row in rows], labels(strangers)) for seed in range(7, 7 + chosen.seeds)]
        probabilities = {column: [head.probabilities_of([part(row) for row in found]) for head in heads] for column, found in read.items()}
        lines.append(line(f"head on {name}, {chosen.seeds} seeds", tests, probabilities))
        print(lines[-1], flush=True)
    store = CheckpointStore(find_checkpoints(FIRST_MODEL))
    manifest = store.latest()
    assert manifest is not None
    classifier.write(store.load(manifest))
    lines.append(line(FIRST_MODEL, tests, {column: [classifier.probabilities_of(found)] for column, found in read.items()}))
    print(lines[-1], flush=True)
    floor = floor_on(chosen.data)
    lines.append(line("floor: TF-IDF", tests, {column: [floor(texts(examples))] for column, examples in tests.items()}))
    print(lines[-1], flush=True)
    RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(f"written: {RESULTS}")


def columns(data: Path) -> dict[str, Sequence[Example]]:
    """The tests: people whom no part has met, short statements, and strangers' comments."""
    dated = {text.text for text in written_texts() if text.date}
    written = bundled_written()[1].examples
    samples = bundled_diaries()
    return {
        "forty sample authors": [*samples[0].examples, *samples[1].examples],
        "the six of them that test": samples[1].examples,
        "twelve written authors": [example for example in written if example.text in dated],
        "short statements": [example for example in written if example.text not in dated],
        "KOTE-4": read_examples(str(data / "kote" / "test.tsv")).examples,
    }


def parts(classifier: EmotionClassifier) -> dict[str, Callable[[Tensor], Tensor]]:
    """What of a row (1, H + P + 3) a head is shown: the rest is zero."""
    width = classifier.width

    def only(first: int, last: int) -> Callable[[Tensor], Tensor]:
        def shown(row: Tensor) -> Tensor:
            kept = torch.zeros_like(row)
            kept[:, first:last] = row[:, first:last]
            return kept

        return shown

    return {"the body": only(0, width), "the words": only(width, 10**6), "both": lambda row: row}


def trained(seed: int, rows: list[Tensor], emotions: Tensor) -> EmotionClassifier:
    """A new head."""
    settings = replace(SETTINGS, seed=seed)
    classifier = tuned_classifier(settings)
    train_plainly(classifier, Entries(rows, emotions), settings, local_generator(seed, round=1, device=0))
    return classifier


def floor_on(data: Path) -> Callable[[Sequence[str]], Probabilities]:
    """TF-IDF of character n-grams of one to four, sublinear, and logistic regression at C 10, over texts after the text step."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    tested = tested_texts(data)
    rows = [row for split in ("body", "head") for row in written_rows(split) if row.emotion is not None and row.text not in tested]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    fitted = LogisticRegression(C=10, max_iter=500).fit(
        vectorizer.fit_transform([normalized(row.text) for row in rows]), [row.emotion for row in rows]
    )
    return lambda found: np.asarray(fitted.predict_proba(vectorizer.transform([normalized(text) for text in found])))


def line(name: str, tests: dict[str, Sequence[Example]], probabilities: dict[str, list[Probabilities]]) -> str:
    """One row of the table."""
    figures = []
    for column, examples in tests.items():
        right = labels(examples).numpy()
        f1 = [Scores.count(found, right).macro_f1 for found in probabilities[column]]
        spread = f" ± {statistics.stdev(f1):.3f}" if len(f1) > 1 else ""
        figures.append(f"{statistics.fmean(f1):.3f}{spread}")
    first = next(iter(tests))
    return f"| {name} | " + " | ".join(figures) + f" | {calibration_error(probabilities[first][0], labels(tests[first]).numpy()):.3f} |"


def calibration_error(probabilities: Probabilities, right: Probabilities) -> float:
    """Expected calibration error (Naeini et al. 2015): the mean gap between confidence and accuracy over ten bins."""
    sure, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == right
    bins = np.minimum((sure * 10).astype(int), 9)
    return float(sum((bins == at).mean() * abs(hit[bins == at].mean() - sure[bins == at].mean()) for at in set(bins.tolist())))


if __name__ == "__main__":
    main()
