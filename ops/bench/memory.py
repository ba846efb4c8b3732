"""`soma bench memory`: a worker's resident memory under full load, over minutes."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from ops.bench.filling import fill, updates
from ops.bench.report import Report
from ops.bench.site import Site
from ops.bench.worker import Worker

SOURCE, SINK = "cog.predictor.updates", "cog.global.frame"
WANTED_MB = 600.0
SAMPLE_S = 1.0
END_S = 60.0  # for the feeder to bring out what it has
BACKLOG = 3_000_000  # so that the worker starts with the largest batches there are
METHOD = (
    "Integrator, {tenants:,} tenants with 3 domains, 4 partitions: a backlog of 3,000,000 updates, "
    "then fed as fast as one Python producer on the same machine can for {minutes:g} minutes. "
    "Resident memory of the worker, sampled every second: the largest of each row's span. Frames: "
    "committed in that span."
)


@dataclass(frozen=True)
class Sample:
    """The worker at one moment."""

    at_s: float
    rss_mb: float
    frames: int


def long_ago_us() -> int:
    """Where event time starts: at full rate it runs ahead of the clock, and may not pass it."""
    return int(time.time() - 30 * 86_400) * 10**6


class Feeder(threading.Thread):
    """Produces updates until it is stopped."""

    def __init__(self, site: Site, tenants: int, seed: int) -> None:
        super().__init__(name="feeder", daemon=True)
        self._site, self._tenants, self._seed = site, tenants, seed
        self._over = threading.Event()
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            fill(self._site.settings, self._site.topic(SOURCE), self._endless(), "lz4")
        except Exception as error:  # raised again where the samples are taken
            self.failure = error

    def _endless(self) -> Iterator[tuple[bytes, bytes]]:
        many = updates(1 << 40, self._tenants, self._seed, long_ago_us())
        return itertools.takewhile(lambda _: not self._over.is_set(), many)

    def stop(self) -> None:
        """Stop, and raise what went wrong."""
        self._over.set()
        self.join(END_S)
        if self.is_alive():
            raise TimeoutError(f"the feeder didn't end within {END_S:g} s")
        if self.failure is not None:
            raise self.failure


def keep_small(site: Site) -> None:
    """Let the broker delete old segments, so that minutes of full load don't fill the disk."""
    wanted = {"segment.bytes": str(64 << 20), "retention.bytes": str(1 << 30)}
    set_to = AlterConfigOpType.SET
    entries = [ConfigEntry(k, v, incremental_operation=set_to) for k, v in wanted.items()]
    changed = [
        ConfigResource(ConfigResource.Type.TOPIC, site.topic(name), incremental_configs=entries)
        for name in (SOURCE, SINK)
    ]
    for done in site.broker.admin.incremental_alter_configs(changed).values():
        done.result(30)


def run(site: Site, tenants: int, minutes: float, seed: int) -> list[Sample]:
    """Samples from readiness on."""
    feeder = Feeder(site, tenants, seed)
    samples = []
    site.say(f"producing a backlog of {BACKLOG:,} updates")
    backlog = updates(BACKLOG, tenants, seed, long_ago_us())
    fill(site.settings, site.topic(SOURCE), backlog, "lz4")
    with Worker(site.settings, "integrator", site.folder) as worker:
        worker.ready()
        keep_small(site)  # not before: a worker doesn't start on topics weaker than the catalogue's
        start = time.monotonic()
        feeder.start()
        while (at := time.monotonic() - start) < minutes * 60 and feeder.failure is None:
            frames = sum(site.broker.ends(site.topic(SINK)))
            samples.append(Sample(at, worker.rss_mb(), frames))
            if len(samples) % 60 == 0:
                site.say(f"{at / 60:.0f} min: {samples[-1].rss_mb:.0f} MB, {frames:,} frames")
            time.sleep(SAMPLE_S)
        feeder.stop()
    return samples


def report(samples: list[Sample], tenants: int, minutes: float) -> Report:
    """Ten rows of equal spans."""
    rows = []
    span = minutes * 60 / 10
    for k in range(10):
        part = [s for s in samples if k * span <= s.at_s < (k + 1) * span]
        if len(part) < 2:
            continue
        rate = (part[-1].frames - part[0].frames) / (part[-1].at_s - part[0].at_s)
        title = f"{k * span / 60:.1f} - {(k + 1) * span / 60:.1f} min"
        rows.append((title, f"{max(s.rss_mb for s in part):.0f}", f"{rate:,.0f}"))
    peak = max(s.rss_mb for s in samples)
    return Report(
        "memory",
        ("span", "resident MB", "frames/s"),
        rows,
        METHOD.format(tenants=tenants, minutes=minutes),
        [f"Largest: {peak:.0f} MB (wanted: ≤ {WANTED_MB:.0f} MB, flat)"],
    )
