"""Problems: what the API answers when it does not do as asked (RFC 9457).

Every one names what was wrong, and as ``next`` what to do. None quotes what was sent: a diary's text may stand in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

from model.refusal import Refusal

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """One kind of problem: its status, its title, and the next move if there is no better one."""

    status: int
    title: str
    next: str


KINDS: Mapping[str, Kind] = {
    "unreadable": Kind(400, "The request cannot be read", "send JSON in UTF-8 of the form that /docs shows"),
    "no-token": Kind(401, "Not logged in", "send `Authorization: Bearer TOKEN`; `healing client token` prints the token"),
    "cross-site": Kind(403, "Another site may not ask", "open the page by the address that `healing client serve` printed"),
    "not-found": Kind(404, "There is no such thing", "look it up first; /docs lists every address"),
    "wrong-method": Kind(405, "This address takes other methods", "use one of the methods that the `Allow` header names"),
    "too-slow": Kind(408, "The request took too long to arrive", "send it again, without pauses"),
    "conflict": Kind(409, "Not possible as things stand", "look at the present state, then decide again"),
    "too-large": Kind(413, "The request is too large", "send less at once; only imports may be longer than 1 MB"),
    "not-json": Kind(415, "Another content type is expected", "send `Content-Type: application/json`"),
    "wrong-host": Kind(421, "Asked under a foreign name", "use the address that `healing client serve` printed"),
    "invalid": Kind(422, "The request breaks a rule", "mend the places listed under `errors` and send it again"),
    "failed": Kind(500, "The device failed", "try again; if it stays so, report the time and the address, never the text"),
    "not-ready": Kind(503, "The device cannot do this now", "try again in a moment"),
}


class Problem(Exception):
    """One problem document, raised where it is found."""

    def __init__(
        self, kind: str, detail: str, *, next: str = "", errors: Iterable[Mapping[str, str]] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail
        self.next = next or KINDS[kind].next
        self.errors = [dict(error) for error in errors]
        self.headers = dict(headers or {}) | ({"WWW-Authenticate": 'Bearer realm="healing"'} if kind == "no-token" else {})

    @classmethod
    def of(cls, refusal: Refusal, kind: str) -> Problem:
        """A refusal's one sentence, parted where its next move begins."""
        detail, _, following = str(refusal).partition("; ")
        return cls(kind, detail, next=following)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.kind].status

    def document(self) -> dict[str, Any]:
        """What is sent."""
        kind = KINDS[self.kind]
        content: dict[str, Any] = {
            "type": f"/docs#{self.kind}",
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "next": self.next,
        }
        return content | ({"errors": self.errors} if self.errors else {})

    def response(self) -> JSONResponse:
        """The answer that carries the document."""
        return JSONResponse(self.document(), status_code=self.status, media_type=MEDIA_TYPE, headers=self.headers)
