"""Ids of records as ends of a range: a record's own place, or what was derived from it elsewhere.

A frame's id is the place of the update that caused it. In the frames' topic it stands for that
frame, which lies in the same partition and wasn't written before its cause.
"""

from agents.history.errors import HistoryError, TookTooLong
from agents.history.finding import Finder, mentions, since
from agents.replay.bounds import Bound
from agents.replay.modes import CantReplayError
from agents.replay.ranges import SHORT_ID, Log
from agents.settings import Settings


def located(settings: Settings, log: Log, name: str, one: Bound | None) -> Bound | None:
    """The bound as offsets of this log. CantReplayError: no such record; BrokerError,
    KafkaException.
    """
    if one is None or not one.topic_id or one.topic_id == log.topic_id[:SHORT_ID]:
        return one
    ((partition, offset),) = one.offsets.items()
    text = f"{one.topic_id}-{partition}-{offset}"
    finder = Finder(settings, _nobody)
    if one.topic_id not in finder.ids.values() or partition not in log.spans:
        raise CantReplayError(f"{name}: {text} is the id of no record of a topic that is here")
    place, (start, end) = (log.topic, partition), log.spans[partition]
    try:
        first = since(settings, place, finder.at(finder.place(text)))
        start = end if first is None else max(start, first)
    except HistoryError:
        pass  # its cause is gone: it may be anywhere
    try:
        for _, found in mentions(settings, place, (start, end), text, _nobody):
            if found:
                offsets = {partition: found[0].offset() or 0}
                return Bound(offsets=offsets, topic_id=log.topic_id[:SHORT_ID])
    except TookTooLong as error:
        raise CantReplayError(f"{name}: {error}") from error
    raise CantReplayError(f"{name}: nothing of {log.topic} has the id {text}")


def _nobody(_: str) -> None:
    """Nobody is told."""
