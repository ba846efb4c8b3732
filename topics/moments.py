"""Moments as ISO 8601 text, and what Python's reader of it leaves out.

These are lawful and common: 24:00:00 is the end of a day, a second 60 is a leap second (it counts
as the moment behind it, so that no time goes back), and "UTC" or "GMT" is a zone.
"""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
_UTC = re.compile(r"\s*(?:UTC|GMT)$")
_MIDNIGHT = re.compile(r"([T ])24:00(:00(?:[.,]0+)?)?(?![0-9:.,])")
_LEAP = re.compile(r":59:60(?:[.,][0-9]+)?(?![0-9])")


def iso(text: str) -> tuple[int, bool]:
    """Microseconds since 1970, and whether it lacks a zone (UTC is assumed). ValueError."""
    try:
        return micros(datetime.fromisoformat(text))
    except ValueError:
        plain = _UTC.sub("+00:00", text)
        plain, midnights = _MIDNIGHT.subn(r"\g<1>00:00\2", plain)
        plain, leaps = _LEAP.subn(":59:59", plain)
        if plain == text:
            raise
        more = timedelta(days=midnights, seconds=leaps)
        ts, naive = micros(datetime.fromisoformat(plain))
        return ts + more // MICRO, naive


def micros(moment: datetime) -> tuple[int, bool]:
    """Microseconds since 1970, and whether it lacks a zone (UTC is assumed)."""
    naive = moment.tzinfo is None
    return ((moment.replace(tzinfo=UTC) if naive else moment) - EPOCH) // MICRO, naive
