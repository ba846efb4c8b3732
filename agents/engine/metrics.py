"""What a worker says about itself: counted per batch, after its commit; its lag at fetches too."""

from collections.abc import Mapping
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from agents.engine.processor import Tally

RECORDS = Counter(
    "soma_processor_records_total", "Input records by what became of them", ["processor", "result"]
)
OUTPUTS = Counter("soma_processor_outputs_total", "Records written to sinks", ["processor"])
ROWS = Counter("soma_processor_state_rows_total", "State rows written", ["processor"])
BATCH_SECONDS = Histogram(
    "soma_processor_batch_seconds",
    "From a batch's first byte parsed to its commit",
    ["processor"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0),
)
TRANSACTIONS = Counter("soma_processor_transactions_total", "Committed transactions", ["processor"])
LAG = Gauge(
    "soma_processor_lag_records",
    "Offsets between the position and the log's stable end, as fetched last",
    ["processor", "partition"],
)
END_TO_END = Histogram(
    "soma_end_to_end_seconds",
    "Event time of a batch's last record to its committed output",
    ["processor"],
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0),
)
DEAD = Counter("soma_dead_letters_total", "Dead letters", ["topic", "reason"])
MISROUTED = Counter(
    "soma_misrouted_total", "Records forwarded to the partition of their tenant", ["processor"]
)
RECOVERY = Gauge("soma_recovery_progress_ratio", "Owned partitions that are recovered, 0 to 1")
RECOVERY_ROWS = Counter("soma_recovery_rows_total", "State rows read back", ["processor"])
RECOVERY_SECONDS = Gauge(
    "soma_recovery_seconds", "Time that reading the state back took", ["processor", "partition"]
)
ANSWERS = Counter(
    "soma_policy_answers_total",
    "Answers of a remote policy as they arrive; none in time is an error",
    ["processor", "outcome"],
)
ANSWER_SECONDS = Histogram(
    "soma_policy_answer_seconds",
    "From asking a remote policy to its answer",
    ["processor"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0),
)
STOPPED = Gauge(
    "soma_partition_stopped",
    "1 while a named error stops a partition",
    ["processor", "partition", "error"],
)
RETRIES = Counter(
    "soma_partition_retries_total", "Partitions taken anew after a passing failure", ["processor"]
)
TENANTS = Gauge("soma_processor_entities", "Entities in the state", ["processor", "partition"])


@cache
def tally(declared: Tally) -> Counter:
    """A room's own counter. Prometheus knows each name once per process."""
    return Counter(declared.name, declared.help, [declared.label] if declared.label else [])


def count(tallies: tuple[Tally, ...], counted: Mapping[str, int]) -> None:
    """Add what a room counted ("name" or "name:label value"); KeyError for what isn't declared."""
    known = {declared.name: declared for declared in tallies}
    for key, n in counted.items():
        name, _, value = key.partition(":")
        counter = tally(known[name])
        (counter.labels(value) if known[name].label else counter).inc(n)
