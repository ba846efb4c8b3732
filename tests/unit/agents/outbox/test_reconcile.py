"""From when on `soma outbox reconcile` reads the topics, and which times it refuses."""

from datetime import UTC, datetime, timedelta

import pytest

from agents.outbox.out_of_step import CLOCKS
from agents.outbox.receipts import Receipt
from agents.outbox.reconcile import EVER, start_of
from stores.outbox_relay import Standing
from stores.outbox_types import BadQuestion

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = AT + timedelta(hours=1)
NOW = AT + timedelta(hours=2)
FOUND = Standing({0: 4, 1: 7, 2: 0}, {0: AT, 1: LATER}, 0)
SAME = {0: 4, 1: 7}


def start(wanted: datetime | None, batches: dict[int, int]) -> datetime | None:
    return start_of(wanted, NOW, {n: Receipt([1], batch) for n, batch in batches.items()}, FOUND)


@pytest.mark.parametrize(
    ("batches", "latest"),
    [
        (SAME | {0: 5}, AT - CLOCKS),
        (SAME | {1: 9}, LATER - CLOCKS),
        (SAME | {0: 9, 1: 9}, AT - CLOCKS),
        ({0: 5, 1: 2}, AT - CLOCKS),  # and Kafka lacks batches, too
    ],
)
def test_nothing_later_than_what_the_database_may_lack(
    batches: dict[int, int], latest: datetime
) -> None:
    assert start(None, batches) == latest == start(latest, batches)
    assert start(EVER, batches) == EVER
    for late in (latest + timedelta(microseconds=1), NOW, NOW + timedelta(days=9)):
        with pytest.raises(BadQuestion, match=f"since {latest:%Y-%m-%dT%H:%M:%SZ}.*that time or"):
            start(late, batches)


def test_a_shard_of_which_the_database_took_nothing_needs_all() -> None:
    batches = SAME | {1: 9, 2: 1}
    assert start(None, batches) is None
    assert start(EVER, batches) == EVER
    with pytest.raises(BadQuestion, match="at any time, and it would be sent again; leave --since"):
        start(AT - timedelta(days=30), batches)


@pytest.mark.parametrize("batches", [SAME, {0: 4}, {0: 4, 1: 6}, {}])
def test_where_the_database_lacks_nothing_any_time_is_taken_but_the_future(
    batches: dict[int, int],
) -> None:
    assert start(NOW, batches) == NOW
    with pytest.raises(BadQuestion, match="2026-01-31T14:00:01Z is in the future: it is 2026"):
        start(NOW + timedelta(seconds=1), batches)


def test_where_they_agree_a_time_is_to_be_given() -> None:
    with pytest.raises(BadQuestion, match="say --since when"):
        start(None, SAME)
    assert start(None, {0: 4, 1: 6}) is None, "Kafka lacks batches: of any time"
