"""What a table of a processor's state holds, declared once from the schema of its rows.

`TableSchema` says which fields of the state topic's row are columns of the table and which the
processor packs itself (`packed`: rings, vectors). From it follow the table's NumPy type, what a new
row looks like, and how rows are written and read. A field and its column have one name, kind and
default; the rest is said:

>>> seen = TableSchema("segmentation_state", packed=("values", "confidences", "times", "leaders",
...     "lasted", "runs"), lists={"counts": ("unit", "g_start"), "numbers": ("mean", "spread")},
...     absent={"leader": 0, "measured": 0}, extra={"lent": -1}, first={"peak": -1.0})
>>> seen.dtype.names[:6], seen.first["peak"], seen.place["seen"]
(('code', 'owner', 'settings', 'seen', 'touched', 'start'), array(-1.), 3)

Kernels of a law take a table's memory as they like it: column by column (`views`, a NamedTuple of
arrays), as rows of numbers (`Memory`, with the columns' `place`), or as the structured array.
"""

from collections import namedtuple
from collections.abc import Collection, Mapping
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import NameArrays
from agents.engine.processor import SRC_NAMES, SRC_SCRATCH
from agents.kit.packing import Ints
from topics.columns import Cols, Columns
from topics.layout import FLOATS, INTS, LISTS, MAP, SPANS, STRING, Field, Layout
from topics.schemas import schemas

# What every row has for the kit: its name's code (-1: the row is free), and the row of
# TenantSettings.table; of a domain its tenant's row; of a tenant how many domains it has, and
# whether a row of the state topic is its own (else it is there for its domains).
DOMAIN_HEAD = {"code": -1, "owner": -1, "settings": 0}
LONE_HEAD = {"code": -1, "settings": 0, "alive": 0}  # of a tenant, where there are no domains
TENANT_HEAD = LONE_HEAD | {"domains": 0}
SETTINGS = "settings"  # the map of a tenant's own values, in every state schema
SMALL = 2**31  # numbers of a column of 4 bytes are below

NO_LIMITS = (-np.inf, np.inf)


class Memory(NamedTuple):
    """A table's rows as columns of 8 bytes, the same memory twice."""

    wholes: NDArray[np.int64]  # [rows, columns]
    reals: NDArray[np.float64]


class Number(NamedTuple):
    """A field that is a number of a column."""

    field: Field
    column: str
    part: int  # which number of the column; -1: it has but one
    least: float  # that a row may have there, and the largest
    most: float

    @property
    def real(self) -> bool:
        """Whether it is a floating-point number."""
        return self.field.type.kind in FLOATS

    def of(self, rows: NDArray[np.void]) -> NDArray[Any]:
        """This number of each row."""
        return rows[self.column] if self.part < 0 else rows[self.column][:, self.part]


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
        self.numbers: list[Number] = []
        self.texts: list[tuple[Field, str]] = []  # and their columns
        self.lists: list[tuple[Field, tuple[str, ...]]] = []
        self.absent: list[tuple[Field, float]] = []
        self._small = frozenset(small)
        self._columns: dict[str, tuple[str, list[float]]] = {
            name: (self._whole(name), [value]) for name, value in head.items()
        }
        self._named: dict[str, tuple[str, int]] = {}
        for name, fields in (columns or {}).items():
            several = [(fields, -1)] if isinstance(fields, str) else zip(fields, count())
            self._named |= {field: (name, part) for field, part in several}
        gone = {SETTINGS: 0.0} | dict(absent or {})
        for field in self.layout.fields:
            if field.name in packed:
                continue
            if field.name in gone or (only is not None and field.name not in only):
                self.absent.append((field, gone.get(field.name, _default(field))))
            elif field.name in (lists or {}):
                self._list(field, (lists or {})[field.name])
            else:
                self._add(field, *(limits or {}).get(field.name, NO_LIMITS))
        for name, value in (extra or {}).items():
            kind = "f8" if isinstance(value, float) else self._whole(name)
            self._columns[name] = kind, [value]
        order = sorted(self._columns, key=lambda name: self._columns[name][0] == "i4")  # all fit
        if sum(kind == "i4" for kind, _ in self._columns.values()) % 2:
            self._columns["spare"] = "i4", [0]
            order.append("spare")
        shapes = [(name, *self._columns[name]) for name in order]
        self.dtype = np.dtype([(name, kind, np.shape(_one(v))) for name, kind, v in shapes])
        self.first = np.zeros((), self.dtype)
        for name, _, values in shapes:
            self.first[name] = _one(values)
        for name, value in (first or {}).items():
            self.first[name] = value
        at: Mapping[str, Any] = self.dtype.fields or {}
        self.place = {name: at[name][1] // 8 for name, kind, _ in shapes if kind != "i4"}
        self.children = sum(len(names) for _, names in self.lists)  # of each row

    def _whole(self, name: str) -> str:
        return "i4" if name in self._small else "i8"

    def _list(self, field: Field, names: tuple[str, ...]) -> None:
        """Each item of an array is a column."""
        self.lists.append((field, names))
        kind = "f8" if field.type.item is not None and field.type.item.kind in FLOATS else "i8"
        self._columns |= {name: (kind, [0.0]) for name in names}

    def _add(self, field: Field, least: float, most: float) -> None:
        """A field becomes a column, or a number of one."""
        name, part = self._named.get(field.name, (field.name, -1))
        kind, type_ = self._whole(name), field.type
        if type_.kind == STRING and not type_.nullable:
            self.texts.append((field, name))
            self._columns[name] = kind, [-1]
            return
        if type_.kind in FLOATS:
            kind = "f8"
        elif type_.kind not in INTS or type_.nullable or type_.symbols:
            raise ValueError(f"{field.name}: a {type_.kind_name} is packed, a list or absent")
        if kind == "i4":
            least, most = max(least, -SMALL), min(most, SMALL - 1)
        self._columns.setdefault(name, (kind, []))[1].append(_default(field))
        self.numbers.append(Number(field, name, part, least, most))

    def put(self, rows: NDArray[np.void], names: NameArrays, at: Ints, columns: Columns) -> None:
        """Write rows of the table into rows `at` of the topic, all but what is packed.

        There must be room for so many `children` of each.
        """
        c, to = columns.cols, _where(at)
        for one in self.numbers:
            (c.f if one.real else c.i)[one.field.slot, to] = value = one.of(rows)
            if one.field.null_slot >= 0:
                c.null[one.field.null_slot, to] = np.isnan(value)
        for field, column in self.texts:
            code = rows[column]
            c.pos[field.slot, to] = np.where(code >= 0, names.at[code], 0)
            c.len[field.slot, to] = np.where(code >= 0, names.size[code], 0)
        for field, which in self.lists:
            items, numbers = self._items(field, which, c, rows)
            end = columns.used + numbers.size
            items[columns.used : end] = numbers.ravel()
            c.at[field.slot, to] = np.arange(columns.used, end, len(which))
            c.cnt[field.slot, to] = len(which)
            columns.used = end
        for field, default in self.absent:
            _put_absent(field, default, c, to)

    def _items(
        self, field: Field, which: tuple[str, ...], c: Cols, rows: NDArray[np.void]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Where the items of a list stand in columns, and [rows, items] of the table."""
        first, (wholes, reals) = self.place[which[0]], memory(rows)
        real = field.type.item is not None and field.type.item.kind in FLOATS
        return c.vf if real else c.vi, (reals if real else wholes)[:, first : first + len(which)]

    def take(self, rows: NDArray[np.void], texts: Ints, at: Ints, c: Cols) -> int:
        """The same back, of rows all spans and lists of which lie inside; a bad one, or -1.

        texts[slot, k] is the code of a text, -1 for an empty one.
        """
        to, bad = _where(at), np.zeros(at.shape[0], np.bool_)
        for one in self.numbers:
            value = (c.f if one.real else c.i)[one.field.slot, to]
            known = one.field.null_slot < 0 or c.null[one.field.null_slot, to] == 0
            if (one.least, one.most) != NO_LIMITS:  # which what isn't a number isn't within
                bad |= known & ~((one.least <= value) & (value <= one.most))
            one.of(rows)[:] = value if known is True else np.where(known, value, np.nan)
        for field, column in self.texts:
            rows[column] = texts[field.slot, to]
        for field, which in self.lists:
            bad |= c.cnt[field.slot, to] != len(which)
            if not bad.any():
                items, numbers = self._items(field, which, c, rows)
                numbers[:] = items[c.at[field.slot, to][:, None] + np.arange(len(which))]
        return int(at[np.argmax(bad)]) if bad.any() else -1

    @property
    def src(self) -> dict[str, int]:
        """`Layout`'s src of its rows: names where a text is a column or an array's item."""
        columns = {field.name for field, _ in self.texts}
        found = {}
        for field in self.layout.fields:
            kind, item = field.type.kind, field.type.item
            if kind in SPANS:
                found[field.name] = SRC_NAMES if field.name in columns else SRC_SCRATCH
            elif kind == MAP:
                found[f"{field.name}.key"] = SRC_SCRATCH
            elif item is not None and item.kind in SPANS:
                found[f"{field.name}.item"] = SRC_NAMES
        return found

    def rows(self, count: int) -> NDArray[np.void]:
        """So many new rows."""
        rows = np.empty(count, self.dtype)
        memory(rows).wholes[:] = memory(self.first[None]).wholes  # many times as fast as by field
        return rows


def memory(rows: NDArray[np.void]) -> Memory:
    """A table's rows as numbers."""
    shape = rows.shape[0], rows.dtype.itemsize // 8
    return Memory(rows.view(np.int64).reshape(shape), rows.view(np.float64).reshape(shape))


def _one(values: list[float]) -> float | list[float]:
    """A column's first value, or those of its numbers."""
    return values[0] if len(values) == 1 else values


def _default(field: Field) -> float:
    if field.type.kind in FLOATS:
        return np.nan if field.default is None else float(field.default)
    return int(field.default or 0) if field.type.kind in INTS else 0


def _where(at: Ints) -> Ints | slice:
    """Rows `at`, in order, as a slice where they are neighbours: that is several times as fast."""
    n = at.shape[0]
    return slice(int(at[0]), int(at[0]) + n) if n and at[-1] - at[0] == n - 1 else at


def _put_absent(field: Field, value: float, c: Cols, to: Ints | slice) -> None:
    if field.type.kind in INTS:
        c.i[field.slot, to] = int(value)
    elif field.type.kind in FLOATS:
        c.f[field.slot, to] = value
        if field.null_slot >= 0:
            c.null[field.null_slot, to] = np.isnan(value)
    elif field.type.kind in SPANS:
        c.pos[field.slot, to] = c.len[field.slot, to] = 0
    elif field.type.kind in LISTS:
        c.at[field.slot, to] = c.cnt[field.slot, to] = 0
