"""How names are compared: column names, labels and authors, as people's programs write them.

One name has several spellings that look the same: macOS takes Hangul apart (NFD), and spreadsheets and web pages leave zero-width
spaces and byte order marks behind. Names are compared in NFC, without format characters and without space around them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_UNSEEN = "\u034f\u115f\u1160\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0"
"""What is to be seen as little as a format character, and is none by its class: joiners, Hangul fillers, variation selectors."""
_SELECTOR = re.compile(f"[{_UNSEEN}]")
_SHORT = 64


def cleaned(name: str) -> str:
    """The name in NFC, without format characters (category Cf, such as U+200B and U+FEFF), without space around it.

    >>> cleaned("\\u200b기쁨 ")
    '기쁨'
    """
    return _cleaned_again(name) if len(name) <= _SHORT else _cleaned(name)


def folded(name: str) -> str:
    """The cleaned name without regard to upper and lower case; two names are the same if their folded forms are equal."""
    return cleaned(name).casefold()


def _cleaned(name: str) -> str:
    if name.isascii():
        return name.strip()
    seen = "".join(letter for letter in _SELECTOR.sub("", name) if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFC", seen).strip()


_cleaned_again = lru_cache(maxsize=4096)(_cleaned)  # labels and authors stand in many rows
