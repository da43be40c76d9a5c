"""The `healing` command line. Thin: parse, call, show; the only module that may see every room."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from model.refusal import Refusal
from model.settings import RunSettings

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)  # locals may hold diary text
console = Console()

SET_BY_COMMAND = ("people", "out")


@app.callback()
def about() -> None:
    """Private emotion AI for Korean diaries: federated, differentially private, on the person's own device."""


def simulate(
    *,
    name: str,
    out: Path | None,
    resume: Path | None,
    engine: str,
    **options: Any,
) -> None:
    """Run a federated simulation on Korean diary text and score the shared model after every round.

    Each client is a virtual person with a Home, a diary and a privacy ledger of their own. Results go to
    runs/<time>-<name>/: settings.json, rounds.jsonl, scores.json, summary.md and the published checkpoints.
    """
    from simulation.progress import LiveProgress
    from simulation.run import prepare, run_experiment, run_folder
    from simulation.run import resume as resume_run
    from simulation.summary import show_end, show_start, write_summary

    if resume is not None:
        prepared, folder = resume_run(resume), resume
    else:
        settings = RunSettings(**{key: value for key, value in options.items() if value is not None})
        prepared, folder = prepare(settings), out or run_folder(name)
    show_start(console, prepared)
    with LiveProgress(console, prepared) as progress:
        finished = run_experiment(prepared, folder, engine=engine, on_progress=progress.update)
    if finished.rounds:
        write_summary(finished)
    show_end(console, finished)
    if finished.interrupted:
        raise typer.Exit(130)


def _with_settings_as_options(command: Any) -> Any:
    """Give a command one option for every field of RunSettings, explained by the field's own help."""
    own = [
        inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default="simulation",
                          annotation=Annotated[str, typer.Option(help="short name of the run, for its folder")]),
        inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None,
                          annotation=Annotated[Path | None, typer.Option(help="folder for the results instead of runs/<time>-<name>")]),
        inspect.Parameter("resume", inspect.Parameter.KEYWORD_ONLY, default=None,
                          annotation=Annotated[Path | None, typer.Option(help="continue the run in this folder from its last round, with its own settings")]),
        inspect.Parameter("engine", inspect.Parameter.KEYWORD_ONLY, default="inprocess",
                          annotation=Annotated[str, typer.Option(help="inprocess (this process), or ray (Flower's simulation engine, `flwr run`)")]),
    ]  # fmt: skip
    types = {"str": str, "int": int, "float": float}
    settings = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[types[str(field.type)], typer.Option(help=field.metadata["help"])],
        )
        for field in dataclasses.fields(RunSettings)
        if field.name not in SET_BY_COMMAND
    ]
    command.__signature__ = inspect.Signature([*own, *settings])
    return command


app.command()(_with_settings_as_options(simulate))


def main() -> None:
    """Run the command line; a refusal is one sentence on standard error and exit code 2."""
    try:
        app()
    except Refusal as refusal:
        print(f"healing: {refusal}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
