"""Coordinates: one canonical text for all ways of writing, and ids that follow from it."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.coordinates import TENANTS, canonical, event_id, memory_id

NUMBERS = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8)


@given(NUMBERS)
def test_numbers_are_canonical_and_lossless(numbers: list[float]) -> None:
    text = canonical(numbers)
    assert canonical(text) == text
    assert [float(part) for part in text.split(",")] == numbers
    assert canonical(" , ".join(f"{n!r}" for n in numbers)) == text
    assert canonical([float(f"{n:.17g}") for n in numbers]) == text


@given(st.text(max_size=80))
def test_canonical_text_stays_as_it_is(text: str) -> None:
    try:
        once = canonical(text)
    except ValueError:
        return
    assert canonical(once) == once == once.strip()


@pytest.mark.parametrize("text", ["", " ", "a\nb", "a\0b", "\ud800", "x" * 513, "1e999"])
def test_what_is_no_coordinate(text: str) -> None:
    with pytest.raises(ValueError, match=r"has|is"):
        canonical(text)


@given(st.text(max_size=20), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_ids_are_those_of_the_standard_library(tenant: str, text: str) -> None:
    tenant = tenant.encode("utf-8", "replace").decode()
    own = uuid.uuid5(TENANTS, tenant)
    assert memory_id(tenant, text) == str(uuid.uuid5(own, text))
    assert event_id(tenant, text) == str(uuid.uuid5(own, f"event\x1f{text}"))


def test_ids_are_fixed_for_ever() -> None:
    """They are keys of stored memories: this test may never be changed."""
    own = uuid.uuid5(TENANTS, "acme")
    assert memory_id("acme", "1,2.5") == str(uuid.uuid5(own, "1,2.5"))
    assert memory_id("acme", "1,2.5") == "46e274b6-19b1-5a9a-ae5a-50858bd60aae"
    assert event_id("acme", "k") != memory_id("acme", "k")
    assert canonical([-0.0]) == canonical("0") == "0"
    assert canonical("e\u0301") == "\u00e9"
