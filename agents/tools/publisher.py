"""Records into a topic: idempotent, keyed by tenant, awaited; what was delivered is counted.

The partition is murmur2 of the key, as the engine wants it (`partitioner=murmur2_random`;
librdkafka's own default would send most records elsewhere, to be forwarded).
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from agents.tools.known import partitions_of
from topics.chosen_ids import insist

if TYPE_CHECKING:
    from agents.settings import Settings

CLOSE_S = 30.0  # how long the last deliveries may take
WAITING_MAX = 50_000  # records under way at once: bounds the memory

OnFailure = Callable[[int, str], None]


class Publisher:
    """Publishes to one topic; `failed(number, why)` is called for each record that wasn't taken."""

    def __init__(self, settings: "Settings", topic: str, failed: OnFailure) -> None:
        self.topic = settings.topic(topic)
        self.delivered = 0
        self._failed = failed
        self._producer = Producer(
            settings.librdkafka(
                enable_idempotence=True,
                acks="all",
                partitioner="murmur2_random",
                compression_type="lz4",
                linger_ms=5,
                queue_buffering_max_messages=WAITING_MAX,
                message_timeout_ms=int(CLOSE_S * 1000),
                message_max_bytes=4 << 20,  # the broker's limit rules, and its error says so
            )
        )
        self.partitions = len(partitions_of(self._producer, settings, topic))
        insist(settings)

    def send(self, key: bytes, value: bytes, number: int = 0, partition: int = -1) -> None:
        """Hand over a record; waits while too many are under way. `number` names it on failure."""

        def answered(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self.delivered += 1
            else:
                self._failed(number, f"not delivered: {error.str()}")

        while True:
            try:
                self._producer.produce(
                    self.topic, value=value, key=key, partition=partition, on_delivery=answered
                )
                break
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                self._failed(number, f"not sent: {error.args[0].str()}")
                break
        self._producer.poll(0)

    def poll(self, seconds: float) -> None:
        """Wait and hear deliveries meanwhile."""
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            self._producer.poll(min(rest, 0.1))

    def close(self, seconds: float = CLOSE_S) -> int:
        """Await what is under way; returns how many records are still unanswered."""
        return int(self._producer.flush(seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(CLOSE_S if error is None else 1.0)
