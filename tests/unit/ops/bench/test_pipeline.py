"""The run set's arithmetic and its words, without a broker."""

import pytest

from ops.bench.pipeline import Result, Workload, as_json, parse_peers, ratio, report


def results() -> dict[str, Result]:
    return {
        "bare": Result(1000, [10.0, 12.0, 11.0], [20.0, 21.0, 22.0]),
        "soma": Result(1000, [110.0, 120.0, 100.0], [2.0, 2.1, 2.2]),
    }


def test_ratios_are_of_medians() -> None:
    assert ratio(results(), "bare") == pytest.approx(10.0)
    assert ratio(results(), "faust") is None


def test_the_table_says_how_many_events_each_folded_and_what_was_wanted() -> None:
    made = report(Workload(events=1000, peers=("bare", "soma")), results())
    assert made.rows[0][1:] == (
        "1,000",
        "11 (10 - 12)",
        "21.00 (20.00 - 22.00)",
        "10.0 ×",
        "≥ 8 ×",
        "10.0 ×",
    )


def test_the_json_holds_every_run() -> None:
    assert as_json(results())["soma"] == {
        "events": 1000, "rates": [110.0, 120.0, 100.0], "cpu_us": [2.0, 2.1, 2.2],
        "soma_times": pytest.approx(1.0), "cpu_times": pytest.approx(1.0),
    }  # fmt: skip


def test_peers_are_named_or_refused() -> None:
    assert parse_peers("soma, bare") == ("bare", "soma")
    with pytest.raises(ValueError, match="no peer flink"):
        parse_peers("flink")
