"""Edge: the JSON that the API takes and gives, with its rules and an example of each. Nothing inside the house uses these."""

from __future__ import annotations

import datetime
import re
from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StringConstraints

from client import participation, sent
from client.diary import diary
from client.music import playlist, recommender
from client.reading import insights, reader, reading
from client.reading.care import CARE_MESSAGE, speaks_of_self_harm
from model.emotions import EMOTIONS, Emotion

MOST_CHARACTERS = 10_000

EmotionName = Literal["joy", "sadness", "anger", "anxiety"]
NAMES: dict[Emotion, EmotionName] = {Emotion.JOY: "joy", Emotion.SADNESS: "sadness", Emotion.ANGER: "anger", Emotion.ANXIETY: "anxiety"}
NamedEmotion = Literal["joy", "sadness", "anger", "anxiety", "기쁨", "슬픔", "분노", "불안"]
"""What is taken; given are the English names."""
Mode = Literal["stay", "shift", "calm"]

_UNSEEN = (
    r"\s\u0000-\u0008\u000e-\u001b\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
)
Text = Annotated[str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS, pattern=rf"^[^\u0000]*[^{_UNSEEN}][^\u0000]*$")]
"""A diary's text: something that can be seen, and no NUL."""
Key = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Number = Annotated[int, Field(ge=1, le=2**53)]


def _written_as_day(value: Any) -> Any:
    """Only 2026-03-01: pydantic by itself takes seconds since 1970, too."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, flags=re.ASCII):
        return value
    raise ValueError("a day is written like 2026-03-01")


Day = Annotated[datetime.date, BeforeValidator(_written_as_day)]


class Taken(BaseModel):
    """What a request may hold: these fields and no others."""

    model_config = ConfigDict(extra="forbid")


def _example(**values: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [values]})


class JustText(Taken):
    """A text to read; it is not kept."""

    model_config = _example(text="내일 시험이라 너무 떨린다")
    text: Text


class NewEntry(Taken):
    """An entry to keep; ``day`` is today if it is not given."""

    model_config = _example(text="친구가 편지를 보내 하루 종일 웃었다", day="2026-03-01", emotion="joy", feelings=["anxiety"], teaches=True)
    text: Text
    day: Day | None = None
    emotion: NamedEmotion | None = Field(None, description="the person's own word; it becomes a training label")
    feelings: list[NamedEmotion] = Field(default=[], max_length=4, description="mixed feelings besides")
    teaches: StrictBool = Field(True, description="false: never train on this")


class EntryChange(Taken):
    """What changes; what is left out or null stays. A changed text is read anew."""

    model_config = _example(text="친구가 편지를 보내 하루 종일 웃고 울었다", feelings=["joy", "sadness"])
    text: Text | None = None
    day: Day | None = None
    feelings: list[NamedEmotion] | None = Field(None, max_length=4)
    teaches: StrictBool | None = None


class Correction(Taken):
    """What the entry feels like, in the person's own word."""

    model_config = _example(emotion="sadness")
    emotion: NamedEmotion


class Wish(Taken):
    """Songs for a text that is not kept."""

    model_config = _example(text="내일 시험이라 너무 떨린다", mode="calm", count=5)
    text: Text
    mode: Mode = "stay"
    count: Annotated[StrictInt, Field(ge=1, le=50)] = 12
    anyway: StrictBool = Field(False, description="gentle songs even where the text speaks of self-harm")


class Feedback(Taken):
    """What became of a song that was recommended: in a playlist, or for an entry."""

    model_config = _example(song="iu-through-the-night", event="liked", playlist="q1Xb3fT9LmA2")
    song: Key
    event: Literal["played", "opened", "skipped", "liked", "unliked", "disliked"] = Field(
        description="*played*: half of it or four minutes; *opened*: a link to it, whether or not it sounded"
    )
    playlist: Key | None = None
    entry: Annotated[StrictInt, Field(ge=1, le=2**53)] | None = None


class ParticipationChange(Taken):
    """Whether this device takes part in training; what is left out stays."""

    model_config = _example(paused=False, skip_next=True)
    paused: StrictBool | None = None
    skip_next: StrictBool | None = None


class Given(BaseModel):
    """What an answer holds."""

    model_config = ConfigDict(extra="forbid")


class BrokenRule(Given):
    """One place of a request that breaks a rule; what was written there is not repeated."""

    at: str
    rule: str


class Problem(Given):
    """Why something was not done (RFC 9457), and the next move."""

    model_config = _example(
        type="/docs#not-found",
        title="There is no such thing",
        status=404,
        detail="the diary has no entry 99",
        next="look up the entry's number first",
    )
    type: str
    title: str
    status: int
    detail: str
    next: str
    errors: list[BrokenRule] = []


class Line(Given):
    """A telephone line that listens day and night."""

    number: str
    name: str
    name_en: str


class Care(Given):
    """A kind word and the lines to call, where a text speaks of self-harm; ``phone`` is the first line's number."""

    message: str
    message_en: str
    phone: str
    lines: list[Line]

    @classmethod
    def of(cls, text: str) -> Self | None:
        """The kind word, if this text calls for it."""
        if not speaks_of_self_harm(text):
            return None
        lines = [Line(number=line.number, name=line.ko, name_en=line.en) for line in CARE_MESSAGE.lines]
        return cls(message=CARE_MESSAGE.ko, message_en=CARE_MESSAGE.en, phone=lines[0].number, lines=lines)


class Probabilities(Given):
    """Of the four emotions; they sum to 1."""

    joy: float
    sadness: float
    anger: float
    anxiety: float

    @classmethod
    def of(cls, values: tuple[float, ...]) -> Self:
        """From the order of the emotions' ids."""
        return cls(**{emotion.en: value for emotion, value in zip(EMOTIONS, values, strict=True)})


class ModelName(Given):
    """Which global model read."""

    version: int
    digest: str


class Prediction(Given):
    """What the model sees in a text. Where ``care`` is given, no model reads it: the feeling, its probabilities and the model are null."""

    model_config = _example(
        emotion="anxiety",
        emotion_ko="불안",
        probabilities={"joy": 0.04, "sadness": 0.11, "anger": 0.03, "anxiety": 0.82},
        unsure=False,
        ordinary=False,
        model={"version": 12, "digest": "5e2c…"},
        care=None,
    )
    emotion: EmotionName | None
    emotion_ko: str | None
    probabilities: Probabilities | None
    unsure: bool = Field(description="no feeling or several are told, the two likeliest lie close together, or parts of a long text differ")
    ordinary: bool = Field(description="no feeling is told: an ordinary day, whatever the four probabilities are")
    model: ModelName | None
    care: Care | None

    @classmethod
    def caring(cls, care: Care) -> Self:
        """A word of care, and no feeling named."""
        return cls(emotion=None, emotion_ko=None, probabilities=None, unsure=True, ordinary=False, model=None, care=care)

    @classmethod
    def of(cls, read: reading.Reading) -> Self:
        """A reading of a text that needs no care."""
        return cls(
            emotion=NAMES[read.emotion],
            emotion_ko=read.emotion.ko,
            probabilities=Probabilities.of(read.probabilities),
            unsure=read.unsure,
            ordinary=read.ordinary,
            model=ModelName(version=read.version, digest=read.digest),
            care=None,
        )


class Reading(Given):
    """What a model saw in an entry, and which model that was."""

    emotion: EmotionName
    probabilities: Probabilities
    unsure: bool
    ordinary: bool
    version: int
    digest: str

    @classmethod
    def of(cls, read: reading.Reading) -> Self:
        """As the diary keeps it."""
        probabilities = Probabilities.of(read.probabilities)
        return cls(
            emotion=NAMES[read.emotion],
            probabilities=probabilities,
            unsure=read.unsure,
            ordinary=read.ordinary,
            version=read.version,
            digest=read.digest,
        )


class Entry(Given):
    """One entry of the diary. Where ``care`` is given, what a model read is not told; ``emotion`` is the person's own word."""

    model_config = _example(
        number=7,
        day="2026-03-01",
        written="2026-03-01T21:04:05+09:00",
        edited=None,
        text="친구가 편지를 보내 하루 종일 웃었다",
        reading={
            "emotion": "joy",
            "probabilities": {"joy": 0.9, "sadness": 0.04, "anger": 0.03, "anxiety": 0.03},
            "unsure": False,
            "ordinary": False,
            "version": 12,
            "digest": "5e2c…",
        },
        emotion="joy",
        feelings=[],
        teaches=True,
        care=None,
    )
    number: int
    day: datetime.date
    written: datetime.datetime
    edited: datetime.datetime | None
    text: str
    reading: Reading | None
    emotion: EmotionName | None
    feelings: list[EmotionName]
    teaches: bool
    care: Care | None

    @classmethod
    def of(cls, entry: diary.Entry) -> Self:
        """As the diary keeps it."""
        care = Care.of(entry.text)
        return cls(
            number=entry.number,
            day=entry.day,
            written=entry.written,
            edited=entry.edited,
            text=entry.text,
            reading=Reading.of(entry.reading) if entry.reading and care is None else None,
            emotion=NAMES[entry.emotion] if entry.emotion else None,
            feelings=[NAMES[feeling] for feeling in entry.feelings],
            teaches=entry.teaches,
            care=care,
        )


class Entries(Given):
    """A page of the diary, newest day first."""

    entries: list[Entry]
    total: int
    limit: int
    offset: int


class Song(Given):
    """One song of the catalogue."""

    key: str
    title: str
    artist: str
    genre: str
    year: int | None
    tags: list[str]
    links: dict[str, str] = Field(description="search addresses; no account, no key")
    attribution: str
    url: str

    @classmethod
    def of(cls, song: playlist.Song) -> Self:
        """As the catalogue holds it."""
        return cls(
            key=song.key,
            title=song.title,
            artist=song.artist,
            genre=song.genre,
            year=song.year,
            tags=list(song.tags),
            links=song.links(),
            attribution=song.attribution,
            url=song.url,
        )


class Songs(Given):
    """Songs that were looked for."""

    songs: list[Song]
    total: int
    faults: list[str] = Field(description="what of the person's own songs and taste cannot be used, and what to do")


class RecommendedSong(Given):
    """A song, and why this one."""

    key: str
    title: str
    artist: str
    why: str
    why_en: str
    links: dict[str, str]
    attribution: str
    url: str

    @classmethod
    def of(cls, one: recommender.Recommendation) -> Self:
        """As it was recommended."""
        song = one.song
        return cls(
            key=song.key,
            title=song.title,
            artist=song.artist,
            why=one.why,
            why_en=one.why_en,
            links=song.links(),
            attribution=song.attribution,
            url=song.url,
        )


class Recommendations(Given):
    """A playlist; ``id`` names it for feedback and export.

    Where ``care`` is given, songs come on ``anyway`` only, from a small fixed set of gentle ones, and ``mode`` is *calm*.
    """

    model_config = _example(
        id="q1Xb3fT9LmA2",
        mode="shift",
        care=None,
        songs=[
            {
                "key": "9f2c61d0a7be",
                "title": "밤편지",
                "artist": "아이유",
                "why": "지금 마음과 닮은 차분한 노래예요.",
                "why_en": "A calm song, close to how you feel now.",
                "links": {"youtube_music": "https://music.youtube.com/search?q=%EB%B0%A4%ED%8E%B8%EC%A7%80"},
                "attribution": "",
                "url": "",
            }
        ],
    )
    id: str
    mode: Mode
    care: Care | None
    songs: list[RecommendedSong]


class Imported(Given):
    """How much of an import was taken in."""

    model_config = _example(imported=1204, skipped=3)
    imported: int
    skipped: int


class Agreement(Given):
    """Share of the person's own confirmed entries that the model before, and this one, read as the person did."""

    entries: int
    before: float
    after: float


class Serving(Given):
    """A global model, and what it is worth."""

    version: int
    digest: str
    model: str
    tuning: str
    created: str
    scores: dict[str, Any] = Field(description="of the server's test set; empty where nobody scored it")
    agreement: Agreement | None
    declined: int | None = Field(description="the version from which the person went back to this one")
    earlier: int | None = Field(description="the version to which the person can go back; only of the model that reads now")

    @classmethod
    def of(cls, serving: reader.Serving) -> Self:
        """As the reader says."""
        return cls.model_validate(asdict(serving))


class Refused(Given):
    """The newest checkpoint, if it could not be put to use, and why."""

    version: int | None
    reason: str


class Model(Serving):
    """The global model that reads now, the one that could not, and those that read lately, newest first."""

    refused: Refused | None
    history: list[Serving]


class Charge(Given):
    """What one round cost by itself; together rounds cost less than the sum."""

    run: str
    round: int
    epsilon: float | None


class Sent(Given):
    """One message that left this device because of the diary: how long, under which protection."""

    run: str
    round: int
    what: Literal["update", "counts"]
    bytes: int
    privacy: str = Field(description="whom the noise protects: none, example, user or both")
    aggregation: str = Field(description="what the server saw: plain, or only a sum that was masked or encrypted")
    at: datetime.datetime

    @classmethod
    def of(cls, message: sent.Sent) -> Self:
        """As it was noted."""
        return cls.model_validate(asdict(message))


class Participation(Given):
    """Whether this device takes part in training."""

    model_config = _example(paused=False, skip_next=True)
    paused: bool
    skip_next: bool

    @classmethod
    def of(cls, wanted: participation.Participation) -> Self:
        """As Home keeps it."""
        return cls(paused=wanted.paused, skip_next=wanted.skip_next)


class Leaving(Given):
    """What leaves this device and what does not, in words, and the messages that did."""

    leaves: str
    stays: str
    messages: list[Sent]


class Privacy(Given):
    """What training has cost of this device's privacy, what is left, and what left the device."""

    epsilon_spent: float | None = Field(description="of all rounds together; null if the ledger cannot be read")
    epsilon_limit: float
    delta: float
    allow_unprotected: bool = Field(
        description="whether this device also trains in rounds without protection: they cost no epsilon, and what they are sent is "
        "the bare update, how many entries taught it, and counts of how well the model reads them"
    )
    trouble: str | None = Field(description="why the ledger cannot be read; then this device trains in no round that protects its entries")
    rounds: list[Charge]
    participation: Participation
    sent: Leaving


class CalendarDay(Given):
    """One day of the calendar: the mean over its entries."""

    day: datetime.date
    emotion: EmotionName
    probabilities: Probabilities
    entries: int


class Week(Given):
    """One week of the trend: the mean over its days."""

    monday: datetime.date
    probabilities: Probabilities
    days: int


class Recovery(Given):
    """How long bad spells last, from the first bad day to the next good one."""

    days: list[int] = Field(description="of each spell that has ended, oldest first")
    median: float | None
    bad_since: datetime.date | None = Field(description="first day of the spell that has not ended")


class Word(Given):
    """A noun that tells the entries of one emotion from all others."""

    word: str
    entries: int
    distinctiveness: float = Field(description="log-odds in standard errors")


class Point(Given):
    """One entry on the map."""

    number: int
    day: datetime.date
    emotion: EmotionName
    x: float
    y: float


class Insights(Given):
    """What the entries say together; nothing here is a diagnosis."""

    calendar: list[CalendarDay]
    trend: list[Week]
    recovery: Recovery
    words: dict[EmotionName, list[Word]] | None = Field(description="null where no nouns can be found, then `words_need` says why")
    words_need: str | None
    map: list[Point] = Field(description="entries that were read alike lie near each other")

    @classmethod
    def of(cls, found: insights.Insights) -> Self:
        """As they were computed."""
        words = (
            {emotion.en: [asdict(word) for word in words] for emotion, words in found.words.items()} if found.words is not None else None
        )
        return cls.model_validate(
            {
                "calendar": [{**_felt(day), "emotion": day.emotion.en} for day in found.calendar],
                "trend": [_felt(week) for week in found.trend],
                "recovery": {**asdict(found.recovery), "median": found.recovery.median},
                "words": words,
                "words_need": found.words_need,
                "map": [{**asdict(point), "emotion": point.emotion.en} for point in found.map],
            }
        )


class Health(Given):
    """The API answers; ``model`` is the version that reads, null before the first."""

    model_config = _example(status="ok", model=12)
    status: Literal["ok", "no-model"]
    model: int | None


def _felt(part: insights.Day | insights.Week) -> dict[str, Any]:
    return {**asdict(part), "probabilities": Probabilities.of(part.probabilities)}


def emotion(name: str | None) -> Emotion | None:
    """The emotion of a name that was checked already."""
    return Emotion.named(name) if name else None


def emotions(names: list[NamedEmotion]) -> tuple[Emotion, ...]:
    """The same of several, each once."""
    return tuple(dict.fromkeys(Emotion.named(name) for name in names))
