"""The servers that a benchmark starts for itself."""

import asyncio
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from agents.settings import Settings
from ops.bench.site import on_postgres


def test_a_benchmark_s_own_database_forces_commits_to_disk(tmp_path: Path) -> None:
    async def said(dsn: str) -> object:
        connection = await asyncpg.connect(dsn, timeout=20)
        try:
            return await connection.fetchval("SHOW fsync")
        finally:
            await connection.close()

    nobody = Settings(home=tmp_path, postgres_dsn=SecretStr(""))
    with on_postgres(nobody, lambda _: None) as settings:
        dsn = settings.postgres_dsn.get_secret_value()
        assert asyncio.run(said(dsn)) == "on"
