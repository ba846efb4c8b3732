"""What a table of a processor's state holds, declared once from the schema of its rows.

`TableSchema` says which fields of the state topic's row are columns of the table and which the
processor packs itself (`packed`: rings, vectors). From it follow the table's NumPy type, what a new
row looks like, and the program that the kernels of `agents.kit.packing` run for every row that is
written or read. A field and its column have one name, kind and default; the rest is said:

>>> seen = TableSchema("segmentation_state", packed=("values", "confidences", "times", "leaders",
...     "lasted", "runs"), lists={"counts": ("unit", "g_start"), "numbers": ("mean", "spread")},
...     absent={"leader": 0, "measured": 0}, extra={"lent": -1}, first={"peak": -1.0})
>>> seen.dtype.names[:6], seen.first["peak"], seen.place["seen"]
(('code', 'owner', 'settings', 'seen', 'touched', 'start'), array(-1.), 3)

Kernels of a law take a table's memory as they like it: column by column (`views`, a NamedTuple of
arrays), as rows of numbers (`Memory`, with the columns' `place`), or as the structured array.
"""

from collections import namedtuple
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.kit import packing as p
from topics.layout import BYTES, FLOATS, INTS, LISTS, STRING, Field, Layout
from topics.schemas import schemas

# What every row has for the kit: its name's code (-1: the row is free), and the row of
# TenantSettings.table; of a domain its tenant's row; of a tenant how many domains it has, and
# whether a row of the state topic is its own (else it is there for its domains).
DOMAIN_HEAD = {"code": -1, "owner": -1, "settings": 0}
LONE_HEAD = {"code": -1, "settings": 0, "alive": 0}  # of a tenant, where there are no domains
TENANT_HEAD = LONE_HEAD | {"domains": 0}
SETTINGS = "settings"  # the map of a tenant's own values, in every state schema
SMALL = 2**31  # numbers of a column of 4 bytes are below


class Memory(NamedTuple):
    """A table's rows, the same memory three times."""

    wholes: NDArray[np.int64]  # [rows, 8-byte columns]
    reals: NDArray[np.float64]
    smalls: NDArray[np.int32]  # [rows, 4-byte columns]


def slots(schema: str) -> Any:
    """Where the fields of a schema's records stand in Cols, by name, for kernels.

    `null_NAME` is the slot of NAME's null. A NamedTuple, so that kernels know the numbers when they
    are compiled.
    """
    layout = Layout(schemas().newest(schema))
    found = layout.slots | {f"null_{name}": slot for name, slot in layout.null_slots.items()}
    return namedtuple(schema, found)(**found)


class TableSchema:
    """The columns of a table, and what its rows in the state topic have to do with them."""

    def __init__(
        self,
        schema: str,
        *,
        head: Mapping[str, int] = DOMAIN_HEAD,
        columns: Mapping[str, str | tuple[str, ...]] | None = None,
        lists: Mapping[str, tuple[str, ...]] | None = None,
        packed: Collection[str] = (),
        absent: Mapping[str, float] | None = None,
        only: Collection[str] | None = None,
        small: Collection[str] = (),
        extra: Mapping[str, float] | None = None,
        first: Mapping[str, float] | None = None,
        limits: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:  # fmt: skip
        """`columns`: those named otherwise than their field, or several numbers in one column.

        `lists`: array -> the columns that its items are. `absent`: field -> what rows of this table
        have there; texts and lists are empty. With `only`, so are all others, with their
        defaults. `small`: columns of 4 bytes. `extra`: columns that
        no row has -> their first value, whose type (int, float) is theirs. `first`: the value of a
        column in a new row, where that isn't the field's default. `limits`: field -> the least and
        the largest number that a row may have. A text is the code of a name, -1 for an empty one.
        ValueError names what can't be.
        """
        self.layout = Layout(schemas().newest(schema))
        self._packed, self._small = frozenset((*packed, SETTINGS)), frozenset(small)
        self._lists, self._limits = dict(lists or {}), dict(limits or {})
        self._absent, self._extra = dict(absent or {}), dict(extra or {})
        named = {field.name for field in self.layout.fields}
        for name in named - self._packed - named.intersection(named if only is None else only):
            self._absent.setdefault(name, self._default(self.layout.by_name[name]))
        # Field -> its column, which number of it, and of how many.
        self._column: dict[str, tuple[str, int, int]] = {}
        for name, fields in (columns or {}).items():
            each = (fields,) if isinstance(fields, str) else fields
            self._column.update({field: (name, k, len(each)) for k, field in enumerate(each)})
        self._types: dict[str, Any] = {name: self._whole(name) for name in head}
        values: dict[str, Any] = dict(head)
        self.names: list[str] = []  # columns of names' codes
        for name, number, value in self._numbers():
            self._types[name] = number
            values[name] = value
        order = sorted(self._types.items(), key=lambda one: one[1] == "i4")  # so that all fit
        if sum(kind == "i4" for _, kind in order) % 2:
            order.append(("spare", "i4"))
        self.dtype = np.dtype([(name, kind) for name, kind in order])
        self.first = np.zeros((), self.dtype)
        for name, value in (values | dict(first or {})).items():
            self.first[name] = value
        self._offset = {name: one[1] for name, one in (self.dtype.fields or {}).items()}
        wide = (name for name, kind in order if kind != "i4")
        self.place = {name: self._offset[name] // 8 for name in wide}

    @staticmethod
    def _default(field: Field) -> float:
        if field.type.kind in FLOATS:
            return np.nan if field.default is None else float(field.default)
        return int(field.default or 0) if field.type.kind in INTS else 0

    def _numbers(self) -> Iterator[tuple[str, Any, Any]]:
        """Each column but the head's: its name, its type and its value in a new row."""
        groups: dict[str, list[float]] = {}
        for field in self.layout.fields:
            if field.name in self._packed or field.name in self._absent:
                continue
            if field.name in self._lists:
                item = field.type.item
                real = item is not None and item.kind in FLOATS
                for name in self._lists[field.name]:
                    yield name, "f8" if real else "i8", 0
                continue
            name, _, count = self._column.get(field.name, (field.name, 0, 1))
            kind, default = self._kind(field, name)
            if count == 1:
                yield name, kind, default
            else:
                groups.setdefault(name, []).append(float(default))
                if len(groups[name]) == count:
                    yield name, (kind, (count,)), groups[name]
        for name, value in self._extra.items():
            yield name, "f8" if isinstance(value, float) else self._whole(name), value

    def _whole(self, name: str) -> str:
        return "i4" if name in self._small else "i8"

    def _kind(self, field: Field, name: str) -> tuple[str, float]:
        """A plain field's type in the table, and its value in a new row."""
        kind = field.type.kind
        if kind == STRING and not field.type.nullable:
            self.names.append(name)
            return self._whole(name), -1
        if kind in FLOATS:
            return "f8", self._default(field)
        if kind in INTS and not field.type.nullable and not field.type.symbols:
            return self._whole(name), self._default(field)
        raise ValueError(f"{field.name}: a {field.type.kind_name} is packed, a list or absent")

    @cached_property
    def program(self) -> "p.Program":
        """What the kernels do for each row."""
        ops: list[list[int]] = []
        limits: list[tuple[float, float]] = []
        for field in self.layout.fields:
            if field.name in self._packed and field.name != SETTINGS:
                continue
            op, limit = self._op(field)
            ops.append(op)
            limits.append(limit)
        table, children = np.array(ops, np.int64), 0
        for op in ops:
            children += op[p.COUNT] if op[p.OP] in (p.WHOLES, p.REALS) else 0
        return p.Program(table, np.array(limits), children)

    def _op(self, field: Field) -> tuple[list[int], tuple[float, float]]:
        op = [0] * p.WIDTH
        op[p.SLOT], op[p.NULL] = field.slot, field.null_slot
        kind = field.type.kind
        if field.name in self._absent or field.name == SETTINGS:
            value = float(self._absent.get(field.name, 0))
            op[p.OP] = p.NO_ITEMS if kind in LISTS else p.NO_TEXT if kind in (STRING, BYTES) else (
                p.FIXED_REAL if kind in FLOATS else p.FIXED_WHOLE)  # fmt: skip
            return op, (value, value)
        if field.name in self._lists:
            names = self._lists[field.name]
            op[p.OP] = p.REALS if self._types[names[0]] == "f8" else p.WHOLES
            op[p.COLUMN], op[p.COUNT] = self.place[names[0]], len(names)
            return op, (0.0, 0.0)
        name, k, _ = self._column.get(field.name, (field.name, 0, 1))
        place = self._offset[name]
        if name in self._small:
            op[p.OP] = p.SMALL_NAME if name in self.names else p.SMALL
            op[p.COLUMN] = place // 4
        else:
            real = p.REAL if field.null_slot < 0 else p.MAYBE
            op[p.OP] = p.NAME if name in self.names else real if kind in FLOATS else p.WHOLE
            op[p.COLUMN] = place // 8 + k
        limit = self._limits.get(field.name, (-np.inf, np.inf))
        if op[p.OP] == p.SMALL:
            limit = max(limit[0], -SMALL), min(limit[1], SMALL - 1)
        op[p.CHECKED] = int(limit != (-np.inf, np.inf))
        return op, limit

    @property
    def text_slots(self) -> list[int]:
        """The slots of the fields that are names."""
        of = {self._column.get(one.name, (one.name,))[0]: one.slot for one in self.layout.fields}
        return [of[name] for name in self.names]

    def rows(self, count: int) -> NDArray[np.void]:
        """So many new rows."""
        rows = np.empty(count, self.dtype)
        memory(rows).wholes[:] = memory(self.first[None]).wholes  # many times as fast as by field
        return rows


def memory(rows: NDArray[np.void]) -> Memory:
    """A table's rows as numbers."""
    n, width = rows.shape[0], rows.dtype.itemsize // 8
    return Memory(
        rows.view(np.int64).reshape(n, width),
        rows.view(np.float64).reshape(n, width),
        rows.view(np.int32).reshape(n, 2 * width),
    )
