"""The measurements themselves, short: what they say is what happened."""

import pytest

from agents.settings import Settings
from ops.bench import latency, outbox, recovery
from ops.bench.commits import follow
from ops.bench.filling import fill, updates
from ops.bench.pipeline import SINK, SOURCE
from ops.bench.site import opened
from ops.bench.worker import Worker

pytestmark = pytest.mark.live


def test_nothing_of_a_benchmark_stays_on_the_broker(settings: Settings) -> None:
    with opened(settings, print) as site:
        namespace = site.settings.namespace
        assert any(namespace in name for name in site.broker.names())
    assert not any(namespace in name for name in site.broker.names())


def test_a_rate_counts_what_was_committed(settings: Settings) -> None:
    events = 300_000
    with opened(settings, print) as site:
        fill(site.settings, site.topic(SOURCE), updates(events, tenants=50, seed=1))
        with Worker(site.settings, "integrator", site.folder) as worker:
            rate = follow(site.broker, site.topic(SINK), worker, events)
    assert rate.events == events
    assert 0 < rate.counted < events
    assert rate.events_per_s > 0
    assert rate.cpu_us_per_event >= 0


def test_a_recovery_reads_every_tenant_back(settings: Settings) -> None:
    with opened(settings, print) as site:
        result = recovery.run(site, tenants=10_000, runs=1, seed=1)
    (run,) = result.runs
    assert run.rows >= 10_000
    assert run.ready_s > 0


def test_the_bare_loop_answers_every_update(settings: Settings) -> None:
    with opened(settings, print) as site:
        source, sink = (f"{site.settings.namespace}.{end}" for end in ("in", "out"))
        site.broker.create(source, sink)
        with latency.bare_loop(site, source, sink):
            probe = latency.Probe(site, source, sink)
            frames = list(probe.run(rate=100, seconds=2.0))
            probe.close()
    assert 150 <= len(frames) <= 200
    assert all(seconds > 0 for _, seconds in frames)


def test_the_outbox_is_measured_beside_its_peers(settings: Settings) -> None:
    workload = outbox.Workload(rows=20_000, runs=1, parts=("drain", "peers"))
    with opened(settings, print) as site:
        found = outbox.Outbox(site, workload).run()
    assert found.drained["avro"][0].rows == 20_000
    assert found.drained["json"][0].rows == 10_000
    assert all(one.rows_per_s > 0 for (one,) in found.drained.values())
    assert set(found.peers) == {"one", "batched", "batched-4"}
    assert all(rate > 0 for (rate,) in found.peers.values())
