"""cog.observations -> examples.pauses: a record when a domain begins, falls silent and wakes.

It uses what rows can: an entity (the domain), a timer, settings, lists, counts, refusals.
"""

from dataclasses import dataclass, field
from typing import Any

from agents.kit import Emit, Refuse, RowProcessor, Setting
from ops.examples import PAUSES

RECENT = 5  # gaps that a row remembers
SECOND = 1_000_000


@dataclass(slots=True)
class Domain:
    """What is known of a tenant's domain. Times are microseconds."""

    seen: int = 0
    last_ts: int = 0
    state: str | None = None  # None: never seen
    gaps: list[float] = field(default_factory=list)  # seconds between the last observations
    sizes: dict[str, int] = field(default_factory=dict)  # bytes of a vector -> observations
    due: int | None = None


def observe(row: Domain, record: Any, out: Emit) -> None:
    """Note an observation, and set the timer anew."""
    size = len(record.vector)
    row.seen += 1
    row.sizes[str(size)] = row.sizes.get(str(size), 0) + 1
    if row.last_ts:
        row.gaps = [*row.gaps, max(0, record.ts - row.last_ts) / SECOND][-RECENT:]
    row.last_ts = max(row.last_ts, record.ts)
    row.due = record.log_ms * 1000 + out.setting("silence_s") * SECOND
    if row.state != "awake":
        tell(row, "awake", record.ts, out)
    if size % 4:
        out.count("examples_pauses_refused")
        raise Refuse(f"vector: {size} bytes", "vector")
    out.count("examples_pauses_observed")


def silent(row: Domain, now: int, out: Emit) -> None:
    """The timer's call: nothing came for too long."""
    tell(row, "silent", now, out)


def tell(row: Domain, state: str, ts: int, out: Emit) -> None:
    """Change the state, and say so."""
    row.state = state
    out.to(PAUSES, {
        "tenant": out.tenant, "domain": out.entity, "ts": ts, "state": state, "seen": row.seen,
        "gaps": row.gaps, "sizes": row.sizes,
    })  # fmt: skip


PROCESSOR = RowProcessor(
    "pauses", source="cog.observations", sinks=(PAUSES,), row=Domain, fold=observe,
    key="domain", on_time=silent,
    settings={"silence_s": Setting(60, "seconds without an observation", 1, 86_400)},
    reasons={"vector": "its vector isn't one of float32"},
    counts={
        "examples_pauses_observed": "Observations noted",
        "examples_pauses_refused": "Observations refused",
    },
)  # fmt: skip
