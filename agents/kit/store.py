"""A columnar processor's state of one partition, and its rows in the state topic.

`Members` knows names by codes and finds, makes, frees and forgets rows; `Store` writes those that
were marked, and takes rows in. What is of one table (arrays beside its rows, what a program can't
pack) is a `ColumnTable`'s, whose methods of the last part a processor overrides.
"""

import numpy as np

from agents.engine.processor import StateRows
from agents.kit import packing as p
from agents.kit.columns import SETTINGS
from agents.kit.members import Members
from agents.kit.packing import Bytes, Ints
from agents.kit.setting import AT
from topics.columns import Columns
from topics.layout import ARRAY, STRING


class Store(Members):
    """Members, and their rows in and out: see the module."""

    def changed(self, rows: StateRows) -> None:
        """Write the rows marked since the last call, in the order of their first mark."""
        codes = self.marks.order[: self.marks.used[0]].copy()
        self._write(codes, rows)
        self.marks.flag[codes] = 0
        self.marks.used[0] = 0

    def rows_all(self, rows: StateRows) -> None:
        """Write every row, in any order."""
        tenants = self.tenants.rows
        codes = [tenants["code"][tenants["alive"] != 0]]
        if self.domains is not None:
            codes.append(self.domains.rows["code"][self.domains.rows["code"] >= 0])
        self._write(np.concatenate(codes), rows)

    def rows_of_tenant(self, tenant: str, rows: StateRows) -> None:
        """Write the rows of a tenant and its domains, while nothing is marked."""
        code = self.names.code(tenant.encode(), add=False)
        r = int(self.tenants.of[code]) if code >= 0 else -1
        if r < 0:
            return
        tenants = self.tenants.rows[r : r + 1]
        codes = [tenants["code"][tenants["alive"] != 0]]
        if self.domains is not None:
            theirs = self.domains.rows
            codes.append(theirs["code"][(theirs["code"] >= 0) & (theirs["owner"] == r)])
        self._write(np.concatenate(codes), rows)

    def _write(self, codes: Ints, rows: StateRows) -> None:
        """Write the rows of these names, which must differ; of whoever has none a tombstone."""
        n = codes.shape[0]
        rows.columns.reserve(n, rows.columns.used)
        if rows.key_pos.shape[0] < n:
            size = max(n, 2 * rows.key_pos.shape[0])
            rows.key_pos, rows.key_len = np.zeros((2, size), np.int64)
            rows.gone = np.zeros(size, np.uint8)
        rows.key_pos[:n], rows.key_len[:n] = self.names.at[codes], self.names.size[codes]
        rows.gone[:n], rows.n = 1, n
        for table in self.tables:
            of = table.of[codes]
            at = np.flatnonzero(of >= 0)
            if table is self.tenants:
                at = at[table.rows["alive"][of[at]] != 0]
            rows.gone[at] = 0
            table.put(self.names, rows, at, of[at])
        field = rows.columns.layout.by_name[SETTINGS]
        of = of[at]
        for k in at[(self.tenants.rows["settings"][of] > 0) | (of == 0)].tolist():
            own = self.settings.kept(self.text(int(codes[k])))
            if not self._by_domain:  # else by name, as NAME@DOMAIN has no other place
                names = sorted(own, key=lambda name: self._order.index(name.partition(AT)[0]))
                own = {name: own[name] for name in names}
            rows.columns.put_field(k, field, own, rows.scratch)

    def load_rows(
        self, rows: Columns, lo: int, hi: int, buf: Bytes, key_pos: Ints, key_len: Ints, gone: Bytes
    ) -> None:
        """Take in rows lo..hi-1, the last of each key. Raises ValueError for one that can't be."""
        tenant, codes, last = np.zeros(hi, np.int64), np.zeros(hi, np.int64), np.zeros(hi, np.uint8)

        def refuse(k: int, why: str) -> None:
            if k >= 0:
                key = buf[max(0, key_pos[k]) :][: max(0, key_len[k])].tobytes()
                raise ValueError(f"the state row of {key!r} {why}")

        if (bad := p.tenant_sizes(buf, key_pos, key_len, lo, hi, tenant)) < hi:
            refuse(bad, "has a key that isn't UTF-8 or lies outside its buffer")
        bad = p.first_outside(rows.cols, lo, hi, gone, rows.used, buf.shape[0])
        refuse(bad, "contradicts itself")
        self.names.intern(buf, key_pos, key_len, np.zeros(hi, np.uint8), codes, lo, hi)
        self.cover()
        p.last_of_each(codes, lo, hi, np.zeros(self.names.count, np.uint8), last)
        is_domain = (tenant < key_len[:hi]) & (self.domains is not None)
        of, dead = np.full(hi, -1, np.int64), gone[:hi] != 0
        mine, theirs = is_domain & (last != 0), ~is_domain & (last != 0)
        if self.domains is not None:
            left = self.domains.of[codes[mine & dead]]
            self.drop_domains(left[left >= 0])
            self._load_domains(buf, key_pos, tenant, codes, of, np.flatnonzero(mine & ~dead))
        left = self.tenants.of[codes[theirs & dead]]
        self.drop_tenants(left[left >= 0])
        self._load_tenants(rows, buf, codes, of, np.flatnonzero(theirs & ~dead))
        if self.domains is not None and self._by_domain:
            self._settle(np.flatnonzero(self.domains.rows["code"] >= 0))
        texts, items = self._names_in(rows, buf, np.flatnonzero(of >= 0), hi)
        for table, which in zip(self.tables[::-1], (~is_domain, is_domain), strict=False):
            at = np.flatnonzero((of >= 0) & which)
            refuse(table.load_rows(rows, at, of[at], buf, texts, items), "contradicts itself")
        self._deadline = None

    def _load_domains(
        self, buf: Bytes, pos: Ints, tenant: Ints, codes: Ints, of: Ints, at: Ints
    ) -> None:
        """of[k] = the row of the domain of row k, for those `at`; new ones are made."""
        assert self.domains is not None
        new = at[self.domains.of[codes[at]] < 0]
        if new.shape[0]:
            self._admit(buf, pos, tenant, codes, new)
        of[at] = self.domains.of[codes[at]]

    def _load_tenants(self, rows: Columns, buf: Bytes, codes: Ints, of: Ints, at: Ints) -> None:
        """The same of tenants, and their settings."""
        of[at] = self.seat(codes[at], alive=True)
        field = rows.layout.by_name[SETTINGS]
        tenants = self.tenants.rows
        found = rows.cols.cnt[field.slot, at] > 0
        some = at[found | (tenants["settings"][of[at]] > 0) | (of[at] == 0)]
        for k in some.tolist():
            name = self.text(int(codes[k]))
            try:
                self.settings.take(name, rows.get_field(k, field, (buf, buf, buf)))
            except ValueError as error:
                raise ValueError(f"the state row of {name!r}: {error}") from None
            tenants["settings"][of[k]] = self.settings.row(name)
        if self._plain:
            tenants["alive"][of[at]] = found
            self._release(of[at])
            of[at] = -1

    def _names_in(self, rows: Columns, buf: Bytes, at: Ints, hi: int) -> tuple[Ints, Ints]:
        """The codes of the texts of rows `at`, by slot and row; and of the items of their lists."""
        cols, texts = rows.cols, np.full((rows.layout.spans, hi), -1, np.int64)
        for slot in sorted({one.slot for table in self.tables for one, _ in table.schema.texts}):
            skip = np.ones(hi, np.uint8)
            skip[at] = cols.len[slot, at] == 0
            self.names.intern(buf, cols.pos[slot], cols.len[slot], skip, texts[slot], 0, hi)
        items, skip = np.full(rows.used, -1, np.int64), np.ones(rows.used, np.uint8)
        lists = (one for one in rows.layout.fields if one.type.kind == ARRAY)
        named = [one.slot for one in lists if one.type.item and one.type.item.kind == STRING]
        p.mark_items(cols, np.array(named, np.int64), at, skip)
        self.names.intern(buf, cols.vpos, cols.vlen, skip, items, 0, rows.used)
        self.cover()
        return texts, items
