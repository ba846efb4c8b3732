"""One call of the API, before it is sent and after it was answered; nothing here does I/O."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from soma_client.errors import BadAnswer, CantSend

T = TypeVar("T")
JSON = "application/json"
OCTETS = "application/octet-stream"
SAFE = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Its JSON value. `BadAnswer` if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise BadAnswer(f"{self.status} without JSON: is it the API?") from None


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, and how its answer is read. `key` is its Idempotency-Key."""

    method: str
    path: str
    read: Callable[[Answer], T]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    media: str = JSON
    accept: str = JSON
    key: str | None = None
    asks: bool = False  # changes nothing, though it is a POST

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no more than once."""
        return self.asks or self.method in SAFE or self.key is not None


def as_json(value: Any) -> bytes:
    """A body. `CantSend` for what JSON hasn't."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise CantSend(f"not JSON: {error}") from None


def new_key() -> str:
    """An Idempotency-Key that nobody has used."""
    return uuid.uuid4().hex


def given(**fields: Any) -> dict[str, Any]:
    """Those that aren't None: the API knows its own defaults."""
    return {name: value for name, value in fields.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise CantSend(f"{value} has no time zone")
        return value.isoformat()
    tolist = getattr(value, "tolist", None)  # arrays of NumPy and others
    if callable(tolist):
        return tolist()
    raise TypeError(f"a {type(value).__name__}")
