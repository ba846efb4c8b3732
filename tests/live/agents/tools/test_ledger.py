"""Marks: the last committed one is found, whatever else goes on in their topic."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from agents.settings import Settings
from agents.tools.ledger import Ledger
from agents.tools.marks import MARKS, LedgerError, last_mark
from tests.live.helpers import PARTITIONS, read
from topics.partition import partition_of

MADE = ("cog.observations", "soma.imports")  # topics

TOPIC = "cog.observations"


def mark(rows: int) -> Mapping[str, Any]:
    return {
        "source": "a.csv", "rows": rows, "published": rows, "refused": 0, "shift_us": 0,
        "last_ts": 0, "bad_bytes": 0, "place": rows, "line": rows, "head": "", "last_row": "",
        "last_row_bytes": 0, "ended": True,
    }  # fmt: skip


def keys(settings: Settings) -> list[bytes | None]:
    return [message.key() for message in read(settings, TOPIC)]


def test_what_is_committed_has_a_mark_and_what_is_not_has_none(topics: Settings) -> None:
    with closing(Ledger(topics, TOPIC, "one")) as ledger:
        assert ledger.open() is None
        ledger.send(b"a", b"1")
        ledger.commit(mark(1))
        ledger.commit(mark(2))
        ledger.send(b"b", b"2")
    with closing(Ledger(topics, TOPIC, "other")) as ledger:
        assert ledger.open() is None
    with closing(Ledger(topics, TOPIC, "one")) as ledger:
        assert ledger.open() == mark(2)
    assert keys(topics) == [b"a"]


def test_the_second_fences_the_first(topics: Settings) -> None:
    with closing(Ledger(topics, TOPIC, "one")) as first:
        first.open()
        first.send(b"a", b"1")
        with closing(Ledger(topics, TOPIC, "one")) as second:
            assert second.open() is None
            with pytest.raises(LedgerError, match="another import of the same source has begun"):
                first.commit(mark(1))
            second.send(b"b", b"2")
            second.commit(mark(1))
    assert keys(topics) == [b"b"]


def test_a_nameless_import_leaves_no_mark(topics: Settings) -> None:
    with closing(Ledger(topics, TOPIC, "pipe", kept=False)) as ledger:
        ledger.open()
        ledger.send(b"a", b"1")
        ledger.commit(mark(1))
    assert keys(topics) == [b"a"]
    assert not read(topics, MARKS)


@contextmanager
def open_transaction(settings: Settings, partition: int) -> Iterator[Producer]:
    """Another import between its mark and its commit."""
    other = Producer(settings.librdkafka(transactional_id=settings.prefix("other")))
    other.init_transactions(10.0)
    other.begin_transaction()
    other.produce(settings.topic(MARKS), key=b"other", value=b"", partition=partition)
    other.flush(10.0)
    yield other


def test_a_mark_behind_anothers_open_transaction_is_found(topics: Settings) -> None:
    """The one that readers of committed records see by themselves is an older one."""
    partition = partition_of("one", PARTITIONS)
    with closing(Ledger(topics, TOPIC, "one")) as ledger:
        ledger.open()
        ledger.commit(mark(1))
        with open_transaction(topics, partition) as other, ThreadPoolExecutor(1) as pool:
            ledger.commit(mark(2))
            found = pool.submit(last_mark, topics, partition, b"one")
            with pytest.raises(TimeoutError):
                found.result(1.0)
            other.abort_transaction(10.0)
            assert found.result(10.0) == mark(2)


def test_marks_are_read_from_a_topic_that_was_made_a_moment_ago(settings: Settings) -> None:
    """Its partitions have no leader yet, the broker says then: that is no error of the import."""
    admin = AdminClient(settings.librdkafka())
    topic, many = settings.topic(MARKS), 30
    admin.create_topics([NewTopic(topic, many, 1)])[topic].result(30)
    assert last_mark(settings, many - 1, b"any") is None
