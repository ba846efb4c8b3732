"""memory.latest as a reader has it: the last record of each key."""

from typing import Any

from agents.kit import Driver
from agents.memory.agent import AUDIT, LATEST
from agents.memory_rows import content_key, head_key

Rows = dict[str, dict[str, Any]]


def latest(driver: Driver) -> Rows:
    """After compaction."""
    rows: Rows = {}
    for one in driver.outputs:
        if one.topic == LATEST:
            rows.pop(one.key, None)
            if one.record is not None:
                rows[one.key] = one.record
    return rows


def head(driver: Driver, id_: str, tenant: str = "a", namespace: str = "") -> dict[str, Any] | None:
    """A memory's head."""
    return latest(driver).get(head_key(tenant, namespace, id_))


def content(
    driver: Driver, id_: str, tenant: str = "a", namespace: str = ""
) -> dict[str, Any] | None:
    """A memory's content."""
    return latest(driver).get(content_key(tenant, namespace, id_))


def audit(driver: Driver) -> list[dict[str, Any]]:
    """What became of each record."""
    return [one.record for one in driver.outputs if one.topic == AUDIT and one.record is not None]


def said(driver: Driver) -> tuple[str, str, int]:
    """Of the last one: outcome, reason, version."""
    last = audit(driver)[-1]
    return last["outcome"], last["reason"], last["version"]
