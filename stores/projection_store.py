"""Rows of a projection and its position, written in one transaction of PostgreSQL.

A position is moved only from where its writer believes it to be (topic, offset and generation). So
of two owners of a partition one writes and the other is told that it was overtaken; a slow one can
neither repeat nor take back anything, and a projection that was dropped isn't filled by accident.

Statements of a `write` that isn't overtaken: BEGIN, the positions, COPY, COMMIT; whatever the
number of rows. Where the table may hold a row of the same key (the latest of each tenant, or what
is repeated) COPY goes into a temporary table, and a fifth statement takes them over from there.
One more takes away what tombstones name. For one thread only.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, TypeVar

import asyncpg

from stores import migrations, projection_sql
from stores.errors import StoreDown, StoreError
from stores.names import quoted
from stores.postgres import ANSWER_S, connect, down, said
from stores.projection_admin import discard
from stores.projection_sql import Position, Target
from stores.sqlstates import may_be_the_row

# What may be wrong with a row. (These the client finds before it sends the row, of the server's
# `of_row` says which.)
ROW_ERRORS = (asyncpg.PostgresError, OverflowError, TypeError, ValueError)
# The connection isn't what it was. The client's internal error is what it raises when the server's
# farewell came while nobody listened.
LOST = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
AGAIN = 100  # writes after a row that the table held: more may follow
T = TypeVar("T")
Row = tuple[Any, ...]


class DroppedError(StoreDown):
    """The projection was dropped by command, and not rebuilt yet."""


@dataclass(frozen=True, slots=True)
class Move:
    """A partition's position as its owner believes it to be, and as it is to be."""

    held: Position
    topic_id: str
    next_offset: int

    def after(self) -> Position:
        """The position once it is moved."""
        return Position(self.held.generation, self.topic_id, self.next_offset)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write: with partitions overtaken, nothing was written at all."""

    rows: int = 0  # new or changed
    deleted: int = 0
    overtaken: frozenset[int] = frozenset()
    refused: Mapping[int, str] = field(
        default_factory=dict
    )  # number of the row -> why it can't be stored


class ProjectionStore:
    """One projection's tables. Connects when it is asked something, and again after an outage."""

    def __init__(
        self, dsn: str, schema: str, target: Target, positions: str = projection_sql.POSITIONS
    ) -> None:
        """`positions`: the table of its positions."""
        self.target = target
        self.statements = 0  # sent so far, but for connecting
        self._dsn = dsn
        self._schema = schema
        self._sql = projection_sql.statements(quoted(schema), target, positions)
        self._runner = asyncio.Runner()
        self._connection: Any = None
        self._days: set[date] = set()
        self._merges = 0  # writes to come whose rows the table may hold
        self._asking: asyncio.Task[Any] | None = None
        self._aborted = False

    def positions(self, partitions: Iterable[int], topic_id: str) -> dict[int, Position]:
        """Where these partitions stand; those never heard of begin at 0 of this topic.

        `DroppedError` while the projection is dropped.
        """
        return self._asked(lambda: self._positions(sorted(partitions), topic_id))

    def look(self, partitions: Iterable[int]) -> dict[int, Position]:
        """Where these partitions stand; changes nothing."""
        return self._asked(lambda: self._look(sorted(partitions)))

    def write(
        self, rows: Sequence[Row], moves: Mapping[int, Move], gone: Sequence[Row] = ()
    ) -> Written:
        """Store rows and move positions: all of it or, if a partition was overtaken, nothing.

        `gone`: keys whose rows go, each with topic id and offset; none is among the rows. A row
        that the database can't hold is left out and told of. `StoreDown`: repeat all.
        """
        return self._asked(lambda: self._write(rows, moves, gone))

    def ensure_days(self, days: Iterable[date]) -> None:
        """Make the partitions of the table for these days."""
        if lacking := sorted(set(days) - self._days):
            self._asked(lambda: self._ensure(lacking))

    def drop_before(self, day: date) -> list[str]:
        """Drop the partitions of earlier days; their names."""
        rows = self._asked(lambda: self._fetch(self._sql.drop_before, day))
        return [str(row[0]) for row in rows]

    def forget_rebuild(self, untouched_s: float) -> str | None:
        """Drop what a rebuild has filled that nobody has touched for so long; its job's id."""
        return self._asked(lambda: self._forget_rebuild(untouched_s))

    def abort(self) -> None:
        """From any thread: what is asked just now fails, and all that is asked later."""
        self._aborted = True
        if (asking := self._asking) is not None:
            asking.get_loop().call_soon_threadsafe(asking.cancel)

    def close(self) -> None:
        """Close the connection."""
        try:
            if self._connection is not None:
                self._runner.run(self._leave())
        finally:
            self._runner.close()

    def _asked(
        self, work: Callable[[], Coroutine[Any, Any, T]], seconds: float = 2 * ANSWER_S
    ) -> T:
        return self._runner.run(self._answered(work, seconds))

    async def _answered(self, work: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        """The answer; every failure of the store is `StoreDown`, and ends the connection."""
        self._asking = asyncio.current_task()
        try:
            if self._aborted:
                raise StoreDown("nobody waits for an answer")
            if self._connection is None:
                await self._connect()
            return await asyncio.wait_for(work(), seconds)
        except StoreDown:
            raise
        except LOST as error:
            self._drop_connection()
            raise down(error) from error
        finally:
            self._asking = None

    async def _connect(self) -> None:
        connection = await connect(self._dsn, f"soma projection {self.target.projection}")
        self._connection = connection
        try:
            await migrations.check(connection, self._schema)
            await self._prepare()
        except (StoreError, asyncio.CancelledError):
            self._drop_connection()
            raise

    async def _prepare(self) -> None:
        """What a new connection needs."""
        await self._connection.execute(self._sql.incoming)
        self._days.clear()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _leave(self) -> None:
        try:
            await self._connection.close(timeout=1.0)
        except LOST:
            self._drop_connection()

    async def _fetch(self, sql: str, *args: Any) -> list[Any]:
        self.statements += 1
        rows: list[Any] = await self._connection.fetch(sql, *args)
        return rows

    async def _positions(self, partitions: list[int], topic_id: str) -> dict[int, Position]:
        name = self.target.projection
        async with self._connection.transaction():
            generation = await self._generation()
            await self._fetch(self._sql.first, name, partitions, generation, topic_id)
            return await self._look(partitions)

    async def _generation(self) -> int:
        """Of what is written now. `DroppedError`."""
        name = self.target.projection
        # Shared with other owners; who drops the projection waits for the end of this.
        found = await self._fetch(self._sql.projection, name)
        if not found or found[0]["dropped"]:
            raise DroppedError(f"the projection {name} is dropped")
        return int(found[0]["generation"])

    async def _look(self, partitions: list[int]) -> dict[int, Position]:
        rows = await self._fetch(self._sql.look, self.target.projection, partitions)
        return {
            row["kafka_partition"]: Position(row["generation"], row["topic_id"], row["next_offset"])
            for row in rows
        }

    async def _ensure(self, days: list[date]) -> None:
        for day in days:
            await self._fetch(self._sql.day, day)
            self._days.add(day)

    async def _forget_rebuild(self, untouched_s: float) -> str | None:
        # A role with the rights of a former version goes on without these.
        if not (await self._fetch(self._sql.may_forget))[0][0]:
            return None
        self.statements += 1
        name = self.target.projection
        return await discard(self._connection, self._schema, name, None, untouched_s)

    async def _write(
        self, rows: Sequence[Row], moves: Mapping[int, Move], gone: Sequence[Row]
    ) -> Written:
        try:
            return await self._once(rows, moves, gone)
        except ROW_ERRORS as error:
            if not rows or not of_row(error):
                raise
        # Some row can't be held. Rare: found by halves, then all others are written together.
        refused = await self._sieve(rows, 0)
        left = [row for k, row in enumerate(rows) if k not in refused]
        written = await self._once(left, moves, gone)
        return replace(written, refused=refused)

    async def _once(
        self, rows: Sequence[Row], moves: Mapping[int, Move], gone: Sequence[Row]
    ) -> Written:
        if not self.target.latest and not self._merges:
            try:
                return await self._try(rows, moves, gone, self._append)
            except asyncpg.UniqueViolationError:
                self._merges = AGAIN
        self._merges = max(0, self._merges - 1)
        return await self._try(rows, moves, gone, self._merge)

    async def _try(
        self, rows: Sequence[Row], moves: Mapping[int, Move], gone: Sequence[Row],
        store: Callable[[Sequence[Row]], Coroutine[Any, Any, int]],
    ) -> Written:  # fmt: skip
        transaction = self._connection.transaction()
        self.statements += 2  # BEGIN, and COMMIT or ROLLBACK
        await transaction.start()
        try:
            moved = await self._fetch(self._sql.move, self.target.projection, *_columns(moves))
            overtaken = frozenset(moves) - {row["kafka_partition"] for row in moved}
            if overtaken:
                await transaction.rollback()
                return Written(overtaken=overtaken)
            count = await store(rows) if rows else 0
            deleted = await self._delete(gone) if gone else 0
        except ROW_ERRORS as error:
            if of_row(error):
                await transaction.rollback()
            raise
        await transaction.commit()
        return Written(count, deleted)

    async def _append(self, rows: Sequence[Row]) -> int:
        self.statements += 1
        await self._connection.copy_records_to_table(
            self.target.table, schema_name=self._schema, records=rows, columns=self.target.columns
        )
        return len(rows)

    async def _merge(self, rows: Sequence[Row]) -> int:
        self.statements += 2
        await self._connection.copy_records_to_table(
            projection_sql.INCOMING, records=rows, columns=self.target.columns
        )
        tag = await self._connection.execute(self._sql.upsert)
        return int(tag.rpartition(" ")[2])

    async def _delete(self, gone: Sequence[Row]) -> int:
        self.statements += 1
        tag = await self._connection.execute(self._sql.delete, *map(list, zip(*gone, strict=True)))
        return int(tag.rpartition(" ")[2])

    async def _sieve(self, rows: Sequence[Row], first: int) -> dict[int, str]:
        """Number of each row that can't be stored, and why. Stores nothing."""
        transaction = self._connection.transaction()
        await transaction.start()
        try:
            await self._merge(rows)
            why = ""
        except ROW_ERRORS as error:
            if not of_row(error):
                raise
            why = said(error) if isinstance(error, asyncpg.PostgresError) else str(error)
        finally:
            await transaction.rollback()
        if not why:
            return {}
        if len(rows) == 1:
            return {first: why}
        half = len(rows) // 2
        return {
            **await self._sieve(rows[:half], first),
            **await self._sieve(rows[half:], first + half),
        }


def of_row(error: BaseException) -> bool:
    """Whether a row may be to blame; tried alone, and not committed, it is if it fails again."""
    return not isinstance(error, asyncpg.PostgresError) or may_be_the_row(error)


def _columns(moves: Mapping[int, Move]) -> tuple[list[Any], ...]:
    """The moves as the arrays that `projection_sql` unnests, in the order of the partitions."""
    # In order, so that two owners of several partitions wait for each other and don't deadlock.
    ordered = sorted(moves.items())
    return (
        [partition for partition, _ in ordered],
        [move.held.generation for _, move in ordered],
        [move.held.topic_id for _, move in ordered],
        [move.held.next_offset for _, move in ordered],
        [move.topic_id for _, move in ordered],
        [move.next_offset for _, move in ordered],
    )
