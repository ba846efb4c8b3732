"""Whose a record is, by its key and by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.history.finding import Place, Record

PLACE = Place("cog.predictor.updates", 0, 7)
names = st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True)


def record(key: bytes | None, said: str | None) -> Record:
    fields = None if said is None else {"tenant": said}
    return Record(PLACE, "01234567-0-7", 0, key, b"", fields)


@given(key=names, said=names, asked=names)
def test_a_record_is_a_tenants_if_key_and_field_say_so(key: str, said: str, asked: str) -> None:
    one = record(key.encode(), said)
    assert one.of(asked) == (asked == key == said)
    assert one.of(key) == one.of(said) == (key == said)
    assert one.of(None), "operators see all"


@pytest.mark.parametrize(
    ("key", "said", "whose"),
    [
        (b"a", None, {"a"}),  # it can't be read
        (None, "a", {"a"}),
        (b"", "", set()),
        (None, None, set()),
        (b"a", "b", {"a", "b"}),
        (b"\xff", "a", {"\ufffd", "a"}),
    ],
)
def test_what_says_nothing_or_two_things(
    key: bytes | None, said: str | None, whose: set[str]
) -> None:
    one = record(key, said)
    assert one.tenants == whose
    assert one.of("a") == (whose == {"a"})
