"""`soma.dlq.ledger`: what became of each record that failed. Marks go with the records sent again.

The marks of a topic are in one partition, in order, so what is read there to its end is all that
is known. Whoever writes them has the topic's transactional id: a second one fences the first, and
then reads all that the first has committed.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaException, Message

from agents.dlq.law import Epoch, Known, Mark, Verdict
from agents.dlq.letters import BusyError, DlqError, LateError, Letter, TargetError
from agents.dlq.reading import ANSWER_S, said
from agents.tools.marks import WAIT_S, FencedError, LedgerError, RefusedError, committed
from agents.tools.transacting import PATIENCE_S, TRANSACTION_S, Transactions
from topics import codec
from topics.catalogue import dlq_of
from topics.partition import partition_of

if TYPE_CHECKING:
    from agents.settings import Settings

LEDGER = "soma.dlq.ledger"
AUDIT = "soma.audit"
EPOCHS = "soma.epochs"
FENCED = (
    "somebody else redrives or drops letters of this topic, or this one slept for "
    f"{TRANSACTION_S:g} s"
)


def marks_of(
    settings: "Settings", topics: Sequence[str], deadline: float | None = None
) -> dict[bytes, Mark]:
    """What became of these topics' records, by their identity. `DlqError`."""
    found: dict[bytes, Mark] = {}
    mine = tuple(f"{name}/".encode() for one in topics for name in (one, dlq_of(one)))
    count = partitions_of(settings, LEDGER)
    for message in _committed(settings, LEDGER, {partition_of(t, count) for t in topics}, deadline):
        key, mark = message.key(), _mark(message.value())
        if mark is not None and isinstance(key, bytes) and key.startswith(mine):
            found[key] = mark
    return found


def known_of(
    settings: "Settings", topic: str, epochs: "EpochsLog", deadline: float | None = None
) -> Known:
    """All that the law wants to know beside the letters of a topic. `DlqError`."""
    epochs.read_on(deadline)
    return Known(marks_of(settings, [topic], deadline), epochs.found, epochs.processors)


class EpochsLog:
    """When processors began where: the epochs log, which is small, to where it was read last."""

    def __init__(self, settings: "Settings", processors: frozenset[str]) -> None:
        self.processors = processors
        self.found: defaultdict[tuple[str, int], list[Epoch]] = defaultdict(list)  # in order
        self._settings = settings
        self._partitions = 0
        self._at: dict[int, int] = {}

    def read_on(self, deadline: float | None = None) -> None:
        """Take in what was written since. `DlqError`."""
        if not self.processors:
            return
        self._partitions = self._partitions or partitions_of(self._settings, EPOCHS)
        every = range(self._partitions)
        for message in _committed(self._settings, EPOCHS, every, deadline, self._at):
            one = epoch_of(message.value(), message.timestamp()[1])
            if one is not None and one[0][0] in self.processors:
                self.found[one[0]].append(one[1])


def _committed(
    settings: "Settings", topic: str, partitions: Iterable[int], deadline: float | None,
    since: dict[int, int] | None = None,
) -> Iterator[Message]:  # fmt: skip
    wait_s = WAIT_S if deadline is None else max(0.1, deadline - time.monotonic())
    try:
        for messages in committed(settings, topic, partitions, min(wait_s, WAIT_S), since):
            if deadline is not None and time.monotonic() >= deadline:
                raise LateError(f"{topic} couldn't be read in time")
            yield from messages
    except LedgerError as error:
        raise DlqError(f"{topic}: Kafka was asked {error}") from error


def partitions_of(settings: "Settings", topic: str) -> int:
    """How many partitions a topic has. `DlqError` if it isn't there."""
    name = settings.topic(topic)
    client = Consumer(settings.librdkafka(group_id=settings.prefix("dlq")))
    try:
        found = client.list_topics(name, timeout=ANSWER_S).topics[name]
    except KafkaException as error:
        raise DlqError(f"Kafka at {settings.bootstrap()} doesn't answer: {said(error)}") from error
    finally:
        client.close()
    if found.error is not None or not found.partitions:
        raise DlqError(f"the broker has no topic {name}: create them with `soma topics apply`")
    return len(found.partitions)


class LedgerWriter:
    """Sends letters' records again, and marks letters: together, in transactions. `DlqError`."""

    def __init__(
        self, settings: "Settings", topic: str, actor: str, patience_s: float = PATIENCE_S
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._actor = actor
        self._partitions = partitions_of(settings, topic)
        self._ledger = partition_of(topic, partitions_of(settings, LEDGER))
        self._transactions = Transactions(settings, f"dlq-{topic}", FENCED, patience_s)

    def fence(self) -> None:
        """End whoever else writes for this topic. What he committed can be read from now on."""
        self._must(self._transactions.fence)

    def send(self, letter: Letter, verdict: Verdict) -> None:
        """Send a letter's record to its topic again, and mark it so."""
        key = verdict.key
        home = partition_of(key, self._partitions) if key else letter.place.partition
        name = self._settings.topic(self._topic)
        headers = list(verdict.headers)
        self._must(
            lambda: self._transactions.send(name, key, verdict.value, home, headers)  # type: ignore[arg-type]
        )
        self.mark(letter, "redriven", letter.times + 1, verdict.mended)

    def mark(self, letter: Letter, what: str, times: int, changed: bool = False) -> Mark:
        """Note what became of a letter."""
        mark = Mark(what, times, time.time_ns() // 1000, str(letter.place), self._actor)
        record = mark._asdict() | {"topic_id": letter.topic_id, "mended": changed}
        value = codec.encode("letter_mark", record)
        name = self._settings.topic(LEDGER)
        self._must(lambda: self._transactions.send(name, letter.identity, value, self._ledger))
        return mark

    def audit(self, action: str, tenant: str, detail: dict[str, Any]) -> None:
        """Note in the same transaction who did what."""
        event = {
            "ts": time.time_ns() // 1000, "actor": self._actor, "action": action,
            "subject": self._topic, "tenant": tenant, "detail": json.dumps(detail),
        }  # fmt: skip
        name, value = self._settings.topic(AUDIT), codec.encode("audit_event", event)
        self._must(lambda: self._transactions.send(name, self._topic.encode(), value))

    def commit(self) -> None:
        """Commit all that was sent and marked since the last time."""
        self._must(self._transactions.commit)

    def close(self) -> None:
        """Let the broker go; what isn't committed never was."""
        self._transactions.close()

    def _must(self, call: Any) -> None:
        try:
            call()
        except FencedError as error:
            raise BusyError(f"Kafka was asked {error}") from error
        except RefusedError as error:
            raise TargetError(
                f"{self._settings.topic(self._topic)}: Kafka was asked {error}"
            ) from error
        except LedgerError as error:
            raise DlqError(f"Kafka was asked {error}") from error


def _mark(value: object) -> Mark | None:
    """A mark from its wire bytes; None where it is none (older, or somebody else's)."""
    try:
        name, record = codec.decode(value if isinstance(value, bytes) else b"")
    except codec.BadRecord:
        return None
    if name != "letter_mark":
        return None
    return Mark(*(record[name] for name in Mark._fields))


def epoch_of(value: object, log_ms: int) -> tuple[tuple[str, int], Epoch] | None:
    """An epoch of a processor's partition, or its state made anew and put in place, from a value
    of the epochs log; None for what is neither (a skip).
    """
    try:
        name, record = codec.decode(value if isinstance(value, bytes) else b"")
    except codec.BadRecord:
        return None
    if name == "epoch":
        version = record["law"], record["schemas"]
        epoch = Epoch(log_ms, record["from_offset"], record["topic_id"], version)
    elif name == "rebuild" and record["state"] == "done":
        epoch = Epoch(log_ms, 0, record["topic_id"], rebuilt=record["next_offset"])
    else:
        return None
    return (record["processor"], record["partition"]), epoch
