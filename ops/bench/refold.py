"""How quickly the past is folded anew: beside the live pipeline, and one tenant of many alone.

A worker folds predictor updates once, which is the live rate; then its state is folded anew up to
where it is, partition by partition in one process, and compared; and one tenant's alone.
"""

import statistics
from dataclasses import dataclass

from agents.engine.plan import Plan
from agents.engine.registry import processors
from agents.history.audit import Rebuilt, audit
from ops.bench.broker import PARTITIONS
from ops.bench.filling import fill, tenant_names, updates
from ops.bench.site import Site
from topics.partition import partition_of

SOURCE, SINK = "cog.predictor.updates", "cog.global.frame"


@dataclass(frozen=True, slots=True)
class Measured:
    """Records a second, one for each run."""

    live: float
    anew: list[float]
    alone: list[float]  # one tenant: those of others read and passed over
    equal: bool

    def data(self) -> dict[str, object]:
        """As JSON data."""
        anew, alone = map(statistics.median, (self.anew, self.alone))
        return {
            "live_per_s": round(self.live), "anew_per_s": round(anew),
            "one_tenant_per_s": round(alone), "anew_of_live": round(anew / self.live, 2),
            "equal": self.equal,
        }  # fmt: skip


def measure(site: Site, events: int, tenants: int, runs: int) -> Measured:
    """Fill, fold live, fold anew."""
    site.say(f"filling {SOURCE} with {events:,} updates of {tenants:,} tenants")
    fill(site.settings, site.topic(SOURCE), updates(events, tenants, 1))
    live = site.measure("integrator", SINK, events).events_per_s
    site.say(f"live: {live:,.0f} records/s")
    plan = Plan(processors(["integrator"])["integrator"], site.settings, PARTITIONS)
    (name, *_) = tenant_names(tenants)
    _rate(site, plan, [partition_of(name, PARTITIONS)], name)  # the kernels are loaded
    anew: list[float] = []
    alone: list[float] = []
    equal = True
    for k in range(runs):
        for rates, parts, tenant in (
            (anew, list(range(PARTITIONS)), ""),
            (alone, [partition_of(name, PARTITIONS)], name),
        ):
            rate, same = _rate(site, plan, parts, tenant)
            rates.append(rate)
            equal = equal and same
            which = f"of {tenant} alone" if tenant else "of all"
            site.say(f"run {k + 1}, anew {which}: {rate:,.0f} records/s")
    return Measured(live, anew, alone, equal)


def _rate(site: Site, plan: Plan, parts: list[int], tenant: str) -> tuple[float, bool]:
    """Records read a second, and whether every row was equal."""
    found: list[Rebuilt] = []
    for partition in parts:
        one = audit(site.settings, plan, partition, tenant, False, lambda _: None).rebuilt
        if one is None:
            raise RuntimeError(f"nothing was folded in partition {partition}")
        found.append(one)
    rate = sum(one.records for one in found) / sum(one.seconds for one in found)
    return rate, all(one.digest.rows and not one.differing for one in found)
