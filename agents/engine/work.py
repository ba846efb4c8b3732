"""What happens to fetched batches in a thread: parse, decode, check, fold, encode, frame.

All big arrays belong to a workspace; there are as many as threads, whatever the number of
partitions. The result is a list of ready record batches: one transaction's content.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from agents.engine import reasons
from agents.engine.batches import BadBatch, RawBatch, unpack
from agents.engine.builder import RawBuilder
from agents.engine.checks import admit, classify
from agents.engine.control import read_control
from agents.engine.forward import forward
from agents.engine.letters import Letters
from agents.engine.plan import Plan, Sink
from agents.engine.processor import Asking, Batch, Counting, Fold, Output, Place, StateRows
from agents.engine.records import frame, frame_one, parse
from agents.engine.workspace import FRAME_BYTES, Outcome, Workspace, empty_rows
from topics import codec
from topics.columns import Buffer, Columns, Writer

POSITION_KEY = b"@position"
PositionMaker = Callable[[int], bytes]  # next offset -> the position row


class UnknownSchema(Exception):
    """A topic that only we write holds a schema id that this version doesn't know."""


class Worker:
    """Runs batches of one partition through its fold. Not for two threads at a time."""

    def __init__(self, plan: Plan, place: Place, fold: Fold) -> None:
        self.plan = plan
        self.place = place
        self.fold = fold
        # Asked of a protocol once: it takes as long as folding a record.
        self._asking = fold if isinstance(fold, Asking) else None
        self._counting = fold if isinstance(fold, Counting) else None

    def run(
        self, ws: Workspace, batches: list[RawBatch], first: int, position: PositionMaker
    ) -> Outcome:
        """Fold the records from offset `first` on: all of them, or as many as the workspace holds.

        Raises UnknownSchema; whatever else it raises is a defect, and the fold is then spent.
        """
        ws.clear()
        letters = Letters(self.plan, self.place, batches)
        done = self._parse(ws, batches, first, letters)
        outcome = Outcome(next_offset=done)
        self._decode(ws, letters)
        self._fold(ws, letters, outcome)
        for sink, output in zip(self.plan.sinks, ws.outputs, strict=True):
            self._emit(ws, sink, output, outcome)
        forward(self.plan, self.place, ws, outcome)
        self._bury(ws, letters, outcome)
        self._keep(ws, position(done), outcome)
        if self._asking is not None:
            outcome.questions = self._asking.questions()
        if self._counting is not None:
            outcome.counted = self._counting.counted()
        return outcome

    def _parse(self, ws: Workspace, batches: list[RawBatch], first: int, letters: Letters) -> int:
        """Fill the workspace's spans; returns the offset behind the last record taken."""
        done = first
        for batch in batches:
            if batch.next_offset <= first:
                continue
            room = ws.offs.shape[0] - ws.n
            if room <= 0:
                break
            try:
                body = unpack(batch, self.plan.unpacked_max)
            except BadBatch as error:
                letters.add_batch(batch, str(error))
                done = batch.next_offset
                continue
            at = ws.buf.used
            if at and at + body.shape[0] > self.plan.unpacked_max:
                break  # the limit holds for a transaction: each of many small batches may be a bomb
            ws.buf.reserve(body.shape[0])
            ws.buf.data[at : at + body.shape[0]] = body
            ws.buf.used += body.shape[0]
            stored = self._spans(ws, batch, at, first)
            if stored < 0:
                letters.add_batch(batch, "its lengths, counts or offsets contradict each other")
                ws.buf.used = at
            else:
                ws.n += stored
            if stored == room and ws.offs[ws.n - 1] + 1 < batch.next_offset:
                return int(ws.offs[ws.n - 1]) + 1
            done = batch.next_offset
        return done

    @staticmethod
    def _spans(ws: Workspace, batch: RawBatch, at: int, first: int) -> int:
        stamp = np.array([batch.first_ms, batch.max_ms, batch.log_append_time], np.int64)
        return int(
            parse(
                ws.buf.data, at, ws.buf.used, batch.count, batch.base_offset, batch.next_offset,
                stamp, first, ws.offs, ws.ms, ws.kpos, ws.klen, ws.vpos, ws.vlen,
                ws.hpos, ws.hlen, ws.hcnt, ws.n,
            )
        )  # fmt: skip

    def _decode(self, ws: Workspace, letters: Letters) -> None:
        """Columns of all records that can be folded here, and the status of the others."""
        plan, n, status = self.plan, ws.n, ws.status[: ws.n]
        odd = classify(ws.buf.data, ws.vpos, ws.vlen, n, plan.reserved, ws.status)
        written = self._from_json(ws, letters) if odd else {}
        self._read(ws, status)
        if not plan.public and (status == reasons.UNKNOWN_SCHEMA).any():
            at = int(ws.offs[int(np.argmax(status == reasons.UNKNOWN_SCHEMA))])
            raise UnknownSchema(f"{plan.source}/{self.place.partition} offset {at}")
        self._admit(ws, status)
        for r, (pos, length) in written.items():
            ws.vpos[r], ws.vlen[r] = pos, length

    def _read(self, ws: Workspace, status: NDArray[np.uint8]) -> None:
        """Columns of each of the source's schemas; what isn't of the first may be of another."""
        n, left = ws.n, status
        for k, (kind, columns) in enumerate(zip(self.plan.kinds, ws.columns_of, strict=True)):
            constants = ws.buf.append(kind.reader.constants)
            kind.reader.decode(ws.buf.data, ws.vpos[:n], ws.vlen[:n], left, columns, constants)
            if k:
                mine = (status == reasons.UNKNOWN_SCHEMA) & (left != reasons.UNKNOWN_SCHEMA)
                status[mine], ws.kind[:n][mine] = left[mine], k
            unread = status == reasons.UNKNOWN_SCHEMA
            if k + 1 == len(self.plan.kinds) or not unread.any():
                return
            left = np.where(unread, reasons.OK, reasons.UNKNOWN_SCHEMA).astype(np.uint8)

    def _admit(self, ws: Workspace, status: NDArray[np.uint8]) -> None:
        """Check what was read, by the rules of each schema; and note where its tenants stand."""
        n, several = ws.n, len(self.plan.kinds) > 1
        for k, (kind, columns) in enumerate(zip(self.plan.kinds, ws.columns_of, strict=True)):
            cols = columns.cols
            tpos, tlen = cols.pos[kind.tenant], cols.len[kind.tenant]
            mine = ws.kind[:n] == k if several else np.empty(0, np.bool_)
            if several and not mine.any():
                continue
            found = np.where(mine, status, reasons.DONE).astype(np.uint8) if several else status
            admit(
                ws.buf.data, n, cols.pos, cols.len, kind.strings, kind.limits,
                kind.tenant, kind.domain, cols.i[kind.ts] if kind.ts >= 0 else _NO_TIMES, ws.ms,
                ws.kpos, ws.klen, self.place.partition, self.plan.partitions, found, ws.dest,
            )  # fmt: skip
            if several:
                status[mine] = found[mine]
                ws.tpos[:n][mine], ws.tlen[:n][mine] = tpos[:n][mine], tlen[:n][mine]
            else:
                ws.tpos, ws.tlen = tpos, tlen

    def _from_json(self, ws: Workspace, letters: Letters) -> dict[int, tuple[int, int]]:
        """Records that people wrote as JSON become Avro behind the others, in the same buffer.

        Returns the spans of their texts: what is forwarded, or becomes a dead letter, are those.
        """
        written: dict[int, tuple[int, int]] = {}
        for r in np.flatnonzero(ws.status[: ws.n] == reasons.JSON):
            text = ws.buf.data[ws.vpos[r] : ws.vpos[r] + ws.vlen[r]].tobytes()
            try:
                value = self._written(text)
            except codec.BadRecord as error:
                ws.status[r] = reasons.BAD_JSON
                letters.details[int(r)] = error.detail
                continue
            written[int(r)] = int(ws.vpos[r]), int(ws.vlen[r])
            ws.vpos[r], ws.vlen[r] = ws.buf.append(value), len(value)
            ws.status[r] = reasons.OK
        return written

    def _written(self, text: bytes) -> bytes:
        """The Avro of a JSON text: a record of the first of the source's schemas that it fits.

        Raises BadRecord, which says of each schema why it isn't one of it.
        """
        said: list[str] = []
        for kind in self.plan.kinds:
            try:
                return codec.encode(kind.schema, codec.from_json(kind.schema, text))
            except codec.BadRecord as error:
                said.append(error.detail)
        if len(said) > 1:
            said = [f"{k.schema}: {why}" for k, why in zip(self.plan.kinds, said, strict=True)]
        raise codec.BadRecord("bad_json", " | ".join(said))

    def _fold(self, ws: Workspace, letters: Letters, outcome: Outcome) -> None:
        """Fold the good records, with the control records between them in their places."""
        n, status = ws.n, ws.status[: ws.n]
        batch = Batch(
            ws.buf.data, ws.columns, ws.offs, ws.ms, ws.status, letters.details,
            ws.kind if len(self.plan.kinds) > 1 else None, ws.columns_of[1:],
        )  # fmt: skip
        lo = 0
        for r in np.flatnonzero(status == reasons.CONTROL):
            self.fold.fold(batch, lo, int(r), ws.outputs)
            ws.status[r] = self._control(ws, int(r), letters)
            lo = int(r) + 1
        self.fold.fold(batch, lo, n, ws.outputs)
        good = np.flatnonzero(status == reasons.OK)
        if good.shape[0]:
            outcome.newest_ts = self._time(ws, int(good[-1]))
        outcome.results["folded"] = int(good.shape[0])
        outcome.results["control"] = int((status == reasons.DONE).sum())

    def _time(self, ws: Workspace, r: int) -> int:
        """A record's event time, or the log's where it has none; microseconds."""
        at = int(ws.kind[r]) if len(self.plan.kinds) > 1 else 0
        slot = self.plan.kinds[at].ts
        return int(ws.columns_of[at].cols.i[slot, r]) if slot >= 0 else int(ws.ms[r]) * 1000

    def _control(self, ws: Workspace, r: int, letters: Letters) -> int:
        """Obey a control record; returns its new status."""
        value = ws.buf.data[ws.vpos[r] : ws.vpos[r] + ws.vlen[r]].tobytes()
        control, refusal = read_control(
            value, self.plan, self.place, int(ws.offs[r]), int(ws.ms[r])
        )
        refusal = self.fold.control(control) if control is not None else refusal
        if refusal is None:
            return reasons.DONE
        letters.details[r] = refusal
        return reasons.CONTROL_REFUSED

    def _emit(self, ws: Workspace, sink: Sink, output: Output, outcome: Outcome) -> None:
        """Encode and frame what the fold wrote for one sink."""
        n, here = output.n, self.place.partition
        if not n:
            return
        outcome.outputs += n
        cause = output.cause[:n]
        kpos, klen = ws.tpos[cause], ws.tlen[cause]
        if not output.own:
            keys = ws.buf.data, kpos, klen
            self._send(ws, sink, output, np.arange(n), here, keys, outcome)
            return
        given = [
            key if key is not None else ws.buf.data[kpos[k] : kpos[k] + klen[k]].tobytes()
            for k, (key, _) in enumerate(output.own)
        ]
        klen = np.fromiter(map(len, given), np.int64, n)
        keys = np.frombuffer(bytearray(b"".join(given)), np.uint8), np.cumsum(klen) - klen, klen
        dest = np.array([here if to < 0 else to for _, to in output.own], np.int64)
        for to in np.unique(dest).tolist():
            self._send(ws, sink, output, np.flatnonzero(dest == to), to, keys, outcome)

    def _send(
        self, ws: Workspace, sink: Sink, output: Output, rows: NDArray[np.int64], to: int,
        keys: tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]], outcome: Outcome,
    ) -> None:  # fmt: skip
        """Encode and frame these of a sink's records, for one partition of it."""
        n, topic = rows.shape[0], sink.topic
        gone = np.isin(rows, list(output.gone)).astype(np.uint8) if output.gone else _none(n)
        ws.encoded.clear()
        bufs = (ws.buf.data, self.fold.names, output.scratch.data)
        off = _encode(sink.writer, output.columns, rows, gone, bufs, ws.encoded)
        lo = 0
        while lo < n:
            hi, end = frame(
                ws.frame, 0, FRAME_BYTES, rows, lo, n, *keys, ws.encoded.data, off, gone
            )
            if hi <= lo:
                raise ValueError(f"record {lo} of {n} for {topic} can't be framed")
            outcome.sends.append((topic, to, RawBuilder(ws.frame[:end], hi - lo)))
            lo = hi

    def _bury(self, ws: Workspace, letters: Letters, outcome: Outcome) -> None:
        """Dead letters, for all that could not be folded or forwarded."""
        status = ws.status[: ws.n]
        gone = (status == reasons.OK) | (status == reasons.MISROUTED) | (status == reasons.DONE)
        letters.add_rows(ws, np.flatnonzero(~gone))
        for builder in letters.builders():
            outcome.sends.append((self.plan.dlq, self.place.partition, builder))
        outcome.dead = letters.reasons
        outcome.results["dead"] = sum(letters.reasons.values())

    def _keep(self, ws: Workspace, position: bytes, outcome: Outcome) -> None:
        """The changed state rows, and the position behind them."""
        rows = ws.rows
        empty_rows(rows)
        self.fold.changed(rows)
        outcome.rows = rows.n
        ws.encoded.clear()
        off = encode_rows(self.plan, rows, self.fold.names, ws.encoded)
        lo, index = 0, np.arange(rows.n)
        while True:
            hi, end = frame(
                ws.frame, 0, FRAME_BYTES, index, lo, rows.n, self.fold.names,
                rows.key_pos, rows.key_len, ws.encoded.data, off, rows.gone,
            )  # fmt: skip
            if hi < lo or (hi == lo and lo < rows.n):
                raise ValueError(f"state row {lo} of {rows.n} can't be framed")
            count = hi - lo
            if hi == rows.n:  # the position travels with the last rows: one batch less
                last = np.frombuffer(frame_one(count, POSITION_KEY, position, []), np.uint8)
                ws.frame[end : end + last.shape[0]] = last
                end, count = end + last.shape[0], count + 1
            outcome.sends.append(
                (self.plan.state, self.place.partition, RawBuilder(ws.frame[:end], count))
            )
            if hi == rows.n:
                return
            lo = hi


def encode_rows(
    plan: Plan, rows: StateRows, names: NDArray[np.uint8], out: Buffer
) -> NDArray[np.int64]:
    """Encode state rows into `out`.

    Returns off: row k is out.data[off[k]:off[k+1]], nothing for a tombstone.
    """
    bufs = (_NOTHING, names, rows.scratch.data)
    index, gone = np.arange(rows.n), rows.gone[: rows.n]
    return _encode(plan.state_writer, rows.columns, index, gone, bufs, out)


def _encode(
    writer: Writer, columns: Columns, rows: NDArray[np.int64], gone: NDArray[np.uint8],
    bufs: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]], out: Buffer,
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


def _none(n: int) -> NDArray[np.uint8]:
    return np.zeros(n, np.uint8)


_NOTHING = np.empty(0, np.uint8)
_NO_TIMES = np.empty(0, np.int64)
