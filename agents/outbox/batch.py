"""A batch of rows becomes what one transaction sends: record batches, and who is left out.

Runs in a thread, mostly in kernels with the GIL released. Pure: no clock, no I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from agents.engine.builder import RawBuilder
from agents.engine.names import Names
from agents.outbox.checking import checkers
from agents.outbox.digests import digests_of
from agents.outbox.headers import extra
from agents.outbox.kernels import (
    KEY,
    TENANT,
    TOPIC,
    VALUE,
    frame,
    partitions,
    parts_of,
)
from agents.outbox.rows import Bytes, Ints, Refusal, Rows, rows_of
from topics.catalogue import MESSAGE_BYTES_MAX
from topics.columns import Buffer

FRAME_BYTES = 1_000_000  # of a record batch before compression, unless one record has more
ROOM_BYTES = 2_500_000  # for one record: 1 MB of payload, headers and keys, grown by JSON
LARGE_BYTES = 900_000  # from here on a record is tried alone
HELD = Refusal("", False)  # an earlier event of its key can't be sent: it just waits


@dataclass(slots=True)
class Prepared:
    """What to send, the ids in it, and what can't go (`held`: not by its own fault)."""

    sends: list[tuple[str, int, RawBuilder]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    digests: bytes = b""  # of what is sent, in its order
    refused: dict[int, Refusal] = field(default_factory=dict)  # by id
    rows: list[int] = field(default_factory=list)  # all ids that came
    held: int = 0
    bytes: int = 0  # as they came


class Preparer:
    """Everything that is needed over and over. For one thread at a time."""

    def __init__(self, topics: Mapping[str, int], prefix: str, source: str) -> None:
        """`topics`: name -> partitions, of those that may be written and are there."""
        self._topics = {name.encode(): count for name, count in topics.items()}
        self._prefix = prefix
        self._checkers = checkers(topics)
        self._parts = {name: parts_of(source.encode(), name) for name in self._topics}
        self._out = np.zeros(FRAME_BYTES + ROOM_BYTES, np.uint8)
        self._encoded = Buffer()
        self._names = Names()
        self._constants: dict[bytes, bytes] = {}

    def prepare(self, copied: bytes, most: int) -> Prepared:
        """Check, encode and frame the rows of a COPY, in the order in which they come."""
        self._constants = {name: one.constants() for name, one in self._checkers.items()}
        rows = rows_of(copied, most, b"".join(self._constants.values()))
        self._encoded.clear()
        done = Prepared(bytes=len(copied))
        from_j = np.zeros(rows.n, np.uint8)
        values = np.stack([rows.pos[VALUE, : rows.n], rows.length[VALUE, : rows.n]])
        codes = self._codes(rows)
        chosen = self._check(rows, codes, len(copied), from_j, values)
        extras = extra(rows)
        framing = _Framing(rows, from_j, values, *extras)
        self._refuse_large(framing, chosen)
        self._hold_back(rows, done)
        bad = np.zeros(rows.n, bool)
        bad[list(rows.refused)] = True
        for name, which in chosen.items():
            self._send(framing, name, which[~bad[which]], done)
        done.rows = rows.ids.tolist()
        done.sent = rows.ids[~bad].tolist()
        done.digests = digests_of(rows)[~bad].tobytes()
        done.refused = {int(rows.ids[row]): why for row, why in rows.refused.items() if why.error}
        return done

    def _codes(self, rows: Rows) -> Ints:
        """A number for each row's topic."""
        if self._names.count > 10_000:
            self._names = Names()  # misspelt names, over the weeks
        codes = np.zeros(rows.n, np.int64)
        none = np.zeros(rows.n, np.uint8)
        self._names.intern(rows.b, rows.pos[TOPIC], rows.length[TOPIC], none, codes, 0, rows.n)
        return codes

    def _check(
        self, rows: Rows, codes: Ints, constants: int, from_j: Bytes, values: Ints
    ) -> dict[bytes, Ints]:
        """Rows by topic; those that can't be sent are refused, the JSON of the others encoded."""
        chosen: dict[bytes, Ints] = {}
        at = dict(
            zip(
                self._constants,
                np.cumsum([constants, *map(len, self._constants.values())]).tolist(),
                strict=False,
            )
        )
        for code in np.unique(codes):
            name = self._names.name(int(code))
            which = np.flatnonzero(codes == code)
            if name not in self._checkers:
                why = f"unknown_topic: {name.decode()} isn't there, or not for users to write"
                rows.refused |= {int(row): Refusal(why, False) for row in which}
                continue
            chosen[name] = which
            checker = self._checkers[name]
            ready = rows.length[VALUE, which] >= 0
            if ready.any():
                checker.avro(rows, which[ready], at[name])
            if not ready.all():
                checker.json(rows, which[~ready], self._encoded, from_j, values)
        return chosen

    def _hold_back(self, rows: Rows, done: Prepared) -> None:
        """Refuse what comes later under the key of a refused row."""
        if not rows.refused:
            return
        first: dict[tuple[bytes, bytes], int] = {}
        for row in sorted(rows.refused):
            first.setdefault((rows.text(TENANT, row), rows.text(KEY, row)), row)
        for row in range(rows.n):
            begun = first.get((rows.text(TENANT, row), rows.text(KEY, row)), rows.n)
            if row > begun:
                done.held += row not in rows.refused
                rows.refused[row] = HELD

    def _refuse_large(self, framing: "_Framing", chosen: Mapping[bytes, Ints]) -> None:
        """Refuse rows that alone, framed and compressed, are more than a topic takes."""
        size = framing.values[1] + framing.xspan[1]
        for name, which in chosen.items():
            for row in which[size[which] > LARGE_BYTES]:
                if int(row) in framing.rows.refused:
                    continue
                hi, end = self._frame(framing, name, row.reshape(1), 0)
                if hi < 1 or RawBuilder(self._out[:end], 1).size() > MESSAGE_BYTES_MAX:
                    why = f"too_large: a record has at most {MESSAGE_BYTES_MAX} bytes, compressed"
                    framing.rows.refused[int(row)] = Refusal(why, True)

    def _send(self, framing: "_Framing", name: bytes, which: Ints, done: Prepared) -> None:
        """Record batches of one topic's rows, by partition, each in the order of the ids."""
        rows = framing.rows
        where = np.empty(which.shape[0], np.int64)
        spans = rows.pos[TENANT, which], rows.length[TENANT, which]
        partitions(rows.b, *spans, self._topics[name], where)
        topic = self._prefix + name.decode()
        for partition in np.unique(where):
            mine, lo = which[where == partition], 0
            while lo < mine.shape[0]:
                hi, end = self._frame(framing, name, mine, lo)
                if hi <= lo:
                    raise ValueError(f"event {rows.ids[mine[lo]]} of {topic} can't be framed")
                builder = RawBuilder(self._out[:end], hi - lo)
                done.sends.append((topic, int(partition), builder))
                lo = hi

    def _frame(self, framing: "_Framing", name: bytes, which: Ints, lo: int) -> tuple[int, int]:
        rows, x = framing.rows, framing.xspan
        hi, end = frame(
            self._out, FRAME_BYTES, which, lo, which.shape[0],
            rows.b, rows.pos, rows.length, rows.ids, rows.created,
            self._encoded.data, framing.from_j, framing.values[0], framing.values[1],
            framing.x, x[0], x[1], x[2], *self._parts[name],
        )  # fmt: skip
        return int(hi), int(end)


@dataclass(slots=True)
class _Framing:
    """What framing needs beside the rows: where values and users' headers lie."""

    rows: Rows
    from_j: Bytes
    values: Ints  # [2, n]
    x: Bytes
    xspan: Ints  # [3, n]
