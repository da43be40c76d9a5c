"""Which columns of a table hold the text, the emotion and the author. Ambiguous ones are refused: no column wins unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.label_words import is_label
from model.names import cleaned, folded
from model.refusal import Refusal

TEXT_COLUMNS = ("text", "sentence", "document", "content", "entry", "diary", "문장", "내용", "일기", "본문")
LABEL_COLUMNS = ("emotion", "label", "labels", "감정", "sentiment", "라벨")
RATING_COLUMNS = ("rating", "score", "평점", "별점")
AUTHOR_COLUMNS = ("author", "user", "writer", "person", "client", "작성자", "글쓴이")

HEADER_HINT = "if the file has no header, put a line with the columns' names, such as text and label, above its rows"


@dataclass(frozen=True)
class Columns:
    """The columns to read; an empty name is guessed from the usual ones."""

    text: str = ""
    label: str = ""
    author: str = ""


@dataclass(frozen=True)
class FoundColumns:
    """Where in a row text, label and author stand, and the names of these columns as a person may see them."""

    text: int
    label: int
    author: int | None
    names: tuple[str, str, str]

    def told(self) -> str:
        """For the account."""
        text, label, author = self.names
        return f"text from '{text}', label from '{label}', " + (f"author from '{author}'" if author else "no author")


def find_columns(source: str, names: Sequence[str], wanted: Columns, labels: Sequence[str] = LABEL_COLUMNS) -> FoundColumns:
    """The columns by the person's names, or by the usual ones.

    Raises :class:`Refusal` if text or label cannot be found, and if two columns may be meant.
    """
    text = _find(source, names, "text", wanted.text, TEXT_COLUMNS)
    label = _find(source, names, "label", wanted.label, labels)
    author = _find(source, names, "author", wanted.author, AUTHOR_COLUMNS)
    if text is None or label is None:
        raise _not_found(source, names, "text" if text is None else "label")
    shown = (cleaned(names[text]), cleaned(names[label]), "" if author is None else cleaned(names[author]))
    return FoundColumns(text, label, author, shown)


def has_columns(names: Sequence[str], wanted: Columns, labels: Sequence[str] = LABEL_COLUMNS) -> bool:
    """Whether text and label can be found among the names, be it more than once."""
    return bool(_candidates(names, wanted.text, TEXT_COLUMNS) and _candidates(names, wanted.label, labels))


def _candidates(names: Sequence[str], wanted: str, usual: Sequence[str]) -> list[int]:
    if not wanted:
        return [place for place, name in enumerate(names) if folded(name) in usual]
    exact = [place for place, name in enumerate(names) if cleaned(name) == cleaned(wanted)]
    return exact or [place for place, name in enumerate(names) if folded(name) == folded(wanted)]


def _find(source: str, names: Sequence[str], kind: str, wanted: str, usual: Sequence[str]) -> int | None:
    found = _candidates(names, wanted, usual)
    if wanted and not found:
        raise Refusal(f"'{source}' has no column '{wanted}'; its columns are {column_list(names)}")
    if len(found) < 2:
        return found[0] if found else None
    if len({folded(names[place]) for place in found}) == 1:
        raise Refusal(
            f"'{source}' has {len(found)} columns named '{cleaned(names[found[0]])}'; rename all but the one that holds the {kind}"
        )
    several = ", ".join(f"'{cleaned(names[place])}'" for place in found)
    raise Refusal(f"'{source}' has several columns that may hold the {kind}: {several}; name the one that does with {kind}-column")


def _not_found(source: str, names: Sequence[str], kind: str) -> Refusal:
    if any(is_label(name) for name in names):  # then the first line is an entry, and its other cells are a person's text
        return Refusal(f"'{source}' has a label or a number where names of columns should be; {HEADER_HINT}, or name its {kind}-column")
    rated = kind == "label" and any(folded(name) in RATING_COLUMNS for name in names)
    hint = "ratings of 1 to 10 are read as joy and anger by data-format nsmc" if rated else HEADER_HINT
    return Refusal(f"'{source}' has no column for the {kind} among {column_list(names)}; name it with {kind}-column; {hint}")


def column_list(names: Sequence[str]) -> str:
    """The names for a message. A file without a header has a person's text where the names should be: nothing long is quoted."""
    return ", ".join(f"'{cleaned(name)}'" if len(name) <= 20 and " " not in name.strip() else "(a long one)" for name in names[:20])
