"""The one catalogue of topics: what each holds, who writes and reads it, and how long it lives.

Every topic has the same number of partitions and LogAppendTime (retention, replay ranges and "at
time" mean the log's time; event time is a field). A processor's partition p reads partition p of
its source and writes partition p of its sinks, its state and the epochs log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

USERS = "users"  # among a topic's writers: anyone may write; what is bad there is a dead letter
DAY_MS = 24 * 3600 * 1000
MESSAGE_BYTES_MAX = 1_048_588  # Kafka's own default: 1 MiB and a record batch's overhead
DLQ_EXTRA_BYTES = 64 * 1024  # a dead letter is the original and the headers that say why
LOCAL_PARTITIONS = 4  # on the local stack; elsewhere the operator says how many


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


_STATE = {
    # Small segments and eager compaction: recovery reads little more than the live rows.
    "segment.bytes": str(32 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
    "max.compaction.lag.ms": "600000",
}


def dlq_of(topic: str) -> str:
    """Where a topic's dead letters go."""
    return f"{topic}.dlq"


def _source(name: str, schema: str, writers: tuple[str, ...], readers: tuple[str, ...]) -> Topic:
    return Topic(name, schema, "tenant", "tenant", writers, readers, retention_ms=7 * DAY_MS)


def _dlq(source: str, writer: str) -> Topic:
    size = {"max.message.bytes": str(MESSAGE_BYTES_MAX + DLQ_EXTRA_BYTES)}
    return Topic(
        dlq_of(source), None, "as it came", "as its origin", (writer,), ("operators",),
        retention_ms=30 * DAY_MS, config=size,
    )  # fmt: skip


def _state(processor: str, key: str) -> Topic:
    name = f"soma.{processor}.state"
    return Topic(
        name, f"{processor}_state", key, "as the processor's source", (processor,), (processor,),
        cleanup="compact", config=_STATE,
    )  # fmt: skip


_TOPICS = (
    _source("cog.observations", "observation", (USERS, "observe"), ("predictors",)),
    _source("cog.predictor.updates", "predictor_update", (USERS, "predictors"), ("integrator",)),
    Topic(
        "cog.global.frame", "global_frame", "tenant", "tenant", ("integrator",),
        ("segmentation", "projections"),
        retention_ms=30 * DAY_MS,
    ),
    Topic(
        "cog.fusion.drift.events", "fusion_drift_event", "tenant", "tenant", ("integrator",),
        ("projections", "operators"), retention_ms=30 * DAY_MS,
    ),
    Topic(
        "cog.fusion.rollback.events", "fusion_rollback_event", "tenant", "tenant", ("integrator",),
        ("projections", "operators"), retention_ms=30 * DAY_MS,
    ),
    Topic(
        "cog.predictor.calibration", "predictor_calibration", "tenant", "tenant",
        ("predictors",), ("projections",), retention_ms=7 * DAY_MS,
    ),
    Topic(
        "cog.next.events", "next_event", "tenant", "tenant", ("predictors",), ("learner",),
        retention_ms=30 * DAY_MS,
    ),
    Topic(
        "cog.segments", "segment_boundary", "tenant", "tenant", ("segmentation",),
        ("projections",), retention_ms=30 * DAY_MS,
    ),
    Topic(
        # The journal of memory: everything else about memories is made from it again.
        "memory.events", "memory_event", "tenant", "tenant", (USERS, "outbox", "doors"),
        ("memory", "gateway"),
    ),
    Topic(
        "soma.epochs", "epoch", "processor and partition", "as the processor's source",
        ("predictors", "integrator", "segmentation"), ("rebuild", "audit"),
    ),
    Topic(
        "soma.outbox.receipts", "outbox_receipt", "shard", "murmur2 of the key", ("relay",),
        ("relay",), cleanup="compact", config=_STATE,
    ),
    Topic(
        "soma.imports", "import_mark", "the import's digest", "its key", ("observe",), ("observe",),
        cleanup="compact", config=_STATE,
    ),
    _state("predictors", "tenant 0x1f domain"),
    _state("integrator", "tenant"),
    _state("segmentation", "tenant, or tenant 0x1f domain"),
    Topic(
        "soma.gateway.state", "gateway_state", "the word gateway", "as memory.events",
        ("gateway",), ("gateway",), cleanup="compact", config=_STATE,
    ),
    _dlq("memory.events", "gateway"),
    _dlq("cog.observations", "predictors"),
    _dlq("cog.predictor.updates", "integrator"),
    _dlq("cog.global.frame", "segmentation"),
)  # fmt: skip

CATALOGUE: dict[str, Topic] = {topic.name: topic for topic in _TOPICS}
