"""`soma doctor` on real servers: well when all is there, and the one thing that isn't by name."""

import json
import re
from pathlib import Path

from confluent_kafka import Consumer

from agents.policy import rego
from agents.services.stream import consumer_of, group_of
from agents.settings import Settings
from tests.live.agents.projections.compare import migrated, sql
from tests.live.helpers import REPO, environment, eventually, soma
from tests.opa import PolicyServer

PARTITIONS = 4  # two for each of two


def found(settings: Settings, status: int, **env: str) -> dict[str, bool]:
    told = soma("doctor", "--json", env=environment(settings, **env))
    assert told.returncode == status, told.stdout + told.stderr
    return {one["what"]: one["well"] for one in json.loads(told.stdout)}


WELL = dict.fromkeys(
    (
        "kafka",
        "topics",
        "open",
        "groups",
        "redis",
        "postgres",
        "schema",
        "outbox",
        "cognition",
    ),
    True,
)


def test_all_is_well(topics: Settings) -> None:
    without = {"schema": False, "outbox": False}
    assert found(topics, 1) == {**WELL, **without}, "nobody has migrated yet"
    migrated(topics)
    assert found(topics, 0) == WELL
    gone = {"SOMA_REDIS_URL": "redis://127.0.0.1:1/0"}
    assert found(topics, 1, **gone) == {**WELL, "redis": False}
    gone = {"SOMA_POSTGRES_DSN": "postgresql://soma:Secret@127.0.0.1:1/x"}
    assert found(topics, 1, **gone) == {**WELL, "postgres": False, **without}


def test_an_outbox_out_of_step_is_named(topics: Settings) -> None:
    migrated(topics)
    sql(topics, "UPDATE SCHEMA.outbox_batches SET n = 5 WHERE shard = 2 RETURNING 1")
    told = soma("doctor", env=environment(topics))
    assert told.returncode == 1 and "kafka_went_back" in told.stdout
    assert "soma outbox reconcile --since" in told.stdout


def test_others_in_a_services_group_are_named_with_what_they_took(topics: Settings) -> None:
    """The broker deals partitions out to anybody who names the group."""
    migrated(topics)
    group = group_of(topics, "frames")
    foreign = Consumer(topics.librdkafka(group_id=group, client_id="reporting"))
    ours = [consumer_of(topics, name) for name in ("frames", "segments")]
    try:
        for one, topic in zip(ours, ("cog.global.frame", "cog.segments"), strict=True):
            one.subscribe([topics.topic(topic)])
            eventually(lambda it=one: it.poll(0.1) or it.assignment(), what="it has partitions")
        foreign.subscribe([topics.topic("cog.global.frame")])

        def dealt() -> bool:
            ours[0].poll(0.1)
            foreign.poll(0.1)
            return len(foreign.assignment()) == 2

        eventually(dealt, what="the broker deals the partitions out to both")
        told = soma("doctor", env=environment(topics))
    finally:
        for one in (foreign, *ours):
            one.close()
    assert told.returncode == 1
    assert f"others are in {group}, and what they read isn't done: 'reporting' of " in told.stdout
    assert re.search(r"'reporting' of [\d.]+ has the partitions \d, \d\n", told.stdout), told.stdout
    assert "segments" not in told.stdout.partition("WRONG groups")[2].partition("\n")[0]
    assert found(topics, 0) == WELL, "it has left"


def test_a_policy_that_can_not_be_used_is_named(topics: Settings, tmp_path: Path) -> None:
    migrated(topics)
    shipped, text = REPO / "ops" / "policies", "package soma.policy.integrator\nallow := {\n"
    (tmp_path / "p.rego").write_text(text)
    assert found(topics, 0, SOMA_POLICY_DIR=str(shipped)) == {**WELL, "policy": True}
    assert found(topics, 1, SOMA_POLICY_DIR=str(tmp_path)) == {**WELL, "policy": False}
    with PolicyServer(rego.sources(shipped)) as server:
        assert found(topics, 0, SOMA_OPA_URL=server.url) == {**WELL, "policy": True}
        server.says = 200, b"{}"
        assert found(topics, 1, SOMA_OPA_URL=server.url) == {**WELL, "policy": False}
    assert found(topics, 1, SOMA_OPA_URL="http://127.0.0.1:1") == {**WELL, "policy": False}


def test_missing_topics_are_named(settings: Settings) -> None:
    told = soma("doctor", env=environment(settings))
    assert told.returncode == 1
    assert f"{settings.namespace}.cog.observations: missing" in told.stdout
    assert "`soma migrate up` runs them" in told.stdout
