"""Care: when a text speaks of dying or of hurting oneself, a kind word and a telephone number come before any music.

Patterns, not a diagnosis: they look for what people write in Korean and English when they mean themselves, spaced out and
by the usual turns of phrase, and leave alone the exaggerations of every day (배고파 죽겠다, 웃겨 죽는 줄). In doubt the
message is shown: a word too many does little harm.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Care:
    """A kind word in two languages, and the number to call."""

    ko: str
    en: str
    phone: str


CARE_MESSAGE = Care(
    ko=(
        "많이 힘드셨지요. 이렇게 적어 주셔서 고마워요. 혼자 견디지 않으셔도 괜찮아요. "
        "자살예방 상담전화 109에서 24시간 이야기를 들어 드려요. 지금 위험하다고 느끼시면 112나 119에 바로 연락해 주세요. "
        "이 안내는 진단이 아니라, 글을 보고 걱정이 되어 전하는 말이에요."
    ),
    en=(
        "This sounds very hard, and it is good that you wrote it down. You do not have to bear it alone. "
        "In Korea, the suicide prevention line 109 listens day and night; if you are in danger now, call 112 or 119. "
        "This is not a diagnosis, only a word of concern about what you wrote."
    ),
    phone="109",
)


def speaks_of_self_harm(text: str) -> bool:
    """Whether the text may speak of the writer's own death or of hurting themselves."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    dense = _NO_SYLLABLE.sub("", plain)
    return bool(_DENSE.search(dense) or _NAMED.search(plain) or _ENGLISH.search(plain)) or _wants_an_end(dense)


_NO_SYLLABLE = re.compile(r"[^가-힣]+")


def _not_after(*words: str) -> str:
    return "".join(f"(?<!{word})" for word in words)


_LIVING_THERE = _not_after("에", "에서", "랑", "하고", "같이", "함께", "여기", "여기서", "거기", "거기서", "혼자", "과", "와")
"""Not wanting to live somewhere, or with somebody, is another thing."""

_DYING_OF = "(?<![아어여워와해려겨파퍼러라쳐켜혀궈나서])"
"""Dying *of* hunger, laughter, sleep is a turn of phrase."""

_PESTS = _not_after("모기", "벌레", "모기가", "벌레가", "모기들", "벌레들", "모기다", "벌레다", "안", "모기들이", "벌레들이")

_ROAD = "선로|철로|지하철|전철|(?<!전)기차|찻길|차도|달리는차|트럭"

_DENSE = re.compile(
    "|".join((
        # dying
        r"죽[고구][만은는도]?(?:[싶십]|시[퍼펐])",
        r"죽어버(?:릴|리고|리면|려야|렸으면)",
        rf"{_PESTS}죽었으면(?!어[떡쩔])",
        r"(?:차라리|콱|확)죽(?!겠)",
        r"(?:나는|나|그냥|이제|난)죽을(?:래|게|거야)|죽을까(?!봐|바|보|무|걱)",
        r"죽는(?:게|것이|편이)(?:낫|나을|나아|더|좋|편)|죽는(?:방법|상상|생각)",
        r"죽을(?:생각|용기|결심|방법|준비|계획|날만)",
        r"(?:내가|나만|나는|나도|그만)죽으면|(?<!에서)죽으면(?:다|모두|전부)?(?:끝|편[하해안할]|괜찮|좋[을겠])",
        rf"{_DYING_OF}죽으려",
        r"(?:내가|나는|나만|난).{0,6}죽어야|죽어야만?(?:끝|편|하나|할까|되나|지)",
        rf"{_PESTS}{_not_after('모기는', '벌레는', '한번', '또', '게임에서')}죽어야겠",
        r"(?<![하구제디이거])(?:나|저)(?:같은|따위).{0,5}(?:죽어|없어져|사라져)야",
        r"죽어도(?:괜찮|상관|아무도|슬퍼)",
        r"죽음을?(?:생각|선택|원하|바라|기다리)",
        r"(?<![을를])(?:그냥|확|콱|진짜)[뒤디]지고싶(?!지)|뒈지고싶",
        # what it is called
        r"극단적인?(?:선택|생각|시도)|(?:나쁜|몹쓸|위험한)생각",
        r"목숨을?(?:끊|버리|던지|놓)|숨을?끊(?!임)",
        r"(?:삶|인생|생애|생명|(?<![고학선동재희발야위])생)을?(?:스스로)?(?:마감|끊|포기|저버|끝내고싶|내려놓|마치고싶|놓고싶|놓아)",
        r"(?:세상|인생)을?하직|세상을?(?:등지|떠나고싶|뜨고싶|버리고싶|떠나버)",
        r"(?:저세상|저승|하늘나라|하늘)(?:에|로|으로)?가고싶",
        r"(?<![제과항종품덕안면이주에게손발])목을?(?:매(?:달|고싶|고죽|려고|었)|맬(?:까|래|거|생각|방법))|(?<![에게과])목매[달단]",
        r"손목[을에]?(?:칼|긋|그었|그은|그어|그을)|(?:팔|허벅지|몸)[을에]?(?:칼로)?(?:긋고|그었|그어|그은|긋는)",
        r"칼로(?:내)?(?:손목|팔|허벅지|몸)",
        r"(?:(?<!거)나|내자신|나자신|스스로|내몸|몸)(?:를|을|에|에게)?(?:해치|다치게하|상처를[내냈입]|아프게하고싶|죽이고|죽여버|때리고싶)",
        r"약을?(?:한꺼번에|한움큼|왕창)|과다복용|(?:수면제|알약|진통제)[를을]?(?:조금씩|몰래|다|계속)?(?:모으[고는려면]|모아|모은|모을|모았|한통)",
        r"번개탄|연탄을?피우|(?<![전격결사])투신(?!자)",
        r"뛰어내(?:리고싶|릴까|리면|리려)|(?:옥상|다리|베란다|난간|창문|한강)(?:위)?(?:에서|에|으로)?(?:떨어지고|떨어지면|뛰어들|몸을던)",
        rf"(?:{_ROAD})에?뛰어들(?:고싶|까|면|려)|(?<!전기)(?<!수소)차에(?:확|콱|그냥)?뛰어들(?:고싶|까(?!봐))|(?:내가|나도|모르게).{{0,8}}차에뛰어들",
        r"(?<![이사])유서를?(?:쓰|쓸|썼|써|적|남기|남겼|미리)",
        # not being any more
        r"사라지고[만은는도]?싶|사라져버리고싶|없어지고[만은는도]?싶|없어져버리고싶|증발하고싶|존재하고싶지않|존재하지않았으면",
        r"(?:내가|나는|나도|나만|난|그냥|이대로|세상에서|영영|조용히).{0,5}(?:사라졌|없어졌|사라져버렸|없어져버렸)으면",
        r"(?:내가|나만|나하나)없(?:는게|는것이|는편이|어지는게|어져야).{0,6}(?:나아|나을|낫|좋|행복)|(?:내가|나만|나하나)없(?:으면|어지면)(?:더|편|행복|나을|좋을|모두가)",
        r"태어나지(?:말[았걸]|않았으|않았더|않는게)|안태어났",
        r"(?:눈을?|잠|이대로|영원히|영영|다시는?|아침에|내일).{0,10}(?:뜨지|깨지|깨어나지|일어나지)(?:않|말|못).{0,2}(?:으면|싶|길|기를)",
        r"(?:이대로|영원히|영영|다시는?).{0,8}안(?:깼|깨어났|일어났|떴)으면",
        r"(?:영원히|영영)(?:잠들고|자고)싶|(?:내일|아침)이?(?:안왔|오지않았)으면",
        # living no more
        r"살아있(?:고싶지[가도는]?않|기[가도]?싫|는게(?:싫|지옥|고통|괴로)|을(?:이유|가치|의미)[가도를]?(?:없|모르))",
        rf"{_LIVING_THERE}살기[가도]?싫|{_LIVING_THERE}살고싶지[가도는]?않",
        r"그만살(?:고싶|래)|더이상살(?:고싶지|기싫|아갈|수없|수가없)|살아서(?:뭐|뭘|무엇)|왜(?:사는지|살아야|살고있는지|살아있는지)",
        r"(?:살|살아갈|살아야할|사는)(?:이유|의미|가치|의욕)[가이도를을]?(?:없|모르|못)|살아갈자신이?없|사는[게것]이?(?:지긋|지겹|지옥|의미가없)",
    ))
)  # fmt: skip
"""Matched in the Korean syllables alone, so that spaces and signs between them hide nothing."""

_NAMED = re.compile(
    r"(?<![가-힣])자살(?!골|특공)|자살(?:하|할|해|했|충동|시도|생각|예방)|(?<![가-힣])자[0-9*.\-_~]{1,2}살"
    r"|(?<![가-힣])자[\W_]{1,3}살[\W_]{0,3}(?:하|할|해|충동|시도)|(?<![가-힣])자해(?!공갈)|자해(?:하|할|했|를|흔적|충동)"
    r"|(?:^|[^\w\s]|\n|[ㄱ-ㅣ]|[들프겹롭싫렇하했았었겠]다(?=\s))\s*(?:(?:나|나도|난|진짜|정말|너무|이제|빨리|걍|아)\s+){0,3}[뒤디]지고\s*싶(?!\s*지)"
)
"""Matched in the text with its spaces: "혼자 살다" (living alone) holds the syllables of 자살, and whoever searches a bag (가방을
뒤지고 싶다) names it before the word that alone means dying."""

_END = re.compile(r"끝내(?:버리)?고싶")
_LIFE = re.compile(r"삶|인생|목숨|세상|모든것|모든걸|모든거|나를")
_ALL = re.compile(r"다$|전부|모두|이제|그만|그냥|이쯤|여기서|이대로|^$")
_TASK = re.compile(
    r"숙제|과제|업무|회의|프로젝트|시험|공부|작업|보고서|논문|방학|청소|설거지|집안일|빨래|정리|이사|게임|레포트|리포트|문제|연애|관계|사이|통화|"
    r"대화|수업|학기|훈련|운동|마감|일정|연습|강의|발표|준비|요리|김장|책|드라마|시즌|일을|할일|일도|일좀|글을|싸움|계약|다이어트"
)


def _wants_an_end(dense: str) -> bool:
    """Whether somebody wants to end life, or everything; not a task named just before."""
    for found in _END.finditer(dense):
        before = dense[max(0, found.start() - 12) : found.start()]
        if _LIFE.search(before) or (_ALL.search(before) and not _TASK.search(before)):
            return True
    return False


def _spelled(words: str) -> str:
    """The words, also with their letters set apart."""
    return r"(?<![a-z])" + r"[\W_]*".join(re.escape(letter) for letter in words if letter != " ") + r"(?![a-z])"


_ENGLISH = re.compile(
    "|".join(map(_spelled, ("kill myself", "killing myself", "want to die", "wanna die", "end my life", "suicidal")))
    + r"|\bsuicid(?:e|al)\b(?! squad)|\bkms\b|\bunalive\b|\btak(?:e|ing) my own life|\bend(?:ing)? (?:it all|my own life)"
    r"|\bwish(?:ed)? (?:that )?i (?:was|were|am|could be) (?:dead|never born)"
    r"|\bwish(?:ed)? (?:that )?i (?:wasn't|weren't) (?:alive|born|here)"
    r"|\bwish(?:ed)? (?:that )?i (?:had|'d)? ?never been born|\bi'd (?:rather be|be better off) dead|\bbetter off (?:dead|without me)"
    r"|\bwant to (?:disappear|vanish)\b|\bwish i could (?:just )?(?:disappear|vanish)|\bwant to be dead|\bready to die\b"
    r"|\bself[- ]?harm|\bhurt(?:ing)? myself on purpose|\bwant to hurt myself|\bhurting myself|\bharm(?:ing)? myself"
    r"|\bcut(?:ting)? (?:my wrists?|my arms?|my thighs?|myself (?:again|on purpose|to feel))|\bcutting myself\b|\bslit my wrists?"
    r"|\b(?:don't|do not|no longer) want to (?:live|be alive|be here any ?more|exist|wake up)\b(?! (?:in|with|here|there)\b)"
    r"|\bno (?:reason|point)(?: in)? (?:to live|living|to go on|going on)"
    r"|\b(?:life|living) (?:is|isn't|is not) (?:not )?worth living|\bnot worth living"
    r"|\bhang(?:ing)? myself|\bjump(?:ing)? off (?:a|the|this) (?:bridge|building|roof|balcony)|\boverdos(?:e|ing)\b"
    r"|\bnever wak(?:e|ing) up|\bnot wake up (?:tomorrow|again|any ?more)|\bgoodbye (?:note|letter)\b|\bsuicide note|\bcan't go on living"
)
