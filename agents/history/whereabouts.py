"""How far a partition was folded whose position is lost: by the group's offset and its outputs.

Outputs and position were committed together. So all before the last record that caused an output
was folded; and what lies behind it caused none, so that folding it (again) doubles nothing and
loses nothing. Outputs carry the ids of their causes; the group's offset, of the topic's keeper
alone, is told every few seconds and says from where on to look.
"""

import re
from collections.abc import Iterator
from typing import Any

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
from topics.messages import as_bytes, headers_of
from topics.reading import TopicAndPartition, committed_of, ends_of, offsets_at, read_to

GROUP = "soma"  # of the workers, without namespace
EARLIER_MS = 10_000  # brokers' clocks differ


def folded_to(
    settings: Settings, plan: Plan, partition: int, span: tuple[int, int], epochs: list[Epoch]
) -> int:
    """Before which offset all was folded, and behind which nothing caused an output.

    `span`: of the source's partition. HistoryError where nothing tells; KafkaException.
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
    if since is None:
        return max(least, low)  # the log ends there
    last, ids, others = -1, 0, 0
    prefix = Place(str(epochs[-1]["topic_id"])[:8], partition).prefix
    for message in _outputs(settings, plan, since - EARLIER_MS):
        found = causes_in(as_bytes(message.value()) or b"", prefix)
        found += _buried(message, f"{plan.source}/{partition}/", plan.processor.name)
        ids, others = ids + bool(found), others + (not found)
        last = max([last, *(one for one in found if one < high)])
    if hint is None and not ids and others:
        raise HistoryError(
            f"{plan.processor.name} at {plan.source}/{partition}: nothing tells how far it was "
            "folded: its outputs carry no ids of their causes, and the group's offset isn't its own"
        )
    return max(least, last + 1, low)


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
