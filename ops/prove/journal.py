"""Proof that an outage of PostgreSQL loses, doubles and reorders nothing that was acknowledged.

    python -m ops.prove.journal --outage 30 --rate 500 --kills 2

Writers, each with a key of its own, send events to `soma api` and wait for each answer. PostgreSQL
is killed (-9) and stays away; meanwhile, and once more while the journal is drained, the API is
killed (-9) and started again. In the end the table is compared with what was acknowledged. The
comparison knows the table and the acknowledgements, and nothing of the journal.
Exit status 0: each acknowledged event is there once, and those of a key are in their order.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from agents.settings import Settings
from ops.stack import Stack
from ops.stack.ports import choose
from stores import migrations
from stores.names import quoted, schema_of
from stores.postgres import connected

ROOT = Path(__file__).parents[2]
TOPIC = "cog.observations"
RETRY_S = 0.5  # while the API is away: its start needs the processor more than we do
START_S = 60.0
DRAIN_S = 120.0
TENANTS = 10


@dataclass(frozen=True, slots=True)
class Options:
    """Events a second in all, and seconds."""

    rate: float = 500.0
    writers: int = 50
    before_s: float = 3.0
    outage_s: float = 30.0
    after_s: float = 5.0
    kills: int = 2  # of the API: all but the last within the outage, the last when it is over


@dataclass
class Report:
    """What was done and what was found."""

    acknowledged: int = 0
    journaled: int = 0
    retries: int = 0
    rate: float = 0.0  # acknowledged per second, over all
    outage_rate: float = 0.0  # while PostgreSQL was away, the API's restarts included
    ack_p99_ms: float = 0.0
    silence_s: float = 0.0  # the longest time without an acknowledgement
    drain_s: float = 0.0  # from PostgreSQL's return until nothing waited
    stored: int = 0
    missing: int = 0
    doubled: int = 0
    inversions: int = 0
    load: tuple[float, ...] = ()

    @property
    def proved(self) -> bool:
        """Nothing is wrong, and the journal was really used."""
        wrong = self.missing or self.doubled or self.inversions
        return not wrong and self.journaled > 0 and self.acknowledged > 0


class Api:
    """One `soma api` without tokens, on a port that it keeps."""

    def __init__(self, settings: Settings, log: Path) -> None:
        port = choose(["api"], {})["api"]
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        bare = {name: text for name, text in os.environ.items() if not name.startswith("SOMA_")}
        self._env = bare | {
            "SOMA_HOME": str(settings.home),
            "SOMA_NAMESPACE": settings.namespace,
            "SOMA_POSTGRES_DSN": settings.postgres(),
            "SOMA_API__AUTH": "off",
            "SOMA_API__PORT": str(port),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it answers a little later."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "agents.cli", "api"],
                env=self._env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def kill(self) -> None:
        """End it by SIGKILL, at whatever point it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10.0)

    async def answers(self) -> None:
        """Wait until it does."""
        async with asyncio.timeout(START_S), aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/healthz") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.05)


@dataclass
class Writers:
    """All writers; writer k has the tenant k mod 10 and the key k, and counts its events."""

    url: str
    options: Options
    acknowledged: list[int] = field(default_factory=list)  # writer -> events
    at: list[float] = field(default_factory=list)  # when each acknowledgement came
    seconds: list[float] = field(default_factory=list)  # how long each took, retries included
    journaled: int = 0
    retries: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop`; returns when the last event of each is acknowledged."""
        self.acknowledged = [0] * self.options.writers
        connector = aiohttp.TCPConnector(limit=0)
        limit = aiohttp.ClientTimeout(total=15.0)
        async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:
            await asyncio.gather(
                *(self._one(session, k, stop) for k in range(self.options.writers))
            )

    async def _one(self, session: aiohttp.ClientSession, k: int, stop: asyncio.Event) -> None:
        every = self.options.writers / self.options.rate
        due = time.monotonic() + every * k / self.options.writers
        while not stop.is_set():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + every, time.monotonic() - 1.0)  # late ones are made up for a second
            begun = time.monotonic()
            while not await self._sent(session, k, self.acknowledged[k]):
                self.retries += 1
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.0))
            self.acknowledged[k] += 1
            self.at.append(time.monotonic())
            self.seconds.append(self.at[-1] - begun)

    async def _sent(self, session: aiohttp.ClientSession, k: int, n: int) -> bool:
        vector = [float(k), float(n)]
        payload = {"domain": "proof", "ts": "2026-01-31T12:00:00Z", "vector": vector}
        body = {"payload": payload, "dedupe_key": f"{k}-{n}", "key": f"key-{k}"}
        headers = {"X-Soma-Tenant": f"tenant-{k % TENANTS}"}
        try:
            url = f"{self.url}/events/{TOPIC}"
            async with session.post(url, json=body, headers=headers) as answer:
                if answer.status in (200, 202):
                    self.journaled += (await answer.json())["journaled"]
                    return True
                if answer.status >= 500 or answer.status == 429:
                    return False
                raise RuntimeError(f"{answer.status}: {await answer.text()}")
        except (aiohttp.ClientError, TimeoutError):
            return False


async def prove(stack: Stack, settings: Settings, options: Options) -> Report:
    """Run it on a stack whose PostgreSQL may be killed; the schema is migrated."""
    api = Api(settings, settings.home / "api.log")
    api.start()
    try:
        await api.answers()
        writers, stop = Writers(api.url, options), asyncio.Event()
        begun = time.monotonic()
        running = asyncio.create_task(writers.run(stop))
        away, back, drained = await _strike(stack, api, options, running)
        stop.set()
        await running
        ended = time.monotonic()
        report = Report(sum(writers.acknowledged), writers.journaled, writers.retries)
        report.rate = report.acknowledged / (ended - begun)
        report.outage_rate = sum(away <= at < back for at in writers.at) / (back - away)
        report.silence_s = max(b - a for a, b in pairwise(writers.at))
        report.ack_p99_ms = 1e3 * sorted(writers.seconds)[int(len(writers.seconds) * 0.99)]
        report.drain_s = drained - back
        report.load = os.getloadavg()
        await _compare(settings, writers.acknowledged, report)
        return report
    finally:
        api.kill()


async def _strike(
    stack: Stack, api: Api, options: Options, running: "asyncio.Task[None]"
) -> tuple[float, float, float]:
    """Kill what is to be killed; when PostgreSQL was away, was back, and all was drained."""
    await asyncio.sleep(options.before_s)
    away = time.monotonic()
    await asyncio.to_thread(stack.kill, "postgres")
    within = max(options.kills - 1, min(options.kills, 1))
    for _ in range(within):
        await asyncio.sleep(options.outage_s / (within + 1))
        await _killed(api)
    await asyncio.sleep(max(0.0, away + options.outage_s - time.monotonic()))
    await asyncio.to_thread(stack.start, "postgres")
    back = time.monotonic()
    if options.kills > 1:
        await asyncio.sleep(0.5)
        await _killed(api)
    await _drained(api.url)
    drained = time.monotonic()
    await asyncio.sleep(options.after_s)
    if running.done():
        await running  # raises what ended it
    await _drained(api.url)
    return away, back, drained


async def _killed(api: Api) -> None:
    await asyncio.to_thread(api.kill)
    api.start()
    await api.answers()


async def _drained(url: str) -> None:
    async with asyncio.timeout(DRAIN_S), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/admin/journal/stats") as answer:
                if answer.status == 200 and (await answer.json())["pending"] == 0:
                    return
            await asyncio.sleep(0.1)


async def _compare(settings: Settings, acknowledged: list[int], report: Report) -> None:
    schema = quoted(schema_of(settings.namespace))
    async with connected(settings.postgres(), "soma proof") as connection:
        rows = await connection.fetch(
            f"SELECT tenant_id, key, payload FROM {schema}.outbox_events ORDER BY id"
        )
    judge(
        acknowledged, [(r["tenant_id"], r["key"], json.loads(r["payload"])) for r in rows], report
    )


def judge(
    acknowledged: list[int], rows: list[tuple[str, str, Mapping[str, Any]]], report: Report
) -> None:
    """Note what of the acknowledged is missing, doubled or not in its order among the rows."""
    found: dict[int, list[int]] = {k: [] for k in range(len(acknowledged))}
    for tenant, key, payload in rows:
        k, n = (int(one) for one in payload["vector"])
        if (tenant, key) != (f"tenant-{k % TENANTS}", f"key-{k}"):
            raise ValueError(f"the event {k}-{n} is under {tenant}, {key}")
        found[k].append(n)
    report.stored = len(rows)
    for k, numbers in found.items():
        report.missing += len(set(range(acknowledged[k])) - set(numbers))
        report.doubled += sum(count - 1 for count in Counter(numbers).values())
        report.inversions += sum(b < a for a, b in pairwise(numbers))


async def _migrate(settings: Settings) -> None:
    async with connected(settings.postgres(), "soma proof") as connection:
        await migrations.up(connection, schema_of(settings.namespace), migrations.load())


def main() -> int:
    """Prove it on a stack of its own; the report as JSON."""
    parser = argparse.ArgumentParser(description="PostgreSQL away, the API killed: nothing lost?")
    parser.add_argument("--rate", type=float, default=500.0, help="events a second")
    parser.add_argument("--outage", type=float, default=30.0, help="seconds")
    parser.add_argument("--kills", type=int, default=2, help="of the API process")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soma-proof-") as folder:
        home = Path(folder)
        (home / "stack").mkdir()
        stack = Stack(home / "stack", ephemeral=True, without=("kafka", "valkey"))
        try:
            dsn = SecretStr(stack.up().postgres_dsn)
            settings = Settings(home=home, namespace="proof", postgres_dsn=dsn)
            asyncio.run(_migrate(settings))
            options = Options(rate=given.rate, outage_s=given.outage, kills=given.kills)
            report = asyncio.run(prove(stack, settings, options))
        finally:
            stack.destroy()
    print(json.dumps(asdict(report) | {"proved": report.proved}))
    return 0 if report.proved else 1


if __name__ == "__main__":
    raise SystemExit(main())
