"""Forms of a text in which care is looked for: typing that hides a sentence is undone, and nothing else.

A sentence may be hidden by letters that nobody sees, by signs and spaces between its syllables, by letters that were typed one by one
(ㅈㅏㅅㅏㄹ), and by the spelling of chats and dialects (쥭고시퍼, 죽어불고 잡다). Each form undoes one of them.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from model.normalization import normalized

INITIALS, VOWELS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ", "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
FINALS = "ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"
_FIRST, _LAST_ADDED = 0xAC00, "ㄱㄴㄷㄹㅁㅂㅅㅆㅇㅈㅊㅌㅍ"
_SYLLABLE = re.compile(f"([{INITIALS}])([{VOWELS}])(?:([{FINALS}])(?![{VOWELS}]))?")
_OPEN_SYLLABLE = re.compile(f"([가-힣])([{_LAST_ADDED}])(?![{VOWELS}])")
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_LETTERS = re.compile("[ㄱ-ㅣ]+")
_NARROW = re.compile("[\uffa1-\uffdc]")
_NO_SYLLABLE = re.compile("[^가-힣]+")
_NO_LETTER = re.compile("[^가-힣ㄱ-ㅣ]+")

_SPELLINGS = tuple(
    (re.compile(found), meant)
    for found, meant in (
        ("엇(?=으면|음|다|어|네|는)", "었"),
        ("겟(?=다|어|네|지|음)|겠엉", "겠"),
        ("슴(?=좋|조)", "음"),
        ("[조졷]케[ㅆ]?다|조켔|조켓|좃겠", "좋겠"),
        ("[쥭듁쥮]|즉(?=고[싶시])", "죽"),
        ("[주쥬듀]글(?=래|거야|거임|게|까|란)", "죽을"),
        ("[주쥬]거(?=버|야[지겠해돼]|삐|뿌|뿔|불고)", "죽어"),
        ("[주쥬]그(?=면|러간|러가|려고)", "죽으"),
        ("[주듀쥬][꼬꾸](?=[싶십시])|죽[구꼬코](?=[싶십시])", "죽고"),
        ("(?<=[죽지])고(?:싶|십|싪|싷|슾|시프|시퍼|시포|시픔|파|퍼|팡|잡)", "고싶"),
        ("[디뒈듸](?=지고싶|져|질란|지는게)", "뒤"),
        ("자사라(?=고싶)|쟈살|자샬", "자살"),
        ("살기(?:실(?=다|어|타|음)|시러|시르)", "살기싫"),
    )
)
"""The spelling of chats and dialects, and what is meant; in syllables without spaces."""


@dataclass(frozen=True)
class Forms:
    """One text: ``plain`` with its spaces, ``dense`` as bare syllables (each way of reading typed letters), ``initials`` with them."""

    plain: str
    dense: tuple[str, ...]
    initials: str


def forms_of(text: str) -> Forms:
    """The forms of a text; doing the same to a form changes nothing that is looked for."""
    seen = _visible(text)
    plain = normalized(_composed(seen))
    letters = _NO_LETTER.sub("", seen)
    whole = _OPEN_SYLLABLE.sub(_closed, _composed(letters))
    dense = dict.fromkeys(_meant(_NO_SYLLABLE.sub("", form)) for form in (plain, whole))
    return Forms(plain=plain, dense=tuple(dense), initials=seen)


def _visible(text: str) -> str:
    """Letters that can be seen, in lower case and of one width; single Korean letters stay as they are."""
    whole = unicodedata.normalize("NFC", _NARROW.sub(_widened, text))
    kept = "".join(letter for letter in whole if letter not in _FILLERS and unicodedata.category(letter) not in ("Cf", "Mn", "Me"))
    parts, end = [], 0
    for letters in _LETTERS.finditer(kept):  # NFKC would make of ㅈ a letter that joins with the next
        parts += [unicodedata.normalize("NFKC", kept[end : letters.start()]), letters[0]]
        end = letters.end()
    return "".join((*parts, unicodedata.normalize("NFKC", kept[end:]))).casefold().replace("’", "'")


def _widened(letter: re.Match[str]) -> str:
    wide = unicodedata.decomposition(letter[0]).split()
    return chr(int(wide[1], 16)) if wide else letter[0]


def _composed(text: str) -> str:
    """Letters that were typed one by one, as the syllables that they make."""
    return _SYLLABLE.sub(_syllable, text)


def _syllable(letters: re.Match[str]) -> str:
    first, vowel, last = letters.groups()
    place = (INITIALS.index(first) * len(VOWELS) + VOWELS.index(vowel)) * 28
    return chr(_FIRST + place + (FINALS.index(last) + 1 if last else 0))


def _closed(found: re.Match[str]) -> str:
    """A syllable that ends on a vowel, and the consonant after it."""
    place = ord(found[1]) - _FIRST
    return chr(_FIRST + place + FINALS.index(found[2]) + 1) if place % 28 == 0 else found[0]


def _meant(dense: str) -> str:
    for found, meant in _SPELLINGS:
        dense = found.sub(meant, dense)
    return dense
