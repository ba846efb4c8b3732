"""Segmentation's state of one partition: tenants, and a series for each of their domains.

A series takes 3.6 KB (`rule.SERIES_BYTES`: 104 points of 32 bytes, and its numbers), with bocpd
4.8 KB more; a tenant 100 bytes; and both their names. Rows of those that left are used again.

Names are interned: tenants, series ("tenant 0x1f domain") and leaders are known by codes that
change with every recovery, so nothing that leaves the state may depend on one.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.kit.setting import EVERYONE
from agents.kit.tenant_settings import TenantSettings
from agents.segmentation import rule
from agents.segmentation.rule import Bank, Floats, Ints
from agents.segmentation.settings import BOCPD, CPD
from topics.compiled import entry, kernel

LEAVING = 2  # a tenant whose tombstone was read before those of its series: it goes with the last
SEPARATOR = 0x1F  # between tenant and domain; no name of either contains it

TENANT = np.dtype(
    [
        ("name", "i8"),  # code
        ("settings", "i8"),  # row of the settings table
        ("alive", "i8"),  # 0, 1 or LEAVING
        ("domains", "i8"),  # series it has
        ("leader", "i8"),  # code; -1: no frame yet
        ("measured", "i8"),  # frames under the leader that had its error
        # From here on as in rule.SERIES, of the tenant's time under one leader.
        ("seen", "i8"),
        ("touched", "i8"),
        ("start", "i8"),
        ("start_ts", "i8"),
        ("boundaries", "i8"),
        ("error_sum", "f8"),
        ("confidence_sum", "f8"),
        ("peak", "f8"),
    ]
)


class TenantColumns(NamedTuple):
    """Where the fields of TENANT stand."""

    name: int
    settings: int
    alive: int
    domains: int
    leader: int
    measured: int
    seen: int
    touched: int
    start: int
    start_ts: int
    boundaries: int
    error_sum: int
    confidence_sum: int
    peak: int


T = TenantColumns(*range(len(TENANT.fields or ())))


class Arrays(NamedTuple):
    """What kernels take of a State."""

    ints: Ints  # TENANT, as columns of whole numbers
    floats: Floats  # the same memory as floats
    bank: Bank
    tenant_of: Ints  # code -> row, -1: none
    series_of: Ints
    flag: NDArray[np.uint8]  # code -> changed since the last `changed`
    dirty: Ints  # codes changed, in the order of their first change
    counts: Ints  # counts[0]: entries of `dirty`
    at: Ints  # Names: where name k begins in the pool
    size: Ints
    pool: NDArray[np.uint8]
    table: Floats  # TenantSettings.table


@kernel
def touch(a: Arrays, code: int) -> None:
    """Note that the row of this name has changed."""
    if a.flag[code] == 0:
        a.flag[code] = 1
        a.dirty[a.counts[0]] = code
        a.counts[0] += 1


@entry
def mark(a: Arrays, code: int) -> None:
    """As `touch`, from Python."""
    touch(a, code)


@entry
def clear_series(b: Bank, r: int) -> None:
    """As `rule.clear`, from Python."""
    rule.clear(b, r)


def clear_tenant(tenant: np.void) -> None:
    """Make a tenant as it is before its first frame; name, settings and domains stay."""
    tenant["leader"] = -1
    for field in ("seen", "touched", "start", "start_ts", "boundaries", "measured"):
        tenant[field] = 0
    for field in ("error_sum", "confidence_sum", "peak"):
        tenant[field] = 0.0


class State:
    """Growable arrays of one partition's tenants and series."""

    def __init__(self, settings: TenantSettings) -> None:
        self.names = Names()
        self.settings = settings
        self.tenants = np.zeros(16, TENANT)
        self.series = np.zeros(16, rule.SERIES)
        self.bank = rule.bank(self.series)
        self.tenant_of, self.series_of = np.full((2, 64), -1, np.int64)
        self.flag = np.zeros(64, np.uint8)
        self.dirty = np.zeros(64, np.int64)
        self.counts = np.zeros(1, np.int64)
        self.living = 0  # series
        self._free_tenants = list(range(15, -1, -1))
        self._free_series = list(range(15, -1, -1))
        self._free_runs = [0]
        self._tidy_at = 4096

    def arrays(self) -> Arrays:
        """The arrays as they are now; anything that grows makes others."""
        names = self.names
        return Arrays(
            self.tenants.view(np.int64).reshape(-1, len(T)),
            self.tenants.view(np.float64).reshape(-1, len(T)),
            self.bank, self.tenant_of, self.series_of, self.flag, self.dirty,
            self.counts, names.at, names.size, names.pool, self.settings.table,
        )  # fmt: skip

    def cover(self) -> None:
        """Make the arrays that are indexed by code as long as there are names."""
        need, have = self.names.count, self.flag.shape[0]
        if need > have:
            size = max(need, 2 * have)
            self.tenant_of = _longer(self.tenant_of, size, -1)
            self.series_of = _longer(self.series_of, size, -1)
            self.flag = _longer(self.flag, size)
            self.dirty = _longer(self.dirty, size)

    def code(self, name: bytes) -> int:
        """The code of a name, new or known."""
        code = self.names.code(name)
        self.cover()
        return code

    def text(self, code: int) -> str:
        """A name as text."""
        return self.names.name(code).decode()

    def domain(self, r: int) -> str:
        """The domain of a series."""
        return self.text(int(self.series[r]["name"])).split(chr(SEPARATOR), 1)[1]

    def touch(self, code: int) -> None:
        """Note that the row of this name has changed."""
        mark(self.arrays(), code)

    def seat(self, code: int) -> int:
        """The row of a tenant, which is made if need be."""
        if self.tenant_of[code] >= 0:
            return int(self.tenant_of[code])
        if not self._free_tenants:
            size = self.tenants.shape[0]
            self.tenants = _longer(self.tenants, 2 * size)
            self._free_tenants = list(range(2 * size - 1, size - 1, -1))
        r = self._free_tenants.pop()
        tenant = self.tenants[r]
        clear_tenant(tenant)
        tenant["name"], tenant["alive"], tenant["domains"] = code, 1, 0
        tenant["settings"] = self.settings.row(self.text(code))
        self.tenant_of[code] = r
        return r

    def admit(self, code: int) -> int:
        """The row of a series, which is made if need be; its tenant too."""
        if self.series_of[code] >= 0:
            return int(self.series_of[code])
        tenant, domain = self.text(code).split(chr(SEPARATOR), 1)
        owner = self.seat(self.code(tenant.encode()))
        if not self._free_series:
            self._grow_series()
        r = self._free_series.pop()
        self.bank.leader[r] = -1
        clear_series(self.bank, r)
        one = self.series[r]
        one["name"], one["owner"], one["alive"], one["runs"] = code, owner, 1, -1
        self.series_of[code] = r
        self.tenants[owner]["domains"] += 1
        self.living += 1
        self.settle(r, tenant, domain)
        return r

    def settle(self, r: int, tenant: str, domain: str, *, loading: bool = False) -> bool:
        """Let a series look up its settings where they now stand, and have what they need.

        True: its row changed by that.
        """
        one = self.series[r]
        one["settings"] = row = self.settings.row(tenant, domain)
        if self.settings.table[row, CPD] == BOCPD:
            if one["runs"] < 0:
                self.lend_runs(r)
                self.series[r]["b_used"] = 0
                return True
        elif one["runs"] >= 0 and not loading:
            self._free_runs.append(int(one["runs"]))
            one["runs"], one["b_used"] = -1, 0
            return True
        return False

    def lend_runs(self, r: int) -> None:
        """Give a series run lengths, whatever its settings are so far."""
        if self.series[r]["runs"] < 0:
            row = self._take_runs()
            self.series[r]["runs"] = row

    def resettle(self, tenant: str, *, loading: bool = False) -> None:
        """Settle a tenant's series anew, or everybody's for '*'.

        While rows are loaded nothing is taken away: who needs it may come later.
        """
        if tenant == EVERYONE:
            rows = np.flatnonzero(self.series["alive"])
            for r in np.flatnonzero(self.tenants["alive"]):
                one = self.tenants[r]
                one["settings"] = self.settings.row(self.text(int(one["name"])))
        else:
            owner = self.seat(self.code(tenant.encode()))
            self.tenants[owner]["settings"] = self.settings.row(tenant)
            mine = (self.series["owner"] == owner) & (self.series["alive"] != 0)
            rows = np.flatnonzero(mine)
        for r in rows:
            owner = int(self.series[r]["owner"])
            name = self.text(int(self.tenants[owner]["name"]))
            if self.settle(int(r), name, self.domain(int(r)), loading=loading) and not loading:
                self.touch(int(self.series[r]["name"]))

    def drop_series(self, code: int) -> None:
        """Let a series go."""
        r = int(self.series_of[code])
        if r < 0:
            return
        one = self.series[r]
        if one["runs"] >= 0:
            self._free_runs.append(int(one["runs"]))
        owner = self.tenants[one["owner"]]
        owner["domains"] -= 1
        one["alive"] = 0
        self.series_of[code] = -1
        self._free_series.append(r)
        self.living -= 1
        if owner["alive"] == LEAVING and owner["domains"] == 0:
            self.drop_tenant(int(owner["name"]))

    def drop_tenant(self, code: int) -> None:
        """Let a tenant go; one that has series yet forgets what it knows, and goes with them."""
        r = int(self.tenant_of[code])
        if r < 0:
            return
        if self.tenants[r]["domains"] > 0:
            clear_tenant(self.tenants[r])
            self.tenants[r]["alive"] = LEAVING
            return
        self.tenants[r]["alive"] = 0
        self.tenant_of[code] = -1
        self._free_tenants.append(r)

    def tidy(self) -> None:
        """Give back names that nobody needs, once they are many; between batches only."""
        if self.names.count < self._tidy_at or self.counts[0]:
            return
        live = np.zeros(self.names.count, np.bool_)
        tenants = self.tenants[self.tenants["alive"] != 0]
        series = self.series["alive"] != 0
        ring = self.bank.leader[series]
        for codes in (tenants["name"], tenants["leader"], self.series["name"][series], ring):
            live[codes[codes >= 0]] = True
        if 4 * int(live.sum()) <= 3 * self.names.count:
            self._rename(self.names.keep(live), series)
        self._tidy_at = max(4096, 2 * self.names.count)

    def _rename(self, moved: Ints, series: NDArray[np.bool_]) -> None:
        alive = np.flatnonzero(self.tenants["alive"])
        new = np.append(moved, -1)  # so that no name (-1) stays none
        self.tenants["name"][alive] = new[self.tenants["name"][alive]]
        self.tenants["leader"][alive] = new[self.tenants["leader"][alive]]
        self.series["name"][series] = new[self.series["name"][series]]
        self.bank.leader[series] = new[self.bank.leader[series]]
        size = max(64, self.names.count)
        self.tenant_of, self.series_of = np.full((2, size), -1, np.int64)
        self.tenant_of[self.tenants["name"][alive]] = alive
        self.series_of[self.series["name"][series]] = np.flatnonzero(series)
        self.flag, self.dirty = np.zeros(size, np.uint8), np.zeros(size, np.int64)

    def _grow_series(self) -> None:
        old, size = self.bank, self.series.shape[0]
        self.series = _longer(self.series, 2 * size)
        fresh = rule.bank(self.series)
        for name in ("value", "ts", "confidence", "leader", "steps"):
            getattr(fresh, name)[:size] = getattr(old, name)
        self.bank = fresh._replace(runs=old.runs)
        self._free_series = list(range(2 * size - 1, size - 1, -1))

    def _take_runs(self) -> int:
        if not self._free_runs:
            size = self.bank.runs.shape[0]
            self.bank = self.bank._replace(runs=_longer(self.bank.runs, 2 * size))
            self._free_runs = list(range(2 * size - 1, size - 1, -1))
        return self._free_runs.pop()


def _longer(old: NDArray[Any], size: int, fill: int = 0) -> NDArray[Any]:
    new = np.zeros((size, *old.shape[1:]), old.dtype)
    if fill:
        new[old.shape[0] :] = fill
    new[: old.shape[0]] = old
    return new
