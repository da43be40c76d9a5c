"""Routes of the page: five rooms rendered from templates, and the few files they load; nothing comes from elsewhere.

What a browser gets from here holds no diary text and no token: the scripts ask the API for that, on the same origin, with
the cookie that the login has set. Both languages stand in one file, ``words.json``; the names and colours of the emotions
come from :mod:`model.emotions`.

The charts are SVG drawn by a small script of ours. Plotly's packaged script (4.8 MB) was tried under the policy that
:mod:`client.api.guard` puts on every answer: Chromium refused 66 of its style rules, and its legend and tools then lay outside
the figure; to let it run, the policy would have to allow inline styles. All that the page loads is 2 % of that script.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from model.emotions import EMOTIONS

ROOMS = {"/": "today", "/diary": "diary", "/insights": "insights", "/music": "music", "/privacy": "privacy"}
LANGUAGES = ("ko", "en")
LANGUAGE_COOKIE = "language"
SORRY = {401: "login", 403: "login", 404: "missing"}
"""Which kind word goes with which status; any other is ``broken``."""

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".json": "application/json"}


@dataclass(frozen=True)
class Asset:
    """One file that the page loads."""

    content: bytes
    media_type: str


def page_routes() -> APIRouter:
    """GET of the five rooms and of ``/static/*``; what they show comes from the API."""
    routes = APIRouter(include_in_schema=False)
    for path, room in ROOMS.items():
        routes.add_api_route(path, _room(room), methods=["GET"], response_class=HTMLResponse)
    routes.add_api_route("/static/{name}", static, methods=["GET"])
    return routes


def sorry_page(headers: Headers, status: int) -> HTMLResponse:
    """A kind page for a browser that may not, or cannot, see what it asked for with these headers."""
    page = _rendered("sorry", _language(headers), status=status, reason=SORRY.get(status, "broken"))
    if status == 401:
        page.headers["WWW-Authenticate"] = 'Bearer realm="healing"'
    return page


def wants_page(scope: Scope) -> bool:
    """Whether a person's browser asks for a page, and not a program for data."""
    return scope["method"] == "GET" and not scope["path"].startswith("/v1/") and "text/html" in Headers(scope=scope).get("accept", "")


def static(request: Request, name: str) -> Response:
    """One of the page's own files; the list is closed, so no path leads out of it."""
    asset = assets().get(name)
    if asset is None:
        return sorry_page(request.headers, 404)
    return Response(asset.content, media_type=asset.media_type, headers={"Cache-Control": "no-cache"})


@lru_cache(maxsize=1)
def assets() -> dict[str, Asset]:
    """Every file under ``/static``, with the dictionary and the emotions' colours among them."""
    files = {file.name: file.read_bytes() for file in _package("static").iterdir() if file.is_file()}
    files["words.json"] = json.dumps(words(), ensure_ascii=False).encode()
    files["emotions.css"] = _colours().encode()
    return {name: Asset(content, _TYPES[f".{name.rpartition('.')[2]}"]) for name, content in files.items()}


@lru_cache(maxsize=1)
def words() -> dict[str, list[str]]:
    """What the page says, by key: Korean, English."""
    said: dict[str, list[str]] = json.loads(_package("words.json").read_text(encoding="utf-8"))
    return said | {f"emotion.{emotion.en}": [emotion.ko, emotion.en] for emotion in EMOTIONS}


def _room(room: str) -> Callable[[Request], HTMLResponse]:
    def show(request: Request) -> HTMLResponse:
        return _rendered(room, _language(request.headers))

    return show


def _language(headers: Headers) -> str:
    """The one that the toggle has set; Korean before that."""
    asked = cookie_parser(headers.get("cookie", "")).get(LANGUAGE_COOKIE, "")
    return asked if asked in LANGUAGES else LANGUAGES[0]


def _rendered(template: str, language: str, *, status: int = 200, reason: str = "") -> HTMLResponse:
    said = {key: both[LANGUAGES.index(language)] for key, both in words().items()}
    content = _templates().get_template(f"{template}.html").render(room=template, language=language, reason=reason, **_speech(said))
    return HTMLResponse(content, status_code=status, headers={"Content-Language": language, "Cache-Control": "no-store"})


def _speech(said: dict[str, str]) -> dict[str, Callable[..., str]]:
    """Three ways for a template to say a word; each names its key, so that the toggle changes it in place and a draft is not lost."""

    def say(key: str) -> Markup:
        return Markup('<span data-w="{}">{}</span>').format(key, said[key])

    def attribute(name: str, key: str) -> Markup:
        return Markup('{}="{}" data-w-{}="{}"').format(name, said[key], name, key)

    return {"word": said.__getitem__, "say": say, "attribute": attribute, "label": partial(attribute, "aria-label")}


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _template(name: str) -> str:
    return (_package("templates") / name).read_text(encoding="utf-8")


def _colours() -> str:
    colours = "".join(f"--{emotion.en}: {emotion.colour}; " for emotion in EMOTIONS)
    own = "".join(f'[data-emotion="{emotion.en}"] {{ --mood: var(--{emotion.en}); }}\n' for emotion in EMOTIONS)
    return f":root {{ {colours}}}\n{own}"


def _package(name: str) -> Traversable:
    return resources.files("client.web") / name
