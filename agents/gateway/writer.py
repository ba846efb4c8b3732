"""What the gateway writes to Kafka: its state rows, and dead letters."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from agents.engine import metrics
from agents.gateway.marks import marks
from agents.gateway.sleepers import ACTOR, KIND
from agents.settings import Settings
from topics import codec
from topics.catalogue import dlq_of
from topics.messages import headers_of
from topics.missed import LONGEST

SOURCE = "memory.events"
STATE = "soma.gateway.state"
STATE_KEY, MARK_KEY = b"gateway", b"owner"
OWNER = "soma-owner"
REQUESTS = "brain.sleep.requests"
PRODUCED_BYTES_MAX = 16 << 20  # the broker's own limit is what counts
DETAIL_MAX = 500  # characters
ASK_S = 5.0

logger = logging.getLogger(__name__)
Headers = list[tuple[str, str | bytes | None]]
Written = Callable[[int, int], None]
Heard = Callable[[KafkaError | None, Message], None]


class GatewayWriter:
    """For the gateway's event loop; `poll` it often: acknowledgements are heard there.

    A client may lose its broker for good (topics/missed.py): where nothing is acknowledged and a
    broker answers a new client, all goes again by that, in its order. What the lost one had written
    unheard is there twice then, as after a kill: a state row is whole in itself, and dead letters
    are told apart by their `soma-origin`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._heard = time.monotonic()
        self._silence_s = self._patience = settings.stalled_after_s
        self._renewed = False  # and nothing acknowledged since
        self._waiting: dict[int, tuple[dict[str, Any], Heard]] = {}  # in order; by a number
        self._number = 0
        self._asked: tuple[AdminClient, Future[Any]] | None = None
        self._producer = self._client()

    def _client(self) -> Producer:
        return Producer(
            self._settings.librdkafka(
                **{
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "partitioner": "murmur2_random",  # of requests alone: the rest says which
                    "linger.ms": 2,
                    "message.max.bytes": PRODUCED_BYTES_MAX,
                    "message.timeout.ms": 0,  # while the broker is away everything waits
                }
            )
        )

    @property
    def stopped(self) -> dict[str, str]:
        """What `/ready` says while nothing is acknowledged though a broker answers; mostly {}."""
        return {"the gateway's records": "stalled"} if self._renewed else {}

    def poll(self) -> None:
        """Hear what has been acknowledged; if nothing has been for long, say so and see why."""
        now = time.monotonic()
        self._producer.poll(0)
        if self._asked is not None:
            self._answered(*self._asked)
        elif not self._waiting:
            self._heard = now
        elif now - self._heard > self._patience:
            self._heard = now
            logger.warning(
                "Kafka has acknowledged nothing for %g s: %d records of the gateway wait (state, "
                "dead letters); their tenants' events wait with them",
                self._patience, len(self._waiting),
            )  # fmt: skip
            admin = AdminClient(self._settings.librdkafka())
            self._asked = admin, admin.describe_cluster(request_timeout=ASK_S)

    def _answered(self, _: AdminClient, asked: "Future[Any]") -> None:
        """Send all again by a new client where a broker has answered one."""
        if not asked.done():
            return
        self._asked = None
        if asked.exception() is not None:
            return
        logger.error("A broker answers others: the gateway's records go again, by a new client")
        lost, self._producer = self._producer, self._client()
        lost.purge()
        # What it has to say is heard by nobody, but while it isn't heard it can't be freed.
        threading.Thread(target=lost.flush, args=(ASK_S,), name="leaving", daemon=True).start()
        self._renewed = True
        self._patience = min(2 * self._patience, LONGEST * self._silence_s)
        for number in list(self._waiting):
            self._hand_over(number)

    def _produce(self, heard: Heard, **record: Any) -> None:
        self._number += 1
        self._waiting[self._number] = record, heard
        self._hand_over(self._number)

    def _hand_over(self, number: int) -> None:
        by, (record, heard) = self._producer, self._waiting[number]

        def answered(error: KafkaError | None, message: Message) -> None:
            if by is not self._producer:
                return  # it is sent again
            self._heard, self._patience = time.monotonic(), self._silence_s
            self._renewed = False
            del self._waiting[number]
            heard(error, message)

        try:
            by.produce(**record, on_delivery=answered)
        except BaseException:
            del self._waiting[number]  # it never waited
            raise

    def claim(self, partition: int) -> "asyncio.Future[int]":
        """Put a mark among a partition's rows: who reads them behind it is their owner, by this
        offset. KafkaException if the broker refuses it.
        """
        stands: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def heard(error: KafkaError | None, message: Message) -> None:
            if stands.cancelled():
                return
            if error is None:
                stands.set_result(message.offset() or 0)
            else:
                stands.set_exception(KafkaException(error))

        # Without a value: what compaction leaves of them is nothing.
        topic = self._settings.topic(STATE)
        self._produce(heard, topic=topic, key=MARK_KEY, value=None, partition=partition)
        return stands

    def state(
        self, partition: int, topic_id: str, next_offset: int, behind: dict[str, int],
        asleep: frozenset[str] = frozenset(), owner: int = 0, written: Written | None = None,
    ) -> None:  # fmt: skip
        """Write a partition's row; `asleep` are some of those behind, `owner` is where its owner's
        mark stands. `written` is called then, with the row's offset and the log's time.

        KafkaException if the broker refuses one (when polled).
        """
        row = {
            "next_offset": next_offset,
            "behind": behind,
            "asleep": marks(behind, asleep),
            "topic_id": topic_id,
            "version": 1,
        }

        def heard(error: KafkaError | None, message: Message) -> None:
            _must(error, message)
            if written is not None:
                written(message.offset() or 0, message.timestamp()[1])

        self._produce(
            heard,
            topic=self._settings.topic(STATE),
            key=STATE_KEY,
            value=codec.encode("gateway_state", row),
            headers=[(OWNER, str(owner).encode())],
            partition=partition,
        )

    def request(self, tenant: str, target: str, number: int, written: Callable[[], None]) -> None:
        """Ask for a tenant's sleep, or its waking; `number` rises from owner to owner. What the
        broker refuses is told in the log.
        """
        record = {
            "request_id": f"circuit-{secrets.token_hex(8)}", "tenant": tenant, "target": target,
            "kind": KIND, "ttl_seconds": None, "wake_on_traffic": False, "version": number,
            "trace_id": None, "actor": ACTOR, "ts": time.time_ns() // 1000,
        }  # fmt: skip

        def heard(error: KafkaError | None, _: Message) -> None:
            if error is None:
                written()
            else:
                logger.error("%s isn't asked to be %s: %s", tenant, target, error.str())

        self._produce(
            heard,
            topic=self._settings.topic(REQUESTS),
            key=tenant.encode(),
            value=codec.encode("sleep_request", record),
        )

    async def letter(self, message: Message, reason: str, detail: str) -> None:
        """Write a dead letter; returns when it is acknowledged.

        One that the broker finds too large goes without its value, which its origin still has.
        """
        origin = f"{self._settings.topic(SOURCE)}/{message.partition()}/{message.offset()}"
        headers: Headers = [
            *headers_of(message),
            ("soma-reason", reason.encode()),
            ("soma-detail", detail[:DETAIL_MAX].encode("utf-8", "replace")),
            ("soma-origin", origin.encode()),
            ("soma-processor", b"gateway"),
        ]
        error = await self._send(message, message.value(), headers)
        if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            error = await self._send(message, None, [*headers, ("soma-form", b"origin")])
        if error is not None:
            raise KafkaException(error)
        metrics.DEAD.labels(SOURCE, reason).inc()
        logger.warning("%s is a dead letter: %s: %s", origin, reason, detail[:DETAIL_MAX])

    async def _send(
        self, message: Message, value: bytes | None, headers: Headers
    ) -> KafkaError | None:
        acknowledged: asyncio.Future[KafkaError | None] = asyncio.get_running_loop().create_future()

        def heard(error: KafkaError | None, _: Message) -> None:
            if not acknowledged.done():
                acknowledged.set_result(error)

        self._produce(
            heard,
            topic=self._settings.topic(dlq_of(SOURCE)),
            key=message.key(),
            value=value,
            headers=headers,
            partition=message.partition() or 0,
        )
        return await acknowledged

    def close(self, seconds: float) -> None:
        """Wait so long for what isn't acknowledged."""
        if left := self._producer.flush(seconds):
            logger.warning("%d records of the gateway weren't acknowledged", left)


def _must(error: KafkaError | None, _: Message) -> None:
    if error is not None:
        raise KafkaException(error)
