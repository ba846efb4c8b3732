"""What the outbox's tests share: a schema of their own, and sessions in it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from agents.settings import Settings
from stores import migrations
from stores.grants import PURPOSES, grants_to
from stores.names import quoted, schema_of
from stores.postgres import connect, connected

TOPIC = "memory.events"


async def migrate(settings: Settings) -> None:
    async with connected(settings.postgres(), "test") as connection:
        await migrations.up(connection, schema_of(settings.namespace), migrations.load())


@asynccontextmanager
async def sessions(settings: Settings, count: int) -> AsyncIterator[list[Any]]:
    """Sessions whose search path is the migrated schema, as a service would have it."""
    await migrate(settings)
    made: list[Any] = []
    try:
        for _ in range(count):
            made.append(await connect(settings.postgres(), "test"))
            schema = quoted(schema_of(settings.namespace))
            await made[-1].execute(f"SET search_path TO {schema}")
        yield made
    finally:
        for one in made:
            one.terminate()


def run(settings: Settings, count: int, test: Callable[..., Awaitable[None]]) -> None:
    """Run a test with so many sessions."""

    async def whole() -> None:
        async with sessions(settings, count) as made:
            await asyncio.wait_for(test(*made), 60)

    asyncio.run(whole())


async def add(
    session: Any, dedupe: str, tenant: str = "a", payload: str = "{}", key: str | None = None,
    headers: str | None = None,
) -> int:  # fmt: skip
    added = await session.fetchval(
        "SELECT soma_outbox_add($1, $2, $3::text::jsonb, $4, $5, $6::text::jsonb)",
        TOPIC, tenant, payload, dedupe, key, headers,
    )  # fmt: skip
    assert isinstance(added, int)
    return added


async def many(
    session: Any, tenant: str, keys: list[str], payloads: list[str] | None = None,
    headers: list[str | None] | None = None,
) -> list[Any]:  # fmt: skip
    """A batch of a tenant, with these dedupe keys; what is said of each."""
    size = len(keys)
    rows: list[Any] = await session.fetch(
        "SELECT * FROM soma_outbox_add_many($1, $2, $3::text[]::jsonb[], $4, $5,"
        " $6::text[]::jsonb[]) ORDER BY n",
        [TOPIC] * size, [tenant] * size, payloads or ["{}"] * size, keys, [None] * size,
        headers or [None] * size,
    )  # fmt: skip
    return rows


async def waits(task: "asyncio.Task[Any]") -> bool:
    """Whether the task is still waiting after a while in which it could have been done."""
    done, _ = await asyncio.wait([task], timeout=0.2)
    return not done


async def refused(session: Any, tenant: str, dedupe: str) -> bool:
    try:
        await add(session, dedupe, tenant)
    except asyncpg.PostgresError as error:
        assert error.sqlstate == "SO001", error
        return True
    return False


async def as_role(settings: Settings, owner: Any, purpose: str) -> str:
    """The DSN of a new role with the grants for `purpose` (of any other name: with none)."""
    role = f"{purpose}_{settings.namespace}"
    await owner.execute(f"CREATE ROLE {quoted(role)} LOGIN PASSWORD 'x'")
    for known in PURPOSES:
        if known == purpose:
            await owner.execute(grants_to(role, schema_of(settings.namespace), known))
    at = settings.postgres().split("@", 1)[1]
    return f"postgresql://{role}:x@{at}"
