"""A real `soma relay` in a process of its own, and how quickly it empties the queue."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from agents.outbox import SHARDS
from agents.settings import Settings
from ops.bench.broker import Broker
from ops.bench.outbox_rows import Rows
from ops.bench.worker import Worker, WorkerError

SAMPLE_S = 0.02
STALL_S = 90.0


class Relay(Worker):
    """`soma relay` with its metrics, quotas off."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        env = {"SOMA_POSTGRES_DSN": settings.postgres(), "SOMA_OUTBOX__QUOTA_PER_MINUTE": "0"}
        super().__init__(settings, "outbox", folder, **env)

    def arguments(self) -> list[str]:
        """What it is started with."""
        return ["relay", "--metrics-port", str(self.port)]

    def ready(self) -> float:
        """Wait until it has all shards; returns the seconds that it took."""
        return self.wait(
            "all the shards", lambda: self.metrics().get("soma_outbox_shards") == SHARDS
        )


@dataclass(frozen=True)
class Drained:
    """A queue that was emptied; rates are of what came after the first commit that was seen."""

    rows: int
    counted: int
    seconds: float
    whole_s: float  # from the process's start, or the first row's adding
    cpu_s: float
    batches: float  # transactions of Kafka
    statements: float = 0.0  # that the database counted

    @property
    def rows_per_s(self) -> float:
        """Rows per second."""
        return self.counted / self.seconds

    @property
    def cpu_us_per_row(self) -> float:
        """The relay's CPU time per row."""
        return 1e6 * self.cpu_s / self.counted

    def per_thousand(self, what: float) -> float:
        """So many for each 1,000 rows."""
        return 1000 * what / self.rows


class Follow:
    """Looks at the topic's last stable offsets and the queue while a relay works.

    A row counts when read_committed consumers can see it. Offsets count transaction markers too:
    how many there were is known at the end, and taken off.
    """

    def __init__(self, broker: Broker, topic: str, rows: Rows) -> None:
        self._broker, self._topic, self._rows = broker, topic, rows
        self._base = self._end()
        self.began = time.monotonic()

    def _end(self) -> int:
        return sum(self._broker.ends(self._topic))

    async def visible(self) -> int:
        """Offsets since the beginning."""
        return await asyncio.to_thread(self._end) - self._base

    async def drained(self, relay: Worker, rows: "int | asyncio.Task[int]") -> Drained:
        """Until so many rows, or what the task says when it is done, are visible and dequeued."""

        def count() -> int | None:
            if isinstance(rows, int):
                return rows
            return rows.result() if rows.done() else None

        first: tuple[float, int, float] | None = None
        last = (time.monotonic(), 0, relay.cpu_s())
        while True:
            seen, now = await self.visible(), time.monotonic()
            if seen > last[1]:
                last = (now, seen, relay.cpu_s())
                first = first or last
            wanted = count()
            if wanted is not None and seen >= wanted and not await self._rows.waiting():
                break
            if now - last[0] > STALL_S:
                tail = relay.log_text()[-3000:]
                raise WorkerError(f"{seen} of {wanted} sent, then nothing; the log ends:\n{tail}")
            await asyncio.sleep(SAMPLE_S)
        ended, cpu = time.monotonic(), relay.cpu_s()
        if first is None:
            raise WorkerError("nothing was relayed")
        seen, metrics = await self.visible(), relay.metrics()
        counted = wanted - round(first[1] * wanted / seen)
        if counted <= 0:
            raise WorkerError(f"{wanted:,} rows were committed at once: measure with more --rows")
        return Drained(
            wanted,
            counted,
            ended - first[0],
            ended - self.began,
            cpu - first[2],
            metrics.get("soma_outbox_batches_total", 0.0),
        )
