"""All processors that the verifier knows, on one partition, without a broker: a feed through all.

Each topic is a log that grows; each processor folds what is new in the log of its source, in
transactions cut at random, and what it writes goes into the logs of its sinks.
"""

from collections import defaultdict
from itertools import islice
from typing import Any

import numpy as np

from agents.engine.plan import Plan, defaults_of
from agents.engine.work import POSITION_KEY
from agents.kit.run import Run
from ops.prove.check import Findings, Stage, check_stage
from ops.prove.feed import Event, Feed
from ops.prove.law import Law
from ops.prove.rowcheck import RowStage, check_rows
from ops.prove.rowlaw import RowLaw
from ops.prove.steering.feed import Steered
from ops.prove.steering.learning import FRAMES
from ops.prove.steering.rewards import Opinions
from ops.prove.verify import LAWS, ROW_LAWS
from ops.prove.wire import Record, Wire
from tests.contract.harness import LOG_MS, PROCESSORS, SETTINGS, TOPIC_ID, Message

WIRE = Wire()
BY_NAME = {processor.name: processor for processor in reversed(PROCESSORS)}  # without policies
TIMED = ("sleep", "learner", "canary")
TOPICS = {law.processor: law.topic for law in ROW_LAWS}
TURN_MS = 400  # of the log's time, at most, between two turns
TENANTS = 10


class Log:
    """A topic's partition: records, and the log's time of each."""

    def __init__(self) -> None:
        self.records: list[Message] = []
        self.times: list[int] = []

    def append(self, key: bytes | None, value: bytes | None, headers: Any, log_ms: int) -> None:
        """One more record."""
        self.records.append(Message(len(self.records), key, value, list(headers)))
        self.times.append(log_ms)


class Player:
    """A processor, and what it has written."""

    def __init__(self, law: type[Law] | type[RowLaw]) -> None:
        self.law = law
        processor = BY_NAME[law.processor]
        self.defaults = defaults_of(processor, SETTINGS)
        keeper = not issubclass(law, RowLaw) or law.keeper
        self.run = Run(Plan(processor, SETTINGS, 1, keeper), self.defaults)
        self._read = 0  # records of `run.sent` that others have seen

    def fold(self, log: Log, rng: np.random.Generator) -> list[Any]:
        """Fold what is new, in transactions of a few record batches; what that wrote."""
        while self.run.next < len(log.records):
            first = self.run.next
            log_ms = log.times[first]
            end = next((k for k in range(first, len(log.times)) if log.times[k] != log_ms), None)
            left = log.records[first:end]
            cuts = np.sort(rng.integers(0, len(left) + 1, 2))
            parts = [left[: cuts[0]], left[cuts[0] : cuts[1]], left[cuts[1] :]]
            self.run.feed(parts, log_ms)
        found = self.run.sent[self._read :]
        self._read = len(self.run.sent)
        return found

    def check(self, logs: dict[str, Log]) -> Findings:
        """What the verifier says."""
        stage = self.stage(logs)
        if isinstance(stage, RowStage):
            return check_rows(stage, WIRE)
        return check_stage(stage, WIRE)

    def stage(self, logs: dict[str, Log]) -> Stage | RowStage:
        """What the verifier would read from the broker."""
        processor, topic, log = self.run.plan.processor, self.law.topic, logs[self.law.topic]
        source = [
            Record(topic, 0, m.offset, ms, m.key, m.value, tuple(m.headers))  # type: ignore[arg-type]
            for m, ms in zip(log.records, log.times, strict=True)
        ]
        epoch = {
            "processor": processor.name, "partition": 0, "number": 1, "from_offset": 0,
            "law": processor.law, "settings": dict(self.defaults), "ts": 0,
        }  # fmt: skip
        position = {"next_offset": self.run.next, "seen": 0, "topic_id": "", "epoch": 1}
        rows = {**self.run.rows(), POSITION_KEY: WIRE.encode("position", position)}
        state = [_record(i, *row) for i, row in enumerate(rows.items())]
        epochs = [_record(0, None, WIRE.encode("epoch", epoch))]
        dead = _log(self.run.of(f"{topic}.dlq"))
        if issubclass(self.law, RowLaw):
            outputs = {name: _log(self.run.of(name)) for name in self.law.sinks}
            return RowStage(self.law, TOPIC_ID[:8], 1, source, outputs, dead, state, epochs)
        outputs = {sink.topic: _log(self.run.of(sink.topic)) for sink in self.law.sinks}
        return Stage(self.law, TOPIC_ID[:8], 1, source, outputs, dead, state, epochs)


def _record(offset: int, key: bytes | None, value: bytes | None, headers: Any = ()) -> Record:
    return Record("topic", 0, offset, LOG_MS, key, value, tuple(headers))


def _log(sent: list[Any]) -> list[Record]:
    return [_record(i, s.key, s.value, s.headers) for i, s in enumerate(sent)]


class Town:
    """All of them, and the logs between."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.players = [Player(law) for law in (*LAWS, *ROW_LAWS)]
        self.logs: dict[str, Log] = defaultdict(Log)
        self.feed = Steered(Feed(seed, WIRE, 1, tenants=TENANTS), seed, WIRE)
        self.opinions = Opinions(self.feed.learners, WIRE, seed, 1)
        self.log_ms = LOG_MS
        self._sources = {player.law.topic for player in self.players}

    def turn(self, events: list[Event]) -> None:
        """So much more is published; each folds once."""
        self.log_ms += int(self.rng.integers(1, TURN_MS))
        for event in events:
            self.logs[event.topic].append(event.key, event.value, (), self.log_ms)
        tick = WIRE.encode("control_tick", {"ts": self.log_ms * 1000})
        for name in TIMED if events else ():
            self.logs[TOPICS[name]].append(None, tick, (), self.log_ms)
        for player in self.players:
            for sent in player.fold(self.logs[player.law.topic], self.rng):
                if sent.topic in self._sources:
                    log = self.logs[sent.topic]
                    log.append(sent.key, sent.value, sent.headers, self.log_ms)
                if sent.topic == FRAMES and sent.value is not None:
                    self.feed.rewards.extend(self.opinions.of(sent.key, sent.value))

    def is_done(self) -> bool:
        """Whether all is folded."""
        logs = self.logs
        return all(one.run.next == len(logs[one.law.topic].records) for one in self.players)


def played(seed: int, events: int) -> Town:
    """All of them after a feed."""
    town = Town(seed)
    feed = iter(town.feed)
    while events > 0:
        part = list(islice(feed, int(town.rng.integers(1, 300))))
        events -= len(part)
        town.turn(part)
    while not town.is_done():
        town.turn([])
    return town


def checked(town: Town) -> Findings:
    """What the verifier says of all of them."""
    findings = Findings()
    for player in town.players:
        findings.add(player.check(town.logs))
    return findings
