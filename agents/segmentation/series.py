"""The processor's law over one series without any server: what `soma segment` and benches run."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.kit.tenant_settings import row_of
from agents.segmentation import detect as d
from agents.segmentation.detect import EVIDENCE, Found, found, step, usable
from agents.segmentation.rows import SeriesTable
from agents.segmentation.rule import RING, Bank, Floats, Ints, Work, work
from agents.segmentation.settings import SETTINGS
from agents.segmentation.state import S
from topics.compiled import entry

SECOND = 1_000_000  # microseconds
# The series' row, and who leads it. Kernels get them from here: handed a literal by another kernel,
# numba compiles all that they call anew.
ROW, NOBODY = 0, -1


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the series: `index` is the first value after it, `at` the one that showed it."""

    index: int
    at: int
    ts: int  # event time of value `index`, microseconds
    detected_ts: int  # event time of value `at`, microseconds
    evidence: str
    score: float


@entry
def _extend(
    b: Bank, r: int, leader: int, x: Floats, ts: Ints, lo: int, first: int, index: Ints,
    values: Floats, w: Work, out: Found,
) -> tuple[int, int]:  # fmt: skip
    """Take x[lo:] up to the first value that gives boundaries; x[0] has index `first`.

    Returns the next place and how many boundaries `out` holds; index[p % RING] is point p's index.
    """
    for i in range(lo, x.shape[0]):
        if not usable(x[i]):
            continue
        index[b.ints[r, S.seen] % RING] = first + i
        count = step(b, r, x[i], ts[i], 1.0, leader, values, w, out)
        if count > 0:
            return i + 1, count
    return x.shape[0], 0


class Series:
    """One series of one domain, online: the very kernels of the processor, one value at a time."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        """`values`: the processor's settings by name, as text. Raises ValueError for a bad one."""
        self._values = row_of(SETTINGS, values or {})
        table = SeriesTable()
        table.lend(table.take_rows(np.zeros(1, np.int64)))
        self._bank = table.bank()  # row 0
        self._work = work()
        self._out = found()
        self._index = np.zeros(RING, np.int64)  # of the values that are points
        self._pushed = 0
        self._one, self._when = np.zeros(1), np.zeros(1, np.int64)

    def push(self, value: float, ts: int | None = None) -> list[Change]:
        """Take the next value; returns the changes that it showed, usually none.

        `ts`: its event time in microseconds, by default its index as seconds. NaN and infinite
        values are missing: they have an index, and say nothing.
        """
        self._one[0] = value
        self._when[0] = self._pushed * SECOND if ts is None else ts
        return self.extend(self._one, self._when)

    def extend(self, values: Floats, ts: Ints | None = None) -> list[Change]:
        """Take the next values in order; the changes are those of as many calls of `push`.

        `values`: (n,) float64. `ts`: (n,) int64, their event times in microseconds.
        """
        x, first = np.ascontiguousarray(values, np.float64), self._pushed
        when = np.arange(first, first + x.shape[0]) * SECOND if ts is None else ts
        when = np.ascontiguousarray(when, np.int64)
        if x.ndim != 1 or x.shape != when.shape:
            raise ValueError(f"{x.shape} values with {when.shape} times: one time for each value")
        self._pushed += x.shape[0]
        changes: list[Change] = []
        place = 0
        while place < x.shape[0]:
            place, count = _extend(
                self._bank, ROW, NOBODY, x, when, place, first, self._index, self._values,
                self._work, self._out,
            )  # fmt: skip
            changes += [self._change(k, first + place - 1) for k in range(count)]
        return changes

    def _change(self, k: int, at: int) -> Change:
        """Boundary k of those just found, shown by the value with index `at`."""
        row = self._out.ints[k]
        return Change(
            int(self._index[row[d.POINT] % RING]), at, int(row[d.TS]), int(row[d.DETECTED_TS]),
            EVIDENCE[int(row[d.EVIDENCE_OF])], float(self._out.floats[k, d.SCORE]),
        )  # fmt: skip
