"""What a worker says about itself: counted per batch, after its commit; its lag at fetches too."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from agents.engine.processor import Processor, Tally
from agents.engine.row_counts import Counts, MeanGauge, Place, RowCount, RowGauge, RowMean

SHOWN_MAX = 50  # label values of a share: those that have most

RECORDS = Counter(
    "soma_processor_records_total",
    "Input records by what became of them; left: to the source's keeper, as dead letters or "
    "forwarded",
    ["processor", "result"],
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
    "Offsets between the position and the log's stable end, as fetched last; behind a transaction "
    "that has been open for 10 s, the log's end",
    ["processor", "partition"],
)
UNSTABLE = Gauge(
    "soma_partition_unstable_records",
    "Offsets behind the last stable one, as fetched last: a transaction is open there",
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
STANDBY = Gauge(
    "soma_standby_lag_records",
    "State records that a standby hasn't read yet, of the partitions of others that it follows",
    ["processor", "partition"],
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
STALLED = Gauge(
    "soma_partition_stalled_seconds",
    "For how long a partition has had work and committed nothing; of a service: read nothing",
    ["processor", "partition"],
)
RETRIES = Counter(
    "soma_partition_retries_total", "Partitions taken anew after a passing failure", ["processor"]
)
TENANTS = Gauge("soma_processor_entities", "Entities in the state", ["processor", "partition"])


class Share:
    """A gauge of what part each label value has of those counted last.

    A count weighs half once `recent` others have come after it. Values beyond the SHOWN_MAX that
    have most aren't shown: whoever publishes chooses them.
    """

    def __init__(self, declared: Tally) -> None:
        self._recent = declared.recent
        self._gauge = Gauge(declared.name, declared.help, [declared.label])
        self._counts: dict[str, float] = {}

    def add(self, counts: Mapping[str, int]) -> None:
        """Count so many of each value, and show the parts."""
        keep = 2.0 ** (-sum(counts.values()) / self._recent)
        kept = {value: n * keep for value, n in self._counts.items()}
        for value, n in counts.items():
            kept[value] = kept.get(value, 0.0) + n
        total = sum(kept.values())
        most = sorted(kept, key=lambda value: (-kept[value], value))
        self._counts = {value: kept[value] for value in most if kept[value] >= 0.5}
        self._gauge.clear()
        for value in [value for value in self._counts if value][:SHOWN_MAX]:
            self._gauge.labels(value).set(kept[value] / total)


@cache
def tally(declared: Tally) -> Counter | Share | RowGauge:
    """A processor's own counter or gauge. Prometheus knows each name once per process."""
    if isinstance(declared, RowCount):
        return MeanGauge(declared) if isinstance(declared, RowMean) else RowGauge(declared)
    if declared.recent:
        return Share(declared)
    return Counter(declared.name, declared.help, [declared.label] if declared.label else [])


def declare(processors: Iterable[Processor]) -> None:
    """Show the processors' own metrics before there is anything to count.

    ValueError, which names the processor, for one whose name is taken.
    """
    owners: dict[str, str] = {}
    for processor in processors:
        for declared in processor.tallies:
            owner = owners.setdefault(declared.name, processor.name)
            if owner != processor.name:
                raise ValueError(f"{processor.name}: {owner} has a metric {declared.name} too")
            try:
                tally(declared)
            except ValueError as error:
                text = f"{processor.name}: the metric {declared.name}: {error}"
                raise ValueError(text) from error


def count(tallies: tuple[Tally, ...], counted: Mapping[str, int]) -> None:
    """Add what a processor counted ("name", "name:label value"). KeyError: it isn't declared."""
    known = {declared.name: declared for declared in tallies}
    shares: dict[str, dict[str, int]] = defaultdict(dict)
    for key, n in counted.items():
        name, _, value = key.partition(":")
        counter = tally(known[name])
        if isinstance(counter, Share):
            shares[name][value] = n
        elif isinstance(counter, Counter):
            (counter.labels(value) if known[name].label else counter).inc(n)
    for name, counts in shares.items():
        share = tally(known[name])
        assert isinstance(share, Share)
        share.add(counts)


def show_rows(tallies: tuple[Tally, ...], place: Place, counts: Counts | None) -> None:
    """Show how many rows a partition has of each kind; None: it isn't here any more."""
    for declared in tallies:
        gauge = tally(declared)
        if isinstance(gauge, RowGauge):
            if counts is None:
                gauge.drop(place)
            else:
                gauge.put(place, counts[declared.name])
