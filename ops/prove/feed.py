"""What the driver publishes: an endless, deterministic mixture of good, odd and bad records.

Observations and direct predictor_updates of a few tenants in three domains; event times rise per
tenant, with late records and long silences (stale domains) among them; spreads and errors change
for a while, so that there are segments; some records are JSON, some misrouted, some bad, some are
settings in band. A few tenants are busier than the others. The same seed gives the same records.
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
FRAMES = "cog.global.frame"
SCHEMAS = {OBSERVATIONS: "observation", UPDATES: "predictor_update", FRAMES: "global_frame"}
BUSY = 3  # tenants that have a third of the records to themselves
REGIMES = (1.0, 1.0, 4.0)  # factors on the spread; half of the time the plain one
REGIME_RECORDS = 60  # that a regime lasts, on the average
DOMAINS = ("state", "agent", "action")
START_MICROS = 1_750_000_000_000_000  # June 2025: the past, so that no clock can refuse it

COURSE: dict[int, tuple[str, int, str, str]] = {  # record -> topic, number of the tenant, setting
    1: (FRAMES, 0, "hmm", "on"),
    2: (FRAMES, 1, "cpd", "bocpd"),
    3: (FRAMES, 2, "threshold", "on"),
    4: (FRAMES, 2, "max_dwell_ms", "3000"),
    5: (FRAMES, 3, "hmm", "on"),
    6: (FRAMES, 4, "cpd@action", "bocpd"),
    7: (UPDATES, 0, "auto_rollback", "on"),
    8: (UPDATES, 0, "drift_cooldown_s", "1.0"),
    9: (UPDATES, 1, "drift_entropy", "0.1"),
    3000: (UPDATES, 0, "temperature", "50.0"),
    5000: (UPDATES, 0, "fusion", "softmax"),
}
INTEGRATOR_SETTINGS = (
    ("fusion", "hedge"), ("fusion", "softmax"), ("fusion", "fixed_share"), ("fusion", ""),
    ("alpha", "1.5"), ("share", "0.01"), ("temperature", "0.7"), ("entropy_cap", "0.6"),
    ("entropy_cap", ""), ("margin", "0.1"), ("min_dwell_ms", "250"), ("stale_after_ms", "4000"),
    ("drift_entropy", "0.4"), ("drift_cooldown_s", "5.0"), ("drift", "off"), ("drift", ""),
    ("auto_rollback", "on"),
)  # fmt: skip
PREDICTOR_SETTINGS = (
    ("predictor", "persistence"), ("predictor", "mahal"), ("predictor", "heat"), ("predictor", ""),
    ("alpha", "1.0"), ("diffusion_time", "0.2"), ("graph", "ring"), ("graph", "star"),
    ("forgetting", "0.05"), ("calibrate", "off"), ("calibrate", ""), ("calibrate_every", "100"),
    ("next_events", "off"), ("next_events", ""),
)  # fmt: skip
SEGMENTATION_SETTINGS = (
    ("threshold", "on"), ("threshold", ""), ("gradient", "0.5"), ("cpd", "bocpd"), ("cpd", "off"),
    ("cpd", ""), ("hmm", "on"), ("hmm", "off"), ("leader", "off"), ("leader", ""),
    ("min_gap_ms", "500"), ("max_dwell_ms", "5000"), ("cpd@agent", "bocpd"), ("cpd@agent", ""),
)  # fmt: skip
SETTINGS = {
    OBSERVATIONS: PREDICTOR_SETTINGS, UPDATES: INTEGRATOR_SETTINGS, FRAMES: SEGMENTATION_SETTINGS,
}  # fmt: skip


class Event(NamedTuple):
    """One record to publish. `partition` is the tenant's own, unless it is misrouted."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class Feed:
    """Iterates over events for ever."""

    def __init__(
        self, seed: int, wire: Wire, partitions: int, tenants: int = 40, odd: float = 1.0
    ) -> None:
        """`odd`: factor on the share of settings, bad and misrouted records."""
        self.odd = odd
        self.random = Random(seed)
        self.wire = wire
        self.partitions = partitions
        self.tenants = [f"tenant-{number:03d}" for number in range(tenants)]
        self.clock = {
            tenant: START_MICROS + self.random.randrange(10**6) for tenant in self.tenants
        }
        self.vectors: dict[tuple[str, str], list[float]] = {}
        self.regimes: dict[tuple[str, str], float] = {}
        self.count = 0
        self.frames = 0  # of users' own making

    def __iter__(self) -> Iterator[Event]:
        while True:
            yield self._next()

    def _next(self) -> Event:
        self.count += 1
        if self.count in COURSE:
            topic, number, setting, text = COURSE[self.count]
            return self._control(topic, self.tenants[number], setting, text)
        draw = self.random.random()
        busy = self.random.random() < 1 / 3
        tenant = self.random.choice(self.tenants[:BUSY] if busy else self.tenants)
        if draw < 0.003 * self.odd:
            return self._setting(tenant, self.random.choice((OBSERVATIONS, UPDATES, FRAMES)))
        topic = self.random.choices((OBSERVATIONS, UPDATES, FRAMES), (73, 24, 3))[0]
        if draw < 0.012 * self.odd:
            return self._bad(tenant, topic)
        record = self._record(tenant, topic)
        value = self._json(topic, record) if draw < 0.04 * self.odd else self._avro(topic, record)
        event = Event(topic, home(tenant, self.partitions), tenant.encode(), value)
        return self._misroute(event) if draw > 1.0 - 0.02 * self.odd else event

    def _record(self, tenant: str, topic: str) -> dict[str, Any]:
        if topic == OBSERVATIONS:
            return self._observation(tenant)
        return self._update(tenant) if topic == UPDATES else self._frame(tenant)

    def _avro(self, topic: str, record: dict[str, Any]) -> bytes:
        return self.wire.encode(SCHEMAS[topic], record)

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
        jump = 20.0 if self.random.random() < 0.01 else self._regime(tenant, domain)
        spread = 0.05 * (1 + DOMAINS.index(domain)) * jump
        vector = [0.98 * x + self.random.gauss(0.0, spread) for x in vector]
        self.vectors[tenant, domain] = vector
        return {
            "tenant": tenant, "domain": domain, "ts": self._time(tenant),
            "vector": struct.pack(f"<{len(vector)}f", *vector),
            "sequence": self.random.choice((None, 7)),
        }  # fmt: skip

    def _regime(self, tenant: str, domain: str) -> float:
        """The factor on the spread of a domain, which changes now and then."""
        if (tenant, domain) not in self.regimes or self.random.random() * REGIME_RECORDS < 1.0:
            self.regimes[tenant, domain] = self.random.choice(REGIMES)
        return self.regimes[tenant, domain]

    def _update(self, tenant: str) -> dict[str, Any]:
        """A user's own prediction; a fourth domain of theirs comes and goes."""
        domain = self.random.choice((*DOMAINS, "extra"))
        error = self.random.expovariate(2.0) * self._regime(tenant, domain)
        return {
            "tenant": tenant, "domain": domain, "predictor_type": "mine",
            "error_metric": struct.unpack("<f", struct.pack("<f", error))[0],
            "prediction_latency_ms": 1.5, "model_version": "2", "vector_dim": 3,
            "confidence": 0.5, "observation_id": self.random.choice(("", "mine-17")),
            "ts": self._time(tenant),
        }  # fmt: skip

    def _frame(self, tenant: str) -> dict[str, Any]:
        """A frame of a user's own making, of a domain that nothing else moves."""
        self.frames += 1
        errors = {"mine": abs(self.random.gauss(self._regime(tenant, "mine"), 0.1)), "extra": 0.5}
        return {
            "frame_id": f"mine-{self.frames}", "tenant": tenant, "ts": self._time(tenant),
            "domain": "mine", "leader": self.random.choice(("mine", "mine", "extra")),
            "weights": {"mine": 0.75, "extra": 0.25}, "errors": errors, "confidence": 0.75,
            "entropy": 0.5, "regret_bound": 1.0, "dwell_ms": 3, "veto": "none", "rationale": "",
            "observation_id": "", "config_version": 0,
        }  # fmt: skip

    def _setting(self, tenant: str, topic: str) -> Event:
        setting, value = self.random.choice(SETTINGS[topic])
        everybody = self.random.random() < 0.05
        return self._control(topic, tenant, setting, value, everybody=everybody)

    def _control(
        self, topic: str, tenant: str, setting: str, value: str, *, everybody: bool = False
    ) -> Event:
        """A setting in band, in the partition of a tenant."""
        partition, key = home(tenant, self.partitions), tenant.encode()
        tenant = "*" if everybody else tenant
        record = {"tenant": tenant, "setting": setting, "value": value, "author": "prove",
                  "ts": START_MICROS}  # fmt: skip
        return Event(topic, partition, key, self.wire.encode("control_setting", record))

    def _bad(self, tenant: str, topic: str) -> Event:
        record = self._record(tenant, topic)
        kind = self.random.randrange(8)
        value: bytes | None = None
        if kind == 0:
            value = b"\x01" + self.random.randbytes(self.random.randrange(60))
        elif kind == 1:
            value = self._avro(topic, record)[:-1]
        elif kind == 2:
            value = self._avro(topic, record) + b"\0"
        elif kind == 3:
            value = b'{"tenant": "' + tenant.encode() + b'"}'
        elif kind == 4 and topic != FRAMES:  # which is ours alone: an unknown schema is an error
            value = b"\0\0\0\xff\xff" + self._avro(topic, record)[5:]
        elif kind == 5:
            value = self._avro(topic, record | {"ts": 4_000_000_000_000_000})
        elif kind == 6 and topic == UPDATES:
            worst = self.random.choice((-1.0, float("nan"), float("inf")))
            value = self._avro(topic, record | {"error_metric": worst})
        elif kind == 6 and topic == OBSERVATIONS:
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
