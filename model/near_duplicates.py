"""Whether a sentence that is to be trained on also stands among the tests, to the letter or nearly."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from model.normalization import normalized

SHINGLE = 4
"""Letters in one shingle."""
ALIKE = 0.5
"""From which share of common shingles (Jaccard; Broder 1997) two texts count as one."""


class HeldOutTexts:
    """The texts of some tests. ``in`` asks whether a text is one of them: the same letters, or at least half of its shingles.

    Marks, spaces, digits' neighbours and case do not count: ``외로워 ㅠㅠ`` is ``외로워!``. Texts shorter than a shingle and its neighbour
    are compared to the letter only.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._letters: set[str] = set()
        self._sizes: list[int] = []
        self._holders: dict[str, list[int]] = defaultdict(list)
        for text in texts:
            letters = letters_of(text)
            if not letters or letters in self._letters:
                continue
            self._letters.add(letters)
            shingles = _shingles(letters)
            for shingle in shingles:
                self._holders[shingle].append(len(self._sizes))
            self._sizes.append(len(shingles))

    def __contains__(self, text: object) -> bool:
        letters = letters_of(str(text))
        if letters in self._letters:
            return True
        shingles = _shingles(letters)
        common: Counter[int] = Counter(holder for shingle in shingles for holder in self._holders.get(shingle, ()))
        return any(count >= ALIKE * (len(shingles) + self._sizes[holder] - count) for holder, count in common.items())


def letters_of(text: str) -> str:
    """The letters and digits of a text, in lower case; of a text of marks alone, the marks."""
    prepared = normalized(text)
    return re.sub(r"[\W_ㄱ-ㅎㅏ-ㅣ]", "", prepared).casefold() or prepared


def _shingles(letters: str) -> set[str]:
    return {letters[at : at + SHINGLE] for at in range(len(letters) - SHINGLE + 1)} if len(letters) > SHINGLE else set()
