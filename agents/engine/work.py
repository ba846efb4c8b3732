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
from topics.columns import Buffer

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
        constants = ws.buf.append(plan.reader.constants)
        plan.reader.decode(ws.buf.data, ws.vpos[:n], ws.vlen[:n], status, ws.columns, constants)
        if not plan.public and (status == reasons.UNKNOWN_SCHEMA).any():
            at = int(ws.offs[int(np.argmax(status == reasons.UNKNOWN_SCHEMA))])
            raise UnknownSchema(f"{plan.source}/{self.place.partition} offset {at}")
        cols = ws.columns.cols
        admit(
            ws.buf.data, n, cols.pos, cols.len, plan.strings, plan.tenant, plan.domain,
            cols.i[plan.ts], ws.ms, ws.kpos, ws.klen, self.place.partition, plan.partitions,
            ws.status, ws.dest,
        )  # fmt: skip
        for r, (pos, length) in written.items():
            ws.vpos[r], ws.vlen[r] = pos, length

    def _from_json(self, ws: Workspace, letters: Letters) -> dict[int, tuple[int, int]]:
        """Records that people wrote as JSON become Avro behind the others, in the same buffer.

        Returns the spans of their texts: what is forwarded, or becomes a dead letter, are those.
        """
        written: dict[int, tuple[int, int]] = {}
        for r in np.flatnonzero(ws.status[: ws.n] == reasons.JSON):
            text = ws.buf.data[ws.vpos[r] : ws.vpos[r] + ws.vlen[r]].tobytes()
            try:
                value = codec.encode(self.plan.schema, codec.from_json(self.plan.schema, text))
            except codec.BadRecord as error:
                ws.status[r] = reasons.BAD_JSON
                letters.details[int(r)] = error.detail
                continue
            written[int(r)] = int(ws.vpos[r]), int(ws.vlen[r])
            ws.vpos[r], ws.vlen[r] = ws.buf.append(value), len(value)
            ws.status[r] = reasons.OK
        return written

    def _fold(self, ws: Workspace, letters: Letters, outcome: Outcome) -> None:
        """Fold the good records, with the control records between them in their places."""
        n, status = ws.n, ws.status[: ws.n]
        batch = Batch(ws.buf.data, ws.columns, ws.offs, ws.ms, ws.status)
        lo = 0
        for r in np.flatnonzero(status == reasons.CONTROL):
            self.fold.fold(batch, lo, int(r), ws.outputs)
            ws.status[r] = self._control(ws, int(r), letters)
            lo = int(r) + 1
        self.fold.fold(batch, lo, n, ws.outputs)
        good = np.flatnonzero(status == reasons.OK)
        if good.shape[0]:
            outcome.newest_ts = int(ws.columns.cols.i[self.plan.ts, good[-1]])
        outcome.results["folded"] = int(good.shape[0])
        outcome.results["control"] = int((status == reasons.DONE).sum())

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
        n, topic = output.n, sink.topic
        if not n:
            return
        ws.encoded.clear()
        off = np.empty(n + 1, np.int64)
        bufs = (ws.buf.data, self.fold.names, output.scratch.data)
        sink.writer.encode(output.columns, np.arange(n), bufs, ws.encoded, off)
        cols, cause = ws.columns.cols, output.cause[:n]
        kpos, klen = cols.pos[self.plan.tenant][cause], cols.len[self.plan.tenant][cause]
        outcome.outputs += n
        none = np.zeros(n, np.uint8)
        rows = np.arange(n)
        lo = 0
        while lo < n:
            hi, end = frame(
                ws.frame,
                0,
                FRAME_BYTES,
                rows,
                lo,
                n,
                ws.buf.data,
                kpos,
                klen,
                ws.encoded.data,
                off,
                none,
            )
            if hi <= lo:
                raise ValueError(f"record {lo} of {n} for {topic} can't be framed")
            outcome.sends.append((topic, self.place.partition, RawBuilder(ws.frame[:end], hi - lo)))
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
    live = np.flatnonzero(rows.gone[: rows.n] == 0)
    ends = np.empty(live.shape[0] + 1, np.int64)
    plan.state_writer.encode(rows.columns, live, (_NOTHING, names, rows.scratch.data), out, ends)
    sizes = np.zeros(rows.n, np.int64)
    sizes[live] = np.diff(ends)
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))


_NOTHING = np.empty(0, np.uint8)
