"""What a row processor's record costs without a broker, and what of it is the law's: its floor.

Processor time of one thread, the least of some runs in turns: what others do on the machine at the
same time counts as little as it can.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from agents.engine.batches import RawBatch
from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Processor
from agents.engine.work import POSITION_KEY
from agents.kit import RowProcessor
from agents.kit.run import Message, Run, batch_of
from agents.settings import Settings
from ops.bench.filling import observations
from ops.bench.works import State, count, decode_observation, new_count
from ops.examples import COUNTS
from ops.examples.install import install

EVENTS, TENANTS, TURNS = 20_000, 300, 7
BATCH = 2000  # records
PLACE = "0123abcd-0-1"  # an id as long as those of records


class Floor(NamedTuple):
    """Microseconds of a processor a record, each the least of its runs."""

    law: float  # on ready records, by plain Python; its output made, and let go
    nothing: float  # the engine: bytes in, bytes out, with a law that does nothing
    whole: float  # the engine with the law


def floor(numbers: int, events: int = EVENTS, turns: int = TURNS) -> Floor:
    """Measure it, with observations of so many numbers."""
    install()
    from ops.examples.counting import PROCESSOR, Count

    wire = list(observations(events, TENANTS, 1, numbers))
    messages = [Message(k, *one) for k, one in enumerate(wire)]
    now = int(time.time() * 1000)
    raw = [batch_of(messages[at : at + BATCH], now) for at in range(0, events, BATCH)]
    nothing = RowProcessor(PROCESSOR.name, PROCESSOR.source, (COUNTS,), Count, lambda *_: None)
    works = (_law([value for _, value in wire]), _engine(nothing, raw), _engine(PROCESSOR, raw))
    least = [math.inf] * len(works)
    for _ in range(turns):
        for k, work in enumerate(works):
            least[k] = min(least[k], _seconds(work))
    return Floor(*(1e6 * one / events for one in least))


def _law(given: list[bytes]) -> Callable[[], None]:
    """The law of the job as the peers have it, on records that are decoded already."""
    records = [decode_observation(value) for value in given]

    def run() -> None:
        states: dict[str, State] = {}
        for record in records:
            state = states.get(record["tenant"])
            if state is None:
                state = states[record["tenant"]] = new_count()
            count(state, record, PLACE)

    return run


def _engine(processor: Processor, batches: list[RawBatch]) -> Callable[[], None]:
    """All that a worker does with the batches in its thread, from a state without rows on."""
    settings = Settings(kafka_bootstrap="127.0.0.1:1", topics_partitions=1)
    plan = Plan(processor, settings, 1)

    def run() -> None:
        one = Run(plan, defaults_of(processor, settings))
        for batch in batches:
            at = batch.base_offset
            while at < batch.next_offset:  # a fold may end early
                at = one.worker.run(one.space, [batch], at, lambda _: POSITION_KEY).next_offset

    return run


def _seconds(work: Callable[[], None]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before


def note(found: Floor) -> str:
    """A line of the report."""
    return (
        f"Without a broker, CPU µs a record, the least of {TURNS} runs in turns: the law alone "
        f"on ready records {found.law:.2f}, this engine with a law that does nothing "
        f"{found.nothing:.2f}, with the law {found.whole:.2f}"
    )
