"""Own songs: the catalogues that a person has taken in, each a file in Home.

A catalogue has its name only once it is whole, read and on the disk. One that cannot be read later is left out and told of;
the others, and everything else, go on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from client.music.catalogue import Catalogue, read_catalogue
from client.music.song import Song
from client.tables import decoded
from model.checkpoint import sync_folder
from model.refusal import Refusal

MOST_CATALOGUES = 20

_ARRIVING = ".arriving-"

Mark = tuple[int, str, int]
"""When a file was written, its name, and which file it is: what changes when another takes its place."""


class OwnSongs:
    """The catalogues of one folder; many may be taken in at once, and a slow one keeps nobody waiting."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._turn = threading.Lock()
        self._found: dict[Mark, tuple[Song, ...] | str] = {}

    @property
    def songs(self) -> list[Song]:
        """Of all catalogues, the one taken in last at the end; as :meth:`look` found them."""
        return [song for found in self._found.values() if not isinstance(found, str) for song in found]

    @property
    def faults(self) -> tuple[str, ...]:
        """One sentence for each catalogue that is left out."""
        return tuple(found for found in self._found.values() if isinstance(found, str))

    def look(self) -> bool:
        """Read the catalogues that are new in the folder; whether anything has changed there."""
        marks = self._marks()
        if marks == list(self._found):
            return False
        self._found = {mark: self._found[mark] if mark in self._found else self._read(mark[1]) for mark in marks}
        return True

    def texts(self) -> dict[str, str]:
        """The catalogues as they were given, by their names; without what is no text, which cannot be read here either."""
        texts = {}
        for _, name, _ in self._marks():
            with suppress(UnicodeDecodeError, IsADirectoryError, FileNotFoundError):
                texts[name] = (self._folder / name).read_bytes().decode()
        return texts

    def take_in(self, file: BinaryIO) -> Catalogue:
        """Keep a catalogue (CSV, JSPF, XSPF or M3U8); :class:`Refusal` if it cannot be read or there are too many."""
        self._require_room()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=_ARRIVING, dir=self._folder) as own:  # two that arrive at once do not meet
            arrived = _written(file, Path(own))
            catalogue = read_catalogue(arrived)
            _write_as_utf8(arrived)
            with self._turn:
                self._require_room()
                arrived.replace(self._folder / f"own-{_digest(arrived)}{arrived.suffix}")
            sync_folder(self._folder)
        return catalogue

    def sweep(self) -> None:
        """Remove what a killed process had not taken in whole; for the one process that takes in, before it does."""
        for left_behind in self._folder.glob(f"{_ARRIVING}*"):
            shutil.rmtree(left_behind, ignore_errors=True)

    def _marks(self) -> list[Mark]:
        marks = []
        for path in self._folder.glob("own-*"):
            with suppress(FileNotFoundError):  # removed by hand just now
                stat = path.stat()
                marks.append((stat.st_mtime_ns, path.name, stat.st_ino))
        return sorted(marks)

    def _read(self, name: str) -> tuple[Song, ...] | str:
        try:
            return read_catalogue(self._folder / name).songs
        except (Refusal, OSError) as fault:
            why = fault.strerror if isinstance(fault, OSError) else fault
            return f"your catalogue '{name}' is left out ({why}); remove it from '{self._folder}', or import it again"

    def _require_room(self) -> None:
        if len(list(self._folder.glob("own-*"))) >= MOST_CATALOGUES:
            raise Refusal(f"there are {MOST_CATALOGUES} catalogues already; remove one from '{self._folder}' first")


def _written(file: BinaryIO, folder: Path) -> Path:
    """The file, copied piece by piece to the disk, under a name whose ending says what its first bytes are."""
    piece = file.read(64 * 1024)
    path = folder / f"import{_ending(piece)}"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
        while piece:
            copy.write(piece)
            piece = file.read(64 * 1024)
        copy.flush()
        os.fsync(copy.fileno())
    return path


def _write_as_utf8(path: Path) -> None:
    """A table of another encoding, which was read, in the one that every export holds; all others stay as they were given."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError:
        with path.open("wb") as file:
            file.write(decoded(content, path.name).encode())
            file.flush()
            os.fsync(file.fileno())


def _ending(start: bytes) -> str:
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for sign, ending in ((b"#EXTM3U", ".m3u8"), (b"{", ".jspf"), (b"<", ".xspf")):
        if first.startswith(sign):
            return ending
    return ".csv"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
