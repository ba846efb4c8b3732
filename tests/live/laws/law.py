"""The law of both: raise, sleep, write what can't be written, keep what can't be kept."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agents.engine.processor import Processor
from agents.kit import Emit, Reads, RowProcessor
from tests.live.laws import OUT

LAW = int(os.environ.get("LAWS_LAW", "1"))
FLOOD = 100_000  # outputs of one record
LARGE = 2_000_000  # bytes of a row


@dataclass
class Row:
    """How many records of a tenant were folded."""

    total: int = 0
    text: str = ""


@dataclass
class Later:
    """What a later version remembers: `total` is wider, `text` went, `seen` came."""

    total: float = 0.0
    seen: str = "before"


def law_of(name: str) -> Callable[[Any, Any, Emit], None]:
    """The law of a processor: a record says what happens to whom, by its name."""

    def law(row: Any, record: Any, out: Emit) -> None:
        told = json.loads(record.payload)
        if told.get("raise") == name:
            raise ValueError(f"a record of {record.tenant} that I can't bear")
        if told.get("of", name) == name:
            time.sleep(told.get("sleep", 0.0))
        if told.get("misfit") == name:
            out.to(OUT, {"tenant": record.tenant, "n": "many"})
        for k in range(FLOOD if told.get("flood") == name else 0):
            out.to(OUT, {"tenant": record.tenant, "n": k})
        if "emit" in told:  # the second law doubles what is odd
            n, odd = told["emit"], told["emit"] % 2
            out.to(OUT, {"tenant": record.tenant, "n": n * (1 + odd * (LAW - 1))})
        if told.get("large") == name:
            row.text = "x" * LARGE
        row.total += 1

    return law


def processor(name: str, row: type[Any] = Row) -> Processor:
    """The processor of this name."""
    reads = Reads(domain=None)
    return RowProcessor(name, "memory.events", (OUT,), row, law_of(name), reads=reads, law=LAW)
