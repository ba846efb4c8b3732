"""Rewards and opinions of the frames that there are, now and then of others: as users give them."""

from collections import deque
from random import Random
from typing import Any

from ops.prove.feed import Event
from ops.prove.partitions import home
from ops.prove.reader import consumer, physical
from ops.prove.steering.learning import FRAMES, OPINIONS, REWARDS
from ops.prove.wire import UnreadableError, Wire

OF_FRAMES = 0.3  # part of the frames that somebody speaks of
KINDS = ("reward",) * 12 + ("opinion",) * 5 + (
    "twice", "ahead", "stranger", "nan", "rating", "late", "far"
)  # fmt: skip
LATE = 400  # frames
AHEAD = 40  # places in the log
READ_MAX = 500


class Opinions:
    """What some tenants' frames are said to be worth."""

    def __init__(self, tenants: list[str], wire: Wire, seed: int, partitions: int) -> None:
        self.tenants, self.wire, self.random = set(tenants), wire, Random(seed + 2)
        self.partitions = partitions
        self._past: deque[str] = deque(maxlen=LATE)

    def of(self, key: bytes | None, value: bytes) -> list[Event]:
        """What is to be published of a record of the topic of frames."""
        tenant = (key or b"").decode("utf-8", "replace")
        if tenant not in self.tenants or self.random.random() >= OF_FRAMES:
            return []
        try:
            name, frame = self.wire.decode(value, "global_frame")
        except UnreadableError:
            return []
        return self._of(tenant, frame) if name == "global_frame" else []

    def _of(self, tenant: str, frame: dict[str, Any]) -> list[Event]:
        frame_id, ts, kind = frame["frame_id"], frame["ts"], self.random.choice(KINDS)
        place, _, number = frame_id.rpartition("-")
        self._past.append(f"{tenant} {frame_id}")
        if kind == "ahead":
            frame_id = f"{place}-{int(number) + self.random.randrange(1, AHEAD)}"
        elif kind == "stranger":
            frame_id = self.random.choice(("00000000-0-7", "mine", "x-", f"{place}-{10**19}"))
        elif kind == "late":
            tenant, _, frame_id = self._past[0].partition(" ")
        elif kind == "far":
            ts += 10**15
        if kind in ("opinion", "rating"):
            rating = 7.0 if kind == "rating" else float(self.random.randint(1, 5))
            record = {"frame_id": frame_id, "tenant": tenant, "rating": rating, "comment": "",
                      "actor": "prove", "ts": ts}  # fmt: skip
            return [self._event(OPINIONS, "teach_feedback", tenant, record)]
        reward = self._event(REWARDS, "reward_event", tenant, self._reward(tenant, frame_id, kind))
        return [reward, reward] if kind == "twice" else [reward]

    def _reward(self, tenant: str, frame_id: str, kind: str) -> dict[str, Any]:
        draw = self.random.random
        return {
            "frame_id": frame_id, "tenant": tenant, "r_task": draw(), "r_user": draw() - 0.5,
            "r_latency": 0.1 * draw(), "r_safety": float("nan") if kind == "nan" else 0.0,
            "r_cost": 0.1, "total": draw() if kind == "reward" and draw() < 0.5 else None,
            "components": {}, "source": "prove", "waited": False,
            "ts": 1_750_000_000_000_000 + (10**15 if kind == "far" else 0),
        }  # fmt: skip

    def _event(self, topic: str, schema: str, tenant: str, record: dict[str, Any]) -> Event:
        value = self.wire.encode(schema, record)
        return Event(topic, home(tenant, self.partitions), tenant.encode(), value)


class Rewards:
    """Reads the frames that there are, as they come."""

    def __init__(self, bootstrap: str, namespace: str, opinions: Opinions) -> None:
        self.opinions = opinions
        self.reader, _ = consumer(bootstrap, [physical(namespace, FRAMES)])

    def step(self) -> list[Event]:
        """What is to be published now."""
        found: list[Event] = []
        for message in self.reader.consume(READ_MAX, 0.0):
            value, key = message.value(), message.key()
            if message.error() is None and isinstance(value, bytes):
                found += self.opinions.of(key if isinstance(key, bytes) else None, value)
        return found

    def close(self) -> None:
        """Let the consumer go."""
        self.reader.close()
