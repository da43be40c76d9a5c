"""What a run says at its start and end, on the terminal and as ``summary.md``."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from model.checkpoint import write_durably
from model.emotions import EMOTIONS
from model.settings import RunSettings
from privacy.agreement import user_plan
from privacy.plan import calibrated
from server.journal import Journal, RoundRecord
from simulation.run import Finished, Prepared


def show_start(console: Console, prepared: Prepared) -> None:
    """What is about to run, in a few lines."""
    settings = prepared.settings
    sizes = prepared.sizes
    console.print(f"[bold]training[/]  {prepared.train.account()}")
    console.print(f"[bold]test[/]      {prepared.test.account()}")
    console.print(f"[bold]people[/]    {len(sizes)}, each with {min(sizes)} to {max(sizes)} labelled entries")
    console.print(
        f"[bold]model[/]     {settings.model}, tuning {settings.tuning}: {prepared.parameters:,} parameters are trained and travel"
    )
    console.print(f"[bold]start[/]     {prepared.started_from or 'a new head'}")
    if not prepared.pretrained:
        console.print("          its body is not pretrained: it starts from chance, and under privacy it stays near it")
    console.print(f"[bold]privacy[/]   {privacy_line(settings)}")


def privacy_line(settings: RunSettings) -> str:
    """The protection and its promise, in one line."""
    promises = [_entry_promise(settings)] if settings.protects_entries else []
    promises += [_person_promise(settings)] if settings.protects_people else []
    if settings.aggregation == "masked":
        promises.append("masked: the server sees the sum of a round's updates and no single one")
    if settings.aggregation == "encrypted":
        promises.append("encrypted: the server adds up ciphertexts, and only devices can open the sum")
    return "; ".join(promises) or "none: updates may give diary text away; for research on public text only"


def _person_promise(settings: RunSettings) -> str:
    plan = user_plan(settings)
    who = (
        f"all {plan.clients} people" if plan.sampling == "full" else f"{plan.clients_per_round} of {plan.clients} people ({plan.sampling})"
    )
    return (
        f"each person as a whole: epsilon {plan.epsilon(settings.rounds):.2f} of at most {settings.user_epsilon:g} at delta {plan.delta:g} "
        f"after all {settings.rounds} rounds (noise multiplier {plan.noise_multiplier:.4g}, update clip {plan.clip_norm:g}, {who} a round)"
    )


def _entry_promise(settings: RunSettings) -> str:
    plan = calibrated(settings)
    counted = f", labels counted once with noise {plan.label_noise:g}" if plan.label_noise else ""
    return (
        f"each diary entry: epsilon {plan.epsilon(settings.rounds):.2f} of at most {settings.epsilon:g} at delta {settings.delta:g} "
        f"after all {settings.rounds} rounds (noise multiplier {plan.noise_multiplier:g}, clip norm {plan.clip_norm:g}, "
        f"sampling rate {plan.sampling_rate:g}, {plan.steps_per_round} steps a round{counted})"
    )


def show_end(console: Console, finished: Finished, *, without_privacy: float | None = None) -> None:
    """Rounds, confusion matrix, what was spent, where it lies, what to do next."""
    if not finished.rounds:
        console.print("stopped before the first round was finished; nothing was kept")
        return
    console.print(_rounds_table(finished.rounds))
    scores = _scores(finished)
    if scores is not None:
        console.print(_confusion_table(scores))
    done = len(finished.rounds)
    if finished.interrupted:
        console.print(f"stopped after round {done} of {finished.settings.rounds}; every finished round is kept")
    for line in _closing_lines(finished, without_privacy):
        console.print(line, soft_wrap=True, highlight=False)


def write_summary(finished: Finished, *, without_privacy: float | None = None) -> None:
    """``summary.md`` in the run's folder."""
    settings, last = finished.settings, finished.rounds[-1]
    header = (
        "| round | clients | macro-F1 | accuracy | cross-entropy | epsilon | MB per person | seconds |\n|---|---|---|---|---|---|---|---|\n"
    )
    rows = "".join("| " + " | ".join(_cells(record)) + " |\n" for record in finished.rounds)
    lines = [
        f"# {finished.folder.name}",
        "",
        f"{len(finished.rounds)} of {settings.rounds} rounds; macro-F1 {last.macro_f1:.3f}, accuracy {last.accuracy:.3f}, "
        f"cross-entropy {last.cross_entropy:.3f}.",
        "",
        f"- model {settings.model}, tuning {settings.tuning}; data {settings.data}; {settings.clients} clients",
        f"- privacy: {privacy_line(settings)}",
        *(f"- {line}" for line in _closing_lines(finished, without_privacy)),
        "",
        header + rows,
    ]
    scores = _scores(finished)
    if scores is not None:
        names = [emotion.ko for emotion in EMOTIONS]
        lines += ["Rows are the true emotion, columns the predicted one.", "", "| | " + " | ".join(names) + " |", "|---" * 5 + "|"]
        lines += [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in zip(names, scores["confusion"], strict=True)]
    write_durably(finished.folder / "summary.md", ("\n".join(lines) + "\n").encode())


def _rounds_table(rounds: tuple[RoundRecord, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="rounds", title_justify="left")
    for title in ("round", "people", "macro-F1", "accur.", "cross-e.", "epsilon", "MB each", "seconds"):
        table.add_column(title, justify="right", no_wrap=title == "epsilon")
    for record in rounds:
        table.add_row(*_cells(record))
    return table


def _cells(record: RoundRecord) -> list[str]:
    spent = [f"{epsilon:.2f}" for epsilon in (record.epsilon_max, record.user_epsilon) if epsilon is not None]
    epsilon = " / ".join(spent) or "none"
    return [
        str(record.round), str(record.clients), f"{record.macro_f1:.3f}", f"{record.accuracy:.3f}", f"{record.cross_entropy:.3f}",
        epsilon, f"{record.mb_sent_per_client:.2f}", f"{record.seconds:.1f}",
    ]  # fmt: skip


def _confusion_table(scores: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="test set: rows true, columns predicted", title_justify="left")
    table.add_column("")
    for emotion in EMOTIONS:
        table.add_column(emotion.ko, justify="right")
    table.add_column("F1", justify="right")
    for emotion, row in zip(EMOTIONS, scores["confusion"], strict=True):
        table.add_row(f"{emotion.ko} {emotion.en}", *map(str, row), f"{scores['per_class'][emotion.en]['f1']:.3f}")
    return table


def _closing_lines(finished: Finished, without_privacy: float | None) -> list[str]:
    lines = [_course(finished, without_privacy)]
    declined: Counter[str] = sum((Counter(record.declined) for record in finished.rounds), Counter())
    refused = [(record.round, node, reason) for record in finished.rounds for node, reason in record.refused.items()]
    if finished.settings.protects_people:
        spent = finished.rounds[-1].user_epsilon or 0.0
        lines.append(
            f"spent: the population's ledger has {spent:.2f} of {finished.settings.user_epsilon:g} (delta {finished.settings.user_delta:g})"
        )
    if finished.settings.protects_entries:
        budget = f"{finished.settings.epsilon:g} (delta {finished.settings.delta:g})"
        lines.append(f"spent: the largest epsilon in any person's ledger is {finished.epsilon:.2f} of {budget}")
    if declined:
        lines.append("declined: " + ", ".join(f"{count} times for {reason}" for reason, count in declined.items()))
    if lost := [record for record in finished.rounds if record.lost]:
        lines.append(f"lost: {len(lost)} rounds gave no sum, the first was {lost[0].round}: {lost[0].lost}")
    if refused:
        round, node, reason = refused[0]
        lines.append(f"refused: {len(refused)} answers, the first in round {round} from node {node}: {reason}")
    lines.append(f"results: {finished.folder} (summary.md, rounds.jsonl, scores.json, checkpoints/)")
    lines.append(f"people: {finished.people} holds the virtual people's diaries and ledgers; delete it when you will not resume")
    if finished.interrupted or len(finished.rounds) < finished.settings.rounds:
        lines.append(f"next: healing simulate --resume {finished.folder}")
    else:
        lines.append("next: compare with --privacy none, or bring your own text with --data FILE (healing simulate --help)")
    return lines


def _course(finished: Finished, without_privacy: float | None) -> str:
    """Where the run began, where it ended, and where it would have ended without privacy."""
    start, end = Journal(finished.folder).start(), finished.rounds[-1].macro_f1
    began = f"began at {start:.3f} ({finished.started_from or 'a new head'}), " if start is not None else ""
    private = " under privacy" if finished.settings.protects_entries or finished.settings.protects_people else ""
    beside = f", the same without privacy at {without_privacy:.3f}" if without_privacy is not None else ""
    return f"macro-F1: {began}ended{private} at {end:.3f}{beside}"


def _scores(finished: Finished) -> dict[str, Any] | None:
    path = finished.folder / "scores.json"
    content: dict[str, Any] | None = json.loads(path.read_bytes()) if path.exists() else None
    return content
