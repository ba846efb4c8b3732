"""The verifier's core: pure functions over lists of records.

A stage is one processor: the records of its source, its outputs, its dead letters, its state rows.
For each stage the source is folded again, record by record, by an independent law, and everything
that the workers wrote is laid beside it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from ops.prove.compare import unequal_fields
from ops.prove.dozing import Sleep
from ops.prove.law import Law, RefusedError, Row, Sink
from ops.prove.partitions import home
from ops.prove.wire import CONTROL_ID_MIN, Record, UnreadableError, Wire

NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
TS_MIN = 946_684_800_000_000  # the year 2000, microseconds
TS_AHEAD = 3_600_000_000  # how far an event time may lie beyond the log's, microseconds
POSITION_KEY = b"@position"
SAMPLES_MAX = 20


@dataclass
class Stage:
    """All that belongs to one processor, as read from the topics in log order."""

    law: type[Law]
    topic_id: str  # first 8 hex digits of the source topic's Kafka id
    partitions: int
    source: Sequence[Record]
    outputs: Mapping[str, Sequence[Record]]  # by topic: all of the law's sinks
    dead: Sequence[Record]
    state: Sequence[Record]
    epochs: Sequence[Record]
    drained_ms: int = 0  # log time from which on a source may have records that nobody folded


@dataclass
class Findings:
    """What is wrong; empty lists are a proof."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Nothing found."""
        return not (self.lost or self.doubled or self.out_of_order or self.wrong)

    def add(self, other: "Findings") -> None:
        """Take in another stage's findings."""
        for name in ("lost", "doubled", "out_of_order", "wrong"):
            getattr(self, name).extend(getattr(other, name))
        self.counts.update(other.counts)

    def line(self) -> str:
        """One line for people."""
        counts = " ".join(f"{name} {n}" for name, n in self.counts.items())
        return (
            f"lost {len(self.lost)} doubled {len(self.doubled)} "
            f"out_of_order {len(self.out_of_order)} wrong {len(self.wrong)} {counts}"
        )

    def as_json(self) -> dict[str, Any]:
        """Numbers, and the first few of each kind in words."""
        kinds = ("lost", "doubled", "out_of_order", "wrong")
        return {
            "clean": self.clean,
            **{kind: len(getattr(self, kind)) for kind in kinds},
            "counts": self.counts,
            "samples": {kind: getattr(self, kind)[:SAMPLES_MAX] for kind in kinds},
        }


def by_partition(records: Iterable[Record]) -> dict[int, list[Record]]:
    """Records of each partition by rising offset."""
    parts: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        parts[record.partition].append(record)
    for part in parts.values():
        part.sort(key=lambda r: r.offset)
    return parts


class Rowed(Protocol):
    """A law, as far as its rows are looked at."""

    tolerance: ClassVar[Mapping[str, float]]

    def rows(self) -> dict[bytes, Row]: ...
    def row(self, row: Row) -> Row: ...


class Part(Protocol):
    """A partition that was folded anew, of any kind of law."""

    number: int
    forwarded: dict[bytes, Record]  # by origin
    dead: dict[bytes, tuple[Record, str]]

    @property
    def law(self) -> Rowed: ...


def epochs_of(
    records: Sequence[Record], processor: str, number: int, wire: Wire
) -> list[tuple[int, dict[str, str]]]:
    """The epochs of a partition: from which offset on which settings are the deployment's."""
    ours = [r for r in records if r.value and not (r.key or b"").endswith(b"/skip")]
    rows = [wire.decode(r.value, "epoch")[1] for r in ours]
    mine = [
        (row["from_offset"], row["settings"])
        for row in rows
        if (row["processor"], row["partition"]) == (processor, number)
    ]
    return sorted(mine, key=lambda e: e[0])


def state_rows(state: Sequence[Record], number: int, wire: Wire) -> dict[bytes, Row]:
    """The newest row of each key of a partition."""
    newest = {r.key or b"": r.value for r in by_partition(state).get(number, [])}
    return {key: wire.decode(value, "")[1] for key, value in newest.items() if value is not None}


def folded(
    state: Sequence[Record], number: int, source: Sequence[Record], drained_ms: int, wire: Wire,
    findings: "Findings",
) -> list[Record]:  # fmt: skip
    """The records of a partition before its position: all that came before the drain was seen.

    Behind that, timers may have written some that nobody has folded yet.
    """
    end = state_rows(state, number, wire).get(POSITION_KEY, {}).get("next_offset", 0)
    late = [one for one in source if one.offset >= end]
    if late and (not drained_ms or late[0].log_ms < drained_ms):
        at = late[0]
        findings.lost.append(f"{at.topic} {number}: position {end}, {at.offset} isn't folded")
        return list(source)
    return [one for one in source if one.offset < end]


ByCause = dict[str, list[Row]]  # outputs to one topic by their cause


class _Partition:
    """Folds one partition of a stage anew and compares as it goes."""

    def __init__(self, stage: Stage, number: int, wire: Wire, findings: Findings) -> None:
        self.stage, self.number, self.wire, self.findings = stage, number, wire, findings
        self.law = stage.law()
        self.prefix = f"{stage.topic_id}-{number}-"
        self.want: dict[str, ByCause] = {sink.topic: {} for sink in self.law.sinks}
        self.offsets: dict[str, int] = {}  # of causes
        self.forwarded: dict[bytes, Record] = {}
        self.dead: dict[bytes, tuple[Record, str]] = {}
        self.controls = 0

    def run(self, source: Sequence[Record], outputs: Mapping[str, Sequence[Record]]) -> None:
        """Fold `source`; lay what was written to each topic beside it."""
        written = {s.topic: self._outputs(s, outputs.get(s.topic, ())) for s in self.law.sinks}
        epochs = epochs_of(self.stage.epochs, self.law.processor, self.number, self.wire)
        for record in source:
            while epochs and epochs[0][0] <= record.offset:
                self.law.epoch(epochs.pop(0)[1])
            origin = f"{record.topic}/{record.partition}/{record.offset}".encode()
            try:
                self._record(record, origin, written)
            except (UnreadableError, RefusedError) as error:
                self.dead[origin] = (record, str(error))
        for topic, rows in written.items():
            self._compare_outputs(topic, rows)
            self._check_order(topic, rows)

    def _outputs(self, sink: Sink, records: Sequence[Record]) -> ByCause:
        """Outputs of this partition by their cause, causes in the order of their first output."""
        found: ByCause = {}
        for record in records:
            try:
                _, row = self.wire.decode(record.value, sink.schema)
            except UnreadableError:
                row = {}  # a user's bad record
            cause = str(row.get(sink.cause, ""))
            if sink.shared and not cause.startswith(f"{self.stage.topic_id}-"):
                continue  # not this processor's: users write here too
            found.setdefault(cause, []).append(row)
            if record.key != str(row.get("tenant", "")).encode():
                self.findings.wrong.append(f"output of {cause} has key {record.key!r}")
        return found

    def _check_order(self, topic: str, written: ByCause) -> None:
        """The causes of outputs come in the order of the source."""
        last = -1
        for cause in written:
            offset = self.offsets.get(cause, last)
            if offset < last:
                self.findings.out_of_order.append(f"{topic}: {cause} after offset {last}")
            last = max(last, offset)

    def _record(self, record: Record, origin: bytes, written: Mapping[str, ByCause]) -> None:
        name, row = self.wire.decode(record.value, self.law.source)
        control = self.wire.schema_id(name) >= CONTROL_ID_MIN
        if not control and name != self.law.source:
            raise RefusedError(f"a {name}")
        if control:
            self._control(name, row)
            return
        if not NAME.match(row["tenant"]) or not NAME.match(row["domain"]):
            raise RefusedError("name")
        if not TS_MIN <= row["ts"] <= record.log_ms * 1000 + TS_AHEAD:
            raise RefusedError("ts_range")
        at_home = home(row["tenant"], self.stage.partitions) == record.partition
        if not at_home or record.key != row["tenant"].encode():
            if record.header("soma-origin") is None:
                self.forwarded[origin] = record
                return
            raise RefusedError("misrouted again")
        place = f"{self.prefix}{record.offset}"
        cause = self.law.cause(row, place)
        got = {topic: rows.get(cause, ()) for topic, rows in written.items()}
        for topic, rows in self.law.fold(row, place, record.log_ms, got).items():
            self.want[topic][cause] = rows
        self.offsets[cause] = record.offset

    def _control(self, name: str, row: Row) -> None:
        """A control record: a setting may be another's who reads the topic, too."""
        if name == "control_setting" and row.get("processor") not in ("", self.law.processor):
            return
        self.controls += 1
        if name == "control_setting":
            version = row.get("version", 0)
            self.law.control(row["tenant"], row["setting"], row["value"], version)
        elif name == "control_sleep":
            sleep = Sleep(row["state"], row["version"], row["wake_on_traffic"])
            self.law.sleep(row["tenant"], sleep)

    def _compare_outputs(self, topic: str, written: ByCause) -> None:
        want = self.want[topic]
        for cause, rows in want.items():
            got = written.get(cause, [])
            self.findings.lost += [f"{topic} of {cause}"] * (len(rows) - len(got))
            if len(got) > len(rows) > 0:
                self.findings.doubled.append(f"{topic} of {cause}: {len(got)} for {len(rows)}")
            for expected, row in zip(rows, got, strict=False):
                unequal = unequal_fields(expected, self.law.output(row), self.law.tolerance)
                if unequal:
                    self.findings.wrong.append(f"{topic} of {cause}: {'; '.join(unequal)}")
        for cause in written:
            if not want.get(cause):
                self.findings.wrong.append(f"{topic} of {cause}: nothing should be there")

    def outputs(self, sink: Sink) -> int:
        """How many records of that sink were expected."""
        return sum(len(rows) for rows in self.want[sink.topic].values())


def check_stage(stage: Stage, wire: Wire) -> Findings:
    """Everything about one processor."""
    findings = Findings()
    source = by_partition(stage.source)
    outputs = {topic: by_partition(records) for topic, records in stage.outputs.items()}
    parts = [_Partition(stage, number, wire, findings) for number in range(stage.partitions)]
    for part in parts:
        mine = {topic: records.get(part.number, []) for topic, records in outputs.items()}
        every = source.get(part.number, [])
        part.run(folded(stage.state, part.number, every, stage.drained_ms, wire, findings), mine)
    check_forwarded(stage.source, stage.law.source, parts, wire, findings)
    check_dead(stage.dead, parts, findings)
    check_state(stage.law.processor, stage.state, parts, wire, findings)
    findings.counts = _counts(stage.law, parts)
    return findings


def _counts(law: type[Law], parts: Sequence[_Partition]) -> dict[str, int]:
    """What was expected and found: outputs by schema, and the odd records of the processor."""
    name = law.processor
    return {sink.schema: sum(part.outputs(sink) for part in parts) for sink in law.sinks} | {
        f"{name}_forwarded": sum(len(part.forwarded) for part in parts),
        f"{name}_dead": sum(len(part.dead) for part in parts),
        f"{name}_controls": sum(part.controls for part in parts),
        f"{name}_near_ties": sum(part.law.near_ties for part in parts),
    }


def check_forwarded(
    source: Sequence[Record], schema: str, parts: Sequence[Part], wire: Wire, findings: Findings
) -> None:
    """Each misrouted record has exactly one copy that says the same (JSON may have become Avro)."""
    copies: dict[bytes, list[Record]] = defaultdict(list)
    for record in source:
        origin = record.header("soma-origin")
        if origin is not None:
            copies[origin].append(record)
    for part in parts:
        for origin, record in part.forwarded.items():
            got = copies.pop(origin, [])
            if not got:
                findings.lost.append(f"misrouted record {origin!r}")
            if len(got) > 1:
                findings.doubled.append(f"misrouted record {origin!r}: {len(got)} copies")
            if got and wire.decode(got[0].value, schema) != wire.decode(record.value, schema):
                findings.wrong.append(f"copy of {origin!r} has another value")
    findings.wrong.extend(f"copy of {origin!r}, which wasn't misrouted" for origin in copies)


def check_dead(dead: Sequence[Record], parts: Sequence[Part], findings: Findings) -> None:
    """Each bad record has exactly one dead letter with its key and value; no other has one."""
    letters: dict[bytes, list[Record]] = defaultdict(list)
    for record in dead:
        letters[record.header("soma-origin") or b""].append(record)
    for part in parts:
        for origin, (record, why) in part.dead.items():
            got = letters.pop(origin, [])
            if not got:
                findings.lost.append(f"dead letter of {origin!r} ({why})")
            if len(got) > 1:
                findings.doubled.append(f"dead letter of {origin!r}: {len(got)} times")
            if got and (got[0].key, got[0].value) != (record.key, record.value):
                findings.wrong.append(f"dead letter of {origin!r} isn't the original")
            if got and not got[0].header("soma-reason"):
                findings.wrong.append(f"dead letter of {origin!r} gives no reason")
    findings.wrong.extend(
        f"dead letter of {origin!r} ({got[0].header('soma-reason')!r}), which is a good record"
        for origin, got in letters.items()
    )


def check_state(
    name: str, state: Sequence[Record], parts: Sequence[Part], wire: Wire, findings: Findings
) -> None:
    """The newest row of each key is the folded state."""
    for part in parts:
        have = state_rows(state, part.number, wire)
        have.pop(POSITION_KEY, None)
        want = part.law.rows()
        for key, expected in want.items():
            if key not in have:
                findings.lost.append(f"{name} {part.number}: state row {key!r}")
                continue
            unequal = unequal_fields(expected, part.law.row(have[key]), part.law.tolerance)
            if unequal:
                findings.wrong.append(f"{name} state row {key!r}: {'; '.join(unequal)}")
        findings.wrong.extend(
            f"{name} {part.number}: state row {key!r} of nobody" for key in have if key not in want
        )
