"""What `soma bench laws` makes of its measurements, without a broker."""

import json

from click.testing import CliRunner

from agents.commands.bench import bench
from ops.bench.laws import SLOW, TAKES_US, Result, Slow, Workload, as_json, report, slow_down
from ops.bench.probe import Latencies
from topics import codec


def result() -> Result:
    latency = {
        "predictors": [Latencies("predictors", 5000, [10.0, 20.0])],
        "counting": [Latencies("counting", 5000, [5.0, 10.0])],
    }
    others = [Latencies(SLOW, 1000, [ms]) for ms in (12.0, 15.0)]
    return Result(latency, [Slow(0.25, *others, asked=40, ready=40, slowest_ms=7.0)])


def test_the_table_has_both_parts() -> None:
    rows = {row[0]: row[1:] for row in report(Workload(), result()).rows}
    assert rows["row processor's p99 / predictors'"] == ("0.50 ×", "≤ 1 ×")
    assert rows["slow law: first commit after, s"] == ("0.25", "≤ 1")
    assert rows["  others' p99 beside it, ms"] == ("15.0", "")
    assert rows["  /ready said so"] == ("40 of 40 times", "always")
    assert len(report(Workload(parts=("slow",)), result()).rows) == 5
    data = json.loads(json.dumps(as_json(result())))
    assert data["slow"][0]["alone"]["p99_ms"] == 12.0
    assert data["latency"]["counting"][0]["p50_ms"] == 7.5


def test_the_slow_tenant_has_more_to_do_than_it_can() -> None:
    assert Workload(seconds=2.0).backlog * TAKES_US / 1e6 == 4.0
    name, record = codec.decode(slow_down("one"))
    assert (name, record["processor"], record["value"]) == ("control_setting", SLOW, "1000")


def test_parts_are_checked() -> None:
    done = CliRunner().invoke(bench, ["laws", "--parts", "slow,fast"])
    assert done.exit_code == 2 and "no part fast; there are latency, slow" in done.output
