"""What the text step (:mod:`model.normalization`) is worth on KOTE-4: macro-F1 with it and with NFC alone; ``results/text-step.md``.

    python benchmarks/text_step.py [--data FOLDER] [--seeds N]

The compact model's head, trained on KOTE's validation part and tested on its test part: balanced loss, 5 epochs at 1e-3, batch 32,
dropout 0.1, 128 tokens. The body has read text after the step, so NFC alone also shows it a spelling that it does not know.
"""

from __future__ import annotations

import argparse
import os
import statistics
import unicodedata
from collections.abc import Callable
from pathlib import Path

import torch

from model.examples import Example, test_examples, texts, training_examples
from model.normalization import normalized
from model.settings import RunSettings
from model.training import Entries, labels, local_generator, train_plainly
from model.tuning import tuned_classifier

STEPS: dict[str, Callable[[str], str]] = {"the text step": normalized, "NFC alone": lambda text: unicodedata.normalize("NFC", text)}
RESULTS = Path(__file__).parent / "results" / "text-step.md"


def main() -> None:
    """Print and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HEALING_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(7, 7 + chosen.seeds)
    lines = [
        "# The text step on KOTE-4",
        "",
        f"| before the tokenizer | macro-F1, seeds {seeds[0]} to {seeds[-1]} | mean |",
        "|---|---|---|",
    ]
    for name, step in STEPS.items():
        figures = [macro_f1(step, seed, chosen.data / "kote") for seed in seeds]
        lines.append(f"| {name} | {' '.join(f'{figure:.3f}' for figure in figures)} | {statistics.fmean(figures):.3f} |")
        print(lines[-1], flush=True)
    RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(f"written: {RESULTS}")


def macro_f1(step: Callable[[str], str], seed: int, kote: Path) -> float:
    """Of one training at one seed, every text prepared by ``step`` alone."""
    settings = RunSettings(
        data=str(kote / "val.tsv"), test_data=str(kote / "test.tsv"), privacy="none", class_weights="balanced", seed=seed,
        learning_rate=1e-3, local_epochs=5, batch_size=32, dropout=0.1,
    )  # fmt: skip
    classifier = tuned_classifier(settings)

    def entries(examples: tuple[Example, ...]) -> Entries:
        ids = classifier.tokenizer.encode([step(text) for text in texts(examples)], max_tokens=settings.max_tokens)
        return Entries(classifier.lower([torch.tensor(row) for row in ids]), labels(examples))

    train_plainly(classifier, entries(training_examples(settings).examples), settings, local_generator(seed, round=1, device=0))
    test = entries(test_examples(settings).examples)
    return classifier.score(test.rows, test.labels).macro_f1


if __name__ == "__main__":
    main()
