"""Open transactions: whose hold readers of committed records up, since when, and ending them.

As `kafka-transactions.sh --find-hanging` does (KIP-664): the leaders of partitions say whose
transaction is open there, the brokers which of these they coordinate. One that none coordinates is
ended by nobody but by hand.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaException, Producer

import topics.connection  # noqa: F401 (its hooks)
from topics.broker import BrokerError
from topics.txn_protocol import (
    DescribeProducers,
    DescribeTransactions,
    ListTransactions,
    WriteTxnMarkers,
)

ANSWER_S = 20.0
_OF_TRANSACTIONS = 1  # a coordinator's type
_ENDED = ("Empty", "CompleteCommit", "CompleteAbort", "Dead")


@dataclass(frozen=True, slots=True)
class Open:
    """A transaction that is open in a partition: nothing behind its first record is readable."""

    topic: str
    partition: int
    first_offset: int
    producer_id: int
    epoch: int
    coordinator_epoch: int
    since_ms: int  # when it began; where nobody coordinates it, when it last wrote here
    transactional_id: str = ""  # empty: no broker coordinates it, so it stays open for ever
    timeout_ms: int = 0  # its coordinator aborts it so long after it began


async def look(bootstrap: str, security: Mapping[str, Any], topics: Sequence[str]) -> list[Open]:
    """What is open now in these topics, by topic and partition. BrokerError."""
    async with _client(bootstrap, security, topics) as client:
        found = [
            one
            for leader, places in _by_leader(client, topics).items()
            for one in await _at(client, leader, places)
        ]
        owners = await _owners(client, {one.producer_id for one in found}) if found else {}
    known = [_with_owner(one, owners.get(one.producer_id)) for one in found]
    return sorted(known, key=lambda one: (one.topic, one.partition, one.first_offset))


async def abort(bootstrap: str, security: Mapping[str, Any], one: Open) -> None:
    """End one that no broker coordinates: an abort marker into its partition. BrokerError."""
    async with _client(bootstrap, security, [one.topic]) as client:
        leader = client.cluster.leader_for_partition(TopicPartition(one.topic, one.partition))
        places: list[Any] = [(one.topic, [one.partition], {})]
        marker: Any = (one.producer_id, one.epoch, False, places, max(0, one.coordinator_epoch), {})
        answer = await client.send(leader, WriteTxnMarkers([marker]))
    for told in answer.to_object()["markers"]:
        for topic in told["topics"]:
            for partition in topic["partitions"]:
                _check(partition["error_code"], f"to abort producer {one.producer_id}")


def fence(config: Mapping[str, Any], transactional_id: str) -> None:
    """End the transaction of an id by taking it: its coordinator aborts it, and its producer can
    write no more. BrokerError.
    """
    quiet = {"log_level": 0, "transactional.id": transactional_id}
    try:
        Producer({**config, **quiet}).init_transactions(ANSWER_S)
    except KafkaException as error:
        raise BrokerError(
            f"The broker was asked to abort {transactional_id!r}: {error.args[0].str()}"
        ) from error


@asynccontextmanager
async def _client(
    bootstrap: str, security: Mapping[str, Any], topics: Sequence[str]
) -> AsyncIterator[AIOKafkaClient]:
    """A client that knows the leaders of these topics; all within ANSWER_S."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap, **security)
    try:
        async with asyncio.timeout(ANSWER_S):
            await client.bootstrap()
            await client.set_topics(topics)
            yield client
    except TimeoutError as error:
        raise BrokerError(
            f"Kafka at {bootstrap} was asked about open transactions and didn't answer "
            f"in {ANSWER_S:g} s"
        ) from error
    except (KafkaError, OSError) as error:
        raise BrokerError(
            f"Kafka at {bootstrap} was asked about open transactions: {error!r}"
        ) from error
    finally:
        await client.close()


def _by_leader(
    client: AIOKafkaClient, topics: Iterable[str]
) -> dict[int, list[tuple[str, list[int]]]]:
    """Broker -> the partitions that it leads. One without a leader holds nobody up by this."""
    found: dict[int, list[tuple[str, list[int]]]] = defaultdict(list)
    for topic in topics:
        led: dict[int, list[int]] = defaultdict(list)
        for partition in sorted(client.cluster.partitions_for_topic(topic) or ()):
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is not None and leader >= 0:
                led[leader].append(partition)
        for leader, partitions in led.items():
            found[leader].append((topic, partitions))
    return found


async def _at(
    client: AIOKafkaClient, leader: int, places: list[tuple[str, list[int]]]
) -> list[Open]:
    asked = DescribeProducers([(topic, partitions, {}) for topic, partitions in places])
    answer = (await client.send(leader, asked)).to_object()
    found = []
    for topic in answer["topics"]:
        for partition in topic["partitions"]:
            where = f"about the producers of {topic['name']}/{partition['partition']}"
            _check(partition["error_code"], where)
            found += [
                Open(
                    topic["name"], partition["partition"], one["first_offset"],
                    one["producer_id"], one["epoch"], one["coordinator_epoch"], one["last_ms"],
                )
                for one in partition["producers"]
                if one["first_offset"] >= 0
            ]  # fmt: skip
    return found


async def _owners(client: AIOKafkaClient, ids: set[int]) -> dict[int, dict[str, Any]]:
    """Producer id -> what its coordinator says of its transaction; without those it has ended."""
    found: dict[int, dict[str, Any]] = {}
    for broker in client.cluster.brokers():
        listed = (await client.send(broker.nodeId, ListTransactions([], sorted(ids)))).to_object()
        _check(listed["error_code"], "which transactions it coordinates")
        for one in listed["transactions"]:
            name = one["transactional_id"]
            asked = FindCoordinatorRequest(name, _OF_TRANSACTIONS)
            coordinator = (await client.send(broker.nodeId, asked)).to_object()
            _check(coordinator["error_code"], f"who coordinates {name!r}")
            answer = await client.send(coordinator["coordinator_id"], DescribeTransactions([name]))
            told = answer.to_object()["transactions"][0]
            _check(told["error_code"], f"about the transaction of {name!r}")
            if told["state"] not in _ENDED:
                found[one["producer_id"]] = told
    return found


def _with_owner(one: Open, told: dict[str, Any] | None) -> Open:
    """With what its coordinator says, if that knows that it is open in this partition."""
    if told is None or not any(
        place["name"] == one.topic and one.partition in place["partitions"]
        for place in told["places"]
    ):
        return one
    return replace(
        one,
        since_ms=told["start_ms"],
        transactional_id=told["transactional_id"],
        timeout_ms=told["timeout_ms"],
    )


def _check(code: int, what: str) -> None:
    if code:
        raise BrokerError(f"The broker was asked {what}: {for_code(code).__name__}")
