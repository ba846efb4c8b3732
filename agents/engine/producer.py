"""One transactional producer per processor and partition: all of a transaction, or none of it."""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from agents.engine.builder import RawBuilder
from agents.engine.errors import Fenced, Refused

log = logging.getLogger(__name__)

TRANSACTION_MS = 60_000
REQUEST_MS = 20_000
# A commit is answered before its markers are written, and a transaction that begins sooner is
# refused: aiokafka asks again 20 ms later. Where twelve partitions commit on two cores with their
# broker, most begin at the first attempt after so long (p99 of three rooms: 186 ms at once, 117-122
# after 12-15 ms, 136 after 20, 157 after 30).
MARKERS_S = 0.015
_STOP_S = 2.0
_FINAL = (
    kafka.MessageSizeTooLargeError,
    kafka.RecordTooLargeError,
    kafka.TopicAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.InvalidTopicError,
)
_FENCED = (kafka.ProducerFenced, kafka.InvalidProducerEpoch)


class Transactions:
    """Starting it fences whoever had this transactional id before. Any error makes it useless."""

    def __init__(self, bootstrap: str, transactional_id: str, security: dict[str, Any]) -> None:
        self.transactional_id = transactional_id
        self._committed = -MARKERS_S
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=transactional_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_MS,
            request_timeout_ms=REQUEST_MS,
            max_request_size=4_000_000,
            linger_ms=0,
            **security,
        )

    async def start(self) -> None:
        """Fence the previous owner; its open transaction is rolled back before this returns."""
        await self._guard(asyncio.wait_for(self._producer.start(), REQUEST_MS / 1000.0))

    async def commit(self, sends: Iterable[tuple[str, int, RawBuilder]]) -> None:
        """Send these record batches in one transaction and commit it.

        Raises Fenced, Refused, or another KafkaError after which the outcome is unknown: recover.
        """
        await self._guard(self._commit(sends))
        self._committed = time.monotonic()

    def unready_s(self) -> float:
        """For how long the broker probably isn't ready for the next transaction; else 0."""
        return max(0.0, self._committed + MARKERS_S - time.monotonic())

    async def _commit(self, sends: Iterable[tuple[str, int, RawBuilder]]) -> None:
        await self._producer.begin_transaction()
        sent: list[asyncio.Future[Any]] = []
        try:
            for topic, partition, builder in sends:
                sent.append(await self._producer.send_batch(builder, topic, partition=partition))
        except kafka.IllegalOperation:
            # The transaction has failed meanwhile, and with it what was sent: that says why.
            await self._delivered(sent)
            raise
        await self._delivered(sent)
        await self._producer.commit_transaction()

    @staticmethod
    async def _delivered(sent: list[asyncio.Future[Any]]) -> None:
        for delivery in asyncio.as_completed(sent):
            await delivery

    async def _guard(self, work: Any) -> None:
        try:
            await work
        except _FENCED as error:
            raise Fenced(f"{self.transactional_id}: another owner took over") from error
        except _FINAL as error:
            raise Refused(
                f"{self.transactional_id}: the broker refuses for good: {error!r}"
            ) from error

    async def stop(self) -> None:
        """Close the connections. An open transaction is left to be fenced by the next owner."""
        try:
            await asyncio.wait_for(self._producer.stop(), _STOP_S)
        except (kafka.KafkaError, TimeoutError, OSError) as error:
            # The producer is given up anyway; what it may leave open, the next owner rolls back.
            log.info("closing producer %s: %r", self.transactional_id, error)
