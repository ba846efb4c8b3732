"""What `soma bench chain` makes of its options and measurements."""

import pytest

from ops.bench.chain import Result, Workload, as_json, report
from ops.bench.commits import Rate
from ops.bench.probe import Latencies

RATE = Rate(events=1000, counted=900, seconds=0.01, cpu_s=0.0036)


def test_a_percentile_is_one_of_the_boundaries_measured() -> None:
    found = Latencies("soma", 100, [float(ms) for ms in range(1, 101)])
    assert found.at(50) == pytest.approx(50.5) and found.at(100) == 100.0


def test_the_table_has_a_row_for_each_part_that_was_measured() -> None:
    result = Result([RATE], [RATE, RATE], Latencies("soma", 100, [5.0, 7.0]))
    rows = report(Workload(events=1000), result).rows
    assert [row[0].split(",")[0] for row in rows] == [
        "chain of three processors", "segmentation alone", "observation to boundary"
    ]  # fmt: skip
    assert rows[0][2] == "90,000 observations/s" and rows[0][3] == "4.00"
    assert "p50 6" in rows[2][2] and rows[2][4] == "p99 ≤ 200 ms"
    assert len(report(Workload(), Result(chain=[RATE])).rows) == 1


def test_the_json_has_the_same_numbers() -> None:
    data = as_json(Result([RATE], [], Latencies("soma", 100, [5.0, 7.0])))
    assert data["chain"] == [{"events_per_s": 90_000.0, "cpu_us_per_event": pytest.approx(4.0)}]
    assert data["latency"] == {
        "boundaries": 2, "p50_ms": 6.0, "p99_ms": pytest.approx(6.98), "p100_ms": 7.0
    }  # fmt: skip
