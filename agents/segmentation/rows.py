"""The tables of series and tenants, and what of a series' row no program packs.

A row with a full ring takes 950 to 1,400 bytes: per point 4 or 8 for the error, 4 for the
confidence and 1 to 9 for the time. Sums over what left the ring are written; those over what is in
it are formed anew, in the same order, at every point anyway.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import NameArrays, Names
from agents.engine.processor import StateRows
from agents.kit.column_table import ColumnTable
from agents.kit.columns import slots
from agents.kit.packing import Bytes, put_name, put_span, take_span
from agents.kit.pool import Pool
from agents.segmentation.points import UNIT_STEP
from agents.segmentation.rule import LIMIT, NUMBERS, RING, RUNS, Bank, Floats, Ints, insert
from agents.segmentation.settings import BOCPD, CPD
from agents.segmentation.state import RINGS, RUN_LENGTHS, SERIES, S
from topics.columns import Cols, Columns
from topics.compiled import entry, kernel

SINGLE, DOUBLE = 4, 8  # bytes of a number
PARTS = 3  # of a run length
POINT_BYTES, RUN_BYTES = SINGLE + DOUBLE, PARTS * DOUBLE
UNIT_MOST = 17 * UNIT_STEP  # exponents of doubles lie within
RUNS_MIN = 16  # series with run lengths: below, their memory stays as it is


ROW = slots("segmentation_state")


class Scratch(NamedTuple):
    """Numbers on their way to bytes and back."""

    double: Floats
    single: NDArray[np.float32]


def _scratch() -> Scratch:
    """Enough for the longest list of a row."""
    return Scratch(np.zeros(PARTS * RUNS), np.zeros(RING, np.float32))


@kernel
def _in_ring(b: Bank, r: int) -> int:
    """How many points are in the ring."""
    return int(min(b.ints[r, S.seen], RING))


@kernel
def _begins(b: Bank, r: int, p: int) -> bool:
    """Whether somebody else leads from point p on, as far as the ring tells."""
    first = b.ints[r, S.seen] - _in_ring(b, r)
    return bool(p == first or b.leader[r, p % RING] != b.leader[r, (p - 1) % RING])


@entry
def _sizes(b: Bank, of: Ints) -> tuple[int, int]:
    """What these rows need: children, and bytes at most."""
    children, size = 0, 0
    for r in of:
        n, seen = _in_ring(b, r), b.ints[r, S.seen]
        for p in range(seen - n, seen):
            children += 2 if _begins(b, r, p) else 0
        children += n
        size += POINT_BYTES * n + RUN_BYTES * b.ints[r, S.b_used]
    return children, size


@kernel
def _pack_points(b: Bank, r: int, c: Cols, k: int, s: Scratch, out: Bytes, used: int) -> int:
    """Errors and confidences of the ring; returns the end of `out`."""
    n = _in_ring(b, r)
    first, exact = b.ints[r, S.seen] - n, True
    for j in range(n):
        v = b.value[r, (first + j) % RING]
        s.double[j] = v
        s.single[j] = np.float32(v)
        exact &= np.float64(s.single[j]) == v
    if exact:
        used = put_span(c, ROW.values, k, out, used, s.single[:n].view(np.uint8))
    else:
        used = put_span(c, ROW.values, k, out, used, s.double[:n].view(np.uint8))
    for j in range(n):
        s.single[j] = b.confidence[r, (first + j) % RING]
    return int(put_span(c, ROW.confidences, k, out, used, s.single[:n].view(np.uint8)))


@kernel
def _pack_runs(b: Bank, r: int, c: Cols, k: int, s: Scratch, out: Bytes, used: int) -> int:
    """bocpd's run lengths; returns the end of `out`."""
    n, at = b.ints[r, S.b_used], b.ints[r, S.at]
    for part in range(PARTS):
        for j in range(n):
            s.double[part * n + j] = b.runs[at, part, j]
    return int(put_span(c, ROW.runs, k, out, used, s.double[: PARTS * n].view(np.uint8)))


@kernel
def _pack_lists(b: Bank, r: int, names: NameArrays, c: Cols, k: int, child: int) -> int:
    """Times and leaders of the ring; returns the next child."""
    seen, n = b.ints[r, S.seen], _in_ring(b, r)
    c.at[ROW.times, k], c.cnt[ROW.times, k] = child, n
    before, changes = 0, 0
    for p in range(seen - n, seen):
        c.vi[child] = b.ts[r, p % RING] - before
        before = b.ts[r, p % RING]
        changes += _begins(b, r, p)
        child += 1
    c.at[ROW.leaders, k], c.cnt[ROW.leaders, k] = child, changes
    c.at[ROW.lasted, k], c.cnt[ROW.lasted, k] = child + changes, changes
    at = child - 1
    for p in range(seen - n, seen):
        if _begins(b, r, p):
            at += 1
            put_name(names, b.leader[r, p % RING], c.vpos, c.vlen, at)
            c.vi[at + changes] = 0
        c.vi[at + changes] += 1
    return int(child + 2 * changes)


@entry
def _pack(
    b: Bank, names: NameArrays, at: Ints, of: Ints, c: Cols, child: int, s: Scratch, out: Bytes,
    used: int,
) -> tuple[int, int]:  # fmt: skip
    """The rings and run lengths of rows `of`. Returns the ends of children and bytes."""
    for j in range(at.shape[0]):
        k, r = at[j], of[j]
        used = _pack_points(b, r, c, k, s, out, used)
        used = _pack_runs(b, r, c, k, s, out, used)
        child = _pack_lists(b, r, names, c, k, child)
    return child, used


@kernel
def _fits(b: Bank, r: int, c: Cols, k: int) -> bool:
    """Whether the parts of row k are as long as they must be."""
    n, used, changes = _in_ring(b, r), b.ints[r, S.b_used], c.cnt[ROW.leaders, k]
    if b.ints[r, S.start] > b.ints[r, S.seen] or not 0 <= used <= RUNS:
        return False
    if c.len[ROW.values, k] not in (SINGLE * n, DOUBLE * n):
        return False
    if c.len[ROW.confidences, k] != SINGLE * n or c.len[ROW.runs, k] != RUN_BYTES * used:
        return False
    if c.cnt[ROW.times, k] != n or c.cnt[ROW.lasted, k] != changes:
        return False
    total = 0
    for child in range(c.at[ROW.lasted, k], c.at[ROW.lasted, k] + changes):
        if not 1 <= c.vi[child] <= n:
            return False
        total += c.vi[child]
    return bool(total == n)


@kernel
def _unpack_points(b: Bank, r: int, c: Cols, k: int, s: Scratch, buf: Bytes, items: Ints) -> bool:
    """The ring of row k, which fits; False: a value is none."""
    n = _in_ring(b, r)
    first, exact, ts = b.ints[r, S.seen] - n, c.len[ROW.values, k] == SINGLE * n, 0
    if exact:
        take_span(c, ROW.values, k, buf, s.single[:n].view(np.uint8))
    else:
        take_span(c, ROW.values, k, buf, s.double[:n].view(np.uint8))
    for j in range(n):
        v = np.float64(s.single[j]) if exact else s.double[j]
        if not abs(v) <= LIMIT:
            return False
        ts += c.vi[c.at[ROW.times, k] + j]
        b.value[r, (first + j) % RING] = v
        b.ts[r, (first + j) % RING] = ts
        if j > 0:
            insert(b.steps[r], j - 1, abs(v - b.value[r, (first + j - 1) % RING]))
    take_span(c, ROW.confidences, k, buf, s.single[:n].view(np.uint8))
    for j in range(n):
        if not math.isfinite(s.single[j]):
            return False
        b.confidence[r, (first + j) % RING] = s.single[j]
    p = first
    for which in range(c.cnt[ROW.leaders, k]):
        for _ in range(c.vi[c.at[ROW.lasted, k] + which]):
            b.leader[r, p % RING] = items[c.at[ROW.leaders, k] + which]
            p += 1
    return True


@kernel
def _modernise(b: Bank, r: int) -> bool:
    """Mean and variance in the unit, as rows of v1 have them, become mean and spread."""
    unit = int(b.ints[r, S.unit])
    if not b.floats[r, S.spread] >= 0.0:
        return False
    b.floats[r, S.mean] = math.ldexp(b.floats[r, S.mean], unit)
    b.floats[r, S.spread] = math.ldexp(math.sqrt(b.floats[r, S.spread]), unit)
    b.ints[r, S.wild] = 0
    return bool(abs(b.floats[r, S.mean]) <= LIMIT and b.floats[r, S.spread] <= LIMIT)


@kernel
def _unpack_laws(b: Bank, r: int, c: Cols, k: int, s: Scratch, buf: Bytes) -> bool:
    """The run lengths of row k, which fits; False: a law's number is out of its range."""
    for j in range(S.mean, S.mean + len(NUMBERS)):
        if not math.isfinite(b.floats[r, j]):
            return False
    if not -UNIT_MOST <= b.ints[r, S.unit] <= UNIT_MOST:
        return False
    if b.ints[r, S.wild] < 0 and not _modernise(b, r):
        return False
    for j in (S.g_start, S.g_changed, S.b_start):
        if not 0 <= b.ints[r, j] <= b.ints[r, S.seen]:
            return False
    for j in (S.g_since, S.h_since):
        if not -1 <= b.ints[r, j] <= b.ints[r, S.seen]:
            return False
    n, at = b.ints[r, S.b_used], b.ints[r, S.at]
    take_span(c, ROW.runs, k, buf, s.double[: PARTS * n].view(np.uint8))
    for part in range(PARTS):
        for j in range(n):
            b.runs[at, part, j] = s.double[part * n + j]
    return True


@entry
def _unpack(b: Bank, at: Ints, of: Ints, c: Cols, s: Scratch, buf: Bytes, items: Ints) -> int:
    """Rows `of` get the rings and run lengths of the topic's rows `at`; a bad one, or -1."""
    for j in range(at.shape[0]):
        k, r = at[j], of[j]
        if not (_fits(b, r, c, k) and _unpack_points(b, r, c, k, s, buf, items)):
            return int(k)
        if not _unpack_laws(b, r, c, k, s, buf):
            return int(k)
    return -1


class SeriesTable(ColumnTable):
    """The series, their rings beside them, and a pool of run lengths for those that bocpd takes."""

    def __init__(self) -> None:
        super().__init__(SERIES, RINGS, Pool(RUN_LENGTHS, RUNS_MIN))

    def bank(self) -> Bank:
        """The series as they are now."""
        return Bank(self.memory.wholes, self.memory.reals, **self.beside, runs=self.pool.data)

    def lend(self, of: Ints) -> None:
        """Give rows run lengths, if they have none."""
        at, size = self.rows["at"], self.rows["size"]
        self.pool.give(at, size, of[size[of] == 0], 1)

    def settle(self, of: Ints, table: Floats) -> Ints:
        """Let rows have run lengths if their settings want it; returns those that changed."""
        has = self.rows["size"][of] > 0
        wants = table[self.rows["settings"][of], CPD] == BOCPD
        self.lend(of[wants])
        gone = of[has & ~wants]
        self.pool.leave(self.rows["size"][gone])
        self.rows["size"][gone] = self.rows["b_used"][gone] = 0
        changed: Ints = of[has != wants]
        return changed

    def room(self, of: Ints) -> tuple[int, int]:
        return _sizes(self.bank(), of)

    def pack(self, rows: StateRows, at: Ints, of: Ints, names: Names) -> None:
        columns, scratch = rows.columns, rows.scratch
        columns.used, scratch.used = _pack(
            self.bank(), names.arrays, at, of, columns.cols, columns.used, _scratch(), scratch.data,
            scratch.used,
        )  # fmt: skip

    def unpack(self, rows: Columns, at: Ints, of: Ints, buf: Bytes, items: Ints) -> int:
        self.lend(of[rows.cols.len[ROW.runs, at] > 0])
        return _unpack(self.bank(), at, of, rows.cols, _scratch(), buf, items)


class TenantTable(ColumnTable):
    """The tenants' times under their leaders."""

    def unpack(self, rows: Columns, at: Ints, of: Ints, buf: Bytes, items: Ints) -> int:
        bad = at[self.rows["start"][of] > self.rows["seen"][of]]
        return int(bad[0]) if bad.shape[0] else -1
