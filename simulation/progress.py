"""The live view of a running simulation: where it is, how good the model is, what it has cost."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from model.emotion_training import EmotionProgress
from model.settings import RunSettings
from server.journal import Journal, RoundRecord


class LiveProgress:
    """A progress bar over the devices' answers and a line about the last finished round; ``update`` moves both."""

    def __init__(self, console: Console, settings: RunSettings) -> None:
        self._per_round = settings.answers_per_round
        self._rounds = Progress(
            TextColumn("round"), MofNCompleteColumn(), BarColumn(bar_width=28), TimeElapsedColumn(), TextColumn("left"),
            TimeRemainingColumn(), console=console,
        )  # fmt: skip
        self._task = self._rounds.add_task("rounds", total=settings.rounds)
        self._told = "people are training"
        self._line = Text(self._told)
        self._live = Live(Group(self._rounds, self._line), console=console, transient=True, refresh_per_second=5)

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def update(self, answered: int, journal: Journal) -> None:
        """Show the finished rounds and how far this one is; the journal is read when a round begins, not at every answer."""
        if answered % self._per_round <= 1:
            finished = journal.rounds()
            self._rounds.update(self._task, completed=len(finished))
            self._told = _told(finished[-1]) if finished else "people are training"
        self._line.plain = f"{self._told} ... {answered % self._per_round} of {self._per_round} answers"


class PretrainingProgress:
    """A bar over the steps of one training, with its losses; a new training begins a new bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("steps"), MofNCompleteColumn(), BarColumn(bar_width=28), TimeElapsedColumn(), TextColumn("left"),
            TimeRemainingColumn(), TextColumn("{task.description}"), console=console, transient=True, speed_estimate_period=300,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> PretrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def say(self, stage: str) -> None:
        """Print what begins now."""
        self._console.print(stage)
        self._bar.reset(self._task, total=None)

    def update(self, at: EmotionProgress) -> None:
        """Show where the training stands."""
        losses = f"nats: emotion {at.emotion_loss:.2f}, kind {at.kind_loss:.2f}"
        self._bar.update(self._task, completed=at.step, total=at.steps, description=losses)


def _told(last: RoundRecord) -> str:
    if last.lost:
        return f"round {last.round} gave no sum: {last.lost}"
    epsilon = f", largest epsilon {last.epsilon_max:.2f}" if last.epsilon_max is not None else ""
    epsilon += f", population's epsilon {last.user_epsilon:.2f}" if last.user_epsilon is not None else ""
    return (
        f"{last.clients} people trained, macro-F1 {last.macro_f1:.3f}, cross-entropy {last.cross_entropy:.3f}{epsilon}, "
        f"{last.mb_sent_per_client:.2f} MB sent per person"
    )
