"""An archive opens whole or not at all."""

from __future__ import annotations

import io
import json
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from client.diary.archive import CHUNK, MAGIC, TAG, is_archive, open_archive, seal_archive
from client.vault import Passphrase, Stretching, WrongKey
from model.refusal import Refusal

WORDS = Passphrase("보관함의 열쇠 말")


def sealed(content: bytes) -> bytes:
    file = io.BytesIO()
    seal_archive(content, file, WORDS)
    return file.getvalue()


def opens(content: bytes) -> bool:
    try:
        open_archive(io.BytesIO(content), WORDS)
    except Refusal:
        return False
    return True


@pytest.fixture(scope="module")
def archive() -> bytes:
    return sealed(bytes(CHUNK) + b"1" * CHUNK + b"the end")


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_every_length_comes_back(length: int) -> None:
    content = os.urandom(length)
    assert open_archive(io.BytesIO(sealed(content)), WORDS) == content


def test_what_the_docstring_says_is_what_is_written(archive: bytes) -> None:
    """Opened by hand: header, argon2id, a nonce of prefix, number and whether it is the last."""
    magic, line, body = archive.split(b"\n", 2)
    header = json.loads(line)
    assert magic + b"\n" == MAGIC
    cipher = ChaCha20Poly1305(Stretching.from_document(header).key(WORDS))
    prefix, bound = bytes.fromhex(header["prefix"]), magic + b"\n" + line + b"\n"
    pieces = [body[at : at + CHUNK + TAG] for at in range(0, len(body), CHUNK + TAG)]
    opened = [
        cipher.decrypt(prefix + number.to_bytes(4, "big") + bytes([number == 2]), piece, bound) for number, piece in enumerate(pieces)
    ]
    assert opened == [bytes(CHUNK), b"1" * CHUNK, b"the end"]


def test_nothing_but_the_whole_file_opens(archive: bytes) -> None:
    start = len(archive) - len(b"the end") - TAG - 2 * (CHUNK + TAG)
    first, second, last = archive[start : start + CHUNK + TAG], archive[start + CHUNK + TAG : start + 2 * (CHUNK + TAG)], archive[-23:]
    head, other = archive[:start], sealed(b"another")
    damaged = {
        "no last chunk": head + first + second,
        "no middle": head + first + last,
        "swapped": head + second + first + last,
        "a chunk twice": head + first + first + second + last,
        "cut inside": archive[:-1],
        "longer": archive + b"x",
        "a bit": archive[:-30] + bytes([archive[-30] ^ 1]) + archive[-29:],
        "another's end": archive[:-23] + other[-23:],
        "weaker parameters": archive.replace(b'"passes": 3', b'"passes": 1'),
    }
    assert {name for name, content in damaged.items() if opens(content)} == set()
    assert opens(archive)


def test_a_wrong_passphrase_and_damaged_first_lines_are_told_apart(archive: bytes) -> None:
    with pytest.raises(WrongKey, match="passphrase does not open the archive"):
        open_archive(io.BytesIO(archive), Passphrase("ein anderes Wort"))
    with pytest.raises(Refusal, match="no archive of this program"):
        open_archive(io.BytesIO(b"PK" + archive), WORDS)
    for line in (b"{}", b"[1]", b'{"prefix": "00"}', b"x" * 2000):
        with pytest.raises(Refusal, match="first lines are damaged"):
            open_archive(io.BytesIO(MAGIC + line + b"\n"), WORDS)
    with pytest.raises(Refusal, match="needs 8"):
        seal_archive(b"", io.BytesIO(), Passphrase("short"))


def test_an_archive_is_known_by_its_beginning(archive: bytes) -> None:
    file = io.BytesIO(archive)
    assert is_archive(file)
    assert open_archive(file, WORDS)
    assert not is_archive(io.BytesIO(b"text,emotion\n"))
