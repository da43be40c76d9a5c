"""The privacy report of a run: what was promised to whom, against whom, on which assumptions, and what is spent and left.

In words that a person understands, and in numbers that an expert checks: the mechanism, its rate, noise and steps, delta, the
accountant, and the same figure from a second library (Google's dp-accounting, by privacy loss distributions).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dp_accounting import dp_event  # type: ignore[import-untyped]
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant  # type: ignore[import-untyped]
from rich import box
from rich.console import Console
from rich.table import Table

from client.home import Home, virtual_home
from model.checkpoint import write_durably
from model.refusal import Refusal
from model.settings import RunSettings
from privacy.agreement import shared_noise, user_plan
from privacy.ledger import Ledger
from privacy.plan import Mechanism, calibrated, composed_epsilon, total_steps
from privacy.user_accounting import UserLedger
from server.journal import Journal
from simulation.run import people_folder


@dataclass(frozen=True)
class Promise:
    """One protection of a run."""

    unit: str
    """What is protected: an entry or a person."""
    to_whom: str
    against: str
    assumes: str
    hides_not: str
    mechanism: str
    noise_multiplier: float
    sampling_rate: float
    steps: int
    """So far; of the device that took part most often, or of the population."""
    delta: float
    accountant: str
    spent: float
    limit: float
    second_opinion: float | None
    """Epsilon of the same steps by another library; None where none was taken."""

    @property
    def left(self) -> float:
        """Epsilon that may still be spent."""
        return max(0.0, self.limit - self.spent)


@dataclass(frozen=True)
class PrivacyReport:
    """All promises of one run, and how its updates travelled."""

    run: str
    rounds: int
    promises: tuple[Promise, ...]
    aggregation: str


def privacy_report(folder: Path) -> PrivacyReport:
    """Read a run's folder, its people's ledgers and its population's; :class:`Refusal` if they are gone or damaged."""
    settings = Journal.settings_of(folder)
    rounds = Journal(folder).rounds()
    if not rounds:
        raise Refusal(f"'{folder}' has no finished round, so there is nothing to report; run it, or name another run")
    promises = []
    if settings.protects_entries:
        promises.append(_entry_promise(settings, folder))
    if settings.protects_people:
        promises.append(_person_promise(settings, folder))
    return PrivacyReport(folder.name, len(rounds), tuple(promises), settings.aggregation)


def show_report(console: Console, report: PrivacyReport) -> None:
    """On the terminal."""
    console.print(f"[bold]{report.run}[/], after {report.rounds} rounds", highlight=False)
    for sentence in sentences(report):
        console.print(f"- {sentence}", highlight=False)
    if report.promises:
        table = Table(box=box.SIMPLE_HEAD, title="for experts", title_justify="left")
        for title in ("protected", "mechanism", "q", "noise", "steps", "delta", "epsilon", "2nd library", "limit"):
            table.add_column(title, justify="left" if title in ("protected", "mechanism") else "right")
        for promise in report.promises:
            table.add_row(*_cells(promise))
        console.print(table)


def write_report(report: PrivacyReport, folder: Path) -> Path:
    """``privacy.md`` and ``privacy.json`` in the run's folder."""
    titles = ("protected", "mechanism", "sampling rate", "noise multiplier", "steps", "delta", "epsilon", "second library", "limit")
    lines = [f"# Privacy of {report.run}", "", f"After {report.rounds} rounds.", "", *(f"- {one}" for one in sentences(report))]
    if report.promises:
        lines += ["", "| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
        lines += ["| " + " | ".join(_cells(promise)) + " |" for promise in report.promises]
        lines += ["", *(f"{promise.unit}: {promise.accountant}." for promise in report.promises)]
    write_durably(folder / "privacy.json", json.dumps(asdict(report), indent=1, ensure_ascii=False).encode())
    write_durably(folder / "privacy.md", ("\n".join(lines) + "\n").encode())
    return folder / "privacy.md"


def sentences(report: PrivacyReport) -> list[str]:
    """The report in words, without a formula."""
    told = [
        f"{promise.to_whom}: what {promise.against} learn about whether {promise.unit} was there is bounded: whatever they believe, "
        f"the odds change by a factor of at most {_factor(promise.spent)} so far (epsilon {promise.spent:.2f} of {promise.limit:g}; "
        f"{promise.left:.2f} is left), but for a chance of {promise.delta:g}. {promise.assumes} {promise.hides_not}"
        for promise in report.promises
    ]
    if report.aggregation == "masked":
        told.append(
            "The server got sums of updates and could open no single one, as long as fewer than a third of the devices it asked "
            "work together with it."
        )
    if report.aggregation == "encrypted":
        told.append(
            "The server got ciphertexts of updates and their opened sum, and could open no single one, as long as no device that it "
            "asked works together with it."
        )
    if not told:
        told.append("Nothing was protected: every update went to the server as it was, with the number of entries. For public text only.")
    return told


def _factor(epsilon: float) -> str:
    return f"{math.exp(epsilon):,.1f}" if epsilon < 20 else "more than anyone can use"


def _entry_promise(settings: RunSettings, folder: Path) -> Promise:
    plan = calibrated(settings)
    ledgers = [Home(virtual_home(people_folder(folder), number)).ledger for number in range(settings.clients)]
    # Devices that took part equally often spent alike; the largest ledger is the one that is told of.
    most = max((total_steps(_mechanisms(ledger)) for ledger in ledgers), key=lambda steps: composed_epsilon(steps, delta=plan.delta))
    mechanism = (plan.noise_multiplier, plan.sampling_rate)
    steps = most.get(mechanism, 0)
    if plan.label_noise and steps and plan.label_counting == mechanism:  # then the one count is among them
        steps -= 1
    counted = f", and one count of labels (noise {plan.label_noise:g})" if plan.label_noise else ""
    return Promise(
        unit="any single diary entry",
        to_whom="Every person",
        against="the server, the other people and every reader of the model, all together,",
        assumes="This rests on the device's own ledger and randomness, and on its following the protocol.",
        hides_not="It does not hide what many entries say together, nor that and when the device took part.",
        mechanism=f"Poisson-subsampled Gaussian{counted}",
        noise_multiplier=plan.noise_multiplier,
        sampling_rate=plan.sampling_rate,
        steps=steps,
        delta=plan.delta,
        accountant="PRV upper bound (Gopi et al. 2021), add or remove one entry; the largest of all people's ledgers",
        spent=max(ledger.spent() for ledger in ledgers),
        limit=settings.epsilon,
        second_opinion=second_opinion(most, plan.delta),
    )


def _person_promise(settings: RunSettings, folder: Path) -> Promise:
    plan = user_plan(settings)
    ledger = UserLedger(folder / "population-ledger.json", limit=settings.user_epsilon, delta=settings.user_delta)
    hidden = settings.aggregation != "plain"
    alone = ", and none of them works with the server" if settings.aggregation == "encrypted" else ""
    noise, rate = plan.mechanism
    steps = len(ledger.charges())
    return Promise(
        unit="a whole person, with everything they wrote,",
        to_whom="Everybody",
        against="the server and every reader of the model" if hidden else "every reader of the model, but not the server,",
        assumes=(
            f"The devices add the noise; at least {shared_noise(settings).fewest} of them do so honestly in every round{alone}."
            if hidden
            else "The server adds the noise, and tells nobody who was asked."
        ),
        hides_not="It does not hide that a person is registered.",
        mechanism={"full": "Gaussian", "fixed": "Gaussian, fixed-size samples (replace one)", "poisson": "Poisson-subsampled Gaussian"}[
            plan.sampling
        ],
        noise_multiplier=noise,
        sampling_rate=rate,
        steps=steps,
        delta=plan.delta,
        accountant="privacy loss distributions, add or remove one person; the noise is over the sensitivity (2 clips for fixed samples)",
        spent=ledger.spent(),
        limit=settings.user_epsilon,
        second_opinion=None if hidden else second_opinion({(noise, rate): steps}, plan.delta),
    )


def second_opinion(steps: Mapping[Mechanism, int], delta: float) -> float:
    """Epsilon of all Poisson-subsampled Gaussian ``steps`` together by Google's accountant (PLD, pessimistic)."""
    accountant = PLDAccountant()
    for (noise, rate), count in steps.items():
        gaussian = dp_event.GaussianDpEvent(noise)
        event = gaussian if rate == 1.0 else dp_event.PoissonSampledDpEvent(rate, gaussian)
        accountant.compose(dp_event.SelfComposedDpEvent(event, count))
    return float(accountant.get_epsilon(delta))


def _mechanisms(ledger: Ledger) -> Iterator[tuple[Mechanism, int]]:
    return (((charge.noise_multiplier, charge.sampling_rate), charge.steps) for charge in ledger.charges())


def _cells(promise: Promise) -> list[str]:
    second = f"{promise.second_opinion:.3f}" if promise.second_opinion is not None else ""
    return [
        promise.unit.split(",")[0], promise.mechanism, f"{promise.sampling_rate:g}", f"{promise.noise_multiplier:.4g}", str(promise.steps),
        f"{promise.delta:g}", f"{promise.spent:.3f}", second, f"{promise.limit:g}",
    ]  # fmt: skip
