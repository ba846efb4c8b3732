"""Which memories are worth least: the retention score decides what is pruned, and nothing else.

    R = A*i + B*2^(-dt/half life) + C*log(1+c)/log(1+c_max) - D*size/size_max

with importance i in (0, 1], time since the last access dt, accesses c, and what the content takes.
i is the raw importance by minimum and maximum of those that are compared; .5 where they are alike,
and where a memory has none.
"""

from collections.abc import Iterable, Sequence
from math import exp2, log1p

from agents.memory.state import Memory

IMPORTANCE, RECENCY, ACCESSES, COST = 0.4, 0.3, 0.2, 0.1  # how much each counts
HALF_LIFE_US = 30 * 86_400 * 1_000_000
IMPORTANCE_MIN, IMPORTANCE_ALIKE = 0.05, 0.5


def importances(raw: Sequence[float | None]) -> list[float]:
    """Each in (0, 1], rising with the raw one."""
    known = [one for one in raw if one is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    wide = high / 2 - low / 2  # half: the whole of two large ones isn't finite
    if not wide > 0:
        return [IMPORTANCE_ALIKE] * len(raw)
    return [
        IMPORTANCE_ALIKE if one is None else max(IMPORTANCE_MIN, (one / 2 - low / 2) / wide)
        for one in raw
    ]  # fmt: skip


def score(row: Memory, importance: float, now: int, counts: int, sizes: int) -> float:
    """R of a memory; `counts` and `sizes` are the greatest of those compared."""
    recency = exp2(-max(0, now - row.accessed) / HALF_LIFE_US)
    accesses = log1p(row.count) / log1p(counts) if counts else 0.0
    cost = row.size / sizes if sizes else 0.0
    return IMPORTANCE * importance + RECENCY * recency + ACCESSES * accesses - COST * cost


def lowest(rows: Iterable[tuple[str, Memory]], n: int, now: int) -> list[str]:
    """The ids of the n memories with the lowest score, lowest first; of equals by id."""
    known = list(rows)
    counts = max((row.count for _, row in known), default=0)
    sizes = max((row.size for _, row in known), default=0)
    each = importances([row.importance for _, row in known])
    scored = [
        (score(row, one, now, counts, sizes), id_)
        for (id_, row), one in zip(known, each, strict=True)
    ]  # fmt: skip
    return [id_ for _, id_ in sorted(scored)[:n]]
