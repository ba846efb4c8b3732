"""The broker stops and starts: what is queued goes on arriving, and what comes later too."""

import pytest

from tests.live.agents.gateway.conftest import Running, event, numbers
from tests.live.agents.gateway.remote import Remote
from tests.live.conftest import Broker
from tests.live.helpers import eventually, produce

TENANTS = [f"t{k}" for k in range(5)] + ["bad"]


@pytest.mark.slow
def test_an_outage_of_the_broker_loses_and_doubles_nothing(broker: Broker, remote: Remote) -> None:
    run = Running(broker.settings, remote.endpoint)

    def feed(some: range) -> None:
        records = [(t.encode(), event(t, n)) for n in some for t in TENANTS]
        produce(broker.settings, "memory.events", records)

    try:
        remote.mode("500")
        gateway = run(open_s=1.0)
        feed(range(20))
        eventually(lambda: remote.count() == 100)
        eventually(lambda: run.value("soma_circuit_open_count") == 1)
        broker.kill()
        remote.mode("well")  # it must be read again, and isn't there
        broker.start()
        feed(range(20, 40))
        eventually(lambda: remote.count() == 240, 90.0)
        assert numbers(remote) == {tenant: list(range(40)) for tenant in TENANTS}
        assert gateway.error is None
    finally:
        for one in run.all:
            one.stop()
