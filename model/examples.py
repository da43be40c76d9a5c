"""Labelled sentences: what one is, where they are read from, and how they become a batch. The front door of four modules.

| module | what stands in it |
|---|---|
| :mod:`model.corpus` | an example, a corpus and its account, a batch |
| :mod:`model.example_files` | files and folders: formats, columns, labels, and what is refused |
| :mod:`model.numbered_corpora` | KOTE and GoEmotions |
| :mod:`model.data_split` | the bundled data, training part and test part |
"""

from __future__ import annotations

import csv

from model.columns import AUTHOR_COLUMNS, LABEL_COLUMNS, RATING_COLUMNS, TEXT_COLUMNS, Columns
from model.corpus import Batch, Corpus, Example, texts
from model.data_split import BUNDLES, bundled_diaries, bundled_written, test_examples, training_examples
from model.example_files import LEAST_GLAD, MOST_ANGRY, MOST_RATING, rated, read_examples
from model.numbered_corpora import GOEMOTIONS, KOTE_EMOTIONS, Cells, goemotions_cells, kote_cells

__all__ = [
    "AUTHOR_COLUMNS", "BUNDLES", "GOEMOTIONS", "KOTE_EMOTIONS", "LABEL_COLUMNS", "LEAST_GLAD", "MOST_ANGRY", "MOST_RATING",
    "RATING_COLUMNS", "TEXT_COLUMNS", "Batch", "Cells", "Columns", "Corpus", "Example", "bundled_diaries", "bundled_written",
    "goemotions_cells", "kote_cells", "rated", "read_examples", "test_examples", "texts", "training_examples",
]  # fmt: skip

csv.field_size_limit(10 * 1024 * 1024)  # of the diary's imports, which read by Python's csv
