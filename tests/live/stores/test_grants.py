"""What roles with long names are granted, beside what older versions granted them."""

import asyncio

from agents.settings import Settings
from stores.grants import grants_to, policy_of
from stores.names import quoted, schema_of
from stores.postgres import connected
from tests.live.agents.projections.compare import migrated, sql

ROW = (
    "INSERT INTO SCHEMA.memories (id, tenant, namespace, part, version, content_version, "
    "memory_type, created_ts, updated_ts, accessed_ts, access_count, links, coordinate, "
    "model_revision, topic_id, kafka_partition, kafka_offset, log_time) VALUES "
    "('a', $1, '', 'head', 1, 1, 'episodic', now(), now(), now(), 0, '{}', '', '', 'aa', 0, 0, "
    "now())"
)
NAMES = "SELECT policyname FROM pg_policies WHERE schemaname = $1"


def granted(settings: Settings, role: str, tenant: str) -> None:
    async def run() -> None:
        async with connected(settings.postgres(), "test") as connection:
            schema = schema_of(settings.namespace)
            await connection.execute(grants_to(role, schema, "reader", tenant))

    asyncio.run(run())


def seen(settings: Settings, role: str) -> set[str]:
    """Whose memories a role sees."""

    async def ask() -> set[str]:
        async with connected(settings.postgres(), "test") as connection:
            await connection.execute(f"SET ROLE {quoted(role)}")
            schema = quoted(schema_of(settings.namespace))
            rows = await connection.fetch(f"SELECT tenant FROM {schema}.memories")
            return {row["tenant"] for row in rows}

    return asyncio.run(ask())


def test_policies_of_long_names_dont_take_each_others_place(settings: Settings) -> None:
    """Two readers whose names differ behind what a policy's name has room for."""
    migrated(settings)
    roles = {f"it's_{settings.namespace}_".ljust(62, "x") + tenant: tenant for tenant in "01"}
    for role, tenant in roles.items():
        sql(settings, ROW, tenant)
        sql(settings, f"CREATE ROLE {quoted(role)}")
        # As it was: the second one's policy took the first one's place.
        old = quoted(f"reader {role}")
        sql(settings, f"DROP POLICY IF EXISTS {old} ON SCHEMA.memories")
        sql(settings, f"CREATE POLICY {old} ON SCHEMA.memories FOR SELECT TO {quoted(role)} "
                      f"USING (tenant = '{tenant}')")  # fmt: skip
    one, other = roles
    granted(settings, one, "0")
    assert len(sql(settings, NAMES, schema_of(settings.namespace))) == 2, "the other's stays"
    for role, tenant in (roles | {one: "1"}).items():
        granted(settings, role, tenant)
        granted(settings, role, tenant)
    assert (seen(settings, one), seen(settings, other)) == ({"1"}, {"1"})
    granted(settings, one, "0")
    assert (seen(settings, one), seen(settings, other)) == ({"0"}, {"1"})
    found = sql(settings, NAMES, schema_of(settings.namespace))
    assert {row["policyname"] for row in found} == {policy_of(role, "reader") for role in roles}


def test_words_of_a_payload_are_no_matter_of_parallel_plans(settings: Settings) -> None:
    """It catches an error; before PostgreSQL 17 no parallel worker can. What it calls is
    immutable, as it says itself.
    """
    migrated(settings)
    about = sql(settings, "SELECT proparallel, provolatile FROM pg_proc WHERE oid = "
                          "'SCHEMA.memory_words(jsonb)'::regprocedure")  # fmt: skip
    assert (about[0]["proparallel"], about[0]["provolatile"]) == (b"u", b"i")
    called = sql(
        settings,
        "SELECT oid::regprocedure::text AS name FROM pg_proc WHERE provolatile = 'i' AND oid IN ("
        "'jsonb_to_tsvector(regconfig, jsonb, jsonb)'::regprocedure, 'jsonb_out(jsonb)'"
        "::regprocedure, 'to_tsvector(regconfig, text)'::regprocedure, "
        "'left(text, integer)'::regprocedure, 'octet_length(text)'::regprocedure)",
    )
    assert len(called) == 5
