"""What the tests of bad input send, and what they look for: outputs and dead letters by origin."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from agents.settings import Settings
from ops.prove.partitions import home
from ops.prove.wire import Record, Wire
from tests.live.helpers import PARTITIONS, eventually

OBSERVATIONS = "cog.observations"
UPDATES = "cog.predictor.updates"
FRAMES = "cog.global.frame"
SCHEMA = {OBSERVATIONS: "observation", UPDATES: "predictor_update"}
START_MICROS = 1_750_000_000_000_000
WIRE = Wire()

Headers = list[tuple[str, bytes]]
Row = tuple[int, bytes | None, bytes | None, Headers]  # partition, key, value, headers
LOOKS = 10
_numbers = itertools.count()


class Sent(NamedTuple):
    """One record as it was sent; `place` is what its origin and its id are made of."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def origin(self) -> bytes:
        return f"{self.topic}/{self.partition}/{self.offset}".encode()


def fresh_tenant(partition: int | None = None, partitions: int = PARTITIONS) -> str:
    """A tenant that no other test uses, living in this partition of so many if one is given."""
    assert partition is None or partition < partitions
    while True:
        name = f"tenant-{next(_numbers)}"
        if partition is None or home(name, partitions) == partition:
            return name


def good(topic: str, tenant: str, ts: int, /, **other: Any) -> dict[str, Any]:
    """A record that can be folded, with some fields otherwise."""
    if topic == OBSERVATIONS:
        vector = np.linspace(0.0, 1.0 + ts % 7, 4, dtype="<f4").tobytes()
        record = {"tenant": tenant, "domain": "state", "ts": ts, "vector": vector, "sequence": None}
    else:
        record = {
            "tenant": tenant, "domain": "state", "predictor_type": "mine", "error_metric": 0.25,
            "prediction_latency_ms": 0.0, "model_version": "1.0", "vector_dim": 4,
            "confidence": 0.5, "observation_id": "", "ts": ts,
        }  # fmt: skip
    return record | other


def encoded(topic: str, tenant: str, ts: int = START_MICROS, /, **other: Any) -> bytes:
    """The value of a `good` record."""
    return WIRE.encode(SCHEMA[topic], good(topic, tenant, ts, **other))


class Sender:
    """Writes records and learns where they came to stand."""

    def __init__(self, settings: Settings, **config: Any) -> None:
        self.settings = settings
        self.producer = Producer(
            settings.librdkafka(**{"linger.ms": 5, "message.max.bytes": 1_048_588} | config)
        )

    def send(self, topic: str, records: Iterable[Row]) -> list[Sent]:
        """Write records in order and await the acks."""
        name, sent, failed = self.settings.topic(topic), [], []

        def noted(row: Row) -> Callable[[object, Message], None]:
            def delivered(error: object, message: Message) -> None:
                if error is not None:
                    failed.append(error)
                    return
                where = (name, message.partition() or 0, message.offset() or 0)
                sent.append(Sent(*where, key=row[1], value=row[2], headers=row[3]))

            return delivered

        for row in records:
            partition, key, value, headers = row
            self.producer.produce(
                name, value, key, partition, headers=list(headers), on_delivery=noted(row)
            )
            self.producer.poll(0)
        assert self.producer.flush(60.0) == 0 and not failed, failed[:3]
        return sent


class Evidence:
    """Follows outputs and dead letters of a namespace from their beginning."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topics = [UPDATES, FRAMES, f"{OBSERVATIONS}.dlq", f"{UPDATES}.dlq", OBSERVATIONS]
        self.consumer = Consumer(
            settings.librdkafka(
                **{
                    "group.id": "tests-evidence",
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    "fetch.queue.backoff.ms": 10,
                    "fetch.message.max.bytes": 2_000_000,
                }
            )
        )
        self.consumer.assign(
            [
                TopicPartition(settings.topic(topic), number, 0)
                for topic in self.topics
                for number in range(settings.topics_partitions or 0)
            ]
        )
        self.letters: dict[bytes, list[Record]] = defaultdict(list)
        self.copies: dict[bytes, list[Record]] = defaultdict(list)
        self.updates: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by tenant, predicted
        self.frames: dict[str, list[dict[str, Any]]] = defaultdict(list)  # by tenant
        self.frame_offsets: dict[int, set[int]] = defaultdict(set)  # by partition, of the causes

    def close(self) -> None:
        self.consumer.close()

    def look(self) -> None:
        """Take in what is new; not more than a few batches, for writers may go on for ever."""
        for _ in range(LOOKS):
            if not (messages := self.consumer.consume(5000, 0.05)):
                return
            for message in messages:
                if message.error() is None:
                    self._take(message)

    def _take(self, message: Message) -> None:
        headers: Any = message.headers() or []
        key: Any = message.key()
        value: Any = message.value()
        name = (message.topic() or "").removeprefix(self.settings.topic(""))
        record = Record(
            name, message.partition() or 0, message.offset() or 0, 0, key, value, tuple(headers)
        )
        origin = record.header("soma-origin")
        if name.endswith(".dlq"):
            self.letters[origin or b""].append(record)
        elif name == FRAMES:
            row = WIRE.decode(value, "global_frame")[1]
            self.frames[row["tenant"]].append(row)
            _, partition, offset = row["frame_id"].split("-")
            self.frame_offsets[int(partition)].add(int(offset))
        elif origin is not None:
            self.copies[origin].append(record)
        elif name == UPDATES and value and value[:5] == b"\0\0\0\0\2":
            self._take_update(value)

    def _take_update(self, value: bytes) -> None:
        try:
            row = WIRE.decode(value, "predictor_update")[1]
        except Exception as error:
            assert "Unreadable" in type(error).__name__, error  # a test's own bad record
            return
        if row["observation_id"]:
            self.updates[row["tenant"]].append(row)

    def count(self, topic: str, tenant: str) -> int:
        """How many outputs there are for a tenant's records of a source topic."""
        self.look()
        return len((self.updates if topic == OBSERVATIONS else self.frames)[tenant])

    def await_outputs(self, topic: str, tenant: str, number: int, timeout: float = 60.0) -> None:
        """Wait for so many outputs; more are a failure."""
        what = f"{number} outputs of {tenant} from {topic}"
        eventually(lambda: self.count(topic, tenant) >= number, timeout, what)
        assert self.count(topic, tenant) == number

    def await_letters(self, sent: Sequence[Sent], timeout: float = 60.0) -> list[Record]:
        """Wait for one dead letter each; every one is the original with the reason and origin."""

        def there() -> bool:
            self.look()
            return all(record.origin in self.letters for record in sent)

        eventually(there, timeout, f"{len(sent)} dead letters")
        found = []
        for record in sent:
            (letter,) = self.letters[record.origin]
            assert (letter.key, letter.value) == (record.key, record.value), record.origin
            own = [pair for pair in letter.headers if not pair[0].startswith("soma-")]
            assert own == record.headers
            assert letter.header("soma-processor") and letter.header("soma-detail") is not None
            found.append(letter)
        return found
