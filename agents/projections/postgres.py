"""A topic into a table of PostgreSQL: each projection has a group, a thread and a connection.

Where to read is the store's position, never the group's. Rows and position are one transaction, so
a kill at any point repeats nothing and loses nothing. While the database is away, isn't migrated or
the projection is dropped, its partitions are paused: everything else of the process goes on.
Memory is bounded: at most one batch waits, and the client holds 8 MiB.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from confluent_kafka import Message
from prometheus_client import REGISTRY, CollectorRegistry

from agents.projections.backoff import Backoff
from agents.projections.declared import Declared, declared
from agents.projections.metrics import metrics_of
from agents.projections.stream import LogBehindError, Stream
from agents.settings import Settings
from stores.errors import NotMigrated, StoreDown
from stores.names import schema_of
from stores.projection_sql import Position
from stores.projection_store import DroppedError, Move, ProjectionStore
from topics import codec

READ_MAX = 5_000  # records per call of the consumer
READ_S = 0.1
LOOK_S = 2.0  # how soon a drop, a rebuild or an outage is noticed while no records come
DROP_DAYS_S = 600.0

logger = logging.getLogger(__name__)


class TopicToTable:
    """Runs in a thread of its own from `start` to `stop`; `error` says why it ended by itself."""

    def __init__(
        self,
        settings: Settings,
        what: Declared,
        registry: CollectorRegistry = REGISTRY,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """`failed` hears, in that thread, the error that ended it: the worker should end too."""
        self.name = f"postgres.{what.name}"  # of its group, thread and metrics
        self.error: Exception | None = None
        self.held: dict[int, Position] = {}  # partition -> the position that we wrote or found
        self.store = ProjectionStore(
            settings.postgres(), schema_of(settings.namespace), what.target
        )
        self._metrics = metrics_of(registry)
        self._settings = settings
        self._what = what
        self._failed = failed
        self._backoff = Backoff()
        self._lag: dict[int, int] = {}  # replaced whole by the thread, never changed
        self._look_at = self._drop_at = 0.0
        self._why: type[StoreDown] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"projection.{self.name}", daemon=True
        )

    def start(self) -> None:
        """Join the group and start reading."""
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Store what waits if the store answers, leave the group."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def lag(self) -> dict[int, int]:
        """Partition -> records that the store hasn't taken, of the partitions held."""
        return dict(self._lag)

    @property
    def down(self) -> bool:
        """Whether the store is away."""
        return self._backoff.down

    def _run(self) -> None:
        what = self._what
        try:
            stream = Stream(self._settings, self.name, what.topic, what.waiting())
            try:
                self._metrics.up.labels(self.name).set(1)
                while not self._stop.is_set():
                    stream.read(READ_MAX, READ_S)
                    if self._backoff.due:
                        self._turn(stream)
                    self._note_lag(stream)
                if not self.down:
                    self._turn(stream)
            finally:
                self._lag = {}
                stream.close()
        except Exception as error:
            self.error = error
            logger.exception("The projection %s has ended", self.name)
            if self._failed is not None:
                self._failed(error)
        finally:
            self.store.close()

    def _turn(self, stream: Stream) -> None:
        """Ask the store where to read, and give it what waits; if it is away, come back later."""
        try:
            self._place(stream)
            self._put(stream)
            # While it is away, only what it says itself is an answer: there may be nothing to put.
            if self.down or time.monotonic() >= self._look_at:
                self._look(stream)
        except StoreDown as error:
            self._is_away(stream, error)
            return
        if away := self._backoff.answered():
            logger.info("%s is back after %.1f s, %s go on", whose_is(self._why), away, self.name)
            self._metrics.up.labels(self.name).set(1)
            self._why = None
            stream.resume()

    def _is_away(self, stream: Stream, error: StoreDown) -> None:
        if self._backoff.failed():
            stream.pause()
            self._metrics.up.labels(self.name).set(0)
        if self._why is type(error):
            return
        self._why = type(error)
        again = f"; `soma projection rebuild {self._what.name}` fills it again"
        hint = {
            NotMigrated: "; run `soma migrate up`",
            DroppedError: again,
            LogBehindError: again,
        }.get(type(error), "")
        logger.warning("%s: %s wait: %s%s", whose_is(type(error)), self.name, error, hint)

    def _place(self, stream: Stream) -> None:
        if not stream.unplaced or not stream.topic_id:
            return
        found = self.store.positions(stream.unplaced, stream.topic_id)
        for partition, position in found.items():
            same = position.topic_id == stream.topic_id
            self.held[partition] = position
            stream.place(partition, position.next_offset if same else 0)

    def _put(self, stream: Stream) -> None:
        waiting = stream.waiting
        if not waiting or not stream.topic_id:
            return
        moves = self._moves(stream, waiting.upto)
        rows, places, counts = self._rows(waiting.records(), stream)
        written = self.store.write(rows, moves)
        if written.overtaken:
            # Another owner, a rebuild or a drop: nothing was written; what is ours still waits.
            stream.unplace(written.overtaken)
            return
        for number, why in written.refused.items():
            logger.error("%s can't be stored and isn't: %s", places[number], why)
        refused = len(written.refused)
        counts |= {"written": written.rows, "refused": refused}
        counts |= {"replaced": waiting.replaced, "control": waiting.control}
        counts["known"] = len(rows) - refused - written.rows
        stream.done(waiting.take())
        self._moved(moves)
        for result, count in counts.items():
            if count:
                self._metrics.records.labels(self.name, result).inc(count)

    def _look(self, stream: Stream) -> None:
        """Ask the store: notice a rebuild or an outage; note ends; drop days that are over."""
        self._look_at = time.monotonic() + LOOK_S
        ours = {p: position for p, position in self.held.items() if p not in stream.unplaced}
        found = self.store.look(ours)
        stream.unplace([p for p, position in ours.items() if found.get(p) != position])
        ends = {
            partition: end
            for partition, end in stream.ends.items()
            if partition not in stream.waiting.upto and end > self.held[partition].next_offset
        }
        if ends:
            moves = self._moves(stream, ends)
            written = self.store.write([], moves)
            stream.unplace(written.overtaken)
            if not written.overtaken:
                self._moved(moves)
                stream.done(ends)
        if self._what.target.days and time.monotonic() >= self._drop_at:
            self._drop_at = time.monotonic() + DROP_DAYS_S
            for day in self.store.drop_before(self._first_day()):
                logger.info("%s: a day is over its time and dropped: %s", self.name, day)

    def _moves(self, stream: Stream, upto: Mapping[int, int]) -> dict[int, Move]:
        return {
            partition: Move(self.held[partition], stream.topic_id, offset)
            for partition, offset in upto.items()
        }

    def _moved(self, moves: Mapping[int, Move]) -> None:
        self.held |= {partition: move.after() for partition, move in moves.items()}

    def _rows(
        self, messages: list[Message], stream: Stream
    ) -> tuple[list[tuple[Any, ...]], list[str], dict[str, int]]:
        """Rows, the place of each in words, and how many records became none (and why)."""
        rows: list[tuple[Any, ...]] = []
        places: list[str] = []
        counts = {"unreadable": 0, "expired": 0}
        since = self._first_day() if self._what.target.days else None
        days: set[date] = set()
        for message in messages:
            day = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC).date()
            if since is not None and day < since:
                counts["expired"] += 1
                continue
            place = f"{stream.topic} partition {message.partition()} offset {message.offset()}"
            try:
                rows.append(self._what.rows.row(message, stream.topic_id))
            except codec.BadRecord as error:
                counts["unreadable"] += 1
                logger.error("%s is no %s: %s", place, self._what.rows.schema, error)
                continue
            places.append(place)
            days.add(day)
        if since is not None:
            self.store.ensure_days(days)
        return rows, places, counts

    def _first_day(self) -> date:
        kept = timedelta(days=self._settings.projections.history_days)
        return (datetime.now(UTC) - kept).date()

    def _note_lag(self, stream: Stream) -> None:
        held = {p: position.next_offset for p, position in self.held.items()}
        before, self._lag = self._lag, stream.lag(held)
        for partition in before.keys() - self._lag.keys():
            self._metrics.lag.remove(self.name, str(partition))
        for partition, lag in self._lag.items():
            self._metrics.lag.labels(self.name, str(partition)).set(lag)


def whose_is(error: type[StoreDown] | None) -> str:
    """On whom a projection waits."""
    return "Kafka" if error is LogBehindError else "PostgreSQL"


def projections(
    settings: Settings,
    registry: CollectorRegistry = REGISTRY,
    failed: Callable[[Exception], None] | None = None,
) -> list[TopicToTable]:
    """All projections into PostgreSQL that these settings ask for, not started."""
    return [TopicToTable(settings, what, registry, failed) for what in declared(settings)]
