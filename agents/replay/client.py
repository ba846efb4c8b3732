"""Commands to replay, and what is said of jobs: for `soma replay` and the HTTP API."""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from agents.settings import Settings
from topics import codec
from topics.broker import BrokerError
from topics.catalogue import CATALOGUE
from topics.chosen_ids import insist
from topics.partition import partition_of
from topics.reading import PASSED, ends_of, read_to

ANSWER_S = 10.0
POLL_S = 0.2
FETCH_WAIT_MS = 100
SCHEMA, STATUS_SCHEMA = "replay_command", "replay_status"
# As agent.py has them; without the engine that it brings, which commands and the API do without.
COMMANDS = next(name for name, topic in CATALOGUE.items() if topic.schema == SCHEMA)
STATUS = f"{COMMANDS}.status"
OVER = ("done", "failed", "stopped", "refused")
# What says that a command was taken, by its type; what is over or refused says so too.
ANSWERS = {
    "start": ("accepted", "running", "paused"),
    "resume": ("accepted", "running"),
    "pause": ("paused",),
    "stop": (),
    "status": ("accepted", "running", "paused"),
}


class NobodyAnswersError(Exception):
    """Kafka doesn't answer, lacks the topics, or no worker takes commands; the text says which."""


def new_id(mode: str, now: datetime | None = None) -> str:
    """A name for a job whose author gave it none."""
    return f"{mode}-{now or datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


def command(given: Mapping[str, Any]) -> dict[str, Any]:
    """A command's record, defaults filled in. `topics.codec.BadRecord` names what is wrong."""
    return codec.from_json(SCHEMA, given)


def say(settings: Settings, record: dict[str, Any]) -> None:
    """Write a command, and wait until it is there. NobodyAnswersError."""
    try:
        insist(settings)
    except BrokerError as error:
        raise NobodyAnswersError(f"the command isn't written: {error}") from error
    failed: list[KafkaError] = []
    producer = Producer(
        settings.librdkafka(
            enable_idempotence=True, acks="all", partitioner="murmur2_random",
            message_timeout_ms=int(ANSWER_S * 1000),
        )
    )  # fmt: skip
    producer.produce(
        settings.topic(COMMANDS), key=record["id"].encode(), value=codec.encode(SCHEMA, record),
        on_delivery=lambda error, _: failed.append(error) if error is not None else None,
    )  # fmt: skip
    if producer.flush(ANSWER_S + 1.0) or failed:
        why = failed[0].str() if failed else "no answer"
        where = settings.bootstrap()
        raise NobodyAnswersError(f"the command isn't written: Kafka at {where}: {why}")


class Statuses:
    """What is said of one job, or of all, from now on. Close it, or use it in a `with`."""

    def __init__(self, settings: Settings, job: str | None = None, *, past: bool = False) -> None:
        """`past`: what was said so far comes first. NobodyAnswersError."""
        self._consumer = Consumer(
            settings.librdkafka(
                group_id=settings.prefix("soma-replay-look"), isolation_level="read_committed",
                enable_auto_commit=False, enable_partition_eof=True, auto_offset_reset="earliest",
                fetch_wait_max_ms=FETCH_WAIT_MS,
            )
        )  # fmt: skip
        try:
            self._places = self._partitions(settings, job)
            self._ends = ends_of(self._consumer, self._places, ANSWER_S)
            starts = {place: 0 if past else end for place, end in self._ends.items()}
            self._consumer.assign([TopicPartition(*place, at) for place, at in starts.items()])
        except KafkaException as error:
            self._consumer.close()
            raise NobodyAnswersError(
                f"Kafka at {settings.bootstrap()} doesn't answer: {error.args[0].str()}"
            ) from error
        except NobodyAnswersError:
            self._consumer.close()
            raise

    def _partitions(self, settings: Settings, job: str | None) -> list[tuple[str, int]]:
        topic = settings.topic(STATUS)
        found = self._consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
        if found.error is not None or not found.partitions:
            raise NobodyAnswersError(f"there is no topic {topic}: `soma topics apply` makes it")
        if job is not None:
            return [(topic, partition_of(job, len(found.partitions)))]
        return [(topic, partition) for partition in sorted(found.partitions)]

    def last(self) -> dict[str, dict[str, Any]]:
        """The last status of each job, as there were when this was made; needs `past`.

        What was refused for want of a job is none.
        """
        found: dict[str, dict[str, Any]] = {}
        try:
            for messages in read_to(self._consumer, self._ends, silence_s=ANSWER_S):
                for message in messages:
                    said = _said(message.value())
                    if said is not None and (said["mode"] or said["state"] != "refused"):
                        found.pop(said["id"], None)
                        found[said["id"]] = said
        except KafkaException as error:
            raise NobodyAnswersError(f"Kafka doesn't answer: {error.args[0].str()}") from error
        return found

    def of(self, job: str, silence_s: float) -> Iterator[dict[str, Any] | None]:
        """What is said of a job, and None now and then; ends when nothing was for so long."""
        heard = time.monotonic()
        while time.monotonic() - heard < silence_s:
            message = self._consumer.poll(POLL_S)
            if message is None:
                yield None
            elif (error := message.error()) is not None:
                if error.code() not in PASSED and not error.retriable():
                    raise NobodyAnswersError(f"Kafka: {error.str()}")
            elif (said := _said(message.value())) is not None and said["id"] == job:
                heard = time.monotonic()
                yield said

    def answer(self, job: str, type_: str, seconds: float) -> dict[str, Any]:
        """The first status that answers a command just said. NobodyAnswersError after so long."""
        wanted, until = (*ANSWERS[type_], *OVER), time.monotonic() + seconds
        for said in self.of(job, seconds):
            if said is not None and said["state"] in wanted:
                return said
            if time.monotonic() > until:
                break
        raise NobodyAnswersError(
            f"nobody has answered within {seconds:g} s: is there a worker that runs `replay`? The "
            "command is written, and obeyed when one does"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._consumer.close()


def _said(value: str | bytes | None) -> dict[str, Any] | None:
    """A status as it is in the record; None for what this version can't read."""
    try:
        name, record = codec.decode(value if isinstance(value, bytes) else b"")
    except codec.BadRecord:
        return None
    return record if name == STATUS_SCHEMA else None


def shown(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status as JSON data for people: times as text, the plan as an object, no position."""
    found = codec.to_json(STATUS_SCHEMA, status)
    for name in ("position", "answers"):
        del found[name]
    plan = json.loads(found["plan"]) if found["plan"] else None
    return found | {"plan": plan}
