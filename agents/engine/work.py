"""What happens to fetched batches in a thread: parse, decode, check, fold, encode, frame.

All big arrays belong to a workspace; there are as many as threads, whatever the number of
partitions. The result is a list of ready record batches: one transaction's content.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from agents.engine import reasons
from agents.engine.answering import Answering, answers_of
from agents.engine.batches import BadBatch, RawBatch, unpack
from agents.engine.builder import RawBuilder
from agents.engine.by_sleep import TellingSleep
from agents.engine.checks import admit, classify
from agents.engine.control import read_control
from agents.engine.dead_letters import DeadLetters
from agents.engine.errors import LawFailed
from agents.engine.forward import forward
from agents.engine.plan import Plan
from agents.engine.processor import (
    OWN_REASONS,
    Asking,
    Batch,
    Control,
    Counting,
    Fold,
    Place,
    StateRows,
    Telling,
)  # fmt: skip
from agents.engine.records import frame, frame_one, parse
from agents.engine.row_counts import CountingRows
from agents.engine.sending import emit, encode_rows
from agents.engine.workspace import FRAME_BYTES, Outcome, Workspace, empty_rows
from topics import codec
from topics.catalogue import MESSAGE_BYTES_MAX
from topics.schemas import schemas

FOLD_S = 0.2  # after which a fold that can should end early: what it has done is committed
ROOM_MIN = 64
POSITION_KEY = b"@position"
PositionMaker = Callable[[int], bytes]  # next offset -> the position row


class Unsettled(Exception):
    """Schema ids of which it isn't known yet whether they can be read: nothing was folded, and the
    fold is as it was. Ask (`schemas().settle(ids)`, which may wait for a server), and run again.
    """

    def __init__(self, ids: list[int]) -> None:
        super().__init__(f"schema ids {', '.join(map(str, ids[:10]))} aren't settled")
        self.ids = ids


class UnknownSchema(Exception):
    """A topic that only we write holds a schema id that this version doesn't know."""


class Worker:
    """Runs batches of one partition through its fold. Not for two threads at a time."""

    def __init__(
        self, plan: Plan, place: Place, fold: Fold, skips: Mapping[int, str] | None = None
    ) -> None:
        """`skips`: offsets of records to be passed over -> what their dead letters say."""
        self.plan = plan
        self.place = place
        self.fold = fold
        self._skips = skips if skips is not None else {}
        self._room = plan.batch_max  # records taken at a time: as many as a slow law gets done
        self._offsets = np.empty(0, np.int64)  # of those being folded
        # Asked of a protocol once: it takes as long as folding a record.
        self._asking = fold if isinstance(fold, Asking) else None
        self._counting = fold if isinstance(fold, Counting) else None
        self._rows = fold if isinstance(fold, CountingRows) else None
        self._telling = fold if isinstance(fold, Telling) else None
        self._sleeping = fold if isinstance(fold, TellingSleep) else None
        self._answering = fold if isinstance(fold, Answering) else None

    def run(
        self, ws: Workspace, batches: list[RawBatch], first: int, position: PositionMaker,
        until: int | None = None,
    ) -> Outcome:  # fmt: skip
        """Fold the records from offset `first` on: all of them, or as many as the workspace holds,
        or as the fold takes before it ends early.

        Of those from offset `until` on only the first, and that one alone. Raises UnknownSchema,
        Unsettled, and LawFailed with the record; whatever else it raises is a defect. After all but
        Unsettled the fold is spent.
        """
        ws.clear()
        letters = DeadLetters(self.plan, self.place, batches)
        done = self._parse(ws, batches, first, letters)
        if until is not None:
            done = _cut(ws, max(1, int(np.searchsorted(ws.offs[: ws.n], until))), done)
        outcome = Outcome(next_offset=done)
        self._decode(ws, letters)
        try:
            self._fold(ws, letters, outcome)
            self._hand_on(ws, letters, outcome, position)
        except LawFailed as error:
            self._locate(error, ws, again=until is not None)
            raise
        if self._asking is not None:
            outcome.questions = self._asking.questions()
        if self._counting is not None:
            outcome.counted = self._counting.counted()
        if self._rows is not None:
            outcome.row_counts = self._rows.row_counts()
        if self._sleeping is not None:
            outcome.by_sleep = self._sleeping.by_sleep()
        return outcome

    def _hand_on(
        self, ws: Workspace, letters: DeadLetters, outcome: Outcome, position: PositionMaker
    ) -> None:
        """What follows from the fold, as records to be sent."""
        for sink, output in zip(self.plan.sinks, ws.outputs, strict=True):
            emit(ws, sink, output, self.fold.names, self.place.partition, outcome)
        if self.plan.keeper:
            forward(self.plan, self.place, ws, outcome)
        letters.cut(outcome.next_offset)
        self._bury(ws, letters, outcome)
        self._keep(ws, position(outcome.next_offset), outcome)

    def _parse(
        self, ws: Workspace, batches: list[RawBatch], first: int, letters: DeadLetters
    ) -> int:
        """Fill the workspace's spans; returns the offset behind the last record taken."""
        done = first
        for batch in batches:
            if batch.next_offset <= first:
                continue
            room = self._room - ws.n
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
            stored = self._spans(ws, batch, at, first, ws.offs[: self._room])
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
    def _spans(ws: Workspace, batch: RawBatch, at: int, first: int, offs: NDArray[np.int64]) -> int:
        stamp = np.array([batch.first_ms, batch.max_ms, batch.log_append_time], np.int64)
        return int(
            parse(
                ws.buf.data, at, ws.buf.used, batch.count, batch.base_offset, batch.next_offset,
                stamp, first, offs, ws.ms, ws.kpos, ws.klen, ws.vpos, ws.vlen,
                ws.hpos, ws.hlen, ws.hcnt, ws.n,
            )
        )  # fmt: skip

    def _decode(self, ws: Workspace, letters: DeadLetters) -> None:
        """Columns of all records that can be folded here, and the status of the others."""
        plan, n, status = self.plan, ws.n, ws.status[: ws.n]
        odd = classify(ws.buf.data, ws.vpos, ws.vlen, n, plan.reserved, ws.status)
        written = self._from_json(ws, letters) if odd else {}
        self._read(ws, status)
        self._settle(ws, status, letters)
        if not plan.public and (status == reasons.UNKNOWN_SCHEMA).any():
            at = int(ws.offs[int(np.argmax(status == reasons.UNKNOWN_SCHEMA))])
            raise UnknownSchema(f"{plan.source}/{self.place.partition} offset {at}")
        self._admit(ws, status)
        for r, (pos, length) in written.items():
            ws.vpos[r], ws.vlen[r] = pos, length
        for offset, said in self._skips.items():
            r = int(np.searchsorted(ws.offs[:n], offset))
            if r < n and ws.offs[r] == offset and status[r] in (reasons.OK, reasons.CONTROL):
                status[r], letters.details[r] = reasons.LAW_FAILED, said

    def _read(self, ws: Workspace, status: NDArray[np.uint8]) -> None:
        """Columns of each of the source's schemas; what isn't of the first may be of another."""
        n, left = ws.n, status
        for k, (kind, columns) in enumerate(zip(self.plan.kinds, ws.columns_of, strict=True)):
            reader = kind.reader
            constants = ws.buf.append(reader.constants)
            reader.decode(ws.buf.data, ws.vpos[:n], ws.vlen[:n], left, columns, constants)
            if k:
                mine = (status == reasons.UNKNOWN_SCHEMA) & (left != reasons.UNKNOWN_SCHEMA)
                status[mine], ws.kind[:n][mine] = left[mine], k
            unread = status == reasons.UNKNOWN_SCHEMA
            if k + 1 == len(self.plan.kinds) or not unread.any():
                return
            left = np.where(unread, reasons.OK, reasons.UNKNOWN_SCHEMA).astype(np.uint8)

    def _settle(self, ws: Workspace, status: NDArray[np.uint8], letters: DeadLetters) -> None:
        """Raise Unsettled where a registry is to be asked about ids before anything is folded; note
        what it said of the others.
        """
        unknown = np.flatnonzero(status == reasons.UNKNOWN_SCHEMA)
        if not unknown.shape[0]:
            return
        at = (ws.vpos[unknown, None] + np.arange(1, codec.HEADER)).astype(np.int64)
        known, numbers = schemas(), ws.buf.data[at].view(">u4")[:, 0].tolist()
        if left := known.unsettled(sorted(set(numbers))):
            raise Unsettled(left)
        whys = {number: why for number in set(numbers) if (why := known.why(number))}
        letters.details |= {
            r: whys[number]
            for r, number in zip(unknown.tolist(), numbers, strict=True)
            if number in whys
        }

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
                ws.kpos, ws.klen, self.place.partition, self.plan.partitions,
                int(kind.reads.of_settings), found, ws.dest,
            )  # fmt: skip
            if several:
                status[mine] = found[mine]
                ws.tpos[:n][mine], ws.tlen[:n][mine] = tpos[:n][mine], tlen[:n][mine]
            else:
                ws.tpos, ws.tlen = tpos, tlen

    def _from_json(self, ws: Workspace, letters: DeadLetters) -> dict[int, tuple[int, int]]:
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

    def _fold(self, ws: Workspace, letters: DeadLetters, outcome: Outcome) -> None:
        """Fold the good records, with the control records between them in their places."""
        batch = Batch(
            ws.buf.data, ws.columns, ws.offs, ws.ms, ws.status, letters.details,
            ws.kind if len(self.plan.kinds) > 1 else None, ws.columns_of[1:],
            time.monotonic() + FOLD_S,
        )  # fmt: skip
        self._offsets = ws.offs[: ws.n].copy() if self._telling is not None else self._offsets
        taken = self._take(ws, batch, letters)
        if taken < ws.n:
            self._room = max(ROOM_MIN, 2 * taken)
            outcome.next_offset = _cut(ws, taken, outcome.next_offset)
        else:
            self._room = min(ws.offs.shape[0], 2 * self._room)
        status = ws.status[: ws.n]
        good = np.flatnonzero(status == reasons.OK)
        if good.shape[0]:
            outcome.newest_ts = self._time(ws, int(good[-1]))
        outcome.results["folded"] = int(good.shape[0])
        outcome.results["control"] = int((status == reasons.DONE).sum())

    def _take(self, ws: Workspace, batch: Batch, letters: DeadLetters) -> int:
        """Hand the records to the fold; returns how many it took."""
        lo = 0
        for r in [*np.flatnonzero(ws.status[: ws.n] == reasons.CONTROL).tolist(), ws.n]:
            left = self.fold.fold(batch, lo, r, ws.outputs)
            if left is not None and left < r:
                if left < max(1, lo):
                    raise ValueError(f"{self.plan.processor.name}: a fold that takes nothing")
                return left
            if r < ws.n:
                ws.status[r] = self._control(ws, r, letters)
            lo = r + 1
        return ws.n

    def _locate(self, error: LawFailed, ws: Workspace, again: bool) -> None:
        """Give the error its record. Where the fold can't tell which, the one in the middle: those
        before are then folded without it, so that it is found by halves. So too where it fails
        `again` before the record that was named: of a bad row, the last that touched it is named.
        """
        if not ws.n:
            raise ValueError("a law failed without a record") from error
        r = error.row if 0 <= error.row < ws.n else ws.n // 2
        r = min(r, ws.n // 2) if again else r
        place = f"{self.plan.source}/{self.place.partition}"
        error.locate(self.plan.processor.name, place, int(ws.offs[r]), ws.n == 1)

    def under_way(self) -> int:
        """Offset of the record that a fold takes its time for, as far as it tells; -1: unknown.

        Called from other threads.
        """
        offsets, row = self._offsets, self._telling.under_way() if self._telling is not None else -1
        return int(offsets[row]) if 0 <= row < offsets.shape[0] else -1

    def _time(self, ws: Workspace, r: int) -> int:
        """A record's event time, or the log's where it has none; microseconds."""
        at = int(ws.kind[r]) if len(self.plan.kinds) > 1 else 0
        slot = self.plan.kinds[at].ts
        return int(ws.columns_of[at].cols.i[slot, r]) if slot >= 0 else int(ws.ms[r]) * 1000

    def _control(self, ws: Workspace, r: int, letters: DeadLetters) -> int:
        """Obey a control record; returns its new status."""
        value = ws.buf.data[ws.vpos[r] : ws.vpos[r] + ws.vlen[r]].tobytes()
        control, refusal = read_control(
            value, self.plan, self.place, int(ws.offs[r]), int(ws.ms[r])
        )
        refusal = self._obey(control) if control is not None else refusal
        if refusal is None:
            return reasons.DONE
        letters.details[r] = refusal
        return reasons.CONTROL_REFUSED

    def _obey(self, control: Control) -> str | None:
        """Hand a control record to the fold; returns None, or why it is refused."""
        return self.fold.control(control)

    def _bury(self, ws: Workspace, letters: DeadLetters, outcome: Outcome) -> None:
        """Dead letters, for all that could not be folded or forwarded."""
        status = ws.status[: ws.n]
        gone = (status == reasons.OK) | (status == reasons.MISROUTED) | (status == reasons.DONE)
        if not self.plan.keeper:  # its keeper tells what nobody can read, and forwards
            left = ~np.isin(status, (reasons.OK, reasons.DONE, *reasons.OWN))
            left &= status < OWN_REASONS
            letters.cut(0)
            outcome.results["left"] = int(left.sum())
            gone |= left
        letters.add_rows(ws, np.flatnonzero(~gone))
        for builder in letters.builders():
            outcome.sends.append((self.plan.dlq, self.place.partition, builder))
        if self._answering is not None and letters.letters:
            outcome.sends += answers_of(self.plan, self.place, self._answering, letters.letters)
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
                raise LawFailed(-1, _too_large(self.fold, rows, off, lo))
            count = hi - lo
            if hi == rows.n:  # the position travels with the last rows: one batch less
                last = np.frombuffer(frame_one(count, POSITION_KEY, position, []), np.uint8)
                ws.frame[end : end + last.shape[0]] = last
                end, count = end + last.shape[0], count + 1
            builder = RawBuilder(ws.frame[:end], count)
            if builder.size() > MESSAGE_BYTES_MAX:
                raise LawFailed(-1, _too_large(self.fold, rows, off, lo))
            outcome.sends.append((self.plan.state, self.place.partition, builder))
            if hi == rows.n:
                return
            lo = hi


def _too_large(fold: Fold, rows: StateRows, off: NDArray[np.int64], k: int) -> str:
    """What is wrong with a row."""
    key = fold.names[rows.key_pos[k] :][: rows.key_len[k]].tobytes()
    size = off[k + 1] - off[k]
    return (
        f"the state row {key!r} has {size} bytes; its topic takes {MESSAGE_BYTES_MAX}, compressed"
    )


def _cut(ws: Workspace, n: int, end: int) -> int:
    """Leave the workspace its first n records; returns the offset behind them, or `end` if all."""
    if n >= ws.n:
        return end
    ws.n = n
    return int(ws.offs[n - 1]) + 1


_NO_TIMES = np.empty(0, np.int64)
