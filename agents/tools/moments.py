"""Points of time as people write them: numbers in some unit, or ISO 8601 text."""

import re
from datetime import UTC, datetime

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}  # microseconds in one
MICROS_MAX = 1 << 62
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What fromisoformat of Python 3.11 doesn't take: a month without its day.
MONTH = re.compile(r"(\d{4})-(\d{2})")
INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
DIGITS = re.compile(r"\d{4}-\d\d")  # what every text that we take begins with


def is_moment(text: str) -> bool:
    """Is it ISO 8601 text with dashes (a bare 20200101 is a number)?"""
    try:
        text_micros(text)
    except ValueError:
        return False
    return True


def text_micros(text: str) -> int:
    """Microseconds since 1970 of ISO 8601 text, UTC unless it says; ValueError otherwise."""
    text = text.strip()
    if not DIGITS.match(text):
        raise ValueError(f"{text[:40]!r} isn't a time such as 2026-01-31T12:00:00Z")
    month = MONTH.fullmatch(text)
    moment = datetime.fromisoformat(f"{text}-01" if month else text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delta = moment - EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def number_micros(value: float, unit: str = "s") -> int:
    """Microseconds of a number in a unit (s, ms, us); ValueError when it is beyond the clock."""
    if not abs(value) <= MICROS_MAX / UNITS[unit]:  # nor is NaN
        raise ValueError(f"time {str(value)[:24]} is out of range")
    return round(value * UNITS[unit])


def micros(cell: object, unit: str = "s") -> int:
    """Microseconds of a cell: a number in `unit`, or ISO 8601 text. ValueError otherwise."""
    if isinstance(cell, str):
        text = cell.strip()
        if DIGITS.match(text):
            return text_micros(text)
        try:
            value = int(text) if INTEGER.fullmatch(text) else float(text)
        except ValueError:
            raise ValueError(f"{text[:40]!r} is neither a number nor an ISO 8601 time") from None
        return number_micros(value, unit)
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        return number_micros(cell, unit)
    raise ValueError("there is no time" if cell is None else "a time is a number or a text")
