"""What an export sees in memory.latest is what recall sees, at any point of the log."""

from typing import Any

import numpy as np

from agents.kit import Driver
from agents.memory.agent import LATEST, PROCESSOR
from agents.memory_rows import read_key
from agents.recall.memories import Holding
from agents.recall.rows import Rows
from agents.recall.shelf import Law
from agents.tools.memory_reading import Remembered
from tests.unit.agents.memory.samples import event, records
from topics import codec

TENANTS = ("t0", "t1", "t2", "t3")


def shown(rows: Rows, tenant: str) -> list[tuple[Any, ...]]:
    return sorted(
        (one.id, one.version, one.coordinate, one.payload) for one in rows.of(tenant).entries()
    )


def test_a_tenant_is_read_as_recall_reads_it() -> None:
    driver = Driver(PROCESSOR)
    driver.send_all(records(np.random.default_rng(7), 400))
    rows, mine = Rows(Holding(Law())), {tenant: Remembered() for tenant in TENANTS}
    contents: dict[int, dict[str, Any]] = {}
    written = [one for one in driver.outputs if one.topic == LATEST]
    assert len(written) > 200
    for offset, one in enumerate(written):
        key, tenant = one.key or "", read_key(one.key or "").tenant
        value = None if one.record is None else codec.encode("memory_state", one.record)
        rows.row(0, key.encode(), value)
        mine[tenant].take(key, one.record, offset)
        contents[offset] = one.record or {}
        if offset % 23 and offset + 1 < len(written):
            continue
        for whose, remembered in mine.items():
            live = remembered.live()
            assert [*live] == sorted(live)
            found = sorted(
                (head["id"], head["version"], contents[at]["coordinate"], contents[at]["payload"])
                for at, head in live.items()
            )
            if found != shown(rows, whose):  # between a content and its head an older one is gone
                assert offset + 1 < len(written) and one.record and one.record["part"] == "content"
            names = remembered.coordinates()
            assert {head["id"] for head in live.values()} <= names.keys()
    assert sum(len(one.live()) for one in mine.values()) > 10


def test_contents_that_were_replaced_arent_held() -> None:
    remembered, driver = Remembered(), Driver(PROCESSOR)
    driver.send_all([event(ts=event()["ts"] + k) for k in range(50)])
    for offset, one in enumerate(one for one in driver.outputs if one.topic == LATEST):
        remembered.take(one.key or "", one.record, offset)
    assert len(remembered.places) == len(remembered.live()) == 1
