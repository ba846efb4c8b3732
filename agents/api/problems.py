"""Errors as problem documents (RFC 9457): one shape for all, and nothing of our insides in it."""

import http
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stores.errors import StoreError
from stores.outbox import BadEvent, BadQuestion, Defect

MEDIA = "application/problem+json"
ERRORS_MAX = 20  # named in one answer
TEXT_MAX = 400  # characters of one of them

logger = logging.getLogger(__name__)


class Problem(HTTPException):
    """What is answered instead. `more` are members of the document beyond RFC 9457's own.

    `cause` is for the log alone, and has nothing in it that the caller sent.

    (An HTTPException, because FastAPI lets no other through while it reads a body.)
    """

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.more = more
        self.cause = ""


class Wrong(BaseModel):
    """One thing that is wrong in a request."""

    at: str = Field(description="JSON pointer into the body, or `query limit`, `header X-…`")
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457. `errors`, `conflicts` and others are there where they help."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Entity"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["The event doesn't fit the topic's schema."])
    request_id: str = Field(description="the X-Request-ID of this answer")
    errors: list[Wrong] | None = None


def answer(
    status: int,
    detail: str,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """The response that says so."""
    body = json.dumps(document(status, detail, request_id, more)).encode()
    return Response(body, status, headers=dict(headers or {}), media_type=MEDIA)


def document(
    status: int, detail: str, request_id: str, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A problem document."""
    return {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "request_id": request_id,
        **(more or {}),
    }


def wrong(items: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """`errors` of a document: (where, what) pairs, shortened, not too many."""
    listed = [{"at": at[:TEXT_MAX], "detail": text[:TEXT_MAX]} for at, text in items]
    more = len(listed) - ERRORS_MAX
    tail = [{"at": "", "detail": f"and {more} more"}] if more > 0 else []
    return listed[:ERRORS_MAX] + tail


def invalid(errors: Iterable[Mapping[str, Any]]) -> Problem:
    """422 for what pydantic found."""
    items = wrong((_place(one["loc"]), str(one["msg"])) for one in errors)
    return Problem(422, "The request isn't as this route wants it.", errors=items)


def request_id_of(request: Request) -> str:
    """What the middleware gave this request."""
    return str(request.scope.get("soma.request_id", ""))


def install(app: FastAPI) -> None:
    """All errors of the app become documents."""
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StoreError, _store)
    app.add_exception_handler(Exception, _unexpected)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    more = error.more if isinstance(error, Problem) else {}
    if isinstance(error, Problem) and error.cause:
        request.scope["soma.cause"] = error.cause
    detail = str(error.detail)
    if error.status_code == 404 and not isinstance(error, Problem):
        detail = "There is nothing at this path."
    elif error.status_code == 405:
        detail = "This path doesn't take that method."
    return answer(error.status_code, detail, request_id_of(request), error.headers, more)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _http(request, invalid(error.errors()))


async def _store(request: Request, error: Exception) -> Response:
    if isinstance(error, BadQuestion | BadEvent):
        return answer(422, str(error), request_id_of(request))
    if isinstance(error, Defect):
        logger.error("%s", error, exc_info=error, extra={"request_id": request_id_of(request)})
        return await _unexpected(request, error)
    logger.warning("The outbox doesn't answer: %s", error)
    away = "The outbox doesn't answer just now."
    return answer(503, away, request_id_of(request), {"Retry-After": "2"})


async def _unexpected(request: Request, error: Exception) -> Response:
    return answer(500, "Something went wrong here.", request_id_of(request))


def _place(loc: tuple[int | str, ...]) -> str:
    """('body', 'batch', 3, 'payload') → /3/payload; ('query', 'limit') → query limit."""
    if not loc or loc[0] != "body":
        return " ".join(map(str, loc))
    inside = [str(part) for part in loc[1:] if part not in ("event", "batch")]
    escaped = [part.replace("~", "~0").replace("/", "~1") for part in inside]
    return "".join(f"/{part}" for part in escaped)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these statuses, and for those that every route may answer."""
    return {
        status: {
            "model": ProblemDocument,
            "description": WHEN[status],
            "content": {MEDIA: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in sorted({*statuses, *ALWAYS})
    }


WHEN = {
    400: "The body isn't JSON, or not as we take it (duplicate names, NaN, too deep); or a header "
    "is given twice.",
    401: "No bearer token, or one that isn't valid (expired, unsigned, of another issuer).",
    403: "The token doesn't cover this tenant, or lacks the role. "
    "The same whether the tenant exists or not. Or the policy denies it: `detail` says why.",
    404: "No such thing.",
    405: "The path doesn't take this method.",
    408: "The body didn't come in time.",
    409: "The idempotency key was used for something else; `conflicts` has the first one's id "
    "(null while it is in the journal), or its place in this batch (`first`). Of a matrix: it is "
    "at another version (`current`), or see `result`. Or somebody else is "
    "at the same dead letters: see Retry-After. Or the tenant's sleep can't be changed so: see "
    "`detail`.",
    413: "Too large.",
    415: "The body must be application/json (a matrix may be octets), not compressed.",
    422: "Well-formed, but not acceptable; `errors` names each thing.",
    429: "Too many for this tenant, of events (each full 4 kB of a body counts as one more) or of "
    "requests under way (it may have a quarter of all): see Retry-After.",
    500: "A defect of ours.",
    503: "Not now: see Retry-After. With an Idempotency-Key a repetition is safe.",
    504: "No answer in time. With an Idempotency-Key a repetition is safe.",
}
ALWAYS = (400, 401, 403, 405, 422, 429, 500, 503, 504)
