"""What takes nothing (a topic with limits of its own, one whose replicas are away, a disk that is
full): each job names it, waits or fails as it is, live traffic goes on, and nothing is lost.
"""

import json
import struct
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from agents.history.stored import stored
from agents.settings import Settings
from tests.live.agents.dlq.written import value, write_letters
from tests.live.agents.projections.compare import last, migrated, records, rows, same, sql
from tests.live.agents.projections.test_postgres import TOPIC as FRAMES
from tests.live.agents.projections.test_postgres import Running, frames
from tests.live.agents.replay.helpers import (
    await_state,
    compare,
    make_topic,
    observations,
    say,
    statuses,
)
from tests.live.agents.replay.test_rebuild import (
    OUT,
    SNAPSHOTS,
    SOURCE,
    STATE,
    causes,
    folded,
    processor_of,
    rebuild,
    tamper,
)
from tests.live.conftest import WorkerFactory
from tests.live.helpers import (
    ended,
    environment,
    eventually,
    produce,
    read,
    soma,
    topics_of,
)
from topics import codec
from topics.broker import alter, create, wait_for
from topics.partition import partition_of

MADE = topics_of("replay", "dlq", "predictors", "integrator")
PARTITIONS = 4  # so few rows of each are refused

SMALL, LARGE = {"max.message.bytes": "500"}, {"max.message.bytes": "1048588"}
FEW = {"min.insync.replicas": "2"}  # there is one broker
HAS_ROOM = (
    "CREATE TABLE SCHEMA.full_disk (since timestamptz)",
    "INSERT INTO SCHEMA.full_disk VALUES (now())",
    # As the server says it. It stands for a tablespace of what is made anew, which is full.
    """CREATE FUNCTION SCHEMA.has_room() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        IF current_query() LIKE '%frames_anew%' AND EXISTS (SELECT FROM SCHEMA.full_disk) THEN
            RAISE 'could not extend file "base/5/1": No space left' USING ERRCODE = '53100';
        END IF;
        RETURN true;
    END $$""",
    "ALTER TABLE SCHEMA.frames ADD CHECK (SCHEMA.has_room())",
)


@pytest.fixture
def run() -> Iterator[Running]:
    running = Running()
    with ended(running.all):
        yield running


def waits(settings: Settings, job: str, why: str) -> None:
    """A job says that it waits, and for what."""
    eventually(lambda: statuses(settings)[job][-1:], what=f"{job} to begin")
    try:
        eventually(lambda: why in statuses(settings)[job][-1]["message"], 60.0, why)
    except AssertionError as error:
        raise AssertionError(f"{error}; last: {statuses(settings)[job][-1]}") from error


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


def replicas_are_away(topics: Settings, admin: AdminClient) -> None:
    """A topic that takes nothing any more holds up the job that writes it, and no other."""
    few = topics.topic(make_topic(topics, "to.few"))
    say(topics, "few", target="to.few", rate_limit=100)
    eventually(lambda: statuses(topics)["few"][-1:] and statuses(topics)["few"][-1]["sent"])
    say(topics, "few", "pause")
    assert 0 < await_state(topics, "few", "paused")["sent"] < 700
    alter(admin, few, FEW)
    say(topics, "few", "resume")
    waits(topics, "few", "takes no records: 1 of the 2 replicas that min.insync.replicas wants")
    say(topics, "beside", target=make_topic(topics, "to.beside"))
    await_state(topics, "beside", "done")
    alter(admin, few, {"min.insync.replicas": "1"})
    ranges = json.loads(await_state(topics, "few", "done")["plan"])["ranges"]
    source = [one for one in read(topics, SOURCE) if within(one, ranges)]
    compare(topics, read(topics, "to.few"), source)


def within(one: Any, ranges: dict[str, list[int]]) -> bool:
    return bool(one.offset() < ranges[str(one.partition())][1])


def letters_are_refused(topics: Settings, admin: AdminClient) -> None:
    """The topic where they failed takes smaller records by now."""
    record = {"tenant": "t1", "domain": "state", "ts": time.time_ns() // 1000, "sequence": 1}
    large = codec.encode("observation", record | {"vector": struct.pack("<640f", *range(640))})
    write_letters(topics, [("t1", value(1, "t1"), 0), ("t1", large, 1)])
    alter(admin, topics.topic(SOURCE), SMALL)
    say(topics, "redrive", mode="redrive", source=SOURCE)
    said = await_state(topics, "redrive", "failed")["message"]
    assert said.startswith(f"what it writes is refused: {topics.topic(SOURCE)}: "), said
    assert "essage size too large" in said
    alter(admin, topics.topic(SOURCE), LARGE)
    say(topics, "redrive-again", mode="redrive", source=SOURCE)
    assert await_state(topics, "redrive-again", "done")["sent"] == 2


def snapshots_are_refused(topics: Settings, admin: AdminClient) -> None:
    """Their topic takes too little, or nothing at all."""
    take = ("snapshot", "take", "predictors")
    for config, said in (
        (SMALL, "essage size too large"),
        (FEW | LARGE, "1 of the 2 replicas that min.insync.replicas"),
    ):
        alter(admin, topics.topic(SNAPSHOTS), config)
        refused = soma(*take, env=environment(topics))
        assert refused.returncode == 1 and said in refused.stderr, refused.stderr
        assert topics.topic(SNAPSHOTS) in refused.stderr and refused.stderr.count("\n") == 1
    alter(admin, topics.topic(SNAPSHOTS), {"min.insync.replicas": "1"})
    assert soma(*take, env=environment(topics)).returncode == 0
    good = soma("snapshot", "verify", "predictors", env=environment(topics))
    assert good.returncode == 0 and good.stdout.count(", good") == PARTITIONS, good.stdout


def no_room_for_a_table(topics: Settings) -> None:
    """PostgreSQL has no room for what is made anew: the job waits, and the live one goes on."""
    for statement in HAS_ROOM:
        sql(topics, statement)
    say(topics, "table", mode="projection", source="", target="frames")
    waits(topics, "table", "it waits: could not extend file")
    produce(topics, FRAMES, frames(range(20, 25)))
    held = lambda: same(rows(topics, "frames"), last(records(topics, FRAMES)))  # noqa: E731
    eventually(held, 60.0, "the live table to go on")
    sql(topics, "DELETE FROM SCHEMA.full_disk")
    assert "is in place" in await_state(topics, "table", "done")["message"]
    assert held()


def test_what_takes_nothing_is_named_while_the_live_side_goes_on(
    topics: Settings, worker: WorkerFactory, run: Running
) -> None:
    produce(migrated(topics), SOURCE, observations(700))
    produce(topics, FRAMES, frames(range(20)))
    worker(SOMA_AGENTS="predictors,replay", SOMA_COMMIT_TIMEOUT_S="6")
    run(topics, "frames")
    admin = AdminClient(topics.librdkafka())
    eventually(lambda: folded(topics) == 700, what="all to be folded")
    sent = 700
    for full in (outputs_are_refused, rows_are_refused, replicas_are_away, snapshots_are_refused):
        full(topics, admin)
        sent = goes_on(topics, sent)
    no_room_for_a_table(topics)
    found = causes(topics)
    assert len(found) == len(set(found)) == sent
    letters_are_refused(topics, admin)
