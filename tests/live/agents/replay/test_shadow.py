"""A shadow says what a worker under its settings does, while it runs: the same records, sent for
another tenant that has the setting, are folded live. Whoever takes it over after a kill goes on.
"""

import json
import time
from typing import Any

import pytest

from agents.settings import Settings
from tests.live.agents.replay.helpers import statuses
from tests.live.agents.replay.test_what_if import (
    FRAMES,
    OWN,
    SPLIT,
    UPDATES,
    N,
    frames,
    reckoned,
    setting,
    updates,
)
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma

SAME = ("frames", "mean_entropy")  # whatever the windows are that regret is of


def found(settings: Settings, name: str) -> dict[str, Any]:
    """What a shadow has found so far."""
    shown = soma("shadow", "status", name, "--json", env=environment(settings))
    assert shown.returncode == 0, shown.stderr
    (one,) = json.loads(shown.stdout)["shadows"]
    return dict(one)


def folded(settings: Settings, name: str, count: int) -> dict[str, Any]:
    """The same, once so many records of its sample are folded."""

    def there() -> bool:
        said = statuses(settings)[name][-1]
        assert said["state"] in ("accepted", "running"), said
        plan = json.loads(said["plan"] or "{}")
        return plan.get("result", {}).get("records") == count

    eventually(there, 90.0, f"{count} records are folded")
    return found(settings, name)


@pytest.mark.timeout(600)  # it starts two workers, and as many processes of commands
def test_it_says_what_a_worker_does_and_goes_on_after_a_kill(
    topics: Settings, worker: WorkerFactory
) -> None:
    first = worker(SOMA_AGENTS="integrator,replay")
    begin, env = time.time_ns() // 1000, environment(topics)
    mine, theirs = updates("t", begin), updates("u", begin)
    for some in (mine, theirs):
        produce(topics, UPDATES, some[:SPLIT])
    eventually(lambda: len(read(topics, FRAMES)) == 2 * SPLIT, 60.0, "the beginning is folded")
    refused = soma("shadow", "start", "--set", "fusion=hedge", "--tenants", "t,nobody", env=env)
    assert refused.returncode == 1 and "'nobody': never had a frame" in refused.stderr
    words = ("shadow", "start", "--set", "fusion=hedge", "--tenants", "t", "--json")
    begun = soma(*words, env=env)
    assert begun.returncode == 0, begun.stderr
    name = json.loads(begun.stdout)["id"]
    folded(topics, name, 0)
    produce(topics, UPDATES, mine[SPLIT:500])
    produce(topics, UPDATES, [setting("u", "fusion", "hedge"), *theirs[SPLIT:]])
    one = folded(topics, name, 500 - SPLIT)
    eventually(lambda: len(read(topics, FRAMES)) == 500 + N, 60.0, "all is folded")
    was, would = frames(topics, "t")[SPLIT:], frames(topics, "u")[SPLIT:500]
    for side, some in (("was", was), ("would", would)):
        wanted = {key: value for key, value in reckoned(some).items() if key in SAME}
        figures = one["figures"][FRAMES][side]
        assert {key: figures[key] for key in wanted} == pytest.approx(wanted, abs=1e-6)
    unlike = sum(
        any(repr(a[key]) != repr(b[key]) for key in a if key not in OWN)
        for a, b in zip(was, would, strict=True)
    )
    assert one["outputs"][FRAMES]["differing"] == unlike > 200
    first.kill()
    worker(SOMA_AGENTS="integrator,replay")
    eventually(
        lambda: json.loads(statuses(topics)[name][-1]["plan"])["began_anew"] == 1, 90.0,
        "it has begun anew",
    )  # fmt: skip
    produce(topics, UPDATES, mine[500:])
    assert folded(topics, name, N - 500)["outputs"][FRAMES]["would"] == N - 500
    ended = soma("shadow", "stop", name, env=env)
    assert ended.returncode == 0 and "stopped" in ended.stdout, ended.stderr
    assert "No shadow runs." in soma("shadow", "status", env=env).stderr
    assert len(read(topics, FRAMES)) == 2 * N, "nothing of it is in a public topic"
