"""A Faust transport that delivers whole record batches: one event per partition and fetch.

Faust keeps what it is good at (command line, membership, assignment, agents, web server). Its own
offsets, acks and seeks are not used: a partition's position lives with its state, so the engine
says where to read from, and batches that were fetched before that are told apart by a tag.
Every use of Faust's and aiokafka's private parts stands here and in batches.py and builder.py.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import faust
from aiokafka.errors import (
    IllegalStateError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    KafkaConnectionError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from agents.engine.batches import RawBatch, install
from agents.engine.dealing import ProcessorAssignor
from agents.engine.ending import end_now
from topics.connection import abandon, answer_within, ended

log = logging.getLogger(__name__)

FETCH_WAIT_MS = 250  # a partition that joins a long poll waits for its end
QUIET_S = 5.0  # an idle partition says how far it has seen at this rate
POLL_S = 0.2  # and a partition that is released waits for the end of the poll
HINT_S = 5.0
THREAD_S = 10.0  # for what the consumer's thread does without asking the broker
RENEW_S = 30.0
START_S = 60.0  # for a broker to come back that went away after the worker's first checks
STOP_S = 3.0
LOOK_S = 1.0
REFUSED_EVERY_S = 30.0  # how often a group that doesn't let us in is named

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch brought from a partition, in an event's value."""

    tag: int  # which `read_from` it belongs to
    batches: list[RawBatch]  # none: the position moved over markers only
    seen: int  # everything before this offset has been delivered
    stable: int  # last stable offset: the end of what can be read


class BatchSchema(faust.Schema[Any, Any]):
    """Hands whole batches through untouched."""

    def loads_key(
        self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None
    ) -> Any:
        """Batches have no key."""
        return None

    def loads_value(
        self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None
    ) -> Any:
        """The `Fetched` that `BatchConsumer` put there."""
        return message.value


def fetched_of(
    consumer: Any, active: Any, records: Any, tags: Mapping[TP, int], told: dict[TP, float],
    ends: dict[TP, tuple[int, int]],
) -> dict[TP, Fetched]:  # fmt: skip
    """What a fetch brought. Nothing may be awaited between it and this: position and tag are its.

    `told` (when a partition last had something to say) and `ends` are brought up to date.
    """
    found = {TP(tp.topic, tp.partition): batches for tp, batches in records.items()}
    subscribed = consumer._subscription.subscription
    states = subscribed.assignment if subscribed is not None else None
    now = time.monotonic()
    result = {}
    for place in active or found:
        tp = TP(place.topic, place.partition)
        state = states.state_value(TopicPartition(*tp)) if states else None
        if state is None or not state.has_valid_position:
            continue
        ends[tp] = state.lso or 0, state.highwater or 0
        batches = found.get(tp, [])
        if not batches and now - told.get(tp, 0.0) < QUIET_S:
            continue
        told[tp] = now
        result[tp] = Fetched(tags[tp], batches, state.position, state.lso or 0)
    return result


class RebalanceListener(driver.ConsumerRebalanceListener):
    """Faust and the engine hear of a rebalance when it is over: until then all goes on.

    Otherwise each would stop whenever one joins, until the last of the group has heard of it by a
    heartbeat. Who owns what is kept by fencing, and not by who has stopped.
    """

    _thread: "BatchThread"

    def __init__(self, thread: "BatchThread") -> None:
        super().__init__(thread)
        self._had: set[TP] = set()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """The group is about to meet."""
        self._had |= {TP(*tp) for tp in revoked}
        self._thread.consumer.meeting = self._thread.consumer.meeting or time.monotonic()
        self._thread.go_on()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The group has met."""
        had, self._had = self._had, set()
        ProcessorAssignor.met(self._thread.generation)
        self._thread.app.on_rebalance_start()
        await self._thread.on_partitions_revoked(had)
        await super().on_partitions_assigned(assigned)


class BatchThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread: reads committed records only, and never skips or rewinds by itself."""

    consumer: "BatchConsumer"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.tags: dict[TP, int] = defaultdict(int)
        self.told: dict[TP, float] = {}  # when a partition last had something to say
        self._begun: dict[TP, Any] = {}  # aiokafka's state of it, where we said from where
        self.wanted = ""  # why another client than this one is
        self.refused = ""  # why the group doesn't let us in
        self._topics: set[str] = set()
        self._refused_at = -REFUSED_EVERY_S

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        consumer._partition_assignment_strategy = [ProcessorAssignor]
        answer_within(consumer._client, self.consumer.answer_s)
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: Any,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Any:
        if not self._uses(consumer) or consumer._subscription.reassignment_in_progress:
            # Asked of one that was given up meanwhile, or hasn't begun, or wasn't given anything:
            # aiokafka would wait for that without end.
            await asyncio.sleep(POLL_S)
            return {}
        try:
            records = await super()._fetch_records(
                consumer, active_partitions, timeout, max_records
            )
        except NoOffsetForPartitionError:
            return {}  # nothing is read before the engine has said from where
        except OffsetOutOfRangeError as error:
            self.consumer.lost.update(TP(tp.topic, tp.partition) for tp in error.args[0])
            return {}
        except IllegalStateError:
            return {}  # a rebalance met the fetch: the next assignment is on its way
        except KafkaError:
            if consumer._coordinator._pending_exception is None:
                raise
            return {}  # the group's, not the fetch's: it is named by `_look`
        found = fetched_of(
            consumer, active_partitions, records, self.tags, self.told, self.consumer.ends
        )
        # In a new assignment aiokafka begins at the group's offsets until it is told from where.
        return {tp: one for tp, one in found.items() if self._begun.get(tp) is _state(consumer, tp)}

    def _uses(self, consumer: Any) -> bool:
        begun: bool = consumer._fetcher is not None
        return begun and consumer is self._consumer

    async def seek_tagged(self, tp: TP, offset: int) -> int:
        """Read from offset on; batches fetched from there carry the tag that is returned."""
        tag: int = await self.call_thread(self._seek_tagged, tp, offset)
        return tag

    async def _seek_tagged(self, tp: TP, offset: int) -> int:
        consumer = self._ensure_consumer()
        if not self._uses(consumer) or _state(consumer, tp) is None:
            raise IllegalStateError(f"{tp.topic}/{tp.partition} isn't ours (yet, or any more)")
        consumer.seek(TopicPartition(tp.topic, tp.partition), offset)
        self._begun[tp] = _state(consumer, tp)
        self.tags[tp] += 1
        return self.tags[tp]

    @property
    def generation(self) -> int:
        """Of the group, as it met last."""
        coordinator: Any = self._ensure_consumer()._coordinator
        return int(coordinator.generation)

    def go_on(self) -> None:
        """Have aiokafka hand out what it fetches while the group meets, of what we have so far."""
        subscription = self._ensure_consumer()._subscription.subscription
        if subscription is not None and subscription.assignment is not None:
            subscription._reassignment_in_progress = False

    async def rejoin(self) -> None:
        """Ask the group for a new assignment."""
        await self.call_thread(self._rejoin)

    async def _rejoin(self) -> None:
        consumer: Any = self._ensure_consumer()
        if consumer._coordinator is not None:
            consumer._coordinator.request_rejoin()

    async def hint(self, offsets: Mapping[TP, int]) -> None:
        """Commit these offsets to the group, of the partitions that are still ours."""
        await self.call_thread(self._hint, offsets)

    async def _hint(self, offsets: Mapping[TP, int]) -> None:
        # Faust's own would end the worker on an error; and without a deadline here, in the thread,
        # it would keep one of the two places that fetches and seeks need too.
        consumer = self._ensure_consumer()
        held = consumer.assignment()
        ours = {
            place: OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if (place := TopicPartition(tp.topic, tp.partition)) in held
        }
        if not ours:
            return
        try:
            await asyncio.wait_for(consumer.commit(ours), HINT_S)
        except asyncio.CancelledError as error:  # not us: `abandon` cancels what a client waits for
            raise KafkaConnectionError("the consumer was given up") from error

    async def on_start(self) -> None:
        """Called by Faust; looks after the consumer from then on."""
        await self._begin(time.monotonic() + START_S)
        self.add_future(self._look_after())

    async def _begin(self, deadline: float) -> None:
        """Start the consumer: the broker may have gone since the worker's first checks."""
        where = self.app.conf.broker
        while not self.should_stop:
            try:
                await super().on_start()
                return
            except (KafkaError, OSError, TimeoutError) as error:
                abandon(self._ensure_consumer())
                if time.monotonic() >= deadline:
                    text = f"no Kafka broker answers at {_hosts(where)} for {START_S:g} s: {error}"
                    end_now(text, status=1)
                log.error("no Kafka broker answers at %s, trying again: %s", _hosts(where), error)
            await asyncio.sleep(LOOK_S)

    async def on_thread_stop(self) -> None:
        """Called by Faust. What can't be stopped is let go: the process ends anyway."""
        try:
            await asyncio.wait_for(super().on_thread_stop(), STOP_S)
        except Exception as error:
            log.warning("closing the group's consumer: %r", error)
            abandon(self._ensure_consumer())

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Called by Faust, once."""
        self._topics = set(topics)
        await super().subscribe(self._topics)

    async def _look_after(self) -> None:
        """Once a second: does the client still work, and what keeps it out of the group?"""
        while not self._ending():
            await asyncio.sleep(LOOK_S)
            self.wanted = self.wanted or self._look()
            if not self.wanted or self._ending():
                continue
            try:
                await asyncio.wait_for(self._renew(self.wanted), RENEW_S)
                self.wanted = ""
            except (KafkaError, TimeoutError, OSError) as error:
                log.error("the group's new consumer isn't there yet, trying again: %r", error)

    def _ending(self) -> bool:
        """Whether the worker stops: the client then ends before this thread does."""
        return bool(self.should_stop or self.consumer.app.should_stop)

    def _look(self) -> str:
        """Why this consumer can't go on, if so."""
        consumer: Any = self._ensure_consumer()
        if why := ended(consumer):
            return why
        try:
            # What isn't taken from there keeps aiokafka's coordination waiting, for ever.
            consumer._coordinator.check_errors()
        except KafkaError as error:
            self._name(error, consumer)
        if consumer.assignment():
            self.refused = ""
        if ProcessorAssignor.undealt:  # once the broker says more, aiokafka has all join anew
            consumer._client.force_metadata_update()
        return ""

    def _name(self, error: KafkaError, consumer: Any) -> None:
        group = consumer._group_id
        if isinstance(error, InconsistentGroupProtocolError):
            self.refused = (
                f"the group {group} has members that don't know the protocol "
                f"{ProcessorAssignor.name!r}: an older worker (stop all of them before the new "
                "ones can join), or a consumer that isn't a worker and uses the group's name"
            )
        elif isinstance(error, InvalidSessionTimeoutError):
            self.refused = (
                f"the broker refuses SOMA_SESSION_TIMEOUT_S={consumer._session_timeout_ms / 1000:g}"
                ": it isn't between its group.min and group.max.session.timeout.ms"
            )
        else:
            self.refused = f"the group {group}: {error!r}"
        if (now := time.monotonic()) - self._refused_at >= REFUSED_EVERY_S:
            self._refused_at = now
            log.error("not let into the group, trying again: %s", self.refused)

    async def _renew(self, why: str) -> None:
        """Give the consumer up and join the group anew with another one."""
        old = self._ensure_consumer()
        log.error("the group's consumer is given up for a new one: %s", why)
        await self._rebalance_listener.on_partitions_revoked(old.assignment())
        self._consumer = self._create_consumer(loop=self.thread_loop)
        abandon(old)
        await self._consumer.start()
        if self._topics:
            self._consumer.subscribe(topics=self._topics, listener=self._rebalance_listener)


def _state(consumer: Any, tp: TP) -> Any:
    """aiokafka's state of a partition, another one in each assignment; None: it isn't in this."""
    subscribed = consumer._subscription.subscription
    assignment = subscribed.assignment if subscribed is not None else None
    place = TopicPartition(*tp)
    return assignment.state_value(place) if assignment and place in assignment.tps else None


def _hosts(urls: Iterable[Any]) -> str:
    """host:port,… of Faust's broker addresses."""
    return ",".join(f"{url.host}:{url.port}" for url in urls)


async def _in_thread(asked: Awaitable[_Answer], what: str, seconds: float) -> _Answer:
    """What the consumer's thread answers. TimeoutError names what was asked of it."""
    try:
        return await asyncio.wait_for(asked, seconds)
    except TimeoutError as error:
        text = f"the thread of the group's consumer didn't answer {what} within {seconds:g} s"
        raise TimeoutError(text) from error


class BatchConsumer(driver.Consumer):
    """Delivers one `Fetched` per partition and fetch. `held` partitions are not delivered."""

    _thread: BatchThread
    RebalanceListener = RebalanceListener

    answer_s = 20.0  # for one answer of the broker; of all consumers of this process

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.held: set[TP] = set()
        self.lost: set[TP] = set()  # whose position the log no longer (or not yet) has
        self.ends: dict[TP, tuple[int, int]] = {}  # last stable offset and high watermark
        self.meeting = 0.0  # since when the group meets, and what we have may be another's
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Faust would seek to the group's offsets; the engine seeks to the state's position."""

    async def subscribe(self, topics: Iterable[str]) -> None:
        """A worker without processors (projections alone) is no member of the group."""
        if wanted := list(topics):
            await super().subscribe(wanted)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """One message per partition and fetch; its value is a `Fetched`."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # as Faust itself does
        wanted = self._get_active_partitions() - self.held
        if not wanted:
            await self.sleep(POLL_S)
            return
        records: Mapping[TP, Any] = await self._getmany(wanted, min(timeout, POLL_S))
        generation = self.app.consumer_generation_id
        for tp, fetched in records.items():
            if self.should_stop or self.app.consumer_generation_id != generation:
                break
            # Faust leaves out what lies before the offset that it saw last: it knows no tags.
            self._read_offset[tp] = None
            stamp = fetched.batches[-1].max_ms / 1000.0 if fetched.batches else 0.0
            yield tp, ConsumerMessage(
                tp.topic, tp.partition, fetched.seen, stamp, 0, [], None, fetched,
                None, None, None, tp, generation_id=generation,
            )  # fmt: skip

    async def read_from(self, tp: TP, offset: int) -> int:
        """Start delivering a held partition from offset on; returns the tag of what comes."""
        tag: int = await _in_thread(self._thread.seek_tagged(tp, offset), "a seek", THREAD_S)
        self.lost.discard(tp)
        self.held.discard(tp)
        return tag

    async def rejoin(self) -> None:
        """Ask the group for a new assignment: everybody lets go and takes anew."""
        await _in_thread(self._thread.rejoin(), "a request to rejoin the group", THREAD_S)

    async def hint(self, offsets: Mapping[TP, int]) -> None:
        """Tell the group how far we are: for lag tools only, nothing relies on it."""
        await _in_thread(self._thread.hint(offsets), "offsets for the group", HINT_S + THREAD_S)

    def renew(self, why: str) -> None:
        """Give the client behind this up, and join the group with another one, soon."""
        self._thread.wanted = why

    @property
    def refused(self) -> str:
        """Why the group doesn't let this worker in; empty: it does, or hasn't said."""
        return self._thread.refused


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with the consumer above."""

    Consumer = BatchConsumer


install()
