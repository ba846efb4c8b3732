"""Records and a note of how far their source was read, committed together.

The note is the offset of a consumer group that nobody joins, with a text as its metadata: the
broker commits it in the same transaction as the records (KIP-98), so what is noted is in the log,
and what isn't is not. A second ledger of the same name fences the first.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from agents.settings import Settings
from agents.tools.known import partitions_of

TIMEOUT_S = 10.0
PATIENCE_S = 45.0  # for a broker that is away in the middle of a commit
WAITING_MAX = 50_000  # records under way at once: bounds the memory
_SILENT = logging.Logger("ledger", logging.CRITICAL + 1)
NOTE_BYTES_MAX = 4_000  # the broker's default limit is 4096


class LedgerError(Exception):
    """The records at hand weren't committed; the text says why."""


class Ledger:
    """Use `open`, then `send` and `commit` in turn, and `close` at the end."""

    def __init__(self, settings: Settings, topic: str, name: str) -> None:
        """`name`: of the source. `click.ClickException` if the broker or topic isn't there."""
        self.topic = settings.topic(topic)
        self.waiting = 0  # records in the open transaction
        group = settings.prefix(f"import-{name}")
        self._producer = Producer(
            settings.librdkafka(
                transactional_id=group,
                transaction_timeout_ms=60_000,
                partitioner="murmur2_random",
                compression_type="lz4",
                linger_ms=5,
                queue_buffering_max_messages=WAITING_MAX,
                message_max_bytes=4 << 20,  # the broker's limit rules, and its error says so
                logger=_SILENT,  # a fatal error is logged at any level, and raised too
            )
        )
        partitions_of(self._producer, settings, topic)
        self._consumer = Consumer(settings.librdkafka(group_id=group, enable_auto_commit=False))
        self._begun = False
        self._broken = False

    def open(self) -> str:
        """Fence who came before; returns the last committed note, or nothing."""
        self._do("start a transaction", self._producer.init_transactions, TIMEOUT_S)
        place = TopicPartition(self.topic, 0)
        found: list[TopicPartition] = []
        self._do(
            "read how far it came",
            lambda: found.extend(self._consumer.committed([place], timeout=TIMEOUT_S)),
        )
        if found[0].error is not None:
            raise LedgerError(f"to read how far it came: {found[0].error.str()}")
        return str(found[0].metadata or "") if found[0].offset >= 0 else ""

    def send(self, key: bytes, value: bytes) -> None:
        """Hand over a record; waits while too many are under way."""
        self._begin()
        while True:
            try:
                self._producer.produce(self.topic, value=value, key=key)
                break
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                # Only the transaction's own calls say what was fatal.
                self._do("publish", self._producer.abort_transaction, TIMEOUT_S)
                raise LedgerError(f"to publish: {_said(error.args[0])}") from error
        self.waiting += 1

    def commit(self, count: int, note: str) -> None:
        """Commit what was sent together with the note; `count` is the group's offset, for tools."""
        if len(note.encode()) > NOTE_BYTES_MAX:
            raise LedgerError(f"the note would have more than {NOTE_BYTES_MAX} bytes")
        self._begin()
        place = TopicPartition(self.topic, 0, count, metadata=note)
        group = self._consumer.consumer_group_metadata()
        # Deliveries wait for a broker that is away; the next call fails if it goes just then, and
        # librdkafka (2.x) never returns from a second one after that.
        if left := self._producer.flush(PATIENCE_S):
            self._broken = True
            raise LedgerError(f"to take {left} records, and didn't answer in {PATIENCE_S:g} s")
        self._do("note how far it came", self._producer.send_offsets_to_transaction,
                 [place], group, TIMEOUT_S, again=False)  # fmt: skip
        self._do("commit", self._producer.commit_transaction, TIMEOUT_S)
        self._begun, self.waiting = False, 0

    def close(self) -> None:
        """Let the broker go; what isn't committed is aborted."""
        try:
            if self._begun and not self._broken:
                self._producer.abort_transaction(5.0)
        except KafkaException:
            self._broken = True
        if self._broken:
            self._producer.purge()  # the broker aborts it by its own time limit, or our next start
        self._consumer.close()

    def _begin(self) -> None:
        if not self._begun:
            self._do("start a transaction", self._producer.begin_transaction)
            self._begun = True

    def _do(self, what: str, call: Callable[..., Any], *given: Any, again: bool = True) -> None:
        """Ask the broker, `again` while it says that this may help."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._in_time(what, call, *given)
                return
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                passing = error.retriable() or error.code() in _PASSING
                if again and passing and time.monotonic() < deadline:
                    continue
                self._broken = True
                raise LedgerError(f"to {what}: {_said(error)}") from raised

    def _in_time(self, what: str, call: Callable[..., Any], *given: Any) -> None:
        """Call it in a thread: some calls of librdkafka outlive their own time limit for ever."""
        raised: list[BaseException] = []

        def run() -> None:
            try:
                call(*given)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run, name="Ledger", daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        if thread.is_alive():
            self._broken = True
            raise LedgerError(f"to {what}, and didn't answer in {PATIENCE_S:g} s")
        if raised:
            raise raised[0]


_PASSING = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
_SAID: Mapping[int, str] = {
    KafkaError._FENCED: "another import of the same source has begun",
    KafkaError.PRODUCER_FENCED: "another import of the same source has begun",
    KafkaError.INVALID_PRODUCER_EPOCH: "another import of the same source has begun",
}


def _said(error: KafkaError) -> str:
    return _SAID.get(error.code(), error.str())
