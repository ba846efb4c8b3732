"""Kill workers at any moment: an independent program finds nothing lost, doubled or wrong."""

from pathlib import Path

import pytest

from ops.prove.driver import Options, run
from ops.stack import Endpoints

SCRIPT = ("kill", "guest", "kill", "kill", "stop", "guest", "kill", "leave", "kill", "kill")


@pytest.mark.timeout(300)
def test_killed_workers_lose_and_double_nothing(stack: Endpoints, tmp_path: Path) -> None:
    options = Options(
        kills=0, seed=11, rate=800.0, events_min=20_000, workers=2, pause=(1.5, 4.0), script=SCRIPT
    )
    report = run(options, stack.kafka_bootstrap, None, tmp_path)
    assert report.clean, report
    assert report.blows["kill"] >= 5 and report.sent >= 20_000
    counts = report.verdict["counts"]
    assert counts["predictors_outputs"] > 10_000
    assert counts["integrator_outputs"] > counts["predictors_outputs"]
    assert counts["predictors_forwarded"] and counts["predictors_dead"], "the feed was too tame"
