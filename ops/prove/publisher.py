"""Publishes the feed at a rate, part of it in transactions of which some are aborted."""

import time
from collections.abc import Iterator
from random import Random

from confluent_kafka import Message, Producer

from ops.prove.feed import Event
from ops.prove.reader import QUIET, physical

DELIVERY_TIMEOUT_MS = 300_000  # a broker that is down for a while loses nothing


class Publisher:
    """Keeps up with a rate whatever happens to the broker; counts what the broker has accepted."""

    def __init__(
        self, bootstrap: str, namespace: str, events: Iterator[Event], rate: float
    ) -> None:
        self.events, self.rate, self.namespace = events, rate, namespace
        self.sent = 0
        self.failed: list[str] = []
        self.started = time.monotonic()
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
                "queue.buffering.max.messages": 2_000_000,
                "linger.ms": 5,
                "compression.type": "lz4",
                **QUIET,
            }
        )

    def step(self) -> None:
        """Publish what is due by now."""
        due = int((time.monotonic() - self.started) * self.rate) - self.sent
        for _ in range(min(due, 2 * int(self.rate))):
            event = next(self.events)
            self.producer.produce(
                physical(self.namespace, event.topic), event.value, event.key, event.partition,
                on_delivery=self._delivered,
            )  # fmt: skip
            self.sent += 1
        self.producer.poll(0)

    def finish(self) -> None:
        """Wait until the broker has all of it; raises RuntimeError for what it refused."""
        left = self.producer.flush(DELIVERY_TIMEOUT_MS / 1000)
        if left or self.failed:
            raise RuntimeError(f"{left} records not sent, refused: {self.failed[:3]}")

    def _delivered(self, error: object, _message: Message) -> None:
        if error is not None:
            self.failed.append(str(error))


class Waverer:
    """A user with a transactional producer who changes his mind: half his records are aborted."""

    def __init__(self, bootstrap: str, namespace: str, events: Iterator[Event], seed: int) -> None:
        self.events, self.namespace, self.random = events, namespace, Random(seed)
        self.committed = 0
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": f"{namespace}-waverer",
                "transaction.timeout.ms": 10_000,
                **QUIET,
            }
        )
        self.producer.init_transactions(30)

    def step(self, records: int = 20) -> None:
        """One small transaction, committed or aborted."""
        self.producer.begin_transaction()
        for _ in range(records):
            event = next(self.events)
            topic = physical(self.namespace, event.topic)
            self.producer.produce(topic, event.value, event.key, event.partition)
        if self.random.random() < 0.5:
            self.producer.flush(30)  # so that the aborted records are in the log
            self.producer.abort_transaction(30)
        else:
            self.producer.commit_transaction(30)
            self.committed += records
