"""Numbers with a point or a comma: one mark in one file, and what isn't sure isn't guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tools.numbers import NoNumberError, Numbers

numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(numbers, st.sampled_from([".", ","]), st.booleans())
def test_a_number_is_read_as_it_was_written_or_refused(
    value: float, decimal: str, told: bool
) -> None:
    text = repr(value).replace(".", decimal)
    one = Numbers(decimal if told else None)
    try:
        assert one.read(text) == value
    except NoNumberError as error:
        assert not told and decimal == "," and "--decimal says" in str(error)


@given(st.lists(st.text("0123456789.,+-e_", max_size=8)))
def test_no_file_has_two_decimal_marks(texts: list[str]) -> None:
    one = Numbers()
    marks = set()
    for text in texts:
        try:
            one.read(text)
        except NoNumberError:
            continue
        marks |= set(text) & set(".,")
    assert len(marks) <= 1


@pytest.mark.parametrize(
    ("decimal", "text", "why"),
    [
        (None, "1,234", "1.234 or 1234? --decimal says"),
        (None, "-12,345", "-12.345 or -12345?"),
        (".", "20,64", "a decimal comma? --decimal ,"),
        (",", "20.64", "it has a point, where commas are"),
        (None, "1.234,5", ""),
        (None, "1,234.5", ""),
        (None, "1,234,567", ""),
        (".", "1_000", ""),
        (".", "٣", ""),
        (",", "1 234,5", ""),
    ],
)
def test_what_may_be_another_number_is_named(decimal: str | None, text: str, why: str) -> None:
    with pytest.raises(NoNumberError) as caught:
        Numbers(decimal).read(text)
    assert str(caught.value).startswith(f"{text!r} isn't a number")
    assert why in caught.value.hint


def test_what_no_thousand_is_written_like_is_a_fraction() -> None:
    for text, value in (("0,125", 0.125), ("20,64", 20.64), ("1234,567", 1234.567), (",5", 0.5)):
        one = Numbers()
        assert one.read(text) == value
        assert one.read("1,234") == 1.234
