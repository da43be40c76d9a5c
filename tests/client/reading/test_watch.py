"""One stat sees every replacement."""

from __future__ import annotations

import os
from pathlib import Path

from client.reading.watch import Watch
from model.checkpoint import write_durably

NOON = (1_700_000_000_000_000_000, 1_700_000_000_000_000_000)


def replace(path: Path, content: bytes) -> None:
    """By renaming, and at the same instant of a coarse clock each time."""
    write_durably(path, content)
    os.utime(path, ns=NOON)


def test_nothing_looked_at_yet_is_a_change_and_a_look_settles_it(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "latest")
    assert watch.changed()
    watch.look()
    assert not watch.changed()
    watch.close()


def test_a_file_that_comes_and_goes_is_seen(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "latest")
    watch.look()
    replace(tmp_path / "latest", b"1\n")
    assert watch.changed()
    watch.look()
    assert not watch.changed()
    (tmp_path / "latest").unlink()
    assert watch.changed()
    watch.look()
    assert not watch.changed()
    watch.close()


def test_every_replacement_of_one_size_at_one_instant_is_seen(tmp_path: Path) -> None:
    """A freed inode number is used again: without the open file, every second replacement looks like the first."""
    path = tmp_path / "latest"
    replace(path, b"1\n")
    watch = Watch(path)
    watch.look()
    missed = []
    for replacements in range(1, 9):
        for number in range(replacements):
            replace(path, f"{number}\n".encode())
        if not watch.changed():
            missed.append(replacements)
        watch.look()
        assert not watch.changed()
    watch.close()
    assert missed == []


def test_a_file_written_in_place_is_seen_by_its_size_or_time(tmp_path: Path) -> None:
    path = tmp_path / "latest"
    replace(path, b"1\n")
    watch = Watch(path)
    watch.look()
    path.write_bytes(b"12\n")
    os.utime(path, ns=NOON)
    assert watch.changed()
    watch.look()
    path.write_bytes(b"13\n")
    os.utime(path, ns=(NOON[0], NOON[1] + 1))
    assert watch.changed()
    watch.close()


def test_looking_again_and_again_leaves_no_file_open(tmp_path: Path) -> None:
    replace(tmp_path / "latest", b"1\n")
    watch = Watch(tmp_path / "latest")
    watch.look()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        watch.look()
    assert len(os.listdir("/proc/self/fd")) == before
    watch.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
