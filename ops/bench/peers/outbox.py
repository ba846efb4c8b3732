"""Outbox relays as most are written: SKIP LOCKED, produce, flush, delete. At least once, no order.

One row a transaction (`batch` 1), or many; `loops` of them side by side in one process. The table
is one narrow table with one index, and the values are ready: less work than ours has.
"""

import asyncio
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import asyncpg
from confluent_kafka import Producer

OUTBOX_JOB = "OUTBOX_JOB"  # environment variable that carries the job as JSON
PICK = """
    SELECT id, tenant, key, dedupe_key, value FROM bench_outbox
    ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
ONE_GONE = "DELETE FROM bench_outbox WHERE id = $1"
MANY_GONE = "DELETE FROM bench_outbox WHERE id = ANY ($1::bigint[])"


@dataclass(frozen=True)
class OutboxJob:
    """Drain the table into `topic`."""

    dsn: str
    schema: str
    bootstrap: str
    topic: str
    batch: int
    loops: int

    def env(self) -> dict[str, str]:
        """The environment of the peer's process."""
        return {**os.environ, OUTBOX_JOB: json.dumps(asdict(self))}


def send(producer: Producer, topic: str, rows: list[Any]) -> None:
    """Produce and wait for the acknowledgements; RuntimeError if one is lacking."""
    failed: list[str] = []
    for row in rows:
        producer.produce(
            topic, row["value"], row["tenant"].encode(),
            headers=[("dedupe-key", row["dedupe_key"].encode()), ("soma-key", row["key"].encode())],
            on_delivery=lambda error, _: failed.append(str(error)) if error else None,
        )  # fmt: skip
    if producer.flush(30) or failed:
        raise RuntimeError(f"not acknowledged: {failed[:3]}")


async def drain(job: OutboxJob) -> int:
    """One loop, until nothing is left; how many rows it sent."""
    connection = await asyncpg.connect(job.dsn, server_settings={"search_path": job.schema})
    producer = Producer(
        {"bootstrap.servers": job.bootstrap, "linger.ms": 0, "acks": "all", "log_level": 0,
         "batch.size": 1_000_000, "partitioner": "murmur2_random"}
    )  # fmt: skip
    loop, sent = asyncio.get_running_loop(), 0
    while True:
        async with connection.transaction():
            rows = await connection.fetch(PICK, job.batch)
            if not rows:
                break
            if job.loops == 1:
                send(producer, job.topic, rows)
            else:
                await loop.run_in_executor(None, send, producer, job.topic, rows)
            if job.batch == 1:
                await connection.execute(ONE_GONE, rows[0]["id"])
            else:
                await connection.execute(MANY_GONE, [row["id"] for row in rows])
        sent += len(rows)
    await connection.close()
    return sent


async def main() -> None:
    job = OutboxJob(**json.loads(os.environ[OUTBOX_JOB]))
    began, cpu = time.perf_counter(), time.process_time()
    sent = sum(await asyncio.gather(*(drain(job) for _ in range(job.loops))))
    seconds = time.perf_counter() - began
    cpu_us = (time.process_time() - cpu) / sent * 1e6
    print(json.dumps({"rows": sent, "rows_per_s": sent / seconds, "cpu_us_per_row": cpu_us}))


if __name__ == "__main__":
    asyncio.run(main())
