"""What the processor memory keeps: rows of a tenant, told apart by the entity in their key.

Contents aren't among them: they pass through to memory.latest, so a worker holds some hundred bytes
of a memory, however large its payload.
"""

import hashlib
import json
from dataclasses import dataclass

TENANT = ""  # the tenant's own row
SEEN, SPACE, ORDER = "~", "@", "!"  # begin the entity of a dedupe key, a namespace, an order
DIGEST_BYTES = 12  # of what is known by a digest: no two of 2^32 have the same


@dataclass(slots=True)
class Memory:
    """A memory (entity: its id), or another row, with the fields that it needs. Times are
    microseconds, of events but for `due`.
    """

    namespace: str = ""
    version: int = 0  # events that changed it; of a dedupe key: that of the content it wrote
    content: int = 0  # at which of them its content was written
    size: int = 0  # of its content, bytes
    semantic: bool = False
    importance: float | None = None
    created: int = 0
    updated: int = 0  # of a tombstone: when it was deleted
    accessed: int = 0
    count: int = 0  # accesses
    links: str = ""  # JSON; "": none
    deleted: bool = False  # a tombstone
    # Of a tenant: its memories; of a namespace: its vectors' dimension; of a dedupe key: whose
    # content it wrote, by `begin_of`.
    number: int = 0
    gone: int = 0  # of a namespace: the newest deletion whose tombstone is no longer kept
    due: int | None = None  # when a dedupe key, a tombstone or an order is forgotten


def seen(dedupe_key: str) -> str:
    """The entity of a dedupe key."""
    return SEEN + _digest(dedupe_key)


def space(namespace: str) -> str:
    """The entity of a namespace."""
    return SPACE + namespace


def order(order_id: str) -> str:
    """The entity of an order."""
    return ORDER + _digest(order_id)


def is_memory(entity: str) -> bool:
    """Whether an entity is a memory's id."""
    return entity[:1] not in (TENANT, SEEN, SPACE, ORDER)


def begin_of(id_: str) -> int:
    """The first 32 bits of a memory's id."""
    return int(id_[:8], 16)


def links_of(row: Memory) -> dict[str, str]:
    """Id of another memory -> kind."""
    return json.loads(row.links) if row.links else {}


def keep_links(row: Memory, links: dict[str, str]) -> None:
    """Make these its links."""
    row.links = json.dumps(links, sort_keys=True, separators=(",", ":")) if links else ""


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
