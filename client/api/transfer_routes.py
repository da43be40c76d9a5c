"""Routes of moving a diary: take it out as a file, look into a file, take it in, and take the last import back."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, cast
from urllib.parse import unquote

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from client.api import edge
from client.api.device import Device, ThisDevice
from client.api.incoming import IncomingFile
from client.api.music_routes import RAW
from client.diary.transfer import Form, Found, Imported, exported, look_into, undo_import
from client.music.own_songs import OwnSongs
from client.vault import Passphrase, shred
from model.refusal import Refusal

routes = APIRouter(prefix="/v1", tags=["transfer"])

Ending = Annotated[
    Literal["csv", "tsv", "xlsx", "json", "jsonl", "zip", "daylio", "txt", "archive"],
    Query(description="how the file's name ends; of the name nothing else is asked for"),
]
Words = Annotated[str | None, Header(alias="Archive-Passphrase", description="the archive's own, percent-encoded UTF-8")]
MEDIA_TYPES = {Form.JSON: "application/json", Form.CSV: "text/csv; charset=utf-8", Form.ARCHIVE: "application/octet-stream"}


EXPORTED: dict[int | str, dict[str, Any]] = {200: {"content": {media.partition(";")[0]: {} for media in MEDIA_TYPES.values()}}}
"""What the OpenAPI document promises of an export."""


@routes.post("/export", summary="The whole diary as a file", response_class=Response, responses=EXPORTED)
def export(wanted: edge.Export, device: ThisDevice) -> Response:
    """An encrypted archive under a passphrase of its own, or JSON or CSV that everybody can read."""
    form = Form(wanted.form)
    words = Passphrase(wanted.passphrase) if wanted.passphrase else None
    content = exported(device.diary, form, songs=OwnSongs(device.home.songs), passphrase=words)
    name = f'attachment; filename="feelinghealing.{form.value}"'
    return Response(content, media_type=MEDIA_TYPES[form], headers={"Content-Disposition": name})


@routes.post("/import/look", summary="What a file would bring in; nothing is kept", openapi_extra=RAW)
async def look(request: Request, device: ThisDevice, ending: Ending, words: Words = None) -> edge.DiaryImported:
    """As `/v1/import` reads it, of a diary that holds nothing yet."""
    found = await run_in_threadpool(_found, _file(request), ending, words, device)
    return edge.DiaryImported.of(found.account)


@routes.post("/import", summary="Take in a diary", openapi_extra=RAW)
async def take_in(request: Request, device: ThisDevice, ending: Ending, words: Words = None) -> edge.DiaryImported:
    """The body is the file: an export of this program, or a diary of another; what is here already is not kept twice."""
    return edge.DiaryImported.of(await run_in_threadpool(_taken_in, _file(request), ending, words, device))


@routes.delete("/import", summary="Take the last import back")
def undo(device: ThisDevice) -> edge.Forgotten:
    """Every entry that it brought in is forgotten for good."""
    return edge.Forgotten(forgotten=undo_import(device.diary))


def _taken_in(file: BinaryIO, ending: str, words: str | None, device: Device) -> Imported:
    done = _found(file, ending, words, device).kept_in(device.diary, OwnSongs(device.home.songs))
    if done.is_empty:
        raise Refusal(f"nothing of the file could be kept ({done.account()}); mend the places that are named and send it again")
    return done


def _found(file: BinaryIO, ending: str, words: str | None, device: Device) -> Found:
    """What the file holds. It lies in Home while it is read, for its owner only, and is overwritten then."""

    def passphrase() -> Passphrase:
        if not words:
            raise Refusal("the archive is encrypted; send its passphrase in the header `Archive-Passphrase`")
        return Passphrase(unquote(words))

    with tempfile.TemporaryDirectory(prefix=".arriving-", dir=device.home.root) as folder:
        path = Path(folder) / f"diary.{ending}"
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
                while piece := file.read(64 * 1024):
                    copy.write(piece)
            return _read(path, passphrase)
        finally:
            if path.exists():
                shred(path)


def _read(path: Path, passphrase: Callable[[], Passphrase]) -> Found:
    """What stands in the file; a refusal speaks of the file that was sent, and not of where it lay."""
    try:
        return look_into(path, passphrase=passphrase)
    except Refusal as refusal:
        raise Refusal(str(refusal).replace(f"'{path}'", "the file").replace(f"'{path.name}'", "the file")) from None


def _file(request: Request) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(IncomingFile(request.stream()), buffer_size=64 * 1024))
