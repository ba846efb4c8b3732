"""Times as files have them: ISO 8601 with or without a zone, seconds to nanoseconds, or a format.

All become microseconds since 1970 (UTC). `Times` reads a column of which each time is to be one
that the processors take; `micros` any single cell, a number or ISO 8601 text. Dates may have their
year last: which of the others is the day is told, or follows from the first that leaves no choice.
"""

import re
import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from topics import moments

TS_MIN = 946_684_800_000_000  # 2000-01-01: what is older is a dead letter in every processor
TS_AHEAD = 3_600_000_000  # and so is what is more than an hour ahead
_AUTO_MAX = 4_102_444_800_000_000  # 2100-01-01: up to here the units' ranges don't meet
UNITS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
FORMATS = "auto, iso, s, ms, us, ns, or a format such as '%d.%m.%Y %H:%M'"
MICROS_MAX = 1 << 62
COMPACT = re.compile(r"20[0-9]{2}(0[1-9]|1[0-2])([0-2][0-9]|3[01])")  # a date, not a number
INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
# What fromisoformat passes over, and a file with another delimiter may have: 01:00:00;-10
SLOPPY = re.compile(r"[^-+0-9A-Za-z:., ]|[.,:](?![0-9])")
# What is meant as a date: ISO 8601, or with its parts between slashes, points or dashes.
DATE = re.compile(r"\d{4}-\d\d|\d{4}[/.-]\d{1,2}[/.-]\d{1,2}|\d{1,2}([/.-])\d{1,2}\1\d{4}")
YEAR_FIRST = re.compile(r"(\d{4})[/.-](\d{1,2})[/.-](\d{1,2})(?!\d)")
YEAR_LAST = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?!\d)")
CLOCK = re.compile(
    r"[T ] *(?P<hour>\d{1,2}):(?P<rest>\d\d(?::\d\d(?:[.,]\d{1,9})?)?)"
    r"(?: *(?P<half>[AaPp])\.?[Mm]\.?)?(?P<zone> *(?:Z|UTC|GMT|[+-]\d\d(?::?\d\d)?))?"
)
# What fromisoformat of Python 3.11 doesn't take: a month without its day.
MONTH = re.compile(r"\d{4}-\d{2}")


# Usual names of a column of times. One of the first, wherever it stands, before one of the others,
# which may as well be a number among numbers.
TIME_NAMES = ("time", "ts", "timestamp", "datetime", "date")
COUNT_NAMES = (
    "t", "", "index", "second", "seconds", "day", "month", "year", "hour", "minute", "period",
)  # fmt: skip


def time_name(names: Sequence[str]) -> str | None:
    """The name of these that a column of times has; None: none of them is usual."""
    for usual in (TIME_NAMES, COUNT_NAMES):
        for name in names:
            if name.strip().lower() in usual:
                return name
    return None


class BadTimeError(ValueError):
    """A cell isn't a time, or isn't one that can be folded; the text says why."""


class Dates:
    """Which comes first in 03/31/2024, the day or the month: one order holds for a file.

    With points it is the day (DIN 5008 and its like). `None`: the first that leaves no choice says.
    """

    def __init__(self, day_first: bool | None = None) -> None:
        self.day_first = day_first

    def iso(self, text: str) -> tuple[int, bool]:
        """Microseconds of a date in any of these forms, and whether it has no zone; ValueError."""
        try:
            if SLOPPY.search(text):
                raise ValueError(text)
            return moments.iso(text)
        except ValueError:
            if MONTH.fullmatch(text):
                return moments.iso(f"{text}-01")
            found = YEAR_FIRST.match(text) or YEAR_LAST.match(text)
            if found is None:
                raise
            clock = _clock(text[found.end() :])
            moments.iso(f"2000-01-01{clock}")  # or it is no time, whatever the date's order
            if found.re is YEAR_FIRST:
                year, month, day = found.groups()
            else:
                year, (month, day) = found[4], self._order(text, found)
            return moments.iso(f"{year}-{int(month):02}-{int(day):02}{clock}")

    def _order(self, text: str, found: re.Match[str]) -> tuple[str, str]:
        """Month and day of a date that ends with its year."""
        first, mark, second, _ = found.groups()
        if mark == ".":
            return second, first
        if self.day_first is None and first != second:
            likely = [int(first) <= 12, int(second) <= 12]
            if all(likely):
                why = f"{shown(text)} may have the day or the month first: say --day-first or "
                raise UnclearDateError(why + "--month-first")
            if not any(likely):
                raise ValueError(text)
            self.day_first = likely[1]
        return (second, first) if self.day_first else (first, second)


def _clock(text: str) -> str:
    """A time of the day as ISO 8601 has it; ValueError if it is none."""
    if not text.strip():
        return ""
    found = CLOCK.fullmatch(text)
    if found is None:
        raise ValueError(text)
    hour, half = int(found["hour"]), (found["half"] or "").lower()
    if half:
        if not 1 <= hour <= 12:
            raise ValueError(text)
        hour = hour % 12 + 12 * (half == "p")
    return f"T{hour:02}:{found['rest']}{(found['zone'] or '').strip()}"


class UnclearDateError(ValueError):
    """A date has two readings; the text says how to choose."""


class Times:
    """Reads the times of one column.

    `auto` takes the first time's form for all: a number in the range of exactly one unit between
    2000 and 2100, or ISO 8601.
    """

    def __init__(self, form: str = "auto", shift: int = 0, dates: Dates | None = None) -> None:
        if form not in ("auto", "iso", *UNITS) and "%" not in form:
            raise ValueError(f"{form!r} is no time format; there are {FORMATS}")
        self.form = form
        self.shift = shift  # microseconds added to each
        self.dates = dates or Dates()
        self.naive = False  # whether one came without a zone: UTC was assumed

    def read(self, cell: object) -> int:
        """Microseconds since 1970, shifted; `BadTimeError` if it is none or out of range."""
        return self.checked(self.micros(cell) + self.shift)

    def micros(self, cell: object) -> int:
        """Microseconds since 1970, as they stand; `BadTimeError` if it is no time."""
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            raise BadTimeError(f"{shown(cell)} is no time")
        if cell == "" or (isinstance(cell, str) and not cell.strip()):
            raise BadTimeError("is empty")
        if self.form == "auto":
            self.form = unit_of(cell) or "iso"
        return self._micros(cell)

    def checked(self, ts: int) -> int:
        """The time itself; `BadTimeError` if no processor would take it."""
        if ts < TS_MIN:
            raise BadTimeError(f"{_text(ts)} is before 2000-01-01")
        if ts > time.time_ns() // 1000 + TS_AHEAD:
            raise BadTimeError(f"{_text(ts)} is more than an hour ahead")
        return ts

    def _micros(self, cell: str | int | float) -> int:
        unit = UNITS.get(self.form)
        try:
            if unit is not None and isinstance(cell, int):
                return _whole(cell, self.form)
            if unit is not None:
                return round(_number(cell) * unit)
            text = str(cell).strip()
            if self.form == "iso":
                ts, naive = self.dates.iso(text)
            else:
                parsed = datetime.strptime(text, self.form)  # noqa: DTZ007 (UTC then)
                ts, naive = moments.micros(parsed)
        except UnclearDateError as error:
            raise BadTimeError(str(error)) from None
        except (ValueError, OverflowError):
            raise BadTimeError(f"{shown(cell)} is no time ({_named(self.form)})") from None
        self.naive |= naive
        return ts


def is_moment(text: str, dates: Dates | None = None) -> bool:
    """Is it text meant as a date (a bare 20200101 is a number)?"""
    try:
        text_micros(text, dates)
    except UnclearDateError:
        return True
    except ValueError:
        return False
    return True


def text_micros(text: str, dates: Dates | None = None) -> int:
    """Microseconds of text that begins with a date, UTC unless it says; ValueError otherwise."""
    text = text.strip()
    if not DATE.match(text):
        raise ValueError(f"{shown(text)} isn't a time such as 2026-01-31T12:00:00Z")
    try:
        return (dates or Dates()).iso(text)[0]
    except UnclearDateError as error:
        if dates is not None:
            raise
        why = f"{shown(text)} may have the day or the month first: write it as 2026-01-31"
        raise UnclearDateError(why) from error
    except ValueError:
        raise ValueError(f"{shown(text)} isn't a time such as 2026-01-31T12:00:00Z") from None


def number_micros(value: float, unit: str = "s") -> int:
    """Microseconds of a number in a unit; ValueError when it is beyond the clock."""
    if not abs(value) <= MICROS_MAX / UNITS[unit]:  # nor is NaN
        raise ValueError(f"time {str(value)[:24]} is out of range")
    return _whole(value, unit) if isinstance(value, int) else round(value * UNITS[unit])


def is_compact(cell: object) -> bool:
    """Is it a date without dashes, 20260131, as text or as a number?"""
    return COMPACT.fullmatch(str(cell).strip()) is not None


def micros(cell: object, unit: str = "s", dates: Dates | None = None) -> int:
    """Microseconds of a cell: a number in `unit`, or a date. ValueError otherwise.

    `iso`: in a file with compact dates numbers are dates too.
    """
    if unit == "iso":
        return (dates or Dates()).iso(str(cell).strip())[0]
    if isinstance(cell, str):
        text = cell.strip()
        if DATE.match(text):
            return text_micros(text, dates)
        try:
            value = int(text) if INTEGER.fullmatch(text) else float(text)
        except ValueError:
            raise ValueError(f"{shown(text)} is neither a number nor an ISO 8601 time") from None
        return number_micros(value, unit)
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return number_micros(cell, unit)
    raise ValueError("there is no time" if cell is None else "a time is a number or a text")


def unit_of(cell: object) -> str:
    """The one unit in which a number is a time between 2000 and 2100; empty for all else."""
    if not isinstance(cell, str | int | float):
        return ""
    try:
        number = _number(cell)
    except (ValueError, OverflowError):
        return ""
    for name, unit in UNITS.items():
        if TS_MIN <= number * unit <= _AUTO_MAX:
            return name
    return ""


def _whole(cell: int, form: str) -> int:
    return cell // 1000 if form == "ns" else cell * int(UNITS[form])


def _number(cell: str | int | float) -> float:
    if isinstance(cell, str) and ("_" in cell or not cell.isascii()):
        raise ValueError(cell)  # Python would take 1_000 and other scripts' digits
    return float(cell)


def _named(form: str) -> str:
    return {"iso": "ISO 8601"}.get(form, f"a number of {form}" if form in UNITS else form)


def _text(ts: int) -> str:
    try:
        return (moments.EPOCH + timedelta(microseconds=ts)).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{ts} µs"


def shown(cell: object) -> str:
    """A cell as an error shows it: on one line, at most 40 characters."""
    text = repr(cell)
    return text if len(text) <= 40 else text[:37] + "..."
