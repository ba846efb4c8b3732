"""What the epochs log says of a partition: under which values its records were folded."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agents.engine.epochs import Skip, epoch_key, read_skip, skip_key
from agents.engine.plan import Plan
from agents.engine.recovery import reader
from agents.history.errors import HistoryError
from agents.settings import Settings
from topics import codec
from topics.reading import ends_of, read_to

Epoch = Mapping[str, Any]  # a record of schema `epoch`


class Logged(NamedTuple):
    """The epochs of a processor's partition by number, and the records that it passes over."""

    epochs: list[Epoch]
    skips: list[Skip]


class Stretch(NamedTuple):
    """Offsets `begin`..`end`-1 of the source, and the epoch in which they were folded."""

    epoch: Epoch
    begin: int
    end: int


def read_epochs(settings: Settings, plan: Plan, partition: int) -> Logged:
    """All of the epochs log, to its end as it is now. KafkaException, HistoryError."""
    place = (plan.epochs, partition)
    name = plan.processor.name
    found = Logged([], [])
    consumer = reader(settings, "soma-history", [place])
    try:
        for messages in read_to(consumer, ends_of(consumer, [place], settings.answer_timeout_s)):
            for message in messages:
                value = message.value() or b""
                if message.key() == epoch_key(name, partition):
                    found.epochs.append(codec.decode(value)[1])
                elif message.key() == skip_key(name, partition):
                    found.skips.append(read_skip(value))
    except codec.BadRecord as error:
        where = f"{place[0]}/{place[1]}"
        raise HistoryError(f"{where}: {error.detail} (a newer version wrote it?)") from error
    finally:
        consumer.close()
    found.epochs.sort(key=lambda one: int(one["number"]))
    return found


def of_topic(epochs: Sequence[Epoch], topic_id: str) -> list[Epoch]:
    """The epochs whose offsets are of the source as it is: none before it was made anew.

    Epochs of version 1 don't say of which topic they are: then one that begins before the epoch
    before it, or begins at 0 again, tells.
    """
    mine: list[Epoch] = []
    for one in epochs:
        if one["topic_id"] not in ("", topic_id):
            mine = []
            continue
        if mine and one["from_offset"] < mine[-1]["from_offset"]:
            mine = []
        mine.append(one)
    return mine


def stretches(epochs: Sequence[Epoch], begin: int, number: int, end: int) -> list[Stretch]:
    """What is to be folded from `begin` to `end`, where epoch `number` is in force at `begin`.

    HistoryError if the epochs log lacks that epoch.
    """
    later = [one for one in epochs if one["number"] >= number]
    if not later or later[0]["number"] != number:
        known = f"{epochs[0]['number']} to {epochs[-1]['number']}" if epochs else "none"
        raise HistoryError(f"epoch {number} isn't in the epochs log (there: {known})")
    starts = [begin, *(max(begin, int(one["from_offset"])) for one in later[1:]), end]
    return [
        Stretch(one, at, min(starts[k + 1], end))
        for k, (one, at) in enumerate(zip(later, starts[:-1], strict=True))
        if k == 0 or at < end
    ]
