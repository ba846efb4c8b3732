"""Batches that change nothing: few transactions, and a position that comes to the end all the same.

`lessons` beside frames of a tenant that doesn't learn.
"""

import time
import urllib.request

from agents.engine.idle import IDLE_S
from agents.engine.work import POSITION_KEY
from agents.settings import Settings
from tests.live.agents.projections.test_frames import value
from tests.live.conftest import WorkerFactory
from tests.live.helpers import PARTITIONS, Worker, eventually, produce, read
from topics import codec
from topics.partition import partition_of

FRAMES, STATE = "cog.global.frame", "soma.lessons.state"
BATCHES = 30
PARTITION = partition_of("acme", PARTITIONS)


def said(one: Worker, name: str) -> float:
    """What its page says: the sum of a metric of `lessons`."""
    with urllib.request.urlopen(one.url("/metrics"), timeout=10.0) as page:
        lines = page.read().decode().splitlines()
    mine = [line for line in lines if line.startswith(name) and 'processor="lessons"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in mine)


def positions(settings: Settings) -> list[int]:
    """Each that was committed in the tenant's partition."""
    mine = [one for one in read(settings, STATE) if one.partition() == PARTITION]
    return [
        int(codec.decode(one.value() or b"")[1]["next_offset"])
        for one in mine if one.key() == POSITION_KEY
    ]  # fmt: skip


def test_positions_of_batches_that_change_nothing_wait_for_each_other(
    topics: Settings, worker: WorkerFactory
) -> None:
    one = worker(SOMA_AGENTS="lessons")
    folded = "soma_processor_records_total"
    began = time.monotonic()
    for k in range(BATCHES):  # one by one: each is a fetch of its own, and was a transaction
        produce(topics, FRAMES, [(b"acme", value("acme", k))])
    eventually(lambda: said(one, folded) == BATCHES, 60.0, "all are counted, after the commit")
    took = time.monotonic() - began
    found = positions(topics)
    assert found[-1] == BATCHES
    assert len(found) <= took / IDLE_S + 2, (found, took)
    assert said(one, "soma_processor_lag_records") == 0
    # What waits isn't lost by a stop, and a new owner begins behind it.
    produce(topics, FRAMES, [(b"acme", value("acme", k)) for k in range(5)])
    eventually(lambda: said(one, folded) == BATCHES + 5, 60.0, "those, too")
    produce(topics, FRAMES, [(b"acme", value("acme", 9))])
    assert one.stop(60.0) == 0
    assert positions(topics)[-1] in (BATCHES + 5, BATCHES + 6)
    again = worker(SOMA_AGENTS="lessons")
    eventually(lambda: positions(topics)[-1] == BATCHES + 6, 60.0, "the end")
    assert said(again, folded) <= 1
