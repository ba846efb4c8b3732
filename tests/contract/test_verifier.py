"""The verifier of `ops/prove` and the processors' folds agree: a feed through all, no broker.

Live, the same verifier checks what killed workers leave behind (tests/live/test_kill.py); here a
law that was misread shows within seconds.
"""

from itertools import islice
from typing import Any

import numpy as np
import pytest

from agents.engine.plan import defaults_of
from agents.engine.work import POSITION_KEY
from ops.prove.check import Findings, Stage, check_stage
from ops.prove.feed import Feed
from ops.prove.law import Law
from ops.prove.verify import LAWS
from ops.prove.wire import Record, Wire
from tests.contract.harness import (
    LOG_MS,
    PROCESSORS,
    SETTINGS,
    TOPIC_ID,
    Message,
    Run,
    plan_of,
)

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]  # it may compile kernels

EVENTS = 6000
WIRE = Wire()
BY_NAME = {processor.name: processor for processor in reversed(PROCESSORS)}  # without policies


class Player:
    """A processor, its source as a log that grows, and what it has folded of it."""

    def __init__(self, law: type[Law]) -> None:
        self.law = law
        self.run = Run(plan_of(BY_NAME[law.processor]))
        self.source: list[Message] = []
        self.read = 0  # records of `run.sent` that others have seen

    def append(self, key: bytes | None, value: bytes | None, headers: Any = ()) -> None:
        """One more record in the source."""
        self.source.append(Message(len(self.source), key, value, list(headers)))

    def fold(self, rng: np.random.Generator) -> None:
        """Fold what is new, in transactions of a few record batches cut at random."""
        while self.run.next < len(self.source):
            left = self.source[self.run.next :]
            cuts = np.sort(rng.integers(0, len(left) + 1, 2))
            self.run.feed([left[: cuts[0]], left[cuts[0] : cuts[1]], left[cuts[1] :]])
            self._take_copies()

    def _take_copies(self) -> None:
        for sent in self.run.sent[self.read :]:
            if sent.topic == self.law.topic:
                self.append(sent.key, sent.value, sent.headers)
        self.read = len(self.run.sent)

    def stage(self) -> Stage:
        """What the verifier would read from the broker."""
        processor = self.run.plan.processor
        topic = self.law.topic
        source = [
            Record(topic, 0, m.offset, LOG_MS, m.key, m.value, tuple(m.headers))  # type: ignore[arg-type]
            for m in self.source
        ]
        dead = [s for s in self.run.sent if s.topic == f"{self.law.topic}.dlq"]
        epoch = {
            "processor": processor.name, "partition": 0, "number": 1, "from_offset": 0,
            "law": processor.law, "settings": dict(defaults_of(processor, SETTINGS)), "ts": 0,
        }  # fmt: skip
        position = {"next_offset": self.run.next, "seen": 0, "topic_id": "", "epoch": 1}
        rows = {**self.run.rows(), POSITION_KEY: WIRE.encode("position", position)}
        return Stage(
            law=self.law, topic_id=TOPIC_ID[:8], partitions=1, source=source,
            outputs={
                sink.topic: _log(self.run.of(sink.topic)) for sink in self.law.sinks
            },
            dead=_log(dead), state=[_record(i, *row) for i, row in enumerate(rows.items())],
            epochs=[_record(0, None, WIRE.encode("epoch", epoch))],
        )  # fmt: skip


def _record(offset: int, key: bytes | None, value: bytes | None, headers: Any = ()) -> Record:
    return Record("topic", 0, offset, LOG_MS, key, value, tuple(headers))


def _log(sent: list[Any]) -> list[Record]:
    return [_record(i, s.key, s.value, s.headers) for i, s in enumerate(sent)]


def played(seed: int, events: int) -> list[Player]:
    """All processors after a feed, each having folded what the one before it wrote."""
    rng = np.random.default_rng(seed)
    players = {law.topic: Player(law) for law in LAWS if law.processor in BY_NAME}
    feed = iter(Feed(seed, WIRE, 1, tenants=6))
    while events > 0:
        part = list(islice(feed, int(rng.integers(1, 600))))
        events -= len(part)
        for event in part:
            if event.topic in players:
                players[event.topic].append(event.key, event.value)
        for player in players.values():
            before = len(player.run.sent)
            player.fold(rng)
            for sent in player.run.sent[before:]:
                if sent.topic in players and sent.topic != player.law.topic:
                    players[sent.topic].append(sent.key, sent.value)
    return list(players.values())


@pytest.fixture(scope="module")
def found() -> Findings:
    findings = Findings()
    for player in played(5, EVENTS):
        findings.add(check_stage(player.stage(), WIRE))
    return findings


def test_the_verifier_expects_what_the_processors_write(found: Findings) -> None:
    assert found.clean, found.as_json()


def test_the_feed_makes_every_kind_of_output(found: Findings) -> None:
    for law in LAWS:
        for sink in law.sinks:
            assert found.counts[sink.schema] > 0, found.counts


def test_ties_that_rounding_settles_are_rare(found: Findings) -> None:
    ties = sum(n for name, n in found.counts.items() if name.endswith("near_ties"))
    assert ties <= EVENTS // 1000, found.counts
