"""`soma bench scaling`: what becomes of the rates with more tenants, workers, domains or bytes.

Each part is a section of RESULTS.md by itself, and can be run by itself.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agents.settings import Settings
from ops.bench import scaling_domains, scaling_sizes, scaling_tenants, scaling_workers
from ops.bench.report import RESULTS, Report
from ops.bench.site import Say, opened
from ops.examples.install import install


@dataclass(frozen=True)
class Workload:
    """What to run."""

    tenants: int = 1_000_000
    events: int = 1_000_000
    runs: int = 3
    sizes: tuple[int, ...] = scaling_sizes.SIZES
    workers: tuple[int, ...] = (1, 2, 4)
    seed: int = 1
    plots: Path = RESULTS.parent  # the folder of the plot


Part = tuple[Report, object]  # its table, and its JSON data


def _tenants(settings: Settings, say: Say, workload: Workload) -> Part:
    run = scaling_tenants.Tenants(workload.tenants, workload.runs, workload.seed)
    with opened(settings, say) as site:
        run.few(site)
    with opened(settings, say) as site:
        found = run.many(site)
    return scaling_tenants.report(found), scaling_tenants.as_json(found)


def _workers(settings: Settings, say: Say, workload: Workload) -> Part:
    mine = scaling_workers.Workload(
        workload.workers, workload.events, workload.runs, seed=workload.seed
    )
    found = scaling_workers.run(settings, say, mine)
    return scaling_workers.report(mine, found), scaling_workers.as_json(found)


def _domains(settings: Settings, say: Say, workload: Workload) -> Part:
    found = scaling_domains.run(settings, say, workload.events, workload.runs, workload.seed)
    return scaling_domains.report(found, workload.events), scaling_domains.as_json(found)


def _sizes(settings: Settings, say: Say, workload: Workload) -> Part:
    install()
    found = scaling_sizes.run(settings, say, workload.sizes, workload.runs, workload.seed)
    scaling_sizes.draw(found, workload.plots / scaling_sizes.PLOT)
    return scaling_sizes.report(found), scaling_sizes.as_json(found)


PARTS: dict[str, Callable[[Settings, Say, Workload], Part]] = {
    "tenants": _tenants, "workers": _workers, "domains": _domains, "sizes": _sizes,
}  # fmt: skip


def run(
    settings: Settings,
    say: Say,
    workload: Workload,
    parts: tuple[str, ...],
    data: dict[str, object],
) -> Iterator[Report]:
    """Each part's table as soon as it is there; its JSON data into `data`."""
    for part in parts:
        began = time.monotonic()
        report, data[part] = PARTS[part](settings, say, workload)
        say(f"{part}: {time.monotonic() - began:.0f} s")
        yield report
