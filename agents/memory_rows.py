"""memory.latest: the keys of its rows, and what is in which. Recall and projections read it.

The topic is compacted; partition p of it belongs to partition p of memory.events. A memory has two
rows there (schema memory_state), so that an access costs no rewrite of a payload or a vector:

- its head, key "tenant 0x1f namespace 0x1f id": version, times, accesses, importance, links. Each
  event that changes the memory writes it.
- its content, key "tenant 0x1f namespace 0x1f id 0x1f content": coordinate, payload, vector. It is
  written when it changes, before the head that belongs to it: `head.content_version` is the
  content's `version`, so a head whose content isn't there yet is never seen, unless compaction has
  moved an older content away; then the newer one follows, and its head behind it.

Both are in one transaction with the row of memory.audit and the processor's own state. A deleted
memory's head says `deleted`, and its content's key has a record without a value; when the tenant's
horizon has passed, so has the head's. Ids are the tenant's: one id has one namespace.

What is folded up to an offset N of memory.events is committed when the group's offset of that
partition is above N; whoever then has read the same partition of memory.latest to its end has seen
it. Rows say the offset of their event too, but an event that was refused writes none.
"""

from typing import NamedTuple

SEP = "\x1f"
CONTENT = "content"
HEAD_PART, CONTENT_PART = "head", "content"  # memory_state.part


class Key(NamedTuple):
    """Which row of which memory."""

    tenant: str
    namespace: str
    id: str
    content: bool


def head_key(tenant: str, namespace: str, id_: str) -> str:
    """The key of a memory's head."""
    return f"{tenant}{SEP}{namespace}{SEP}{id_}"


def content_key(tenant: str, namespace: str, id_: str) -> str:
    """The key of its content."""
    return f"{tenant}{SEP}{namespace}{SEP}{id_}{SEP}{CONTENT}"


def read_key(key: str) -> Key:
    """Which row a key is of. ValueError for a text that is none."""
    tenant, *rest = key.split(SEP)
    if len(rest) not in (2, 3) or rest[2:] not in ([], [CONTENT]):
        raise ValueError(f"no key of memory.latest: {key!r}")
    return Key(tenant, rest[0], rest[1], len(rest) == 3)
