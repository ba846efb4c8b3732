"""`soma bench odd`: what odd records, one tenant with all the traffic, and misrouting cost."""

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agents.settings import Settings
from ops.bench.broker import PARTITIONS
from ops.bench.commits import Rate
from ops.bench.filling import fill, updates
from ops.bench.report import Report, spread
from ops.bench.site import Say, opened
from ops.bench.wire import decode_update, encode, load

SOURCE, SINK = "cog.predictor.updates", "cog.global.frame"
EVERY = 1000  # one record in so many is odd
METHOD = (
    "{events:,} predictor updates, {tenants} tenants unless said otherwise, 4 partitions, {runs} "
    "runs of a fresh worker each, the cases in alternation: median (min - max). One record in "
    "1,000 is odd. Frames per second from the first commit seen to the last. Misrouted: three "
    "of four records lie in another partition than their tenant's, and are forwarded first."
)
CONTROL, CONTROL_HEADER = load("control_setting")
Records = Iterator[tuple[bytes, bytes]]


def as_people_write(value: bytes) -> bytes:
    """The same update as JSON, the time in microseconds."""
    return json.dumps(decode_update(value)).encode()


def as_rubbish(value: bytes) -> bytes:
    """The value with its end cut off: no Avro record."""
    return value[:-3]


def as_control(value: bytes) -> bytes:
    """A control record that sets the update's tenant's margin."""
    update = decode_update(value)
    setting = {"tenant": update["tenant"], "setting": "margin", "value": "0.05", "author": "bench"}
    return encode(CONTROL_HEADER, CONTROL, setting | {"ts": update["ts"]})


@dataclass(frozen=True)
class Case:
    """A kind of input: what becomes of one record in 1,000, and whether that gives a frame."""

    title: str
    wanted: str = ""
    odd: Callable[[bytes], bytes] | None = None
    frames_of_odd: bool = True
    one_tenant: bool = False
    misrouted: bool = False

    def records(self, events: int, tenants: int, seed: int) -> Records:
        """The input."""
        straight = updates(events, 1 if self.one_tenant else tenants, seed)
        for k, (key, value) in enumerate(straight):
            yield key, self.odd(value) if self.odd and k % EVERY == EVERY - 1 else value

    def frames(self, events: int) -> int:
        """How many frames come of it."""
        return events if self.frames_of_odd else events - events // EVERY

    @property
    def partition(self) -> Callable[[int], int] | None:
        """Where record k goes, when not where it belongs."""
        # Round robin: three of four records lie wrong, as with a producer that ignores keys.
        return (lambda k: k % PARTITIONS) if self.misrouted else None


CASES = {
    "straight": Case("straight"),
    "json": Case("one in 1,000 is JSON", "≥ 67 %", as_people_write),
    "bad": Case("one in 1,000 is bad", "≥ 67 %", as_rubbish, frames_of_odd=False),
    "control": Case("one in 1,000 is a control record", "≥ 67 %", as_control, frames_of_odd=False),
    "one-tenant": Case("one tenant has all the traffic", "≥ 100 %", one_tenant=True),
    "misrouted": Case("misrouted (round robin)", "≥ 50 %", misrouted=True),
}


def run(
    settings: Settings, say: Say, events: int, runs: int, tenants: int, cases: list[str], seed: int
) -> dict[str, list[Rate]]:
    """The rates of each case; each run has topics of its own."""
    found: dict[str, list[Rate]] = {name: [] for name in cases}
    for k in range(runs):
        for name in cases:
            case = CASES[name]
            with opened(settings, say) as site:
                records = case.records(events, tenants, seed)
                fill(site.settings, site.topic(SOURCE), records, misroute=case.partition)
                rate = site.measure("integrator", SINK, case.frames(events))
            found[name].append(rate)
            say(f"run {k + 1}, {case.title}: {rate.events_per_s:,.0f} frames/s")
    return found


def report(found: dict[str, list[Rate]], events: int, tenants: int) -> Report:
    """The table, each case beside the straight one."""
    medians = {n: statistics.median(r.events_per_s for r in rates) for n, rates in found.items()}
    rows = []
    for name, rates in found.items():
        case = CASES[name]
        of = f"{100 * medians[name] / medians['straight']:.0f} %" if "straight" in medians else ""
        speeds = spread([rate.events_per_s for rate in rates])
        cpu = spread([rate.cpu_us_per_event for rate in rates], 2)
        rows.append((case.title, speeds, cpu, of, case.wanted))
    runs = max(len(rates) for rates in found.values())
    return Report(
        "odd",
        ("input", "frames/s", "CPU µs/frame", "of straight", "wanted"),
        rows,
        METHOD.format(events=events, tenants=tenants, runs=runs),
    )
