"""`healing client`: one person's device. Thin: parse, call, show."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from client.api.access import FILE, Access, login_address
from client.diary.transfer import Form, export_diary, import_diary, look_into, undo_import
from client.home import DevicePolicy, Home
from client.music.own_songs import OwnSongs
from client.status import forgotten_lines, joining_lines, opening_of, require_joinable, status_lines, status_of
from client.vault import PASSPHRASE_FILE_VARIABLE, PASSPHRASE_VARIABLE, Passphrase
from model.refusal import Refusal
from privacy.register import read_register, registration_line, write_register

client_commands = typer.Typer(no_args_is_help=True, help="One person's device: its Home, its diary, its privacy.")

HomeOption = Annotated[Path, typer.Option("--home", envvar="HEALING_HOME", help="folder of the Home")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help=f"file that holds the Home's passphrase and that only you may read; else {PASSPHRASE_VARIABLE}, else it is asked for"
    ),
]
ArchivePassphraseFile = Annotated[Path | None, typer.Option(help="file that holds the archive's own passphrase; else it is asked for")]


@client_commands.command()
def init(
    home: HomeOption,
    ask_passphrase: Annotated[
        bool, typer.Option("--ask-passphrase", help="protect the diary with a passphrase, and ask for it now")
    ] = False,
    passphrase_file: PassphraseFile = None,
    key_file: Annotated[Path | None, typer.Option(help="where to put the key file, such as a stick; default: in the Home")] = None,
    epsilon_limit: Annotated[float, typer.Option(help="privacy budget of this device for its whole life")] = 8.0,
    epsilon_per_run: Annotated[float, typer.Option(help="the most of it that one run may spend")] = 4.0,
    epsilon_per_week: Annotated[float, typer.Option(help="the most of it that seven days may spend")] = 4.0,
    fewest_asked: Annotated[
        int, typer.Option(help="hide a masked or encrypted update only where so many devices are asked, 3 or more")
    ] = 5,
    delta: Annotated[
        float, typer.Option(help="probability that the privacy promise may fail; below one over the number of entries")
    ] = 1e-4,
) -> None:
    """Make a Home: keys, an encrypted diary, the bundled model. Needs no server and no network; a second time changes nothing.

    Without a passphrase the diary opens with a key file that only you may read.
    """
    from client.installation import install

    exists = (home / "device.json").exists()
    if exists:
        _require_same_opening(Home.at(home), passphrase=ask_passphrase or passphrase_file is not None, key_file=key_file)
    chosen = None if exists else _chosen(passphrase_file, ask=ask_passphrase)
    if chosen and key_file:
        raise Refusal("a Home opens with a passphrase or with a key file; give one of the two")
    policy = DevicePolicy(
        epsilon_limit=epsilon_limit,
        epsilon_per_run=epsilon_per_run,
        epsilon_per_week=epsilon_per_week,
        delta=delta,
        fewest_asked=fewest_asked,
    )
    made = Home.create(home, policy, passphrase=chosen, key_file=key_file)
    installed = install(made)
    if exists and not installed.written:
        typer.echo(f"nothing was changed: '{home}' is a Home already, and all it needs is in it")
    else:
        typer.echo(f"{'completed' if exists else 'made'} the Home '{home}'; its diary is encrypted and opens with {opening_of(made)}")
    model = installed.model
    typer.echo(f"model: version {model.version}, {model.model}, digest {model.digest[:12]}, verified")


@client_commands.command()
def status(home: HomeOption, passphrase_file: PassphraseFile = None) -> None:
    """Entries, labels, model, privacy spent, participation, and where things lie; no text of any entry."""
    for line in status_lines(status_of(opened(home, passphrase_file))):
        typer.echo(line)


@client_commands.command()
def identity(home: HomeOption, passphrase_file: PassphraseFile = None) -> None:
    """Print the line by which this device is registered, for who runs the federation; nothing in it is secret."""
    typer.echo(registration_line(opened(home, passphrase_file).identity))


@client_commands.command()
def join(
    register: Annotated[Path, typer.Argument(help="register.json, from who runs the federation")],
    home: HomeOption,
    fingerprint: Annotated[
        str | None, typer.Option(help="the register's fingerprint as it was told some other way; else you are asked")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="another federation's register, or one made anew: forget what was joined")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Hide this device's updates among the devices of a register from now on, and among no others.

    A server that invents devices could open masked sums: compare the fingerprint and the number of devices with the others.
    """
    device, joining = opened(home, passphrase_file), read_register(register)
    number = require_joinable(joining, device, anew=anew)
    for line in joining_lines(joining, device, number):
        typer.echo(line)
    if fingerprint is None and not sys.stdin.isatty():
        raise Refusal("nobody can be asked here whether the others have this fingerprint too; give it as it was told to you: --fingerprint")
    if fingerprint is not None and not joining.is_named(fingerprint):
        raise Refusal("the register has another fingerprint than the one given; it was not joined, ask who runs the federation")
    if fingerprint is None and not typer.confirm("Do the others have the same fingerprint, and do you know of so many devices?"):
        raise typer.Exit(1)
    write_register(device.register_path, joining)
    typer.echo("joined")


@client_commands.command()
def export(
    out: Annotated[Path, typer.Argument(help="file to write, or folder for Markdown; it must not exist yet")],
    home: HomeOption,
    form: Annotated[Form, typer.Option(help="only the archive is encrypted")] = Form.ARCHIVE,
    passphrase_file: PassphraseFile = None,
    archive_passphrase_file: ArchivePassphraseFile = None,
) -> None:
    """Write the whole diary to a file: an encrypted archive, or readable JSON, CSV or Markdown."""
    words = _words(archive_passphrase_file, "a passphrase for the archive", new=True)
    device = opened(home, passphrase_file)
    written = export_diary(device.diary, out, form, passphrase=words, songs=OwnSongs(device.songs))
    typer.echo(f"entries written: {written}, in '{out}'{'' if form is Form.ARCHIVE else '; whoever gets hold of it can read them'}")


@client_commands.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="an export of this program; Daylio's CSV; CSV, TSV or JSONL with a text column; a folder of notes")
    ],
    home: HomeOption,
    passphrase_file: PassphraseFile = None,
    archive_passphrase_file: ArchivePassphraseFile = None,
    look: Annotated[bool, typer.Option("--look", help="say what would come in, and keep nothing")] = False,
) -> None:
    """Read a diary from elsewhere; entries that are here already are not kept twice."""
    words = _words(archive_passphrase_file, "the archive's passphrase", new=False)
    if look:
        typer.echo(look_into(source, passphrase=words).account.outlook())
        return
    device = opened(home, passphrase_file)
    done = import_diary(device.diary, source, passphrase=words, songs=OwnSongs(device.songs))
    typer.echo(done.account())
    if done.is_empty:
        raise typer.Exit(1)


@client_commands.command("undo-import")
def undo_import_(
    home: HomeOption,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Forget every entry that the last import brought in, for good."""
    device = opened(home, passphrase_file)
    if not yes and not sys.stdin.isatty():
        raise Refusal("the entries of the last import would be gone for good, and nobody can be asked here; add --yes")
    if not yes and not typer.confirm("Forget every entry of the last import for good?"):
        raise typer.Exit(1)
    typer.echo(f"entries forgotten: {undo_import(device.diary)}")


@client_commands.command()
def forget(
    number: Annotated[int, typer.Argument(help="number of the entry")],
    home: HomeOption,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Remove an entry, its label and its history for good, and say what that cannot undo."""
    device = opened(home, passphrase_file)
    entry = device.diary.entry(number)
    if not yes and not sys.stdin.isatty():
        raise Refusal(f"entry {number} would be gone for good, and nobody can be asked here; add --yes")
    if not yes and not typer.confirm(f"Forget entry {number} of {entry.day.isoformat()} for good?"):
        raise typer.Exit(1)
    device.diary.forget(number)
    for line in forgotten_lines(number, device):
        typer.echo(line)


@client_commands.command()
def passphrase(
    home: HomeOption,
    passphrase_file: PassphraseFile = None,
    new_passphrase_file: Annotated[Path | None, typer.Option(help="file that holds the new passphrase; else it is asked for")] = None,
    to_key_file: Annotated[
        Path | None, typer.Option(help="open with a key file at this place from now on, and not with a passphrase")
    ] = None,
) -> None:
    """Change what the Home opens with; the diary itself is not written again."""
    device = opened(home, passphrase_file)
    key = device.key
    chosen = _words(new_passphrase_file, "the new passphrase", new=True)() if to_key_file is None else None
    device.vault.change(key, passphrase=chosen, key_file=to_key_file)
    typer.echo(f"'{home}' opens with {opening_of(device)} from now on; older backups of it still open as they did")


@client_commands.command()
def serve(
    home: HomeOption,
    host: Annotated[str, typer.Option(help="where to listen; what others can reach needs --tls-cert and --tls-key")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port; 0: any that is free")] = 8000,
    name: Annotated[list[str] | None, typer.Option(help="another name of this device, under which it may be asked")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="certificate (PEM)")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="its key (PEM, without a passphrase)")] = None,
    engine: Annotated[str, typer.Option(help="what reads: torch, or onnx (int8)")] = "torch",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Serve the API and the page, on this device alone, and print the address with a token that is good for one login."""
    from client.api.serve import Address, log_discreetly
    from client.api.serve import serve as serve_home

    address = Address(host=host, port=port, certificate=tls_cert, key=tls_key, names=tuple(name or ()))
    log_discreetly()
    serve_home(opened(home, passphrase_file), address, engine=engine, tell=_show_address)


@client_commands.command()
def token(
    home: HomeOption,
    rotate: Annotated[bool, typer.Option("--rotate", help="make a new one; the old one and every login end")] = False,
    login: Annotated[bool, typer.Option("--login", help="the address of the page that is served, with a token for one login")] = False,
) -> None:
    """Print the API's bearer token, which Home keeps for its owner's eyes only."""
    root = Home.at(home).root
    if rotate:
        Access(root / FILE).rotate()
    typer.echo(login_address(root) if login else Access(root / FILE).token)


def _show_address(address: str) -> None:
    typer.echo(f"open {address}  (good for one login; Ctrl-C stops)")
    sys.stdout.flush()


def opened(root: Path, passphrase_file: Path | None = None) -> Home:
    """The Home in a folder, with its passphrase from the file, the environment or the person, if it needs one."""
    home = Home.at(root)
    if not home.vault.exists or not home.vault.asks_passphrase:
        return home
    told = os.environ.get(PASSPHRASE_VARIABLE) or os.environ.get(PASSPHRASE_FILE_VARIABLE)
    if passphrase_file is None and (told or not sys.stdin.isatty()):
        return home  # which asks the environment, and refuses if that is silent
    return Home.at(root, passphrase=_words(passphrase_file, f"the passphrase of '{root}'", new=False)())


def _chosen(file: Path | None, *, ask: bool) -> Passphrase | None:
    """A new Home's passphrase, if the person wants one: from the file, the environment, or asked for."""
    if file is None and not ask:
        return Passphrase.from_environment()
    return _words(file, "a passphrase for the diary", new=True)()


def _require_same_opening(home: Home, *, passphrase: bool, key_file: Path | None) -> None:
    """A Home that exists keeps what it opens with; :class:`Refusal` if another way was asked for."""
    if not home.vault.exists:
        return  # of an earlier version; it gets a key file when its diary is opened
    other_file = key_file is not None and home.vault.key_file != key_file.absolute()
    if other_file or (passphrase and not home.vault.asks_passphrase):
        raise Refusal(f"'{home.root}' opens with {opening_of(home)} and keeps it; change that with: healing client passphrase")


def _words(file: Path | None, what: str, *, new: bool) -> Callable[[], Passphrase]:
    """Asks for a passphrase when it is needed, at the terminal unless a file holds it; a new one twice."""

    def ask() -> Passphrase:
        if file is not None:
            return Passphrase.read(file)
        if not sys.stdin.isatty():
            raise Refusal(f"{what} is needed, and nobody can be asked here; put it into a file that only you may read, and name that")
        words = getpass.getpass(f"{what}: ")
        if new and getpass.getpass("the same again: ") != words:
            raise Refusal("the two passphrases differ; try again")
        return Passphrase(words)

    return ask
