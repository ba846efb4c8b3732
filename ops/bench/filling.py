"""Fills the input topics: a value is encoded once per kind and patched, so filling is quick."""

import random
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from confluent_kafka import Producer

from agents.settings import Settings
from ops.bench.wire import OBSERVATION, OBSERVATION_HEADER, UPDATE, UPDATE_HEADER, encode

DOMAINS = ("state", "agent", "action")
FRESH_SPAN_US = 5_000_000  # every domain is seen this often in event time, so that none is stale
TS_MARK = 1_700_000_000_000_001  # eight bytes as a varint, as long as any time of these years
ERROR_MARK = 1234.5678
ANSWER_S = 120.0  # for the broker to acknowledge all that it was given
TRANSACTION_MS = 600_000  # as long as one may stay open: filling takes tens of seconds
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
    digits = max(6, len(str(tenants - 1)))
    return [f"tenant-{t:0{digits}d}" for t in range(tenants)]


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
    """Predictor updates of one domain, of tenants with names of one length (bytes)."""

    def __init__(self, domain: str, length: int) -> None:
        tenant = "?" * length
        value = encode(UPDATE_HEADER, UPDATE, update(tenant, domain, ERROR_MARK, TS_MARK))
        self._before, rest = value.split(tenant.encode())
        self._domain, rest = rest.split(struct.pack("<f", ERROR_MARK))
        self._between, self._after = rest.split(varint(TS_MARK))

    def value(self, tenant: bytes, error: bytes, ts: int) -> bytes:
        """The value with this tenant, error (little-endian float32) and time (microseconds)."""
        between, after = self._between, self._after
        return b"".join((self._before, tenant, self._domain, error, between, varint(ts), after))


def step_us(pairs: int) -> int:
    """Event time between two records of so many tenants' domains, so that none goes stale."""
    return max(1, min(1000, FRESH_SPAN_US // pairs))


def updates(
    events: int, tenants: int, seed: int, start_us: int | None = None,
    domains: Sequence[str] = DOMAINS,
) -> Iterator[tuple[bytes, bytes]]:  # fmt: skip
    """(key, value) of `events` predictor updates, in rising event time up to now (or from a start).

    Tenants come in random order, all of them before one comes again; each domain has its own level
    of error, so that leaders exist.
    """
    rng = random.Random(seed)
    keys = [name.encode() for name in tenant_names(tenants)]
    templates = [Template(domain, len(keys[0])) for domain in domains]
    many, pairs = len(domains), tenants * len(domains)
    levels = [rng.choice((0.1, 0.3, 0.6)) for _ in range(pairs)]
    step = step_us(pairs)
    ts = int(time.time() * 1e6) - events * step if start_us is None else start_us
    pack = struct.Struct("<f").pack
    done = 0
    while done < events:
        order = list(range(pairs))
        rng.shuffle(order)
        for k in order[: events - done]:
            tenant, error = keys[k // many], pack(levels[k] * rng.random() * 2)
            yield tenant, templates[k % many].value(tenant, error, ts)
            ts += step
        done += pairs


def numbers_of(size: int) -> int:
    """How many numbers an observation of about `size` bytes has."""
    bare = {"tenant": tenant_names(1)[0], "domain": DOMAINS[0], "ts": TS_MARK, "vector": b""}
    empty = len(encode(OBSERVATION_HEADER, OBSERVATION, {**bare, "sequence": size}))
    return max(1, (size - empty) // 4)


def observations(
    events: int, tenants: int, seed: int, dim: int, vectors_max: int = 997
) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of `events` observations of `dim` numbers, in rising event time up to now."""
    rng = random.Random(seed)
    pack = struct.Struct(f"<{dim}f").pack
    vectors = [pack(*(rng.gauss(0, 1) for _ in range(dim))) for _ in range(vectors_max)]
    pairs = [(t, d) for t in tenant_names(tenants) for d in DOMAINS]
    step = step_us(len(pairs))
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
    return _produce(_producer(settings, compression_codec=compression), topic, records, misroute)


def fill_at_once(settings: Settings, topic: str, records: Iterator[tuple[bytes, bytes]]) -> int:
    """Produce records in one transaction: they are read from the same moment on, the return's."""
    name = f"{settings.namespace}-filling"
    producer = _producer(settings, transactional_id=name, transaction_timeout_ms=TRANSACTION_MS)
    producer.init_transactions(ANSWER_S)
    producer.begin_transaction()
    produced = _produce(producer, topic, records)
    producer.commit_transaction(ANSWER_S)
    return produced


def _producer(settings: Settings, **more: str | int) -> Producer:
    return Producer(
        settings.librdkafka(
            partitioner="murmur2_random",
            linger_ms=20,
            batch_size=1_000_000,
            queue_buffering_max_messages=1_000_000,
            **more,
        )
    )


def _produce(
    producer: Producer,
    topic: str,
    records: Iterator[tuple[bytes, bytes]],
    misroute: Callable[[int], int] | None = None,
) -> int:
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
    if left := producer.flush(ANSWER_S):
        raise TimeoutError(f"{left} records of {topic} aren't acknowledged after {ANSWER_S:.0f} s")
    return produced
