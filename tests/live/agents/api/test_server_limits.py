"""What a server refuses for a while, and what sessions remember of it: outages, no verdicts."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from agents.settings import Settings
from ops.stack import Endpoints
from stores.errors import StoreDown
from stores.names import quoted, schema_of
from stores.outbox_relay import RelayConnections, Statements
from stores.projection_store import Move
from tests.live.agents.api.conftest import Api, OwnPostgres
from tests.live.agents.api.helpers import ApiProcess, acme, admin, events_of, observation
from tests.live.agents.outbox.outbox import Running, add, asked, made
from tests.live.agents.projections.compare import sql
from tests.live.helpers import environment, eventually, soma
from tests.live.stores.outbox import as_role
from tests.live.stores.test_projection_store import Make, make, row

__all__ = ["make"]
PATH = "/events/cog.observations"
FILL = "SELECT pg_notify('elsewhere', repeat('x', 7000) || g) FROM generate_series(1, 4) g"
SLEEP = "SELECT pg_advisory_lock(SCHEMA.outbox_lock_class(), 100 + s) FROM generate_series(0, 3) s"


def one(number: int) -> dict[str, Any]:
    return {"payload": observation(number), "dedupe_key": f"d{number}"}


class Own:
    """A role of the test's own, which can be set to read only, as a cloud does when a disk fills.

    Only sessions that begin then are, and they stay so.
    """

    def __init__(self, settings: Settings, purpose: str) -> None:
        self._owner = settings
        self.role = f"{purpose}_{settings.namespace}"

        async def made() -> str:
            owner = await asyncpg.connect(settings.postgres())
            try:
                return await as_role(settings, owner, purpose)
            finally:
                await owner.close()

        dsn = SecretStr(asyncio.run(made()))
        self.settings = settings.model_copy(update={"postgres_dsn": dsn})

    def takes_writes(self, writes: bool) -> None:
        how = "RESET" if writes else "SET"
        value = "" if writes else " = on"
        sql(self._owner, f'ALTER ROLE "{self.role}" {how} default_transaction_read_only{value}')


@pytest.fixture
def role(database: Settings) -> Own:
    return Own(database, "api")


def test_the_api_writes_again_after_a_database_was_read_only(
    api: Api, database: Settings, role: Own
) -> None:
    role.takes_writes(False)
    client = api(role.settings)
    for number in range(3):
        assert client.post(PATH, json=one(number), headers=acme()).status_code == 503
    assert client.get("/readyz").json()["dependencies"] == {"postgres": "down"}
    role.takes_writes(True)
    eventually(lambda: client.post(PATH, json=one(3), headers=acme()).status_code == 202, 20.0)
    eventually(lambda: client.get("/readyz").json()["status"] == "ready", 20.0)
    assert [event["dedupe_key"] for event in events_of(database)] == ["d3"]


def test_the_journal_is_drained_after_a_database_was_read_only(
    api: Api, database: Settings, role: Own, tmp_path: Path
) -> None:
    """And before: a session that began well goes on while a new one can't write."""
    role.takes_writes(False)
    journal = role.settings.journal.model_copy(update={"folder": tmp_path / "journal"})
    own = role.settings.model_copy(update={"journal": journal})
    client = api(own, journal="on")
    for number in range(3):
        answer = client.post(PATH, json=one(number), headers=acme())
        assert answer.status_code == 202 and answer.json()["journaled"]
    role.takes_writes(True)
    eventually(lambda: client.get("/readyz").json()["status"] == "ready", 20.0)
    eventually(lambda: len(events_of(database)) == 3, 20.0, "the journal is drained")

    def straight(number: int) -> bool:
        answer = client.post(PATH, json=one(number), headers=acme())
        assert answer.status_code == 202
        return not answer.json()["journaled"]

    numbers = iter(range(3, 1000))
    eventually(lambda: straight(next(numbers)), 20.0, "events go straight to the outbox")
    answers = [straight(next(numbers)) for _ in range(20)]
    assert all(answers), "and all do, over whichever connection"


def test_relay_and_projections_write_again_too(database: Settings, make: Make, api: Api) -> None:
    role = Own(database, "worker")
    role.takes_writes(False)
    connections = RelayConnections(
        role.settings.postgres(), schema_of(database.namespace), 1, Statements()
    )

    async def reserve() -> dict[str, int]:
        async with connections.one() as connection:
            return await connection.reserve({"a": 1}, 1000)

    with asyncio.Runner() as runner:
        for _ in range(2):
            with pytest.raises(StoreDown, match="25006"):
                runner.run(reserve())
        role.takes_writes(True)
        assert runner.run(reserve()) == {"a": 1}
        runner.run(connections.close())
    store = make()
    store._dsn = role.settings.postgres()
    role.takes_writes(False)
    for _ in range(2):
        with pytest.raises(StoreDown, match="25006"):
            store.positions([0], "aa")
    role.takes_writes(True)
    assert store.positions([0], "aa")[0].next_offset == 0


def test_doctor_tells_whether_writes_are_taken(topics: Settings, role: Own, tmp_path: Path) -> None:
    def findings(settings: Settings, api: ApiProcess) -> dict[str, tuple[bool, str]]:
        env = environment(settings, SOMA_API__PORT=str(api.port))
        told = soma("doctor", "--json", env=env)
        return {each["what"]: (each["well"], each["detail"]) for each in json.loads(told.stdout)}

    role.takes_writes(False)
    journal = {"SOMA_JOURNAL__FOLDER": str(tmp_path / "journal")}
    api = ApiProcess(role.settings, tmp_path / "api.log", journal).await_alive()
    try:
        found = findings(role.settings, api)
        assert found["postgres"][0] is False and "set by: user" in found["postgres"][1]
        assert found["api"][0] is False and "degraded, without postgres" in found["api"][1]
        role.takes_writes(True)
        eventually(lambda: findings(role.settings, api)["api"][0], 30.0, "doctor finds it well")
        assert findings(role.settings, api)["postgres"][0]
    finally:
        api.kill()


@pytest.fixture
def full(postgres: OwnPostgres) -> Iterator[Settings]:
    """A server whose NOTIFY queue is full, and writers who think that the relays sleep."""
    settings = postgres.settings
    sql(settings, "ALTER SYSTEM SET max_notify_queue_pages = 64")
    postgres.stop()
    postgres.start()
    with asyncio.Runner() as runner:

        async def fill() -> list[Any]:
            made = [await asyncpg.connect(settings.postgres()) for _ in range(3)]
            listener, writer, relay = made
            await listener.execute("LISTEN elsewhere")
            await listener.execute("BEGIN")
            await listener.execute("SELECT 1")
            with pytest.raises(asyncpg.ProgramLimitExceededError):
                while True:
                    await writer.execute(FILL)
            await relay.fetch(SLEEP.replace("SCHEMA", quoted(schema_of(settings.namespace))))
            return made

        sessions = runner.run(fill())
        yield settings
        for session in sessions:
            session.terminate()


def test_a_full_notify_queue_refuses_no_event(full: Settings, api: Api, stack: Endpoints) -> None:
    client = api(full)
    for number in range(3):
        assert client.post(PATH, json=one(number), headers=acme()).status_code == 202
    assert len(events_of(full)) == 3
    here = full.model_copy(update={"kafka_bootstrap": stack.kafka_bootstrap})
    told = soma("doctor", "--json", env=environment(here))
    (found,) = (each for each in json.loads(told.stdout) if each["what"] == "postgres")
    assert not found["well"] and "NOTIFY queue is 100% full" in found["detail"]
    ids = [event["id"] for event in events_of(full)]
    sql(full, "UPDATE SCHEMA.outbox_queue SET status = 'failed'")
    again = client.post("/admin/outbox/replay", json={"event_ids": ids}, headers=admin())
    assert again.status_code == 200 and again.json()["replayed"] == ids
    # Had the queue filled up only just now, the commit would fail: an outage, no verdict.
    sql(full, "CREATE OR REPLACE FUNCTION SCHEMA.outbox_wake(shard integer) RETURNS void"
        " LANGUAGE sql AS $$ SELECT pg_notify('elsewhere', 'x') $$")  # fmt: skip
    refused = client.post(PATH, json=one(3), headers=acme())
    assert refused.status_code == 503 and refused.headers["retry-after"]
    assert len(events_of(full)) == 3


def test_a_relay_that_cant_be_woken_looks_by_itself(full: Settings, topics: Settings) -> None:
    settings = made(topics.model_copy(update={"postgres_dsn": full.postgres_dsn}))
    sql(full, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    asleep = "SELECT count(*) FROM pg_locks WHERE objid BETWEEN 100 AND 103 AND granted"
    with Running(settings) as relay:
        eventually(lambda: sql(settings, asleep)[0][0] == 4, 60.0, "all shards sleep")
        asked(settings, lambda connection: add(connection, "acme", 1))
        eventually(lambda: relay.count("sent") == 1, 20.0, "the event is sent")


def test_a_defect_in_a_statement_is_no_outage(
    api: Api, database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """A scalar subquery that gives two rows, say."""
    client = api()
    assert client.post(PATH, json=one(0), headers=acme()).status_code == 202
    sql(database, "CREATE OR REPLACE FUNCTION SCHEMA.outbox_good(topic text, tenant text,"
        " payload jsonb, value bytea, dedupe_key text, scope text, headers jsonb) RETURNS boolean"
        " LANGUAGE sql AS $$ SELECT (SELECT true FROM generate_series(1, 2)) $$")  # fmt: skip
    answer = client.post(PATH, json=one(1), headers=acme())
    assert answer.status_code == 500 and answer.json()["request_id"]
    (line,) = [each for each in caplog.records if "21000" in each.getMessage()]
    assert vars(line)["request_id"] == answer.json()["request_id"]
    assert client.get("/admin/outbox/summary", headers=admin()).json()["pending"] == 1


def test_a_row_isnt_blamed_for_a_full_notify_queue(full: Settings, make: Make) -> None:
    """Somebody's trigger notifies of frames: the projection waits, and refuses none."""
    sql(full, "CREATE FUNCTION SCHEMA.told() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_notify('elsewhere', 'frame'); RETURN NULL; END $$")  # fmt: skip
    sql(full, "CREATE TRIGGER told AFTER INSERT ON SCHEMA.frames FOR EACH ROW"
        " EXECUTE FUNCTION SCHEMA.told()")  # fmt: skip
    store = make()
    store._dsn, store._schema = full.postgres(), schema_of(full.namespace)
    at = store.positions([0], "aa")[0]
    for _ in range(2):
        with pytest.raises(StoreDown, match="54000"):
            store.write([row("a", 1), row("b", 2)], {0: Move(at, "aa", 3)})
