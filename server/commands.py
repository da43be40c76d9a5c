"""`healing server`: who runs a federation. Thin: parse, call, show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from model.checkpoint import locked
from model.refusal import Refusal
from privacy.register import FILE, Register, read_register, registered_key, write_register

server_commands = typer.Typer(no_args_is_help=True, help="Who runs a federation: the register of its devices.")

HomeOption = Annotated[Path, typer.Option("--home", envvar="HEALING_HOME", help="the server's folder, which holds its register")]


@server_commands.command()
def register(
    lines: Annotated[list[str], typer.Argument(help="what `healing client identity` printed, or files that hold such lines")],
    home: HomeOption,
) -> None:
    """Register devices, each under the next number; the first one makes the register.

    All of them or none. Hand the new register.json to every device's person, and tell them its fingerprint some other way.
    """
    _require_servers(home)
    entered: list[int] = []
    with locked(home / "register.lock"):
        grown = read_register(home / FILE) if (home / FILE).exists() else Register()
        for line in _each_line(lines):
            grown = grown.with_device(registered_key(line))
            entered.append(grown.given - 1)
        write_register(home / FILE, grown)
    for number in entered:
        typer.echo(f"device {number}: {_key(grown, number)}")
    _show(grown, home)


@server_commands.command()
def devices(home: HomeOption) -> None:
    """The registered devices, and the fingerprint that every one of them must show."""
    registered = read_register(home / FILE)
    for number in sorted(registered.devices):
        typer.echo(f"device {number}: {_key(registered, number)}")
    _show(registered, home)


@server_commands.command()
def unregister(number: Annotated[int, typer.Argument(help="number of the device")], home: HomeOption) -> None:
    """Take a device out of the register; its number is not given again. Every other device must join the new register."""
    _require_servers(home)
    read_register(home / FILE)  # a folder without one is refused as it is, and no lock is left in it
    with locked(home / "register.lock"):
        left = read_register(home / FILE).without(number)
        write_register(home / FILE, left)
    _show(left, home)


def _each_line(named: list[str]) -> Iterator[str]:
    """The lines themselves, and those in files."""
    for one in named:
        if os.path.isfile(one):
            try:
                lines = Path(one).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError):
                raise Refusal(f"'{one}' cannot be read as text; it must hold what `healing client identity` printed") from None
            yield from (line for line in lines if line.strip())
        else:
            yield one


def _require_servers(home: Path) -> None:
    """A device must not find in its own Home what a server wrote there: it would have joined without its person."""
    if (home / "device.json").exists():
        raise Refusal(f"'{home}' is a device's Home; keep the server's register in a folder of its own")


def _key(register: Register, number: int) -> str:
    return f"key {register.devices[number].hex()[:16]}..."


def _show(register: Register, home: Path) -> None:
    typer.echo(f"register: {home / FILE}, with {len(register.devices)} devices")
    typer.echo(f"fingerprint: {register.fingerprint}")
