"""The service takes a snapshot of each partition that has a state, once a day."""

import time

from agents.engine.plan import Plan
from agents.engine.registry import processors
from agents.engine.work import POSITION_KEY
from agents.history.snapshots import listed, load
from agents.history.stored import stored
from agents.settings import Settings
from agents.snapshots.service import HOUR_S, Snapshots, services
from tests.live.conftest import WorkerFactory
from tests.live.helpers import eventually, produce
from tests.live.test_invariants import UPDATES, set_value, updates

PARTITIONS = 4  # two of them are made unreadable

STATE = "soma.integrator.state"


def test_each_partition_has_one_a_day_whoever_looks(
    topics: Settings, worker: WorkerFactory
) -> None:
    one = worker(SOMA_AGENTS="integrator")
    produce(topics, UPDATES, updates(1, 300))
    set_value(topics, "*", "margin", "0.2")  # something for every partition
    at_first = 300 + topics.topics_partitions
    plan = Plan(processors(["integrator"])["integrator"], topics, topics.topics_partitions)
    parts = range(topics.topics_partitions)

    def folded() -> int:
        found = (stored(topics, plan, partition).position for partition in parts)
        return sum(at.next_offset for at in found if at is not None)

    eventually(lambda: folded() >= at_first, what="all of it to be folded")
    assert one.stop() == 0
    now = time.time()
    first, second = Snapshots(topics), Snapshots(topics)
    assert first.look(now) == topics.topics_partitions, "the others have no state yet"
    assert first.waits() == ""
    assert second.look(now + 23 * HOUR_S) == 0
    assert second.look(now + 25 * HOUR_S) == topics.topics_partitions
    for partition in parts:
        found = list(listed(topics, plan, partition))
        assert len(found) == 2
        assert load(topics, plan, found[0]) == stored(topics, plan, partition).rows != {}
    for partition in (0, 2):  # whose rows can't be told from a newer version's
        produce(topics, STATE, [(POSITION_KEY, b"\0\0\0\xff\xff")], partition)
    third = Snapshots(topics)
    assert third.look(now + 50 * HOUR_S) == topics.topics_partitions - 2, "the others have theirs"
    assert all(f"integrator/{partition}: " in third.waits() for partition in (0, 2))


def test_topics_that_arent_there_are_named_and_nothing_ends(settings: Settings) -> None:
    service = Snapshots(settings)
    assert service.look(time.time()) == 0
    assert service.waits().startswith("no snapshot of ")
    assert "create the topics with `soma topics apply`" in service.waits()
    assert services(settings.model_copy(update={"snapshot_every_h": 0})) == []
