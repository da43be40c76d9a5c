"""Ledger: what one device has spent in its whole life, on disk before anything that cost it is computed.

Promise: the sum of the ledger is never less than what has left the device. A charge is written, synced and renamed
into place before the round trains, so that a crash can only over-count. The file is replaced whole, never appended to:
a file that does not read back or whose digest differs is damage and not a torn write, and is refused, because a ledger
that forgot would spend the same budget twice.

A budget for a whole life can be drained in an afternoon, so a week and a run have limits of their own. A lying server can name
each of its orders as another run: the run's limit binds an honest one, the week's limit binds both. Within its life a ledger bears
any number of kinds of step; a week takes :data:`NEW_KINDS_A_WEEK`, so that no server can make later accounting slow.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from model.checkpoint import locked, write_durably
from model.refusal import Damaged, Refusal
from privacy.plan import Mechanism, PrivacyPlan, composed_epsilon, total_steps

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class PrivacyBudgetSpent(Refusal):
    """The round would spend more than the device has left; the device keeps serving."""


class LedgerDamaged(Damaged):
    """The ledger cannot be read back, so nothing more may be spent."""


NEW_KINDS_A_WEEK = 6
"""Kinds of step (noise multiplier and rate) that a week may add. A run has one, or two where it counts labels."""

WEEK = 7 * 24 * 3600
"""Seconds."""


AnyCharge = TypeVar("AnyCharge", bound="DataclassInstance")


class ChargeFile(Generic[AnyCharge]):
    """All charges of one ledger in one file with their digest. Whoever adds one holds the lock from reading to writing.

    ``called`` and ``mend`` are the ledger's name and the next move in the refusal of a damaged file.
    """

    def __init__(self, path: Path, kind: type[AnyCharge], *, called: str, mend: str) -> None:
        self.path = path
        self._kind = kind
        self._called = called
        self._mend = mend

    def read(self) -> tuple[AnyCharge, ...]:
        """Every charge so far; ``FileNotFoundError`` if there is no file, :class:`LedgerDamaged` if it does not verify."""
        try:
            content = json.loads(self.path.read_bytes())
            charges = tuple(self._kind(**charge) for charge in content["charges"])
            if content["digest"] != _digest(content["charges"]):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise LedgerDamaged(f"{self._called} '{self.path}' is damaged, so what was spent is unknown; {self._mend}") from None
        return charges

    def write(self, charges: tuple[AnyCharge, ...]) -> None:
        """These charges in the place of those before, on disk when this returns."""
        rows: list[dict[str, Any]] = [asdict(charge) for charge in charges]
        write_durably(self.path, json.dumps({"charges": rows, "digest": _digest(rows)}, indent=1).encode())

    def lock(self) -> AbstractContextManager[None]:
        """Keeps other processes from adding a charge meanwhile."""
        return locked(self.path.with_suffix(".lock"))


@dataclass(frozen=True)
class Charge:
    """One round's cost: which run and round, and how many steps of which mechanism."""

    run: str
    round: int
    noise_multiplier: float
    sampling_rate: float
    steps: int
    at: int = field(default=0, compare=False)
    """When, in seconds since 1970 by the device's clock; 0 in a ledger of an earlier version."""

    @property
    def mechanism(self) -> Mechanism:
        """What was repeated ``steps`` times."""
        return (self.noise_multiplier, self.sampling_rate)


class Ledger:
    """All charges of one device, composed. ``limit`` is the device's own budget, which no server can raise.

    ``run_limit`` and ``week_limit`` bound what one run, and the last seven days, may cost. They pace the spending, so a clock
    that is set wrong changes when a device trains; it never changes what is spent in its life.
    """

    def __init__(
        self,
        path: Path,
        *,
        limit: float,
        delta: float,
        run_limit: float = math.inf,
        week_limit: float = math.inf,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = ChargeFile(
            path,
            Charge,
            called="the privacy ledger",
            mend="restore it from a backup, or start a new Home (the device keeps serving and does not train)",
        )
        self.limit = limit
        self.delta = delta
        self.run_limit = run_limit
        self.week_limit = week_limit
        self._clock = clock

    def charges(self) -> tuple[Charge, ...]:
        """Every charge so far; raises :class:`LedgerDamaged` if the file does not verify."""
        try:
            return self._file.read()
        except FileNotFoundError:
            return ()

    def begin(self) -> None:
        """Write the empty ledger of a new device; from then on a missing file is damage."""
        self._file.write(())

    def spent(self) -> float:
        """Epsilon of all charges together at the device's delta."""
        return self._epsilon(self.charges())

    def charge(self, plan: PrivacyPlan, *, run: str, round: int, counts_labels: bool = False) -> float:
        """Write one round's cost to disk and give the epsilon spent with it; call it before training.

        With ``counts_labels`` the cost of counting this device's labels once is in it: both, or neither.
        Raises :class:`PrivacyBudgetSpent`, and writes nothing, if a total would pass its limit. A round charged twice
        (a device that crashed and was asked again) costs twice: its first result may have left.
        """
        now = int(self._clock())
        charged = [Charge(run, round, plan.noise_multiplier, plan.sampling_rate, plan.steps_per_round, now)]
        if counts_labels:
            charged.insert(0, Charge(run, round, *plan.label_counting, steps=1, at=now))
        if not plan.delta <= self.delta * (1 + 1e-9):
            raise Refusal(f"the round's delta is {plan.delta:g} and this device accepts at most {self.delta:g}; lower the run's delta")
        with self._file.lock():
            before = self.charges()
            after = (*before, *charged)
            spent = self._require_within(before, after, run=run, since=now - WEEK)
            self._file.write(after)
        return spent

    def _require_within(self, before: tuple[Charge, ...], after: tuple[Charge, ...], *, run: str, since: int) -> float:
        """What ``after`` costs; :class:`PrivacyBudgetSpent` if life, run or week take no more."""
        older = {charge.mechanism for charge in after if charge.at <= since}
        added = {charge.mechanism for charge in after} - older
        if len(added) > NEW_KINDS_A_WEEK and added - {charge.mechanism for charge in before}:
            raise PrivacyBudgetSpent(
                f"this would be the {len(added)}th new kind of step within a week and a week takes {NEW_KINDS_A_WEEK}; keep noise "
                "multiplier and sampling rate, or wait"
            )
        spent = self._epsilon(after)
        if not spent <= self.limit:
            left = max(0.0, self.limit - self._epsilon(before))
            raise PrivacyBudgetSpent(
                f"with this round epsilon would be {spent:.2f} and {left:.2f} of {self.limit:.2f} is left; "
                "the device keeps serving, raise its epsilon limit to let it train"
            )
        of_run = [charge for charge in after if charge.run == run]
        this_week = [charge for charge in after if charge.at > since]
        for what, name, limit, part in (
            ("this run", "epsilon-per-run", self.run_limit, of_run),
            ("the last seven days", "epsilon-per-week", self.week_limit, this_week),
        ):
            if not (limit >= self.limit or self._epsilon(part) <= limit):  # no part costs more than the whole
                raise PrivacyBudgetSpent(
                    f"with this round {what} would cost epsilon {self._epsilon(part):.2f} of {limit:.2f}; the device keeps serving, "
                    f"raise its {name} to let it train"
                )
        return spent

    def _epsilon(self, charges: Iterable[Charge]) -> float:
        return composed_epsilon(total_steps((charge.mechanism, charge.steps) for charge in charges), delta=self.delta)


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
