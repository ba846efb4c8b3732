"""From a row's commit to a read_committed consumer, at a steady rate; by one clock."""

import asyncio
import math
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from agents.settings import Settings
from ops.bench.broker import Broker
from ops.bench.outbox_rows import Rows

CONNECTIONS = 4
WARM_S = 3.0  # at the beginning: not counted
LATE_S = 10.0


class Reader:
    """Reads what comes from now on, and notes when, by dedupe key."""

    def __init__(self, settings: Settings, broker: Broker, topic: str) -> None:
        self.seen: dict[str, float] = {}
        self.awaited: float = math.inf  # end when so many are here
        self.until = math.inf  # or then
        self._consumer = Consumer(
            settings.librdkafka(
                group_id="unused", enable_auto_commit=False, isolation_level="read_committed",
                fetch_queue_backoff_ms=1,
            )
        )  # fmt: skip
        ends = broker.ends(topic)
        self._consumer.assign([TopicPartition(topic, p, end) for p, end in enumerate(ends)])

    def run(self) -> None:
        """In a thread, until all are here or it is too late."""
        while len(self.seen) < self.awaited and time.perf_counter() < self.until:
            for message in self._consumer.consume(1000, 0.005):
                if message.error() is None:
                    now = time.perf_counter()
                    headers: dict[str, Any] = dict(message.headers() or ())
                    self.seen[headers["dedupe-key"].decode()] = now
        self._consumer.close()


async def measure(
    settings: Settings, broker: Broker, rows: Rows, topic: str, rate: int, seconds: float
) -> list[float]:
    """Milliseconds of each row; from just before the statement that adds and commits it is sent."""
    reader = Reader(settings, broker, topic)
    reading = asyncio.create_task(asyncio.to_thread(reader.run))
    sent: dict[int, float] = {}
    total, began = int(rate * (WARM_S + seconds)), time.perf_counter()
    try:
        await asyncio.gather(*(_add(rows, sent, k, total, rate, began) for k in range(CONNECTIONS)))
        reader.awaited, reader.until = total, time.perf_counter() + LATE_S
    except BaseException:
        reader.awaited = 0
        raise
    finally:
        await reading
    if lacking := total - len(reader.seen):
        raise TimeoutError(f"{lacking} of {total} rows didn't come within {LATE_S:.0f} s")
    return list(_latencies(sent, reader.seen, began))


async def _add(
    rows: Rows, sent: dict[int, float], first: int, total: int, rate: int, began: float
) -> None:
    """Every CONNECTIONS-th of the rows, each when it is due."""
    async with rows.session() as connection:
        for number in range(first, total, CONNECTIONS):
            wait = began + number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            sent[number] = time.perf_counter()
            await rows.add_one(connection, number)


def _latencies(sent: dict[int, float], seen: dict[str, float], began: float) -> Iterator[float]:
    for number, at in sent.items():
        if at - began >= WARM_S:
            yield 1e3 * (seen[f"one-{number}"] - at)
