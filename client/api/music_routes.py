"""Routes of the music: recommend, learn from feedback, export, and take in songs and listens."""

from __future__ import annotations

import io
import json
from typing import Annotated, BinaryIO, Literal, cast

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import StringConstraints

from client.api import edge
from client.api.device import Device, ThisDevice
from client.api.incoming import IncomingFile
from client.api.problems import Problem
from client.music.jukebox import EVEN, felt, only
from client.music.playlist import Playlist
from model.emotions import Emotion
from model.refusal import Refusal

routes = APIRouter(prefix="/v1", tags=["music"])

Count = Annotated[int, Query(ge=1, le=50)]
Anyway = Annotated[bool, Query(description="gentle songs even where the text speaks of self-harm")]
Words = Annotated[str, StringConstraints(max_length=200), Query(description="words in title, artist, genre or tags")]

FORMATS = {"jspf": "application/json", "xspf": "application/xspf+xml", "m3u8": "application/vnd.apple.mpegurl"}
RAW = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}


@routes.get("/recommendations", summary="Songs for an entry or an emotion")
def recommendations(
    device: ThisDevice,
    entry: Annotated[edge.Number | None, Query(description="number of an entry; or name an emotion")] = None,
    emotion: edge.NamedEmotion | None = None,
    mode: edge.Mode = "stay",
    count: Count = 12,
    anyway: Anyway = False,
) -> edge.Recommendations:
    """``stay`` with the mood, ``shift`` in steps to a better one, or ``calm`` down. For a text: POST."""
    if (entry is None) == (emotion is None):
        raise Problem("invalid", "songs are for either an entry or an emotion", next="give `entry` or `emotion`; a text goes by POST")
    if entry is None:
        return _recommended(device, only(Emotion.named(str(emotion))), mode, count)
    kept = device.diary.entry(entry)
    if care := edge.Care.of(kept.text):
        return _cared_for(device, care, count, anyway=anyway)
    return _recommended(device, felt(kept), mode, count, entry=entry)


@routes.post("/recommendations", summary="Songs for a text that is not kept")
async def recommendations_for_text(wish: edge.Wish, device: ThisDevice) -> edge.Recommendations:
    """A text never stands in an address, so it is posted."""
    if care := edge.Care.of(wish.text):
        return await run_in_threadpool(_cared_for, device, care, wish.count, anyway=wish.anyway)
    try:
        read = await device.reader.read_soon(wish.text)
    except Refusal as refusal:
        raise Problem.of(refusal, "not-ready") from None
    return await run_in_threadpool(_recommended, device, read.probabilities, wish.mode, wish.count)


@routes.post("/feedback", status_code=204, summary="What became of a song")
def feedback(told: edge.Feedback, device: ThisDevice) -> Response:
    """Teaches the recommender, in the mood of the playlist or the entry; *unliked* takes the last *liked* back."""
    if told.event == "unliked":
        device.jukebox.take_back_like(told.song)
    else:
        device.jukebox.learn(told.song, told.event, _mood_of(told, device))
    return Response(status_code=204)


@routes.get(
    "/playlists/{id}",
    summary="A playlist for other players",
    response_class=Response,
    responses={200: {"content": {media_type: {} for media_type in FORMATS.values()}}},
)
def playlist(id: edge.Key, device: ThisDevice, format: Literal["jspf", "xspf", "m3u8"] = "jspf") -> Response:
    """JSPF, XSPF 1.0, or extended M3U in UTF-8."""
    content = _exported(device.jukebox.playlist(id), format)
    name = f'attachment; filename="feelinghealing.{format}"'
    return Response(content, media_type=FORMATS[format], headers={"Content-Disposition": name})


@routes.get("/songs", summary="Look for songs")
def songs(device: ThisDevice, text: Words = "", limit: Annotated[int, Query(ge=1, le=200)] = 50) -> edge.Songs:
    """In the bundled catalogue and the person's own; `faults` says what of the person's own music cannot be used."""
    found, total = device.jukebox.find(text, limit)
    return edge.Songs(songs=[edge.Song.of(song) for song in found], total=total, faults=list(device.jukebox.faults))


@routes.post("/songs/import", summary="Take in a catalogue of one's own", openapi_extra=RAW)
async def import_songs(request: Request, device: ThisDevice) -> edge.Imported:
    """The body is a CSV, JSPF, XSPF or M3U8 file; which one is seen from its first bytes."""
    imported, skipped = await run_in_threadpool(device.jukebox.take_in, _file(request))
    return edge.Imported(imported=imported, skipped=skipped)


@routes.post("/listens/import", summary="Take in a listening history", openapi_extra=RAW)
async def import_listens(request: Request, device: ThisDevice) -> edge.Imported:
    """ListenBrainz JSON or JSONL, or Spotify's extended history; ip, user name and country are dropped on reading."""
    imported, skipped = await run_in_threadpool(device.jukebox.hear, _file(request))
    return edge.Imported(imported=imported, skipped=skipped)


def _recommended(device: Device, mood: tuple[float, ...], mode: edge.Mode, count: int, *, entry: int | None = None) -> edge.Recommendations:
    id, chosen = device.jukebox.recommend(mood, mode=mode, count=count, entry=entry)
    return edge.Recommendations(id=id, mode=mode, care=None, songs=[edge.RecommendedSong.of(one) for one in chosen])


def _cared_for(device: Device, care: edge.Care, count: int, *, anyway: bool) -> edge.Recommendations:
    """The word of care comes first, and gentle songs only if they are asked for all the same."""
    if not anyway:
        return edge.Recommendations(id="", mode="calm", care=care, songs=[])
    id, chosen = device.jukebox.gentle(count)
    return edge.Recommendations(id=id, mode="calm", care=care, songs=[edge.RecommendedSong.of(one) for one in chosen])


def _mood_of(told: edge.Feedback, device: Device) -> tuple[float, ...]:
    if told.playlist is not None:
        return device.jukebox.made(told.playlist).mood
    return felt(device.diary.entry(told.entry)) if told.entry is not None else EVEN


def _exported(playlist: Playlist, format: str) -> str:
    if format == "jspf":
        return json.dumps(playlist.as_jspf(), ensure_ascii=False)
    return playlist.as_xspf() if format == "xspf" else playlist.as_m3u8()


def _file(request: Request) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(IncomingFile(request.stream()), buffer_size=64 * 1024))
