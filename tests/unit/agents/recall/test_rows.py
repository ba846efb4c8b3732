"""What the processor `memory` writes a node holds: from the whole log, or from a compacted one."""

from collections.abc import Iterable

import numpy as np
import pytest

from agents.kit import Driver
from agents.memory.agent import LATEST, PROCESSOR
from agents.memory_rows import CONTENT_PART, HEAD_PART
from agents.recall.memories import Holding
from agents.recall.rows import SCHEMA, Rows
from agents.recall.shelf import Law
from tests.unit.agents.memory.latest import latest
from tests.unit.agents.memory.samples import records
from topics import codec

Record = tuple[str, bytes | None]


def read(log: Iterable[Record]) -> Rows:
    rows = Rows(Holding(Law()))
    for key, value in log:
        rows.row(0, key.encode(), value)
    return rows


@pytest.fixture(scope="module")
def written() -> tuple[Driver, list[Record]]:
    """The processor after some hundred events, and its rows in the order of the log."""
    driver = Driver(PROCESSOR)
    driver.send_all(records(np.random.default_rng(9), 500))
    log = [
        (one.key, None if one.record is None else codec.encode(SCHEMA, one.record))
        for one in driver.outputs if one.topic == LATEST
    ]  # fmt: skip
    return driver, log


def held(rows: Rows) -> dict[tuple[str, str], object]:
    return {
        (tenant, one.id): (one.version, one.payload, one.links, one.importance_raw, one.updated_ts,
                           one.access_count, one.shelf >= 0)
        for tenant, memories in rows.tenants.items() for one in memories.entries()
    }  # fmt: skip


def wanted(driver: Driver) -> dict[tuple[str, str], object]:
    """By the rows alone, without any code of recall."""
    rows = latest(driver).values()
    bodies = {(one["tenant"], one["id"]): one for one in rows if one["part"] == CONTENT_PART}
    heads = [one for one in rows if one["part"] == HEAD_PART and not one["deleted"]]
    return {
        (one["tenant"], one["id"]): (
            one["version"], bodies[one["tenant"], one["id"]]["payload"], one["links"],
            one["importance_raw"], one["updated_ts"], one["access_count"],
            bool(bodies[one["tenant"], one["id"]]["vector"]),
        )
        for one in heads
    }  # fmt: skip


def test_a_node_holds_what_the_processor_wrote(written: tuple[Driver, list[Record]]) -> None:
    driver, log = written
    rows = read(log)
    assert len(wanted(driver)) > 10
    assert held(rows) == wanted(driver)
    assert not any(one.halves() for one in rows.tenants.values())
    assert rows.folded[0] > 0


@pytest.mark.parametrize("cut", [0, 60, 150, 10_000])
def test_and_so_it_does_from_a_log_whose_beginning_is_compacted(
    written: tuple[Driver, list[Record]], cut: int
) -> None:
    driver, log = written
    last = {key: at for at, (key, _) in enumerate(log[:cut])}
    kept = [one for at, one in enumerate(log[:cut]) if last[one[0]] == at]
    assert len(kept) < cut or cut == 0
    assert held(read([*kept, *log[cut:]])) == wanted(driver)
