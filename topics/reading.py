"""Reading partitions to their end as it was when one began, whatever is written meanwhile.

The client tells that a partition is at its end only while nobody writes to it. So the end is asked
for first, and the position, not the last record, says when it is reached: markers of transactions
and aborted records take offsets too.
"""

import time
from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

ANSWER_S = 10.0
SILENCE_S = 30.0  # without any step forward: the broker is gone, or a transaction stays open
RETRY_S = 0.2

TopicAndPartition = tuple[str, int]

# What is said of a partition that is new to the broker or changes its leader, while it lasts.
UNSETTLED = (
    KafkaError._NOENT,  # no leaders found
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)
NO_PARTITION = (KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART)
AWAY = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE)
# The client looks for the coordinator of the group that it has to be given, though who is assigned
# partitions by hand never joins it: where ACLs keep it from there, it reads on all the same.
NO_GROUP = KafkaError.GROUP_AUTHORIZATION_FAILED
PASSED = (KafkaError._PARTITION_EOF, NO_GROUP)  # what such a reader is told, and is no error


def ends_of(
    consumer: Consumer, places: Iterable[TopicAndPartition], answer_s: float = ANSWER_S
) -> dict[TopicAndPartition, int]:
    """Where each partition ends now, for this consumer: committed records end at the last stable
    offset, before the first open transaction. KafkaException.
    """
    return {place: span_of(consumer, place, answer_s)[1] for place in places}


def span_of(
    consumer: Consumer, place: TopicAndPartition, answer_s: float = ANSWER_S
) -> tuple[int, int]:
    """A partition's first offset, and its end for this consumer. KafkaException."""
    deadline = time.monotonic() + answer_s
    while True:
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(*place), timeout=answer_s)
            return low, high
        except KafkaException as raised:
            if raised.args[0].code() not in UNSETTLED or time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_S)


def offsets_at(
    consumer: Consumer, places: Iterable[TopicAndPartition], ms: int, answer_s: float = ANSWER_S
) -> dict[TopicAndPartition, int | None]:
    """The first offset of each partition with this log time (milliseconds) or a later one; None:
    there is none. KafkaException.
    """
    asked = [TopicPartition(*place, ms) for place in places]
    found: dict[TopicAndPartition, int | None] = {}
    for one in consumer.offsets_for_times(asked, timeout=answer_s):
        if one.error is not None:
            raise KafkaException(one.error)
        found[one.topic, one.partition] = one.offset if one.offset >= 0 else None
    return found


def committed_of(
    consumer: Consumer, place: TopicAndPartition, answer_s: float = ANSWER_S
) -> int | None:
    """The offset that the consumer's group has committed; None: none. KafkaException."""
    (found,) = consumer.committed([TopicPartition(*place)], timeout=answer_s)
    if found.error is not None:
        raise KafkaException(found.error)
    return found.offset if found.offset >= 0 else None


def read_to(
    consumer: Consumer,
    ends: Mapping[TopicAndPartition, int],
    most: int = 10_000,
    poll_s: float = 0.02,
    silence_s: float = SILENCE_S,
) -> Iterator[list[Message]]:
    """Lists of messages until each of the partitions, assigned already, is read to its end.

    What lies behind the ends is left out. KafkaException; one that names the partitions if none of
    them gets on for `silence_s`.
    """
    left = {place: end for place, end in ends.items() if end > 0}
    heard, at = time.monotonic(), -1
    while left:
        found, ended = _consumed(consumer, most, poll_s)
        places = consumer.position([TopicPartition(*place) for place in left])
        if any(place.offset > left[place.topic, place.partition] for place in places):
            found = [message for message in found if _within(message, ends)]
        for one in places:
            place = one.topic, one.partition
            # Where there is no record at all, only the client's own word shows the end.
            if max(one.offset, ended.get(place, -1)) >= left[place]:
                consumer.incremental_unassign([one])  # nothing more of it is fetched
                del left[place]
        if found:
            yield found
        at, before = sum(place.offset for place in places), at
        if found or at != before:
            heard = time.monotonic()
        elif time.monotonic() - heard > silence_s:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, _standing(left, silence_s)))


def _consumed(
    consumer: Consumer, most: int, poll_s: float
) -> tuple[list[Message], dict[TopicAndPartition, int]]:
    """Records that came, and the ends that the client told of. KafkaException."""
    found: list[Message] = []
    ended: dict[TopicAndPartition, int] = {}
    for message in consumer.consume(most, poll_s):
        error = message.error()
        if error is None:
            found.append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            ended[message.topic() or "", message.partition() or 0] = message.offset() or 0
        elif not error.retriable() and error.code() not in (*AWAY, NO_GROUP):
            raise KafkaException(error)
    return found, ended


def _within(message: Message, ends: Mapping[TopicAndPartition, int]) -> bool:
    return (message.offset() or 0) < ends[message.topic() or "", message.partition() or 0]


def _standing(left: Mapping[TopicAndPartition, int], silence_s: float) -> str:
    where = ", ".join(f"{topic}/{number} to offset {end}" for (topic, number), end in left.items())
    return f"nothing came for {silence_s:g} s on the way through {where}"
