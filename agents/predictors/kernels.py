"""The loops over a batch of observations: what may be folded, whose it is, how wrong we were."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import OWN_REASONS
from agents.engine.records import put_bytes
from agents.kit.packing import Marks, mark
from agents.predictors.calibration import (
    Reports,
    clear,
    count,
    learn,
    logit_of,
    median_after,
    sure,
    tell,
)
from agents.predictors.diffusion import Graph, chebyshev, lanczos
from agents.predictors.plans import Plans, find
from agents.predictors.rule import (
    HEAT,
    MAHAL,
    NEUTRAL_ERROR,
    begin,
    confidence_of,
    error_of,
    follow,
    narrow,
    resolution_of,
)
from agents.predictors.settings import (
    ALPHA,
    CALIBRATE,
    EVERY,
    FORGETTING,
    GRAPH,
    METHOD,
    NEXT,
    PREDICTOR,
    TIME,
)
from agents.predictors.state import (
    DIM_MAX,
    LAST,
    LEVEL,
    RATIO,
    STEP,
    Entities,
    part,
    place,
    reset,
    runs_of,
    window_of,
)
from agents.predictors.state import NEXT as EXPECTED
from topics.columns import Cols
from topics.compiled import entry, kernel
from topics.write_kernels import inside

SINGLE = 4  # bytes of a float32
EXPONENT_HIGH, EXPONENT_LOW = (
    0x7F,
    0x80,
)  # all bits of its exponent: last bytes
CHEBYSHEV = 0

# Why a vector is refused.
REASONS = {
    "vector_empty": "vector: has no numbers",
    "vector_ragged": "vector: its bytes aren't a multiple of 4 (float32)",
    "vector_too_long": f"vector: more than {DIM_MAX} numbers",
    "vector_not_finite": "vector: a number is NaN or infinite",
}
EMPTY, RAGGED, TOO_LONG, NOT_FINITE = range(OWN_REASONS, OWN_REASONS + 4)

# What `fold_rows` stopped for.
DONE, NEED_POOL, NEED_PLAN, NEED_REPORTS = range(4)

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Source(NamedTuple):
    """A batch of observations, and where its fields stand."""

    buf: Bytes
    status: Bytes
    offsets: Ints
    log_ms: Ints
    cols: Cols
    tenant: int
    domain: int
    vector: int
    ts: int


class Work(NamedTuple):
    """Room for one vector's computation, as long as the longest vector."""

    single: NDArray[np.float32]
    seen: Floats
    a: Floats
    b: Floats
    c: Floats
    basis: Floats  # [LANCZOS_STEPS + 1, dim]
    small: Floats  # [LANCZOS_WORK, LANCZOS_STEPS]
    start: Ints  # of diffusion.Graph
    neighbour: Ints


class Found(NamedTuple):
    """What the law says of each record of the batch, in the records' places."""

    error: Floats
    confidence: Floats
    predictor: Ints
    next_at: Ints  # where its next event's vector goes to, -1: there is none; `fold_rows` says


@kernel
def _fault(buf: Bytes, p: int, size: int) -> int:
    """Status of a vector's bytes: 0, or why it can't be folded."""
    if size == 0:
        return EMPTY
    if size % SINGLE != 0:
        return RAGGED
    if size > SINGLE * DIM_MAX:
        return TOO_LONG
    odd = False
    for j in range(p + 2, p + size, 4):
        # Unsigned, as in put_bytes; and to the end, for to stop at each number costs more.
        low, high = buf[np.uint64(j)], buf[np.uint64(j + 1)]
        odd |= (low >= EXPONENT_LOW) & (high & EXPONENT_HIGH == EXPONENT_HIGH)
    return NOT_FINITE if odd else 0


@entry
def inspect(src: Source, lo: int, hi: int) -> tuple[int, int, int]:
    """Refuse bad vectors. Returns (records left, bytes of their keys, longest vector).

    (-1, row, 0) if a span of a record lies outside the buffer.
    """
    buf, status = src.buf, src.status
    tpos, tlen = src.cols.pos[src.tenant], src.cols.len[src.tenant]
    dpos, dlen = src.cols.pos[src.domain], src.cols.len[src.domain]
    vpos, vlen = src.cols.pos[src.vector], src.cols.len[src.vector]
    good, size, longest, end = 0, 0, 0, buf.shape[0]
    for r in range(lo, hi):
        if status[r] != 0:
            continue
        names = inside(tpos[r], tlen[r], end) and inside(dpos[r], dlen[r], end)
        if not (names and inside(vpos[r], vlen[r], end)):
            return -1, r, 0
        fault = _fault(buf, vpos[r], vlen[r])
        if fault != 0:
            status[r] = fault
            continue
        good += 1
        size += tlen[r] + 1 + dlen[r]
        longest = max(longest, vlen[r] // 4)
    return good, size, longest


@kernel
def _predict(
    settings: Floats,
    last: Floats,
    level: Floats,
    plans: Plans,
    plan: int,
    work: Work,
    n: int,
    predicted: Floats,
) -> None:
    """predicted[:n] = what the state says comes next."""
    if plan >= 0:
        graph = Graph(int(settings[GRAPH]), work.start, work.neighbour)
        at = plans.at[plan]
        coefficients = plans.coefficients[at : at + plans.size[plan]]
        scale = plans.scale[plan]
        if settings[METHOD] == CHEBYSHEV:
            chebyshev(graph, coefficients, scale, last, n, predicted, work.a, work.b, work.c)
        else:
            lanczos(graph, coefficients, scale, last, n, predicted, work.basis, work.small)
    elif settings[PREDICTOR] == MAHAL:
        for i in range(n):
            predicted[i] = level[i]
    else:
        for i in range(n):
            predicted[i] = last[i]


@kernel
def _read(buf: Bytes, p: int, n: int, single: NDArray[np.float32], seen: Floats) -> None:
    """seen[:n] = the vector of n float32 at buf[p:]."""
    put_bytes(single[:n].view(np.uint8), 0, buf, p, 4 * n)
    for i in range(n):
        seen[i] = np.float64(single[i])


@kernel
def _write(vector: Floats, n: int, single: NDArray[np.float32], out: Bytes, p: int) -> None:
    """The vector as n float32 at out[p:]."""
    for i in range(n):
        single[i] = np.float32(vector[i])
    put_bytes(out, p, single[:n].view(np.uint8), 0, 4 * n)


@kernel
def _begin(e: Entities, pool: Floats, k: int, seen: Floats) -> None:
    """Row k, which has room, begins (anew)."""
    e.restarts[k] += 1 if e.n[k] > 0 else 0
    e.n[k] = 0
    level, step, ratio = (
        part(e, pool, k, LEVEL),
        part(e, pool, k, STEP),
        part(e, pool, k, RATIO),
    )
    begin(seen, level, step, ratio, runs_of(e, pool, k), e.dim[k])
    reset(e, k)
    clear(window_of(e, pool, k))


@kernel
def _follow(
    settings: Floats, e: Entities, pool: Floats, k: int, seen: Floats, last: Floats, level: Floats,
    predicted: Floats,
) -> float:  # fmt: skip
    """Steps 2 and 3 of rule.py: the error, as on the wire, of an observation that was predicted."""
    n, step, ratio = e.dim[k], part(e, pool, k, STEP), part(e, pool, k, RATIO)
    runs = runs_of(e, pool, k)
    follow(seen, last, level, step, ratio, runs, n, e.n[k] + 1, settings[FORGETTING])
    least = resolution_of(last, n) if settings[PREDICTOR] == HEAT else 0.0
    return narrow(error_of(seen, predicted, step, ratio, n, least))


@kernel
def _sample(
    e: Entities, pool: Floats, k: int, right: bool, every: int, r: int, reports: Reports
) -> None:
    """Step 1 of calibration.py: what waits came true or not."""
    window, learned = window_of(e, pool, k), e.learned[k]
    held = count(window, e.logit[k], learned[0], learned[1], right)
    learn(learned, e.logit[k], right)
    e.samples[k] += 1
    if held >= every:
        tell(window, learned[0], learned[1], e.samples[k], r, reports)
        clear(window)


@kernel
def _confide(
    settings: Floats, e: Entities, pool: Floats, k: int, error: float, r: int, reports: Reports
) -> float:
    """The confidence to publish; `error` as on the wire, the observation already counted in e.n."""
    on, logit = settings[CALIBRATE] != 0.0, logit_of(error, settings[ALPHA])
    if not on or e.n[k] == 1:
        e.logit[k] = np.nan
    else:
        if not math.isnan(e.logit[k]):
            _sample(e, pool, k, error <= e.median[k], int(settings[EVERY]), r, reports)
        e.median[k], e.run[k] = median_after(e.median[k], e.run[k], error, e.n[k])
        e.logit[k] = logit
    if not on or e.samples[k] == 0:
        return confidence_of(error, settings[ALPHA])
    return sure(e.learned[k, 0] * logit + e.learned[k, 1])


@kernel
def _came(e: Entities, marks: Marks, k: int, ts: int, log_ms: int) -> None:
    """Row k had an observation."""
    e.n[k] += 1
    e.ts[k] = max(e.ts[k], ts)
    e.touched[k] = max(e.touched[k], log_ms)
    mark(marks, e.code[k])


@entry
def fold_rows(
    src: Source, lo: int, hi: int, ids: Ints, e: Entities, marks: Marks, pool: Floats, counts: Ints,
    slot: Ints, table: Floats, version: int, plans: Plans, work: Work, found: Found,
    reports: Reports, out: Bytes,
) -> tuple[int, int]:  # fmt: skip
    """Fold records lo..hi-1 with status 0, of rows `ids`. Returns (next record, why it stopped).

    slot[owner] is a tenant's row in `table`, whose version is `version`. The vectors of next events
    go to `out`, where found.next_at wants them (-1: nowhere); it becomes -1 where there is none.
    """
    pos, length, stamp = src.cols.pos[src.vector], src.cols.len[src.vector], src.cols.i[src.ts]
    seen, single, next_at = work.seen, work.single, found.next_at
    for r in range(lo, hi):
        if src.status[r] != 0:
            continue
        k, n = ids[r], length[r] // 4
        settings = table[slot[e.owner[k]]]
        first, plan = e.n[k] == 0 or e.dim[k] != n, -1
        onward = settings[NEXT] != 0.0 and next_at[r] >= 0
        if reports.used[0] >= reports.record.shape[0]:
            return r, NEED_REPORTS
        if settings[PREDICTOR] == HEAT and (onward or not first):
            plan = find(plans, int(settings[GRAPH]), settings[TIME], n)
            if plan < 0:
                return r, NEED_PLAN
        if not place(e, counts, pool.shape[0], k, n):
            return r, NEED_POOL
        _read(src.buf, pos[r], n, single, seen)
        last, level = part(e, pool, k, LAST), part(e, pool, k, LEVEL)
        predicted, error = part(e, pool, k, EXPECTED), NEUTRAL_ERROR
        if first:
            _begin(e, pool, k, seen)
        else:
            if e.made[k] != version:  # else it is what was published as the next event
                _predict(settings, last, level, plans, plan, work, n, predicted)
            error = _follow(settings, e, pool, k, seen, last, level, predicted)
        for i in range(n):
            last[i] = seen[i]
        _came(e, marks, k, stamp[r], src.log_ms[r])
        found.error[r] = error
        found.confidence[r] = narrow(_confide(settings, e, pool, k, error, r, reports))
        found.predictor[r] = int(settings[PREDICTOR])
        e.made[k] = version if onward else 0
        if onward:
            _predict(settings, last, level, plans, plan, work, n, predicted)
            _write(predicted, n, single, out, next_at[r])
        else:
            next_at[r] = -1
    return hi, DONE
