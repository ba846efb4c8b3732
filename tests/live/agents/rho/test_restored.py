"""ρ after a restored PostgreSQL: what Redis still has of what is lost is built on by nobody."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from agents.rho.law import VersionConflict
from agents.rho.matrices import Behind, Committed, Held, Matrices, Refused
from agents.settings import Settings
from ops.stack import Stack
from tests.live.agents.outbox.restored import Database
from tests.live.agents.rho.test_rho import TENANT, density, prepared, run, versions_of


@pytest.fixture
def database(settings: Settings, new_home: Callable[[], Path]) -> Iterator[Database]:
    """A database that can go back, beside a Valkey of this test's own, which doesn't."""
    valkey = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    found: Database | None = None
    try:
        url = SecretStr(valkey.up().redis_url)
        found = Database(settings.model_copy(update={"redis_url": url}))
        yield found
    finally:
        if found is not None:
            found.drop()
        valkey.down()


def done_by(database: Database, *commits: tuple[int, int]) -> None:
    """Commit these of the key k: (expected version, which matrix)."""

    async def commit(matrices: Matrices) -> None:
        for expected, n in commits:
            done = await matrices.commit(TENANT, prepared(("k", expected, n)), None)
            assert isinstance(done, Committed) and done.cached

    run(database.settings, commit)


def lost(database: Database, *commits: tuple[int, int]) -> None:
    """Commit the first, keep a backup, commit the others, and go back to the backup."""
    done_by(database, commits[0])
    database.back_up()
    done_by(database, *commits[1:])
    database.restore()


def then(database: Database, test: Callable[[Matrices], Awaitable[None]]) -> None:
    run(database.settings, test)


async def commit(
    matrices: Matrices, expected: int, n: int, crc: str | None = None
) -> Committed | Refused:
    return await matrices.commit(TENANT, prepared(("k", expected, n), crc=crc), None)


async def read(matrices: Matrices, least: int = 0) -> Held:
    held = await matrices.read(TENANT, "k", least)
    assert isinstance(held, Held)
    return held


def is_of(held: Held, n: int) -> bool:
    return held.envelope.matrix.tobytes() == density(n).tobytes()


def test_a_version_that_is_given_again_replaces_the_lost_one_in_redis(database: Database) -> None:
    lost(database, (0, 1), (1, 2))

    async def test(matrices: Matrices) -> None:
        old = await read(matrices)
        assert is_of(old, 2) and old.envelope.version == 2  # as it may, for `ttl_s`
        done = await commit(matrices, 1, 77)
        assert versions_of(done) == {"k": 2} and isinstance(done, Committed) and done.cached
        held = await read(matrices, 2)
        assert (held.source, held.envelope.version) == ("redis", 2) and is_of(held, 77)
        assert done.ok.crcs == {"k": held.crc}
        # Who was given the lost one is told so; who has the new one goes on.
        assert await commit(matrices, 2, 3, old.crc) == VersionConflict("k", 2, lost=True)
        assert versions_of(await commit(matrices, 2, 3, held.crc)) == {"k": 3}

    then(database, test)


def test_later_ones_that_are_lost_go_with_the_next_commit(database: Database) -> None:
    lost(database, (0, 1), (1, 2), (2, 3), (3, 4))

    async def test(matrices: Matrices) -> None:
        assert (await read(matrices)).envelope.version == 4
        done = await commit(matrices, 1, 77)
        assert isinstance(done, Committed) and done.cached
        held = await read(matrices)
        assert (held.source, held.envelope.version) == ("redis", 2) and is_of(held, 77)

    then(database, test)


def test_who_expects_or_wants_what_is_lost_is_told_and_redis_forgets_it(
    database: Database,
) -> None:
    lost(database, (0, 1), (1, 2), (2, 3))

    async def expects(matrices: Matrices) -> None:
        held = await read(matrices)
        found = await commit(matrices, held.envelope.version, 5)
        assert found == VersionConflict("k", 1, lost=True) and "went back in time" in found.told
        held = await read(matrices)
        assert (held.source, held.envelope.version) == ("postgres", 1) and is_of(held, 1)

    then(database, expects)
    done_by(database, (1, 2), (2, 3))
    database.restore()

    async def wants(matrices: Matrices) -> None:
        assert (await read(matrices, 3)).envelope.version == 3
        assert await matrices.read(TENANT, "k", 4) == Behind(1)
        assert is_of(await read(matrices), 1)

    then(database, wants)


def test_a_newer_one_that_another_has_committed_meanwhile_stays(database: Database) -> None:
    """PostgreSQL knows it: it isn't lost, and nobody is told that it is."""

    async def test(matrices: Matrices) -> None:
        await commit(matrices, 0, 1)
        first = await read(matrices)
        await commit(matrices, 1, 2)
        assert await matrices._put(TENANT, {"k": first.data})  # as a commit that was late
        held = await read(matrices)
        assert held.source == "redis" and is_of(held, 2)
        done = await asyncio.gather(*(commit(matrices, 2, n) for n in range(3, 8)))
        assert (
            sorted(one.name for one in done if isinstance(one, VersionConflict))
            == [VersionConflict.name] * 4
        )
        assert not any(one.lost for one in done if isinstance(one, VersionConflict))

    then(database, test)
