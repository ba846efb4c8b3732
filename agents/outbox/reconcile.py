"""`soma outbox reconcile`: after PostgreSQL or Kafka went back in time, what is still to be sent.

Owns all shards and fences their relays, so that nothing is sent meanwhile. Reads from the topics
which events they hold, takes off the queue what was delivered, gives ids that Kafka has of other
events to nobody a second time, and notes in PostgreSQL that Kafka's last batches are its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from agents.engine.producer import Transactions
from agents.engine.security import security
from agents.outbox import RECEIPTS, SHARDS
from agents.outbox.agreement import agreed
from agents.outbox.out_of_step import CLOCKS, OutOfStepError, ahead, since
from agents.outbox.receipts import Receipt, Receipts
from agents.outbox.sent_events import ReadProgress, SentEvents
from agents.settings import Settings
from stores.names import schema_of
from stores.outbox_reconcile import Reconciler, Settled, Wish, reconciler
from stores.outbox_relay import RelayConnections, Standing, Statements
from stores.outbox_types import BadQuestion

EVER = datetime(1970, 1, 1, tzinfo=UTC)
FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the operator wants. `since` None: as the database's last batches say."""

    since: datetime | None
    actor: str
    dry: bool = False
    resend: bool = False
    leave: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What was read, found and done."""

    since: datetime | None
    read: ReadProgress
    outcome: Settled

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {"since": self.since} | asdict(self.read) | asdict(self.outcome)


async def reconcile(
    settings: Settings, topics: Mapping[str, int], asked: Asked,
    told: Callable[[ReadProgress], None], waits: Callable[[int], None],
) -> Done:  # fmt: skip
    """Compare and mend. `topics`: name -> partitions, of the receipts and all that users write.

    `told` hears how far it has read, `waits` of a shard that a relay has and is waited for.

    `StoreError` (`BadQuestion`: a `since` that leaves out what was sent), `BrokerError`, KafkaError
    of either client, `ReceiptsLost`.
    """
    schema = schema_of(settings.namespace)
    async with reconciler(settings.postgres(), schema) as session:
        await session.own(waits)
        if not asked.dry:
            await _fence(settings)
        papers = Receipts(settings, topics[RECEIPTS]).read()
        standing = Standing(*await session.batches(), 0)
        start = start_of(asked.since, datetime.now(UTC), papers, standing)
        public = {name: count for name, count in topics.items() if name != RECEIPTS}
        events = SentEvents(settings, public, start, f"/{schema}/outbox")
        await _note(session, events, told)
        wish = _wish(settings, papers, asked, start, events.read)
        return Done(start, events.read, await session.settle(wish, asked.dry))


async def disagreement(settings: Settings, topics: Mapping[str, int]) -> OutOfStepError | None:
    """What stops a shard, or would; also while relays work. Changes nothing.

    `StoreDown`, KafkaException, `ReceiptsLost`.
    """
    connections = RelayConnections(
        settings.postgres(), schema_of(settings.namespace), 1, Statements()
    )
    try:
        async with connections.one() as connection:
            await agreed(connection, Receipts(settings, topics[RECEIPTS]))
    except OutOfStepError as error:
        return error
    finally:
        await connections.close()
    return None


async def _fence(settings: Settings) -> None:
    """End what relays that lost their session may still have open in Kafka."""
    for shard in range(SHARDS):
        name = settings.prefix(f"outbox-{shard}")
        producer = Transactions(
            settings.bootstrap(), name, security(settings),
            settings.answer_timeout_s, settings.commit_timeout_s,
        )  # fmt: skip
        try:
            await producer.start()
        finally:
            await producer.stop()


async def _note(
    session: Reconciler, events: SentEvents, told: Callable[[ReadProgress], None]
) -> None:
    for records in events.records(told):
        await session.note(records)


def start_of(
    wanted: datetime | None, now: datetime, papers: Mapping[int, Receipt], standing: Standing
) -> datetime | None:
    """From when on to read the topics; None: from their beginnings.

    `BadQuestion` for a time after which something may have been sent already that the database
    doesn't know of: it would be taken for unsent, and Kafka's counts, taken over, for agreement.
    And where the two agree, unless a time is given.
    """
    lacks = ahead(papers, standing)
    latest = since(lacks, standing)
    if wanted is None:
        has = {shard: one.batch for shard, one in papers.items()}
        if all(has.get(shard, 0) == n for shard, n in standing.batches.items()):
            raise BadQuestion(
                "PostgreSQL and Kafka have the same batches: say --since when to compare"
            )
        return latest
    if lacks and wanted > (latest or EVER):
        sent = f"since {latest:{FORM}}" if latest else "at any time"
        give = "give that time or an earlier one, or " if latest else ""
        raise BadQuestion(
            f"--since {wanted:{FORM}} is too late: PostgreSQL may lack what was sent {sent}, and "
            f"it would be sent again; {give}leave --since out"
        )
    if wanted > now:
        raise BadQuestion(f"--since {wanted:{FORM}} is in the future: it is {now:{FORM}}")
    return wanted


def _wish(
    settings: Settings, papers: Mapping[int, Receipt], asked: Asked, start: datetime | None,
    read: ReadProgress,
) -> Wish:  # fmt: skip
    bounds = [at for at in (start, read.whole_since) if at is not None]
    return Wish(
        actor=asked.actor,
        since=start,
        batches={shard: one.batch for shard, one in papers.items()},
        top=max((max(one.ids, default=0) for one in papers.values()), default=0),
        certain_since=max(bounds) + CLOCKS if bounds else None,
        one_event=timedelta(days=settings.outbox.retention_days),
        resend=asked.resend,
        leave=asked.leave,
    )
