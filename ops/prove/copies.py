"""Proof that outputs in a shadow, and tables made anew, are whole, whoever is killed meanwhile.

    python -m ops.prove.copies --records 40000 --frames 40000 --kills 10 --broker 2 --seed 1

While live traffic goes on, jobs make the predictors' state anew with its outputs into a shadow,
each into one of its own; others make the tables of frames anew, whose rows were damaged before.
Workers are killed (-9) and started again, and so is the broker, a Kafka of the proof's own. In the
end each shadow must have what the live workers sent for the same observations, byte by byte and in
order, and each table what its topic has.
Exit status 0: so it is.
"""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.settings import Settings
from ops.bench.site import Say
from ops.bench.worker import Worker
from ops.prove.beside import beside
from ops.prove.command import command
from ops.prove.crew import Crew
from ops.prove.jobs import AWAY, DONE_S, LOOK_S, run_job
from ops.prove.rebuild import PROCESSOR, await_updates, observations
from ops.prove.replay import ENVIRONMENT, SOURCE, on_own_kafka, read
from ops.prove.servers import Server
from ops.prove.traffic import TENANTS, Traffic
from stores import migrations
from stores.names import quoted, schema_of
from stores.postgres import connected
from topics import codec, preflight

SINKS = ("cog.predictor.updates", "cog.predictor.calibration", "cog.next.events")
FRAMES, TABLES = "cog.global.frame", ("frames", "frame_history")
WORKERS, SILENT = 2, 20
NAMED = 3  # of what differs
DAMAGE = {  # of the silent tenants: the next frame of another would mend it
    "frames": "UPDATE {}.frames SET rationale = 'damaged' WHERE tenant LIKE 'silent%'",
    "frame_history": "DELETE FROM {}.frame_history WHERE tenant LIKE 'silent%' AND seq % 7 = 0",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    records: int = 40_000
    frames: int = 40_000
    rate: int = 6_000  # records a second, of each worker's jobs together
    kills: int = 10
    broker: int = 2  # kills of the broker
    alive: int = 4  # seconds between two blows at most
    seed: int = 1


@dataclass(slots=True)
class Report:
    """What happened, and what was wrong."""

    observations: int = 0
    frames: int = 0
    kills: int = 0
    broker_kills: int = 0
    shadows: int = 0  # jobs that filled one
    outputs: int = 0  # in these
    tables: int = 0  # made anew
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def frame(tenant: str, number: int) -> dict[str, Any]:
    """A frame of this proof, which no integrator made."""
    return codec.from_json("global_frame", {
        "frame_id": f"00000000-0-{number}", "tenant": tenant, "ts": time.time_ns() // 1000,
        "domain": "a", "leader": "a", "weights": {"a": 1.0}, "errors": {"a": 0.1},
        "confidence": 0.5, "entropy": 0.0, "regret_bound": 0.0, "dwell_ms": number,
    })  # fmt: skip


class Jobs:
    """Jobs one after the other, in threads; what is wrong goes into the report."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self._settings, self._report = settings, report
        self.shadows: dict[str, dict[int, int]] = {}  # that are full: partition -> up to where
        self._tables = 0

    def fill_shadows(self, stop: threading.Event) -> None:
        """Each job's outputs into a shadow of its own."""
        self._each(stop, self._fill)

    def make_tables(self, stop: threading.Event) -> None:
        """The tables in turn, each damaged before."""
        self._each(stop, self._make)

    def _each(self, stop: threading.Event, work: Callable[[], None]) -> None:
        while not stop.is_set():
            try:
                work()
            except AWAY:
                stop.wait(LOOK_S)
            except RuntimeError as error:
                self._report.problems.append(str(error))
                return

    def _fill(self) -> None:
        name = f"{self._settings.namespace}{len(self.shadows)}"
        given = {"id": name, "mode": "rebuild", "target": PROCESSOR, "shadow": name}
        found = _done(run_job(self._settings, given))
        parts = json.loads(found["plan"])["partitions"]
        self.shadows[name] = {int(p): int(one["to"]) for p, one in parts.items()}

    def _make(self) -> None:
        table = TABLES[self._tables % len(TABLES)]
        self._tables += 1
        fetch(self._settings, DAMAGE[table])
        name = f"table{self._tables}"
        _done(run_job(self._settings, {"id": name, "mode": "projection", "target": table}))
        self._report.tables += 1


def _done(found: dict[str, Any]) -> dict[str, Any]:
    if found["state"] != "done":
        raise RuntimeError(f"{found['id']} {found['state']}: {found['message']}")
    return found


def fetch(settings: Settings, statement: str) -> list[Any]:
    """Rows of a statement; `{}` in it stands for the schema. StoreDown."""

    async def ask() -> list[Any]:
        async with connected(settings.postgres(), "soma prove") as connection:
            schema = quoted(schema_of(settings.namespace))
            return list(await connection.fetch(statement.format(schema)))

    return asyncio.run(ask())


def run(
    settings: Settings, broker: Server | None, options: Options, folder: Path, say: Say
) -> Report:
    """Feed, make anew, kill, and compare. `broker` is that of the settings, if it may die."""
    report, rng = Report(), random.Random(options.seed)
    preflight.apply(settings)
    asyncio.run(_migrate(settings))
    traffic, jobs = observations(settings), Jobs(settings, report)
    frames = Traffic(settings, FRAMES, "global_frame", frame)
    for send, count in ((traffic.send, options.records), (frames.send, options.frames)):
        for k in range(count):
            send(f"silent{k % SILENT}" if k % 2 else f"live{k % TENANTS}")
    traffic.flush()
    frames.flush()
    began = time.monotonic()
    env = ENVIRONMENT | {
        "SOMA_REPLAY_RATE": str(options.rate), "SOMA_PROJECTIONS__HISTORY": "all",
        "SOMA_POSTGRES_DSN": settings.postgres(),
    }  # fmt: skip
    agents = f"{PROCESSOR},replay,projections"
    with Crew(lambda: Worker(settings, agents, folder, **env), WORKERS) as crew:
        await_updates(settings, traffic.sent, crew.workers)
        say("jobs begin")
        with (
            traffic.going_on(), frames.going_on(),
            beside("shadows", jobs.fill_shadows, 2 * DONE_S),
            beside("tables", jobs.make_tables, 2 * DONE_S),
        ):  # fmt: skip
            crew.strike(
                options.kills, options.broker, broker, rng, (1.0, options.alive), report, say
            )
        say(f"{len(jobs.shadows)} shadows are filled, {report.tables} tables made anew")
        await_updates(settings, traffic.sent, crew.workers)
        say("comparing")
        compare_tables(settings, crew.workers, report)
    report.observations, report.frames = traffic.sent, frames.sent
    report.seconds = round(time.monotonic() - began, 1)
    compare_shadows(settings, jobs.shadows, report)
    return report


async def _migrate(settings: Settings) -> None:
    async with connected(settings.postgres(), "soma prove") as connection:
        await migrations.up(connection, schema_of(settings.namespace), migrations.load())


def compare_shadows(
    settings: Settings, shadows: Mapping[str, Mapping[int, int]], report: Report
) -> None:
    """What is in each shadow, with what was sent live for the same observations."""
    live = {name: _outputs(settings, name) for name in SINKS}
    seen: dict[int, list[int]] = {}  # offsets of the observations, by partition
    for one in read(settings, SOURCE):
        if codec.decode(one.value() or b"")[0] == "observation":
            seen.setdefault(one.partition() or 0, []).append(one.offset() or 0)
    for shadow, upto in shadows.items():
        own = settings.model_copy(update={"namespace": shadow})
        for name in SINKS:
            found = _outputs(own, name)
            for partition, end in upto.items():
                wanted = [one for one in live[name].get(partition, []) if one[0] < end]
                had = found.get(partition, [])
                report.outputs += len(had)
                if name == SINKS[0] and len(wanted) != sum(at < end for at in seen[partition]):
                    report.problems.append(f"{name}/{partition}: {len(wanted)} before {end}")
                if had != wanted:
                    where = next(
                        (k for k, pair in enumerate(zip(had, wanted, strict=False))
                         if pair[0] != pair[1]), min(len(had), len(wanted)),
                    )  # fmt: skip
                    report.problems.append(
                        f"{shadow}: {name}/{partition}: {len(had)} outputs, not {len(wanted)}, or "
                        f"others from number {where} on"
                    )
    report.shadows = len(shadows)
    if not shadows:
        report.problems.append("no shadow was filled")


def _outputs(settings: Settings, topic: str) -> dict[int, list[tuple[int, Any, Any]]]:
    """By partition, in order: the offset of the observation that caused it, key and value."""
    found: dict[int, list[tuple[int, Any, Any]]] = {}
    for one in read(settings, topic):
        name, record = codec.decode(one.value() or b"")
        if name.startswith("control_"):
            continue
        cause = int(str(record["observation_id"]).rpartition("-")[2])
        found.setdefault(one.partition() or 0, []).append((cause, one.key(), one.value()))
    return found


def compare_tables(settings: Settings, workers: list[Worker], report: Report) -> None:
    """Each table with its topic, once the live projections have come to its end."""
    wanted: dict[str, set[tuple[Any, ...]]] = {"frame_history": set()}
    last: dict[str, tuple[Any, ...]] = {}
    for one in read(settings, FRAMES):
        name, record = codec.decode(one.value() or b"")
        if name != "global_frame":
            continue
        row = (
            one.partition(), one.offset(), record["tenant"], record["frame_id"],
            record["dwell_ms"], record["rationale"],
        )  # fmt: skip
        wanted["frame_history"].add(row)
        last[record["tenant"]] = row
    wanted["frames"] = set(last.values())
    deadline = time.monotonic() + DONE_S
    while found := [text for name in TABLES if (text := _differs(settings, name, wanted[name]))]:
        if time.monotonic() > deadline:
            report.problems += found
            break
        for worker in workers:
            worker.check()
        time.sleep(LOOK_S)
    if not report.tables:
        report.problems.append("no table was made anew")


def _differs(settings: Settings, table: str, wanted: set[tuple[Any, ...]]) -> str:
    """How a table differs from what it should have; empty: it doesn't."""
    rows = fetch(
        settings,
        "SELECT kafka_partition, kafka_offset, tenant, frame_id, dwell_ms, rationale "
        f"FROM {{}}.{table}",
    )
    held = {tuple(row) for row in rows}
    if len(held) == len(rows) and held == wanted:
        return ""
    lacking, odd = sorted(wanted - held)[:NAMED], sorted(held - wanted)[:NAMED]
    return f"{table}: {len(rows)} rows, not {len(wanted)}; lacking {lacking}, not of it {odd}"


def prove(settings: Settings, options: Options, say: Say) -> Report:
    """One run on servers of its own."""
    return on_own_kafka(
        settings, say, lambda own, kafka, home: run(own, kafka, options, home, say), ("valkey",)
    )


if __name__ == "__main__":
    command(__doc__, Options, prove)
