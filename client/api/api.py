"""API: one person's device over HTTP. Here the parts are put together; the routes stand by theme in the modules beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from client.api import edge, entry_routes, insight_routes, music_routes, privacy_routes, reading_routes, transfer_routes
from client.api.access import FILE, Access
from client.api.device import Device
from client.api.guard import Guard, Rules
from client.api.metrics import Measured, Metrics
from client.api.problems import MEDIA_TYPE, Problem
from client.api.reference import reference
from client.diary.diary import NoCorrection, NoEntry
from client.home import Home
from client.music.jukebox import Jukebox, NoSuchPlaylist, NoSuchSong
from client.music.playlist import Song
from client.music.taste import NoSuchLike
from client.reading.reader import EmotionReader
from client.web.page import page_routes, sorry_page, wants_page
from model.refusal import Damaged, Refusal

ABOUT = (
    "Read emotions from Korean diary text, keep the diary, and recommend music, all on this device. "
    "Every address but `/v1/health`, this reference (`/docs`, `/openapi.json`) and the page's own files (`/static/`) needs the bearer "
    "token that `healing client token` prints, or the page's login."
)
THEMES = (reading_routes, entry_routes, music_routes, insight_routes, privacy_routes, transfer_routes)
REFUSALS: dict[type[Refusal], str] = {
    NoEntry: "not-found",
    NoSuchSong: "not-found",
    NoSuchPlaylist: "not-found",
    NoSuchLike: "conflict",
    NoCorrection: "conflict",
    Damaged: "not-ready",
}
"""Which kind of problem a refusal is, or one of a class below it; any other is ``invalid``: what was asked breaks a rule."""


def create_app(
    home: Home, *, reader: EmotionReader, songs: Sequence[Song], token: str | None = None, rules: Rules | None = None
) -> FastAPI:
    """The API and page of one Home.

    ``token`` stands in for the bearer token that Home keeps; ``rules`` say under which names it answers, and its limits.
    """
    diary, metrics = home.diary, Metrics()
    access = Access(home.root / FILE, token=token)
    app = FastAPI(title="FeelingHealing", version="1", description=ABOUT, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.device = Device(home=home, diary=diary, reader=reader, jukebox=Jukebox(diary, songs, home.songs), metrics=metrics)
    if reader.serving:
        metrics.reads_with(reader.serving.version)
    for theme in THEMES:
        app.include_router(theme.routes, responses=_PROBLEMS, dependencies=[Depends(_BEARER), Depends(_known_names)])
    app.include_router(reading_routes.open_routes, responses=_PROBLEMS)
    app.include_router(page_routes())
    app.add_api_route("/docs", _docs, include_in_schema=False, response_class=HTMLResponse)
    for error, answer in ((Problem, _problem), (Refusal, _refused), (RequestValidationError, _invalid), (HTTPException, _no_route)):
        app.exception_handler(error)(answer)
    app.add_middleware(Guard, access=access, rules=rules or Rules())
    app.add_middleware(Measured, metrics=metrics)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


_BEARER = HTTPBearer(auto_error=False, description="what `healing client token` prints")
"""Only said in the OpenAPI document: the guard asks for it before any route is reached."""

_PROBLEM: dict[str, Any] = {
    "description": "a problem document (RFC 9457)",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": _PROBLEM, "5XX": _PROBLEM}


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the problem's schema, which no route names as its answer."""
    if not app.openapi_schema:
        forms = FastAPI.openapi(app)["components"]["schemas"]
        problem = edge.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        forms |= problem.pop("$defs") | {"Problem": problem}
        for name in forms:  # FastAPI leaves what is null out of them
            forms[name] |= {"examples": examples} if (examples := _examples(name)) else {}
    return dict(app.openapi_schema or {})


def _examples(form: str) -> list[dict[str, Any]]:
    extra = getattr(edge, form).model_config.get("json_schema_extra", {})
    return extra.get("examples", []) if isinstance(extra, dict) else []


async def _known_names(request: Request) -> None:  # not async, it would cost every request a thread
    """A name in the query that the address does not know is a slip of the pen, and would change nothing in silence."""
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    if set(request.query_params) - known:
        errors = [{"at": "query", "rule": f"holds a name that is none of: {', '.join(sorted(known)) or 'none at all'}"}]
        raise Problem("invalid", "the address ends in a name that is not known there", errors=errors)


def _docs(request: Request) -> HTMLResponse:
    return HTMLResponse(reference(request.app.openapi()))


def _problem(request: Request, problem: Problem) -> Response:
    return problem.response()


def _refused(request: Request, refusal: Refusal) -> Response:
    kinds = (kind for refused, kind in REFUSALS.items() if isinstance(refusal, refused))
    return Problem.of(refusal, next(kinds, "invalid")).response()


def _invalid(request: Request, error: RequestValidationError) -> Response:
    """Which places break which rules; never what was written there."""
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return Problem("unreadable", "the body is no JSON document").response()
    return Problem("invalid", "some values break the rules of this address", errors=map(_broken_rule, error.errors())).response()


def _broken_rule(error: dict[str, Any]) -> dict[str, str]:
    place = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden":  # the unknown name was made up by whoever sent it
        return {"at": ".".join(place[:-1]), "rule": "holds a field that is not known here"}
    return {"at": ".".join(place), "rule": error["msg"].removeprefix("Value error, ")}


def _no_route(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        return Problem("wrong-method", "this address does not take that method", headers=dict(error.headers or {})).response()
    if error.status_code == 404 and wants_page(request.scope):
        return sorry_page(request.headers, 404)
    if error.status_code == 404:
        return Problem("not-found", "there is nothing at this address").response()
    return Problem("unreadable", "the body cannot be read as JSON").response()
