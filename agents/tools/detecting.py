"""The segmentation law over the points of a file: boundaries as `soma segment` prints them."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.segmentation.series import Series
from agents.tools.seriesfile import Point

TIMES_KEPT = 4096  # boundaries lie within the law's window, which is shorter
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
    """The room's settings for these modes (none: the room's defaults), with those given on top."""
    chosen: dict[str, str] = {"cpd": "off"} if modes else {}
    for mode in modes:
        chosen.update(MODES[mode])
    chosen.update(given)
    return chosen


class Detector:
    """One law per domain, fed point by point."""

    def __init__(self, domains: Sequence[str], settings: Mapping[str, str]) -> None:
        """`settings`: by name, or NAME@DOMAIN for one domain. Raises ValueError for a bad one."""
        common = {name: value for name, value in settings.items() if "@" not in name}
        own: dict[str, dict[str, str]] = {domain: {} for domain in domains}
        for name, value in settings.items():
            setting, at, domain = name.partition("@")
            if at and domain not in own:
                raise ValueError(f"{name}: there is no domain {domain!r}: {', '.join(domains)}")
            if at:
                own[domain][setting] = value
        self._series = [Series(common | own[domain]) for domain in domains]
        self._times: deque[Any] = deque(maxlen=TIMES_KEPT)

    def take(self, point: Point) -> Iterator[Boundary]:
        """The boundaries that this point shows, domain by domain; usually none."""
        self._times.append(point.time)
        for k, (series, value) in enumerate(zip(self._series, point.values, strict=True)):
            for one in series.push(value, point.ts):
                time = self._times[one.index - point.index - 1]
                yield Boundary(k, one.index, one.at, time, one.evidence, one.score)
