"""Who is in a columnar processor's state of one partition: its tenants, and their domains where it
has them. They are found, made, given their settings, forgotten and freed here.

Names have codes. Codes and rows change with every recovery and whenever memory is given back
(`tidy`), so nothing that leaves the state may depend on one.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import Names
from agents.engine.processor import SEP, Batch
from agents.kit import packing as p
from agents.kit.asleep import KEPT_AS
from agents.kit.batches import joined
from agents.kit.column_table import NAMES_MIN, ColumnTable, longer
from agents.kit.columns import TENANT_HEAD
from agents.kit.packing import Bytes, Ints, Marks, mark
from agents.kit.setting import EVERYONE, Setting
from agents.kit.tenant_settings import AWAKE, TenantSettings

FORGET = "forget_after_s"  # silence after which a row goes
WORTH_KEEPING = 0.75  # part of the names in use, above which they stay as they are
NEVER = np.iinfo(np.int64).max


class Members:
    """Tables by name, and who changed: see the module."""

    def __init__(
        self,
        settings: Mapping[str, Setting],
        defaults: Mapping[str, str],
        tenants: ColumnTable,
        domains: ColumnTable | None = None,
        *,
        settings_stay: bool = True,
        everyone: bool = False,
        by_name: bool = True,
    ) -> None:
        """Rows with a column `touched` (log time, ms) are forgotten after the setting FORGET:
        domains, and tenants without any; those with values of their own only unless
        `settings_stay`. `everyone`: '*', which is row 0 always, has more in its row than settings.
        `by_name`: what is forgotten at once is so in the order of names, else as they were met.
        """
        self.names = Names()
        self.settings = TenantSettings(settings, defaults)
        self.tenants, self.domains = tenants, domains
        self.tables = (tenants,) if domains is None else (domains, tenants)
        self.marks = Marks(np.zeros(64, np.uint8), np.zeros(64, np.int64), np.zeros(1, np.int64))
        self._forget, self._order = list(settings).index(FORGET), [*settings, KEPT_AS]
        scopes = {one.scope for one in settings.values()}
        self._by_domain = domains is not None and "domain" in scopes
        self._settings_stay, self._everyone, self._by_name = settings_stay, everyone, by_name
        self._plain = set(tenants.schema.dtype.names or ()) <= set(TENANT_HEAD)
        self.settled: Callable[[int, Ints], None] = lambda *_: None  # see ColumnarFold
        self.next_due: Callable[[], float] = lambda: np.inf  # of what a processor does on ticks
        self._dropped, self._tidy_at = 0, NAMES_MIN
        self._deadline: int | None = None  # NEVER: none; None: not known
        self.seat(np.array([self.code(EVERYONE.encode())]))

    # --- names and rows -----------------------------------------------------------------------

    def cover(self) -> None:
        """Make all arrays by code as long as there are names: call it behind `names.intern`."""
        need, have = self.names.count, self.marks.flag.shape[0]
        if need > have:
            size = max(need, 2 * have)
            flag, order, used = self.marks
            self.marks = Marks(longer(flag, size), longer(order, size), used)
        for table in self.tables:
            if need > table.of.shape[0]:
                table.of = longer(table.of, max(need, 2 * table.of.shape[0]), -1)

    def code(self, name: bytes) -> int:
        """The code of a name, new or known."""
        code = self.names.code(name)
        self.cover()
        return code

    def text(self, code: int) -> str:
        """A name as text."""
        return self.names.name(code).decode()

    def mark(self, code: int) -> None:
        """Note that the row of this name has changed, or is gone."""
        mark(self.marks, code)

    # Of a batch's records lo..hi-1, each in its place; -1 of one with another status than 0.

    def codes_of(self, batch: Batch, field: str, lo: int, hi: int) -> Ints:
        """The codes of a field's names; -1 of an empty one."""
        cols, slot = batch.columns.cols, batch.columns.layout.slots[field]
        out, skip = np.empty(hi, np.int64), np.empty(hi, np.uint8)
        skip[lo:] = (batch.status[lo:hi] != 0) | (cols.len[slot, lo:hi] == 0)
        self.names.intern(batch.buf, cols.pos[slot], cols.len[slot], skip, out, lo, hi)
        self.cover()
        return out

    def keys_of(self, batch: Batch, lo: int, hi: int) -> Ints:
        """The codes of the names of domains, "tenant 0x1f domain"."""
        text, pos, size = joined(batch, lo, hi)
        out = np.empty(hi, np.int64)
        self.names.intern(text, pos, size, batch.status, out, lo, hi)
        self.cover()
        return out

    def tenants_of(self, batch: Batch, lo: int, hi: int) -> Ints:
        """The rows of tenants, who have rows of the topic from now on."""
        out = self.codes_of(batch, "tenant", lo, hi)
        self.seat(out[self._lacking(self.tenants, out, lo, hi)], alive=True)
        p.to_rows(self.tenants.of, out, lo, hi)
        if self.domains is not None:  # without them, whoever has a row here has one of the topic
            self.tenants.rows["alive"][out[lo:hi][out[lo:hi] >= 0]] = 1
        return out

    def domains_of(self, batch: Batch, lo: int, hi: int) -> Ints:
        """The rows of domains; new ones are made."""
        assert self.domains is not None
        out = self.keys_of(batch, lo, hi)
        new, tenant = self._lacking(self.domains, out, lo, hi), batch.columns.layout.slots["tenant"]
        if new.shape[0]:
            cols = batch.columns.cols
            self._admit(batch.buf, cols.pos[tenant], cols.len[tenant], out, new)
        p.to_rows(self.domains.of, out, lo, hi)
        return out

    def _lacking(self, table: ColumnTable, codes: Ints, lo: int, hi: int) -> Ints:
        """Where in codes[lo:hi] the names (new ones too) stand that have no row, each once."""
        self.cover()
        new = np.empty(hi - lo, np.int64)
        return new[: p.lacking(table.of, codes, lo, hi, new)]

    def _admit(self, buf: Bytes, pos: Ints, tenant: Ints, codes: Ints, new: Ints) -> None:
        """Make the domains codes[new]."""
        owners = np.empty(new.shape[0], np.int64)
        self.names.intern(buf, pos[new], tenant[new], np.zeros(new.shape[0], np.uint8), owners)
        self.admit(codes[new], owners)

    def admit(self, codes: Ints, owners: Ints) -> Ints:
        """Rows for domains that have none, of tenants (codes), which are made if need be."""
        assert self.domains is not None
        seats, of = self.seat(owners), self.domains.take_rows(codes)
        rows = self.domains.rows
        rows["owner"][of] = seats
        np.add.at(self.tenants.rows["domains"], seats, 1)
        self._settle(of)
        self._deadline = None
        return of

    def seat(self, codes: Ints, *, alive: bool = False) -> Ints:
        """The rows of tenants, made if need be. `alive`: the topic has rows of theirs now."""
        new = self._lacking(self.tenants, codes, 0, codes.shape[0])
        if new.shape[0]:
            self.tenants.take_rows(codes[new])
            self._deadline = None
        of = self.tenants.of[codes]
        if alive:
            self.tenants.rows["alive"][of] = 1
        return of

    def drop_domains(self, of: Ints) -> None:
        """Let domains go, and with the last of its domains a tenant that has no row of its own."""
        assert self.domains is not None
        owners = self.domains.rows["owner"][of]
        self.domains.drop_rows(of)
        np.add.at(self.tenants.rows["domains"], owners, -1)
        self._dropped += of.shape[0]
        self._release(np.unique(owners))

    def drop_tenants(self, of: Ints) -> None:
        """Let tenants go; one that has domains yet stays for them, as if new; and so does '*'."""
        rows = self.tenants.rows
        for r in of[(of == 0) | (rows["settings"][of] > 0)].tolist():
            self.settings.take(self.text(int(rows["code"][r])), {})
        rows["alive"][of] = 0
        self._release(of)
        self.tenants.renew(of[rows["code"][of] >= 0], ("code", "domains"))
        self._dropped += of.shape[0]

    def _release(self, of: Ints) -> None:
        """Let those of these tenants go that have neither a row of their own nor domains."""
        gone = of[(of > 0) & (self.tenants.rows["alive"][of] == 0) & self._bare(of)]
        if gone.shape[0]:
            self.tenants.drop_rows(gone)

    def _bare(self, of: Ints | slice) -> NDArray[np.bool_]:
        """Which of these tenants have no domains."""
        rows, lone = self.tenants.rows, self.domains is None
        return np.asarray(lone | (rows["code" if lone else "domains"][of] == 0))

    # --- settings -----------------------------------------------------------------------------

    def change_setting(self, tenant: str, name: str, value: str, log_ms: int) -> tuple[int, Ints]:
        """Give a tenant a value of its own, or take it back. Raises ValueError for a bad one.

        Returns its row, and those of the domains for which something may have changed.
        """
        self.settings.change(tenant, name, value)
        r, of = self._look_up(tenant, log_ms)
        self.settled(r, of)
        self._changed(r)
        return r, of

    def let_sleep(self, tenant: str, how: float, log_ms: int) -> int:
        """Let a tenant sleep (`asleep.number`) or, with 0, be awake; returns its row, or -1 where
        there was nothing to change.
        """
        if how == self.settings.sleep_of(tenant):
            return -1
        self.settings.let_sleep(tenant, how)
        r, _ = self._look_up(tenant, log_ms)
        self._changed(r)
        return r

    def _changed(self, r: int) -> None:
        """A tenant has other settings, or another sleep, than it had."""
        code = int(self.tenants.rows["code"][r])
        self._release(np.array([r]))
        self.mark(code)
        self._deadline = None

    def _look_up(self, tenant: str, log_ms: int) -> tuple[int, Ints]:
        """Let a tenant, and its domains, look up what holds for them: its row, and theirs."""
        code = self.code(tenant.encode())
        (r,) = self.seat(np.array([code]))
        rows, full = self.tenants.rows, not self._plain and (r > 0 or self._everyone)
        rows["alive"][r] = full or bool(self.settings.kept(tenant))
        if full and "touched" in (rows.dtype.names or ()):
            rows["touched"][r] = max(int(rows["touched"][r]), log_ms)
        rows["settings"][r] = self.settings.row(tenant)
        of = np.empty(0, np.int64)
        if self.domains is not None and self._by_domain:
            theirs = self.domains.rows
            of = np.flatnonzero((theirs["code"] >= 0) & ((theirs["owner"] == r) | (r == 0)))
            self._settle(of)
        return int(r), of

    def _settle(self, of: Ints) -> None:
        """Let domains look up their settings: their tenants' unless any has some for a domain."""
        assert self.domains is not None
        rows = self.domains.rows
        if not self.settings.special:
            rows["settings"][of] = self.tenants.rows["settings"][rows["owner"][of]]
            return
        for r in of.tolist():
            tenant, domain = self.text(int(rows["code"][r])).split(SEP, 1)
            rows["settings"][r] = self.settings.row(tenant, domain)

    # --- forgetting ---------------------------------------------------------------------------

    def _due(self, table: ColumnTable) -> tuple[NDArray[np.float64], Ints]:
        """When rows are to be forgotten, wall time in microseconds; and those rows."""
        rows = table.rows
        if "touched" not in (rows.dtype.names or ()):
            return np.empty(0), np.empty(0, np.int64)
        mortal, slots = rows["code"] >= 0, rows["settings"]
        if table is self.tenants:
            mortal &= (rows["code"] > 0) & self._bare(slice(None))
            mortal &= (slots == 0) | (not self._settings_stay)
            mortal &= self.settings.table[slots, -1] == AWAKE
        elif not self._by_domain:
            slots = self.tenants.rows["settings"][rows["owner"]]
        of = np.flatnonzero(mortal)
        after = self.settings.table[slots[of], self._forget]
        return rows["touched"][of] * 1e3 + after * 1e6, of

    def forget(self, now: int) -> None:
        """Let go whose time has come by the wall time `now`; their names are marked."""
        for table in self.tables:
            due, of = self._due(table)
            of = of[due <= now]
            codes = [int(code) for code in table.rows["code"][of]]
            (self.drop_tenants if table is self.tenants else self.drop_domains)(of)
            for code in sorted(codes, key=self.names.name if self._by_name else None):
                self.mark(code)
        self._deadline = None

    def deadline(self) -> int | None:
        """Wall time before which a tick changes nothing; None: never. It may be early."""
        if self._deadline is None:
            each = [float(self._due(table)[0].min(initial=np.inf)) for table in self.tables]
            first = min(*each, self.next_due())
            self._deadline = int(np.ceil(first)) if np.isfinite(first) else NEVER
        return None if self._deadline == NEVER else self._deadline

    def tidy(self) -> None:
        """Give back names and rows that nobody needs, once it is worth it and nothing is marked.

        Spans into the names' bytes are void then: between batches only.
        """
        living = sum(table.living for table in self.tables)
        dropped = self._dropped >= max(NAMES_MIN, living)
        if self.marks.used[0] or not (dropped or self.names.count >= self._tidy_at):
            return
        live = np.zeros(self.names.count, np.bool_)
        for table in self.tables:
            for codes in table.codes():
                live[codes[codes >= 0]] = True
        if int(live.sum()) <= WORTH_KEEPING * self.names.count:
            moved = self.names.keep(live)
            size = max(64, self.names.count)
            self.marks = Marks(np.zeros(size, np.uint8), np.zeros(size, np.int64), self.marks.used)
            for table in self.tables:
                table.renamed(moved, size)
        for table in self.tables:
            rows = table.compact()
            if rows is not None and table is self.tenants and self.domains is not None:
                owned = self.domains.rows["owner"]
                owned[:] = np.append(rows, -1)[owned]
        self._dropped, self._tidy_at = 0, max(NAMES_MIN, 2 * self.names.count)
