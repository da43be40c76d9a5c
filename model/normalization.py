"""The text step: what every text passes before any tokenizer, the same on every device and on the server.

The step removes what nobody sees (zero-width spaces, fillers), composes to NFC, squeezes repeats to two, and keeps the marks
of mood (ㅠㅠ, emoji) as words of their own. It does not translate them: ㅠㅠ stands beside joy, anger and anxiety as often as
beside sadness, and step 1, which wrote 눈물 (tears) for it, made sad text joyful, since film reviews praise with 눈물.

KoBERT's vocabulary has no ㅠ, ㅡ, ♡ and no emoji. For a tokenizer that lacks a mark, :func:`spell_marks` writes the mark as a
sound word (흑흑, 하하): a tone of voice, and no statement of a feeling.

Two devices that prepared text differently would train one model on two languages. So the step has a version:
:data:`TEXT_STEP` stands in every manifest and every order, and a device refuses another.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection

TEXT_STEP = 2
"""Version of this module's rules. Any change to what :func:`normalized` or :func:`spell_marks` gives for any text is a new version."""

TEARS, STARE = "ㅠㅠ", "ㅡㅡ"
"""How every spelling of crying eyes and of a flat stare is written."""

MARKS: dict[str, str] = {
    "흑흑": "😭😢😿🥲🥹😥😓💧",
    "에휴": "☹🙁😞😔😟💔🥀😩😫",
    "하하": "😀😃😄😁😆😅🤣😂🙂😊😉😋😜😝😛😸😹😺🤪☺😎🤭🙃",
    "하트": "♡♥❤🧡💛💚💙💜🖤🤍🤎💕💖💗💘💓💞💝💟😍🥰😘😗😚😙😻💋❣🩷🩵",
    "버럭": "😡😠🤬👿😤💢🖕",
    "흥": "😒🙄😑",
    "덜덜": "😰😨😱😧😦😬😖😣",
    "헉": "😮😲😯😳🤯",
    "하품": "😪😴🥱😵🥴",
    "콜록": "🤒🤕🤢🤮😷🤧",
    "음": "🤔🧐😕😐😶🤷",
    "짝짝": "🎉🎊🎂🥳🎁🎈🏆",
    "최고": "👍👏🙌💪👌💯🔥",
    "꾸벅": "🙏🙇🤗",
    "별": "★☆⭐🌟✨",
    "음악": "♪♫♬🎵🎶🎧",
    "꽃": "🌸🌹🌺🌻🌼🌷💐",
    "술": "🍺🍻🍷🥂🍶",
    "음식": "🍚🍜🍲🍕🍔🍗🍰🍦☕🍎",
}
"""The word that stands for each of these signs where a vocabulary lacks it; each word is made of pieces that KoBERT knows."""

OTHER_EMOJI = "그림"
"""The word for every other emoji that a vocabulary lacks."""

_WORD_OF = {sign: word for word, signs in MARKS.items() for sign in signs}
_ALL_SIGNS = "".join(_WORD_OF)
_EMOJI = "\u231a-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_JOINERS = "\u200d\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200c\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001]"
)
_SIGN = f"[{_EMOJI}{re.escape(_ALL_SIGNS)}]"
_SIGNS = re.compile(f"{_SIGN}(?:[{_EMOJI}{_JOINERS}{re.escape(_ALL_SIGNS)}]|\\s(?={_SIGN}))*")
_TEARS = re.compile(r"[ㅠㅜ](?:[ㅠㅜㅡ._^]*[ㅠㅜ])?")
_STARE = re.compile(r"ㅡ[._,]?ㅡ+|-[._]-")
_REPEAT = re.compile(r"([^\d\s])\1{2,}")
_JOINER = re.compile(f"[{_JOINERS}]")
_SPACE = re.compile(r"\s+")
_SYLLABLE = re.compile("[가-힣]")
_MARK = re.compile(f"{TEARS}|{STARE}|{_SIGN}")


def normalized(text: str) -> str:
    """The text in NFC without invisible characters, marks of mood as words, at most two of one character in a row, single spaces.

    ``"행\\u200b복했다ㅠㅠㅠ!!!! 😭😭"`` becomes ``"행복했다 ㅠㅠ !! 😭"``. Digits are never squeezed. Doing it twice changes
    nothing. The time is linear in the text but for long alternations of combining marks, in which CPython's NFC is quadratic
    (0.1 s for 10,000 characters).
    """
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    text = _SIGNS.sub(_each_once, text)
    text = unicodedata.normalize("NFC", _JOINER.sub("", text))
    text = _STARE.sub(f" {STARE} ", _TEARS.sub(f" {TEARS} ", text))
    text = _REPEAT.sub(r"\1\1", text)
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()


def _each_once(signs: re.Match[str]) -> str:
    """The signs of a run, each once, in order of appearance."""
    return f" {' '.join(dict.fromkeys(sign for sign in _JOINER.sub('', signs[0]) if not sign.isspace()))} "


def has_korean(text: str) -> bool:
    """Whether a text holds a Hangul syllable: marks (ㅠㅠ, ㅋㅋ) alone tell no feeling, and the models here read no other language."""
    return bool(_SYLLABLE.search(normalized(text)))


def spell_marks(text: str, known: Collection[str]) -> str:
    """A normalized text with every mark that is not among the ``known`` written as a sound word.

    >>> spell_marks("끝났다 ㅠㅠ 😭", known=["😭"])
    '끝났다 흑흑 😭'
    """
    return _MARK.sub(lambda mark: mark[0] if mark[0] in known else sound_of(mark[0]), text)


def sound_of(mark: str) -> str:
    """The sound word of one mark."""
    return {TEARS: "흑흑", STARE: "흥"}.get(mark) or _WORD_OF.get(mark, OTHER_EMOJI)


def marks() -> list[str]:
    """Every mark that has a sound word of its own."""
    return [TEARS, STARE, *_WORD_OF]
