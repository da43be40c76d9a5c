"""RunSettings: everything that describes a run, as one frozen dataclass that checks itself.

The same keys (with ``-`` for ``_``) stand in ``[tool.flwr.app.config]`` of pyproject.toml, where Flower reads them, and
as options of ``healing simulate``; ``help`` is what the command shows.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.label_words import OTHER_LABELS, read_label_map
from model.refusal import Refusal

BUNDLED = "samples"
PARTITIONS = ("auto", "author", "iid", "dirichlet")
TUNINGS = ("probe", "head", "top<k>", "lora", "full")
PRECISIONS = ("fp32", "fp16")
PRIVACY_KINDS = ("none", "example", "user", "both")
CLIENT_SAMPLINGS = ("fixed", "poisson")
STRATEGIES = ("fedavg", "fedprox", "fedadam", "median", "trimmed-mean", "multi-krum")
AGGREGATIONS = ("plain", "masked", "encrypted")
ROBUST = ("median", "trimmed-mean", "multi-krum")
"""Strategies that compare single updates."""
FORMATS = ("auto", "tsv", "csv", "jsonl", "json", "parquet", "xlsx", "kote", "goemotions", "nsmc")
CLASS_WEIGHTS = ("none", "balanced")
OPTIMIZERS = ("auto", "adamw", "sgd")

SGD_LEARNING_RATE = 3e-2
ADAMW_LEARNING_RATES = {"probe": 1e-2, "head": 2e-3, "lora": 1e-3, "full": 3e-4}
LAYERS_LEARNING_RATE = 5e-4
"""Of top<k>."""
LSTM_LEARNING_RATE = 2e-3
"""KOTE-4, validation part to test part, 4 epochs, seed 7, macro-F1 and cross-entropy of the LSTM: 1e-3 0.455, 1.33; 2e-3 0.472,
1.46; 3e-3 0.477, 1.62. The probe's, federated over 30 people: 0.01 0.596, 0.03 0.576."""


def _option(default: Any, help: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": help})


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The run-config table. Raises :class:`Refusal` at birth if a value or a combination is not allowed."""

    # what is learned
    model: str = _option("compact", "compact, lstm, kobert, mbert, a folder of a BERT-family model, or a hub id")
    tuning: str = _option(
        "probe",
        "which parameters are trained and travel: probe (the linear readings), head (and the pooler), top<k> (top2: two layers and the "
        "head), lora or full",
    )
    start: str = _option(
        "auto", "weights to start from: emotion-v2 (bundled), or a folder of checkpoints; empty: a new head; auto: emotion-v2 where it fits"
    )
    dropout: float = _option(0.3, "dropout before the classifier and, where trained, inside the body")
    max_tokens: int = _option(128, "longest entry in tokens; what is longer is cut at the end")

    # from what
    data: str = _option(
        BUNDLED,
        "training data: samples or written (bundled texts), a TSV, CSV, JSON Lines, JSON, Parquet or Excel file (.gz too), a folder of "
        "such files, a hub id, or several of these with commas",
    )
    test_data: str = _option("", "test data; empty: the bundled test authors, or a fifth held out of --data")
    data_format: str = _option(
        "auto",
        "auto, tsv, csv, jsonl, json, parquet, xlsx, kote or goemotions (these two by label numbers), or nsmc (ratings of 1 to 10, or "
        "NSMC's own labels 0 and 1)",
    )
    text_column: str = _option("", "column that holds the text; empty: guessed")
    label_column: str = _option("", "column that holds the emotion; empty: guessed")
    author_column: str = _option("", "column that names the author; empty: guessed")
    label_map: str = _option(
        "", "what a table's labels mean, such as 행복=기쁨,공포=불안 or 0=joy,1=sadness; empty: the four emotions' names alone"
    )
    other_labels: str = _option("refuse", "rows whose label is none of the four emotions: refuse the file, or leave-out (and count) them")

    # by whom
    clients: int = _option(20, "number of people (virtual clients)")
    partition: str = _option(
        "auto",
        "who holds what: author (whole authors), iid, dirichlet (label skew), or auto: author if the data names enough, else iid",
    )
    dirichlet_alpha: float = _option(0.5, "concentration of the Dirichlet partition; smaller is more skewed")
    fraction: float = _option(1.0, "fraction of the clients that train in a round")
    fraction_evaluate: float = _option(1.0, "fraction of the clients that receive the new global model after a round")

    # how
    rounds: int = _option(10, "number of federated rounds")
    local_epochs: int = _option(1, "passes over a client's own entries in a round")
    batch_size: int = _option(16, "entries per step; under DP the public divisor of the summed gradient")
    optimizer: str = _option("auto", "on the client: sgd, adamw, or auto: sgd under example-level DP, adamw otherwise")
    learning_rate: float = _option(0.0, "peak learning rate on the client; 0: what suits optimizer, tuning and model")
    warmup: float = _option(0.1, "fraction of a round's local steps over which the learning rate rises")
    weight_decay: float = _option(0.01, "decoupled weight decay")
    gradient_clip: float = _option(1.0, "largest gradient norm of a step without DP")
    class_weights: str = _option(
        "none",
        "none, or balanced: weigh the loss by inverse class frequency (under example-level DP by noised and charged counts)",
    )
    update_precision: str = _option("fp32", "fp32, or fp16: half the bytes; what rounding loses is added to the device's next update")
    update_norm_limit: float = _option(1000.0, "the server refuses an update whose L2 norm is larger")
    strategy: str = _option(
        "fedavg", "fedavg, fedprox (devices stay near the global model), fedadam (Adam on the server), median, trimmed-mean or multi-krum"
    )
    proximal_mu: float = _option(0.01, "fedprox: how strongly a device is drawn back to the weights that it was sent")
    server_learning_rate: float = _option(0.01, "fedadam: learning rate of the server's Adam")
    hostile: float = _option(0.2, "trimmed-mean, multi-krum: the share of a round's updates that may be an attacker's")
    seed: int = _option(7, "seed of initial head, shuffling, dropout and partition; never of privacy noise")

    # protected how
    privacy: str = _option("example", "none, example (every single diary entry, by DP-SGD), user (every person as a whole), or both")
    epsilon: float = _option(8.0, "privacy budget of each device over all its planned rounds")
    delta: float = _option(1e-4, "probability with which the epsilon may fail; at most n^-1.5 for n entries")
    aggregation: str = _option(
        "plain", "what the server sees: plain (every update), masked (secure aggregation: only their sum) or encrypted (homomorphic sums)"
    )
    user_epsilon: float = _option(8.0, "user-level: privacy budget of the whole population over all its rounds")
    user_delta: float = _option(1e-3, "user-level: probability with which the epsilon may fail; below 1 over the number of clients")
    client_sampling: str = _option("fixed", "user-level, fraction below 1: fixed (so many each round) or poisson (each by itself)")
    update_clip: float = _option(
        0.0,
        "user-level, masked, encrypted: largest L2 norm of a device's whole update; a longer one is scaled down; "
        "0: 1 where people are protected, 64 where only their sum is hidden",
    )
    clip_quantile: float = _option(0.0, "user-level: let the clip norm follow this quantile of the updates' norms; 0: it stays")
    clip_norm: float = _option(4.0, "largest L2 norm of one entry's gradient")
    sampling_rate: float = _option(1.0, "probability with which an entry takes part in a private step; 1: every step sees the whole diary")

    # where
    people: str = _option("", "folder that holds the virtual people's Homes; empty on a real device")
    out: str = _option("", "folder of the run's results")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field, getattr(self, field.name))
        _one_of("data-format", self.data_format, FORMATS)
        _one_of("other-labels", self.other_labels, OTHER_LABELS)
        read_label_map(self.label_map)
        _one_of("partition", self.partition, PARTITIONS)
        if not re.fullmatch(r"probe|head|lora|full|top[1-9]\d?", self.tuning):
            raise Refusal(f"tuning is '{self.tuning}'; choose one of {', '.join(TUNINGS)}, for instance top2")
        _one_of("update-precision", self.update_precision, PRECISIONS)
        _one_of("privacy", self.privacy, PRIVACY_KINDS)
        _one_of("client-sampling", self.client_sampling, CLIENT_SAMPLINGS)
        _one_of("aggregation", self.aggregation, AGGREGATIONS)
        _one_of("strategy", self.strategy, STRATEGIES)
        _one_of("class-weights", self.class_weights, CLASS_WEIGHTS)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("clients", "rounds", "local_epochs", "batch_size"):
            _within(name, getattr(self, name), low=1, high=10**6)
        _within("max_tokens", self.max_tokens, low=3, high=512)
        _within("seed", self.seed, low=0, high=2**31 - 1)
        _within("dropout", self.dropout, low=0.0, high=0.9)
        _within("warmup", self.warmup, low=0.0, high=1.0)
        _within("weight_decay", self.weight_decay, low=0.0, high=1.0)
        _within("fraction_evaluate", self.fraction_evaluate, low=0.0, high=1.0)
        _within("hostile", self.hostile, low=0.0, high=0.49)
        _within("proximal_mu", self.proximal_mu, low=0.0, high=1e6)
        for name in ("fraction", "sampling_rate"):
            _within(name, getattr(self, name), low=0.0, high=1.0, above=True)
        for name in ("learning_rate", "update_clip"):
            _within(name, getattr(self, name), low=0.0, high=1e9)
        for name in ("server_learning_rate", "gradient_clip", "update_norm_limit", "dirichlet_alpha"):
            _within(name, getattr(self, name), low=0.0, high=1e9, above=True)
        for name in ("clip_norm", "epsilon", "user_epsilon"):
            _within(name, getattr(self, name), low=0.0, high=1e9, above=True)
        for name in ("delta", "user_delta"):
            _within(name, getattr(self, name), low=0.0, high=0.1, above=True)
        _within("clip_quantile", self.clip_quantile, low=0.0, high=0.99)

    @property
    def protects_entries(self) -> bool:
        """Whether every single entry is protected, on the device."""
        return self.privacy in ("example", "both")

    @property
    def protects_people(self) -> bool:
        """Whether every person is protected as a whole, by noise on the sum."""
        return self.privacy in ("user", "both")

    @property
    def plain_descent(self) -> bool:
        """Whether the client takes plain gradient steps (SGD) and no AdamW."""
        return self.optimizer == "sgd" or (self.optimizer == "auto" and self.protects_entries)

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate that is asked for, or else the one that was found to suit what is trained, and how."""
        if self.learning_rate:
            return self.learning_rate
        if self.plain_descent:
            return SGD_LEARNING_RATE
        return LSTM_LEARNING_RATE if self.model == "lstm" else ADAMW_LEARNING_RATES.get(self.tuning, LAYERS_LEARNING_RATE)

    @property
    def largest_update(self) -> float:
        """To what L2 norm a device's whole update is clipped, where it is: as asked, or else near what it measures if people are
        protected, whose noise grows with it, and far above it if a sum must only not overflow."""
        return self.update_clip or (1.0 if self.protects_people else 64.0)

    @property
    def steps_per_round(self) -> int:
        """Local steps of one private round; a public number, the same on every device."""
        return max(1, round(self.local_epochs / self.sampling_rate))

    @property
    def planned_rounds(self) -> int:
        """The most rounds in which one device can take part."""
        return self.rounds

    @property
    def clients_per_round(self) -> int:
        """How many are asked to train in a round."""
        return max(1, round(self.fraction * self.clients))

    @property
    def publications_per_round(self) -> int:
        """How many receive the new global model after a round."""
        return max(1, round(self.fraction_evaluate * self.clients)) if self.fraction_evaluate else 0

    @property
    def answers_per_round(self) -> int:
        """How many messages come back in a round."""
        return self.clients_per_round + self.publications_per_round

    def as_run_config(self) -> dict[str, bool | int | float | str]:
        """The settings under Flower's kebab-case keys."""
        return {field.name.replace("_", "-"): getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_run_config(cls, config: Mapping[str, Any]) -> RunSettings:
        """Read Flower's run config; an unknown key is refused, a missing one has its default."""
        known = {field.name.replace("_", "-"): field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(config) - set(known))
        if unknown:
            raise Refusal(f"'{unknown[0]}' is not a key of the run config; the keys are {', '.join(known)}")
        return cls(**{known[key]: value for key, value in config.items()})


def _check_type(field: dataclasses.Field[Any], value: object) -> None:
    wanted = {"str": str, "int": int, "float": (int, float)}[str(field.type)]
    if isinstance(value, bool) or not isinstance(value, wanted):  # type: ignore[arg-type]
        raise Refusal(f"{_key(field.name)} is {value!r}; it must be of type {field.type}")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise Refusal(f"{_key(field.name)} is a number of more than 18 digits; it must fit into 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise Refusal(f"{_key(field.name)} is {value}; it must be a finite number")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise Refusal(f"{name} is '{value}'; choose one of {', '.join(allowed)}")


def _within(name: str, value: float, *, low: float, high: float, above: bool = False) -> None:
    """Refuse ``value`` outside [low, high], or outside (low, high] if ``above``."""
    if value < low or value > high or (above and value == low):
        rule = f"above {low:g}" if above else f"at least {low:g}"
        raise Refusal(f"{_key(name)} is {value:g}; it must be {rule} and at most {high:g}")


def _key(name: str) -> str:
    return name.replace("_", "-")
