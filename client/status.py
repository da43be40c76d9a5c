"""What a device holds and has spent, in a few lines without a word of any entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.declined import DeclinedOrder, declined_orders
from client.home import Home
from client.music.jukebox import music_faults
from client.participation import Participation
from model.checkpoint import Manifest
from model.refusal import Refusal
from privacy.register import Register


@dataclass(frozen=True, kw_only=True)
class Status:
    """One device now. ``spent`` is None, and ``fault`` says why, where the ledger cannot be read."""

    home: Path
    opens_with: str
    entries: int
    labels: int
    model: Manifest | None
    spent: float | None
    fault: str
    limit: float
    per_run: float
    per_week: float
    delta: float
    covered: bool
    """Whether delta is at most n^-1.5 for the n labels."""
    declined: DeclinedOrder | None
    """The newest order that was turned down, and why."""
    unprotected: bool
    participation: Participation
    hides_among: str
    music_faults: tuple[str, ...]
    files: tuple[str, ...]
    """All that lies in Home, but for its locks; docs/diary.md says what each is."""


def status_of(home: Home) -> Status:
    """Ask the diary, the checkpoints, the ledger and what the person chose."""
    from privacy.orders import covers  # its accountants take seconds to import

    diary, policy = home.diary, home.policy
    spent, fault = None, ""
    try:
        spent = home.ledger.spent()
    except Refusal as refusal:
        fault = str(refusal)
    labels, declined = len(diary.labelled()), declined_orders(home.root)
    return Status(
        home=home.root.absolute(),
        opens_with=opening_of(home),
        entries=diary.count(),
        labels=labels,
        model=home.checkpoints.latest(),
        spent=spent,
        fault=fault,
        limit=policy.epsilon_limit,
        per_run=policy.epsilon_per_run,
        per_week=policy.epsilon_per_week,
        delta=policy.delta,
        covered=covers(labels, policy.delta),
        declined=declined[-1] if declined else None,
        unprotected=policy.allow_unprotected,
        participation=home.participation,
        hides_among=_hides_among(home),
        music_faults=music_faults(diary, home.songs),
        files=tuple(f"{path.name}/" if path.is_dir() else path.name for path in sorted(home.root.iterdir()) if path.suffix != ".lock"),
    )


def opening_of(home: Home) -> str:
    """What the Home opens with, in words."""
    file = home.vault.key_file
    return "a passphrase" if file is None else f"the key file {file.absolute()}"


def status_lines(status: Status) -> list[str]:
    """For a person to read."""
    model = status.model
    reads = (
        f"version {model.version}, {model.model}, digest {model.digest[:12]}, of {model.created}" if model else "none yet; run init again"
    )
    spent = f"epsilon {status.spent:.2f} of {status.limit:g} at delta {status.delta:g}" if status.spent is not None else status.fault
    return [
        f"home           {status.home}",
        f"diary          entries: {status.entries}, of which teach: {status.labels}; encrypted, opens with {status.opens_with}",
        f"model          {reads}",
        f"privacy spent  {spent}",
        f"limits         at most epsilon {status.per_run:g} in one run and {status.per_week:g} in seven days",
        *([] if status.covered else [f"delta          {_worth_of_delta(status)}"]),
        f"rounds         {_taking_part(status)}",
        *([f"declined       {_declined(status.declined)}"] if status.declined else []),
        f"hides among    {status.hides_among}",
        *(f"music          {fault}" for fault in status.music_faults),
        f"files          {', '.join(status.files)}",
    ]


def _hides_among(home: Home) -> str:
    """Which register this device has joined, or why that is not known."""
    if not home.register_path.exists():
        return "no others yet: it has joined no register, and takes part in no masked or encrypted round"
    try:
        register = home.register
        number = register.number_of(home.identity.public)
    except Refusal as refusal:
        return str(refusal)
    return (
        f"the {len(register.devices)} devices of register {register.digest[:12]}, of which it is number {number}, where at least "
        f"{home.policy.fewest_asked} are asked"
    )


def require_joinable(register: Register, home: Home, *, anew: bool) -> int:
    """This device's number in ``register``; :class:`Refusal` if it is not in it, or if it follows not the one that was joined."""
    number = register.number_of(home.identity.public)
    if not anew and home.register_path.exists():
        try:
            before = home.register
        except Refusal:
            raise Refusal(
                "the register that this device has joined is damaged, so whether this one follows it is unknown; if its fingerprint is "
                "right, join it with --anew"
            ) from None
        register.require_follows(before)
    return number


def joining_lines(register: Register, home: Home, number: int) -> list[str]:
    """What a person must know before they trust a register."""
    lines = [f"devices: {len(register.devices)}, of which this one is number {number}", f"fingerprint: {register.fingerprint}"]
    try:
        before = home.register.devices
    except Refusal:  # none yet, or it is damaged and is written anew
        return lines
    now = register.devices
    new, gone = sorted(now.keys() - before.keys()), sorted(before.keys() - now.keys())
    other = sorted(number for number in now.keys() & before.keys() if now[number] != before[number])
    return [*lines, f"since the register of before: new {_numbers(new)}, gone {_numbers(gone)}, with another key {_numbers(other)}"]


def _numbers(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _taking_part(status: Status) -> str:
    if status.participation.paused:
        return "paused: this device takes part in none"
    taken = "takes part" if not status.participation.skip_next else "sits the next round out, then takes part"
    return taken + ("; also in rounds without protection" if status.unprotected else "; only in rounds that protect its entries")


def _declined(order: DeclinedOrder) -> str:
    return f"round {order.round} of run {order.run[:40]!r} at {order.at}, because {order.why} (the server was told no cause)"


def _worth_of_delta(status: Status) -> str:
    return (
        f"{status.labels} labels are more than delta {status.delta:g} is made for (n^-1.5): the promise holds for each, and fails for "
        f"each with that probability; a new Home may be made with a smaller one"
    )


def forgotten_lines(number: int, home: Home) -> list[str]:
    """What forgetting did, and what it could not do."""
    return [
        f"Entry {number} is gone from this device: its text, its label, the history of its corrections, what the model computed of it and "
        "the mood of its playlists.",
        "Your taste in music keeps what it learned from songs in that mood, mixed with all else, and of your last 20 likes the mood.",
        "Backups and exports that you made still hold it.",
        *_what_stays(home),
    ]


def _what_stays(home: Home) -> list[str]:
    policy = home.policy
    try:
        ledger = home.ledger
        rounds, spent = len(ledger.charges()), ledger.spent()
    except Refusal as refusal:
        return [f"What left in past rounds is unknown: {refusal}."]
    lines = ["No round that protects single entries was trained on this device, so none has to be recalled."]
    if rounds:
        lines = [
            f"What this device sent in rounds ({rounds} so far) cannot be recalled. They were differentially private: whoever sees all "
            f"that it ever sent, and knows every other entry, learns whether this one was there only as far as epsilon {spent:.2f} "
            f"at delta {policy.delta:g} allows."
        ]
    if policy.allow_unprotected:
        lines.append("This device also agrees to rounds without protection. What such a round was sent carries no promise.")
    return lines
