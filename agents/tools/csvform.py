"""How a CSV file is written: its delimiter, its decimal mark, whether it has a header.

Many lines must agree, never the first alone. A reading is a delimiter; it is the better the more
rows have as many cells as most, and the more cells are numbers, times or empty. What has two
readings is refused, naming the options that choose: a wrong guess would be wrong without a word.

The general sniffers were looked at and aren't used (csv.Sniffer, CleverCSV, DuckDB's): they answer
always. They take the colon of times or a letter for a delimiter (CleverCSV #35, #52; pandas
#28458), a list in a cell (CPython #119123), or drop what doesn't fit (DuckDB #25827).
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from agents.tools.numbers import COMMA, MISSING, NUMBER, POINT, THOUSANDS
from agents.tools.output import counted
from agents.tools.source import TableError
from agents.tools.times import YEAR_LAST, is_moment, shown, unit_of

DELIMITERS = ",;\t|"
ALONE = "\x1f"  # stands for no delimiter: rows of one cell
SEP = re.compile(r'"?sep=(\\t|.)"? *', re.IGNORECASE)  # Excel's own first line
# Two numbers, or one with a decimal comma.
PAIR = re.compile(r"(?P<whole>[+-]?\d*),(?P<part>\d*)(?:[eE][+-]?\d+)?")
COUNTED = 5  # rows that count up: as many leave no doubt that they count
LEAST = 2  # rows that decide, where they leave no choice


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of a file; None or empty: as it looks."""

    delimiter: str | None = None
    decimal: str | None = None
    header: bool | None = None
    names: tuple[str, ...] = ()
    day_first: bool | None = None
    skip_lines: int = 0
    encoding: str = "utf-8"
    final: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is written."""

    delimiter: str
    width: int  # cells of a row
    header: bool
    names: tuple[str, ...] = ()  # where a comment or the user gives them
    decimal: str | None = None  # None: no number so far has a mark
    day_first: bool | None = None  # of dates such as 03/31/2024; None: none was clear
    sep: bool = False  # the first line says the delimiter and is no row


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a delimiter makes of the rows."""

    delimiter: str
    rows: list[list[str]]  # the first may be a header
    width: int  # cells of most rows but the first
    fits: float  # the share of those that have so many
    known: float  # of their cells: numbers, times, or empty
    strange: tuple[str, ...]  # the cells that are none of these

    @property
    def body(self) -> list[list[str]]:
        """The rows behind the first that have the usual width."""
        rest = self.rows[1:] or self.rows
        return [row for row in rest if len(row) == self.width]

    @property
    def usual(self) -> bool:
        """Has the first row as many cells as the others, but for empty ones at an end?"""
        first, width = self.rows[0], self.width
        spare = [first[width:], *(row[len(first) :] for row in self.body)]
        return len(first) == width or not any(map(any, spare))

    @property
    def agreed(self) -> bool:
        """Have all rows as many cells?"""
        return self.fits == 1.0 and self.usual

    def worth(self, rivals: Sequence["_Reading"]) -> float:
        good = self.fits * (self.known + 0.01 * (self.width > 1))
        return good - self.stained(rivals) - 0.5 * (not self.usual)

    def stained(self, rivals: Sequence["_Reading"]) -> bool:
        """Does a cell that means nothing hold a delimiter by which the rows agree as well?"""
        if self.delimiter == ALONE:
            return False
        marks = [one.delimiter for one in rivals if one is not self and one.agreed]
        return any(mark in cell for mark in marks for cell in self.strange)

    @property
    def clear(self) -> bool:
        """Does nothing speak against it? Times alone are no series."""
        times = self.width == 1 and any(is_moment(row[0]) for row in self.body)
        return self.agreed and self.known == 1.0 and not times


def form_of(lines: Sequence[str], told: Told, complete: bool) -> Form | None:
    """The form of a file that begins with these lines; None: more lines are needed.

    `complete`: there are no more, or none that may be looked at. `TableError` if it is unclear.
    """
    sep = SEP.fullmatch(lines[0].rstrip("\r\n")) if lines else None
    rest = lines[1:] if sep else lines
    rows = [line for line in rest if line.strip() and not line.startswith("#")]
    if not complete and len(rows) < LEAST:
        return None
    if not rows:
        raise TableError("it holds nothing but comments and empty lines")
    known = told.delimiter or (sep and sep[1].replace("\\t", "\t"))
    reading = _best(rows, known, told, complete)
    if reading is None:
        return None
    try:
        header = _header(reading, told)
    except TableError:
        if complete:
            raise
        return None  # more rows may tell
    body = reading.body if header else [row for row in reading.rows if len(row) == reading.width]
    decimal, unsure = (told.decimal, False) if told.decimal else _decimal(body)
    day_first, unclear = (told.day_first, False) if told.day_first is not None else _day(body)
    if (unsure or unclear) and not complete:
        return None
    names = told.names if told.names or header else _commented(rest, reading, told)
    return Form(
        reading.delimiter, reading.width, header, names, decimal, day_first, sep is not None
    )


def _best(lines: Sequence[str], known: str | None, told: Told, complete: bool) -> _Reading | None:
    """The reading that the rows agree on; None if more rows may tell."""
    if known:
        found = _reading(lines, known)
        return found if complete or (found.agreed and len(found.rows) >= LEAST) else None
    used = [one for one in DELIMITERS if any(one in line for line in lines)]
    readings = [_reading(lines, one) for one in (*used, ALONE)]
    clear = [one for one in readings if one.clear]
    if clear and clear[-1].delimiter == ALONE and used == [COMMA]:
        chosen = _pair(clear, told)
        if chosen or not complete:
            return chosen
        pair = next(row[0] for row in clear[-1].rows if COMMA in row[0])
        raise TableError(
            f"{shown(pair)} may be two columns, or one number with a decimal comma: say "
            "--delimiter , or --decimal ,"
        )
    if not complete:
        wide = [one for one in readings if one.width > 1]
        sure = clear or [one for one in wide if one.agreed and one.known and not one.stained(wide)]
        enough = len(sure) == 1 and len(sure[0].rows) >= LEAST and (clear or len(wide) == 1)
        return sure[0] if enough else None
    worth = {one.delimiter: one.worth(readings) for one in readings}
    first = max(readings, key=lambda one: worth[one.delimiter])
    if not first.fits:
        raise TableError("no row is whole: a quote stands within a cell, or isn't closed yet")
    if first.delimiter == ALONE and not first.known and any(one.known for one in readings):
        raise TableError("the rows don't agree on a delimiter: say --delimiter")
    return first


def _reading(lines: Sequence[str], delimiter: str) -> _Reading:
    rows, bad = _parsed(lines, delimiter)
    rest = rows[1:] or rows
    widths = Counter(map(len, rest))
    width = max(widths, key=lambda one: (widths[one], one))
    cells = [cell for row in rest if len(row) == width for cell in row]
    strange = tuple(cell for cell in cells if not is_data(cell))
    return _Reading(
        delimiter,
        rows,
        width,
        0.0 if rows == [[]] else widths[width] / (len(rest) + bad),
        1.0 - len(strange) / max(1, len(cells)),
        strange,
    )


def _parsed(lines: Sequence[str], delimiter: str) -> tuple[list[list[str]], int]:
    """The rows that are some, [[]] if none is; and how many are none."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=delimiter == " ")
    rows, bad = [], 0
    while True:
        try:
            rows.append([cell.strip() for cell in next(reader)])
        except csv.Error as error:
            bad += "unexpected end" not in str(error)  # that one goes on behind these lines
        except StopIteration:
            return [row for row in rows if row] or [[]], bad


def _pair(clear: Sequence[_Reading], told: Told) -> _Reading | None:
    """Which it is where each row is as `1,5`, two numbers or one; None if both may be.

    `clear` ends with the reading as one; the one before it, if any, is that as two.
    """
    two, one = clear[0] if len(clear) > 1 else None, clear[-1]
    if told.decimal == COMMA or len(told.names) == 1:
        return one
    if told.decimal == POINT or len(told.names) == 2:
        return two
    if two and PAIR.fullmatch(one.rows[0][0]) is None:
        return two  # the header is two names
    found = [PAIR.fullmatch(row[0]) for row in one.body]
    pairs = [(row["whole"], row["part"]) for row in found if row]
    if two and any(not part for _, part in pairs):
        return two  # `1,` is a number and nothing
    if any(part[:1] == "0" and part != "0" for _, part in pairs):
        return one  # nobody writes a whole number so
    if _counts(pairs) or all(unit_of(whole) for whole, _ in pairs):
        return two
    return None if two else one


def _counts(pairs: Sequence[tuple[str, str]]) -> bool:
    """Do the first numbers count the rows, and the second not as evenly?"""
    if len(pairs) < COUNTED or not all(whole.isdecimal() for whole, _ in pairs):
        return False
    first = [int(whole) for whole, _ in pairs]
    evenly = len({int(b or 0) - int(a or 0) for (_, a), (_, b) in pairwise(pairs)}) == 1
    return first[0] <= 2 and all(b - a == 1 for a, b in pairwise(first)) and not evenly


def _header(reading: _Reading, told: Told) -> bool:
    """Is the first row one of names? TableError if it may as well be the first of the numbers."""
    if told.header is not None or told.names:
        return bool(told.header)
    first, body = reading.rows[0], reading.body
    columns = [[row[k] for row in body] for k in range(reading.width)]
    if len(reading.rows) < 2:
        return not all(map(is_data, first))
    if not reading.usual:
        if len(first) > reading.width and not any(map(is_data, filter(None, first))):
            return True  # names, and too short rows below them
        raise TableError(
            f"the first row has {counted(len(first), 'cell')} and those below it {reading.width}: "
            "--skip-lines passes over lines, --header or --no-header says what it is"
        )
    pairs = [(cell, column) for cell, column in zip(first, columns, strict=False) if cell]
    numeric = [cell for cell, column in pairs if _mostly_data(column)]
    strange = [cell for cell in numeric if not is_data(cell)]
    if len(strange) == len(numeric):
        return bool(pairs)  # names over numbers, or nothing but words
    words = [(cell, column) for cell, column in pairs if not is_data(cell)]
    if not strange and (
        any(is_moment(one) or _fraction(one) for one in numeric)
        or all(_shape(cell) in set(map(_shape, column)) for cell, column in words)
    ):
        return False
    raise TableError(
        f"its first row ({_listed(first)}) looks like the next ({_listed(body[0])}): say --header "
        "if it holds the columns' names, or --no-header"
    )


def _commented(lines: Sequence[str], reading: _Reading, told: Told) -> tuple[str, ...]:
    """The columns' names in the comment above the first row, if they stand there."""
    above = ""
    for line in lines:
        if line.strip() and not line.startswith("#"):
            break
        above = line if line.startswith("#") else above
    if not above or told.header is not None:
        return ()
    ((*names,),) = csv.reader([above.lstrip("#").strip()], delimiter=reading.delimiter) or ((),)
    fit = len(names) == reading.width > 1 and not any(map(is_data, filter(None, names)))
    return tuple(name.strip() for name in names) if fit else ()


def _decimal(body: Sequence[Sequence[str]]) -> tuple[str | None, bool]:
    """The decimal mark, None if no number has a sure one; and whether more rows may tell."""
    marked = [cell for row in body for cell in row if not cell.isalnum() and NUMBER.fullmatch(cell)]
    commas = [cell for cell in marked if COMMA in cell]
    sure = [cell for cell in commas if not THOUSANDS.fullmatch(cell)]
    points = any(POINT in cell for cell in marked)
    if commas and not points:
        return (COMMA, False) if sure else (None, True)
    return (POINT if points and not commas else None), False


def _day(body: Sequence[Sequence[str]]) -> tuple[bool | None, bool]:
    """Whether days come before months, None if no date tells; and whether more rows may."""
    found = [YEAR_LAST.match(cell) for row in body for cell in row]
    dates = [(int(one[1]), int(one[3])) for one in found if one and one[2] != "."]
    first = any(a > 12 for a, _ in dates)
    last = any(b > 12 for _, b in dates)
    if first != last:
        return first, False
    return None, any(a != b for a, b in dates) and not first


def is_data(cell: str) -> bool:
    """Is it a number with either decimal mark, a time, or a missing value?"""
    return bool(
        NUMBER.fullmatch(cell)
        or cell.lower() in MISSING
        or cell.lower().lstrip("+-") in ("inf", "infinity")
        or is_moment(cell)
    )


def _mostly_data(column: Sequence[str]) -> bool:
    return 2 * sum(map(is_data, column)) >= len(column)


def _fraction(cell: str) -> bool:
    return bool(NUMBER.fullmatch(cell)) and (not cell.isdecimal())


def _shape(cell: str) -> str:
    return re.sub(r"[a-z]", "a", re.sub(r"[A-Z]", "A", re.sub(r"\d", "0", cell)))


def _listed(cells: Sequence[str]) -> str:
    text = ", ".join(cells)
    return text if len(text) <= 60 else text[:57] + "..."
