"""What a fold of the past would have sent, as record batches for topics beside the live ones.

Keys, values, partitions and order are those of the live outputs; only the topics have other names.
Dead letters aren't among them, nor what was forwarded: neither comes of a fold.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from agents.engine import reasons
from agents.engine.builder import RawBuilder
from agents.engine.names import Names
from agents.engine.plan import Plan
from agents.engine.processor import Fold, Output, Place
from agents.engine.sending import homes_of, keys_of, send
from agents.engine.workspace import Outcome, Workspace
from agents.history.rows import tenant_of


@dataclass(slots=True)
class Part:
    """Some of it, in its order."""

    sends: list[tuple[str, int, RawBuilder]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)  # records, by sinks without namespace
    size: int = 0  # bytes of their keys and values

    @property
    def packed(self) -> int:
        """Bytes on the wire."""
        return sum(builder.size() for _, _, builder in self.sends)

    def join(self, other: "Part") -> None:
        """What comes behind it."""
        self.sends += other.sends
        self.sent += other.sent
        self.size += other.size


class Framed:
    """Takes in what a fold writes, for the thread of the fold."""

    def __init__(self, plan: Plan, topics: Mapping[str, str], tenants: Collection[str]) -> None:
        """`topics`: by the sinks' names without namespace, as on the broker. `tenants`: whose
        outputs, by the records that they come from; none: everybody's.
        """
        self._names = plan.processor.sinks
        self._sinks = tuple(
            replace(sink, topic=topics[name])
            for name, sink in zip(self._names, plan.sinks, strict=True)
        )
        self._tenants = frozenset(tenants)
        self._known = Names()
        for one in self._tenants:
            self._known.code(one.encode())
        self._part = Part()

    def take(self) -> Part:
        """What was taken in since the last time."""
        part, self._part = self._part, Part()
        return part

    def take_in(self, ws: Workspace, fold: Fold, place: Place) -> None:
        """What a fold has just written into the workspace. LawFailed for what is too large."""
        mine = self._mine(ws) if self._tenants else None
        outcome = Outcome(0)
        for name, sink, output in zip(self._names, self._sinks, ws.outputs, strict=True):
            if not output.n:
                continue
            chosen = np.ones(output.n, np.bool_) if mine is None else self._of(output, mine)
            keys = keys_of(ws, output)
            for to, all_ in homes_of(output, place.partition):
                rows = all_[chosen[all_]]
                if rows.shape[0]:
                    send(ws, sink, output, fold.names, rows, keys, to, outcome)
                    self._part.sent[name] += int(rows.shape[0])
                    self._part.size += int(keys[2][rows].sum()) + ws.encoded.used
        self._part.sends += outcome.sends

    def _mine(self, ws: Workspace) -> NDArray[np.bool_]:
        """Which records of the workspace are of the tenants."""
        codes = np.empty(ws.n, np.int64)
        skip = (ws.status[: ws.n] != reasons.OK).astype(np.uint8)
        self._known.intern(ws.buf.data, ws.tpos, ws.tlen, skip, codes, 0, ws.n, add=False)
        found: NDArray[np.bool_] = codes >= 0
        return found

    def _of(self, output: Output, mine: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which outputs are of the tenants: by their causes, or, of a timer's, by their keys."""
        cause = output.cause[: output.n]
        known = cause >= 0
        found = np.zeros(output.n, np.bool_)
        found[known] = mine[cause[known]]
        for k in np.flatnonzero(~known).tolist():
            found[k] = tenant_of(output.own[k][0] or b"") in self._tenants
        return found
