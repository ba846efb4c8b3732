"""`soma bench memory-events`: how many events of memories a worker folds into memory.latest."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from agents.coordinates import event_id, memory_id
from ops.bench.broker import PARTITIONS
from ops.bench.filling import fill, tenant_names
from ops.bench.report import Report, spread
from ops.bench.site import Site
from topics import codec

PROCESSOR, SOURCE, SINK = "memory", "memory.events", "memory.audit"
GOAL = "≥ 20,000 events/s"
START = 1_760_000_000_000_000  # event time of the first, us
TEXT = "what was said about the {k}-th thing, some hundred characters, as an agent writes it down"
COLUMNS = ("events", "dimension", "events/s", "CPU µs/event", "wanted")
METHOD = (
    "{events:,} events that create as many memories of {tenants:,} tenants, each with a payload of "
    "about 110 bytes, a vector of {dimension} float32 and a dedupe key of its own; {partitions} "
    "partitions, one worker, one broker, on one machine, {runs} times: median (min - max). From "
    "the first commit seen on memory.audit to the last (what the first holds isn't counted): "
    "checks, ids, head and content in memory.latest, the answer, state, transactions and CRC "
    "checks on. CPU: the worker's process, all threads, over the same span."
)


@dataclass
class Workload:
    """What to run."""

    events: int = 100_000
    runs: int = 3
    tenants: int = 100
    dimension: int = 384
    seed: int = 1


@dataclass
class Result:
    """The runs' figures."""

    rates: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def events(workload: Workload) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values."""
    rng, names = np.random.default_rng(workload.seed), tenant_names(workload.tenants)
    for k in range(workload.events):
        tenant, at, key = names[k % len(names)], f"doc:{k}", f"k{k}"
        vector = rng.standard_normal(workload.dimension, np.float32).astype("<f4")
        yield tenant.encode(), codec.encode("memory_event", {
            "event_id": event_id(tenant, key), "id": memory_id(tenant, at), "tenant": tenant,
            "namespace": "notes", "type": "created", "ts": START + k, "coordinate": at,
            "memory_type": "episodic", "payload": json.dumps({"text": TEXT.format(k=k)}),
            "importance": 0.5, "embedding": vector.tobytes(), "model_revision": "m1", "links": {},
            "dedupe_key": key, "expected_version": None, "expected_key": "",
        })  # fmt: skip


def run(site: Site, workload: Workload) -> Result:
    """Fill the journal, and let a worker fold it, as often as is wanted."""
    site.say(f"filling {site.topic(SOURCE)} with {workload.events:,} events")
    fill(site.settings, site.topic(SOURCE), events(workload))
    found = Result()
    for k in range(workload.runs):
        if k:
            site.forget(SOURCE)
        rate = site.measure(PROCESSOR, SINK, workload.events)
        found.rates.append(rate.events_per_s)
        found.cpu_us.append(rate.cpu_us_per_event)
        site.say(f"run {k + 1}: {rate.events_per_s:,.0f} events/s, {found.cpu_us[-1]:.1f} µs CPU")
    return found


def report(workload: Workload, found: Result) -> Report:
    """The table of a run set."""
    row = (
        f"{workload.events:,}", f"{workload.dimension}", spread(found.rates),
        spread(found.cpu_us, 1), GOAL,
    )  # fmt: skip
    return Report(
        "memory-events", COLUMNS, [row], METHOD.format(partitions=PARTITIONS, **vars(workload))
    )
