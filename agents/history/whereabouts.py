"""How far a partition was folded whose position is lost: by the group's offset and its outputs.

Outputs and position were committed together. So all before the last record that caused an output
was folded; and what lies behind it caused none, so that folding it (again) doubles nothing and
loses nothing. Outputs carry the ids of their causes; the group's offset, of the topic's keeper
alone, is told every few seconds and says from where on to look.

An output that names no cause (a law of one's own needn't, and a timer has none) may be of a record
behind all that are known: then nobody can tell, but who knows and says so. Of a topic that others
write too such outputs may be theirs; what our own laws write there names its cause.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from agents.engine.plan import Plan
from agents.engine.processor import Place
from agents.engine.recovery import reader
from agents.history import snapshots
from agents.history.epochs import Epoch
from agents.history.errors import HistoryError
from agents.settings import Settings
from topics import codec
from topics.broker import connect, look
from topics.catalogue import CATALOGUE
from topics.messages import as_bytes, headers_of
from topics.reading import TopicAndPartition, committed_of, ends_of, offsets_at, read_to

GROUP = "soma"  # of the workers, without namespace
EARLIER_MS = 10_000  # brokers' clocks differ


class Output(NamedTuple):
    """What is known of an output's cause."""

    place: str
    ms: int  # of the log
    causes: list[int]  # offsets in the partition that is asked for
    named: bool  # whether it names a record of any partition, or isn't the processor's


def last_cause(outputs: Iterable[Output], since: int, high: int) -> tuple[int, Output | None]:
    """The last offset before `high` that caused an output (-1: none is named), and the last output
    that may have been caused behind it, or behind the log time `since`; None: there is none.
    """
    last, last_ms = -1, since - 1
    silent: Output | None = None
    for one in outputs:
        cause = max((at for at in one.causes if at < high), default=-1)
        if cause > last:
            last, last_ms = cause, max(one.ms, since - 1)
        elif cause == last >= 0:
            last_ms = max(one.ms, last_ms)
        if not one.named and (silent is None or one.ms >= silent.ms):
            silent = one
    return last, silent if silent is not None and silent.ms > last_ms else None


def folded_to(
    settings: Settings, plan: Plan, partition: int, span: tuple[int, int], epochs: list[Epoch],
    said: int | None = None,
) -> int:  # fmt: skip
    """Before which offset all was folded, and behind which nothing caused an output.

    `span`: of the source's partition. `said`: what somebody knows, where nothing else tells.
    HistoryError where nothing tells, or what is said can't be; KafkaException.
    """
    hint = _hint(settings, plan, partition)
    low, high = span
    begun = int(epochs[-1]["from_offset"])
    taken = max((
        one.next_offset for one in snapshots.listed(settings, plan, partition)
        if not one.wrong and one.topic_id == epochs[-1]["topic_id"]
    ), default=0)  # fmt: skip
    least = max(begun, taken, hint if hint is not None and hint <= high else 0)
    since = _time_of(settings, (plan.source, partition), max(least, low))
    last, silent = -1, None
    if since is not None:  # or the log ends there
        place, own = Place(str(epochs[-1]["topic_id"])[:8], partition), _own(plan)
        found = _outputs(settings, plan, since - EARLIER_MS)
        outputs = (_output(plan, place, own, one) for one in found)
        last, silent = last_cause(outputs, since, high)
    return chosen(
        f"{plan.processor.name} at {plan.source}/{partition}", partition,
        (max(least, last + 1, low), high), silent, said,
    )  # fmt: skip


def chosen(
    where: str, partition: int, span: tuple[int, int], silent: Output | None, said: int | None
) -> int:
    """What the outputs tell, or what is said. `span`: all before is folded, and where the log ends.
    HistoryError.
    """
    least, high = span
    if silent is None and said is not None:
        raise HistoryError(f"{where}: all before offset {least} is folded, so its outputs tell")
    if silent is not None and said is None:
        raise HistoryError(
            f"{where}: nothing tells how far it was folded: {silent.place} doesn't name its cause, "
            f"and may be of a record behind all that are named. If you know, say so: `--folded-to "
            f"{partition}:OFFSET`, before which all was folded, {least} to {high}"
        )
    if said is not None and not least <= said <= high:
        raise HistoryError(
            f"{where}: it isn't folded to offset {said}: all before {least} is, and the log ends "
            f"at {high}"
        )
    return least if said is None else said


def _output(plan: Plan, place: Place, own: set[str], message: Message) -> Output:
    where = f"{message.topic()}/{message.partition()}/{message.offset()}"
    value, topic = as_bytes(message.value()) or b"", message.topic() or ""
    causes = causes_in(value, place.prefix)
    causes += _buried(message, f"{plan.source}/{place.partition}/", plan.processor.name)
    named = bool(causes) or topic not in own or _names_any(value, place.topic_id)
    return Output(where, message.timestamp()[1], causes, named)


def _own(plan: Plan) -> set[str]:
    """The sinks that nobody else writes."""
    mine = (plan.processor.name,)
    sinks = zip(plan.processor.sinks, plan.sinks, strict=True)
    return {sink.topic for name, sink in sinks if CATALOGUE[name].writers == mine}


def _names_any(value: bytes, topic: str) -> bool:
    return re.search(re.escape(topic.encode()) + rb"-\d{1,9}-\d", value) is not None


def causes_in(value: bytes, prefix: bytes) -> list[int]:
    """The offsets of all ids of this place in the texts of a record; none of what can't be read."""
    if prefix not in value:
        return []
    try:
        record = codec.decode(value)[1]
    except codec.BadRecord:
        return []
    ids = re.compile(re.escape(prefix.decode()) + r"(\d{1,18})(?!\d)")
    return [int(one) for text in _texts(record) for one in ids.findall(text)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _hint(settings: Settings, plan: Plan, partition: int) -> int | None:
    """The group's offset; None where there is none, or it is another processor's."""
    if not plan.keeper:
        return None
    consumer = Consumer(settings.librdkafka(**{"group.id": settings.prefix(GROUP)}))
    try:
        return committed_of(consumer, (plan.source, partition), settings.answer_timeout_s)
    finally:
        consumer.close()


def _time_of(settings: Settings, place: TopicAndPartition, offset: int) -> int | None:
    """The log time, milliseconds, of the first record from an offset on; None: there is none."""
    consumer = reader(settings, "soma-history", [place], offset)
    try:
        end = ends_of(consumer, [place], settings.answer_timeout_s)[place]
        for messages in read_to(consumer, {place: end} if end > offset else {}, 1):
            return int(messages[0].timestamp()[1])
    finally:
        consumer.close()
    return None


def _outputs(settings: Settings, plan: Plan, since_ms: int) -> Iterator[Message]:
    """What was written to the sinks and the dead letters from a log time on."""
    topics = [*(sink.topic for sink in plan.sinks), plan.dlq]
    found = look(connect(settings.librdkafka()), topics)
    places = [(name, p) for name, one in found.items() for p in range(one.partitions)]
    consumer = reader(settings, "soma-history", places)
    try:
        ends = ends_of(consumer, places, settings.answer_timeout_s)
        first = offsets_at(consumer, places, since_ms, settings.answer_timeout_s)
        left = {place: ends[place] for place, at in first.items() if at is not None}
        starts = [TopicPartition(*place, first[place] or 0) for place in left]
        consumer.assign(starts)
        for messages in read_to(consumer, left):
            yield from messages
    finally:
        consumer.close()


def _buried(message: Message, place: str, processor: str) -> list[int]:
    """The offset of the record that is a dead letter of this processor, if it is one."""
    said = dict(headers_of(message))
    origin = (said.get("soma-origin") or b"").decode(errors="replace")
    offset = origin.removeprefix(place)
    mine = said.get("soma-processor") == processor.encode() and origin.startswith(place)
    return [int(offset)] if mine and offset.isdecimal() else []
