"""The loops over a batch of observations: what may be folded, whose it is, how wrong we were."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import OWN_REASONS
from agents.engine.records import put_bytes
from agents.kit.batches import Source
from agents.kit.columns import slots
from agents.kit.depth import LEARNING, TIME, depth, frozen
from agents.kit.packing import Marks, mark
from agents.predictors import calibration as cal
from agents.predictors import rule
from agents.predictors import settings as s
from agents.predictors import state as st
from agents.predictors.calibration import Reports
from agents.predictors.diffusion import Operator, chebyshev, lanczos
from agents.predictors.plans import Plans, find
from agents.predictors.state import DIM_MAX, Entities
from topics.compiled import entry, kernel

SINGLE = 4  # bytes of a float32
EXPONENT_HIGH, EXPONENT_LOW = 0x7F, 0x80  # all bits of its exponent: last bytes
CHEBYSHEV = 0
FIELD = slots("observation")

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

SILENT = -1  # of found.predictor: nothing is written for this record

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Work(NamedTuple):
    """Room for one vector's computation, as long as the longest vector."""

    single: NDArray[np.float32]
    seen: Floats
    a: Floats
    b: Floats
    c: Floats
    basis: Floats  # [LANCZOS_STEPS + 1, dim]
    small: Floats  # [LANCZOS_WORK, LANCZOS_STEPS]


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
def inspect(src: Source, lo: int, hi: int) -> int:
    """Refuse bad vectors; returns how long the longest of the others is, 0 without any."""
    longest = 0
    for r in range(lo, hi):
        if src.status[r] == 0:
            size = src.cols.len[FIELD.vector, r]
            src.status[r] = _fault(src.buf, src.cols.pos[FIELD.vector, r], size)
            if src.status[r] == 0:
                longest = max(longest, size // SINGLE)
    return longest


@kernel
def _predict(
    settings: Floats, e: Entities, k: int, plans: Plans, plan: int, work: Work, predicted: Floats
) -> None:
    """predicted = what row k's state says comes next."""
    n, last = e.dim[k], st.part(e, k, st.LAST)
    if plan >= 0:
        graph = Operator(int(settings[s.GRAPH]), work.small[0], work.small[1])  # its numbers: none
        scale, at = plans.scale[plan], plans.at[plan]
        coefficients = plans.coefficients[at : at + plans.size[plan]]
        if settings[s.METHOD] == CHEBYSHEV:
            chebyshev(graph, coefficients, scale, last, n, predicted, work.a, work.b, work.c)
        else:
            lanczos(graph, coefficients, scale, last, n, predicted, work.basis, work.small)
        return
    source = st.part(e, k, st.LEVEL) if settings[s.PREDICTOR] == rule.MAHAL else last
    for i in range(n):
        predicted[i] = source[i]


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
def _begin(e: Entities, k: int, seen: Floats) -> None:
    """Row k, which has room, begins (anew)."""
    e.restarts[k] += 1 if e.n[k] > 0 else 0
    e.n[k] = 0
    level, step, ratio = st.part(e, k, st.LEVEL), st.part(e, k, st.STEP), st.part(e, k, st.RATIO)
    rule.begin(seen, level, step, ratio, st.runs_of(e, k), e.dim[k])
    st.reset(e, k)
    cal.clear(st.window_of(e, k))


@entry
def diffusion_time(settings: Floats) -> float:
    """How long heat spreads: less for a sleeper."""
    return float(settings[s.TIME] * TIME[depth(settings)])


@kernel
def _follow(settings: Floats, e: Entities, k: int, seen: Floats, predicted: Floats) -> float:
    """Steps 2 and 3 of rule.py: the error, as on the wire, of an observation that was predicted.

    Who sleeps learns the slower; where it doesn't learn at all, nothing moves.
    """
    part = LEARNING[depth(settings)]
    n, last, runs = e.dim[k], st.part(e, k, st.LAST), st.runs_of(e, k)
    level, step, ratio = st.part(e, k, st.LEVEL), st.part(e, k, st.STEP), st.part(e, k, st.RATIO)
    if part > 0.0:
        count = e.n[k] + 1
        rule.follow(seen, last, level, step, ratio, runs, n, count, settings[s.FORGETTING], part)
    least = rule.resolution_of(last, n) if settings[s.PREDICTOR] == rule.HEAT else 0.0
    return rule.narrow(rule.error_of(seen, predicted, step, ratio, n, least))


@kernel
def _sample(e: Entities, k: int, right: bool, every: int, r: int, reports: Reports) -> None:
    """Step 1 of calibration.py: what waits came true or not."""
    window, learned = st.window_of(e, k), e.learned[k]
    held = cal.count(window, e.logit[k], learned[0], learned[1], right)
    cal.learn(learned, e.logit[k], right)
    e.samples[k] += 1
    if held >= every:
        cal.tell(window, learned[0], learned[1], e.samples[k], r, reports)
        cal.clear(window)


@kernel
def _confide(
    settings: Floats, e: Entities, k: int, error: float, r: int, reports: Reports
) -> float:
    """The confidence to publish; `error` as on the wire, the observation already counted in e.n."""
    on, logit = settings[s.CALIBRATE] != 0.0, cal.logit_of(error, settings[s.ALPHA])
    if not on or e.n[k] == 1 or LEARNING[depth(settings)] == 0.0:
        e.logit[k] = np.nan
    else:
        if not math.isnan(e.logit[k]):
            _sample(e, k, error <= e.median[k], int(settings[s.EVERY]), r, reports)
        e.median[k], e.run[k] = cal.median_after(e.median[k], e.run[k], error, e.n[k])
        e.logit[k] = logit
    if not on or e.samples[k] == 0:
        return rule.confidence_of(error, settings[s.ALPHA])
    return cal.sure(e.learned[k, 0] * logit + e.learned[k, 1])


@kernel
def _came(e: Entities, marks: Marks, k: int, ts: int, log_ms: int) -> None:
    """Row k had an observation."""
    e.n[k] += 1
    e.ts[k] = max(e.ts[k], ts)
    e.touched[k] = max(e.touched[k], log_ms)
    mark(marks, e.code[k])


@kernel
def _pass(
    e: Entities, marks: Marks, k: int, first: bool, seen: Floats, ts: int, log_ms: int
) -> None:
    """An observation of row k, which has room, whose tenant is frozen: it is the last one seen, and
    whether what was expected came true nobody learns.
    """
    if first:
        _begin(e, k, seen)
    last = st.part(e, k, st.LAST)
    for i in range(e.dim[k]):
        last[i] = seen[i]
    e.logit[k] = np.nan
    e.made[k] = 0
    _came(e, marks, k, ts, log_ms)


@entry
def fold_rows(
    src: Source, lo: int, hi: int, ids: Ints, e: Entities, marks: Marks, slot: Ints, table: Floats,
    version: int, plans: Plans, work: Work, found: Found, reports: Reports, out: Bytes,
) -> tuple[int, int]:  # fmt: skip
    """Fold records lo..hi-1 with status 0, of rows `ids`. Returns (next record, why it stopped).

    slot[owner] is a tenant's row in `table`, whose version is `version`. The vectors of next events
    go to `out`, where found.next_at wants them (-1: nowhere); it becomes -1 where there is none. Of
    whoever is frozen found.predictor is SILENT.
    """
    pos, length = src.cols.pos[FIELD.vector], src.cols.len[FIELD.vector]
    seen, single, next_at = work.seen, work.single, found.next_at
    for r in range(lo, hi):
        if src.status[r] != 0:
            continue
        k, n = ids[r], length[r] // SINGLE
        settings = table[slot[e.owner[k]]]
        first, plan = e.n[k] == 0 or e.dim[k] != n, -1
        silent = frozen(settings)
        onward = settings[s.NEXT] != 0.0 and next_at[r] >= 0 and not silent
        if reports.used[0] >= reports.record.shape[0]:
            return r, NEED_REPORTS
        if settings[s.PREDICTOR] == rule.HEAT and (onward or not first) and not silent:
            plan = find(plans, int(settings[s.GRAPH]), diffusion_time(settings), n)
            if plan < 0:
                return r, NEED_PLAN
        if not st.place(e, k, n):
            return r, NEED_POOL
        _read(src.buf, pos[r], n, single, seen)
        if silent:
            _pass(e, marks, k, first, seen, src.cols.i[FIELD.ts, r], src.log_ms[r])
            found.predictor[r], next_at[r] = SILENT, -1
            continue
        last, predicted = st.part(e, k, st.LAST), st.part(e, k, st.NEXT)
        error = rule.NEUTRAL_ERROR
        if first:
            _begin(e, k, seen)
        else:
            if e.made[k] != version:  # else it is what was published as the next event
                _predict(settings, e, k, plans, plan, work, predicted)
            error = _follow(settings, e, k, seen, predicted)
        for i in range(n):
            last[i] = seen[i]
        _came(e, marks, k, src.cols.i[FIELD.ts, r], src.log_ms[r])
        found.error[r] = error
        found.confidence[r] = rule.narrow(_confide(settings, e, k, error, r, reports))
        found.predictor[r] = int(settings[s.PREDICTOR])
        e.made[k] = version if onward else 0
        if onward:
            _predict(settings, e, k, plans, plan, work, predicted)
            _write(predicted, n, single, out, next_at[r])
        else:
            next_at[r] = -1
    return hi, DONE
