"""What the relay asks of PostgreSQL. Its statements are in `outbox_sql`, the tables in migration 2.

One session, the keeper, holds the advisory locks: whoever loses it owns no shard any more. The work
goes over a few other connections. Every failure of the store is `StoreDown`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from stores import migrations
from stores import outbox_sql as sql
from stores.errors import NotMigrated, StoreDown
from stores.names import quoted
from stores.postgres import STATEMENT_S, connect, connected, down, said
from stores.projection_store import LOST

PRESENT = 200  # the lock that every relay holds shared: so many are alive
DOZING = 100  # and shard: the lock by which writers know that its relay sleeps
SILENCE_S = 10  # a keeper that says nothing for so long loses its locks
ALONE_S = 60  # seconds
TENANTS_MAX = 1000  # that have their turn in one batch


class TooHeavyError(Exception):
    """These rows together are more than a batch may hold, or PostgreSQL can print: ask for less."""


class MovedError(StoreDown):
    """The shard isn't at the batch where it was: another database answers. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Picked:
    """What may be sent of a shard: ids by tenant, in the order of turns (none: nothing now)."""

    ids: Mapping[str, Sequence[int]]
    last: str  # the tenant that was looked at last
    more: bool  # others had no turn
    batch: int  # the last one taken off this shard's queue
    held: Sequence[str] = ()  # tenants whose rows all wait behind others of their keys


@dataclass(frozen=True, slots=True)
class State:
    """Of some shards: rows that pend, the age of the oldest, keys that a failed row holds back."""

    pending: int
    oldest_s: float
    blocked: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the database is: batches taken off each shard's queue, and when; the last id."""

    batches: Mapping[int, int]
    taken_at: Mapping[int, datetime]  # of shards of which something was
    top: int


class Statements:
    """Counts what is sent to the database, but for connecting."""

    def __init__(self) -> None:
        self.sent = 0


class RelayConnection:
    """A connection for the work. Not for two tasks at a time."""

    def __init__(self, connection: Any, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements

    async def _fetch(self, text: str, *args: Any) -> list[Any]:
        self._statements.sent += 1
        rows: list[Any] = await self._connection.fetch(text, *args)
        return rows

    async def pick(
        self, shard: int, after: str, places: int, most: int, dry: Sequence[str]
    ) -> Picked:
        """Choose up to `places` rows of a shard, `most` for one tenant, none of those in `dry`."""
        width = min(TENANTS_MAX, places)
        rows = await self._fetch(sql.PICK, shard, after, places, most, dry, width)
        ids = {row["tenant"]: row["ids"] for row in rows if row["ids"]}
        held = [row["tenant"] for row in rows if row["held"] and not row["ids"]]
        last, batch = (rows[-1]["tenant"], rows[-1]["batch"]) if rows else (after, 0)
        return Picked(ids, last, len(rows) == width, batch, held)

    async def standing(self) -> Standing:
        """How far the database is."""
        rows = await self._fetch(sql.STANDING)
        return Standing(
            {row["shard"]: row["n"] for row in rows},
            {row["shard"]: row["taken_at"] for row in rows if row["taken_at"] is not None},
            rows[0]["top"] if rows else 0,
        )

    async def names(self, ids: Sequence[int]) -> bytes:
        """As `fetch`, without what the rows say."""
        return await self._copied(sql.NAMES, ids, sys.maxsize)

    async def fetch(self, ids: Sequence[int], bytes_max: int) -> bytes:
        """The rows of these ids as a binary COPY, in their order. `TooHeavyError`: ask for less."""
        return await self._copied(sql.FETCH, ids, bytes_max)

    async def _copied(self, text: str, ids: Sequence[int], bytes_max: int) -> bytes:
        parts: list[bytes] = []
        size = 0

        async def take(data: bytes) -> None:
            nonlocal size
            size += len(data)
            if size > bytes_max:
                raise TooHeavyError(f"more than {bytes_max} bytes in {len(ids)} rows")
            parts.append(data)

        self._statements.sent += 1
        query = text.format(ids=",".join(map(str, ids)))
        try:
            await self._connection.copy_from_query(query, output=take, format="binary")
        except asyncpg.ProgramLimitExceededError as error:  # a row that can't even be printed
            raise TooHeavyError(said(error)) from error
        return b"".join(parts)

    async def sent(self, shard: int, ids: Sequence[int], was: int, now: int) -> None:
        """Take these rows off the queue: the shard goes from batch `was` to `now`. `MovedError`."""
        if not await self._fetch(sql.SENT, shard, ids, was, now):
            raise MovedError(f"shard {shard} isn't at batch {was}")

    async def refused(
        self, shard: int, sent: Sequence[int], batches: tuple[int, int],
        why: Mapping[int, tuple[bool, str]], retry: tuple[int, float, float],
    ) -> dict[int, str]:  # fmt: skip
        """As `sent`; and those in `why` (id -> for good, error) wait for their next attempt.

        `batches` was and now; `retry`: how many retries, after how many seconds first and at most.
        Returns id -> its status now, of those that were pending.
        """
        rows = await self._fetch(
            sql.REFUSED, shard, sent, *batches, list(why), [final for final, _ in why.values()],
            [error for _, error in why.values()], *retry,
        )  # fmt: skip
        if not rows:
            raise MovedError(f"shard {shard} isn't at batch {batches[0]}")
        return {row["id"]: row["status"] for row in rows if row["id"] is not None}

    async def reserve(self, wanted: Mapping[str, int], per_minute: int) -> dict[str, int]:
        """Take so many rows off the tenants' allowances; how many each may send."""
        rows = await self._fetch(
            sql.RESERVE, list(wanted), list(wanted.values()), float(per_minute)
        )
        return {row["tenant_id"]: row["may"] for row in rows}

    async def waiting(self, shards: Sequence[int], longest_s: float) -> list[int]:
        """Those of the shards in which something pends that is due.

        What would wait for more than `longest_s`, the longest there is, had another clock: now.
        """
        return [row["s"] for row in await self._fetch(sql.WAITING, shards, longest_s)]

    async def recount(self) -> None:
        """Count the tenants anew that are refused more events."""
        await self._fetch(sql.RECOUNT)

    async def forget(self, days: float, after: int, most: int) -> tuple[int, int, int]:
        """Delete events of so many days ago, by the database's clock, among the next `most`.

        (gone, old ones looked at, the last id)
        """
        row = (await self._fetch(sql.FORGET, days, after, most))[0]
        return row["gone"], row["looked"], row["last_id"]

    async def state(self, shards: Sequence[int]) -> State:
        """Counts of these shards."""
        row = (await self._fetch(sql.STATE, shards))[0]
        return State(row["pending"], row["oldest_s"], row["blocked"])


class RelayConnections:
    """A few connections, made when they are needed."""

    def __init__(self, dsn: str, schema: str, count: int, statements: Statements) -> None:
        self._dsn = dsn
        self._schema = schema
        self._statements = statements
        self._free: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        for _ in range(count):
            self._free.put_nowait(None)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[RelayConnection]:
        """A connection for as long as the block takes; its errors are `StoreDown`."""
        connection = await self._free.get()
        try:
            if connection is None or connection.is_closed():
                connection = await _connect(self._dsn, self._schema, "soma relay")
            yield RelayConnection(connection, self._statements)
        except BaseException as error:
            # Cancelled or failed in the middle of something: nobody knows what would come next.
            if connection is not None:
                connection.terminate()
                connection = None
            if isinstance(error, LOST) and not isinstance(error, StoreDown):
                raise down(error) from error
            raise
        finally:
            self._free.put_nowait(connection)

    async def close(self) -> None:
        """Close all connections."""
        while not self._free.empty():
            if (connection := self._free.get_nowait()) is not None:
                connection.terminate()


class Keeper:
    """The session that holds the locks, and hears of new events while it does."""

    def __init__(self, connection: Any, statements: Statements, dsn: str, schema: str) -> None:
        self._connection = connection
        self._statements = statements
        self._turn = asyncio.Lock()
        self._dsn = dsn
        self._schema = schema

    @classmethod
    async def open(
        cls, dsn: str, schema: str, statements: Statements, heard: Callable[[str], None],
        lost: Callable[[], None],
    ) -> "Keeper":  # fmt: skip
        """Connect, say that we are here, and listen. `NotMigrated`, `StoreDown`."""
        # One that isn't answered for so long has lost its locks: it needn't wait any longer.
        connection = await _connect(dsn, schema, "soma relay keeper", SILENCE_S)
        try:
            steps = await migrations.status(connection, schema, migrations.load())
            pending = [step for step in steps if step.state == "pending"]
            if pending:
                raise NotMigrated(f"the schema {schema} lacks {pending[0]}")
            await connection.execute(sql.KEEPER.format(idle_s=SILENCE_S))
            await connection.execute(sql.PRESENT.format(present=PRESENT))
            await connection.add_listener(
                f"{schema}.outbox", lambda _c, _pid, _channel, payload: heard(payload)
            )
        except BaseException as error:
            connection.terminate()
            if isinstance(error, LOST) and not isinstance(error, StoreDown):
                raise down(error) from error
            raise
        connection.add_termination_listener(lambda _: lost())
        return cls(connection, statements, dsn, schema)

    async def _value(self, text: str, *args: Any) -> Any:
        try:
            async with self._turn:
                self._statements.sent += 1
                return await self._connection.fetchval(text, *args)
        except LOST as error:
            self._connection.terminate()
            raise down(error) from error

    async def take(self, shard: int) -> bool:
        """Become the shard's owner, unless there is one."""
        return bool(await self._value(sql.TAKE, shard))

    async def leave(self, shard: int) -> None:
        """Be its owner no longer."""
        await self._value(sql.LEAVE, shard)

    async def doze(self, shard: int) -> bool:
        """From now on writers notify; False: some are in the middle of it and won't."""
        return bool(await self._value(sql.TAKE, DOZING + shard))

    async def alone(self, shard: int) -> None:
        """Wait, for a minute at most, until nobody has the lock of `doze`: meanwhile all notify.

        Over a connection of its own. It holds no lock when this returns.
        """
        self._statements.sent += 1
        async with connected(self._dsn, "soma relay waits", ALONE_S + 5.0) as connection:
            await connection.execute(
                sql.PATIENT.format(schema=quoted(self._schema), wait_s=ALONE_S)
            )
            with suppress(asyncpg.LockNotAvailableError):
                await connection.execute(sql.ALONE, DOZING + shard)

    async def rouse(self, shard: int) -> None:
        """Writers needn't notify."""
        await self._value(sql.LEAVE, DOZING + shard)

    async def locks(self) -> tuple[int, set[int]]:
        """How many relays are alive, and which shards have an owner."""
        try:
            async with self._turn:
                self._statements.sent += 1
                rows = await self._connection.fetch(sql.LOCKS.format(present=PRESENT))
        except LOST as error:
            self._connection.terminate()
            raise down(error) from error
        held = [row[0] for row in rows]
        return held.count(PRESENT), {number for number in held if number < PRESENT}

    def close(self) -> None:
        """Let go of everything at once."""
        self._connection.terminate()


async def _connect(dsn: str, schema: str, name: str, statement_s: float = STATEMENT_S) -> Any:
    connection = await connect(dsn, name, statement_s)
    try:
        await connection.execute(sql.SESSION.format(schema=quoted(schema)))
    except LOST as error:
        connection.terminate()
        raise down(error) from error
    return connection
