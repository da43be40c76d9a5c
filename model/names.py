"""How names are compared: column names, labels and authors, as people's programs write them.

One name has several spellings that look the same: macOS takes Hangul apart (NFD), and spreadsheets and web pages leave zero-width
spaces and byte order marks behind. Names are compared in NFC, without format characters and without space around them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_FILLERS = "\u115f\u1160\u3164\uffa0"
"""Hangul fillers: letters by their class, and nothing to see."""
_LETTER = re.compile(rf"[^\W{_FILLERS}]")


@lru_cache(maxsize=4096)  # labels and authors stand in many rows
def cleaned(name: str) -> str:
    """The name in NFC, without format characters (category Cf, such as U+200B and U+FEFF), without space around it.

    >>> cleaned("\\u200b기쁨 ")
    '기쁨'
    """
    seen = name if name.isascii() else "".join(letter for letter in name if unicodedata.category(letter) != "Cf" and letter not in _FILLERS)
    return unicodedata.normalize("NFC", seen).strip()


def is_visible(text: str) -> bool:
    """Whether a text holds anything to see."""
    return bool(_LETTER.search(text) or cleaned(text))


def folded(name: str) -> str:
    """The cleaned name without regard to upper and lower case; two names are the same if their folded forms are equal."""
    return cleaned(name).casefold()
