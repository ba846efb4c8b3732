"""Memory events arrive at a real HTTP service, each once, in order, whoever fails meanwhile."""

import time

from agents.settings import Settings
from tests.live.agents.gateway.conftest import Running, event, numbers
from tests.live.agents.gateway.remote import Remote
from tests.live.helpers import eventually, produce, read
from topics import codec

MADE = (
    "memory.events",
    "memory.events.dlq",
    "soma.gateway.state",
    "brain.sleep.requests",
)

TOPIC = "memory.events"


def test_each_event_arrives_once_in_order_under_its_own_key(
    topics: Settings, run: Running, remote: Remote
) -> None:
    tenants = [f"t{k}" for k in range(10)]
    produce(topics, TOPIC, [(t.encode(), event(t, n)) for n in range(20) for t in tenants])
    run()
    eventually(lambda: remote.count() == 200)
    assert numbers(remote) == {tenant: list(range(20)) for tenant in tenants}
    calls = remote.calls()
    assert len(calls) == 200  # nothing twice where nothing failed
    assert {(tenant, key) for tenant, key, *_ in calls} == {
        (tenant, f"{tenant}-{n}") for tenant in tenants for n in range(20)
    }
    eventually(lambda: run.value("soma_gateway_delivered_total", result="delivered") == 200)
    parts = [str(partition) for partition in range(topics.topics_partitions)]
    eventually(
        lambda: not any(run.value("soma_gateway_lag_records", partition=one) for one in parts)
    )


def test_a_new_owner_goes_on_where_the_last_one_was(
    topics: Settings, run: Running, remote: Remote
) -> None:
    produce(topics, TOPIC, [(b"t", event("t", n)) for n in range(50)])
    first = run()
    eventually(lambda: remote.count() == 50)
    first.stop()
    produce(topics, TOPIC, [(b"t", event("t", n)) for n in range(50, 60)])
    run()
    eventually(lambda: remote.count() == 60)
    assert numbers(remote) == {"t": list(range(60))}
    assert len(remote.calls()) == 60


def test_what_no_service_takes_is_a_dead_letter_with_its_reason(
    topics: Settings, run: Running, remote: Remote
) -> None:
    produce(
        topics,
        TOPIC,
        [
            (b"t", b"no avro"),
            (b"t", event("other", 1)),
            (b"bad one", event("t", 1)),
            (b"t", None),
            (b"t", event("t", 2, payload="[1]")),
            (b"t", event("t", 3, importance=float("nan"))),  # JSON has no NaN: without it
            (b"t", codec.encode("control_tick", {"ts": 1})),
            (b"t", event("t", 4)),
            (b"bad", event("bad", 5)),
        ],
    )
    remote.mode("refuse")
    run()
    eventually(lambda: remote.count() == 2)
    eventually(lambda: len(read(topics, "memory.events.dlq")) == 6)
    letters = read(topics, "memory.events.dlq")
    reasons = {dict(m.headers() or [])["soma-reason"].decode(): m for m in letters}
    assert set(reasons) == {
        "bad_wire_format", "bad_tenant", "null_value", "bad_payload", "refused",
    }  # fmt: skip
    headers = dict(reasons["refused"].headers() or [])
    assert headers["soma-detail"] == b"422: said" and headers["soma-processor"] == b"gateway"
    assert reasons["bad_wire_format"].value() == b"no avro"
    assert numbers(remote) == {"t": [3, 4]}


def test_a_limited_tenant_is_asked_again_and_its_circuit_stays_closed(
    topics: Settings, run: Running, remote: Remote
) -> None:
    remote.mode("limit")
    produce(topics, TOPIC, [(b"bad", event("bad", n)) for n in range(3)])
    gateway = run()
    eventually(lambda: len(remote.calls("status = 429")) >= 2)
    assert gateway.circuits.broken() == {}
    remote.mode("well")
    eventually(lambda: remote.count() == 3)
    assert numbers(remote) == {"bad": [0, 1, 2]}


def test_a_backlog_beyond_what_memory_holds_arrives_whole_and_in_order(
    topics: Settings, run: Running, remote: Remote
) -> None:
    tenants = ["a", "b", "c", "d"]
    produce(topics, TOPIC, [(t.encode(), event(t, n)) for n in range(150) for t in tenants])
    run(lane_events=4, queued_events=10)
    eventually(lambda: remote.count() == 600, 60.0)
    assert numbers(remote) == {tenant: list(range(150)) for tenant in tenants}
    assert len(remote.calls()) == 600


def test_what_the_remote_s_death_leaves_unanswered_comes_again_once(
    topics: Settings, run: Running, remote: Remote
) -> None:
    tenants = [f"t{k}" for k in range(8)]
    gateway = run(failures=3, open_s=60.0)
    for n in range(30):
        produce(topics, TOPIC, [(t.encode(), event(t, n)) for t in tenants])
        if n in (8, 20):
            remote.kill()
        if n == 12:
            eventually(lambda: len(gateway.circuits.broken()) == 8)
            assert run.value("soma_circuit_open_count") == 8
        if n in (14, 24):
            remote.start()
        time.sleep(0.02)
    eventually(lambda: remote.count() == 240, 60.0)
    assert numbers(remote) == {tenant: list(range(30)) for tenant in tenants}
    eventually(lambda: run.value("soma_circuit_open_count") == 0)
