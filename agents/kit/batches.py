"""What the kernels of a columnar law take of a batch and write into an output."""

from typing import NamedTuple

import numpy as np

from agents.engine.processor import Batch, Output
from agents.engine.records import put_bytes
from agents.kit.packing import SEPARATOR, Bytes, Ints
from topics.columns import Cols
from topics.compiled import entry, kernel


class Source(NamedTuple):
    """A batch: see `processor.Batch`. The reader has checked that all spans lie inside `buf`."""

    buf: Bytes
    cols: Cols
    offsets: Ints
    log_ms: Ints
    status: Bytes


class Sink(NamedTuple):
    """An output: see `processor.Output`."""

    cols: Cols
    cause: Ints
    scratch: Bytes


def source_of(batch: Batch) -> Source:
    """The batch as kernels take it."""
    return Source(batch.buf, batch.columns.cols, batch.offsets, batch.log_ms, batch.status)


def sink_of(out: Output) -> Sink:
    """The output as kernels take it, as it is now: reserving makes other arrays."""
    return Sink(out.columns.cols, out.cause, out.scratch.data)


@kernel
def copy_span(given: Cols, slot: int, i: int, out: Cols, to: int, o: int) -> None:
    """A span of record i becomes one of row o."""
    out.pos[to, o] = given.pos[slot, i]
    out.len[to, o] = given.len[slot, i]


@entry
def _join(
    s: Source, tenant: int, domain: int, lo: int, hi: int, out: Bytes, pos: Ints, size: Ints
) -> int:
    """The names of records lo..hi-1, as many as `out` has room for; returns the bytes of all."""
    used = 0
    for i in range(lo, hi):
        if s.status[i] != 0:
            continue
        pos[i], size[i] = used, s.cols.len[tenant, i] + 1 + s.cols.len[domain, i]
        used += size[i]
        if used <= out.shape[0]:
            at = put_bytes(out, pos[i], s.buf, s.cols.pos[tenant, i], s.cols.len[tenant, i])
            out[at] = SEPARATOR
            put_bytes(out, at + 1, s.buf, s.cols.pos[domain, i], s.cols.len[domain, i])
    return used


def joined(batch: Batch, lo: int, hi: int) -> tuple[Bytes, Ints, Ints]:
    """(text, pos, size): text[pos[i]:][:size[i]] is "tenant 0x1f domain" of record i.

    For records lo..hi-1 with status 0.
    """
    slots = batch.columns.layout.slots
    given, text, (pos, size) = source_of(batch), np.empty(0, np.uint8), np.empty((2, hi), np.int64)
    for _ in range(2):  # at first how much room it takes
        need = _join(given, slots["tenant"], slots["domain"], lo, hi, text, pos, size)
        text = text if need == text.shape[0] else np.empty(need, np.uint8)
    return text, pos, size
