"""What a partition's predictors remember: one entity for each (tenant, domain), as arrays.

Entities and tenants share one set of names (`names.Names`): "tenant 0x1f domain" and "tenant". A
name's int indexes every array of `Entities`. Vectors live in `pool`: entity k has five parts of
room[k] numbers from at[k] on, the last vector, level, step, ratio and what is expected next, of
which dim[k] are in use; behind them the runs, two bytes a number, and its calibration's window.
An entity costs about 200 bytes, its key, 272 bytes of the window and 42 bytes a number.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.predictors.calibration import WINDOW_BINS, WINDOW_SUMS, Window, unlearn
from topics.compiled import entry, kernel, view

SEPARATOR = 0x1F  # between tenant and domain; no name of either may contain it

PARTS = 5  # of an entity's vectors
LAST, LEVEL, STEP, RATIO, NEXT = range(PARTS)
BINS = WINDOW_BINS // 2  # numbers of 8 bytes that hold a window's of 4
LEARNED = 5  # numbers of calibration.learn

POOL_USED, POOL_WASTED, CHANGED, LIVE, DROPPED = range(5)  # Entities.counts

_POOL_MIN = 4096  # numbers; below this, nothing is compacted
_SWEEP_MIN = 1024  # names

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Entities(NamedTuple):
    """Arrays by name. One that isn't `live` is a tenant, or an entity that left: dim, n are 0."""

    owner: Ints  # the entity's tenant; a tenant is its own, -1: not known yet
    slot: Ints  # a tenant's row in TenantSettings.table
    dim: Ints
    room: Ints
    at: Ints
    n: Ints
    restarts: Ints
    ts: Ints  # microseconds, event time
    touched: Ints  # milliseconds, log time
    median: Floats  # of calibration.py, as the next four
    run: Ints
    learned: Floats  # [capacity, LEARNED]: slope, bias, and the information
    logit: Floats  # that waits; NaN: none
    samples: Ints
    made: (
        Ints  # TenantSettings.version for which the pool holds what is expected next; 0: it doesn't
    )
    live: Bytes
    dirty: Bytes  # 1: stands in `changed`
    changed: Ints  # names in the order of their first change; counts[CHANGED] of them
    counts: Ints


_BY_NAME = tuple(name for name in Entities._fields if name not in ("changed", "counts"))


def _empty(capacity: int) -> Entities:
    ints = [np.zeros(capacity, np.int64) for _ in range(12)]
    ints[0][:] = -1
    owner, slot, dim, room, at, n, restarts, ts, touched, run, samples, made = ints
    return Entities(
        owner, slot, dim, room, at, n, restarts, ts, touched, np.zeros(capacity), run,
        np.zeros((capacity, LEARNED)), np.full(capacity, np.nan), samples, made,
        np.zeros(capacity, np.uint8), np.zeros(capacity, np.uint8), np.zeros(capacity, np.int64),
        np.zeros(5, np.int64),
    )  # fmt: skip


@kernel
def mark(e: Entities, k: int) -> None:
    """Note that name k's row changed."""
    if e.dirty[k] == 0:
        e.dirty[k] = 1
        e.changed[e.counts[CHANGED]] = k
        e.counts[CHANGED] += 1


@kernel
def sides(room: int) -> int:
    """Numbers of the pool that the runs of so many take."""
    return (2 * room + 7) // 8


@kernel
def block(room: int) -> int:
    """Numbers of the pool that an entity with so much room takes."""
    return PARTS * room + sides(room) + BINS + WINDOW_SUMS if room > 0 else 0


@view
def part(e: Entities, pool: Floats, k: int, which: int) -> Floats:
    """The numbers in use of one of entity k's vectors."""
    start = e.at[k] + which * e.room[k]
    return pool[start : start + e.dim[k]]


@view
def runs_of(e: Entities, pool: Floats, k: int) -> NDArray[np.int8]:
    """Room for the runs of entity k, two for each number."""
    start = e.at[k] + PARTS * e.room[k]
    return pool[start : start + sides(e.room[k])].view(np.int8)


@view
def window_of(e: Entities, pool: Floats, k: int) -> Window:
    """The calibration's window of entity k, which has room."""
    start = e.at[k] + PARTS * e.room[k] + sides(e.room[k])
    end = start + BINS
    return Window(pool[start:end].view(np.int32), pool[end : end + WINDOW_SUMS])


@kernel
def place(e: Entities, pool_size: int, k: int, dim: int) -> bool:
    """Give entity k room for vectors of so many numbers; False where the pool is too small."""
    if e.room[k] < dim:
        if e.counts[POOL_USED] + block(dim) > pool_size:
            return False
        e.counts[POOL_WASTED] += block(e.room[k])
        e.at[k] = e.counts[POOL_USED]
        e.room[k] = dim
        e.counts[POOL_USED] += block(dim)
    if e.dim[k] != dim:
        e.dim[k] = dim
        e.made[k] = 0
    return True


@entry
def drop(e: Entities, k: int) -> None:
    """Entity k leaves; its room is wasted, its name stays until the next sweep."""
    e.counts[POOL_WASTED] += block(e.room[k])
    e.counts[LIVE] -= e.live[k]
    e.counts[DROPPED] += 1
    e.live[k] = 0
    e.dim[k] = 0
    e.room[k] = 0
    e.n[k] = 0
    e.restarts[k] = 0
    e.ts[k] = 0
    e.touched[k] = 0
    reset(e, k)


@entry
def reset(e: Entities, k: int) -> None:
    """Entity k's calibration begins anew, but for its window, and nothing is expected."""
    e.median[k] = 0.0
    e.run[k] = 0
    unlearn(e.learned[k])
    e.logit[k] = np.nan
    e.samples[k] = 0
    e.made[k] = 0


@entry
def expires(e: Entities, k: int, forget_after_s: Floats) -> int:
    """Wall time in microseconds at which entity k has been silent for too long."""
    after = forget_after_s[e.slot[e.owner[k]]]
    return int(e.touched[k] * 1000 + np.int64(after * 1e6))


@entry
def first_expiry(e: Entities, count: int, forget_after_s: Floats) -> int:
    """The least `expires` of all entities; -1 when there is none."""
    least = -1
    for k in range(count):
        if e.live[k]:
            at = expires(e, k, forget_after_s)
            if least < 0 or at < least:
                least = at
    return least


@entry
def forget(e: Entities, count: int, forget_after_s: Floats, now: int) -> None:
    """Drop the entities that have been silent for too long."""
    for k in range(count):
        if e.live[k] and expires(e, k, forget_after_s) <= now:
            drop(e, k)
            mark(e, k)


@entry
def _compact(e: Entities, count: int, pool: Floats, fresh: Floats) -> None:
    """Copy the vectors in use to `fresh`, which has room for them."""
    used = 0
    for k in range(count):
        dim, room, at = e.dim[k], e.room[k], e.at[k]
        for which in range(PARTS):
            for i in range(dim):
                fresh[used + which * dim + i] = pool[at + which * room + i]
        if dim > 0:
            # Bits, not numbers: what isn't one must stay what it is.
            old, new = pool.view(np.int64), fresh.view(np.int64)
            source, to = at + PARTS * room, used + PARTS * dim
            for j in range(sides(dim)):
                new[to + j] = old[source + j]
            source, to = source + sides(room), to + sides(dim)
            for j in range(BINS + WINDOW_SUMS):
                new[to + j] = old[source + j]
        e.at[k] = used
        e.room[k] = dim
        used += block(dim)
    e.counts[POOL_USED] = used
    e.counts[POOL_WASTED] = 0


@entry
def _first_rows(ids: Ints, lo: int, hi: int, known: int, row: Ints) -> None:
    """row[k - known] = a row among lo..hi-1 that names k, for every k >= known."""
    for r in range(hi - 1, lo - 1, -1):
        if ids[r] >= known:
            row[ids[r] - known] = r


class State:
    """The entities of one partition, and their growing and shrinking."""

    def __init__(self) -> None:
        self.names = Names()
        self.e = _empty(256)
        self.pool: Floats = np.empty(_POOL_MIN)

    def name_entities(
        self, buf: Bytes, pos: Ints, size: Ints, skip: Bytes, tenant_size: Ints, ids: Ints,
        lo: int, hi: int,
    ) -> None:  # fmt: skip
        """ids[lo:hi] = the entities named by the spans, new ones with their owner.

        tenant_size[r] is the length of the tenant at the beginning of span r.
        """
        known = self.names.count
        self.names.intern(buf, pos, size, skip, ids, lo, hi)
        self._reach(self.names.count)
        new = self.names.count - known
        if not new:
            return
        row = np.empty(new, np.int64)
        _first_rows(ids, lo, hi, known, row)
        owner = np.empty(new, np.int64)
        self.names.intern(buf, pos[row], tenant_size[row], np.zeros(new, np.uint8), owner)
        self._reach(self.names.count)
        self.e.owner[known : known + new] = owner
        self.e.owner[owner] = owner

    def tenant(self, name: str) -> int:
        """The int of a tenant, named now if it wasn't."""
        k = self.names.code(name.encode())
        self._reach(self.names.count)
        self.e.owner[k] = k
        return k

    def grow_pool(self, more: int) -> None:
        """Make room for so many more numbers, by compaction if much is wasted."""
        e, count = self.e, self.names.count
        used = int(e.counts[POOL_USED] - e.counts[POOL_WASTED])
        if self._wasteful():
            fresh = np.empty(max(2 * used, used + more, _POOL_MIN))
            _compact(e, count, self.pool, fresh)
        else:
            used = int(e.counts[POOL_USED])
            fresh = np.empty(max(2 * self.pool.shape[0], used + more))
            fresh[:used] = self.pool[:used]
        self.pool = fresh

    def sweep(self) -> None:
        """Give back the names of entities that left, once they are many and their rows written.

        The ints of the others change; nothing that a law computes depends on them.
        """
        e, count = self.e, self.names.count
        if e.counts[CHANGED] or e.counts[DROPPED] < max(_SWEEP_MIN, int(e.counts[LIVE])):
            return
        live = e.live[:count] != 0
        live[e.owner[:count][live]] = True
        live |= e.slot[:count] != 0
        moved = self.names.keep(live)
        kept = np.flatnonzero(live)
        fresh = _empty(max(256, kept.shape[0]))
        for name in _BY_NAME:
            getattr(fresh, name)[: kept.shape[0]] = getattr(e, name)[kept]
        fresh.owner[: kept.shape[0]] = moved[fresh.owner[: kept.shape[0]]]
        fresh.counts[:] = e.counts
        fresh.counts[DROPPED] = 0
        self.e = fresh
        if fresh.counts[POOL_USED] > _POOL_MIN and self._wasteful():
            self.grow_pool(0)

    def _wasteful(self) -> bool:
        return bool(2 * self.e.counts[POOL_WASTED] > self.e.counts[POOL_USED])

    def _reach(self, count: int) -> None:
        if count > self.e.owner.shape[0]:
            held = self.e.owner.shape[0]
            fresh = _empty(max(count, 2 * held))
            for name in (*_BY_NAME, "changed"):
                getattr(fresh, name)[:held] = getattr(self.e, name)
            fresh.counts[:] = self.e.counts
            self.e = fresh
