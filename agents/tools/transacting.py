"""A transactional producer that goes on with a call while the broker is away, and says what failed.

Whoever opens the same transactional id later fences the earlier one.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer

from agents.tools.marks import FencedError, LedgerError, RefusedError
from topics.chosen_ids import insist

if TYPE_CHECKING:
    from agents.settings import Settings

TIMEOUT_S = 5.0  # of one call: after it, the same call goes on
PATIENCE_S = 45.0  # for a broker that is away
# As long does a transaction hold up the readers of its partitions if we are killed in it. A broker
# that starts again meanwhile costs nothing; after it, we end, and are to be taken up again.
TRANSACTION_S = 20.0
WAITING_MAX = 50_000  # records under way at once: bounds the memory
_SILENT = logging.Logger("transacting", logging.CRITICAL + 1)
_PASSING = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
_FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
_REFUSED = (
    KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD,
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.POLICY_VIOLATION,
)  # fmt: skip

Headers = list[tuple[str, str | bytes | None]]
T = TypeVar("T")


class Transactions:
    """Use `fence`, then `send` and `commit` in turn, and `close` at the end. `LedgerError`."""

    def __init__(
        self, settings: "Settings", name: str, fenced: str, patience_s: float = PATIENCE_S
    ) -> None:
        """`name`: the transactional id without the namespace; `fenced`: what it means to be."""
        self._settings = settings
        self._fenced = fenced
        self._patience_s = patience_s
        self.producer = Producer(
            settings.librdkafka(
                transactional_id=settings.prefix(name),
                transaction_timeout_ms=round(TRANSACTION_S * 1000),
                partitioner="murmur2_random",
                compression_type="lz4",
                linger_ms=5,
                queue_buffering_max_messages=WAITING_MAX,
                message_max_bytes=4 << 20,  # the broker's limit rules, and its error says so
                logger=_SILENT,  # a fatal error is logged at any level, and raised too
            )
        )
        self._begun = False

    def fence(self) -> None:
        """End who came before: what he hasn't committed is aborted."""
        self._do("start a transaction", lambda: self.producer.init_transactions(TIMEOUT_S))
        insist(self._settings)

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1,
        headers: Headers | None = None,
    ) -> None:  # fmt: skip
        """Hand over a record (topic as on the broker); waits while too many are under way."""
        if not self._begun:
            self._begun = True
            self._do("start a transaction", self.producer.begin_transaction)
        while True:
            try:
                self.producer.produce(
                    topic, value=value, key=key, partition=partition, headers=headers or []
                )
                return
            except BufferError:
                # Ends at the latest when the records under way reach their time limit.
                self.producer.poll(0.1)
            except KafkaException as error:
                # Only the transaction's own calls say what was fatal.
                self._do("publish", lambda: self.producer.abort_transaction(TIMEOUT_S))
                self._begun = False
                raise self._failed("publish", error.args[0]) from error

    def commit(self) -> None:
        """Commit what was sent.

        After `LedgerError` nobody knows whether it is committed: whoever comes next finds out.
        """
        if self._begun:
            self._do("commit", lambda: self.producer.commit_transaction(TIMEOUT_S))
            self._begun = False

    def close(self) -> None:
        """Let the broker go; what isn't committed is aborted."""
        # The broker may be away, or have fenced us: then it aborts it itself, or our next start.
        with suppress(KafkaException):
            if self._begun:
                self.producer.abort_transaction(TIMEOUT_S)
        self.producer.purge()

    def _do(self, what: str, call: Callable[[], T]) -> T:
        """Ask the broker, again and again while it says that this may help."""
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return call()
            except KafkaException as raised:
                error: KafkaError = raised.args[0]
                final = error.fatal() or error.txn_requires_abort()
                passing = not final and (error.retriable() or error.code() in _PASSING)
                if not passing:
                    raise self._failed(what, error) from raised
                if time.monotonic() >= deadline:
                    raise LedgerError(
                        f"to {what}, and didn't answer in {self._patience_s:g} s"
                    ) from raised

    def _failed(self, what: str, error: KafkaError) -> LedgerError:
        if error.code() in _FENCED:
            return FencedError(f"to {what}: {self._fenced}")
        if error.code() in _REFUSED:
            return RefusedError(f"to {what}: {error.str()}")
        return LedgerError(f"to {what}: {error.str()}")
