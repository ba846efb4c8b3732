"""When PostgreSQL and Kafka agree on what was sent, and which of them went back when they don't."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from agents.outbox.digests import DIGEST
from agents.outbox.out_of_step import (
    CLOCKS,
    DATABASE,
    KAFKA,
    OutOfStepError,
    ahead,
    behind,
    compare,
    since,
)
from agents.outbox.receipts import Receipt
from stores.outbox_relay import Standing

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def standing(top: int, *batches: int) -> Standing:
    """A database; its shard k took its last batch k minutes after AT."""
    taken = {k: AT + timedelta(minutes=k) for k, n in enumerate(batches) if n}
    return Standing(dict(enumerate(batches)), taken, top)


def paper(batch: int, *rows: tuple[int, int]) -> Receipt:
    digests = np.array([digest for _, digest in rows], DIGEST).tobytes()
    return Receipt([number for number, _ in rows], batch, digests)


AGREE = [
    ({}, standing(0, 0, 0)),
    ({0: paper(1, (5, 1))}, standing(5, 1, 0)),
    ({0: paper(2, (5, 50))}, standing(9, 1, 0)),  # its relay died before it was taken off
    ({0: Receipt([5])}, standing(5, 7)),  # of a relay that doesn't count
]
ROWS = {5: 50, 6: 60}


@pytest.mark.parametrize(("receipts", "found"), AGREE)
def test_these_agree(receipts: dict[int, Receipt], found: Standing) -> None:
    compare(found, receipts, found, ROWS)


def test_others_may_go_on_while_the_two_are_looked_at() -> None:
    compare(standing(9, 4, 6), {0: paper(5), 1: paper(7)}, standing(9, 7, 9), {})
    with pytest.raises(OutOfStepError):
        compare(standing(9, 7, 9), {0: paper(5), 1: paper(7)}, standing(9, 7, 9), {})


@pytest.mark.parametrize(
    ("receipts", "found", "name", "text"),
    [
        ({0: paper(3)}, standing(9, 1), DATABASE, "has batch 1 of shard 0, Kafka batch 3"),
        ({1: paper(3)}, standing(9, 1, 1), DATABASE, "has batch 1 of shard 1, Kafka batch 3"),
        ({0: paper(2)}, standing(9, 0), DATABASE, "has batch 0 of shard 0, Kafka batch 2"),
        ({1: paper(1, (40, 1))}, standing(39, 0, 1), DATABASE, "event 40 was sent"),
        ({1: Receipt([40])}, standing(39, 0, 0), DATABASE, "given out ids up to 39"),
        ({1: paper(4, (5, 50), (6, 1))}, standing(9, 0, 3), DATABASE, "another event under this"),
        ({1: paper(4, (5, 50), (7, 1))}, standing(9, 0, 3), DATABASE, "no event under this"),
        ({}, standing(9, 4), KAFKA, "batch 4 of shard 0, Kafka no receipt"),
        ({0: paper(3)}, standing(9, 4), KAFKA, "batch 4 of shard 0, Kafka batch 3"),
    ],
)
def test_these_dont(receipts: dict[int, Receipt], found: Standing, name: str, text: str) -> None:
    with pytest.raises(OutOfStepError, match="until `soma outbox reconcile") as raised:
        compare(found, receipts, found, ROWS)
    assert raised.value.name == name and text in str(raised.value)
    assert ("--since TIME" in str(raised.value)) == (name == KAFKA), "people know, or nobody"


def test_it_says_from_when_on_the_two_may_differ() -> None:
    receipts = {0: paper(9), 1: paper(9), 2: paper(3)}
    found = standing(9, 9, 4, 1)
    assert behind(receipts, found) == [1, 2]
    assert since([1, 2], found) == AT + timedelta(minutes=1) - CLOCKS
    assert since([1, 3], found) is None and since([], found) is None
    with pytest.raises(OutOfStepError, match="--since 2026-01-31T12:00:00Z"):
        compare(found, receipts, found, {})
    assert ahead({0: paper(9), 1: paper(3), 2: paper(2), 3: Receipt([5])}, found) == [2]
    with pytest.raises(OutOfStepError, match="--since 2026-01-31T11:59:00Z"):
        compare(found, {0: paper(10), 1: paper(9)}, found, {})  # what is unheard of counts too
