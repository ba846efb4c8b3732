"""What the tests of the relay share: rows in, records out, a relay in a thread."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import asyncpg
from confluent_kafka import Message
from prometheus_client import CollectorRegistry

from agents.outbox.relay import Relay
from agents.settings import OutboxDefaults, Settings
from stores.names import quoted, schema_of
from tests.live.agents.projections.compare import migrated
from tests.live.helpers import eventually, read
from topics import codec

T = TypeVar("T")
TOPIC = "cog.observations"


def made(settings: Settings, **law: Any) -> Settings:
    """The settings with this law of the outbox (no quota unless given), the schema made."""
    outbox = OutboxDefaults(**{"quota_per_minute": 0, **law})
    return migrated(settings.model_copy(update={"outbox": outbox}))


def asked(settings: Settings, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """Something done with a connection whose search path is the schema."""

    async def ask() -> T:
        connection = await asyncpg.connect(settings.postgres(), timeout=5.0)
        try:
            await connection.execute(f"SET search_path = {quoted(schema_of(settings.namespace))}")
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(ask())


def value(tenant: str, number: int) -> bytes:
    """A ready observation whose sequence is `number`."""
    record = {"tenant": tenant, "domain": "state", "ts": 1_700_000_000_000_000 + number}
    return codec.encode("observation", record | {"vector": b"\0\0\0\0", "sequence": number})


async def add(
    connection: Any, tenant: str, number: int, key: str | None = None, topic: str = TOPIC,
    what: bytes | None = None,
) -> int:  # fmt: skip
    """One ready event, a transaction of its own; its id."""
    content = value(tenant, number) if what is None else what
    found = await connection.fetchval(
        "SELECT soma_outbox_add_avro($1, $2, $3, $4, $5)",
        topic, tenant, content, f"{key}-{number}", key,
    )  # fmt: skip
    return int(found)


async def add_all(connection: Any, tenant: str, numbers: range, key: str | None = None) -> None:
    """Many of them in one transaction."""
    async with connection.transaction():
        await connection.executemany(
            "SELECT soma_outbox_add_avro($1, $2, $3, $4, $5)",
            [(TOPIC, tenant, value(tenant, n), f"{key}-{n}", key) for n in numbers],
        )


def header(message: Message, name: str) -> bytes | None:
    """A header's value; None without it."""
    return dict(message.headers() or []).get(name)  # type: ignore[return-value]


def sequences(settings: Settings, topic: str = TOPIC) -> dict[tuple[str, str], list[int]]:
    """(tenant, scope of order) -> the sequences in the topic, in its order."""
    found: dict[tuple[str, str], list[int]] = {}
    for message in read(settings, topic):
        record = codec.decode(message.value() or b"")[1]
        key = (header(message, "soma-key") or b"").decode()
        found.setdefault((record["tenant"], key), []).append(record["sequence"])
    return found


def queued(settings: Settings) -> int:
    """Rows that pend or have failed."""
    return asked(settings, lambda c: c.fetchval("SELECT count(*) FROM outbox_queue"))


class Running:
    """A relay in a thread, which ends with the block."""

    def __init__(self, settings: Settings) -> None:
        self.registry = CollectorRegistry()
        self.error: BaseException | None = None
        self.relay: Relay | None = None
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.error = error

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.relay = Relay(self._settings, self.registry)
        await self.relay.run()

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self.relay is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self.relay.stop)
        self._thread.join(10.0)
        assert not self._thread.is_alive(), "the relay doesn't end"
        assert self.error is None, self.error

    def count(self, result: str) -> int:
        """Rows counted with this result."""
        found = self.registry.get_sample_value("soma_outbox_relayed_total", {"result": result})
        return int(found or 0)

    @property
    def owned(self) -> int:
        """Shards that are taken and work."""
        shards = self.relay.shards if self.relay is not None else {}
        return sum(one.running for one in list(shards.values()))

    def await_shards(self, count: int) -> None:
        """Return once so many shards are ours."""
        eventually(lambda: self.error is not None or self.owned == count, 60.0, f"{count} shards")

    def statements(self) -> int:
        """What was sent to the database so far."""
        assert self.relay is not None and self.relay.resources is not None
        return self.relay.resources.statements.sent
