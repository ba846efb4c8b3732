"""Publishes the feed at a rate, part of it in transactions of which some are aborted."""

import sys
import time
from collections.abc import Iterator
from random import Random

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient

from ops.prove.feed import Event
from ops.prove.reader import QUIET, physical

DELIVERY_S = 300.0  # a broker that is down for a while loses nothing
SILENCE_S = 30.0  # without an acknowledgement, then it is asked why; reconnecting takes 10 at most
PAUSE_S = 1.0  # after one so long between two steps nobody has listened
ASK_S = 5.0
PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)


class Publisher:
    """Keeps up with a rate whatever happens to the broker; counts what the broker has accepted.

    Now and then a client of librdkafka doesn't find a broker that is back (2 of 13 runs of blows;
    github.com/confluentinc/librdkafka/issues/5301 and 5430 tell of such). It is replaced, and what
    it hasn't heard of is published again: if it was in the log, it is there twice, and since proofs
    begin with what their sources hold, that is part of their input.
    """

    def __init__(
        self, bootstrap: str, namespace: str, events: Iterator[Event], rate: float,
        silence_s: float = SILENCE_S,
    ) -> None:  # fmt: skip
        self.events, self.rate, self.namespace = events, rate, namespace
        self.sent = 0
        self.renewed = 0
        self.failed: list[str] = []
        self.started = self._heard = self._stepped = time.monotonic()
        self._bootstrap, self._silence_s = bootstrap, silence_s
        self._purged: list[Message] = []
        self._producer = self._client()

    def step(self) -> None:
        """Publish what is due by now."""
        due = int((time.monotonic() - self.started) * self.rate) - self.sent
        for _ in range(min(due, 2 * int(self.rate))):
            event = next(self.events)
            topic = physical(self.namespace, event.topic)
            self._produce(topic, event.partition, event.key, event.value)
            self.sent += 1
        self._producer.poll(0)
        now = time.monotonic()
        if now - self._stepped > PAUSE_S:
            self._heard = now
        self._stepped = now
        self._look()

    def finish(self) -> None:
        """Wait until the broker has all of it; raises RuntimeError for what it refused."""
        until = self._heard = time.monotonic()
        until += DELIVERY_S
        while (left := self._producer.flush(PAUSE_S)) and time.monotonic() < until:
            self._look()
        if left or self.failed:
            raise RuntimeError(f"{left} records not sent, refused: {self.failed[:3]}")

    def _client(self) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "enable.idempotence": True,
                "delivery.timeout.ms": int(DELIVERY_S * 1000),
                "queue.buffering.max.messages": 2_000_000,
                "linger.ms": 5,
                "compression.type": "lz4",
                **QUIET,
            }
        )

    def _produce(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        self._producer.produce(topic, value, key, partition, on_delivery=self._delivered)

    def _look(self) -> None:
        """Say so where nothing is acknowledged, and replace a client that has lost the broker."""
        now, left = time.monotonic(), len(self._producer)
        if not left:
            self._heard = now
        if now - self._heard < self._silence_s:
            return
        self._heard = now
        silent = f"the publisher has heard nothing for {self._silence_s:g} s of {left} records"
        if not self._answers():
            print(f"{silent}: no broker answers", file=sys.stderr, flush=True)
            return
        print(f"{silent}: a broker answers, they go by a new client", file=sys.stderr, flush=True)
        self._purged = []
        self._producer.purge()
        self._producer.flush(ASK_S)
        self._producer = self._client()
        self.renewed += 1
        for one in self._purged:
            self._produce(one.topic() or "", one.partition() or 0, one.key(), one.value())

    def _answers(self) -> bool:
        """Whether a new client finds a broker."""
        try:
            client = AdminClient({"bootstrap.servers": self._bootstrap, **QUIET})
            return len(client.list_topics(timeout=ASK_S).brokers) > 0
        except KafkaException:
            return False

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._heard = time.monotonic()
        elif error.code() in PURGED:
            self._purged.append(message)
        else:
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
