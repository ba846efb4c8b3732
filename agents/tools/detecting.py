"""The segmentation law over the points of a file: boundaries as `soma segment` prints them."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agents.segmentation.rule import RING
from agents.segmentation.series import Series
from agents.tools.season import Floats, Season, Value
from agents.tools.seriesfile import Point

OF_STREAMS = ("leader", "domains_max", "forget_after_s")  # settings that a series has no use for
NO_PERIOD = 0
MODES: Mapping[str, Mapping[str, str]] = {
    "glr": {"cpd": "glr"},
    "bocpd": {"cpd": "bocpd"},
    "hmm": {"hmm": "on"},
    "threshold": {"threshold": "on"},
}


@dataclass(frozen=True, slots=True)
class Boundary:
    """A change of one domain; `index` is the first point after it, `at` the one that showed it."""

    domain: int  # its place
    index: int
    at: int
    time: Any  # of `index`, as the file has it
    evidence: str
    score: float

    def record(self, domain: str | None) -> dict[str, Any]:
        """As JSON; with the domain's name where there are several."""
        found = {"index": self.index, "at": self.at, "time": self.time}
        found |= {"evidence": self.evidence, "score": self.score}
        return found if domain is None else found | {"domain": domain}


def settings_of(modes: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """The processor's settings for these modes (none: its defaults), with those given on top."""
    chosen: dict[str, str] = {"cpd": "off"} if modes else {}
    for mode in modes:
        chosen.update(MODES[mode])
    chosen.update(given)
    return chosen


class Detector:
    """One law per domain, fed point by point."""

    def __init__(
        self, domains: Sequence[str], settings: Mapping[str, str],
        period: int | None = NO_PERIOD, days: bool = False,
    ) -> None:  # fmt: skip
        """`settings`: by name, or NAME@DOMAIN for one domain. Raises ValueError for a bad one.

        `period`: points after which a cycle comes again, which is taken out; None: chosen by the
        data (`days`: times say how long a day is).
        """
        common = {name: value for name, value in settings.items() if "@" not in name}
        own: dict[str, dict[str, str]] = {domain: {} for domain in domains}
        for name, value in settings.items():
            setting, at, domain = name.partition("@")
            if setting in OF_STREAMS:
                raise ValueError(
                    f"{setting} is for tenants of the stream: a series has no use for it"
                )
            if at and domain not in own:
                raise ValueError(f"{name}: there is no domain {domain!r}: {', '.join(domains)}")
            if at:
                own[domain][setting] = value
        chosen = [common | own[domain] for domain in domains]
        self._series = [Series(values) for values in chosen]
        self.seasons = [
            Season(period, partial(_count, values), days)
            for values in chosen
            if period != NO_PERIOD
        ]
        # A boundary lies among the last RING values that aren't missing, however far back that is.
        self._times: list[deque[tuple[int, Any]]] = [deque(maxlen=RING) for _ in domains]

    def take(self, point: Point) -> Iterator[Boundary]:
        """The boundaries that this point shows, domain by domain; usually none."""
        for k, number in enumerate(point.values):
            value = Value(point.index, point.time, point.ts, number)
            values = self.seasons[k].push(value) if self.seasons else (value,)
            yield from self._law(k, values, point.index)

    def finish(self, last: int) -> Iterator[Boundary]:
        """At the series' end: those that values show which waited for their season. `last`: index
        of the last point.
        """
        for k, season in enumerate(self.seasons):
            yield from self._law(k, season.finish(), last)

    def _law(self, k: int, values: Iterable[Value], at: int) -> Iterator[Boundary]:
        for place, time, ts, number in values:
            if not math.isnan(number):
                self._times[k].append((place, time))
            for one in self._series[k].push(number, ts):
                when = next(time for index, time in self._times[k] if index == one.index)
                yield Boundary(k, one.index, at, when, one.evidence, one.score)


def _count(settings: Mapping[str, str], values: Floats) -> int:
    """How many changes the law declares."""
    return len(Series(settings).extend(values))
