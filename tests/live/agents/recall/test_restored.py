"""A node beside a Kafka that went back in time: it holds what the log says now, and says why."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agents.recall.replica import Replica
from agents.settings import Settings
from agents.settings.groups import RecallSettings
from tests.live.agents.api.test_recall import remember
from tests.live.conftest import Broker
from tests.live.helpers import eventually

MADE = ("memory.latest",)
PARTITIONS = 1


@contextmanager
def node(settings: Settings) -> Iterator[Replica]:
    replica = Replica(settings)
    replica.start()
    try:
        eventually(lambda: replica.whole and not replica.why, 60.0, "all is read")
        yield replica
    finally:
        replica.stop()


def held(replica: Replica) -> list[str]:
    return sorted(e.coordinate for one in replica.rows.tenants.values() for e in one.entries())


@pytest.fixture
def one(broker: Broker) -> Broker:
    own = RecallSettings(serve="on", dimension=64)
    broker.settings = broker.settings.model_copy(update={"recall": own})
    return broker


@pytest.fixture
def restored(one: Broker, tmp_path: Path) -> Callable[[Callable[[], None]], None]:
    """Restores Kafka to where it was when this was asked for, and lets somebody write to it."""
    (data,) = (p for p in one.stack.home.iterdir() if p.name == "kafka")
    kept = tmp_path / "kept"

    def restore(write: Callable[[], None]) -> None:
        one.stop()
        if not kept.exists():
            shutil.copytree(data, kept)
        else:
            shutil.rmtree(data)
            shutil.copytree(kept, data)
        one.start()
        write()

    return restore


def test_neither_a_snapshot_nor_a_node_that_runs_trusts_a_log_that_went_back_and_grew(
    one: Broker, restored: Callable[[Callable[[], None]], None]
) -> None:
    def told(names: str) -> None:
        for name in names:
            remember(one.settings, "acme", name)

    told("ab")
    restored(lambda: told("cd"))  # the first time it is only kept
    with node(one.settings) as replica:
        assert held(replica) == [*"abcd"]
    told("e")
    with node(one.settings) as replica:  # the same log, which has grown
        assert held(replica) == [*"abcde"]
        assert replica.began.startswith("from the snapshot")
    restored(lambda: told("vwxyz"))
    with node(one.settings) as replica:
        assert "another record at offset 4 than was read: Kafka went back" in replica.began
        assert held(replica) == [*"abvwxyz"]
        restored(lambda: told("nopqrstu"))
        eventually(lambda: held(replica) == [*"abnopqrstu"], 60.0, "the node that runs notices")
        eventually(lambda: not replica.why, 30.0, "it is ready again")
        assert "Kafka went back" in replica.began


def test_what_is_behind_its_records_is_held_by_nobody_before_it_is_read_again(
    one: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect lets it begin anew: what is held may be wrong. Meanwhile it isn't whole."""
    remember(one.settings, "acme", "a")
    monkeypatch.setattr("agents.recall.replica.DEFECT_S", 1.0)
    with node(one.settings) as replica:
        rows = replica.rows
        monkeypatch.setattr(rows, "folded", None)  # the next row finds a defect
        remember(one.settings, "acme", "b")
        eventually(lambda: not replica.whole, 20.0, "the defect is noticed")
        assert replica.rows is not rows
        eventually(lambda: replica.whole, 20.0, "it has begun anew")
        assert held(replica) == [*"ab"] and "a defect" in replica.began
