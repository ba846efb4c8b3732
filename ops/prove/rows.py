"""Proof that row processors lose, double and misplace nothing when their workers are killed.

    python -m ops.prove.rows --events 400000 --rate 8000 --kills 6 --seed 1

Moves flow, bad and misplaced ones and settings among them, while the workers of ops/prove/ledger
are killed (-9) and started again: two processors of one source, which use all that rows can, in one
worker, in one each, and in workers of which one runs both. In the end each output, row, dead letter
and count is compared with a count of our own, that shares fastavro and the schemas with the engine,
and nothing else.
Exit status 0: nothing lost, doubled, wrong or out of order, and no row that differs.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from agents.settings import Settings
from ops.bench.broker import PARTITIONS
from ops.bench.site import Say, Site, on_broker, opened
from ops.bench.worker import Worker
from ops.examples.install import install
from ops.prove.check import POSITION_KEY
from ops.prove.command import command
from ops.prove.ledger import MOVES, PLUGIN
from ops.prove.ledger.check import Check, Report
from ops.prove.ledger.feed import CUT_EVERY, Feeder
from ops.prove.ledger.model import decoded
from ops.prove.reader import record_of
from ops.prove.wire import Record
from topics.plugins import VARIABLE
from topics.reading import ends_of, read_to

BOTH = ",".join(PLUGIN.processors)
LAYOUTS = ((BOTH,), tuple(PLUGIN.processors), (BOTH, "totals"))  # what each worker of a turn runs
ENVIRONMENT = {VARIABLE: "ops.prove.ledger", "SOMA_SESSION_TIMEOUT_S": "6", "SOMA_HEARTBEAT_S": "1"}
DRAIN_S = 300.0
ALIVE_S = (0.3, 4.0)  # how long workers may live, from their readiness on
LOOK_S = 0.5
RECOVERED = re.compile(r"recovered processor=(\w+) partition=(\d+) .* position=(\d+)")


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    events: int = 400_000
    rate: int = 8_000  # a second
    kills: int = 6
    seed: int = 1


def run(site: Site, options: Options) -> Report:
    """Feed, kill, and compare."""
    report, rng = Report(), random.Random(options.seed)
    feeder = Feeder(site.settings, site.topic(MOVES), options.events, options.rate, options.seed)
    with ExitStack() as all_workers:
        for turn in range(options.kills + 1):
            workers = [
                all_workers.enter_context(Worker(site.settings, runs, site.folder, **ENVIRONMENT))
                for runs in LAYOUTS[turn % len(LAYOUTS)]
            ]
            for worker in workers:
                worker.ready()
            if not turn:
                feeder.start()
            if turn < options.kills:
                time.sleep(rng.uniform(*ALIVE_S))
                report.busy_kills += feeder.is_alive()
                for worker in rng.sample(workers, len(workers)):
                    worker.kill()
                report.kills = turn + 1
                site.say(f"kill {turn + 1} of {options.kills}: {feeder.sent:,} sent")
        feeder.join(options.events / options.rate + DRAIN_S)
        if feeder.is_alive() or feeder.failed:
            raise RuntimeError(f"feeding failed: {feeder.failed or 'it takes too long'}")
        for _ in range(2):  # what came to the wrong place is in the log once more after the first
            drain(site, workers)
        shown = settled(workers)
        site.say("comparing")
        for worker in workers:
            worker.stop()
    compare(site, options, report, shown, [worker.log_text() for worker in workers])
    return report


def drain(site: Site, workers: list[Worker]) -> None:
    """Until both have folded every move that is there, and a timer has told who is idle since."""
    last = [0] * PARTITIONS
    for record in read(site, MOVES):
        if record.key:  # ticks have none
            last[record.partition] = max(last[record.partition], record.offset)

    def done() -> bool:
        behind = [
            at <= end
            for name in PLUGIN.processors
            for at, end in zip(positions(site, name), last, strict=True)
        ]
        if any(behind):
            time.sleep(LOOK_S)
        return not any(behind)

    workers[0].wait("the end of the source", done, DRAIN_S)
    workers[0].wait("a timer", lambda: bool(metrics(workers).get("ledger_idle")), DRAIN_S)


def positions(site: Site, processor: str) -> list[int]:
    """How far a processor is in each partition, by its state topic."""
    found = [0] * PARTITIONS
    for record in read(site, f"soma.{processor}.state"):
        if record.key == POSITION_KEY:
            next_offset = decoded(record.value)[1]["next_offset"]
            found[record.partition] = max(found[record.partition], next_offset)
    return found


def read(site: Site, topic: str) -> Iterator[Record]:
    """All committed records of a topic, as it stands now."""
    consumer = Consumer(
        site.settings.librdkafka(
            group_id="prove-rows", isolation_level="read_committed", enable_auto_commit=False
        )
    )
    places = [(site.topic(topic), partition) for partition in range(PARTITIONS)]
    consumer.assign([TopicPartition(*place, 0) for place in places])
    try:
        for messages in read_to(consumer, ends_of(consumer, places)):
            yield from map(record_of, messages)
    finally:
        consumer.close()


def metrics(workers: list[Worker]) -> dict[str, float]:
    """What these workers' laws have counted, together."""
    found: Counter[str] = Counter()
    for worker in workers:
        for name, value in worker.metrics().items():
            if name.startswith("ledger_") and name.endswith("_total"):
                found[name.removesuffix("_total")] += int(value)
    return {name: float(value) for name, value in found.items()}


def settled(workers: list[Worker]) -> dict[str, float]:
    """What was counted, but for timers, which go on: counted a moment behind its commit."""
    found: dict[str, float] = {}
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline:
        before, found = found, metrics(workers)
        found.pop("ledger_idle", None)
        if found and found == before:
            return found
        time.sleep(LOOK_S)
    raise TimeoutError(f"the workers go on counting {found} for {DRAIN_S:.0f} s")


def compare(
    site: Site, options: Options, report: Report, shown: dict[str, float], logs: list[str]
) -> None:
    """Everything with what it must be; `shown` and `logs` are the last workers'."""
    prefix = site.broker.id_prefix(site.topic(MOVES))
    check = Check(lambda topic: read(site, topic), prefix, PARTITIONS, report)
    cut = sum(k % CUT_EVERY == 5 for k in range(options.events))
    check.moves(options.events, cut)
    check.outputs()
    check.letters(site.topic(MOVES))
    since: dict[tuple[str, int], int] = {}
    for name, partition, at in RECOVERED.findall("\n".join(logs)):
        place = name, int(partition)
        since[place] = min(int(at), since.get(place, int(at)))
    check.counts(shown, since)
    report.used = check.used()


def prove(settings: Settings, options: Options, say: Say) -> Report:
    """One run in a namespace of its own, on the broker of the settings or one of its own."""
    install(PLUGIN)
    with on_broker(settings, say) as own, opened(own, say) as site:
        return run(site, options)


if __name__ == "__main__":
    command(__doc__, Options, prove)
