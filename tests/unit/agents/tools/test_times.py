"""Times of a file's column: each form, each unit, and what no processor would take."""

import time
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine import checks
from agents.tools.times import (
    TS_AHEAD,
    TS_MIN,
    BadTimeError,
    Dates,
    Times,
    is_moment,
    text_micros,
)

NOW = time.time_ns() // 1000
micros = st.integers(TS_MIN, NOW)


def test_the_limits_are_the_processors() -> None:
    assert (TS_MIN, TS_AHEAD) == (checks.TS_MIN, checks.TS_AHEAD)


@given(micros, st.integers(-23, 23))
def test_iso_is_read_as_datetime_writes_it(ts: int, hours: int) -> None:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts)
    moved = when.astimezone(timezone(timedelta(hours=hours)))
    for form in ("auto", "iso"):
        times = Times(form)
        assert times.read(f" {moved.isoformat()} ") == ts
        assert not times.naive


@given(micros)
def test_a_time_without_a_zone_is_utc_and_said(ts: int) -> None:
    when = datetime(1970, 1, 1) + timedelta(microseconds=ts)  # noqa: DTZ001
    times = Times()
    assert times.read(str(when)) == ts
    assert times.naive


@given(micros, st.booleans())
def test_units_are_told_apart(ts: int, text: bool) -> None:
    for form, number, exact in (
        ("s", ts // 1_000_000, ts // 1_000_000 * 1_000_000),
        ("ms", ts // 1_000, ts // 1_000 * 1_000),
        ("us", ts, ts),
        ("ns", ts * 1_000, ts),
    ):
        times = Times()
        assert times.read(str(number) if text else number) == exact
        assert times.form == form
        assert Times(form).read(number) == exact


@given(micros)
def test_fractions_of_a_second_are_kept_to_the_microsecond(ts: int) -> None:
    assert abs(Times("s").read(f"{ts // 1_000_000}.{ts % 1_000_000:06}") - ts) <= 1


def test_a_format_of_ones_own() -> None:
    times = Times("%d.%m.%Y %H:%M")
    assert times.read("31.01.2026 12:00") == 1_769_860_800_000_000
    with pytest.raises(BadTimeError, match="'2026-01-31' is no time"):
        times.read("2026-01-31")
    with pytest.raises(ValueError, match="no time format"):
        Times("epoch")


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        (None, "is no time"),
        (True, "is no time"),
        ([1], "is no time"),
        ("soon", "'soon' is no time \\(ISO 8601\\)"),
        ("nan", "is no time"),
        ("inf", "is no time"),
        ("1_700_000_000", "is no time"),
        ("1999-12-31T23:59:59Z", "before 2000-01-01"),
        ("9999-01-01", "more than an hour ahead"),
        (10**400, "is no time"),
    ],
)
def test_what_is_no_time(cell: object, why: str) -> None:
    with pytest.raises(BadTimeError, match=why):
        Times().read(cell)


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("03/31/2024 00:00", "2024-03-31T00:00"),
        ("31/03/2024 7:05:01,5", "2024-03-31T07:05:01.5"),
        ("3/31/2024 12:30 AM", "2024-03-31T00:30"),
        ("3/31/2024 12:30:59 p.m. UTC", "2024-03-31T12:30:59"),
        ("31.3.2024 24:00", "2024-04-01T00:00"),
        ("2024/03/31 00:00:00 +02:00", "2024-03-30T22:00"),
        ("2024-3-1 1:00", "2024-03-01T01:00"),
        ("05/05/2024", "2024-05-05"),
        ("12-31-2023 23:59:60", "2024-01-01"),
    ],
)
def test_dates_as_people_write_them(text: str, iso: str) -> None:
    assert Times().micros(text) == Times().micros(iso) == text_micros(text)
    assert is_moment(text)


@given(st.dates(date(2000, 1, 1), date(2025, 1, 1)), st.sampled_from("/-"), st.booleans())
def test_one_order_of_day_and_month_holds_for_all(day: date, mark: str, first: bool) -> None:
    """What has two readings is refused before one is sure, and what has the other one after it."""
    parts = (day.day, day.month) if first else (day.month, day.day)
    text = f"{parts[0]:02}{mark}{parts[1]:02}{mark}{day.year}"
    assert Times(dates=Dates(first)).micros(text) == Times().micros(day.isoformat())
    times = Times()
    if day.day <= 12 and day.day != day.month:
        with pytest.raises(BadTimeError, match="say --day-first or --month-first"):
            times.micros(text)
    times.micros(f"25{mark}01{mark}2020" if first else f"01{mark}25{mark}2020")
    assert times.micros(text) == Times().micros(day.isoformat())
    with pytest.raises(BadTimeError, match="is no time"):
        times.micros(f"01{mark}25{mark}2020" if first else f"25{mark}01{mark}2020")


@pytest.mark.parametrize(
    "text",
    [
        "13/13/2024",
        "2024-01-28T01:00:00;-10",
        "01/02/2024 12:00|-1",
        "2024-01-28T01:00:00,-10",
        "31.03.24",
        "1.5",
        "3/31/2024 13:00 PM",
        "31/02/2024",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert not is_moment(text)
    with pytest.raises(BadTimeError, match="is no time"):
        Times().micros(text)


def test_the_first_form_holds_for_all() -> None:
    times = Times()
    times.read("1700000000")
    with pytest.raises(BadTimeError, match="is no time \\(a number of s\\)"):
        times.read("2026-01-31")
    with pytest.raises(BadTimeError, match="ahead"):
        times.read("1700000000000")


@given(micros)
def test_a_shift_moves_what_is_read(ts: int) -> None:
    times = Times("us", shift=NOW - ts)
    assert times.read(ts) == NOW


@given(st.text(max_size=20) | st.floats() | st.integers())
def test_anything_is_a_time_or_refused(cell: object) -> None:
    try:
        assert TS_MIN <= Times().read(cell) <= time.time_ns() // 1000 + TS_AHEAD
    except BadTimeError as error:
        assert str(error)
