"""What a fold wrote, encoded and framed: outputs as record batches, state rows as bytes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from agents.engine.builder import RawBuilder
from agents.engine.errors import LawFailed
from agents.engine.plan import Plan, Sink
from agents.engine.processor import Output, StateRows
from agents.engine.records import frame
from agents.engine.workspace import FRAME_BYTES, Outcome, Workspace
from topics.catalogue import MESSAGE_BYTES_MAX
from topics.columns import Buffer, Columns, Writer

Bytes = NDArray[np.uint8]
Keys = tuple[Bytes, NDArray[np.int64], NDArray[np.int64]]  # a buffer, and where each lies in it


def emit(
    ws: Workspace, sink: Sink, output: Output, names: Bytes, here: int, outcome: Outcome
) -> None:
    """Encode and frame what a fold wrote for one sink; `here` is its own partition.

    Raises LawFailed for a record that is too large.
    """
    n = output.n
    if not n:
        return
    outcome.outputs += n
    keys = keys_of(ws, output)
    for to, rows in homes_of(output, here):
        send(ws, sink, output, names, rows, keys, to, outcome)


def homes_of(output: Output, here: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Partitions, and which of a sink's records go to each; `here` is the fold's own."""
    if not output.own:
        yield here, np.arange(output.n)
        return
    dest = np.array([here if to < 0 else to for _, to in output.own], np.int64)
    for to in np.unique(dest).tolist():
        yield to, np.flatnonzero(dest == to)


def keys_of(ws: Workspace, output: Output) -> Keys:
    """The keys of what a fold wrote: its own, or the tenants of the causes."""
    cause = output.cause[: output.n]
    kpos, klen = ws.tpos[cause], ws.tlen[cause]
    if not output.own:
        return ws.buf.data, kpos, klen
    given = [
        key if key is not None else ws.buf.data[kpos[k] : kpos[k] + klen[k]].tobytes()
        for k, (key, _) in enumerate(output.own)
    ]
    klen = np.fromiter(map(len, given), np.int64, output.n)
    return np.frombuffer(bytearray(b"".join(given)), np.uint8), np.cumsum(klen) - klen, klen


def send(
    ws: Workspace, sink: Sink, output: Output, names: Bytes, rows: NDArray[np.int64],
    keys: Keys, to: int, outcome: Outcome,
) -> None:  # fmt: skip
    """Encode and frame these of a sink's records, for one partition of it. As `emit`."""
    n, lo = rows.shape[0], 0
    off, gone = encode_output(ws, sink, output, names, rows)
    while lo < n:
        hi, end = frame(ws.frame, 0, FRAME_BYTES, rows, lo, n, *keys, ws.encoded.data, off, gone)
        builder = RawBuilder(ws.frame[:end], hi - lo) if hi > lo else None
        if builder is None or builder.size() > MESSAGE_BYTES_MAX:
            size = int(off[lo + 1] - off[lo])
            cause = int(output.cause[rows[lo]])
            raise LawFailed(
                cause,
                f"an output of {size} bytes; {sink.topic} takes {MESSAGE_BYTES_MAX}, compressed",
            )
        outcome.sends.append((sink.topic, to, builder))
        lo = hi


def encode_output(
    ws: Workspace, sink: Sink, output: Output, names: Bytes, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Bytes]:
    """Encode these of a sink's records into `ws.encoded`.

    Returns (off, gone): record k is off[k]..off[k+1]; a deletion has no bytes, and gone[k] is 1.
    """
    gone = np.zeros(rows.shape[0], np.uint8)
    if output.gone:
        gone[np.isin(rows, list(output.gone))] = 1
    ws.encoded.clear()
    bufs = (ws.buf.data, names, output.scratch.data)
    return _encode(sink.writer, output.columns, rows, gone, bufs, ws.encoded), gone


def encode_rows(plan: Plan, rows: StateRows, names: Bytes, out: Buffer) -> NDArray[np.int64]:
    """Encode state rows into `out`.

    Returns off: row k is out.data[off[k]:off[k+1]], nothing for a tombstone.
    """
    bufs = (_NOTHING, names, rows.scratch.data)
    index, gone = np.arange(rows.n), rows.gone[: rows.n]
    return _encode(plan.state_writer, rows.columns, index, gone, bufs, out)


def _encode(
    writer: Writer, columns: Columns, rows: NDArray[np.int64], gone: Bytes,
    bufs: tuple[Bytes, Bytes, Bytes], out: Buffer,
) -> NDArray[np.int64]:  # fmt: skip
    """Encode these rows of columns, those that aren't gone."""
    if not gone.any():
        off = np.empty(rows.shape[0] + 1, np.int64)
        writer.encode(columns, rows, bufs, out, off)
        return off
    live = np.flatnonzero(gone == 0)
    ends = np.empty(live.shape[0] + 1, np.int64)
    writer.encode(columns, rows[live], bufs, out, ends)
    sizes = np.zeros(rows.shape[0], np.int64)
    sizes[live] = np.diff(ends)
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))


_NOTHING = np.empty(0, np.uint8)
