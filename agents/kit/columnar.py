"""A columnar processor: its state in tables of columns, its law in kernels over them.

For whatever sees millions of records a second; `RowProcessor` is for all else. The processor says
what its rows hold, the kit does the rest: names, settings, free rows and growth, forgetting, the
state topic's rows out and in with all checks. How, on the predictors:

1. `state.py` declares a `TableSchema` for each kind of row (a tenant's, a domain's: that whose key
   is "tenant 0x1f domain") from the .avsc, and a `ColumnTable` of it. A table that has more than a
   program can write (rings beside its rows, vectors in blocks of its `pool`) overrides `room`,
   `pack`, `unpack` and, if there is more, `dropped`: each gets arrays of rows, and calls one
   kernel for all of them.
2. `fold.py` is a `ColumnarFold` over a `Store` of the tables. In `fold`, first `store.tidy()`; then
   names become rows (`store.tenants_of`, `domains_of`) or, where the law must decide, codes
   (`keys_of`, `codes_of`; then `seat`, `admit`); then the law's kernel runs over `source_of(batch)`
   and `sink_of(output)`, whose fields' places are `slots("…")`, over `table.views(…)`, `memory`,
   `rows`, `beside` or `pool`, `store.names.arrays`, `settings.table` and `marks`.
   Whatever grows makes another array: take them anew after each call that may.
   What metrics count goes into `counts`.
3. Kernels that change a row call `mark(marks, code)` with its column `code`.

Hooks: `other_control` for kinds of its own, `settled` for what a setting changes in rows, `slept`
for what a sleep does, `loaded` for what follows from rows and settings together. What a sleep does
to a law is in the kernels (`depth`), at the last number of a row of `settings.table`.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import Batch, Control, Output
from agents.kit.packing import Ints
from agents.kit.setting import SHOWN
from agents.kit.store import Store
from topics.columns import Columns


class ColumnarFold:
    """The `processor.Fold` of a columnar processor, all but its law."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counts: Counter[str] = Counter()  # by the names of the processor's tallies
        store.settled = self.settled
        self.changed, self.rows_all, self.deadline = store.changed, store.rows_all, store.deadline
        self.rows_of_tenant = store.rows_of_tenant

    @property
    def names(self) -> NDArray[np.uint8]:
        return self.store.names.pool

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> int | None:
        raise NotImplementedError

    def settled(self, r: int, of: Ints) -> None:
        """A tenant's settings have changed, and maybe those of these rows of domains.

        The tenant isn't marked yet.
        """

    def slept(self, r: int) -> None:
        """A tenant sleeps deeper or less deep than it did. It is marked already."""

    def loaded(self) -> None:
        """Rows have been taken in; others may follow."""

    def other_control(self, control: Control) -> str | None:
        """Apply a control record of another kind; returns why it is refused."""
        return f"no control {control.kind[:SHOWN]!r} is known here"

    def control(self, control: Control) -> str | None:
        self.store.tidy()
        if control.kind == "tick":
            self.store.forget(control.ts)
            return None
        if control.kind == "sleep":
            r = self.store.let_sleep(control.tenant, float(control.value), control.log_ms)
            if r >= 0:
                self.slept(r)
            return None
        if control.kind != "setting":
            return self.other_control(control)
        try:
            self.store.change_setting(
                control.tenant, control.setting, control.value, control.log_ms
            )
        except ValueError as error:
            return str(error)
        return None

    def load(
        self,
        rows: Columns,
        lo: int,
        hi: int,
        buf: NDArray[np.uint8],
        key_pos: NDArray[np.int64],
        key_len: NDArray[np.int64],
        gone: NDArray[np.uint8],
    ) -> None:
        self.store.load_rows(rows, lo, hi, buf, key_pos, key_len, gone)
        self.loaded()

    def counted(self) -> Mapping[str, int]:
        """See `processor.Counting`; the counts start again."""
        found = {name: n for name, n in self.counts.items() if n}
        self.counts.clear()
        return found

    def tenants(self) -> int:
        """How many domains the state holds; tenants, where it has no domains."""
        if self.store.domains is not None:
            return self.store.domains.living
        return self.store.tenants.living - 1  # '*'
