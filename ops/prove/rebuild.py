"""Proof that states are made anew and put in place whole, whoever is killed meanwhile.

    python -m ops.prove.rebuild --records 60000 --kills 10 --broker 2 --lost 1 --seed 1

Rows of the predictors' state are damaged, and jobs make it anew and put it in place, again and
again, while live traffic goes on. Workers are killed (-9) and started again, and so is the broker,
a Kafka of the proof's own; and the whole state topic is deleted. In the end the state must be the
one that follows from the log, and each observation must have caused exactly one update.
Exit status 0: so it is.
"""

import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from agents.engine.registry import processors
from agents.history.audit import audit
from agents.history.plans import plan_of
from agents.settings import Settings
from ops.bench.site import Say
from ops.bench.worker import Worker
from ops.prove.beside import beside
from ops.prove.command import command
from ops.prove.crew import Crew
from ops.prove.jobs import AWAY, DONE_S, LOOK_S, run_job
from ops.prove.replay import ENVIRONMENT, PARTITIONS, SOURCE, on_own_kafka
from ops.prove.replay import read as read_topic
from ops.prove.servers import Server
from ops.prove.traffic import FLUSH_S, TENANTS, Traffic
from topics import codec, preflight
from topics.broker import connect, look
from topics.messages import as_bytes
from topics.partition import partition_of

PROCESSOR, OUT, STATE = "predictors", "cog.predictor.updates", "soma.predictors.state"
SILENT, WORKERS = 20, 2  # of the silent ones nothing comes after the beginning


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    records: int = 60_000
    rate: int = 20_000  # records a second, of each worker's jobs together
    kills: int = 10
    broker: int = 2  # kills of the broker
    lost: int = 1  # whether the state topic is deleted
    alive: int = 10  # seconds between two blows at most: jobs get through now and then
    seed: int = 1


@dataclass(slots=True)
class Report:
    """What happened, and what was wrong."""

    observations: int = 0
    kills: int = 0
    broker_kills: int = 0
    jobs: int = 0  # that were done
    failed: int = 0  # and that gave up: the live state was as before
    written: int = 0  # rows put in place
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def observations(settings: Settings) -> Traffic:
    """Observations of this proof."""
    return Traffic(settings, SOURCE, "observation", _observation)


def _observation(tenant: str, number: int) -> dict[str, Any]:
    return {
        "tenant": tenant, "domain": "state", "ts": time.time_ns() // 1000,
        "vector": bytes([number % 7, 0, 128, 63]), "sequence": number,
    }  # fmt: skip


class Rebuilds:
    """Damages rows and has them made anew."""

    def __init__(self, settings: Settings, report: Report, seed: int) -> None:
        self._settings, self._report = settings, report
        self._rng = random.Random(seed)
        self._started = 0

    def run(self, stop: threading.Event) -> None:
        """One after the other, in a thread; what is wrong goes into the report."""
        while not stop.is_set():
            try:
                self._damage()
                self.once()
            except AWAY:
                stop.wait(LOOK_S)
            except RuntimeError as error:
                self._report.problems.append(str(error))
                return

    def _damage(self) -> None:
        """Give some silent tenants' rows the values of others."""
        rows: dict[bytes, bytes] = {}
        for one in read_topic(self._settings, STATE):
            key, value = as_bytes(one.key()), as_bytes(one.value())
            if key is not None and value is not None and key.startswith(b"silent"):
                rows[key] = value
        values = sorted(rows.values())
        producer = Producer(self._settings.librdkafka())
        for key in self._rng.sample(sorted(rows), min(len(rows), PARTITIONS)):
            home = partition_of(key.decode().partition("\x1f")[0], PARTITIONS)
            producer.produce(
                self._settings.topic(STATE), self._rng.choice(values), key, partition=home
            )
        producer.flush(FLUSH_S)

    def once(self) -> dict[str, Any]:
        """One job, from its beginning to its end. RuntimeError where none comes."""
        self._started += 1
        name = f"rebuild-{self._started}"
        found = run_job(
            self._settings, {"id": name, "mode": "rebuild", "target": PROCESSOR, "apply": True}
        )
        self._note(found)
        return found

    def _note(self, found: dict[str, Any]) -> None:
        if found["state"] != "done":
            self._report.failed += 1
            return
        self._report.jobs += 1
        for one in json.loads(found["plan"])["partitions"].values():
            self._report.written += one["applied"]["written"] if one["applied"] else 0


def run(
    settings: Settings, broker: Server | None, options: Options, folder: Path, say: Say
) -> Report:
    """Feed, damage, rebuild, kill, and compare. `broker` is that of the settings, if it may die."""
    report, rng = Report(), random.Random(options.seed)
    preflight.apply(settings)
    traffic, rebuilds = observations(settings), Rebuilds(settings, report, options.seed)
    for k in range(options.records):
        traffic.send(f"silent{k % SILENT}" if k % 2 else f"live{k % TENANTS}")
    traffic.flush()
    began, alive_s = time.monotonic(), (1.0, options.alive)
    env = ENVIRONMENT | {"SOMA_REPLAY_RATE": str(options.rate)}
    agents = f"{PROCESSOR},replay"
    with Crew(lambda: Worker(settings, agents, folder, **env), WORKERS) as crew:
        with traffic.going_on():
            with beside("rebuilds", rebuilds.run, 2 * DONE_S):
                crew.strike(options.kills, options.broker, broker, rng, alive_s, report, say)
            if options.lost:
                crew.kill_all()
                lose(settings)
                crew.start()
                say("the state topic was deleted")
            last = rebuilds.once()
            if last["state"] != "done":
                report.problems.append(f"the last job {last['state']}: {last['message']}")
        await_updates(settings, traffic.sent, crew.workers)
    report.observations, report.seconds = traffic.sent, round(time.monotonic() - began, 1)
    say("comparing")
    compare(settings, report)
    return report


def lose(settings: Settings) -> None:
    """Delete the state topic, and make it anew."""
    admin, name = connect(settings.librdkafka()), settings.topic(STATE)
    for future in admin.delete_topics([name], operation_timeout=FLUSH_S).values():
        future.result(FLUSH_S)
    deadline = time.monotonic() + DONE_S
    while look(admin, [name]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} is still there after {DONE_S:g} s")
        time.sleep(LOOK_S)
    preflight.apply(settings)


def causes(settings: Settings) -> Counter[str]:
    """How many updates each observation caused."""
    values = (one.value() or b"" for one in read_topic(settings, OUT))
    return Counter(str(codec.decode(value)[1]["observation_id"]) for value in values)


def await_updates(settings: Settings, sent: int, workers: list[Worker]) -> None:
    """Until there is an update of each observation. RuntimeError."""
    deadline = time.monotonic() + DONE_S
    while (found := len(causes(settings))) < sent:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{found} of {sent} observations have an update after {DONE_S:g} s")
        for worker in workers:
            worker.check()
        time.sleep(LOOK_S)


def compare(settings: Settings, report: Report) -> None:
    """What there is, with what there must be."""
    found = causes(settings)
    if doubled := [name for name, count in found.items() if count > 1]:
        report.problems.append(f"{len(doubled)} updates are doubled, {min(doubled)} among them")
    if len(found) != report.observations:
        report.problems.append(f"{len(found)} updates of {report.observations} observations")
    plan = plan_of(settings, processors([PROCESSOR])[PROCESSOR])
    for partition in range(plan.partitions):
        anew = audit(settings, plan, partition, "", False, lambda _: None).rebuilt
        if anew is None or anew.differing:
            rows = [one.key for one in anew.differing[:3]] if anew is not None else []
            report.problems.append(f"partition {partition}: rows differ, {rows} among them")


def prove(settings: Settings, options: Options, say: Say) -> Report:
    """One run on a Kafka of its own."""
    return on_own_kafka(settings, say, lambda own, kafka, home: run(own, kafka, options, home, say))


if __name__ == "__main__":
    command(__doc__, Options, prove)
