"""Memories in PostgreSQL: as the topic has them, whoever writes; of one's own tenant alone."""

import asyncio
import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import pytest
from confluent_kafka import Message
from pydantic import SecretStr

from agents.memory_rows import CONTENT_PART, HEAD_PART, content_key, head_key
from agents.settings import Settings
from agents.tables.declared import declared
from agents.tables.making import make
from agents.tables.memories import KEY
from stores.grants import Purpose, grants_to
from stores.memory_keywords import Match, MemoryKeywords, NotKeptError, Which
from stores.names import schema_of
from stores.projection_rebuild import ProjectionRebuild
from stores.projection_store import Move, ProjectionStore
from tests.live.agents.projections.compare import migrated, sql
from tests.live.agents.projections.test_postgres import Running
from tests.live.helpers import Record, ended, environment, eventually, produce, read, soma
from tests.unit.agents.recall.samples import SCHEMA, row
from topics import codec

MADE = ("memory.latest",)
LATEST = "memory.latest"
DIGEST = (
    "SELECT md5(string_agg(held::text, ',' ORDER BY tenant, namespace, id, part)) AS it "
    "FROM SCHEMA.memories AS held"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Store = TypeVar("Store", bound=ProjectionStore)
ANY = Which()
FIND = "SELECT FROM SCHEMA.memory_matches('t1', 'deploy', 9, null, null, null, null, null)"
WORDS = ("deploy", "failed", "alice", "answers", "red", "green", "zebra")


@pytest.fixture
def run() -> Iterator[Running]:
    running = Running()
    with ended(running.all):
        yield running


def memory(tenant: str, id_: str, version: int, payload: str) -> list[Record]:
    """Its content and its head."""
    content = row(tenant, id_, CONTENT_PART, version=version, payload=payload, coordinate=id_)
    head = row(tenant, id_, HEAD_PART, version=version, content_version=version)
    return [
        (content_key(tenant, "", id_).encode(), codec.encode(SCHEMA, content)),
        (head_key(tenant, "", id_).encode(), codec.encode(SCHEMA, head)),
    ]


def forgotten(tenant: str, id_: str) -> list[Record]:
    """A head that says so, and the content's tombstone."""
    head = codec.encode(SCHEMA, row(tenant, id_, HEAD_PART, version=99, deleted=True))
    return [
        (content_key(tenant, "", id_).encode(), None),
        (head_key(tenant, "", id_).encode(), head),
    ]


def some(seed: int, count: int) -> list[list[Record]]:
    """Events of 40 memories of three tenants: each is written often, some are forgotten."""
    rng = random.Random(seed)
    found = []
    for k in range(count):
        tenant, id_ = f"t{rng.randrange(3)}", str(rng.randrange(40))
        words = " ".join(rng.choices(WORDS, k=4))
        payload = json.dumps({"text": words, "n": k})
        found.append(
            forgotten(tenant, id_) if rng.random() < 0.2 else memory(tenant, id_, k, payload)
        )
    return found


def wanted(settings: Settings) -> dict[tuple[str, ...], int]:
    """Key of each row that there is to be -> its version, by the log alone."""
    found: dict[tuple[str, ...], int] = {}
    for message in read(settings, LATEST):
        value = message.value()
        tenant, *rest = (message.key() or b"").decode().split("\x1f")
        if not rest:
            continue  # a key of nobody's
        namespace, id_, *content = rest
        key = tenant, namespace, id_, CONTENT_PART if content else HEAD_PART
        record: dict[str, Any] = {"deleted": True} if value is None else codec.decode(value)[1]
        found.pop(key, None)
        if not record["deleted"]:
            found[key] = record["version"]
    return found


def held(settings: Settings) -> dict[tuple[str, ...], int]:
    rows = sql(settings, "SELECT * FROM SCHEMA.memories")
    return {tuple(one[name] for name in KEY): one["version"] for one in rows}


def write(settings: Settings, events: list[list[Record]]) -> None:
    """Each tenant's into its partition, in order."""
    for partition in range(settings.topics_partitions):
        ours = [one for event in events for one in event if one[0] and one[0][1] % 2 == partition]
        produce(settings, LATEST, ours, partition)


def test_rows_are_the_topic_and_a_rebuild_gives_the_same_digest(
    topics: Settings, run: Running
) -> None:
    migrated(topics)
    run(topics, "memories")
    write(topics, some(1, 400))
    eventually(lambda: held(topics) == wanted(topics))
    second = run(topics, "memories")
    write(topics, some(2, 100))
    many = " ".join(map(str, range(150_000)))  # more words than a tsvector holds
    odd = json.dumps({"text": "zero \0 half \ud800 \\u0000", "large": many})
    produce(topics, LATEST, memory("t0", "odd", 1, odd), partition=0)
    produce(topics, LATEST, [(b"nobody's key", None)], partition=0)
    eventually(lambda: held(topics) == wanted(topics))
    eventually(lambda: not any(sum(one.lag().values()) for one in second))
    before = sql(topics, DIGEST)[0]["it"]
    done = soma("projection", "rebuild", "memories", "--in-place", "--yes", env=environment(topics))
    assert done.returncode == 0, done.stderr
    eventually(lambda: sql(topics, DIGEST)[0]["it"] == before)
    assert run.count("memories", "unreadable") >= 1 and run.count("memories", "deleted") > 0
    now = sql(topics, "SELECT payload->>'text' AS said FROM SCHEMA.memories_now WHERE id = 'odd'")
    assert now[0]["said"] == "zero \N{REPLACEMENT CHARACTER} half \N{REPLACEMENT CHARACTER} \\u0000"


def as_role(settings: Settings, purpose: Purpose, tenant: str = "") -> Settings:
    """The settings with a role that has these grants alone."""
    role = f"{purpose}_{settings.namespace}"
    sql(settings, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    for _ in range(2 if tenant else 1):  # they may be run again
        for statement in grants_to(role, schema_of(settings.namespace), purpose, tenant).split(
            ";\n"
        ):
            sql(settings, statement)
    scheme, at = settings.postgres().split("://")[0], settings.postgres().split("@", 1)[1]
    return settings.model_copy(update={"postgres_dsn": SecretStr(f"{scheme}://{role}:x@{at}")})


def stored(settings: Settings, what: ProjectionStore, events: list[list[Record]]) -> None:
    """Rows of partition 0, as whoever reads the topic makes them."""
    declared_ = next(one for one in declared(settings) if one.name == "memories")
    messages = [
        Message(
            topic="t", partition=0, offset=k, key=key, value=value, timestamp=(1, 1_700_000_000_000)
        )
        for k, (key, value) in enumerate(one for event in events for one in event)
    ]
    waiting = declared_.waiting()
    for message in messages:
        waiting.add(message)
    made = make(settings, declared_, waiting.records(), "t", "aa")
    move = Move(what.positions([0], "aa")[0], "aa", len(messages))
    assert not what.write(made.rows, {0: move}, made.gone).overtaken


@contextmanager
def opened(store: Store) -> Iterator[Store]:
    try:
        yield store
    finally:
        store.close()


def test_a_worker_writes_and_rebuilds_and_others_see_their_tenant_alone(settings: Settings) -> None:
    migrated(settings)
    worker, schema = as_role(settings, "worker"), schema_of(settings.namespace)
    target = next(one.target for one in declared(settings) if one.name == "memories")
    events = some(3, 200)
    with opened(ProjectionStore(worker.postgres(), schema, target)) as live:
        stored(settings, live, events)
    before = sql(settings, DIGEST)[0]["it"]
    sql(
        settings,
        "UPDATE SCHEMA.memories SET payload = '{}' WHERE part = 'content' AND tenant = 't0'",
    )
    sql(settings, "DELETE FROM SCHEMA.memories WHERE tenant = 't1'")
    with opened(ProjectionRebuild(worker.postgres(), schema, target, "job@1", 1)) as anew:
        assert not anew.begin()
        stored(settings, anew, events)
        anew.hold(anew.look([0]))
        placed = anew.place()
    assert placed.changed and placed.added and placed.removed == 0
    assert sql(settings, DIGEST)[0]["it"] == before

    reader = as_role(settings, "reader", "t1")
    mine = "SELECT DISTINCT tenant FROM SCHEMA.memories_now"
    assert [one["tenant"] for one in sql(reader, mine)] == ["t1"]
    api = as_role(settings, "api")
    assert sql(api, "SELECT FROM SCHEMA.memories") == [], "no tenant is asked for"
    for role, wrong in (
        (reader, FIND),
        (api, FIND),  # without soma.tenant
        (reader, "DELETE FROM SCHEMA.memories"),
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            sql(role, wrong)
    finds_by_words(settings, api)


def finds_by_words(settings: Settings, api: Settings) -> None:
    """By stems, of the tenant alone, among what fits."""
    rows = sql(settings, "SELECT tenant, id, payload FROM SCHEMA.memories_now")
    for tenant in ("t0", "t1", "nobody"):
        having = {
            one["id"] for one in rows
            if one["tenant"] == tenant and re.search("failed|deploy", one["payload"])
        }  # fmt: skip
        found = matches(api, tenant, "is a FAILURE of deploying, or failing?")
        assert {one.id for one in found} == having
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    one = next(row for row in rows if row["tenant"] == "t1")
    said = json.loads(one["payload"])
    assert [
        m.id for m in matches(api, "t1", said["text"], Which(fields=json.dumps({"n": said["n"]})))
    ] == [one["id"]]
    for nothing in (
        Which(namespace="x"), Which(memory_type="semantic"), Which(until=EPOCH),
        Which(since=EPOCH + timedelta(seconds=1)),
    ):  # fmt: skip
        assert matches(api, "t1", said["text"], nothing) == []
    assert {m.id for m in matches(api, "t1", said["text"], Which(since=EPOCH))} > {one["id"]}
    for odd in ("", "the of", "\0", "' & | ! ( \\ :*", "\ud800"):
        assert matches(api, "t1", odd) == []


def test_rare_words_come_first_and_what_is_forgotten_is_not_found(settings: Settings) -> None:
    migrated(settings)
    target = next(one.target for one in declared(settings) if one.name == "memories")
    texts = {
        "a": "common zebra", "b": "common common", "c": "common", "e": "common horse",
        "d": "a common long text of other words", "gone": "common zebra zebra",
    }  # fmt: skip
    events = [memory("t", id_, 1, json.dumps({"text": text})) for id_, text in texts.items()]
    with pytest.raises(NotKeptError, match="no worker"):
        matches(settings, "t", "zebra")
    with opened(ProjectionStore(settings.postgres(), schema_of(settings.namespace), target)) as one:
        stored(settings, one, [*events, forgotten("t", "gone")])
    assert [m.id for m in matches(settings, "t", "common zebras")] == ["a", "c", "b", "e", "d"]
    assert [m.id for m in matches(settings, "t", "zebras")] == ["a"]
    sql(settings, "UPDATE SCHEMA.projections SET dropped = true WHERE name = 'memories'")
    with pytest.raises(NotKeptError, match="dropped"):
        matches(settings, "t", "zebra")


def matches(settings: Settings, tenant: str, question: str, which: Which = ANY) -> list[Match]:
    async def ask() -> list[Match]:
        store = await MemoryKeywords.open(settings.postgres(), settings.namespace, "test")
        try:
            return await store.matches(tenant, question, 1000, which)
        finally:
            await store.close()

    return asyncio.run(ask())
