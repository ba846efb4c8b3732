"""Records that answer dead letters: whoever wrote what can't be folded hears of it on a sink.

They are part of the letters' transaction, so each letter is answered once. They aren't outputs of
the fold: nothing of them is in its state, and a fold of the past doesn't give them.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from agents.engine.answer import Answer
from agents.engine.builder import RawBuilder
from agents.engine.dead_letters import BATCH_BYTES, Letter
from agents.engine.plan import Plan
from agents.engine.processor import Place
from agents.engine.records import frame_one
from topics import codec


@runtime_checkable
class Answering(Protocol):
    """A fold that answers dead letters. Pure, as the fold is."""

    def answers(self, letters: Sequence[Letter]) -> list[Answer]:
        """What is said of some of them, in their order."""


def answers_of(
    plan: Plan, place: Place, fold: Answering, letters: Sequence[Letter]
) -> list[tuple[str, int, RawBuilder]]:
    """Record batches to be sent with the letters. ValueError for a sink that isn't its own."""
    found: list[tuple[str, int, RawBuilder]] = []
    each: dict[str, list[Answer]] = defaultdict(list)
    for one in fold.answers(letters):
        each[one.sink].append(one)
    for sink, some in each.items():
        target = plan.sinks[plan.processor.sinks.index(sink)]
        framed: list[bytes] = []
        size = 0
        for k, one in enumerate(some):
            value = codec.encode(target.schema, dict(one.record))
            framed.append(frame_one(len(framed), one.key, value, []))
            size += len(framed[-1])
            if k + 1 == len(some) or size > BATCH_BYTES:
                found.append(
                    (target.topic, place.partition, RawBuilder(b"".join(framed), len(framed)))
                )
                framed, size = [], 0
    return found
