"""POST /memories/search, GET /memories/{coordinate}, /graph, /stats: from this process' replica of
memory.latest. A coordinate of another tenant is answered as one that nobody has.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from agents.api.bodies import StrictRequest, StrictRoute
from agents.api.callers import Caller, tenant_of
from agents.api.dependencies import ResourcesDep, TenantHeader, caller_of
from agents.api.memories import NAMESPACE_MAX, Plain, place_of
from agents.api.memory_writes import KIND_MAX
from agents.api.problems import Problem, documented
from agents.api.recall_desk import RecallDesk
from agents.api.recall_models import (
    MemoryOut,
    NeighbourOut,
    NeighboursOut,
    PathOut,
    SearchIn,
    SearchOut,
    ShelfOut,
    StatsOut,
    Step,
    WaitIn,
    found_out,
    memory_fields,
)
from agents.api.recall_search import searched, until_projected
from agents.coordinates import memory_id
from agents.recall.entry import Entry
from agents.recall.memories import DEPTH_MAX, Memories

NEIGHBOURS_MAX = 1000

router = APIRouter(route_class=StrictRoute, tags=["memories"])
Coordinate = Annotated[str, Query(max_length=2048, description="where the memory lies, or its id")]
Reader = Annotated[Caller, Depends(caller_of)]


def desk_of(request: Request) -> RecallDesk:
    """The replica. `Problem` 503 where this process has none."""
    desk: RecallDesk | None = request.app.state.recall
    if desk is None:
        raise Problem(503, "This process holds no memories: `soma recall` does.")
    return desk


class Asking:
    """A tenant's memories, for who may read them."""

    def __init__(
        self, request: Request, resources: ResourcesDep, caller: Reader, tenant: TenantHeader = None
    ) -> None:
        caller.must_have("read")
        self.desk = desk_of(request)
        self._resources, self._caller, self._header = resources, caller, tenant

    def of(self, namespace: str = "") -> tuple[str, Memories]:
        """The tenant and what it remembers. `Problem` 403, 429, 503."""
        whose = self._caller.must_cover(tenant_of(self._header, namespace))
        self._resources.take(whose)
        return whose, self.desk.of(whose)


ToAsk = Annotated[Asking, Depends()]


@router.post(
    "/memories/search", response_model=SearchOut,
    responses=documented(400, 408, 413, 415),
    summary="Find what is like a text or a vector, or has its words",
)  # fmt: skip
async def search(request: StrictRequest, asking: ToAsk, body: SearchIn) -> dict[str, Any]:
    """The best `top_k` among those that fit the filters: by the score's law, exactly; by words, by
    PostgreSQL's full text; or by both. While PostgreSQL is away the latter are a 503.
    """
    whose, _ = asking.of(body.filters.namespace or "")
    if body.wait is not None:
        await _waited(asking.desk, whose, body.wait, body.mode != "vector")
    return {"tenant": whose, "results": found_out(await searched(asking.desk, whose, body))}


@router.get(
    "/memories/{coordinate:path}", response_model=MemoryOut, responses=documented(404),
    summary="Show a memory",
)  # fmt: skip
async def get(
    asking: ToAsk,
    coordinate: Annotated[str, Path(description="where it lies, or its id")],
    namespace: Annotated[str, Query(max_length=NAMESPACE_MAX, pattern=Plain)] = "",
) -> dict[str, Any]:
    """As it is known here. What was written a moment ago may not be: a search can wait for it."""
    whose, memories = asking.of(namespace)
    return memory_fields(_found(memories, whose, coordinate, "path"))


@router.get(
    "/graph/neighbors", response_model=NeighboursOut, responses=documented(404), tags=["graph"],
    summary="What a memory is linked with",
)  # fmt: skip
async def neighbours(
    asking: ToAsk,
    coordinate: Coordinate,
    kind: Annotated[str | None, Query(max_length=KIND_MAX, pattern=Plain)] = None,
    limit: Annotated[int, Query(ge=1, le=NEIGHBOURS_MAX)] = 100,
) -> NeighboursOut:
    """In both directions."""
    whose, memories = asking.of()
    entry = _found(memories, whose, coordinate, "query coordinate")
    found = []
    for one in memories.neighbours(entry.id, kind, limit):
        other = memories.get(one.id)
        if other is not None:  # unless it went meanwhile
            found.append(
                NeighbourOut(
                    id=one.id, coordinate=other.coordinate, kind=one.kind,
                    direction="out" if one.out else "in",
                )
            )  # fmt: skip
    return NeighboursOut(tenant=whose, id=entry.id, neighbours=found)


@router.get(
    "/graph/path", response_model=PathOut, responses=documented(404), tags=["graph"],
    summary="How one memory leads to another",
)  # fmt: skip
async def path(
    asking: ToAsk,
    from_: Annotated[Coordinate, Query(alias="from")],
    to: Coordinate,
    max_links: Annotated[int, Query(ge=1, le=DEPTH_MAX)] = DEPTH_MAX,
) -> PathOut:
    """404 where none of so many links does."""
    whose, memories = asking.of()
    start, end = (
        _found(memories, whose, one, f"query {name}").id
        for one, name in ((from_, "from"), (to, "to"))
    )
    ids = await asking.desk.search(lambda: memories.path(start, end, max_links))
    if ids is None:
        raise Problem(404, f"No path of {max_links} links at most leads there.")
    steps = [one for one in map(memories.get, ids) if one is not None]
    return PathOut(tenant=whose, path=[Step(id=one.id, coordinate=one.coordinate) for one in steps])


@router.get("/stats", response_model=StatsOut, responses=documented(), summary="What is held here")
async def stats(asking: ToAsk) -> StatsOut:
    """Of a tenant, and how far this process has read."""
    whose, memories = asking.of()
    replica = asking.desk.replica
    shelves = [
        ShelfOut(
            dimension=one.dimension, model_revision=one.revision, memories=len(one),
            bytes=one.nbytes,
        )
        for one in memories.shelves
    ]  # fmt: skip
    return StatsOut(
        tenant=whose, memories=len(memories), vectors=shelves,
        without_vector=len(memories) - sum(one.memories for one in shelves),
        unusable_vectors=memories.unusable, bits=memories.holding.bits, ready=not replica.why,
        why=replica.why, began=replica.began, lag_records=sum(replica.lag().values()),
    )  # fmt: skip


async def _waited(desk: RecallDesk, tenant: str, wait: WaitIn, words: bool) -> None:
    """`words`: in PostgreSQL, too. `Problem` 504, 503, 422."""
    if (wait.offset is None) == (wait.id is None):
        raise Problem(422, "Wait for an offset or for an id, and not both.")
    until = desk.deadline(wait.timeout_s)
    if wait.offset is not None:
        await desk.until_event(tenant, wait.offset, until)
    elif wait.id is not None:
        await desk.until_version(tenant, wait.id, wait.version, until)
    if words:
        await until_projected(desk, tenant, until)


def _found(memories: Memories, tenant: str, coordinate: str, at: str) -> Entry:
    """The memory there. `Problem` 422; 404, in the same words for all that isn't there."""
    place = place_of(coordinate, at)
    entry = memories.get(memory_id(tenant, place)) or memories.get(coordinate)
    if entry is None:
        raise Problem(404, "There is no such memory.")
    return entry
