"""Domains, questions and baselines as rows of the state topic have them, and back, exactly.

A row is a tenant (key: its name; '*': the partition's settings). With 3 domains it takes about 290
bytes, of which 56 for each domain are numbers. Ranks aren't in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.engine.processor import Policy, StateRows
from agents.integrator import drift
from agents.integrator.in_band import Policies
from agents.integrator.settings import LEARNT, PRIOR, SETTINGS
from agents.integrator.state import CELL, LISTS, ROOM, SLOTS, TENANTS, Arrays, rank, widen
from agents.kit.column_table import ColumnTable
from agents.kit.columns import slots
from agents.kit.packing import Bytes, Floats, Ints, put_name
from agents.kit.pool import Pool
from agents.kit.store import Store
from topics.columns import Cols, Columns
from topics.compiled import entry, kernel

CANDIDATE, WEIGHTS, BASELINE, POLICIES, BUNDLES = (
    TENANTS.layout.by_name[name]
    for name in ("candidate", "question_weights", "baseline", "policies", "bundles")
)


ASKED, BASED = 1, 2  # waits for an answer; its baseline isn't surely its own settings
ROW = slots("integrator_state")
AT = tuple(TENANTS.layout.slots[name] for name in LISTS)


@entry
def _pack(a: Arrays, at: Ints, of: Ints, c: Cols, child: int, more: Bytes) -> int:
    """Write the domains of tenants `of`, list by list, from `child` on; returns the next child.

    more[i] = what else tenant i has: ASKED or BASED or both.
    """
    for i in range(at.shape[0]):
        k, tenant = at[i], a.tenants[of[i]]
        n, start = tenant["n"], child
        more[i] = ASKED if tenant["question"] >= 0 else 0
        own = tenant["settings"] > 0 or tenant["unsettled"] != 0
        if own and tenant["calm"] < drift.WINDOW and tenant["frames"] > 0:
            more[i] |= BASED
        for slot in AT:
            c.at[slot, k], c.cnt[slot, k] = child, n
            child += n
        for j in range(n):
            cell = a.cells[tenant["at"] + j]
            put_name(a.names, cell["domain"], c.vpos, c.vlen, start + j)
            c.vi[start + n + j] = cell["seen"]
            c.vf[start + 2 * n + j] = cell["error"]
            c.vf[start + 3 * n + j] = cell["loss"]
            c.vf[start + 4 * n + j] = cell["weight"]
            c.vf[start + 5 * n + j] = cell["excess"]
            c.vf[start + 6 * n + j] = cell["published"]
    return child


@kernel
def _fits(c: Cols, k: int, items: Ints) -> bool:
    """Whether the lists of row k can be a tenant's domains."""
    first, n = c.at[ROW.domains, k], c.cnt[ROW.domains, k]
    if n > SLOTS:
        return False
    for slot in AT:
        if c.cnt[slot, k] != n:
            return False
    named = True
    for child in range(first, first + n):
        named &= items[child] >= 0
    return bool(named)


@entry
def _unpack(a: Arrays, at: Ints, of: Ints, c: Cols, items: Ints) -> int:
    """Tenants `of` get the domains of rows `at`, for which there is room; a bad row, or -1."""
    for i in range(at.shape[0]):
        k, r = at[i], of[i]
        if not _fits(c, k, items):
            return int(k)
        tenant = a.tenants[r]
        n, need = c.cnt[ROW.domains, k], ROOM
        while need < n:
            need *= 2
        tenant["n"] = 0
        if n > tenant["size"]:
            widen(a, r, need)
        tenant["n"] = n
        for j in range(n):
            cell = a.cells[tenant["at"] + j]
            cell["domain"] = items[c.at[ROW.domains, k] + j]
            cell["seen"] = c.vi[c.at[ROW.seen, k] + j]
            cell["error"] = c.vf[c.at[ROW.error, k] + j]
            cell["loss"] = c.vf[c.at[ROW.loss, k] + j]
            cell["weight"] = c.vf[c.at[ROW.weight, k] + j]
            cell["excess"] = c.vf[c.at[ROW.excess, k] + j]
            cell["published"] = c.vf[c.at[ROW.published, k] + j]
            cell["prior"] = 1.0
        rank(a, r)
    return -1


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a remote policy that isn't answered yet."""

    offset: int  # of the record whose frame says pending
    leader: str  # the candidate
    weights: Mapping[str, float]


def chosen(own: Mapping[str, float]) -> dict[str, float]:
    """Of a tenant's own settings those that somebody chose: what was learned is no baseline."""
    return {name: own[name] for name in SETTINGS if name in own and name not in LEARNT}


class TenantTable(ColumnTable):
    """The rows of tenants, with a pool of their domains."""

    def __init__(self, state: "State") -> None:
        super().__init__(TENANTS, pool=Pool(CELL))
        self.asked: dict[int, Asked] = {}  # by tenant: what a remote policy hasn't answered yet
        self._state = state
        self._baselines: dict[int, dict[str, float]] = {}  # of those that are unsettled

    def baseline(self, r: int) -> dict[str, float]:
        """The own settings that a rollback would give a tenant back (see `drift`)."""
        code = int(self.rows["code"][r])
        if self.rows["unsettled"][r]:
            return self._baselines[code]
        return self._state.settings.own(self._state.text(code))

    def unsettle(self, r: int, baseline: dict[str, float]) -> None:
        """A tenant's own settings are its baseline no more: that stays as it was."""
        if not self.rows["unsettled"][r]:
            self.rows["unsettled"][r] = 1
            self._baselines[int(self.rows["code"][r])] = baseline

    # --- the kit's hooks ----------------------------------------------------------------------

    def room(self, of: Ints) -> tuple[int, int]:
        return len(LISTS) * int(self.rows["n"][of].sum()), 0

    def pack(self, rows: StateRows, at: Ints, of: Ints, names: Names) -> None:
        columns, more = rows.columns, np.empty(at.shape[0], np.uint8)
        columns.used = _pack(self._state.arrays(), at, of, columns.cols, columns.used, more)
        for i in np.flatnonzero(more).tolist():
            k, r = int(at[i]), int(of[i])
            if more[i] & ASKED:
                asked = self.asked[int(self.rows["code"][r])]
                columns.put_field(k, CANDIDATE, asked.leader, rows.scratch)
                columns.put_field(k, WEIGHTS, asked.weights, rows.scratch)
            if more[i] & BASED:
                value = chosen(self.baseline(r))
                columns.put_field(k, BASELINE, value, rows.scratch)
        for i in np.flatnonzero(of == 0).tolist():  # '*'
            columns.put_field(int(at[i]), POLICIES, self._state.policies.digests, rows.scratch)
            columns.put_field(int(at[i]), BUNDLES, self._state.policies.texts, rows.scratch)

    def unpack(self, rows: Columns, at: Ints, of: Ints, buf: Bytes, items: Ints) -> int:
        self.dropped(of)
        self.rows["unsettled"][of] = 0
        self.reserve(int(np.clip(2 * rows.cols.cnt[ROW.domains, at], ROOM, SLOTS).sum()))
        bad = _unpack(self._state.arrays(), at, of, rows.cols, items)
        if bad < 0:
            self._load_kept(rows, at, of, buf)
        return bad

    def _load_kept(self, rows: Columns, at: Ints, of: Ints, buf: Bytes) -> None:
        """Take the questions and baselines of rows `at`, whose numbers tenants `of` have."""
        tenants, bufs = self.rows, (buf, buf, buf)
        for i in np.flatnonzero(tenants["question"][of] >= 0).tolist():
            leader, weights = (rows.get_field(int(at[i]), f, bufs) for f in (CANDIDATE, WEIGHTS))
            asked = Asked(int(tenants["question"][of[i]]), leader, weights)
            self.asked[int(tenants["code"][of[i]])] = asked
        some = (rows.cols.cnt[BASELINE.slot, at] > 0) | (tenants["settings"][of] > 0)
        some &= (tenants["calm"][of] < drift.WINDOW) & (tenants["frames"][of] > 0) & (of > 0)
        for i in np.flatnonzero(some).tolist():
            name = self._state.text(int(tenants["code"][of[i]]))
            value = rows.get_field(int(at[i]), BASELINE, bufs)
            try:
                baseline = self._state.settings.checked(value)
            except ValueError as error:
                raise ValueError(f"the state row of {name!r}: its baseline: {error}") from None
            if baseline != chosen(self._state.settings.own(name)):
                self.unsettle(int(of[i]), baseline)
        for i in np.flatnonzero(of == 0).tolist():  # '*'
            digests, texts = (rows.get_field(int(at[i]), f, bufs) for f in (POLICIES, BUNDLES))
            try:
                self._state.policies.take(digests, texts)
            except ValueError as error:
                raise ValueError(f"the state row of '*': {error}") from None

    def dropped(self, of: Ints) -> None:
        """Forget what is kept for tenants by name."""
        if self.asked or self._baselines:
            for code in self.rows["code"][of].tolist():
                self.asked.pop(code, None)
                self._baselines.pop(code, None)
        if (of == 0).any():
            self._state.policies.take({}, {})

    def _in_use(self) -> Ints:
        """The cells in use, of all rows."""
        n = self.rows["n"].astype(np.int64)
        return np.arange(n.sum()) + np.repeat(self.rows["at"] - np.cumsum(n) + n, n)

    def codes(self) -> list[NDArray[np.int32]]:
        return [*super().codes(), self.pool.data["domain"][self._in_use()]]

    def renamed(self, moved: Ints, size: int) -> None:
        super().renamed(moved, size)
        cells, domains = self._in_use(), self.pool.data["domain"]
        domains[cells] = moved[domains[cells]]
        self.asked = {int(moved[code]): one for code, one in self.asked.items()}
        unsettled = set(self.rows["code"][self.rows["unsettled"] != 0].tolist())
        baselines = {int(moved[code]): one for code, one in self._baselines.items()}
        self._baselines = {code: one for code, one in baselines.items() if code in unsettled}


class State(Store):
    """The integrator's store: tenants only."""

    def __init__(self, defaults: Mapping[str, str], policy: Policy | None = None) -> None:
        """`policy`: the deployment's."""
        self.table = TenantTable(self)
        self.policies = Policies(policy)
        self.changes = np.zeros(1, np.int64)
        super().__init__(SETTINGS, defaults, self.table, settings_stay=False, everyone=True)

    # --- priors -------------------------------------------------------------------------------

    def any_priors(self) -> bool:
        """Whether somebody may have another prior than 1, of a domain or of all."""
        settings = self.settings
        return settings.special or bool((settings.table[:, PRIOR] != 1.0).any())

    def prior(self, r: int, domain: int) -> float:
        """The prior of a domain (a code) of a tenant (a row)."""
        tenant, name = self.text(int(self.table.rows["code"][r])), self.text(domain)
        return float(self.settings.values(tenant, name)[PRIOR])

    def priors_of(self, tenants: Ints, domains: Ints, lo: int, hi: int) -> Floats:
        """Those of records lo..hi-1, each in its place; empty where nobody has any."""
        if not self.any_priors():
            return np.empty(0)
        found, some = (
            np.ones(hi),
            lo + np.flatnonzero((tenants[lo:hi] >= 0) & (domains[lo:hi] >= 0)),
        )
        pairs, of = np.unique(np.stack((tenants[some], domains[some])), axis=1, return_inverse=True)
        each = [self.prior(r, domain) for r, domain in pairs.T.tolist()]
        found[some] = np.array(each)[of.reshape(-1)] if each else 1.0
        return found

    def look_up_priors(self, of: Iterable[int]) -> None:
        """Let the domains of tenants (rows) look theirs up."""
        cells = self.table.pool.data
        for r in of:
            first = int(self.table.rows["at"][r])
            for k in range(first, first + int(self.table.rows["n"][r])):
                cells["prior"][k] = self.prior(r, int(cells["domain"][k]))

    def with_domains(self) -> list[int]:
        """The tenants (rows) that have domains."""
        rows = self.table.rows
        found: list[int] = np.flatnonzero((rows["code"] > 0) & (rows["n"] > 0)).tolist()
        return found

    def arrays(self) -> Arrays:
        """The arrays as they are now; anything that grows makes others."""
        table = self.table
        return Arrays(
            table.rows, table.pool.data, table.pool.counts, self.marks, self.names.arrays,
            self.settings.table, self.changes,
        )  # fmt: skip

    def change_policy(self, tenant: str, text: str, log_ms: int) -> None:
        """Give a tenant, or '*', a policy, or take it back: a change as those of settings are.
        ValueError for what can't be one.
        """
        self.policies.change(tenant, text)
        r, of = self._look_up(tenant, log_ms)
        self.settled(r, of)
        self._changed(r)
        everyone = self.table.rows[0]
        everyone["alive"] = 1
        self.mark(int(everyone["code"]))

    def own_policies(self) -> Bytes:
        """Which rows are of tenants with a policy of their own: 1 by row; empty if none is."""
        tenants = self.policies.tenants()
        found = np.zeros(self.table.rows.shape[0] if tenants else 0, np.uint8)
        for tenant in tenants:
            code = self.names.code(tenant.encode(), add=False)
            if code >= 0 and self.table.of[code] >= 0:
                found[self.table.of[code]] = 1
        return found
