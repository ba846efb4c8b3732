"""The room's law over one series without any server: what `soma segment` and benches run."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agents.segmentation import settings
from agents.segmentation.detect import (
    DETECTED_TS,
    EVIDENCE,
    EVIDENCE_OF,
    POINT,
    SCORE,
    TS,
    Found,
    found,
    step,
)
from agents.segmentation.rule import RING, SERIES, Bank, Floats, Work, bank, clear, entry, work


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
def _begin(b: Bank) -> None:
    clear(b, 0)


@entry
def _step(b: Bank, v: float, ts: int, values: Floats, w: Work, out: Found) -> int:
    return step(b, 0, v, ts, 1.0, -1, values, w, out)


class Series:
    """One series of one domain, online: the very kernels of the room, one value at a time."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        """`values`: the room's settings by name, as text. Raises ValueError for a bad one."""
        self._values = settings.row_of(values or {})
        self._series = np.zeros(1, SERIES)
        self._bank = bank(self._series)
        self._work = work()
        self._out = found()
        self._index: deque[int] = deque(maxlen=RING)  # of the values that are points
        self._pushed = 0
        _begin(self._bank)

    def push(self, value: float, ts: int | None = None) -> list[Change]:
        """Take the next value; returns the changes that it showed, usually none.

        `ts`: its event time in microseconds, by default its index as seconds. NaN and infinite
        values are missing: they have an index, and say nothing.
        """
        at = self._pushed
        self._pushed += 1
        if not math.isfinite(value):
            return []
        self._index.append(at)
        when = at * 1_000_000 if ts is None else ts
        count = _step(self._bank, value, when, self._values, self._work, self._out)
        seen = int(self._series[0]["seen"])
        changes = []
        for row, score in zip(self._out.ints[:count], self._out.floats[:count, SCORE], strict=True):
            back = seen - int(row[POINT])
            changes.append(
                Change(
                    self._index[-back], at, int(row[TS]), int(row[DETECTED_TS]),
                    EVIDENCE[int(row[EVIDENCE_OF])], float(score),
                )
            )  # fmt: skip
        return changes
