"""The HTTP API in this process or as one of its own; a PostgreSQL of one test's own."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from agents.settings import ApiSettings, Settings
from ops.stack import Stack
from ops.stack.processes import alive, wait_until
from tests.live.agents.api.helpers import SECRET, ApiProcess
from tests.live.agents.api.inside import Client
from tests.live.agents.projections.compare import migrated
from tests.live.conftest import settings_of

Api = Callable[..., Client]


@pytest.fixture
def database(settings: Settings) -> Settings:
    """The settings of this test, the schema migrated."""
    return migrated(settings)


def api_settings(**changes: object) -> ApiSettings:
    given = {"jwt_secret": SecretStr(SECRET), "journal": "off"} | changes
    return ApiSettings.model_validate(given)


@pytest.fixture
def api(database: Settings) -> Iterator[Api]:
    """Makes clients of the HTTP API with these settings: `api(rate_per_s=1)`."""
    opened: list[Client] = []

    def start(settings: Settings = database, **changes: object) -> Client:
        own = settings.model_copy(update={"api": api_settings(**changes)})
        opened.append(Client(own))
        return opened[-1]

    yield start
    for client in opened:
        client.close()


@pytest.fixture
def client(api: Api) -> Client:
    """A client of the HTTP API with a shared secret."""
    return api()


@pytest.fixture
def process(database: Settings, tmp_path: Path) -> Iterator[Callable[..., ApiProcess]]:
    """Starts `soma api` processes, which end with the test."""
    started: list[ApiProcess] = []

    def start(**more: str) -> ApiProcess:
        one = ApiProcess(database, tmp_path / f"api-{len(started)}.log", more)
        started.append(one)
        return one.await_alive()

    yield start
    for one in started:
        one.kill()


class OwnPostgres:
    """It keeps its port and data through stops and kills; `settings` are for it alone."""

    def __init__(self, stack: Stack, namespace: str, home: Path) -> None:
        self.stack = stack
        self._frozen: list[psutil.Process] = []
        self.settings: Settings = migrated(settings_of(stack.up(), namespace, home))

    def stop(self) -> None:
        self.stack.stop("postgres")

    def kill(self) -> None:
        """Sessions outlive the server until they notice: none answers when this returns."""
        sessions = self._server().children(recursive=True)
        self.stack.kill("postgres")
        assert wait_until(lambda: not any(map(alive, sessions)), 20.0), "sessions live on"

    def start(self) -> None:
        self.stack.start("postgres")

    def freeze(self) -> None:
        """Stop the server and all its processes where they are.

        The server first: while it stands still it makes no process, and a number of one that
        ends (an autovacuum worker, say) stays that process's, as the server alone collects it.
        """
        server = self._server()
        server.suspend()
        while server.status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
        self._frozen = [server, *server.children(recursive=True)]
        for process in self._frozen[1:]:
            process.suspend()

    def _server(self) -> psutil.Process:
        (one,) = (part for part in self.stack.status() if part.name == "postgres")
        assert one.pid is not None
        return psutil.Process(one.pid)

    def thaw(self) -> None:
        """Let it go on, the server last: it collects those that end."""
        while self._frozen:
            self._frozen.pop().resume()


@pytest.fixture
def postgres(new_home: Callable[[], Path], namespace: str, tmp_path: Path) -> Iterator[OwnPostgres]:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "valkey"))
    try:
        yield OwnPostgres(own, namespace, tmp_path)
    finally:
        own.down()
