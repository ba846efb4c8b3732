"""The last frame of each tenant in Redis: `cog:global_frame:{tenant}` -> the frame as JSON.

The value carries its `place` (topic id, partition, offset, log time in ms), and a Lua script
refuses whatever isn't newer (frame_cache.lua). A frame lives until TTL_MS after its own log append
time, so one that is written late, after an outage, isn't shown as fresh: a reader sees at most the
last two minutes of a tenant, and no key means that no frame is that young. This asks of the store's
clock and the broker's that they differ by far less than TTL_MS.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, get_args

import redis

from stores.errors import StoreDown

TTL_MS = 120_000
PIPELINE_MAX = 500  # commands sent before their answers are read
TIMEOUT_S = 2.0  # of connecting and of each answer

Result = Literal["written", "older", "expired"]
RESULTS: tuple[Result, ...] = get_args(Result)


@dataclass(frozen=True, slots=True)
class FramePosition:
    """Where a frame stands in the log."""

    topic_id: str
    partition: int
    offset: int
    log_ms: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame in its JSON form, and its place."""

    tenant: str
    body: Mapping[str, Any]
    place: FramePosition

    def text(self) -> str:
        """The value that is stored."""
        place = {
            "topic_id": self.place.topic_id,
            "partition": self.place.partition,
            "offset": self.place.offset,
            "log_ms": self.place.log_ms,
        }
        return json.dumps({**self.body, "place": place}, separators=(",", ":"), allow_nan=False)


class FrameCache:
    """Writes and reads frames. Thread-safe, as the client beneath it is."""

    def __init__(self, url: str, key: Callable[[str], str] = str) -> None:
        """`key` puts the namespace in front of a key (`Settings.redis_key`). ValueError: the URL
        can't be read.
        """
        try:
            self._redis = redis.Redis.from_url(
                url,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                decode_responses=True,
                retry=None,  # the caller waits and tries again, and says so
            )
        except ValueError:
            # From None: what is wrong in a URL, redis and urllib say by quoting from it.
            raise ValueError(
                "Redis: its URL (SOMA_REDIS_URL) can't be read: give redis://host:port/0"
            ) from None
        self._key = key
        lua = resources.files("stores") / "frame_cache.lua"
        self._put = self._redis.register_script(lua.read_text(encoding="utf-8"))

    def key(self, tenant: str) -> str:
        """The key of a tenant's frame."""
        return self._key(f"cog:global_frame:{tenant}")

    def put(self, frames: Sequence[Frame]) -> list[Result]:
        """Write frames, pipelined; one result each. After StoreDown: repeat all."""
        results: list[Result] = []
        for first in range(0, len(frames), PIPELINE_MAX):
            results += self._put_some(frames[first : first + PIPELINE_MAX])
        return results

    def ping(self) -> None:
        """`StoreDown` if the store doesn't answer."""
        try:
            self._redis.ping()
        except redis.RedisError as error:
            raise self._down(error) from error

    def version(self) -> str:
        """The server's. `StoreDown`."""
        try:
            return str(self._redis.info("server")["redis_version"])
        except redis.RedisError as error:
            raise self._down(error) from error

    def get(self, tenant: str) -> dict[str, Any] | None:
        """A tenant's last frame, if it is younger than TTL_MS."""
        try:
            text = self._redis.get(self.key(tenant))
        except redis.RedisError as error:
            raise StoreDown(str(error)) from error
        return None if text is None else json.loads(str(text))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _put_some(self, frames: Sequence[Frame]) -> list[Result]:
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for frame in frames:
                    place = frame.place
                    self._put(
                        keys=[self.key(frame.tenant)],
                        args=[
                            frame.text(),
                            place.topic_id,
                            place.offset,
                            place.log_ms,
                            place.log_ms + TTL_MS,
                        ],
                        client=pipe,
                    )
                answers = pipe.execute()
        except redis.RedisError as error:
            raise self._down(error) from error
        return [_result(answer) for answer in answers]

    def _down(self, error: redis.RedisError) -> StoreDown:
        if isinstance(error, redis.ReadOnlyError):
            # A primary that became a replica: behind its name there may be another by now.
            self._redis.connection_pool.disconnect()
        return StoreDown(f"{type(error).__name__}: {error}")


def _result(answer: object) -> Result:
    for known in RESULTS:
        if answer == known:
            return known
    raise RuntimeError(f"frame_cache.lua answered {answer!r}")
