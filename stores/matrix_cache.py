"""Matrices in Redis: `rho:{tenant}:key` -> the envelope; never an older over a newer one.

One Lua script (matrix_cache.lua) puts all matrices of a commit, each unless a newer one is there.
The braces let a cluster keep a tenant's matrices in one slot, as a script of several keys wants it.
"""

from collections.abc import Callable, Mapping
from importlib import resources

from redis import asyncio as redis
from redis.exceptions import RedisError

from stores.errors import StoreDown

TIMEOUT_S = 0.5  # of connecting and of each answer: beyond it PostgreSQL is quicker
CONNECTIONS = 32
HEAD_BYTES = 32  # of an envelope: what tells one from another


class MatrixCache:
    """Reads and puts envelopes, in one event loop. `StoreDown` where Redis doesn't answer."""

    def __init__(self, url: str, key: Callable[[str], str] = str) -> None:
        """`key` puts the namespace in front of a key (`Settings.redis_key`). ValueError: the URL
        can't be read.
        """
        try:
            pool = redis.BlockingConnectionPool.from_url(
                url, max_connections=CONNECTIONS, timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S, retry=None,
            )  # fmt: skip
        except ValueError:
            # From None: what is wrong in a URL, redis and urllib say by quoting from it.
            raise ValueError(
                "Redis: its URL (SOMA_REDIS_URL) can't be read: give redis://host:port/0"
            ) from None
        self._redis = redis.Redis.from_pool(pool)
        self._key = key
        self._put, self._drop = (
            self._redis.register_script((resources.files("stores") / name).read_text("utf-8"))
            for name in ("matrix_cache.lua", "matrix_cache_drop.lua")
        )

    def key(self, tenant: str, key: str) -> str:
        """Where a matrix is."""
        return self._key(f"rho:{{{tenant}}}:{key}")

    async def get(self, tenant: str, key: str) -> bytes | None:
        """The envelope, if there is one."""
        try:
            found = await self._redis.get(self.key(tenant, key))
        except RedisError as error:
            raise StoreDown(f"Redis: {type(error).__name__}") from error
        return found if isinstance(found, bytes) else None

    async def put(
        self, tenant: str, envelopes: Mapping[str, bytes], ttl_s: float
    ) -> dict[str, bytes]:
        """Put them by their keys, but where a newer one is: key -> the head of that."""
        keys = [self.key(tenant, key) for key in envelopes]
        try:
            heads = await self._put(keys, [round(ttl_s * 1000), *envelopes.values()])
        except RedisError as error:
            raise StoreDown(f"Redis: {type(error).__name__}") from error
        return {key: head for key, head in zip(envelopes, heads, strict=True) if head}

    async def drop(self, tenant: str, key: str, found: bytes) -> None:
        """Remove what was found, an envelope or its head, if it is still there."""
        try:
            await self._drop([self.key(tenant, key)], [found[:HEAD_BYTES]])
        except RedisError as error:
            raise StoreDown(f"Redis: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
