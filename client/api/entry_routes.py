"""Routes of the diary: write, look up, change, correct, forget."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import StringConstraints

from client.api import edge
from client.api.device import Device, ThisDevice
from client.diary import diary
from client.reading.reading import Reading
from model.emotions import Emotion
from model.refusal import Refusal

routes = APIRouter(prefix="/v1/entries", tags=["diary"])

Looked = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\u0000]*$"), Query(description="words in the text")]

_log = logging.getLogger("healing.api")


@routes.post("", status_code=201, summary="Keep an entry, read at once")
async def add(new: edge.NewEntry, device: ThisDevice) -> edge.Entry:
    """The entry is on disk when the answer arrives; without a model it is kept unread."""
    read = await _read(new.text, device)
    number = await run_in_threadpool(
        device.diary.add,
        new.text,
        day=new.day,
        emotion=edge.emotion(new.emotion),
        feelings=edge.emotions(new.feelings),
        teaches=new.teaches,
        reading=read,
    )
    return edge.Entry.of(await run_in_threadpool(device.diary.entry, number))


@routes.get("", summary="Look through the diary, newest day first")
def entries(
    device: ThisDevice,
    text: Looked = "",
    emotion: edge.NamedEmotion | None = None,
    since: edge.Day | None = None,
    until: edge.Day | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> edge.Entries:
    """Every condition that is given must hold; both days belong to the range."""
    wanted = diary.Query(text=text, emotion=edge.emotion(emotion), since=since, until=until, limit=limit, offset=offset)
    page = device.diary.entries(wanted)
    found = [edge.Entry.of(entry) for entry in page.entries]
    return edge.Entries(entries=found, total=page.total, limit=limit, offset=offset)


@routes.get("/{number}", summary="One entry")
def entry(number: edge.Number, device: ThisDevice) -> edge.Entry:
    """As it stands now."""
    return edge.Entry.of(device.diary.entry(number))


@routes.patch("/{number}", summary="Change an entry")
async def change(number: edge.Number, changed: edge.EntryChange, device: ThisDevice) -> edge.Entry:
    """A changed text is read anew."""
    feelings = None if changed.feelings is None else edge.emotions(changed.feelings)
    entry = await run_in_threadpool(
        device.diary.rewrite, number, text=changed.text, day=changed.day, feelings=feelings, teaches=changed.teaches
    )
    return await _read_anew(entry, device) if entry.reading is None else edge.Entry.of(entry)


@routes.delete("/{number}", status_code=204, summary="Forget an entry")
def forget(number: edge.Number, device: ThisDevice) -> Response:
    """Text, label, history and cache are overwritten on disk. Rounds that it taught already cannot be recalled."""
    device.diary.forget(number)
    return Response(status_code=204)


@routes.post("/{number}/reading", summary="Read an entry again")
async def read_again(number: edge.Number, device: ThisDevice) -> edge.Entry:
    """With the model that reads now."""
    return await _read_anew(await run_in_threadpool(device.diary.entry, number), device)


@routes.put("/{number}/emotion", summary="Correct or confirm what an entry feels like")
def correct(number: edge.Number, correction: edge.Correction, device: ThisDevice) -> edge.Entry:
    """The person's own word: from now on it is a training label, unless the entry does not teach."""
    device.diary.correct(number, Emotion.named(correction.emotion))
    return edge.Entry.of(device.diary.entry(number))


@routes.delete("/{number}/emotion", summary="Take the person's last word back")
def undo(number: edge.Number, device: ThisDevice) -> edge.Entry:
    """What stood before it stands again. An emotion that came with the entry, or with an import, is taken away: it trains nothing more."""
    return edge.Entry.of(device.diary.undo(number))


async def _read(text: str, device: Device) -> Reading | None:
    try:
        read = await device.reader.read_soon(text)
    except Refusal as refusal:
        _log.warning("an entry stays unread: %s", refusal)
        return None
    device.metrics.reads_with(read.version)
    return read


async def _read_anew(entry: diary.Entry, device: Device) -> edge.Entry:
    """The entry as it stands once it was read; who changed its text meanwhile reads that one."""
    read = await _read(entry.text, device)
    if read is not None:
        await run_in_threadpool(device.diary.keep_reading, entry.number, entry.text, read)
    return edge.Entry.of(await run_in_threadpool(device.diary.entry, entry.number))
