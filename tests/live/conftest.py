"""The real servers that live tests run on, made by the same code as `soma stack up`.

`stack` is one ephemeral stack for the whole run; tests keep apart by their `namespace`. `broker` is
a Kafka of one test's own, to be stopped and killed.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import psutil
import pytest
from pydantic import SecretStr

from agents.settings import Settings
from ops.prove.servers import StackPart
from ops.stack import Endpoints, Stack
from ops.stack.jars import SHARED
from tests.live.helpers import PARTITIONS, Worker
from topics import preflight
from topics.broker import connect
from topics.catalogue import CATALOGUE

LIVE_S = 300  # servers and workers start within a test, on a machine that may be busy
HOMES = Path(tempfile.gettempdir()) / f"soma-tests-{os.getuid()}"


class WorkerFactory(Protocol):
    """Starts workers that end with the test."""

    def __call__(
        self, settings: Settings | None = None, *, ready: bool = True, **env: str
    ) -> Worker: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.live)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(LIVE_S))


@pytest.fixture(scope="session")
def homes() -> Path:
    """Where stacks of tests live, cleared of those whose test run was killed."""
    HOMES.mkdir(mode=0o700, exist_ok=True)
    for home in HOMES.iterdir():
        owner = home.name.partition("-")[0]
        if not (owner.isdigit() and psutil.pid_exists(int(owner))):
            Stack(home).destroy()
            shutil.rmtree(home, ignore_errors=True)
    return HOMES


@pytest.fixture(scope="session")
def new_home(homes: Path) -> Iterator[Callable[[], Path]]:
    """Makes homes for stacks; what is left in them is stopped and removed when the run ends."""
    made: list[Path] = []

    def make() -> Path:
        made.append(homes / f"{os.getpid()}-{uuid.uuid4().hex[:8]}")
        made[-1].mkdir(mode=0o700)
        return made[-1]

    yield make
    for home in made:
        Stack(home).destroy()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(new_home: Callable[[], Path]) -> Endpoints:
    """Kafka, PostgreSQL and Valkey of this run."""
    return Stack(new_home(), ephemeral=True, cache=SHARED).up()


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


def settings_of(
    ends: Endpoints, namespace: str, home: Path, partitions: int = PARTITIONS
) -> Settings:
    """Settings for a test on these servers."""
    return Settings(
        home=home,
        namespace=namespace,
        kafka_bootstrap=ends.kafka_bootstrap,
        redis_url=SecretStr(ends.redis_url),
        postgres_dsn=SecretStr(ends.postgres_dsn),
        topics_partitions=partitions,
        topics_replication=1,
        web_port=0,
    )


@pytest.fixture
def partitions(request: pytest.FixtureRequest) -> int:
    """How many partitions this test's topics have: its module's PARTITIONS, if it has some."""
    number: int = getattr(request.module, "PARTITIONS", PARTITIONS)
    return number


@pytest.fixture
def settings(stack: Endpoints, namespace: str, tmp_path: Path, partitions: int) -> Settings:
    """The settings of this test: the run's stack, a fresh namespace."""
    return settings_of(stack, namespace, tmp_path, partitions)


@pytest.fixture
def topics(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """The settings of this test; made are the topics that its module's MADE names, or else all.

    They go with the test: thousands of partitions would fill the small heap of the run's broker.
    Each topic costs .03 s of CPU and .08 s of time; all were a third of what the broker did.
    """
    yield with_topics(settings, getattr(request.module, "MADE", CATALOGUE))
    admin = connect(settings.librdkafka())
    own = settings.prefix("")
    names = [name for name in admin.list_topics(timeout=20).topics if name.startswith(own)]
    for future in admin.delete_topics(names, operation_timeout=20, request_timeout=20).values():
        future.exception(25)  # a test that has ended is judged by what it asserted


def with_topics(settings: Settings, names: Iterable[str] = CATALOGUE) -> Settings:
    """Make topics of the catalogue in the settings' namespace."""
    preflight.apply(settings, names)
    return settings


@pytest.fixture
def worker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WorkerFactory]:
    """Starts `soma worker` processes: `worker()`, `worker(SOMA_AGENTS="integrator")`.

    With `ready` (the default) it returns when `/ready` answers. Give other `settings` to run on
    another broker. Whatever still runs at the end of the test is killed.
    """
    started: list[Worker] = []

    def start(settings: Settings | None = None, *, ready: bool = True, **env: str) -> Worker:
        use = settings if settings is not None else request.getfixturevalue("topics")
        one = Worker(use, tmp_path / f"worker-{len(started)}.log", env)
        started.append(one.start())
        return one.await_ready() if ready else one

    yield start
    for one in started:
        if one.alive:
            one.kill()


class Broker(StackPart):
    """A Kafka of one test's own, which keeps its port and data through stops and kills."""

    def __init__(self, stack: Stack, settings: Callable[[Endpoints], Settings]) -> None:
        super().__init__(stack)
        self.settings = settings(stack.up())


@pytest.fixture
def broker(
    new_home: Callable[[], Path], namespace: str, tmp_path: Path, partitions: int,
    request: pytest.FixtureRequest,
) -> Iterator[Broker]:  # fmt: skip
    """A Kafka to treat badly; `broker.settings` are for it alone (topics made as for `topics`)."""
    own = Stack(new_home(), ephemeral=True, cache=SHARED, without=("postgres", "valkey"))
    try:
        one = Broker(own, lambda ends: settings_of(ends, namespace, tmp_path, partitions))
        with_topics(one.settings, getattr(request.module, "MADE", CATALOGUE))
        yield one
    finally:
        own.down()
