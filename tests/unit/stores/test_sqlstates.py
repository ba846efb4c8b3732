"""The table of SQLSTATEs: every class that PostgreSQL has is decided, as it is meant."""

import asyncpg
import pytest

from stores.sqlstates import (
    MEANINGS,
    Meaning,
    keeps_session,
    may_be_the_row,
    meaning,
    of_state,
    speaks_for_all,
)

STATES = sorted(
    one.sqlstate
    for one in vars(asyncpg).values()
    if isinstance(one, type) and issubclass(one, asyncpg.PostgresError) and one.sqlstate
)


def error(state: str) -> asyncpg.PostgresError:
    found = asyncpg.PostgresError.new({"C": state, "M": "said"})
    assert isinstance(found, asyncpg.PostgresError)
    return found


def test_every_class_that_postgresql_has_is_decided() -> None:
    classes = {state[:2] for state in STATES} - {"00", "01"}
    assert len(STATES) > 200 and classes - MEANINGS.keys() == set()


def test_what_passes_is_never_a_verdict() -> None:
    for state in STATES:
        if state[:2] in ("08", "25", "28", "53", "55", "57", "58", "XX"):
            assert of_state(state) in (Meaning.AWAY, Meaning.LOCK), state
        if of_state(state) is Meaning.VALUE:
            assert state[:2] in ("22", "23", "44") or state in ("54001", "P0001"), state


@pytest.mark.parametrize(
    ("state", "kept", "for_all"),
    [
        ("22P02", True, False),
        ("55P03", True, False),
        ("40001", True, False),
        ("SO001", True, False),
        ("25006", False, True),
        ("42501", False, True),
        ("53100", False, True),
        ("57014", False, False),
        ("21000", False, False),
    ],
)
def test_a_session_that_may_be_to_blame_is_given_up(state: str, kept: bool, for_all: bool) -> None:
    assert keeps_session(error(state)) is kept
    assert speaks_for_all(error(state)) is for_all


def test_without_a_state_it_is_an_outage() -> None:
    for one in (OSError(), TimeoutError(), asyncpg.InterfaceError("closed")):
        assert meaning(one) is Meaning.AWAY and not keeps_session(one) and not speaks_for_all(one)
    assert meaning(asyncpg.InvalidCachedStatementError("plan")) is Meaning.AWAY


def test_which_errors_a_row_is_tried_alone_for() -> None:
    assert all(map(may_be_the_row, map(error, ("22003", "23505", "23514", "54000", "P0001"))))
    assert not any(map(may_be_the_row, map(error, ("25006", "53100", "57014", "40001", "42501"))))
