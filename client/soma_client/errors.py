"""What can go wrong, as exceptions. Each `ApiError` carries the problem document of the answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class SomaError(Exception):
    """Of this package."""


class NotReached(SomaError):
    """No answer came. What was sent may or may not have been done: the key makes it repeatable."""


class DeadlineExceeded(NotReached):
    """The call's time is over; its `__cause__` is what stood in the way last."""


class BadAnswer(SomaError):
    """What answered isn't this API, or one of another version."""


class CantSend(SomaError):
    """What was given can't be a request; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong in a request."""

    at: str  # JSON pointer into the body, or `query limit`, `header X-…`
    detail: str


@dataclass(eq=False)
class ApiError(SomaError):
    """The API's own no (RFC 9457). `document` is all of it, members of one status too."""

    status: int
    title: str
    detail: str
    request_id: str
    errors: tuple[Wrong, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        wrong = "".join(f"; {one.at} {one.detail}" for one in self.errors)
        return f"{self.status} {self.title}: {self.detail}{wrong} (request {self.request_id})"


class BadRequest(ApiError):
    """400, 405, 408, 413, 415, 422: `errors` names each thing."""


class NotAllowed(ApiError):
    """401 or 403: the token isn't valid, or doesn't cover this tenant, or the policy denies it."""


class NotThere(ApiError):
    """404; the same for what is another tenant's."""


class Conflict(ApiError):
    """409: the key was used for something else, or the version isn't the expected one."""

    @property
    def current(self) -> int | None:
        """The version that a matrix is at."""
        found: int | None = self.document.get("current")
        return found


class TooMany(ApiError):
    """429: more than the tenant's rate."""


class Unavailable(ApiError):
    """502, 503, 504: not now."""


class Broken(ApiError):
    """500: a defect of the API."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: NotAllowed, 403: NotAllowed, 404: NotThere, 409: Conflict, 429: TooMany,
    502: Unavailable, 503: Unavailable, 504: Unavailable,
}  # fmt: skip
_OURS = 500  # from here on it isn't the caller's fault


def error_of(status: int, document: Any, request_id: str) -> ApiError:
    """The exception of an answer; also of one that is no problem document (a proxy's, say)."""
    given: Mapping[str, Any] = document if isinstance(document, dict) else {}
    kind = _BY_STATUS.get(status, Broken if status >= _OURS else BadRequest)
    wrong = given.get("errors")
    return kind(
        status=status,
        title=str(given.get("title", "no problem document")),
        detail=str(given.get("detail", "")),
        request_id=str(given.get("request_id", request_id)),
        errors=tuple(
            Wrong(str(one.get("at", "")), str(one.get("detail", "")))
            for one in (wrong if isinstance(wrong, list) else ())
            if isinstance(one, dict)
        ),
        document=given,
    )
