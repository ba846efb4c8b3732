"""Jobs on a real broker: end to end, paused, sharing a budget.

Workers and the broker are killed in tests/live/ops/prove/test_replay.py.
"""

import json
import time
from itertools import pairwise

from agents.settings import Settings
from tests.live.agents.replay.helpers import (
    SOURCE,
    await_state,
    compare,
    make_topic,
    observations,
    say,
    statuses,
)
from tests.live.conftest import WorkerFactory
from tests.live.helpers import eventually, produce, read, topics_of

MADE = topics_of("replay", "predictors", "integrator")

SOON_S = 5.0  # what is promised is a second; on a machine that has other things to do


def test_a_job_from_end_to_end_and_what_is_refused(topics: Settings, worker: WorkerFactory) -> None:
    produce(topics, SOURCE, observations(2_000))
    mine = make_topic(topics, "mine", 3)
    say(topics, "whole", target=mine)
    worker(SOMA_AGENTS="replay")
    done = await_state(topics, "whole", "done")
    source = read(topics, SOURCE)
    assert (done["read"], done["sent"], done["done"]) == (2_000, 2_000, done["total"])
    assert done["finished"] >= done["started"] and done["left_s"] is None
    compare(topics, read(topics, mine), source)
    assert json.loads(done["plan"])["tenants"]["t1"] == 286

    make_topic(topics, "some", 4)
    say(
        topics, "some", target="some", tenants=["t1", "t2"], domains=["state"],
        predicate="sequence > `500`",
    )  # fmt: skip
    for id_, given in REFUSED.items():
        say(topics, id_, **({"target": "some"} | given))  # type: ignore[arg-type]
    found = await_state(topics, "some", "done")
    assert 0 < found["sent"] < 400 and len(read(topics, "some")) == found["sent"]
    for id_ in REFUSED:
        said = await_state(topics, id_, "refused")
        assert SAID[id_] in said["message"], said["message"]


REFUSED: dict[str, dict[str, object]] = {
    "beyond": {"since": "0:999999"},
    "all-beyond": {"since": "999999"},
    "no-partition": {"since": "9:0"},
    "no-source": {"source": "nothing.there"},
    "no-target": {"target": "nothing.there"},
    "stateful": {"target": "cog.predictor.updates"},
    "internal": {"target": "soma.epochs"},
    "others": {"target": "prod.cog.observations"},
    "tenant": {"tenants": ["t1", "nobody"]},
    "foreign-id": {"since": "0123abcd-0-5"},
}
SAID = {
    "beyond": "lie beyond its end",
    "all-beyond": "offset 999999 lies beyond the end",
    "no-partition": "has no partition 9",
    "no-source": "there is no topic",
    "no-target": "make it first",
    "stateful": "is read by integrator",
    "internal": "is internal",
    "others": "of another namespace",
    "tenant": "nothing of nobody lies in the range",
    "foreign-id": "is the id of no record of a topic that is here",
}


def test_a_dry_run_says_what_a_job_would_do_and_writes_nothing(
    topics: Settings, worker: WorkerFactory
) -> None:
    produce(topics, SOURCE, observations(500))
    worker(SOMA_AGENTS="replay")
    say(topics, "dry", shadow="try", dry_run=True, tenants=["t3"])
    done = await_state(topics, "dry", "done")
    plan = json.loads(done["plan"])
    assert done["sent"] == plan["tenants"]["t3"] == 71 and done["sent_bytes"] > 71 * 10
    assert plan["target"] == "try.cog.observations" and plan["missing"] == []
    assert plan["times"][0] <= plan["times"][1] <= time.time() * 1000 + 1000
    shadow = topics.model_copy(update={"namespace": f"s{topics.namespace}"})
    say(topics, "real", shadow=shadow.namespace)
    assert await_state(topics, "real", "done")["sent"] == 500
    compare(topics, read(shadow, SOURCE), read(topics, SOURCE))


def test_jobs_share_the_budget_and_a_pause_is_in_force_at_once(
    topics: Settings, worker: WorkerFactory
) -> None:
    produce(topics, SOURCE, observations(6_000))
    worker(SOMA_AGENTS="replay", SOMA_REPLAY_RATE="2000")
    for name in ("one", "two"):
        say(topics, name, target=make_topic(topics, f"to.{name}"))
    for name in ("one", "two"):
        eventually(lambda name=name: statuses(topics)[name][-1]["read"] > 500, what="both run")  # type: ignore[misc]
    say(topics, "one", "pause")
    began = time.time()
    paused = await_state(topics, "one", "paused")
    assert paused["ts"] / 1e6 - began < SOON_S
    before = len(read(topics, "to.one"))
    assert before == paused["sent"]
    done = await_state(topics, "two", "done")
    assert len(read(topics, "to.one")) == before
    say(topics, "one", "resume")
    last = await_state(topics, "one", "done")
    for name, one in (("one", last), ("two", done)):
        compare(topics, read(topics, f"to.{name}"), read(topics, SOURCE))
        told = [each["ts"] for each in statuses(topics)[name] if each["state"] == "running"]
        gaps = [b - a for a, b in pairwise(told)]
        assert sorted(gaps)[-2] < SOON_S * 1e6  # but for the pause
        assert one["read"] == 6_000
    both = [one for name in ("one", "two") for one in statuses(topics)[name]]
    first = min(one["started"] for one in both if one["started"])
    assert (max(one["ts"] for one in both) - first) / 1e6 > 12_000 / 2_000 - 1
