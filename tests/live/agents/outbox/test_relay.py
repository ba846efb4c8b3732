"""From a row to a record: once, in order, with its headers; and what is refused."""

import asyncio
import json
from typing import Any

import pytest

from agents.engine.builder import RawBuilder
from agents.engine.producer import Transactions
from agents.engine.records import frame_one
from agents.outbox import RECEIPTS
from agents.outbox.receipts import Receipt, Receipts, receipt
from agents.settings import Settings
from tests.live.agents.outbox.outbox import (
    TOPIC,
    Running,
    add,
    add_all,
    asked,
    header,
    made,
    queued,
    sequences,
    value,
)
from tests.live.helpers import PARTITIONS, eventually, read, topics_of
from topics import codec
from topics.partition import partition_of

MADE = (*topics_of("relay"), "cog.observations")


@pytest.fixture
def ready(topics: Settings) -> Settings:
    return made(topics, retry_first_s=0.05)


def drained(settings: Settings) -> None:
    eventually(lambda: queued(settings) == 0, what="an empty queue")


def test_rows_become_records_once_each_in_the_order_of_their_key(ready: Settings) -> None:
    async def before(connection: Any) -> None:
        for key in ("a", "b", None):
            await add_all(connection, "acme", range(300), key)

    async def later(connection: Any) -> None:
        await add_all(connection, "acme", range(300, 400), "a")
        for number in range(20):
            await add(connection, "zeta", number, "z")

    asked(ready, before)
    with Running(ready) as running:
        drained(ready)
        asked(ready, later)
        drained(ready)
        assert running.count("sent") == 1020
    assert sequences(ready) == {
        ("acme", "a"): list(range(400)),
        ("acme", "b"): list(range(300)),
        ("acme", "acme"): list(range(300)),
        ("zeta", "z"): list(range(20)),
    }


def test_a_record_has_the_tenants_key_and_partition_and_all_headers(ready: Settings) -> None:
    headers = {"traceparent": "00-1-2-01", "n": 5, "gone": None, "tenant-id": "another"}
    record = {"tenant": "acme", "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": [1, 2]}

    async def write(connection: Any) -> tuple[int, str]:
        found = await connection.fetchrow(
            "SELECT soma_outbox_add($1, $2, $3, $4, $5, $6) AS id",
            TOPIC, "acme", json.dumps(record), "d-1", "orders/7", json.dumps(headers),
        )  # fmt: skip
        at = await connection.fetchval(
            "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
            " FROM outbox_events WHERE id = $1", found["id"],
        )  # fmt: skip
        return found["id"], at

    number, at = asked(ready, write)
    with Running(ready):
        drained(ready)
    (message,) = read(ready, TOPIC)
    assert message.key() == b"acme"
    assert message.partition() == partition_of("acme", PARTITIONS)
    assert message.value() == codec.encode("observation", codec.from_json("observation", record))
    assert message.headers() == [
        ("ce_specversion", b"1.0"),
        ("ce_source", f"/soma_{ready.namespace}/outbox".encode()),
        ("ce_type", TOPIC.encode()),
        ("ce_id", str(number).encode()),
        ("ce_time", at.encode()),
        ("tenant-id", b"acme"),
        ("dedupe-key", b"d-1"),
        ("soma-key", b"orders/7"),
        ("n", b"5"),
        ("gone", None),
        ("traceparent", b"00-1-2-01"),
    ]


def test_what_was_sent_but_not_taken_off_isnt_sent_again(ready: Settings) -> None:
    """As after kill -9 between commit and DELETE, while another shard's transaction is open."""

    async def write(connection: Any) -> tuple[int, int]:
        first = await add(connection, "acme", 1, "k")
        await add(connection, "acme", 2, "k")
        return first, await connection.fetchval("SELECT outbox_shard('acme', 'k')")

    first, shard = asked(ready, write)
    place = Receipts(ready, PARTITIONS).partition
    other = next(n for n in range(16) if n != shard and place(n) == place(shard))

    async def as_killed() -> None:
        blocked, ours = (
            Transactions(ready.bootstrap(), ready.prefix(f"outbox-{n}"), {}) for n in (other, shard)
        )
        await blocked.start()
        await blocked._producer.begin_transaction()
        paper = receipt(other, Receipt([999]), 0)
        await (await blocked._producer.send_batch(
            paper, ready.topic(RECEIPTS), partition=place(other)
        ))  # fmt: skip
        await ours.start()
        framed = frame_one(0, b"acme", value("acme", 1), [("soma-key", b"k")])
        await ours.commit(
            [
                (ready.topic(TOPIC), partition_of("acme", PARTITIONS), RawBuilder(framed, 1)),
                (ready.topic(RECEIPTS), place(shard), receipt(shard, Receipt([first]), 0)),
            ]
        )
        await ours.stop()
        await blocked.stop()

    asyncio.run(as_killed())
    with Running(ready) as running:
        drained(ready)
        assert running.count("sent") == 1
    assert sequences(ready) == {("acme", "k"): [1, 2]}


def test_a_refused_row_holds_back_its_own_key_only(ready: Settings) -> None:
    async def write(connection: Any) -> None:
        await add(connection, "acme", 0, "a")
        await add(connection, "acme", 1, "a", what=value("other", 1))  # another's tenant
        await add(connection, "acme", 2, "a")
        await add(connection, "acme", 3, "b", topic="no.such.topic")
        await add(connection, "acme", 4, "b")
        await add(connection, "acme", 5, "c")

    async def rows(connection: Any) -> list[tuple[str, int, str]]:
        found = await connection.fetch(
            "SELECT status, retries, coalesce(last_error, '') FROM outbox_queue ORDER BY id"
        )
        return [tuple(row) for row in found]

    async def replay(connection: Any) -> None:
        await connection.execute(
            "UPDATE outbox_events SET topic = $1, value = $2 WHERE topic = 'no.such.topic'",
            TOPIC, value("acme", 3),
        )  # fmt: skip
        await connection.execute("UPDATE outbox_queue SET status = 'pending' WHERE retries > 0")

    asked(ready, write)
    with Running(ready) as running:
        eventually(lambda: running.count("failed") == 2)
        found = asked(ready, rows)
        assert [row[:2] for row in found] == [
            ("failed", 0), ("pending", 0), ("failed", 5), ("pending", 0)
        ]  # fmt: skip
        assert found[0][2].startswith("bad_tenant:") and found[2][2].startswith("unknown_topic:")
        assert sequences(ready) == {("acme", "a"): [0], ("acme", "c"): [5]}
        asked(ready, replay)
        eventually(lambda: queued(ready) == 2)
    assert sequences(ready)["acme", "b"] == [3, 4]


def test_headers_of_every_kind_reach_the_record(ready: Settings) -> None:
    async def write(connection: Any) -> None:
        await add(connection, "acme", 0)

    asked(ready, write)
    with Running(ready):
        drained(ready)
    (message,) = read(ready, TOPIC)
    assert header(message, "soma-key") == b"acme" and header(message, "traceparent") is None
