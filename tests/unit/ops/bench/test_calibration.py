"""`soma bench calibration`: known temperatures, the recorded machine, and its diagrams."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agents.commands.bench import bench
from agents.predictors.agent import CALIBRATIONS
from agents.tools import series
from ops.bench import calibration, reliability
from ops.bench import report as reports

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("temperature", [0.5, 2.0, 3.0])
def test_a_known_temperature_is_found(temperature: float) -> None:
    found = calibration.synthetic(temperature, 5000, 2)
    assert found.slope == pytest.approx(1.0 / temperature, rel=0.4)
    assert found.ece[1] <= min(0.3 * found.ece[0], 0.02)
    assert found.nll[1] < found.nll[0]
    assert found.brier[1] < found.brier[0]
    for count, sure, true in found.bins:
        assert sum(count) == 5000 - calibration.FIRST
        assert all(0.0 <= value <= 1.0 for value in (*sure, *true))


def test_the_recorded_machines_confidences_are_honest() -> None:
    """Prequential; wanted: ECE ≤ .03 in all, ≤ .08 a domain, Brier ≤ the base rate's + .005."""
    whole, *domains = calibration.recorded("heat")
    assert whole.ece[1] <= 0.03
    assert len(domains) == 12
    for one in domains:
        assert one.ece[1] <= 0.08, one.name
        assert one.brier[1] <= one.base + 0.005, one.name


def test_the_base_rate_is_that_of_the_recent_truths() -> None:
    truths = np.arange(1000.0) % 2
    base = calibration.Samples(truths, truths, truths).base()
    assert list(base[:4]) == [0.5, 0.0, 0.5, pytest.approx(1 / 3)]
    assert base[700] == 0.5


def test_the_recorded_machine_is_folded_as_the_processor_folds_it() -> None:
    rows = [row for row in series.recorded() if row.tenant == "network"]
    found = calibration.folded(rows, {"calibrate_every": "100"}, CALIBRATIONS)
    assert {record["domain"] for record in found} == {"state", "agent", "action"}
    assert {record["samples"] for record in found} == {100, 200, 300, 400, 500}
    updates = [u for u in calibration.folded(rows, {}) if u["domain"] == "agent"]
    samples = calibration.samples_of(updates, 2.0)
    told = [r["brier_post"] for r in found if r["domain"] == "agent"]
    mine = (samples.after - samples.truths) ** 2
    assert told == pytest.approx([mine[k : k + 100].mean() for k in range(0, 500, 100)], rel=0.02)


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
    assert result[3]["slope"] is None
    wrong = CliRunner().invoke(bench, ["calibration", "--plot", str(tmp_path / "no" / "x.png")])
    assert wrong.exit_code == 1
    assert "can't write" in wrong.output


def test_empty_bins_are_no_points() -> None:
    bins = [[0, 2, *[0] * 8], [0.0, 0.15, *[0.0] * 8], [0.0, 0.5, *[0.0] * 8]]
    one = calibration.Judged("x", 2, 1.0, 0.0, (0, 0), (0, 0), (0, 0), 0.25, (bins, bins))
    assert reliability.points(one, 0) == ([0.15], [0.5])
    assert "x: came true" in reliability.terminal(one)
