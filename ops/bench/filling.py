"""Fills the input topics: a value is encoded once per kind and patched, so filling is quick."""

import random
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from confluent_kafka import Producer

from agents.settings import Settings
from ops.bench.wire import OBSERVATION, OBSERVATION_HEADER, UPDATE, UPDATE_HEADER, encode

DOMAINS = ("state", "agent", "action")
FRESH_SPAN_US = 5_000_000  # every domain is seen this often in event time, so that none is stale
TS_MARK = 1_700_000_000_000_001  # eight bytes as a varint, as long as any time of these years
ERROR_MARK = 1234.5678
PARTITIONER = -1  # librdkafka: let the partitioner choose


def varint(number: int) -> bytes:
    """A non-negative Avro long."""
    number <<= 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def tenant_names(tenants: int) -> list[str]:
    """`tenants` names of one length."""
    return [f"tenant-{t:06d}" for t in range(tenants)]


def update(tenant: str, domain: str, error: float, ts: int) -> dict[str, Any]:
    """A predictor_update."""
    return {
        "tenant": tenant,
        "domain": domain,
        "predictor_type": "heat",
        "error_metric": error,
        "prediction_latency_ms": 1.5,
        "model_version": "1.0",
        "vector_dim": 16,
        "confidence": 0.5,
        "observation_id": "",
        "ts": ts,
    }


class Template:
    """Predictor updates of one tenant and domain, but for their error and time."""

    def __init__(self, tenant: str, domain: str) -> None:
        value = encode(UPDATE_HEADER, UPDATE, update(tenant, domain, ERROR_MARK, TS_MARK))
        before, self._between = value.split(struct.pack("<f", ERROR_MARK))
        self._between, self._after = self._between.split(varint(TS_MARK))
        self._before = before
        self.key = tenant.encode()

    def value(self, error: bytes, ts: int) -> bytes:
        """The value with this error (little-endian float32) and time (microseconds)."""
        return b"".join((self._before, error, self._between, varint(ts), self._after))


def updates(
    events: int, tenants: int, seed: int, start_us: int | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of `events` predictor updates, in rising event time up to now (or from a start).

    Tenants come in random order; each domain has its own level of error, so that leaders exist.
    """
    rng = random.Random(seed)
    templates = [Template(t, d) for t in tenant_names(tenants) for d in DOMAINS]
    levels = [rng.choice((0.1, 0.3, 0.6)) for _ in templates]
    step = max(1, min(1000, FRESH_SPAN_US // len(templates)))
    ts = int(time.time() * 1e6) - events * step if start_us is None else start_us
    pack = struct.Struct("<f").pack
    done = 0
    while done < events:
        order = list(range(len(templates)))
        rng.shuffle(order)
        for k in order[: events - done]:
            yield templates[k].key, templates[k].value(pack(levels[k] * rng.random() * 2), ts)
            ts += step
        done += len(templates)


def observations(events: int, tenants: int, seed: int, dim: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of `events` observations of `dim` numbers, in rising event time up to now."""
    rng = random.Random(seed)
    vectors = [struct.pack(f"<{dim}f", *(rng.gauss(0, 1) for _ in range(dim))) for _ in range(997)]
    pairs = [(t, d) for t in tenant_names(tenants) for d in DOMAINS]
    step = max(1, min(1000, FRESH_SPAN_US // len(pairs)))
    start = int(time.time() * 1e6) - events * step
    for k in range(events):
        tenant, domain = pairs[k % len(pairs)]
        record = {
            "tenant": tenant,
            "domain": domain,
            "ts": start + k * step,
            "vector": vectors[rng.randrange(len(vectors))],
            "sequence": k,
        }
        yield tenant.encode(), encode(OBSERVATION_HEADER, OBSERVATION, record)


def fill(
    settings: Settings,
    topic: str,
    records: Iterator[tuple[bytes, bytes]],
    compression: str = "none",
    misroute: Callable[[int], int] | None = None,
) -> int:
    """Produce records by murmur2 of the key (or `misroute` of their number); returns how many."""
    producer = Producer(
        settings.librdkafka(
            partitioner="murmur2_random",
            compression_codec=compression,
            linger_ms=20,
            batch_size=1_000_000,
            queue_buffering_max_messages=1_000_000,
        )
    )
    produced = 0
    for key, value in records:
        partition = PARTITIONER if misroute is None else misroute(produced)
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.05)
        produced += 1
    if left := producer.flush(120):
        raise TimeoutError(f"{left} records of {topic} aren't acknowledged after 120 s")
    return produced
