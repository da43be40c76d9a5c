"""What a hidden round's keys are bound to: the work for which they are drawn, as one digest that server and devices both derive.

**Promise.** Two devices whose keys are in one roster were asked to train the very same model by the same settings and plan: a server that
has one device train and the others stand still (by a learning rate of next to nothing, say, or by other weights) must give them
other digests, and then no device finds the others' keys to be of its round.
**Against whom**: a server that lies. **Not promised**: that the same work, asked for under another run's name, gives nothing away; see
``docs/privacy.md`` on masks without noise.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

from model.records import TrainOrder
from model.settings import RunSettings

ELSEWHERE = frozenset({"people", "out"})
"""Settings that only say where files lie."""


def masking_run(run: str) -> str:
    """A run's name as its hidden rounds bear it: it may be Korean, and travels no further than the train order."""
    return hashlib.sha256(run.encode()).hexdigest()[:32]


def work_digest(order: TrainOrder, settings: RunSettings) -> str:
    """Of the model, plan, clip, run and round of a train order, and of all settings: 64 hexadecimal digits."""
    model, plan = order.model, order.plan
    work = {
        "run": order.run,
        "round": order.round,
        "weights": model.weights.digest,
        "body": [model.base_digest, model.tokenizer_digest, model.text_step],
        "plan": None if plan is None else {name: float(value) for name, value in vars(plan).items()},
        "update-clip": None if order.update_clip is None else float(order.update_clip),
        "settings": {field.name: _plain(settings, field) for field in dataclasses.fields(settings) if field.name not in ELSEWHERE},
    }
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def _plain(settings: RunSettings, field: dataclasses.Field[object]) -> object:
    """A setting's value, 8 and 8.0 as one where a float is meant."""
    value = getattr(settings, field.name)
    return float(value) if field.type == "float" else value
