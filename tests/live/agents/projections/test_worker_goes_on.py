"""Stores away: the processors of the worker go on, it says so, and the projection catches up."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from agents.settings import Settings
from ops.stack import Stack
from stores.frame_cache import FrameCache
from tests.live.conftest import WorkerFactory
from tests.live.helpers import Worker, eventually, produce, read
from topics import codec

TENANTS = ("a", "b", "c")
NOBODY = "postgresql://127.0.0.1:1/nobody"


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


def troubles(worker: Worker) -> dict[str, Any]:
    """Those of a worker that is ready."""
    with urllib.request.urlopen(worker.url("/ready"), timeout=5.0) as answer:
        found: dict[str, Any] = json.load(answer).get("troubles", {})
    return found


def test_processors_go_on_without_redis(
    topics: Settings, worker: WorkerFactory, new_home: Callable[[], Path]
) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    stores = {"redis_url": SecretStr(own.up().redis_url), "postgres_dsn": SecretStr(NOBODY)}
    settings = topics.model_copy(update=stores)
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
        eventually(lambda: "frames" in troubles(one), what="a word of Redis in /ready")
        assert troubles(one)["frames"].startswith("Redis: ")
        assert troubles(one)["outbox"].startswith("PostgreSQL: ")
        own.start("valkey")
        eventually(lambda: shown() == written())
        eventually(lambda: "frames" not in troubles(one), what="Redis is back in /ready")
        assert one.stop() == 0
    finally:
        cache.close()
        own.down()
