"""`soma bench projections`: frames into PostgreSQL, their history and the last of each tenant.

First a backlog is caught up, then frames come at a steady rate and the age of what is shown is
measured from outside: now minus the event time of each tenant's row.
"""

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from agents.settings import Settings
from ops.bench.filling import TS_MARK, fill, tenant_names, varint
from ops.bench.report import Report
from ops.bench.site import Site
from ops.bench.worker import Worker
from stores import migrations
from stores.names import quoted, schema_of
from stores.postgres import connected
from topics import codec

TOPIC = "cog.global.frame"
LOOK_S = 0.2
METHOD = (
    "{backlog:,} frames of {tenants:,} tenants in 4 partitions, then {rate:,} frames/s for "
    "{seconds:.0f} s; one worker of projections alone, SOMA_PROJECTIONS__HISTORY=all, so every "
    "frame is a row. Age: now minus the event time of a tenant's row in `frames`, all tenants, "
    "read every {look} s by SQL; it includes the time between two frames of a tenant ({gap:.0f} "
    "ms). Broker, database, producer and worker share the machine."
)


@dataclass(frozen=True)
class Result:
    """Rates in rows per second, ages in seconds."""

    backlog_rows_per_s: float
    offered_per_s: float
    steady_rows_per_s: float
    age_median_s: float  # of the samples' oldest tenants
    age_max_s: float


class Template:
    """The frames of one tenant, but for their time."""

    def __init__(self, tenant: str) -> None:
        record = {
            "frame_id": "00000000-0-0",
            "tenant": tenant,
            "ts": TS_MARK,
            "domain": "state",
            "leader": "state",
            "weights": {"state": 0.5, "agent": 0.3, "action": 0.2},
            "errors": {"state": 0.1, "agent": 0.3, "action": 0.6},
            "confidence": 0.5,
            "entropy": 0.9,
            "regret_bound": 12.5,
            "dwell_ms": 1500,
            "observation_id": "00000000-0-0",
        }
        whole = codec.from_json("global_frame", record)
        self._before, self._after = codec.encode("global_frame", whole).split(varint(TS_MARK))
        self.key = tenant.encode()

    def value(self, ts: int) -> bytes:
        """The frame of this time (microseconds)."""
        return b"".join((self._before, varint(ts), self._after))


def run(site: Site, backlog: int, tenants: int, rate: int, seconds: float) -> Result:
    """Measure on the site's broker and the settings' PostgreSQL, in a schema that is dropped."""
    return asyncio.run(_run(site, backlog, tenants, rate, seconds))


async def _run(site: Site, backlog: int, tenants: int, rate: int, seconds: float) -> Result:
    schema = schema_of(site.settings.namespace)
    templates = [Template(tenant) for tenant in tenant_names(tenants)]
    dsn = site.settings.postgres()
    env = {"SOMA_PROJECTIONS__HISTORY": "all", "SOMA_POSTGRES_DSN": dsn}
    async with connected(dsn, "soma bench") as connection:
        try:
            await migrations.up(connection, schema, migrations.load())
            fill(site.settings, site.topic(TOPIC), _frames(templates, backlog))
            site.say(f"{backlog:,} frames are in the topic")
            with Worker(site.settings, "projections", site.folder, **env) as worker:
                watch = Watch(connection, schema, worker)
                caught = await watch.until(backlog)
                site.say(f"caught up at {caught:,.0f} rows/s")
                return await _steady(site, watch, templates, backlog, caught, rate, seconds)
        finally:
            await connection.execute(f"DROP SCHEMA IF EXISTS {quoted(schema)} CASCADE")


class Watch:
    """Looks at the tables from outside."""

    def __init__(self, connection: Any, schema: str, worker: Worker) -> None:
        self._connection = connection
        self._schema = quoted(schema)
        self._worker = worker

    async def rows(self) -> int:
        """How many records the history's position is past."""
        found = await self._fetch(
            f"SELECT coalesce(sum(next_offset), 0) FROM {self._schema}.projection_positions "
            "WHERE projection = 'frame_history'"
        )
        return int(found[0][0])

    async def age_s(self) -> float:
        """Age of the oldest tenant's row."""
        found = await self._fetch(f"SELECT min(ts) FROM {self._schema}.frames")
        return time.time() - float(found[0][0].timestamp())

    async def until(self, rows: int) -> float:
        """Wait until the history has so many; rows per second from the first ones on."""
        first, start = 0, time.monotonic()
        while (have := await self.rows()) < rows:
            self._worker.check()
            if not first and have:
                first, start = have, time.monotonic()
            await asyncio.sleep(0.05)
        return (rows - first) / max(1e-9, time.monotonic() - start)

    async def _fetch(self, statement: str) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(statement)
        return rows


async def _steady(
    site: Site, watch: Watch, templates: list[Template], before: int, caught: float,
    rate: int, seconds: float,
) -> Result:  # fmt: skip
    """Frames at a rate, and what is shown of them meanwhile."""
    loop = asyncio.get_running_loop()
    work = loop.run_in_executor(None, _produce, site.settings, templates, rate, seconds)
    ages: list[float] = []
    start, settle = time.monotonic(), min(3.0, seconds / 4)
    while not work.done():
        await asyncio.sleep(LOOK_S)
        if settle < time.monotonic() - start < seconds:
            ages.append(await watch.age_s())
    sent = await work
    await watch.until(before + sent)
    took = time.monotonic() - start
    return Result(caught, sent / seconds, sent / took, statistics.median(ages), max(ages))


def _frames(templates: list[Template], count: int) -> Iterator[tuple[bytes, bytes]]:
    for k in range(count):
        one = templates[k % len(templates)]
        yield one.key, one.value(time.time_ns() // 1000)


def _produce(settings: Settings, templates: list[Template], rate: int, seconds: float) -> int:
    """Produce at a steady rate for so many seconds; how many."""
    topic = settings.topic(TOPIC)
    producer = Producer(settings.librdkafka(partitioner="murmur2_random", linger_ms=5))
    start, sent = time.monotonic(), 0
    while (past := time.monotonic() - start) < seconds:
        while sent < past * rate:
            one = templates[sent % len(templates)]
            producer.produce(topic, one.value(time.time_ns() // 1000), one.key)
            sent += 1
        producer.poll(0.002)
    producer.flush(30)
    return sent


def report(found: Result, backlog: int, tenants: int, rate: int, seconds: float) -> Report:
    """The table."""
    rows = [
        ("history rows/s, catching up", f"{found.backlog_rows_per_s:,.0f}", ""),
        (f"history rows/s, {found.offered_per_s:,.0f} offered", f"{found.steady_rows_per_s:,.0f}",
         "≥ 20,000"),
        ("age of the oldest tenant's frame, median (s)", f"{found.age_median_s:.2f}", ""),
        ("age of the oldest tenant's frame, worst (s)", f"{found.age_max_s:.2f}", "≤ 2"),
    ]  # fmt: skip
    gap = 1000 * tenants / rate
    method = METHOD.format(
        backlog=backlog, tenants=tenants, rate=rate, seconds=seconds, look=LOOK_S, gap=gap
    )
    return Report("projections", ("what", "measured", "wanted"), rows, method)
