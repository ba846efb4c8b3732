"""What the law found of a batch, as columns of predictor updates."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from agents.engine.places import PLACE_MAX, put_place
from agents.engine.processor import Output
from agents.predictors.kernels import Found, Source
from agents.predictors.settings import CHOICES

MODEL_VERSION = "1.0"

_WORDS = (*CHOICES["predictor"], MODEL_VERSION)

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


@njit(cache=True, nogil=True, error_model="numpy")
def _put_ids(
    out: Bytes, used: int, prefix: Bytes, offsets: Ints, records: Ints, pos: Ints, size: Ints
) -> int:
    """Writes the place of each record to out[used:]; returns the end, -1 where there is no room."""
    for k in range(records.shape[0]):
        end = put_place(out, used, prefix, offsets[records[k]])
        if end < 0:
            return -1
        pos[k] = used
        size[k] = end - used
        used = end
    return used


def append(output: Output, source: Source, records: Ints, found: Found, prefix: Bytes) -> None:
    """Add the update of each of these records; `prefix` stands before the offset in an id."""
    m, at = records.shape[0], output.n
    text = output.scratch.append("".join(_WORDS).encode())
    output.reserve(m, 0, m * PLACE_MAX)
    slots, here = output.columns.layout.slots, slice(at, at + m)
    given, cols = source.cols, output.columns.cols
    for name, slot in (("tenant", source.tenant), ("domain", source.domain)):
        cols.pos[slots[name], here] = given.pos[slot][records]
        cols.len[slots[name], here] = given.len[slot][records]
    size = np.array([len(word) for word in _WORDS], np.int64)
    start = text + np.cumsum(size) - size
    word = found.predictor[records]
    cols.pos[slots["predictor_type"], here] = start[word]
    cols.len[slots["predictor_type"], here] = size[word]
    cols.pos[slots["model_version"], here] = start[-1]
    cols.len[slots["model_version"], here] = size[-1]
    ts = given.i[source.ts][records]
    cols.f[slots["error_metric"], here] = found.error[records]
    cols.f[slots["confidence"], here] = found.confidence[records]
    late_ms = (source.log_ms[records] * 1000 - ts) / 1000.0
    cols.f[slots["prediction_latency_ms"], here] = late_ms.astype(np.float32)
    cols.i[slots["vector_dim"], here] = given.len[source.vector][records] // 4
    cols.i[slots["ts"], here] = ts
    ids = slots["observation_id"]
    output.scratch.used = _put_ids(
        output.scratch.data, output.scratch.used, prefix, source.offsets, records,
        cols.pos[ids, here], cols.len[ids, here],
    )  # fmt: skip
    if output.scratch.used < 0:
        raise ValueError("an offset is negative, or its id is longer than any can be")
    output.cause[here] = records
    output.n += m
