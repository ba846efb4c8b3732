"""The loop over a batch: from columns of observations to columns of predictor updates."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from agents.engine.places import put_place
from agents.engine.processor import ROOM_REASONS
from agents.predictors.diffusion import Graph, chebyshev, lanczos
from agents.predictors.plans import Plans, find
from agents.predictors.rule import (
    HEAT, MAHAL, NEUTRAL_ERROR, begin, confidence_of, error_of, narrow, remember,
)  # fmt: skip
from agents.predictors.settings import ALPHA, FORGETTING, GRAPH, METHOD, PREDICTOR, TIME
from agents.predictors.state import LIVE, SEPARATOR, Entities, mark, place
from topics.columns import Cols

DIM_MAX = 32_768  # numbers in a vector: a state row of 20 bytes a number must fit into 1 MiB
CHEBYSHEV = 0

# Why a vector is refused, in the order of agent.PROCESSOR.reasons.
REASONS = ("vector_empty", "vector_ragged", "vector_too_long", "vector_not_finite")
EMPTY, RAGGED, TOO_LONG, NOT_FINITE = range(ROOM_REASONS, ROOM_REASONS + 4)

# What `fold_rows` stopped for.
DONE, NEED_POOL, NEED_PLAN, NEED_ROOM = range(4)

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


class Sink(NamedTuple):
    """Where predictor updates go, and where their fields stand. `words`: spans [2, 4] in scratch of
    the three predictors' names, in the order of rule.HEAT …, and of the model's version."""

    cols: Cols
    cause: Ints
    scratch: Bytes
    words: Ints
    prefix: Bytes
    tenant: int
    domain: int
    predictor_type: int
    model_version: int
    observation_id: int
    error_metric: int
    prediction_latency_ms: int
    confidence: int
    vector_dim: int
    ts: int


class Work(NamedTuple):
    """Room for one vector's computation; rows of `lines` are as long as the longest vector."""

    single: NDArray[np.float32]
    lines: Floats  # [5, dim]
    basis: Floats  # [LANCZOS_STEPS + 1, dim]
    small: Floats  # [LANCZOS_WORK, LANCZOS_STEPS]
    graphs: tuple[Graph, Graph, Graph, Graph]  # in the order of diffusion.NONE …


@njit(cache=True, nogil=True, error_model="numpy")
def _fault(buf: Bytes, p: int, size: int) -> int:
    """Status of a vector's bytes: 0, or why it can't be folded."""
    if size == 0:
        return EMPTY
    if size % 4 != 0:
        return RAGGED
    if size > 4 * DIM_MAX:
        return TOO_LONG
    for j in range(p + 2, p + size, 4):
        if buf[j] & 0x80 and buf[j + 1] & 0x7F == 0x7F:  # all bits of the exponent
            return NOT_FINITE
    return 0


@njit(cache=True, nogil=True, error_model="numpy")
def inspect(src: Source, lo: int, hi: int) -> tuple[int, int, int]:
    """Refuse bad vectors. Returns (records left, bytes of their keys, longest vector).

    (-1, row, 0) if a span of a record lies outside the buffer.
    """
    good, size, longest, end = 0, 0, 0, src.buf.shape[0]
    for r in range(lo, hi):
        if src.status[r] != 0:
            continue
        for slot in (src.tenant, src.domain, src.vector):
            p, n = src.cols.pos[slot, r], src.cols.len[slot, r]
            if p < 0 or n < 0 or p + n > end:
                return -1, r, 0
        length = src.cols.len[src.vector, r]
        fault = _fault(src.buf, src.cols.pos[src.vector, r], length)
        if fault != 0:
            src.status[r] = fault
            continue
        good += 1
        size += src.cols.len[src.tenant, r] + 1 + src.cols.len[src.domain, r]
        longest = max(longest, length // 4)
    return good, size, longest


@njit(cache=True, nogil=True, error_model="numpy")
def join(src: Source, lo: int, hi: int, keys: Bytes, pos: Ints, size: Ints, tenant_size: Ints) -> None:
    """Write the keys "tenant 0x1f domain" of the records with status 0; `inspect` gave their bytes."""
    used = 0
    for r in range(lo, hi):
        if src.status[r] != 0:
            continue
        pos[r] = used
        p, n = src.cols.pos[src.tenant, r], src.cols.len[src.tenant, r]
        for j in range(n):
            keys[used + j] = src.buf[p + j]
        tenant_size[r] = n
        used += n
        keys[used] = SEPARATOR
        used += 1
        p, n = src.cols.pos[src.domain, r], src.cols.len[src.domain, r]
        for j in range(n):
            keys[used + j] = src.buf[p + j]
        used += n
        size[r] = used - pos[r]


@njit(cache=True, nogil=True, error_model="numpy")
def _predict(last: Floats, mean: Floats, settings: Floats, plans: Plans, plan: int, work: Work, n: int) -> None:
    """work.lines[1] = the prediction from the state before the observation."""
    predicted = work.lines[1]
    if plan >= 0:
        graph = work.graphs[int(settings[GRAPH])]
        at = plans.at[plan]
        coefficients = plans.coefficients[at : at + plans.size[plan]]
        scale = plans.scale[plan]
        if settings[METHOD] == CHEBYSHEV:
            a, b, c = work.lines[2], work.lines[3], work.lines[4]
            chebyshev(graph, coefficients, scale, last, n, predicted, a, b, c)
        else:
            lanczos(graph, coefficients, scale, last, n, predicted, work.basis, work.small)
        return
    given = mean if settings[PREDICTOR] == MAHAL else last
    for i in range(n):
        predicted[i] = given[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _emit(sink: Sink, src: Source, r: int, row: int, used: int, word: int, error: float, confidence: float, dim: int) -> int:
    """Write one update; returns the end of scratch, -1 if there is no room for the id."""
    end = put_place(sink.scratch, used, sink.prefix, src.offsets[r])
    if end < 0:
        return -1
    cols = sink.cols
    cols.pos[sink.tenant, row] = src.cols.pos[src.tenant, r]
    cols.len[sink.tenant, row] = src.cols.len[src.tenant, r]
    cols.pos[sink.domain, row] = src.cols.pos[src.domain, r]
    cols.len[sink.domain, row] = src.cols.len[src.domain, r]
    cols.pos[sink.predictor_type, row] = sink.words[0, word]
    cols.len[sink.predictor_type, row] = sink.words[1, word]
    cols.pos[sink.model_version, row] = sink.words[0, 3]
    cols.len[sink.model_version, row] = sink.words[1, 3]
    cols.pos[sink.observation_id, row] = used
    cols.len[sink.observation_id, row] = end - used
    ts = src.cols.i[src.ts, r]
    cols.f[sink.error_metric, row] = narrow(error)
    cols.f[sink.confidence, row] = narrow(confidence)
    cols.f[sink.prediction_latency_ms, row] = narrow((src.log_ms[r] * 1000 - ts) / 1000.0)
    cols.i[sink.vector_dim, row] = dim
    cols.i[sink.ts, row] = ts
    sink.cause[row] = r
    return int(end)


@njit(cache=True, nogil=True, error_model="numpy")
def _learn(e: Entities, pool: Floats, k: int, first: bool, settings: Floats, plans: Plans, plan: int, work: Work, n: int) -> float:
    """One round of the law for entity k, whose vectors have their place. Returns the error."""
    at, room = e.at[k], e.room[k]
    last = pool[at : at + n]
    mean = pool[at + room : at + room + n]
    m2 = pool[at + 2 * room : at + 2 * room + n]
    seen = work.lines[0]
    error = NEUTRAL_ERROR
    if first:
        e.restarts[k] += 1 if e.n[k] > 0 else 0
        e.n[k] = 0
        e.weight[k] = begin(seen, mean, m2, n)
    else:
        _predict(last, mean, settings, plans, plan, work, n)
        e.weight[k] = remember(seen, mean, m2, e.weight[k], n, settings[FORGETTING])
        error = error_of(seen, work.lines[1], m2, e.weight[k], n)
    for i in range(n):
        last[i] = seen[i]
    e.n[k] += 1
    return error


@njit(cache=True, nogil=True, error_model="numpy")
def fold_rows(src: Source, lo: int, hi: int, ids: Ints, e: Entities, pool: Floats, table: Floats, plans: Plans, work: Work, sink: Sink, row: int, used: int) -> tuple[int, int, int, int]:
    """Fold records lo..hi-1 with status 0. Returns (next record, why it stopped, row, scratch used)."""
    for r in range(lo, hi):
        if src.status[r] != 0:
            continue
        k = ids[r]
        n = src.cols.len[src.vector, r] // 4
        settings = table[e.slot[e.owner[k]]]
        first = e.n[k] == 0 or e.dim[k] != n
        plan = -1
        if not first and settings[PREDICTOR] == HEAT:
            plan = find(plans, int(settings[GRAPH]), settings[TIME], n)
            if plan < 0:
                return r, NEED_PLAN, row, used
        if not place(e, pool.shape[0], k, n):
            return r, NEED_POOL, row, used
        p = src.cols.pos[src.vector, r]
        work.single[:n].view(np.uint8)[:] = src.buf[p : p + 4 * n]
        for i in range(n):
            work.lines[0, i] = np.float64(work.single[i])
        error = _learn(e, pool, k, first, settings, plans, plan, work, n)
        e.counts[LIVE] += 1 - e.live[k]
        e.live[k] = 1
        e.ts[k] = max(e.ts[k], src.cols.i[src.ts, r])
        e.touched[k] = max(e.touched[k], src.log_ms[r])
        mark(e, k)
        confidence = confidence_of(error, settings[ALPHA])
        used = _emit(sink, src, r, row, used, int(settings[PREDICTOR]), error, confidence, n)
        if used < 0:
            return r, NEED_ROOM, row, used
        row += 1
    return hi, DONE, row, used
