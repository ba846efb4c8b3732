"""`soma bench calibration`: known temperatures, the recorded machine, and its diagrams."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agents.commands.bench import bench
from agents.tools import series
from ops.bench import calibration, reliability
from ops.bench import report as reports

pytestmark = pytest.mark.kernel


def test_a_known_temperature_is_found_and_judged_on_fresh_samples() -> None:
    found = calibration.synthetic(3.0, 5000, 2)
    assert found.temperature == pytest.approx(3.0, rel=0.15)
    assert found.ece[1] <= 0.3 * found.ece[0]
    assert found.nll[1] < found.nll[0]
    assert found.brier[1] < found.brier[0]
    for count, sure, true in found.bins:
        assert sum(count) == 100_000
        assert all(0.0 <= value <= 1.0 for value in (*sure, *true))


def test_together_is_the_mean_of_its_parts() -> None:
    parts = [calibration.synthetic(t, 1000, 2) for t in (0.5, 2.0)]
    whole = calibration.together(parts)
    assert whole.samples == 2000
    assert whole.nll[0] == pytest.approx(np.mean([part.nll[0] for part in parts]))
    assert sum(whole.bins[0][0]) == 200_000
    assert np.isnan(whole.temperature)
    assert calibration.together(parts[:1]).ece == pytest.approx(parts[0].ece)


def test_the_recorded_machine_is_folded_as_the_room_folds_it() -> None:
    rows = [row for row in series.recorded() if row.tenant == "network"]
    found = calibration.refits(rows, {"calibrate_every": "100"})
    assert {record["domain"] for record in found} == {"state", "agent", "action"}
    assert {record["samples"] for record in found} == {100, 200, 300, 400, 500}
    judged = calibration.judged(found[-1])
    assert judged.name == f"network {found[-1]['domain']}"
    assert judged.ece == (found[-1]["ece_pre"], found[-1]["ece_post"])


def test_the_command_writes_its_section_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(reports.write, "__defaults__", (results,))
    picture = tmp_path / "reliability.png"
    given = ["calibration", "--samples", "1000", "--plot", str(picture)]
    shown = CliRunner().invoke(bench, given)
    assert shown.exit_code == 0, shown.output
    assert "synthetic, 2" in shown.output
    assert "came true over confidence" in shown.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "## soma bench calibration" in results.read_text()
    printed = CliRunner().invoke(bench, ["calibration", "--samples", "1000", "--json"])
    result = json.loads(printed.stdout)["result"]
    assert result[0]["name"] == "synthetic, 0.5"
    assert result[3]["temperature"] is None
    wrong = CliRunner().invoke(bench, ["calibration", "--plot", str(tmp_path / "no" / "x.png")])
    assert wrong.exit_code == 1
    assert "can't write" in wrong.output


def test_empty_bins_are_no_points() -> None:
    bins = [[0, 2, *[0] * 8], [0.0, 0.15, *[0.0] * 8], [0.0, 0.5, *[0.0] * 8]]
    one = calibration.Judged("x", 2, 1.0, (0, 0), (0, 0), (0, 0), (bins, bins))
    assert reliability.points(one, 0) == ([0.15], [0.5])
    assert "x: came true" in reliability.terminal(one)
