"""What `soma bench replay` makes of its measurements, without a broker."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from agents.commands.bench import bench
from agents.replay.jobs import Status
from ops.bench.probe import Latencies
from ops.bench.refold import Measured
from ops.bench.replay import Beside, Result, Workload, as_json, check, report
from topics import codec


def result() -> Result:
    beside = [
        Beside(
            Latencies("predictors", 1000, [20.0]), Latencies("predictors", 1000, [ms]), 55_000, 0.25
        )
        for ms in (30.0, 50.0)
    ]
    rebuilding = [replace(one, allowed=20_000, sent=200_000, pause_s=0.5) for one in beside]
    return Result(Measured(1000.0, [900.0, 2000.0, 1500.0], [5000.0], True), beside, rebuilding)


def test_the_table_has_all_parts() -> None:
    rows = {row[0]: row[1:] for row in report(Workload(), result()).rows}
    assert rows["anew / live"] == ("1.50 ×", "≥ 0.90 ×")
    assert rows["one tenant of 1,000, records/s"] == ("5,000", "≥ 1,000,000")
    assert rows["rows equal to the live ones"] == ("all", "all")
    assert rows["  beside a job / without"] == ("2.00 (1.50 - 2.50) ×", "≤ 2 ×")
    assert rows["  the job sent, records/s"] == ("5,000 (5,000 - 5,000)", "5,000 at most")
    assert rows["a pause is in force after, s"] == ("0.25 (0.25 - 0.25)", "≤ 1")
    assert rows["  it read, records/s"][1] == "20,000 at most"
    assert rows["its pause is in force after, s"] == ("0.50 (0.50 - 0.50)", "≤ 1")
    assert len(rows) == 15
    assert len(report(Workload(), Result(beside=result().beside)).rows) == 5
    data = json.loads(json.dumps(as_json(result())))
    assert data["rebuild"]["anew_of_live"] == 1.5 and data["rebuild"]["equal"]
    assert data["beside"][1]["beside"]["p99_ms"] == 50.0
    assert data["rebuilding"][0]["sent"] == 200_000
    assert as_json(Result())["rebuild"] is None


def test_the_job_has_more_to_send_than_it_can() -> None:
    one = Workload(throttle=100, seconds=2.0)
    assert one.past > one.throttle * (one.seconds + 1.0)


def test_a_command_that_is_refused_ends_it_with_the_reason() -> None:
    status = Status("bench", "refused", message="shadow: a processor works there")
    said = codec.decode(status.encoded())[1]
    with pytest.raises(RuntimeError, match="start: refused: shadow: a processor works there"):
        check("start", said)
    check("start", codec.decode(Status("bench").encoded())[1])


def test_parts_are_checked() -> None:
    done = CliRunner().invoke(bench, ["replay", "--parts", "beside,all"])
    assert (
        done.exit_code == 2 and "no part all; there are rebuild, beside, rebuilding" in done.output
    )
