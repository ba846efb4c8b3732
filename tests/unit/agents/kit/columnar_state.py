"""A columnar state to try the kit with: segmentation's rows, without what is packed there."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from agents.engine.processor import Batch, StateRows
from agents.kit.column_table import Beside, ColumnTable
from agents.kit.columns import LONE_HEAD, TENANT_HEAD, TableSchema
from agents.kit.setting import Setting
from agents.kit.store import Store
from topics.columns import Buffer, Columns, Layout
from topics.schemas import schemas

Row = dict[str, Any]
Rows = Mapping[bytes, Row | None]  # None: a tombstone

SCHEMA = "segmentation_state"
COUNTS, NUMBERS = ("c0", "c1"), ("n0", "n1", "n2")
NOT_HERE = dict.fromkeys(("values", "confidences", "times", "leaders", "lasted", "runs"), 0.0)
SETTINGS = {
    "low": Setting(1.0, "a number", 0, 10, scope="domain"),
    "forget_after_s": Setting(100.0, "silence until a row goes", 1, 1e9),
}
SOURCE = Layout(schemas().newest("observation"))
STORED = Layout(schemas().newest(SCHEMA))
WRITTEN = Layout(schemas().newest(SCHEMA), {"leader": 1, "leaders.item": 1, "settings.key": 2,
    "values": 2, "confidences": 2, "runs": 2})  # fmt: skip


def domains() -> ColumnTable:
    """Rows with a name, a small number, lists, and an array beside them."""
    schema = TableSchema(
        SCHEMA,
        columns={"sums": ("error_sum", "confidence_sum"), "first": "start"},
        lists={"counts": COUNTS, "numbers": NUMBERS},
        absent=NOT_HERE | {"wild": 7.0},
        small=("measured",),
        extra={"derived": 3, "share": 0.5},
        first={"peak": -1.0},
        limits={"boundaries": (0, 100), "peak": (-1.0, 9.0)},
    )
    return ColumnTable(schema, {"ring": Beside((3,), np.int32, -1, names=True)})


def tenants(*, plain: bool = False) -> ColumnTable:
    """Rows of tenants: their settings alone, or a few numbers too."""
    if plain:
        return ColumnTable(TableSchema(SCHEMA, head=TENANT_HEAD, only=()))
    only = ("seen", "touched", "leader")
    return ColumnTable(TableSchema(SCHEMA, head=TENANT_HEAD, only=only, small=("leader",)))


def lone() -> ColumnTable:
    """Rows of tenants in a store without domains, whose head is small."""
    only, small = ("seen", "touched", "leader"), (*LONE_HEAD, "leader")
    return ColumnTable(TableSchema(SCHEMA, head=LONE_HEAD, only=only, small=small))


class Held:
    """A store, with rows as Python objects."""

    def __init__(self, *, plain: bool = False, alone: bool = False, **options: Any) -> None:
        self.domains = domains()
        rows = (lone(),) if alone else (tenants(plain=plain), self.domains)
        self.store = Store(SETTINGS, {}, *rows, **options)

    def find(self, *names: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The rows of domains "tenant/domain", which are marked."""
        columns, scratch = Columns(SOURCE), Buffer()
        for k, name in enumerate(names):
            tenant, domain = name.split("/")
            rest = {"vector": b"", "ts": 0, "sequence": None}
            columns.put(k, {"tenant": tenant, "domain": domain} | rest, scratch)
        none = np.zeros(len(names), np.int64)
        batch = Batch(scratch.data, columns, none, none, none.astype(np.uint8))
        out = self.store.domains_of(batch, 0, len(names))
        for code in self.domains.rows["code"][out]:
            self.store.mark(int(code))
        return out

    def changed(self) -> dict[bytes, Row | None]:
        """The rows changed since the last call."""
        return self._rows(self.store.changed)

    def all(self) -> dict[bytes, Row | None]:
        """Every row."""
        return dict(sorted(self._rows(self.store.rows_all).items()))

    def _rows(self, write: Any) -> dict[bytes, Row | None]:
        none = np.empty(0, np.int64)
        rows = StateRows(Columns(WRITTEN), Buffer(), 0, none, none, np.empty(0, np.uint8))
        write(rows)
        pool, found = self.store.names.pool, {}
        bufs = (np.empty(0, np.uint8), pool, rows.scratch.data)
        for k in range(rows.n):
            key = pool[rows.key_pos[k] :][: rows.key_len[k]].tobytes()
            assert key not in found
            found[key] = None if rows.gone[k] else rows.columns.get(k, bufs)
        return found

    def load(self, rows: Iterable[tuple[bytes, Row | None]]) -> "Held":
        """Take in rows, as a recovery would."""
        columns, arrays = held(rows)
        self.store.load_rows(columns, 0, arrays[1].shape[0], *arrays)
        return self


def held(rows: Iterable[tuple[bytes, Row | None]]) -> tuple[Columns, tuple[Any, ...]]:
    """Rows as columns; and the buffer, the keys' places and sizes, and which are gone."""
    columns, scratch = Columns(STORED), Buffer()
    pos, size, gone = [], [], []
    for k, (key, row) in enumerate(rows):
        columns.put(k, row or BLANK, scratch)
        pos.append(scratch.append(key))
        size.append(len(key))
        gone.append(row is None)
    buf = scratch.data[: scratch.used].copy()
    return columns, (
        buf,
        np.array(pos, np.int64),
        np.array(size, np.int64),
        np.array(gone, np.uint8),
    )


def blank(field: Any) -> Any:
    default = field.default
    return default.encode() if isinstance(default, str) and field.type.kind_name == "bytes" else (
        default)  # fmt: skip


BLANK: Row = {field.name: blank(field) for field in STORED.fields}
