"""A writer that never pauses: plain records, committed and aborted transactions, everywhere."""

import itertools
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

from agents.settings import Settings

# Less than any fetch waits (20 ms): no client ever says that a partition is at its end.
PAUSE_S = 0.01


class Restless:
    """Writes to all partitions of some topics for as long as the block runs."""

    def __init__(
        self, settings: Settings, topics: Sequence[str], key: bytes = b"restless",
        value: Callable[[], bytes] = lambda: b"x",
    ) -> None:  # fmt: skip
        self.error: Exception | None = None
        names = [settings.topic(topic) for topic in topics]
        self._places = list(itertools.product(names, range(settings.topics_partitions)))
        self._key, self._value = key, value
        self._plain = Producer(settings.librdkafka(linger_ms=0))
        self._in_transactions = Producer(
            settings.librdkafka(linger_ms=0, transactional_id=settings.prefix("restless"))
        )
        self._in_transactions.init_transactions(30)
        self._stop, self._going = threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(writing,), daemon=True)
            for writing in (self._write_plainly, self._write_transactions)
        ]

    def _run(self, writing: Callable[[], None]) -> None:
        try:
            writing()
        except Exception as error:  # raised where the block ends
            self.error = error

    def _write_plainly(self) -> None:
        while not self._stop.wait(PAUSE_S):
            self._produce(self._plain)
        assert self._plain.flush(30) == 0

    def _write_transactions(self) -> None:
        one = self._in_transactions
        while not self._stop.wait(PAUSE_S):
            for end in (one.commit_transaction, one.abort_transaction):
                one.begin_transaction()
                self._produce(one)
                assert one.flush(30) == 0
                end(30)
            self._going.set()  # the first one's markers are written: the second went through

    def _produce(self, producer: Producer) -> None:
        for topic, number in self._places:
            producer.produce(topic, key=self._key, value=self._value(), partition=number)
        producer.poll(0)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        assert self._going.wait(30), "the writer didn't begin within 30 s"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "the writer didn't end within 60 s"
        if self.error is not None:
            raise self.error
