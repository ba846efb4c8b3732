"""The live tests' own tools work: a worker comes up and goes, a broker comes back."""

import pytest

from agents.settings import Settings
from tests.live.conftest import Broker, WorkerFactory
from tests.live.helpers import eventually, produce, read


def test_eventually_says_what_never_came() -> None:
    with pytest.raises(AssertionError, match="the moon rises"):
        eventually(lambda: 0, 0.1, "the moon rises")


def test_a_worker_gets_ready_and_stops_cleanly(worker: WorkerFactory) -> None:
    one = worker()
    assert one.ready()
    assert one.stop() == 0, one.tail()


def test_a_broker_keeps_its_records_through_a_stop_and_a_kill(broker: Broker) -> None:
    settings: Settings = broker.settings
    produce(settings, "cog.observations", [(b"a", b"1")])
    broker.stop()
    broker.start()
    produce(settings, "cog.observations", [(b"a", b"2")])
    broker.kill()
    broker.start()
    assert [one.value() for one in read(settings, "cog.observations")] == [b"1", b"2"]
