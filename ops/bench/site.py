"""Where a benchmark runs: a namespace of its own on the broker, removed at the end."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from agents.settings import Settings
from ops.bench.broker import PARTITIONS, Broker
from ops.bench.commits import Rate, follow
from ops.bench.worker import Worker
from ops.stack import Stack
from topics import preflight
from topics.catalogue import CATALOGUE

Say = Callable[[str], None]


@dataclass(frozen=True)
class Site:
    """The broker, a namespace and a folder; `say` tells the user how far it is."""

    settings: Settings
    broker: Broker
    folder: Path
    say: Say

    def topic(self, name: str) -> str:
        """A catalogue topic's name on the broker."""
        return self.settings.topic(name)

    def apply(self) -> None:
        """Make what is missing of the catalogue's topics."""
        preflight.apply(self.settings)
        self.broker.wait(*map(self.topic, CATALOGUE))

    def forget(self, source: str) -> None:
        """A fresh start on the same input: without state, outputs, epochs and dead letters."""
        self.broker.delete([self.topic(name) for name in CATALOGUE if name != source])
        self.apply()

    def measure(self, processor: str, sink: str, committed: int, **env: str) -> Rate:
        """Run a worker with one processor until so many records are committed to its sink."""
        with Worker(self.settings, processor, self.folder, **env) as worker:
            return follow(self.broker, self.topic(sink), worker, committed)


class NoBrokerError(Exception):
    """There is no broker to measure on; the text says which was asked."""


@contextmanager
def on_broker(settings: Settings, say: Say) -> Iterator[Settings]:
    """The settings, if they name a broker that answers; else those of one started for the run.

    Java compiles as well there as in production; an ephemeral one's compiles quickly instead.
    """
    if settings.kafka_bootstrap:
        try:
            AdminClient(settings.librdkafka()).list_topics(timeout=10)
        except KafkaException as error:
            raise NoBrokerError(
                f"No answer from the broker at {settings.bootstrap()}: {error.args[0].str()}"
            ) from error
        yield settings
        return
    say("no broker is set and no local stack runs: starting a Kafka for this benchmark alone")
    home = Path(tempfile.mkdtemp(prefix="soma-bench-stack-"))
    cache = settings.home / "jars"
    stack = Stack(home, cache=cache, without=("postgres", "valkey"), say=say)
    try:
        yield settings.model_copy(update={"kafka_bootstrap": stack.up().kafka_bootstrap})
    finally:
        stack.destroy()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def on_postgres(settings: Settings, say: Say) -> Iterator[Settings]:
    """The settings, if they name a database; else those of one started for the run.

    It forces what it commits to disk, as one in production does; an ephemeral one wouldn't.
    """
    if settings.postgres_dsn.get_secret_value():
        yield settings
        return
    say("no PostgreSQL is set and no local stack runs: starting one for this benchmark alone")
    home = Path(tempfile.mkdtemp(prefix="soma-bench-stack-"))
    stack = Stack(home, without=("kafka", "valkey"), say=say)
    try:
        dsn = SecretStr(stack.up().postgres_dsn)
        yield settings.model_copy(update={"postgres_dsn": dsn})
    finally:
        stack.destroy()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def on_stores(settings: Settings, say: Say) -> Iterator[Settings]:
    """The settings, if they name a database and a Redis; else those of both, started for the run:
    PostgreSQL forces to disk what is committed, and the cache writes nothing there, which would
    hold its readers up."""
    if settings.postgres_dsn.get_secret_value() and settings.redis_url.get_secret_value():
        yield settings
        return
    say("no PostgreSQL and Redis are set and no local stack runs: starting both for this run")
    home = Path(tempfile.mkdtemp(prefix="soma-bench-stack-"))
    database = Stack(home / "database", without=("kafka", "valkey"), say=say)
    cache = Stack(home / "cache", ephemeral=True, without=("kafka", "postgres"), say=say)
    try:
        stores = {
            "postgres_dsn": database.up().postgres_dsn, "redis_url": cache.up().redis_url,
        }  # fmt: skip
        yield settings.model_copy(update={k: SecretStr(text) for k, text in stores.items()})
    finally:
        database.destroy()
        cache.destroy()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def opened(settings: Settings, say: Say, partitions: int = PARTITIONS) -> Iterator[Site]:
    """A fresh namespace with all topics; they and the folder are gone afterwards."""
    namespace = f"bench-{uuid.uuid4().hex[:8]}"
    # As many partitions and one replica whatever the cluster: figures are to be comparable.
    own = settings.model_copy(
        update={"namespace": namespace, "topics_partitions": partitions, "topics_replication": 1}
    )
    broker = Broker(own)
    folder = Path(tempfile.mkdtemp(prefix="soma-bench-"))
    try:
        with broker.cleaned(namespace):
            site = Site(own, broker, folder, say)
            site.apply()
            yield site
    finally:
        shutil.rmtree(folder, ignore_errors=True)
