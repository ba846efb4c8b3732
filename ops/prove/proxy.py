"""A proxy on loopback before a broker that keeps answers back, is late with them, or gives its own.

It reads the headers of requests (api, correlation id, client id) and, in the answers that say where
brokers are, puts its own port in place of theirs, so that clients stay behind it. Format: Kafka
protocol guide, request header versions 1 and 2.
"""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from ops.prove.between import Between, Ends, Way

PRODUCE, FETCH, METADATA, OFFSET_FETCH, FIND_COORDINATOR, HEARTBEAT = 0, 1, 3, 9, 10, 12
OFFSET_COMMIT, JOIN_GROUP, LEAVE_GROUP, SYNC_GROUP = 8, 11, 13, 14
INIT_PRODUCER_ID, ADD_PARTITIONS, END_TXN, DESCRIBE_CLUSTER = 22, 24, 26, 60
NAMING_BROKERS = (METADATA, FIND_COORDINATOR, DESCRIBE_CLUSTER)
NAMES = {
    PRODUCE: "Produce", FETCH: "Fetch", METADATA: "Metadata", OFFSET_FETCH: "OffsetFetch",
    INIT_PRODUCER_ID: "InitProducerId", ADD_PARTITIONS: "AddPartitionsToTxn", END_TXN: "EndTxn",
}  # fmt: skip
CONCURRENT_TRANSACTIONS, COORDINATOR_LOAD_IN_PROGRESS, REBALANCE_IN_PROGRESS = 51, 14, 27


@dataclass
class Rule:
    """What happens to the answers of one api to clients of some name, `times` times."""

    api: int
    client: str  # a part of the client's id
    times: float = 1
    late_s: float | None = None  # None: never comes, nor anything behind it on that connection
    error: int = 0  # not the broker's answer, but this one
    lost: bool = False  # the request never gets there
    until: int | None = None  # an api: with the first request of it the rule is over
    hits: int = 0

    def applies(self, api: int, client: str) -> bool:
        return api == self.api and self.client in client and self.hits < self.times


@dataclass
class _Link:
    """One client's connection: what it asked and hasn't heard."""

    writer: asyncio.StreamWriter
    asked: dict[int, tuple[int, Rule | None]] = field(default_factory=dict)
    dumb: bool = False


class Proxy(Between):
    """Runs between `with` and its end."""

    def __init__(self, broker: str) -> None:
        host, _, port = broker.partition(":")
        super().__init__(host, int(port))
        self._rules: list[Rule] = []

    @property
    def address(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    def rule(self, one: Rule) -> Rule:
        """From now on; returned, so that its hits can be counted."""
        self._rules.append(one)
        return one

    def free(self) -> None:
        """No rule any more. What was kept back stays so."""
        self._rules.clear()

    def ways(self, client: Ends, server: Ends) -> tuple[Way, Way]:
        (reader, writer), (up, down) = client, server
        link = _Link(writer)
        return self._requests(reader, down, link), self._answers(up, link)

    async def _requests(
        self, reader: asyncio.StreamReader, down: asyncio.StreamWriter, link: _Link
    ) -> None:
        async for frame in _Frames(reader):
            api, version, correlation, length = struct.unpack_from(">hhih", frame)
            client = frame[10 : 10 + max(0, length)].decode()
            self._rules = [one for one in self._rules if one.until != api]
            rule = next((one for one in self._rules if one.applies(api, client)), None)
            if rule is not None:
                rule.hits += 1
            if rule is not None and rule.lost:
                continue
            if rule is not None and rule.error:
                answer = _CRAFTED[api](frame[10 + max(0, length) :], version, rule.error)
                _write(link.writer, struct.pack(">i", correlation) + answer)
                continue
            link.asked[correlation] = api, rule
            _write(down, frame)

    async def _answers(self, up: asyncio.StreamReader, link: _Link) -> None:
        async for frame in _Frames(up):
            (correlation,) = struct.unpack_from(">i", frame)
            api, rule = link.asked.pop(correlation)
            if api in NAMING_BROKERS:
                host, port = self.server
                theirs = host.encode() + struct.pack(">i", port)
                frame = frame.replace(theirs, host.encode() + struct.pack(">i", self.port))
            if rule is not None and rule.late_s is not None:
                await asyncio.sleep(rule.late_s)
            link.dumb = link.dumb or (rule is not None and rule.late_s is None)
            if not link.dumb:
                _write(link.writer, frame)


def _write(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)


class _Frames:
    """The frames of a connection, without their sizes, to its end."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            (size,) = struct.unpack(">i", await self._reader.readexactly(4))
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise StopAsyncIteration from None


def _init_producer_id(_: bytes, __: int, error: int) -> bytes:
    return struct.pack(">ihqh", 0, error, -1, -1)


def _end_txn(_: bytes, __: int, error: int) -> bytes:
    return struct.pack(">ih", 0, error)


def _heartbeat(_: bytes, version: int, error: int) -> bytes:
    return struct.pack(">ih", 0, error)[0 if version else 4 :]


def _add_partitions(body: bytes, _: int, error: int) -> bytes:
    """Version 0: the same topics and partitions, each with the error."""
    (length,) = struct.unpack_from(">h", body)
    at = 2 + length + 10
    (topics,) = struct.unpack_from(">i", body, at)
    at += 4
    answer = struct.pack(">ii", 0, topics)
    for _topic in range(topics):
        (length,) = struct.unpack_from(">h", body, at)
        answer += body[at : at + 2 + length]
        at += 2 + length
        (count,) = struct.unpack_from(">i", body, at)
        partitions = struct.unpack_from(f">{count}i", body, at + 4)
        answer += struct.pack(">i", count)
        answer += b"".join(struct.pack(">ih", number, error) for number in partitions)
        at += 4 + 4 * count
    return answer


_CRAFTED: dict[int, Callable[[bytes, int, int], bytes]] = {  # of body, version and error
    HEARTBEAT: _heartbeat, INIT_PRODUCER_ID: _init_producer_id, END_TXN: _end_txn,
    ADD_PARTITIONS: _add_partitions,
}  # fmt: skip
