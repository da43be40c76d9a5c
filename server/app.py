"""ServerApp: settings -> strategy -> start. The same object runs in this process, on Ray and behind a SuperLink."""

from __future__ import annotations

import os
from pathlib import Path

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from model.checkpoint import FIRST_MODEL, CheckpointStore
from model.classifier import EmotionClassifier
from model.data_split import data_digests
from model.hub import find_checkpoints
from model.records import GlobalModel, arrays_of, weights_of
from model.refusal import Refusal
from model.settings import RunSettings
from model.tuning import tuned_classifier
from model.weights import Weights
from server.evaluation import Evaluation
from server.journal import Journal
from server.strategies import build_strategy

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation that the run config describes, from its last published round."""
    settings = RunSettings.from_run_config(context.run_config)
    journal = Journal(_run_folder(settings))
    journal.begin(settings)
    classifier = tuned_classifier(settings)
    journal.tie({**data_digests(settings), "model's body": classifier.base_digest, "tokenizer": classifier.tokenizer.digest})
    weights = starting_weights(settings, classifier)
    done = journal.catch_up()
    newest = journal.checkpoints.latest()
    if newest is not None:
        weights = journal.checkpoints.load(newest)
    evaluation = Evaluation(settings, classifier)
    if newest is None:
        journal.keep_start(evaluation.score(weights))
    strategy = build_strategy(
        settings, GlobalModel(weights, classifier.base_digest, classifier.tokenizer.digest), journal, rounds_done=done
    )

    def close_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round == 0:
            return None
        scores = evaluation.close_round(done + server_round, weights_of(arrays), strategy, journal)
        return MetricRecord({"macro-f1": scores.macro_f1, "cross-entropy": scores.cross_entropy})

    result = strategy.start(grid, arrays_of(weights), num_rounds=settings.rounds - done, evaluate_fn=close_round)
    journal.finish(evaluation.score(weights_of(result.arrays) if result.arrays else weights))


def starting_weights(settings: RunSettings, classifier: EmotionClassifier) -> Weights:
    """The weights that ``settings.start`` names, or those of the new head; :class:`Refusal` if they belong to another model."""
    name = start_of(settings, classifier)
    if not name:
        return classifier.read()
    folder = find_checkpoints(name)
    store = CheckpointStore(folder)
    manifest = store.latest()
    if manifest is None:
        raise Refusal(f"there is no checkpoint in '{folder}'; name the checkpoints/ folder of a run, or {FIRST_MODEL}")
    for what, theirs, ours in (
        ("tuning", manifest.tuning, settings.tuning),
        ("base model", manifest.base_digest, classifier.base_digest),
        ("tokenizer", manifest.tokenizer_digest, classifier.tokenizer.digest),
    ):
        if theirs != ours:
            raise Refusal(f"the checkpoint in '{folder}' has {what} {theirs[:12]} and this run has {ours[:12]}; make them the same")
    return store.load(manifest)


def start_of(settings: RunSettings, classifier: EmotionClassifier) -> str:
    """Which checkpoints a run begins with: the named ones; of ``auto``, the bundled model if tuning and body are its own, else none."""
    if settings.start != "auto":
        return settings.start
    store = CheckpointStore(find_checkpoints(FIRST_MODEL))
    bundled = store.latest() if store.versions() else None
    fits = bundled and (bundled.tuning, bundled.base_digest) == (settings.tuning, classifier.base_digest)
    return FIRST_MODEL if fits else ""


def _run_folder(settings: RunSettings) -> Path:
    if settings.out:
        return Path(settings.out)
    if os.environ.get("HEALING_HOME"):
        return Path(os.environ["HEALING_HOME"]) / "server"
    raise Refusal('the run has no folder for its results; set out="..." in the run config, or HEALING_HOME')
