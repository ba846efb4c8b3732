"""The verifier's core for row processors: outputs of whole partitions, not by their causes.

A row processor may write anything anywhere at a record or a tick. So each source partition is
folded anew, and what must have come of it is counted against what is in the sinks, and compared in
order key by key.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ops.prove.check import (
    NAME,
    TS_AHEAD,
    TS_MIN,
    Findings,
    by_partition,
    check_dead,
    check_forwarded,
    check_state,
    epochs_of,
    folded,
)
from ops.prove.dozing import Sleep
from ops.prove.law import RefusedError, Row
from ops.prove.overrides import EVERYBODY
from ops.prove.partitions import home
from ops.prove.rowlaw import HERE, SEPARATOR, At, Out, RowLaw
from ops.prove.wire import CONTROL_ID_MIN, Record, UnreadableError, Wire


@dataclass
class RowStage:
    """All that belongs to one row processor, as read from the topics in log order."""

    law: type[RowLaw]
    topic_id: str
    partitions: int
    source: Sequence[Record]
    outputs: Mapping[str, Sequence[Record]]
    dead: Sequence[Record]
    state: Sequence[Record]
    epochs: Sequence[Record]
    drained_ms: int = 0  # log time from which on a source may have records that nobody folded


class Said(NamedTuple):
    """An output as it is compared: where it is, its key and its content."""

    topic: str
    partition: int
    key: str
    text: str


class _Partition:
    """Folds one partition of a stage anew."""

    def __init__(self, stage: RowStage, number: int, wire: Wire) -> None:
        self.stage, self.number, self.wire = stage, number, wire
        self.law = stage.law()
        self.want: list[Said] = []
        self.forwarded: dict[bytes, Record] = {}
        self.dead: dict[bytes, tuple[Record, str]] = {}
        self.controls = 0

    def run(self, source: Sequence[Record]) -> None:
        """Fold `source`."""
        epochs = epochs_of(self.stage.epochs, self.law.processor, self.number, self.wire)
        for record in source:
            while epochs and epochs[0][0] <= record.offset:
                self.law.epoch(epochs.pop(0)[1])
            origin = f"{record.topic}/{record.partition}/{record.offset}"
            at = At(f"{self.stage.topic_id}-{self.number}-{record.offset}", origin, record.log_ms)
            row: Row | None = None
            try:
                name, row = self.wire.decode(record.value, self.law.source)
                if self.wire.schema_id(name) >= CONTROL_ID_MIN:
                    self._control(name, row)
                    continue
                self._record(name, row, record, at)
            except (UnreadableError, RefusedError) as error:
                # A letter tells where a record was before it was forwarded to its place.
                first = record.header("soma-origin") or origin.encode()
                self.dead[first] = (record, str(error))
                key = (record.key or b"").decode("utf-8", "backslashreplace")
                self._wrote(self.law.unread(row, key, at))

    def _control(self, name: str, row: Row) -> None:
        if name == "control_tick":
            self._wrote(self.law.tick(row["ts"]))
        elif name == "control_sleep":
            sleep = Sleep(row["state"], row["version"], row["wake_on_traffic"])
            self.law.sleep(row["tenant"], sleep)
            self.controls += 1
        elif row.get("processor") in (self.law.processor, *([""] if self.law.keeper else ())):
            self.law.control(row["tenant"], row["setting"], row["value"], row["version"])
            self.controls += 1

    def _record(self, name: str, row: Row, record: Record, at: At) -> None:
        if name not in self.law.schemas:
            raise RefusedError(f"a {name}")
        tenant = row[self.law.tenant]
        everybody = self.law.of_settings and tenant == EVERYBODY
        if not everybody and not NAME.match(tenant):
            raise RefusedError("name")
        if self.law.domain and not NAME.match(row["domain"]):
            raise RefusedError("domain")
        if self.law.timed and not TS_MIN <= row["ts"] <= record.log_ms * 1000 + TS_AHEAD:
            raise RefusedError("ts_range")
        key = (record.key or b"").decode("utf-8", "replace")
        if self.law.of_settings:
            key = key.partition(SEPARATOR)[0]
        if key != tenant or home(tenant, self.stage.partitions) != record.partition:
            if record.header("soma-origin") is None:
                self.forwarded[at.origin.encode()] = record
                return
            raise RefusedError("misrouted again")
        self._wrote(self.law.take(name, row, at))

    def _wrote(self, outs: Sequence[Out]) -> None:
        for out in outs:
            for partition in self._where(out.whose):
                self.want.append(Said(out.topic, partition, out.key, canonical(out.said)))

    def _where(self, whose: str) -> Sequence[int]:
        """The partitions that an output goes to."""
        if whose == HERE:
            return [self.number]
        count = self.stage.partitions
        return [home(whose, count)] if whose else range(count)


def canonical(said: Row) -> str:
    """The text of what is compared; numbers to the last bit."""
    return json.dumps(said, sort_keys=True)


def check_rows(stage: RowStage, wire: Wire) -> Findings:
    """Everything about one row processor."""
    findings, law = Findings(), stage.law
    parts = [_Partition(stage, number, wire) for number in range(stage.partitions)]
    source = by_partition(stage.source)
    for part in parts:
        every = source.get(part.number, [])
        part.run(folded(stage.state, part.number, every, stage.drained_ms, wire, findings))
    if law.keeper:
        check_forwarded(stage.source, law.source, parts, wire, findings)
        check_dead(stage.dead, parts, findings)
    check_state(law.processor, stage.state, parts, wire, findings)
    findings.counts = _outputs(stage, parts, wire, findings) | {
        f"{law.processor}_dead": sum(len(part.dead) for part in parts),
        f"{law.processor}_controls": sum(part.controls for part in parts),
    }
    return findings


def _outputs(
    stage: RowStage, parts: Sequence[_Partition], wire: Wire, findings: Findings
) -> dict[str, int]:
    """Compare what is in the sinks with what must be; how many there must be of each."""
    have = [said for topic in stage.law.sinks for said in _written(stage, topic, wire)]
    want = [said for part in parts for said in part.want]
    name = stage.law.processor
    lacking, odd = Counter(want) - Counter(have), Counter(have) - Counter(want)
    known = set(want)
    for said, n in lacking.items():
        findings.lost += [f"{name}: {said}"] * n
    for said, n in odd.items():
        kind = findings.doubled if said in known else findings.wrong
        kind += [f"{name}: {said}"] * n
    if not (lacking or odd):
        asked, got = _by_key(want), _by_key(have)
        findings.out_of_order += [
            f"{name}: outputs of {key} to {topic} {partition}"
            for (topic, partition, key), said in asked.items()
            if said != got[topic, partition, key]
        ]
    return Counter(f"{name}:{said.topic}" for said in want)


def _by_key(said: Sequence[Said]) -> dict[tuple[str, int, str], list[str]]:
    """In order; each key is written for by one partition of the source."""
    found: dict[tuple[str, int, str], list[str]] = defaultdict(list)
    for one in said:
        found[one.topic, one.partition, one.key].append(one.text)
    return found


def _written(stage: RowStage, topic: str, wire: Wire) -> list[Said]:
    """What is in a sink of this processor's making."""
    law, found = stage.law(), []
    for record in sorted(stage.outputs[topic], key=lambda r: r.place):
        try:
            name, row = wire.decode(record.value, "")
        except (UnreadableError, KeyError):
            continue  # a user's
        said: Any = law.view(topic, name, row)
        if said is not None:
            key = (record.key or b"").decode("utf-8", "replace")
            found.append(Said(topic, record.partition, key, canonical(said)))
    return found
