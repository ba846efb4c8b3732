"""A proxy on loopback before a broker that keeps answers back, is late with them, or gives its own.

It reads the headers of requests (api, correlation id, client id) and, in the answers that say where
brokers are, puts its own port in place of theirs, so that clients stay behind it. Format: Kafka
protocol guide, request header versions 1 and 2.
"""

import asyncio
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

PRODUCE, FETCH, METADATA, OFFSET_FETCH, FIND_COORDINATOR, HEARTBEAT = 0, 1, 3, 9, 10, 12
OFFSET_COMMIT, JOIN_GROUP, SYNC_GROUP = 8, 11, 14
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
    hits: int = 0

    def applies(self, api: int, client: str) -> bool:
        return api == self.api and self.client in client and self.hits < self.times


@dataclass
class _Link:
    """One client's connection: what it asked and hasn't heard."""

    writer: asyncio.StreamWriter
    asked: dict[int, tuple[int, Rule | None]] = field(default_factory=dict)
    dumb: bool = False


class Proxy:
    """Runs in a thread of its own between `with` and its end."""

    def __init__(self, broker: str) -> None:
        host, _, port = broker.partition(":")
        self._broker = host, int(port)
        self._rules: list[Rule] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        served = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10.0)
        self._server = served
        self._port = int(served.sockets[0].getsockname()[1])
        self.address = f"127.0.0.1:{self._port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def rule(self, one: Rule) -> Rule:
        """From now on; returned, so that its hits can be counted."""
        self._rules.append(one)
        return one

    def free(self) -> None:
        """No rule any more. What was kept back stays so."""
        self._rules.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            up, down = await asyncio.open_connection(*self._broker)
            link = _Link(writer)
            both = [
                asyncio.create_task(self._requests(reader, down, link)),
                asyncio.create_task(self._answers(up, link)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in both:
                    one.cancel()
                await asyncio.gather(*both, return_exceptions=True)
                down.close()
        except OSError:
            pass  # the broker is away: so is this connection
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _requests(
        self, reader: asyncio.StreamReader, down: asyncio.StreamWriter, link: _Link
    ) -> None:
        async for frame in _Frames(reader):
            api, version, correlation, length = struct.unpack_from(">hhih", frame)
            client = frame[10 : 10 + max(0, length)].decode()
            rule = next((one for one in self._rules if one.applies(api, client)), None)
            if rule is not None:
                rule.hits += 1
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
                host, port = self._broker
                theirs = host.encode() + struct.pack(">i", port)
                frame = frame.replace(theirs, host.encode() + struct.pack(">i", self._port))
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
