"""Kill workers at any moment, while settings, policies, sleeps, rewards and canaries come: an
independent program finds nothing lost, doubled or wrong.

One is stopped by SIGSTOP until the group has given its partitions away, and goes on then: it is
fenced, and doubles nothing.
"""

from pathlib import Path

import pytest

from ops.prove.driver import SESSION_TIMEOUT_S, Options, run
from ops.stack import Endpoints

STEERED = (
    "control:cog.predictor.updates", "control:soma.audit", "sleep:brain.sleep.states",
    "lessons:cog.reward.events", "feedback:cog.reward.events", "learner:cog.config.updates",
    "canary:soma.audit", "learner_dead", "sleep_request",
)  # fmt: skip
SCRIPT = ("kill", "guest", "kill", "stop", "kill", "leave", "kill")  # longer: `make prove`


@pytest.mark.timeout(600)
def test_killed_workers_lose_and_double_nothing(stack: Endpoints, tmp_path: Path) -> None:
    options = Options(
        kills=0, seed=11, rate=800.0, events_min=10_000, workers=2, pause=(1.5, 4.0), script=SCRIPT
    )
    report = run(options, stack.kafka_bootstrap, None, tmp_path)
    assert report.clean, report
    assert report.blows["kill"] >= 4 and report.blows["stop"] == 1 and report.sent >= 10_000
    assert report.seconds > SESSION_TIMEOUT_S
    counts = report.verdict["counts"]
    assert counts["predictor_update"] > 4_000
    assert counts["global_frame"] > counts["predictor_update"]
    assert counts["next_event"] > 4_000 and counts["predictor_calibration"]
    assert counts["segment_boundary"] > 200
    for name in STEERED:
        assert counts[name], f"the feed was too tame: no {name}"
    for name in ("predictors", "integrator", "segmentation"):
        assert counts[f"{name}_dead"] and counts[f"{name}_controls"], "the feed was too tame"
        assert counts[f"{name}_near_ties"] <= report.sent / 1000, (
            "decisions aren't the log's to make"
        )
    assert counts["predictors_forwarded"]
