"""Connections to PostgreSQL: what they are limited to, and errors that never show the DSN.

Where a connection goes, and how, the DSN alone says: asyncpg would fill what it lacks from PGHOST,
PGSSLMODE, PGTARGETSESSIONATTRS, PGSERVICE, PGPASSFILE and a dozen more, which are set for others.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import asyncpg
from asyncpg import connect_utils

from stores.errors import NotMigrated, StatementError, StoreDown
from stores.sqlstates import Meaning, meaning

CONNECT_S = 5.0
STATEMENT_S = 30.0  # of the server; the client waits a little longer
LOCK_S = 5.0
IDLE_S = 60.0  # of a transaction that its client has left open
ANSWER_S = STATEMENT_S + 5.0

Connection = Any  # asyncpg carries no types


class _Bare:
    """The module `os` without an environment, for the only module of asyncpg that asks for it.

    (Private: tests/contract/test_environment.py. Not all of it can be told by arguments instead.)
    """

    environ: Mapping[str, str] = MappingProxyType({})

    def getenv(self, _: str, default: Any = None) -> Any:
        return default

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


connect_utils.os = _Bare()


async def connect(dsn: str, name: str, statement_s: float = STATEMENT_S) -> Connection:
    """A connection that its server names `name` (in pg_stat_activity), with limits on its time.

    `StoreDown` if there is none.
    """
    limits = {
        "application_name": name,
        "statement_timeout": str(int(statement_s * 1000)),
        "lock_timeout": str(int(LOCK_S * 1000)),
        "idle_in_transaction_session_timeout": str(int(IDLE_S * 1000)),
        "timezone": "UTC",
    }
    try:
        return await asyncpg.connect(
            dsn, timeout=CONNECT_S, command_timeout=statement_s + 5.0, server_settings=limits
        )
    except Exception as error:
        # From None: what is wrong in a DSN, asyncpg and urllib say by quoting from it.
        raise StoreDown(said(error)) from None


def check(dsn: str) -> None:
    """ValueError if the DSN can't be read, of which it shows nothing."""
    loop = asyncio.new_event_loop()  # not `asyncio.run`: the thread's own loop stays what it is
    try:
        loop.run_until_complete(readable(dsn))
    except StoreDown as error:
        raise ValueError(f"PostgreSQL: {error}") from None
    finally:
        loop.close()


async def readable(dsn: str) -> None:
    """`StoreDown` if the DSN can't be read. PostgreSQL isn't waited for: it may be away."""
    try:
        async with asyncio.timeout(0):  # asyncpg reads it before it waits for anything
            await (await asyncpg.connect(dsn)).close()
    except (TimeoutError, OSError, asyncpg.PostgresError):
        return
    except Exception as error:
        raise StoreDown(said(error)) from None  # as in `connect`


@asynccontextmanager
async def connected(
    dsn: str, name: str, statement_s: float = STATEMENT_S
) -> AsyncIterator[Connection]:
    """A connection for as long as the block takes; its errors are `StoreDown`."""
    connection = await connect(dsn, name, statement_s)
    try:
        yield connection
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise down(error) from error
    finally:
        try:
            await connection.close(timeout=CONNECT_S)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            connection.terminate()


def down(error: BaseException) -> StoreDown:
    """What a failure of the store means for those who wait until it answers again."""
    match meaning(error):
        case Meaning.LACKING:
            return NotMigrated(said(error))
        case Meaning.DEFECT:
            return StatementError(f"it refuses a statement of ours: {said(error)}")
    return StoreDown(said(error))


def said(error: BaseException) -> str:
    """What an error says for people, without anything of the DSN."""
    if isinstance(error, asyncpg.PostgresError):
        return f"{error} ({error.sqlstate})"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'no agreement'}"
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, asyncpg.InternalClientError):
        return "the connection broke"
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return str(error)
    return "its DSN (SOMA_POSTGRES_DSN) can't be read: give postgresql://user:password@host:port/db"
