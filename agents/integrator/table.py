"""Who set what in the integrator: own values and what follows from them, as kernels read them.

A tenant's own value counts before the partition's (tenant '*'), that before the deployment's. Most
tenants have none of their own: they share row 0 of the table, so a tenant costs one int.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agents.integrator.settings import SETTINGS
from agents.kit.tenant_settings import row_of


class Table:
    """Own values (NaN: none) and what follows from them, two rows per tenant that ever set any.

    Row 0 is the partition's ('*') and that of every tenant without a row. A tenant's row is
    followed by its baseline's: the own values that a rollback would give back (see `drift`).
    """

    def __init__(self, defaults: Mapping[str, str]) -> None:
        self.defaults = row_of(SETTINGS, defaults)
        self.rows = 1
        self.own = np.full((4, len(SETTINGS)), np.nan)
        self.effective = np.zeros_like(self.own)
        self.refresh()

    def refresh(self) -> None:
        """Recompute what counts, after own values have changed."""
        star = np.where(np.isnan(self.own[0]), self.defaults, self.own[0])
        self.effective[:] = np.where(np.isnan(self.own), star, self.own)

    def put(self, row: int, k: int, value: float) -> None:
        """Give a row a value of its own; NaN takes it back."""
        self.own[row, k] = value
        if row == 0:
            self.refresh()
        else:
            below = self.effective[0, k]
            self.effective[row, k] = below if math.isnan(value) else value

    def reserve(self, more: int) -> None:
        """Make room for so many more rows."""
        need = self.rows + more
        if need > self.own.shape[0]:
            own = np.full((max(need, 2 * self.own.shape[0]), len(SETTINGS)), np.nan)
            own[: self.rows] = self.own[: self.rows]
            self.own = own
            self.effective = np.zeros_like(own)
            self.refresh()

    def add(self) -> int:
        """A new row without own values, and its baseline's."""
        self.reserve(2)
        self.rows += 2
        return self.rows - 2

    def settle(self, row: int) -> None:
        """Make a tenant's values its baseline."""
        self.own[row + 1] = self.own[row]

    def keep(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Forget the tenants' rows that aren't among `rows`; returns old row -> new row.

        Row 0 stays, and so does the baseline's row of each that stays.
        """
        kept = np.union1d(np.union1d(rows, rows[rows > 0] + 1), [0])
        moved = np.zeros(self.rows, np.int64)
        moved[kept] = np.arange(kept.shape[0])
        self.own[: kept.shape[0]] = self.own[kept]
        self.own[kept.shape[0] :] = np.nan
        self.rows = int(kept.shape[0])
        self.refresh()
        return moved
