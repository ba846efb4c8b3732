"""One transactional producer per processor and partition: all of a transaction, or none of it."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from agents.engine.builder import RawBuilder
from agents.engine.errors import Fenced, Refused
from topics.connection import ClientEndedError, abandon, ended, heard, tasks_of

log = logging.getLogger(__name__)

TRANSACTION_MS = 60_000
# A commit is answered before its markers are written, and a transaction that begins sooner is
# refused: aiokafka asks again 20 ms later. Where twelve partitions commit on two cores with their
# broker, most begin at the first attempt after so long (p99 of three processors: 186 ms at once,
# 117-122 after 12-15 ms, 136 after 20, 157 after 30).
MARKERS_S = 0.015
_STOP_S = 2.0
_LAST_WORD_S = 0.5
_FINAL = (
    kafka.MessageSizeTooLargeError,
    kafka.RecordTooLargeError,
    kafka.TopicAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
    kafka.InvalidTopicError,
)
_FENCED = (kafka.ProducerFenced, kafka.InvalidProducerEpoch)
WORDS = {  # for what a topic refuses: aiokafka's own tell what the error is, not what is to be done
    kafka.MessageSizeTooLargeError: "records larger than it takes (max.message.bytes)",
    kafka.RecordListTooLargeError: "records larger than a segment of it (segment.bytes)",
    kafka.TopicAuthorizationFailedError: "its ACLs lack Write",
    kafka.TransactionalIdAuthorizationFailed: "the ACLs of that id lack Write",
}

Sent = Mapping["asyncio.Future[Any]", str]  # a delivery -> its topic and partition


class Transactions:
    """Starting it fences whoever had this transactional id before. Any error makes it useless.

    aiokafka asks again without end where the broker doesn't answer, or isn't ready: the deadlines
    are here. Nothing that has begun is waited for once the client's own tasks have ended.
    """

    def __init__(
        self,
        bootstrap: str,
        transactional_id: str,
        security: dict[str, Any],
        answer_s: float = 20.0,
        commit_s: float = 30.0,
    ) -> None:
        """`answer_s`: for one answer of the broker; `commit_s`: for a start or a transaction."""
        self.transactional_id = transactional_id
        self._commit_s = commit_s
        self._committed = -MARKERS_S
        self._doing = ""
        self._sent: Sent = {}  # what is to be acknowledged
        self._failed = False
        self.place = ""  # topic and partition that failed last, where one did
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=transactional_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=TRANSACTION_MS,
            request_timeout_ms=int(answer_s * 1000),
            max_request_size=4_000_000,
            linger_ms=0,
            **security,
        )

    async def start(self) -> None:
        """Fence the previous owner; its open transaction is rolled back before this returns."""
        self._doing = "a producer id"
        await self._guard(self._producer.start())

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
        self._doing, self.place = "a producer id", ""
        await self._producer.begin_transaction()
        sent: dict[asyncio.Future[Any], str] = {}
        self._sent = {}
        try:
            for topic, partition, builder in sends:
                place = f"{topic}/{partition}"
                self._doing = f"room to send to {place}"
                one = await self._producer.send_batch(builder, topic, partition=partition)
                one.add_done_callback(heard)  # where several fail, the first is raised
                sent[one] = place
        except kafka.IllegalOperation:
            # The transaction has failed meanwhile, and with it what was sent: that says why.
            await self._delivered(sent)
            raise
        self._doing, self._sent = f"the acknowledgement of {len(sent)} record batches", sent
        await self._delivered(sent)
        self._doing, self._sent = "the end of the transaction", {}
        await self._producer.commit_transaction()

    async def _delivered(self, sent: Sent) -> None:
        if sent:
            await asyncio.wait(sent, return_when=asyncio.FIRST_EXCEPTION)
        for one, place in sent.items():
            if one.done() and (error := one.exception()) is not None:
                self.place = place
                raise error

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await self._within(work)
        except _FENCED as error:
            raise Fenced(f"{self.transactional_id}: another owner took over") from error
        except _FINAL as error:
            await self._abort()
            why = f"the broker refuses for good: {refused(error, self.place)}"
            raise Refused(f"{self.transactional_id}: {why}") from error

    async def _abort(self) -> None:
        """Undo what was sent: nobody may take this id for long, and readers would wait for it."""
        try:
            async with asyncio.timeout(_STOP_S):
                await self._producer.abort_transaction()
        except Exception as error:  # also where there is none: its rights lack already
            log.debug("%s: nothing is aborted: %r", self.transactional_id, error)

    async def _within(self, work: Coroutine[Any, Any, None]) -> None:
        """Until it is done, the time is over, or nobody works on it any more."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(heard)
        self._failed = True
        try:
            await asyncio.wait(
                {task, *tasks_of(self._producer).values()},
                timeout=self._commit_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not task.done() and (why := ended(self._producer)):
                # The sender fails what waited for it as it ends; the metadata task does not.
                await asyncio.wait({task}, timeout=_LAST_WORD_S)
                if not task.done():
                    raise ClientEndedError(f"{self.transactional_id}: {why}")
            if not task.done():
                raise kafka.KafkaTimeoutError(
                    f"{self.transactional_id}: not within {self._commit_s:g} s: {self._doing}"
                    f"{self._waited_for()}"
                )
        finally:
            task.cancel()
        task.result()
        self._failed = False

    def _waited_for(self) -> str:
        """What of a transaction isn't acknowledged, in words."""
        left = [place for one, place in self._sent.items() if not one.done()]
        return f", one for {left[0]} among them" if left else ""

    async def stop(self) -> None:
        """Close the connections. An open transaction is left to be fenced by the next owner.

        Never fails: the producer is given up anyway, and what it may leave open, the next owner
        rolls back.
        """
        try:
            if not self._failed:
                await asyncio.wait_for(self._producer.stop(), _STOP_S)
        except Exception as error:
            log.warning("closing producer %s: %r", self.transactional_id, error)
            self._failed = True
        if self._failed:
            abandon(self._producer)


def refused(error: BaseException, place: str) -> str:
    """What a broker refuses, in words: which topic, and why. `place`: empty where none is known."""
    said = WORDS.get(type(error), "")
    if not place and error.args:  # rights are asked for before anything is sent
        (what,) = error.args[:1]
        place = ", ".join(sorted(map(str, what))) if isinstance(what, set | list) else str(what)
    parts = (place, said, type(error).__name__ if said else str(error))
    return ": ".join(one for one in parts if one)
