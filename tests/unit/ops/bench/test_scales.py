"""`soma bench scales`: its laws do what they are there to show, and the command its section."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agents.commands.bench import bench
from ops.bench import report as reports
from ops.bench import scales

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("law", scales.LAWS)
def test_each_law_finds_the_scale_of_noise(law: str) -> None:
    series = np.random.default_rng(3).normal(5.0, 3.0, size=(4000, 4))
    found = scales.errors(scales.LAWS[law], series)[1000:]
    assert np.median(found) == pytest.approx(2.0 * 0.4549, rel=0.2)  # of a difference of two


def test_the_variance_is_blind_behind_a_glitch() -> None:
    one = {case.name: case.by for case in scales.run(seeds=1)}["a glitch of 1e6"]
    assert one["law 1, variance"].blind > 1500
    assert one["law 2"].blind < 100


def test_the_command_writes_its_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(reports.write, "__defaults__", (results,))
    shown = CliRunner().invoke(bench, ["scales", "--seeds", "1"])
    assert shown.exit_code == 0, shown.output
    assert "random walk" in shown.output
    assert "## soma bench scales" in results.read_text()
    printed = CliRunner().invoke(bench, ["scales", "--seeds", "1", "--json"])
    assert json.loads(printed.stdout)["result"][0]["name"] == "noise"
