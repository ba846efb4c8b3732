"""Dead letters as processors write them, put into their topic by hand."""

import asyncio
import struct
from collections.abc import Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from confluent_kafka import Message, Producer

from agents.settings import Settings
from tests.live.bad_input.test_bad_batches import Crafted, batch, varint
from topics import codec
from topics.partition import partition_of

TOPIC = "cog.observations"
DLQ = f"{TOPIC}.dlq"


def value(k: int = 0, tenant: str = "me") -> bytes:
    """An observation that is folded; its vector says which."""
    record = {"tenant": tenant, "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": [k, 1]}
    return codec.encode("observation", codec.from_json("observation", record))


def write_letters(
    settings: Settings, letters: Iterable[tuple[str, bytes, int]], reason: str = "ts_range",
    headers: Iterable[tuple[str, bytes]] = (),
) -> None:  # fmt: skip
    """Letters of (tenant, value, offset of its origin)."""
    producer = Producer(settings.librdkafka(linger_ms=20))
    failed: list[str] = []
    for tenant, data, offset in letters:
        home = partition_of(tenant, settings.topics_partitions)
        why: list[tuple[str, str | bytes | None]] = [
            *headers,
            ("soma-reason", reason.encode()),
            ("soma-detail", b"what was wrong"),
            ("soma-origin", f"{settings.topic(TOPIC)}/{home}/{offset}".encode()),
            ("soma-processor", b"predictors"),
        ]
        producer.produce(
            settings.topic(DLQ), key=tenant.encode(), value=data, headers=why, partition=home,
            on_delivery=lambda error, _: failed.append(str(error)) if error else None,
        )  # fmt: skip
        producer.poll(0)
    assert producer.flush(30.0) == 0 and not failed


def headers(message: Message) -> dict[str, bytes]:
    return {str(name): bytes(text or b"") for name, text in message.headers() or []}


def number(message: Message) -> int:
    """Which observation it is."""
    vector = codec.decode(message.value() or b"")[1]["vector"]
    return int(struct.unpack("<f", vector[:4])[0])


def write_nameless(settings: Settings, topic: str, count: int = 1) -> None:
    """Records with a header whose name isn't UTF-8, into partition 0: no client of ours can."""
    asyncio.run(_write_nameless(settings, topic, count))


async def _write_nameless(settings: Settings, topic: str, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap())
    await producer.start()
    try:
        whole: Any = Crafted(batch(b"".join(map(_nameless, range(count))), count), count)
        await (await producer.send_batch(whole, settings.topic(topic), partition=0))
    finally:
        await producer.stop()


def _nameless(delta: int) -> bytes:
    """A record of a batch: no key, the value x, a header called ff fe, without a value."""
    body = b"\0\0" + varint(delta) + varint(-1) + varint(1) + b"x"
    body += varint(1) + varint(2) + b"\xff\xfe" + varint(-1)
    return varint(len(body)) + body
