"""What PostgreSQL's errors mean, by SQLSTATE: one table for HTTP API, relay and projections.

A value that can't be held is refused for good; what passes, or what an operator mends, is waited
for; what is wrong in a statement of ours is a defect. An unknown state counts as passing: waiting
loses nothing. (Source: PostgreSQL 18, appendix A, and src/backend where a state has two meanings.)
"""

from enum import Enum, auto

import asyncpg


class Meaning(Enum):
    """What an error says, and with that what is to be done."""

    VALUE = auto()  # the value can't be held: refuse it, where it came from outside
    AGAIN = auto()  # two transactions in each other's way: the same again, at once
    LOCK = auto()  # another open transaction holds what this needs
    FULL = auto()  # the tenant has as many events pending as it may
    LACKING = auto()  # the schema isn't migrated
    AWAY = auto()  # it passes, or an operator mends it: an outage
    DEFECT = auto()  # a statement of ours is wrong


# A state has its own line, or that of its class.
MEANINGS = {
    **dict.fromkeys(("02", "03", "09", "0A", "0B", "0F", "0L", "0P", "0Z"), Meaning.DEFECT),
    **dict.fromkeys(("10", "20", "21", "24", "27", "2B", "2D", "2F"), Meaning.DEFECT),
    **dict.fromkeys(("34", "38", "39", "3B", "42", "P0"), Meaning.DEFECT),
    "08": Meaning.AWAY,  # the connection
    "22": Meaning.VALUE,
    "23": Meaning.VALUE,  # a constraint, of somebody's own
    "23505": Meaning.AWAY,  # an id given twice: the sequence is behind the table, after a restore
    "25": Meaning.AWAY,  # read-only (25006), or a transaction that was left open in the session
    "26": Meaning.AWAY,  # a prepared statement that a pooler forgot
    "28": Meaning.AWAY,  # a password or certificate that an operator changes
    "3D": Meaning.AWAY,  # the database isn't there (yet)
    "3F": Meaning.LACKING,
    "40": Meaning.AGAIN,
    "42501": Meaning.AWAY,  # rights that an operator grants
    "42703": Meaning.LACKING,
    "42883": Meaning.LACKING,
    "42P01": Meaning.LACKING,
    "42P05": Meaning.AWAY,  # a prepared statement of another of the pooler's clients
    "44": Meaning.VALUE,
    "53": Meaning.AWAY,  # memory, disk, connections
    "54": Meaning.AWAY,  # limits of the server: its NOTIFY queue is full (54000)
    "54001": Meaning.VALUE,  # nested deeper than the server's stack
    "55": Meaning.AWAY,  # something is in use, or not in the state for it
    "55P03": Meaning.LOCK,
    "57": Meaning.AWAY,  # cancelled, shutting down, starting
    "58": Meaning.AWAY,  # the server's disk
    "72": Meaning.AWAY,
    "F0": Meaning.AWAY,
    "HV": Meaning.AWAY,
    "P0001": Meaning.VALUE,  # RAISE in somebody's trigger
    "SO001": Meaning.FULL,
    "XX": Meaning.AWAY,  # the server's own defects, damaged files
}
# After these the session is as good as before.
_KEEPS_SESSION = {Meaning.VALUE, Meaning.AGAIN, Meaning.LOCK, Meaning.FULL}
TOOK_TOO_LONG = "57014"


def meaning(error: BaseException) -> Meaning:
    """What an error says. Without a SQLSTATE (the connection broke, no answer): AWAY."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return Meaning.AWAY  # a plan from before a migration: another session has none
    return of_state(getattr(error, "sqlstate", None) or "")


def of_state(state: str) -> Meaning:
    """What a SQLSTATE says."""
    return MEANINGS.get(state) or MEANINGS.get(state[:2], Meaning.AWAY)


def keeps_session(error: BaseException) -> bool:
    """Whether the session can be used on: it isn't to blame for the error.

    A session remembers what the role, the database or the server was set to when it began
    (`default_transaction_read_only`, above all): only another one sees that it is otherwise now.
    """
    return meaning(error) in _KEEPS_SESSION


def speaks_for_all(error: BaseException) -> bool:
    """Whether other sessions of the same age can be expected to fail alike."""
    state = getattr(error, "sqlstate", None)
    return bool(state) and state != TOOK_TOO_LONG and meaning(error) is Meaning.AWAY


def may_be_the_row(error: BaseException) -> bool:
    """Whether a row may be to blame for this: then it fails alone too, which is to be tried."""
    state = getattr(error, "sqlstate", None) or ""
    return meaning(error) is Meaning.VALUE or state[:2] in ("23", "54")
