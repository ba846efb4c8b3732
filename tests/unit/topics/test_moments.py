"""Moments as text: as Python reads them, and what ISO 8601 has besides."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.moments import EPOCH, iso

moments = st.datetimes(datetime(1900, 1, 2), datetime(2100, 1, 1))  # noqa: DTZ001


@given(moments, st.sampled_from(["", "Z", "+00:00", " UTC", "UTC", " GMT"]))
def test_a_zone_may_be_called_utc(moment: datetime, zone: str) -> None:
    wanted = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    assert iso(moment.isoformat() + zone) == (wanted, not zone)


@given(st.dates(), st.sampled_from(["T24:00", " 24:00:00", "T24:00:00.000"]))
def test_a_day_ends_at_24(day: object, end: str) -> None:
    assert iso(f"{day}{end}")[0] == iso(f"{day}")[0] + 86_400_000_000


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.999Z", "2017-01-01T00:00:00Z"),  # so that none goes back behind it
        ("2017-01-01T08:59:60+09:00", "2017-01-01T00:00:00Z"),
        ("2016-12-31 23:59:60 UTC", "2017-01-01T00:00:00Z"),
        ("2026-01-31T24:00:00+01:00", "2026-01-31T23:00:00Z"),
    ],
)
def test_leap_seconds_and_midnights(text: str, same: str) -> None:
    assert iso(text) == iso(same)


@pytest.mark.parametrize(
    "text",
    ["", "UTC", "2026-01-31T24:00:01", "2026-01-31T24:01", "2026-01-31T24:00:00.5", "soon UTC",
     "2026-01-31T12:30:60", "2026-01-31T23:59:61", "2026-01-31T25:00", "2026-01-31T12:00 CET"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        iso(text)
