"""Where people saw changes: the Turing dataset's annotations, or one index or time a line."""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from agents.tools import tcpd
from agents.tools.csvform import Told
from agents.tools.scores import Labels
from agents.tools.source import Source, TableError
from agents.tools.table import strict
from agents.tools.times import Dates, is_compact, is_moment, micros, unit_of

BYTES_MAX = 64 << 20
ONE = "labels"  # the annotator of a plain list


class Moments:
    """Labels that are times: each becomes the index of the first point that isn't before it.

    One before the first point isn't the first point's: it is left out, and counted.
    """

    def __init__(
        self, moments: Iterable[int] = (), places: Iterable[int] = (), compact: Iterable[str] = ()
    ) -> None:
        """`moments`: event times in microseconds; `places`: labels that are indices; `compact`:
        those such as 20260131, which are dates where the series has such.
        """
        self._left = deque(sorted(moments))
        self._compact = list(compact)
        self._begun = False
        self.early = 0  # labels before the first point, left out
        self.places: list[int] = list(places)

    @property
    def left(self) -> int:
        """Labels later than all points so far."""
        return len(self._left)

    def begin(self, dates: bool) -> None:
        """Before the first point: does the series take 20260131 for a date? TableError."""
        compact, self._compact = self._compact, []
        if compact and (self.places if dates else self._left):
            raise TableError(f"{compact[0]!r}: some labels are indices, others times")
        if dates:
            self._left = deque(sorted([*self._left, *(_micros(one, "iso") for one in compact)]))
        else:
            self.places += [int(one) for one in compact]

    def see(self, index: int, ts: int) -> None:
        """The next point."""
        while not self._begun and self._left and self._left[0] < ts:
            self._left.popleft()
            self.early += 1
        self._begun = True
        while self._left and self._left[0] <= ts:
            self._left.popleft()
            self.places.append(index)

    def finish(self, points: int) -> int:
        """Those behind the last point lie behind it; returns how many."""
        late = len(self._left)
        self.places += [points] * late
        self._left.clear()
        return late


def read_labels(
    path: Path, series: Sequence[str], domains: Sequence[str], unit: str = "",
    dates: Dates | None = None,
) -> tuple[dict[str, Labels], Moments]:  # fmt: skip
    """The labels of each domain (one without any is left out), and those that are times so far.

    In annotations a domain's own name counts first, then a name of the series (the first of
    `series` that is there), which then labels every domain. An empty file says that nothing ever
    changed. Times are read as the series' are: numbers in its `unit` (empty: by their size), dates
    in the order of `dates`. Raises TableError, OSError.
    """
    moments = Moments()
    if path.is_file() and not path.read_bytes()[:BYTES_MAX].strip(b"\xef\xbb\xbf \t\r\n"):
        return {domain: {ONE: []} for domain in domains}, moments
    with path.open("rb") as stream:
        source = strict(stream, Told(final=True))  # labels are whole
        first = source.first()
        if not first.lstrip().startswith("{"):
            moments = _lines(source, unit, Dates(dates.day_first if dates else None))
            return {domain: {ONE: moments.places} for domain in domains}, moments
        known: Mapping[str, Labels] = tcpd.annotations(tcpd.parsed(source.rest(BYTES_MAX)))
    common = next((known[name] for name in series if name in known), None)
    found = {domain: known.get(domain, common) for domain in domains}
    labelled = {domain: labels for domain, labels in found.items() if labels is not None}
    if not labelled:
        names = ", ".join(sorted(known)[:8]) + (", …" if len(known) > 8 else "")
        raise TableError(f"no annotations of {' or '.join([*series, *domains])}; there are {names}")
    return labelled, moments


def together(labels: Mapping[str, Collection[int]]) -> list[int]:
    """All annotators' locations, once each, in order."""
    return sorted(set().union(*labels.values()))


def _lines(source: Source, unit: str, dates: Dates) -> Moments:
    """Indices or times. Numbers that lie in 2000 to 2100 are times."""
    places: list[int] = []
    times: list[int] = []
    compact: list[str] = []
    lines = [(source.line, text) for line in source if (text := line.strip())]
    for _, text in lines:
        is_moment(text, dates)  # a date that leaves no choice says which order all have
    for number, text in lines:
        if is_compact(text):
            compact.append(text)
        elif (by_size := unit_of(text)) or is_moment(text, dates):
            times.append(_micros(text, unit or by_size or "s", dates, number))
        elif text.isascii() and text.isdigit() and len(text) < 19:
            places.append(int(text))
        else:
            raise TableError(f"{text[:40]!r} isn't an index (0, 1, 2, …), nor a time", number)
        if places and times:
            raise TableError(f"{text[:40]!r}: some labels are indices, others times", number)
    return Moments(times, places, compact)


def _micros(text: str, unit: str, dates: Dates | None = None, line: int = 0) -> int:
    """A label's time. TableError."""
    try:
        return micros(text, unit, dates)
    except ValueError as error:
        raise TableError(str(error), line) from None
