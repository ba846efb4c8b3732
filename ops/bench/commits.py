"""How quickly a worker commits, seen from the broker: the last stable offsets of its output."""

import time
from dataclasses import dataclass

from ops.bench.broker import Broker
from ops.bench.worker import Watched, WorkerError

SAMPLE_S = 0.02
QUIET_S = 1.0  # all is committed, and for so long nothing more came
STALL_S = 90.0


@dataclass(frozen=True)
class Rate:
    """What was committed between the first commit that was seen and the last."""

    events: int  # all of the run
    counted: int  # those between
    seconds: float
    cpu_s: float

    @property
    def events_per_s(self) -> float:
        """Committed records per second."""
        return self.counted / self.seconds

    @property
    def cpu_us_per_event(self) -> float:
        """The worker's CPU time per committed record."""
        return self.cpu_s / self.counted * 1e6


def follow(broker: Broker, topic: str, worker: Watched, events: int, since: int = 0) -> Rate:
    """Watch `topic` until `events` records are committed there, behind those up to `since`.

    Offsets count transaction markers too: how many there were is known at the end, and taken off.
    """
    first: tuple[float, int, float] | None = None
    last = (time.monotonic(), 0, worker.cpu_s())
    while True:
        end = sum(broker.ends(topic)) - since
        now = time.monotonic()
        if end > last[1]:
            last = (now, end, worker.cpu_s())
            first = first or last
        elif end >= events and now - last[0] > QUIET_S:
            break
        elif now - last[0] > STALL_S:
            tail = worker.log_text()[-3000:]
            raise WorkerError(f"{end} of {events} committed, then nothing; the log ends:\n{tail}")
        worker.check()
        time.sleep(SAMPLE_S)
    if first is None or first == last:
        raise WorkerError(f"{events:,} events were committed at once: measure with more --events")
    counted = round((last[1] - first[1]) * events / last[1])
    return Rate(events, counted, last[0] - first[0], last[2] - first[2])
