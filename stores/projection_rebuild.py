"""A projection made anew beside the live one, and put in its place (migrations/0007).

Its tables are the live ones' with `_anew` behind their names, filled by the same statements, with
positions of their own. `hold` stops whoever writes the live one; what is written after that, and
`place`, which makes it the live one, are one transaction, so no reader sees anything in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from stores.errors import Locked, StoreDown, StoreError
from stores.names import quoted
from stores.postgres import ANSWER_S, said
from stores.projection_sql import REBUILD_POSITIONS, Position, Target
from stores.projection_store import DroppedError, ProjectionStore

ANEW = "_anew"  # behind a table's name
LOCK_MS = 2_000  # to wait for who holds the live table: its readers wait as long
PLACE_S = 600.0  # a table in one piece is compared row by row


class OvertakenError(StoreError):
    """The live projection isn't what it was when the rebuild was planned: it was dropped, or so."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of the live table's rows; None: its partitions were replaced, uncounted."""

    removed: int | None
    changed: int | None
    added: int | None


class ProjectionRebuild(ProjectionStore):
    """A job's rebuild of one projection. Found or begun with the first question."""

    def __init__(self, dsn: str, schema: str, target: Target, job: str, generation: int) -> None:
        """`job`: whose it is; `generation`: of the live projection that it is to replace."""
        super().__init__(
            dsn, schema, replace(target, table=target.table + ANEW), REBUILD_POSITIONS
        )  # fmt: skip
        self.placed = False  # it is the live one
        self._job, self._of = job, generation
        self._rebuild = 0  # its own generation
        self._held: Any = None  # the transaction
        inside = quoted(schema)
        self._begin = f"SELECT * FROM {inside}.projection_rebuild_begin($1, $2, $3)"
        self._place_it = f"SELECT * FROM {inside}.projection_rebuild_place($1)"
        self._live = f"SELECT generation, dropped FROM {inside}.projections WHERE name = $1 "
        self._mine = (
            f"SELECT generation FROM {inside}.projection_rebuilds "
            "WHERE projection = $1 AND placed_at IS NULL FOR SHARE"
        )
        self._positions_of = (
            "SELECT kafka_partition, generation, topic_id, next_offset FROM "
            f"{inside}.%s WHERE projection = $1 ORDER BY kafka_partition FOR UPDATE"
        )

    def begin(self) -> bool:
        """Whether it is in the live one's place already. OvertakenError, StoreDown."""
        return self._asked(self._begun)

    def hold(self, believed: Mapping[int, Position]) -> dict[int, Position]:
        """Let nobody write the live projection from now on; up to where it is.

        OvertakenError; `Locked`: a transaction holds it; StoreDown: also where another worker fills
        the rebuild, which then isn't where it is believed to be.
        """
        return self._asked(lambda: self._hold(dict(believed)))

    def place(self) -> Placed:
        """Make it the live one, and commit. `Locked`: somebody reads the table; StoreDown."""
        return self._asked(self._place, PLACE_S + ANSWER_S)

    def release(self) -> None:
        """Undo what was done since `hold`."""
        if self._held is not None:
            self._asked(self._release)

    async def _prepare(self) -> None:
        found = await self._fetch(self._begin, self.target.projection, self._job, self._of)
        state, self._rebuild = found[0]["state"], found[0]["generation"] or 0
        if state == "overtaken":
            raise OvertakenError(
                f"the projection {self.target.projection} was dropped, emptied or made anew "
                "meanwhile: it is left as it is"
            )
        self.placed = state == "placed"
        if not self.placed:
            await super()._prepare()

    async def _begun(self) -> bool:
        return self.placed

    async def _generation(self) -> int:
        found = await self._fetch(self._mine, self.target.projection)
        if not found or found[0]["generation"] != self._rebuild:
            self._drop_connection()  # another is begun with the next
            raise DroppedError(f"the rebuild of {self.target.projection} is gone")
        return self._rebuild

    async def _hold(self, believed: dict[int, Position]) -> dict[int, Position]:
        name = self.target.projection
        self._held = self._connection.transaction()
        await self._held.start()
        try:
            await self._fetch(f"SET LOCAL lock_timeout = {LOCK_MS}")
            await self._fetch(f"SET LOCAL statement_timeout = {int(PLACE_S * 1000)}")
            live = await self._fetch(f"{self._live} FOR UPDATE", name)
            if live[0]["dropped"] or live[0]["generation"] != self._of:
                await self._release()
                raise OvertakenError(f"the projection {name} was dropped or emptied meanwhile")
            held = await self._all(self._positions_of % "projection_positions")
            mine = await self._all(self._positions_of % REBUILD_POSITIONS)
        except asyncpg.LockNotAvailableError as error:
            await self._release()
            raise Locked(said(error)) from error
        if mine != believed:
            await self._release()
            raise StoreDown(f"another worker makes {name} anew")
        return held

    async def _all(self, statement: str) -> dict[int, Position]:
        rows = await self._fetch(statement, self.target.projection)
        return {
            row["kafka_partition"]: Position(row["generation"], row["topic_id"], row["next_offset"])
            for row in rows
        }

    async def _place(self) -> Placed:
        if self._held is None:
            raise StoreDown("the connection broke")
        self.statements += 1
        try:
            row = await self._connection.fetchrow(
                self._place_it, self.target.projection, timeout=PLACE_S
            )
        except asyncpg.LockNotAvailableError as error:
            await self._release()
            raise Locked(said(error)) from error
        held, self._held = self._held, None
        await held.commit()
        self.placed = True
        return Placed(row["removed"], row["changed"], row["added"])

    def _drop_connection(self) -> None:
        super()._drop_connection()
        self._held = None  # the transaction ended with it

    async def _release(self) -> None:
        held, self._held = self._held, None
        self._days.clear()  # those made since aren't there any more
        if held is not None:
            await held.rollback()
