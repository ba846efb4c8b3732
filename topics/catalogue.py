"""The one catalogue of topics: what each holds, who writes and reads it, and how long it lives.

Every topic has the same number of partitions and LogAppendTime (retention, replay ranges and "at
time" mean the log's time; event time is a field). A processor's partition p reads partition p of
its source and writes partition p of its sinks, its state and the epochs log.
"""

from importlib import import_module
from pkgutil import iter_modules

from topics import made
from topics.chosen_ids import mark
from topics.plugins import bring, plugins, take
from topics.schemas import schemas
from topics.topic import (
    COMPACTED,
    DAY_MS,
    DLQ_EXTRA_BYTES,
    MESSAGE_BYTES_MAX,
    OUTBOX,
    USERS,
    Topic,
    dlq,
    dlq_of,
    snapshots,
    snapshots_of,
    source,
    source_of,
    state,
)

CONTROL_ROWS = "config_state"  # names that begin with control_ are those of control records
BROUGHT_ROWS = "brought_row"  # of processors that bring records into another's source
MEMORY_ROWS = "memory_row"  # a memory_state is what is told of one
LOCAL_PARTITIONS = 4  # on the local stack; elsewhere the operator says how many

__all__ = [
    "CATALOGUE",
    "DAY_MS",
    "DLQ_EXTRA_BYTES",
    "LOCAL_PARTITIONS",
    "MESSAGE_BYTES_MAX",
    "USERS",
    "Topic",
    "dlq_of",
    "keeper_of",
    "source_of",
    "sources",
]

_TOPICS = (
    source("cog.observations", "observation", (USERS, "observe", "sleep"), ("predictors",)),
    source(
        "cog.predictor.updates", "predictor_update", (USERS, "predictors", "sleep"),
        ("integrator",),
    ),
    Topic(
        "cog.global.frame", "global_frame", "tenant", "tenant", ("integrator", "control", "sleep"),
        ("segmentation", "projections", "lessons", "canary"),
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
        "cog.next.events", "next_event", "tenant", "tenant", ("predictors",), ("operators",),
        retention_ms=30 * DAY_MS,
    ),
    Topic(
        "cog.segments", "segment_boundary", "tenant", "tenant", ("segmentation", "control"),
        ("projections", "canary", "episodes"), retention_ms=30 * DAY_MS,
    ),
    Topic(
        # All that the learner learns from: rewards as users write them, and what `lessons` brings
        # of the frames of those who want to learn.
        "cog.reward.events", "reward_event", "tenant", "tenant",
        (USERS, "api", "feedback", "lessons", "learner", "sleep", "control"), ("learner",),
        retention_ms=30 * DAY_MS,
    ),
    Topic(
        "cog.teach.feedback", "teach_feedback", "tenant", "tenant", (USERS, "api", "control"),
        ("feedback",), retention_ms=30 * DAY_MS,
    ),
    Topic(
        # What settings are to be. What a later one replaces stays for a week: a processor that was
        # away for a while reads all of them, and a fold anew finds them.
        "cog.config.updates", "config_update", "tenant 0x1f processor.setting",
        "murmur2 of the tenant", (USERS, "operators", "learner", "canary"), ("control",),
        cleanup="compact,delete", retention_ms=30 * DAY_MS,
        config={
            "segment.bytes": COMPACTED["segment.bytes"],
            "min.compaction.lag.ms": str(7 * DAY_MS),
        },
    ),
    Topic(
        # The journal of memory: everything else about memories is made from it again.
        "memory.events", "memory_event", "tenant", "tenant",
        (USERS, "outbox", "api", "episodes", "prune", "memory", "control"), ("memory", "gateway"),
    ),
    Topic(
        # What is remembered now, two rows a memory: agents/memory_rows.py. What was replaced stays
        # for a minute: an export reads to an end that moves (agents/tools/memory_reading.py).
        "memory.latest", "memory_state", "tenant 0x1f namespace 0x1f id", "as memory.events",
        ("memory",), ("recall", "projections"), cleanup="compact",
        config=COMPACTED | {"min.compaction.lag.ms": "60000"},
    ),
    Topic(
        "memory.audit", "memory_audit", "tenant", "tenant", ("memory", "prune"),
        ("projections", "operators"), retention_ms=90 * DAY_MS,
    ),
    Topic(
        # Not the outbox's: what is to be forgotten is told by control planes and operators alone.
        "prune.order", "prune_order", "the tenant", "tenant", (USERS, "operators", "control"),
        ("prune",), retention_ms=30 * DAY_MS,
    ),
    Topic(
        # Told in the transaction of a commit of ρ: by the outbox, but by nobody else.
        "rho.status", "rho_status", "tenant", "tenant", (OUTBOX,), ("operators",),
        retention_ms=30 * DAY_MS,
    ),
    Topic(
        "soma.epochs", "epoch", "processor and partition", "as the processor's source",
        (
            "predictors", "integrator", "segmentation", "replay", "sleep", "control", "feedback",
            "lessons", "learner", "canary", "memory", "prune", "episodes",
        ),
        ("rebuild", "audit"),
    ),
    Topic(
        "soma.outbox.receipts", "outbox_receipt", "shard", "murmur2 of the key", ("relay",),
        ("relay",), cleanup="compact", config=COMPACTED,
    ),
    Topic(
        "soma.imports", "import_mark", "the import's digest", "its key", ("observe",), ("observe",),
        cleanup="compact", config=COMPACTED,
    ),
    Topic(
        "soma.admin.replay", "replay_command", "the job's id", "its key",
        (USERS, "api", "operators", "control"), ("replay",), retention_ms=30 * DAY_MS,
    ),
    Topic(
        "soma.admin.replay.status", "replay_status", "the job's id", "its key", ("replay",),
        ("api", "operators"), cleanup="compact,delete", retention_ms=30 * DAY_MS, config=COMPACTED,
    ),
    state("replay", "the job's id"),
    Topic(
        # Where jobs are: of one writer, so that no answer to a command takes a position's place.
        "soma.replay.jobs", "replay_status", "the job's id", "its key", ("replay",), ("replay",),
        cleanup="compact", config=COMPACTED,
    ),
    Topic(
        # Not the outbox's: whose sleep it is may be told by the house and by operators alone.
        "brain.sleep.requests", "sleep_request", "the tenant", "tenant",
        (USERS, "api", "operators", "gateway", "control", "predictors"), ("sleep",),
        retention_ms=30 * DAY_MS,
    ),
    Topic(
        "brain.sleep.states", "sleep_state", "tenant", "tenant", ("sleep",),
        ("api", "operators"), cleanup="compact", config=COMPACTED,
    ),
    state("sleep", "tenant", "sleep_row"),  # a sleep_state is what is told of it
    state("predictors", "tenant 0x1f domain"),
    state("integrator", "tenant"),
    state("segmentation", "tenant, or tenant 0x1f domain"),
    state("control", "tenant", CONTROL_ROWS),
    state("learner", "tenant"),
    state("lessons", "tenant", BROUGHT_ROWS),
    state("feedback", "tenant", BROUGHT_ROWS),
    state("prune", "tenant", BROUGHT_ROWS),
    state("episodes", "tenant", BROUGHT_ROWS),
    # Beside what it tells on memory.latest: dedupe keys, and what its law needs; no contents.
    state("memory", "tenant, or tenant 0x1f entity", MEMORY_ROWS),
    *map(snapshots, ("predictors", "integrator", "segmentation", "replay", "learner")),
    snapshots("lessons", BROUGHT_ROWS),
    snapshots("feedback", BROUGHT_ROWS),
    snapshots("prune", BROUGHT_ROWS),
    snapshots("episodes", BROUGHT_ROWS),
    snapshots("memory", MEMORY_ROWS),
    snapshots("sleep", "sleep_row"),
    snapshots("control", CONTROL_ROWS),
    Topic(
        # Commands, and what the service canary measures.
        "soma.admin.canary", "canary_command", "the setting", "its key",
        (USERS, "operators", "canary", "control"), ("canary",), retention_ms=30 * DAY_MS,
    ),
    state("canary", "the setting"),
    snapshots("canary"),
    Topic(
        "soma.gateway.state", "gateway_state", "the word gateway", "as memory.events",
        ("gateway",), ("gateway",), cleanup="compact", config=COMPACTED,
    ),
    Topic(
        # Kept for longer than the letters, so that none is sent twice; by then they are gone.
        "soma.dlq.ledger", "letter_mark", "the failed record's place and digest",
        "murmur2 of its topic", ("dlq",), ("dlq",), cleanup="compact,delete",
        retention_ms=90 * DAY_MS, config=COMPACTED,
    ),
    Topic(
        "soma.audit", "audit_event", "the event's subject", "murmur2 of the key",
        ("dlq", "replay", "sleep", "control", "canary"),
        ("operators",), retention_ms=90 * DAY_MS,
    ),
    dlq("memory.events", "memory", "gateway"),
    dlq("prune.order", "prune"),
    dlq("cog.segments", "episodes"),
    dlq("soma.admin.replay", "replay"),
    dlq("brain.sleep.requests", "sleep"),
    dlq("cog.config.updates", "control"),
    dlq("soma.admin.canary", "canary"),
    dlq("cog.observations", "predictors"),
    dlq("cog.predictor.updates", "integrator"),
    dlq("cog.global.frame", "segmentation", "lessons"),
    dlq("cog.reward.events", "learner"),
    dlq("cog.teach.feedback", "feedback"),
)  # fmt: skip

CATALOGUE: dict[str, Topic] = mark() | {topic.name: topic for topic in _TOPICS}
for _module in iter_modules(made.__path__):
    bring(import_module(f"{made.__name__}.{_module.name}").PLUGIN, CATALOGUE)
if plugins():
    schemas()  # which may refuse one
for _plugin in plugins():
    take(_plugin, CATALOGUE)


def sources() -> dict[str, str]:
    """What each processor reads, by its name: whoever has snapshots writes dead letters of it."""
    return {
        name: source_of(dead)
        for dead, topic in CATALOGUE.items() if source_of(dead) != dead
        for name in topic.writers if snapshots_of(name) in CATALOGUE
    }  # fmt: skip


def keeper_of(topic: str) -> str:
    """Which of a topic's readers writes dead letters of what nobody can read, and forwards what
    came to the wrong partition: the first writer of its dead letters. Empty: nobody does.
    """
    dead = CATALOGUE.get(dlq_of(topic))
    return dead.writers[0] if dead is not None else ""
