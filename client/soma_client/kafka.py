"""Publishing to Kafka straight: `pip install soma-client[kafka]`.

Idempotent (a record is written once for each `send`, whatever the network does), keyed by the
tenant, and in the partition where the pipeline looks for it: murmur2, as the Java client.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from soma_client.avro import OURS, schemas
from soma_client.errors import CantSend, NotReached

WAITING_MAX = 50_000  # records under way at once: bounds the memory
POLL_S = 0.1
FAILURES_MAX = 100  # kept


class NotDelivered(NotReached):
    """Records that the broker didn't take; `failures` says why of the first of them."""

    def __init__(self, number: int, failures: list[str]) -> None:
        super().__init__(f"{number} records weren't delivered: {'; '.join(failures[:3])}")
        self.number, self.failures = number, failures


class Publisher:
    """Publishes one tenant's records; `with` it, and all are delivered at the end, or it raises.

    `namespace` is the deployment's SOMA_NAMESPACE; `config` goes to librdkafka (TLS, SASL);
    `schemas_file` is what `soma schema topics` printed, for topics of your own.
    """

    def __init__(
        self, bootstrap: str, tenant: str, *, namespace: str = "", timeout_s: float = 30.0,
        config: Mapping[str, Any] | None = None, schemas_file: Path = OURS,
    ) -> None:  # fmt: skip
        self._schemas = schemas(schemas_file)
        self._tenant, self._prefix = tenant, f"{namespace}." if namespace else ""
        self._timeout_s = timeout_s
        self._failed, self._failures, self.delivered = 0, list[str](), 0
        self._producer = Producer({
            "linger.ms": 5, "compression.type": "lz4", **(config or {}),
            "bootstrap.servers": bootstrap, "enable.idempotence": True, "acks": "all",
            "partitioner": "murmur2_random", "message.timeout.ms": int(timeout_s * 1000),
            "queue.buffering.max.messages": WAITING_MAX,
        })  # fmt: skip

    def send(self, topic: str, record: Mapping[str, Any]) -> None:
        """Hand over a record, which is checked; waits while too many are under way.

        `CantSend` says what is wrong with it; `NotReached` where the queue stays full.
        """
        known = self._schemas.get(topic)
        if known is None:
            names = ", ".join(sorted(self._schemas))
            raise CantSend(f"{topic} is none of the topics that users write: {names}")
        if record.get("tenant", self._tenant) != self._tenant:
            raise CantSend("the record is of another tenant than the publisher")
        value = known.encode({"tenant": self._tenant, **record})
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                self._producer.produce(
                    self._prefix + topic, value, self._tenant.encode(), on_delivery=self._answered
                )
                break
            except BufferError:
                if time.monotonic() > until:
                    raise NotReached(f"the queue is full for {self._timeout_s:g} s") from None
                self._producer.poll(POLL_S)
            except KafkaException as error:
                raise CantSend(f"not sent: {error}") from None
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until all are delivered. `NotDelivered` for those that aren't, once each."""
        left = self._producer.flush(self._timeout_s)
        failed, told = self._failed, self._failures
        self._failed, self._failures = 0, []
        if left:
            told = [*told, f"no answer within {self._timeout_s:g} s"]
        if failed or left:
            raise NotDelivered(failed + left, told)

    def _answered(self, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.delivered += 1
            return
        self._failed += 1
        if len(self._failures) < FAILURES_MAX:
            self._failures.append(error.str())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            self.flush()
        else:
            self._producer.flush(POLL_S)
