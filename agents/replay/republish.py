"""The mode `republish`: a topic's range once more, into a topic of one's own or a shadow.

Key, value and headers stay as they are, and the header `soma-replayed` names where a record stood.
Into a topic of one's own go data, to the partitions of their tenants. A shadow is another
namespace, whose topic of the same name has the same partitions: there all keep their partition, and
control records (settings, ticks) go along, so that processors which read there meet them in their
places.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.engine.batches import raw_batch
from agents.engine.builder import RawBuilder
from agents.engine.names import Names
from agents.engine.records import frame_copies, frame_one, framed
from agents.history.reading import RangeReader, Span
from agents.kit.setting import EVERYONE
from agents.replay.command import Command
from agents.replay.filters import ContentFilter
from agents.replay.kernels import homes
from agents.replay.modes import JobFailedError, Plan, Step, Take
from agents.replay.places import Found, check_still, find, missing_tenants
from agents.replay.predicates import PredicateError
from agents.replay.records import Records, parts_of, records_of
from agents.settings import Settings
from topics.catalogue import CATALOGUE

REPLAYED = b"soma-replayed"
FRAME_BYTES = 900_000  # of records per batch, before compression
FRAME_MORE = 1 << 16  # beside a record's own bytes: its frame, and the header with its place
NO_MORE = np.empty(0, np.uint8)  # headers
TENANTS_TOLD = 100  # in what is said of a job


class Republish:
    """One run of one job."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def plan(self, command: Command, take: Take) -> Plan:
        """What there is to do. CantReplayError; those of clients and BrokerError pass."""
        found: Found = await asyncio.to_thread(find, self._settings, command)
        if command.tenants:
            await missing_tenants(self._settings, command, found, take)
        said: dict[str, Any] = {
            "source": found.source, "source_id": found.source_id,
            "target": found.target, "target_id": found.target_id,
            "target_partitions": found.target_partitions,
            "ranges": {str(p): list(span) for p, span in found.spans.items()},
            "missing": found.missing, "dry_run": command.dry_run,
        }  # fmt: skip
        total = sum(end - first for first, end in found.spans.values())
        return Plan(total, said, "; ".join(found.missing))

    async def steps(
        self, command: Command, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """Read, choose, and write again."""
        await asyncio.to_thread(check_still, self._settings, plan)
        spans = spans_of(plan, position)
        async with aclosing(_through(self._settings, spans, Copier(command, plan), take)) as steps:
            async for step in steps:
                yield step


def spans_of(plan: Mapping[str, Any], position: Mapping[int, int]) -> dict[int, Span]:
    """What is left of a job's ranges."""
    ranges = {int(p): span for p, span in plan["ranges"].items()}
    return {p: (position.get(p, first), end) for p, (first, end) in ranges.items()}


async def counted(
    settings: Settings, source: str, spans: Mapping[int, Span], tenants: Sequence[str], take: Take
) -> AsyncGenerator[Step, None]:
    """Count what a fold of these tenants (none: of all) takes in: theirs, and what is for
    everybody. Sends nothing.
    """
    command = Command(shadow="none", tenants=tuple(tenants), dry_run=True)
    plan = {"source": source, "target": source, "target_partitions": 1}
    async with aclosing(_through(settings, spans, Copier(command, plan), take)) as steps:
        async for step in steps:
            yield step


async def _through(
    settings: Settings, spans: Mapping[int, Span], copier: "Copier", take: Take
) -> AsyncGenerator[Step, None]:
    at = {p: first for p, (first, _) in spans.items()}
    reader = RangeReader(settings, copier.source, spans)
    try:
        while (got := await reader.read()) is not None:
            partition, batches, seen = got[0], got[1], min(got[2], spans[got[0]][1])
            for part in parts_of(batches):
                where = f"{copier.source}/{partition}"
                span, most = (at[partition], seen), settings.batch_unpacked_bytes_max
                records = await asyncio.to_thread(records_of, part, span, where, most)
                lo = 0
                while lo < records.n:
                    hi = lo + await take(records.n - lo)
                    step = await asyncio.to_thread(copier.copy, records, lo, hi, partition)
                    lo, end = hi, int(records.offs[hi - 1]) + 1
                    step.position, step.done = {partition: end}, end - at[partition]
                    at[partition] = end
                    yield step
            if seen > at[partition]:  # markers of transactions, or what compaction left
                yield Step({partition: seen}, seen - at[partition])
                at[partition] = seen
    finally:
        reader.close()


class Copier:
    """Chooses records and frames them anew. Not for two threads at a time."""

    def __init__(self, command: Command, plan: Mapping[str, Any]) -> None:
        """JobFailedError: of a predicate that a version before took, and this one doesn't."""
        topic = CATALOGUE.get(command.source)
        try:
            self._content = ContentFilter(
                topic.schema if topic is not None else None, command.domains, command.predicate
            )
        except PredicateError as error:
            raise JobFailedError(f"predicate: {error}") from error
        self.source, self._target = str(plan["source"]), str(plan["target"])
        self._partitions = int(plan["target_partitions"])
        self._dry, self._shadow = command.dry_run, bool(command.shadow)
        self._tenants = _names(command.tenants) if command.tenants else None
        self._everyone = _names([EVERYONE])
        self._told = Names()  # tenants met so far
        self._name = np.frombuffer(framed(REPLAYED), np.uint8)
        self._frame = np.empty(FRAME_BYTES + FRAME_MORE, np.uint8)

    def copy(self, records: Records, lo: int, hi: int, partition: int) -> Step:
        """Records lo..hi-1 of a partition, but for the position. JobFailedError."""
        rows = self._chosen(records, lo, hi, partition)
        step = Step({}, read=hi - lo, sent=int(rows.shape[0]))
        if not rows.shape[0]:
            return step
        keys = np.maximum(records.klen[rows], 0).sum()
        step.size = int(keys + np.maximum(records.vlen[rows], 0).sum() + records.hlen[rows].sum())
        step.times = int(records.ms[rows[0]]), int(records.ms[rows[-1]])
        step.tenants = self._tenants_of(records, rows)
        if not self._dry:
            self._send(records, rows, partition, step)
        return step

    def _chosen(self, records: Records, lo: int, hi: int, partition: int) -> NDArray[np.int64]:
        """Which of them go along."""
        control = records.control[lo:hi] != 0
        keep = np.ones(hi - lo, np.bool_)
        if self._tenants is not None:
            keep = records.tenants(self._tenants, lo, hi) >= 0
        if self._shadow:
            everyone = records.tenants(self._everyone, lo, hi) >= 0
            keep |= control & (everyone | (records.tlen[lo:hi] < 0))
        else:
            keep &= ~control
        if self._content:
            for r in np.flatnonzero(keep & ~control) + lo:
                try:
                    keep[r - lo] = self._content.takes(records.value(int(r)))
                except PredicateError as error:
                    where = f"{self.source}/{partition}/{records.offs[r]}"
                    raise JobFailedError(f"{where}: {error}") from error
        return np.flatnonzero(keep) + lo

    def _tenants_of(self, records: Records, rows: NDArray[np.int64]) -> Counter[str]:
        """How many are of whom; those without a key are nobody's."""
        lo, hi = int(rows[0]), int(rows[-1]) + 1
        codes = records.tenants(self._told, lo, hi, add=True)[rows - lo]
        counts = np.bincount(codes[codes >= 0], minlength=1)
        found = {
            self._told.name(int(k)).decode("utf-8", "replace"): int(counts[k])
            for k in np.flatnonzero(counts)
        }
        if self._told.count > TENANTS_TOLD:
            self._told = Names()
        return Counter(found)

    def _send(self, records: Records, rows: NDArray[np.int64], partition: int, step: Step) -> None:
        """Frame them, in the order of each partition of the target."""
        if self._shadow:
            self._frame_rows(records, rows, partition, partition, step)
            return
        home = np.empty(rows.shape[0], np.int64)
        homes(records.data, rows, records.kpos, records.tlen, partition, self._partitions, home)
        for one in np.unique(home):
            self._frame_rows(records, rows[home == one], partition, int(one), step)

    def _frame_rows(
        self, records: Records, rows: NDArray[np.int64], origin: int, to: int, step: Step
    ) -> None:
        place = np.frombuffer(f"{self.source}/{origin}/".encode(), np.uint8)
        lo, count = 0, rows.shape[0]
        while lo < count:
            hi, end = frame_copies(
                self._frame, 0, FRAME_BYTES, rows, lo, count, records.data, records.kpos,
                records.klen, records.vpos, records.vlen, records.hpos, records.hlen,
                records.hcnt, records.offs, self._name, place, NO_MORE,
            )  # fmt: skip
            if hi == lo:  # it alone is larger than the frame
                r = rows[lo]
                size = sum(
                    max(0, int(one[r])) for one in (records.klen, records.vlen, records.hlen)
                )
                self._frame = np.empty(size + FRAME_MORE, np.uint8)
                continue
            step.sends.append((self._target, to, RawBuilder(self._frame[:end], hi - lo)))
            lo = hi


def _names(some: Sequence[str]) -> Names:
    found = Names()
    for one in some:
        found.code(one.encode())
    return found


def warm() -> None:
    """Compile the kernels, or load them: the first job needn't wait."""
    batch = raw_batch(RawBuilder(frame_one(0, b"warm", b"", []), 1)._build())
    records = records_of([batch], (0, 1), "warm/0", FRAME_BYTES)
    plan = {"source": "warm", "target": "warm", "target_partitions": 1}
    Copier(Command(source="warm", target="warm", tenants=("warm",)), plan).copy(records, 0, 1, 0)
