"""Who holds a partition up is told after a while, and no longer than it lasts."""

import time

import pytest
from faust.types import TP
from prometheus_client import REGISTRY

from agents.engine.held_up import LONG_S, HeldUp

ONE, OTHER = TP("cog.observations", 1), TP("cog.observations", 2)
OURS = {ONE: "held-test", OTHER: "held-test"}


def gauge(tp: TP) -> float | None:
    labels = {"processor": "held-test", "partition": str(tp.partition)}
    return REGISTRY.get_sample_value("soma_partition_unstable_records", labels)


def test_a_transaction_on_its_way_is_shown_by_the_gauge_alone() -> None:
    held, now = HeldUp(), time.time()
    assert held.look({ONE: (5, 8)}, OURS, now) == {}
    assert (gauge(ONE), gauge(OTHER)) == (3, 0)
    assert held.shown() == {}
    held.look({ONE: (8, 9)}, OURS, now + LONG_S)  # the next one, which has only begun
    assert held.look({ONE: (8, 9)}, OURS, now + 1.5 * LONG_S) == {}


def test_one_that_stays_is_counted_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    held, now = HeldUp(), time.time() - 2 * LONG_S
    held.look({ONE: (5, 8)}, OURS, now)
    for later in (LONG_S, 1.5 * LONG_S):
        assert held.look({ONE: (5, 20)}, OURS, now + later) == {ONE: 15}
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("cog.observations/1 waits: a transaction has been open from offset 5 on")
    assert held.shown()["cog.observations/1"].items() >= {
        ("from_offset", 5), ("unstable_records", 15),
    }  # fmt: skip
    assert held.look({ONE: (21, 21)}, OURS, now + 2 * LONG_S) == {}
    assert (gauge(ONE), held.shown()) == (0, {})


def test_what_is_let_go_is_forgotten() -> None:
    held, now = HeldUp(), time.time()
    held.look({ONE: (5, 8)}, OURS, now - 2 * LONG_S)
    assert held.look({ONE: (5, 8)}, {}, now) == {}
    assert (gauge(ONE), held.shown()) == (None, {})
