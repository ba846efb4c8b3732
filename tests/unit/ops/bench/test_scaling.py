"""What `soma bench scaling` makes of its options and measurements, without a broker."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.commands.bench import bench
from ops.bench import scaling_domains, scaling_sizes, scaling_tenants, scaling_workers
from ops.bench.commits import Rate
from ops.bench.filling import numbers_of, observations, updates
from ops.bench.probe import Latencies
from ops.bench.recovery import Recovery
from ops.bench.scaling import PARTS
from ops.bench.scaling_sizes import Line, Size, fitted
from ops.bench.wire import decode_update


def rate(per_s: float, cpu_us: float = 1.0) -> Rate:
    return Rate(events=1000, counted=900, seconds=900 / per_s, cpu_s=900 * cpu_us / 1e6)


def test_a_tenant_s_bytes_are_what_a_worker_has_more_by_tenants() -> None:
    result = scaling_tenants.Result(tenants=1_000_300)
    for phase, mb in ((result.few, 200.0), (result.come, 1200.0), (result.there, 1300.0)):
        phase.rates.append(rate(100_000))
        phase.rss_mb.append(mb)
        phase.peak_mb.append(mb + 50)
    result.recoveries.append(Recovery(3_000_000, 6.0, 9.0, 5.5, 1250.0))
    assert result.events == 3_000_900
    assert result.bytes_a_tenant() == [1000.0 * 2**20 / 1e6]
    rows = dict(scaling_tenants.report(result).rows)
    assert rows["  bytes a tenant"] == "1,049"
    assert rows["1,000,300 tenants come: frames/s"] == "100,000"
    assert rows["  rows/s"] == "500,000"
    assert json.loads(json.dumps(scaling_tenants.as_json(result)))["recoveries"][0]["rows"] == 3e6


def test_workers_stand_beside_the_first() -> None:
    workload = scaling_workers.Workload(workers=(1, 4))
    found = [
        scaling_workers.Shared(1, [rate(400.0), rate(500.0)], Latencies("soma", 5, [1.0, 3.0])),
        scaling_workers.Shared(4, [rate(360.0)], Latencies("soma", 5, [2.0, 4.0])),
    ]
    first, second = scaling_workers.report(workload, found).rows
    assert first[:4] == ("1", "24", "450 (400 - 500)", "100 %")
    assert second[:4] == ("4", "6", "360", "80 %")
    assert second[-3:] == ("3.0", "4.0", "4.0")
    assert scaling_workers.as_json(found)[1]["p50_ms"] == 3.0


def test_domains_are_as_many_as_were_asked_and_stand_beside_the_first() -> None:
    decoded = [
        decode_update(value)
        for _, value in updates(96, tenants=2, seed=1, domains=scaling_domains.names(16))
    ]
    assert len({(one["tenant"], one["domain"]) for one in decoded[:32]}) == 32
    found = {3: [rate(800.0, 1.0)], 16: [rate(200.0, 4.0)]}
    assert scaling_domains.report(found, 96).rows[1] == ("16", "200", "25 %", "4.00", "400 %")
    assert scaling_domains.as_json(found)["16"][0]["seconds"] == 4.5


@pytest.mark.parametrize("size", scaling_sizes.SIZES)
def test_an_observation_has_the_size_that_was_asked(size: int) -> None:
    ((_, value),) = observations(1, 1, 1, numbers_of(size), 1)
    assert abs(len(value) - size) <= 8


def test_few_of_a_size_are_enough_and_many_not_too_many() -> None:
    assert [scaling_sizes.events_of(size) for size in (100, 10_000, 1_000_000)] == [
        400_000, 20_000, 2_000
    ]  # fmt: skip


def test_the_curve_bends_where_bytes_take_as_long_as_the_record() -> None:
    points = [(float(size), 5.0 + 0.002 * size) for size in scaling_sizes.SIZES]
    line = fitted(points)
    assert (line.record_us, line.byte_us) == (pytest.approx(5.0), pytest.approx(0.002))
    assert line.bend == pytest.approx(2500.0)
    flat = fitted([(100.0, 7.0), (1000.0, 6.0)])
    assert flat == Line(6.5, 0.0) and flat.bend == float("inf")
    steep = fitted([(100.0, 1.0), (1000.0, 20.0)])
    assert steep.record_us == 0.0 and steep.byte_us == pytest.approx(0.015)


def test_sizes_have_a_table_a_note_and_a_plot(tmp_path: Path) -> None:
    found = [
        Size(size, 1000, {name: [rate(1e6 / (5.0 + 0.002 * size))] for name in scaling_sizes.SINKS})
        for size in scaling_sizes.SIZES
    ]
    table = scaling_sizes.report(found)
    assert len(table.rows) == 8
    assert table.rows[3][:3] == ("row processor", "100,000", "1,000")
    assert table.rows[3][4] == "487.8"  # MB/s
    assert table.notes[0].startswith("Row processor: bends at 2,500 bytes. Fitted: 5.00 µs a rec")
    assert "at most 500 MB/s" in table.notes[0]
    scaling_sizes.draw(found, tmp_path / scaling_sizes.PLOT)
    shown = {element.text for element in ET.parse(tmp_path / scaling_sizes.PLOT).getroot()}
    assert {"100", "100,000", "10,000", "row processor", "predictors"} <= shown
    assert len(scaling_sizes.as_json(found)) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--parts", "tenant"], "no part tenant; there are tenants, workers, domains, sizes"),
        (["--workers", "1,5"], "give numbers that divide 24, with commas between"),
        (["--sizes", "10"], "give sizes from 50 to 130,000 bytes, with commas between"),
        (["--sizes", "1e3"], "give sizes from 50 to 130,000 bytes, with commas between"),
    ],
)
def test_options_are_checked_before_anything_starts(words: list[str], said: str) -> None:
    done = CliRunner().invoke(bench, ["scaling", *words])
    assert done.exit_code == 2 and said in done.output.replace("\n", " ")
    assert tuple(PARTS) == ("tenants", "workers", "domains", "sizes")
