"""One worker that a module's tests share, and the means to feed and watch it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.prove.partitions import home
from ops.stack import Endpoints
from tests.live.conftest import settings_of, with_topics
from tests.live.evidence import START_MICROS, Evidence, Headers, Row, Sender, Sent, encoded
from tests.live.helpers import PARTITIONS, Worker

Odd = tuple[bytes | None, Headers]  # value, headers


class Bed:
    """A worker at work, and the means to feed and watch it."""

    def __init__(self, ends: Endpoints, namespace: str, home: Path) -> None:
        self.settings = with_topics(settings_of(ends, namespace, home))
        self.worker = Worker(self.settings, home / "worker.log", {"SOMA_REDIS_URL": ""}).start()
        self.sender = Sender(self.settings)
        self.evidence = Evidence(self.settings)
        self.clock = START_MICROS

    def close(self) -> None:
        self.evidence.close()
        assert self.worker.stop() == 0, self.worker.tail()

    def good(self, topic: str, tenant: str) -> bytes:
        """The tenant's next good record."""
        self.clock += 1000
        return encoded(topic, tenant, self.clock)

    def send(self, topic: str, bad: list[Odd], tenant: str) -> list[Sent]:
        """Send 3 good records, the bad ones, 3 good ones; returns the bad ones as sent."""
        key, partition = tenant.encode(), home(tenant, PARTITIONS)
        around: list[Row] = [(partition, key, self.good(topic, tenant), []) for _ in range(6)]
        odd = [(partition, key, value, headers) for value, headers in bad]
        return self.sender.send(topic, [*around[:3], *odd, *around[3:]])[3:-3]

    def check(self, topic: str, sent: list[Sent], tenant: str) -> list[bytes]:
        """The good records around are folded, the bad ones dead letters; returns their reasons."""
        letters = self.evidence.await_letters(sent)
        self.evidence.await_outputs(topic, tenant, 6)
        assert self.worker.alive, self.worker.tail()
        return [letter.header("soma-reason") or b"" for letter in letters]

    def surrounded(self, topic: str, bad: list[Odd], tenant: str) -> list[bytes]:
        """Both at once."""
        return self.check(topic, self.send(topic, bad, tenant), tenant)


@pytest.fixture(scope="module")
def bed(
    request: pytest.FixtureRequest, stack: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bed]:
    """One per module: librdkafka reads no further than some of the batches that lie."""
    namespace = request.module.__name__.rpartition(".")[2].replace("_", "-")
    made = Bed(stack, namespace, tmp_path_factory.mktemp(namespace))
    made.worker.await_ready(110.0)
    yield made
    made.close()
