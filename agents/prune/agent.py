"""prune.order -> memory.events: orders to forget memories, for the processor memory.

A processor reads one topic, and how many memories a tenant has is memory's to know: the order goes
into its source, and acts there at its own offset. The answer stands on memory.audit.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.engine.answer import Answer
from agents.engine.reasons import CONTROL_REFUSED, NAMES
from agents.kit import Emit, Reads, RowProcessor

if TYPE_CHECKING:
    from agents.engine.dead_letters import Letter

ORDERS, EVENTS, AUDIT = "prune.order", "memory.events", "memory.audit"
ORDER_SCHEMA = "prune_order"
TYPE, DEAD = "prune", "dead"  # of what is said of an order that can't be read
NAME_MAX = 128
NOWHERE = -1  # its offset in memory.events


@dataclass(slots=True)
class Brought:
    """Nothing needs to be known."""

    some: bool = False


def bring(_: Brought, order: Any, out: Emit) -> None:
    """Bring an order to memory."""
    out.forget()
    out.to(EVENTS, {
        "order_id": order.order_id, "tenant": order.tenant, "namespace": order.namespace,
        "ids": order.ids, "lowest": order.lowest, "dry_run": order.dry_run,
        "confirm": order.confirm, "actor": order.actor, "ts": order.ts,
    })  # fmt: skip


def unread(letter: "Letter") -> Answer | None:
    """Say of what became a dead letter that it did."""
    if letter.reason == NAMES[CONTROL_REFUSED]:
        return None  # a setting
    key = (letter.key or b"")[:NAME_MAX].decode("utf-8", "backslashreplace")
    return Answer(AUDIT, letter.origin.encode(), {
        "tenant": key, "ts": letter.log_ms * 1000, "offset": NOWHERE, "type": TYPE,
        "outcome": DEAD, "reason": letter.reason, "detail": letter.detail,
    })  # fmt: skip


PROCESSOR = RowProcessor(
    "prune",
    source=ORDERS,
    sinks=(EVENTS, AUDIT),
    row=Brought,
    fold=bring,
    unread=unread,
    controls={EVENTS: ORDER_SCHEMA},
    reads=Reads(domain=None),
)
