"""Records and a mark of how far their source was read, committed together.

The mark is a record of the compacted topic `soma.imports` under the import's name, in the same
transaction as the records (KIP-98): what the last committed mark covers is in the log, and what it
doesn't cover is not. A second ledger of the same name fences the first.

The mark isn't the offset of a consumer group: the broker forgets those after a week, and librdkafka
never returns from `send_offsets_to_transaction` when the broker dies during it, whatever its time
limit (github.com/confluentinc/librdkafka/issues/5456).
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from agents.tools.known import partitions_of
from agents.tools.marks import MARKS, LedgerError, last_mark
from topics import codec
from topics.partition import partition_of

if TYPE_CHECKING:
    from agents.settings import Settings

TIMEOUT_S = 5.0  # of one call: after it, the same call goes on
PATIENCE_S = 45.0  # for a broker that is away
# As long does a transaction hold up the readers of its partitions if we are killed in it. A broker
# that starts again meanwhile costs nothing; after it, the import ends and is to be taken up again.
TRANSACTION_S = 20.0
WAITING_MAX = 50_000  # records under way at once: bounds the memory
_SILENT = logging.Logger("ledger", logging.CRITICAL + 1)

T = TypeVar("T")


class Ledger:
    """Use `open`, then `send` and `commit` in turn, and `close` at the end."""

    def __init__(self, settings: "Settings", topic: str, name: str, kept: bool = True) -> None:
        """`name`: of the import; its marks are kept unless nobody can take it up again.

        `click.ClickException` if the broker or a topic isn't there.
        """
        self.topic = settings.topic(topic)
        self.name = name
        self._settings = settings
        self._kept = kept
        self._marks = settings.topic(MARKS)
        self._producer = Producer(
            settings.librdkafka(
                transactional_id=settings.prefix(f"import-{name}"),
                transaction_timeout_ms=round(TRANSACTION_S * 1000),
                partitioner="murmur2_random",
                compression_type="lz4",
                linger_ms=5,
                queue_buffering_max_messages=WAITING_MAX,
                message_max_bytes=4 << 20,  # the broker's limit rules, and its error says so
                logger=_SILENT,  # a fatal error is logged at any level, and raised too
            )
        )
        partitions_of(self._producer, settings, topic)
        self._partition = partition_of(name, len(partitions_of(self._producer, settings, MARKS)))
        self._begun = False

    def open(self) -> Mapping[str, Any] | None:
        """Fence who came before; returns the last committed mark, if there is one."""
        self._do("start a transaction", lambda: self._producer.init_transactions(TIMEOUT_S))
        return last_mark(self._settings, self._partition, self.name.encode())

    def send(self, key: bytes, value: bytes) -> None:
        """Hand over a record; waits while too many are under way."""
        self._produce(self.topic, key, value)

    def commit(self, mark: Mapping[str, Any]) -> None:
        """Commit what was sent together with the mark.

        After `LedgerError` nobody knows whether it is committed: the next `open` finds out.
        """
        if self._kept:
            value = codec.encode("import_mark", dict(mark))
            self._produce(self._marks, self.name.encode(), value, self._partition)
        if self._begun:
            self._do("commit", lambda: self._producer.commit_transaction(TIMEOUT_S))
            self._begun = False

    def close(self) -> None:
        """Let the broker go; what isn't committed is aborted."""
        # The broker may be away, or have fenced us: then it aborts it itself, or our next start.
        with suppress(KafkaException):
            if self._begun:
                self._producer.abort_transaction(TIMEOUT_S)
        self._producer.purge()

    def _produce(self, topic: str, key: bytes, value: bytes, partition: int = -1) -> None:
        if not self._begun:
            self._begun = True
            self._do("start a transaction", self._producer.begin_transaction)
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, partition=partition)
                return
            except BufferError:
                # Ends at the latest when the records under way reach their time limit.
                self._producer.poll(0.1)
            except KafkaException as error:
                # Only the transaction's own calls say what was fatal.
                self._do("publish", lambda: self._producer.abort_transaction(TIMEOUT_S))
                self._begun = False
                raise LedgerError(f"to publish: {_said(error.args[0])}") from error

    def _do(self, what: str, call: Callable[[], T]) -> T:
        """Ask the broker, again and again while it says that this may help."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                final = error.fatal() or error.txn_requires_abort()
                passing = not final and (error.retriable() or error.code() in _PASSING)
                if not passing:
                    raise LedgerError(f"to {what}: {_said(error)}") from raised
                if time.monotonic() >= deadline:
                    raise LedgerError(
                        f"to {what}, and didn't answer in {PATIENCE_S:g} s"
                    ) from raised


_PASSING = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
_FENCED = f"another import of the same source has begun, or this one slept for {TRANSACTION_S:g} s"
_SAID: Mapping[int, str] = {
    KafkaError._FENCED: _FENCED,
    KafkaError.PRODUCER_FENCED: _FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH: _FENCED,
}


def _said(error: KafkaError) -> str:
    return _SAID.get(error.code(), error.str())
