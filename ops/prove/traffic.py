"""Records of a proof, one tenant's after another's: before it begins, and while it goes on."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer

from agents.settings import Settings
from ops.prove.beside import beside
from ops.prove.replay import LIVE_S
from topics import codec

TENANTS = 20  # of live traffic
FLUSH_S = 60.0


class Traffic:
    """Records of one schema for one topic; `make` gives the next of a tenant and a number."""

    def __init__(
        self, settings: Settings, topic: str, schema: str,
        make: Callable[[str, int], dict[str, Any]],
    ) -> None:  # fmt: skip
        self._topic, self._schema, self._make = settings.topic(topic), schema, make
        self._producer = Producer(
            settings.librdkafka(partitioner="murmur2_random", enable_idempotence=True)
        )
        self.sent = 0

    def send(self, tenant: str) -> None:
        """One of a tenant."""
        value = codec.encode(self._schema, self._make(tenant, self.sent))
        self._producer.produce(self._topic, value, tenant)
        self._producer.poll(0)
        self.sent += 1

    def flush(self) -> None:
        """Until all are there. RuntimeError."""
        if left := self._producer.flush(FLUSH_S):
            raise RuntimeError(f"{left} of {self._topic} weren't taken within {FLUSH_S:g} s")

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """One after the other, while the block runs."""

        def write(stop: threading.Event) -> None:
            while not stop.wait(LIVE_S):
                self.send(f"live{self.sent % TENANTS}")

        try:
            with beside(f"traffic {self._schema}", write):
                yield
        finally:
            self.flush()
