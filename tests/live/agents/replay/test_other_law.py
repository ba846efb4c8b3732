"""The law is another since: a rebuild says how many outputs would be others."""

import json

from agents.settings import Settings
from tests.live.agents.engine.test_laws import SOURCE, WITH_SICK, counts, tell
from tests.live.agents.replay.helpers import await_state, say
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, read, soma
from tests.live.laws import OUT

PARTITIONS = 4  # two tenants, each in one of its own
SENT = 20
PLAIN = f"all {SENT // 10} rows are equal"


def test_a_rebuild_counts_the_outputs_that_another_law_makes_others(
    topics: Settings, worker: WorkerFactory
) -> None:
    done = soma("topics", "apply", env=environment(topics, **WITH_SICK))
    assert done.returncode == 0, done.stderr
    one = worker(**WITH_SICK, SOMA_AGENTS="well,replay")
    for k in range(SENT):
        tell(topics, f"t{k % 2}", {"emit": k})
    eventually(lambda: counts(topics, "well") == {"t0": 10, "t1": 10}, what="all to be folded")
    say(topics, "same", mode="rebuild", source="", target="well")
    assert await_state(topics, "same", "done")["message"] == PLAIN, "nothing is looked for"
    assert one.stop() == 0

    worker(**WITH_SICK, SOMA_AGENTS="replay", LAWS_LAW="2")
    say(topics, "other", mode="rebuild", source="", target="well")
    found = await_state(topics, "other", "done")
    assert found["message"] == (
        f"{PLAIN}; under the law of today 10 of {SENT} outputs differ (10 of {OUT})"
    )
    of = [each["outputs"] for each in json.loads(found["plan"])["partitions"].values()]
    assert sorted(map(json.dumps, of)) == sorted(
        map(json.dumps, [{OUT: [10, 10]}, {OUT: [10, 0]}, {}, {}])
    )
    say(topics, "tenant", mode="rebuild", source="", target="well", tenants=["t0"])
    assert (
        "under the law of today 0 of 10 outputs differ"
        in await_state(topics, "tenant", "done")["message"]
    )
    assert len(read(topics, OUT)) == SENT and len(read(topics, SOURCE)) == SENT
