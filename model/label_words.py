"""What the labels of a file mean: the four emotions' own names, a map that the person gives, and proposals for the usual synonyms.

No synonym is applied unasked: whether 당황 is anxiety is the researcher's decision, and a number means what its file's maker
meant. A refusal proposes the map, ready to be pasted, and the person says yes by pasting it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from model.emotions import Emotion, shown_label
from model.names import folded
from model.refusal import Refusal

REFUSE, LEAVE_OUT = "refuse", "leave-out"
OTHER_LABELS = (REFUSE, LEAVE_OUT)
"""What happens to rows whose label is none of the four emotions."""

NAMES_OF_EMOTIONS: dict[str, Emotion] = {name: emotion for emotion in Emotion for name in (emotion.en, emotion.ko)}

SYNONYMS: dict[str, Emotion] = {
    word: emotion
    for emotion, words in {
        Emotion.JOY: "행복 행복함 기쁨/행복 기뻐 즐거움 즐거움/신남 신남 happy happiness joyful joyous delight glad cheerful 喜 喜び",
        Emotion.SADNESS: "슬퍼 슬픈 우울 우울함 서러움 상심 비통 sad sorrow sorrowful grief unhappy depressed 悲しみ",
        Emotion.ANGER: "화 화남 화남/분노 분노/화남 노여움 짜증 격분 화난 angry mad rage fury annoyed irritated 怒り",
        Emotion.ANXIETY: "공포 두려움 무서움 걱정 불안함 불안/걱정 공포/무서움 초조 근심 anxious fear fearful afraid scared worry worried "
        "nervous nervousness 不安",
    }.items()
    for word in words.split()
}  # fmt: skip
"""Usual words for the four emotions in Korean and English corpora (and the Japanese of WRIME's kind), proposed and never applied."""

MOST_PROPOSED = 20
_WHOLE_FLOAT = re.compile(r"([+-]?\d+)\.0+")
_NUMBER = re.compile(r"(label_)?[+-]?\d+")


def canonical(label: str) -> str:
    """A label as it is compared: cleaned, in lower case, and ``2.0`` (a number of a column with gaps) as ``2``."""
    name = folded(label)
    whole = _WHOLE_FLOAT.fullmatch(name)
    return whole[1] if whole else name


def read_label_map(named: str) -> dict[str, Emotion]:
    """``행복=기쁨,공포=불안`` as labels and the emotions that they mean.

    Raises :class:`Refusal` for a part without ``=``, a word that is none of the four emotions, and a label with two meanings.
    """
    meanings: dict[str, Emotion] = {}
    for part in filter(str.strip, named.split(",")):
        label, sign, emotion = part.rpartition("=")
        if not sign or not canonical(label):
            raise Refusal(f"label-map has the part '{part.strip()}'; write LABEL=EMOTION parts with commas, such as 행복=기쁨,공포=불안")
        try:
            meant = Emotion.named(emotion)
        except Refusal as error:
            raise Refusal(f"label-map '{part.strip()}': {error}") from None
        if meanings.setdefault(canonical(label), meant) is not meant:
            raise Refusal(f"label-map gives '{label.strip()}' two meanings; keep one")
    return meanings


@dataclass(frozen=True)
class LabelWords:
    """How a table's label words are read: by the map first, else by the four emotions' names; ``others`` says what the rest is worth."""

    meanings: Mapping[str, Emotion] = field(default_factory=dict)
    others: str = REFUSE

    def emotion_of(self, label: str) -> Emotion | None:
        """The emotion that a label means; None if it means none."""
        return self.meanings.get(canonical(label)) or NAMES_OF_EMOTIONS.get(canonical(label))

    def told(self, words: Iterable[str]) -> str:
        """For the account: which of the words the map gave a meaning, and which labels of the map are in no row."""
        found = {canonical(word) for word in words}
        used = ", ".join(f"{label}={emotion.ko}" for label, emotion in self.meanings.items() if label in found)
        unused = ", ".join(label for label in self.meanings if label not in found)
        return (f"; label-map {used}" if used else "") + (f"; in no row: {unused} of label-map" if unused else "")

    def leaves_out(self) -> bool:
        """Whether rows of other labels are left out, and no reason to refuse the file."""
        return self.others == LEAVE_OUT


def is_label(word: str) -> bool:
    """Whether a word is an emotion's name or synonym, a number, or a ``LABEL_0``: no name of a column."""
    name = canonical(word)
    return name in NAMES_OF_EMOTIONS or name in SYNONYMS or bool(_NUMBER.fullmatch(name))


def refused_label(source: str, first: str, counts: Mapping[str, int], hint: str = "") -> Refusal:
    """The refusal of labels that are none of the four emotions.

    ``first`` names the first label's place and shows it, ``counts`` has every such label (as it is compared) and its rows.
    """
    emotions = ", ".join(map(str, Emotion))
    ways = [f"write one of {emotions}, or name the label's column with label-column", *([hint] if hint else []), *_ways_out(counts)]
    return Refusal(f"'{source}' {first} is none of the four emotions; {'; '.join(ways)}")


def first_label(unit: str, number: int, label: str) -> str:
    """Where the first unknown label stands, and the label, unless it is long enough to be text."""
    return f"{unit} {number}: {shown_label(label)}"


def _ways_out(counts: Mapping[str, int]) -> list[str]:
    """Proposals: a map of synonyms, a map to fill in for numbers, leaving the rest out. Rare words may be a person's: not shown."""
    synonyms = [label for label in counts if label in SYNONYMS]
    numbers = sorted((label for label in counts if _NUMBER.fullmatch(label)), key=lambda label: int(label.removeprefix("label_")))
    others = [label for label in counts if label not in SYNONYMS and label not in numbers]
    ways = []
    if synonyms:
        ways.append(f"usual words are taken by --label-map {','.join(f'{label}={SYNONYMS[label].ko}' for label in synonyms)}")
    if numbers:
        blanks = ",".join(f"{number.upper()}=..." for number in numbers[:MOST_PROPOSED])
        ways.append(f"numbers mean what their file's maker meant: write --label-map {blanks} with 기쁨, 슬픔, 분노 or 불안 for each")
    if others or len(numbers) > len(Emotion):
        shown = [label for label in others if counts[label] > 1 and shown_label(label).startswith("'")][:MOST_PROPOSED]
        rest = f" ({', '.join(f'{label} {counts[label]}' for label in shown)})" if shown else ""
        ways.append(
            f"other labels{rest} take a meaning by --label-map LABEL=EMOTION, or their rows are left out by --other-labels {LEAVE_OUT}"
        )
    return ways
