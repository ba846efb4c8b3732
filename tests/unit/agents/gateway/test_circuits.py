"""What Prometheus sees is the breakers' state of that moment."""

from prometheus_client import CollectorRegistry, generate_latest

from agents.gateway.breakers import Breakers
from agents.gateway.circuits import SHOWN_MAX, Circuits


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[Circuits, Clock, CollectorRegistry]:
    clock, registry = Clock(), CollectorRegistry()
    circuits = Circuits(Breakers(3, 60.0), clock)
    registry.register(circuits)
    return circuits, clock, registry


def fail(circuits: Circuits, tenant: str) -> None:
    ticket = circuits.admit(tenant)
    assert ticket is not None
    circuits.failed(ticket)


def test_the_count_follows_every_change() -> None:
    circuits, clock, registry = made()
    for failures in (1, 2):
        fail(circuits, "a")
        assert registry.get_sample_value("soma_circuit_open_count") == 0
        assert circuits.failures("a") == failures and circuits.suspect("a")
    fail(circuits, "a")
    assert registry.get_sample_value("soma_circuit_open_count") == 1
    assert registry.get_sample_value("soma_circuit_open", {"tenant": "a"}) == 1
    assert registry.get_sample_value("soma_circuit_opened_total") == 1
    clock.now = 60.0
    probe = circuits.admit("a")
    assert probe is not None
    assert registry.get_sample_value("soma_circuit_open", {"tenant": "a"}) == 1  # half-open
    circuits.failed(probe)
    assert registry.get_sample_value("soma_circuit_opened_total") == 1  # it never was closed
    clock.now = 120.0
    probe = circuits.admit("a")
    assert probe is not None
    circuits.succeeded(probe)
    assert registry.get_sample_value("soma_circuit_open_count") == 0
    assert registry.get_sample_value("soma_circuit_open", {"tenant": "a"}) is None
    results = ("closed", "opened_again", "dropped")
    probes = [
        registry.get_sample_value("soma_circuit_probes_total", {"result": result})
        for result in results
    ]
    assert probes == [1, 1, 0]


def test_tenants_are_labels_up_to_a_limit_those_open_longest() -> None:
    circuits, clock, registry = made()
    for number in range(SHOWN_MAX + 20):
        clock.now += 1.0
        for _ in range(3):
            fail(circuits, f"t{number:03}")
    lines = generate_latest(registry).decode().splitlines()
    shown = [line for line in lines if line.startswith("soma_circuit_open{")]
    assert [line.split('"')[1] for line in shown] == [f"t{n:03}" for n in range(SHOWN_MAX)]
    assert registry.get_sample_value("soma_circuit_open_count") == SHOWN_MAX + 20


def test_the_remote_s_health_is_news_once() -> None:
    circuits, _, registry = made()
    assert [circuits.health(well) for well in (True, False, False, True, True)] == [
        False, True, False, True, False,
    ]  # fmt: skip
    circuits.health(False)
    assert registry.get_sample_value("soma_gateway_remote_up") == 0
