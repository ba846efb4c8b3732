"""The outbox's benchmark: what it adds is what it says, and its table tells everything."""

import json

import pytest
from click.testing import CliRunner

from agents.commands.bench import bench
from ops.bench import outbox, outbox_rows
from ops.bench.outbox_relay import Drained
from topics import codec


@pytest.mark.parametrize("tenant", ["tenant-000000", "tenant-000099"])
def test_payloads_have_the_size_that_is_said(tenant: str) -> None:
    ready, text = outbox_rows.avro(tenant), outbox_rows.text(tenant)
    assert len(ready) == len(text.encode()) == outbox_rows.PAYLOAD_BYTES
    name, record = codec.decode(ready)
    assert (name, record["tenant"]) == (outbox_rows.SCHEMA, tenant)
    assert codec.from_json(outbox_rows.SCHEMA, json.loads(text))["tenant"] == tenant


def drained(rows: int, seconds: float) -> Drained:
    return Drained(rows, rows - 1000, seconds, seconds + 1.0, 0.5, 20.0, 80.0)


def test_rates_are_of_what_was_counted() -> None:
    one = drained(101_000, 2.0)
    assert one.rows_per_s == 50_000
    assert one.cpu_us_per_row == pytest.approx(5.0)
    assert drained(1000 * 8, 1.0).per_thousand(80.0) == 10.0


def test_a_report_has_every_part() -> None:
    found = outbox.Result(
        drained={
            "avro": [drained(101_000, 2.0), drained(101_000, 1.0)],
            "json": [drained(91_000, 1.0)],
        },
        peers={"one": [500.0], "batched": [10_000.0, 20_000.0]},
        inserted_per_s=21_000.0, beside=drained(50_000, 2.0),
        latency_ms=[5.0] * 99 + [45.0], idle_percent=1.25, postgres="fsync off",
    )  # fmt: skip
    text = outbox.report(outbox.Workload(), found).markdown("a machine")
    assert "75,000 (50,000 - 100,000)" in text
    assert "| 90,000 | ≥ 80,000 |" in text
    assert "500; this relay 150.0 ×" in text and "this relay 5.0 ×" in text
    assert "| commit to consumer, p50 (ms) | 5.0 |" in text
    assert "idle relay, % of a core | 1.2" in text and "fsync off" in text
    data = json.loads(json.dumps(outbox.as_json(found)))
    assert data["drained"]["avro"][0]["rows_per_s"] == 50_000
    assert data["latency_ms"]["p50"] == 5.0


def test_a_report_of_one_part_is_short() -> None:
    found = outbox.Result(latency_ms=[1.0, 2.0])
    assert len(outbox.report(outbox.Workload(), found).rows) == 3
    assert outbox.as_json(outbox.Result())["latency_ms"] is None


def test_parts_are_checked() -> None:
    done = CliRunner().invoke(bench, ["outbox", "--parts", "drain,speed"])
    assert done.exit_code == 2 and "no part speed" in done.output
