"""What the law found of a batch, as columns of predictor updates, calibrations and next events."""

import numpy as np
from numpy.typing import NDArray

from agents.engine.derived_ids import ID_BYTES_MAX, put_derived_id
from agents.engine.processor import Output
from agents.kit.batches import Source
from agents.predictors import calibration as cal
from agents.predictors.kernels import FIELD, SINGLE, Found
from agents.predictors.settings import SETTINGS
from topics.compiled import entry

MODEL_VERSION = "1.0"

_WORDS = (*SETTINGS["predictor"].choices, MODEL_VERSION)
_BINS = {"bin_count": cal.COUNT, "bin_confidence": cal.CONFIDENCE, "bin_accuracy": cal.ACCURACY}

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


@entry
def _put_ids(
    out: Bytes, used: int, prefix: Bytes, offsets: Ints, records: Ints, pos: Ints, size: Ints
) -> int:
    """Writes the place of each record to out[used:], which has room for it; returns the end."""
    for k in range(records.shape[0]):
        end = put_derived_id(out, used, prefix, offsets[records[k]])
        pos[k], size[k] = used, end - used
        used = end
    return used


def _append(output: Output, source: Source, records: Ints, prefix: Bytes) -> slice:
    """Room for a record for each of these, with tenant, domain, ts and observation_id filled in."""
    m, at = records.shape[0], output.n
    output.reserve(m, 0, m * ID_BYTES_MAX)
    slots, here = output.columns.layout.slots, slice(at, at + m)
    given, cols = source.cols, output.columns.cols
    for name, slot in (("tenant", FIELD.tenant), ("domain", FIELD.domain)):
        cols.pos[slots[name], here] = given.pos[slot][records]
        cols.len[slots[name], here] = given.len[slot][records]
    cols.i[slots["ts"], here] = given.i[FIELD.ts][records]
    ids = slots["observation_id"]
    output.scratch.used = _put_ids(
        output.scratch.data, output.scratch.used, prefix, source.offsets, records,
        cols.pos[ids, here], cols.len[ids, here],
    )  # fmt: skip
    output.cause[here] = records
    output.n += m
    return here


def updates(output: Output, source: Source, records: Ints, found: Found, prefix: Bytes) -> None:
    """Add the update of each of these records; `prefix` stands before the offset in an id."""
    text = output.scratch.append("".join(_WORDS).encode())
    here = _append(output, source, records, prefix)
    slots, cols = output.columns.layout.slots, output.columns.cols
    size = np.array([len(word) for word in _WORDS], np.int64)
    start = text + np.cumsum(size) - size
    word = found.predictor[records]
    cols.pos[slots["predictor_type"], here] = start[word]
    cols.len[slots["predictor_type"], here] = size[word]
    cols.pos[slots["model_version"], here] = start[-1]
    cols.len[slots["model_version"], here] = size[-1]
    ts = cols.i[slots["ts"], here]
    cols.f[slots["error_metric"], here] = found.error[records]
    cols.f[slots["confidence"], here] = found.confidence[records]
    late_ms = (source.log_ms[records] * 1000 - ts) / 1000.0
    cols.f[slots["prediction_latency_ms"], here] = late_ms.astype(np.float32)
    cols.i[slots["vector_dim"], here] = source.cols.len[FIELD.vector][records] // SINGLE


def calibrations(output: Output, source: Source, reports: cal.Reports, prefix: Bytes) -> None:
    """Add each record."""
    m = int(reports.used[0])
    if not m:
        return
    output.reserve(m, 2 * len(_BINS) * cal.BINS * m)
    here = _append(output, source, reports.record[:m], prefix)
    slots, columns = output.columns.layout.slots, output.columns
    cols = columns.cols
    for name, figure in zip(cal.FIGURES, reports.figures, strict=True):
        cols.f[slots[name], here] = figure[:m]
    cols.i[slots["samples"], here] = reports.samples[:m]
    for name in ("slope", "bias"):
        cols.null[columns.layout.null_slots[name], here] = 0
    for which, suffix in enumerate(("", "_post")):
        for name, row in _BINS.items():
            slot, end = slots[name + suffix], columns.used + cal.BINS * m
            values = np.ascontiguousarray(reports.bins[which, row, :, :m].T).ravel()
            children = cols.vi if name == "bin_count" else cols.vf
            children[columns.used : end] = values
            cols.at[slot, here] = np.arange(columns.used, end, cal.BINS)
            cols.cnt[slot, here] = cal.BINS
            columns.used = end


def place(output: Output, source: Source, records: Ints, found: Found, wanted: bool) -> None:
    """Give the next event of each of these records room for its vector, in found.next_at."""
    if not wanted:
        found.next_at[records] = -1
        return
    size = source.cols.len[FIELD.vector][records]
    end = output.scratch.used + np.cumsum(size)
    found.next_at[records] = end - size
    output.scratch.reserve(int(size.sum()))
    output.scratch.used += int(size.sum())


def next_events(output: Output, source: Source, records: Ints, found: Found, prefix: Bytes) -> None:
    """Add the next event of each of these records, whose vectors are in the scratch already."""
    if not records.shape[0]:
        return
    here = _append(output, source, records, prefix)
    slots, nulls = output.columns.layout.slots, output.columns.layout.null_slots
    cols = output.columns.cols
    cols.pos[slots["predicted_state"], here] = found.next_at[records]
    cols.len[slots["predicted_state"], here] = source.cols.len[FIELD.vector][records]
    cols.f[slots["confidence"], here] = found.confidence[records]
    cols.f[slots["regret"], here] = np.nan
    cols.null[nulls["regret"], here] = 1
    cols.at[slots["metadata"], here] = 0
    cols.cnt[slots["metadata"], here] = 0
