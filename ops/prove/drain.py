"""Waiting until the workers have folded everything: positions against the ends of the sources."""

import time
from collections.abc import Callable, Sequence

from confluent_kafka import Message

from ops.prove.check import POSITION_KEY
from ops.prove.reader import consumer, physical
from ops.prove.wire import Wire

IDLE_S = 0.5  # a pass over the topics ends when nothing came for so long,
READ_MAX = 5000
PASS_S = 10.0  # and is cut off after so long


class Drain:
    """Follows sources and state topics: each partition's last record and position."""

    def __init__(
        self, bootstrap: str, namespace: str, stages: Sequence[tuple[str, str]], wire: Wire
    ) -> None:
        """`stages`: pairs of processor and source topic."""
        self.wire = wire
        self.since_ms = 0  # by the wall clock: all that came before it was seen to be folded
        self.stages = [
            (physical(namespace, source), physical(namespace, f"soma.{processor}.state"))
            for processor, source in stages
        ]
        self._states = {state for _, state in self.stages}
        self._tick = b"\0" + wire.schema_id("control_tick").to_bytes(4, "big")
        topics = dict.fromkeys(topic for pair in self.stages for topic in pair)
        self.reader, places = consumer(bootstrap, list(topics))
        self.partitions = 1 + max(place.partition for place in places)
        self.last: dict[tuple[str, int], int] = {}
        self.position: dict[tuple[str, int], int] = {}

    def wait(self, timeout_s: float, tend: Callable[[], None]) -> bool:
        """Wait until all is folded, seen so in one pass for each stage; False when time is over.

        One pass alone isn't enough: it may see a processor's new position and yet have read the
        next one's source before the outputs of the same transaction were in it.
        """
        until, passes = time.monotonic() + timeout_s, 0
        while time.monotonic() < until:
            tend()
            if not passes:
                self.since_ms = int(time.time() * 1000)
            passes = passes + 1 if self._pass() and not self.behind() else 0
            if passes == len(self.stages):
                return True
        return False

    def begun(self, stages: int) -> bool:
        """Whether each of the first processors has committed something; looks once."""
        self._pass(0.0)
        return all(
            any((state, number) in self.position for number in range(self.partitions))
            for _, state in self.stages[:stages]
        )

    def behind(self) -> list[str]:
        """The partitions that aren't folded to their end, in words."""
        return [
            f"{source} {number}: position {self.position.get((state, number), 0)}, last {last}"
            for source, state in self.stages
            for number in range(self.partitions)
            if (last := self.last.get((source, number), -1))
            >= self.position.get((state, number), 0)
        ]

    def close(self) -> None:
        """Let the consumer go."""
        self.reader.close()

    def _pass(self, idle_s: float = IDLE_S) -> bool:
        """Read on; whether nothing more came, or it was cut off since somebody writes on.

        Ticks and positions don't count: they come for ever where a timer is set.
        """
        until = time.monotonic() + PASS_S
        while messages := self.reader.consume(READ_MAX, idle_s):
            new = [self._take(message) for message in messages if message.error() is None]
            if len(messages) < READ_MAX and not any(new):
                break
            if time.monotonic() > until:
                return False
        return True

    def _take(self, message: Message) -> bool:
        """Note a record; whether it is one of a source, and no tick."""
        place, value = (message.topic() or "", message.partition() or 0), message.value()
        if place[0] not in self._states:
            if isinstance(value, bytes) and value.startswith(self._tick):
                return False
            self.last[place] = message.offset() or 0
            return True
        if message.key() == POSITION_KEY and message.value() is not None:
            _, row = self.wire.decode(bytes(message.value() or b""), "position")
            self.position[place] = row["next_offset"]
        return False
