"""cog.observations -> examples.counts: how many observations there were, and how large they are."""

from dataclasses import dataclass
from math import hypot
from struct import unpack
from typing import Any

from agents.kit import Emit, Refuse, RowProcessor, Setting
from agents.kit.explaining import Case
from ops.examples import COUNTS

NUMBER = 4  # bytes of a float32


@dataclass(slots=True)
class Count:
    """What is known of a tenant."""

    total: int = 0
    last_ts: int = 0
    norms: float = 0.0


def count(row: Count, record: Any, out: Emit) -> None:
    """Count an observation, and say so."""
    vector = record.vector
    if len(vector) % NUMBER:
        raise Refuse(f"vector: {len(vector)} bytes aren't whole float32 numbers")
    row.total += 1
    row.last_ts = record.ts
    row.norms += hypot(*unpack(f"<{len(vector) // NUMBER}f", vector))
    if row.total % out.setting("every") == 0:
        out.to(COUNTS, {
            "tenant": record.tenant, "ts": record.ts, "total": row.total, "norms": row.norms,
            "observation_id": record.source_id,
        })  # fmt: skip


def explain(case: Case) -> list[str]:
    """What `soma explain` says of an observation: with the row's own numbers."""
    total, every = case.after[""]["total"], case.values["every"]
    return [f"It is observation {total} of {case.tenant}; each {every} make a record."]


PROCESSOR = RowProcessor(
    "counting", source="cog.observations", sinks=(COUNTS,), row=Count, fold=count,
    settings={"every": Setting(1, "a record for each n-th observation", 1, 1_000_000)},
)  # fmt: skip
