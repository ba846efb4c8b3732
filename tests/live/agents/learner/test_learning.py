"""The loop of learning beside a worker: frames teach, control checks, the integrator obeys."""

import json
from collections import Counter
from typing import Any

import pytest

from agents.learner.agent import SOURCE, UPDATES
from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from topics import codec

IN, FRAMES, FEEDBACK = "cog.predictor.updates", "cog.global.frame", "cog.teach.feedback"
TS = "2026-01-31T12:00:00Z"
WAIT_S = 120.0  # for records of a worker on a busy machine
ERRORS = {"x": 0.2, "y": 0.9}


def write(settings: Settings, topic: str, *records: dict[str, Any]) -> None:
    """Records of acme, as a user writes them."""
    each = [json.dumps(one | {"tenant": "acme", "ts": TS}).encode() for one in records]
    produce(settings, topic, [(b"acme", one) for one in each])


def update(settings: Settings, rounds: int) -> None:
    """So many updates of each domain."""
    write(settings, IN, *[
        {
            "domain": domain, "predictor_type": "mine", "error_metric": error,
            "prediction_latency_ms": 0.0, "vector_dim": 1,
        }
        for _ in range(rounds) for domain, error in ERRORS.items()
    ])  # fmt: skip


def told(settings: Settings, topic: str) -> list[dict[str, Any]]:
    """What processors have written of acme, but for control records."""
    values = [one.value() or b"" for one in read(settings, topic)]
    each = [codec.decode(value) for value in values if not value.startswith(b"{")]
    return [one for name, one in each if not name.startswith("control_")]


def frames(settings: Settings, count: int) -> list[dict[str, Any]]:
    what = f"{count} frames"
    eventually(lambda: len(told(settings, FRAMES)) >= count, WAIT_S, what)
    return told(settings, FRAMES)


def learned(settings: Settings) -> dict[str, str]:
    """What the learner said last, by setting."""
    return {one["setting"]: one["value"] for one in told(settings, UPDATES)
            if one["author"] == "learner"}  # fmt: skip


def in_force(env: dict[str, str]) -> dict[str, Any]:
    got = soma("config", "get", "acme", "--json", env=env)
    found: dict[str, Any] = json.loads(got.stdout)["processors"]["integrator"]
    return found


@pytest.mark.timeout(900)
def test_what_is_learned_acts_in_frames_and_is_taken_back(
    topics: Settings, worker: WorkerFactory
) -> None:
    agents = "control,integrator,learner,lessons,feedback"
    worker(SOMA_AGENTS=agents, SOMA_LEARNER__EVERY_S="0", SOMA_LEARNER__WAIT_S="2")
    env = environment(topics)
    update(topics, 1)
    before = frames(topics, 2)
    assert before[-1]["config_version"] == 0 and not learned(topics)

    done = soma("config", "set", "acme", "learning", "on", env=env)
    assert done.returncode == 0, done.stderr
    update(topics, 4)
    first = frames(topics, 10)[-1]["frame_id"]
    eventually(lambda: "prior@y" in learned(topics), WAIT_S, "a prior of y")
    eventually(lambda: "prior@y" in in_force(env), WAIT_S, "a prior that acts")
    update(topics, 1)
    last = frames(topics, 12)[-1]
    assert last["config_version"] > 0
    assert last["weights"]["x"] > before[-1]["weights"]["x"]

    ids = [one["frame_id"] for one in told(topics, FRAMES)[2:]]
    write(topics, SOURCE, *[{"frame_id": one, "r_task": 1.0} for one in ids])
    eventually(lambda: "learned_temperature" in learned(topics), WAIT_S, "a temperature")
    write(topics, FEEDBACK, {"frame_id": first, "rating": 4}, {"frame_id": first, "rating": 7})
    later = first.rpartition("-")[0] + "-99999"
    write(topics, SOURCE, {"frame_id": first, "r_task": 1.0}, {"frame_id": later, "r_task": 1.0})
    reasons = lambda: Counter(  # noqa: E731 - asked again and again
        dict(one.headers() or ())["soma-reason"].decode()
        for topic in (SOURCE, FEEDBACK) for one in read(topics, f"{topic}.dlq")
    )  # fmt: skip
    expected = Counter(rating=1, rewarded_before=1, no_frame=1)
    eventually(lambda: reasons() == expected, WAIT_S, f"letters: {expected}")

    for processor in ("learner", "lessons", "feedback", "integrator", "control"):
        again = soma("digest", processor, "--rebuild", env=env, timeout=240)
        assert again.returncode == 0, again.stdout + again.stderr

    done = soma("config", "set", "acme", "learning", "off", env=env)
    assert done.returncode == 0, done.stderr
    update(topics, 1)
    eventually(lambda: set(learned(topics).values()) == {""}, WAIT_S, "all taken back")
    eventually(lambda: not in_force(env), WAIT_S, "nothing of its own")
