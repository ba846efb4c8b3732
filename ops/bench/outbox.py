"""`soma bench outbox`: rows from PostgreSQL to Kafka, beside relays as most are written."""

import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from ops.bench import outbox_latency
from ops.bench.latency import idle_cpu
from ops.bench.outbox_relay import Drained, Follow, Relay
from ops.bench.outbox_rows import INSERT_ROWS, INSERTERS, KEYS, PAYLOAD_BYTES, TENANTS, TOPIC, Rows
from ops.bench.peers.outbox import OutboxJob
from ops.bench.report import Report, spread
from ops.bench.site import Site
from ops.bench.worker import ROOT
from stores import migrations
from stores.names import quoted, schema_of
from stores.postgres import connected

PARTS = ("drain", "peers", "inserts", "latency", "idle")
AGAIN = frozenset({"drain", "peers"})  # in every run
PEERS = {"one": (1, 1, 0.03), "batched": (500, 1, 0.25), "batched-4": (500, 4, 0.25)}
LATENCY_ROWS_PER_S = 500
PEER_S = 300.0
TITLES = {
    "avro": "this relay, ready Avro",
    "json": "this relay, JSON checked and encoded",
    "one": "SKIP LOCKED, one row, delete per row",
    "batched": "SKIP LOCKED 500, delete by ids",
    "batched-4": "the same, 4 loops (no order)",
}
METHOD = (
    "{rows:,} rows of {bytes} bytes, {tenants} tenants with {keys} keys each, quotas off, added by "
    "soma_outbox_add(_avro) and committed; then one relay process is started. The clock runs from "
    "the first commit that is seen (last stable offsets, every 20 ms; what it holds isn't counted) "
    "until all are visible to read_committed consumers and off the queue: {runs} runs, median (min "
    "- max). Peers: their own clock from the first SELECT to the last DELETE, a narrow table of "
    "their own with ready values, fewer rows, acks=all without transactions. PostgreSQL: {pg}. "
    "Broker, database and relay share the machine."
)


@dataclass(frozen=True)
class Workload:
    """How much of what; seconds of inserting and of the latency."""

    rows: int = 200_000
    runs: int = 3
    rate: int = 25_000
    seconds: float = 8.0
    parts: tuple[str, ...] = PARTS


@dataclass
class Result:
    """What was measured; peers in rows/s."""

    drained: dict[str, list[Drained]] = field(default_factory=dict)  # by form
    peers: dict[str, list[float]] = field(default_factory=dict)
    inserted_per_s: float = 0.0
    beside: Drained | None = None
    latency_ms: list[float] = field(default_factory=list)
    idle_percent: float | None = None
    postgres: str = ""

    def rate(self, form: str = "avro") -> float:
        """The median of a form's rates."""
        return statistics.median(one.rows_per_s for one in self.drained[form])


class Outbox:
    """The benchmark on one site, in a schema of its own that is dropped."""

    def __init__(self, site: Site, workload: Workload) -> None:
        self.site, self.workload, self.result = site, workload, Result()
        self.topic = site.topic(TOPIC)
        self.schema = schema_of(site.settings.namespace)
        self.rows = Rows(site.settings.postgres(), self.schema)

    def run(self) -> Result:
        """All chosen parts."""
        asyncio.run(self._run())
        return self.result

    async def _run(self) -> None:
        async with connected(self.rows.dsn, "soma bench") as connection:
            await migrations.up(connection, self.schema, migrations.load())
        try:
            self.result.postgres = await self.rows.durability()
            steps: dict[str, Callable[[], Any]] = {
                "drain": self._drain, "peers": self._peers, "inserts": self._inserts,
                "latency": self._latency, "idle": self._idle,
            }  # fmt: skip
            await self._warm()
            for _ in range(self.workload.runs):
                for part in sorted(AGAIN & set(self.workload.parts)):
                    await steps[part]()
            for part in PARTS:
                if part in set(self.workload.parts) - AGAIN:
                    await steps[part]()
        finally:
            async with connected(self.rows.dsn, "soma bench") as connection:
                await connection.execute(f"DROP SCHEMA IF EXISTS {quoted(self.schema)} CASCADE")

    async def _warm(self) -> None:
        """Kernels are compiled by a first relay, that none of the measured ones does it."""
        with Relay(self.site.settings, self.site.folder) as relay:
            await asyncio.to_thread(relay.ready)

    async def _drain(self) -> None:
        for form in ("avro", "json"):
            count = self.workload.rows if form == "avro" else max(1000, self.workload.rows // 2)
            await self.rows.fill(form, count)
            before = await self.rows.transactions()
            follow = Follow(self.site.broker, self.topic, self.rows)
            with Relay(self.site.settings, self.site.folder) as relay:
                found = await follow.drained(relay, count)
            statements = await self.rows.transactions() - before
            self.result.drained.setdefault(form, []).append(replace(found, statements=statements))
            self.site.say(f"{TITLES[form]}: {found.rows_per_s:,.0f} rows/s")

    async def _peers(self) -> None:
        topic = f"{self.site.settings.namespace}.peers"
        if topic not in self.site.broker.names():
            self.site.broker.create(topic)
        for peer, (batch, loops, share) in PEERS.items():
            await self.rows.fill_peers(max(500, int(share * self.workload.rows)))
            settings = self.site.settings
            job = OutboxJob(
                settings.postgres(), self.schema, settings.bootstrap(), topic, batch, loops
            )
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-m", "ops.bench.peers.outbox"], cwd=ROOT,
                env=job.env(), capture_output=True, text=True, timeout=PEER_S, check=False,
            )  # fmt: skip
            if done.returncode:
                raise PeerFailedError(f"{TITLES[peer]}: {done.stderr[-2000:]}")
            rate = float(json.loads(done.stdout.splitlines()[-1])["rows_per_s"])
            self.result.peers.setdefault(peer, []).append(rate)
            self.site.say(f"{TITLES[peer]}: {rate:,.0f} rows/s")

    async def _inserts(self) -> None:
        """Rows are relayed while others are added."""
        workload, rows = self.workload, self.rows
        await rows.fill("avro", 0)
        with Relay(self.site.settings, self.site.folder) as relay:
            await asyncio.to_thread(relay.ready)
            follow = Follow(self.site.broker, self.topic, rows)
            adding = asyncio.create_task(rows.keep_adding("avro", workload.rate, workload.seconds))
            found = await follow.drained(relay, adding)
            self.result.inserted_per_s = await adding / workload.seconds
            # From the first row's adding: all rows count.
            self.result.beside = replace(found, counted=found.rows, seconds=found.whole_s)
        self.site.say(f"with inserts going on: {self.result.beside.rows_per_s:,.0f} rows/s")

    async def _latency(self) -> None:
        await self.rows.fill("avro", 0)
        with Relay(self.site.settings, self.site.folder) as relay:
            await asyncio.to_thread(relay.ready)
            self.result.latency_ms = await outbox_latency.measure(
                self.site.settings, self.site.broker, self.rows, self.topic, LATENCY_ROWS_PER_S,
                self.workload.seconds,
            )  # fmt: skip
        self.site.say(f"latency: p99 {np.percentile(self.result.latency_ms, 99):.1f} ms")

    async def _idle(self) -> None:
        await self.rows.fill("avro", 0)
        with Relay(self.site.settings, self.site.folder) as relay:
            await asyncio.to_thread(relay.ready)
            self.result.idle_percent = await asyncio.to_thread(idle_cpu, relay, 15.0)


class PeerFailedError(Exception):
    """A peer ended with an error; the text has the end of it."""


def report(workload: Workload, found: Result) -> Report:
    """The table."""
    rows = [*_drain_rows(found), *_peer_rows(found), *_other_rows(found)]
    method = METHOD.format(
        rows=workload.rows, bytes=PAYLOAD_BYTES, tenants=TENANTS, keys=KEYS, runs=workload.runs,
        pg=found.postgres,
    )  # fmt: skip
    notes = [
        f"JSON: {workload.rows // 2:,} rows. With inserts going on: {INSERTERS} connections add "
        f"{INSERT_ROWS} rows a transaction, {workload.rate:,} a second offered for "
        f"{workload.seconds:.0f} s; from the first adding until the last row is visible and off "
        "the queue.",
        f"Latency: {LATENCY_ROWS_PER_S} rows a second, a transaction each, from just before the "
        "statement that adds and commits is sent until a read_committed consumer has the record.",
        "Statements: transactions that the database counted from before the relay's process until "
        "after it; each is a statement and a round trip. Taking and leaving the shards is in it.",
    ]
    return Report("outbox", ("what", "measured", "wanted"), rows, method, notes)


def _drain_rows(found: Result) -> list[tuple[str, str, str]]:
    rows = []
    for form, runs in found.drained.items():
        rates = [one.rows_per_s for one in runs]
        wanted = "≥ 60,000 (goal 120,000)" if form == "avro" else "≥ 80,000"
        rows.append((f"{TITLES[form]}: rows/s", spread(rates), wanted))
        cpu = [one.cpu_us_per_row for one in runs]
        rows.append(("  its CPU, µs a row", spread(cpu, 2), ""))
        whole = [one.rows / one.whole_s for one in runs]
        rows.append(("  rows/s, the process's start included", spread(whole), ""))
        for title, counts in (
            ("statements", [one.per_thousand(one.statements) for one in runs]),
            ("Kafka transactions", [one.per_thousand(one.batches) for one in runs]),
        ):
            shown = spread(counts, 2) if any(counts) else "-"
            rows.append((f"  {title} per 1,000 rows", shown, ""))
    return rows


def _peer_rows(found: Result) -> list[tuple[str, str, str]]:
    wanted = {"one": "≥ 3 ×", "batched": "≥ 1.5 ×"}
    rows = []
    for peer, rates in found.peers.items():
        ratio = ""
        if "avro" in found.drained:
            ratio = f"; this relay {found.rate() / statistics.median(rates):.1f} ×"
        rows.append((f"{TITLES[peer]}: rows/s", spread(rates) + ratio, wanted.get(peer, "")))
    return rows


def _other_rows(found: Result) -> list[tuple[str, str, str]]:
    rows = []
    if found.beside is not None:
        rows.append(("with inserts going on: inserted/s", f"{found.inserted_per_s:,.0f}", ""))
        rows.append(("  relayed rows/s", f"{found.beside.rows_per_s:,.0f}", "≥ 20,000"))
    if found.latency_ms:
        for q, wanted in ((50, ""), (99, "≤ 50"), (100, "")):
            value = f"{np.percentile(found.latency_ms, q):.1f}"
            name = "max" if q == 100 else f"p{q}"
            rows.append((f"commit to consumer, {name} (ms)", value, wanted))
    if found.idle_percent is not None:
        rows.append(("idle relay, % of a core", f"{found.idle_percent:.1f}", ""))
    return rows


def as_json(found: Result) -> dict[str, Any]:
    """The results as JSON data."""

    def runs(given: Sequence[Drained]) -> list[dict[str, Any]]:
        return [asdict(one) | {"rows_per_s": one.rows_per_s} for one in given]

    latency = found.latency_ms
    return {
        "drained": {form: runs(given) for form, given in found.drained.items()},
        "peers_rows_per_s": found.peers,
        "with_inserts": runs([found.beside])[0] if found.beside else None,
        "inserted_per_s": found.inserted_per_s,
        "latency_ms": {f"p{q}": float(np.percentile(latency, q)) for q in (50, 99, 100)}
        if latency else None,
        "idle_cpu_percent": found.idle_percent,
    }  # fmt: skip
