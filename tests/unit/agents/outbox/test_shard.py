"""A shard waits for Kafka as long as the settings say, as partitions do."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from agents.outbox.metrics import RelayMetrics
from agents.outbox.relay_resources import RelayResources
from agents.outbox.shard import Shard
from agents.settings import Settings
from stores.outbox_relay import Keeper, Statements

DSN = "postgresql://nobody@127.0.0.1:1/none"


def test_its_deadlines_are_those_of_the_settings() -> None:
    settings = Settings(
        kafka_bootstrap="127.0.0.1:1", postgres_dsn=SecretStr(DSN),
        answer_timeout_s=3.0, commit_timeout_s=7.0,
    )  # fmt: skip

    async def taken() -> None:
        resources = RelayResources(
            settings, {"cog.observations": 1}, 1, RelayMetrics(CollectorRegistry())
        )
        shard = Shard(0, resources, Keeper(None, Statements(), DSN, "soma"))
        try:
            with pytest.raises(KafkaConnectionError):
                await shard._take()
            producer = shard._producer
            assert producer is not None and producer._commit_s == 7.0
            assert producer._producer.client._request_timeout_ms == 3000
        finally:
            await shard._drop()
            await resources.close()

    asyncio.run(taken())
