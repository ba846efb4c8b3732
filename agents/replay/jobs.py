"""What is known of a partition's jobs: what is wanted of each, and how each is."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from agents.engine.builder import RawBuilder
from agents.engine.errors import UnknownVersion
from agents.engine.records import frame_one
from agents.engine.recovery import reader
from agents.engine.work import POSITION_KEY
from agents.replay.agent import JOBS, PROCESSOR, STATUS, STATUS_SCHEMA, STOP
from agents.settings import Settings
from topics import codec
from topics.messages import as_bytes
from topics.reading import ends_of, read_to

OVER = ("done", "failed", "stopped", "refused")  # of these states a job doesn't come back
STATE = PROCESSOR.state_topic
BATCH_BYTES = 400_000  # of a record batch of statuses, before the one that makes it longer


@dataclass(frozen=True, slots=True)
class Wanted:
    """A row of the processor `replay`."""

    body: str
    wanted: str  # run, pause or stop
    asked: int
    accepted: int  # microseconds
    actor: str = ""


@dataclass(slots=True)
class Status:
    """How a job is: the fields of replay_status."""

    id: str
    state: str = "accepted"
    ts: int = 0
    message: str = ""
    mode: str = ""
    done: int = 0
    total: int = 0
    read: int = 0
    sent: int = 0
    sent_bytes: int = 0
    rate: float = 0.0
    left_s: float | None = None
    started: int | None = None
    finished: int | None = None
    plan: str = ""
    position: dict[str, int] = field(default_factory=dict)
    digest_before: str | None = None
    digest_after: str | None = None
    answers: int = 0

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in OVER

    def became(self, state: str, message: str = "") -> None:
        """Change its state; what ends it is dated."""
        self.state, self.message = state, message
        if self.over:
            self.finished, self.rate, self.left_s = now_us(), 0.0, None

    def encoded(self) -> bytes:
        """On the wire, dated now."""
        self.ts = now_us()
        return codec.encode(STATUS_SCHEMA, asdict(self))

    def said(self) -> dict[str, Any]:
        """Its plan."""
        found: dict[str, Any] = json.loads(self.plan) if self.plan else {}
        return found


def now_us() -> int:
    """The wall time, microseconds."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class Jobs:
    """Those of one partition of soma.replay.state and soma.replay.jobs."""

    wanted: dict[str, Wanted] = field(default_factory=dict)
    status: dict[str, Status] = field(default_factory=dict)
    end: int = 0  # of the partition of soma.replay.state, as it was when this was read

    def take(self, key: bytes, value: bytes | None) -> str | None:
        """Take in a row; returns its job's id, None for what is no job's. UnknownVersion."""
        if key == POSITION_KEY:
            return None
        name = key.decode()
        if value is None:
            self.wanted.pop(name, None)
            return name
        row = _read(STATE, value, PROCESSOR.state_schema)
        if not row["body"]:
            return None  # settings alone
        self.wanted[name] = Wanted(
            row["body"], row["wanted"], row["asked"], row["accepted"], row["actor"]
        )  # fmt: skip
        return name

    def unsettled(self) -> list[str]:
        """Jobs that aren't as is wanted, or of which somebody asks; the oldest first."""
        found = [one for one in self.wanted if self.is_unsettled(one)]
        found.sort(key=lambda one: (self.wanted[one].accepted, one))
        return found + [one for one in self.status if one not in self.wanted]

    def is_unsettled(self, name: str) -> bool:
        """Whether there is something to do for a job whose row is there."""
        row, status = self.wanted[name], self.status.get(name)
        if status is None or row.asked > status.answers:
            return True
        if status.over or row.wanted == STOP:
            return not status.over
        return (status.state == "paused") != (row.wanted == "pause")


def load(settings: Settings, partition: int) -> Jobs:
    """Read both topics' partition to their ends as they are now. KafkaException, UnknownVersion."""
    jobs = Jobs()
    state, progress = settings.topic(STATE), settings.topic(JOBS)
    places = [(state, partition), (progress, partition)]
    consumer = reader(settings, "soma-replay", places)
    try:
        ends = ends_of(consumer, places)
        jobs.end = ends[places[0]]
        for messages in read_to(consumer, ends):
            for message in messages:
                key, value = as_bytes(message.key()) or b"", as_bytes(message.value())
                if message.topic() == state:
                    jobs.take(key, value)
                elif value is None:
                    jobs.status.pop(key.decode(), None)
                else:
                    jobs.status[key.decode()] = status_of(value)
    finally:
        consumer.close()
    return jobs


def status_of(value: bytes) -> Status:
    """A status as it came. UnknownVersion."""
    row = _read(JOBS, value, STATUS_SCHEMA)
    return Status(**{one.name: row[one.name] for one in fields(Status)})


def _read(topic: str, value: bytes, schema: str) -> dict[str, Any]:
    try:
        name, record = codec.decode(value)
    except codec.BadRecord as error:
        raise UnknownVersion(f"{topic}: {error.detail} (a newer version wrote it?)") from error
    if name != schema:
        raise UnknownVersion(f"{topic}: a record of {name} (a newer version wrote it?)")
    return record


def sends_of(
    settings: Settings, partition: int, some: Iterable[Status], told: Iterable[Status]
) -> list[tuple[str, int, RawBuilder]]:
    """Record batches of statuses: what jobs go on from, and what people are told."""
    found: list[tuple[str, int, RawBuilder]] = []
    for topic, each in ((JOBS, some), (STATUS, told)):
        records = [(one.id.encode(), one.encoded()) for one in each]
        found += [(settings.topic(topic), partition, one) for one in record_batches(records)]
    return found


def record_batches(records: Sequence[tuple[bytes, bytes | None]]) -> list[RawBuilder]:
    """Record batches that a topic takes; one for most. A value of None: a deletion."""
    found: list[RawBuilder] = []
    framed: list[bytes] = []
    size = 0
    for key, value in records:
        framed.append(frame_one(len(framed), key, value, []))
        size += len(framed[-1])
        if size > BATCH_BYTES:
            found.append(RawBuilder(b"".join(framed), len(framed)))
            framed, size = [], 0
    return [*found, RawBuilder(b"".join(framed), len(framed))] if framed else found


def tombstones(
    settings: Settings, partition: int, names: list[str]
) -> list[tuple[str, int, RawBuilder]]:
    """Deletions of jobs that nobody keeps any more."""
    records = [(name.encode(), None) for name in names]
    return [(settings.topic(JOBS), partition, one) for one in record_batches(records)]
