"""One table of models: the same entries, the same people and the same number of passes for every contestant.

| way | what it is |
|---|---|
| ``federated`` | the settings' own run (:mod:`simulation.run`): people, rounds, protection |
| ``centralised`` | one person who holds everything makes all the passes in one round, by the devices' own loop, without protection |
| ``floor`` | ``tfidf``: TF-IDF over character n-grams and logistic regression, which has read nothing before |

A *cell* is one contestant at one seed. Each is on disk before the next begins, with everything that decides its figures,
so that a killed comparison goes on where it was and a cell of other settings, data or weights is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from client.home import Home, virtual_home
from model.checkpoint import locked, write_durably
from model.classifier import MODELS, EmotionClassifier, source_of
from model.emotions import EMOTIONS
from model.examples import Corpus, Example, test_examples, texts, training_examples
from model.hub import BESIDE_THE_WEIGHTS, PICKLE, SAFETENSORS, bundles, missing_files
from model.normalization import TEXT_STEP, normalized
from model.refusal import Refusal
from model.scores import Scores
from model.settings import LSTM_LEARNING_RATE, RunSettings
from model.training import labelled_entries, labels, local_generator, train_plainly
from model.tuning import TrunkCache, tuned_classifier
from server.app import starting_weights
from server.journal import Journal, finite_or_none
from simulation.partition import partition
from simulation.run import people_folder, prepare, run_experiment

FLOOR, CENTRALISED, FEDERATED = "floor", "centralised", "federated"
TFIDF = "tfidf"
DEFAULT_MODELS = "lstm,compact,kobert,mbert,tfidf"
WAYS = {"both": (CENTRALISED, FEDERATED), CENTRALISED: (CENTRALISED,), FEDERATED: (FEDERATED,)}
MOST_SEEDS = 100
RUNNING = "running"
"""Where a federated run lives while it lasts, beside its people."""

EXCEPTIONS: dict[str, dict[str, Any]] = {"lstm": {"tuning": "full", "learning_rate": LSTM_LEARNING_RATE}}
"""Where a contestant does not train with the settings that all share; the table's notes say so.

The LSTM has no pretrained body, so there is nothing under a head that would be worth freezing, and no attention for LoRA; a rate
that suits a head does not suit it.
"""

NGRAMS, RARE, FLOOR_C, FLOOR_STEPS = (1, 4), 1000, 10.0, 1000
"""The floor: character n-grams of these lengths with sublinear counts; ``LogisticRegression(C=, max_iter=)``, balanced classes.

From this many entries on, an n-gram counts that two of them hold. A floor is worth as much as it is strong. KOTE-4, validation
part to test part, macro-F1 at C 3, 10 and 30: balanced 0.566, 0.568, 0.560 (0.556 at 10 with the n-grams of one entry);
unweighted 0.465, 0.495, 0.529.
"""


@dataclass(frozen=True)
class Split:
    """What every contestant of one seed trains on and is scored on, and digests that prove it."""

    train: Corpus
    test: Corpus

    @cached_property
    def digests(self) -> tuple[str, str]:
        """Of the training and of the test entries."""
        return digest(self.train.examples), digest(self.test.examples)


@dataclass(frozen=True)
class Task:
    """One contestant at one seed: everything that decides its figures."""

    model: str
    way: str
    settings: RunSettings
    train_digest: str
    test_digest: str
    body: str
    """Digest of the frozen base; empty for the floor, which has none."""
    text_step: int = TEXT_STEP

    @property
    def file(self) -> str:
        """Name of the cell's file."""
        if self.way == FLOOR:
            return f"{self.model}-s{self.settings.seed}.json"
        promised = "".join(f"-{privacy}-e{epsilon}" for privacy, epsilon in promises_of(self.settings))
        return f"{_plain_name(self.model)}-{self.way}-d{self.settings.dropout}{promised}-s{self.settings.seed}.json"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What training and scoring gave, as plain JSON values."""

    confusion: list[list[int]]
    log_loss: float
    parameters: int
    """Trained ones; in a federation these travel."""
    passes: float
    """Over the training entries; 0 for the floor, which has no epochs."""
    seconds: float
    """Training as a whole: the frozen trunk's one pass included; in a federation also sending, averaging, a score a round."""
    mb_per_round: float | None = None
    epsilon: float | None = None
    """The largest that any person's own ledger has counted; of example-level privacy."""
    user_epsilon: float | None = None
    """What the population's ledger has counted; of user-level privacy."""
    lost_answers: int = 0
    macro_f1_by_round: list[float] = field(default_factory=list)
    accuracy_by_person: list[float] = field(default_factory=list)
    """Of the final model on each person's own entries, which it was trained on; lowest first."""

    @property
    def scores(self) -> Scores:
        """Every rate, from the counts."""
        return Scores(np.array(self.confusion, dtype=np.int64), self.log_loss)


@dataclass(frozen=True)
class Cell:
    """One finished contestant at one seed."""

    task: Task
    result: Result


@dataclass(frozen=True)
class Contestant:
    """One row of the table. ``settings`` are what it trains with, at the first seed."""

    model: str
    way: str
    settings: RunSettings
    body: str = ""

    def at(self, seed: int, split: Split) -> Task:
        """What is done at one seed."""
        return Task(self.model, self.way, replace(self.settings, seed=seed), *split.digests, self.body)

    @property
    def name(self) -> str:
        """For a person."""
        if self.way == FLOOR:
            return self.model
        promised = "".join(f", {privacy} epsilon {epsilon}" for privacy, epsilon in promises_of(self.settings))
        return f"{self.model}, {self.way}, dropout {self.settings.dropout:g}{promised}"


@dataclass(frozen=True)
class Comparison:
    """A checked comparison, before anything of it is on disk."""

    settings: RunSettings
    """What all contestants share; see EXCEPTIONS."""
    seeds: tuple[int, ...]
    contestants: tuple[Contestant, ...]
    splits: dict[int, Split]
    left_out: dict[str, str]
    """Models that cannot take part on this machine, and why."""

    @property
    def cells(self) -> int:
        """How many are asked for."""
        return len(self.contestants) * len(self.seeds)


@dataclass(frozen=True)
class Standing:
    """How far a comparison has come, and where it lies."""

    comparison: Comparison
    folder: Path
    cells: tuple[Cell, ...]
    interrupted: bool


@dataclass(frozen=True)
class Moment:
    """Where a comparison is: ``told`` while a cell is trained, ``cell`` once it is there, ``kept`` if it was there before."""

    done: int
    total: int
    task: Task
    told: str = ""
    cell: Cell | None = None
    kept: bool = False


OnProgress = Callable[[Moment], None]
Tell = Callable[[str], None]


def compare(comparison: Comparison, folder: Path, *, on_progress: OnProgress = lambda moment: None) -> Standing:
    """Train and score every contestant at every seed, or what ``folder`` lacks of them; Ctrl-C ends it with what was finished."""
    folder = folder.absolute()
    cells: list[Cell] = []
    interrupted = False
    with _begun(folder, comparison.settings):
        try:
            for contestant in comparison.contestants:
                for seed in comparison.seeds:
                    split = comparison.splits[seed]
                    task = contestant.at(seed, split)
                    moment = Moment(len(cells), comparison.cells, task)
                    cell = _kept(folder, task)
                    kept = cell is not None
                    if cell is None:
                        cell = Cell(task, _learned(task, split, folder, _telling(on_progress, moment)))
                        _keep(folder, cell)
                    cells.append(cell)
                    on_progress(replace(moment, done=len(cells), cell=cell, kept=kept))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            _forget_if_empty(folder)
    return Standing(comparison, folder, tuple(cells), interrupted)


def prepare_comparison(
    settings: RunSettings, *, models: str = DEFAULT_MODELS, seeds: int = 3, dropouts: str = "", only: str = "both"
) -> Comparison:
    """Read the data, build every model once: everything that can be refused, and nothing on disk, and nothing downloaded."""
    if only not in WAYS:
        raise Refusal(f"only is '{only}'; choose one of {', '.join(WAYS)}")
    splits = splits_of(settings, seeds)
    rates = _dropouts(dropouts, settings)
    present, left_out = _present(models)
    contestants = [one for model in present for one in contestants_of(model, WAYS[only], rates, settings)]
    if not contestants:
        raise Refusal(f"no contestant is left: {'; '.join(f'{model}: {why}' for model, why in left_out.items())}")
    if TFIDF in present:
        _require_two_emotions(splits)
    federated = next((one for one in contestants if one.way == FEDERATED), None)
    if federated is not None:
        for seed in splits:
            prepare(replace(federated.settings, seed=seed))  # who holds what, and whether the plan covers the largest diary
    return Comparison(settings, tuple(splits), tuple(contestants), splits, left_out)


def splits_of(settings: RunSettings, seeds: int) -> dict[int, Split]:
    """What each of so many seeds, from the settings' own on, trains on and is scored on."""
    if not 1 <= seeds <= MOST_SEEDS:
        raise Refusal(f"seeds is {seeds}; it must be at least 1 and at most {MOST_SEEDS}")
    by_seed = [replace(settings, seed=seed) for seed in range(settings.seed, settings.seed + seeds)]
    return {one.seed: Split(training_examples(one), test_examples(one)) for one in by_seed}


def promises_of(settings: RunSettings) -> list[tuple[str, str]]:
    """The kinds of privacy that a run promises, each with its epsilon as a person writes it; empty without privacy."""
    promised = {"example": settings.epsilon} if settings.protects_entries else {}
    promised |= {"user": settings.user_epsilon} if settings.protects_people else {}
    return [(privacy, str(epsilon).removesuffix(".0")) for privacy, epsilon in promised.items()]


# the three ways to learn


def _learned(task: Task, split: Split, folder: Path, tell: Tell) -> Result:
    tell("training")
    if task.way == FLOOR:
        return _floor(split)
    return _centralised(task.settings, split) if task.way == CENTRALISED else _federated(task.settings, split, folder, tell)


def _floor(split: Split) -> Result:
    """TF-IDF and logistic regression, over texts after the text step that every tokenizer has before it."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    began = time.perf_counter()
    held_by = 2 if len(split.train.examples) >= RARE else 1
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=NGRAMS, min_df=held_by, sublinear_tf=True)
    regression = LogisticRegression(C=FLOOR_C, max_iter=FLOOR_STEPS, class_weight="balanced")
    regression.fit(vectorizer.fit_transform(_texts(split.train)), labels(split.train.examples).numpy())
    seconds = time.perf_counter() - began
    probabilities = np.zeros((len(split.test.examples), len(EMOTIONS)))  # an emotion without an entry is never predicted
    probabilities[:, regression.classes_] = regression.predict_proba(vectorizer.transform(_texts(split.test)))
    scores = Scores.count(probabilities, labels(split.test.examples).numpy())
    return Result(
        confusion=scores.confusion.tolist(), log_loss=scores.log_loss, parameters=regression.coef_.size + regression.intercept_.size,
        passes=0.0, seconds=seconds,
    )  # fmt: skip


def _centralised(settings: RunSettings, split: Split) -> Result:
    """What a federation of one person who holds everything does in one round of all the passes, without the federation.

    Entries, order and dropout are the same, so the two end at the same weights but for the rounding of the update, which
    is a difference in float32 that the server adds on.
    """
    classifier = _started(settings)
    [everything] = partition(split.train.examples, replace(settings, clients=1))
    passes = max(1, round(passes_of(settings)))
    began = time.perf_counter()
    entries = labelled_entries(classifier, [split.train.examples[row] for row in everything], settings)
    train_plainly(classifier, entries, replace(settings, local_epochs=passes), local_generator(settings.seed, round=1, device=0))
    seconds = time.perf_counter() - began
    test = labelled_entries(classifier, split.test.examples, settings)
    scores = classifier.score(test.rows, test.labels)
    return Result(
        confusion=scores.confusion.tolist(), log_loss=scores.log_loss, parameters=classifier.read().size, passes=passes, seconds=seconds
    )


def _federated(settings: RunSettings, split: Split, folder: Path, tell: Tell) -> Result:
    """The settings' own run, with people of its own who are gone when it is done."""
    running = folder / RUNNING

    def told(answered: int, journal: Journal) -> None:
        if answered % settings.answers_per_round <= 1 and (rounds := journal.rounds()):
            tell(f"round {rounds[-1].round} of {settings.rounds}, macro-F1 {rounds[-1].macro_f1:.3f}")

    try:
        prepared = prepare(settings)
        finished = run_experiment(prepared, running, on_progress=told)
        if finished.interrupted:
            raise KeyboardInterrupt
        homes = [Home(virtual_home(finished.people, number)) for number in range(settings.clients)]
        if (digest([one for home in homes for one in home.diary.labelled()]), digest(prepared.test.examples)) != split.digests:
            raise Refusal("the data changed while the comparison ran, so its rows would not be of the same entries; start a new one")
        if not any(record.clients for record in finished.rounds):
            raise Refusal(
                f"nobody trained in {len(finished.rounds)} rounds of {settings.model}; see why: healing simulate --model {settings.model}"
            )
        scores = json.loads((running / "scores.json").read_bytes())
        by_person = _accuracies(settings, Journal(running), homes)
    finally:
        _forget_run(running)
    return Result(
        confusion=scores["confusion"],
        log_loss=scores["cross_entropy"] * scores["entries"],
        parameters=prepared.parameters,
        passes=passes_of(settings),
        seconds=sum(record.seconds for record in finished.rounds),
        mb_per_round=max(record.mb_sent_per_client for record in finished.rounds),
        epsilon=finite_or_none(finished.epsilon),
        user_epsilon=finished.rounds[-1].user_epsilon,
        lost_answers=sum(sum(record.declined.values()) + len(record.refused) for record in finished.rounds),
        macro_f1_by_round=[record.macro_f1 for record in finished.rounds],
        accuracy_by_person=by_person,
    )


def _accuracies(settings: RunSettings, journal: Journal, homes: Sequence[Home]) -> list[float]:
    """Of the final model on each person's own entries, lowest first."""
    classifier = tuned_classifier(settings)
    newest = journal.checkpoints.latest()
    if newest is not None:
        classifier.write(journal.checkpoints.load(newest))

    def accuracy(home: Home) -> float:
        entries = home.diary.labelled()
        rows = TrunkCache(home.cache, classifier, settings).rows(texts(entries))
        return classifier.score(rows, labels(entries)).accuracy

    return sorted(map(accuracy, homes))


def _telling(on_progress: OnProgress, moment: Moment) -> Tell:
    return lambda told: on_progress(replace(moment, told=told))


def passes_of(settings: RunSettings) -> float:
    """How often a federated run passes over the training entries, on average over the people."""
    return settings.rounds * settings.local_epochs * settings.clients_per_round / settings.clients


def digest(examples: Sequence[Example]) -> str:
    """SHA-256 of labelled entries in any order."""
    lines = sorted(f"{example.emotion.id}\t{example.text}" for example in examples)
    return hashlib.sha256("\0".join(lines).encode()).hexdigest()


def _started(settings: RunSettings) -> EmotionClassifier:
    classifier = tuned_classifier(settings)
    classifier.write(starting_weights(settings, classifier))
    return classifier


def _texts(corpus: Corpus) -> list[str]:
    return [normalized(text) for text in texts(corpus.examples)]


# who takes part


def _present(models: str) -> tuple[list[str], dict[str, str]]:
    """The models that can take part on this machine, in the order given, and those that cannot, with the reason."""
    named = list(dict.fromkeys(model.strip() for model in models.split(",") if model.strip()))
    if not named:
        raise Refusal(f"models is '{models}'; name some of {DEFAULT_MODELS}, or a folder of a BERT-family model")
    left_out = {model: why for model in named if (why := _absent(model))}
    for model in left_out:
        if model != TFIDF and model not in MODELS:
            raise Refusal(
                f"'{model}' is no model that is on this machine; choose from {DEFAULT_MODELS}, or name a folder of a BERT-family model"
            )
    return [model for model in named if model not in left_out], left_out


def _absent(model: str) -> str:
    """Why a model cannot take part on this machine; empty if it can. Never asks the network."""
    if model == TFIDF:
        return "" if find_spec("sklearn") else "scikit-learn is not installed; pip install 'feelinghealing[compare]'"
    source = source_of(model)
    if Path(source).is_dir():
        return ""  # if something is missing there, building the model names it
    places = [bundle / source for bundle in bundles() if "/" not in source] + [_downloaded(source)]
    if any(not missing_files(place) for place in places):
        return ""
    lacking = next((place for place in places if place.is_dir()), places[-1])
    way = "healing model pretrain makes them" if source == "compact" else f"healing simulate --model {model} downloads them, once"
    return f"its {'; '.join(missing_files(lacking))} are not on this machine; {way}"


def _downloaded(source: str) -> Path:
    """What the hub's cache holds of a model; a folder that does not exist if it holds nothing."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=[*BESIDE_THE_WEIGHTS, SAFETENSORS, PICKLE], local_files_only=True))
    except Exception:  # the hub's have no class in common
        return Path(os.devnull)


def _dropouts(named: str, settings: RunSettings) -> list[float]:
    """The rates of the sweep; the settings' own without one."""
    try:
        rates = [float(word) for word in named.split(",") if word.strip()]
    except ValueError:
        raise Refusal(f"dropouts is '{named}'; write rates with commas, such as 0.5,0.3,0.1") from None
    return [replace(settings, dropout=rate).dropout for rate in dict.fromkeys(rates)] or [settings.dropout]


def contestants_of(model: str, ways: Sequence[str], rates: Sequence[float], settings: RunSettings) -> list[Contestant]:
    """One model's rows. It is built once, and let go: what cannot be built is refused before anything is trained."""
    if model == TFIDF:
        return [Contestant(model, FLOOR, settings)]
    own = replace(settings, model=model, **EXCEPTIONS.get(model, {}))
    classifier = _started(own)
    settings_of = {FEDERATED: own, CENTRALISED: replace(own, privacy="none")}
    return [Contestant(model, way, replace(settings_of[way], dropout=rate), classifier.base_digest) for way in ways for rate in rates]


def _require_two_emotions(splits: dict[int, Split]) -> None:
    for split in splits.values():
        if len({example.emotion for example in split.train.examples}) < 2:
            raise Refusal(f"{TFIDF} tells two emotions apart at least and the training entries name one; leave it out with --models")


def _plain_name(model: str) -> str:
    """A model's name as a part of a file's; a folder's is told from others of the same last name."""
    if model in MODELS:
        return model
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', Path(model).name) or 'model'}-{hashlib.sha256(model.encode()).hexdigest()[:6]}"


# what is kept


@contextmanager
def _begun(folder: Path, settings: RunSettings) -> Iterator[None]:
    """The folder, new or begun before with the same settings, and nobody else's while this lasts."""
    path = folder / "begun.json"
    if path.exists():
        _require_same_settings(path, settings)
    elif folder.exists() and any(child.name != ".lock" for child in folder.iterdir()):
        raise Refusal(f"'{folder}' holds something that is no comparison; name a new folder with --out")
    at_work = Refusal(f"another comparison is at work in '{folder}'; wait for it, or name another folder with --out")
    with locked(folder / ".lock", otherwise=at_work):
        _forget_run(folder / RUNNING)  # what a killed comparison left
        write_durably(path, json.dumps({"settings": asdict(settings)}, indent=1, ensure_ascii=False).encode())
        yield


def _require_same_settings(path: Path, settings: RunSettings) -> None:
    try:
        begun = RunSettings(**json.loads(path.read_bytes())["settings"])
    except (ValueError, TypeError, KeyError):
        raise Refusal(f"'{path}' is damaged or of another version; name a new folder with --out") from None
    for key, value in asdict(settings).items():
        if getattr(begun, key) != value:
            raise Refusal(
                f"'{path.parent}' was begun with {key.replace('_', '-')} '{getattr(begun, key)}' and this call says '{value}'; "
                "give the same settings, or another folder with --out"
            )


def _kept(folder: Path, task: Task) -> Cell | None:
    """The finished cell of this task; :class:`Refusal` if the file is of another one."""
    path = folder / "cells" / task.file
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_bytes())
        found = content["task"] | {"settings": RunSettings(**content["task"]["settings"])}
        cell = Cell(Task(**found), Result(**content["result"]))
    except (ValueError, TypeError, KeyError):
        raise Refusal(f"'{path}' is damaged or of another version; remove it to have it trained again") from None
    for name, value in vars(task).items():
        if getattr(cell.task, name) != value:
            other = {"train_digest": "training entries", "test_digest": "test entries", "body": "weights of the body"}.get(name, name)
            raise Refusal(f"'{path}' was made with other {other}; remove it to have it trained again, or name a new folder with --out")
    return cell


def _keep(folder: Path, cell: Cell) -> None:
    write_durably(folder / "cells" / cell.task.file, json.dumps(asdict(cell), indent=1, ensure_ascii=False).encode())


def _forget_run(running: Path) -> None:
    shutil.rmtree(running, ignore_errors=True)
    shutil.rmtree(people_folder(running), ignore_errors=True)


def _forget_if_empty(folder: Path) -> None:
    """A comparison that finished nothing leaves nothing behind."""
    if not (folder / "cells").exists():
        for name in ("begun.json", ".lock"):
            (folder / name).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
