"""Who set what: a table with a row of values for everybody, and for whoever has others.

A row is for a tenant and a domain, '*' and '' standing for any; a series without values of its own
uses the row of its tenant, or of its domain, or of everybody (row 0).
"""

from collections.abc import Mapping

import numpy as np

from agents.segmentation.rule import Floats
from agents.segmentation.settings import ALL, AT, BY_NAME, EVERYONE, parse, row_of, split
from agents.segmentation.settings import checked as checked_value

ROW_0 = (EVERYONE, "")


class Book:
    """Own values by tenant, and `table`, what follows from them: one column a setting."""

    def __init__(self, defaults: Mapping[str, str]) -> None:
        """`defaults`: the deployment's values. Raises ValueError for a bad one."""
        self._base = row_of(defaults)
        self._own: dict[str, dict[str, float]] = {}
        self._domains: dict[str, set[str]] = {}  # tenant -> domains that it has values for
        self._rows: dict[tuple[str, str], int] = {ROW_0: 0}
        self._free: list[int] = []
        self.table: Floats = self._base[None, :].copy()

    def own(self, tenant: str) -> dict[str, float]:
        """What the tenant set itself, by name."""
        return dict(sorted(self._own.get(tenant, {}).items()))

    def tenants(self) -> list[str]:
        """Those that set something themselves."""
        return list(self._own)

    def change(self, tenant: str, name: str, text: str) -> None:
        """Set one value, or (an empty text) take it back. Raises ValueError for a bad one."""
        split(name)
        mine = dict(self._own.get(tenant, {}))
        if text:
            mine[name] = parse(name, text)
        else:
            mine.pop(name, None)
        self.replace(tenant, mine)

    def replace(self, tenant: str, values: Mapping[str, float]) -> None:
        """Make these the tenant's values instead of all it had. Raises ValueError for a bad one."""
        mine = {name: checked_value(name, value) for name, value in values.items()}
        self._own.pop(tenant, None)
        self._domains.pop(tenant, None)
        if mine:
            self._own[tenant] = mine
            self._domains[tenant] = {split(name)[1] for name in mine} - {""}
        for key in [key for key in self._rows if tenant in (EVERYONE, key[0])]:
            if key != ROW_0:
                self._free.append(self._rows.pop(key))
        if tenant == EVERYONE:
            self.table[0] = self._values(*ROW_0)

    def row(self, tenant: str, domain: str) -> int:
        """The row of the table that holds for a domain of a tenant ('': for the tenant itself)."""
        special = domain in self._domains.get(tenant, ()) or domain in self._domains.get(
            EVERYONE, ()
        )
        key = (tenant if tenant in self._own else EVERYONE, domain if special else "")
        if key not in self._rows:
            self._rows[key] = self._take()
            self.table[self._rows[key]] = self._values(*key)
        return self._rows[key]

    def _take(self) -> int:
        if not self._free:
            size = self.table.shape[0]
            self.table = np.concatenate((self.table, self.table))
            self._free = list(range(2 * size - 1, size - 1, -1))
        return self._free.pop()

    def _values(self, tenant: str, domain: str) -> Floats:
        """Everybody's values, then those for the domain, then the tenant's, then of both."""
        row = self._base.copy()
        for owner in dict.fromkeys((EVERYONE, tenant)):
            own = self._own.get(owner, {})
            for setting in ALL:
                for name in (setting.name, f"{setting.name}{AT}{domain}"):
                    if name in own:
                        row[BY_NAME[setting.name]] = own[name]
        return row
