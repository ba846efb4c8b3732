"""What the driver publishes: an endless, deterministic mixture of good, odd and bad records.

Observations and direct predictor_updates of a few tenants in three domains; event times rise per
tenant, with late records and long silences (stale domains) among them; some records are JSON, some
misrouted, some bad, some are settings in band. The same seed gives the same records.
"""

import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple

from ops.prove.partitions import home
from ops.prove.wire import Wire

OBSERVATIONS = "cog.observations"
UPDATES = "cog.predictor.updates"
DOMAINS = ("state", "agent", "action")
START_MICROS = 1_750_000_000_000_000  # June 2025: the past, so that no clock can refuse it

INTEGRATOR_SETTINGS = (
    ("fusion", "hedge"), ("fusion", "softmax"), ("fusion", "fixed_share"), ("fusion", ""),
    ("alpha", "1.5"), ("share", "0.01"), ("temperature", "0.7"), ("entropy_cap", "0.6"),
    ("entropy_cap", ""), ("margin", "0.1"), ("min_dwell_ms", "250"), ("stale_after_ms", "4000"),
)  # fmt: skip
PREDICTOR_SETTINGS = (
    ("predictor", "persistence"), ("predictor", "mahal"), ("predictor", "heat"), ("predictor", ""),
    ("alpha", "1.0"), ("diffusion_time", "0.2"), ("graph", "ring"), ("graph", "star"),
    ("forgetting", "0.05"),
)  # fmt: skip


class Event(NamedTuple):
    """One record to publish. `partition` is the tenant's own, unless it is misrouted."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class Feed:
    """Iterates over events for ever."""

    def __init__(self, seed: int, wire: Wire, partitions: int, tenants: int = 40) -> None:
        self.random = Random(seed)
        self.wire = wire
        self.partitions = partitions
        self.tenants = [f"tenant-{number:03d}" for number in range(tenants)]
        self.clock = {
            tenant: START_MICROS + self.random.randrange(10**6) for tenant in self.tenants
        }
        self.vectors: dict[tuple[str, str], list[float]] = {}

    def __iter__(self) -> Iterator[Event]:
        while True:
            yield self._next()

    def _next(self) -> Event:
        draw = self.random.random()
        tenant = self.random.choice(self.tenants)
        topic = OBSERVATIONS if self.random.random() < 0.75 else UPDATES
        if draw < 0.003:
            return self._setting(tenant, topic)
        if draw < 0.012:
            return self._bad(tenant, topic)
        record = self._observation(tenant) if topic == OBSERVATIONS else self._update(tenant)
        value = self._json(topic, record) if draw < 0.04 else self._avro(topic, record)
        event = Event(topic, home(tenant, self.partitions), tenant.encode(), value)
        return self._misroute(event) if draw > 0.98 else event

    def _avro(self, topic: str, record: dict[str, Any]) -> bytes:
        return self.wire.encode(_schema(topic), record)

    def _json(self, topic: str, record: dict[str, Any]) -> bytes:
        given = dict(record)
        when = datetime.fromtimestamp(given["ts"] // 1_000_000, UTC)
        given["ts"] = when.replace(microsecond=given["ts"] % 1_000_000).isoformat()
        if topic == OBSERVATIONS:
            vector = given["vector"]
            given["vector"] = list(struct.unpack(f"<{len(vector) // 4}f", vector))
        return json.dumps(given).encode()

    def _time(self, tenant: str) -> int:
        """The tenant's next event time, microseconds: now and then late, or after a silence."""
        draw = self.random.random()
        if draw < 0.03:
            return self.clock[tenant] - self.random.randrange(1, 3_000_000)
        pause_ms = (
            self.random.randrange(9_000, 25_000) if draw > 0.995 else self.random.randrange(60)
        )
        self.clock[tenant] += pause_ms * 1000 + self.random.randrange(1000)
        return self.clock[tenant]

    def _observation(self, tenant: str) -> dict[str, Any]:
        domain = self.random.choice(DOMAINS)
        vector = self.vectors.get((tenant, domain))
        if vector is None or self.random.random() < 0.001:  # a new dimension starts a state anew
            size = self.random.choice((16, 16, 16, 5))
            vector = [self.random.gauss(0.0, 1.0) for _ in range(size)]
        jump = 20.0 if self.random.random() < 0.01 else 1.0
        spread = 0.05 * (1 + DOMAINS.index(domain)) * jump
        vector = [0.98 * x + self.random.gauss(0.0, spread) for x in vector]
        self.vectors[tenant, domain] = vector
        return {
            "tenant": tenant, "domain": domain, "ts": self._time(tenant),
            "vector": struct.pack(f"<{len(vector)}f", *vector),
            "sequence": self.random.choice((None, 7)),
        }  # fmt: skip

    def _update(self, tenant: str) -> dict[str, Any]:
        """A user's own prediction; a fourth domain of theirs comes and goes."""
        domain = self.random.choice((*DOMAINS, "extra"))
        return {
            "tenant": tenant, "domain": domain, "predictor_type": "mine",
            "error_metric": struct.unpack("<f", struct.pack("<f", self.random.expovariate(2.0)))[0],
            "prediction_latency_ms": 1.5, "model_version": "2", "vector_dim": 3,
            "confidence": 0.5, "observation_id": self.random.choice(("", "mine-17")),
            "ts": self._time(tenant),
        }  # fmt: skip

    def _setting(self, tenant: str, topic: str) -> Event:
        known = PREDICTOR_SETTINGS if topic == OBSERVATIONS else INTEGRATOR_SETTINGS
        setting, value = self.random.choice(known)
        partition = home(tenant, self.partitions)
        if self.random.random() < 0.05:
            tenant = "*"
        record = {"tenant": tenant, "setting": setting, "value": value, "author": "prove",
                  "ts": START_MICROS}  # fmt: skip
        return Event(topic, partition, tenant.encode(), self.wire.encode("control_setting", record))

    def _bad(self, tenant: str, topic: str) -> Event:
        record = self._observation(tenant) if topic == OBSERVATIONS else self._update(tenant)
        kind = self.random.randrange(8)
        value: bytes | None = None
        if kind == 0:
            value = self.random.randbytes(self.random.randrange(1, 60))
        elif kind == 1:
            value = self._avro(topic, record)[:-1]
        elif kind == 2:
            value = self._avro(topic, record) + b"\0"
        elif kind == 3:
            value = b'{"tenant": "' + tenant.encode() + b'"}'
        elif kind == 4:
            value = b"\0\0\0\xff\xff" + self._avro(topic, record)[5:]
        elif kind == 5:
            value = self._avro(topic, record | {"ts": 4_000_000_000_000_000})
        elif kind == 6 and topic == UPDATES:
            worst = self.random.choice((-1.0, float("nan"), float("inf")))
            value = self._avro(topic, record | {"error_metric": worst})
        elif kind == 6:
            vector = record["vector"][:-4] + struct.pack("<f", float("nan"))
            value = self._avro(topic, record | {"vector": vector})
        return Event(topic, home(tenant, self.partitions), tenant.encode(), value)

    def _misroute(self, event: Event) -> Event:
        kind = self.random.randrange(3)
        if kind == 0:
            return event._replace(key=None)
        if kind == 1:
            return event._replace(key=b"somebody")
        return event._replace(partition=(event.partition + 1) % self.partitions)


def _schema(topic: str) -> str:
    return "observation" if topic == OBSERVATIONS else "predictor_update"
