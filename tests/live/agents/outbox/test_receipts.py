"""Receipts are read to the log's end, and what keeps a relay from there is named."""

import re

import pytest
from confluent_kafka import Producer

from agents.outbox import RECEIPTS, receipts
from agents.outbox.receipts import Receipts, ReceiptsLost
from agents.outbox.service import RelayService
from agents.settings import Settings
from tests.live.agents.outbox.outbox import made
from tests.live.helpers import eventually, topics_of

MADE = (*topics_of("relay"), "cog.observations")


def test_a_transaction_that_is_open_among_them_is_named_by_the_relay_too(
    topics: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "SILENCE_S", 3.0)
    one, service = Receipts(topics, topics.topics_partitions), RelayService(made(topics))
    properties = {"transactional_id": topics.prefix("foreign"), "transaction_timeout_ms": 600_000}
    foreign = Producer(topics.librdkafka(**properties))
    foreign.init_transactions(30)
    foreign.begin_transaction()
    foreign.produce(topics.topic(RECEIPTS), b"x", key=b"other", partition=one.partition(0))
    assert foreign.flush(30) == 0
    said = rf"open in {topics.topic(RECEIPTS)}/{one.partition(0)} from offset 0 on.*--hanging"
    with pytest.raises(ReceiptsLost, match=said):
        one.read()
    service.start()
    try:
        named = re.compile(rf"shard \d+: a transaction is {said}")
        eventually(lambda: named.search(service.waits()), 60.0, "/ready's troubles name it")
        foreign.abort_transaction(30)
        eventually(lambda: not service.waits(), 60.0, "the shards are taken")
    finally:
        service.stop(10.0)
    assert service.error is None
    assert one.read() == {}
