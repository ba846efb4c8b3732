"""Who is in the groups of services and isn't ours: they take partitions whose records nobody does.

The group of the workers has a protocol name of its own, so the broker lets no stranger in. Those of
services deal out by the client's own protocols: whoever knows their names is let in.

By aiokafka and once, not by librdkafka on a schedule: its admin client ends the process
(`rd_kafka_enq_once_del_source_return`) where a group's coordinator goes while it is asked.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

import topics.connection  # noqa: F401 (its hooks)
from agents.engine.security import security
from agents.services.stream import client_of, group_of

if TYPE_CHECKING:
    from agents.settings import Settings


async def strangers(settings: "Settings", seconds: float) -> list[str]:
    """Who is in the groups of services and isn't ours, in words, a group each.

    Raises aiokafka's `KafkaError`, OSError; TimeoutError: no answer within so many seconds.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=settings.bootstrap(), client_id=settings.prefix("soma-doctor"),
        request_timeout_ms=int(seconds * 1000), **security(settings),
    )  # fmt: skip
    before = group_of(settings, "")
    try:
        async with asyncio.timeout(seconds):
            await admin.start()
            listed = [one[0] for one in await admin.list_consumer_groups()]
            ours = sorted(name for name in listed if name.startswith(before))
            # One by one: aiokafka 0.14 reads an answer about several groups by an older schema.
            answers = [await admin.describe_consumer_groups([name]) for name in ours]
    finally:
        await admin.close()
    found = []
    for _, group, _, _, _, members, *_ in (one for (answer,) in answers for one in answer.groups):
        client = client_of(settings, group.removeprefix(before))
        if said := in_words(client, members):
            found.append(f"others are in {group}, and what they read isn't done: {said}")
    return found


def in_words(client: str, members: Iterable[tuple[Any, ...]]) -> str:
    """Which of a group's members, as they are described, have another client id than ours."""
    found = []
    for *_, client_id, host, _, assignment in members:
        if client_id == client:
            continue
        has = ConsumerProtocolMemberAssignment.decode(assignment).partitions() if assignment else []
        numbers = ", ".join(str(one.partition) for one in sorted(has))
        taken = f"has the partitions {numbers}" if numbers else "waits for partitions"
        found.append(f"{client_id!r} of {host.lstrip('/')} {taken}")
    return "; ".join(sorted(found))
