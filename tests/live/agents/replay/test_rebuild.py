"""States made anew by command: compared, and put in the live one's place under live traffic."""

import json
from collections.abc import Mapping
from typing import Any

from agents.settings import Settings
from tests.live.agents.replay.helpers import await_state, observations, say
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from topics import codec
from topics.partition import partition_of

SOURCE, STATE = "cog.observations", "soma.predictors.state"
RUN = {"SOMA_AGENTS": "predictors,replay"}


def rebuild(settings: Settings, id_: str, **more: Any) -> None:
    """A rebuild of the predictors, as any client says it."""
    say(settings, id_, mode="rebuild", source="", target="predictors", **more)


def folded(settings: Settings) -> int:
    """The next offsets of the predictors' partitions together."""
    at: dict[int, int] = {}
    for message in read(settings, STATE):
        if message.key() == b"@position":
            at[message.partition() or 0] = codec.decode(message.value() or b"")[1]["next_offset"]
    return sum(at.values())


def plan_of(status: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(status["plan"]))


def test_a_state_is_made_anew_beside_the_live_one_and_rows_that_differ_are_named(
    topics: Settings, worker: WorkerFactory
) -> None:
    produce(topics, SOURCE, observations(1_000))
    worker(**RUN)
    eventually(lambda: folded(topics) == 1_000, what="all to be folded")
    rebuild(topics, "same")
    done = await_state(topics, "same", "done")
    assert done["digest_before"] == done["digest_after"] and done["message"].endswith("are equal")
    assert (done["read"], done["done"], done["total"]) == (1_000, 1_000, 1_000)
    parts = plan_of(done)["partitions"]
    assert len(parts) == 4 and sum(one["rows"] for one in parts.values()) == 14

    # A row that a hand has changed: of t1, the row of another tenant.
    rows = {one.key(): one.value() for one in read(topics, STATE)}
    produce(topics, STATE, [(b"t1\x1fstate", rows[b"t2\x1fagent"])], partition_of("t1", 4))
    done = soma("replay", "start", "rebuild", "--processor", "predictors", env=environment(topics))
    assert done.returncode == 1 and "t1/state: " in done.stdout and "1 row differs" in done.stdout
    rebuild(topics, "t2", tenants=["t2"])
    other = await_state(topics, "t2", "done")
    assert other["message"] == "all 2 rows are equal" and len(plan_of(other)["partitions"]) == 1
    rebuild(topics, "nobody", tenants=["nobody"])
    said = await_state(topics, "nobody", "failed")
    assert said["message"] == "tenants: nothing of nobody, neither live nor made anew"
    for id_, given, text in (
        ("none", {"target": "nothing"}, "there is no processor 'nothing'; there are "),
        ("whose", {"target": ""}, "target: the processor whose state"),
        ("shadow", {"shadow": "try"}, "shadow: not of rebuild"),
    ):
        say(topics, id_, **({"mode": "rebuild", "source": "", "target": "predictors"} | given))
        assert text in await_state(topics, id_, "refused")["message"]
