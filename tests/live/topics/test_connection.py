"""What aiokafka's clients do when their connection breaks under a write, and when they end."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.client import CoordinationType
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
)
from aiokafka.protocol.metadata import MetadataRequest

from agents.engine.builder import RawBuilder
from agents.engine.producer import Transactions
from agents.engine.records import frame_one
from agents.settings import Settings
from ops.prove import proxy
from ops.prove.proxy import Proxy, Rule
from topics.connection import ClientEndedError, abandon, ended

MADE = ("cog.segments",)  # topics


def in_uvloop(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def batch(settings: Settings) -> list[tuple[str, int, RawBuilder]]:
    topic = settings.topic("cog.segments")
    return [(topic, 0, RawBuilder(frame_one(0, b"k", b"v", []), 1))]


def test_a_write_to_a_closed_transport_is_a_broken_connection(topics: Settings) -> None:
    """uvloop raises RuntimeError there (pinned: were it otherwise, the hook could go)."""

    async def broken() -> None:
        one = Transactions(topics.bootstrap(), topics.prefix("closed"), {})
        try:
            await one.start()
            connection = next(iter(one._producer.client._conns.values()))
            writer = connection._writer
            writer.transport.abort()
            await asyncio.sleep(0.1)
            with pytest.raises(RuntimeError, match="closed=True"):
                writer.write(b"x")
            connection._writer = writer  # as it is between the closing and its being heard of
            with pytest.raises(KafkaConnectionError, match=r"broken: .*closed=True"):
                connection.send(MetadataRequest([]))
            connection._writer = None
            await one.commit(batch(topics))
        finally:
            await one.stop()

    in_uvloop(broken())


def test_a_broker_that_names_no_nodes_is_not_ready(topics: Settings) -> None:
    """As it does while it starts; it was taken for a defect, and ended the worker."""

    async def nobody() -> None:
        one = Transactions(topics.bootstrap(), topics.prefix("nobody"), {})
        try:
            await one.start()
            client = one._producer.client
            client.cluster._brokers.clear()
            client.cluster._bootstrap_brokers.clear()
            with pytest.raises(NodeNotReadyError):
                await client.coordinator_lookup(CoordinationType.TRANSACTION, one.transactional_id)
        finally:
            await one.stop()

    in_uvloop(nobody())


@pytest.mark.parametrize("task", ["metadata", "sender"])
def test_a_producer_whose_own_task_has_ended_is_given_up_at_once(
    topics: Settings, task: str
) -> None:
    async def given_up() -> None:
        one = Transactions(topics.bootstrap(), topics.prefix("ended"), {}, 20.0, 50.0)
        await one.start()
        client = one._producer.client

        async def defect(*_: object) -> bool:
            raise ValueError("nobody foresaw this")

        if task == "metadata":
            client._metadata_update = defect
            client.force_metadata_update()
        else:
            one._producer._sender._maybe_wait_for_pid = defect
            client._maybe_wait_metadata = defect
        began = time.monotonic()
        with pytest.raises(KafkaError) as told:
            while True:
                await one.commit(batch(topics))
        assert time.monotonic() - began < 20.0
        if task == "metadata":
            assert isinstance(told.value, ClientEndedError) and "nobody foresaw" in str(told.value)
        await one.stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        _, left = await asyncio.wait(others, timeout=5.0) if others else (set(), set())
        assert not left

    in_uvloop(given_up())


def test_a_consumer_that_was_abandoned_leaves_nothing_behind(topics: Settings) -> None:
    async def abandoned() -> None:
        consumer = AIOKafkaConsumer(
            topics.topic("cog.segments"),
            bootstrap_servers=topics.bootstrap(),
            group_id=topics.prefix("abandoned"),
        )
        await consumer.start()
        assert ended(consumer) == ""
        abandon(consumer)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        _, left = await asyncio.wait(others, timeout=5.0)
        assert not left and "cancelled" in ended(consumer)
        assert not any(one.connected() for one in consumer._client._conns.values())

    in_uvloop(abandoned())


def test_a_commit_and_a_start_end_by_their_deadline_and_say_what_they_waited_for(
    topics: Settings,
) -> None:
    async def late(between: Proxy) -> None:
        name, busy = topics.prefix("late"), proxy.CONCURRENT_TRANSACTIONS
        for api, what in (
            (proxy.ADD_PARTITIONS, "the acknowledgement of 1 record batches"),
            (proxy.END_TXN, "the end of the transaction"),
            (proxy.INIT_PRODUCER_ID, "a producer id"),
        ):
            one = Transactions(between.address, name, {}, 1.0, 2.0)
            if api != proxy.INIT_PRODUCER_ID:
                await one.start()
            between.rule(Rule(api, name, 10**9, error=busy))
            with pytest.raises(KafkaTimeoutError, match=f"not within 2 s: {what}"):
                await (one.start() if api == proxy.INIT_PRODUCER_ID else one.commit(batch(topics)))
            between.free()
            await one.stop()

    with Proxy(topics.bootstrap()) as between:
        in_uvloop(late(between))
