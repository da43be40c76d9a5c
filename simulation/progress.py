"""The live line of a running simulation: where it is, how good the model is, what it has cost."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from server.journal import RoundRecord
from simulation.run import Prepared


class LiveProgress:
    """A rich progress bar over all rounds; ``update`` is called as devices answer."""

    def __init__(self, console: Console, prepared: Prepared) -> None:
        settings = prepared.settings
        self._per_round = max(1, round(settings.fraction * settings.clients)) + round(settings.fraction_evaluate * settings.clients)
        self._progress = Progress(
            TextColumn("round"), MofNCompleteColumn(), BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn(),
            console=console,
        )  # fmt: skip
        self._task = self._progress.add_task("people are training ...", total=settings.rounds)

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def update(self, answered: int, rounds: list[RoundRecord]) -> None:
        """Show the finished rounds; ``answered`` devices have replied in this process."""
        inside = answered % self._per_round
        self._progress.update(self._task, completed=len(rounds), description=self._line(inside, rounds))

    def _line(self, inside: int, rounds: list[RoundRecord]) -> str:
        working = f"{inside:>3} answers"
        if not rounds:
            return working
        last = rounds[-1]
        epsilon = f"  epsilon {last.epsilon_max:.2f}" if last.epsilon_max is not None else ""
        return (
            f"{working}  trained {last.clients}  macro-F1 {last.macro_f1:.3f}  cross-entropy {last.cross_entropy:.3f}"
            f"{epsilon}  {last.mb_sent_per_client:.2f} MB sent per person"
        )
