"""Calls about memories and how they are linked."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Required, TypedDict, Unpack
from urllib.parse import quote

from soma_client.answers import Found, Memory, Neighbour, Remembered, Stats, Step, Vectors, take
from soma_client.call import Answer, Call, as_json, given, new_key

MemoryType = Literal["episodic", "semantic"]
Mode = Literal["vector", "keywords", "hybrid"]  # by likeness, by words, or both fused
Coordinate = str | Sequence[float]
_TIMES = dict.fromkeys(("created", "updated", "accessed"), datetime.fromisoformat)


class MemoryFields(TypedDict, total=False):
    """What can be said of a memory beside its payload."""

    namespace: str
    coordinate: Coordinate  # where it lies; without one it gets a place of its own
    memory_type: MemoryType
    importance: float  # of any scale
    embedding: Sequence[float]
    model_revision: str  # that made the embedding
    links: Mapping[str, str]  # memory id -> kind
    ts: datetime  # when it happened; default: now
    dedupe_key: str  # the tenant's name for this event; default: made up
    expected_version: int  # refused later unless the memory is at it


class NewMemory(MemoryFields, total=False):
    """One of many."""

    payload: Required[Mapping[str, Any]]


class Filters(TypedDict, total=False):
    """All must hold; only then the best are chosen. Times are of the last change."""

    namespace: str
    since: datetime
    until: datetime
    payload: Mapping[str, str | int | float | bool | None]  # fields that must equal these


class Wished(TypedDict, total=False):
    """What a question may want."""

    top_k: int
    mode: Mode  # "vector" unless told otherwise
    memory_type: MemoryType
    filters: Filters
    model_revision: str  # only vectors that this made
    wait_for: str  # id of a memory that was written: not before it is here
    version: int  # at least this one of it


def remember(payload: Mapping[str, Any], **fields: Unpack[MemoryFields]) -> Call[Remembered]:
    """Create a memory, or a new version of the one at the same coordinate.

    `fields`: see `MemoryFields`. Found a moment later; `search(…, wait_for=id)` waits for it.
    """
    key = fields.get("dedupe_key") or new_key()
    body = as_json({"payload": payload, **fields})
    return Call("POST", "/memories", _remembered, body=body, key=key)


def bulk(
    memories: Sequence[NewMemory], *, idempotency_key: str | None = None
) -> Call[tuple[Remembered, ...]]:
    """Remember many things: all are accepted, or none. At most 1,000."""

    def read(answer: Answer) -> tuple[Remembered, ...]:
        return tuple(take(Remembered, one) for one in answer.json()["memories"])

    key = idempotency_key or new_key()
    return Call("POST", "/memories/bulk", read, body=as_json(list(memories)), key=key)


def get(coordinate: str, *, namespace: str = "") -> Call[Memory]:
    """The memory that lies there, or has this id. `NotThere`."""
    where = f"/memories/{quote(coordinate)}"
    return Call("GET", where, lambda answer: take(Memory, answer.json(), **_TIMES), _in(namespace))


def forget(
    coordinate: str, *, namespace: str = "", idempotency_key: str | None = None
) -> Call[Remembered]:
    """Forget the memory there; accepted whether there is one or not."""
    where, key = f"/memories/{quote(coordinate)}", idempotency_key or new_key()
    return Call("DELETE", where, _remembered, _in(namespace), key=key)


def search(question: str | Sequence[float], **wished: Unpack[Wished]) -> Call[tuple[Found, ...]]:
    """The best for a text or a vector, by similarity × importance × age. `wished`: see `Wished`."""
    of = {"text": question} if isinstance(question, str) else {"vector": question}
    body: dict[str, Any] = {**of, **wished}
    id_, version = body.pop("wait_for", None), body.pop("version", 1)
    if id_ is not None:
        body["wait"] = {"id": id_, "version": version}

    def read(answer: Answer) -> tuple[Found, ...]:
        return tuple(take(Found, one, **_TIMES) for one in answer.json()["results"])

    return Call("POST", "/memories/search", read, body=as_json(body), asks=True)


def link(
    start: Coordinate, to: Coordinate, kind: str = "related", *, namespace: str = "",
    idempotency_key: str | None = None,
) -> Call[Remembered]:  # fmt: skip
    """Link one memory with another of the same tenant; an empty kind takes the link away."""
    body = as_json({"from": start, "to": to, "kind": kind, "namespace": namespace})
    return Call("POST", "/graph/link", _remembered, body=body, key=idempotency_key or new_key())


def neighbours(
    coordinate: str, *, kind: str | None = None, limit: int = 100
) -> Call[tuple[Neighbour, ...]]:
    """What a memory is linked with, in both directions."""

    def read(answer: Answer) -> tuple[Neighbour, ...]:
        return tuple(take(Neighbour, one) for one in answer.json()["neighbours"])

    query = given(coordinate=coordinate, kind=kind, limit=str(limit))
    return Call("GET", "/graph/neighbors", read, query)


def path(start: str, to: str, *, max_links: int | None = None) -> Call[tuple[Step, ...]]:
    """How one memory leads to another, by fewest links. `NotThere` where none does."""

    def read(answer: Answer) -> tuple[Step, ...]:
        return tuple(take(Step, one) for one in answer.json()["path"])

    links = None if max_links is None else str(max_links)
    query = {"from": start, "to": to, **given(max_links=links)}
    return Call("GET", "/graph/path", read, query)


def stats() -> Call[Stats]:
    """What the process that answers holds of the tenant."""

    def read(answer: Answer) -> Stats:
        value = answer.json()
        return take(Stats, value, vectors=lambda all_: tuple(take(Vectors, one) for one in all_))

    return Call("GET", "/stats", read)


def _remembered(answer: Answer) -> Remembered:
    return take(Remembered, answer.json())


def _in(namespace: str) -> dict[str, str]:
    return {"namespace": namespace} if namespace else {}
