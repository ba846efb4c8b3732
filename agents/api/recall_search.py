"""A search of memories: by vectors here, by words in PostgreSQL, or both fused.

Whatever finds a memory, what is told of it is what this process holds: a match of PostgreSQL's that
isn't here, or doesn't fit the filters here, is left out.
"""

import asyncio
import json
import logging
import time

import numpy as np

from agents.api.problems import Problem
from agents.api.projected import Positions
from agents.api.recall_desk import RETRY, RecallDesk
from agents.api.recall_models import TOP_K_MAX, SearchIn
from agents.recall.embedding import Vector
from agents.recall.entry import Filters, fits
from agents.recall.fusion import depth_of, fused
from agents.recall.memories import DimensionError, Memories
from agents.recall.shelf import Found
from agents.tables.memories import jsonb_text
from stores.errors import StoreDown
from stores.memory_keywords import NotKeptError, Which
from topics.partition import partition_of

logger = logging.getLogger(__name__)


async def searched(desk: RecallDesk, tenant: str, body: SearchIn) -> list[Found]:
    """The best `top_k`. `Problem` 422; 503 where words are asked for and PostgreSQL is away."""
    _checked(body)
    memories, filters = desk.of(tenant), body.asked()
    if body.mode == "vector":
        return await _by_vector(desk, memories, body, filters, body.top_k)
    if body.mode == "keywords":
        return (await _by_words(desk, tenant, memories, body, filters, body.top_k))[: body.top_k]
    deep = depth_of(body.top_k, TOP_K_MAX)
    alike, said = await asyncio.gather(
        _by_vector(desk, memories, body, filters, deep),
        _by_words(desk, tenant, memories, body, filters, deep),
    )
    known = {one.entry.id: one for one in (*said, *alike)}  # those alike have a similarity
    ranked = fused([one.entry.id for one in ranking] for ranking in (alike, said))
    return [
        Found(score, known[id_].similarity, known[id_].entry)
        for id_, score in ranked[: body.top_k]
    ]  # fmt: skip


def _checked(body: SearchIn) -> None:
    """`Problem` 422 for a question that its mode doesn't take."""
    if body.mode == "vector" and (body.text is None) == (body.vector is None):
        raise Problem(422, "Give a text or a vector, and not both.")
    if body.mode != "vector" and body.text is None:
        raise Problem(422, f"{body.mode} asks for a text.")
    if body.mode == "keywords" and (body.vector or body.model_revision is not None):
        raise Problem(422, "keywords compares no vectors: give a text alone.")


async def _by_vector(
    desk: RecallDesk, memories: Memories, body: SearchIn, filters: Filters, most: int
) -> list[Found]:
    now = time.time_ns() // 1000

    async def query() -> Vector | None:
        """Where it is to be waited for."""
        if body.vector is None and memories.asks_afar:
            return await desk.query_of(memories, body.text or "")
        return None

    def find(query: Vector | None) -> list[Found]:
        if query is not None:
            return memories.by_query(query, most, filters, now)
        if body.vector is not None:
            vector = np.array(body.vector, np.float64)
            return memories.by_vector(vector, most, filters, now, body.model_revision)
        return memories.by_text(body.text or "", most, filters, now)

    try:
        made = await query()
        return await desk.search(lambda: find(made))
    except DimensionError as error:
        at = "/text" if body.vector is None else "/vector"
        wrong = [{"at": at, "detail": str(error)}]
        raise Problem(422, "There is nothing to compare it with.", errors=wrong) from None


async def _by_words(
    desk: RecallDesk, tenant: str, memories: Memories, body: SearchIn, filters: Filters, most: int
) -> list[Found]:
    fields = jsonb_text(json.dumps(dict(filters.payload))) if filters.payload else None
    which = Which(
        filters.namespace, filters.memory_type, body.filters.since, body.filters.until, fields
    )
    try:
        matches = await desk.keywords.matches(tenant, body.text or "", most, which)
    except StoreDown as error:
        raise _away(error) from None
    held = [(one.score, memories.get(one.id)) for one in matches]
    return [
        Found(score, None, entry)
        for score, entry in held if entry is not None and fits(entry, filters)
    ]  # fmt: skip


async def until_projected(desk: RecallDesk, tenant: str, until: float) -> None:
    """Wait until PostgreSQL has as much of the tenant's partition as is known here now.

    `Problem` 504, 503.
    """
    replica = desk.replica
    partition = partition_of(tenant, max(1, len(replica.reached)))
    reached = replica.reached.get(partition, 0)

    def there(positions: Positions) -> bool:
        topic_id, offset = positions.get(partition, ("", 0))
        return offset >= reached and topic_id == replica.topic_id

    try:
        if not await desk.projected.until(there, until):
            raise Problem(504, "PostgreSQL hasn't the memory's words in time.", RETRY)
    except StoreDown as error:
        raise _away(error) from None


def _away(error: StoreDown) -> Problem:
    logger.warning("keyword search: %s", error)
    if isinstance(error, NotKeptError):
        detail = f"There is no keyword search: {error}. `soma projection rebuild memories` fills it"
        return Problem(503, f"{detail}, and SOMA_PROJECTIONS__MEMORIES keeps it.", RETRY)
    return Problem(
        503, "There is no keyword search: PostgreSQL isn't there. mode=vector is.", RETRY
    )
