"""A worker of projections, killed and started again while the stores come and go."""

from collections.abc import Callable
from pathlib import Path

from pydantic import SecretStr

from agents.settings import Settings
from ops.stack import Stack
from stores.frame_cache import FrameCache
from tests.live.agents.projections.compare import last, migrated, records, rows, same
from tests.live.agents.projections.test_postgres import TENANTS, TOPIC, all_there, frames
from tests.live.conftest import WorkerFactory
from tests.live.helpers import eventually, produce


def test_rows_are_the_topic_after_kills_and_outages(
    topics: Settings, worker: WorkerFactory, new_home: Callable[[], Path]
) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka",))
    ends = own.up()
    urls = {"postgres_dsn": SecretStr(ends.postgres_dsn), "redis_url": SecretStr(ends.redis_url)}
    settings = topics.model_copy(update=urls)
    env = {"SOMA_AGENTS": "projections", "SOMA_PROJECTIONS__HISTORY": "all"}
    cache = FrameCache(settings.redis(), settings.redis_key)

    def more_than(count: int) -> Callable[[], bool]:
        return lambda: len(rows(settings, "frame_history")) > count

    def shown() -> bool:
        held = {tenant: cache.get(tenant) for tenant in TENANTS}
        return all(
            (frame := held[one["tenant"]]) is not None and frame["frame_id"] == one["frame_id"]
            for one in last(records(settings, TOPIC))
        )

    try:
        one = worker(settings, **env)
        produce(settings, TOPIC, frames(range(10)))
        eventually(lambda: "run `soma migrate up`" in one.tail(400))
        migrated(settings)
        for blow in range(3):
            # Killed while it reads: at some point between a read, a write and an answer.
            produce(settings, TOPIC, frames(range(10 + 100 * blow, 110 + 100 * blow)))
            eventually(more_than(2_000 * blow))
            one.kill()
            one = worker(settings, **env)
        own.kill("postgres")
        own.stop("valkey")
        produce(settings, TOPIC, frames(range(400, 450)))
        own.start("postgres")
        eventually(all_there(settings), 60)
        own.start("valkey")
        eventually(shown, 60)
        every = [record for record, _ in records(settings, TOPIC)]
        assert len(every) == 20 * 360
        assert same(rows(settings, "frame_history"), every)
        assert one.stop() == 0
    finally:
        cache.close()
        own.down()
