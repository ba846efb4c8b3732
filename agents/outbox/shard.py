"""One shard's life: take it, then batch after batch, and sleep while nothing waits.

Any error of Kafka makes the producer useless and the outcome unknown: fence anew and go by the
receipt. An error of the database after the commit: the same. Until one of them says so, nothing
else of the shard is sent.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException

from agents.engine.errors import Fenced, Refused
from agents.engine.producer import Transactions
from agents.outbox import RECEIPTS
from agents.outbox.agreement import agreed
from agents.outbox.batch import Prepared
from agents.outbox.doze import Doze
from agents.outbox.out_of_step import OutOfStepError
from agents.outbox.receipts import Receipt, ReceiptsLost, receipt
from agents.outbox.relay_resources import DRY_S, RelayResources
from agents.services.backoff import Backoff
from stores.errors import StoreDown
from stores.outbox_relay import Keeper, MovedError, Picked, RelayConnection, TooHeavyError

BYTES_WANTED = 8 << 20  # of a batch, as PostgreSQL sends it; limited by what rows took before
BYTES_MAX = 64 << 20
BUSY_ROWS = 100  # from here on writers needn't notify
# A transaction costs as much as a hundred rows or more: where rows come quickly the next batch
# waits until there are more of them. A few rows wait for the broker only (`unready_s`): sooner,
# with refusals asked again after 4 ms instead of aiokafka's 20, there are more and smaller ones
# (after 5 ms instead of 15, on a busy machine: p99 from commit to consumer 118-124 ms, not 52-99).
GATHER_S_ROW = 0.0003
GATHER_S_MAX = 0.06
SLOW_S = 0.02
PASSING = (
    KafkaError,
    KafkaException,
    StoreDown,
    Fenced,
    Refused,
    ReceiptsLost,
    TimeoutError,
    OSError,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Handled:
    """What one look at the queue came to."""

    rows: int  # handled: sent, refused or gone
    more: bool = False  # others had no turn, or there are many


class Shard:
    """`run` until `stop`; the keeper's session owns the shard all the while."""

    def __init__(self, number: int, resources: RelayResources, keeper: Keeper) -> None:
        self.number = number
        self._doze = Doze(number, keeper)
        self.running = False  # taken: fenced, and by the receipt
        self._resources = resources
        self._stopped = asyncio.Event()
        self._producer: Transactions | None = None
        self._after = ""  # the tenant that had its turn last
        self._aside: Sequence[str] = ()  # tenants left out until then
        self._aside_until = 0.0
        self._limit = resources.settings.outbox.batch
        self._row_bytes = 1000.0
        self._backoff = Backoff()
        self._suspect: tuple[int, str] | None = None  # what the broker refused, alone
        self._batch = 0  # the last one, in Kafka and in PostgreSQL
        self.waits = ""  # for what it needs to be taken, in words
        self.out_of_step: OutOfStepError | None = None  # why it ended by itself

    @property
    def bell(self) -> asyncio.Event:
        """Rung when something may wait."""
        return self._doze.bell

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Finish the batch at hand, then end."""
        self._stopped.set()
        self.bell.set()

    async def run(self) -> None:
        """Own the shard until `stop`. What passes is tried again; a defect is raised.

        Ends by itself, `out_of_step`, where PostgreSQL and Kafka don't agree on what was sent.
        """
        try:
            while not self.stopping:
                try:
                    await self._take()
                    self._backoff.answered()
                    self.waits = ""
                    while not self.stopping:
                        await self._go_on()
                except PASSING as error:
                    await self._failed(error)
        except OutOfStepError as error:
            self.out_of_step = error
        finally:
            self.running = False
            await self._doze.end()
            await self._drop()
        await self._doze.busy()

    async def _failed(self, error: Exception) -> None:
        self.running = False
        self.waits = str(error) if isinstance(error, ReceiptsLost) else ""
        self._resources.metrics.retaken.inc()
        await self._drop()
        first = self._backoff.failed()
        (log.warning if first else log.info)("shard %d is taken anew: %r", self.number, error)
        await self._pause(self._backoff.left)

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def _take(self) -> None:
        """Fence the last owner; what its last transaction sent goes off the queue."""
        resources = self._resources
        settings = resources.settings
        name = settings.prefix(f"outbox-{self.number}")
        self._producer = Transactions(
            settings.bootstrap(), name, resources.security,
            settings.answer_timeout_s, settings.commit_timeout_s,
        )  # fmt: skip
        await self._producer.start()
        if self.stopping:
            return
        async with resources.connections.one() as connection:
            receipts, standing = await agreed(connection, resources.receipts)
            self._batch = standing.batches.get(self.number, 0)
            if (paper := receipts.get(self.number)) is not None:
                await self._go_by(paper, connection)
        if self._suspect is not None:
            (one, error), self._suspect = self._suspect, None
            await self._take_off([], {one: (False, f"refused: {error}")})
        self.running = True

    async def _go_by(self, paper: Receipt, connection: RelayConnection) -> None:
        """Take off what the receipt lists, unless PostgreSQL knows of that batch."""
        was = self._batch
        if not 0 < paper.batch <= was:
            self._batch = paper.batch or was
            await connection.sent(self.number, paper.ids, was, self._batch)

    async def _go_on(self) -> None:
        self.bell.clear()
        async with self._resources.turns:
            turn = await self._turn()
        if turn.rows:
            self._backoff.answered()
            if turn.rows >= BUSY_ROWS:
                await self._doze.busy()
            await self._gather(0 if turn.more else turn.rows)
        elif not turn.more:
            await self._rest()

    async def _gather(self, rows: int) -> None:
        """Let rows come together: while the broker isn't ready, and the longer the more came."""
        assert self._producer is not None
        pause = max(self._producer.unready_s(), min(GATHER_S_MAX, rows * GATHER_S_ROW))
        await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """For so long, or until it is told to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _rest(self) -> None:
        """Nothing waits; but tenants without allowance are asked for again."""
        aside = self._aside_until > time.monotonic()
        await self._doze.rest(DRY_S if aside or self._resources.dry() else None)

    async def _turn(self) -> Handled:
        resources, began = self._resources, time.monotonic()
        places = max(1, min(self._limit, int(BYTES_WANTED / self._row_bytes)))
        most = min(places, resources.settings.outbox.batch_per_tenant)
        picked, ids = await self._pick(places, most)
        if not ids:
            return Handled(0, picked.more)
        try:
            async with resources.connections.one() as connection:
                copied = await connection.fetch(ids, BYTES_MAX)
        except TooHeavyError as error:
            return await self._too_heavy(ids, error)
        batch = await resources.prepare(copied, len(ids))
        self._row_bytes = max(100.0, batch.bytes / len(ids))
        if batch.sent:
            await self._commit(batch)
        await self._settle(ids, batch)
        self._limit = min(2 * self._limit, resources.settings.outbox.batch)
        resources.metrics.seconds.observe(time.monotonic() - began)
        return Handled(len(ids) - batch.held, picked.more or 2 * len(ids) >= most)

    async def _pick(self, places: int, most: int) -> tuple[Picked, list[int]]:
        """The next batch's ids, in their order; `most` of one tenant."""
        resources, began = self._resources, time.monotonic()
        dry = [*resources.dry(), *self._aside] if self._aside_until > began else resources.dry()
        async with resources.connections.one() as connection:
            picked = await connection.pick(self.number, self._after, places, most, dry)
            if picked.ids and picked.batch != self._batch:
                raise MovedError(f"shard {self.number} isn't at batch {self._batch}")
            self._after = picked.last
            took = time.monotonic() - began
            if picked.held and took > SLOW_S:
                # Very many rows behind a failed one: look through them a third of the time.
                self._aside, self._aside_until = picked.held, began + 3 * took
            return picked, await self._allowed(connection, picked)

    async def _allowed(self, connection: RelayConnection, picked: Picked) -> list[int]:
        """What the tenants' allowances let through, in the order of the ids.

        Taken off before it is sent: a crash may cost a tenant allowance, never give it more.
        """
        quota = self._resources.settings.outbox.quota_per_minute
        if not quota or not picked.ids:
            return sorted(one for ids in picked.ids.values() for one in ids)
        wanted = {tenant: len(ids) for tenant, ids in picked.ids.items()}
        may = await connection.reserve(wanted, quota)
        for tenant, count in wanted.items():
            if may.get(tenant, 0) < count:
                self._resources.spent(tenant)
        return sorted(
            one for tenant, ids in picked.ids.items() for one in ids[: may.get(tenant, 0)]
        )

    async def _commit(self, batch: Prepared) -> None:
        assert self._producer is not None
        resources = self._resources
        what = Receipt(batch.sent, self._batch + 1, batch.digests)
        paper = receipt(self.number, what, time.time_ns() // 1000)
        place = resources.settings.topic(RECEIPTS), resources.receipts.partition(self.number), paper
        try:
            await self._producer.commit([*batch.sends, place])
        except Refused as error:
            # Of many rows nobody knows which; the half of them next time, until it stands alone.
            self._limit = max(1, len(batch.sent) // 2)
            if len(batch.sent) == 1:
                self._suspect = batch.sent[0], str(error.__cause__ or error)
            raise
        resources.metrics.batches.inc()

    async def _settle(self, ids: list[int], batch: Prepared) -> None:
        """Take off the queue what was sent; what was refused waits, or has failed."""
        known = {*batch.sent, *batch.refused}
        # A row of the queue without its event: somebody deleted that.
        gone = [] if len(known) + batch.held == len(ids) else sorted({*ids} - {*batch.rows})
        if gone:
            log.error("shard %d: events deleted while they waited: %s", self.number, gone[:20])
        why = {one: (refusal.final, refusal.error) for one, refusal in batch.refused.items()}
        await self._take_off([*batch.sent, *gone], why, committed=bool(batch.sent))
        relayed = self._resources.metrics.relayed
        for result, count in (("sent", len(batch.sent)), ("gone", len(gone))):
            if count:
                relayed.labels(result).inc(count)

    async def _take_off(
        self, sent: list[int], why: dict[int, tuple[bool, str]], committed: bool = False
    ) -> None:
        own = self._resources.settings.outbox
        found: dict[int, str] = {}
        batches = self._batch, self._batch + committed
        async with self._resources.connections.one() as connection:
            if not why:
                await connection.sent(self.number, sent, *batches)
            else:
                retry = own.retries, own.retry_first_s, own.retry_longest_s
                found = await connection.refused(self.number, sent, batches, why, retry)
        self._batch = batches[1]
        self._resources.touched = True
        for one, status in found.items():
            self._resources.metrics.relayed.labels(
                "failed" if status == "failed" else "retried"
            ).inc()
            log.warning("event %d is %s: %s", one, status, why[one][1])

    async def _too_heavy(self, ids: list[int], error: TooHeavyError) -> Handled:
        self._limit = max(1, len(ids) // 2)
        if len(ids) == 1:
            await self._take_off([], {ids[0]: (True, f"too_large: {error}")})
        return Handled(1)
