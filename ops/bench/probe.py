"""A probe: sends records at a rate, and times what comes of each, by one clock in one process."""

import random
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from ops.bench.filling import DOMAINS, tenant_names, update
from ops.bench.site import Site
from ops.bench.wire import OBSERVATION, OBSERVATION_HEADER, UPDATE, UPDATE_HEADER, encode
from topics import codec

WARM_S = 5.0  # at the beginning of a measurement: not counted
DRAIN_S = 10.0
TENANTS = 300
NUMBERS = 16  # of an observation's vector

Value = Callable[[str, str, int, random.Random], bytes]  # tenant, domain, time in us -> a value


@dataclass
class Latencies:
    """Milliseconds of one program at one rate."""

    program: str
    rate: int
    ms: list[float] = field(default_factory=list)

    def at(self, percent: float) -> float:
        """A percentile."""
        return float(np.percentile(self.ms, percent))

    def percentiles(self, *percents: int) -> dict[str, float]:
        """As JSON data."""
        return {f"p{q}_ms": self.at(q) for q in percents}


def an_update(tenant: str, domain: str, ts: int, rng: random.Random) -> bytes:
    """A predictor update's value."""
    return encode(UPDATE_HEADER, UPDATE, update(tenant, domain, rng.random(), ts))


def an_observation(tenant: str, domain: str, ts: int, rng: random.Random) -> bytes:
    """An observation's value."""
    vector = struct.pack(f"<{NUMBERS}f", *(rng.gauss(0.0, 1.0) for _ in range(NUMBERS)))
    record = {"tenant": tenant, "domain": domain, "ts": ts, "vector": vector, "sequence": None}
    return encode(OBSERVATION_HEADER, OBSERVATION, record)


class Probe:
    """Produces records of these tenants at a rate, and reads what comes of them.

    Each gives one record of the same time (`ts`) in one of these partitions of the sink.
    """

    def __init__(
        self, site: Site, source: str, sink: str, value: Value = an_update,
        tenants: Sequence[str] = (), partitions: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self._producer = Producer(
            site.settings.librdkafka(linger_ms=0, partitioner="murmur2_random")
        )
        self._consumer = Consumer(
            site.settings.librdkafka(
                group_id="unused",
                enable_auto_commit=False,
                isolation_level="read_committed",
                fetch_queue_backoff_ms=1,
            )
        )
        self._source, self._value = source, value
        ends = site.broker.ends(sink)
        read = partitions or range(len(ends))
        self._consumer.assign([TopicPartition(sink, p, ends[p]) for p in read])
        self._rng = random.Random(7)
        self._tenants = tenants or tenant_names(TENANTS)
        self._awaited = 0

    def run(self, rate: int, seconds: float) -> Iterator[tuple[float, float]]:
        """(event time, latency in s) of each answer; ends when all of the span are here."""
        start = time.time()
        sent = 0
        while time.time() < start + seconds or self._awaited:
            now = time.time()
            if now > start + seconds + DRAIN_S:
                raise TimeoutError(f"{self._awaited} records of {sent} had no answer")
            due = int(min(now - start, seconds) * rate) - sent
            for _ in range(due):
                self._send(sent)
                sent += 1
            self._producer.poll(0)
            yield from self._receive()

    def _send(self, k: int) -> None:
        tenant, ts = self._rng.choice(self._tenants), int(time.time() * 1e6)
        value = self._value(tenant, DOMAINS[k % len(DOMAINS)], ts, self._rng)
        self._producer.produce(self._source, value, tenant.encode())
        self._awaited += 1

    def _receive(self) -> Iterator[tuple[float, float]]:
        for message in self._consumer.consume(1000, 0.001):
            if message.error() is None:
                ts = codec.decode_ours(message.value() or b"")[1]["ts"] / 1e6
                self._awaited -= 1
                yield ts, time.time() - ts

    def measure(self, found: Latencies, seconds: float, warm_s: float = WARM_S) -> None:
        """Fill `found` with what was produced after the warm-up."""
        for _ in self.run(found.rate, warm_s):
            pass
        found.ms.extend(1e3 * latency for _, latency in self.run(found.rate, seconds))

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
