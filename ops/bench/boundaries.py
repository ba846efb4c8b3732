"""Latency of boundaries: from the observation that declares one to the boundary, committed."""

import random
import struct
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from ops.bench.broker import PARTITIONS
from ops.bench.filling import DOMAINS, tenant_names
from ops.bench.probe import Latencies
from ops.bench.site import Site
from ops.bench.wire import OBSERVATION, OBSERVATION_HEADER, encode, load
from ops.bench.worker import Worker
from topics import codec

WARM_S = 5.0  # at the beginning: not counted
QUIET_S = 1.0  # after the last observation, none came for so long
TENANTS, DIM = 300, 16
FRAMES, SEGMENTS = "cog.global.frame", "cog.segments"
CONTROL, CONTROL_HEADER = load("control_setting")


class Probe:
    """Produces observations at a rate, and reads the boundaries that come of them."""

    def __init__(self, site: Site) -> None:
        self._producer = Producer(
            site.settings.librdkafka(linger_ms=0, partitioner="murmur2_random")
        )
        self._consumer = Consumer(
            site.settings.librdkafka(
                group_id="unused", enable_auto_commit=False,
                isolation_level="read_committed", fetch_queue_backoff_ms=1,
            )
        )  # fmt: skip
        self._source, self._frames = site.topic("cog.observations"), site.topic(FRAMES)
        sink = site.topic(SEGMENTS)
        ends = enumerate(site.broker.ends(sink))
        self._consumer.assign([TopicPartition(sink, p, end) for p, end in ends])
        self._rng = random.Random(7)
        self._tenants = tenant_names(TENANTS)

    def set_everywhere(self, setting: str, value: str) -> None:
        """Give a setting of segmentation to every tenant, in band."""
        record: dict[str, Any] = {
            "tenant": "*", "setting": setting, "value": value, "author": "bench",
            "ts": int(time.time() * 1e6),
        }  # fmt: skip
        for partition in range(PARTITIONS):
            self._producer.produce(
                self._frames, encode(CONTROL_HEADER, CONTROL, record), b"*", partition
            )
        self._producer.flush(30)

    def run(self, rate: int, seconds: float) -> list[float]:
        """Latencies, in seconds, of the boundaries of so many seconds' observations."""
        found: list[float] = []
        start, sent, last = time.time(), 0, time.time()
        while time.time() < start + seconds or time.time() < last + QUIET_S:
            due = int(min(time.time() - start, seconds) * rate) - sent
            for _ in range(due):
                self._send(sent)
                sent += 1
            self._producer.poll(0)
            came = self._receive()
            found += came
            if came or due:
                last = time.time()
        return found

    def _send(self, k: int) -> None:
        numbers = (self._rng.gauss(0.0, 1.0) for _ in range(DIM))
        tenant = self._rng.choice(self._tenants)
        record = {
            "tenant": tenant, "domain": DOMAINS[k % len(DOMAINS)], "ts": int(time.time() * 1e6),
            "vector": struct.pack(f"<{DIM}f", *numbers), "sequence": k,
        }  # fmt: skip
        value = encode(OBSERVATION_HEADER, OBSERVATION, record)
        self._producer.produce(self._source, value, tenant.encode())

    def _receive(self) -> list[float]:
        """A boundary's `detected_ts` is the event time of the observation that declared it."""
        found = []
        for message in self._consumer.consume(1000, 0.001):
            if message.error() is None:
                _, boundary = codec.decode(message.value() or b"")
                found.append(time.time() - boundary["detected_ts"] / 1e6)
        return found

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


def probe(site: Site, processors: Sequence[str], rate: int, seconds: float) -> Latencies:
    """Latencies of boundaries through these processors in one worker."""
    with Worker(site.settings, ",".join(processors), site.folder) as worker:
        worker.ready()
        one = Probe(site)
        try:
            one.set_everywhere("threshold", "on")
            one.run(rate, WARM_S)
            found = Latencies("soma", rate, [1e3 * wait for wait in one.run(rate, seconds)])
        finally:
            one.close()
    if not found.ms:
        raise TimeoutError(f"no boundary came of {rate} observations/s in {seconds:.0f} s")
    site.say(f"{len(found.ms):,} boundaries at {rate:,}/s: p99 {found.at(99):.1f} ms")
    return found
