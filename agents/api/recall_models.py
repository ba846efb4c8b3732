"""What is asked of recall, and what it answers."""

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from agents.api.body_models import BodyModel, Time, at_most, short_of
from agents.api.memories import DIMENSION_MAX, EPOCH, NAMESPACE_MAX, Float32, Plain, micros
from agents.recall.entry import Entry, Filters
from agents.recall.shelf import Found

TOP_K_MAX = 1000
TEXT_BYTES_MAX = 32_768  # of a question
FIELDS_MAX = 8  # of payloads that a question filters by
VALUE_MAX = 1024
ANSWER_BYTES_MAX = 4 << 20  # of payloads in one answer

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=Plain)]
Value = Annotated[str, Field(max_length=VALUE_MAX)] | bool | int | float | None


class WaitIn(BodyModel):
    """Read one's own write: wait until it is here. Give `offset`, or `id`."""

    offset: Annotated[int, Field(ge=0, le=2**62)] | None = Field(
        None, description="of an event in the tenant's partition of memory.events"
    )
    id: Name | None = Field(None, description="of a memory, as the answer to a write has it")
    version: int = Field(1, ge=1, le=2**62, description="that the memory is to be at, or later")
    timeout_s: Annotated[float, Field(ge=0, le=60)] | None = Field(
        None, description="How long; at most as long as a request may take."
    )


class FiltersIn(BodyModel):
    """All of them must hold; only then the best are chosen. Times are of the last change."""

    namespace: str | None = Field(None, max_length=NAMESPACE_MAX, pattern=Plain)
    since: Time | None = None
    until: Time | None = Field(None, description="before this")
    payload: Annotated[dict[Name, Value], at_most(FIELDS_MAX)] = Field(
        {}, max_length=FIELDS_MAX, description="Fields of the payload and what they must equal."
    )


class SearchIn(BodyModel):
    """A question: a text or a vector; both for `hybrid`, where a vector stands for the text's."""

    mode: Literal["vector", "keywords", "hybrid"] = Field(
        "vector",
        description="`vector`: what is alike, exactly. `keywords`: what has words of the text, "
        "rare ones first, by PostgreSQL's full text (English stems; a moment later than the "
        "others). `hybrid`: both, fused by reciprocal rank.",
    )
    text: Annotated[str, Field(min_length=1), short_of(TEXT_BYTES_MAX)] | None = Field(
        None, description="Compared with memories that came without a vector of their own."
    )
    vector: list[Float32] | None = Field(None, min_length=1, max_length=DIMENSION_MAX)
    model_revision: str | None = Field(
        None, max_length=200, pattern=Plain, description="Only vectors that this made."
    )
    top_k: int = Field(10, ge=1, le=TOP_K_MAX)
    memory_type: Literal["episodic", "semantic"] | None = None
    filters: FiltersIn = Field(default_factory=FiltersIn)
    wait: WaitIn | None = None

    def asked(self) -> Filters:
        """The filters, times in microseconds."""
        own = self.filters
        return Filters(
            own.namespace, self.memory_type,
            None if own.since is None else micros(own.since),
            None if own.until is None else micros(own.until), own.payload,
        )  # fmt: skip


class MemoryOut(BaseModel):
    """A memory as it is here now."""

    id: str
    coordinate: str
    namespace: str
    memory_type: str
    version: int
    payload: Any = Field(description="null where `payload_left_out`: the answer was too long")
    payload_left_out: bool = False
    importance: float | None = Field(description="as it was said, of any scale")
    links: dict[str, str]
    model_revision: str
    created: str
    updated: str
    accessed: str
    access_count: int


class FoundOut(MemoryOut):
    """A memory that answers a question."""

    score: float = Field(
        description="similarity * importance^alpha * 2^(-age / half-life); of `keywords` the sum "
        "of the words' weights, of `hybrid` that of 1 / (60 + rank)"
    )
    similarity: float | None = Field(
        description="the cosine, 0 where that is below; null: it was found by its words alone"
    )


class SearchOut(BaseModel):
    """The best, by score and then by id; fewer than asked for where others have nothing to do with
    the question: a score of 0.
    """

    tenant: str
    results: list[FoundOut]


class NeighbourOut(BaseModel):
    """Another memory, and the link to it or from it."""

    id: str
    coordinate: str
    kind: str
    direction: Literal["out", "in"]


class NeighboursOut(BaseModel):
    """By kind, then by id."""

    tenant: str
    id: str
    neighbours: list[NeighbourOut]


class Step(BaseModel):
    """A memory on a path."""

    id: str
    coordinate: str


class PathOut(BaseModel):
    """A shortest one along links, in their direction."""

    tenant: str
    path: list[Step]


class ShelfOut(BaseModel):
    """Vectors of one kind."""

    dimension: int
    model_revision: str
    memories: int
    bytes: int


class StatsOut(BaseModel):
    """What this process holds of a tenant, and how far it has read."""

    tenant: str
    memories: int
    vectors: list[ShelfOut]
    without_vector: int
    unusable_vectors: int
    bits: int
    ready: bool
    why: str = Field(description="not ready; empty if it is")
    began: str = Field(description="from which snapshot, or why from the log")
    lag_records: int


def found_out(found: Iterable[Found]) -> list[FoundOut]:
    """Answers; payloads as long as they fit."""
    left = ANSWER_BYTES_MAX
    told: list[FoundOut] = []
    for one in found:
        left -= len(one.entry.payload)
        shown = memory_fields(one.entry, left >= 0 or not told)
        told.append(FoundOut(**shown, score=one.score, similarity=one.similarity))
    return told


def memory_fields(entry: Entry, payload: bool = True) -> dict[str, Any]:
    """The fields of a `MemoryOut`."""
    return {
        "id": entry.id, "coordinate": entry.coordinate, "namespace": entry.namespace,
        "memory_type": entry.memory_type, "version": entry.version,
        "payload": json.loads(entry.payload) if payload else None,
        "payload_left_out": not payload, "importance": entry.importance_raw,
        "links": entry.links, "model_revision": entry.model_revision,
        "created": _iso(entry.created_ts), "updated": _iso(entry.updated_ts),
        "accessed": _iso(entry.accessed_ts), "access_count": entry.access_count,
    }  # fmt: skip


def _iso(us: int) -> str:
    return (EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
