"""What folds of the past would have sent, record by record, and two of them side by side."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.plan import Plan
from agents.engine.processor import Fold, Output, Place
from agents.engine.sending import encode_output, keys_of
from agents.engine.workspace import Workspace
from agents.history.rows import unlike
from topics.codec import decode_ours

WHOLE = "whole"  # in place of a field: one side has a deletion


class Written(NamedTuple):
    """An output that nobody sends; `value` is None for a deletion."""

    sink: int  # which of the processor's
    to: int  # partition
    key: bytes
    value: bytes | None
    cause: int  # offset of the record that it comes from; -1: of none


class Records(dict[bytes, dict[str, Any]]):
    """Outputs by their bytes, each decoded once: it takes as long as all else that is done."""

    def __missing__(self, value: bytes) -> dict[str, Any]:
        self[value] = found = decode_ours(value)[1]
        return found


def written(ws: Workspace, plan: Plan, fold: Fold, place: Place) -> list[Written]:
    """What a fold has just written into the workspace, sink by sink, each in its order."""
    found: list[Written] = []
    for k, (sink, output) in enumerate(zip(plan.sinks, ws.outputs, strict=True)):
        if not output.n:
            continue
        data, pos, size = keys_of(ws, output)
        off, gone = encode_output(ws, sink, output, fold.names, np.arange(output.n))
        keys = [data[p : p + n].tobytes() for p, n in zip(pos, size, strict=True)]
        body, ends = ws.encoded.data[: int(off[-1])].tobytes(), off.tolist()
        causes, homes = _causes(ws, output), _homes(output, place.partition)
        for r, key in enumerate(keys):
            value = None if gone[r] else body[ends[r] : ends[r + 1]]
            found.append(Written(k, homes[r], key, value, causes[r]))
    return found


def _causes(ws: Workspace, output: Output) -> list[int]:
    rows = output.cause[: output.n]
    found: list[int] = np.where(rows >= 0, ws.offs[np.maximum(rows, 0)], -1).tolist()
    return found


def _homes(output: Output, here: int) -> list[int]:
    if not output.own:
        return [here] * output.n
    return [here if to < 0 else to for _, to in output.own]


@dataclass(slots=True)
class Compared:
    """Outputs to one sink, here and there. Of those with one cause the equal ones are paired, then
    the others in their order; what has no partner is on one side only.
    """

    here: int = 0
    there: int = 0
    equal: int = 0
    differing: int = 0  # pairs
    fields: Counter[str] = field(default_factory=Counter)  # of the pairs that differ, which do

    @property
    def only_here(self) -> int:
        """Outputs without a partner there."""
        return self.here - self.equal - self.differing

    @property
    def only_there(self) -> int:
        """Outputs without a partner here."""
        return self.there - self.equal - self.differing

    def add(self, here: Sequence[Written], there: Sequence[Written], records: Records) -> int:
        """Those of one cause; how many of them aren't equal."""
        self.here += len(here)
        self.there += len(there)
        if len(here) == len(there) == 1 and _said(here[0]) == _said(there[0]):
            self.equal += 1  # as most are
            return 0
        left = Counter(_said(one) for one in there)
        mine: list[Written] = []
        for one in here:
            if left[_said(one)] > 0:
                left[_said(one)] -= 1
                self.equal += 1
            else:
                mine.append(one)
        theirs: list[Written] = []
        for one in reversed(there):
            if left[_said(one)] > 0:
                left[_said(one)] -= 1
                theirs.append(one)
        for a, b in zip(mine, reversed(theirs), strict=False):
            self.differing += 1
            self.fields.update(_fields(a, b, records))
        return max(len(mine), len(theirs))


class Comparison:
    """Outputs of two folds of the same records, taken in as both go on."""

    def __init__(self, sinks: int) -> None:
        self.sinks = tuple(Compared() for _ in range(sinks))

    def add(
        self, here: Iterable[Written], there: Iterable[Written], records: Records | None = None,
        unlike: Callable[[Written, int], None] | None = None,
    ) -> None:  # fmt: skip
        """What both have written of the same records: all that comes of each of these. `unlike`
        hears of one of each cause, if some of that aren't equal, and of how many.
        """
        read = Records() if records is None else records
        sides: dict[tuple[int, int], tuple[list[Written], list[Written]]]
        sides = defaultdict(lambda: ([], []))
        for side, some in enumerate((here, there)):
            for one in some:
                sides[one.sink, one.cause][side].append(one)
        for (sink, _), (mine, theirs) in sides.items():
            count = self.sinks[sink].add(mine, theirs, read)
            if count and unlike is not None:
                unlike((mine or theirs)[0], count)


def _said(one: Written) -> tuple[int, bytes, bytes | None]:
    return one.to, one.key, one.value


def _fields(a: Written, b: Written, records: Records) -> list[str]:
    """What two outputs differ in: fields by their names, the key, the partition."""
    found = [name for name in ("key", "to") if getattr(a, name) != getattr(b, name)]
    if a.value == b.value:
        return found
    if a.value is None or b.value is None:
        return [*found, WHOLE]
    return [*found, *unlike(records[a.value], records[b.value])]


class Expected:
    """Outputs of one sink and partition as a fold has them, looked for among what was published.

    Kept as 64 bits each: two of a million that differ are taken for equal once in 10^7 times. With
    a `most`, a sample: those whose bits end with zeros, one more each time that there are too many.
    """

    def __init__(self, most: int | None = None) -> None:
        self.keys: set[bytes] = set()  # without `most`: others need not be looked at
        self._most, self._mask = most, 0
        self._mine, self._found = array("q"), array("q")
        self._sorted: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._mine)

    def add(self, key: bytes, value: bytes | None) -> None:
        """One that should be there; all come before any is looked for."""
        one = hash((key, value))
        if self._most is None:
            self.keys.add(key)
        elif one & self._mask:
            return
        self._mine.append(one)
        while self._most is not None and len(self._mine) > self._most:
            self._mask = 2 * self._mask + 1
            self._mine = array("q", [one for one in self._mine if not one & self._mask])

    def look(self, some: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Take in records that were published."""
        if self._sorted is None:
            self._sorted = np.sort(np.array(self._mine))
        every = self._most is not None
        seen = np.array([hash(one) for one in some if every or one[0] in self.keys], np.int64)
        seen = seen[(seen & self._mask) == 0]
        self._found.extend(seen[np.isin(seen, self._sorted)].tolist())

    @property
    def complete(self) -> bool:
        """Whether as many were found as there should be; one that is there twice counts twice."""
        return len(self._found) >= len(self._mine)

    @property
    def found(self) -> int:
        """How many are there, each as often as it should be at most."""
        mine, wanted = np.unique(np.array(self._mine), return_counts=True)
        seen, there = np.unique(np.array(self._found), return_counts=True)
        _, a, b = np.intersect1d(mine, seen, assume_unique=True, return_indices=True)
        return int(np.minimum(wanted[a], there[b]).sum())


class Gathered:
    """What a fold gives, by topic and partition, to be looked for among what was published."""

    def __init__(self, plan: Plan, most: int | None = None) -> None:
        """`most`: of each topic and partition a sample of so many at most."""
        self._plan, self._most = plan, most
        self._of: dict[tuple[int, int], Expected] = {}

    def add(self, some: Iterable[Written]) -> None:
        """More of it."""
        for one in some:
            if (at := (one.sink, one.to)) not in self._of:
                self._of[at] = Expected(self._most)
            self._of[at].add(one.key, one.value)

    @property
    def places(self) -> list[tuple[tuple[str, int], Expected]]:
        """Topics as on the broker, and partitions."""
        return [((self._plan.sinks[k].topic, to), one) for (k, to), one in self._of.items()]

    def counts(self) -> dict[str, tuple[int, int]]:
        """Topic, without namespace -> how many outputs were looked for, and how many found."""
        found: dict[str, tuple[int, int]] = {}
        for (sink, _), one in sorted(self._of.items()):
            name = self._plan.processor.sinks[sink]
            before = found.get(name, (0, 0))
            found[name] = before[0] + len(one), before[1] + one.found
        return found
