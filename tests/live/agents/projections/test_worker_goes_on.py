"""Redis away: the processors of the worker go on, and the projection catches up afterwards."""

from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from agents.settings import Settings
from ops.stack import Stack
from stores.frame_cache import FrameCache
from tests.live.conftest import WorkerFactory
from tests.live.helpers import eventually, produce, read
from topics import codec

TENANTS = ("a", "b", "c")


def observations(first: int, last: int) -> list[tuple[bytes, bytes]]:
    return [
        (
            tenant.encode(),
            codec.encode(
                "observation",
                codec.from_json(
                    "observation",
                    {
                        "tenant": tenant,
                        "domain": "state",
                        "ts": 1_769_860_800_000_000 + 1000 * k,
                        "vector": [float(k), 1.0],
                    },
                ),
            ),
        )
        for k in range(first, last)
        for tenant in TENANTS
    ]


def test_processors_go_on_without_redis(
    topics: Settings, worker: WorkerFactory, new_home: Callable[[], Path]
) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    settings = topics.model_copy(update={"redis_url": SecretStr(own.up().redis_url)})
    cache = FrameCache(settings.redis(), settings.redis_key)

    def shown() -> dict[str, str]:
        frames = {tenant: cache.get(tenant) for tenant in TENANTS}
        return {t: frame["frame_id"] for t, frame in frames.items() if frame is not None}

    def written() -> dict[str, str]:
        decoded = [codec.decode(m.value() or b"")[1] for m in read(topics, "cog.global.frame")]
        return {frame["tenant"]: frame["frame_id"] for frame in decoded}

    try:
        one = worker(settings)
        produce(topics, "cog.observations", observations(0, 10))
        eventually(lambda: len(shown()) == 3 and shown() == written())
        own.stop("valkey")
        produce(topics, "cog.observations", observations(10, 50))
        eventually(lambda: len(read(topics, "cog.global.frame")) == 150)
        own.start("valkey")
        eventually(lambda: shown() == written())
        assert one.stop() == 0
    finally:
        cache.close()
        own.down()
