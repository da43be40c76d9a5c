"""Made playlists: the diary's document of the playlists that were made lately, and of the moods they were made for.

The mood of an entry's playlist is as telling as the entry. So the playlist names its entry, and once that is forgotten
the mood is gone from the document and the songs stay.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from model.emotions import EMOTIONS
from model.refusal import Refusal

DOCUMENT = "playlists"
EVEN = tuple(1 / len(EMOTIONS) for _ in EMOTIONS)
"""The mood of which nothing is known."""

_UNKNOWN = 0
"""The entry of a playlist that an earlier version kept, which did not say for which: it may be any."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A playlist as it is remembered: for which mood, which songs, and whose mood it was (None: no entry's)."""

    id: str
    mode: str
    mood: tuple[float, ...]
    songs: tuple[str, ...]
    entry: int | None = None


def made_of(document: str | None) -> list[Made]:
    """The playlists that a document holds, oldest first; :class:`Refusal` if it is damaged."""
    try:
        return [_made(one) for one in json.loads(document)] if document is not None else []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refusal("the diary's document `playlists` is damaged; restore the diary from a backup") from None


def document_of(made: Iterable[Made]) -> str:
    """The document of these playlists."""
    return json.dumps([asdict(one) for one in made])


def without_entry(document: str, number: int) -> str:
    """The document without the mood of this entry, nor any that may be its."""
    return _without(document, lambda entry: entry in (number, _UNKNOWN))


def without_entries(document: str) -> str:
    """The document without the mood of any entry, for a diary in which the entries have other numbers."""
    return _without(document, lambda entry: True)


def _without(document: str, is_gone: Callable[[int], bool]) -> str:
    """A damaged document, of which nobody can tell what it holds, goes as a whole."""
    try:
        made = made_of(document)
    except Refusal:
        return document_of(())
    return document_of(replace(one, mood=EVEN, entry=None) if one.entry is not None and is_gone(one.entry) else one for one in made)


def _made(row: Mapping[str, Any]) -> Made:
    mood, entry = tuple(float(share) for share in row["mood"]), row.get("entry", _UNKNOWN)
    if len(mood) != len(EMOTIONS) or not all(map(math.isfinite, mood)) or not (entry is None or type(entry) is int):
        raise ValueError
    return Made(id=str(row["id"]), mode=str(row["mode"]), mood=mood, songs=tuple(map(str, row["songs"])), entry=entry)
