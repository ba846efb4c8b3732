"""What a row of the catalogue is, and the usual sorts of topics."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

USERS = "users"  # among a topic's writers: anyone may write; what is bad there is a dead letter
OUTBOX = "outbox"  # among them: the house adds to the outbox in transactions of its own
DAY_MS = 24 * 3600 * 1000
MESSAGE_BYTES_MAX = 1_048_588  # Kafka's own default: 1 MiB and a record batch's overhead
EPOCHS = "soma.epochs"
CONTROL = "control"  # the processor that writes settings into others' sources
SNAPSHOT_DAYS = 90
DLQ_EXTRA_BYTES = 64 * 1024  # a dead letter is the original and the headers that say why


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the catalogue. Names are without the namespace."""

    name: str
    schema: str | None  # of its values; None: other bytes, as they came
    key: str  # what the record's key is
    partitioning: str  # what decides the partition
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    cleanup: str = "delete"  # "delete", "compact" or "compact,delete"
    retention_ms: int | None = None  # None: no time limit
    config: Mapping[str, str] = field(default_factory=dict)  # beyond what all topics have

    @property
    def public(self) -> bool:
        """Whether users may write it: an unknown schema is then a dead letter, not an error."""
        return USERS in self.writers

    @property
    def of_tenants(self) -> bool:
        """Whether the outbox and the HTTP API take a tenant's events for it; what operators write
        of all tenants at once has another key.
        """
        return self.public and self.key == "tenant"

    @property
    def relayed(self) -> bool:
        """Whether the relay brings the outbox's events there: a tenant's, or the house's own."""
        return self.of_tenants or (OUTBOX in self.writers and self.key == "tenant")

    def settings(self) -> dict[str, str]:
        """The broker's settings for this topic, but for those that depend on replication."""
        wanted = {
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
        }
        if "delete" in self.cleanup:
            wanted["retention.ms"] = str(-1 if self.retention_ms is None else self.retention_ms)
            wanted["retention.bytes"] = "-1"
        return wanted | dict(self.config)


COMPACTED = {
    # Small segments and eager compaction: recovery reads little more than the live rows.
    "segment.bytes": str(32 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": "600000",
}


def dlq_of(topic: str) -> str:
    """Where a topic's dead letters go."""
    return f"{topic}.dlq"


def source_of(dlq: str) -> str:
    """The topic whose dead letters go there; a name that is none stays as it is."""
    return dlq.removesuffix(".dlq")


def source(name: str, schema: str, writers: tuple[str, ...], readers: tuple[str, ...]) -> Topic:
    """A topic that processors read: keyed by tenant, kept for a week. Settings of theirs come into
    it by the processor control.
    """
    return Topic(
        name, schema, "tenant", "tenant", (*writers, CONTROL), readers, retention_ms=7 * DAY_MS
    )


def dlq(source: str, *writers: str) -> Topic:
    """The dead letters of a topic; the first writer is its keeper."""
    size = {"max.message.bytes": str(MESSAGE_BYTES_MAX + DLQ_EXTRA_BYTES)}
    return Topic(
        dlq_of(source), None, "as it came", "as its origin", writers, ("operators",),
        retention_ms=30 * DAY_MS, config=size,
    )  # fmt: skip


def state(processor: str, key: str, schema: str = "") -> Topic:
    """The state topic of a processor's rows: its changelog. `schema`: of its rows, where it has
    another name than usual.
    """
    name = f"soma.{processor}.state"
    return Topic(
        name, schema or f"{processor}_state", key, "as the processor's source",
        (processor,), (processor,),
        cleanup="compact", config=COMPACTED,
    )  # fmt: skip


def snapshots_of(processor: str) -> str:
    """Where a processor's snapshots lie."""
    return f"soma.{processor}.snapshots"


def snapshots(processor: str, schema: str = "") -> Topic:
    """The snapshots of a processor: rows as its state topic had them, each time with a closing
    record (schema `snapshot`) behind them, in one transaction. Kept longer than its input.
    """
    return Topic(
        snapshots_of(processor), schema or f"{processor}_state", "as in the state topic",
        "as the processor's source", ("snapshot",), ("rebuild",),
        retention_ms=SNAPSHOT_DAYS * DAY_MS,
    )  # fmt: skip


def join(topics: dict[str, Topic], processor: str, source: str) -> None:
    """Note a processor among the readers and writers of what it shares with others.

    Its source and that's dead letters and the topic of its snapshots, which are made if there are
    none, and the epochs log.
    ValueError if there is no such source.
    """
    if source not in topics:
        raise ValueError(f"{processor}: there is no topic {source} to read")
    dead = dlq_of(source)
    topics.setdefault(dead, dlq(source, processor))
    topics.setdefault(snapshots_of(processor), snapshots(processor))
    for name in (dead, EPOCHS):
        one = topics[name]
        topics[name] = replace(one, writers=tuple(dict.fromkeys((*one.writers, processor))))
    one = topics[source]
    topics[source] = replace(
        one, readers=tuple(dict.fromkeys((*one.readers, processor))),
        writers=tuple(dict.fromkeys((*one.writers, CONTROL))),
    )  # fmt: skip
