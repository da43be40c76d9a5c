"""Ledger: what one device has spent in its whole life, on disk before anything that cost it is computed.

Promise: the sum of the ledger is never less than what has left the device. A charge is written, synced and renamed
into place before the round trains, so that a crash can only over-count. The file is replaced whole, never appended to:
a file that does not read back or whose digest differs is damage and not a torn write, and is refused, because a ledger
that forgot would spend the same budget twice.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
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


MOST_MECHANISMS = 30
"""Composing many different kinds of step is slow (100 took 71 s), and a server could stall a device with them."""


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
            if content["digest"] != _digest(charges):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise LedgerDamaged(f"{self._called} '{self.path}' is damaged, so what was spent is unknown; {self._mend}") from None
        return charges

    def write(self, charges: tuple[AnyCharge, ...]) -> None:
        """These charges in the place of those before, on disk when this returns."""
        content: dict[str, Any] = {"charges": [asdict(charge) for charge in charges], "digest": _digest(charges)}
        write_durably(self.path, json.dumps(content, indent=1).encode())

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


class Ledger:
    """All charges of one device, composed. ``limit`` is the device's own budget, which no server can raise."""

    def __init__(self, path: Path, *, limit: float, delta: float) -> None:
        self._file = ChargeFile(
            path,
            Charge,
            called="the privacy ledger",
            mend="restore it from a backup, or start a new Home (the device keeps serving and does not train)",
        )
        self.limit = limit
        self.delta = delta

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
        return composed_epsilon(self._totals(self.charges()), delta=self.delta)

    def charge(self, plan: PrivacyPlan, *, run: str, round: int, counts_labels: bool = False) -> float:
        """Write one round's cost to disk and give the epsilon spent with it; call it before training.

        With ``counts_labels`` the cost of counting this device's labels once is in it: both, or neither.
        Raises :class:`PrivacyBudgetSpent`, and writes nothing, if the total would pass the limit. A round charged twice
        (a device that crashed and was asked again) costs twice: its first result may have left.
        """
        charged = [Charge(run, round, plan.noise_multiplier, plan.sampling_rate, plan.steps_per_round)]
        if counts_labels:
            charged.insert(0, Charge(run, round, *plan.label_counting, steps=1))
        if not plan.delta <= self.delta * (1 + 1e-9):
            raise Refusal(f"the round's delta is {plan.delta:g} and this device accepts at most {self.delta:g}; lower the run's delta")
        with self._file.lock():
            before = self.charges()
            after = (*before, *charged)
            if len(self._totals(after)) > MOST_MECHANISMS:
                raise Refusal(
                    f"this would be the ledger's {len(self._totals(after))}th kind of step; keep noise multiplier and sampling rate"
                )
            spent = composed_epsilon(self._totals(after), delta=self.delta)
            if not spent <= self.limit:
                left = max(0.0, self.limit - composed_epsilon(self._totals(before), delta=self.delta))
                raise PrivacyBudgetSpent(
                    f"with this round epsilon would be {spent:.2f} and {left:.2f} of {self.limit:.2f} is left; "
                    "the device keeps serving, raise its epsilon limit to let it train"
                )
            self._file.write(after)
        return spent

    @staticmethod
    def _totals(charges: tuple[Charge, ...]) -> dict[Mechanism, int]:
        return total_steps(((charge.noise_multiplier, charge.sampling_rate), charge.steps) for charge in charges)


def _digest(charges: tuple[AnyCharge, ...]) -> str:
    return hashlib.sha256(json.dumps([asdict(charge) for charge in charges]).encode()).hexdigest()
