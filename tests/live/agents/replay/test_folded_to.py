"""A state is lost of a law whose outputs name no cause: whoever knows says how far it came."""

import json

from agents.settings import Settings
from tests.live.agents.engine.test_laws import until
from tests.live.agents.replay.helpers import await_state, observations, say
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from tests.live.test_bad_days import delete_topics
from topics import codec

SOURCE, OUT, STATE = "cog.observations", "examples.pauses", "soma.pauses.state"
PLUGINS = {"SOMA_PLUGINS": "ops.examples"}
TENANTS, PARTITIONS = 10, 4


def positions(settings: Settings) -> dict[int, int]:
    """The next offset of each partition."""
    return {
        one.partition() or 0: codec.decode(one.value() or b"")[1]["next_offset"]
        for one in read(settings, STATE) if one.key() == b"@position"
    }  # fmt: skip


def anew(settings: Settings, id_: str, folded_to: str = "") -> str:
    """What is said of a rebuild that fails."""
    say(settings, id_, mode="rebuild", source="", target="pauses", apply=True, folded_to=folded_to)
    return str(await_state(settings, id_, "failed")["message"])


def test_how_far_a_silent_law_came_is_asked_and_taken_and_nothing_is_doubled(
    topics: Settings, worker: WorkerFactory
) -> None:
    env = environment(topics, **PLUGINS)
    assert soma("topics", "apply", env=env).returncode == 0
    produce(topics, SOURCE, observations(200, TENANTS))
    one = worker(**PLUGINS, SOMA_AGENTS="pauses")
    eventually(lambda: sum(positions(topics).values()) == 200, what="all to be folded")
    at = positions(topics)
    assert len(at) == PARTITIONS and len(read(topics, OUT)) == 2 * TENANTS

    assert one.stop() == 0  # or it writes its position there once more
    delete_topics(topics, STATE)
    assert soma("topics", "apply", env=env).returncode == 0
    produce(topics, SOURCE, observations(100, TENANTS))
    two = worker(**PLUGINS, SOMA_AGENTS="pauses,replay", ready=False)
    until(two, lambda answer: "state_lost" in str(answer.get("partitions")), "state_lost")
    said = anew(topics, "unsaid")
    assert f"{topics.topic(OUT)}/" in said and "doesn't name its cause" in said
    assert "`--folded-to 0:OFFSET`, before which all was folded, 0 to " in said
    words = [word for p, end in at.items() for word in ("--folded-to", f"{p}:{end}")]
    done = soma("replay", "start", "rebuild", "--processor", "pauses", "--apply", *words, env=env)
    assert done.returncode == 0, done.stderr
    assert f"somebody says that all before offset {at[0]} was folded" in done.stdout
    until(two, lambda answer: bool(answer["ready"]), "the worker to go on")
    eventually(lambda: sum(positions(topics).values()) == 300, what="what came since to be folded")
    assert len(read(topics, OUT)) == 2 * TENANTS, "each domain began once"
    assert "its position is known" in anew(topics, "known", "0:5")
    say(topics, "same", mode="rebuild", source="", target="pauses")
    assert await_state(topics, "same", "done")["message"] == f"all {2 * TENANTS} rows are equal"
    events = [codec.decode(each.value() or b"")[1] for each in read(topics, "soma.audit")]
    told = {event["subject"]: json.loads(event["detail"]).get("folded_to") for event in events}
    assert told == {f"pauses/{p}": end for p, end in at.items()}
