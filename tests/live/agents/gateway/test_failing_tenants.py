"""100 tenants, 30 of them failing at the remote: the other 70 see no added delay.

What is asserted is counted; the delays are printed, for they depend on the machine.
"""

import threading
import time

import numpy as np
import pytest
from confluent_kafka import Producer

from agents.settings import Settings
from tests.live.agents.gateway.conftest import Running, event, numbers
from tests.live.agents.gateway.remote import Remote
from tests.live.helpers import eventually, topics_of

MADE = topics_of("gateway")

GOOD = [f"good{k}" for k in range(70)]
BAD = [f"bad{k}" for k in range(30)]
EACH = 12
RATE = 200.0  # events a second


def feed(settings: Settings, numbers_: range) -> dict[tuple[str, str], float]:
    """Write an event of each tenant and number at a steady rate; (tenant, key) -> when."""
    producer = Producer(settings.librdkafka(partitioner="murmur2_random", **{"linger.ms": 0}))
    written: dict[tuple[str, str], float] = {}
    began, count = time.monotonic(), 0
    for n in numbers_:
        for tenant in GOOD + BAD:
            time.sleep(max(0.0, began + count / RATE - time.monotonic()))
            written[tenant, f"{tenant}-{n}"] = time.time()
            producer.produce(
                settings.topic("memory.events"), key=tenant.encode(), value=event(tenant, n)
            )
            producer.poll(0)
            count += 1
    assert producer.flush(30.0) == 0
    return written


def delays_ms(written: dict[tuple[str, str], float], remote: Remote) -> list[int]:
    """p50, p95 and p99 of the good tenants' delays."""
    arrived = remote.arrivals()
    late = [1000 * (arrived[key] - at) for key, at in written.items() if key[0] in GOOD]
    return [round(float(q)) for q in np.percentile(late, (50, 95, 99))]


def everything(remote: Remote, tenants: list[str], upto: int) -> bool:
    return sum(len(n) for t, n in numbers(remote).items() if t in tenants) == upto * len(tenants)


class Watch:
    """Compares, many times a second, what the metrics say with what the remote has seen."""

    def __init__(self, run: Running, remote: Remote) -> None:
        self.run, self.remote = run, remote
        self.seen = 0
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self.seen += 1
            open_now = {t for t in GOOD + BAD if self.run.value("soma_circuit_open", tenant=t)}
            failed: dict[str, int] = {}
            for tenant, *_ in self.remote.calls("status >= 500"):
                failed[tenant] = failed.get(tenant, 0) + 1
            if early := [tenant for tenant in open_now if failed.get(tenant, 0) < 3]:
                self.wrong.append(f"open after fewer than 3 failures: {early}")
            if any(tenant in GOOD for tenant in open_now):
                self.wrong.append(f"open without a failure: {open_now}")


@pytest.mark.parametrize("how", ["500", "hang"])
def test_thirty_failing_tenants_of_a_hundred_delay_no_other(
    topics: Settings, run: Running, remote: Remote, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = run(open_s=600.0, timeout_s=3.0 if how == "hang" else 30.0)
    feed(topics, range(1))  # the gateway has joined its group and all connections are made
    eventually(lambda: everything(remote, GOOD + BAD, 1))
    with Watch(run, remote) as watch:
        written = feed(topics, range(1, EACH))
        eventually(lambda: everything(remote, GOOD + BAD, EACH))
        alone = delays_ms(written, remote)
        remote.mode(how)
        written = feed(topics, range(EACH, 2 * EACH))
        eventually(lambda: everything(remote, GOOD, 2 * EACH))
        eventually(lambda: run.value("soma_circuit_open_count") == 30)
        # The 70 are done, and the 30 are all still open: nobody waited for them.
        assert set(gateway.circuits.broken()) == set(BAD)
        failures = remote.calls("status >= 500")
        assert {t: [c[0] for c in failures].count(t) for t in BAD} == dict.fromkeys(BAD, 3)
        beside = delays_ms(written, remote)
        with capsys.disabled():
            print(f"\n  delay of the 70, p50 p95 p99 ms: alone {alone}, beside 30 ({how}) {beside}")
        # Back after an outage of the whole, every circuit probes once, and what waited arrives.
        remote.mode("down")
        eventually(lambda: run.value("soma_gateway_remote_up") == 0)
        assert gateway.waits() == "the remote memory service is away"
        before = len(remote.calls("status >= 500"))
        assert before == 90  # no call while open
        remote.mode("well")
        eventually(lambda: everything(remote, BAD, 2 * EACH), 60.0)
        eventually(lambda: run.value("soma_circuit_open_count") == 0)
        assert not gateway.waits()
    assert len(remote.calls("status >= 500")) == before
    assert run.value("soma_circuit_probes_total", result="closed") == 30
    assert numbers(remote) == {tenant: list(range(2 * EACH)) for tenant in GOOD + BAD}
    assert watch.seen > 10 and not watch.wrong
    assert run.value("soma_circuit_opened_total") == 30
