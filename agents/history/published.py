"""Whether what a fold of the past gives is what was published then."""

from collections.abc import Iterator

from agents.engine.recovery import reader
from agents.history.log import offset_at
from agents.history.outputs import Expected
from agents.settings import Settings
from topics.messages import as_bytes
from topics.reading import ends_of, read_to

READ_MAX = 10_000  # messages at a time
CLOCKS_MS = 60_000  # that brokers' clocks may differ by


def looked_for(
    settings: Settings, place: tuple[str, int], since_ms: int, expected: Expected
) -> Iterator[int]:
    """Look for outputs in a sink's partition, from this log time on, until all are found or the
    end as it was when this began is reached; gives how many records were read, now and then.

    KafkaException.
    """
    start = offset_at(settings, place, max(0, since_ms - CLOCKS_MS))
    if start is None:
        return
    consumer = reader(settings, "soma-history", [place], start)
    try:
        ends = ends_of(consumer, [place], settings.answer_timeout_s)
        if start >= ends[place]:
            return
        for messages in read_to(consumer, ends, READ_MAX):
            expected.look((as_bytes(one.key()) or b"", as_bytes(one.value())) for one in messages)
            yield len(messages)
            if expected.complete:
                break
    finally:
        consumer.close()
