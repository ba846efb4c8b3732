"""Records that were read and not looked at yet: the `ReadBuffer` of a stream."""

from confluent_kafka import Message


class ReadAhead:
    """Filled inside the consumer's calls, emptied between them."""

    def __init__(self) -> None:
        self.upto: dict[int, int] = {}  # partition -> next offset
        self.replaced = self.control = 0
        self._all: list[Message] = []
        self._gone: set[int] = set()

    def add(self, message: Message) -> None:
        """Take in one record; of a partition they come in order."""
        self.upto[message.partition() or 0] = (message.offset() or 0) + 1
        self._all.append(message)

    def drop(self, partitions: set[int]) -> None:
        """Forget what is another owner's now, or is to be placed anew."""
        self.upto = {p: o for p, o in self.upto.items() if p not in partitions}
        self._all = [m for m in self._all if m.partition() not in partitions]
        self._gone |= partitions

    def gone(self) -> set[int]:
        """Partitions that were dropped since the last call."""
        gone, self._gone = self._gone, set()
        return gone

    def records(self) -> list[Message]:
        """What is read and not looked at."""
        return self._all

    def messages(self) -> list[Message]:
        """The same, and empties it."""
        found = self._all
        self.take()
        return found

    def take(self) -> dict[int, int]:
        """Empty it; returns the offsets up to which it held everything."""
        upto = self.upto
        self._all, self.upto = [], {}
        return upto

    def __bool__(self) -> bool:
        return bool(self.upto)
