"""An encrypted archive: bytes under a passphrase of their own, in one file that can lie anywhere.

**Promise.** Whoever has the file but not its passphrase learns its length and nothing else; a file that was changed, cut short,
reordered or put together from two is refused as a whole.
**Form**: a magic line, a JSON line with the parameters of argon2id, then chunks of at most 64 KiB under ChaCha20-Poly1305. A chunk's
nonce is a random prefix, its number, and whether it is the last (the STREAM construction, Hoang et al. 2015); the two lines
are authenticated with every chunk.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from client.vault import Passphrase, Stretching, WrongKey
from model.refusal import Refusal

MAGIC = b"feelinghealing archive 1\n"
CHUNK, TAG, PREFIX = 64 * 1024, 16, 7
LONGEST_HEADER = 1024


def seal_archive(content: bytes, file: BinaryIO, passphrase: Passphrase) -> None:
    """Write ``content``, encrypted, to ``file``."""
    passphrase.require_long_enough()
    stretching, prefix = Stretching.create(), os.urandom(PREFIX)
    header = MAGIC + json.dumps(stretching.to_document() | {"prefix": prefix.hex()}).encode() + b"\n"
    cipher = ChaCha20Poly1305(stretching.key(passphrase))
    file.write(header)
    last = max(0, len(content) - 1) // CHUNK
    for number in range(last + 1):
        piece = content[number * CHUNK : (number + 1) * CHUNK]
        file.write(cipher.encrypt(_nonce(prefix, number, last=number == last), piece, header))


def open_archive(file: BinaryIO, passphrase: Passphrase) -> bytes:
    """What was sealed; :class:`WrongKey` for another passphrase, :class:`Refusal` for a file that is not whole."""
    magic, line = file.readline(len(MAGIC)), file.readline(LONGEST_HEADER)
    if magic != MAGIC:
        raise Refusal("the file is no archive of this program, or of another version; name one that `healing client export` wrote")
    try:
        document = json.loads(line)
        prefix, stretching = bytes.fromhex(document["prefix"]), Stretching.from_document(document)
        if len(prefix) != PREFIX:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise Refusal("the archive's first lines are damaged, and without them it cannot be opened; take another copy") from None
    cipher = ChaCha20Poly1305(stretching.key(passphrase))
    return b"".join(_opened(file, cipher, prefix, magic + line))


def is_archive(file: BinaryIO) -> bool:
    """Whether it begins as an archive does; the file is at its start afterwards."""
    found = file.read(len(MAGIC)) == MAGIC
    file.seek(0)
    return found


def _opened(file: BinaryIO, cipher: ChaCha20Poly1305, prefix: bytes, header: bytes) -> Iterator[bytes]:
    piece, number = file.read(CHUNK + TAG), 0
    while True:
        after = file.read(CHUNK + TAG)
        try:
            yield cipher.decrypt(_nonce(prefix, number, last=not after), piece, header)
        except (InvalidTag, ValueError):
            if number == 0:
                raise WrongKey("the passphrase does not open the archive, or the archive is damaged; try again") from None
            raise Refusal(f"the archive is damaged at its chunk {number + 1} or cut short; take another copy") from None
        if not after:
            return
        piece, number = after, number + 1


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])
