"""Records that wait for the store: the last of each tenant, or every one.

Control records ride on the same topics: they are stepped over before anything is kept. What is of
another schema is kept to be named, and takes no other record's place.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from confluent_kafka import Message

from topics import codec


@dataclass(slots=True)
class Waiting:
    """Records read but not stored. What a later record of the same tenant replaced is counted."""

    headers: frozenset[bytes]  # of the projection's schema
    tombstones: bool = False  # a record without a value says that its key's is gone
    last: dict[bytes, Message] = field(default_factory=dict)
    upto: dict[int, int] = field(default_factory=dict)  # partition -> next offset
    replaced: int = 0
    control: int = 0  # stepped over
    apart: list[Message] = field(default_factory=list)  # without a key, or of another schema

    def add(self, message: Message) -> None:
        """Take in one record; of a partition they come in order."""
        partition, offset, key = message.partition(), message.offset(), message.key()
        assert partition is not None and offset is not None  # a consumed record has both
        self.upto[partition] = offset + 1
        header = header_of(message)
        if header in codec.control_headers():
            self.control += 1
            return
        gone = self.tombstones and message.value() is None
        if key is None or not (gone or header in self.headers):
            self.apart.append(message)
            return
        name = key if isinstance(key, bytes) else key.encode()
        self.replaced += name in self.last
        self.last[name] = message

    def drop(self, partitions: set[int]) -> None:
        """Forget what is another owner's now."""
        self.upto = {p: o for p, o in self.upto.items() if p not in partitions}
        self.last = {k: m for k, m in self.last.items() if m.partition() not in partitions}
        self.apart = [m for m in self.apart if m.partition() not in partitions]

    def records(self) -> list[Message]:
        """What is to be stored."""
        return [*self.last.values(), *self.apart]

    def take(self) -> dict[int, int]:
        """Empty it; returns the offsets up to which it held everything."""
        upto = self.upto
        self.last, self.upto, self.apart = {}, {}, []
        self.replaced = self.control = 0
        return upto

    def __bool__(self) -> bool:
        return bool(self.upto)


@dataclass(slots=True)
class Every:
    """Records read but not stored, all of them in order; what isn't wanted moves `upto` only."""

    headers: frozenset[bytes]  # of the projection's schema
    wanted: Callable[[Message], bool] = lambda _: True
    forget: Callable[[], None] = lambda: None  # heard when records leave without being stored
    all: list[Message] = field(default_factory=list)
    upto: dict[int, int] = field(default_factory=dict)  # partition -> next offset
    replaced: int = 0  # not wanted
    control: int = 0  # stepped over

    def add(self, message: Message) -> None:
        """Take in one record; of a partition they come in order."""
        partition, offset = message.partition(), message.offset()
        assert partition is not None and offset is not None  # a consumed record has both
        self.upto[partition] = offset + 1
        header = header_of(message)
        if header in codec.control_headers():
            self.control += 1
        elif header not in self.headers or self.wanted(message):
            self.all.append(message)
        else:
            self.replaced += 1

    def drop(self, partitions: set[int]) -> None:
        """Forget what is another owner's now."""
        self.upto = {p: o for p, o in self.upto.items() if p not in partitions}
        self.all = [m for m in self.all if m.partition() not in partitions]
        self.forget()

    def records(self) -> list[Message]:
        """What is to be stored."""
        return self.all

    def take(self) -> dict[int, int]:
        """Empty it; returns the offsets up to which it held everything."""
        upto = self.upto
        self.all, self.upto = [], {}
        self.replaced = self.control = 0
        return upto

    def __bool__(self) -> bool:
        return bool(self.upto)


def header_of(message: Message) -> bytes:
    """What a value begins with, which names its schema; empty without a value."""
    value = message.value()
    return value[: codec.HEADER] if isinstance(value, bytes) else b""
