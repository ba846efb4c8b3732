"""Requests for sleep on their way to Kafka, and the answers that soma.audit has for who waits.

One producer, and while somebody waits one consumer of the audit's end, for all requests of the
process. Both are looked at by the event loop; what blocks is done in threads.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from agents.api.sleep_log import (
    ANSWER_S,
    AUDIT,
    REQUEST_SCHEMA,
    REQUESTS,
    AwayError,
    answer_in,
    places_of,
)
from agents.settings import Settings
from topics import codec
from topics.broker import BrokerError
from topics.chosen_ids import insist
from topics.reading import PASSED, ends_of
from topics.registry import RegistryError

POLL_S = 0.005
READ_MAX = 500
DELIVERY_S = 4.0
IDLE_S = 10.0  # that the audit is followed with nobody waiting
FETCH_WAIT_MS = 100
Answer = dict[str, Any]

logger = logging.getLogger(__name__)


class Requests:
    """Writes requests. A producer that fails once is replaced: it may have lost its broker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: Producer | None = None

    async def write(self, record: dict[str, Any]) -> None:
        """Returns when it is written. AwayError: it isn't, as far as we know."""
        if self._producer is None:
            try:
                await asyncio.wait_for(asyncio.to_thread(insist, self._settings), DELIVERY_S)
            except (BrokerError, RegistryError, TimeoutError) as error:
                why = "no answer" if isinstance(error, TimeoutError) else error
                raise AwayError(f"the request isn't written: {why}") from error
            self._producer = self._producer or self._made()
        producer, heard = self._producer, list[KafkaError | None]()
        try:
            producer.produce(
                self._settings.topic(REQUESTS), key=record["tenant"].encode(),
                value=codec.encode(REQUEST_SCHEMA, record),
                on_delivery=lambda error, _: heard.append(error),
            )  # fmt: skip
        except (KafkaException, BufferError) as error:
            raise AwayError(f"the request isn't written: {error}") from error
        until = time.monotonic() + DELIVERY_S + 1.0
        while not heard and time.monotonic() < until:
            producer.poll(0)
            if not heard:
                await asyncio.sleep(POLL_S)
        if not heard or heard[0] is not None:
            if self._producer is producer:
                self._producer = None
            why = heard[0].str() if heard and heard[0] is not None else "no answer"
            raise AwayError(f"the request isn't written: {why}")

    def _made(self) -> Producer:
        return Producer(
            self._settings.librdkafka(
                enable_idempotence=True, acks="all", linger_ms=0, partitioner="murmur2_random",
                message_timeout_ms=int(DELIVERY_S * 1000),
            )
        )  # fmt: skip


class Follower:
    """Reads the audit from its end, and tells those who wait. Ends when nobody has for a while."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.waiting: dict[str, list[asyncio.Future[Answer]]] = {}  # several may wait for one
        self._consumer: Consumer | None = None
        self._opening = asyncio.create_task(self._open())
        self._reading: asyncio.Task[None] | None = None
        self._heard_of = self.since = time.monotonic()
        self.over = False

    async def ready(self) -> None:
        """From now on nothing is missed. AwayError."""
        await asyncio.shield(self._opening)

    async def close(self) -> None:
        """Read no more; whoever waits is left alone."""
        self.over = True
        tasks = [one for one in (self._opening, self._reading) if one is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _open(self) -> None:
        try:
            self._consumer = await asyncio.to_thread(self._assigned)
        except (AwayError, KafkaException) as error:
            self.over = True
            why = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            raise AwayError(why) from error
        self._reading = asyncio.create_task(self._read(self._consumer))

    def _assigned(self) -> Consumer:
        consumer = Consumer(
            self._settings.librdkafka(
                group_id=self._settings.prefix("soma-sleep-answers"),
                isolation_level="read_committed", enable_auto_commit=False,
                auto_offset_reset="latest", fetch_wait_max_ms=FETCH_WAIT_MS,
            )
        )  # fmt: skip
        try:
            ends = ends_of(consumer, places_of(consumer, self._settings.topic(AUDIT)), ANSWER_S)
            consumer.assign([TopicPartition(*place, end) for place, end in ends.items()])
        except BaseException:
            consumer.close()
            raise
        return consumer

    async def _read(self, consumer: Consumer) -> None:
        try:
            while self.waiting or time.monotonic() - self._heard_of < IDLE_S:
                messages = consumer.consume(READ_MAX, 0)
                for message in messages:
                    self._take(message)
                if self.waiting:
                    self._heard_of = time.monotonic()
                await asyncio.sleep(0 if messages else POLL_S)
        except KafkaException as error:
            logger.warning("The audit isn't followed any more: %s", error)
        finally:
            self.over = True
            await asyncio.to_thread(consumer.close)

    def _take(self, message: Message) -> None:
        if (error := message.error()) is not None:
            if error.code() not in PASSED and not error.retriable():
                raise KafkaException(error)
            return
        said = answer_in(message.value() or b"")
        for one in self.waiting.get(said.get("request_id", ""), ()):
            if not one.done():
                one.set_result(said)


class Answers:
    """Whoever waits for an answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._now: Follower | None = None
        self._all: set[Follower] = set()

    @asynccontextmanager
    async def to(self, request_id: str) -> AsyncIterator["asyncio.Future[Answer]"]:
        """The answer to a request, as soon as there is one: what is answered from now on."""
        follower = self._follower()
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = follower.waiting.setdefault(request_id, [])
        waiting.append(answer)
        try:
            await follower.ready()
            yield answer
        finally:
            waiting.remove(answer)
            if not waiting:
                del follower.waiting[request_id]

    def missed(self) -> None:
        """An answer didn't come in time. The follower may have lost its broker (topics/missed.py):
        who asks from now on has another, unless this one is new itself.
        """
        if self._now is not None and time.monotonic() - self._now.since > IDLE_S:
            self._now = None

    def _follower(self) -> Follower:
        self._all = {one for one in self._all if not one.over}
        if self._now is None or self._now.over:
            self._now = Follower(self._settings)
            self._all.add(self._now)
        return self._now

    async def close(self) -> None:
        """Let Kafka go."""
        await asyncio.gather(*(one.close() for one in self._all))
