"""`soma bench scaling`, sizes: records from 100 bytes to 100 kB, and where the curve bends."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from agents.settings import Settings
from ops.bench.commits import Rate
from ops.bench.filling import fill, numbers_of, observations
from ops.bench.lineplot import loglog
from ops.bench.report import Report, spread
from ops.bench.site import Say, opened
from ops.examples import WEIGHTS
from ops.examples.install import ENVIRONMENT

SOURCE = "cog.observations"
SINKS = {"weighing": WEIGHTS, "predictors": "cog.predictor.updates"}
TITLES = {"weighing": "row processor", "predictors": "predictors"}
SIZES = (100, 1_000, 10_000, 100_000)
VOLUME, EVENTS_MIN, EVENTS_MAX = 200_000_000, 2_000, 400_000  # bytes of a topic, and its records
TENANTS = 40  # few: their vectors of 25,000 numbers are in memory and in the state
VECTORS = 31  # different ones of a topic
KB, MB = 1e3, 1e6
PLOT = "record_sizes.svg"
METHOD = (
    "Observations whose vectors make them so large, {tenants} tenants with 3 domains, 4 "
    "partitions, compression none; {runs} runs of a fresh worker, the programs in alternation: "
    "median (min - max). From the first commit seen on the output topic to the last; what the "
    "first commit holds isn't counted. Cores: CPU of the worker by time, over the same span. Row "
    "processor: ops/examples/weighing.py, a plain Python function that looks at a vector's length "
    "and writes a record of about 90 bytes. Predictors: heat, with its state. Fitted: the time of "
    "a record is a constant and so much for each kB (least squares of relative errors); the curve "
    "bends where both are equal. Why: up to there a record costs by itself (its frame, its fields, "
    "a call of the law, an output); beyond, its bytes do: the broker reads and sends them, the "
    "worker takes them from its socket, checks and copies them. Predictors compute with each "
    "number besides, and a state row has 30 bytes for each 4 of an observation: with large ones, "
    "a batch holds few of a domain, and they write more than they read."
)


@dataclass(frozen=True)
class Line:
    """What a record takes: so many us by itself, and so many for each of its bytes."""

    record_us: float
    byte_us: float

    @property
    def bend(self) -> float:
        """The size, in bytes, at which its bytes take as long as the record itself."""
        return self.record_us / self.byte_us if self.byte_us > 0.0 else float("inf")


def fitted(points: Sequence[tuple[float, float]]) -> Line:
    """The line through (bytes, us) with the least squares of relative errors; nothing below 0."""
    size, us = np.array(points, float).T
    rows = np.stack([1.0 / us, size / us], axis=1)
    (record, byte), *_ = np.linalg.lstsq(rows, np.ones(len(points)), rcond=None)
    if record < 0.0:
        record, byte = 0.0, float(np.mean(us / size))
    if byte < 0.0:
        record, byte = float(np.mean(us)), 0.0
    return Line(float(record), float(byte))


@dataclass
class Size:
    """One size, by program."""

    bytes: int  # of a record's value, as it is
    events: int
    rates: dict[str, list[Rate]] = field(default_factory=lambda: {name: [] for name in SINKS})


def events_of(size: int, volume: int = VOLUME) -> int:
    """How many records of this size are measured."""
    return min(EVENTS_MAX, max(EVENTS_MIN, volume // size))


def run(
    settings: Settings, say: Say, sizes: Sequence[int], runs: int, seed: int,
    volume: int = VOLUME,
) -> list[Size]:  # fmt: skip
    """Each size, one after another; the examples are installed."""
    return [_run(settings, say, size, runs, seed, events_of(size, volume)) for size in sizes]


def _run(settings: Settings, say: Say, size: int, runs: int, seed: int, events: int) -> Size:
    dim = numbers_of(size)
    ((_, one),) = observations(1, TENANTS, seed, dim, 1)
    found = Size(len(one), events)
    say(f"{events:,} observations of {found.bytes:,} bytes")
    with opened(settings, say) as site:
        filling = observations(events, TENANTS, seed, dim, VECTORS)
        fill(site.settings, site.topic(SOURCE), filling)
        for k, name in product(range(runs), SINKS):
            if any(found.rates.values()):
                site.forget(SOURCE)
            rate = site.measure(name, SINKS[name], events, **ENVIRONMENT)
            found.rates[name].append(rate)
            say(f"run {k + 1}, {TITLES[name]}: {rate.events_per_s:,.0f} records/s")
    return found


def _curve(found: Sequence[Size], name: str, cpu: bool = False) -> list[tuple[float, float]]:
    """(bytes, us of a record): of time, or of the worker's CPU; medians."""
    return [
        (one.bytes, statistics.median(
            rate.cpu_us_per_event if cpu else 1e6 / rate.events_per_s for rate in one.rates[name]
        ))
        for one in found
    ]  # fmt: skip


def draw(found: Sequence[Size], path: Path) -> None:
    """Write the plot: records/s by size, for each program."""
    lines = {TITLES[name]: [(size, 1e6 / us) for size, us in _curve(found, name)] for name in SINKS}
    path.write_text(loglog("Records by their size", "bytes of a record", "records/s", lines))


def report(found: Sequence[Size], plot: str = PLOT) -> Report:
    """The table."""
    rows = []
    for name in SINKS:
        for one in found:
            rates = one.rates[name]
            speeds = [rate.events_per_s for rate in rates]
            rows.append((
                TITLES[name], f"{one.bytes:,}", f"{one.events:,}", spread(speeds),
                spread([speed * one.bytes / MB for speed in speeds], 1),
                spread([rate.cpu_us_per_event for rate in rates], 2),
                f"{statistics.median(rate.cpu_s / rate.seconds for rate in rates):.2f}",
            ))  # fmt: skip
    columns = ("program", "bytes", "records", "records/s", "MB/s", "CPU µs/record", "cores")
    notes = [_bend(TITLES[name], found, name) for name in SINKS] if len(found) > 1 else []
    method = METHOD.format(tenants=TENANTS, runs=len(found[0].rates["weighing"]))
    return Report("scaling, record sizes", columns, rows, method, [*notes, f"Plot: {plot}"])


def _bend(title: str, found: Sequence[Size], name: str) -> str:
    time, cpu = fitted(_curve(found, name)), fitted(_curve(found, name, cpu=True))
    at = f"bends at {time.bend:,.0f} bytes" if np.isfinite(time.bend) else "doesn't bend"
    if time.bend < found[0].bytes:
        at = f"bends below {found[0].bytes:,} bytes: it falls from the smallest on"
    most = f", at most {1 / time.byte_us:,.0f} MB/s" if time.byte_us > 0.0 else ""
    return (
        f"{title[0].upper()}{title[1:]}: {at}. Fitted: {time.record_us:.2f} µs a record and "
        f"{time.byte_us * KB:.2f} µs a kB{most}; the worker's CPU: {cpu.record_us:.2f} and "
        f"{cpu.byte_us * KB:.2f} µs"
    )


def as_json(found: Sequence[Size]) -> list[dict[str, Any]]:
    """The results as JSON data."""
    return [asdict(one) for one in found]
