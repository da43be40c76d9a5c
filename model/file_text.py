"""A file's bytes, unpacked, and as text: UTF-8 with and without its mark, UTF-16, CP949. What was recognised is always said.

CP949 (Korean Windows) has no mark. It is believed only of a file that is no UTF-8, decodes as CP949 from end to end, and is then
Hangul of KS X 1001 for the most part: other Asian encodings decode too, but give Chinese characters and syllables that no word has.
"""

from __future__ import annotations

import codecs
import gzip
import unicodedata
import zlib
from collections import Counter
from pathlib import Path

from model.refusal import Refusal

GZIP = b"\x1f\x8b"
MOST_BYTES = 4 * 2**30
"""The largest file that is unpacked: a small archive may hold a machine's whole memory in zeros."""
MOSTLY = 0.8
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


def unpacked(path: Path) -> tuple[bytes, str]:
    """The file's bytes, out of gzip if they are in it whatever the name says, and ``gzip`` or an empty word."""
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            return path.read_bytes(), ""
    try:
        with gzip.open(path) as packed:
            content = packed.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise Refusal(f"'{path}' is a damaged gzip file; check that it was copied whole") from None
    if len(content) > MOST_BYTES:
        raise Refusal(f"'{path}' holds more than {MOST_BYTES // 2**30} GiB when unpacked; split it into several files")
    return content, "gzip"


def decoded(content: bytes, path: Path) -> tuple[str, str]:
    """The text, its line ends as ``\\n``, and its encoding's name; :class:`Refusal` with the first bad byte if it has none of these."""
    text, encoding = _decoded(content, path)
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def _decoded(content: bytes, path: Path) -> tuple[str, str]:
    for mark, codec, encoding in _MARKS:
        if content.startswith(mark):
            return _marked(content, codec, encoding, path), encoding
    if codec := _unmarked_utf16(content):
        return _marked(content, codec, "UTF-16", path), "UTF-16 without a byte order mark"
    try:
        return content.decode(), "UTF-8"
    except UnicodeDecodeError as error:
        text = _korean(content)
        if text is None:
            raise _no_text(content, error, path) from None
        return text, "CP949"


def _marked(content: bytes, codec: str, encoding: str, path: Path) -> str:
    try:
        return content.decode(codec)
    except UnicodeDecodeError as error:
        raise Refusal(f"'{path}' has the mark of {encoding} and is not in it (byte {error.start}); save it again as UTF-8") from None


def _unmarked_utf16(content: bytes) -> str:
    """UTF-16 of a text with line ends and delimiters has NUL in every second byte of these, and UTF-8 text has none."""
    if len(content) % 2 or b"\x00" not in content:
        return ""
    for codec, end in (("utf-16-le", b"\n\x00"), ("utf-16-be", b"\x00\n")):
        at = content.find(end)
        while at != -1:
            if at % 2 == 0:
                return codec
            at = content.find(end, at + 1)
    return ""


def _korean(content: bytes) -> str | None:
    """The bytes as CP949 if that gives the 2,350 syllables in which Korean is written, for the most part."""
    try:
        text = content.decode("cp949")
    except UnicodeDecodeError:
        return None
    counts = Counter(text)
    letters = sum(count for letter, count in counts.items() if not letter.isascii() and unicodedata.category(letter).startswith("L"))
    jamo = sum(count for letter, count in counts.items() if "ㄱ" <= letter <= "ㆎ")  # what the kana of EUC-JP come out as
    common = sum(count for letter, count in counts.items() if "가" <= letter <= "힣" and len(letter.encode("euc-kr")) == 2)
    return text if common and common >= jamo and common >= MOSTLY * (letters - jamo) else None


def _no_text(content: bytes, error: UnicodeDecodeError, path: Path) -> Refusal:
    line = content.count(b"\n", 0, error.start) + 1
    convert = f"iconv -f cp949 -t utf-8 '{path.name}' > 'utf8-{path.name}'"
    return Refusal(
        f"'{path}' is not UTF-8 (byte {error.start}), and as a whole neither UTF-16 nor CP949; mend line {line}, or convert the file from "
        f"the encoding that it has, for example: {convert}"
    )
