"""What the gateway writes to Kafka: its state rows, and dead letters."""

import asyncio
import logging
import time

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from agents.engine import metrics
from agents.settings import Settings
from topics import codec
from topics.catalogue import dlq_of

SOURCE = "memory.events"
STATE = "soma.gateway.state"
STATE_KEY = b"gateway"
PRODUCED_BYTES_MAX = 16 << 20  # the broker's own limit is what counts
DETAIL_MAX = 500  # characters
SILENCE_S = 30.0

logger = logging.getLogger(__name__)
Headers = list[tuple[str, str | bytes | None]]


class GatewayWriter:
    """For the gateway's event loop; `poll` it often: acknowledgements are heard there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._heard = time.monotonic()
        self._producer = Producer(
            settings.librdkafka(
                **{
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": 2,
                    "message.max.bytes": PRODUCED_BYTES_MAX,
                    "message.timeout.ms": 0,  # while the broker is away everything waits
                }
            )
        )

    def poll(self) -> None:
        """Hear what has been acknowledged; say so if nothing has been for long."""
        now = time.monotonic()
        if self._producer.poll(0) or not len(self._producer):
            self._heard = now
        elif now - self._heard > SILENCE_S:
            self._heard = now
            logger.warning(
                "Kafka has acknowledged nothing for %g s: %d records of the gateway wait (state, "
                "dead letters); their tenants' events wait with them",
                SILENCE_S, len(self._producer),
            )  # fmt: skip

    def state(
        self, partition: int, topic_id: str, next_offset: int, behind: dict[str, int]
    ) -> None:
        """Write a partition's row. KafkaException if the broker refuses one (when polled)."""
        row = {
            "next_offset": next_offset,
            "behind": behind,
            "topic_id": topic_id,
            "version": 1,
        }
        self._producer.produce(
            self._settings.topic(STATE),
            key=STATE_KEY,
            value=codec.encode("gateway_state", row),
            partition=partition,
            on_delivery=_must,
        )

    async def letter(self, message: Message, reason: str, detail: str) -> None:
        """Write a dead letter; returns when it is acknowledged.

        One that the broker finds too large goes without its value, which its origin still has.
        """
        origin = f"{self._settings.topic(SOURCE)}/{message.partition()}/{message.offset()}"
        headers: Headers = [
            *(message.headers() or []),
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

        self._producer.produce(
            self._settings.topic(dlq_of(SOURCE)),
            key=message.key(),
            value=value,
            headers=headers,
            partition=message.partition() or 0,
            on_delivery=heard,
        )
        return await acknowledged

    def close(self, seconds: float) -> None:
        """Wait so long for what isn't acknowledged."""
        if left := self._producer.flush(seconds):
            logger.warning("%d records of the gateway weren't acknowledged", left)


def _must(error: KafkaError | None, _: Message) -> None:
    if error is not None:
        raise KafkaException(error)
