"""The text step: what every text passes before any tokenizer, the same on every device and on the server.

KoBERT's vocabulary has no ㅠ, ㅜ, ㅡ, ♡ and no emoji, so the commonest marks of mood would reach it as ``[UNK]`` (23 %
of KOTE's rows hold one). The step writes them as Korean words that it knows, squeezes repeats to two and composes to
NFC. Two devices that prepared text differently would train one model on two languages, so the step has a version:
:data:`TEXT_STEP` stands in every manifest and every order, and a device refuses another.
"""

from __future__ import annotations

import re
import unicodedata

TEXT_STEP = 1
"""Version of this module's rules. Any change to what :func:`normalized` gives for any text is a new version."""

MARKS: dict[str, str] = {
    "눈물": "😭😢😿🥲🥹😥😓💧",
    "슬픔": "☹🙁😞😔😟💔🥀😩😫",
    "웃음": "😀😃😄😁😆😅🤣😂🙂😊😉😋😜😝😛😸😹😺🤪☺😎🤭🙃",
    "사랑": "♡♥❤🧡💛💚💙💜🖤🤍🤎💕💖💗💘💓💞💝💟😍🥰😘😗😚😙😻💋❣🩷🩵",
    "화남": "😡😠🤬👿😤💢🖕",
    "짜증": "😒🙄😑",
    "불안": "😰😨😱😧😦😬😖😣",
    "놀람": "😮😲😯😳🤯",
    "피곤": "😪😴🥱😵🥴",
    "아픔": "🤒🤕🤢🤮😷🤧",
    "고민": "🤔🧐😕😐😶🤷",
    "축하": "🎉🎊🎂🥳🎁🎈🏆",
    "최고": "👍👏🙌💪👌💯🔥",
    "감사": "🙏🙇🤗",
    "별": "★☆⭐🌟✨",
    "음악": "♪♫♬🎵🎶🎧",
    "꽃": "🌸🌹🌺🌻🌼🌷💐",
    "술": "🍺🍻🍷🥂🍶",
    "음식": "🍚🍜🍲🍕🍔🍗🍰🍦☕🍎",
}
"""The word that is written for each of these signs; each word is made of pieces that KoBERT knows."""

OTHER_EMOJI = "그림"
"""The word for every other emoji."""

_WORD_OF = {sign: word for word, signs in MARKS.items() for sign in signs}
_ALL_SIGNS = "".join(_WORD_OF)
_EMOJI = "\u231a-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_JOINERS = "\u200d\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_SIGNS = re.compile(
    f"[{_EMOJI}{re.escape(_ALL_SIGNS)}](?:[{_EMOJI}{_JOINERS}{re.escape(_ALL_SIGNS)}]|\\s(?=[{_EMOJI}{re.escape(_ALL_SIGNS)}]))*"
)
_TEARS = re.compile(r"[ㅠㅜ](?:[ㅠㅜㅡ._^]*[ㅠㅜ])?")
_STARE = re.compile(r"ㅡ[._,]?ㅡ+|-[._]-")
_REPEAT = re.compile(r"([^\d\s])\1{2,}")
_JOINER = re.compile(f"[{_JOINERS}]")
_SPACE = re.compile(r"\s+")


def normalized(text: str) -> str:
    """The text in NFC with signs of mood as words, at most two of one character in a row (digits apart), single spaces.

    ``"싫어ㅠㅠㅠ!!!! 😭😭"`` becomes ``"싫어 눈물 !! 눈물"``. Doing it twice changes
    nothing. The time is linear in the text but for long alternations of combining marks, in which CPython's NFC is quadratic
    (0.1 s for 10,000 characters).
    """
    text = _SIGNS.sub(_words, unicodedata.normalize("NFC", text))
    text = unicodedata.normalize("NFC", _JOINER.sub("", text))
    text = _STARE.sub(" 짜증 ", _TEARS.sub(" 눈물 ", text))
    text = _REPEAT.sub(r"\1\1", text)
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()


def _words(signs: re.Match[str]) -> str:
    """The signs' words, each once, in order of appearance."""
    words = dict.fromkeys(_WORD_OF.get(sign, OTHER_EMOJI) for sign in _JOINER.sub("", signs[0]) if not sign.isspace())
    return f" {' '.join(words)} "
