"""Orders to forget memories: what an order means, and whether it may be carried out."""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from agents.memory import retention
from agents.memory.state import Memory, is_memory

MALFORMED, GUARD, KNOWN = "malformed", "guard", "known"
IDS_MAX = 10_000  # memories that one order names
ORDER_ID_MAX = 128  # characters
SHOWN_IDS = 100  # of those in the answer
PERCENT = 100


class Found(NamedTuple):
    """The memories that an order means, and how many of those named aren't there."""

    ids: list[str]
    missing: int

    def detail(self, memories: int) -> str:
        """What is said of it: a JSON object."""
        return json.dumps({
            "found": len(self.ids), "missing": self.missing, "memories": memories,
            "ids": self.ids[:SHOWN_IDS],
        })  # fmt: skip


def malformed(order: Any) -> str:
    """Why an order can't be one; empty: it can."""
    if not 1 <= len(order.order_id) <= ORDER_ID_MAX:
        return f"order_id: from 1 to {ORDER_ID_MAX} characters"
    if not 0 <= order.lowest <= IDS_MAX:
        return f"lowest: from 0 to {IDS_MAX}"
    if len(order.ids) + order.lowest > IDS_MAX:
        return f"at most {IDS_MAX} memories, in ids and lowest together"
    return "" if order.ids or order.lowest else "it names no memory: ids or lowest"


def find(
    order: Any,
    known: Callable[[str], Memory | None],
    all_of: Callable[[], Iterable[tuple[str, Memory]]],
) -> Found:
    """What an order means among a tenant's memories (`all_of`: asked only for the lowest)."""

    def meant(id_: str, row: Memory | None) -> bool:
        there = row is not None and is_memory(id_) and not row.deleted
        return there and row is not None and row.namespace == order.namespace

    named = list(dict.fromkeys(order.ids))
    ids = [one for one in named if meant(one, known(one))]
    missing = len(named) - len(ids)
    if order.lowest:
        taken = set(ids)
        others = ((id_, row) for id_, row in all_of() if meant(id_, row) and id_ not in taken)
        ids += retention.lowest(others, order.lowest, order.log_ms * 1000)
    return Found(ids, missing)


def guarded(order: Any, found: Found, memories: int, percent: float) -> bool:
    """Whether it is more than passes without being confirmed."""
    return not order.confirm and PERCENT * len(found.ids) > percent * memories
