"""Records and a mark of how far their source was read, committed together.

The mark is a record of the compacted topic `soma.imports` under the import's name, in the same
transaction as the records (KIP-98): what the last committed mark covers is in the log, and what it
doesn't cover is not. A second ledger of the same name fences the first.

The mark isn't the offset of a consumer group: the broker forgets those after a week, and librdkafka
never returns from `send_offsets_to_transaction` when the broker dies during it, whatever its time
limit (github.com/confluentinc/librdkafka/issues/5456).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agents.tools.known import partitions_of
from agents.tools.marks import MARKS, last_mark
from agents.tools.transacting import TRANSACTION_S, Transactions
from topics import codec
from topics.partition import partition_of

if TYPE_CHECKING:
    from agents.settings import Settings

_FENCED = f"another import of the same source has begun, or this one slept for {TRANSACTION_S:g} s"


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
        self._transactions = Transactions(settings, f"import-{name}", _FENCED)
        producer = self._transactions.producer
        partitions_of(producer, settings, topic)
        self._partition = partition_of(name, len(partitions_of(producer, settings, MARKS)))

    def open(self) -> Mapping[str, Any] | None:
        """Fence who came before; returns the last committed mark, if there is one."""
        self._transactions.fence()
        return last_mark(self._settings, self._partition, self.name.encode())

    def send(self, key: bytes, value: bytes) -> None:
        """Hand over a record; waits while too many are under way."""
        self._transactions.send(self.topic, key, value)

    def commit(self, mark: Mapping[str, Any]) -> None:
        """Commit what was sent together with the mark.

        After `LedgerError` nobody knows whether it is committed: the next `open` finds out.
        """
        if self._kept:
            value = codec.encode("import_mark", dict(mark))
            self._transactions.send(self._marks, self.name.encode(), value, self._partition)
        self._transactions.commit()

    def close(self) -> None:
        """Let the broker go; what isn't committed is aborted."""
        self._transactions.close()
