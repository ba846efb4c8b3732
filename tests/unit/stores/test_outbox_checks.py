"""What is asked of the outbox, checked without one."""

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores import outbox_checks as checks
from stores.errors import Locked, NotMigrated, StoreDown
from stores.outbox_statements import listing
from stores.outbox_types import BadEvent, BadQuestion, Defect, Event, TooManyPending


@given(st.lists(st.integers(1, 50), min_size=1, max_size=100))
def test_ids_are_each_once_in_their_order(ids: list[int]) -> None:
    found = checks.ids_of(ids)
    assert len(set(found)) == len(found) and set(found) == set(ids)
    assert found == sorted(found, key=ids.index)


@given(st.text(st.characters(exclude_characters="\0*"), min_size=1, max_size=100))
def test_only_a_star_at_the_end_means_anything(text: str) -> None:
    assert checks.prefix_of(text) == (text, False)
    assert checks.prefix_of(text + "*") == (text, True)
    assert checks.prefix_of(text + "*" + text) == (text + "*" + text, False)


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300))
def test_an_event_is_taken_or_its_place_named(topic: str, tenant: str, key: str) -> None:
    event = Event(topic, tenant, "{}", key)
    try:
        columns = checks.batch([Event("t", "a", "1", "k"), event])
    except BadEvent as bad:
        assert bad.index == 1
    else:
        assert [column[1] for column in columns[:4]] == [topic, tenant, "{}", key]
        assert 1 <= len(key.encode()) <= 256 and topic.isascii() and tenant.isascii()


def test_arguments_are_numbered_as_they_are_given() -> None:
    text = listing("failed", True, "prefix", True)
    assert "q.tenant_id = $4 AND starts_with(e.topic, $5) AND q.created_at < $6" in text
    assert "$4" not in listing(None, False, "")
    assert "ORDER BY e.id LIMIT" in listing("sent", True, "", False, True)


@pytest.mark.parametrize(
    ("state", "meant"),
    [
        ("SO001", TooManyPending),
        ("22P02", BadEvent),
        ("54001", BadEvent),
        ("57014", StoreDown),
        ("55P03", Locked),
        ("42P01", NotMigrated),
        ("42883", NotMigrated),
        ("3F000", NotMigrated),
        ("53300", StoreDown),
        ("54000", StoreDown),
        ("55006", StoreDown),
        ("25006", StoreDown),
        ("23505", StoreDown),
        ("23514", BadEvent),
        ("40001", StoreDown),
        ("58030", StoreDown),
        ("21000", Defect),
        ("42601", Defect),
        ("99999", StoreDown),
    ],
)
def test_what_the_servers_errors_mean(state: str, meant: type[Exception]) -> None:
    error = asyncpg.PostgresError.new({"C": state, "M": "outbox: the tenant a.b has 9"})
    found = checks.raised(error, ["a", "a.b"])
    assert type(found) is meant
    assert not isinstance(found, TooManyPending) or found.tenant == "a.b"


def test_no_error_shows_an_address() -> None:
    for error in (ValueError("postgresql://u:Secret@h"), OSError(111, "refused"), TimeoutError()):
        assert "Secret" not in str(checks.raised(error, []))
    with pytest.raises(BadQuestion):
        checks.within("limit", 501, 1, 500)


def test_without_events_a_bad_value_is_a_defect_of_ours() -> None:
    for state in ("22003", "22P02", "21000", "42601", "42804"):
        error = asyncpg.PostgresError.new({"C": state, "M": "no"})
        assert type(checks.raised(error, [])) is Defect
