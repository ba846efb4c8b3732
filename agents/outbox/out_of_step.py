"""Whether PostgreSQL and Kafka agree on what was sent of the outbox. Pure.

Both count a shard's batches, Kafka in the receipt that is in a batch's own transaction, PostgreSQL
where its rows leave the queue, after that. So at any moment the receipt's number is PostgreSQL's,
or the next one. Anything else means that one of the two went back in time: restored from a backup,
a standby that lagged and took over, made anew. Then rows may wait that were sent, and ids may be
given out again; or what was sent is gone. No relay can mend that by itself without sending
something twice or under the id of another event, which can't be taken back. So it stops.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from agents.outbox.receipts import Receipt
from stores.outbox_relay import Standing

DATABASE = "database_went_back"
KAFKA = "kafka_went_back"
NAMES = (DATABASE, KAFKA)
RESTORED = "it was restored, or a standby that lagged took over"
CLOCKS = timedelta(seconds=60)  # the database's and the brokers' may differ by so much


class OutOfStepError(Exception):
    """PostgreSQL or Kafka went back in time; `name` says which, the text what to do."""

    def __init__(self, name: str, why: str, since: datetime | None) -> None:
        # What Kafka went back to only people know; what the database lacks, all of it at worst.
        ever = " --since TIME" if name == KAFKA else ""
        at = f" --since {since:%Y-%m-%dT%H:%M:%SZ}" if since else ever
        super().__init__(
            f"{name}: {why}. Nothing is sent until `soma outbox reconcile{at}` has compared the "
            "two (ops/RESTORE.md)"
        )
        self.name = name


def behind(receipts: Mapping[int, Receipt], standing: Standing) -> list[int]:
    """Shards of which Kafka has more than the one batch that PostgreSQL may lack."""
    return [
        shard for shard, one in sorted(receipts.items())
        if one.batch > standing.batches.get(shard, 0) + 1
    ]  # fmt: skip


def ahead(receipts: Mapping[int, Receipt], standing: Standing) -> list[int]:
    """Shards of which Kafka has batches that PostgreSQL doesn't know of."""
    return [n for n, one in sorted(receipts.items()) if one.batch > standing.batches.get(n, 0)]


def since(shards: list[int], standing: Standing) -> datetime | None:
    """From when on Kafka may have what PostgreSQL doesn't know of; None: from the beginning."""
    if not shards or any(shard not in standing.taken_at for shard in shards):
        return None
    return min(standing.taken_at[shard] for shard in shards) - CLOCKS


def compare(
    before: Standing, receipts: Mapping[int, Receipt], after: Standing, found: Mapping[int, int]
) -> None:
    """`OutOfStepError` unless the two agree on all shards.

    The database was asked before the receipts were read, and after: relays may go on meanwhile, and
    each side may only be behind what the other had earlier. `found`: id -> digest of the rows that
    the database has of those in `unheard`.
    """
    start = since(ahead(receipts, after), after)
    if late := behind(receipts, after):
        one = late[0]
        raise OutOfStepError(
            DATABASE,
            f"PostgreSQL has batch {after.batches.get(one, 0)} of shard {one}, Kafka batch "
            f"{receipts[one].batch}: {RESTORED}",
            start,
        )
    top = max((max(one.ids, default=0) for one in receipts.values()), default=0)
    if top > after.top:
        raise OutOfStepError(
            DATABASE,
            f"event {top} was sent, and PostgreSQL has given out ids up to {after.top}: {RESTORED}",
            start,
        )
    for shard in unheard(receipts, after):
        _compare_rows(shard, receipts[shard], found, start)
    for shard, known in before.batches.items():
        mine = receipts.get(shard)
        if known and (mine is None or 0 < mine.batch < known):
            has = "no receipt" if mine is None else f"batch {mine.batch}"
            raise OutOfStepError(
                KAFKA,
                f"PostgreSQL has batch {known} of shard {shard}, Kafka {has}: its log was lost, "
                "restored or made anew",
                None,
            )


def unheard(receipts: Mapping[int, Receipt], standing: Standing) -> list[int]:
    """Shards of which Kafka has a batch that PostgreSQL hasn't heard of: its rows wait there."""
    return [n for n, one in receipts.items() if one.batch == standing.batches.get(n, 0) + 1]


def _compare_rows(
    shard: int, paper: Receipt, found: Mapping[int, int], start: datetime | None
) -> None:
    """The rows of an unheard batch wait in the queue as they were, for nothing else takes them."""
    for number, digest in paper.rows().items():
        if found.get(number) == digest:
            continue
        has = "another event" if number in found else "no event"
        raise OutOfStepError(
            DATABASE,
            f"event {number} was sent with batch {paper.batch} of shard {shard}, and PostgreSQL "
            f"has {has} under this id: {RESTORED}",
            start,
        )
