"""What the live tests share: polling, worker processes, plain readers and writers."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from agents.services.base import Service
from agents.settings import Settings
from ops.stack.ports import free_port
from tests.live.forking import Started, begun, forked, late
from topics.catalogue import CATALOGUE
from topics.topic import snapshots_of

T = TypeVar("T")
POLL_S = 0.05
# Of a test's topics. Each costs the broker 10 ms of CPU for each topic, and each worker a recovery.
PARTITIONS = 2
REPO = Path(__file__).parents[2]


def topics_of(*names: str) -> tuple[str, ...]:
    """The topics that these processors and services read or write: for a module's MADE.

    Snapshots are written by a service of their own: here they belong to the processor's.
    """
    among = set(names)
    kept = {snapshots_of(name) for name in names}
    return tuple(
        name
        for name, topic in CATALOGUE.items()
        if name in kept or among & {*topic.writers, *topic.readers}
    )


@contextmanager
def ended(services: Sequence[Service]) -> Iterator[None]:
    """Services that a test starts, more of them as it goes on, end with it, and not by an error."""
    yield
    for one in services:
        one.stop()
        assert one.error is None


def eventually(condition: Callable[[], T], timeout: float = 30.0, what: str = "") -> T:
    """Poll `condition` until it is true; its value. AssertionError says what never came."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() >= deadline:
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"not within {timeout} s: {name} (last: {value!r})")
        time.sleep(POLL_S)
    return value


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """The environment of a process that is to run with these settings, and with `more` (SOMA_…)."""
    bare = {name: text for name, text in os.environ.items() if not name.startswith("SOMA_")}
    ours = {
        "SOMA_HOME": str(settings.home),
        "SOMA_NAMESPACE": settings.namespace,
        "SOMA_KAFKA_BOOTSTRAP": settings.bootstrap(),
        "SOMA_TOPICS_PARTITIONS": str(settings.topics_partitions),
        "SOMA_TOPICS_REPLICATION": str(settings.topics_replication),
        "SOMA_REDIS_URL": settings.redis_url.get_secret_value(),
        "SOMA_POSTGRES_DSN": settings.postgres_dsn.get_secret_value(),
        "SOMA_SESSION_TIMEOUT_S": "6",
        "SOMA_HEARTBEAT_S": "1",
        "SOMA_REBALANCE_TIMEOUT_S": "4",
        "SOMA_ENABLE_COG_THREADS": "1",  # as on the local stack
    }
    return bare | {name: text for name, text in ours.items() if text} | more


def soma(
    *words: str, env: Mapping[str, str], timeout: float = 60.0
) -> "subprocess.CompletedProcess[str]":
    """Run `soma` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "agents.cli", *words],
        env=dict(env),
        cwd=REPO,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Worker:
    """One `soma worker` process with a log of its own. It is signalled by its pid alone."""

    def __init__(self, settings: Settings, log: Path, more: Mapping[str, str]) -> None:
        self.port = int(more.get("SOMA_WEB_PORT", free_port()))
        self.log = log
        self._env = environment(settings, **{"SOMA_WEB_PORT": str(self.port), **more})
        # What a library reads while it is imported, a fork would have read before.
        self._start = forked if all(map(late, more)) else begun
        self._process: Started | None = None

    def start(self) -> Self:
        """Start the process; it needn't be ready."""
        self._process = self._start(["worker"], self._env, REPO, self.log)
        return self

    @property
    def process(self) -> Started:
        assert self._process is not None, "the worker was never started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ready(self) -> bool:
        """Whether `/ready` says so; AssertionError with the log's end if the process is gone."""
        assert self.alive, f"the worker ended with {self.process.returncode}:\n{self.tail()}"
        try:
            with urllib.request.urlopen(self.url("/ready"), timeout=2.0) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def await_ready(self, timeout: float = 150.0) -> Self:
        # The first start after a change compiles the kernels: on a busy machine that takes a while.
        try:
            eventually(self.ready, timeout, "the worker is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from error
        return self

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def signal(self, how: signal.Signals) -> None:
        self.process.send_signal(how)

    def stop(self, timeout: float = 15.0) -> int:
        """Ask it to stop (SIGTERM); its exit status. AssertionError when it takes too long."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {timeout} s of SIGTERM:\n{self.tail()}") from None

    def kill(self) -> None:
        """End it by SIGKILL, at whatever point it is."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10.0)

    def tail(self, lines: int = 40) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


Record = tuple[bytes | None, bytes | None]  # key, value


def produce(
    settings: Settings, topic: str, records: Iterable[Record], partition: int = -1, **config: object
) -> None:
    """Write records (by the Java default partitioner unless told otherwise) and await the acks."""
    failed: list[str] = []
    producer = Producer(
        settings.librdkafka(partitioner="murmur2_random", **{"linger.ms": 5, **config})
    )
    for key, value in records:
        while True:
            try:
                producer.produce(
                    settings.topic(topic),
                    key=key,
                    value=value,
                    partition=partition,
                    on_delivery=lambda error, _: failed.append(str(error)) if error else None,
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(30.0) == 0, "not all records were acknowledged"
    assert not failed, failed[:3]


def read(settings: Settings, topic: str, committed: bool = True) -> list[Message]:
    """All records of a topic as it stands now, partition by partition, in order."""
    consumer = Consumer(
        settings.librdkafka(
            **{
                "group.id": "tests-read",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed" if committed else "read_uncommitted",
                "enable.partition.eof": True,
            }
        )
    )
    try:
        name = settings.topic(topic)
        known = consumer.list_topics(name, timeout=10.0).topics[name].partitions
        consumer.assign([TopicPartition(name, number, 0) for number in known])
        found: list[Message] = []
        ended: set[int] = set()
        deadline = time.monotonic() + 60.0
        while len(ended) < len(known):
            assert time.monotonic() < deadline, f"{name} isn't at its end after 60 s"
            for message in consumer.consume(1000, 0.2):
                if (error := message.error()) is None:
                    found.append(message)
                    continue
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended.add(message.partition() or 0)
        return sorted(found, key=lambda message: (message.partition(), message.offset()))
    finally:
        consumer.close()
