"""Rows of a file as observations: which column is the time, which are numbers, whose they are."""

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents.tools.numbers import MISSING, NoNumberError, Numbers
from agents.tools.output import counted
from agents.tools.rows import COLUMNS_MAX
from agents.tools.source import Row
from agents.tools.times import TIME_NAMES, BadTimeError, Times, shown, time_name
from topics import codec

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
PASSES = "--domain-per-column passes over such cells"
DIM_MAX = 32_768  # numbers in a vector: more is a dead letter
FLOAT32_MAX = 3.4028235677973366e38  # what rounds to more than float32 holds is refused

Record = tuple[bytes, bytes]  # key, value


class BadRowError(ValueError):
    """A row can't become observations; the text says why."""


class MappingError(Exception):
    """The file hasn't what was asked for; the text names what it has."""


@dataclass(frozen=True, slots=True)
class MappingOptions:
    """What was asked for. Without a tenant, rows are observations as they are (JSON lines only)."""

    tenant: str = ""
    domain: str = "state"
    time_column: str = ""
    columns: tuple[str, ...] = ()
    per_column: bool = False
    any_order: bool = False
    now: bool = False


class Mapper:
    """Makes observations of rows; remembers the last time, so that none goes back."""

    def __init__(
        self, options: MappingOptions, times: Times, last: int = 0, numbers: Numbers | None = None
    ) -> None:
        """`last`: the time of the row before the first; give the columns by `learn`."""
        self.missing = 0  # cells passed over as empty
        self.last = last
        self.columns: tuple[str, ...] = ()
        self.domains: tuple[str, ...] = (options.domain,)
        self._options = options
        self._times = times
        self._numbers = numbers or Numbers()
        self._ready = not options.tenant
        self._key = options.tenant.encode()
        self._count = 0
        self._places: list[int] = []
        self.time: str | None = None  # its column; None: now, or not known yet
        self._time_place = -1

    def learn(self, names: Sequence[str], named: bool = True) -> None:
        """The columns that there are; `named`: so they are called, and not just counted.

        `MappingError` if the options want others.
        """
        options, self._count = self._options, len(names)
        asked = tuple(by_number(name, names) for name in options.columns)
        if not options.now:
            self.time = time_column(options.time_column, names, named or names[0] in asked)
        wanted = asked or tuple(name for name in names if name != self.time)
        if lacking := [name for name in wanted if name not in names]:
            raise MappingError(f"there is no column {_listed(lacking)}; there are {_listed(names)}")
        if not wanted:
            raise MappingError(f"there is no column of values beside {self.time!r}")
        if twice := sorted({n for n in (*wanted, self.time) if n and names.count(n) > 1}):
            raise MappingError(f"there are several columns {_listed(twice)}")
        self.columns = wanted
        if options.per_column:
            if len(wanted) > COLUMNS_MAX:
                raise MappingError(f"{len(wanted):,} columns (at most {COLUMNS_MAX:,} domains)")
            self.domains = _domains(wanted)
        self._places = [names.index(name) for name in wanted]
        self._time_place = -1 if self.time is None else names.index(self.time)

    def of_csv(self, row: Row[list[str]], now: int) -> list[Record]:
        """The records of a CSV row; `BadRowError` names the column that is wrong."""
        cells = row.cells
        if len(cells) != self._count:
            raise BadRowError(f"{counted(len(cells), 'cell')} where the header has {self._count}")
        ts = now if self._time_place < 0 else self._time_of(cells[self._time_place])
        numbers: list[float | None] = []
        for place, name in zip(self._places, self.columns, strict=True):
            try:
                lacks = self._options.per_column and _lacks(cells[place])
                numbers.append(None if lacks else number(cells[place], self._numbers))
            except BadRowError as error:
                raise BadRowError(f"column {name!r} {error}") from None
        if self._options.per_column:
            return self._several(ts, [None if x is None else [x] for x in numbers])
        return self._several(ts, [[x for x in numbers if x is not None]])

    def of_json(self, row: Row[dict[str, Any]], now: int) -> list[Record]:
        """The records of an object; `BadRowError` names the field that is wrong."""
        data = row.cells
        if self._ready:
            return [self._as_it_is(data, now)]
        if not self.columns:
            self.learn(list(data))
        ts = now if self.time is None else self._time_of(_field(data, self.time))
        numbers: list[list[float] | None] = []
        for name in self.columns:
            value = _field(data, name)
            try:
                lacks = self._options.per_column and _lacks(value)
                numbers.append(None if lacks else _numbers(value))
            except BadRowError as error:
                raise BadRowError(f"field {name!r} {error}") from None
        if self._options.per_column:
            return self._several(ts, numbers)
        return self._several(ts, [[x for part in numbers if part is not None for x in part]])

    def _time_of(self, cell: object) -> int:
        try:
            ts = self._times.read(cell)
        except BadTimeError as error:
            raise BadRowError(f"time {self.time!r} {error}") from None
        if ts < self.last and not self._options.any_order:
            raise BadRowError("the time goes back (--any-order lets it)")
        return ts

    def _several(self, ts: int, vectors: list[list[float] | None]) -> list[Record]:
        """A record of each domain's vector; none where it is missing."""
        records = []
        for domain, vector in zip(self.domains, vectors, strict=True):
            if vector is None:
                continue
            if not 0 < len(vector) <= DIM_MAX:
                raise BadRowError(f"{len(vector)} numbers; a vector has 1 to {DIM_MAX}")
            record = {
                "tenant": self._options.tenant,
                "domain": domain,
                "ts": ts,
                "vector": struct.pack(f"<{len(vector)}f", *vector),
                "sequence": None,
            }
            records.append((self._key, codec.encode("observation", record)))
        self.missing += vectors.count(None)
        self.last = max(self.last, ts)
        return records

    def _as_it_is(self, data: dict[str, Any], now: int) -> Record:
        given = {**data, "ts": now} if self._options.now else data
        try:
            record = codec.from_json("observation", given)
            ts = self._times.checked(record["ts"] + self._times.shift)
        except codec.BadRecord as error:
            raise BadRowError(error.detail) from None
        except BadTimeError as error:
            raise BadRowError(f"ts: {error}") from None
        for name in ("tenant", "domain"):
            if not NAME.fullmatch(record[name]):
                raise BadRowError(f"{name}: {shown(record[name])} isn't 1-128 of A-Za-z0-9._-")
        if not 0 < len(record["vector"]) // 4 <= DIM_MAX:
            raise BadRowError(f"vector: has not 1 to {DIM_MAX} numbers")
        self.last = max(self.last, ts)
        return record["tenant"].encode(), codec.encode("observation", {**record, "ts": ts})


def _lacks(value: object) -> bool:
    """Whether a cell or a field says that there is no value."""
    return value is None or (isinstance(value, str) and value.strip().lower() in MISSING)


def number(cell: str, numbers: Numbers | None = None) -> float:
    """A cell's number; `BadRowError` if it is empty, none, not finite or beyond float32."""
    text = cell.strip()
    if not text:
        raise BadRowError(f"is empty ({PASSES})")
    try:
        value = (numbers or Numbers()).read(text)
    except NoNumberError as error:
        if _lacks(cell):
            raise BadRowError(f"has {shown(cell)}, a missing value ({PASSES})") from None
        raise BadRowError(f"has {shown(cell)}, which is no number{error.hint}") from None
    if math.isinf(value) and "inf" not in text.lower():
        raise BadRowError(f"has {shown(text)}, which is beyond float32")
    return _finite(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise BadRowError(f"has {value}, which isn't finite")
    if abs(value) >= FLOAT32_MAX:
        raise BadRowError(f"has {value:g}, which is beyond float32")
    return value


def _numbers(value: object) -> list[float]:
    """A JSON number, or a list of them."""
    return list(_each(value if isinstance(value, list) else [value]))


def _each(values: list[Any]) -> Iterator[float]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadRowError(f"has {shown(value)}, which is no number")
        try:
            if math.isinf(value):  # JSON's 1e400 is read as one too
                raise BadRowError(f"has {value}, or a number as large: beyond float32")
            yield _finite(float(value))
        except OverflowError:
            raise BadRowError("has a whole number beyond float32") from None


def _field(data: Mapping[str, Any], name: str) -> Any:
    if name not in data:
        raise BadRowError(f"there is no field {name!r}; there are {_listed(list(data))}")
    return data[name]


def by_number(wanted: str, names: Sequence[str]) -> str:
    """A column's name, where its number from 1 was given, and no column is called so."""
    whole = wanted not in names and wanted.isascii() and wanted.isdigit()
    return names[int(wanted) - 1] if whole and 1 <= int(wanted) <= len(names) else wanted


def time_column(wanted: str, names: Sequence[str], named: bool = True) -> str:
    """The column of times: as wanted, or the first of a usual name; `MappingError` if none.

    Where columns have no names, and are several: the first, as in `soma segment`.
    """
    if wanted:
        wanted = by_number(wanted, names)
        if wanted not in names:
            raise MappingError(f"there is no time column {wanted!r}; there are {_listed(names)}")
        return wanted
    if not named and len(names) > 1:
        return names[0]
    if (found := time_name(names)) is not None:
        return found
    raise MappingError(
        f"none of the columns {_listed(names)} is called {' or '.join(TIME_NAMES)}, or the like: "
        "say --time-column, or --now (--names names columns that have no names)"
    )


def _domains(columns: Sequence[str]) -> tuple[str, ...]:
    """A domain's name for each column: what can't stand in one becomes '-'."""
    found = tuple(re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[:128] for name in columns)
    if not all(found) or len(set(found)) < len(found):
        raise MappingError(f"columns {_listed(columns)} would become domains {_listed(found)}")
    return found


def _listed(names: Sequence[str]) -> str:
    shown_ = ", ".join(shown(name) for name in names[:20])
    return shown_ + (f" and {len(names) - 20} more" if len(names) > 20 else "")
