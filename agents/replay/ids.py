"""Ids of records as ends of a range: a record's own place, or what was derived from it elsewhere.

A frame's id is the place of the update that caused it. In the frames' topic it stands for that
frame, which lies in the same partition and wasn't written before its cause.
"""

import time
from collections.abc import Callable

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from agents.engine.recovery import reader
from agents.replay.bounds import Bound
from agents.replay.modes import CantReplayError
from agents.replay.ranges import ANSWER_S, SHORT_ID, Log
from agents.settings import Settings
from topics.broker import topic_ids
from topics.catalogue import CATALOGUE
from topics.reading import offsets_at, read_to, span_of

FIND_S = 60.0  # for a record by its id


def located(
    settings: Settings, admin: AdminClient, log: Log, name: str, one: Bound | None
) -> Bound | None:
    """The bound as offsets of this log. CantReplayError: no such record; KafkaException."""
    if one is None or not one.topic_id or one.topic_id == log.topic_id[:SHORT_ID]:
        return one
    ((partition, offset),) = one.offsets.items()
    text = f"{one.topic_id}-{partition}-{offset}"
    known = topic_ids(admin, [settings.topic(topic) for topic in CATALOGUE])
    causes = [topic for topic, whole in known.items() if whole[:SHORT_ID] == one.topic_id]
    if not causes or partition not in log.spans:
        raise CantReplayError(f"{name}: {text} is the id of no record of a topic that is here")
    low, end = log.spans[partition]
    caused = _first(settings, (causes[0], partition), (offset, offset + 1), lambda _: True)
    start = low if caused is None else _offset_at(settings, log, partition, caused)
    begin, quoted = bytes([2 * len(text)]) + text.encode(), f'"{text}"'.encode()

    def has(message: Message) -> bool:
        value = message.value()
        return isinstance(value, bytes) and (begin in value or quoted in value)

    found = _first(settings, (log.topic, partition), (max(low, start), end), has)
    if found is None:
        raise CantReplayError(f"{name}: nothing of {log.topic} has the id {text}")
    return Bound(offsets={partition: found.offset() or 0}, topic_id=log.topic_id[:SHORT_ID])


def _first(
    settings: Settings, place: tuple[str, int], span: tuple[int, int],
    is_it: Callable[[Message], bool],
) -> Message | None:  # fmt: skip
    """The first record of a span that is it. CantReplayError after FIND_S; KafkaException."""
    until = time.monotonic() + FIND_S
    consumer = reader(settings, "soma-replay", [place], span[0])
    try:
        low, end = span_of(consumer, place, ANSWER_S)
        if span[0] < low or span[0] >= end:
            return None
        for messages in read_to(consumer, {place: min(span[1], end)}, silence_s=ANSWER_S):
            for message in messages:
                if is_it(message):
                    return message
            if time.monotonic() > until:
                raise CantReplayError(f"the id wasn't found in {place[0]} within {FIND_S:g} s")
    finally:
        consumer.close()
    return None


def _offset_at(settings: Settings, log: Log, partition: int, cause: Message) -> int:
    """From where on the log has what was written since a record was."""
    place = log.topic, partition
    consumer = reader(settings, "soma-replay", [])
    try:
        found = offsets_at(consumer, [place], cause.timestamp()[1], ANSWER_S)[place]
    finally:
        consumer.close()
    return log.spans[partition][1] if found is None else found
