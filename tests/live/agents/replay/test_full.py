"""A topic that takes nothing, by a limit of its own: the job that writes it fails and names it,
live traffic goes on, and nothing is lost.
"""

from collections import Counter

from confluent_kafka.admin import AdminClient

from agents.history.stored import stored
from agents.settings import Settings
from tests.live.agents.replay.helpers import observations
from tests.live.agents.replay.test_rebuild import (
    OUT,
    SOURCE,
    STATE,
    causes,
    folded,
    processor_of,
    rebuild,
    tamper,
)
from tests.live.conftest import WorkerFactory
from tests.live.helpers import eventually, produce, read
from topics.broker import alter, create, wait_for
from topics.partition import partition_of

SMALL, LARGE = {"max.message.bytes": "500"}, {"max.message.bytes": "1048588"}


def goes_on(settings: Settings, sent: int) -> int:
    """Live traffic is folded; how many observations there are then."""
    produce(settings, SOURCE, observations(7, since=sent), batch_num_messages=1)
    eventually(lambda: folded(settings) == sent + 7, what="live traffic to be folded")
    return sent + 7


def outputs_are_refused(topics: Settings, admin: AdminClient) -> None:
    """A shadow's topic takes smaller records than the live one: the rebuild into it fails."""
    shadow = topics.model_copy(update={"namespace": f"{topics.namespace}s"})
    create(admin, shadow.topic(OUT), topics.topics_partitions, 1, SMALL)
    wait_for(admin, [shadow.topic(OUT)])
    said = rebuild(topics, "aside", "failed", shadow=shadow.namespace)["message"]
    assert said.startswith(f"what it writes is refused: {shadow.topic(OUT)}/"), said
    assert "records larger than it takes (max.message.bytes)" in said
    assert read(shadow, OUT) == []


def rows_are_refused(topics: Settings, admin: AdminClient) -> None:
    """The state topic takes a tenant's row at a time: several can't be put in place at once."""
    of = processor_of(topics)
    homes = {f"t{k}": partition_of(f"t{k}", of.partitions) for k in range(7)}
    (home, count), *_ = Counter(homes.values()).most_common(1)
    whose = [name for name, one in homes.items() if one == home]
    for name in whose:
        tamper(topics, name)
    before = stored(topics, of, home).rows
    alter(admin, topics.topic(STATE), {"max.message.bytes": "900"})
    said = rebuild(topics, "anew", "failed", apply=True, tenants=whose)["message"]
    assert f"{of.state}/{home}: records larger than it takes" in said, said
    assert stored(topics, of, home).rows == before
    alter(admin, topics.topic(STATE), LARGE)
    done = rebuild(topics, "anew-too", apply=True, tenants=whose)["message"]
    assert done.endswith(f"; {count} are written"), done


def test_what_takes_nothing_is_named_while_the_live_side_goes_on(
    topics: Settings, worker: WorkerFactory
) -> None:
    produce(topics, SOURCE, observations(700))
    worker(SOMA_AGENTS="predictors,replay")
    admin = AdminClient(topics.librdkafka())
    eventually(lambda: folded(topics) == 700, what="all to be folded")
    sent = 700
    for full in (outputs_are_refused, rows_are_refused):
        full(topics, admin)
        sent = goes_on(topics, sent)
    found = causes(topics)
    assert len(found) == len(set(found)) == sent
