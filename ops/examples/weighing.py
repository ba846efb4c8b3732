"""cog.observations -> examples.weights: how many bytes of them there were.

What measurements run: a law that looks at no more of a record than it must, and takes as long as it
is told to.
"""

from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

from agents.kit import Emit, RowProcessor, Setting
from ops.examples import WEIGHTS

NS = 1000  # in a microsecond


@dataclass(slots=True)
class Weight:
    """What is known of a tenant."""

    records: int = 0
    weight: int = 0  # bytes of their vectors


def weigh(row: Weight, record: Any, out: Emit) -> None:
    """Weigh an observation, and say so."""
    row.records += 1
    row.weight += len(record.vector)
    if takes := out.setting("takes_us"):
        compute(takes)
    out.to(WEIGHTS, {
        "tenant": record.tenant, "ts": record.ts, "records": row.records, "weight": row.weight,
        "observation_id": record.source_id,
    })  # fmt: skip


def compute(us: int) -> None:
    """Keep the interpreter busy for so long. Nothing comes of the clock but that."""
    until = perf_counter_ns() + us * NS
    while perf_counter_ns() < until:
        pass


PROCESSOR = RowProcessor(
    "weighing", source="cog.observations", sinks=(WEIGHTS,), row=Weight, fold=weigh,
    settings={"takes_us": Setting(0, "a record's more work, in microseconds", 0, 10_000_000)},
)  # fmt: skip
