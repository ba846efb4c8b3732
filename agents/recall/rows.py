"""Rows of memory.latest into memories: what a recall node does with the log."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confluent_kafka import Message

from agents.memory_rows import CONTENT_PART, read_key
from agents.recall.memories import Holding, Memories
from topics import codec
from topics.messages import as_bytes

SCHEMA = "memory_state"


@dataclass(slots=True)
class Rows:
    """All tenants' memories, and how far they are known."""

    holding: Holding
    tenants: dict[str, Memories] = field(default_factory=dict)
    folded: dict[int, int] = field(default_factory=dict)  # partition -> newest event of a row
    taken: int = 0  # rows so far
    bad: int = 0  # that nobody can read

    def take(self, messages: Iterable[Message]) -> None:
        """Take in records, in the order of each partition."""
        for one in messages:
            self.taken += 1
            try:
                self.row(one.partition() or 0, as_bytes(one.key()) or b"", as_bytes(one.value()))
            except (ValueError, codec.BadRecord):  # nothing of ours: the processor wrote no such
                self.bad += 1

    def row(self, partition: int, key: bytes, value: bytes | None) -> None:
        """One record. ValueError, BadRecord."""
        named = read_key(key.decode())
        if value is None:
            memories = self.tenants.get(named.tenant)
            if memories is not None:
                with memories.lock:
                    (memories.content_gone if named.content else memories.gone)(named.id)
                if memories.empty:
                    del self.tenants[named.tenant]
            return
        name, row = codec.decode(value)
        if name != SCHEMA or (row["tenant"], row["id"]) != (named.tenant, named.id):
            raise ValueError(f"a {name} under the key of another memory")
        memories = self.tenants.get(named.tenant)
        if memories is None:
            memories = self.tenants[named.tenant] = Memories(self.holding)
        with memories.lock:
            (memories.content if row["part"] == CONTENT_PART else memories.head)(row)
        self.folded[partition] = max(self.folded.get(partition, -1), row["offset"])

    def of(self, tenant: str) -> Memories:
        """A tenant's memories; none, where nothing is known of it."""
        return self.tenants.get(tenant) or Memories(self.holding)

    def total(self, measure: Callable[[Memories], int]) -> int:
        """Of all tenants; while rows come, in another thread."""
        return sum(measure(one) for one in [*self.tenants.values()])
