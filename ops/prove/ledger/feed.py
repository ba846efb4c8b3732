"""Moves for the ledger: deposits and transfers, bad ones, some in the wrong place, and settings."""

import io
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fastavro
from confluent_kafka import Message, Producer

from agents.settings import Settings
from ops.bench.broker import PARTITIONS
from ops.prove.partitions import home
from topics.schemas import schemas

TENANTS = [f"tenant-{k}" for k in range(120)]
# What a key may be made of: nothing, a slash, what isn't ASCII.
ACCOUNTS = ["", "a/b", "@position", "käse", "x y", *(f"account-{k}" for k in range(20))]
CUT_EVERY, ASTRAY_EVERY, OTHER_KEY_EVERY, SETTING_EVERY = 499, 301, 401, 60
DEPOSITS, NEGATIVE, CLOSES, OF_ALL = 0.6, 0.01, 0.04, 0.2  # parts: of moves, of those, of settings
FLUSH_S = 60.0
TRIED = (  # processor, setting, values
    ("accounts", "every", ("1", "2", "5", "")),
    ("totals", "every", ("1", "4", "")),
    ("", "every", ("3", "")),  # the keeper's
    ("accounts", "overdraft", ("0", "100", "1000", "")),
    ("accounts", "idle_ms", ("100", "300", "1500", "")),
    ("accounts", "forget_after_s", ("60", "60", "")),
    ("totals", "forget_after_s", ("60", "60", "")),
    ("accounts", "every", ("0", "often")),  # refused, as all of these
    ("totals", "idle_ms", ("300", "")),
    ("nobody", "every", ("2",)),
)


@dataclass(frozen=True, slots=True)
class Given:
    """A record to be sent, and where."""

    partition: int
    key: str
    value: bytes
    move: bool = True


def wire(schema: str, record: dict[str, Any]) -> bytes:
    """A record in the Confluent wire format, by fastavro."""
    known = schemas()
    out = io.BytesIO(b"\0" + known.schema_id(schema).to_bytes(4, "big"))
    out.seek(0, io.SEEK_END)
    fastavro.schemaless_writer(out, known.newest(schema), record)
    return out.getvalue()


def moves(count: int, seed: int) -> Iterator[Given]:
    """So many moves, with settings between them."""
    rng = random.Random(seed)
    for k in range(count):
        # Few tenants have most of the moves: the accounts of the others fall idle.
        tenant = TENANTS[int(len(TENANTS) * rng.random() ** 3)]
        value, at, key = _move(rng, k, tenant), home(tenant, PARTITIONS), tenant
        if k % CUT_EVERY == 5:
            yield Given(at, key, value[:-3])
            continue
        if k % ASTRAY_EVERY == 7:
            at = (at + rng.randrange(1, PARTITIONS)) % PARTITIONS
        if k % OTHER_KEY_EVERY == 9:
            key = "somebody"
        yield Given(at, key, value)
        if k % SETTING_EVERY == 11:
            yield from _setting(rng, tenant)


def _move(rng: random.Random, k: int, tenant: str) -> bytes:
    amount = rng.randrange(1, 200)
    move = {
        "tenant": tenant, "account": rng.choice(ACCOUNTS), "ts": time.time_ns() // 1000,
        "number": k, "amount": amount,
    }  # fmt: skip
    if rng.random() < DEPOSITS:
        sign = -1 if rng.random() < NEGATIVE else 1
        note = rng.choice((None, "", "grüße"))
        return wire("ledger_deposit", move | {"amount": sign * amount, "note": note})
    more = {"to": rng.choice(ACCOUNTS), "closes": rng.random() < CLOSES}
    return wire("ledger_transfer", move | more)


def _setting(rng: random.Random, tenant: str) -> Iterator[Given]:
    processor, name, values = rng.choice(TRIED)
    owner = "*" if rng.random() < OF_ALL else tenant
    value = wire("control_setting", {
        "tenant": owner, "setting": name, "value": rng.choice(values), "author": "feeder",
        "ts": time.time_ns() // 1000, "processor": processor,
    })  # fmt: skip
    places = range(PARTITIONS) if owner == "*" else [home(owner, PARTITIONS)]
    astray = owner != "*" and rng.random() < OF_ALL
    for place in places:
        yield Given((place + astray) % PARTITIONS, owner, value, move=False)


class Feeder(threading.Thread):
    """Produces the moves at their rate."""

    def __init__(self, settings: Settings, topic: str, count: int, rate: int, seed: int) -> None:
        super().__init__(name="feeder", daemon=True)
        self._topic, self._count, self._rate, self._seed = topic, count, rate, seed
        self._producer = Producer(settings.librdkafka(linger_ms=5))
        self.sent = 0
        self.failed: list[str] = []

    def run(self) -> None:
        begun, producer = time.monotonic(), self._producer
        for given in moves(self._count, self._seed):
            producer.produce(
                self._topic, given.value, given.key.encode(), given.partition,
                on_delivery=self._told,
            )  # fmt: skip
            self.sent += given.move
            if self.sent % 200 == 0:
                producer.poll(0)
                time.sleep(max(0.0, begun + self.sent / self._rate - time.monotonic()))
        if left := producer.flush(FLUSH_S):
            self.failed.append(f"{left} records weren't taken in {FLUSH_S:.0f} s")

    def _told(self, error: Any, _: Message) -> None:
        if error is not None:
            self.failed.append(str(error))
