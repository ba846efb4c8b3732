"""A topic into a table of PostgreSQL: each projection has a group, a thread and a connection.

Where to read is the store's position, never the group's. Rows and position are one transaction, so
a kill at any point repeats nothing and loses nothing. While the database isn't migrated or the
projection is dropped, it waits as in an outage.
"""

import logging
import time
from collections.abc import Mapping

from prometheus_client import REGISTRY, CollectorRegistry

from agents.projections.projection import Projection
from agents.services.stream import LogBehindError, Stream
from agents.settings import Settings
from agents.tables.declared import Declared
from agents.tables.making import first_day, make
from stores.errors import NotMigrated, StoreDown
from stores.names import schema_of
from stores.projection_sql import Position
from stores.projection_store import DroppedError, Move, ProjectionStore

DROP_S = 600.0
REBUILD_KEPT_S = 7 * 86_400.0  # a job that rests for longer begins anew

logger = logging.getLogger(__name__)


class TopicToTable(Projection):
    """The store's position says where to read, never the group's."""

    whose = "PostgreSQL"

    def __init__(
        self, settings: Settings, what: Declared, registry: CollectorRegistry = REGISTRY
    ) -> None:
        super().__init__(settings, f"postgres.{what.name}", what.topic, what.waiting(), registry)
        self.held: dict[int, Position] = {}  # partition -> what we wrote or found
        self.store = ProjectionStore(
            settings.postgres(), schema_of(settings.namespace), what.target
        )
        self._what = what
        self._drop_at = 0.0

    def offsets(self) -> dict[int, int]:
        return {p: position.next_offset for p, position in self.held.items()}

    def hint(self, error: StoreDown) -> str:
        again = f"; `soma projection rebuild {self._what.name}` fills it again"
        return {
            NotMigrated: "; run `soma migrate up`",
            DroppedError: again,
            LogBehindError: again,
        }.get(type(error), "")

    def close(self) -> None:
        self.store.close()

    def place(self, stream: Stream) -> None:
        if not stream.unplaced or not stream.topic_id:
            return
        found = self.store.positions(stream.unplaced, stream.topic_id)
        for partition, position in found.items():
            same = position.topic_id == stream.topic_id
            self.held[partition] = position
            stream.place(partition, position.next_offset if same else 0)

    def put(self, stream: Stream) -> None:
        waiting = stream.waiting
        if not waiting or not stream.topic_id:
            return
        moves = self._moves(stream, waiting.upto)
        made = make(self.settings, self._what, waiting.records(), stream.topic, stream.topic_id)
        self.store.ensure_days(made.days)
        written = self.store.write(made.rows, moves, made.gone)
        if written.overtaken:
            # Another owner, a rebuild or a drop: nothing was written; what is ours still waits.
            stream.unplace(written.overtaken)
            return
        for number, why in written.refused.items():
            logger.error("%s can't be stored and isn't: %s", made.places[number], why)
        refused = len(written.refused)
        counts = made.counts | {"written": written.rows, "refused": refused}
        counts |= {"replaced": waiting.replaced, "control": waiting.control}
        counts["deleted"] = written.deleted
        counts["known"] = len(made.rows) + len(made.gone) - refused - written.rows - written.deleted
        stream.done(waiting.take())
        self._moved(moves)
        self.count(counts)

    def look(self, stream: Stream) -> None:
        """Notice a rebuild or an outage; note ends; drop days that are over."""
        ours = {p: position for p, position in self.held.items() if p not in stream.unplaced}
        found = self.store.look(ours)
        stream.unplace([p for p, position in ours.items() if found.get(p) != position])
        if ends := stream.passed(self.offsets()):
            moves = self._moves(stream, ends)
            written = self.store.write([], moves)
            stream.unplace(written.overtaken)
            if not written.overtaken:
                self._moved(moves)
                stream.done(ends)
        if time.monotonic() >= self._drop_at:
            self._drop_at = time.monotonic() + DROP_S
            self._drop()

    def _drop(self) -> None:
        """Days that are over, and what a rebuild has left that nobody goes on with."""
        for day in (
            self.store.drop_before(first_day(self.settings)) if self._what.target.days else ()
        ):
            logger.info("%s: a day is over its time and dropped: %s", self.name, day)
        if job := self.store.forget_rebuild(REBUILD_KEPT_S):
            logger.info("%s: what the job %s has left is dropped", self.name, job)

    def _moves(self, stream: Stream, upto: Mapping[int, int]) -> dict[int, Move]:
        return {
            partition: Move(self.held[partition], stream.topic_id, offset)
            for partition, offset in upto.items()
        }

    def _moved(self, moves: Mapping[int, Move]) -> None:
        self.held |= {partition: move.after() for partition, move in moves.items()}
