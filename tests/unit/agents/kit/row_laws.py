"""Row processors of these tests: with rows of the examples' schemas, and any law."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents.engine.processor import Processor
from agents.kit import Driver, Emit, RowProcessor
from agents.kit.run import LOG_MS
from ops.examples import COUNTS, PAUSES

TS = LOG_MS * 1000
MINUTE = 60_000_000


@dataclass(slots=True)
class Row:
    """Has the fields of the example's schema, so that laws of these tests can be kept."""

    total: int = 0
    last_ts: int = 0
    norms: float = 0.0


@dataclass(slots=True)
class Full:
    """The other example's: with a timer, lists and what may be None."""

    seen: int = 0
    last_ts: int = 0
    state: str | None = None
    gaps: list[float] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    due: int | None = None


def counting(law: Callable[[Any, Any, Emit], None], **more: Any) -> Processor:
    """A processor with this law and plain rows."""
    return RowProcessor("counting", "cog.observations", (COUNTS,), Row, law, **more)


def full(law: Callable[[Any, Any, Emit], None], **more: Any) -> Processor:
    """One with all kinds of fields."""
    return RowProcessor("pauses", "cog.observations", (PAUSES, COUNTS), Full, law, **more)


def observation(tenant: str = "a", domain: str = "x", n: int = 1) -> dict[str, Any]:
    vector = np.full(n, 1.0, "<f4").tobytes()
    return {"tenant": tenant, "domain": domain, "ts": TS, "vector": vector, "sequence": None}


def count_of(tenant: str, total: int) -> dict[str, Any]:
    return {"tenant": tenant, "ts": TS, "total": total, "norms": 0.0, "observation_id": ""}


def totals(driver: Driver) -> dict[str, int]:
    return {key: row["total"] for key, row in driver.rows.items()}


def add(row: Row, record: Any, out: Emit) -> None:
    row.total += 1
