"""Clients that have lost their broker for good, though others find it, are replaced in time."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agents.settings import Settings
from ops.prove import proxy
from ops.prove.proxy import Proxy, Rule
from tests.live.agents.gateway.conftest import Running, event, numbers
from tests.live.agents.gateway.remote import Remote
from tests.live.helpers import eventually, produce, read, topics_of

MADE = topics_of("gateway")

TOPIC = "memory.events"
FOREVER = 10**9
LONG_S = 60  # a client waits so long for one answer: without another it wouldn't end in time
DEADLINE_S = 40.0


@contextmanager
def behind(topics: Settings, remote: Remote) -> Iterator[tuple[Running, Proxy]]:
    """Gateways behind a proxy."""
    with Proxy(topics.kafka_bootstrap) as between:
        own = {"kafka_bootstrap": between.address, "stalled_after_s": 2.0}
        run = Running(topics.model_copy(update=own | {"answer_timeout_s": LONG_S}), remote.endpoint)
        try:
            yield run, between
        finally:
            for one in run.all:
                one.stop()
                assert one.error is None


def feed(topics: Settings, tenant: str, some: range) -> None:
    produce(topics, TOPIC, [(tenant.encode(), event(tenant, n)) for n in some])


def test_dead_letters_and_state_are_written_by_a_new_client(
    topics: Settings, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    remote.mode("refuse")
    with behind(topics, remote) as (run, between):
        gateway = run()
        feed(topics, "bad", range(1))
        eventually(lambda: len(read(topics, "memory.events.dlq")) == 1, DEADLINE_S)
        lost = between.rule(
            Rule(proxy.PRODUCE, "", FOREVER, lost=True, until=proxy.INIT_PRODUCER_ID)
        )
        feed(topics, "bad", range(1, 4))
        feed(topics, "t", range(20))
        eventually(lambda: gateway.stopped() == {"the gateway's records": "stalled"}, DEADLINE_S)
        eventually(lambda: len(read(topics, "memory.events.dlq")) == 4, DEADLINE_S)
        eventually(lambda: not gateway.stopped(), DEADLINE_S)
        assert lost.hits > 0
        assert "Kafka has acknowledged nothing for 2 s" in caplog.text
        assert "the gateway's records go again, by a new client" in caplog.text
        letters = read(topics, "memory.events.dlq")
        assert len({dict(one.headers() or [])["soma-origin"] for one in letters}) == 4
        gateway.stop()
        run()  # by the state that was written
        feed(topics, "t", range(20, 25))
        eventually(lambda: remote.count() == 25, DEADLINE_S)
    assert numbers(remote) == {"t": list(range(25))}
    assert len(read(topics, "memory.events.dlq")) == 4


def test_who_is_behind_is_caught_up_by_a_new_client(
    topics: Settings, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    remote.mode("500")
    with behind(topics, remote) as (run, between):
        run(open_s=1.0)
        feed(topics, "bad", range(5))
        eventually(lambda: run.value("soma_circuit_open_count") == 1, DEADLINE_S)
        eventually(lambda: run.value("soma_gateway_tenants_behind") == 1, DEADLINE_S)
        between.rule(Rule(proxy.FETCH, "", FOREVER, lost=True, until=proxy.LEAVE_GROUP))
        remote.mode("well")
        feed(topics, "bad", range(5, 10))
        feed(topics, "t", range(5))
        eventually(lambda: remote.count() == 15, DEADLINE_S)
    assert numbers(remote) == {"bad": list(range(10)), "t": list(range(5))}
    assert "gateway stands still: the broker has" in caplog.text
    assert "on the way through it again, by a client that is replaced" in caplog.text
