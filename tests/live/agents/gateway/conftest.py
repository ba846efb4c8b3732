"""A remote of the test, gateways of the test, and events to deliver."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from agents.gateway.gateway import Gateway
from agents.settings import GatewaySettings, Settings
from tests.live.agents.gateway.remote import Remote
from tests.live.helpers import ended
from topics import codec


def event(tenant: str, number: int, kind: str = "created", **more: object) -> bytes:
    record = {
        "event_id": f"{tenant}-{number}",
        "id": f"memory-{number % 5}",
        "tenant": tenant,
        "namespace": "",
        "type": kind,
        "ts": 1_700_000_000_000_000 + number,
        "coordinate": f"{number % 5},1",
        "memory_type": "episodic",
        "payload": f'{{"number":{number},"made":{time.time()}}}',
        "importance": None,
        "embedding": b"",
        "model_revision": "",
        "links": {},
        "dedupe_key": "",
        "expected_version": None,
    }
    return codec.encode("memory_event", record | more)


def numbers(remote: Remote) -> dict[str, list[int]]:
    """tenant -> the numbers of its events, in the order of their first arrival."""
    return {
        tenant: [body["payload"]["number"] for body in bodies]
        for tenant, bodies in remote.kept().items()
    }


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    one = Remote(tmp_path)
    yield one.start()
    one.kill()


class Running:
    """Gateways of a test, each with counters of its own."""

    def __init__(self, settings: Settings, endpoint: str) -> None:
        self.settings = settings
        self.endpoint = endpoint
        self.all: list[Gateway] = []
        self.registries: list[CollectorRegistry] = []

    def __call__(self, **own: object) -> Gateway:
        changed = {
            "memory_http_endpoint": self.endpoint,
            "gateway": GatewaySettings(**{"health_every_s": 0.2, **own}),  # type: ignore[arg-type]
        }
        self.registries.append(CollectorRegistry())
        settings = self.settings.model_copy(update=changed)
        self.all.append(Gateway(settings, self.registries[-1]))
        self.all[-1].start()
        return self.all[-1]

    def value(self, name: str, **labels: str) -> float:
        """A metric, summed over all gateways of the test."""
        return sum(registry.get_sample_value(name, labels) or 0.0 for registry in self.registries)


@pytest.fixture
def run(topics: Settings, remote: Remote) -> Iterator[Running]:
    running = Running(topics, remote.endpoint)
    with ended(running.all):
        yield running


Run = Callable[..., Gateway]
