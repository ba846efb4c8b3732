"""ρ on a real PostgreSQL and Valkey: one winner a version, nothing torn, Redis away and behind."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from click.testing import CliRunner
from numpy.typing import NDArray
from pydantic import SecretStr

from agents.cli import main
from agents.rho.envelope import pack
from agents.rho.law import IdempotencyMismatch, VersionConflict
from agents.rho.matrices import (
    Behind,
    Committed,
    Held,
    Matrices,
    Prepared,
    Proposal,
    Refused,
    opened,
    prepare,
)
from agents.settings import Settings
from ops.stack import Stack
from tests.live.agents.projections.compare import migrated, sql
from tests.live.helpers import environment

TENANT = "acme"
WRITERS, VERSIONS, D = 20, 6, 48
ENOUGH_S = 60.0


@pytest.fixture
def own(settings: Settings, new_home: Callable[[], Path]) -> Iterator[tuple[Settings, Stack]]:
    """The settings of this test, with a Valkey of its own; the schema migrated."""
    valkey = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    try:
        url = SecretStr(valkey.up().redis_url)
        yield migrated(settings.model_copy(update={"redis_url": url})), valkey
    finally:
        valkey.down()


def density(n: int, d: int = D) -> NDArray[np.float64]:
    """The n-th of many: every number of it says which it is."""
    v = np.cos(np.arange(d) * 0.1 + n)
    found: NDArray[np.float64] = np.outer(v, v) / (v @ v)
    return found


def prepared(*proposals: tuple[str, int, int], crc: str | None = None) -> Prepared:
    """Of (key, expected version, which matrix); `crc`: of what each is to replace."""
    given = [Proposal(key, expected, density(n), crc) for key, expected, n in proposals]
    found = prepare(TENANT, given, 1024)
    assert isinstance(found, Prepared)
    return found


def run(settings: Settings, test: Callable[[Matrices], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(ENOUGH_S), opened(settings, "test") as matrices:
            await test(matrices)

    asyncio.run(whole())


def versions_of(done: Committed | Refused) -> dict[str, int]:
    assert isinstance(done, Committed), done
    return done.ok.versions


def told(settings: Settings) -> list[tuple[str, int]]:
    """What rho.status was told, in order."""
    rows = sql(settings, "SELECT topic, key, payload FROM SCHEMA.outbox_events ORDER BY id")
    assert {row["topic"] for row in rows} <= {"rho.status"}
    return [(row["key"], json.loads(row["payload"])["version"]) for row in rows]


def test_of_twenty_writers_one_wins_each_version_and_no_read_is_torn(
    own: tuple[Settings, Stack],
) -> None:
    settings, _ = own
    won: dict[int, list[int]] = {}
    read: list[Held] = []

    async def test(matrices: Matrices) -> None:
        over = asyncio.Event()

        async def write(writer: int, expected: int) -> None:
            number = expected * WRITERS + writer
            done = await matrices.commit(TENANT, prepared(("k", expected, number)), None)
            if isinstance(done, Committed):
                won.setdefault(done.ok.versions["k"], []).append(number)
                assert done.cached
                held = await matrices.read(TENANT, "k")
                assert isinstance(held, Held) and held.envelope.version >= expected + 1
            else:
                assert done == VersionConflict("k", expected + 1)

        async def reading(least: int) -> None:
            """From Redis (0), and from PostgreSQL too where Redis is behind what was seen."""
            seen = 0
            while not over.is_set():
                held = await matrices.read(TENANT, "k", seen if least else 0)
                if isinstance(held, Held):
                    assert held.envelope.version >= seen
                    seen = held.envelope.version
                    read.append(held)

        readers = [asyncio.create_task(reading(n % 2)) for n in range(4)]
        for expected in range(VERSIONS):
            await asyncio.gather(*(write(n, expected) for n in range(WRITERS)))
        over.set()
        await asyncio.gather(*readers)

    run(settings, test)
    assert {version: len(ones) for version, ones in won.items()} == dict.fromkeys(
        range(1, VERSIONS + 1), 1
    )
    assert read
    for held in read:
        (number,) = won[held.envelope.version]
        assert held.envelope.matrix.tobytes() == density(number).tobytes()
    assert told(settings) == [("k", version) for version in range(1, VERSIONS + 1)]


def test_several_keys_change_together_and_a_repetition_is_answered_as_the_first(
    own: tuple[Settings, Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = own

    async def test(matrices: Matrices) -> None:
        async def commit(*given: tuple[str, int, int], key: str = "") -> Committed | Refused:
            return await matrices.commit(TENANT, prepared(*given), key or None)

        both = ("b", 0, 1), ("a", 0, 2)
        first = await commit(*both, key="one")
        assert versions_of(first) == {"a": 1, "b": 1}
        again = await commit(*reversed(both), key="one")
        assert isinstance(again, Committed) and again.ok.repeated
        assert versions_of(again) == {"a": 1, "b": 1}
        assert await commit(("b", 0, 1), ("a", 0, 3), key="one") == IdempotencyMismatch()
        assert await commit(("a", 1, 5), ("b", 7, 5)) == VersionConflict("b", 1, lost=True)
        assert await commit(("a", 1, 5), ("new", 1, 5), key="two") == VersionConflict(
            "new", 0, lost=True
        )
        held = await matrices.read(TENANT, "a", 1)
        assert isinstance(held, Held) and (held.envelope.matrix == density(2)).all()
        assert await matrices.read(TENANT, "a", 2) == Behind(1)
        assert await matrices.read("other", "a") == Behind(0)
        # Each takes both keys, in either order: they wait for one another, and one wins.
        done = await asyncio.gather(
            *(commit(("a", 1, n), ("b", 1, n)) for n in range(5)),
            *(commit(("b", 1, n), ("a", 1, n)) for n in range(5, 10)),
            *(commit(("a", 1, 5), ("c", 0, 5), key="two") for _ in range(3)),
        )
        won = [one for one in done if isinstance(one, Committed) and not one.ok.repeated]
        assert len(won) == 1, done

    run(settings, test)
    # Beside it the command line, on the same stores.
    for name, text in environment(settings).items():
        monkeypatch.setenv(name, text)
    np.save(tmp_path / "m.npy", density(9))
    cli, at = CliRunner(), f"cli={tmp_path}/m.npy"
    shown = cli.invoke(main, ["rho", "commit", f"{at}@0", "--tenant", TENANT, "--json"])
    assert json.loads(shown.stdout)["versions"] == {"cli": 1}, shown.output
    refused = cli.invoke(main, ["rho", "commit", f"{at}@0", "--tenant", TENANT])
    assert refused.exit_code == 1 and "VERSION_CONFLICT: key cli, current 1" in refused.output
    words = ["rho", "get", "cli", "--tenant", TENANT, "--out", f"{tmp_path}/back.rho"]
    assert cli.invoke(main, words).exit_code == 0
    assert (tmp_path / "back.rho").read_bytes() == pack(density(9), 1)


def test_without_redis_reads_go_on_and_one_that_is_behind_is_never_below_min_version(
    own: tuple[Settings, Stack],
) -> None:
    settings, valkey = own

    async def test(matrices: Matrices) -> None:
        first = await matrices.commit(TENANT, prepared(("k", 0, 1)), None)
        assert isinstance(first, Committed) and first.cached and not matrices.degraded
        held = await matrices.read(TENANT, "k")
        assert isinstance(held, Held) and held.source == "redis"
        valkey.kill("valkey")
        second = await matrices.commit(TENANT, prepared(("k", 1, 2)), None)
        assert isinstance(second, Committed) and not second.cached and matrices.degraded
        held = await matrices.read(TENANT, "k")
        assert isinstance(held, Held) and (held.source, held.envelope.version) == ("postgres", 2)
        await asyncio.to_thread(valkey.start, "valkey")

    run(settings, test)
    key = f"{settings.namespace}:rho:{{{TENANT}}}:k"
    with redis.Redis.from_url(settings.redis()) as client:
        client.set(key, pack(density(1), 1))  # as one that missed the second commit has it

        async def behind(matrices: Matrices) -> None:
            held = await matrices.read(TENANT, "k")
            assert isinstance(held, Held) and held.envelope.version == 1
            held = await matrices.read(TENANT, "k", 2)
            assert isinstance(held, Held) and held.envelope.version == 2
            held = await matrices.read(TENANT, "k")  # it was brought up
            assert isinstance(held, Held)
            assert (held.source, held.envelope.version) == ("redis", 2)
            client.set(key, client.get(key)[:-1] + b"x")  # type: ignore[index, operator]
            held = await matrices.read(TENANT, "k")
            assert isinstance(held, Held) and held.source == "postgres" and matrices.psd_ok
            assert (held.envelope.matrix == density(2)).all()

        run(settings, behind)
        left = client.pttl(key)
        assert isinstance(left, int) and 0 < left <= settings.rho.cache_s * 1000
