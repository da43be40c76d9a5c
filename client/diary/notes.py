"""A folder of notes, as Obsidian, Logseq or anybody keeps them: Markdown and text files, a day each.

The day stands in the front matter, in the file's name, in its folders, or alone in its first line. What was deleted, templates,
Logseq's backups, hidden files and other kinds of files are passed over, and counted. Files are named by their
number: a name may say what the person wrote.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

from client.diary.days import Moment, Order, TwoWays, is_only_a_day, moment_of, moment_of_name
from client.diary.entry_form import FIELDS, BadRow
from client.diary.foreign import (
    DAYS,
    MADE,
    MOODS,
    TITLES,
    Row,
    Source,
    day_fields,
    key_of,
    left_of,
    mood_fields,
    teaches_fields,
    with_title,
)
from client.tables import decoded
from model.refusal import Refusal

ENDINGS = (".md", ".markdown", ".mdown", ".txt")
DELETED = ("trash", "휴지통", "deleted", "recyclebin")
TEMPLATES = ("template", "templates", "템플릿", "양식", "서식")
LOGSEQ = ("bak", "versionfiles", "recycle")
_PLACEHOLDER = re.compile(r"\{\{\s*(?:date|time|title)\b[^}]*\}\}|<%[-*_]?\s*tp\.", re.IGNORECASE)
_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)(?:(?<=\n)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z))", re.DOTALL)
_PROPERTY = re.compile(r"([^\s#\-:][^:]*?)\s*:(?:\s+(.*))?$")
_YEAR_OR_MONTH = re.compile(r"\d{4}년?|\d{4}[-_. ]?\d{1,2}월?|\d{1,2}월")


def read_notes(folder: Path) -> Source:
    """The notes of a folder in the order of their names; :class:`Refusal` if it holds none."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    own_templates = _templates_folder(folder)
    reasons = {file: _reason(file.relative_to(folder), own_templates) for file in files}
    notes = [file for file in files if not reasons[file]]
    rows, passed = [], Counter(reason for reason in reasons.values() if reason)
    for number, file in enumerate(notes, start=1):
        place = f"file {number} of {len(notes)}"
        try:
            row = _of_note(place, file, _named_from(folder, file))
        except (BadRow, Refusal) as fault:
            row = Row(place, fault=str(fault) if isinstance(fault, BadRow) else "not UTF-8")
        if row is None:
            passed["templates"] += 1
        else:
            rows.append(row)
    if not rows:
        said = f" ({', '.join(f'{reason}: {count}' for reason, count in passed.items())})" if passed else ""
        raise Refusal(f"'{folder}' holds no file that ends in {', '.join(ENDINGS)} and is a note{said}; name the folder in which they lie")
    return Source("a folder of notes", tuple(rows), dict(passed))


def _reason(path: PurePath, own_templates: PurePath | None) -> str:
    """Why a file is passed over; empty if it is a note."""
    names = [key_of(part).lstrip("0123456789") for part in path.parts[:-1]]
    if any(name in DELETED for name in names):
        return "deleted notes"
    if any(one == "logseq" and other in LOGSEQ for one, other in pairwise(names)):
        return "backups of Logseq"
    if any(part.startswith(".") for part in path.parts):
        return "hidden files"
    if path.suffix.lower() not in ENDINGS:
        return "other kinds of files"
    template = any(name in TEMPLATES for name in (*names, key_of(path.stem))) or (own_templates and path.is_relative_to(own_templates))
    return "templates" if template else ""


def _templates_folder(folder: Path) -> PurePath | None:
    """Where Obsidian keeps templates in this vault, if it says so."""
    try:
        named = json.loads((folder / ".obsidian" / "templates.json").read_text(encoding="utf-8"))["folder"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return PurePath(named.strip("/")) if isinstance(named, str) and named.strip("/") else None


def _named_from(folder: Path, file: Path) -> PurePath:
    """The file's path in the folder, below the folder's own name if that is a year or a month."""
    within = PurePath(unicodedata.normalize("NFC", str(file.relative_to(folder))))
    own = [unicodedata.normalize("NFC", part) for part in folder.absolute().parts[-2:]]
    while own and not _YEAR_OR_MONTH.fullmatch(own[0]):
        own = own[1:]
    return PurePath(*own, within)


def _of_note(place: str, file: Path, path: PurePath) -> Row | None:
    """One file; None for a template, whose blanks nobody has filled in."""
    content = decoded(file.read_bytes(), file.name)
    front, body = _parted(content)
    if set(FIELDS) - {"text"} <= set(front):  # one of ours, whose text is kept to the letter
        return Row(place, {**{name: front[name] for name in FIELDS if name != "text"}, "text": body})
    body = body.strip("\ufeff\r\n")
    moment, used = _moment(front, path, body)
    if moment is None and _PLACEHOLDER.search(body):
        return None
    if not body.strip():
        raise BadRow("no text")
    titles = [name for name in front if key_of(name) in TITLES]
    moods = [name for name in front if key_of(name) in MOODS]
    mood, unplaced = mood_fields(front[name] for name in moods)
    text = with_title(front[titles[0]] if titles else None, body)
    fields = {"text": text, **day_fields(moment), **mood, **teaches_fields(front)}
    return Row(place, fields, unplaced=unplaced, left=left_of(front, [*titles[:1], *moods, *used]))


def _moment(front: Mapping[str, Any], path: PurePath, body: str) -> tuple[Moment | None, list[str]]:
    """The day that the note is about, and the properties that say it: a property of the day, the name, when it was made, the first line."""
    days = [name for called in DAYS for name in front if key_of(name) == called]
    made = [name for called in MADE for name in front if key_of(name) == called]
    first = body.lstrip("# \t\r\n").split("\n", 1)[0].strip()
    said = _first_moment(front[name] for name in days) or _first_moment(_below_heading(body, DAYS)) or moment_of_name(path)
    written = _first_moment(front[name] for name in made) or _first_moment(_below_heading(body, MADE))
    if said and said.at is None and written and written.day == said.day:
        said = written  # the same day, with the time
    others = [name for name in front if name not in (*days, *made) and "date" in key_of(name)]
    moment = said or written or _first_moment([first] if is_only_a_day(first) else []) or _first_moment(front[name] for name in others[:1])
    return moment, [*days, *made, *(others[:1] if moment and not said and not written else [])]


def _below_heading(body: str, called: Sequence[str]) -> list[str]:
    """Values of the properties that Notion writes below a note's heading, and Logseq above its text; they stay in the text."""
    lines = [line.strip() for line in body.splitlines()[:12] if line.strip()]
    lines = lines[1:] if lines and lines[0].startswith("# ") else lines
    values = []
    for line in lines:
        found = re.match(r"([^:]{1,30})::?\s+(\S.*)$", line)
        if not found:
            break
        values += [found[2]] if key_of(found[1]) in called else []
    return values


def _first_moment(values: Any) -> Moment | None:
    for value in values:
        try:
            if moment := moment_of(value, Order.UNKNOWN):
                return moment
        except TwoWays:
            continue
    return None


def _parted(content: str) -> tuple[dict[str, Any], str]:
    """Front matter and body; what looks like front matter and holds other lines than properties is body."""
    found = _FRONT.match(content)
    front = _properties(found[1]) if found else None
    if found is None or front is None:
        return {}, content
    return front, content[found.end() :]


def _properties(text: str) -> dict[str, Any] | None:
    """Properties by their names, as far as notes use YAML: words, JSON, and lists of words; None if a line is something else."""
    front: dict[str, Any] = {}
    name = ""
    for line in text.splitlines():
        item = re.match(r"\s*-\s+(.*)$", line)
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if item and name:
            front[name] = [*(front[name] if isinstance(front[name], list) else []), _value(item[1])]
        elif line[0] in " \t" and name:
            front[name] = f"{front[name] or ''} {line.strip()}".strip() if not isinstance(front[name], list) else front[name]
        elif found := _PROPERTY.match(line.rstrip()):
            name = found[1].strip("'\"").casefold()
            front[name] = _value(found[2] or "")
        else:
            return None
    return front


def _value(text: str) -> Any:
    """A value of front matter: JSON, a list of bare words, or bare words."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        bare = text.strip()
    if bare.startswith("[") and not bare.startswith("[[") and bare.endswith("]"):
        return [word.strip().strip("'\"") for word in bare[1:-1].split(",") if word.strip()]
    return bare.strip("'\"")
