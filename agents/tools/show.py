"""The running demo: a worker, the feeds, and the one who watches; started and stopped together."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agents.tools.audience import Audience, Boundaries, Rate
from agents.tools.feeds import MachineFeed, SeriesFeed
from agents.tools.screen import PAST, Moment
from agents.tools.series import PREFIX
from agents.tools.subworker import SubWorker
from stores.errors import StoreDown

if TYPE_CHECKING:
    from agents.settings import Settings

READY_S = 600.0
SAY_EVERY_S = 30.0
DRAIN_S = 10.0
LAGS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What is played: tenants of the machine, seconds between samples, speed of the recording; and
    the port of the worker's pages."""

    tenants: Sequence[str]
    interval: float
    speed: float
    port: int


class Show:
    """Use `open`, `moment` as often as you like, `close`."""

    def __init__(self, settings: "Settings", options: DemoOptions) -> None:
        self.settings = settings
        self.worker = SubWorker(settings.home / "logs" / "demo-worker.log", options.port)
        self._options = options
        self._feeds: list[MachineFeed | SeriesFeed] = []
        self._audience: Audience | None = None
        self._boundaries: Boundaries | None = None
        self._start = time.monotonic()
        self._rates = (Rate(), Rate())
        self._tenant_rates: dict[str, Rate] = {}
        self._past: dict[str, deque[str]] = {}
        self._looked = 0.0
        self._lags: tuple[float, dict[str, int]] = (0.0, {})

    def open(self, say: Callable[[str], None]) -> None:
        """Wait for the worker, then start the feeds."""
        say(f"starting a worker (log: {self.worker.log})")
        start = said = time.monotonic()
        while not self.worker.ready():
            if self.worker.status is not None:
                raise click.ClickException(self.worker_gone())
            now = time.monotonic()
            if now - said > SAY_EVERY_S:
                said = now
                say(f"{now - start:.0f} s: the worker isn't ready yet")
            if now - start > READY_S:
                raise click.ClickException(
                    f"the worker isn't ready after {READY_S:.0f} s. Its log ends:\n"
                    + self.worker.tail()
                )
            time.sleep(0.1)
        self._audience = Audience(self.settings)
        self._audience.start()
        self._boundaries = Boundaries(self.settings)
        self._boundaries.start()
        options = self._options
        self._feeds = [
            MachineFeed(self.settings, options.tenants, options.interval),
            SeriesFeed(self.settings, options.tenants, options.speed),
        ]
        self._start = time.monotonic()
        for feed in self._feeds:
            feed.start()

    @property
    def seconds(self) -> float:
        """Since the feeds started."""
        return time.monotonic() - self._start

    @property
    def observations(self) -> int:
        """Delivered so far."""
        return sum(feed.delivered for feed in self._feeds)

    @property
    def frames(self) -> int:
        """Committed frames seen so far."""
        return self._audience.frames if self._audience else 0

    def trouble(self) -> str:
        """Everything that went wrong, for people; empty if nothing did."""
        found = [feed.error for feed in self._feeds if feed.error]
        if self.worker.status is not None:
            found.append(self.worker_gone())
        for watcher, what in ((self._audience, "frames"), (self._boundaries, "boundaries")):
            if watcher is not None and watcher.error:
                found.append(watcher.error)
            if watcher is not None and watcher.unreadable:
                found.append(f"{watcher.unreadable} records of the {what}' topic aren't any")
        return "\n".join(found)

    def moment(self, hints: Sequence[tuple[str, str]]) -> Moment:
        """What the screen shows now."""
        audience = self._audience
        boundaries = self._boundaries
        assert audience is not None and boundaries is not None  # `open` made them
        frames = dict(audience.last)
        self._look_back(frames)
        counts = dict(audience.counts)
        return Moment(
            seconds=self.seconds,
            frames=frames,
            past={tenant: list(leaders) for tenant, leaders in self._past.items()},
            tenant_rates={
                t: rate.per_second(counts.get(t, 0)) for t, rate in self._tenant_rates.items()
            },
            observation_rate=self._rates[0].per_second(self.observations),
            frame_rate=self._rates[1].per_second(self.frames),
            delays_ms=audience.delays_ms(),
            lags=self._lags_now(),
            trouble=self.trouble(),
            hints=hints,
            boundaries=boundaries.latest(),
            boundary_count=boundaries.count,
        )

    def summary(self) -> dict[str, Any]:
        """What happened, as JSON data; the feeds are stopped and the frames awaited first."""
        seconds = self.seconds
        for feed in self._feeds:
            feed.stop()
        deadline = time.monotonic() + DRAIN_S
        while self.frames < self.observations and time.monotonic() < deadline:
            if self.worker.status is not None:
                break
            time.sleep(0.05)
        audience = self._audience
        frames = dict(audience.last) if audience else {}
        delays = audience.delays_ms() if audience else None
        return {
            "seconds": round(seconds, 1),
            "observations": self.observations,
            "frames": self.frames,
            "boundaries": dict(self._boundaries.tenants) if self._boundaries else {},
            "frames_per_second": round(self.frames / max(seconds, 1e-3), 1),
            "delay_ms": {"p50": round(delays[0], 1), "p99": round(delays[1], 1)} if delays else {},
            "leaders": {tenant: frames[tenant]["leader"] for tenant in sorted(frames)},
            "shown_by_redis": self._shown_by_redis(list(frames)),
            "lag": self.worker.lags(),
            "trouble": self.trouble(),
        }

    def close(self) -> int:
        """Stop all of it; returns the worker's exit status."""
        for feed in self._feeds:
            feed.stop()
        status = self.worker.stop()
        for watcher in (self._audience, self._boundaries):
            if watcher is not None:
                watcher.stop()
        return status

    def _look_back(self, frames: Mapping[str, Mapping[str, Any]]) -> None:
        """Note each tenant's leader once a second."""
        due = time.monotonic() - self._looked > 1.0
        self._looked = time.monotonic() if due else self._looked
        for tenant, frame in frames.items():
            self._tenant_rates.setdefault(tenant, Rate())
            if due:
                self._past.setdefault(tenant, deque(maxlen=PAST)).append(frame["leader"])

    def worker_gone(self) -> str:
        """With what status the worker ended, and the last that it said."""
        return (
            f"the worker ended with status {self.worker.status}. Its log ends:\n"
            + self.worker.tail()
        )

    def _lags_now(self) -> dict[str, int]:
        if time.monotonic() - self._lags[0] > LAGS_EVERY_S:
            self._lags = (time.monotonic(), self.worker.lags())
        return self._lags[1]

    def _shown_by_redis(self, tenants: list[str]) -> int | None:
        """How many of these tenants Redis shows a frame of; None without a Redis."""
        if not self.settings.redis_url.get_secret_value():
            return None
        from stores.frame_cache import FrameCache  # the client: when it is used

        cache = FrameCache(self.settings.redis(), self.settings.redis_key)
        try:
            return sum(cache.get(tenant) is not None for tenant in tenants)
        except StoreDown:
            return 0
        finally:
            cache.close()


def hints(soma: str) -> list[tuple[str, str]]:
    """What to try beside the running demo."""
    return [
        ("load a core for 15 s, and see it", "timeout 15 yes > /dev/null"),
        ("every boundary", f"{soma} watch cog.segments --pretty"),
        ("every frame of one tenant", f"{soma} watch cog.global.frame --tenant cpu"),
        ("change the law for it", f"{soma} config set cpu fusion hedge"),
        ("what goes in", f"{soma} watch cog.observations --tenant {PREFIX}memory --pretty"),
        (
            "a tenant of your own",
            'echo \'{"tenant":"me","domain":"state","vector":[1,2,3]}\' | '
            f"{soma} publish cog.observations --now",
        ),
    ]


def how_to_call_soma(program: str, python: str) -> str:
    """The shortest words that run `soma` from here."""
    if Path(program).name != "soma":
        return f"{python} -m agents.cli"
    here = Path.cwd()
    path = Path(program).absolute()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
