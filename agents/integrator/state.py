"""The integrator's state of one partition: tenants, and their domains in slots.

A tenant is one struct; its domains are neighbours in a pool of cells: 4, 8 or 16 of them, moved to
a new place when they outgrow the old one (which is left behind: at most 12 cells a tenant, until
`State.tidy`). With 3 domains a tenant takes 408 bytes and its name.

Names are interned: a domain or tenant is known by its code, which changes with every recovery, so
nothing that leaves the state may depend on one. `rank` is what ties are broken by instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.integrator.order import precedes
from agents.integrator.table import Table
from topics.compiled import entry, kernel

SLOTS = 16  # domains that a tenant can have at once
ROOM = 4  # cells that a new tenant gets
ALL = b"*"  # the tenant whose settings are the partition's; always row 0

TENANT = np.dtype(
    [
        ("name", "i4"),  # code
        ("settings", "i4"),  # row of the settings table; 0: has no values of its own
        ("cells", "i4"),  # the first of its cells
        ("room", "i4"),  # cells it has
        ("n", "i4"),  # cells in use: slots
        ("fusion", "i4"),  # the law that the learned numbers belong to; -1: none
        ("leader", "i4"),  # code; -1: none
        ("alive", "i4"),
        ("denied", "i4"),  # code of the candidate that the policy denied last; -1: none
        ("said", "i4"),  # what a remote policy answered since the last frame: a veto; 0: nothing
        ("samples", "i4"),  # frames in the drift window so far, at most drift.WINDOW
        ("calm", "i4"),  # frames without drift in a row; negative: with
        ("delta", "f8"),  # Δ
        ("regret", "f8"),  # loss of what was published above that of the best fresh domain
        ("rounds", "i8"),
        ("since", "i8"),  # event time, µs: when the leader came to lead
        ("late", "i8"),  # records older than their domain's time
        ("version", "i8"),  # settings changed so far
        ("touched", "i8"),  # log time, ms
        ("denied_at", "i8"),  # event time, µs
        ("question", "i8"),  # offset of the record whose question isn't answered yet; -1: none
        ("frames", "i8"),  # watched for drift so far, at most drift.USUAL
        ("drift_at", "i8"),  # event time of the last drift event, µs; 0: none
        ("mean_entropy", "f8"),  # over the drift window
        ("mean_regret", "f8"),
        ("usual_entropy", "f8"),  # the baseline: while not drifting
        ("usual_regret", "f8"),
        ("spread_entropy", "f8"),  # how far the window's mean is off the baseline, usually
        ("spread_regret", "f8"),
    ]
)
CELL = np.dtype(
    [
        ("domain", "i4"),  # code
        ("rank", "i4"),  # place among the tenant's domains in the order of ties; derived
        ("seen", "i8"),  # event time of the domain's latest record, µs
        ("error", "f8"),  # of its last record
        ("loss", "f8"),  # of its last record
        ("weight", "f8"),  # the learner's
        ("excess", "f8"),  # L - min L: cumulative loss above that of the best fresh domain
        ("published", "f8"),  # weight in the last frame; -1: took no part in the last round
    ]
)
COUNTS = 6
TENANTS, CELLS, DIRTY, DEAD, TABLE, CHANGES = range(COUNTS)  # of Arrays.counts

Ints = NDArray[np.int64]
Structs = NDArray[np.void]


class Arrays(NamedTuple):
    """What kernels take of a State."""

    tenants: Structs  # TENANT
    cells: Structs  # CELL
    counts: Ints  # entries in use: TENANTS, CELLS, DIRTY, DEAD, TABLE; and leader CHANGES
    row: NDArray[np.int32]  # code -> tenant, -1: none
    flag: NDArray[np.uint8]  # code -> changed since the last `changed`
    dirty: Ints  # codes changed, in the order of their first change
    at: Ints  # Names: where name k begins in the pool
    size: Ints
    pool: NDArray[np.uint8]
    own: NDArray[np.float64]  # settings.Table
    effective: NDArray[np.float64]


@kernel
def touch(a: Arrays, code: int) -> None:
    """Note that the row of this name has changed."""
    if a.flag[code] == 0:
        a.flag[code] = 1
        a.dirty[a.counts[DIRTY]] = code
        a.counts[DIRTY] += 1


@kernel
def has_room(a: Arrays) -> bool:
    """Whether one more record, or row of the state topic, surely fits."""
    tenants = a.counts[TENANTS] < a.tenants.shape[0]
    return bool(tenants and a.counts[CELLS] + SLOTS <= a.cells.shape[0])


@kernel
def admit(a: Arrays, code: int, room: int) -> int:
    """A new tenant without domains; returns its row. There must be room."""
    r = a.counts[TENANTS]
    a.counts[TENANTS] += 1
    a.row[code] = r
    tenant = a.tenants[r]
    tenant["name"] = code
    tenant["settings"] = 0
    tenant["cells"] = a.counts[CELLS]
    tenant["room"] = room
    a.counts[CELLS] += room
    tenant["alive"] = 1
    clear(a, r)
    return int(r)


@kernel
def clear(a: Arrays, r: int) -> None:
    """Make a tenant as it was when new; it keeps its name, its cells and its settings' row."""
    tenant = a.tenants[r]
    tenant["n"] = 0
    tenant["fusion"] = -1
    tenant["leader"] = -1
    tenant["delta"] = 0.0
    tenant["regret"] = 0.0
    tenant["rounds"] = 0
    tenant["since"] = 0
    tenant["late"] = 0
    tenant["version"] = 0
    tenant["touched"] = 0
    tenant["denied"] = -1
    tenant["said"] = 0
    tenant["denied_at"] = 0
    tenant["question"] = -1
    tenant["samples"] = 0
    tenant["calm"] = 0
    tenant["frames"] = 0
    tenant["drift_at"] = 0
    tenant["mean_entropy"] = 0.0
    tenant["mean_regret"] = 0.0
    tenant["usual_entropy"] = 0.0
    tenant["usual_regret"] = 0.0
    tenant["spread_entropy"] = 0.0
    tenant["spread_regret"] = 0.0


@kernel
def widen(a: Arrays, r: int, room: int) -> None:
    """Give a tenant so many cells elsewhere. There must be room."""
    tenant = a.tenants[r]
    old = tenant["cells"]
    new = a.counts[CELLS]
    for k in range(tenant["n"]):
        a.cells[new + k] = a.cells[old + k]
    tenant["cells"] = new
    tenant["room"] = room
    a.counts[CELLS] += room


@kernel
def rank(a: Arrays, r: int) -> None:
    """Recompute the order of ties among a tenant's domains: by name, never by code."""
    first = a.tenants[r]["cells"]
    n = a.tenants[r]["n"]
    for k in range(first, first + n):
        x = a.cells[k]["domain"]
        name = a.pool[a.at[x] : a.at[x] + a.size[x]]
        before = 0
        for other in range(first, first + n):
            if other != k:
                y = a.cells[other]["domain"]
                before += precedes(a.pool[a.at[y] : a.at[y] + a.size[y]], name)
        a.cells[k]["rank"] = before


@entry
def _regroup(tenants: Structs, old: Structs, new: Structs, moved: Ints) -> int:
    """Copy the tenants' cells to `new`, end to end, with the new codes of names."""
    used = 0
    for r in range(tenants.shape[0]):
        tenant = tenants[r]
        first = tenant["cells"]
        tenant["cells"] = used
        tenant["name"] = moved[tenant["name"]]
        if tenant["leader"] >= 0:
            tenant["leader"] = moved[tenant["leader"]]
        if tenant["denied"] >= 0:
            tenant["denied"] = moved[tenant["denied"]]
        for k in range(tenant["n"]):
            new[used + k] = old[first + k]
            new[used + k]["domain"] = moved[old[first + k]["domain"]]
        used += tenant["room"]
    return used


@entry
def _mark(tenants: Structs, cells: Structs, live: NDArray[np.bool_]) -> int:
    """live[code] = True for every name that a living tenant needs; returns how many those are."""
    for r in range(tenants.shape[0]):
        tenant = tenants[r]
        if tenant["alive"] != 0:
            live[tenant["name"]] = True
            if tenant["leader"] >= 0:
                live[tenant["leader"]] = True
            if tenant["denied"] >= 0:
                live[tenant["denied"]] = True
            for k in range(tenant["cells"], tenant["cells"] + tenant["n"]):
                live[cells[k]["domain"]] = True
    total = 0
    for k in range(live.shape[0]):
        total += live[k]
    return total


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a remote policy that isn't answered yet."""

    offset: int  # of the record whose frame says pending
    leader: str  # the candidate
    weights: Mapping[str, float]


class State:
    """Growable arrays of one partition's tenants. Row 0 is '*', which holds settings only."""

    def __init__(self, table: Table) -> None:
        self.names = Names()
        self.table = table
        self.tenants = np.zeros(64, TENANT)
        self.cells = np.zeros(64 * ROOM, CELL)
        self.counts = np.zeros(COUNTS, np.int64)
        self.row = np.full(64, -1, np.int32)
        self.flag = np.zeros(64, np.uint8)
        self.dirty = np.zeros(64, np.int64)
        self.asked: dict[bytes, Asked] = {}  # by tenant: what a remote policy hasn't answered yet
        self._tidy_at = 8192
        self.names.code(ALL)
        admit(self.arrays(), 0, 0)

    def arrays(self) -> Arrays:
        """The arrays as they are now; anything that grows makes others."""
        names, table = self.names, self.table
        return Arrays(
            self.tenants, self.cells, self.counts, self.row, self.flag, self.dirty,
            names.at, names.size, names.pool, table.own, table.effective,
        )  # fmt: skip

    def cover(self) -> None:
        """Make the arrays that are indexed by code as long as there are names."""
        need, have = self.names.count, self.row.shape[0]
        if need > have:
            more = max(need, 2 * have) - have
            self.row = np.concatenate((self.row, np.full(more, -1, np.int32)))
            self.flag = np.concatenate((self.flag, np.zeros(more, np.uint8)))
            self.dirty = np.concatenate((self.dirty, np.zeros(more, np.int64)))

    def grow(self) -> None:
        """Make room for one more record at least, by half as much again."""
        if self.counts[TENANTS] >= self.tenants.shape[0]:
            self.tenants = _longer(self.tenants)
        if self.counts[CELLS] + SLOTS > self.cells.shape[0]:
            self.cells = _longer(self.cells)

    @property
    def living(self) -> int:
        """Tenants, without '*'."""
        return int(self.counts[TENANTS] - self.counts[DEAD]) - 1

    def seat(self, name: bytes) -> int:
        """The row of a tenant, which is made if need be."""
        code = self.names.code(name)
        self.cover()
        if self.row[code] < 0:
            while not has_room(self.arrays()):
                self.grow()
            admit(self.arrays(), code, ROOM)
        return int(self.row[code])

    def forget(self, rows: Ints) -> None:
        """Let tenants go; their tombstones come with the next `changed`, in the order of names."""
        codes = [int(self.tenants[r]["name"]) for r in rows]
        a = self.arrays()
        for code in sorted(codes, key=self.names.name):
            touch(a, code)
        self.tenants["alive"][rows] = 0
        self.row[codes] = -1
        self.counts[DEAD] += len(codes)

    def drop_answered(self) -> None:
        """Forget the questions that their tenants, forgotten or loaded anew, don't wait for."""
        for name, asked in list(self.asked.items()):
            code = self.names.code(name, add=False)
            r = int(self.row[code]) if code >= 0 else -1
            if r < 0 or self.tenants["question"][r] != asked.offset:
                del self.asked[name]

    def tidy(self) -> None:
        """Give back what forgotten tenants and unknown names left, once it is worth it.

        Only between batches: the names' bytes move, so no span into them may be in use.
        """
        total = self.names.count + int(self.counts[TENANTS])
        if total < self._tidy_at:
            return
        tenants = self.tenants[: self.counts[TENANTS]]
        live = np.zeros(self.names.count, np.bool_)
        needed = _mark(tenants, self.cells, live) + self.living + 1
        if 4 * needed <= 3 * total:
            self._compact(tenants[tenants["alive"] != 0], live)
        self._tidy_at = 2 * (self.names.count + int(self.counts[TENANTS]))
        self._tidy_at = max(self._tidy_at, 8192)

    def _compact(self, tenants: Structs, live: NDArray[np.bool_]) -> None:
        tenants["settings"] = self.table.keep(np.unique(tenants["settings"]))[tenants["settings"]]
        cells = np.zeros(int(tenants["room"].sum()) + SLOTS, CELL)
        used = _regroup(tenants, self.cells, cells, self.names.keep(live))
        self.tenants, self.cells = tenants, cells
        self.counts[:] = (tenants.shape[0], used, 0, 0, 0, self.counts[CHANGES])
        self.row = np.full(self.names.count, -1, np.int32)
        self.row[tenants["name"]] = np.arange(tenants.shape[0])
        self.flag = np.zeros(self.names.count, np.uint8)
        self.dirty = np.zeros(self.names.count, np.int64)


def _longer(old: Structs) -> Structs:
    new = np.zeros(max(64, old.shape[0] * 3 // 2), old.dtype)
    new[: old.shape[0]] = old
    return new
