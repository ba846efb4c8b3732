"""Whether a log is the one that was read: by the last records of each partition.

A log that was restored ends sooner, but may have grown past where one was; an id and a length don't
tell. Kafka's leader epochs don't either: a restored server counts the same ones again. So the last
records read are kept, as digests, and read again before one goes on behind them:

- a record that isn't among them, or is another, means that the log went back;
- one that is the same means that all before it is, too: what is restored is a log's beginning;
- one that is missing behind the last that is the same was compacted, which needs a newer record of
  its key: where none comes up to the end, or nothing was the same, the log may be another.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

KEPT = 64  # records of a partition
BACK = "Kafka went back in time"


class GoneError(Exception):
    """The log isn't the one that was read, or nothing says that it is: begin anew."""


class Mark(NamedTuple):
    """A record that was read."""

    offset: int
    key: str  # digests, hexadecimal
    whole: str  # of key, value and time


def mark_of(offset: int, key: bytes, value: bytes | None, log_ms: int) -> Mark:
    """Its mark. Compaction leaves a record's offset and time as they were."""
    whole = blake2b(b"%d %d %d " % (log_ms, len(key), value is not None), digest_size=16)
    for part in (key, value or b""):
        whole.update(part)
    return Mark(offset, blake2b(key, digest_size=16).hexdigest(), whole.hexdigest())


class _Proof:
    """What is compared of a partition, until its end is read."""

    def __init__(self, marks: Iterable[Mark], upto: int) -> None:
        self.upto = upto  # from there on nothing was read
        self.over = False  # all before is compared
        self._left = {one.offset: one for one in marks}
        self._looked = len(self._left)
        self._same = -1
        self.owed: dict[str, int] = {}  # key -> offset of a record that is missing

    def saw(self, mark: Mark) -> None:
        """A record from before `upto`. GoneError."""
        if self._left.pop(mark.offset, None) != mark:
            raise GoneError(f"has another record at offset {mark.offset} than was read: {BACK}")
        self._same = mark.offset

    def end(self) -> None:
        """All before `upto` was seen. GoneError."""
        if self.over:
            return
        self.over = True
        if self._looked and self._same < 0:
            raise GoneError(
                f"has none of the {self._looked} records that were read last, from offset "
                f"{min(self._left)} to {max(self._left)}: nothing says that it is the same log"
            )
        self.owed = {one.key: at for at, one in self._left.items() if at > self._same}

    def complete(self) -> None:
        """All up to the end was seen. GoneError."""
        for at in self.owed.values():
            raise GoneError(f"lacks the record at offset {at}, and has no newer of its key: {BACK}")


class Trails:
    """Of all partitions. GoneError, from wherever it is thrown, begins with the partition."""

    def __init__(self, kept: Mapping[int, Iterable[Mark]] | None = None) -> None:
        self.kept = {p: deque(marks, KEPT) for p, marks in (kept or {}).items()}
        self._proofs: dict[int, _Proof] = {}

    def begin(self, partition: int, low: int, upto: int) -> int:
        """From where to read a log that begins at `low` and was read up to `upto`."""
        marks = self.kept.get(partition, ())
        self._proofs.pop(partition, None)
        if not marks and upto <= low:
            return low  # nothing was read
        self._proofs[partition] = _Proof(marks, upto)
        return max(low, marks[0].offset) if marks else low

    @property
    def proved(self) -> bool:
        """Whether nothing is left to be compared."""
        return not self._proofs

    def new(self, partition: int, mark: Mark) -> bool:
        """Whether a record wasn't read before: then it is kept, too. In the log's order."""
        proof = self._proofs.get(partition)
        try:
            if proof is not None and mark.offset < proof.upto:
                proof.saw(mark)
                return False
            if proof is not None:
                proof.end()
                proof.owed.pop(mark.key, None)
        except GoneError as error:
            raise _of(partition, error) from None
        self.kept.setdefault(partition, deque(maxlen=KEPT)).append(mark)
        return True

    def ended(self, partition: int, end: int) -> None:
        """Nothing comes before this offset any more."""
        proof = self._proofs.get(partition)
        if proof is None:
            return
        try:
            if end < proof.upto:
                raise GoneError(f"ends at {end}, and was read to {proof.upto}: {BACK}")
            proof.end()
        except GoneError as error:
            raise _of(partition, error) from None

    def settle(self, reached: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """End the comparisons of partitions that are read to their ends."""
        for partition, proof in [*self._proofs.items()]:
            if proof.over and reached[partition] >= ends[partition]:
                try:
                    proof.complete()
                except GoneError as error:
                    raise _of(partition, error) from None
                del self._proofs[partition]


def _of(partition: int, error: GoneError) -> GoneError:
    return GoneError(f"partition {partition} {error}")
