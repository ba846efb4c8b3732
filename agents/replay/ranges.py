"""From what people mean by a range to offsets of a topic's partitions, by asking the broker."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer

from agents.replay.bounds import EVERY, Bound
from agents.replay.modes import CantReplayError
from topics.reading import ends_of, offsets_at, span_of

ANSWER_S = 10.0
SHORT_ID = 8  # hex digits of a topic's id in a record's


@dataclass(frozen=True, slots=True)
class Log:
    """A topic as the broker has it: its partitions' first offsets and stable ends."""

    topic: str  # as on the broker
    topic_id: str
    spans: Mapping[int, tuple[int, int]]


def log_of(consumer: Consumer, topic: str, topic_id: str, partitions: Iterable[int]) -> Log:
    """What there is of a topic's partitions for readers of committed records. KafkaException."""
    places = [(topic, partition) for partition in partitions]
    lows = {place[1]: span_of(consumer, place, ANSWER_S)[0] for place in places}
    ends = {place[1]: end for place, end in ends_of(consumer, places, ANSWER_S).items()}
    return Log(topic, topic_id, {p: (lows[p], ends[p]) for p in sorted(lows)})


def range_of(
    consumer: Consumer, log: Log, since: Bound | None, until: Bound | None, partial: bool
) -> tuple[dict[int, tuple[int, int]], list[str]]:
    """Partition -> (first offset, offset behind the last), and what of it is gone, in words.

    CantReplayError: it lies beyond the end, or isn't whole without `partial`.
    KafkaException.
    """
    for name, one in (("since", since), ("until", until)):
        if one is not None:
            _check(name, one, log)
    named = [one.partitions for one in (since, until) if one is not None and one.partitions]
    partitions = sorted(frozenset.union(*named)) if named else sorted(log.spans)
    starts = _offsets(consumer, log, since, partitions, at_end=False)
    ends = _offsets(consumer, log, until, partitions, at_end=True)
    found: dict[int, tuple[int, int]] = {}
    missing: list[str] = []
    for p in partitions:
        low, end = log.spans[p]
        if max(starts[p], ends[p]) > end:
            raise CantReplayError(
                f"partition {p} of {log.topic}: offsets {starts[p]} to {ends[p]} lie beyond its "
                f"end, which is {end}"
            )
        gone = _gone(log, p, since, starts[p])
        if gone:
            missing.append(gone)
        found[p] = max(starts[p], low), max(ends[p], starts[p], low)
    if missing and not partial:
        raise CantReplayError(
            f"the range isn't whole: {'; '.join(missing)}. --partial takes what there is"
        )
    return found, missing


def _check(name: str, one: Bound, log: Log) -> None:
    if unknown := sorted(one.partitions - log.spans.keys()):
        raise CantReplayError(f"{name}: {log.topic} has no partition {unknown[0]}")


def _offsets(
    consumer: Consumer, log: Log, one: Bound | None, partitions: list[int], *, at_end: bool
) -> dict[int, int]:
    """Where a bound lies in each partition; without one, where the log begins or ends."""
    if one is None:
        return {p: log.spans[p][at_end] for p in partitions}
    if one.time is None:
        whole = one.offsets.get(EVERY)
        if whole is None:
            return {p: one.offsets.get(p, log.spans[p][at_end]) for p in partitions}
        if whole > (last := max(end for _, end in log.spans.values())):
            raise CantReplayError(f"offset {whole} lies beyond the end of {log.topic}: {last}")
        return {p: min(whole, log.spans[p][1]) for p in partitions}
    places = [(log.topic, p) for p in partitions]
    found = offsets_at(consumer, places, -(-one.time // 1000), ANSWER_S)
    return {p: log.spans[p][1] if at is None else at for (_, p), at in found.items()}


def _gone(log: Log, partition: int, since: Bound | None, start: int) -> str:
    """What of a partition's range was deleted, in words; empty: nothing, or nobody asked for it."""
    low, end = log.spans[partition]
    if since is None or low == 0:
        return ""
    if since.time is None:
        missing = start < low
        return f"partition {partition}: offsets {start} to {low - 1} are gone" if missing else ""
    # By time the log's own first record is found: what was before it may have been in the range.
    if start > low:
        return ""
    return f"partition {partition}: what was written before offset {low} is gone"
