"""What a partition says of itself while it works: as metrics, and to the watchdog."""

import logging
import time

from agents.engine import metrics, sleep_metrics
from agents.engine.plan import Plan
from agents.engine.position import Recovered
from agents.engine.processor import Fold
from agents.engine.row_counts import CountingRows
from agents.engine.workspace import Outcome

log = logging.getLogger(__name__)

FETCH = "records to be fetched"
_GAUGES = (metrics.LAG, metrics.RECOVERY_SECONDS, metrics.TENANTS)


class Progress:
    """Of one partition of one processor. The watchdog reads it from another thread."""

    def __init__(self, plan: Plan, partition: int) -> None:
        self.labels = (plan.processor.name, str(partition))
        # Monotonic: a commit, or more of the state read back; and that, or any step on the way.
        self.advanced = self.moved = time.monotonic()
        self.commits = 0
        self.doing = ""  # what it waits for, in words
        self.folding = False
        self.began = 0.0  # its fold, monotonic
        self.queued = False  # its state is to be read back, behind others'
        self._plan = plan
        self.show()

    def does(self, what: str) -> None:
        """The next step: what it waits for."""
        self.doing, self.moved = what, time.monotonic()

    def advances(self) -> None:
        """A commit, or more of the state read back. From any thread."""
        self.queued = False
        self.advanced = self.moved = time.monotonic()

    def recovered(self, found: Recovered, fold: Fold, next_offset: int) -> None:
        """The state is back."""
        name, partition = self.labels
        metrics.RECOVERY_ROWS.labels(name).inc(found.rows)
        metrics.RECOVERY_SECONDS.labels(name, partition).set(found.seconds)
        metrics.TENANTS.labels(name, partition).set(fold.tenants())
        if isinstance(fold, CountingRows):
            metrics.show_rows(self._plan.processor.tallies, self.labels, fold.row_counts())
        log.info(
            "recovered processor=%s partition=%s rows=%d seconds=%.3f position=%d followed=%d",
            name, partition, found.rows, found.seconds, next_offset, found.followed,
        )  # fmt: skip

    def committed(self, outcome: Outcome, seconds: float, tenants: int) -> None:
        """After the commit, never before."""
        self.commits += 1
        self.advances()
        name, partition = self.labels
        processor = self._plan.processor
        for result, n in outcome.results.items():
            metrics.RECORDS.labels(name, result).inc(n)
        for why, n in outcome.dead.items():
            metrics.DEAD.labels(processor.source, why).inc(n)
        metrics.MISROUTED.labels(name).inc(outcome.results["misrouted"])
        metrics.OUTPUTS.labels(name).inc(outcome.outputs)
        metrics.ROWS.labels(name).inc(outcome.rows)
        metrics.TRANSACTIONS.labels(name).inc()
        metrics.count(processor.tallies, outcome.counted)
        if outcome.row_counts:
            metrics.show_rows(processor.tallies, self.labels, outcome.row_counts)
        metrics.BATCH_SECONDS.labels(name).observe(seconds)
        sleep_metrics.show(outcome.by_sleep, time.time())
        if outcome.newest_ts:
            metrics.END_TO_END.labels(name).observe(max(0.0, time.time() - outcome.newest_ts / 1e6))
        metrics.TENANTS.labels(name, partition).set(tenants)

    def lag(self, behind: int) -> None:
        """At each fetch and each commit: what is fetched, or just being folded, isn't done."""
        metrics.LAG.labels(*self.labels).set(behind)

    def show(self) -> None:
        """Its gauges are there from now on."""
        for gauge in _GAUGES:
            gauge.labels(*self.labels)

    def hide(self) -> None:
        """Its gauges say nothing any more."""
        metrics.show_rows(self._plan.processor.tallies, self.labels, None)
        for gauge in _GAUGES:
            gauge.remove(*self.labels)
