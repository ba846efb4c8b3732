"""This machine as four tenants, each seen through three domains (psutil).

Tenants: cpu, memory, disk, network. Domains, each a vector of four float32 numbers:

- `state`: how full or busy it is, as levels;
- `agent`: who drives it: the work that processes ask of it, as rates;
- `action`: what has just happened to it: the change of `state` since the sample before.

Shares lie in 0..1; rates and counts are log10(1 + x), so that a burst doesn't hide all else.
What a platform doesn't tell (say, the disk's busy time) is 0.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

TENANTS = ("cpu", "memory", "disk", "network")
DOMAINS = ("state", "agent", "action")
DIM = 4
PROCESSES_MAX = 256  # processes looked at per sample: bounds what a sample costs

Vector = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Observation:
    """One vector of one domain of one tenant; `ts` in microseconds since 1970."""

    tenant: str
    domain: str
    ts: int
    vector: Sequence[float]

    def record(self) -> dict[str, object]:
        """The observation as the JSON form of the topic's schema."""
        return {
            "tenant": self.tenant,
            "domain": self.domain,
            "ts": self.ts,
            "vector": list(self.vector),
        }


class Machine:
    """Samples this machine. The first sample needs two looks, so one is taken at birth."""

    def __init__(self, tenants: Sequence[str] = TENANTS) -> None:
        unknown = sorted(set(tenants) - set(TENANTS))
        if unknown:
            raise ValueError(f"no such tenant: {', '.join(unknown)} (known: {', '.join(TENANTS)})")
        self._tenants = tuple(tenants)
        self._at = time.monotonic()
        self._counters = _counters()
        self._states: dict[str, Vector] = {}

    def sample(self) -> list[Observation]:
        """One observation per tenant and domain, all with the same event time."""
        now, at, counters = time.time_ns() // 1000, time.monotonic(), _counters()
        rate = _Rates(self._counters, counters, max(at - self._at, 1e-3))
        self._at, self._counters = at, counters
        seen: list[Observation] = []
        for tenant in self._tenants:
            state, agent = _LOOKS[tenant](rate)
            before = self._states.get(tenant, state)
            action = tuple(a - b for a, b in zip(state, before, strict=True))
            self._states[tenant] = state
            for domain, vector in zip(DOMAINS, (state, agent, action), strict=True):
                seen.append(Observation(tenant, domain, now, vector))
        return seen


class _Rates:
    """Differences of counters between two looks."""

    def __init__(
        self, before: Mapping[str, float], after: Mapping[str, float], seconds: float
    ) -> None:
        self._before, self._after, self.seconds = before, after, seconds

    def delta(self, name: str) -> float:
        """How much a counter grew; 0 where the platform lacks it or it started again."""
        return max(0.0, self._after.get(name, 0.0) - self._before.get(name, 0.0))

    def per_second(self, name: str) -> float:
        """The counter's rate, as log10(1 + x)."""
        return _log(self.delta(name) / self.seconds)

    def share(self, part: str, *parts: str) -> float:
        """One counter's share of the growth of several (itself among them)."""
        whole = sum(self.delta(name) for name in parts)
        return self.delta(part) / whole if whole > 0 else 0.0


def _log(x: float) -> float:
    return math.log10(1.0 + max(0.0, x))


def _counters() -> dict[str, float]:
    """Every cumulative counter by '<kind>.<name>'."""
    found: dict[str, float] = {}
    kinds = {
        "cpu": psutil.cpu_times(),
        "work": psutil.cpu_stats(),
        "disk": psutil.disk_io_counters(),  # None in some containers
        "net": psutil.net_io_counters(),
        "swap": psutil.swap_memory(),
    }
    for kind, values in kinds.items():
        if values is not None:
            found.update({f"{kind}.{k}": float(v) for k, v in values._asdict().items()})
    for core, times in enumerate(psutil.cpu_times(percpu=True)):
        found[f"core{core}.idle"] = times.idle + getattr(times, "iowait", 0.0)
    return found


def _cpu(rate: _Rates) -> tuple[Vector, Vector]:
    parts = tuple(
        f"cpu.{k}" for k in ("user", "nice", "system", "idle", "iowait", "irq", "softirq")
    )
    cores = psutil.cpu_count() or 1
    idle = min(rate.delta(f"core{core}.idle") for core in range(cores))
    state = (
        rate.share("cpu.user", *parts),
        rate.share("cpu.system", *parts),
        rate.share("cpu.iowait", *parts),
        min(1.0, max(0.0, 1.0 - idle / rate.seconds)),  # the busiest core
    )
    agent = (
        rate.per_second("work.ctx_switches"),
        rate.per_second("work.interrupts"),
        rate.per_second("work.soft_interrupts"),
        psutil.getloadavg()[0] / cores,
    )
    return state, agent


def _memory(rate: _Rates) -> tuple[Vector, Vector]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    sizes = _resident_bytes()
    state = (
        memory.percent / 100,
        (getattr(memory, "cached", 0) + getattr(memory, "buffers", 0)) / memory.total,
        memory.free / memory.total,
        swap.percent / 100,
    )
    agent = (
        _log(len(psutil.pids())),
        max(sizes, default=0) / memory.total,
        sum(sizes) / memory.total,
        _log((rate.delta("swap.sin") + rate.delta("swap.sout")) / rate.seconds),
    )
    return state, agent


def _resident_bytes() -> list[int]:
    """Resident bytes of the processes that we may look at (the first PROCESSES_MAX)."""
    sizes: list[int] = []
    for process in psutil.process_iter(["memory_info"]):
        info = process.info["memory_info"]  # None: it isn't ours to see
        if info is not None:
            sizes.append(info.rss)
        if len(sizes) >= PROCESSES_MAX:
            break
    return sizes


def _disk(rate: _Rates) -> tuple[Vector, Vector]:
    busy_ms = 1000 * rate.seconds
    state = (
        psutil.disk_usage("/").percent / 100,
        rate.delta("disk.read_time") / busy_ms,
        rate.delta("disk.write_time") / busy_ms,
        min(1.0, rate.delta("disk.busy_time") / busy_ms),
    )
    agent = (
        rate.per_second("disk.read_count"),
        rate.per_second("disk.write_count"),
        rate.per_second("disk.read_bytes"),
        rate.per_second("disk.write_bytes"),
    )
    return state, agent


def _network(rate: _Rates) -> tuple[Vector, Vector]:
    packets = max(1.0, rate.delta("net.packets_recv") + rate.delta("net.packets_sent"))
    lost = sum(rate.delta(f"net.{k}") for k in ("errin", "errout", "dropin", "dropout"))
    links = psutil.net_if_stats().values()
    state = (
        rate.per_second("net.bytes_recv"),
        rate.per_second("net.bytes_sent"),
        min(1.0, lost / packets),
        sum(link.isup for link in links) / max(1, len(links)),
    )
    agent = (
        rate.per_second("net.packets_recv"),
        rate.per_second("net.packets_sent"),
        _log(rate.delta("net.bytes_recv") / max(1.0, rate.delta("net.packets_recv"))),
        _log(rate.delta("net.bytes_sent") / max(1.0, rate.delta("net.packets_sent"))),
    )
    return state, agent


_LOOKS = {"cpu": _cpu, "memory": _memory, "disk": _disk, "network": _network}
