"""The measurements themselves, short: what they say is what happened."""

from contextlib import closing

import numpy as np
import pytest

from agents.settings import Settings
from ops.bench import (
    control,
    latency,
    laws,
    outbox,
    recovery,
    replay,
    scaling_sizes,
    scaling_tenants,
    scaling_workers,
)
from ops.bench.probe import Probe
from ops.bench.site import opened
from ops.examples.install import install
from tests.live import helpers
from topics import codec

pytestmark = pytest.mark.live


def test_nothing_of_a_benchmark_stays_on_the_broker(settings: Settings) -> None:
    with opened(settings, print) as site:
        namespace = site.settings.namespace
        assert any(namespace in name for name in site.broker.names())
    assert not any(namespace in name for name in site.broker.names())


@pytest.mark.proof
def test_tenants_are_measured_while_they_come_and_when_they_are_there(settings: Settings) -> None:
    run = scaling_tenants.Tenants(tenants=40_000, runs=1, seed=1)
    with opened(settings, print) as site:
        found = run.many(site)
    for phase in (found.come, found.there):
        (rate,) = phase.rates
        assert rate.events == 120_000
        assert 0 < rate.counted < rate.events
        assert rate.events_per_s > 0 and rate.cpu_us_per_event > 0
        assert phase.peak_mb[0] >= phase.rss_mb[0] > 0
    assert found.recoveries[0].rows >= 40_000


@pytest.mark.proof
def test_workers_share_partitions_and_the_rate_is_of_all(settings: Settings) -> None:
    workload = scaling_workers.Workload(
        (2,), 200_000, runs=1, rate=200, seconds=2.0, partitions=4, warm_s=1.0
    )
    (found,) = scaling_workers.run(settings, print, workload)
    assert found.rates[0].events == 200_000 and found.rates[0].counted > 0
    assert 300 <= len(found.latency.ms) <= 400


@pytest.mark.proof
def test_records_of_a_size_are_measured_by_both_programs(settings: Settings) -> None:
    install()
    (found,) = scaling_sizes.run(settings, print, (1000,), runs=1, seed=1, volume=40_000_000)
    assert (found.bytes, found.events) == (pytest.approx(1000, abs=8), 40_000)
    for rates in found.rates.values():
        assert rates[0].events == 40_000 and rates[0].events_per_s > 0


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
        with latency.bare_loop(site, source, sink), closing(Probe(site, source, sink)) as probe:
            frames = list(probe.run(rate=100, seconds=2.0))
    assert 150 <= len(frames) <= 200
    assert all(seconds > 0 for _, seconds in frames)


def test_a_row_processor_answers_every_observation(settings: Settings) -> None:
    install()
    workload = laws.Workload(rate=200, seconds=2.0, warm_s=1.0)
    with opened(settings, print) as site:
        found = laws.latency(site, workload, "counting")
    assert 300 <= len(found.ms) <= 400 and min(found.ms) > 0


@pytest.mark.proof
def test_a_slow_row_processor_commits_early_and_holds_up_nobody_else(settings: Settings) -> None:
    install()
    with opened(settings, print) as site:
        found = laws.slow(site, laws.Workload(seconds=2.0, warm_s=1.0))
        rows = helpers.read(site.settings, "soma.weighing.state")
    mine = [codec.decode(m.value() or b"")[1] for m in rows if m.key() == b"tenant-000000"]
    steps = np.diff([row["records"] for row in mine])
    assert steps.size and steps.max() <= 250, "200 ms of 1 ms and more, though thousands were there"
    assert found.first_s > 0 and found.ready == found.asked > 0
    for others in (found.alone, found.beside):
        assert 1500 <= len(others.ms) <= 2000, "each got its answer"


@pytest.mark.proof
def test_live_records_are_measured_beside_a_replay_job_and_the_past_folded_anew(
    settings: Settings,
) -> None:
    workload = replay.Workload(20_000, 50, runs=1, rate=200, throttle=500, seconds=2.0, warm_s=1.0)
    slow = settings.model_copy(update={"replay_rate": 2_000})
    found = replay.run(slow, print, workload)
    assert found.rebuild is not None and found.rebuild.equal
    assert min(found.rebuild.live, *found.rebuild.anew, *found.rebuild.alone) > 0
    (one,) = found.beside
    assert len(one.alone.ms) == len(one.beside.ms) == 400, "each got its answer"
    assert one.sent > 0 and one.pause_s >= 0
    (one,) = found.rebuilding
    assert len(one.alone.ms) == len(one.beside.ms) == 400 and one.sent > 0 < one.pause_s


@pytest.mark.proof
def test_the_outbox_is_measured_beside_its_peers(settings: Settings) -> None:
    workload = outbox.Workload(rows=20_000, runs=1, parts=("drain", "peers"))
    with opened(settings, print) as site:
        found = outbox.Outbox(site, workload).run()
    assert found.drained["avro"][0].rows == 20_000
    assert found.drained["json"][0].rows == 10_000
    assert all(one.rows_per_s > 0 for (one,) in found.drained.values())
    assert set(found.peers) == {"one", "batched", "batched-4"}
    assert all(rate > 0 for (rate,) in found.peers.values())


@pytest.mark.proof
def test_settings_sleep_and_waking_are_timed_to_their_first_frame(settings: Settings) -> None:
    workload = control.Workload(changes=3, events=40_000, runs=1)
    with opened(settings, print) as site:
        found = control.run(site, workload)
    assert {len(one.ms) for one in found.ms.values()} == {3}
    for part in ("config", "sleep"):
        assert found.ms[part].at(50) >= found.ms[f"{part}, record"].at(50) > 0
    assert found.ms["wake"].at(50) > 0
    assert found.frozen[0].events == found.active[0].events == 40_000
