"""Single cells as times: a number in a unit, or ISO 8601 text with dashes."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tools.times import is_moment, micros, number_micros, text_micros

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(
    st.datetimes(timezones=st.integers(-14, 14).map(lambda h: timezone(timedelta(hours=h)))).filter(
        lambda t: 2 <= t.year <= 9998
    )
)
def test_iso_text_is_its_microsecond(moment: datetime) -> None:
    assert text_micros(moment.isoformat()) == (moment - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970-02", 31 * 86_400),
        ("1970-01-01 00:00:01", 1),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T01:00:00+01:00", 0),
        (" 1969-12-31T23:59:59Z ", -1),
    ],
)
def test_forms_of_text(text: str, seconds: float) -> None:
    assert is_moment(text)
    assert micros(text) == seconds * 1_000_000


@given(st.integers(-(10**12), 10**12))
def test_a_number_counts_in_its_unit(value: int) -> None:
    assert micros(value, "us") == value
    assert micros(f"{value}", "ms") == value * 1_000
    assert number_micros(value) == value * 1_000_000


@pytest.mark.parametrize("text", ["", "soon", "2020-13", "2020-02-30", "20200101", "12:00"])
def test_what_is_no_time_in_text(text: str) -> None:
    assert not is_moment(text)
    with pytest.raises(ValueError):
        text_micros(text)


@pytest.mark.parametrize("cell", [None, True, "1e300", "nan", 1e300, float("inf"), [1]])
def test_what_is_no_time(cell: object) -> None:
    with pytest.raises(ValueError):
        micros(cell)
