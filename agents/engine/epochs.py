"""The epochs log: under which values a partition's records are folded, and which are passed over.

Beside the input it is all that a fold depends on, so a rebuild reads it too. A skip is written by
`soma skip`, under a key of its own, for a record at which the law raises.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.engine.builder import RawBuilder
from agents.engine.plan import Plan
from agents.engine.records import frame_one
from topics import codec


@dataclass(frozen=True, slots=True)
class Skip:
    """A record that a processor passes over: it becomes a dead letter (schema `skip`)."""

    processor: str
    partition: int
    topic_id: str  # 32 hex digits, of the source
    offset: int
    author: str
    reason: str

    @property
    def detail(self) -> str:
        """What the dead letter says."""
        return f"passed over, as {self.author} said: {self.reason}"

    def record(self) -> tuple[bytes, bytes]:
        """Key and value in the epochs log."""
        value = {
            "processor": self.processor, "partition": self.partition, "topic_id": self.topic_id,
            "offset": self.offset, "author": self.author, "reason": self.reason,
            "ts": time.time_ns() // 1000,
        }  # fmt: skip
        return skip_key(self.processor, self.partition), codec.encode("skip", value)


def epoch_key(processor: str, partition: int) -> bytes:
    """Key of the epochs of a processor's partition."""
    return f"{processor}/{partition}".encode()


def skip_key(processor: str, partition: int) -> bytes:
    """Key of the records that it passes over: versions that know none read on."""
    return f"{processor}/{partition}/skip".encode()


def read_skip(value: bytes) -> Skip:
    """A skip from its wire bytes. BadRecord if it is none."""
    name, record = codec.decode(value)
    if name != "skip":
        raise codec.BadRecord("bad_value", f"{name} is not a skip")
    return Skip(*(record[field] for field in Skip.__slots__))


class Epoch:
    """The epoch that a partition works in: a new one where values differ from the last one's."""

    def __init__(
        self, plan: Plan, partition: int, last: Mapping[str, Any] | None, values: Mapping[str, Any],
        from_offset: int,
    ) -> None:  # fmt: skip
        """`values`: law, settings, policy, schemas and the source's id, as the log has them."""
        same = last is not None and all(last[name] == value for name, value in values.items())
        self.number: int = (last["number"] if last is not None else 0) + (0 if same else 1)
        self._plan = plan
        self._partition = partition
        self._record = None if same else {
            "processor": plan.processor.name, "partition": partition, "number": self.number,
            "from_offset": from_offset, "ts": time.time_ns() // 1000, **values,
        }  # fmt: skip

    def sends(self) -> list[tuple[str, int, RawBuilder]]:
        """Its record, to go with the first transaction under its values."""
        if self._record is None:
            return []
        key = epoch_key(self._plan.processor.name, self._partition)
        record = frame_one(0, key, codec.encode("epoch", self._record), [])
        return [(self._plan.epochs, self._partition, RawBuilder(record, 1))]

    def committed(self) -> None:
        """It is in the log."""
        self._record = None
