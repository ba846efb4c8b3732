"""Fills a table made anew from its topic's beginning, and puts it in place. In one thread.

Round after round reads to the end as it is then, until little came meanwhile. Then the live
projection is held, the rest is read up to where that is (and never less, so no reader misses a row
that he has seen), and the tables change places: the live projection goes on from there.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from agents.replay.modes import JobFailedError, Step
from agents.settings import Settings
from agents.tables.declared import Declared
from agents.tables.making import Made, make
from stores.errors import StoreDown
from stores.names import schema_of
from stores.projection_rebuild import Placed, ProjectionRebuild
from stores.projection_sql import Position
from stores.projection_store import Move
from topics.broker import connect, look
from topics.reading import SILENCE_S, read_to, span_of

PART = 5_000  # records of a transaction
PART_BYTES = 16 << 20  # of them in all, unless one alone has more: a payload may have 900 kB
NEAR = 2_000  # records of a round after which the rest is read while the live projection is held
ROUNDS_MAX = 10  # before it is tried all the same: records come as fast as they are read
HOLD_S = 3.0  # that the live projection may be held while the rest is read
ANSWER_S = 10.0
FETCH_WAIT_MS = 20  # the end of a partition shows in an empty answer
QUEUE_KB, QUEUE_BACKOFF_MS = 8_192, 10


class Filling:
    """One run of one job, for a thread of its own; a dry run reads, and fills nothing."""

    def __init__(
        self, settings: Settings, what: Declared, plan: Mapping[str, Any],
        position: Mapping[int, int],
    ) -> None:  # fmt: skip
        self.over = False
        self._settings, self._what, self._plan = settings, what, plan
        self._topic: str = plan["source"]
        self._ranges = {int(p): (first, end) for p, (first, end) in plan["ranges"].items()}
        self._at = {p: position.get(p, first) for p, (first, _) in self._ranges.items()}
        self._told = self._passed()  # what was told of it, as offsets
        self._store = None if plan["dry_run"] else ProjectionRebuild(
            settings.postgres(), schema_of(settings.namespace), what.target, plan["key"],
            plan["generation"],
        )  # fmt: skip
        self._held: dict[int, Position] = {}
        self._waiting = what.waiting()
        self._consumer: Consumer | None = None
        self._ends: dict[int, int] = {}
        self._under_way: Iterator[Message] | None = None
        self._round = self._rounds = 0  # records of this round; rounds behind the first
        self._left_out: dict[str, int] = dict(plan.get("left_out", {}))

    @property
    def left(self) -> int:
        """Offsets of this round that are left."""
        return sum(max(0, end - self._at.get(p, end)) for p, end in self._ends.items())

    def begin(self) -> Step:
        """Find where it is. StoreDown, OvertakenError, JobFailedError, KafkaException."""
        self._consumer = _consumer(self._settings)
        if self._store is not None and self._store.begin():
            return self._ended("it is in place: a worker put it there that is gone")
        if self._store is not None:
            self._know(self._ranges)
        self._look()
        return self._step(Made(), 0)

    def step(self, most: int) -> Step:
        """Read some records, and fill them in; put it in place where all is.

        Locked: others hold the live table; StoreDown, OvertakenError, JobFailedError,
        KafkaException.
        """
        if self._under_way is None:
            if self._ready:
                return self._place()
            self._look()
            self._under_way, self._round = self._reading(self._ends), 0
        found, ended = part_of(self._under_way, most)
        self._round += len(found)
        step = self._fill(found, self._ends if ended else {})
        if ended:
            self._under_way = None
            self._rounds += 1
            if self._store is None:
                return self._ended("", step)
        return step

    @property
    def _ready(self) -> bool:
        return self._rounds > 0 and (self._round < NEAR or self._rounds > ROUNDS_MAX)

    # --- reading -------------------------------------------------------------------------

    def _look(self) -> None:
        """Where the topic ends now. JobFailedError: it is another, or lacks what is to come."""
        assert self._consumer is not None
        topics = look(connect(self._settings.librdkafka()), [self._topic])
        if self._topic not in topics:
            raise JobFailedError(f"the topic {self._topic} is gone")
        if topics[self._topic].topic_id != self._plan["source_id"]:
            raise JobFailedError(f"the topic {self._topic} was made anew meanwhile")
        if self._store is None and self._ends:
            return
        for p in range(topics[self._topic].partitions):
            low, end = span_of(self._consumer, (self._topic, p), ANSWER_S)
            at = self._at.setdefault(p, 0)
            if at > end:
                raise JobFailedError(
                    f"partition {p} of {self._topic}: what is read reaches to offset {at}, and the "
                    f"log ends at {end}: Kafka went back in time, and these rows may be of records "
                    "that it lost: start another job"
                )
            if at < low and not self._plan["partial"]:
                raise JobFailedError(
                    f"partition {p} of {self._topic}: offsets {at} to {low - 1} went from the log "
                    "before they were read: start another job"
                )
            self._at[p] = max(at, low)
            self._ends[p] = end if self._store is not None else self._ranges.get(p, (0, 0))[1]

    def _reading(self, ends: Mapping[int, int], silence_s: float = SILENCE_S) -> Iterator[Message]:
        """The records before these ends, from where it is."""
        assert self._consumer is not None
        left = {p: end for p, end in ends.items() if self._at[p] < end}
        self._consumer.assign([TopicPartition(self._topic, p, self._at[p]) for p in left])
        places = {(self._topic, p): end for p, end in left.items()}
        for messages in read_to(self._consumer, places, PART, silence_s=silence_s):
            yield from messages

    def _know(self, partitions: Mapping[int, Any]) -> None:
        """Take over where PostgreSQL says that it is."""
        assert self._store is not None
        found = self._store.positions(partitions, self._plan["source_id"])
        self._held |= found
        for p, position in found.items():
            first = self._ranges.get(p, (0, 0))[0]
            self._at[p] = max(first, position.next_offset)

    # --- writing -------------------------------------------------------------------------

    def _fill(self, messages: list[Message], ends: Mapping[int, int]) -> Step:
        """Rows of some records, and the positions behind them, or at the ends of a round."""
        for message in messages:
            self._waiting.add(message)
        records = self._waiting.records()
        # Also where a log begins behind the position, and nothing more may come.
        upto = {p: self._at[p] for p, one in self._held.items() if one.next_offset < self._at[p]}
        upto |= self._waiting.take()
        upto |= {p: at for p, at in ends.items() if at > self._at[p]}
        made = make(self._settings, self._what, records, self._topic, self._plan["source_id"])
        for name, count in made.counts.items():
            self._leave_out(name, count)
        if self._store is None:
            self._at |= upto
            return self._step(made, len(messages), messages)
        if unknown := {p: 0 for p in upto if p not in self._held}:
            self._held |= self._store.positions(unknown, self._plan["source_id"])
        moves = {p: Move(self._held[p], self._plan["source_id"], at) for p, at in upto.items()}
        self._store.ensure_days(made.days)
        written = self._store.write(made.rows, moves, made.gone)
        if written.overtaken:
            raise StoreDown(f"another worker makes {self._what.name} anew")
        self._leave_out("refused", len(written.refused))
        self._held |= {p: move.after() for p, move in moves.items()}
        self._at |= upto
        return self._step(made, len(messages), messages)

    def _leave_out(self, why: str, count: int) -> None:
        if count:
            self._left_out[why] = self._left_out.get(why, 0) + count

    def _place(self) -> Step:
        """Hold the live projection, read the rest, and change places; or go on reading."""
        assert self._store is not None
        self._rounds = 0
        self._look()
        self._know({p: None for p in self._ends if p not in self._held})
        before = dict(self._held), dict(self._at), self._told
        live = self._store.hold(self._held)
        try:
            step = self._rest(live)
            if step is not None:
                return self._ended(_told_of(self._what, self._store.place()), step)
        finally:
            if not self.over:
                with suppress(StoreDown):  # which ends the connection, and that undoes it too
                    self._store.release()
                self._held, self._at, self._told = before
                self._waiting.drop(set())  # a sieve forgets what it took
        return Step({}, said={"told": "records come faster than they can be read"})

    def _rest(self, live: Mapping[int, Position]) -> Step | None:
        """Fill in up to where the live projection is; None: there is too much of it."""
        assert self._consumer is not None
        until = time.monotonic() + HOLD_S
        if any(position.topic_id != self._plan["source_id"] for position in live.values()):
            self._look()  # of the former topic, or of one made anew since?
        ends: dict[int, int] = {}
        for p, position in live.items():
            mine = self._at.get(p, 0)
            if position.topic_id == self._plan["source_id"] and position.next_offset > mine:
                # The log can't end before that; if it does, Kafka went back, and its end is meant.
                end = span_of(self._consumer, (self._topic, p), ANSWER_S)[1]
                ends[p] = max(mine, min(position.next_offset, end))
        found: list[Message] = []
        size = 0
        for message in self._reading(ends, HOLD_S):
            found.append(message)
            size += size_of(message)
            if time.monotonic() > until or size > PART_BYTES:
                return None
        return self._fill(found, ends)

    # --- telling -------------------------------------------------------------------------

    def _passed(self) -> int:
        return sum(
            min(max(self._at[p], first), end) - first for p, (first, end) in self._ranges.items()
        )

    def _step(self, made: Made, read: int, messages: list[Message] = []) -> Step:  # noqa: B006
        """What is new since the last one."""
        done, self._told = self._passed() - self._told, self._passed()
        step = Step(dict(self._at), done, read, len(made.rows))
        if messages:
            step.size = sum(map(size_of, messages))
            stamps = [one.timestamp()[1] for one in messages]
            step.times = min(stamps), max(stamps)
            step.tenants = Counter(_text(one.key()) for one in messages)
        if self._left_out:
            step.said = {"left_out": dict(self._left_out)}
        if self._rounds and self._store is not None:
            step.said = {**step.said, "told": "it catches up with what came meanwhile"}
        return step

    def _ended(self, told: str, step: Step | None = None) -> Step:
        """The last step."""
        self.over = True
        last = step if step is not None else Step({})
        whole = sum(end - first for first, end in self._ranges.values())
        last.done += whole - self._told
        self._told = whole
        last.said = {**last.said, "told": told}
        return last

    def abort(self) -> None:
        """From any thread: nobody waits for what is under way, and nothing more is to be done."""
        if self._store is not None:
            self._store.abort()

    def close(self) -> None:
        """Let the servers go."""
        try:
            if self._store is not None:
                self._store.close()
        finally:
            if self._consumer is not None:
                self._consumer.close()


def part_of(messages: Iterator[Message], most: int) -> tuple[list[Message], bool]:
    """The next of them, PART_BYTES and `most` at most, and whether there are no more."""
    found: list[Message] = []
    size = 0
    for message in messages:
        found.append(message)
        size += size_of(message)
        if len(found) >= most or size >= PART_BYTES:
            return found, False
    return found, True


def size_of(message: Message) -> int:
    """Bytes of a record."""
    return len(message.value() or b"") + len(message.key() or b"")


def _consumer(settings: Settings) -> Consumer:
    """Of no group; what is gone from the log is an error, and never passed over."""
    return Consumer(
        settings.librdkafka(
            group_id=settings.prefix("soma-replay"), isolation_level="read_committed",
            enable_auto_commit=False, enable_partition_eof=True, auto_offset_reset="error",
            fetch_queue_backoff_ms=QUEUE_BACKOFF_MS, fetch_wait_max_ms=FETCH_WAIT_MS,
            queued_max_messages_kbytes=QUEUE_KB,
        )
    )  # fmt: skip


def _text(key: Any) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key or "")


def _told_of(what: Declared, placed: Placed) -> str:
    if placed.changed is None:
        return f"{what.name} is in place, all of its days"
    return (
        f"{what.name} is in place: {placed.changed:,} rows changed, {placed.added:,} added, "
        f"{placed.removed:,} removed"
    )
